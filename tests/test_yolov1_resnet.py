"""YOLOv1 on a ResNet: its shapes, what it does to colours, its training; evaluate and detect open its checkpoint."""
import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn as nn
import torchvision

import yolov1.detect as detect
import yolov1.evaluate as evaluate
import yolov1.resnet.train as train
from shared.checkpoint import load_checkpoint
from shared.errors import InputError
from shared.layers import count_operations
from shared.paths import ROOT
from shared.voc import CLASSES, read_split
from yolov1.dataset import TEST, DetectionDataset
from yolov1.resnet.model import ResNetYOLOv1
from yolov1.weights import load_detector

SHORT = dict(MAX_STEPS=4, BATCH_SIZE=8, SIZE=64, EVALUATE_EVERY=1, CHECKPOINT_EVERY=1, NUM_WORKERS=0, EVALUATED=2)


# ---- the network

@pytest.mark.parametrize("depth, convolutions", [(18, 20), (34, 36)])
def test_output_shapes(depth, convolutions):
    # ResNet-18: 17 convolutions, and three more where a shortcut changes its shape; the head has three.
    network = ResNetYOLOv1(num_classes=3, depth=depth, boxes=4).eval()
    assert sum(isinstance(layer, nn.Conv2d) for layer in network.modules()) == convolutions + 3
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 1, 1, 23)
        assert network(torch.zeros(1, 3, 192, 192)).shape == (1, 3, 3, 23)


@pytest.mark.parametrize("depth, parameters, billions", [(18, 15_912_542, 14.97), (34, 26_020_702, 29.77)])
def test_parameters_and_operations(depth, parameters, billions):
    # torchvision's 11,689,512 and 21,797,672 less the classifier's 513,000; the head: two 3 x 3 x 512 of 2,359,296 and
    # 1,024 of BatchNorm each, and 513 for each of 30 outputs.
    rows = count_operations(ResNetYOLOv1(20, depth), 448, 448)
    published = {18: 11_689_512, 34: 21_797_672}[depth]
    assert parameters == published - 513_000 + 2 * (2_359_296 + 1_024) + 30 * 513
    assert sum(row[3] for row in rows) == parameters and round(sum(row[4] for row in rows) / 1e9, 2) == billions


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
    flip, jitter, affine = train.augmentation().transforms
    assert [type(t).__name__ for t in (flip, jitter, affine)] == ["HorizontalFlip", "ColorJitter", "Affine"]
    assert flip.p == jitter.p == affine.p == 0.5
    image, boxes = np.zeros((100, 100, 3), np.uint8), np.array([[20.0, 10, 60, 50]])
    image[10:50, 20:60] = (200, 60, 60)
    transform, unchanged = train.augmentation(), 0
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


def start(folder, **constants):
    """Runs yolov1.resnet.train's main() with its constants changed; -> CompletedProcess"""
    settings = "".join(f"train.{name} = {value!r}\n" for name, value in {**SHORT, **constants}.items())
    (folder / "start.py").write_text(
        f"import sys, pathlib\nimport yolov1.resnet.train as train\nfrom shared.errors import InputError\n"
        f"train.RUNS = pathlib.Path({str(folder)!r})\n{settings}\nif __name__ == '__main__':\n"
        f"    try: train.main()\n    except InputError as error: sys.exit(str(error))\n")
    return subprocess.run([sys.executable, str(folder / "start.py")], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "2"})


