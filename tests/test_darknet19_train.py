"""
Darknet-19's augmentation and schedule by hand; and the three classifiers' training scripts, which share their text, on
small networks that stand in for the real ones. tests/test_extraction_train.py and tests/test_darknet53_train.py have
what is different there.
"""
import csv
import os
import pickle
import runpy
import subprocess
import sys
from itertools import cycle

import numpy as np
import pytest
import torch
import torch.nn as nn
from PIL import Image

import yolov1.extraction.train
import yolov2.darknet19.dataset
import yolov2.darknet19.train
import yolov3.darknet53.train
from shared.checkpoint import load_backbone, load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.imagenet import list_classes, read_split
from shared.paths import ROOT, RUNS, SAMPLES
from yolov2.darknet19.dataset import ClassificationDataset, centre_crop, random_crop
from yolov2.darknet19.model import Darknet19
from yolov2.model import Backbone


# ---- the authors' values

def preset(monkeypatch, name):
    """The constants and functions of train.py with another PRESET."""
    monkeypatch.setattr(yolov2.darknet19.dataset, "PRESET", name)
    return runpy.run_path(yolov2.darknet19.train.__file__)


def test_darknets_values(monkeypatch):
    # The learning rate is .1 (k / 1000)^4 up to step 1000, and then .1 (1 - k / 800,000)^4: at step 1000 .1
    # (799/800)^4, in the middle .1 / 16.
    values = preset(monkeypatch, "darknet")
    for step, rate in [(1, 1e-13), (500, 0.1 / 16), (999, 0.1 * 0.999 ** 4), (1000, 0.1 * (799 / 800) ** 4),
                       (400_000, 0.1 / 16), (600_000, 0.1 / 256), (800_000, 0)]:
        assert values["learning_rate"](step) == pytest.approx(rate, rel=1e-9)
    assert (values["RUN"], values["START"], values["SIZE"], values["CROPS"]) == ("darknet19", None, 256, (128, 448))
    assert (values["BATCH_SIZE"], values["SUBDIVISIONS"], values["AUGMENT"]) == (128, 2, True)


def test_darknets_values_for_fine_tuning(monkeypatch):
    # .001 (1 - k / 100,000)^4 without a burn-in: .001 (1 - 1e-5)^4 at first, a sixteenth of .001 in the middle.
    values = preset(monkeypatch, "darknet_448")
    assert values["learning_rate"](1) == pytest.approx(1e-3 * 0.99999 ** 4, rel=1e-9)
    assert values["learning_rate"](50_000) == pytest.approx(6.25e-5)
    assert (values["RUN"], values["START"]) == ("darknet19_448", RUNS / "darknet19" / "best.pt")
    assert (values["SIZE"], values["CROPS"]) == (448, (448, 512))
    assert (values["BATCH_SIZE"], values["SUBDIVISIONS"], values["AUGMENT"]) == (128, 4, True)


def test_preset_chooses_the_data():
    text = (ROOT / "yolov2/darknet19/dataset.py").read_text()
    for name, folder in [("sample", SAMPLES / "imagenet"), ("darknet", ROOT / "imagenet"),
                         ("darknet_448", ROOT / "imagenet")]:
        values = {"__name__": "dataset"}
        exec(text.replace('PRESET = "sample"', f'PRESET = "{name}"'), values)
        assert (values["TRAIN"], values["VAL"]) == (folder / "train", folder / "val")


# ---- augmentation

class Fixed:
    """
    Stands for a random generator. uniform(low, high) returns low + f (high - low) for the next f of the fractions;
    integers returns the length and choice the power.
    """

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


def crop(picture, size, length, aspect, angle, dx, dy, crops=(20, 40), limit=0.75):
    """
    random_crop with given values instead of random ones.

    length  that the short side of the image gets
    aspect  from .75 to 4/3; the width of the image is divided by it
    angle   degrees, 90 at most
    dx, dy  from -1 to 1, of the largest distance between the centre of the image and that of the crop
    """
    power = 1 if aspect <= 1 else -1
    fractions = [(aspect ** power - limit) / (1 - limit), (angle + 90) / 180, (dx + 1) / 2, (dy + 1) / 2]
    return random_crop(picture, size, crops, 90, limit, Fixed(length, power, *fractions))


