"""YOLOv1 on a ResNet: its shapes, what it does to colours, its training; evaluate and detect open its checkpoint."""
import csv
import os
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision

import yolov1.detect as detect
import yolov1.evaluate as evaluate
import yolov1.resnet.train as train
from shared.checkpoint import load_checkpoint
from shared.errors import InputError
from shared.layers import count_operations
from shared.paths import ROOT, SAMPLES
from shared.voc import CLASSES, read_split
from yolov1.dataset import TEST, DetectionDataset
from yolov1.resnet.model import ResNetYOLOv1
from yolov1.weights import load_detector

SHORT = dict(RUN="yolov1_resnet", MAX_STEPS=4, BATCH_SIZE=8, SIZE=64,
             EVALUATE_EVERY=2, CHECKPOINT_EVERY=2, NUM_WORKERS=0)


# ---- the network

@pytest.mark.parametrize("depth, convolutions", [(18, 20), (34, 36)])
def test_output_shapes(depth, convolutions):
    # ResNet-18: 17 convolutions, and three more where a shortcut changes its shape; the head has three.
    with torch.device("meta"):                                            # shapes without numbers
        network = ResNetYOLOv1(num_classes=3, depth=depth, num_boxes=4).eval()
        assert sum(isinstance(layer, nn.Conv2d) for layer in network.modules()) == convolutions + 3
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 1, 1, 23)
        assert network(torch.zeros(1, 3, 192, 192)).shape == (1, 3, 3, 23)


@pytest.mark.parametrize("depth, published, parameters, billions", [
    (18, 11_689_512, 15_912_542, 14.97), (34, 21_797_672, 26_020_702, 29.77)])
def test_parameters_and_operations(depth, published, parameters, billions):
    # torchvision's 11,689,512 and 21,797,672 less the classifier's 513,000; the head: two 3 x 3 x 512 of 2,359,296 and
    # 1,024 of BatchNorm each, and 513 for each of 30 outputs. At 64 x 64 there is 1 cell, at 448 x 448 there are 49.
    assert parameters == published - 513_000 + 2 * (2_359_296 + 1_024) + 30 * 513
    rows = count_operations(ResNetYOLOv1(20, depth), 64, 64)
    assert sum(row[3] for row in rows) == parameters and round(49 * sum(row[4] for row in rows) / 1e9, 2) == billions


@pytest.mark.parametrize("height, width", [(96, 96), (128, 64)])
def test_other_sizes_are_refused(height, width):
    with pytest.raises(ValueError, match="square images of a side divisible by 64"):
        ResNetYOLOv1()(torch.zeros(1, 3, height, width))


def test_it_is_torchvisions_network_on_normalised_colours():
    # torchvision's own forward up to layer4, on (image - mean) / deviation; and row, column, number at the end.
    torch.manual_seed(0)
    network = ResNetYOLOv1(num_classes=2, depth=18).eval()
    resnet = torchvision.models.resnet18().eval()
    ours = dict(zip(["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"], network.backbone))
    for name, part in ours.items():
        getattr(resnet, name).load_state_dict(part.state_dict())
    resnet.avgpool = resnet.fc = nn.Identity()
    images = torch.rand(1, 3, 128, 128)
    normalised = torchvision.transforms.functional.normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        expected = network.detect(resnet(normalised).view(1, 512, 4, 4))  # (1, 12, 2, 2)
        output = network(images)
    for row, col in [(0, 0), (0, 1), (1, 0)]:
        torch.testing.assert_close(output[0, row, col], expected[0, :, row, col], atol=1e-4, rtol=1e-4)


def test_a_download_that_fails_is_one_line(monkeypatch):
    def no_network(weights=None):
        raise OSError("urlopen error: no network")
    monkeypatch.setattr(torchvision.models, "resnet34", no_network)
    with pytest.raises(InputError, match="ResNet-34: torchvision's DEFAULT weights could not be loaded .*no network"):
        ResNetYOLOv1(depth=34, weights="DEFAULT")


# ---- its training

def test_the_learning_rate(monkeypatch):
    for name, value in [("BURN_IN", 10), ("MAX_STEPS", 200), ("LEARNING_RATE", 1e-3)]:
        monkeypatch.setattr(train, name, value)
    assert train.learning_rate(5) == pytest.approx(1e-3 / 16)
    assert train.learning_rate(100) == pytest.approx(5e-4)               # (1 + cos(pi / 2)) / 2
    assert train.learning_rate(200) == pytest.approx(0, abs=1e-12)


