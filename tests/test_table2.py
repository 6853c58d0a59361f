"""
Table 2 of the second paper in miniature: yolov2/table2/train.py.

The world of the boxes and losses: 2 x 2 cells, one anchor of 1.5 x .5 cells, one object O of the anchor's size. Its
centre is at column 1.75, row .5, in cells, so it belongs to the cell in column 1 and row 0. All raw outputs are 0.

         0     1     2
       0 +-----+-----+          the predicted box of that cell has its centre at 1.5, .5,
         |     |  .O |          the object at 1.75, .5
       1 +-----+-----+
         |     |     |
       2 +-----+-----+
"""
from math import exp, log

import cv2
import numpy as np
import pytest
import torch
import torch.nn as nn
from pytest import approx

import yolov2.loss
import yolov2.table2.train as table2
from data_samples.draw_tree import KINDS
from shared.boxes import xyxy_to_cxcywh
from shared.errors import InputError
from shared.layers import count_operations
from shared.paths import SAMPLES
from yolov1.loss import yolov1_loss
from yolov1.model import decode as yolov1_decode

ANCHOR = [(1.5, 0.5)]
OBJECT = torch.tensor([[0, 1, 0.875, 0.25, 0.75, 0.25]])     # image, label, cx, cy, w, h as fractions of 2 cells
HEADER = "row,seed,mAP,recall,milliseconds,operations,steps,minutes"
VOC_SAMPLE = SAMPLES / "voc" / "VOCdevkit" / "VOC2007"


# ---- Boxes

def centre_of(row, t_x, t_y, anchor=(1.5, 0.5)):
    """The centre, in cells, of the box that the cell in column 1 and row 0 predicts with t_x, t_y"""
    head = torch.zeros(1, 1, 2, 2, 7)
    head[0, 0, 0, 1, :2] = torch.tensor([t_x, t_y])
    boxes, _ = table2.decode_anchors(row, head, [anchor])
    return (xyxy_to_cxcywh(boxes[0, 0, 0, 1])[:2] * 2).tolist()


@pytest.mark.parametrize("row", [4, 5])
def test_anchor_offsets_are_multiples_of_the_anchor(row):
    # t = 0: the middle of the cell. t_x = 1 moves the box by its anchor's width, 1.5 cells: out of the image.
    assert centre_of(row, 0, 0) == approx([1.5, 0.5])
    assert centre_of(row, 1, -1) == approx([1.5 + 1.5, 0.5 - 0.5])
    assert centre_of(row, 1, -1, anchor=(3, 2)) == approx([1.5 + 3, 0.5 - 2])
    assert centre_of(row, -100, 100) == approx([1.5 - 150, 0.5 + 50])


@pytest.mark.parametrize("row", [6, 7, 8, 9])
def test_direct_location_is_bounded_to_the_cell(row):
    assert centre_of(row, 0, 0) == approx([1.5, 0.5])
    assert centre_of(row, 1, -1) == approx([1 + 1 / (1 + exp(-1)), 1 / (1 + exp(1))])        # 1.73, .27
    assert centre_of(row, 1, -1, anchor=(3, 2)) == centre_of(row, 1, -1)                     # whatever the anchor
    assert centre_of(row, -100, 100) == approx([1, 1])


def test_sizes_and_scores_of_anchors():
    head = torch.zeros(1, 1, 2, 2, 7)
    head[0, 0, 0, 1] = torch.tensor([0, 0, log(2), log(0.5), log(3), log(4), 0])
    for row in (4, 6):
        boxes, scores = table2.decode(row, head, ANCHOR)             # (1, 4, 4), (1, 4, 2): the cell is the second
        assert xyxy_to_cxcywh(boxes[0, 1]).tolist() == approx([0.75, 0.25, 3 / 2, 0.25 / 2])
        assert scores[0, 1].tolist() == approx([(3 / 4) * (4 / 5), (3 / 4) * (1 / 5)])


def test_boxes_of_rows_1_to_3_are_the_first_papers():
    head = torch.randn(2, 3, 3, 14, generator=torch.Generator().manual_seed(0))      # 3 x 3 cells, 4 classes, 2 boxes
    for ours, theirs in zip(table2.decode(1, head, []), yolov1_decode(head, 2)):
        assert torch.allclose(ours, theirs, atol=1e-6)
    # By hand: the cell in column 1 and row 0 of 2 x 2; the second box has x y r_w r_h = .5 .25 .5 1 and c = .5
    head = torch.zeros(1, 2, 2, 12)                                  # p p, c c, x y r_w r_h, x y r_w r_h
    head[0, 0, 1] = torch.tensor([0.6, 0.4, 0, 0.5, 0, 0, 0, 0, 0.5, 0.25, 0.5, 1])
    boxes, scores = table2.decode(1, head, [])                       # rows of the table's cell: 2 and 3
    assert xyxy_to_cxcywh(boxes[0, 3]).tolist() == approx([1.5 / 2, 0.25 / 2, 0.25, 1])
    assert scores[0, 3].tolist() == approx([0.3, 0.2])