def test_a_crop_without_scaling(picture):
    # The 10 x 10 pixels in the middle are columns 15 to 24 and rows 5 to 14. With dx = 1 the crop meets the right edge
    # of the image, with dy = -1 the top.
    assert (crop(picture, 10, 20, 1, 0, 0, 0) == picture[5:15, 15:25]).all()
    assert (crop(picture, 10, 20, 1, 0, 1, -1) == picture[0:10, 30:40]).all()


def test_the_short_side_is_scaled(picture):
    # The short side grows from 20 to 40, so two pixels of the crop are one of the image. Column 0 of the crop is column
    # 20 - 5 / 2 = 17.5 of the image, where red is 70; the next is column 18, where it is 72. Row 0 is row
    # 10 - 5 / 2 = 7.5, where green is 60.
    out = crop(picture, 10, 40, 1, 0, 0, 0)
    assert out[3, :, 0].tolist() == [70, 72, 74, 76, 78, 80, 82, 84, 86, 88]
    assert out[:, 3, 1].tolist() == [60, 64, 68, 72, 76, 80, 84, 88, 92, 96]


def test_the_aspect_ratio(picture):
    # .75 makes the image a third wider, so a pixel of the crop is three quarters of a column, 3 grey levels, and one
    # row. The first is at column 20 - (4)(.75) = 17.
    out = crop(picture, 8, 20, 0.75, 0, 0, 0)
    assert out[3, :, 0].tolist() == [68, 71, 74, 77, 80, 83, 86, 89]   
    assert out[:, 3, 1].tolist() == [48, 56, 64, 72, 80, 88, 96, 104]
    # 4/3 makes it narrower: the first is at column 20 - (3)(4/3) = 16.
    out = crop(picture, 6, 20, 4 / 3, 0, 0, 0)
    assert out[3, :, 0].tolist() == pytest.approx([64, 69.33, 74.67, 80, 85.33, 90.67], abs=0.7)
    # A portrait, 20 wide and 40 high. The smaller of its height and (.75)(20) = 15 becomes 30, so the scale is 2. A row
    # of the crop is half a row of the image, beginning at 20 - 4 / 2 = 18. A column is .75 / 2 = .375 of a column,
    # beginning at 10 - (4)(.375) = 8.5.
    out = crop(picture.transpose(1, 0, 2), 8, 30, 0.75, 0, 0, 0)
    assert out[:, 3, 0].tolist() == [72, 74, 76, 78, 80, 82, 84, 86]
    assert out[3, :, 1].tolist() == [68, 71, 74, 77, 80, 83, 86, 89]


def test_rotation(picture):
    # 90 degrees: x pixels to the right of the crop's centre are x pixels below the image's, y pixels below are y to the
    # left.
    out = crop(picture, 8, 20, 1, 90, 0, 0)
    for y, x in [(4, 4), (4, 7), (0, 4), (1, 6)]:
        assert out[y, x].tolist() == picture[10 + x - 4, 20 - (y - 4)].tolist()


def test_outside_the_image_it_is_black(picture):
    # The crop, 60 x 60, contains the whole image, 40 x 20. With dx = 1 the right edges meet, with dx = -1 the left
    # ones, with dy = 1 the lower ones.
    out = crop(picture, 60, 20, 1, 0, 1, 0)
    assert (out[20:40, 20:60] == picture).all() and out.sum() == picture.sum()
    out = crop(picture, 60, 20, 1, 0, -1, 1)
    assert (out[40:60, 0:40] == picture).all() and out.sum() == picture.sum()


