"""The schedule by hand; what a step does, what is written down; interrupted and shared trainings; what is refused."""
import csv
import math
import os
import re
import shutil
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

import yolov1.evaluate as evaluate
import yolov1.train as train
from data_samples import draw_mini
from shared.checkpoint import load_checkpoint
from shared.errors import InputError
from shared.paths import ROOT, SAMPLES
from shared.voc import CLASSES as VOC_CLASSES
from yolov1.model import ConvBlock


# ---- the presets

def load_preset(preset, monkeypatch):
    """yolov1/train.py as it is where PRESET in yolov1/dataset.py has this value."""
    dataset, script = ModuleType("yolov1.dataset"), ModuleType("yolov1.train")
    with monkeypatch.context() as context:
        context.setenv("PRESET", preset)
        exec((ROOT / "yolov1" / "dataset.py").read_text(), dataset.__dict__)
        context.setitem(sys.modules, "yolov1.dataset", dataset)
        exec((ROOT / "yolov1" / "train.py").read_text(), script.__dict__)
    return script


def test_the_authors_values(monkeypatch):
    # The paper's schedule, as cfg/yolo.cfg has it: 1e-3, rising to 1e-2 in three jumps, then 1e-3 and 1e-4. Equation
    # (3) is twice Darknet's loss, so here each learning rate is half of it, and the weight decay is twice 5e-4.
    script = load_preset("darknet", monkeypatch)
    assert (script.MAX_STEPS, script.BATCH_SIZE, script.SUBDIVISIONS, script.SIZE) == (40_000, 64, 2, 448)
    for step, rate in [(1, 1e-3), (199, 1e-3), (200, 2.5e-3), (399, 2.5e-3), (400, 5e-3), (599, 5e-3), (600, 1e-2),
                       (19_999, 1e-2), (20_000, 1e-3), (29_999, 1e-3), (30_000, 1e-4), (40_000, 1e-4)]:
        assert script.learning_rate(step) == pytest.approx(rate / 2, rel=1e-9), step
    assert script.AUGMENT and script.DROPOUT == 0.5 and script.BATCHNORM_MOMENTUM == 0.01
    assert script.BACKBONE.name == "extraction.conv.weights"
    decayed, free = script.make_optimizer(nn.Conv2d(1, 1, 1)).param_groups
    assert (decayed["momentum"], decayed["weight_decay"], free["weight_decay"]) == (0.9, 1e-3, 0)


def test_the_data_of_each_preset(monkeypatch):
    # A preset chooses data and values together.
    mini, sample, voc = (load_preset(preset, monkeypatch) for preset in ("mini", "sample", "darknet"))
    assert (mini.NETWORK, mini.AUGMENT, mini.RUN) == ("YOLOv1Tiny", True, "yolov1_mini")
    assert (mini.TRAIN, mini.TEST) == ([(draw_mini.FOLDER, "train")], [(draw_mini.FOLDER, "test")])
    assert (sample.MAX_STEPS, sample.OPTIMIZER, sample.AUGMENT, sample.DROPOUT) == (180, "adam", False, 0)
    folder = SAMPLES / "voc" / "VOCdevkit" / "VOC2007"
    assert (sample.TRAIN, sample.TEST) == ([(folder, "train")], [(folder, "val")])
    folder = ROOT / "voc" / "VOCdevkit"
    assert voc.TRAIN == [(folder / "VOC2007", "trainval"), (folder / "VOC2012", "trainval")]
    assert voc.TEST == [(folder / "VOC2007", "test")]
    assert sample.CLASSES == voc.CLASSES == VOC_CLASSES


# ---- the schedule and the optimizer

def test_the_samples_learning_rate(monkeypatch):
    for name, value in [("SCHEDULE", "cosine"), ("BURN_IN", 10), ("MAX_STEPS", 200), ("LEARNING_RATE", 1e-3)]:
        monkeypatch.setattr(train, name, value)
    assert train.learning_rate(5) == pytest.approx(1e-3 / 16)                # (5 / 10)^4
    assert train.learning_rate(100) == pytest.approx(5e-4)                   # (1 + cos(pi / 2)) / 2
    assert train.learning_rate(200) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_only_weights_decay(monkeypatch, optimizer):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    monkeypatch.setattr(train, "OPTIMIZER", optimizer)
    decayed, free = train.make_optimizer(network).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 1, 1), (2, 4)] and decayed["weight_decay"] == 5e-4
    assert [tuple(p.shape) for p in free["params"]] == [(4,), (4,), (4,), (2,)] and free["weight_decay"] == 0
    if optimizer == "adam":
        assert decayed["betas"] == free["betas"] == train.ADAM_BETAS
    else:
        assert decayed["momentum"] == free["momentum"] == 0.9


