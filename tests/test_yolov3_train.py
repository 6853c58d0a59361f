"""The schedule by hand; what is loaded, and when; interrupted and shared trainings end where uninterrupted ones do."""
import csv
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn as nn
from PIL import Image

import yolov3.train as train
from shared.checkpoint import load_checkpoint
from shared.errors import InputError
from shared.paths import ROOT


# ---- the schedule

def test_darknets_learning_rate(monkeypatch):
    # (k / 1000)^4 of .001 up to step 1000; a tenth from 40,000 on and a hundredth from 45,000 on.
    for name, value in [("SCHEDULE", "steps"), ("BURN_IN", 1000), ("STEPS", [40_000, 45_000]), ("LEARNING_RATE", 1e-3)]:
        monkeypatch.setattr(train, name, value)
    for step, rate in [(1, 1e-15), (500, 1e-3 / 16), (999, 1e-3 * 0.999 ** 4), (1000, 1e-3), (39_999, 1e-3),
                       (40_000, 1e-4), (44_999, 1e-4), (45_000, 1e-5), (50_200, 1e-5)]:
        assert train.learning_rate(step) == pytest.approx(rate, rel=1e-9)


def test_the_samples_learning_rate(monkeypatch):
    for name, value in [("SCHEDULE", "cosine"), ("BURN_IN", 10), ("MAX_STEPS", 200), ("LEARNING_RATE", 1e-3)]:
        monkeypatch.setattr(train, name, value)
    assert train.learning_rate(5) == pytest.approx(1e-3 / 16)
    assert train.learning_rate(100) == pytest.approx(5e-4)               # (1 + cos(pi / 2)) / 2
    assert train.learning_rate(200) == pytest.approx(0, abs=1e-12)


def test_the_one_cycle_at_its_corners(monkeypatch):
    # 80 steps: up from 8e-4 / 100 = 8e-6 to 8e-4 at step 10, an eighth of them, down to 8e-6 / 100 = 8e-8 at step 80.
    # Half-way down, at step 45, the mean of the two ends, 4.0004e-4; a ninth of the way up 8e-6 + 7.92e-4 / 9 = 9.6e-5.
    for name, value in [("SCHEDULE", "one_cycle"), ("MAX_STEPS", 80), ("LEARNING_RATE", 7), ("BURN_IN", 70)]:
        monkeypatch.setattr(train, name, value)
    for step, rate in [(1, 8e-6), (2, 9.6e-5), (10, 8e-4), (45, 4.0004e-4), (80, 8e-8)]:
        assert train.learning_rate(step) == pytest.approx(rate)

    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-4, total_steps=80, pct_start=0.125, div_factor=100,
                                                   final_div_factor=100, anneal_strategy="linear")
    for step in range(1, 81):
        assert train.learning_rate(step) == pytest.approx(schedule.get_last_lr()[0]), step
        optimizer.step()
        schedule.step() if step < 80 else None


def test_the_input_size_changes_every_ten_steps_and_ends_at_the_largest(monkeypatch):
    monkeypatch.setattr(train, "SIZES", list(range(320, 609, 32)))
    monkeypatch.setattr(train, "MAX_STEPS", 2000)
    sizes = [train.image_size(step) for step in range(1, 2001)]
    tens = [set(sizes[i:i + 10]) for i in range(0, 2000, 10)]
    assert all(len(ten) == 1 for ten in tens)
    assert set(sizes[:1800]) == set(range(320, 609, 32)) and len(set.union(*tens[:10])) > 3
    assert set(sizes[1810:]) == {608}


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


# ---- what is loaded

def test_every_epoch_holds_every_image_once(monkeypatch):
    for name, value in [("BATCH_SIZE", 4), ("SUBDIVISIONS", 2), ("MAX_STEPS", 5)]:
        monkeypatch.setattr(train, name, value)
    loaded = [key for batch in train.batches(10, 1, 0, 1) for key in batch]
    assert [n for _, _, (_, n) in loaded] == list(range(20))
    assert sorted(key[0] for key in loaded[:10]) == sorted(key[0] for key in loaded[10:]) == list(range(10))
    assert [key[0] for key in loaded[:10]] != [key[0] for key in loaded[10:]]