def test_the_middle_by_hand():
    # The image is 5 wide and 3 high. Its middle columns 10, 20, 30 become five pixels with aligned corners: 10, 15, 20,
    # 25, 30. Without aligned corners they would be 10, 14, 20, 26, 30.
    image = np.repeat(np.array([[[99], [10], [20], [30], [77]]] * 3, np.uint8), 3, 2)
    out = centre_crop(image, 5)
    assert out.shape == (3, 5, 5)
    assert (out[1, 2] * 255).tolist() == pytest.approx([10, 15, 20, 25, 30], abs=1e-3)
    square = torch.tensor([10.0, 20, 30]).view(1, 1, 1, 3)
    other = torch.nn.functional.interpolate(square, (1, 5), mode="bilinear", align_corners=False)
    assert other.flatten().tolist() == pytest.approx([10, 14, 20, 26, 30])
    assert centre_crop(image.transpose(1, 0, 2), 5)[1, :, 2].tolist() == pytest.approx(out[1, 2].tolist())


def test_the_dataset(monkeypatch, tmp_path):
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, 20:80] = (200, 100, 50)
    Image.fromarray(image).save(tmp_path / "a.png")
    pixels, label = ClassificationDataset([("nothing", 0), (tmp_path / "a.png", 3)], 32)[1]
    assert label == 3 and (pixels * 255).mean((1, 2)).tolist() == pytest.approx([200, 100, 50], abs=1e-3)
    augmented = ClassificationDataset([(tmp_path / "a.png", 3)], 32, (24, 60), augment=True)
    one, again, other = augmented[0, 7], augmented[0, 7], augmented[0, 8]
    assert one[1] == 3 and one[0].shape == (3, 32, 32) and 0 <= one[0].min() < one[0].max() <= 1
    assert one[0].equal(again[0]) and not one[0].equal(other[0])
    # Its crop is turned by up to 7 degrees and its width changed by up to .75.
    given = []
    monkeypatch.setattr(yolov2.darknet19.dataset, "random_crop",
                        lambda image, *arguments: given.append(arguments[:4]) or image[:32, :32])
    augmented[0, 7]
    assert given == [(32, (24, 60), 7, 0.75)]


def test_flips_and_colours(tmp_path):
    # The upper half is grey, the lower one red at the left and blue at the right. Hue and saturation do not change
    # grey; the exposure multiplies it by .75 to 1.333. In about half of the pictures the blue is at the left.
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
    # Mirror image and exposure are independent. With one seed for both transforms they would be correlated.
    assert abs(np.corrcoef(mirrored, grey)[0, 1]) < 0.25
    # In this red and blue, the two weaker channels are equal and a third of the strongest. The saturation changes the
    # third, the hue makes the two unequal.
    low, middle, high = np.array([picture[:, 35, 5].sort().values.tolist() for picture in pictures]).T
    assert (low / high).min() < 0.2 and (low / high).max() > 0.4
    assert ((middle - low) / high).max() > 0.3 and ((middle - low) / high).min() < 0.05


def test_workers_draw_what_one_process_draws():
    # With fork, a worker process has a copy of the dataset. With spawn it has a pickled one, here tested without a
    # process.
    images = read_split(SAMPLES / "imagenet/val", list_classes(SAMPLES / "imagenet/train"))
    dataset = ClassificationDataset(images, 32, (24, 60), augment=True)
    keys = [[(5, (0, n)), (6, (0, n + 1))] for n in range(4)]
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=keys, num_workers=2, multiprocessing_context="fork")
    pickled = pickle.loads(pickle.dumps(dataset))
    pictures = []
    for (pixels, labels), batch in zip(loader, keys):
        assert pixels.equal(torch.stack([dataset[key][0] for key in batch])) and labels.tolist() == [1, 1]
        assert pixels.equal(torch.stack([pickled[key][0] for key in batch]))
        pictures.append(pixels[0])
    assert all(not a.equal(b) for i, a in enumerate(pictures) for b in pictures[:i])


# ---- the three training scripts

class SmallNetwork(nn.Module):
    """Stands for a classifier: a convolution with BatchNorm, the average over the image, the layer of the classes."""

    def __init__(self, num_classes):
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(0.1))
        self.classify = nn.Conv2d(4, num_classes, 1)

    def forward(self, images):
        return self.classify(self.stage1(images).mean((2, 3), keepdim=True)).flatten(1)


