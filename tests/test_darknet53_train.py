"""
Darknet-53's schedule and fine-tuning by hand, its backbone in YOLOv3, the sample's bar. tests/test_darknet19_train.py
has the tests that the three classifiers' training scripts share.
"""
import csv
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import yolov3.darknet53.dataset as dataset
import yolov3.darknet53.train as train
from shared.checkpoint import load_backbone, load_checkpoint
from shared.paths import ROOT, RUNS
from yolov3.darknet53.model import Darknet53
from yolov3.model import Backbone


@pytest.mark.parametrize("preset, expected, rates", [
    # .1 (k / 1000)^4 up to step 1000, and then .1 (1 - k / 800,000)^4: at step 1000 .1 (799/800)^4, in the middle
    # .1 / 16.
    ("darknet", ("darknet53", None, 4, 256, (128, 448)),
     [(1, 1e-13), (500, 0.1 / 16), (1000, 0.1 * (799 / 800) ** 4), (400_000, 0.1 / 16), (800_000, 0)]),
    # .001 (1 - k / 100,000)^4, without a burn-in.
    ("darknet_448", ("darknet53_448", RUNS / "darknet53" / "best.pt", 8, 448, (448, 512)),
     [(1, 1e-3 * 0.99999 ** 4), (50_000, 6.25e-5)])])
def test_darknets_values(monkeypatch, preset, expected, rates):
    monkeypatch.setattr(dataset, "PRESET", preset)
    values = runpy.run_path(train.__file__)
    for step, rate in rates:
        assert values["learning_rate"](step) == pytest.approx(rate, rel=1e-9)
    assert tuple(values[name] for name in ("RUN", "START", "SUBDIVISIONS", "SIZE", "CROPS")) == expected
    assert (values["BATCH_SIZE"], values["AUGMENT"]) == (128, True)


def test_fine_tuning_leaves_angle_aspect_and_colours(monkeypatch, tmp_path):
    # The whole image is cropped, so in fine-tuning only the mirror image is random. In pretraining no two pictures are
    # equal.
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")

    def pictures():
        loaded = dataset.ClassificationDataset([(tmp_path / "a.png", 0)], 40, (40, 40), augment=True)
        return {(loaded[0, seed][0] * 255).round().byte().permute(1, 2, 0).numpy().tobytes() for seed in range(20)}

    assert len(pictures()) == 20
    fine_tuning = {"__name__": "dataset"}
    text = (ROOT / "yolov3/darknet53/dataset.py").read_text()
    exec(text.replace('PRESET = "sample"', 'PRESET = "darknet_448"'), fine_tuning)
    assert fine_tuning["TRAIN"] == ROOT / "imagenet" / "train"
    for name in ("ANGLE", "ASPECT", "HUE", "SATURATION", "EXPOSURE"):
        monkeypatch.setattr(dataset, name, fine_tuning[name])
    assert pictures() == {image.tobytes(), image[:, ::-1].tobytes()}


@pytest.mark.slow
def test_backbone_fits_into_a_detector(monkeypatch, tmp_path):
    # One step. backbone.pt holds what YOLOv3's backbone has and nothing else, and gives the same features there as
    # best.pt here.
    for name, value in [("RUNS", tmp_path), ("MAX_STEPS", 1), ("BATCH_SIZE", 8), ("SIZE", 32), ("OPTIMIZER", "sgd"),
                        ("NUM_WORKERS", 0), ("MAX_TRAIN_EVALUATED", 10)]:
        monkeypatch.setattr(train, name, value)
    train.main()
    run = tmp_path / train.RUN
    classifier, backbone, features = Darknet53(10).eval(), Backbone().eval(), []
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
    with open(tmp_path / train.RUN / "log.csv", newline="") as file:
        assert float(list(csv.DictReader(file))[-1]["top-1 train"]) >= 0.95
