"""The schedule and the steps by hand, what main() hands on and refuses, an interrupted training: on small networks."""
import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn as nn
from PIL import Image

import yolov2.evaluate
import yolov2.loss
import yolov2.train as train
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.paths import ROOT
from shared.voc import CLASSES
from yolov2.model import ANCHORS, COCO_ANCHORS


# ---- the schedule

def test_darknets_learning_rate(monkeypatch):
    # (k / 1000)^4 of .001 up to step 1000; a tenth from 40,000 on and a hundredth from 60,000 on.
    for name, value in [("SCHEDULE", "steps"), ("BURN_IN", 1000), ("LR_STEPS", {40_000: 0.1, 60_000: 0.1}),
                        ("LEARNING_RATE", 1e-3)]:
        monkeypatch.setattr(train, name, value)
    for step, rate in [(1, 1e-15), (500, 1e-3 / 16), (999, 1e-3 * 0.999 ** 4), (1000, 1e-3), (39_999, 1e-3),
                       (40_000, 1e-4), (59_999, 1e-4), (60_000, 1e-5), (80_200, 1e-5)]:
        assert train.learning_rate(step) == pytest.approx(rate, rel=1e-9)


def test_the_learning_rate_of_2016(monkeypatch):
    # [darknet] yolo-voc.2.0.cfg: learning_rate=0.0001, steps=100,25000,35000, scales=10,.1,.1
    for name, value in [("SCHEDULE", "steps"), ("BURN_IN", 0), ("LEARNING_RATE", 1e-4),
                        ("LR_STEPS", {100: 10, 25_000: 0.1, 35_000: 0.1})]:
        monkeypatch.setattr(train, name, value)
    for step, rate in [(1, 1e-4), (99, 1e-4), (100, 1e-3), (24_999, 1e-3), (25_000, 1e-4), (34_999, 1e-4),
                       (35_000, 1e-5), (45_000, 1e-5)]:
        assert train.learning_rate(step) == pytest.approx(rate, rel=1e-9)


def test_the_samples_learning_rate(monkeypatch):
    for name, value in [("SCHEDULE", "cosine"), ("BURN_IN", 10), ("MAX_STEPS", 200), ("LEARNING_RATE", 1e-3)]:
        monkeypatch.setattr(train, name, value)
    assert train.learning_rate(5) == pytest.approx(1e-3 / 16)            # (5 / 10)^4
    assert train.learning_rate(100) == pytest.approx(5e-4)               # (1 + cos(pi / 2)) / 2
    assert train.learning_rate(200) == pytest.approx(0, abs=1e-12)


def test_the_input_size_changes_every_ten_steps_and_ends_at_the_largest(monkeypatch):
    monkeypatch.setattr(train, "TRAIN_SIZES", list(range(320, 609, 32)))
    monkeypatch.setattr(train, "MAX_STEPS", 2000)
    sizes = [train.image_size(step) for step in range(1, 2001)]
    tens = [set(sizes[i:i + 10]) for i in range(0, 2000, 10)]
    assert all(len(ten) == 1 for ten in tens)
    assert set(sizes[:1800]) == set(range(320, 609, 32)) and len(set.union(*tens[:10])) > 3
    assert set(sizes[1810:]) == {608}


@pytest.mark.parametrize("preset, expected", [
    ("darknet", dict(MAX_STEPS=80_200, LR_STEPS={40_000: 0.1, 60_000: 0.1}, TEST_SIZE=416, ANCHORS=None)),
    ("darknet_2016", dict(MAX_STEPS=45_000, LR_STEPS={100: 10, 25_000: 0.1, 35_000: 0.1}, LEARNING_RATE=1e-4, BURN_IN=0,
                          TEST_SIZE=416, ANCHORS=None,
                          NETWORK="YOLOv2 of 2016", TRAIN_SIZES=[416], STRETCH=True, JITTER=0.2, SMALLEST=0.005)),
    ("darknet_coco", dict(MAX_STEPS=500_200, LR_STEPS={400_000: 0.1, 450_000: 0.1}, TEST_SIZE=608,
                          ANCHORS=COCO_ANCHORS))])