# ---- Losses

def random_targets(seed):
    """20 objects in 2 images, several of them in one cell"""
    g = torch.Generator().manual_seed(seed)
    image, label = torch.randint(2, (20, 1), generator=g), torch.randint(3, (20, 1), generator=g)
    return torch.cat([image, label, torch.rand(20, 4, generator=g) * 0.8 + 0.1], 1)


def test_loss_of_rows_1_to_3_is_the_first_papers():
    head = torch.randn(2, 3, 3, 13, generator=torch.Generator().manual_seed(1))      # 3 classes, 2 boxes
    head[0] = 0                                                      # boxes without area: the smallest error decides
    for targets in random_targets(1), torch.zeros(0, 6):
        ours, theirs = table2.detection_loss(1, head, targets, []), yolov1_loss(head, targets, num_boxes=2)
        assert {term: ours[term].item() for term in theirs} == approx({t: theirs[t].item() for t in theirs}, rel=1e-5)


def test_loss_from_row_6_on_is_that_of_2016_without_the_prior(monkeypatch):
    monkeypatch.setattr(yolov2.loss, "SIZE_WEIGHT", False)
    anchors = [(0.5, 1.0), (1.5, 0.5), (2.0, 2.5)]
    head = torch.randn(2, 3, 3, 4, 8, generator=torch.Generator().manual_seed(2)) / 2        # 3 rows, 4 columns
    for targets in random_targets(2), torch.zeros(0, 6):
        ours = table2.detection_loss(6, head, targets, anchors)
        theirs = yolov2.loss.yolov2_loss(head, targets, anchors)     # seen: the term prior is 0
        assert theirs["prior"] == 0
        assert {term: ours[term].item() for term in ours} == approx({t: theirs[t].item() for t in ours}, rel=1e-5)


@pytest.mark.parametrize("row, xy", [
    # Row 4: the target of t_x is (1.75 - 1.5) / 1.5 = 1/6, that of t_y is 0: 1/2 (1/6)^2
    (4, 1 / 72),
    # Row 6: the target of sigmoid(t_x) is .75, and sigmoid(0) = .5: 1/2 (1/4)^2
    (6, 1 / 32),
])
def test_loss_of_an_anchor(row, xy):
    # Both boxes are 1.5 x .5 cells, .25 apart: IOU 1.25 / 1.75 = 5/7. Three other predictors are background.
    loss = table2.anchor_loss(row, torch.zeros(1, 1, 2, 2, 7), OBJECT, ANCHOR)
    expected = {"xy": xy, "wh": 0, "object": (5 / 2) * (1 / 2 - 5 / 7) ** 2, "no_object": (1 / 2) * 3 * (1 / 4),
                "class": log(2)}
    assert {term: loss[term].item() for term in expected} == approx(expected, abs=1e-6)
    assert loss["total"].item() == approx(sum(expected.values()))


def test_the_location_that_a_loss_asks_for_is_the_one_that_decode_gives():
    for row, t_x in (4, 1 / 6), (6, log(3)):                         # sigmoid(log 3) = 3/4
        head = torch.zeros(1, 1, 2, 2, 7)
        head[0, 0, 0, 1, 0] = t_x
        assert table2.anchor_loss(row, head, OBJECT, ANCHOR)["xy"].item() == approx(0, abs=1e-9)
        assert centre_of(row, t_x, 0) == approx([1.75, 0.5])


# ---- What the rows change

def detector(row):
    return table2.Detector(row, 20, {4: 9, 5: 9}.get(row, 5))


def layers(network, kind):
    return [layer for layer in network.modules() if isinstance(layer, kind)]


def billions(network, size):
    return sum(line[-1] for line in count_operations(network, size, size)) / 1e9


def test_row_2_has_batchnorm_and_no_dropout():
    one, two = detector(1), detector(2)
    assert not layers(one, nn.BatchNorm2d) and layers(one, nn.Dropout)[0].p == 0.5
    assert len(layers(two, nn.BatchNorm2d)) == len(layers(two, nn.Conv2d)) and layers(two, nn.Dropout)[0].p == 0