def log(folder):
    with open(folder / "yolov1_resnet" / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training of four steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    result = start(folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_what_a_training_leaves(whole):
    run = whole / "yolov1_resnet"
    assert {path.name for path in run.iterdir()} == {"last.pt", "best.pt", "log.csv", "curves.png", "detections"}
    assert [row["step"] for row in log(whole)] == ["1", "2", "3", "4"]
    for row in log(whole):
        *terms, total = (float(row[term]) for term in train.TERMS)
        assert total == pytest.approx(sum(terms), rel=1e-4)
    state = load_checkpoint(run / "last.pt", "ResNetYOLOv1")
    assert (state["step"], state["size"], state["boxes"], state["depth"]) == (4, 64, 2, 18)


def test_interrupted_and_started_again_ends_with_the_same_weights(whole, tmp_path):
    # MAX_STEPS is raised in between; it does not matter to the rate, as long as the burn-in lasts.
    assert start(tmp_path, MAX_STEPS=2).returncode == 0
    assert start(tmp_path).returncode == 0
    one, other = (load_checkpoint(folder / "yolov1_resnet" / "last.pt", "ResNetYOLOv1")["model"]
                  for folder in (whole, tmp_path))
    assert all(value.equal(other[key]) for key, value in one.items())
    assert [row["total"] for row in log(tmp_path)] == [row["total"] for row in log(whole)]


def test_another_depth_or_a_finished_run_is_refused(whole):
    result = start(whole, MAX_STEPS=6, DEPTH=34)
    assert result.returncode == 1 and "was trained with another DEPTH" in result.stderr
    result = start(whole)
    assert result.returncode == 0 and "has done its 4 steps" in result.stdout


@pytest.mark.parametrize("constants, message", [
    (dict(SUBDIVISIONS=3), "BATCH_SIZE 8 cannot be divided by SUBDIVISIONS 3"), (dict(SIZE=96), "divisible by 64"),
    (dict(DEPTH=50), "DEPTH 50 is neither 18 nor 34"), (dict(TRAIN=[]), "TRAIN and TEST need at least one")])
def test_constants_that_cannot_be_are_refused(tmp_path, monkeypatch, constants, message):
    for name, value in {**SHORT, "RUNS": tmp_path, **constants}.items():
        monkeypatch.setattr(train, name, value)
    with pytest.raises(InputError, match=message):
        train.main()


def test_augmented_training_runs(tmp_path):
    result = start(tmp_path, MAX_STEPS=1, AUGMENT=True)
    assert result.returncode == 0, result.stderr


# ---- yolov1's own scripts open its checkpoint

def test_evaluate_and_detect_open_it_by_its_name(whole, tmp_path, monkeypatch, capsys):
    path = whole / "yolov1_resnet" / "last.pt"
    network, state = load_detector(path)
    assert isinstance(network, ResNetYOLOv1) and not network.training
    for name, value in [("CHECKPOINT", path), ("DATA", {"test": TEST}), ("NUM_WORKERS", 0)]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    assert "test: 8 images" in capsys.readouterr().out
    source = TEST[0][0] / "JPEGImages" / "000017.jpg"
    for name, value in [("CHECKPOINT", path), ("SOURCE", source), ("OUT", tmp_path), ("SCORE_THRESHOLD", -1e9)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    # What stands in detections.txt is what the network itself says of this image.
    annotation = next(a for a in read_split(*TEST[0], CLASSES) if a.image.name == "000017.jpg")
    output = network(DetectionDataset([annotation], 64)[0][0][None])
    scores = output[0, 0, 0, 20:22, None] * output[0, 0, 0, :20]
    lines = (tmp_path / "detections.txt").read_text().splitlines()[1:]
    assert max(float(line.split("\t")[2]) for line in lines) == pytest.approx(scores.max().item(), abs=1e-3)


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov1/resnet/train.py, as a newcomer starts it, only with another folder for what it writes.
    program = f"import pathlib, yolov1.resnet.train as train\ntrain.RUNS = pathlib.Path({str(tmp_path)!r})\n" \
              "if __name__ == '__main__': train.main()"
    (tmp_path / "start.py").write_text(program)
    result = subprocess.run([sys.executable, str(tmp_path / "start.py")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    ceiling = float(result.stdout.split("at most AP50 ")[1].split()[0])
    assert float(log(tmp_path)[-1]["AP50 train"]) >= min(0.90, 0.95 * ceiling)