def test_sgd_worked_by_hand(monkeypatch):
    # Weight 1, gradient .5 twice, rate .1, momentum .9, decay 5e-4 ([darknet] update_convolutional_layer):
    # v = .5 + .0005 * 1 = .5005                          w = 1 - .1 * .5005 = .94995
    # v = .9 * .5005 + .5 + .0005 * .94995 = .950925      w = .94995 - .1 * .950925 = .8548575
    network = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(network.weight)
    monkeypatch.setattr(train, "OPTIMIZER", "sgd")
    monkeypatch.setattr(train, "LEARNING_RATE", 0.1)
    optimizer = train.make_optimizer(network)
    for expected in (0.94995, 0.8548575):
        network.weight.grad = torch.full((1, 1, 1, 1), 0.5)
        optimizer.step()
        assert network.weight.item() == pytest.approx(expected, abs=1e-6)


# ---- single steps, with stubs for the network, the loss and the evaluation

SHORT = dict(RUN="yolov1", MAX_STEPS=4, BATCH_SIZE=8, SIZE=64,
             EVALUATE_EVERY=2, CHECKPOINT_EVERY=2, NUM_WORKERS=0)


def log(folder):
    with open(folder / "yolov1" / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def last(folder, name="last.pt"):
    return load_checkpoint(folder / "yolov1" / name, "YOLOv1")


def train_with(monkeypatch, folder, **constants):
    for name, value in {**SHORT, "RUNS": folder, **constants}.items():
        monkeypatch.setattr(train, name, value)
    train.main()


class ThreeWeights(nn.Module):
    """A convolution of three weights, 1 each. It answers every batch with their sum."""

    def __init__(self, *_):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, images):
        return self.conv.weight.sum()


def train_stub(monkeypatch, folder, network=ThreeWeights, ap_train=0.0, ap_test=[0.0] * 4, **constants):
    """Plain gradient descent on a loss that is the network's answer. Each evaluation has the next AP of ap_test."""
    test = iter(ap_test)
    stubs = dict(NETWORKS={"YOLOv1": network}, OPTIMIZER="sgd", MOMENTUM=0, WEIGHT_DECAY=0,
                 write_training_curves=lambda *_: None,
                 yolov1_loss=lambda total, *_: dict.fromkeys(train.TERMS, total),
                 measure=lambda *_: {"AP50 train": ap_train, "AP50 test": next(test)})
    train_with(monkeypatch, folder, **{**stubs, **constants})


@pytest.mark.parametrize("subdivisions", [1, 2, 4])
def test_steps_by_hand(tmp_path, monkeypatch, subdivisions):
    # Every gradient is 1, and so is the mean of the subdivisions' gradients. The rates of the three steps are
    # .1 (1/2)^4 = .00625, .1 and .01, so the weights are 1, .99375, .89375, .88375. The totals in the log are three
    # times the weights before each step. 8 of 16 images per step: an epoch ends with step 2.
    train_stub(monkeypatch, tmp_path, MAX_STEPS=3, SUBDIVISIONS=subdivisions, LEARNING_RATE=0.1, BURN_IN=2,
               SCHEDULE="steps", LR_STEPS={3: 0.1})
    assert last(tmp_path)["model"]["conv.weight"].flatten().tolist() == pytest.approx([0.88375] * 3)
    rows = log(tmp_path)
    for term in train.TERMS:
        assert [float(row[term]) for row in rows] == pytest.approx([3, 3 * 0.99375, 3 * 0.89375])
    assert [float(row["learning rate"]) for row in rows] == pytest.approx([0.00625, 0.1, 0.01])
    assert [row["epoch"] for row in rows] == ["0", "1", "1"]


