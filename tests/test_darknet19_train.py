"""The schedule, top-5 and augmentation by hand; interrupted and shared trainings end where uninterrupted ones do."""
import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn as nn
from PIL import Image

import yolov2.darknet19.train as train
from shared.checkpoint import load_backbone, load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.imagenet import list_classes, read_split
from shared.paths import ROOT, SAMPLES
from yolov2.darknet19.dataset import ClassificationDataset, centre_crop, random_crop
from yolov2.darknet19.model import Darknet19
from yolov2.model import YOLOv2


# ---- the schedule

def test_darknets_learning_rate(monkeypatch):
    # (k / 1000)^4 of .1 up to step 1000, then .1 (1 - k / 800,000)^4: at 1000 .1 (799/800)^4, in the middle .1 / 16.
    for name, value in [("SCHEDULE", "poly"), ("BURN_IN", 1000), ("MAX_STEPS", 800_000), ("LEARNING_RATE", 0.1)]:
        monkeypatch.setattr(train, name, value)
    for step, rate in [(1, 1e-13), (500, 0.1 / 16), (999, 0.1 * 0.999 ** 4), (1000, 0.1 * (799 / 800) ** 4),
                       (400_000, 0.1 / 16), (600_000, 0.1 / 256), (800_000, 0)]:
        assert train.learning_rate(step) == pytest.approx(rate, rel=1e-9)


def test_the_learning_rate_of_fine_tuning(monkeypatch):
    # .001, without a burn-in, over 100,000 steps: .001 (1 - 1e-5)^4 at first, a sixteenth in the middle.
    for name, value in [("SCHEDULE", "poly"), ("BURN_IN", 0), ("MAX_STEPS", 100_000), ("LEARNING_RATE", 1e-3)]:
        monkeypatch.setattr(train, name, value)
    assert train.learning_rate(1) == pytest.approx(1e-3 * 0.99999 ** 4, rel=1e-9)
    assert train.learning_rate(50_000) == pytest.approx(6.25e-5)


def test_the_samples_learning_rate(monkeypatch):
    for name, value in [("SCHEDULE", "cosine"), ("BURN_IN", 10), ("MAX_STEPS", 200), ("LEARNING_RATE", 1e-3)]:
        monkeypatch.setattr(train, name, value)
    assert train.learning_rate(5) == pytest.approx(1e-3 / 16)
    assert train.learning_rate(100) == pytest.approx(5e-4)               # (1 + cos(pi / 2)) / 2
    assert train.learning_rate(200) == pytest.approx(0, abs=1e-12)


def test_only_convolution_weights_decay(monkeypatch):
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    monkeypatch.setattr(train, "OPTIMIZER", "sgd")
    decayed, free = train.make_optimizer(network).param_groups
    assert [p.shape for p in decayed["params"]] == [(4, 3, 1, 1), (2, 4, 1, 1)] and decayed["weight_decay"] == 5e-4
    assert [tuple(p.shape) for p in free["params"]] == [(4,), (4,), (2,)] and free["weight_decay"] == 0
    assert decayed["momentum"] == free["momentum"] == 0.9


# ---- what is measured

def test_top_1_and_top_5_worked_by_hand():
    # Seven classes. Class 2 is the first of the first image, class 6 the fifth of the second, class 6 the sixth of the
    # third.
    logits = torch.tensor([[0, 1, 9, 2, 3, 4, 5], [9, 8, 7, 6, 0, 1, 2], [9, 8, 7, 6, 5, 0, 2.0]])
    assert train.correct(logits, torch.tensor([2, 6, 6])) == (1, 2)
    assert train.correct(logits[:, :3], torch.tensor([2, 0, 2])) == (2, 3)       # of three classes all are among five


def test_evaluation_uses_the_running_averages_and_leaves_them(monkeypatch):
    monkeypatch.setattr(train, "NUM_WORKERS", 0)
    monkeypatch.setattr(train, "SIZE", 32)
    torch.manual_seed(0)
    network = Darknet19(10).train()
    images = read_split(SAMPLES / "imagenet/val", list_classes(SAMPLES / "imagenet/train"))[::8]
    before = network.stage6[5].bn.running_mean.clone()
    measured = train.evaluate(network, {"val": images}, torch.device("cpu"))
    assert network.stage6[5].bn.running_mean.equal(before)
    with torch.no_grad():
        logits = torch.cat([network.eval()(ClassificationDataset(images, 32)[i][0][None]) for i in range(5)])
    top1, top5 = train.correct(logits, torch.tensor([label for _, label in images]))
    assert measured == {"top-1 val": top1 / 5, "top-5 val": top5 / 5} and 0 < top5 < 5


