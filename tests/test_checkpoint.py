"""Files are written whole or not at all, a wrong one is refused by name, and a training continues where it was."""
import os
import resource
from math import isnan, nan
from pathlib import Path

import pytest
import torch
import torch.nn as nn

from shared.checkpoint import (fingerprint, load_backbone, load_checkpoint, load_weights, resume, save_best,
                               save_checkpoint)
from shared.errors import InputError
from shared.paths import atomic_write


LINE = {"network": "Line", "classes": ["cat"], "size": 32, "step": 0, "model": {}}       # the least that one holds


def test_round_trip(tmp_path):
    state = {"network": "YOLOv3", "classes": ["cat"], "anchors": [[(1, 2.5)]], "model": nn.Linear(2, 1).state_dict(),
             "size": 64, "step": 7}
    save_checkpoint(tmp_path / "deep" / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "deep" / "last.pt", "YOLOv3")
    assert loaded["classes"] == ["cat"] and loaded["anchors"] == [[(1, 2.5)]]
    assert loaded["model"]["weight"].equal(state["model"]["weight"])


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    save_checkpoint(tmp_path / "last.pt", {**LINE, "step": 1})
    with pytest.raises(Exception):
        save_checkpoint(tmp_path / "last.pt", {**LINE, "step": 2, "bad": lambda: None})
    assert load_checkpoint(tmp_path / "last.pt", "Line")["step"] == 1
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
        best = save_best(path, {**LINE, "step": step}, result, best)
        kept.append((load_checkpoint(path, "Line")["step"], best))
    assert kept == [(0, 0), (1, 0.5), (2, 0.5), (2, 0.5), (4, 0.6)]
    best = save_best(path, {**LINE, "step": 5}, nan, best)
    assert isnan(best) and load_checkpoint(path, "Line")["step"] == 5
    best = save_best(path, {**LINE, "step": 6}, nan, best)
    assert isnan(best) and load_checkpoint(path, "Line")["step"] == 6
    assert save_best(path, {**LINE, "step": 7}, 0.1, best) == 0.1                 # now there are objects
    assert load_checkpoint(path, "Line")["step"] == 7


def test_fingerprints_tell_lists_of_images_apart():
    # CRC-32 of the names with a space between them; the folder does not count, so that the data may move.
    assert fingerprint([]) == [0, 0]
    assert fingerprint(["123456789"]) == [1, 0xCBF43926]                     # the check value of CRC-32's definition
    images = ["/a/1.jpg", "/a/2.jpg"]
    assert fingerprint(images) == fingerprint([Path("/b/1.jpg"), Path("/b/2.jpg")])
    for other in (images[::-1], images[:1], [*images, "/a/3.jpg"], ["/a/1.jpg", "/a/3.jpg"]):
        assert fingerprint(other) != fingerprint(images)


# ---- damage

def flip(path, where):
    """Changes one bit of the file, at a fraction `where` of its length."""
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 16
    path.write_bytes(data)


def refused(call, *given):
    """The one line with which a call refuses."""
    with pytest.raises(InputError) as error:
        call(*given)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_each_damage_is_one_line_with_the_ways_out(tmp_path):
    # torch.load() itself reads a file with a flipped bit without a word: the number is another one, and that is all.
    network, optimizer = training(rate=0.1, decay=0.0)
    path, wide = tmp_path / "last.pt", nn.Linear(200, 200)
    save_checkpoint(path, {**LINE, "model": wide.state_dict()})
    flip(path, 0.5)
    assert not torch.load(path, weights_only=True)["model"]["weight"].equal(wide.weight)
    problem = f"{path}: not a checkpoint, or a damaged one"
    assert refused(load_checkpoint, path, "Line") == f"{problem} (a checksum is wrong)"
    (tmp_path / "best.pt").write_text("x")
    assert refused(load_checkpoint, path, "Line") == f"{problem} (a checksum is wrong); best.pt beside it may be whole"
    path.write_bytes(b"")
    assert refused(load_checkpoint, path, "Line") == f"{problem} (it is empty); best.pt beside it may be whole"
    assert refused(resume, path, network, optimizer, FIXED, 20, "yolov3/train.py") == (
        f"{problem} (it is empty); best.pt beside it may be whole. To start a new training, give RUN in "
        "yolov3/train.py a new name")
    path.unlink()
    path.mkdir()
    assert refused(load_checkpoint, path, "Line") == f"{path}: cannot be read (Is a directory)"


def test_a_foreign_file_is_refused_without_torchs_advice(tmp_path):
    # torch advises to load with weights_only=False, which would run the file's code.
    class Surprise:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)
    path = tmp_path / "last.pt"
    for state in (Surprise(), {**LINE, "model": Surprise()}):
        for zipped in (True, False):
            torch.save(state, path, _use_new_zipfile_serialization=zipped)
            assert refused(load_checkpoint, path, "Line") == f"{path}: not a checkpoint, or a damaged one"
    path.write_text("e" * 100)
    assert refused(load_checkpoint, path, "Line") == f"{path}: not a checkpoint, or a damaged one"
    assert not (tmp_path / "ran").exists()