def test_the_authors_values(preset, expected, monkeypatch):
    # [darknet] yolov2-voc.cfg, yolo-voc.2.0.cfg and yolov2.cfg. The presets are chosen when the files are imported, so
    # here they are compiled once more, with another PRESET.
    values = {}
    monkeypatch.setenv("PRESET", preset)
    dataset = (ROOT / "yolov2" / "dataset.py").read_text()
    exec(compile(dataset[:dataset.index("class DetectionDataset")], "dataset.py", "exec"), values)
    assert len(values["CLASSES"]) == (80 if preset == "darknet_coco" else 20)
    text = (ROOT / "yolov2" / "train.py").read_text()
    exec(compile(text[text.index("# What to train"):text.index("def learning_rate")], "train.py", "exec"),
         {**vars(train), **values}, values)
    of_all = dict(BATCH_SIZE=64, SUBDIVISIONS=8, TRAIN_SIZES=[320, 352, 384, 416, 448, 480, 512, 544, 576, 608],
                  AUGMENT=True, OPTIMIZER="sgd", LEARNING_RATE=1e-3, BURN_IN=1000, SCHEDULE="steps", NETWORK="YOLOv2",
                  BATCHNORM_MOMENTUM=0.01, MOMENTUM=0.9, WEIGHT_DECAY=5e-4, STRETCH=False, JITTER=0.3, SMALLEST=0.001,
                  HUE=0.1, SATURATION=1.5, EXPOSURE=1.5)
    expected = of_all | expected
    assert {name: values[name] for name in expected} == expected


def test_only_convolution_weights_decay(monkeypatch):
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    monkeypatch.setattr(train, "OPTIMIZER", "sgd")
    decayed, free = train.make_optimizer(network).param_groups
    assert [p.shape for p in decayed["params"]] == [(4, 3, 1, 1), (2, 4, 1, 1)] and decayed["weight_decay"] == 5e-4
    assert [tuple(p.shape) for p in free["params"]] == [(4,), (4,), (2,)] and free["weight_decay"] == 0
    assert decayed["momentum"] == free["momentum"] == 0.9


def test_sgd_worked_by_hand(monkeypatch):
    # Weight 1, gradient .5 twice, rate .1, momentum .9, decay 5e-4 ([darknet] update_convolutional_layer):
    # v = .5 + .0005 * 1 = .5005; w = 1 - .05005 = .94995. v = .9 * .5005 + .5 + .0005 * .94995 = .950925; w = .854858
    network = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(network.weight)
    monkeypatch.setattr(train, "OPTIMIZER", "sgd")
    monkeypatch.setattr(train, "LEARNING_RATE", 0.1)
    optimizer = train.make_optimizer(network)
    for expected in (0.94995, 0.8548575):
        network.weight.grad = torch.full((1, 1, 1, 1), 0.5)
        optimizer.step()
        assert network.weight.item() == pytest.approx(expected, abs=1e-6)


# ---- trainings of a few steps, in this process

SHORT = dict(RUN="yolov2", MAX_STEPS=4, BATCH_SIZE=8, TRAIN_SIZES=[64], TEST_SIZE=64,
             EVALUATE_EVERY=2, CHECKPOINT_EVERY=2, NUM_WORKERS=0)