def test_row_3_changes_the_classifier_alone(monkeypatch):
    assert str(detector(3)) == str(detector(2))
    sizes = {}
    for row in range(1, 9):
        def pretrain(_, size, *others):
            sizes[row] = size
            raise StopIteration
        monkeypatch.setattr(table2, "pretrain", pretrain)
        with pytest.raises(StopIteration):
            table2.train_detector(row, 0, [], [], "cpu")
    assert sizes == {1: 112, 2: 112, 3: 224, 4: 224, 5: 224, 6: 224, 7: 224, 8: 224}
    names = [table2.classifier_run(row, 112, 7).name for row in range(1, 9)]
    assert names == ["table2_plain_112_seed7"] + ["table2_batchnorm_112_seed7"] * 3 + ["table2_new_112_seed7"] * 4


def test_row_4_has_more_than_a_thousand_boxes_instead_of_98():
    three, four = detector(3).eval(), detector(4).eval()
    assert layers(three, nn.Linear) and not layers(four, nn.Linear)
    size = table2.evaluation_size(3), table2.evaluation_size(4)
    assert size == (224, 208)
    with torch.no_grad():
        assert table2.decode(3, three(torch.zeros(1, 3, 224, 224)), [])[0].shape == (1, 7 * 7 * 2, 4)
        head = four(torch.zeros(1, 3, 208, 208))
    assert head.shape == (1, 9, 13, 13, 25)
    anchors = table2.anchors_of(4, [])
    assert table2.decode(4, head, anchors)[0].shape == (1, 13 * 13 * 9, 4)                   # 1521
    assert table2.anchors_of(3, []) == [] and table2.anchors_of(5, []) == anchors
    # Sides of .4 of 13 cells, 5.2, and ratio 2: width / height = 2, width height = 5.2^2
    w, h = anchors[5]
    assert w / h == approx(2) and w * h == approx(5.2 ** 2)


def test_row_5_needs_fewer_operations():
    old, new = (billions(table2.Backbone(row), 224) for row in (4, 5))
    assert new < old * (1 - 0.33)
    assert str(detector(5).head) == str(detector(4).head)


def test_row_6_has_the_priors_of_k_means():
    # Boxes of five shapes in an image of 200 x 100: fractions of the image, times 13, are cells.
    shapes = [(0.1, 0.1), (0.2, 0.6), (0.5, 0.3), (0.6, 0.9), (0.95, 0.95)]
    boxes = np.array([[0, 0, 200 * w, 100 * h] for w, h in shapes])

    class Image:
        width, height, difficult = 200, 100, np.zeros(5, bool)
    Image.boxes = boxes
    anchors = table2.anchors_of(6, [Image] * 10)
    assert np.array(anchors) == approx(np.array(shapes) * 13, rel=1e-5)


def test_row_7_stacks_the_finer_map():
    six, seven = detector(6), detector(7)
    assert str(six.backbone) == str(seven.backbone) and str(six.neck) == str(seven.neck)
    assert six.head[0][0].in_channels == 256 and seven.head[0][0].in_channels == 256 + 4 * 64
    seen = []
    seven.head[0].register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        seven.eval()(torch.rand(1, 3, 208, 208, generator=torch.Generator().manual_seed(0)))
        fine, _ = seven.backbone(torch.rand(1, 3, 208, 208, generator=torch.Generator().manual_seed(0)))
    # The four values of a cell's square: channel 5, rows 6 and 7, columns 2 and 3 become the cell in row 3, column 1
    assert torch.allclose(seen[0][0, 20:24, 3, 1], fine[0, 5, 6:8, 2:4].flatten(), atol=1e-5)


def test_input_sizes_of_the_trainings_and_evaluations():
    assert [table2.input_size(row, 1, 0) for row in range(1, 8)] == [224] * 3 + [208] * 4
    sizes = [table2.input_size(8, step, 0) for step in range(1, 1001)]
    assert set(sizes) == {160, 176, 192, 208, 224, 240, 256, 272, 288, 304}
    assert all(len(set(sizes[first:first + 10])) == 1 for first in range(0, 1000, 10))
    assert sizes != [table2.input_size(8, step, 1) for step in range(1, 1001)]
    assert [table2.evaluation_size(row) for row in range(1, 10)] == [224] * 3 + [208] * 5 + [272]
    assert str(detector(8)) == str(detector(9)) == str(detector(7))