def test_the_best_is_the_best_on_test(tmp_path, monkeypatch):
    # AP50 on TRAIN rises with every evaluation, on TEST the second of the three is the best.
    train_rises = iter([0.1, 0.2, 0.3])
    test = iter([0.2, 0.3, 0.1])
    train_stub(monkeypatch, tmp_path, MAX_STEPS=3, EVALUATE_EVERY=1,
               measure=lambda *_: {"AP50 train": next(train_rises), "AP50 test": next(test)})
    assert last(tmp_path, "best.pt")["step"] == 2 and last(tmp_path)["best"] == 0.3


def test_the_best_stays_the_best_when_a_training_is_continued(tmp_path, monkeypatch):
    # The later of two equal results is the best. What follows the interruption is worse.
    train_stub(monkeypatch, tmp_path, MAX_STEPS=2, EVALUATE_EVERY=1, ap_test=[0.5, 0.5])
    train_stub(monkeypatch, tmp_path, MAX_STEPS=3, EVALUATE_EVERY=1, ap_test=[0.4])
    assert (last(tmp_path, "best.pt")["step"], last(tmp_path)["step"], last(tmp_path)["best"]) == (2, 3, 0.5)
    assert [row["step"] for row in log(tmp_path)] == ["1", "2", "3"]


def test_when_it_evaluates_and_saves(tmp_path, monkeypatch):
    # Every 2 and every 3 steps, and after the last one.
    saved = []
    save = train.save_checkpoint
    monkeypatch.setattr(train, "save_checkpoint", lambda path, state: saved.append(state["step"]) or save(path, state))
    train_stub(monkeypatch, tmp_path, MAX_STEPS=5, EVALUATE_EVERY=2, CHECKPOINT_EVERY=3)
    assert [row["step"] for row in log(tmp_path) if row["AP50 test"]] == ["2", "4", "5"]
    assert saved == [3, 5]


class OneNorm(nn.Module):
    """BatchNorm of the two numbers 1 and 3."""

    def __init__(self, *_):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

    def forward(self, images):
        return self.bn(torch.tensor([1.0, 3]).view(2, 1, 1, 1)).sum() + self.conv(torch.ones(1, 1, 1, 1)).square().sum()


def test_the_share_of_each_batch_in_batchnorms_averages(tmp_path, monkeypatch):
    # The mean of 1 and 3 is 2. After one step the running mean is .75 * 0 + .25 * 2 = .5.
    train_stub(monkeypatch, tmp_path, OneNorm, MAX_STEPS=1, BATCHNORM_MOMENTUM=0.25)
    assert last(tmp_path)["model"]["bn.running_mean"].item() == 0.5


def test_dropout_is_the_constants(tmp_path, monkeypatch):
    built = []

    class Dropping(ThreeWeights):
        def __init__(self, *_):
            super().__init__()
            self.dropout = nn.Dropout(0.5)
            built.append(self)
    train_stub(monkeypatch, tmp_path, Dropping, MAX_STEPS=1, DROPOUT=0.3)
    assert built[0].dropout.p == 0.3


def test_each_step_drops_something_else_and_the_same_when_a_training_is_continued(tmp_path, monkeypatch):
    drawn = []

    class Drawing(ThreeWeights):
        def forward(self, images):
            drawn.append(torch.rand(1).item())                               # as dropout would
            return super().forward(images)
    train_stub(monkeypatch, tmp_path / "whole", Drawing, MAX_STEPS=4)
    train_stub(monkeypatch, tmp_path / "parts", Drawing, MAX_STEPS=2)
    train_stub(monkeypatch, tmp_path / "parts", Drawing, MAX_STEPS=4)
    assert len(set(drawn[:4])) == 4 and drawn[4:] == drawn[:4]
    # Two processes draw different numbers.
    for rank in range(2):
        train_stub(monkeypatch, tmp_path / f"two{rank}", Drawing, MAX_STEPS=4,
                   start_processes=lambda: (rank, 2, torch.device("cpu")), share_gradients=lambda network, *_: network,
                   average=lambda terms, ranks: {name: value.item() for name, value in terms.items()})
    assert len(set(drawn[8:])) == 8


class Recorder(train.DetectionDataset):
    """A data set that writes down how it was made and which items were asked for."""

    def __init__(self, annotations, size, augment):
        Recorder.made, Recorder.keys = (len(annotations), size, augment), []
        super().__init__(annotations, size, augment)

    def __getitem__(self, key):
        Recorder.keys.append(key)
        return super().__getitem__(key)