class ThreeWeights(nn.Module):
    """
    Stands for a classifier: a convolution of three weights, 1 each. It answers every batch with their sum. Its
    BatchNorm sees the numbers 1 and 3 in each batch and changes nothing.
    """

    def __init__(self, *_):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)
        self.bn = nn.BatchNorm2d(1, affine=False)

    def forward(self, images):
        self.bn(torch.tensor([1.0, 3]).view(2, 1, 1, 1))
        return self.conv.weight.sum()


SHORT = dict(MAX_STEPS=4, BATCH_SIZE=8, SIZE=32, CROPS=(24, 60), EVALUATE_EVERY=100, CHECKPOINT_EVERY=100,
             NUM_WORKERS=0, MAX_TRAIN_EVALUATED=20)


class Script:
    """One of the three train.py, with short constants and a small network. It draws no curves, which takes long."""

    def __init__(self, module, name, monkeypatch, tmp_path):
        self.module, self.name, self.monkeypatch = module, name, monkeypatch
        self.folder = tmp_path / module.RUN
        self.set(**SHORT, **{"RUNS": tmp_path, name: SmallNetwork}, write_training_curves=lambda *_, title: None)

    def set(self, **constants):
        for name, value in constants.items():
            self.monkeypatch.setattr(self.module, name, value)

    def train_three_weights(self, top1=lambda step: (0, 0), **constants):
        """
        Runs main() on three weights. Their sum is the loss, and the optimizer is plain gradient descent. top1 gives the
        top-1 accuracies on train and val of the evaluation after a step.
        """
        split = cycle([0, 1])                                            # an evaluation measures train, then val

        def top_accuracies(*_):
            return top1(len(self.log()) + 1)[next(split)], 1

        self.monkeypatch.setattr(self.module.F, "cross_entropy", lambda total, labels: total)
        self.set(**{self.name: ThreeWeights}, top_accuracies=top_accuracies, OPTIMIZER="sgd", MOMENTUM=0,
                 WEIGHT_DECAY=0, **constants)
        self.module.main()

    def load(self, name):
        return load_checkpoint(self.folder / name, self.name)

    def log(self):
        with open(self.folder / "log.csv", newline="") as file:
            return list(csv.DictReader(file))


SCRIPTS = [(yolov1.extraction.train, "Extraction"), (yolov2.darknet19.train, "Darknet19"),
           (yolov3.darknet53.train, "Darknet53")]


@pytest.fixture(params=SCRIPTS, ids=lambda param: param[1])
def script(request, monkeypatch, tmp_path):
    return Script(*request.param, monkeypatch, tmp_path)


def test_the_sample_has_a_folder_of_its_own(script):
    # Otherwise the training on ImageNet would find the sample's last.pt in its folder, and stop.
    folders = {"Extraction": "extraction_sample", "Darknet19": "darknet19_sample", "Darknet53": "darknet53_sample"}
    assert script.module.RUN == folders[script.name]


def test_the_samples_learning_rate(script):
    script.set(SCHEDULE="cosine", BURN_IN=10, MAX_STEPS=200, LEARNING_RATE=1e-3)
    assert script.module.learning_rate(5) == pytest.approx(1e-3 / 16)
    assert script.module.learning_rate(100) == pytest.approx(5e-4)           # (1 + cos(pi / 2)) / 2
    assert script.module.learning_rate(200) == pytest.approx(0, abs=1e-12)


def test_only_convolution_weights_decay(script):
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    script.set(OPTIMIZER="sgd")
    decayed, free = script.module.make_optimizer(network).param_groups
    assert [p.shape for p in decayed["params"]] == [(4, 3, 1, 1), (2, 4, 1, 1)] and decayed["weight_decay"] == 5e-4
    assert [tuple(p.shape) for p in free["params"]] == [(4,), (4,), (2,)] and free["weight_decay"] == 0
    assert decayed["momentum"] == free["momentum"] == 0.9