def test_augmentation_moves_the_boxes_with_the_objects():
    # The three transformations happen half of the time each: an eighth of the pictures are as they were.
    flip, jitter, affine = train.augmentation()
    assert [type(t).__name__ for t in (flip, jitter, affine)] == ["HorizontalFlip", "ColorJitter", "Affine"]
    assert flip.p == jitter.p == affine.p == 0.5
    image, boxes = np.zeros((100, 100, 3), np.uint8), np.array([[20.0, 10, 60, 50]])
    image[10:50, 20:60] = (200, 60, 60)
    transform, unchanged = DetectionDataset([], 100, augment=True, transforms=train.augmentation()).distort, 0
    for seed in range(80):
        for n, part in enumerate(transform.transforms):                   # as DetectionDataset does
            part.set_random_seed(3 * seed + n)
        out = transform(image=image, bboxes=boxes, labels=np.array([3]))
        (left, top, right, bottom), = out["bboxes"]
        unchanged += np.array_equal(out["image"], image)
        coloured = np.ptp(out["image"].astype(int), 2) > 50               # the filling is grey
        columns, rows = coloured.any(0).nonzero()[0], coloured.any(1).nonzero()[0]
        # A square turned by 10 degrees is 1.16 as wide; the box is that of the ellipse within it, which is less.
        assert (columns.min() + columns.max() + 1) / 2 == pytest.approx((left + right) / 2, abs=2)
        assert (rows.min() + rows.max() + 1) / 2 == pytest.approx((top + bottom) / 2, abs=2)
        assert 0.84 * len(columns) - 2 < right - left < len(columns) + 2
    assert 3 <= unchanged <= 20


def load_preset(preset, monkeypatch):
    """yolov1/resnet/train.py as it is where PRESET in yolov1/dataset.py has this value."""
    dataset, script = ModuleType("yolov1.dataset"), ModuleType("yolov1.resnet.train")
    with monkeypatch.context() as context:
        context.setenv("PRESET", preset)
        exec((ROOT / "yolov1" / "dataset.py").read_text(), dataset.__dict__)
        context.setitem(sys.modules, "yolov1.dataset", dataset)
        exec((ROOT / "yolov1" / "resnet" / "train.py").read_text(), script.__dict__)
    return script


def test_the_presets(monkeypatch):
    sample, voc = load_preset("sample", monkeypatch), load_preset("darknet", monkeypatch)
    folder = SAMPLES / "voc" / "VOCdevkit" / "VOC2007"
    assert (sample.TRAIN, sample.TEST) == ([(folder, "train")], [(folder, "val")])
    assert (sample.MAX_STEPS, sample.SIZE, sample.AUGMENT, sample.WEIGHTS) == (150, 256, False, None)
    folder = ROOT / "voc" / "VOCdevkit"
    assert (voc.TRAIN, voc.TEST) == ([(folder / "VOC2012", "trainval")], [(folder / "VOC2007", "test")])
    assert (voc.MAX_STEPS, voc.SIZE, voc.AUGMENT, voc.WEIGHTS) == (18_000, 448, True, "DEFAULT")
    assert voc.MAX_STEPS * voc.BATCH_SIZE // 11_540 == 99                  # epochs that are finished


def train_with(monkeypatch, folder, **constants):
    for name, value in {**SHORT, "RUNS": folder, **constants}.items():
        monkeypatch.setattr(train, name, value)
    train.main()


