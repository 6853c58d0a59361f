"""Schedule and optimizer; what is measured; trainings of a few steps, interrupted or refused; reading numbers."""
import csv
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn as nn
from PIL import Image

import yolov3.smol_svhn.dataset as dataset
import yolov3.smol_svhn.detect as detect
import yolov3.smol_svhn.evaluate as evaluate
import yolov3.smol_svhn.train as train
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.metrics import mean_ap, voc_ap
from shared.paths import ROOT
from shared.report import truths_of
from yolov3.loss import assign
from yolov3.smol_svhn.dataset import CLASSES, TEST, DigitDataset, read_split
from yolov3.smol_svhn.model import CONFIG, SmolYOLOv3, read_config


@pytest.fixture(scope="module")
def config():
    return read_config(CONFIG)


@pytest.fixture(scope="module")
def annotations():
    return [annotation for folder in TEST for annotation in read_split(folder)]


def test_both_presets(monkeypatch):
    # Each preset gives a value to the same constants. 100 epochs are 100 * 256 / 16 = 1,600 steps, and of SVHN
    # 100 * 33,402 / 64 = 52,190.6; 10 epochs are 160 and 5,219.1.
    def constants(script, preset):
        monkeypatch.setattr(dataset, "PRESET", preset)
        return {name: value for name, value in runpy.run_path(script.__file__).items() if name.isupper()}

    sample, svhn = constants(train, "sample"), constants(train, "svhn")
    assert sample.keys() == svhn.keys()
    for values, images in [(sample, 256), (svhn, 33_402)]:
        assert 0 <= values["MAX_STEPS"] - 100 * images / values["BATCH_SIZE"] < 1
        assert values["EVALUATE_EVERY"] == values["CHECKPOINT_EVERY"] == 10 * images // values["BATCH_SIZE"]
    assert (svhn["LEARNING_RATE"], svhn["SCHEDULE"], svhn["ADAM_BETAS"]) == (1e-3, "constant", (0.9, 0.999))


def test_only_convolution_weights_decay():
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    decayed, free = train.make_optimizer(network).param_groups
    assert [p.shape for p in decayed["params"]] == [(4, 3, 1, 1), (2, 4, 1, 1)] and decayed["weight_decay"] == 1e-4
    assert [tuple(p.shape) for p in free["params"]] == [(4,), (4,), (2,)] and free["weight_decay"] == 0
    assert decayed["lr"] == free["lr"] == 3e-3 and decayed["betas"] == free["betas"] == (0.9, 0.95)


def test_the_learning_rate(monkeypatch):
    assert train.learning_rate(800) == pytest.approx(1.5e-3)                 # 3e-3 (1 + cos(pi / 2)) / 2
    assert train.learning_rate(1600) == pytest.approx(0)
    monkeypatch.setattr(train, "SCHEDULE", "constant")
    assert train.learning_rate(1) == train.learning_rate(1600) == 3e-3


# ---- what is measured