@pytest.mark.parametrize("subdivisions", [1, 2, 4])
def test_steps_by_hand(script, subdivisions):
    # Every gradient is 1, and so is the mean of the subdivisions' gradients. The learning rates of the three steps are
    # .1 (1/2)^4 = .00625, .1 (1 - 2/3)^1 = .1 / 3 and .1 (1 - 3/3)^1 = 0. So the weights are 1, then .99375, then
    # .99375 - .1 / 3 = .960417, and stay there. The loss is the sum of the three weights before each step.
    script.train_three_weights(MAX_STEPS=3, SUBDIVISIONS=subdivisions, LEARNING_RATE=0.1, BURN_IN=2, SCHEDULE="poly",
                               POWER=1)
    weights = script.load("last.pt")["model"]["conv.weight"]
    assert weights.flatten().tolist() == pytest.approx([0.960417] * 3, abs=1e-6)
    rows = script.log()
    assert [float(row["loss"]) for row in rows] == pytest.approx([3, 3 * 0.99375, 3 * 0.960417], abs=1e-5)
    assert [float(row["learning rate"]) for row in rows] == pytest.approx([0.00625, 0.1 / 3, 0])


def test_the_momentum_of_batchnorm(script):
    # The mean of 1 and 3 is 2. The running average begins at 0 and becomes (.75)(0) + (.25)(2) = .5.
    script.train_three_weights(MAX_STEPS=1, BATCHNORM_MOMENTUM=0.25)
    assert script.load("last.pt")["model"]["bn.running_mean"].item() == 0.5


def test_what_a_training_loads(script):
    # SIZE, CROPS and AUGMENT reach the dataset. In ten steps of 16 images, each of the 80 is loaded twice, each time
    # with a seed of its own.
    loaded = []

    class Recorder:
        def __init__(self, images, *arguments):
            self.images, self.arguments = images, arguments

        def __getitem__(self, key):
            loaded.append((self.images[key[0]][0], key[1], self.arguments))
            return torch.zeros(3, 8, 8), 0

        def __len__(self):
            return len(self.images)

    script.train_three_weights(ClassificationDataset=Recorder, MAX_STEPS=10, BATCH_SIZE=16, SIZE=40, CROPS=(41, 43),
                               AUGMENT=True)
    paths, seeds, arguments = zip(*loaded)
    assert set(arguments) == {(40, (41, 43), True)}
    assert len(set(paths)) == len(set(paths[:80])) == len(set(paths[80:])) == 80
    assert seeds == tuple((script.module.SEED, n) for n in range(160))


def test_what_is_evaluated_of_train_shows_all_classes(script):
    # 20 of the 80 images of TRAIN: every fourth, two of each class. VAL has 40.
    seen = []

    def top_accuracies(network, dataset, *_):
        seen.append([label for _, label in dataset.images])
        return 0, 0

    script.set(top_accuracies=top_accuracies, MAX_STEPS=1)
    script.module.main()
    assert seen[0] == [label for label in range(10) for _ in range(2)]
    assert len(seen[1]) == 40


def test_what_a_training_leaves(script):
    # 7 steps of 40 images, of which an epoch has 80; evaluated every 3 steps, saved every 2, and both at the end.
    saved, save, drawn = [], script.module.save_checkpoint, []

    def save_checkpoint(path, state):
        saved.append(state["step"])
        save(path, state)

    script.train_three_weights(save_checkpoint=save_checkpoint, MAX_STEPS=7, BATCH_SIZE=40, EVALUATE_EVERY=3,
                               CHECKPOINT_EVERY=2, write_training_curves=lambda *paths, title: drawn.append(paths[:2]))
    assert {path.name for path in script.folder.iterdir()} == {".lock", "last.pt", "best.pt", "backbone.pt", "log.csv"}
    assert drawn == [(script.folder / "curves.png", script.folder / "log.csv")] * 4
    rows = script.log()
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6", "7"]
    assert [row["epoch"] for row in rows] == ["0", "1", "1", "2", "2", "3", "3"]
    assert [row["step"] for row in rows if row["top-1 val"]] == ["3", "6", "7"]
    assert saved == [2, 4, 6, 7]
    state = script.load("last.pt")
    assert (state["network"], state["size"], state["step"], state["optimizer"]) == (script.name, 32, 7, "sgd")
    assert state["classes"] == list_classes(script.module.TRAIN) and state["train"][0] == 80
    assert {"best", "optimizer_state"} == set(state) - set(script.load("best.pt"))
    assert set(script.load("best.pt")) == set(script.load("backbone.pt"))


