"""What is loaded, and when; interrupted trainings end where whole ones do; numbers are read; the sample's bar."""
import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn as nn
from PIL import Image

import yolov3.smol_svhn.detect as detect
import yolov3.smol_svhn.train as train
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.metrics import mean_ap, voc_ap
from shared.paths import ROOT
from yolov3.evaluate import truths_of
from yolov3.loss import assign
from yolov3.smol_svhn.dataset import CLASSES, TEST, DigitDataset, read_split
from yolov3.smol_svhn.model import CONFIG, SmolYOLOv3, read_config


@pytest.fixture(scope="module")
def config():
    return read_config(CONFIG)


def test_every_epoch_holds_every_image_once(monkeypatch):
    monkeypatch.setattr(train, "BATCH_SIZE", 4)
    loaded = [key for batch in train.batches(10, 1, 5) for key in batch]
    assert [n for _, (_, n) in loaded] == list(range(20))
    assert sorted(key[0] for key in loaded[:10]) == sorted(key[0] for key in loaded[10:]) == list(range(10))
    assert [key[0] for key in loaded[:10]] != [key[0] for key in loaded[10:]]
    assert list(train.batches(10, 3, 5)) == list(train.batches(10, 1, 5))[2:]


def test_only_convolution_weights_decay():
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    decayed, free = train.make_optimizer(network).param_groups
    assert [p.shape for p in decayed["params"]] == [(4, 3, 1, 1), (2, 4, 1, 1)] and decayed["weight_decay"] == 1e-4
    assert [tuple(p.shape) for p in free["params"]] == [(4,), (4,), (2,)] and free["weight_decay"] == 0
    assert decayed["lr"] == free["lr"] == 3e-3


def test_the_learning_rate(monkeypatch):
    assert train.learning_rate(800, 1600) == pytest.approx(1.5e-3)                  # (1 + cos(pi / 2)) / 2 = 1/2
    assert train.learning_rate(1600, 1600) == pytest.approx(0)
    monkeypatch.setattr(train, "SCHEDULE", "constant")
    assert train.learning_rate(1, 1600) == train.learning_rate(1600, 1600) == 3e-3


