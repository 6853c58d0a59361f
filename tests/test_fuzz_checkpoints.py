"""
Checkpoints with damaged bytes and with values that cannot be, 300 of each from a fixed seed: each one is read, or
refused with one line that names the file. What is read of damaged bytes is what was written.
"""
import copy
import math
import random
import warnings

import pytest
import torch
import torch.nn as nn

import yolov3.weights as weights
from shared.checkpoint import load_backbone, load_start, resume, save_checkpoint
from shared.errors import InputError
from yolov3.model import ANCHORS

CLASSES = ["cat", "dog"]
FIXED = {"network": "YOLOv3", "classes": CLASSES, "anchors": ANCHORS, "optimizer": "adam", "train": [2, 99]}
ODD = [None, True, 0, -1, 7, 2 ** 70, 0.5, math.nan, math.inf, "", "cat", "a\nb", b"x", [], {}, (), [1], ["cat"],
       {"a": 1}, [[1, 2]], [[(1, 2)]], [(1, 2)] * 5, ANCHORS[:2], [[(math.nan, -1)] * 3] * 3, {"state": {}}, {0: {}},
       torch.zeros(()), torch.ones(2, 3), torch.full((4, 1, 1, 1), math.nan), torch.zeros(3, dtype=torch.int64),
       torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.complex64), torch.zeros(2, 2).to_sparse(),
       torch.zeros(1).expand(10 ** 12), torch.zeros(2, device="meta")]


class Small(nn.Module):
    """Has outputs for three lists of anchors, as YOLOv3 has. Few tensors, because torch.load is slow."""

    def __init__(self, num_classes, anchors):
        super().__init__()
        self.bn = nn.BatchNorm2d(1, affine=False)
        self.head = nn.Conv2d(1, sum(len(anchors[i]) for i in range(3)) * (5 + num_classes), 1, bias=False)

    def forward(self, x):
        return self.head(self.bn(x))


def a_training(steps):
    """A network and its optimizer after some steps."""
    torch.manual_seed(0)
    network = Small(len(CLASSES), ANCHORS)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    for _ in range(steps):
        take_step(network, optimizer)
    return network, optimizer


def take_step(network, optimizer):
    network(torch.ones(2, 1, 2, 2)).square().sum().backward()
    optimizer.step()


@pytest.fixture
def state(monkeypatch):
    monkeypatch.setattr(weights, "NETWORKS", {"YOLOv3": (Small, ANCHORS)})
    network, optimizer = a_training(steps=1)
    return {**FIXED, "size": 64, "step": 10, "best": 0.25, "model": network.state_dict(),
            "optimizer_state": optimizer.state_dict()}


WAYS = ["CHECKPOINT", "last.pt", "last.pt", "BACKBONE", "START"]


def open_as(way, path):
    """
    Opens the file as a script does. A training that continues from last.pt takes a step, too: the optimizer would
    crash the whole process if it were given moments of another shape. -> the weights that were read
    """
    if way == "CHECKPOINT":
        return weights.load_detector(path)[0].state_dict()
    network, optimizer = a_training(steps=0)
    if way == "last.pt":
        resume(path, network, optimizer, FIXED, 20, "train.py")
        read = copy.deepcopy(network.state_dict())
        take_step(network, optimizer)
        return read
    if way == "BACKBONE":
        load_backbone(network, path)
    else:
        load_start(network, path, "YOLOv3", CLASSES)
    return network.state_dict()


def equal(one, other):
    return one.keys() == other.keys() and all(value.equal(other[key]) for key, value in one.items())


def damage(data, dice):
    """The bytes of a file after one accident."""
    data = bytearray(data)
    where, length = dice.randrange(len(data)), dice.choice([1, 1, 1, 4, 100, 2000])
    kind = dice.choice(["bit", "bit", "bit", "zeros", "noise", "cut", "lost", "twice", "longer"])
    if kind == "bit":
        data[where] ^= 1 << dice.randrange(8)
    elif kind == "zeros":
        data[where:where + length] = bytes(len(data[where:where + length]))
    elif kind == "noise":
        data[where:where + length] = dice.randbytes(len(data[where:where + length]))
    elif kind == "cut":
        del data[where:]
    elif kind == "lost":
        del data[where:where + length]
    elif kind == "twice":
        data[where:where] = data[where:where + length]
    else:
        data += dice.randbytes(length)
    return bytes(data)


def check_line(error, path):
    line = str(error)
    assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < 400 + len(str(path)), line
    assert "weights_only" not in line and "\x1b" not in line


def test_damaged_bytes(state, tmp_path):
    path, dice, intact = tmp_path / "last.pt", random.Random(1), 0
    save_checkpoint(path, state)
    whole = path.read_bytes()
    for case in range(300):
        path.write_bytes(damage(whole, dice))
        try:
            assert equal(open_as(WAYS[case % 5], path), state["model"]), case
            intact += 1
        except InputError as error:
            check_line(error, path)
    assert 20 < intact < 150                                 # between the parts of the archive there is nothing to lose


def mutate(state, dice):
    """A copy of the state, one value of which, at any depth, is missing, odd, or under another name."""
    state = copy.deepcopy(state)
    place, keys = state, list(state)
    while True:
        key = dice.choice(keys)
        value = place[key]
        inside = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
        if not inside or dice.random() < 0.4:
            break
        place, keys = value, inside
    kind = dice.choice(["odd", "odd", "odd", "missing", "renamed"])
    if kind == "odd":
        place[key] = dice.choice(ODD)
    else:
        del place[key]
        if kind == "renamed" and isinstance(place, dict):
            place[dice.choice([7, "other", None, b"model"])] = value
    return state


def test_values_that_cannot_be(state, tmp_path):
    path, dice, refused = tmp_path / "last.pt", random.Random(2), 0
    for case in range(300):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                  # torch warns of its sparse tensors
            torch.save(mutate(state, dice), path)
            try:
                read = open_as(WAYS[case % 5], path)
                assert all(value.isfinite().all() for value in read.values()), case
            except InputError as error:
                check_line(error, path)
                refused += 1
    assert 100 < refused < 250