def test_what_is_loaded(tmp_path, monkeypatch):
    # 10 steps of 2 images. An epoch has 16 images.
    train_stub(monkeypatch, tmp_path, DetectionDataset=Recorder, AUGMENT=True, BATCH_SIZE=2, MAX_STEPS=10, SEED=7,
               SIZE=128, EVALUATE_EVERY=99, CHECKPOINT_EVERY=99)
    assert Recorder.made == (16, 128, True)
    assert [seed for _, seed in Recorder.keys] == [(7, n) for n in range(20)]
    assert sorted(index for index, _ in Recorder.keys[:16]) == list(range(16))
    train_stub(monkeypatch, tmp_path / "not", DetectionDataset=Recorder, AUGMENT=False, MAX_STEPS=1, SIZE=64)
    assert Recorder.made == (16, 64, False)


def test_the_second_process_loads_its_share_and_writes_nothing(tmp_path, monkeypatch):
    # Each subdivision has 4 images. The second of two processes has the last two of them.
    train_stub(monkeypatch, tmp_path / "one", DetectionDataset=Recorder, MAX_STEPS=2, SUBDIVISIONS=2)
    whole = Recorder.keys
    train_stub(monkeypatch, tmp_path / "two", DetectionDataset=Recorder, MAX_STEPS=2, SUBDIVISIONS=2,
               start_processes=lambda: (1, 2, torch.device("cpu")), share_gradients=lambda network, *_: network,
               average=lambda terms, ranks: {name: value.item() for name, value in terms.items()})
    assert Recorder.keys == [key for n, key in enumerate(whole) if n % 4 >= 2]
    assert not (tmp_path / "two").exists()