class Oracle(nn.Module):
    """Answers image after image with the heads that decode into its digits."""

    def __init__(self, network, annotations):
        super().__init__()
        self.anchors, self.strides = network.anchors, network.strides
        self.targets = iter([DigitDataset(annotations, 32)[i][1] for i in range(len(annotations))])

    def forward(self, images):
        heads = [torch.full((len(images), 1, 32 // s, 32 // s, 15), -12.0) for s in self.strides]
        targets = torch.cat([nn.functional.pad(next(self.targets), (1, 0), value=i) for i in range(len(images))])
        for head, anchors, stride, (slot, owner, classes, _) in zip(
                heads, self.anchors, self.strides, assign(heads, targets, self.anchors, self.strides)):
            offset = targets[owner, 2:4] * 32 / stride - torch.stack([slot[3], slot[2]], -1)
            stretch = (targets[owner, 4:6] * 32 / torch.tensor(anchors)[slot[1]]).log()
            sure = torch.full((len(owner), 1), 12.0)
            head[slot] = torch.cat([offset.logit(eps=1e-6), stretch, sure, classes * 24 - 12], 1)
        return heads


def test_a_perfect_network_is_measured_as_perfect(config, monkeypatch):
    monkeypatch.setattr(train, "NUM_WORKERS", 0)
    annotations = [a for folder in TEST for a in read_split(folder)]
    oracle = Oracle(SmolYOLOv3(config), annotations)
    detections = train.detect_all(oracle, annotations, 32, torch.device("cpu"))
    truths = truths_of(annotations)
    for truth in truths:                                                  # in pixels of the image
        same = detections[(detections[:, 0] == truth[0]) & (detections[:, 1] == truth[1])]
        assert np.abs(same[:, 3:] - truth[2:6]).max(1).min() < 0.05
    assert len(detections) == len(truths) and mean_ap(voc_ap(detections, truths, 10)) == 1


# ---- trainings of a few steps

SHORT = dict(EPOCHS=1, BATCH_SIZE=64, EVALUATE_EVERY=1, CHECKPOINT_EVERY=1, NUM_WORKERS=0, EVALUATED=4)


def start(folder, before="", **constants):
    """Runs train.py's main() with its constants changed, in a process of its own, as a user starts it."""
    settings = "".join(f"train.{name} = {value!r}\n" for name, value in {**SHORT, **constants}.items())
    program = (f"import sys, pathlib\nimport yolov3.smol_svhn.train as train\nfrom shared.errors import InputError\n"
               f"train.RUNS = pathlib.Path({str(folder)!r})\n{settings}{before}\n"
               f"try: train.main()\nexcept InputError as error: sys.exit(str(error))\n")
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)


def log(folder):
    with open(folder / "smol_svhn" / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    result = start(folder, EPOCHS=2)
    assert result.returncode == 0, result.stderr
    return folder


def test_what_a_training_leaves(whole, config):
    run = whole / "smol_svhn"
    assert {path.name for path in run.iterdir()} == {"log.csv", "curves.png", "detections", "last.pt", "best.pt"}
    rows = log(whole)
    assert [row["step"] for row in rows] == [str(n) for n in range(1, 9)]           # 2 epochs of 256 / 64
    assert [bool(row["AP50 test"]) for row in rows] == [n in (4, 8) for n in range(1, 9)]
    assert all(float(row["total"]) == pytest.approx(sum(float(row[term]) for term in train.TERMS[:-1])) for row in rows)
    assert float(rows[-1]["total"]) < float(rows[0]["total"])
    state = load_checkpoint(run / "last.pt", "SmolYOLOv3")
    assert (state["step"], state["config"], state["size"], state["classes"]) == (8, config, 32, CLASSES)


def test_killed_and_started_again_ends_with_the_same_weights(whole, tmp_path):
    # Killed without warning in step 7: the checkpoint is step 4's, the log two steps ahead of it.
    kill = "steps = iter(range(99)); old = train.yolov3_loss\n" \
           "train.yolov3_loss = lambda *a: old(*a) if next(steps) < 6 else __import__('os')._exit(9)"
    assert start(tmp_path, before=kill, EPOCHS=2).returncode == 9
    assert load_checkpoint(tmp_path / "smol_svhn" / "last.pt", "SmolYOLOv3")["step"] == 4 and len(log(tmp_path)) == 6
    result = start(tmp_path, EPOCHS=2)
    assert result.returncode == 0, result.stderr
    one, other = (load_checkpoint(folder / "smol_svhn" / "last.pt", "SmolYOLOv3")["model"]
                  for folder in (whole, tmp_path))
    assert all(value.equal(other[key]) for key, value in one.items())
    assert [row["total"] for row in log(tmp_path)] == [row["total"] for row in log(whole)]


def test_a_finished_or_another_training_is_left_alone(whole):
    before = (whole / "smol_svhn" / "last.pt").read_bytes()
    result = start(whole, EPOCHS=2)
    assert result.returncode == 0 and "has done its 8 steps" in result.stdout
    larger = "c = train.read_config; train.read_config = lambda p: {**c(p), 'image_size': 64}"
    moved = "r = train.read_split\ndef read(folder):\n    images = r(folder)\n    images[0].boxes[0] += 1\n" \
            "    return images\ntrain.read_split = read"                      # as many images, of the same names
    for change, what in [(larger, "smol.json"), ("train.TRAIN = train.TEST", "TRAIN"), (moved, "TRAIN")]:
        result = start(whole, before=change, EPOCHS=3)
        assert result.returncode != 0 and f"trained with another {what}" in result.stderr
        assert "Traceback" not in result.stderr
    assert (whole / "smol_svhn" / "last.pt").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_with_its_terms(tmp_path):
    broken = "old = train.yolov3_loss; factors = dict.fromkeys(('wh', 'total'), float('nan'))\n" \
             "train.yolov3_loss = lambda *a: {k: v * factors.get(k, 1) for k, v in old(*a).items()}"
    result = start(tmp_path, before=broken)
    assert result.returncode != 0
    assert "the loss of step 1 is not finite: xy " in result.stderr and "wh nan" in result.stderr
    assert not (tmp_path / "smol_svhn" / "last.pt").exists()


@pytest.mark.parametrize("change, message", [
    ("train.TRAIN = []", "TRAIN and TEST need at least one folder"), ("train.SCHEDULE = 'Cosine'", "is none of"),
    ("c = train.read_config; train.read_config = lambda p: {**c(p), 'num_classes': 9}", "num_classes is 9, but")])
def test_constants_that_cannot_be_are_refused(tmp_path, change, message):
    result = start(tmp_path, before=change)
    assert result.returncode != 0 and message in result.stderr and "Traceback" not in result.stderr


# ---- detect

def test_detect_reads_from_left_to_right(config, tmp_path, monkeypatch, capsys):
    # Three boxes of a 100 x 50 image: a 7 on the right, a 4 on the left, and at the place of the 4 a less likely 9; the
    # picture is three times as large.
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


def test_detect_runs_with_the_network_itself(whole, tmp_path, monkeypatch):
    for name, value in [("CHECKPOINT", whole / "smol_svhn" / "last.pt"), ("OUT", tmp_path)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    assert len((tmp_path / "numbers.txt").read_text().splitlines()) == 64 and len(list(tmp_path.glob("*.png"))) == 64


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov3/smol_svhn/train.py, as a newcomer starts it, only with another folder for what it writes.
    program = f"import pathlib, yolov3.smol_svhn.train as train\ntrain.RUNS = pathlib.Path({str(tmp_path)!r})\n" \
              "if __name__ == '__main__': train.main()"
    (tmp_path / "start.py").write_text(program)
    result = subprocess.run([sys.executable, str(tmp_path / "start.py")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(log(tmp_path)[-1]["AP50 train"]) >= 0.90 and float(log(tmp_path)[-1]["AP50 test"]) >= 0.50
