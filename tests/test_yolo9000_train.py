"""Training, evaluation and detection of YOLO9000 on a few images and with a small network."""
import csv
from math import log

import cv2
import numpy as np
import pytest
import torch
import torch.nn as nn
from pytest import approx

import yolov2.yolo9000.classifier as classifier
import yolov2.yolo9000.dataset as dataset
import yolov2.yolo9000.detect as detect
import yolov2.yolo9000.evaluate as evaluate
import yolov2.yolo9000.train as train
import yolov2.yolo9000.weights as weights
from data_samples.draw_tree import KINDS
from shared.checkpoint import load_backbone, load_checkpoint
from shared.errors import InputError
from shared.paths import SAMPLES
from shared.voc import Annotation
from yolov2.yolo9000.evaluate import answers_table, detect_all, find_answers, judge, print_answers, worst_first
from yolov2.yolo9000.model import TinyClassifier, YOLO9000Tiny
from yolov2.yolo9000.wordtree import make_tree

TREE = make_tree("animal vehicle dog cat terrier retriever car bus".split(), [-1, -1, 0, 0, 2, 2, 1, 1])
VOC_SAMPLE = SAMPLES / "voc" / "VOCdevkit" / "VOC2007"
SHORT = dict(RUN="short", MAX_STEPS=4, BATCH_SIZE=4, SIZE=64, NUM_WORKERS=0, CHECKPOINT_EVERY=2)