def test_pretrained_weights_are_for_a_new_training(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(train, "load_pretrained", lambda network, *others: given.append(others))
    for steps in (1, 2):
        train_stub(monkeypatch, tmp_path, MAX_STEPS=steps, BACKBONE="a.pt", START="b.weights")
    assert given == [(VOC_CLASSES, "a.pt", "b.weights")]


# ---- whole trainings, of a small network

class Small(nn.Module):
    """An output of the right shape: one block, dropout, the mean of each cell, and a linear layer."""

    def __init__(self, num_classes, grid, num_boxes):
        super().__init__()
        self.block = ConvBlock(3, 8, 3, batch_norm=True)
        self.dropout = nn.Dropout(0.5)
        self.detect = nn.Linear(8, num_classes + 5 * num_boxes)

    def forward(self, images):
        x = F.avg_pool2d(self.dropout(self.block(images)), 64)               # (B, 8, S, S)
        return self.detect(x.permute(0, 2, 3, 1))


SMALL = dict(SHORT, NETWORKS={"YOLOv1": Small, "Other": Small}, AUGMENT=True, DROPOUT=0.5)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training of four steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        train_with(monkeypatch, folder, **SMALL)
    torch.set_num_threads(threads)
    return folder


def test_what_a_training_leaves(whole):
    run = whole / "yolov1"
    assert {path.name for path in run.iterdir()} == {
        ".lock", "last.pt", "best.pt", "log.csv", "curves.png", "detections"}
    assert {path.name for path in (run / "detections").iterdir()} == {"step_000002.jpg", "step_000004.jpg"}
    rows = log(whole)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert list(rows[0]) == train.COLUMNS
    for row in rows:
        *terms, total = (float(row[term]) for term in ("xy", "wh", "object", "no_object", "class", "total"))
        assert total == pytest.approx(sum(terms), rel=1e-4)
        assert float(row["learning rate"]) == pytest.approx(6e-5 * (int(row["step"]) / 12) ** 4)
    for name in [*evaluate.MEASURES, *evaluate.ACCURACIES]:
        assert [bool(row[name]) for row in rows] == [False, True, False, True], name
    for name in ("last.pt", "best.pt"):
        state = last(whole, name)
        assert (state["network"], state["classes"], state["step"]) == ("YOLOv1", VOC_CLASSES, 4)
        assert (state["boxes"], state["size"], state["batch_norm"]) == (2, 64, False)
        assert set(state["model"]) == set(Small(20, 1, 2).state_dict())
    assert set(last(whole)) - set(last(whole, "best.pt")) == {"best", "optimizer_state"}
    assert (last(whole)["optimizer"], last(whole)["train"][0]) == ("adam", 16)


def everything_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("constants, message", [
    (dict(), "all 4 steps are done. To train on, raise MAX_STEPS in yolov1/train.py"),
    (dict(MAX_STEPS=6, CLASSES=VOC_CLASSES[:1] + VOC_CLASSES[2:] + VOC_CLASSES[1:2]), "trained with another CLASSES"),
    (dict(MAX_STEPS=6, OPTIMIZER="sgd"), "trained with another OPTIMIZER"),
    (dict(MAX_STEPS=6, NETWORK="Other"), "trained with another NETWORK"),
    (dict(MAX_STEPS=6, BOXES=3), "trained with another BOXES"),
    (dict(MAX_STEPS=6, SIZE=128), "trained with another SIZE"),
    (dict(MAX_STEPS=6, BATCH_NORM=True), "trained with another BATCH_NORM"),
    (dict(MAX_STEPS=6, TRAIN=train.TEST), "trained with another TRAIN"),
])
def test_what_cannot_be_continued_is_refused_and_nothing_overwritten(whole, monkeypatch, constants, message):
    before = everything_in(whole)
    with pytest.raises(InputError, match=message):
        train_with(monkeypatch, whole, **{**SMALL, **constants})
    assert everything_in(whole) == before


class Killed(BaseException):
    """Ends the training as abruptly as a KeyboardInterrupt."""


def test_interrupted_and_started_again_ends_with_the_same_weights(whole, tmp_path, monkeypatch, one_thread):
    # Interrupted in step 4: the checkpoint is that of step 2, the log one step ahead of it. Dropout and augmentation
    # are random and have to repeat themselves.
    calls, loss = iter(range(99)), train.yolov1_loss

    def loss_of_three_steps(*given):
        if next(calls) == 3:
            raise Killed
        return loss(*given)
    with pytest.raises(Killed):
        train_with(monkeypatch, tmp_path, **SMALL, yolov1_loss=loss_of_three_steps)
    monkeypatch.setattr(train, "yolov1_loss", loss)
    assert last(tmp_path)["step"] == 2 and len(log(tmp_path)) == 3
    train_with(monkeypatch, tmp_path, **SMALL)
    assert log(tmp_path) == log(whole)
    one, other = last(whole), last(tmp_path)
    assert all(value.equal(other["model"][key]) for key, value in one["model"].items())
    moments, others = (state["optimizer_state"]["state"] for state in (one, other))
    assert len(moments) > 0
    for n in moments:
        assert all(value.equal(others[n][key]) for key, value in moments[n].items())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_its_terms(tmp_path, monkeypatch, value):
    loss = train.yolov1_loss
    broken = dict(wh=value, total=value)
    with pytest.raises(InputError) as error:
        train_with(monkeypatch, tmp_path, **SMALL, yolov1_loss=lambda *given: {
            term: number * broken.get(term, 1) for term, number in loss(*given).items()})
    assert "yolov1/train.py: the loss of step 1 is not finite: {'xy': " in str(error.value)
    assert f"'wh': {value}" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "yolov1" / "last.pt").exists() and log(tmp_path) == []


@pytest.mark.parametrize("constants, message", [
    (dict(SUBDIVISIONS=3), "BATCH_SIZE 8 cannot be divided by SUBDIVISIONS 3"),
    (dict(SIZE=96), "SIZE has to be divisible by 64"),
    (dict(NETWORK="Yolov3"), r"NETWORK 'Yolov3' is none of \('YOLOv1', 'Other'\)"),
    (dict(OPTIMIZER="Adam"), "OPTIMIZER 'Adam' is none of"), (dict(SCHEDULE="Cosine"), "SCHEDULE 'Cosine' is none of"),
    (dict(TRAIN=[]), "TRAIN and TEST need at least one"), (dict(TEST=[]), "TRAIN and TEST need at least one")])
def test_constants_that_cannot_be_are_refused(tmp_path, monkeypatch, constants, message):
    with pytest.raises(InputError, match=message):
        train_with(monkeypatch, tmp_path, **{**SMALL, **constants})


# ---- the script as a user starts it

