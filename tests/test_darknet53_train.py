"""
Darknet-53's schedule and fine-tuning by hand, a training of two steps, its backbone in YOLOv3, the sample's bar. What
is equal in Darknet-19's files (tests/test_twins.py) is tested in tests/test_darknet19_train.py.
"""
import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import yolov3.darknet53.dataset as dataset
import yolov3.darknet53.train as train
from shared.checkpoint import load_backbone, load_checkpoint
from shared.paths import ROOT
from yolov3.darknet53.model import Darknet53
from yolov3.model import YOLOv3


@pytest.mark.parametrize("settings, rates", [
    # (k / 1000)^4 of .1 up to step 1000, then .1 (1 - k / 800,000)^4: at 1000 .1 (799/800)^4, in the middle .1 / 16.
    (dict(BURN_IN=1000, MAX_STEPS=800_000, LEARNING_RATE=0.1),
     [(1, 1e-13), (500, 0.1 / 16), (1000, 0.1 * (799 / 800) ** 4), (400_000, 0.1 / 16), (800_000, 0)]),
    # .001, without a burn-in, over 100,000 steps.
    (dict(BURN_IN=0, MAX_STEPS=100_000, LEARNING_RATE=1e-3), [(1, 1e-3 * 0.99999 ** 4), (50_000, 6.25e-5)])])
def test_darknets_learning_rate(monkeypatch, settings, rates):
    for name, value in {"SCHEDULE": "poly", **settings}.items():
        monkeypatch.setattr(train, name, value)
    for step, rate in rates:
        assert train.learning_rate(step) == pytest.approx(rate, rel=1e-9)


def test_fine_tuning_leaves_angle_aspect_and_colours(monkeypatch, tmp_path):
    # Of a square that is cut whole only the mirror image is left to chance; to pretrain no two pictures are alike.
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")

    def pictures():
        loaded = dataset.ClassificationDataset([(tmp_path / "a.png", 0)], 40, (40, 40), augment=True)
        return {(loaded[0, seed][0] * 255).round().byte().permute(1, 2, 0).numpy().tobytes() for seed in range(20)}

    assert len(pictures()) == 20
    for name, value in [("ANGLE", 0), ("ASPECT", 1), ("HUE", 0), ("SATURATION", 1), ("EXPOSURE", 1)]:
        monkeypatch.setattr(dataset, name, value)
    assert pictures() == {image.tobytes(), image[:, ::-1].tobytes()}


def test_a_training_and_its_backbone_in_the_detector(monkeypatch, tmp_path):
    # One step, then another by the same command. The weights in backbone.pt are all that YOLOv3's backbone has, and
    # give there what best.pt gives here.
    for name, value in [("RUNS", tmp_path), ("BATCH_SIZE", 8), ("SIZE", 32), ("NUM_WORKERS", 0), ("EVALUATED", 10)]:
        monkeypatch.setattr(train, name, value)
    for steps in (1, 2):
        monkeypatch.setattr(train, "MAX_STEPS", steps)
        train.main()
    run = tmp_path / "darknet53"
    assert {path.name for path in run.iterdir()} == {"last.pt", "best.pt", "backbone.pt", "log.csv", "curves.png"}
    with open(run / "log.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]
    assert load_checkpoint(run / "last.pt", "Darknet53")["step"] == 2

    classifier, backbone, features = Darknet53(10).eval(), YOLOv3().backbone.eval(), []
    classifier.load_state_dict(load_checkpoint(run / "best.pt", "Darknet53")["model"])
    load_backbone(backbone, run / "backbone.pt")
    assert set(load_checkpoint(run / "backbone.pt", "Darknet53")["model"]) == set(backbone.state_dict())
    for stage in (classifier.stage3, classifier.stage4, classifier.stage5):
        stage.register_forward_hook(lambda layer, inputs, output: features.append(output))
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        classifier(image)
        assert all(a.equal(b) and a.std() > 0 for a, b in zip(features, backbone(image), strict=True))


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov3/darknet53/train.py, as a newcomer starts it, only with another folder for what it writes.
    (tmp_path / "start.py").write_text(f"import pathlib, yolov3.darknet53.train as train\n"
                                       f"train.RUNS = pathlib.Path({str(tmp_path)!r})\n"
                                       "if __name__ == '__main__': train.main()")
    result = subprocess.run([sys.executable, str(tmp_path / "start.py")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "darknet53" / "log.csv", newline="") as file:
        assert float(list(csv.DictReader(file))[-1]["top-1 train"]) >= 0.95