def test_a_copy_of_best_pt_is_refused_by_name(tmp_path):
    network, optimizer = training(rate=0.1, decay=0.0)
    path = tmp_path / "last.pt"
    save_checkpoint(path, {**FIXED, "size": 32, "step": 10, "model": network.state_dict()})
    assert refused(resume, path, network, optimizer, FIXED, 20, "yolov3/train.py") == (
        f"{path}: does not hold what a training needs to continue: best, optimizer_state. A copy of best.pt can be "
        "evaluated; to train, give RUN in yolov3/train.py a new name")


@pytest.mark.parametrize("value", [torch.ones(1, 2), torch.tensor(1.0), torch.ones(1, 1, dtype=torch.int64), None, 0.5])
def test_moments_that_do_not_fit_are_refused_before_the_optimizer_sees_them(tmp_path, value):
    # A fused Adam reads and writes the moments as if they were as long as the weights.
    network, optimizer = training(rate=0.1, decay=0.0)
    step(network, optimizer, 1.0)
    state = optimizer.state_dict()
    path = tmp_path / "last.pt"
    for changed in ({**state["state"][0], "exp_avg": value}, {"exp_avg": value}):
        write_last(path, network, optimizer, optimizer_state={**state, "state": {0: changed}})
        assert f"{path}: the optimizer's state " in refused(resume, path, network, optimizer, FIXED, 20, "train.py")
    write_last(path, network, optimizer, optimizer_state={**state, "state": {1: state["state"][0]}})
    assert f"{path}: a checkpoint of another version, or a damaged one (IndexError" in refused(
        resume, path, network, optimizer, FIXED, 20, "train.py")


def test_sgd_without_momentum_has_no_moments(tmp_path):
    network, path = nn.Linear(1, 1, bias=False), tmp_path / "last.pt"
    for momentum in (0.0, 0.9):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=momentum)
        for steps in (0, 1):
            write_last(path, network, optimizer)
            assert resume(path, network, optimizer, FIXED, 20, "train.py") == (10, 0.25), steps
            step(network, optimizer, 1.0)


@pytest.mark.parametrize("key, value", [
    ("size", 0), ("size", 64.0), ("size", 10 ** 9), ("size", None), ("step", -1), ("step", 2 ** 70), ("step", nan),
    ("classes", None), ("classes", []), ("classes", [1]), ("classes", ["cat", "cat"]), ("classes", ["a\nb" * 999] * 2),
    ("anchors", None), ("anchors", []), ("anchors", [[(1, nan)]]), ("anchors", [[(1, 2, 3)]]), ("anchors", [[(0, 1)]]),
    ("boxes", 0), ("best", "0.5")])
def test_values_that_cannot_be(tmp_path, key, value):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {**LINE, key: value})
    said = refused(load_checkpoint, path, "Line")
    assert said.startswith(f"{path}: {key} cannot be ") and len(said) < 150 + len(str(path))


@pytest.mark.parametrize("key", ["size", "step", "model"])
def test_values_that_are_missing(tmp_path, key):
    save_checkpoint(tmp_path / "a.pt", {name: value for name, value in LINE.items() if name != key})
    assert refused(load_checkpoint, tmp_path / "a.pt", "Line") == f"{tmp_path / 'a.pt'}: holds no {key}"


def test_weights_that_are_not_finite(tmp_path):
    network = nn.Linear(2, 1)
    weights = {**network.state_dict(), "weight": torch.tensor([[1.0, nan]])}
    assert refused(load_weights, network, weights, "a.pt") == "a.pt: weight holds numbers that are not finite"
    save_checkpoint(tmp_path / "a.pt", weights)
    assert "a.pt: weight holds numbers that are not finite" in refused(load_backbone, network, tmp_path / "a.pt")


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    # No file can grow beyond 4,000 bytes; the state has 40,000. torch's own message speaks of an "unexpected pos".
    path = tmp_path / "last.pt"
    save_checkpoint(path, {**LINE, "step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        said = refused(save_checkpoint, path, {**LINE, "model": {"weight": torch.zeros(10_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said == f"{path}: cannot be written (File too large)"
    assert load_checkpoint(path, "Line")["step"] == 1 and [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_equal_states_are_equal_files(tmp_path):
    # The temporary name, which is random, does not get into the file.
    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, LINE)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_a_checkpoint_is_on_the_disk_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    # A power cut after the file was renamed, but before its content was written, would leave an empty last.pt.
    done = []
    monkeypatch.setattr("os.fsync", lambda number: done.append(os.fstat(number).st_size))
    monkeypatch.setattr("shared.paths.os.replace", lambda old, new: done.append(os.path.getsize(old)))
    save_checkpoint(tmp_path / "last.pt", LINE)
    assert len(done) == 2 and done[0] == done[1] > 500
