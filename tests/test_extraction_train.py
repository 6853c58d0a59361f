"""
Extraction's schedule and crops by hand, its backbone in YOLOv1, BATCH_NORM, the sample's bar.
tests/test_darknet19_train.py has the tests that the three classifiers' training scripts share.
"""
import csv
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import yolov1.extraction.dataset as dataset
import yolov1.extraction.model as model
import yolov1.extraction.train as train
from shared.checkpoint import load_backbone, load_checkpoint
from shared.errors import InputError
from shared.paths import ROOT
from yolov1.extraction.dataset import ClassificationDataset, random_crop
from yolov1.extraction.model import Extraction
from yolov1.model import Backbone


@pytest.mark.parametrize("batch_norm, rates", [
    # With BatchNorm the learning rate of step k is .1 (1 - k / 1,600,000)^4 from the first step on, so .1 / 16 in the
    # middle; without it .5 (1 - k / 500,000)^6, so .5 / 64 in the middle.
    (True, [(1, 0.1 * (1 - 1 / 1_600_000) ** 4), (800_000, 0.1 / 16), (1_200_000, 0.1 / 256), (1_600_000, 0)]),
    (False, [(1, 0.5 * (1 - 1 / 500_000) ** 6), (250_000, 0.5 / 64), (500_000, 0)])])
def test_darknets_values(monkeypatch, batch_norm, rates):
    monkeypatch.setattr(dataset, "PRESET", "darknet")
    monkeypatch.setattr(model, "BATCH_NORM", batch_norm)
    values = runpy.run_path(train.__file__)
    for step, rate in rates:
        assert values["learning_rate"](step) == pytest.approx(rate, rel=1e-9)
    assert (values["BATCH_SIZE"], values["SUBDIVISIONS"]) == (128, 4)
    assert (values["SIZE"], values["CROPS"], values["AUGMENT"]) == (224, (224, 320), True)


# ---- augmentation

class Fixed:
    """
    Stands for a random generator. integers returns the length; uniform(low, high) returns low + f (high - low) for the
    next f of the fractions, which are for x and then for y.
    """

    def __init__(self, length, *fractions):
        self.length, self.fractions = length, list(fractions)

    def uniform(self, low, high):
        return low + self.fractions.pop(0) * (high - low)

    def integers(self, low, high):
        assert (low, high) == (20, 41)
        return self.length


def test_a_crop_by_hand():
    # The picture is 40 wide and 20 high. Red is 4 times the column, green 8 times the row. The 10 x 10 pixels in the
    # middle are columns 15 to 24 and rows 5 to 14. The second crop meets the right edge and the top.
    columns, rows = np.meshgrid(np.arange(40), np.arange(20))
    picture = np.stack([columns * 4, rows * 8, np.full_like(rows, 255)], 2).astype(np.uint8)
    assert (random_crop(picture, 10, (20, 40), Fixed(20, 0.5, 0.5)) == picture[5:15, 15:25]).all()
    assert (random_crop(picture, 10, (20, 40), Fixed(20, 1, 0)) == picture[0:10, 30:40]).all()
    # The short side grows from 20 to 40, so two pixels of the crop are one of the image. Column 0 of the crop is column
    # 20 - 5 / 2 = 17.5 of the image, where red is 70; the next is column 18, where it is 72. Row 0 is row
    # 10 - 5 / 2 = 7.5, where green is 60.
    out = random_crop(picture, 10, (20, 40), Fixed(40, 0.5, 0.5))
    assert out[3, :, 0].tolist() == [70, 72, 74, 76, 78, 80, 82, 84, 86, 88]
    assert out[:, 3, 1].tolist() == [60, 64, 68, 72, 76, 80, 84, 88, 92, 96]


def test_half_of_the_images_are_mirrored_and_their_colours_stay(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    dataset = ClassificationDataset([("nothing", 0), (tmp_path / "a.png", 3)], 40, (40, 40), augment=True)
    pictures = [(dataset[1, seed][0] * 255).round().byte().permute(1, 2, 0).numpy() for seed in range(100)]
    mirrored = [(picture == image[:, ::-1]).all() for picture in pictures]
    assert all(flip or (picture == image).all() for flip, picture in zip(mirrored, pictures))
    assert 35 < sum(mirrored) < 65 and dataset[1, 0][1] == 3
    middle = ClassificationDataset([(tmp_path / "a.png", 3)], 40)[0][0]
    assert (middle * 255).round().byte().permute(1, 2, 0).numpy().tobytes() == image.tobytes()


# ---- the network itself

@pytest.fixture
def short(monkeypatch, tmp_path):
    """Constants of a short training in this process."""
    for name, value in [("RUNS", tmp_path), ("MAX_STEPS", 1), ("BATCH_SIZE", 8), ("SIZE", 32), ("OPTIMIZER", "sgd"),
                        ("NUM_WORKERS", 0), ("MAX_TRAIN_EVALUATED", 10)]:
        monkeypatch.setattr(train, name, value)
    return monkeypatch


def test_backbone_fits_into_a_detector(short, tmp_path):
    # One step. backbone.pt holds what YOLOv1's backbone has and nothing else, and gives the same features there as
    # best.pt here.
    train.main()
    run = tmp_path / train.RUN
    classifier, backbone, features = Extraction(10).eval(), Backbone().eval(), []
    classifier.load_state_dict(load_checkpoint(run / "best.pt", "Extraction")["model"])
    load_backbone(backbone, run / "backbone.pt")
    assert set(load_checkpoint(run / "backbone.pt", "Extraction")["model"]) == set(backbone.state_dict())
    classifier.stage5.register_forward_hook(lambda layer, inputs, output: features.append(output))
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        classifier(image)
        assert features[0].equal(backbone(image)) and features[0].std() > 0
    # A detector with BatchNorm refuses it and changes nothing.
    with pytest.raises(InputError, match="backbone.pt: not weights of this backbone: stage1.0.bn.weight .* is missing"):
        load_backbone(Backbone(batch_norm=True), run / "backbone.pt")


def test_another_batch_norm_is_refused(short, tmp_path):
    # last.pt of a training with BatchNorm.
    last = tmp_path / train.RUN / "last.pt"
    short.setattr(train, "Extraction", lambda classes: torch.nn.Sequential(torch.nn.Conv2d(3, 10, 1),
                                                                           torch.nn.AdaptiveAvgPool2d(1),
                                                                           torch.nn.Flatten()))
    short.setattr(train, "BATCH_NORM", True)
    train.main()
    before = last.stat().st_mtime_ns
    short.setattr(train, "BATCH_NORM", False)
    short.setattr(train, "MAX_STEPS", 2)
    with pytest.raises(InputError, match="last.pt: was trained with another BATCH_NORM"):
        train.main()
    assert last.stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov1/extraction/train.py, as a newcomer starts it, only with another folder for what it writes.
    (tmp_path / "start.py").write_text(f"import pathlib, yolov1.extraction.train as train\n"
                                       f"train.RUNS = pathlib.Path({str(tmp_path)!r})\n"
                                       "if __name__ == '__main__': train.main()")
    result = subprocess.run([sys.executable, str(tmp_path / "start.py")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with open(tmp_path / train.RUN / "log.csv", newline="") as file:
        assert float(list(csv.DictReader(file))[-1]["top-1 train"]) >= 0.95