def test_the_best_is_chosen_by_val_and_the_later_of_two_equals(script):
    # Top-1 on train and val at steps 1 to 4: .9 and .2, .1 and .3, .1 and .3, .9 and .2. The best is step 3. It stays
    # the best when the training goes on to step 5, which has .9 and .1.
    results = {1: (0.9, 0.2), 2: (0.1, 0.3), 3: (0.1, 0.3), 4: (0.9, 0.2), 5: (0.9, 0.1)}
    for max_steps in (4, 5):
        script.train_three_weights(results.get, EVALUATE_EVERY=1, MAX_STEPS=max_steps)
        assert (script.load("best.pt")["step"], script.load("last.pt")["best"]) == (3, 0.3)
        assert script.load("backbone.pt")["step"] == 3
    assert [row["step"] for row in script.log()] == ["1", "2", "3", "4", "5"]


def test_subdivisions_step_along_the_mean(script):
    # Two steps of 16 images in two halves, with an evaluation between them. BatchNorm averages over a half. Each step's
    # gradient g is the mean of the gradients of its halves, computed here with the images that the script loads: v = g,
    # w = w - .01 v; then v = .9 v + g, w = w - .01 v.
    script.set(MAX_STEPS=2, BATCH_SIZE=16, SUBDIVISIONS=2, OPTIMIZER="sgd", BURN_IN=0, SCHEDULE="poly", POWER=0,
               LEARNING_RATE=0.01, WEIGHT_DECAY=0, AUGMENT=True, BATCHNORM_MOMENTUM=0.1, EVALUATE_EVERY=1,
               has_bfloat16=lambda device: False)                        # the gradients below are float32
    script.module.main()
    after = script.load("last.pt")["model"]
    torch.manual_seed(script.module.SEED)
    network = SmallNetwork(10).train()
    weights = list(network.parameters())
    velocity = [torch.zeros_like(weight) for weight in weights]
    train = read_split(script.module.TRAIN, list_classes(script.module.TRAIN))
    dataset = script.module.ClassificationDataset(train, 32, (24, 60), augment=True)
    order = np.random.default_rng((script.module.SEED, 0)).permutation(80)
    halves = [[dataset[order[n], (script.module.SEED, n)] for n in range(first, first + 8)] for first in (0, 8, 16, 24)]
    for step in (halves[:2], halves[2:]):
        gradients = []
        for half in step:
            images, labels = zip(*half)
            loss = -network(torch.stack(images)).log_softmax(1)[range(8), labels].mean()
            gradients.append(torch.autograd.grad(loss, weights))
        with torch.no_grad():
            for weight, v, first, second in zip(weights, velocity, *gradients):
                weight -= 0.01 * v.mul_(0.9).add_((first + second) / 2)
    for key, value in network.state_dict().items():
        assert torch.allclose(after[key].double(), value.double(), rtol=1e-4, atol=1e-6), key


def test_interrupted_and_started_again_ends_with_the_same_weights(script, monkeypatch, tmp_path):
    # Interrupted in step 4: the checkpoint is step 2's, and the log is one step ahead of it. All images are augmented.
    script.set(AUGMENT=True, OPTIMIZER="adam", CHECKPOINT_EVERY=2)
    script.module.main()
    whole, log = script.load("last.pt"), script.log()
    script.folder = tmp_path / "again"
    script.set(RUN="again")
    with monkeypatch.context() as interrupted:
        steps, real = iter(range(99)), script.module.F.cross_entropy

        def cross_entropy(*arguments):
            if next(steps) == 3:
                raise KeyboardInterrupt
            return real(*arguments)

        interrupted.setattr(script.module.F, "cross_entropy", cross_entropy)
        with pytest.raises(KeyboardInterrupt):
            script.module.main()
    assert script.load("last.pt")["step"] == 2 and len(script.log()) == 3
    script.module.main()
    again = script.load("last.pt")
    assert all(value.equal(again["model"][key]) for key, value in whole["model"].items())
    for one, other in zip(whole["optimizer_state"]["state"].values(), again["optimizer_state"]["state"].values()):
        assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert script.log() == log


