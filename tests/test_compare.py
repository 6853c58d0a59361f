"""The comparison of the versions: its table, and the share of objects that a predictor learns."""
import json

import numpy as np
import pytest
import torch

from data_samples import compare
from shared.errors import InputError
from shared.voc import Annotation


def test_mean_and_range_of_the_seeds():
    rows = [{"AP50": 0.5}, {"AP50": 0.6}, {"AP50": 0.7}]
    assert compare.text(rows, "AP50") == "0.600 (0.500 to 0.700)"
    assert compare.text(rows[:1], "AP50") == "0.500"                  # one seed has no range


def test_the_table_has_a_line_for_each_version_at_the_size_of_the_training(capsys):
    row = {"seed": 0, "AP50": .1, "AP": .2, "AP small": .3, "AP medium": .4, "AP large": .5, "recall": .6,
           "own predictor": .7, "ms": 8.04, "parameters": 8_700_000, "operations": 1_234_000_000}
    compare.print_table([{**row, "version": 3, "size": compare.SIZE},
                         {**row, "version": 3, "size": compare.SIZE, "seed": 1, "AP50": .3, "ms": 9},
                         {**row, "version": 3, "size": compare.SIZE + 32, "AP50": .9}])
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| YOLOv3Tiny | 0.200 (0.100 to 0.300) | 0.200 (0.200 to 0.200) | 0.300 (0.300 to 0.300) "
        "| 0.400 (0.400 to 0.400) | 0.500 (0.500 to 0.500) | 0.600 (0.600 to 0.600) | 0.700 (0.700 to 0.700) "
        "| 8.0 | 8.7 | 1.23 |"]


@pytest.mark.parametrize("version, expected", [(1, 1 / 3), (2, 2 / 3), (3, 1.0)])
def test_share_of_the_objects_with_a_predictor(monkeypatch, version, expected):
    # An image of 192 x 192 pixels with three objects around (100, 100): a square of 8 pixels, and two of about 100.
    # YOLOv1's cell learns the first one. YOLOv2's anchors of 1 and 3 cells learn one of the large ones and the small
    # one. YOLOv3's anchors of (8, 8), (90, 90) and (110, 110) pixels learn one each.
    boxes = np.array([[96, 96, 104, 104], [55, 55, 145, 145], [45, 45, 155, 155]], float)
    annotation = Annotation("none", 192, 192, boxes, np.array([0, 0, 0]), np.zeros(3, bool))
    targets = torch.tensor([[0, 0, *(boxes[i, :2] + boxes[i, 2:]) / 384, *(boxes[i, 2:] - boxes[i, :2]) / 192]
                            for i in range(3)])
    data = compare.VERSIONS[version].dataset
    monkeypatch.setattr(compare, "read_annotations", lambda parts, classes: [annotation])
    monkeypatch.setattr(data, "DetectionDataset", lambda annotations, size: ["the image"])
    monkeypatch.setattr(data, "collate", lambda items: (torch.zeros(1), targets.float()))
    head, setting = {
        1: (torch.zeros(1, 3, 3, 11), [2]),                                        # one class, two boxes per cell
        2: (torch.zeros(1, 2, 6, 6, 6), [[(1, 1), (3, 3)]]),
        3: ([torch.zeros(1, 2, 6, 6, 6), torch.zeros(1, 1, 12, 12, 6)], [[[(90, 90), (110, 110)], [(8, 8)]]])}[version]
    assert compare.share_with_predictor(version, lambda image: head, ["thing"], setting, 192) == pytest.approx(expected)


