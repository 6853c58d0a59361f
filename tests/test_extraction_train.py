"""
Extraction's schedule and cuts by hand, a training of two steps, its backbone, the sample's bar. What is equal in
Darknet-19's files (tests/test_twins.py) is tested in tests/test_darknet19_train.py.
"""
import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import yolov1.extraction.train as train
import yolov1.train as detector_train
from shared.checkpoint import load_backbone, load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.paths import ROOT
from yolov1.extraction.dataset import ClassificationDataset, random_crop
from yolov1.extraction.model import Extraction
from yolov1.model import Backbone


def test_darknets_learning_rate(monkeypatch):
    # .1 (1 - k / 1,600,000)^4 from the first step on.
    for name, value in [("SCHEDULE", "poly"), ("BURN_IN", 0), ("MAX_STEPS", 1_600_000), ("LEARNING_RATE", 0.1)]:
        monkeypatch.setattr(train, name, value)
    for step, rate in [(1, 0.1 * (1 - 1 / 1_600_000) ** 4), (800_000, 0.1 / 16), (1_200_000, 0.1 / 256),
                       (1_600_000, 0)]:
        assert train.learning_rate(step) == pytest.approx(rate, rel=1e-9)


# ---- augmentation

class Fixed:
    """Stands for a random generator: the length, and how far from low to high, for x and then y."""

    def __init__(self, length, *fractions):
        self.length, self.fractions = length, list(fractions)

    def uniform(self, low, high):
        return low + self.fractions.pop(0) * (high - low)

    def integers(self, low, high):
        assert (low, high) == (20, 41)
        return self.length


def test_a_cut_by_hand():
    # 40 wide, 20 high: red is 4 times the column, green 8 times the row. The 10 x 10 in the middle: columns 15 to 24,
    # rows 5 to 14; then the right edge and the top.
    columns, rows = np.meshgrid(np.arange(40), np.arange(20))
    picture = np.stack([columns * 4, rows * 8, np.full_like(rows, 255)], 2).astype(np.uint8)
    assert (random_crop(picture, 10, (20, 40), Fixed(20, 0.5, 0.5)) == picture[5:15, 15:25]).all()
    assert (random_crop(picture, 10, (20, 40), Fixed(20, 1, 0)) == picture[0:10, 30:40]).all()
    # The short side from 20 to 40: two pixels of the cut to one of the image. Column 0 lies at 20 - 5 / 2 = 17.5, value
    # 70; then 18: 72 ...
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


# ---- whole trainings of a few steps

@pytest.fixture
def here(monkeypatch, tmp_path):
    """The constants of a short training in this process."""
    for name, value in [("RUNS", tmp_path), ("BATCH_SIZE", 8), ("SIZE", 32), ("CROPS", (32, 48)), ("AUGMENT", True),
                        ("NUM_WORKERS", 0), ("EVALUATED", 10)]:
        monkeypatch.setattr(train, name, value)
    return monkeypatch


def test_a_training_and_its_backbone_in_the_detector(here, tmp_path):
    # One step, then another by the same command. The weights in backbone.pt are all that YOLOv1's backbone has, and
    # give there what best.pt gives here.
    for steps in (1, 2):
        here.setattr(train, "MAX_STEPS", steps)
        train.main()
    run = tmp_path / "extraction"
    assert {path.name for path in run.iterdir()} == {"last.pt", "best.pt", "backbone.pt", "log.csv", "curves.png"}
    with open(run / "log.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]
    assert load_checkpoint(run / "last.pt", "Extraction")["step"] == 2

    classifier, backbone, features = Extraction(10).eval(), Backbone().eval(), []
    classifier.load_state_dict(load_checkpoint(run / "best.pt", "Extraction")["model"])
    load_backbone(backbone, run / "backbone.pt")
    assert set(load_checkpoint(run / "backbone.pt", "Extraction")["model"]) == set(backbone.state_dict())
    classifier.stage5.register_forward_hook(lambda layer, inputs, output: features.append(output))
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        classifier(image)
        assert features[0].equal(backbone(image)) and features[0].std() > 0


def test_another_batch_norm_is_refused(here, tmp_path):
    # By the training that goes on and by the detector's, in one line that names the constant.
    here.setattr(train, "MAX_STEPS", 1)
    train.main()
    last = tmp_path / "extraction" / "last.pt"
    save_checkpoint(last, {**load_checkpoint(last, "Extraction"), "batch_norm": True})
    here.setattr(train, "MAX_STEPS", 2)
    with pytest.raises(InputError, match="last.pt: was trained with another BATCH_NORM"):
        train.main()
    for name, value in [("RUNS", tmp_path), ("BACKBONE", tmp_path / "extraction/backbone.pt"), ("BATCH_NORM", True)]:
        here.setattr(detector_train, name, value)
    with pytest.raises(InputError, match="backbone.pt: .* stage1.0.bn.weight .* is missing; .* BATCH_NORM than True"):
        detector_train.main()


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov1/extraction/train.py, as a newcomer starts it, only with another folder for what it writes.
    (tmp_path / "start.py").write_text(f"import pathlib, yolov1.extraction.train as train\n"
                                       f"train.RUNS = pathlib.Path({str(tmp_path)!r})\n"
                                       "if __name__ == '__main__': train.main()")
    result = subprocess.run([sys.executable, str(tmp_path / "start.py")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "extraction" / "log.csv", newline="") as file:
        assert float(list(csv.DictReader(file))[-1]["top-1 train"]) >= 0.95