def test_interrupted_or_shared_the_images_are_the_same(monkeypatch):
    for name, value in [("BATCH_SIZE", 8), ("SUBDIVISIONS", 2), ("MAX_STEPS", 4)]:
        monkeypatch.setattr(train, name, value)
    whole = list(train.batches(10, 1, 0, 1))
    assert list(train.batches(10, 3, 0, 1)) == whole[4:]                  # two steps of two subdivisions are done
    halves = [list(train.batches(10, 1, rank, 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*halves)] == whole


def test_fewer_images_than_a_batch(monkeypatch):
    for name, value in [("BATCH_SIZE", 8), ("SUBDIVISIONS", 1), ("MAX_STEPS", 3)]:
        monkeypatch.setattr(train, name, value)
    loaded = list(train.batches(3, 1, 0, 1))
    assert [len(batch) for batch in loaded] == [8, 8, 8] and len({key[2] for batch in loaded for key in batch}) == 24


# ---- trainings of a few steps

SHORT = dict(MAX_STEPS=4, BATCH_SIZE=8, SIZES=[64], SIZE=64, EVALUATE_EVERY=1, CHECKPOINT_EVERY=1, NUM_WORKERS=0,
             EVALUATED=2)


def log(folder):
    with open(folder / "yolov3" / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


class ThreeWeights(nn.Module):
    """Stands for the network: a convolution of three weights, 1 each. It answers every batch with their sum."""

    def __init__(self, *_):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, images):
        return self.conv.weight.sum()


def train_three_weights(folder, monkeypatch, precisions, **constants):
    """Runs main() on the three weights: their sum is the loss, each step's AP is given; plain gradient descent."""
    stubs = dict(RUNS=folder, YOLOv3=ThreeWeights, yolov3_loss=lambda total, *_: dict.fromkeys(train.TERMS, total),
                 evaluate=lambda *args: dict.fromkeys(train.MEASURES, precisions[args[3] - 1]))
    plain = dict(OPTIMIZER="sgd", MOMENTUM=0, WEIGHT_DECAY=0)
    for name, value in {**SHORT, **stubs, **plain, **constants}.items():
        monkeypatch.setattr(train, name, value)
    train.main()


@pytest.mark.parametrize("subdivisions", [1, 2, 4])
def test_steps_by_hand(tmp_path, monkeypatch, subdivisions):
    # Every gradient is 1, and so is the mean of the subdivisions' gradients. The rates of the three steps are
    # .1 (1/2)^4 = .00625, .1 and .01; so the weights are 1, .99375, .89375, .88375. The totals in the log are three
    # times what the weights are before each step.
    train_three_weights(tmp_path, monkeypatch, [0, 0, 0], MAX_STEPS=3, SUBDIVISIONS=subdivisions, LEARNING_RATE=0.1,
                        BURN_IN=2, SCHEDULE="steps", STEPS=[3])
    weights = load_checkpoint(tmp_path / "yolov3" / "last.pt", "YOLOv3")["model"]["conv.weight"]
    assert weights.flatten().tolist() == pytest.approx([0.88375] * 3)
    rows = log(tmp_path)
    assert [float(row["total"]) for row in rows] == pytest.approx([3, 3 * 0.99375, 3 * 0.89375])
    assert [float(row["learning rate"]) for row in rows] == pytest.approx([0.00625, 0.1, 0.01])


def test_the_best_stays_the_best_when_a_training_goes_on(tmp_path, monkeypatch):
    # 16 images a step: an epoch each. The later of two equals is the best; what follows the interruption is worse.
    train_three_weights(tmp_path, monkeypatch, [0.5, 0.5], BATCH_SIZE=16, MAX_STEPS=2)
    train_three_weights(tmp_path, monkeypatch, [0.5, 0.5, 0.4], BATCH_SIZE=16, MAX_STEPS=3)
    best, last = (load_checkpoint(tmp_path / "yolov3" / name, "YOLOv3") for name in ("best.pt", "last.pt"))
    assert (best["step"], last["step"], last["best_ap"]) == (2, 3, 0.5)
    assert [row["step"] for row in log(tmp_path)] == ["1", "2", "3"]


# ---- the same of the network itself, in a process of its own, as a user starts it

def start(folder, launcher=("-c",), before="", **constants):
    """Runs yolov3.train's main() with its constants changed; -> CompletedProcess"""
    settings = "".join(f"train.{name} = {value!r}\n" for name, value in {**SHORT, **constants}.items())
    program = (f"import sys, pathlib, torch\nimport yolov3.train as train\nfrom shared.errors import InputError\n"
               f"train.RUNS = pathlib.Path({str(folder)!r})\n{settings}\n"
               f"def run():\n    try: train.main()\n    except InputError as error: sys.exit(str(error))\n"
               f"if __name__ == '__main__':\n    {before or 'pass'}\n    run()\n")
    script = folder / "start.py"
    script.write_text(program)
    command = [sys.executable, *(launcher if launcher != ("-c",) else ()), str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training of four steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    result = start(folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_what_a_training_leaves(whole):
    run = whole / "yolov3"
    assert {path.name for path in run.iterdir()} == {"last.pt", "best.pt", "log.csv", "curves.png", "detections"}
    rows = log(whole)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["epoch"] for row in rows] == ["0", "1", "1", "2"]
    for row in rows:
        *terms, total = (float(row[term]) for term in ("xy", "wh", "object", "no_object", "class", "total"))
        assert total == pytest.approx(sum(terms), rel=1e-4)
        rate = train.LEARNING_RATE * (int(row["step"]) / train.BURN_IN) ** 4
        assert float(row["learning rate"]) == pytest.approx(rate)
    assert [bool(row["AP50 train"]) for row in rows] == [False, True, False, True]
    assert all(0 <= float(rows[3][f"{name} accuracy test"]) <= 1 for name in ("class", "object", "no_object"))
    state = load_checkpoint(run / "last.pt", "YOLOv3")
    assert state["step"] == 4 and state["size"] == 64 and len(state["classes"]) == 20
    assert {path.name for path in (run / "detections").iterdir()} == {"step_000002.jpg", "step_000004.jpg"}


def test_a_finished_run_says_so_and_overwrites_nothing(whole):
    before = {path: path.stat().st_mtime_ns for path in (whole / "yolov3").rglob("*")}
    result = start(whole)
    assert result.returncode == 0 and "has done its 4 steps" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in (whole / "yolov3").rglob("*")} == before


@pytest.mark.parametrize("constants, name", [
    (dict(CLASSES=["thing"] * 20), "CLASSES"), (dict(OPTIMIZER="sgd"), "OPTIMIZER"),
    (dict(ANCHORS=[[(1, 1)] * 3] * 3), "ANCHORS")])
def test_going_on_with_something_else_is_refused(whole, constants, name):
    before = (whole / "yolov3" / "last.pt").stat().st_mtime_ns
    if name == "CLASSES":
        from shared.voc import CLASSES
        constants = {"CLASSES": CLASSES[:1] + CLASSES[2:] + CLASSES[1:2]}
    result = start(whole, MAX_STEPS=6, **constants)
    assert result.returncode != 0
    assert f"trained with another {name}" in result.stderr and "Traceback" not in result.stderr
    assert (whole / "yolov3" / "last.pt").stat().st_mtime_ns == before


def test_killed_and_started_again_ends_with_the_same_weights(whole, tmp_path):
    # Killed without warning in step 4: the checkpoint is step 2's, the log one step ahead of it.
    kill = "steps = iter(range(99)); old = train.yolov3_loss; " \
           "train.yolov3_loss = lambda *a: old(*a) if next(steps) < 3 else __import__('os')._exit(9)"
    assert start(tmp_path, before=kill).returncode == 9
    assert load_checkpoint(tmp_path / "yolov3" / "last.pt", "YOLOv3")["step"] == 2 and len(log(tmp_path)) == 3
    result = start(tmp_path)
    assert result.returncode == 0, result.stderr
    one, other = (load_checkpoint(folder / "yolov3" / "last.pt", "YOLOv3")["model"] for folder in (whole, tmp_path))
    assert all(value.equal(other[key]) for key, value in one.items())
    assert [row["total"] for row in log(tmp_path)] == [row["total"] for row in log(whole)]


def test_a_loss_that_is_not_finite_stops_with_its_terms(tmp_path):
    broken = "old = train.yolov3_loss; factors = dict.fromkeys(('wh', 'total'), float('nan')); " \
             "train.yolov3_loss = lambda *a: {k: v * factors.get(k, 1) for k, v in old(*a).items()}"
    result = start(tmp_path, before=broken)
    assert result.returncode != 0
    assert "the loss of step 1 is not finite: xy " in result.stderr and "wh nan" in result.stderr
    assert not (tmp_path / "yolov3" / "last.pt").exists()


@pytest.mark.parametrize("constants, message", [
    (dict(SUBDIVISIONS=3), "BATCH_SIZE 8 cannot be divided by SUBDIVISIONS 3"), (dict(SIZE=100), "divisible by 32"),
    (dict(SIZES=[64, 65]), "divisible by 32"), (dict(OPTIMIZER="Adam"), "OPTIMIZER 'Adam' is none of"),
    (dict(SCHEDULE="Cosine"), "SCHEDULE 'Cosine' is none of"), (dict(TRAIN=[]), "TRAIN and TEST need at least one"),
    (dict(TEST=[]), "TRAIN and TEST need at least one")])
def test_constants_that_cannot_be_are_refused(tmp_path, monkeypatch, constants, message):
    for name, value in {**SHORT, "RUNS": tmp_path, **constants}.items():
        monkeypatch.setattr(train, name, value)
    with pytest.raises(InputError, match=message):
        train.main()


def test_a_users_edited_copy_says_in_one_line_what_is_wrong(tmp_path):
    # The files as a user edits and runs them. The second image's header is whole, its pixels are not: a process that
    # loads images finds out.
    for part in ("yolov3", "shared"):
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
    dataset = tmp_path / "yolov3" / "dataset.py"
    edited = re.sub(r"(?m)^(TRAIN|TEST) = .*$", rf"\1 = [({str(data)!r}, 'train')]", dataset.read_text())
    dataset.write_text(re.sub(r"(?m)^CLASSES = .*$", "CLASSES = ['cat']", edited))
    result = subprocess.run([sys.executable, "yolov3/train.py"], cwd=tmp_path, capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": str(tmp_path)})
    said = [line for line in result.stderr.splitlines() if "it/s" not in line and "?it" not in line and line.strip()]
    assert result.returncode == 1
    assert said == [f"{damaged}: cannot be read as an image (not an image file, or a damaged one)"]


@pytest.mark.slow
def test_two_processes_step_along_the_mean_of_their_halves(tmp_path):
    # Two processes with four images each stay equal to each other and do what one process does with the same eight
    # images in two subdivisions: each half has BatchNorm statistics of its own, the gradients are averaged. With SGD
    # the step is the gradient.
    sgd = dict(OPTIMIZER="sgd", LEARNING_RATE=1e-4, BURN_IN=0, MAX_STEPS=2)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    result = start(one, SUBDIVISIONS=2, **sgd)
    assert result.returncode == 0, result.stderr
    say = "import torch.distributed as d; stop = d.destroy_process_group; seen = []\n" \
          "    make = train.make_optimizer\n" \
          "    train.make_optimizer = lambda network: seen.append(network) or make(network)\n" \
          "    weights = lambda: [p.detach() for p in seen[0].parameters()]\n" \
          f"    save = lambda: torch.save(weights(), f'{two}/{{d.get_rank()}}.pt')\n" \
          "    d.destroy_process_group = lambda: (save(), stop())"
    result = start(two, ("-m", "torch.distributed.run", "--nproc-per-node=2"), before=say, **sgd)
    assert result.returncode == 0, result.stderr
    first, second = (torch.load(two / f"{rank}.pt") for rank in range(2))
    assert all(a.equal(b) for a, b in zip(first, second))
    alone = load_checkpoint(one / "yolov3" / "last.pt", "YOLOv3")["model"]
    shared = load_checkpoint(two / "yolov3" / "last.pt", "YOLOv3")["model"]
    torch.manual_seed(train.SEED)
    begun = train.YOLOv3(20).state_dict()
    for key in ("backbone.stem.conv.weight", "neck16.2.conv.weight", "detect8.1.bias"):
        moved = (alone[key] - begun[key]).norm()
        assert moved > 0 and (alone[key] - shared[key]).norm() < 1e-3 * moved


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov3/train.py, as a newcomer starts it, only with another folder for what it writes.
    program = f"import pathlib, yolov3.train as train\ntrain.RUNS = pathlib.Path({str(tmp_path)!r})\n" \
              "if __name__ == '__main__': train.main()"
    (tmp_path / "start.py").write_text(program)
    result = subprocess.run([sys.executable, str(tmp_path / "start.py")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(log(tmp_path)[-1]["AP50 train"]) >= 0.90