@pytest.mark.slow
def test_a_users_edited_copy_says_in_one_line_what_is_wrong(tmp_path):
    # The files as a user edits and runs them. The second image's header is whole, its pixels are not.
    for part in ("yolov1", "shared"):
        shutil.copytree(ROOT / part, tmp_path / part)
    data = tmp_path / "mine"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (data / part).mkdir(parents=True)
    for name in "ab":
        pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(data / "JPEGImages" / f"{name}.jpg")
        (data / "Annotations" / f"{name}.xml").write_text("<annotation></annotation>")
    damaged = data / "JPEGImages" / "b.jpg"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    (data / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    dataset = tmp_path / "yolov1" / "dataset.py"
    edited = re.sub(r"(?m)^    (TRAIN|TEST) = .*$", rf"    \1 = [({str(data)!r}, 'train')]", dataset.read_text())
    dataset.write_text(re.sub(r"(?m)^    CLASSES = .*$", "    CLASSES = ['cat']", edited))
    result = subprocess.run([sys.executable, "yolov1/train.py"], cwd=tmp_path, capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": str(tmp_path)})
    said = [line for line in result.stderr.splitlines() if "it/s" not in line and "?it" not in line and line.strip()]
    assert result.returncode == 1
    assert said == ["The data have 1 problem:",
                    f"{damaged}: cannot be read as an image (not an image file, or a damaged one)",
                    "To go on without these images, set SKIP_UNUSABLE = True in dataset.py."]


def start(folder, launcher=(), before="pass", **constants):
    """Runs yolov1.train's main() in a process of its own, with its constants changed; -> CompletedProcess"""
    settings = "".join(f"train.{name} = {value!r}\n" for name, value in {**SHORT, **constants}.items())
    (folder / "start.py").write_text(f"import pathlib, torch\nimport yolov1.train as train\n"
                                     f"train.RUNS = pathlib.Path({str(folder)!r})\n{settings}\n"
                                     f"if __name__ == '__main__':\n    {before}\n    train.run(train.main)\n")
    return subprocess.run([sys.executable, *launcher, str(folder / "start.py")], cwd=ROOT, capture_output=True,
                          text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})


@pytest.mark.slow
def test_two_processes_step_along_the_mean_of_their_halves(tmp_path):
    # Two processes with four images each stay equal to each other and do what one process does with the same eight
    # images in two subdivisions: the gradients are averaged. With SGD the step is the gradient. There is no dropout.
    sgd = dict(OPTIMIZER="sgd", LEARNING_RATE=1e-4, BURN_IN=0, MAX_STEPS=2)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    result = start(one, SUBDIVISIONS=2, **sgd)
    assert result.returncode == 0, result.stderr
    save_both = "import os, atexit; seen, make = [], train.make_optimizer\n" \
                "    train.make_optimizer = lambda network: seen.append(network) or make(network)\n" \
                f"    atexit.register(lambda: torch.save([p.detach() for p in seen[0].parameters()],\n" \
                f"                                       f'{two}/{{os.environ[\"RANK\"]}}.pt'))"
    result = start(two, ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"), before=save_both, **sgd)
    assert result.returncode == 0, result.stderr
    first, second = (torch.load(two / f"{rank}.pt") for rank in range(2))
    assert all(a.equal(b) for a, b in zip(first, second))
    alone, shared = last(one)["model"], last(two)["model"]
    torch.manual_seed(train.SEED)
    begun = train.NETWORKS["YOLOv1"](20, 1).state_dict()
    for key in ("backbone.stage1.0.conv.weight", "detect.1.conv.weight", "detect.8.bias"):
        moved = (alone[key] - begun[key]).norm()
        assert moved > 0 and (alone[key] - shared[key]).norm() < 1e-3 * moved


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov1/train.py, as a newcomer starts it, only with another folder for what it writes.
    program = f"import pathlib, yolov1.train as train\ntrain.RUNS = pathlib.Path({str(tmp_path)!r})\n" \
              "train.RUN = 'yolov1'\n" \
              "if __name__ == '__main__': train.main()"
    (tmp_path / "start.py").write_text(program)
    result = subprocess.run([sys.executable, str(tmp_path / "start.py")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    ceiling = float(result.stdout.split("at most AP50 ")[1].split()[0])
    assert float(log(tmp_path)[-1]["AP50 train"]) >= min(0.90, 0.95 * ceiling)