def test_learning_rate():
    # 50 steps up, and at the same time a cosine over 1000: at step 500 half of the peak
    assert table2.learning_rate(500, 1000, 0.4) == approx(0.2)
    assert table2.learning_rate(25, 1000, 0.4) == approx(0.2, rel=0.01)
    assert table2.learning_rate(1000, 1000, 0.4) == 0


# ---- Measures, results, and going on

def test_recall_is_that_of_any_box_of_any_class():
    truths = np.array([[0, 3, 0, 0, 10, 10, 0],      # found by a box of another class: IOU 60/100
                       [0, 3, 2, 0, 12, 10, 0],      # found by the same box: 8 x 6 of 100 + 60 - 48 = 48/112 < .5: not
                       [1, 3, 0, 0, 10, 10, 0],      # no box in its image
                       [1, 3, 50, 50, 60, 60, 1]])   # difficult: not counted
    detections = np.array([[0, 7, 0.1, 0, 0, 10, 6.0]])
    assert table2.recall_of(detections, truths) == approx(1 / 3)
    detections = np.array([[0, 7, 0.1, 1, 0, 11, 10.0], [1, 0, 0.9, 50, 50, 60, 60]])
    assert table2.recall_of(detections, truths) == approx(2 / 3)     # one box overlaps two objects by 90/110


@pytest.mark.parametrize("rows, seeds, name", [
    ("0", "0", "ROWS"), ("10", "0", "ROWS"), ("4-5", "0", "ROWS"), ("", "0", "ROWS"), ("4", "-1", "SEEDS"),
    ("4", "one", "SEEDS"), ("4", "0,", "SEEDS"), ("²", "0", "ROWS"),
])
def test_invalid_rows_and_seeds_are_one_line(monkeypatch, rows, seeds, name):
    monkeypatch.setattr(table2, "ROWS", rows)
    monkeypatch.setattr(table2, "SEEDS", seeds)
    with pytest.raises(InputError, match=f"yolov2/table2/train.py: {name} has to be whole numbers from") as error:
        table2.main()
    assert "\n" not in str(error.value)


def test_another_preset_is_one_line(small, monkeypatch):
    monkeypatch.setattr(table2, "PRESET", "darknet")
    monkeypatch.setattr(table2, "ROWS", "9")                         # without the check: no network of row 8
    with pytest.raises(InputError, match="PRESET in yolov2/dataset.py is 'darknet'. .* set it to \"mini\""):
        table2.main()


def test_rows_and_seeds():
    assert table2.numbers("ROWS", "9, 1,9", 9) == [1, 9] and table2.numbers("SEEDS", "0", 999) == [0]


@pytest.mark.parametrize("line", ["4,0,0.5", "four,0,.5,.5,1,1,1,1", "4,0,,.5,1,1,1,1"])
def test_damaged_results_are_an_input_error(tmp_path, monkeypatch, line):
    monkeypatch.setattr(table2, "FOLDER", tmp_path)
    (tmp_path / "results_seed0.csv").write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(InputError, match="results_seed0.csv: not a line with the columns row, seed"):
        table2.read_results(0)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """8 images with boxes; one grey image for each kind; trainings of one step."""
    for name in KINDS:
        (tmp_path / "labelled" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "labelled" / name / "1.jpg"), np.full((24, 32, 3), 200, np.uint8))
    (tmp_path / "table2").mkdir()
    values = dict(LABELLED=tmp_path / "labelled", LABELLED_VAL=tmp_path / "labelled", TRAIN=[(VOC_SAMPLE, "val")],
                  TEST=[(VOC_SAMPLE, "val")], RUNS=tmp_path / "runs", FOLDER=tmp_path / "table2", STEPS=1,
                  BATCH_SIZE=2, LOW_STEPS=1, LOW_BATCH=2, TUNED_STEPS=1, TUNED_BATCH=2, NUM_WORKERS=0, SEEDS="0",
                  LOW_SIZE=32, TUNED_SIZE=64, SCORE_THRESHOLD=0.3, PRESET="mini")
    for name, value in values.items():
        monkeypatch.setattr(table2, name, value)
    return tmp_path


