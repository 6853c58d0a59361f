"""Files are written whole or not at all, a wrong one is refused by name, and a training continues where it was."""
from math import isnan, nan
from pathlib import Path

import pytest
import torch
import torch.nn as nn

from shared.checkpoint import (fingerprint, load_backbone, load_checkpoint, load_weights, resume, save_best,
                               save_checkpoint)
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


def test_weights_of_another_network():
    with pytest.raises(InputError, match="a.pt: not weights of this network .*size mismatch for weight"):
        load_weights(nn.Linear(3, 2), nn.Linear(4, 2).state_dict(), "a.pt")
    with pytest.raises(InputError, match="a.pt: not weights of this network .*weight"):
        load_weights(nn.Linear(3, 2), {}, "a.pt")


# ---- to continue a training

FIXED = {"network": "Line", "classes": ["cat"], "train": [2, 99]}


def training(rate, decay):
    """A network with the one weight 1, and Adam."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    return network, torch.optim.Adam(network.parameters(), lr=rate, weight_decay=decay)


def step(network, optimizer, gradient):
    network.weight.grad = torch.tensor([[gradient]])
    optimizer.step()
    return network.weight.item()


def write_last(path, network, optimizer, **changes):
    save_checkpoint(path, {**FIXED, "step": 10, "best": 0.25, "model": network.state_dict(),
                           "optimizer_state": optimizer.state_dict(), **changes})


def test_a_resumed_training_continues_as_if_it_had_not_stopped(tmp_path):
    network, optimizer = training(rate=0.1, decay=0.0)
    assert resume(tmp_path / "last.pt", network, optimizer, FIXED, 20, "train.py") == (0, -1)
    for gradient in (1.0, -3.0):
        step(network, optimizer, gradient)
    write_last(tmp_path / "last.pt", network, optimizer)
    other, other_optimizer = training(rate=0.1, decay=0.0)
    assert resume(tmp_path / "last.pt", other, other_optimizer, FIXED, 20, "train.py") == (10, 0.25)
    assert other.weight.equal(network.weight)
    fresh, fresh_optimizer = training(rate=0.1, decay=0.0)
    fresh.load_state_dict(network.state_dict())
    expected = step(network, optimizer, 0.5)
    assert step(other, other_optimizer, 0.5) == expected
    assert step(fresh, fresh_optimizer, 0.5) != expected                     # without Adam's moments


def test_a_resumed_training_has_todays_hyperparameters(tmp_path):
    # The constants were edited since the interruption. Their values hold; the moments are the checkpoint's.
    network, optimizer = training(rate=0.1, decay=0.0)
    step(network, optimizer, 1.0)
    write_last(tmp_path / "last.pt", network, optimizer)
    other, other_optimizer = training(rate=0.5, decay=0.25)
    resume(tmp_path / "last.pt", other, other_optimizer, FIXED, 20, "train.py")
    (group,), (moments,) = other_optimizer.param_groups, other_optimizer.state.values()
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert moments["exp_avg"].item() == pytest.approx(0.1) and moments["step"] == 1          # (1 - .9) 1


@pytest.mark.parametrize("changed, named", [
    ({"network": "Curve"}, "NETWORK"), ({"classes": ["cat", "dog"]}, "CLASSES"), ({"train": [2, 98]}, "TRAIN"),
    ({"optimizer": "sgd"}, "OPTIMIZER")])                                    # a value that the checkpoint has not
def test_another_training_is_refused_and_nothing_is_changed(tmp_path, changed, named):
    network, optimizer = training(rate=0.1, decay=0.0)
    write_last(tmp_path / "last.pt", network, optimizer)
    step(network, optimizer, 1.0)
    before = network.weight.item()
    with pytest.raises(InputError) as error:
        resume(tmp_path / "last.pt", network, optimizer, {**FIXED, **changed}, 20, "yolov3/train.py")
    assert str(error.value) == (f"{tmp_path / 'last.pt'}: was trained with another {named}; put it back, or give RUN "
                                "in yolov3/train.py a new name")
    assert network.weight.item() == before


@pytest.mark.parametrize("max_steps", [10, 9])
def test_a_finished_training_is_refused(tmp_path, max_steps):
    network, optimizer = training(rate=0.1, decay=0.0)
    write_last(tmp_path / "last.pt", network, optimizer)
    with pytest.raises(InputError) as error:
        resume(tmp_path / "last.pt", network, optimizer, FIXED, max_steps, "yolov3/train.py")
    assert str(error.value) == (f"{tmp_path / 'last.pt'}: all 10 steps are done. To train on, raise MAX_STEPS in "
                                "yolov3/train.py; to start a new training, give RUN a new name")
    assert resume(tmp_path / "last.pt", network, optimizer, FIXED, 11, "yolov3/train.py") == (10, 0.25)


def test_what_cannot_be_continued_is_refused(tmp_path):
    network, optimizer = training(rate=0.1, decay=0.0)
    path = tmp_path / "last.pt"
    write_last(path, network, optimizer)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="last.pt: not a checkpoint, or a damaged one"):
        resume(path, network, optimizer, FIXED, 20, "train.py")
    write_last(path, network, optimizer, model=nn.Linear(1, 2).state_dict())
    with pytest.raises(InputError, match="last.pt: not weights of this network"):
        resume(path, network, optimizer, FIXED, 20, "train.py")
    save_checkpoint(path, {**FIXED, "step": 10, "model": network.state_dict()})              # a copy of best.pt
    with pytest.raises(InputError, match="last.pt: does not hold what .* needs to continue: best, optimizer_state"):
        resume(path, network, optimizer, FIXED, 20, "train.py")


def test_the_best_of_a_training(tmp_path):
    # The later of two equal results is the best. nan (no objects to be found) replaces whatever is there.
    path, best, kept = tmp_path / "best.pt", -1.0, []
    for step, result in enumerate([0.0, 0.5, 0.5, 0.4, 0.6]):
        best = save_best(path, {"network": "Line", "step": step}, result, best)
        kept.append((load_checkpoint(path, "Line")["step"], best))
    assert kept == [(0, 0), (1, 0.5), (2, 0.5), (2, 0.5), (4, 0.6)]
    best = save_best(path, {"network": "Line", "step": 5}, nan, best)
    assert isnan(best) and load_checkpoint(path, "Line")["step"] == 5
    best = save_best(path, {"network": "Line", "step": 6}, nan, best)
    assert isnan(best) and load_checkpoint(path, "Line")["step"] == 6
    assert save_best(path, {"network": "Line", "step": 7}, 0.1, best) == 0.1                 # now there are objects
    assert load_checkpoint(path, "Line")["step"] == 7


def test_fingerprints_tell_lists_of_images_apart():
    # CRC-32 of the names with a space between them; the folder does not count, so that the data may move.
    assert fingerprint([]) == [0, 0]
    assert fingerprint(["123456789"]) == [1, 0xCBF43926]                     # the check value of CRC-32's definition
    images = ["/a/1.jpg", "/a/2.jpg"]
    assert fingerprint(images) == fingerprint([Path("/b/1.jpg"), Path("/b/2.jpg")])
    for other in (images[::-1], images[:1], [*images, "/a/3.jpg"], ["/a/1.jpg", "/a/3.jpg"]):
        assert fingerprint(other) != fingerprint(images)