def test_what_is_evaluated_of_train_shows_all_classes(monkeypatch, tmp_path):
    seen = {}

    def stop(network, splits, device):
        seen.update(splits)
        raise KeyboardInterrupt

    for name, value in [("RUNS", tmp_path), ("MAX_STEPS", 1), ("BATCH_SIZE", 2), ("SIZE", 32), ("NUM_WORKERS", 0),
                        ("EVALUATED", 20), ("evaluate", stop)]:
        monkeypatch.setattr(train, name, value)
    with pytest.raises(KeyboardInterrupt):
        train.main()
    assert [label for _, label in seen["train"]] == [label for label in range(10) for _ in range(2)]
    assert len(seen["val"]) == 40


# ---- augmentation

class Fixed:
    """Stands for a random generator: uniform(low, high) gives the next of the fractions, between low and high."""

    def __init__(self, length, power, *fractions):
        self.length, self.power, self.fractions = length, power, list(fractions)

    def uniform(self, low, high):
        return low + self.fractions.pop(0) * (high - low)

    def choice(self, powers):
        assert sorted(powers) == [-1, 1]
        return self.power

    def integers(self, low, high):
        assert low <= self.length < high
        return self.length


@pytest.fixture
def picture():
    """40 wide, 20 high: red is 4 times the column, green 8 times the row."""
    columns, rows = np.meshgrid(np.arange(40), np.arange(20))
    return np.stack([columns * 4, rows * 8, np.full_like(rows, 255)], 2).astype(np.uint8)


def cut(picture, size, length, aspect, angle, dx, dy, crops=(20, 40), limit=0.75):
    """aspect in [.75, 4/3]; angle of 90 at most; dx, dy from -1 to 1"""
    power = 1 if aspect <= 1 else -1
    fractions = [(aspect ** power - limit) / (1 - limit), (angle + 90) / 180, (dx + 1) / 2, (dy + 1) / 2]
    return random_crop(picture, size, crops, 90, limit, Fixed(length, power, *fractions))


def test_a_cut_without_scaling(picture):
    # The 10 x 10 in the middle: columns 15 to 24, rows 5 to 14. At dx = 1 the cut meets the right edge, at dy = -1 the
    # top.
    assert (cut(picture, 10, 20, 1, 0, 0, 0) == picture[5:15, 15:25]).all()
    assert (cut(picture, 10, 20, 1, 0, 1, -1) == picture[0:10, 30:40]).all()


def test_the_short_side_is_scaled(picture):
    # From 20 to 40: two pixels of the cut to one of the image. Column 0 lies at 20 - 5 / 2 = 17.5, value 70; then 18:
    # 72 ...
    out = cut(picture, 10, 40, 1, 0, 0, 0)
    assert out[3, :, 0].tolist() == [70, 72, 74, 76, 78, 80, 82, 84, 86, 88]
    assert out[:, 3, 1].tolist() == [60, 64, 68, 72, 76, 80, 84, 88, 92, 96]


def test_the_aspect_ratio(picture):
    # .75 makes the image a third wider: three quarters of a column to a pixel, 3 grey levels; rows as they are.
    out = cut(picture, 8, 20, 0.75, 0, 0, 0)
    assert out[3, :, 0].tolist() == [68, 71, 74, 77, 80, 83, 86, 89]     # the first at 20 - 4 * .75 = 17
    assert out[:, 3, 1].tolist() == [48, 56, 64, 72, 80, 88, 96, 104]
    out = cut(picture, 6, 20, 4 / 3, 0, 0, 0)                            # and the inverse makes it narrower
    assert out[3, :, 0].tolist() == pytest.approx([64, 69.33, 74.67, 80, 85.33, 90.67], abs=0.7)
    # Portrait, 20 wide and 40 high: 30 is the new length of the smaller of height and width x .75 = 15: scaled by 2.
    out = cut(picture.transpose(1, 0, 2), 8, 30, 0.75, 0, 0, 0)
    assert out[:, 3, 0].tolist() == [72, 74, 76, 78, 80, 82, 84, 86]     # rows: half a pixel each, from 20 - 4 / 2 = 18
    # Columns: .75 / 2 each, from 10 - 4 * .375 = 8.5.
    assert out[3, :, 1].tolist() == [68, 71, 74, 77, 80, 83, 86, 89]