def test_the_size_of_the_training_is_evaluated_last(tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(compare, "RUNS", tmp_path)
    monkeypatch.setattr(compare, "measure_one", lambda version, seed, size: sizes.append(size) or {"size": size})
    (tmp_path / "compare_yolov3_seed5").mkdir()
    (tmp_path / "compare_yolov3_seed5" / "trained").touch()
    compare.compare(3, 5)
    assert sizes == [128, 160, 224, 256, 192]                        # evaluation/ keeps the last one
    rows = json.loads((tmp_path / "compare_yolov3_seed5" / "comparison.json").read_text())
    assert [row["size"] for row in rows] == [128, 160, 192, 224, 256]
    compare.compare(3, 5)
    assert len(sizes) == 5                                           # not measured again


def test_rows_of_networks_that_are_not_in_runs_are_kept(tmp_path, monkeypatch):
    # The table has YOLOv1 and YOLOv3 of seed 0; runs/ has YOLOv3 of seed 0, trained again at one size, and of seed 10.
    head = ",".join(compare.COLUMNS)
    line = "{},{},{},{},0.1,0.0,0.2,0.3,0.7,1.0,9.5,8713766,518012928"
    old = [line.format(1, 0, 192, 0.11), line.format(3, 0, 128, 0.22), line.format(3, 0, 192, 0.33)]
    new = {0: line.format(3, 0, 192, 0.44), 10: line.format(3, 10, 192, 0.55)}
    monkeypatch.setattr(compare, "TABLE", tmp_path / "comparison.csv")
    monkeypatch.setattr(compare, "RUNS", tmp_path)
    monkeypatch.setattr(compare, "SEEDS", [])                        # trains nothing
    monkeypatch.setenv("PRESET", "mini")
    compare.TABLE.write_text("\n".join([head, *old]) + "\n")
    for seed, text in new.items():
        row = dict(zip(compare.COLUMNS, json.loads(f"[{text}]")))
        (tmp_path / f"compare_yolov3_seed{seed}").mkdir()
        (tmp_path / f"compare_yolov3_seed{seed}" / "comparison.json").write_text(json.dumps([row]))
    compare.main()
    assert compare.TABLE.read_text().splitlines() == [head, old[0], new[0], new[10]]
    assert (tmp_path / "comparison.png").stat().st_size > 5000


def test_the_committed_table_is_kept_as_it_is(tmp_path, monkeypatch):
    committed = compare.TABLE.read_bytes()
    (tmp_path / "comparison.csv").write_bytes(committed)
    for name, value in {"TABLE": tmp_path / "comparison.csv", "RUNS": tmp_path / "runs", "SEEDS": []}.items():
        monkeypatch.setattr(compare, name, value)
    monkeypatch.setenv("PRESET", "mini")
    compare.main()
    assert compare.TABLE.read_bytes() == committed


@pytest.mark.parametrize("text", ["version,seed\n1,0\n", "{head}\n1,zero\n", "{head}\n1\n"])
def test_another_table_is_one_line(tmp_path, monkeypatch, text):
    monkeypatch.setattr(compare, "TABLE", tmp_path / "comparison.csv")
    assert compare.read_table() == []                                # no file
    compare.TABLE.write_text(text.format(head=",".join(compare.COLUMNS)))
    with pytest.raises(InputError, match="comparison.csv: not a table of this script") as error:
        compare.read_table()
    assert "\n" not in str(error.value)


def test_the_images_and_the_rates_are_those_of_the_docstring():
    assert compare.STEPS * compare.BATCH_SIZE == 28_800 == 18 * 1600
    # 3e-4 sqrt(8 / 16) = 2.1e-4 and 1e-3 sqrt(8 / 16) = 7.1e-4
    assert compare.LEARNING_RATE[1] == pytest.approx(3e-4 * 0.5 ** 0.5, rel=0.06)
    assert compare.LEARNING_RATE[3] == pytest.approx(1e-3 * 0.5 ** 0.5, rel=0.06)
    assert compare.LEARNING_RATE[2] == 3.5e-4
    assert compare.SIZE / 64 == 3                                    # YOLOv1Tiny's cells have 64 pixels


def test_seeds_that_are_no_numbers(monkeypatch):
    monkeypatch.setattr(compare, "SEEDS", ["0", "one"])
    with pytest.raises(InputError, match="SEEDS is '0,one', not whole numbers"):
        compare.main()
