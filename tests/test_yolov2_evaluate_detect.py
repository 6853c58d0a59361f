"""A network that predicts exactly the targets of the loss is measured as perfect; boxes come back in image pixels."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

import yolov2.detect as detect
import yolov2.evaluate as evaluate
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.metrics import mean_ap, voc_ap
from shared.report import truths_of
from shared.voc import CLASSES, read_split
from yolov2.dataset import TEST, DetectionDataset
from yolov2.loss import assign
from yolov2.model import ANCHORS, STRIDE
from yolov2.tiny.model import ANCHORS as TINY_ANCHORS
from yolov2.tiny.model import YOLOv2Tiny

SIZE = 320


@pytest.fixture(scope="module")
def annotations():
    return [a for folder, split in TEST for a in read_split(folder, split, CLASSES)]


class Oracle(torch.nn.Module):
    """Takes the place of a network: for image after image, the head that decodes into its objects."""

    def __init__(self, annotations, stretched):
        super().__init__()
        dataset = DetectionDataset(annotations, SIZE, stretched=stretched)
        self.targets = iter([dataset[i][1] for i in range(len(annotations))])

    def forward(self, images):
        cells = SIZE // STRIDE
        head = torch.full((len(images), 5, cells, cells, 25), -12.0)
        targets = torch.cat([torch.nn.functional.pad(next(self.targets), (1, 0), value=i) for i in range(len(images))])
        slots, objects, _, _ = assign(head, targets)
        image, anchor, row, col = slots.T
        target_xy = targets[objects, 2:4] * cells - torch.stack([col, row], 1)
        target_wh = (targets[objects, 4:6] * cells / torch.tensor(ANCHORS)[anchor]).log()
        t_o = torch.full((len(objects), 1), 12.0)
        classes = torch.nn.functional.one_hot(targets[objects, 1].long(), 20) * 24.0 - 12
        head[image, anchor, row, col] = torch.cat([target_xy.logit(eps=1e-6), target_wh, t_o, classes], 1)
        return head


@pytest.mark.parametrize("stretched", [False, True])
def test_a_perfect_network_is_measured_as_perfect(annotations, stretched):
    oracle, cpu = Oracle(annotations, stretched), torch.device("cpu")
    detections, accuracies = evaluate.detect_all(oracle, annotations, SIZE, ANCHORS, cpu, 0, stretched)
    truths = truths_of(annotations)
    easy = truths[truths[:, 6] == 0]
    assert len(truths) == sum(len(a.boxes) for a in annotations) and len(detections) == len(easy)
    for truth in easy:                                                    # in pixels of the photographs
        same = detections[(detections[:, 0] == truth[0]) & (detections[:, 1] == truth[1])]
        assert np.abs(same[:, 3:] - truth[2:6]).max(1).min() < 0.05
    assert mean_ap(voc_ap(detections, truths, 20)) == 1
    assert accuracies == {"class": 1, "object": 1, "no_object": 1}


class Zero(torch.nn.Module):
    """Takes the place of a network: it predicts 0 everywhere."""

    def forward(self, images):
        return torch.zeros(len(images), 5, 2, 2, 25)


def test_the_three_accuracies_by_hand(annotations):
    # Of equal scores argmax takes class 0's; an objectness of 1/2 is not above .5.
    detections, accuracies = evaluate.detect_all(Zero(), annotations[:1], 64, ANCHORS, torch.device("cpu"), workers=0)
    easy = annotations[0].labels[~annotations[0].difficult]
    assert accuracies == {"class": pytest.approx((easy == 0).mean()), "object": 0, "no_object": 1}
    # The largest of its boxes, 11.2 x 10 cells in an input of 2 x 2, are cut off at the edges of the image.
    assert detections[:, 3:5].min(0).tolist() == [0, 0]
    assert detections[:, 5:].max(0).tolist() == [annotations[0].width, annotations[0].height]


def test_what_a_training_writes_down(annotations, tmp_path, monkeypatch):
    # At most MAX_TRAIN_EVALUATED images of TRAIN, all of TEST. An objectness of 1/2 is never right for an object and
    # always right for the background.
    calls = []
    original = evaluate.detect_all
    monkeypatch.setattr(evaluate, "detect_all", lambda network, some, *a: calls.append(len(some)) or original(
        network, some, *a))
    monkeypatch.setattr(evaluate, "MAX_TRAIN_EVALUATED", 1)
    measured = evaluate.measure(Zero(), annotations[:3], annotations[3:5], CLASSES, ANCHORS, 64, torch.device("cpu"), 0,
                                tmp_path / "sheet.jpg")
    assert calls == [1, 2]
    assert list(measured) == ["AP50 train", "class accuracy train", "object accuracy train", "no_object accuracy train",
                              "AP50 test", "class accuracy test", "object accuracy test", "no_object accuracy test"]
    assert set(measured) == {*evaluate.MEASURES, *evaluate.ACCURACIES}
    assert measured["object accuracy test"] == 0 and measured["no_object accuracy test"] == 1
    assert Image.open(tmp_path / "sheet.jpg").width == 3 * 320              # 1 + 2 pictures in one row


def test_measuring_leaves_the_network_as_it_was(annotations):
    # With BatchNorm in training mode the images of the test would move the running averages.
    torch.manual_seed(0)
    network = YOLOv2Tiny(20).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    evaluate.detect_all(network, annotations[:2], 64, TINY_ANCHORS, torch.device("cpu"), workers=0)
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.pt"
    torch.manual_seed(0)
    network = YOLOv2Tiny(20)
    with torch.no_grad():
        network.detect32[1].bias.view(5, 25)[:, 4] = 8                    # an objectness of almost 1: many detections
    save_checkpoint(path, {"network": "YOLOv2Tiny", "classes": CLASSES, "anchors": TINY_ANCHORS, "size": 64, "step": 1,
                           "model": network.state_dict()})
    return path


def test_evaluate_runs(checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "CHECKPOINT", checkpoint)
    monkeypatch.setattr(evaluate, "DATA", {"test": TEST})
    monkeypatch.setattr(evaluate, "NUM_WORKERS", 0)
    evaluate.main()
    out = checkpoint.parent / "evaluation" / "test"
    printed = capsys.readouterr().out
    for words in ("test: 8 images", "aeroplane", "mean", "COCO", "at confidence", "accuracies"):
        assert words in printed
    assert len(list((out / "padilla" / "detections").iterdir())) == 8
    assert (out / "precision_recall.png").stat().st_size > 0
    truths = json.loads((out / "truths.json").read_text())
    assert len(truths["images"]) == 8 and len(json.loads((out / "detections.json").read_text())) > 0


def test_detect_writes_boxes_in_pixels_of_the_image(checkpoint, tmp_path, monkeypatch, capsys):
    # One box, (0.25, 0.5, 0.75, 0.75) of the 64 x 64 letterbox of a 200 x 100 image: (16, 32, 48, 48) of 64, less the
    # 16 grey rows (16, 16, 48, 32), times 200 / 64: (50, 50, 150, 100). The score of dog is .6; that of cat, .5, is not
    # above the threshold.
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"damaged")                          # reported; the others are still processed
    scores = torch.zeros(1, 1, 20)
    scores[0, 0, 11], scores[0, 0, 7] = 0.6, 0.5
    for name, value in [("CHECKPOINT", checkpoint), ("SOURCE", tmp_path), ("OUT", tmp_path / "out"),
                        ("decode", lambda head, anchors: (torch.tensor([[[0.25, 0.5, 0.75, 0.75]]]), scores))]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    lines = (tmp_path / "out" / "detections.txt").read_text().splitlines()
    assert lines[1:] == ["a.jpg\tdog\t0.6000\t50.0\t50.0\t150.0\t100.0"]
    assert np.asarray(Image.open(tmp_path / "out" / "a.jpg")).shape == (100, 200, 3)
    printed = capsys.readouterr()
    assert "b.jpg: cannot be read" in printed.out and "1 images at 64 x 64 on cpu, median milliseconds" in printed.out


class Recorder(torch.nn.Module):
    """Takes the place of a network: keeps the images that it gets and predicts 0 everywhere."""

    def __init__(self):
        super().__init__()
        self.images = []

    def forward(self, images):
        self.images.append(images)
        return torch.zeros(len(images), 5, 2, 2, 25)


@pytest.mark.parametrize("stretch, bottom", [(True, 75), (None, 100), ("older", 100)])
def test_detect_does_to_an_image_what_the_checkpoint_says(checkpoint, tmp_path, monkeypatch, stretch, bottom):
    # The box of the test before. If the image of 200 x 100 is stretched to the square, 0.5 and 0.75 of the height are
    # 50 and 75; in the letterbox they were 50 and 100. A checkpoint that does not say what it is has a letterbox. The
    # image is black; the letterbox has 16 grey rows above it and 16 below.
    state = load_checkpoint(checkpoint, "YOLOv2Tiny")
    if stretch != "older":
        state["stretch"] = stretch
    save_checkpoint(tmp_path / "last.pt", state)
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    scores, recorder = torch.zeros(1, 1, 20), Recorder()
    scores[0, 0, 11] = 0.6
    for name, value in [("CHECKPOINT", tmp_path / "last.pt"), ("SOURCE", tmp_path / "a.png"), ("OUT", tmp_path / "out"),
                        ("fuse_batchnorm", lambda network: recorder),
                        ("decode", lambda head, anchors: (torch.tensor([[[0.25, 0.5, 0.75, 0.75]]]), scores))]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    lines = (tmp_path / "out" / "detections.txt").read_text().splitlines()
    assert lines[1:] == [f"a.png\tdog\t0.6000\t50.0\t50.0\t150.0\t{bottom}.0"]
    assert (recorder.images[0] == 0.5).sum() == (0 if stretch is True else 3 * 32 * 64)


@pytest.mark.parametrize("stretch", [True, None])
def test_evaluate_does_to_an_image_what_the_checkpoint_says(checkpoint, annotations, tmp_path, monkeypatch, stretch):
    # Seen through the letterbox, an image that is wider than high has grey bars above and below.
    save_checkpoint(tmp_path / "last.pt", {**load_checkpoint(checkpoint, "YOLOv2Tiny"), "stretch": stretch})
    recorder = Recorder()
    for name, value in [("CHECKPOINT", tmp_path / "last.pt"), ("DATA", {"test": TEST}), ("NUM_WORKERS", 0),
                        ("fuse_batchnorm", lambda network: recorder), ("report", lambda *_: None)]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    wide = [annotation.width > annotation.height for annotation in annotations]
    grey = [bool((image[:, [0, -1]] == 0.5).all()) for image in torch.cat(recorder.images)]
    assert any(wide) and grey == [stretch is None and is_wide for is_wide in wide]


def test_detect_runs_with_the_network_itself(checkpoint, tmp_path, monkeypatch):
    source = TEST[0][0] / "JPEGImages" / "000017.jpg"
    for name, value in [("CHECKPOINT", checkpoint), ("SOURCE", source), ("OUT", tmp_path), ("SCORE_THRESHOLD", 0.05)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    assert {path.name for path in tmp_path.iterdir()} == {"000017.jpg", "detections.txt"}
    assert len((tmp_path / "detections.txt").read_text().splitlines()) > 1


def test_a_wrong_checkpoint_or_source_is_one_line(checkpoint, tmp_path, monkeypatch):
    other = tmp_path / "other.pt"
    save_checkpoint(other, {"network": "YOLOv3"})
    monkeypatch.setattr(detect, "CHECKPOINT", other)
    with pytest.raises(InputError, match="other.pt: holds YOLOv3, not YOLOv2"):
        detect.main()
    monkeypatch.setattr(detect, "CHECKPOINT", checkpoint)
    monkeypatch.setattr(detect, "SOURCE", tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        detect.main()
    (tmp_path / "damaged.jpg").write_bytes(b"damaged")
    monkeypatch.setattr(detect, "SOURCE", tmp_path / "damaged.jpg")
    with pytest.raises(InputError, match="damaged.jpg: holds no image that can be read"):
        detect.main()
    state = load_checkpoint(checkpoint, "YOLOv2Tiny")
    save_checkpoint(other, {**state, "classes": CLASSES[:3]})
    monkeypatch.setattr(detect, "CHECKPOINT", other)
    with pytest.raises(InputError, match="other.pt: not weights of this network"):
        detect.main()