def log(folder):
    with open(folder / "yolov1_resnet" / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def last(folder):
    return load_checkpoint(folder / "yolov1_resnet" / "last.pt", "ResNetYOLOv1")


class Small(nn.Module):
    """Stands for the network. An output of the right shape: one convolution, BatchNorm, and a linear layer."""

    def __init__(self, num_classes, depth, num_boxes, weights):
        super().__init__()
        Small.weights = weights
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.detect = nn.Linear(8, num_classes + 5 * num_boxes)

    def forward(self, images):
        return self.detect(F.avg_pool2d(self.bn(self.conv(images)), 64).permute(0, 2, 3, 1))


SMALL = dict(ResNetYOLOv1=Small, AUGMENT=True, WEIGHTS="DEFAULT", EVALUATE_EVERY=99, CHECKPOINT_EVERY=99,
             measure=lambda *_: {"AP50 train": 0.0, "AP50 test": 0.0}, write_training_curves=lambda *_: None)


def test_interrupted_and_started_again_ends_with_the_same_weights(tmp_path, monkeypatch):
    # MAX_STEPS is raised in between. This does not change the learning rate, as long as the burn-in lasts.
    train_with(monkeypatch, tmp_path / "whole", **SMALL)
    assert Small.weights == "DEFAULT"
    train_with(monkeypatch, tmp_path / "parts", **SMALL, MAX_STEPS=2)
    train_with(monkeypatch, tmp_path / "parts", **SMALL)
    assert Small.weights is None                                          # those of last.pt follow
    one, other = last(tmp_path / "whole")["model"], last(tmp_path / "parts")["model"]
    assert all(value.equal(other[key]) for key, value in one.items())
    assert [row["total"] for row in log(tmp_path / "parts")] == [row["total"] for row in log(tmp_path / "whole")]
    for constants, message in [(dict(DEPTH=34), "was trained with another DEPTH"),
                               (dict(SIZE=128), "was trained with another SIZE")]:
        with pytest.raises(InputError, match=message):
            train_with(monkeypatch, tmp_path / "parts", **SMALL, MAX_STEPS=6, **constants)
    with pytest.raises(InputError, match="all 4 steps are done. To train on, raise MAX_STEPS in yolov1/resnet/train"):
        train_with(monkeypatch, tmp_path / "parts", **{**SMALL, "DEPTH": 18, "SIZE": 64})


def test_batchnorm_momentum_and_augment_reach_their_places(tmp_path, monkeypatch):
    # Small's BatchNorm: an average that starts at 0 and has .25 of the first batch's mean after a step; with a momentum
    # of 1 it has all of it.
    made = []

    class Recorder(DetectionDataset):
        def __init__(self, annotations, size, augment, jitter, transforms):
            made.append((size, augment, jitter, len(transforms)))
            super().__init__(annotations, size, augment, jitter, transforms)
    monkeypatch.setattr(train, "DetectionDataset", Recorder)
    for momentum in (0.25, 1.0):
        train_with(monkeypatch, tmp_path / str(momentum), **SMALL, MAX_STEPS=1, BATCHNORM_MOMENTUM=momentum)
    quarter, full = (last(tmp_path / name)["model"]["bn.running_mean"] for name in ("0.25", "1.0"))
    assert full.abs().min() > 0
    torch.testing.assert_close(quarter, full / 4)
    assert made == [(64, True, 0, 3)] * 2


@pytest.mark.parametrize("constants, message", [
    (dict(SUBDIVISIONS=3), "BATCH_SIZE 8 cannot be divided by SUBDIVISIONS 3"), (dict(SIZE=96), "divisible by 64"),
    (dict(DEPTH=50), r"DEPTH 50 is none of \(18, 34\)"), (dict(TRAIN=[]), "TRAIN and TEST need at least one")])
def test_constants_that_cannot_be_are_refused(tmp_path, monkeypatch, constants, message):
    with pytest.raises(InputError, match=message):
        train_with(monkeypatch, tmp_path, **{**SMALL, **constants})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training of one step with the network itself."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as monkeypatch:
        train_with(monkeypatch, folder, MAX_STEPS=1, BATCH_SIZE=4)
    return folder


def test_what_a_training_leaves(whole):
    run = whole / "yolov1_resnet"
    assert {path.name for path in run.iterdir()} == {
        ".lock", "last.pt", "best.pt", "log.csv", "curves.png", "detections"}
    (row,) = log(whole)
    *terms, total = (float(row[term]) for term in train.TERMS)
    assert total == pytest.approx(sum(terms), rel=1e-4)
    state = last(whole)
    assert (state["step"], state["size"], state["boxes"], state["depth"]) == (1, 64, 2, 18)


# ---- yolov1's own scripts open its checkpoint

@pytest.mark.slow
def test_evaluate_and_detect_open_it_by_its_name(whole, tmp_path, monkeypatch, capsys):
    path = whole / "yolov1_resnet" / "last.pt"
    network, state = load_detector(path)
    assert isinstance(network, ResNetYOLOv1) and not network.training
    for name, value in [("CHECKPOINT", path), ("DATA", {"test": TEST}), ("NUM_WORKERS", 0)]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    assert "test: 8 images" in capsys.readouterr().out
    source = TEST[0][0] / "JPEGImages" / "000017.jpg"
    for name, value in [("CHECKPOINT", path), ("SOURCE", source), ("OUT", tmp_path), ("SCORE_THRESHOLD", 0)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    # detections.txt holds what the network itself says of this image.
    annotation = next(a for a in read_split(*TEST[0], CLASSES) if a.image.name == "000017.jpg")
    output = network(DetectionDataset([annotation], 64)[0][0][None])
    scores = output[0, 0, 0, 20:22, None] * output[0, 0, 0, :20]
    lines = (tmp_path / "detections.txt").read_text().splitlines()[1:]
    assert max(float(line.split("\t")[2]) for line in lines) == pytest.approx(scores.max().item(), abs=1e-3)


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov1/resnet/train.py, as a newcomer starts it, only with another folder for what it writes.
    program = f"import pathlib, yolov1.resnet.train as train\ntrain.RUNS = pathlib.Path({str(tmp_path)!r})\n" \
              "train.RUN = 'yolov1_resnet'\n" \
              "if __name__ == '__main__': train.main()"
    (tmp_path / "start.py").write_text(program)
    result = subprocess.run([sys.executable, str(tmp_path / "start.py")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    ceiling = float(result.stdout.split("at most AP50 ")[1].split()[0])
    assert float(log(tmp_path)[-1]["AP50 train"]) >= min(0.90, 0.95 * ceiling)