def test_rotation(picture):
    # A quarter: what is x pixels right of the cut's middle lies x pixels below the image's, what is below lies left.
    out = cut(picture, 8, 20, 1, 90, 0, 0)
    for y, x in [(4, 4), (4, 7), (0, 4), (1, 6)]:
        assert out[y, x].tolist() == picture[10 + x - 4, 20 - (y - 4)].tolist()


def test_outside_the_image_it_is_black(picture):
    # 60 x 60 from 40 x 20: at dx = 1 the square has moved left as far as it still holds the image, which is at its
    # right.
    out = cut(picture, 60, 20, 1, 0, 1, 0)
    assert (out[20:40, 20:60] == picture).all() and out.sum() == picture.sum()
    out = cut(picture, 60, 20, 1, 0, -1, 1)
    assert (out[40:60, 0:40] == picture).all() and out.sum() == picture.sum()


def test_the_middle_by_hand():
    # 5 x 3: the middle columns 1 to 3 of 10, 20, 30 become five pixels, corners on corners: 10 15 20 25 30.
    image = np.repeat(np.array([[[99], [10], [20], [30], [77]]] * 3, np.uint8), 3, 2)
    out = centre_crop(image, 5)
    assert out.shape == (3, 5, 5)
    assert (out[1, 2] * 255).tolist() == pytest.approx([10, 15, 20, 25, 30], abs=1e-3)
    assert centre_crop(image.transpose(1, 0, 2), 5)[1, :, 2].tolist() == pytest.approx(out[1, 2].tolist())


def test_the_dataset(tmp_path):
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, 20:80] = (200, 100, 50)
    Image.fromarray(image).save(tmp_path / "a.png")
    pixels, label = ClassificationDataset([("nothing", 0), (tmp_path / "a.png", 3)], 32)[1]
    assert label == 3 and (pixels * 255).mean((1, 2)).tolist() == pytest.approx([200, 100, 50], abs=1e-3)
    augmented = ClassificationDataset([(tmp_path / "a.png", 3)], 32, (24, 60), augment=True)
    one, again, other = augmented[0, 7], augmented[0, 7], augmented[0, 8]
    assert one[1] == 3 and one[0].shape == (3, 32, 32) and 0 <= one[0].min() < one[0].max() <= 1
    assert one[0].equal(again[0]) and not one[0].equal(other[0])


def test_flips_and_colours(tmp_path):
    # A grey row above one that is red at the left and blue at the right. The grey keeps its hue and saturation: its
    # value times .75 to 1.333. About half of the pictures have the blue at the left.
    image = np.full((40, 40, 3), 120, np.uint8)
    image[20:, :20], image[20:, 20:] = (180, 60, 60), (60, 60, 180)
    Image.fromarray(image).save(tmp_path / "a.png")
    dataset = ClassificationDataset([(tmp_path / "a.png", 0)], 40, (40, 40), augment=True)
    dataset.angle, dataset.aspect = 0, 1
    pictures = [dataset[0, draw][0] for draw in range(200)]
    grey = np.array([picture[:, 5].mean().item() * 255 / 120 for picture in pictures])
    assert 0.74 < grey.min() < 0.8 and 1.27 < grey.max() < 1.34
    mirrored = [(picture[0, 35, 5] < picture[2, 35, 5]).item() for picture in pictures]
    assert 0.4 < np.mean(mirrored) < 0.6
    # Red and blue have two equal channels, a third of the strongest: saturation changes the third, hue the equality.
    low, middle, high = np.array([picture[:, 35, 5].sort().values.tolist() for picture in pictures]).T
    assert (low / high).min() < 0.2 and (low / high).max() > 0.4
    assert ((middle - low) / high).max() > 0.3 and ((middle - low) / high).min() < 0.05


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_draw_what_one_process_draws(method):
    images = read_split(SAMPLES / "imagenet/val", list_classes(SAMPLES / "imagenet/train"))
    dataset = ClassificationDataset(images, 32, (24, 60), augment=True)
    keys = [[(5, (0, n)), (6, (0, n + 1))] for n in range(4)]
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=keys, num_workers=2, multiprocessing_context=method)
    pictures = []
    for (pixels, labels), batch in zip(loader, keys):
        assert pixels.equal(torch.stack([dataset[key][0] for key in batch])) and labels.tolist() == [1, 1]
        pictures.append(pixels[0])
    assert all(not a.equal(b) for i, a in enumerate(pictures) for b in pictures[:i])