class Oracle(nn.Module):
    """In place of a network: its outputs decode into the digits of the images, one batch after the other."""

    def __init__(self, network, annotations):
        super().__init__()
        self.anchors, self.strides = network.anchors, network.strides
        self.targets = iter([DigitDataset(annotations, 32)[i][1] for i in range(len(annotations))])

    def forward(self, images):
        heads = [torch.full((len(images), 1, 32 // s, 32 // s, 15), -12.0) for s in self.strides]
        targets = torch.cat([nn.functional.pad(next(self.targets), (1, 0), value=i) for i in range(len(images))])
        for head, anchors, stride, (slots, objects, classes, _) in zip(
                heads, self.anchors, self.strides, assign(heads, targets, self.anchors, self.strides)):
            image, anchor, row, col = slots.T
            target_xy = targets[objects, 2:4] * 32 / stride - torch.stack([col, row], 1)
            target_wh = (targets[objects, 4:6] * 32 / torch.tensor(anchors)[anchor]).log()
            objectness = torch.full((len(objects), 1), 12.0)
            head[image, anchor, row, col] = torch.cat(
                [target_xy.logit(eps=1e-6), target_wh, objectness, classes * 24 - 12], 1)
        return heads


def test_a_perfect_network_is_measured_as_perfect(config, annotations):
    oracle = Oracle(SmolYOLOv3(config), annotations)
    detections = evaluate.detect_all(oracle, annotations, 32, torch.device("cpu"), 0)
    truths = truths_of(annotations)
    for truth in truths:                                                     # in pixels of the image
        same = detections[(detections[:, 0] == truth[0]) & (detections[:, 1] == truth[1])]
        assert np.abs(same[:, 3:] - truth[2:6]).max(1).min() < 0.05
    assert len(detections) == len(truths) and mean_ap(voc_ap(detections, truths, 10)) == 1


def test_an_evaluation_does_not_change_the_network(config, annotations):
    network = SmolYOLOv3(config).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate.detect_all(network, annotations[:20], 32, torch.device("cpu"), 0)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def found(annotations, score):
    """The true boxes as detections of this score."""
    truths = truths_of(annotations)
    return np.insert(truths[:, :6], 2, score, axis=1)


def test_what_a_training_measures(annotations, tmp_path, monkeypatch):
    # Of TRAIN 2 images are evaluated, and everything is found in them with a score of .5. In 3 images of TEST nothing
    # is found, in 4 everything with a score of .4. The pictures show what scores at least CONFIDENCE, .5.
    def detect_all(network, images, *_):
        return {2: found(images, 0.5), 3: np.zeros((0, 7)), 4: found(images, 0.4)}[len(images)]

    monkeypatch.setattr(evaluate, "MAX_TRAIN_EVALUATED", 2)
    monkeypatch.setattr(evaluate, "detect_all", detect_all)
    pictures = []
    monkeypatch.setattr(evaluate, "write_sheet", lambda path, images, **_: pictures.extend(images))
    measured = evaluate.measure(None, annotations, annotations[:3], CLASSES, 32, None, 0, tmp_path / "sheet.jpg")
    assert measured == {"AP50 train": 1, "AP50 test": 0}
    evaluate.measure(None, annotations, annotations[:4], CLASSES, 32, None, 0, tmp_path / "sheet.jpg")
    assert len(pictures) == 2 + 3 + 2 + 4
    assert (pictures[0] != pictures[2]).any()                                # image 0 with and without its boxes
    assert (pictures[2] == pictures[7]).all()                                # without, since .4 is less than .5


def test_evaluate_prints_the_measures(config, annotations, tmp_path, monkeypatch, capsys):
    # All digits are found with a score of .4: AP50 is 1. At confidence .5 nothing is found.
    save_checkpoint(tmp_path / "last.pt", {"network": "SmolYOLOv3", "config": config, "classes": CLASSES, "size": 32,
                                           "step": 7, "model": SmolYOLOv3(config).state_dict()})
    for name, value in [("CHECKPOINT", tmp_path / "last.pt"), ("TRAIN", TEST),
                        ("detect_all", lambda network, images, *_: found(images, 0.4))]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    first, *others = capsys.readouterr().out.splitlines()
    assert first.endswith("last.pt, step 7, input 32 x 32")
    assert others == [f"{split}: 64 images, AP50 1.0000; at confidence 0.5: precision 0.0000, recall 0.0000, mAP 0.0000"
                      for split in ("train", "test")]


# ---- trainings of a few steps

@pytest.fixture
def start(monkeypatch):
    """A function that runs train.py's main() on 64 images for a few steps. It evaluates nothing and draws no curves."""
    def run(folder, **constants):
        settings = dict(RUNS=folder, TRAIN=TEST, MAX_STEPS=4, BATCH_SIZE=16, EVALUATE_EVERY=2, CHECKPOINT_EVERY=2,
                        NUM_WORKERS=0, measure=lambda *_: dict.fromkeys(train.MEASURES, 0.0),
                        write_training_curves=lambda *_: None)
        for name, value in {**settings, **constants}.items():
            assert hasattr(train, name)
            monkeypatch.setattr(train, name, value)
        train.main()
        return load_checkpoint(folder / "smol_svhn" / "last.pt", "SmolYOLOv3")

    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)        # the tests that follow may use all threads
    return run


def log(folder):
    with open(folder / "smol_svhn" / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_what_a_training_leaves(start, tmp_path, config):
    state = start(tmp_path, measure=train.measure, write_training_curves=train.write_training_curves)
    run = tmp_path / "smol_svhn"
    assert {path.name for path in run.iterdir()} == {
        ".lock", "log.csv", "curves.png", "detections", "last.pt", "best.pt"}
    assert {path.name for path in (run / "detections").iterdir()} == {"step_000002.jpg", "step_000004.jpg"}
    rows = log(tmp_path)
    assert [(row["step"], row["epoch"]) for row in rows] == [("1", "0"), ("2", "0"), ("3", "0"), ("4", "1")]
    assert [bool(row["AP50 test"]) for row in rows] == [False, True, False, True]
    assert [float(row["learning rate"]) for row in rows] == [train.learning_rate(step) for step in (1, 2, 3, 4)]
    assert all(float(row["total"]) == pytest.approx(sum(float(row[term]) for term in train.TERMS[:-1])) for row in rows)
    assert float(rows[-1]["total"]) < float(rows[0]["total"])
    assert {key: state[key] for key in ("step", "config", "size", "classes", "anchors")} == {
        "step": 4, "config": config, "size": 32, "classes": CLASSES, "anchors": SmolYOLOv3(config).anchors}


def test_interrupted_and_started_again_ends_with_the_same_weights(start, tmp_path, monkeypatch):
    # Interrupted in step 4. The checkpoint is that of step 2, and the log is one step ahead of it.
    whole = start(tmp_path / "whole")
    steps, loss = iter(range(99)), train.yolov3_loss

    def interrupted(*arguments):
        if next(steps) == 3:
            raise KeyboardInterrupt
        return loss(*arguments)

    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "killed", yolov3_loss=interrupted)
    killed = tmp_path / "killed" / "smol_svhn"
    assert load_checkpoint(killed / "last.pt", "SmolYOLOv3")["step"] == 2 and len(log(tmp_path / "killed")) == 3
    again = start(tmp_path / "killed", yolov3_loss=loss)
    assert all(value.equal(again["model"][key]) for key, value in whole["model"].items())
    assert [row["total"] for row in log(tmp_path / "killed")] == [row["total"] for row in log(tmp_path / "whole")]


def test_what_reaches_the_network_and_the_data_set(start, tmp_path):
    # BATCHNORM_MOMENTUM reaches every BatchNorm. The data set gets AUGMENT, and as seeds SEED and the image's number.
    # The network is in training mode in every step, also after an evaluation.
    networks, modes, made, loaded = [], [], [], []

    class Network(SmolYOLOv3):
        def __init__(self, config):
            super().__init__(config)
            networks.append(self)

        def forward(self, images):
            modes.append(self.training)
            return super().forward(images)

    class Recorder(DigitDataset):
        def __init__(self, annotations, size, augment):
            made.append((len(annotations), size, augment))
            super().__init__(annotations, size, augment)

        def __getitem__(self, key):
            loaded.append(key)
            return super().__getitem__(key)

    start(tmp_path, SmolYOLOv3=Network, DigitDataset=Recorder, BATCHNORM_MOMENTUM=0.25, AUGMENT=True, SEED=5,
          measure=lambda network, *_: network.eval() and {"AP50 train": 0.0, "AP50 test": 0.0})
    assert modes == [True] * 4
    momenta = [layer.momentum for layer in networks[0].modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(momenta) > 20 and set(momenta) == {0.25}
    assert made == [(64, 32, True)]
    assert sorted(index for index, _ in loaded) == list(range(64))           # 4 steps of 16: each image once
    assert [seed for _, seed in loaded] == [(5, n) for n in range(64)]


def test_the_best_is_the_best_on_test(start, tmp_path):
    # AP50 on TEST is .3, then .2; on TRAIN .4, then .5.
    results = iter([{"AP50 train": 0.4, "AP50 test": 0.3}, {"AP50 train": 0.5, "AP50 test": 0.2}])
    last = start(tmp_path, measure=lambda *_: next(results))
    assert (load_checkpoint(tmp_path / "smol_svhn" / "best.pt", "SmolYOLOv3")["step"], last["best"]) == (2, 0.3)


def test_a_finished_or_another_training_is_left_alone(start, tmp_path, config, annotations):
    start(tmp_path, MAX_STEPS=2)
    before = (tmp_path / "smol_svhn" / "last.pt").read_bytes()
    with pytest.raises(InputError, match="last.pt: all 2 steps are done"):
        start(tmp_path, MAX_STEPS=2)
    moved = [annotation._replace(boxes=annotation.boxes.copy()) for annotation in annotations]
    moved[0].boxes[0] += 1                                                   # as many images, of the same names
    with pytest.raises(InputError, match="was trained with another TRAIN; put it back, or give RUN"):
        start(tmp_path, read_split=lambda folder: moved)
    with pytest.raises(InputError, match="was trained with another CONFIG"):
        start(tmp_path, read_split=read_split, read_config=lambda path: {**config, "image_size": 64})
    assert (tmp_path / "smol_svhn" / "last.pt").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_with_its_terms(start, tmp_path):
    loss = train.yolov3_loss
    with pytest.raises(InputError, match=r"the loss of step 1 is not finite: \{'xy': .*'wh': nan"):
        start(tmp_path, yolov3_loss=lambda *arguments: {
            term: value * torch.nan if term in ("wh", "total") else value for term, value in loss(*arguments).items()})
    assert not (tmp_path / "smol_svhn" / "last.pt").exists()


@pytest.mark.parametrize("constants, message", [
    (dict(TRAIN=[]), "TRAIN and TEST need at least one"), (dict(TEST=[]), "TRAIN and TEST need at least one"),
    (dict(SCHEDULE="Cosine"), "SCHEDULE 'Cosine' is none of"), (dict(CLASSES=list("01234")), "num_classes is 10, but")])
def test_constants_that_cannot_be_are_refused(start, tmp_path, constants, message):
    with pytest.raises(InputError, match=message):
        start(tmp_path, **constants)


# ---- detect

def test_detect_reads_from_left_to_right(config, tmp_path, monkeypatch, capsys):
    # Boxes in an image of 100 x 50: a 7 on the right, a 4 on the left, a less likely 9 in the place of the 4, and a 1
    # that scores no more than the threshold of .5. The picture is enlarged to three times the size: 4 * 100 > 320.
    network = SmolYOLOv3(config)
    save_checkpoint(tmp_path / "last.pt", {"network": "SmolYOLOv3", "config": config, "classes": CLASSES, "size": 32,
                                           "step": 1, "model": network.state_dict()})
    (tmp_path / "images").mkdir()
    Image.new("RGB", (100, 50)).save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.png").write_bytes(b"damaged")
    boxes = torch.tensor([[[0.6, 0.1, 0.8, 0.9], [0.2, 0.1, 0.4, 0.9], [0.21, 0.1, 0.4, 0.9], [0.0, 0.1, 0.1, 0.9]]])
    scores = torch.zeros(1, 4, 10)
    scores[0, 0, 7], scores[0, 1, 4], scores[0, 2, 9], scores[0, 3, 1] = 0.8, 0.9, 0.7, 0.5
    for name, value in [("CHECKPOINT", tmp_path / "last.pt"), ("SOURCE", tmp_path / "images"),
                        ("OUT", tmp_path / "out"), ("decode", lambda heads, anchors, strides: (boxes, scores))]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    assert (tmp_path / "out" / "numbers.txt").read_text() == "a.png\t47\n"
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).shape == (150, 300, 3)
    printed = capsys.readouterr().out
    assert "b.png: cannot be read" in printed and "a.png\t47" in printed
    monkeypatch.setattr(detect, "CHECKPOINT", tmp_path / "none.pt")
    with pytest.raises(InputError, match="none.pt: no such file"):
        detect.main()


def test_detect_runs_with_a_trained_network(start, tmp_path, monkeypatch):
    start(tmp_path, MAX_STEPS=1)
    images = tmp_path / "images"
    images.mkdir()
    for n in range(1, 5):
        shutil.copy(TEST[0] / f"{n}.png", images)
    for name, value in [("CHECKPOINT", tmp_path / "smol_svhn" / "last.pt"), ("OUT", tmp_path / "out"),
                        ("SOURCE", images)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    assert len((tmp_path / "out" / "numbers.txt").read_text().splitlines()) == 4
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


# ---- the script, as a user starts it

@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    (tmp_path / "start.py").write_text(
        f"import pathlib, yolov3.smol_svhn.train as train\ntrain.RUNS = pathlib.Path({str(tmp_path)!r})\n"
        "if __name__ == '__main__': train.main()")
    result = subprocess.run([sys.executable, str(tmp_path / "start.py")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(log(tmp_path)[-1]["AP50 train"]) >= 0.90 and float(log(tmp_path)[-1]["AP50 test"]) >= 0.50