class SmallNetwork(nn.Module):
    """Takes the place of YOLO9000Tiny, and of TinyClassifier: the same input and output, two layers."""

    def __init__(self, num_classes, anchors=None):
        super().__init__()
        self.shape = (len(anchors), 5 + num_classes) if anchors else None
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 32, 32, bias=False), nn.BatchNorm2d(8))
        self.predict = nn.Conv2d(8, len(anchors) * (5 + num_classes) if anchors else num_classes, 1)

    def forward(self, images):
        x = self.predict(self.backbone(images))
        return x.unflatten(1, self.shape).permute(0, 1, 3, 4, 2) if self.shape else x.mean((2, 3))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Small data: 8 images with boxes; one grey image for each kind."""
    for name in KINDS:
        (tmp_path / "labelled" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "labelled" / name / "1.jpg"), np.full((24, 32, 3), 200, np.uint8))
    boxed = [(VOC_SAMPLE, "val")]
    for module in (dataset, classifier):
        monkeypatch.setattr(module, "LABELLED", tmp_path / "labelled")
    monkeypatch.setattr(classifier, "LABELLED_VAL", tmp_path / "labelled")
    monkeypatch.setattr(dataset, "TRAIN", boxed)
    for module in (evaluate, detect):
        monkeypatch.setattr(module, "SCENES", boxed)
    monkeypatch.setattr(evaluate, "TEST", boxed)
    groups = {name: (names, boxed) for name, (names, _) in evaluate.GROUPS.items()}
    monkeypatch.setattr(evaluate, "GROUPS", groups)
    monkeypatch.setitem(train.NETWORKS, "YOLO9000Tiny", SmallNetwork)      # the same dict in weights.py
    monkeypatch.setitem(classifier.CLASSIFIERS, "TinyClassifier", SmallNetwork)
    monkeypatch.setattr(train, "CLASSIFIER", None)
    for module, constants in (train, {**SHORT, "EVALUATE_EVERY": 4}), (classifier, SHORT):
        monkeypatch.setattr(module, "RUNS", tmp_path)
        for name, value in constants.items():
            monkeypatch.setattr(module, name, value)
    assert weights.NETWORKS is train.NETWORKS
    monkeypatch.setattr(train, "write_training_curves", lambda *arguments: None)         # it takes longest
    return tmp_path


def log_of(folder):
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_training_and_one_that_was_interrupted(small, monkeypatch):
    train.main()
    rows = log_of(small / "short")
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"] and list(rows[0]) == train.COLUMNS
    assert [bool(row["AP50 boxed"]) for row in rows] == [False, False, False, True]
    assert float(rows[0]["prior"]) > 0 and float(rows[0]["object"]) > 0
    state = load_checkpoint(small / "short" / "last.pt", "YOLO9000Tiny")
    assert state["step"] == 4 and state["tree"][0][0] == "living_thing"
    with pytest.raises(InputError, match="all 4 steps are done"):
        train.main()

    # Another training ends in step 3; its checkpoint is of step 2. Continued, it ends with the same numbers.
    monkeypatch.setattr(train, "RUN", "interrupted")
    check_loss = train.check_loss

    def fail(script, step, terms):
        if step == 3:
            raise InputError("power cut")

    monkeypatch.setattr(train, "check_loss", fail)
    with pytest.raises(InputError, match="power cut"):
        train.main()
    monkeypatch.setattr(train, "check_loss", check_loss)
    train.main()
    again = load_checkpoint(small / "interrupted" / "last.pt", "YOLO9000Tiny")
    for key, value in state["model"].items():
        assert value.equal(again["model"][key]), key
    assert log_of(small / "interrupted") == rows


def test_another_tree_is_refused(small, monkeypatch):
    monkeypatch.setattr(train, "MAX_STEPS", 2)
    train.main()
    monkeypatch.setattr(train, "MAX_STEPS", 4)
    monkeypatch.setattr(train, "EXPERIMENT", "flat")
    with pytest.raises(InputError, match="last.pt: was trained with another TREE"):
        train.main()


def test_evaluation_and_detection(small, monkeypatch, capsys):
    train.main()
    for module in (evaluate, detect):
        monkeypatch.setattr(module, "CHECKPOINT", small / "short" / "last.pt")
        monkeypatch.setattr(module, "CONFIDENCE", 0.0)
    monkeypatch.setattr(evaluate, "NUM_WORKERS", 0)
    evaluate.main()
    printed = capsys.readouterr().out
    assert "AP50 animals" in printed and "umbrella" in printed and "objects of the scenes have a box" in printed
    monkeypatch.setattr(detect, "SOURCE", VOC_SAMPLE / "JPEGImages" / "000017.jpg")
    monkeypatch.setattr(detect, "OUT", small / "out")
    detect.main()
    lines = (small / "out" / "detections.txt").read_text().splitlines()
    assert len(lines) > 1 and lines[1].startswith("000017.jpg\t") and len(lines[1].split("\t")) == 8
    assert lines[1].split("\t")[7].split()[0] in ("living_thing", "artifact")
    assert (small / "out" / "000017.jpg").exists()


def test_a_walk_that_does_not_exist(monkeypatch):
    monkeypatch.setattr(detect, "WALK", "Paper")
    with pytest.raises(InputError, match=r"detect.py: WALK 'Paper' is none of \('paper', 'darknet'\)"):
        detect.main()


def test_the_classifier(small, capsys):
    classifier.main()
    rows = log_of(small / "short")
    assert len(rows) == 4 and 0 <= float(rows[3]["top-1 val"]) <= float(rows[3]["top-5 val"]) <= 1
    printed = capsys.readouterr().out
    assert "threshold  depth   exact   above   wrong" in printed
    assert printed.splitlines()[-1] == f"{small / 'short'}: log.csv, last.pt, backbone.pt"
    trained = load_checkpoint(small / "short" / "last.pt", "TinyClassifier")["model"]
    detector = SmallNetwork(5, [(1, 1)])
    load_backbone(detector.backbone, small / "short" / "backbone.pt")          # what BACKBONE in yolov2/train.py does
    for key, value in detector.backbone.state_dict().items():
        assert value.equal(trained[f"backbone.{key}"])


def test_darknet_19_leaves_no_backbone_for_the_tiny_yolov2(small, monkeypatch, capsys):
    monkeypatch.setitem(classifier.CLASSIFIERS, "Darknet19", SmallNetwork)
    monkeypatch.setattr(classifier, "NETWORK", "Darknet19")
    monkeypatch.setattr(classifier, "MAX_STEPS", 1)
    classifier.main()
    assert {path.name for path in (small / "short").glob("*.pt")} == {"last.pt"}
    assert capsys.readouterr().out.splitlines()[-1] == f"{small / 'short'}: log.csv, last.pt"


@pytest.mark.parametrize("name, value, message", [
    ("EXPERIMENT", "falt", r"EXPERIMENT 'falt' is none of \('joint', 'flat'\)"),
    ("EXPERIMENT", "boxes", r"EXPERIMENT 'boxes' is none of"),       # it has no classification images
    ("NETWORK", "Darknet53", r"NETWORK 'Darknet53' is none of \('Darknet19', 'TinyClassifier'\)"),
    ("MAX_STEPS", 0, "MAX_STEPS has to be a whole number, at least 1")])
def test_wrong_constants_of_the_classifier_are_one_line(small, monkeypatch, name, value, message):
    monkeypatch.setattr(classifier, name, value)
    with pytest.raises(InputError, match=f"yolov2/yolo9000/classifier.py: {message}"):
        classifier.main()
    assert not (small / "short").exists()


def test_the_detector_begins_with_the_classifier(tmp_path):
    # The detector's nodes are animal 0, sofa 1, dog 2. The classifier has the nodes dog 0, animal 1. It says 10 for
    # dog and 20 for animal, everywhere. The detector has two anchors with 5 + 3 outputs each.
    small, large = make_tree(["dog", "animal"], [-1, -1]), make_tree(["animal", "sofa", "dog"], [-1, -1, 0])
    source, detector = TinyClassifier(2), YOLO9000Tiny(3, [(1, 1), (2, 2)])
    with torch.no_grad():
        source.classify.weight[0], source.classify.weight[1] = 10, 20
        source.classify.bias[:] = torch.tensor([1.0, 2.0])
    state = {"network": "TinyClassifier", "tree": [small.names, small.parent], "size": 64, "step": 1}
    torch.save({**state, "model": source.state_dict()}, tmp_path / "last.pt")
    before = detector.detect32.weight.clone()                                  # (16, 1024, 1, 1)
    assert weights.load_classifier(detector, large, tmp_path / "last.pt") == 2
    after, bias = detector.detect32.weight, detector.detect32.bias
    assert (after[[5, 13]] == 20).all() and bias[[5, 13]].tolist() == [2, 2]   # animal, in both anchors
    assert (after[[7, 15]] == 10).all() and bias[[7, 15]].tolist() == [1, 1]   # dog
    others = [0, 1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 14]                          # boxes, objectness, sofa
    assert after[others].equal(before[others]) and bias[others].eq(0).all()
    for name, value in source.backbone.state_dict().items():
        assert detector.backbone.state_dict()[name].equal(value)


def test_a_missing_classifier_is_reported_before_the_data_is_read(small, monkeypatch):
    monkeypatch.setattr(train, "CLASSIFIER", small / "none" / "last.pt")
    monkeypatch.setattr(train, "read_training", None)
    with pytest.raises(InputError, match="none/last.pt: no such file. Run python yolov2/yolo9000/classifier.py first"):
        train.main()


def test_top_1_is_among_the_leaves():
    # dog .6 is the highest but no leaf. Leaves: cat, terrier, retriever, car, bus. The best is terrier, then cat.
    p = torch.tensor([[0.75, 0.25, 0.6, 0.15, 0.54, 0.06, 0.125, 0.125]])
    top1 = [classifier.top_accuracies(p, torch.tensor([label]), TREE)[0] for label in (4, 3, 6)]
    assert top1 == [1, 0, 0]
    assert classifier.top_accuracies(p.repeat(2, 1), torch.tensor([4, 3]), TREE) == [0.5, 1]


def test_the_learning_rate(monkeypatch):
    for name, value in [("LEARNING_RATE", 1e-3), ("BURN_IN", 10), ("MAX_STEPS", 200)]:
        monkeypatch.setattr(train, name, value)
    assert train.learning_rate(5) == approx(1e-3 / 16)                     # (5 / 10)^4
    assert train.learning_rate(100) == approx(5e-4)                        # (1 + cos(pi / 2)) / 2


# ---- average precision

def test_the_worst_comes_first_and_what_was_not_measured_last():
    nan = float("nan")
    ap = {"a": 0.5, "b": nan, "c": 0.1, "d": 0.3, "e": nan, "f": 0.05}
    assert worst_first(ap) == ["f", "c", "d", "a", "b", "e"]
    assert sorted(ap, key=ap.get) == ["a", "b", "c", "d", "e", "f"]          # nan is neither less nor greater


# ---- answers

def test_judging_an_answer():
    animal, vehicle, dog, cat, terrier = range(5)
    for answer, truth, verdict in [(terrier, terrier, "exact"), (dog, terrier, "above"), (animal, terrier, "above"),
                                   (terrier, dog, "below"), (cat, dog, "wrong"), (vehicle, terrier, "wrong")]:
        assert judge(TREE, answer, truth) == verdict


class Constant(nn.Module):
    """A network that sees one object: 32 x 16 pixels in the middle of the right half of an input of 64 x 64."""

    def forward(self, images):
        head = torch.full((len(images), 1, 2, 2, 13), -20.0)
        head[..., 5:] = torch.tensor([3, 1, 4, 1, 9, 1, 1, 1.0]).log()
        # Cell (row 0, column 1), anchor 1 x 1 cell of 32 pixels: centre 1.5, .5 cells, size 1 x .5 cells
        head[:, 0, 0, 1, :5] = torch.tensor([0, 0, 0, log(0.5), log(4)])     # objectness .8
        return head


def annotation(tmp_path, boxes, labels):
    path = tmp_path / "square.png"
    cv2.imwrite(str(path), np.zeros((128, 128, 3), np.uint8))
    return Annotation(path, 128, 128, np.array(boxes, float), np.array(labels), np.zeros(len(labels), bool))


def test_detections_for_evaluation(tmp_path):
    # Score of node c: .8 Pr(c). The box is x 32..64, y 8..24 of 64, so 64..128 and 16..48 of 128.
    detections = detect_all(Constant(), [annotation(tmp_path, [[64, 16, 128, 48]], [4])], TREE, 64, [(1, 1)], "cpu", 0)
    assert len(detections) == 8                              # all nodes; the other cells score less than .005
    scores = dict(zip(detections[:, 1].astype(int), detections[:, 2]))
    expected = [0.75, 0.25, 0.6, 0.15, 0.54, 0.06, 0.125, 0.125]
    assert [scores[node] for node in range(8)] == approx([0.8 * p for p in expected], abs=1e-6)
    assert detections[0, 3:].tolist() == approx([64, 16, 128, 48], abs=1e-3)


def test_the_table_of_answers(tmp_path, capsys):
    # A terrier at the box; an object elsewhere has no box; a car that the box overlaps too: IOU 48 / 64 = .75.
    boxes = [[64, 16, 128, 48], [0, 80, 30, 100], [80, 16, 128, 48]]
    found, objects = answers_table(Constant(), [annotation(tmp_path, boxes, [4, 4, 6])], TREE, 64, [(1, 1)], "cpu", 0)
    assert objects == 3 and [node for node, _ in found] == [4, 6]
    assert found[0][1].tolist() == approx([0.75, 0.25, 0.6, 0.15, 0.54, 0.06, 0.125, 0.125])
    print_answers(found, TREE, "two objects")
    lines = capsys.readouterr().out.splitlines()
    table = {tuple(line.split()[:2]): [float(x) for x in line.split()[2:]] for line in lines[3:]}
    # Of both boxes the answer at .5 is terrier (paper) or animal (Darknet). For the car both are wrong.
    assert table["paper", "0.5"] == [3, 0.5, 0, 0, 0.5]
    assert table["Darknet", "0.5"] == [1, 0, 0.5, 0, 0.5]
    assert table["Darknet", "0.25"] == [2, 0, 0.5, 0, 0.5]   # dog


def test_no_object_has_a_box(capsys):
    print_answers([], TREE, "nothing")
    assert capsys.readouterr().out == "\nnothing: 0 objects with a box\n"


def test_nms_takes_no_notice_of_the_classes():
    # Two boxes with an IOU of .8, one apart; objectness .5, .6, .9, .1
    boxes = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 0.8], [2, 2, 3, 3], [4, 4, 5, 5.0]])
    p = torch.eye(4)
    boxes, objectness, p = find_answers(boxes, torch.tensor([0.5, 0.6, 0.9, 0.1]), p, 0.15)
    assert objectness.tolist() == approx([0.9, 0.6]) and p.argmax(1).tolist() == [2, 1]
