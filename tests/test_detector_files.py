"""Recognising a .weights file by its length, copying a detector's weights into another one, exporting a checkpoint."""
import struct

import pytest
import torch
import torch.nn as nn

from shared.detector_files import copy_detector, export, recognise
from shared.errors import InputError

# Two networks for two classes, one for three, and a second large one for two; the numbers in their files.
FILES = [("Small", ["cat", "dog"]), ("Large", "anchors", ["cat", "dog"]), ("Small", ["a", "b", "c"]),
         ("Large", "more anchors", ["cat", "dog"]), ("Small", ["red", "blue"])]
COUNTS = [2, 5, 3, 6, 2]


@pytest.mark.parametrize("count, row", [(2, 0), (5, 1), (3, 2), (6, 3)])
def test_the_first_row_of_the_files_length_is_taken(tmp_path, count, row):
    # The last row has the length of the first one. It is never found. Two rows with equal names differ in length.
    (tmp_path / "a.weights").write_bytes(struct.pack("<iiiq", 0, 2, 0, 0) + bytes(4 * count))
    assert recognise(tmp_path / "a.weights", FILES, COUNTS) is FILES[row]


def test_a_file_of_another_length_is_refused(tmp_path):
    (tmp_path / "a.weights").write_bytes(struct.pack("<iiiq", 0, 2, 0, 0) + bytes(4 * 4))
    with pytest.raises(InputError, match=r"a.weights: .* 4 numbers after its header, expected 2 \(Small, 2 classes\) "
                                         r"or 5 \(Large, 2 classes\) or 3 \(Small, 3 classes\) or 6 \(Large, 2 "
                                         r"classes\)$"):
        recognise(tmp_path / "a.weights", FILES, COUNTS)
    with pytest.raises(InputError, match="none.weights: no such file"):
        recognise(tmp_path / "none.weights", FILES, COUNTS)


class Detector(nn.Sequential):
    """Layer 0: 2 inputs; layer 1 predicts."""

    def __init__(self, channels, outputs):
        super().__init__(nn.Linear(2, channels), nn.Linear(channels, outputs))


@pytest.mark.parametrize("channels, outputs, excluded, fresh", [
    (3, 4, [], []), (3, 4, ["1"], ["1"]), (3, 5, [], ["1"]), (6, 4, [], ["0", "1"])])
def test_all_is_copied_but_what_is_excluded_or_of_another_shape(capsys, channels, outputs, excluded, fresh):
    network, other = Detector(channels, outputs), Detector(3, 4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert copy_detector(network, other, excluded, "a.pt") == fresh
    for key, value in network.state_dict().items():
        left = key[0] in excluded or value.shape != other.state_dict()[key].shape
        assert value.equal(before[key] if left else other.state_dict()[key]), key
    exception = f", except those of these layers, which start fresh: {', '.join(fresh)}" if fresh else ""
    assert capsys.readouterr().out == f"a.pt: all weights are copied{exception}\n"


def test_only_the_first_process_prints(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    copy_detector(Detector(3, 4), Detector(3, 4), [], "a.pt")
    assert capsys.readouterr().out == ""


def test_a_detector_of_another_class_is_refused():
    with pytest.raises(InputError, match="a.pt: holds Detector, not Sequential"):
        copy_detector(nn.Sequential(nn.Linear(2, 3)), Detector(3, 4), [], "a.pt")


def test_the_exported_file_has_the_checkpoints_step(tmp_path, capsys):
    # The header holds 7 * 64 images. The file has 20 + 4 * 3 bytes.
    state = {"network": "Small", "classes": ["cat", "dog"], "step": 7}
    export(tmp_path / "last.pt", state, [torch.ones(1), torch.zeros(2, 1)])
    expected = struct.pack("<iiiq", 0, 2, 0, 448) + struct.pack("<fff", 1, 0, 0)
    assert (tmp_path / "last.weights").read_bytes() == expected
    assert capsys.readouterr().out == f"{tmp_path / 'last.weights'}: Small, 2 classes, 32 bytes\n"
    with pytest.raises(InputError, match="last.weights: is a .weights file already"):
        export(tmp_path / "last.weights", state, [torch.ones(1)])
    assert (tmp_path / "last.weights").read_bytes() == expected