def log(folder):
    with open(folder / "yolov2" / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def last(folder):
    return load_checkpoint(folder / "yolov2" / "last.pt", "YOLOv2")


class SmallNetwork(nn.Module):
    """Takes the place of YOLOv2: the same input and output, two layers."""

    def __init__(self, num_classes, anchors):
        super().__init__()
        self.num_classes = num_classes
        self.conv = nn.Conv2d(3, 8, 32, 32, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.detect32 = nn.Conv2d(8, len(anchors) * (5 + num_classes), 1)

    def forward(self, images):
        head = self.detect32(self.bn(self.conv(images)).relu())
        return head.unflatten(1, (-1, 5 + self.num_classes)).permute(0, 1, 3, 4, 2)


def train_small(folder, monkeypatch, network=SmallNetwork, **constants):
    """Runs main() with a small network in the place of YOLOv2."""
    monkeypatch.setattr(yolov2.evaluate, "MAX_TRAIN_EVALUATED", 2)
    for name, value in {**SHORT, "RUNS": folder, "NETWORKS": {"YOLOv2": (network, ANCHORS)}, **constants}.items():
        monkeypatch.setattr(train, name, value)
    train.main()


class ThreeWeights(nn.Module):
    """Takes the place of YOLOv2: a convolution of three weights, 1 each. Its output for any batch is their sum."""

    def __init__(self, *_):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, images):
        return self.conv.weight.sum()


def train_three_weights(folder, monkeypatch, ap_train, ap_test, network=ThreeWeights, **constants):
    """Runs main() on the three weights: their sum is the loss; each step's APs are given; plain gradient descent."""
    def measure(*args):
        step = int(args[-1].stem.split("_")[1])                              # of detections/step_000001.jpg
        return {"AP50 train": ap_train[step - 1], "AP50 test": ap_test[step - 1]}
    stubs = dict(yolov2_loss=lambda total, *_, seen: dict.fromkeys(train.TERMS, total), measure=measure,
                 write_training_curves=lambda *_: None)
    plain = dict(OPTIMIZER="sgd", MOMENTUM=0, WEIGHT_DECAY=0, EVALUATE_EVERY=1, CHECKPOINT_EVERY=1)
    train_small(folder, monkeypatch, network, **{**stubs, **plain, **constants})


@pytest.mark.parametrize("subdivisions", [1, 2, 4])
def test_steps_by_hand(tmp_path, monkeypatch, subdivisions):
    # Every gradient is 1, and so is the mean of the subdivisions' gradients. The rates of the three steps are
    # .1 * (1/2)^4 = .00625, .1 and .01; so the weights are 1, .99375, .89375, .88375. The totals in the log are three
    # times the weights before each step.
    train_three_weights(tmp_path, monkeypatch, [0, 0, 0], [0, 0, 0], MAX_STEPS=3, SUBDIVISIONS=subdivisions,
                        LEARNING_RATE=0.1, BURN_IN=2, SCHEDULE="steps", LR_STEPS={3: 0.1})
    assert last(tmp_path)["model"]["conv.weight"].flatten().tolist() == pytest.approx([0.88375] * 3)
    rows = log(tmp_path)
    assert [float(row["total"]) for row in rows] == pytest.approx([3, 3 * 0.99375, 3 * 0.89375])
    assert [float(row["learning rate"]) for row in rows] == pytest.approx([0.00625, 0.1, 0.01])


def test_the_best_is_chosen_by_the_test_images_and_stays_when_a_training_continues(tmp_path, monkeypatch):
    # Step 1 is better on TRAIN, step 2 on TEST: step 2 is the best. Step 3 is as good on TEST, and later. The training
    # is then continued; step 4 is worse.
    ap_train, ap_test = [0.9, 0.1, 0.1, 0.9], [0.2, 0.3, 0.3, 0.25]
    train_three_weights(tmp_path, monkeypatch, ap_train, ap_test, MAX_STEPS=2)
    best = load_checkpoint(tmp_path / "yolov2" / "best.pt", "YOLOv2")
    assert (best["step"], last(tmp_path)["best"]) == (2, 0.3)
    train_three_weights(tmp_path, monkeypatch, ap_train, ap_test, MAX_STEPS=4)
    best = load_checkpoint(tmp_path / "yolov2" / "best.pt", "YOLOv2")
    assert (best["step"], last(tmp_path)["step"], last(tmp_path)["best"]) == (3, 4, 0.3)
    assert [row["step"] for row in log(tmp_path)] == ["1", "2", "3", "4"]


def test_batchnorm_gets_its_momentum(tmp_path, monkeypatch):
    # The inputs of BatchNorm are 1 and 3, mean 2. One step with a momentum of .25: running mean .75 * 0 + .25 * 2 = .5.
    # (.01, the networks' own, would give .02.)
    class OneNorm(nn.Module):
        def __init__(self, *_):
            super().__init__()
            self.bn = nn.BatchNorm2d(1, momentum=0.01)

        def forward(self, images):
            return self.bn(torch.tensor([1.0, 3]).view(2, 1, 1, 1)).sum()

    train_three_weights(tmp_path, monkeypatch, [0], [0], OneNorm, MAX_STEPS=1, BATCHNORM_MOMENTUM=0.25)
    assert last(tmp_path)["model"]["bn.running_mean"].item() == pytest.approx(0.5)


def test_what_the_data_set_is_asked_for(tmp_path, monkeypatch):
    # AUGMENT reaches the data set. Each image is requested with its step's size and a seed of its own, and in the first
    # 16 each of the 16 images once.
    created, keys = [], []

    class Recorder(train.DetectionDataset):
        def __init__(self, annotations, size, augment=False):
            created.append((len(annotations), size, augment))
            super().__init__(annotations, size, augment)

        def __getitem__(self, key):
            keys.append(key)
            return super().__getitem__(key)

    train_three_weights(tmp_path, monkeypatch, [0] * 12, [0] * 12, DetectionDataset=Recorder, AUGMENT=True, SEED=5,
                        MAX_STEPS=12, BATCH_SIZE=2, SUBDIVISIONS=2, TRAIN_SIZES=[32, 64], TEST_SIZE=96,
                        EVALUATE_EVERY=12, CHECKPOINT_EVERY=12, image_size=lambda step: 32 if step <= 10 else 64)
    assert created == [(16, 96, True)]
    assert [size for _, size, _ in keys] == [32] * 20 + [64] * 4
    assert [seed for _, _, seed in keys] == [(5, n) for n in range(24)]
    assert sorted(index for index, *_ in keys[:16]) == list(range(16))


def test_coco_has_its_own_anchors(tmp_path, monkeypatch):
    train_three_weights(tmp_path / "voc", monkeypatch, [0], [0], MAX_STEPS=1)
    train_three_weights(tmp_path / "coco", monkeypatch, [0], [0], MAX_STEPS=1, ANCHORS=COCO_ANCHORS)
    assert last(tmp_path / "voc")["anchors"] == ANCHORS
    assert last(tmp_path / "coco")["anchors"] == COCO_ANCHORS


def test_a_training_with_the_other_images_is_not_continued(tmp_path, monkeypatch):
    # Letterboxed or stretched: a checkpoint knows.
    def train_to(step, stretch):
        train_three_weights(tmp_path, monkeypatch, [0] * 3, [0] * 3, MAX_STEPS=step, STRETCH=stretch)

    train_to(1, stretch=False)
    with pytest.raises(InputError, match="was trained with another STRETCH"):
        train_to(2, stretch=True)
    train_to(2, stretch=False)
    save_checkpoint(tmp_path / "yolov2" / "last.pt", {**last(tmp_path), "stretch": True})
    with pytest.raises(InputError, match="was trained with another STRETCH"):
        train_to(3, stretch=False)
    train_to(3, stretch=True)
    assert last(tmp_path)["step"] == 3 and last(tmp_path)["stretch"] is True


def test_the_pull_to_the_anchors_counts_the_images_of_all_steps(tmp_path, monkeypatch):
    # Two steps of 8 images, in two subdivisions each: 8 and 16 images seen, this step's included. prior is added for
    # the first 15.
    monkeypatch.setattr(yolov2.loss, "WARM_UP_IMAGES", 16)
    train_small(tmp_path, monkeypatch, MAX_STEPS=2, SUBDIVISIONS=2)
    assert [float(row["prior"]) > 0 for row in log(tmp_path)] == [True, False]


def test_a_loss_that_is_not_finite_stops_with_its_terms(tmp_path, monkeypatch):
    original = train.yolov2_loss

    def broken(*args, **keywords):
        loss = original(*args, **keywords)
        return loss | {"wh": loss["wh"] * float("nan"), "total": loss["total"] * float("nan")}

    with pytest.raises(InputError, match="the loss of step 1 is not finite: {'xy': [0-9.]+, 'wh': nan"):
        train_small(tmp_path, monkeypatch, yolov2_loss=broken)
    assert not (tmp_path / "yolov2" / "last.pt").exists()


def test_what_a_training_leaves(tmp_path, monkeypatch):
    train_small(tmp_path, monkeypatch)
    run = tmp_path / "yolov2"
    assert {path.name for path in run.iterdir()} == {
        ".lock", "last.pt", "best.pt", "log.csv", "curves.png", "detections"}
    assert {path.name for path in (run / "detections").iterdir()} == {"step_000002.jpg", "step_000004.jpg"}
    rows = log(tmp_path)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["epoch"] for row in rows] == ["0", "1", "1", "2"]            # 8 of 16 images a step
    for row in rows:
        *terms, total = (float(row[term]) for term in train.TERMS)
        assert total == pytest.approx(sum(terms), rel=1e-4)
        rate = train.LEARNING_RATE * (int(row["step"]) / train.BURN_IN) ** 4
        assert float(row["learning rate"]) == pytest.approx(rate)
    assert [bool(row["AP50 train"]) for row in rows] == [False, True, False, True]
    assert all(0 <= float(rows[3][f"{name} accuracy test"]) <= 1 for name in ("class", "object", "no_object"))
    state = last(tmp_path)
    assert (state["step"], state["size"], state["classes"], state["anchors"]) == (4, 64, CLASSES, ANCHORS)
    assert state["model"].keys() == SmallNetwork(20, ANCHORS).state_dict().keys()

    # The same command again changes nothing. Nor does a training of something else.
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    other_train = [(train.TRAIN[0][0], "val")]
    for constants, message in [
            (dict(), "all 4 steps are done. To train on, raise MAX_STEPS in yolov2/train.py"),
            (dict(MAX_STEPS=6, CLASSES=CLASSES[:1] + CLASSES[2:] + CLASSES[1:2]), "trained with another CLASSES"),
            (dict(MAX_STEPS=6, OPTIMIZER="sgd"), "trained with another OPTIMIZER"),
            (dict(MAX_STEPS=6, NETWORKS={"YOLOv2": (SmallNetwork, [(1, 1)] * 5)}), "trained with another ANCHORS"),
            (dict(MAX_STEPS=6, TRAIN=other_train), "trained with another TRAIN")]:
        with monkeypatch.context() as changed, pytest.raises(InputError, match=re.escape(message)):
            train_small(tmp_path, changed, **constants)
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    # Interrupted in step 4: the checkpoint is step 2's, the log is one step ahead of it.
    class Interrupted(Exception):
        pass

    original, calls = train.yolov2_loss, []

    def interrupted_in_step_4(*args, **keywords):
        calls.append(keywords["seen"])
        if len(calls) == 4:
            raise Interrupted
        return original(*args, **keywords)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_small(whole, monkeypatch, AUGMENT=True)
    with pytest.raises(Interrupted):
        train_small(parts, monkeypatch, AUGMENT=True, yolov2_loss=interrupted_in_step_4)
    assert last(parts)["step"] == 2 and len(log(parts)) == 3
    train_small(parts, monkeypatch, AUGMENT=True, yolov2_loss=original)
    one, other = last(whole), last(parts)
    assert all(value.equal(other["model"][key]) for key, value in one["model"].items())
    for number, moments in one["optimizer_state"]["state"].items():
        assert all(value.equal(other["optimizer_state"]["state"][number][key]) for key, value in moments.items())
    assert log(parts) == log(whole)


