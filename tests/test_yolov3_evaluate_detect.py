"""A network that predicts what the loss asks for is measured as perfect; boxes come back in pixels of the image."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

import yolov3.detect as detect
import yolov3.evaluate as evaluate
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.metrics import mean_ap, voc_ap
from shared.report import truths_of
from shared.voc import CLASSES, Annotation, read_split
from yolov3.dataset import TEST, TRAIN, DetectionDataset
from yolov3.loss import assign
from yolov3.model import ANCHORS, STRIDES
from yolov3.tiny.model import ANCHORS as TINY_ANCHORS
from yolov3.tiny.model import YOLOv3Tiny

SIZE, CPU = 320, torch.device("cpu")


@pytest.fixture(scope="module")
def annotations():
    return [a for folder, split in TEST for a in read_split(folder, split, CLASSES)]


class Oracle(torch.nn.Module):
    """Predicts, for one image after the other, the heads that decode into its objects."""

    def __init__(self, annotations):
        super().__init__()
        self.targets = iter([DetectionDataset(annotations, SIZE)[i][1] for i in range(len(annotations))])

    def forward(self, images):
        heads = [torch.full((len(images), 3, SIZE // s, SIZE // s, 25), -12.0) for s in STRIDES]
        targets = torch.cat([torch.nn.functional.pad(next(self.targets), (1, 0), value=i) for i in range(len(images))])
        for head, anchors, stride, (slots, objects, classes, _) in zip(heads, ANCHORS, STRIDES, assign(heads, targets)):
            image, anchor, row, col = slots.T
            offset = targets[objects, 2:4] * (SIZE / stride) - torch.stack([col, row], -1)   # x*, y*
            stretch = (targets[objects, 4:6] * SIZE / torch.tensor(anchors)[anchor]).log()   # t*_w, t*_h
            sure = torch.full((len(objects), 1), 12.0)
            head[image, anchor, row, col] = torch.cat([offset.logit(eps=1e-6), stretch, sure, classes * 24 - 12], 1)
        return heads


def test_a_perfect_network_is_measured_as_perfect(annotations):
    detections, accuracies = evaluate.detect_all(Oracle(annotations), annotations, SIZE, ANCHORS, CPU, workers=0)
    truths = truths_of(annotations)
    easy = truths[truths[:, 6] == 0]
    assert len(truths) == sum(len(a.boxes) for a in annotations) and len(detections) == len(easy)
    for truth in easy:                                                    # in pixels of the photographs
        same = detections[(detections[:, 0] == truth[0]) & (detections[:, 1] == truth[1])]
        assert np.abs(same[:, 3:] - truth[2:6]).max(1).min() < 0.05
    assert mean_ap(voc_ap(detections, truths, 20)) == 1
    assert accuracies == {"class": 1, "object": 1, "no_object": 1}


class Zero(torch.nn.Module):
    """Predicts 0 everywhere in an input of 64 x 64 pixels, except what is given as (scale, index): value."""

    def __init__(self, changes={}):
        super().__init__()
        self.changes = changes

    def forward(self, images):
        heads = [torch.zeros(len(images), 3, 64 // stride, 64 // stride, 25) for stride in STRIDES]
        for (scale, index), value in self.changes.items():
            heads[scale][index] = value
        return heads


def test_the_three_accuracies_by_hand(annotations):
    # Where all class scores are equal, argmax takes class 0. An objectness of 1/2 is not above .5.
    detections, accuracies = evaluate.detect_all(Zero(), annotations[:1], 64, ANCHORS, CPU, workers=0)
    easy = annotations[0].labels[~annotations[0].difficult]
    assert accuracies == {"class": pytest.approx((easy == 0).mean()), "object": 0, "no_object": 1}
    # Its largest boxes, of 373 x 326 pixels in an input of 64 x 64, are cut off where the image ends.
    assert detections[:, 3:5].min(0).tolist() == [0, 0]
    assert detections[:, 5:].max(0).tolist() == [annotations[0].width, annotations[0].height]


def test_the_accuracies_count_what_they_say(tmp_path):
    # Two images of 64 x 64 pixels. The second has no objects. The first has one of class 3, 10 x 13 pixels around
    # (34, 36): stride 8, anchor 0, row 4, column 4 (4.25). The network is sure of this class and of this object, and of
    # an object in one of the background predictors. No box of an anchor in a cell overlaps the object by more than .5
    # except that of the responsible predictor itself, so of the 2 * 3 (2 * 2 + 4 * 4 + 8 * 8) = 504 predictors 503 are
    # background, and of these 502 are right.
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    first = Annotation(tmp_path / "a.png", 64, 64, np.array([[29, 29.5, 39, 42.5]]), np.array([3]), np.array([False]))
    second = first._replace(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), difficult=np.zeros(0, bool))
    right = {(2, (0, 0, 4, 4, 5 + 3)): 1, (2, (0, 0, 4, 4, 4)): 1, (0, (0, 0, 0, 0, 4)): 1}
    _, accuracies = evaluate.detect_all(Zero(right), [first, second], 64, ANCHORS, CPU, workers=0)
    assert accuracies == {"class": 1, "object": 1, "no_object": 502 / 503}
    other_class = {(2, (0, 0, 4, 4, 5 + 4)): 1}
    _, accuracies = evaluate.detect_all(Zero(other_class), [first, second], 64, ANCHORS, CPU, workers=0)
    assert accuracies == {"class": 0, "object": 0, "no_object": 1}
    # Without any object nothing is counted for two of the three.
    _, accuracies = evaluate.detect_all(Zero(), [second], 64, ANCHORS, CPU, workers=0)
    assert accuracies == {"class": 0, "object": 0, "no_object": 1}


def test_the_detectors_own_anchors_are_used(tmp_path):
    # All anchors are 10 x 13 pixels, as the object is. The first of them is responsible: stride 32, anchor 0, row 1,
    # column 1. With YOLOv3's anchors it would be one of stride 8. No box is larger than 10 x 13 pixels.
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    one = Annotation(tmp_path / "a.png", 64, 64, np.array([[29, 29.5, 39, 42.5]]), np.array([3]), np.array([False]))
    network, anchors = Zero({(0, (0, 0, 1, 1, 4)): 1}), [[(10, 13)] * 3] * 3
    detections, accuracies = evaluate.detect_all(network, [one], 64, anchors, CPU, workers=0)
    assert accuracies["object"] == 1
    assert (detections[:, 5:] - detections[:, 3:5]).max(0).tolist() == pytest.approx([10, 13], abs=1e-4)


def test_an_evaluation_leaves_the_network_as_it_is(annotations):
    # In training mode BatchNorm would normalise with the test images, and put them into its running averages.
    torch.manual_seed(0)
    network = YOLOv3Tiny(20).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    evaluate.detect_all(network, annotations[:2], 64, TINY_ANCHORS, CPU, workers=0)
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())


def test_what_is_measured_during_a_training(annotations, tmp_path, monkeypatch):
    # On TRAIN, of which 3 images are evaluated at most, nothing is found; on TEST everything is. One picture of each.
    truths, calls, sheets = truths_of(annotations), [], []
    perfect = np.insert(truths[:, :6], 2, 1, axis=1)

    def detect_all(network, some, size, anchors, device, workers):
        calls.append((network, len(some), size, anchors, device, workers))
        found = len(some) == len(annotations)
        return perfect if found else np.zeros((0, 7)), dict.fromkeys(("class", "object", "no_object"), float(found))

    for name, value in [("detect_all", detect_all), ("MAX_TRAIN_EVALUATED", 3), ("PICTURES", 1),
                        ("write_sheet", lambda path, pictures, columns: sheets.append((path, len(pictures), columns)))]:
        monkeypatch.setattr(evaluate, name, value)
    train = [a for folder, split in TRAIN for a in read_split(folder, split, CLASSES)]
    measured = evaluate.measure("network", train, annotations, CLASSES, ANCHORS, 64, CPU, 5, tmp_path / "sheet.jpg")
    assert calls == [("network", 3, 64, ANCHORS, CPU, 5), ("network", len(annotations), 64, ANCHORS, CPU, 5)]
    assert measured == {"AP50 train": 0, "AP50 test": 1,
                        **{f"{name} accuracy train": 0 for name in ("class", "object", "no_object")},
                        **{f"{name} accuracy test": 1 for name in ("class", "object", "no_object")}}
    assert sorted(measured) == sorted(evaluate.MEASURES + evaluate.ACCURACIES)
    assert sheets == [(tmp_path / "sheet.jpg", 2, 1)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.pt"
    torch.manual_seed(0)
    network = YOLOv3Tiny(20)
    with torch.no_grad():                                                    # sure of everything, so that there are
        for layer in (network.detect32, network.detect16):                   # detections to be written
            layer[1].bias.view(3, 25)[:, 4] = 8
    save_checkpoint(path, {"network": "YOLOv3Tiny", "classes": CLASSES, "anchors": TINY_ANCHORS, "size": 64, "step": 1,
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
    # One box, (0.25, 0.5, 0.75, 0.75) of the 64 x 64 letterbox of a 200 x 100 image. In pixels of the letterbox it is
    # (16, 32, 48, 48), without the 16 grey rows above the image (16, 16, 48, 32), times 200 / 64 (50, 50, 150, 100).
    # It scores .6 as a dog, and .5 as a cat, which is not more than the threshold.
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"damaged")                          # reported; the other images are not lost
    scores = torch.zeros(1, 1, 20)
    scores[0, 0, 11], scores[0, 0, 7] = 0.6, 0.5
    for name, value in [("CHECKPOINT", checkpoint), ("SOURCE", tmp_path), ("OUT", tmp_path / "out"),
                        ("decode", lambda heads, anchors: (torch.tensor([[[0.25, 0.5, 0.75, 0.75]]]), scores))]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    lines = (tmp_path / "out" / "detections.txt").read_text().splitlines()
    assert lines[1:] == ["a.jpg\tdog\t0.6000\t50.0\t50.0\t150.0\t100.0"]
    assert np.asarray(Image.open(tmp_path / "out" / "a.jpg")).shape == (100, 200, 3)
    printed = capsys.readouterr()
    assert "b.jpg: cannot be read" in printed.out and "1 images at 64 x 64 on cpu, median milliseconds" in printed.out


def test_detect_runs_with_the_network_itself(checkpoint, tmp_path, monkeypatch):
    source = TEST[0][0] / "JPEGImages" / "000017.jpg"
    for name, value in [("CHECKPOINT", checkpoint), ("SOURCE", source), ("OUT", tmp_path), ("SCORE_THRESHOLD", 0.3)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    assert {path.name for path in tmp_path.iterdir()} == {"000017.jpg", "detections.txt"}
    assert len((tmp_path / "detections.txt").read_text().splitlines()) > 1


def test_a_wrong_checkpoint_or_source_is_one_line(checkpoint, tmp_path, monkeypatch):
    other = tmp_path / "other.pt"
    save_checkpoint(other, {"network": "YOLOv2"})
    monkeypatch.setattr(detect, "CHECKPOINT", other)
    with pytest.raises(InputError, match="other.pt: holds YOLOv2, not YOLOv3"):
        detect.main()
    monkeypatch.setattr(detect, "CHECKPOINT", checkpoint)
    monkeypatch.setattr(detect, "SOURCE", tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        detect.main()
    (tmp_path / "damaged.jpg").write_bytes(b"damaged")
    monkeypatch.setattr(detect, "SOURCE", tmp_path / "damaged.jpg")
    with pytest.raises(InputError, match="damaged.jpg: holds no image that can be read"):
        detect.main()
    state = load_checkpoint(checkpoint, "YOLOv3Tiny")
    save_checkpoint(other, {**state, "classes": CLASSES[:3]})
    monkeypatch.setattr(detect, "CHECKPOINT", other)
    with pytest.raises(InputError, match="other.pt: not weights of this network"):
        detect.main()