def linked(folder, classes, left_out=()):
    """The sample's training images but those left out, as links in another folder."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for image in (SAMPLES / "imagenet/train" / name).iterdir():
            if image.name not in left_out:
                (folder / name / image.name).symlink_to(image)
    return folder


def test_going_on_with_something_else_is_refused(script, monkeypatch, tmp_path):
    script.train_three_weights(MAX_STEPS=1)
    last, classes = script.folder / "last.pt", list_classes(script.module.TRAIN)
    before = last.stat().st_mtime_ns
    with pytest.raises(InputError, match="last.pt: all 1 steps are done. To train on, raise MAX_STEPS in yolov"):
        script.module.main()
    script.set(MAX_STEPS=2)
    with monkeypatch.context() as changed:
        changed.setattr(script.module, "OPTIMIZER", "adam")
        with pytest.raises(InputError, match="last.pt: was trained with another OPTIMIZER"):
            script.module.main()
    fewer_images = linked(tmp_path / "images", classes, ["n02690373_4.JPEG"])
    fewer_classes = linked(tmp_path / "classes/train", classes[1:])
    for folder, val in [(fewer_images, script.module.VAL), (fewer_classes, fewer_classes)]:
        with monkeypatch.context() as changed:
            changed.setattr(script.module, "TRAIN", folder)
            changed.setattr(script.module, "VAL", val)
            with pytest.raises(InputError, match="last.pt: was trained with another TRAIN"):
                script.module.main()
    assert last.stat().st_mtime_ns == before and len(script.log()) == 1


def test_starting_from_other_weights(script, tmp_path):
    # With a learning rate of 0 the weights stay what they are in START. A training that goes on does not read START.
    torch.manual_seed(7)
    begun = SmallNetwork(10).state_dict()
    classes = list_classes(script.module.TRAIN)
    state = {"network": script.name, "classes": classes, "size": 64, "step": 9, "model": begun}
    save_checkpoint(tmp_path / "start.pt", state)
    save_checkpoint(tmp_path / "other.pt", {**state, "classes": ["n01440764"]})
    script.set(START=tmp_path / "other.pt", LEARNING_RATE=0.0, MAX_STEPS=1)
    with pytest.raises(InputError, match="other.pt: was trained on other classes"):
        script.module.main()
    for max_steps, start in [(1, tmp_path / "start.pt"), (2, tmp_path / "other.pt")]:
        script.set(START=start, MAX_STEPS=max_steps)
        script.module.main()
        ended = script.load("last.pt")["model"]
        assert all(ended[key].equal(value) for key, value in begun.items() if key.endswith(("weight", "bias")))
    assert not ended["stage1.1.running_mean"].equal(begun["stage1.1.running_mean"])


def test_a_loss_that_is_not_finite_stops(script, monkeypatch):
    monkeypatch.setattr(script.module.F, "cross_entropy", lambda logits, labels: logits.sum() * float("nan"))
    with pytest.raises(InputError, match="train.py: the loss of step 1 is not finite"):
        script.module.main()
    assert not (script.folder / "last.pt").exists()


@pytest.mark.parametrize("constants, message", [
    (dict(SUBDIVISIONS=3), "BATCH_SIZE 8 cannot be divided by SUBDIVISIONS 3 x 1 processes"),
    (dict(OPTIMIZER="Adam"), "train.py: OPTIMIZER 'Adam' is none of"),
    (dict(SCHEDULE="steps"), "train.py: SCHEDULE 'steps' is none of")])
def test_constants_that_cannot_be_are_refused(script, constants, message):
    script.set(**constants)
    with pytest.raises(InputError, match=message):
        script.module.main()


# ---- Darknet-19 itself

def test_backbone_fits_into_a_detector(monkeypatch, tmp_path):
    # One step of the real network. backbone.pt holds what YOLOv2's backbone has and nothing else, and gives the same
    # features there as best.pt here.
    train = yolov2.darknet19.train
    for name, value in {**SHORT, "RUNS": tmp_path, "MAX_STEPS": 1}.items():
        monkeypatch.setattr(train, name, value)
    train.main()
    assert (tmp_path / train.RUN / "curves.png").exists()
    best, saved = (load_checkpoint(tmp_path / train.RUN / name, "Darknet19") for name in ("best.pt", "backbone.pt"))
    classifier, backbone, features = Darknet19(10).eval(), Backbone().eval(), []
    classifier.load_state_dict(best["model"])
    load_backbone(backbone, tmp_path / train.RUN / "backbone.pt")
    assert set(saved["model"]) == set(backbone.state_dict()) and saved["classes"] == best["classes"]
    for stage in (classifier.stage5, classifier.stage6):
        stage.register_forward_hook(lambda layer, inputs, output: features.append(output))
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        classifier(image)
        assert all(a.equal(b) and a.std() > 0 for a, b in zip(features, backbone(image), strict=True))
    with open(tmp_path / train.RUN / "log.csv", newline="") as file:
        loss = float(next(csv.DictReader(file))["loss"])
    assert 2 < loss < 4                                                      # ln 10 = 2.3 is a uniform guess


# ---- whole scripts, as a user starts them

def start(folder, launcher=(), before="pass", after="pass", **constants):
    """Runs the script with its constants changed in a process of its own. Returns a CompletedProcess."""
    settings = "".join(f"train.{name} = {value!r}\n" for name, value in constants.items())
    script = folder / "start.py"
    script.write_text(f"import pathlib, torch\nimport yolov2.darknet19.train as train\n"
                      f"train.RUNS = pathlib.Path({str(folder)!r})\n{settings}"
                      f"if __name__ == '__main__':\n    {before}\n    train.main()\n    {after}\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, *launcher, str(script)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_two_processes_step_along_the_mean_of_their_halves(tmp_path):
    # Two processes with twenty images each stay equal to each other and do what one process does with the same forty
    # images in two subdivisions: each half has BatchNorm statistics of its own, the gradients are averaged.
    sgd = {**SHORT, "BATCH_SIZE": 40, "AUGMENT": True, "OPTIMIZER": "sgd", "LEARNING_RATE": 1e-2, "BURN_IN": 0,
           "MAX_STEPS": 2}
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    result = start(one, SUBDIVISIONS=2, **sgd)
    assert result.returncode == 0, result.stderr
    say = "make, start, seen = train.make_optimizer, train.start_processes, []\n" \
          "    train.make_optimizer = lambda network: seen.append(network) or make(network)\n" \
          "    train.start_processes = lambda: seen.append(start()) or seen[0]"
    save = f"torch.save([p.detach() for p in seen[1].parameters()], f'{two}/{{seen[0][0]}}.pt')"
    result = start(two, ("-m", "torch.distributed.run", "--nproc-per-node=2"), say, save, **sgd)
    assert result.returncode == 0, result.stderr
    first, second = (torch.load(two / f"{rank}.pt") for rank in range(2))
    assert all(a.equal(b) for a, b in zip(first, second))
    alone, shared = (load_checkpoint(folder / "darknet19_sample" / "last.pt", "Darknet19")["model"]
                     for folder in (one, two))
    torch.manual_seed(yolov2.darknet19.train.SEED)
    begun = Darknet19(10).state_dict()
    for key in ("stage1.0.conv.weight", "stage6.5.conv.weight", "classify.bias"):
        moved = (alone[key] - begun[key]).norm()
        assert moved > 0 and (alone[key] - shared[key]).norm() < 1e-3 * moved
    with open(two / "darknet19_sample" / "log.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov2/darknet19/train.py, as a newcomer starts it, only with another folder for what it writes.
    result = start(tmp_path)
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "darknet19_sample" / "log.csv", newline="") as file:
        assert float(list(csv.DictReader(file))[-1]["top-1 train"]) >= 0.95