@pytest.mark.parametrize("constants, message", [
    (dict(SUBDIVISIONS=3), "BATCH_SIZE 8 cannot be divided by SUBDIVISIONS 3"),
    (dict(TEST_SIZE=100), "divisible by 32"), (dict(TRAIN_SIZES=[64, 65]), "divisible by 32"),
    (dict(OPTIMIZER="Adam"), "OPTIMIZER 'Adam' is none of"), (dict(SCHEDULE="Cosine"), "SCHEDULE 'Cosine' is none of"),
    (dict(NETWORK="YOLOv9"), "NETWORK 'YOLOv9' is none of"), (dict(TRAIN=[]), "TRAIN and TEST need at least one"),
    (dict(TEST=[]), "TRAIN and TEST need at least one")])
def test_constants_that_cannot_be_are_refused(tmp_path, monkeypatch, constants, message):
    with pytest.raises(InputError, match=message):
        train_small(tmp_path, monkeypatch, **constants)


# ---- whole scripts, in processes of their own

def start(folder, program, launcher=()):
    """Runs the program, which has imported yolov2.train as train, with `folder` as RUNS. -> CompletedProcess"""
    script = folder / "start.py"
    script.write_text(f"import pathlib, sys, torch\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
                      f"import yolov2.train as train\ntrain.RUNS = pathlib.Path({str(folder)!r})\n{program}")
    return subprocess.run([sys.executable, *launcher, str(script)], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_two_processes_step_along_the_mean_of_their_halves(tmp_path):
    # Two processes with four images each stay equal to each other and do what one process does with the same eight
    # images in two subdivisions: BatchNorm has the statistics of each half, the gradients are averaged. With SGD and
    # without momentum a step is the gradient.
    program = ("import test_yolov2_train as tests\n"
               "constants = dict(NETWORKS={{'YOLOv2': (tests.SmallNetwork, tests.ANCHORS)}}, OPTIMIZER='sgd',\n"
               "                 MOMENTUM=0, LEARNING_RATE=1e-4, BURN_IN=0, SCHEDULE='steps', SUBDIVISIONS={})\n"
               "for name, value in {{**tests.SHORT, **constants, 'MAX_STEPS': 2}}.items():\n"
               "    setattr(train, name, value)\n"
               "networks, make = [], train.make_optimizer\n"
               "train.make_optimizer = lambda network: networks.append(network) or make(network)\n"
               "train.main()\n"
               "import os\n"
               "rank = os.environ.get('RANK', 'alone')\n"
               "torch.save([p.detach() for p in networks[0].parameters()], train.RUNS / f'{{rank}}.pt')\n")
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    result = start(one, program.format(2))
    assert result.returncode == 0, result.stderr
    result = start(two, program.format(1), ("-m", "torch.distributed.run", "--nproc-per-node=2"))
    assert result.returncode == 0, result.stderr
    alone, first, second = (torch.load(path) for path in (one / "alone.pt", two / "0.pt", two / "1.pt"))
    assert all(a.equal(b) for a, b in zip(first, second))
    torch.manual_seed(train.SEED)
    begun = list(SmallNetwork(20, ANCHORS).parameters())
    for before, a, b in zip(begun, alone, first):
        moved = (a - before).norm()
        assert moved > 0 and (a - b).norm() < 1e-3 * moved


@pytest.mark.slow
def test_a_users_edited_copy_says_in_one_line_what_is_wrong(tmp_path):
    # The files as a user edits and runs them. The second image's header is intact, its pixels are not.
    for part in ("yolov2", "shared"):
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
    dataset = tmp_path / "yolov2" / "dataset.py"
    edited = re.sub(r"(?m)^( *)(TRAIN|TEST) = .*$", rf"\1\2 = [({str(data)!r}, 'train')]", dataset.read_text())
    dataset.write_text(re.sub(r"(?m)^( *)CLASSES = .*$", r"\1CLASSES = ['cat']", edited))
    result = subprocess.run([sys.executable, "yolov2/train.py"], cwd=tmp_path, capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": str(tmp_path)})
    said = [line for line in result.stderr.splitlines() if "it/s" not in line and "?it" not in line and line.strip()]
    assert result.returncode == 1
    assert said == ["The data have 1 problem:",
                    f"{damaged}: cannot be read as an image (not an image file, or a damaged one)",
                    "To go on without these images, set SKIP_UNUSABLE = True in dataset.py."]


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov2/train.py, as a newcomer starts it, only with another folder for what it writes.
    result = start(tmp_path, "train.RUN = 'yolov2'\nif __name__ == '__main__': train.main()")
    assert result.returncode == 0, result.stderr
    assert float(log(tmp_path)[-1]["AP50 train"]) >= 0.90