def test_the_table_goes_on_where_it_stopped(small, monkeypatch):
    by_hand = f"{HEADER}\n1,0,0.1234,0.5,9.9,700000000,1000,4.0\n"
    results = small / "table2" / "results_seed0.csv"
    results.write_text(by_hand)
    monkeypatch.setattr(table2, "ROWS", "9")
    message = "table2_row8_seed0/network.pt: no such file. .* delete row 8 in results_seed0.csv, .*: ROWS=8,9 SEEDS=0$"
    with pytest.raises(InputError, match=message):
        table2.main()
    monkeypatch.setattr(table2, "ROWS", "1,8,9")
    table2.main()
    assert results.read_text().startswith(by_hand)                   # row 1 was not run
    found = table2.read_results(0)
    assert list(found) == [1, 8, 9]
    assert [found[row]["steps"] for row in found] == [1000, 1, 0]
    assert {path.name for path in (small / "runs").iterdir()} == {
        "table2_new_32_seed0", "table2_new_64_seed0", "table2_row8_seed0"}
    assert (small / "runs" / "table2_row8_seed0" / "log.csv").read_text().startswith("step,learning rate,size,xy,wh,")
    assert (small / "table2" / "results.png").stat().st_size > 5000
    # Row 8's network at 208, and the same at 272: (272 / 208)^2 times the operations
    assert found[9]["operations"] / found[8]["operations"] == approx((272 / 208) ** 2, rel=0.01)

    monkeypatch.setattr(table2, "train_detector", lambda *_: pytest.fail("trains a row that has a result"))
    table2.main()
    assert list(table2.read_results(0)) == [1, 8, 9]


def test_results_stand_in_the_order_of_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(table2, "FOLDER", tmp_path)
    path = tmp_path / "results_seed0.csv"
    path.write_bytes(f"{HEADER}\r\n7,0,0.1234,0.50,9.9,700000000,2000,4.0".encode())         # no end of the last line
    table2.write_result({"row": 2, "seed": 0, "mAP": 0.25, "recall": 0.5, "milliseconds": 7.5, "operations": 5,
                         "steps": 3, "minutes": 0.1})
    assert path.read_bytes() == f"{HEADER}\n2,0,0.25,0.5,7.5,5,3,0.1\n7,0,0.1234,0.50,9.9,700000000,2000,4.0\n".encode()


def test_a_detector_that_diverges_is_a_result(small, monkeypatch):
    # The second of three steps has an infinite loss: one step was done, and the table has the row.
    def infinite(row, head, targets, anchors, count=[]):
        count.append(row)
        loss = loss_of_the_row(row, head, targets, anchors)
        return {**loss, "total": loss["total"] * float("inf")} if len(count) == 2 else loss
    loss_of_the_row = table2.detection_loss
    monkeypatch.setattr(table2, "detection_loss", infinite)
    monkeypatch.setattr(table2, "STEPS", 3)
    monkeypatch.setattr(table2, "ROWS", "6")
    table2.main()
    assert table2.read_results(0)[6]["steps"] == 1
    folder = small / "runs" / "table2_row6_seed0"
    assert len((folder / "log.csv").read_text().splitlines()) == 1 + 1                       # the header, one step
    saved = torch.load(folder / "network.pt")
    assert saved["step"] == 1 and all(value.isfinite().all() for value in saved["model"].values())


def test_a_classifier_that_diverges_is_an_input_error(small, monkeypatch):
    monkeypatch.setattr(table2.F, "cross_entropy", lambda logits, labels: logits.sum() * float("nan"))
    with pytest.raises(InputError, match="table2_new_32_seed0: the classifier's loss of step 1 is not finite"):
        table2.pretrain(6, 32, 0, torch.device("cpu"))
    assert not (small / "runs" / "table2_new_32_seed0" / "network.pt").exists()


def test_the_detector_begins_with_the_classifiers_weights(small, monkeypatch):
    peaks, learning_rate = [], table2.learning_rate
    monkeypatch.setattr(table2, "learning_rate", lambda *args: peaks.append(args[2]) or learning_rate(*args))
    monkeypatch.setattr(table2, "LEARNING_RATE", 0)
    annotations, _ = table2.read_train_and_test(table2.TRAIN, table2.TEST, table2.CLASSES, False)
    network, done, _ = table2.train_detector(2, 0, annotations, [], torch.device("cpu"))
    assert done == 1
    assert peaks == [table2.CLASSIFIER_RATE] * 3 + [0] * 3           # a step: two groups of parameters and log.csv
    saved = torch.load(small / "runs" / "table2_batchnorm_32_seed0" / "network.pt")["model"]
    ours = network.backbone.state_dict()
    assert all(torch.equal(value, saved[f"backbone.{name}"]) for name, value in ours.items() if "weight" in name)
