"""Files are there whole or not at all, and a wrong one is refused by name before anything is changed."""
import pytest
import torch
import torch.nn as nn

from shared.checkpoint import load_backbone, load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.paths import atomic_write


def test_round_trip(tmp_path):
    state = {"network": "YOLOv3", "classes": ["cat"], "anchors": [[(1, 2.5)]], "model": nn.Linear(2, 1).state_dict()}
    save_checkpoint(tmp_path / "deep" / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "deep" / "last.pt", "YOLOv3")
    assert loaded["classes"] == ["cat"] and loaded["anchors"] == [[(1, 2.5)]]
    assert loaded["model"]["weight"].equal(state["model"]["weight"])


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    save_checkpoint(tmp_path / "last.pt", {"network": "YOLOv3", "step": 1})
    with pytest.raises(Exception):
        save_checkpoint(tmp_path / "last.pt", {"network": "YOLOv3", "step": 2, "bad": lambda: None})
    assert load_checkpoint(tmp_path / "last.pt", "YOLOv3")["step"] == 1
    with pytest.raises(KeyboardInterrupt):
        with atomic_write(tmp_path / "notes.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_wrong_checkpoints(tmp_path):
    path = tmp_path / "last.pt"
    with pytest.raises(InputError, match="last.pt: no such file"):
        load_checkpoint(path, "YOLOv3")
    save_checkpoint(path, {"network": "YOLOv2"})
    with pytest.raises(InputError, match="last.pt: holds YOLOv2, not YOLOv3"):
        load_checkpoint(path, "YOLOv3")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="last.pt: not a checkpoint, or a damaged one"):
        load_checkpoint(path, "YOLOv3")
    path.write_text("hello")
    with pytest.raises(InputError, match="last.pt: not a checkpoint"):
        load_checkpoint(path, "YOLOv3")
    torch.save(torch.zeros(3), path)
    with pytest.raises(InputError, match="last.pt: not a checkpoint"):
        load_checkpoint(path, "YOLOv3")


def test_backbone(tmp_path):
    classifier = nn.ModuleDict({"body": nn.Linear(3, 2), "classes": nn.Linear(2, 5)})
    save_checkpoint(tmp_path / "backbone.pt", {"network": "Classifier", "model": classifier.state_dict()})
    backbone = nn.ModuleDict({"body": nn.Linear(3, 2)})
    load_backbone(backbone, tmp_path / "backbone.pt")
    assert backbone["body"].weight.equal(classifier["body"].weight)

    wide = nn.ModuleDict({"body": nn.Linear(3, 4)})
    before = wide["body"].weight.clone()
    with pytest.raises(InputError, match=r"body.weight should be \(4, 3\), is \(2, 3\)"):
        load_backbone(wide, tmp_path / "backbone.pt")
    assert wide["body"].weight.equal(before)
    with pytest.raises(InputError, match="head.weight should be .* is missing"):
        load_backbone(nn.ModuleDict({"head": nn.Linear(1, 1)}), tmp_path / "backbone.pt")