# ---- what is loaded

def test_every_epoch_holds_every_image_once(monkeypatch):
    for name, value in [("BATCH_SIZE", 4), ("SUBDIVISIONS", 2), ("MAX_STEPS", 5)]:
        monkeypatch.setattr(train, name, value)
    loaded = [key for batch in train.batches(10, 1, 0, 1) for key in batch]
    assert [n for _, (_, n) in loaded] == list(range(20))
    assert sorted(key[0] for key in loaded[:10]) == sorted(key[0] for key in loaded[10:]) == list(range(10))
    assert [key[0] for key in loaded[:10]] != [key[0] for key in loaded[10:]]


def test_interrupted_or_shared_the_images_are_the_same(monkeypatch):
    for name, value in [("BATCH_SIZE", 8), ("SUBDIVISIONS", 2), ("MAX_STEPS", 4)]:
        monkeypatch.setattr(train, name, value)
    whole = list(train.batches(10, 1, 0, 1))
    assert list(train.batches(10, 3, 0, 1)) == whole[4:]                  # two steps of two subdivisions are done
    halves = [list(train.batches(10, 1, rank, 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*halves)] == whole


# ---- whole trainings of a few steps

SHORT = dict(MAX_STEPS=4, BATCH_SIZE=40, SIZE=32, CROPS=(24, 60), AUGMENT=True, EVALUATE_EVERY=1, CHECKPOINT_EVERY=1,
             NUM_WORKERS=0, EVALUATED=20)


def start(folder, launcher=(), before="pass", **constants):
    """Runs main() with its constants changed in a process of its own, as a user starts it; -> CompletedProcess"""
    settings = "".join(f"train.{name} = {value!r}\n" for name, value in {**SHORT, **constants}.items())
    script = folder / "start.py"
    script.write_text(f"import os, pathlib, torch\nimport yolov2.darknet19.train as train\n"
                      f"train.RUNS = pathlib.Path({str(folder)!r})\n{settings}"
                      f"if __name__ == '__main__':\n    {before}\n    train.main()\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, *launcher, str(script)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def log(folder):
    with open(folder / "darknet19" / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training of four steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    result = start(folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def here(monkeypatch, tmp_path):
    """The constants of a short training in this process."""
    for name, value in {**SHORT, "RUNS": tmp_path}.items():
        monkeypatch.setattr(train, name, value)
    return monkeypatch


def test_what_a_training_leaves(whole):
    run = whole / "darknet19"
    assert {path.name for path in run.iterdir()} == {"last.pt", "best.pt", "backbone.pt", "log.csv", "curves.png"}
    rows = log(whole)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["epoch"] for row in rows] == ["0", "1", "1", "2"]
    assert [float(row["learning rate"]) for row in rows] == pytest.approx([1e-3 * (n / 10) ** 4 for n in (1, 2, 3, 4)])
    assert [bool(row["top-5 val"]) for row in rows] == [False, True, False, True]
    assert 2 < float(rows[0]["loss"]) < 4                                 # ln 10 = 2.3 for a network that knows nothing
    state = load_checkpoint(run / "last.pt", "Darknet19")
    assert state["step"] == 4 and state["size"] == 32 and state["classes"] == list_classes(train.TRAIN)
    # best.pt is of the last of the evaluations with the highest top-1 on val.
    top1 = {int(row["step"]): float(row["top-1 val"]) for row in rows if row["top-1 val"]}
    assert load_checkpoint(run / "best.pt", "Darknet19")["step"] == max(top1, key=lambda step: (top1[step], step))


def test_backbone_fits_into_a_detector(whole):
    # backbone.pt holds what YOLOv2's backbone has and nothing else, and gives there what best.pt gives here.
    best, backbone = load_checkpoint(whole / "darknet19/best.pt", "Darknet19"), YOLOv2().backbone.eval()
    load_backbone(backbone, whole / "darknet19/backbone.pt")
    state = load_checkpoint(whole / "darknet19/backbone.pt", "Darknet19")
    assert set(state["model"]) == set(backbone.state_dict()) and state["classes"] == best["classes"]
    classifier, features = Darknet19(10).eval(), []
    classifier.load_state_dict(best["model"])
    for stage in (classifier.stage5, classifier.stage6):
        stage.register_forward_hook(lambda layer, inputs, output: features.append(output))
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        classifier(image)
        assert all(a.equal(b) and a.std() > 0 for a, b in zip(features, backbone(image), strict=True))


def test_a_finished_run_says_so_and_overwrites_nothing(whole, tmp_path):
    # The script itself, as it is committed, with a last.pt of its last step.
    last = tmp_path / "darknet19" / "last.pt"
    save_checkpoint(last, {**load_checkpoint(whole / "darknet19/last.pt", "Darknet19"), "step": train.MAX_STEPS})
    before = last.stat().st_mtime_ns
    program = f"import pathlib, runpy, shared.paths\nshared.paths.RUNS = pathlib.Path({str(tmp_path)!r})\n" \
              "runpy.run_module('yolov2.darknet19.train', run_name='__main__')\n"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith(f"{last} has done its {train.MAX_STEPS} steps.")
    assert last.stat().st_mtime_ns == before and list(last.parent.iterdir()) == [last]


def linked(folder, classes, left_out=()):
    """The sample's training images but some, as links in another folder."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for image in (train.TRAIN / name).iterdir():
            if image.name not in left_out:
                (folder / name / image.name).symlink_to(image)
    return folder


def test_going_on_with_something_else_is_refused(whole, here, tmp_path):
    last = whole / "darknet19" / "last.pt"
    classes, before = list_classes(train.TRAIN), last.stat().st_mtime_ns
    here.setattr(train, "RUNS", whole)
    here.setattr(train, "MAX_STEPS", 6)
    with here.context() as changed:
        changed.setattr(train, "OPTIMIZER", "sgd")
        with pytest.raises(InputError, match="last.pt: was trained with another OPTIMIZER"):
            train.main()
    fewer_images = linked(tmp_path / "images", classes, ["n02690373_4.JPEG"])
    fewer_classes = linked(tmp_path / "classes/train", classes[1:])
    for folder, val in [(fewer_images, train.VAL), (fewer_classes, fewer_classes)]:
        with here.context() as changed:
            changed.setattr(train, "TRAIN", folder)
            changed.setattr(train, "VAL", val)
            with pytest.raises(InputError, match="last.pt: was trained with another TRAIN"):
                train.main()
    assert last.stat().st_mtime_ns == before and len(log(whole)) == 4


def test_killed_and_started_again_ends_with_the_same_weights(whole, tmp_path):
    # Killed without warning in step 4: the checkpoint is step 2's, the log one step ahead of it.
    kill = "steps, old = iter(range(99)), train.F.cross_entropy; " \
           "train.F.cross_entropy = lambda *a: old(*a) if next(steps) < 3 else os._exit(9)"
    assert start(tmp_path, before=kill).returncode == 9
    assert load_checkpoint(tmp_path / "darknet19" / "last.pt", "Darknet19")["step"] == 2 and len(log(tmp_path)) == 3
    result = start(tmp_path)
    assert result.returncode == 0, result.stderr
    one, other = (load_checkpoint(folder / "darknet19" / "last.pt", "Darknet19")["model"]
                  for folder in (whole, tmp_path))
    assert all(value.equal(other[key]) for key, value in one.items())
    assert log(tmp_path) == log(whole)


def test_a_loss_that_is_not_finite_stops(here, tmp_path):
    here.setattr(train.F, "cross_entropy", lambda logits, labels: logits.sum() * float("nan"))
    with pytest.raises(SystemExit, match="the loss of step 1 is not finite: nan"):
        train.main()
    assert not (tmp_path / "darknet19" / "last.pt").exists()


def test_a_batch_that_cannot_be_divided(here):
    here.setattr(train, "SUBDIVISIONS", 3)
    with pytest.raises(InputError, match="BATCH_SIZE 40 cannot be divided by SUBDIVISIONS 3 x 1 processes"):
        train.main()


def test_subdivisions_step_along_the_mean(here, tmp_path):
    # Two steps of 16 images in two halves: each step's gradient is the mean of its own two halves' gradients, worked
    # out here; v = g, w = w - .01 v; then v = .9 v + g, w = w - .01 v.
    for name, value in [("MAX_STEPS", 2), ("BATCH_SIZE", 16), ("SUBDIVISIONS", 2), ("OPTIMIZER", "sgd"), ("BURN_IN", 0),
                        ("SCHEDULE", "poly"), ("POWER", 0), ("LEARNING_RATE", 0.01), ("WEIGHT_DECAY", 0), ("SIZE", 64),
                        ("CROPS", (48, 120))]:
        here.setattr(train, name, value)
    train.main()
    after = load_checkpoint(tmp_path / "darknet19/last.pt", "Darknet19")["model"]["classify.weight"]
    torch.manual_seed(train.SEED)
    network = Darknet19(10).train()
    weights, begun = list(network.parameters()), network.classify.weight.detach().clone()
    velocity = [torch.zeros_like(weight) for weight in weights]
    dataset = ClassificationDataset(read_split(train.TRAIN, list_classes(train.TRAIN)), 64, (48, 120), augment=True)
    halves = list(train.batches(80, 1, 0, 1))
    for step in (halves[:2], halves[2:]):
        gradients = []
        for half in step:
            images, labels = zip(*(dataset[key] for key in half))
            assert len(images) == 8
            loss = -network(torch.stack(images)).log_softmax(1)[range(8), labels].mean()
            gradients.append(torch.autograd.grad(loss, weights))
        with torch.no_grad():
            for weight, v, first, second in zip(weights, velocity, *gradients):
                weight -= 0.01 * v.mul_(0.9).add_((first + second) / 2)
    assert (after - network.classify.weight).norm() < 5e-2 * (after - begun).norm()


def test_starting_from_other_weights(whole, here, tmp_path):
    # With a rate of 0 the convolutions stay what they are in START.
    best = whole / "darknet19" / "best.pt"
    for name, value in [("START", best), ("RUN", "fine"), ("LEARNING_RATE", 0.0), ("MAX_STEPS", 1), ("BATCH_SIZE", 2)]:
        here.setattr(train, name, value)
    train.main()
    begun, ended = (load_checkpoint(path, "Darknet19")["model"] for path in (best, tmp_path / "fine" / "last.pt"))
    for key in ("stage1.0.conv.weight", "stage6.5.conv.weight", "classify.bias"):
        assert begun[key].equal(ended[key])
    assert (begun["stage6.5.bn.running_mean"] - ended["stage6.5.bn.running_mean"]).abs().max() > 0
    save_checkpoint(tmp_path / "other.pt", {**load_checkpoint(best, "Darknet19"), "classes": ["n01440764"]})
    here.setattr(train, "START", tmp_path / "other.pt")
    here.setattr(train, "RUN", "finer")
    with pytest.raises(InputError, match="other.pt: was trained on other classes"):
        train.main()


@pytest.mark.slow
def test_two_processes_step_along_the_mean_of_their_halves(tmp_path):
    # Two processes with twenty images each stay equal to each other and do what one process does with the same forty
    # images in two subdivisions: each half has BatchNorm statistics of its own, the gradients are averaged.
    sgd = dict(OPTIMIZER="sgd", LEARNING_RATE=1e-2, BURN_IN=0, MAX_STEPS=2)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    result = start(one, SUBDIVISIONS=2, **sgd)
    assert result.returncode == 0, result.stderr
    say = "import torch.distributed as d; stop, make, seen = d.destroy_process_group, train.make_optimizer, []\n" \
          "    train.make_optimizer = lambda network: seen.append(network) or make(network)\n" \
          "    d.destroy_process_group = lambda: (torch.save([p.detach() for p in seen[0].parameters()], " \
          f"f'{two}/{{d.get_rank()}}.pt'), stop())"
    result = start(two, ("-m", "torch.distributed.run", "--nproc-per-node=2"), before=say, **sgd)
    assert result.returncode == 0, result.stderr
    first, second = (torch.load(two / f"{rank}.pt") for rank in range(2))
    assert all(a.equal(b) for a, b in zip(first, second))
    alone, shared = (load_checkpoint(folder / "darknet19/last.pt", "Darknet19")["model"] for folder in (one, two))
    torch.manual_seed(train.SEED)
    begun = Darknet19(10).state_dict()
    for key in ("stage1.0.conv.weight", "stage6.5.conv.weight", "classify.bias"):
        moved = (alone[key] - begun[key]).norm()
        assert moved > 0 and (alone[key] - shared[key]).norm() < 1e-3 * moved
    assert len(log(two)) == 2


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov2/darknet19/train.py, as a newcomer starts it, only with another folder for what it writes.
    (tmp_path / "start.py").write_text(f"import pathlib, yolov2.darknet19.train as train\n"
                                       f"train.RUNS = pathlib.Path({str(tmp_path)!r})\n"
                                       "if __name__ == '__main__': train.main()")
    result = subprocess.run([sys.executable, str(tmp_path / "start.py")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(log(tmp_path)[-1]["top-1 train"]) >= 0.95
