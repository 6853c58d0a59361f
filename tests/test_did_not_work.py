"""
The experiments of section 4 of the third paper. Every expected number is worked out in its comment.

The world is that of test_yolov3_loss.py: one image of 64 x 64 pixels, one scale of stride 32, so 2 x 2 cells, one
anchor, two classes. One object of class 0 (x marks its centre):

    0                               32                              64 pixels
  0 +-------------------------------+-------------------------------+
    | row 0, column 0               | row 0, column 1               |      centre  (40, 16) pixels
  8 |                       +-------|-----------------------+       |              (1.25, 0.5) cells
    |                       |       |                       |       |
 16 |                       |       |       x               |       |
    |                       |       |                       |       |      size    32 x 16 pixels
 24 |                       +-------|-----------------------+       |              0.5 x 0.25 of the image
    |                               |                               |
 32 +-------------------------------+-------------------------------+
    | row 1, column 0               | row 1, column 1               |
 64 +-------------------------------+-------------------------------+

The responsible predictor is in row 0, column 1: x* = 0.25, y* = 0.5, and 2 - w h = 1.875. WIDE is an anchor of 64 x 16
pixels, 2 x 1/2 cells, so that its width cannot be mistaken for its height.
"""
import csv
from math import exp, log

import cv2
import numpy as np
import pytest
import torch
import torch.nn as nn
from pytest import approx

import yolov3.did_not_work.results as results
import yolov3.did_not_work.train as train
import yolov3.loss
import yolov3.model
from shared.errors import InputError
from shared.paths import SAMPLES
from shared.voc import Annotation
from yolov3.did_not_work.decode import EXPERIMENTS, decode
from yolov3.did_not_work.loss import assign, experiment_loss
from yolov3.tiny.model import ANCHORS, STRIDES

TARGETS = torch.tensor([[0, 0, 0.625, 0.25, 0.5, 0.25]])
WIDE, SQUARE, STRIDE = [[(64, 16)]], [[(32, 32)]], [32]
SAMPLE = SAMPLES / "voc" / "VOCdevkit" / "VOC2007"


def check(value, expected, **bugs):
    """Asserts value == expected. Each bug is what a mistake would give, which has to differ."""
    assert torch.as_tensor(value).item() == approx(expected, rel=1e-5, abs=1e-6)
    for bug, wrong in bugs.items():
        assert abs(wrong - expected) > 1e-3, bug


def predict(t, row=0, column=1):
    """One predictor predicts the numbers t, the first of the last axis; the others predict 0. (1, 1, 2, 2, 7)"""
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[0, 0, row, column, :len(t)] = torch.tensor(t)
    return prediction


def objects(*rows):
    """Rows of image, label, centre x, centre y, width, height in pixels -> targets"""
    return torch.tensor(rows, dtype=torch.float32) / torch.tensor([1, 1, 64, 64, 64, 64])


# ---- The baseline

@pytest.mark.parametrize("anchors, strides, seed", [(ANCHORS, STRIDES, 0), (yolov3.model.ANCHORS, [32, 16, 8], 1)])
def test_the_baseline_is_yolov3s_loss_to_the_last_bit(anchors, strides, seed):
    """Four images of 160 x 160 with 60 objects, several of them in one slot, and one image without objects."""
    torch.manual_seed(seed)
    predictions = [torch.randn(5, 3, 160 // s, 160 // s, 25).requires_grad_() for s in strides]
    place = torch.stack([torch.randint(0, 4, (60,)), torch.randint(0, 20, (60,))], 1)
    targets = torch.cat([place, torch.rand(60, 2), torch.rand(60, 2) * 0.6 + 0.02], 1)
    targets[:10, 1:] = targets[10:20, 1:] = targets[20:30, 1:]
    targets[0, 2:4] = 1.0                                                    # in the corner
    theirs = yolov3.loss.yolov3_loss(predictions, targets, anchors, strides)
    their_gradients = torch.autograd.grad(theirs["total"], predictions)
    ours = experiment_loss(predictions, targets, anchors, strides, "baseline")
    assert list(ours) == list(theirs)
    for term in theirs:
        assert (ours[term] - theirs[term]).item() == 0.0 and theirs[term] > 0
    for a, b in zip(torch.autograd.grad(ours["total"], predictions), their_gradients):
        assert (a - b).abs().max() == 0.0
    for a, b in zip(decode(predictions, anchors, strides, "baseline"),
                    yolov3.model.decode(predictions, anchors, strides)):
        assert torch.equal(a, b)
    # Each of the others gives other values, so none of them is the baseline by mistake.
    others = [experiment_loss(predictions, targets, anchors, strides, other)["total"].item()
              for other in EXPERIMENTS[1:]]
    assert len({theirs["total"].item(), *others}) == 5


# ---- Anchor offsets and linear xy

@pytest.mark.parametrize("experiment, b_x, b_y", [
    # t_x = 0.5, t_y = -0.5 in column 1, row 0. The anchor is 2 cells wide and 1/2 cell high.
    ("anchor offsets", 0.5 * 2 + 1 + 0.5, -0.5 * 0.5 + 0 + 0.5),     # (2.5, 0.25): 1.5 cells right of the cell's corner
    ("linear xy", 0.5 + 1, -0.5 + 0),                                # (1.5, -0.5): outside the image
    ("baseline", 1.62246, 0.37754),                                  # sigmoid(0.5) = 0.62246, sigmoid(-0.5) = 0.37754
    ("focal loss", 1.62246, 0.37754),
    ("dual thresholds", 1.62246, 0.37754),
])
def test_the_centre_of_a_box(experiment, b_x, b_y):
    boxes, scores = decode([predict([0.5, -0.5, 0, log(2), log(3), log(4)])], WIDE, STRIDE, experiment)
    # Of 2 x 2 cells; 64 x 32 pixels are 1 x 0.5 of the image. The box is the second in the order of rows and columns.
    x, y = b_x / 2, b_y / 2
    assert boxes[0, 1].tolist() == approx([x - 0.5, y - 0.25, x + 0.5, y + 0.25], abs=1e-5)
    assert scores[0, 1].tolist() == approx([3/4 * 4/5, 3/4 * 1/2])


def test_the_centre_of_a_box_where_all_is_zero():
    # "anchor offsets" and the baseline: the middle of the cell. "linear xy": its top left corner.
    for experiment, b_x, b_y in ("anchor offsets", 1.5, 0.5), ("baseline", 1.5, 0.5), ("linear xy", 1, 0):
        left, top, right, bottom = decode([predict([])], WIDE, STRIDE, experiment)[0][0, 1].tolist()
        assert [(left + right) / 2 * 2, (top + bottom) / 2 * 2] == approx([b_x, b_y])


def test_anchor_offsets_are_learned_in_widths_of_the_anchor():
    loss = experiment_loss([predict([0.5, -0.5])], TARGETS, WIDE, STRIDE, "anchor offsets")
    # t*_x = (1.25 - 1 - 1/2) 32 / 64 = -0.125      t*_y = (0.5 - 0 - 1/2) 32 / 16 = 0
    # xy = (1/2) 1.875 [ (0.5 + 0.125)^2 + (-0.5 - 0)^2 ] = 0.9375 (0.390625 + 0.25) = 0.600586
    assert 0.9375 * (0.390625 + 0.25) == approx(0.600586, abs=1e-6)
    check(loss["xy"], 0.600586,
          no_half=1.875 * (0.390625 + 0.25),                                              # 1.201172
          no_size_weight=0.5 * (0.390625 + 0.25),                                         # 0.320313
          from_the_corner_of_the_cell=0.9375 * ((0.5 - 0.125) ** 2 + (-0.5 - 1) ** 2),    # 2.241211
          width_and_height_swapped=0.9375 * ((0.5 + 0.5) ** 2 + 0.25),                    # 1.171875
          widths_of_the_object=0.9375 * ((0.5 + 0.25) ** 2 + 0.25),                       # 0.761719
          cells=0.9375 * ((0.5 + 0.25) ** 2 + 0.25))
    # Where t is t*, the decoded box has the object's centre, (0.625, 0.25), and the loss is 0.
    exact = [predict([-0.125, 0])]
    check(experiment_loss(exact, TARGETS, WIDE, STRIDE, "anchor offsets")["xy"], 0)
    left, top, right, bottom = decode(exact, WIDE, STRIDE, "anchor offsets")[0][0, 1].tolist()
    assert [(left + right) / 2, (top + bottom) / 2] == approx([0.625, 0.25])


def test_linear_xy_is_learned_by_squares():
    prediction = predict([0.5, -0.5]).requires_grad_()
    loss = experiment_loss([prediction], TARGETS, WIDE, STRIDE, "linear xy")
    # xy = (1/2) 1.875 [ (0.5 - 0.25)^2 + (-0.5 - 0.5)^2 ] = 0.9375 (0.0625 + 1) = 0.996094
    assert 0.9375 * (0.0625 + 1) == approx(0.996094, abs=1e-6)
    check(loss["xy"], 0.996094,
          no_half=1.875 * 1.0625,                                                         # 1.992188
          squares_of_the_sigmoid=0.9375 * ((0.62246 - 0.25) ** 2 + (0.37754 - 0.5) ** 2),     # 0.144115
          from_the_middle_of_the_cell=0.9375 * ((0.5 + 0.25) ** 2 + 0.25))                # 0.761719
    # The gradient is 1.875 (t - t*), as the baseline's is 1.875 (sigmoid(t) - t*).
    loss["xy"].backward()
    assert prediction.grad[0, 0, 0, 1, :2].tolist() == approx([1.875 * 0.25, 1.875 * -1])


def test_what_is_ignored_depends_on_the_box_that_the_experiment_predicts():
    # The object is 32 x 32 at (40, 16) pixels: x from 24 to 56, y from 0 to 32. Row 1, column 1 predicts t_y = -1, all
    # else is 0; the anchor is 32 x 32. The centre of its box, in pixels, and what it shares with the object:
    #   baseline         (48, 40.6)    24 x 7.4    178 / (2048 - 178) = .10    background
    #   linear xy        (32, 0)       24 x 16     384 / (2048 - 384) = .23    background
    #   anchor offsets   (48, 16)      24 x 32     768 / (2048 - 768) = .60    ignored
    target, rows = objects([0, 0, 40, 16, 32, 32]), {}
    assert [384 / (2048 - 384), 768 / (2048 - 768)] == approx([0.23, 0.60], abs=5e-3)
    assert 40.6 == approx(32 * (1 + 1 / (1 + exp(1))), abs=0.01)
    for experiment in "baseline", "linear xy", "anchor offsets":
        rows[experiment] = assign([predict([0, -1], row=1)], target, SQUARE, STRIDE, experiment)[0][3][0, 0].tolist()
    assert rows["baseline"] == rows["linear xy"] == [[True, False], [True, True]]
    assert rows["anchor offsets"] == [[True, False], [True, False]]


# ---- Focal loss

def test_focal_loss():
    prediction = predict([0, 0, 0, 0, log(3)])                               # responsible: p = 3/4
    prediction[0, 0, 1, 0, 4] = log(3)                                       # a background predictor: p = 3/4
    prediction.requires_grad_()                                              # the two others: p = 1/2
    loss = experiment_loss([prediction], TARGETS, SQUARE, STRIDE, "focal loss")
    # object    = (1/4) (1/4)^2 (-log(3/4))                                       = 0.004495
    # no_object = (3/4) [ (3/4)^2 (-log(1/4)) + 2 (1/2)^2 (-log(1/2)) ]           = 0.844773
    assert [1/4 * 1/16 * -log(3/4), 3/4 * (9/16 * log(4) + 1/2 * log(2))] == approx([0.004495, 0.844773], abs=1e-6)
    check(loss["object"], 1/4 * 1/16 * -log(3/4),
          no_alpha=1/16 * -log(3/4),
          alpha_swapped=3/4 * 1/16 * -log(3/4),
          gamma_of_1=1/4 * 1/4 * -log(3/4),
          power_of_p=1/4 * 9/16 * -log(3/4),
          baseline=-log(3/4))
    check(loss["no_object"], 3/4 * (9/16 * log(4) + 1/2 * log(2)),
          alpha_swapped=1/4 * (9/16 * log(4) + 1/2 * log(2)),
          power_of_1_minus_p=3/4 * (1/16 * log(4) + 1/2 * log(2)),
          baseline=log(4) + 2 * log(2))
    # The gradient for a positive: ALPHA (1 - p)^2 (2 p log p + p - 1). With constant weights it would lack 2 p log p.
    (loss["object"] + loss["no_object"]).backward()
    check(prediction.grad[0, 0, 0, 1, 4], 1/4 * 1/16 * (3/2 * log(3/4) - 1/4), constant_weights=1/4 * 1/16 * -1/4)
    # For the background: (1 - ALPHA) p^2 (p - 2 (1 - p) log(1 - p)).
    check(prediction.grad[0, 0, 1, 0, 4], 3/4 * 9/16 * (3/4 + 1/2 * log(4)), constant_weights=3/4 * 9/16 * 3/4)
    # The other terms are the baseline's.
    baseline = experiment_loss([prediction], TARGETS, SQUARE, STRIDE, "baseline")
    for term in "xy", "wh", "class":
        assert loss[term] == baseline[term]


# ---- Dual thresholds

def test_dual_thresholds():
    """
    The object is 32 x 32 at (36, 16), in row 0, column 1; the anchor is 32 x 32. The four boxes, in pixels:

    row, column   t                                 box                     shares        IOU
    0, 0          t_x = log 31, sigmoid 31/32       32 x 32 at (31, 16)     27 x 32       27/37 = .730   positive
    0, 1          0                                 32 x 32 at (48, 16)     20 x 32       20/44 = .455   responsible
    1, 0          0                                 32 x 32 at (16, 48)     0             0              background
    1, 1          t_x = t_y = -log 7, t_h = log 2   32 x 64 at (36, 36)     32 x 28       28/68 = .412   ignored
    """
    assert [27/37, 20/44, 28/68] == approx([0.730, 0.455, 0.412], abs=5e-4)
    target = objects([0, 0, 36, 16, 32, 32])
    prediction = predict([log(31)], row=0, column=0) + predict([-log(7), -log(7), 0, log(2)], row=1, column=1)
    slots, members, classes, background = assign([prediction], target, SQUARE, STRIDE, "dual thresholds")[0]
    assert slots.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]] and members.tolist() == [0, 0]
    assert classes.tolist() == [[1, 0], [1, 0]]
    assert background.tolist() == [[[[False, False], [True, False]]]]
    # The baseline: one predictor learns the object, and .412 is not above .5.
    slots, _, _, background = assign([prediction], target, SQUARE, STRIDE, "baseline")[0]
    assert slots.tolist() == [[0, 0, 0, 1]] and background.tolist() == [[[[False, False], [True, True]]]]

    loss = experiment_loss([prediction], target, SQUARE, STRIDE, "dual thresholds")
    # 2 - w h = 2 - 1/4 = 1.75. Row 0, column 1: x* = 0.125, y* = 0.5, and t = 0: log 2 twice.
    # Row 0, column 0: x* = 36 / 32 - 0 = 1.125 is limited to 1: -log(31/32); y* = 0.5: log 2.
    unlimited = -1.125 * log(31/32) + 0.125 * log(1/32)                      # -0.397500: less than 0, without a minimum
    assert unlimited == approx(-0.397500, abs=1e-6)
    check(loss["xy"], 1.75 * (3 * log(2) - log(31/32)),
          unlimited=1.75 * (3 * log(2) + unlimited), responsible_alone=1.75 * 2 * log(2))
    check(loss["wh"], 0)
    check(loss["object"], 2 * log(2), responsible_alone=log(2), positive_alone=log(2))
    check(loss["no_object"], log(2), one_threshold=2 * log(2), nothing_ignored=3 * log(2))
    check(loss["class"], 2 * 2 * log(2), responsible_alone=2 * log(2))


def test_an_object_that_no_box_overlaps_by_point_7_still_has_its_best_anchor():
    # All predict 0, so the best overlap is 20/44: still one positive, as in Faster R-CNN. Without that rule, none.
    target = objects([0, 0, 36, 16, 32, 32])
    slots, *_ = assign([predict([])], target, SQUARE, STRIDE, "dual thresholds")[0]
    assert slots.tolist() == [[0, 0, 0, 1]]
    # Row 0, column 0 predicts x = 32 * 7/8 = 28: an IOU of 24/40 = .6 is not positive, but ignored.
    slots, *_, background = assign([predict([log(7)], column=0)], target, SQUARE, STRIDE, "dual thresholds")[0]
    assert slots.tolist() == [[0, 0, 0, 1]] and background.tolist() == [[[[False, False], [True, True]]]]


def test_a_positive_box_learns_the_object_that_it_overlaps_most():
    # Image 0: object 0. Image 1: none. Image 2: objects 1 and 2 of 32 x 32, at x = 36 and 35, share row 0, column 1,
    # where the later one takes the box and both classes stay. Row 0, column 0 of image 2 predicts x = 31. Its IOU with
    # object 1 is 27/37 = .73, with object 2 it is 28/36 = .78. So it learns object 2 and its class 1 alone.
    target = objects([0, 0, 48, 48, 32, 32], [2, 0, 36, 16, 32, 32], [2, 1, 35, 16, 32, 32])
    prediction = torch.cat([predict([]), predict([]), predict([log(31)], column=0)])
    slots, members, classes, background = assign([prediction], target, SQUARE, STRIDE, "dual thresholds")[0]
    assert slots.tolist() == [[0, 0, 1, 1], [2, 0, 0, 0], [2, 0, 0, 1]]
    assert members.tolist() == [0, 2, 2]                                     # not [0, 1, 2], the first above .7
    assert classes.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert background[1].all() and background.sum() == 3 + 4 + 2


def test_a_responsible_predictor_keeps_its_object():
    # Object 0 at x = 36 is in column 1, object 1 at x = 31 in column 0. Column 1 predicts x = 32 + 1 = 33, and so
    # overlaps object 0 by 29/35 = .83 and object 1 by 30/34 = .88. It stays responsible for object 0.
    assert 29/35 < 30/34
    target = objects([0, 0, 36, 16, 32, 32], [0, 1, 31, 16, 32, 32])
    slots, members, classes, _ = assign([predict([-log(31)])], target, SQUARE, STRIDE, "dual thresholds")[0]
    assert slots.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]] and members.tolist() == [1, 0]
    assert classes.tolist() == [[0, 1], [1, 0]]


def test_no_object_at_all():
    for experiment in EXPERIMENTS:
        loss = experiment_loss([predict([])], torch.zeros(0, 6), SQUARE, STRIDE, experiment)
        factor = 3/4 * 1/4 if experiment == "focal loss" else 1
        assert loss["no_object"].item() == approx(4 * log(2) * factor) and loss["object"] == loss["xy"] == 0


# ---- train.py and results.py

class SmallNetwork(nn.Module):
    """Takes the place of YOLOv3Tiny: the same input and output, two layers."""

    def __init__(self, num_classes, anchors):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3 * (5 + num_classes), stride, stride) for stride in STRIDES)

    def forward(self, images):
        return [layer(images).unflatten(1, (3, -1)).permute(0, 1, 3, 4, 2) for layer in self.layers]


@pytest.fixture
def small(tmp_path, monkeypatch):
    values = dict(PRESET="mini", TRAIN=[(SAMPLE, "train")], TEST=[(SAMPLE, "val")], SEEDS="0", MAX_STEPS=2,
                  BATCH_SIZE=2, INPUT_SIZE=64, NUM_WORKERS=0, YOLOv3Tiny=SmallNetwork, EXPERIMENT="all")
    for name, value in values.items():
        monkeypatch.setattr(train, name, value)
    for module in train, results:
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
        monkeypatch.setattr(module, "OUT", tmp_path)
    monkeypatch.setattr(results, "write_figure", lambda path, rows: None)    # it takes longest
    return tmp_path


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_all_experiments_and_what_is_left_of_them(small, monkeypatch, capsys):
    monkeypatch.setattr(train, "EXPERIMENT", "focal loss")
    train.main()
    assert [row["experiment"] for row in table(small / "results.csv")] == ["focal loss"]
    began = (small / "runs" / "did_not_work" / "focal_loss_0" / "log.csv").stat().st_mtime_ns
    monkeypatch.setattr(train, "EXPERIMENT", "all")
    train.main()
    rows = table(small / "results.csv")
    assert list(rows[0]) == results.COLUMNS and [row["experiment"] for row in rows] == EXPERIMENTS
    assert {(row["seed"], row["steps"]) for row in rows} == {("0", "2")}
    assert (small / "runs" / "did_not_work" / "focal_loss_0" / "log.csv").stat().st_mtime_ns == began    # not again
    logs = {experiment: table(small / "runs" / "did_not_work" / f"{experiment.replace(' ', '_')}_0" / "log.csv")
            for experiment in EXPERIMENTS}
    # The same weights and images: what the experiment leaves alone has the same value in step 1.
    first = {experiment: log[0] for experiment, log in logs.items()}
    assert len({first[experiment]["class"] for experiment in EXPERIMENTS[:4]}) == 1
    assert len({first[experiment]["xy"] for experiment in EXPERIMENTS[:3]}) == 3
    assert first["focal loss"]["xy"] == first["baseline"]["xy"]
    assert float(first["focal loss"]["no_object"]) < float(first["baseline"]["no_object"]) / 2
    results.main()
    assert "| dual thresholds | 1 | 0." in capsys.readouterr().out


def test_a_training_that_diverges_is_a_result(small, monkeypatch):
    class Diverged(SmallNetwork):
        def forward(self, images):
            return [head * float("inf") for head in super().forward(images)]
    monkeypatch.setattr(train, "YOLOv3Tiny", Diverged)
    monkeypatch.setattr(train, "EXPERIMENT", "linear xy")
    train.main()
    row, = table(small / "results.csv")
    assert row["steps"] == "0" and float(row["AP50"]) == 0


def test_a_training_that_stands_in_the_results_is_not_repeated(small, monkeypatch, capsys):
    # As after a download: results.csv has the rows of two seeds, and runs/ is empty.
    line = "linear xy,{},0.1,0.05,0.3,600,3.1"
    table_by_hand = "\n".join([",".join(results.COLUMNS), line.format(3), line.format(12)]) + "\n"
    (small / "results.csv").write_text(table_by_hand)
    monkeypatch.setattr(train, "EXPERIMENT", "linear xy")
    monkeypatch.setattr(train, "SEEDS", "12, 3")
    trained = []
    monkeypatch.setattr(train, "train", lambda experiment, seed, *_: trained.append(seed) or (None, 600))
    monkeypatch.setattr(train, "detect_all", lambda *_: np.zeros((0, 7)))
    train.main()
    assert trained == [] and (small / "results.csv").read_text() == table_by_hand
    assert "linear xy, seed 12: already in" in capsys.readouterr().out
    # Without its line it is trained again.
    (small / "results.csv").write_text("\n".join([",".join(results.COLUMNS), line.format(12)]) + "\n")
    train.main()
    assert trained == [3] and [row["seed"] for row in table(small / "results.csv")] == ["3", "12"]
    # A result in runs/ is added again: the folder has to be deleted, too.
    (small / "results.csv").write_text(table_by_hand)
    train.main()
    assert trained == [3]


def test_wrong_constants_are_one_line(small, monkeypatch):
    for name, value, message in [("EXPERIMENT", "focal", "EXPERIMENT 'focal' is none of"),
                                 ("SEEDS", "-1", "SEEDS has to be whole numbers, separated by commas, not '-1'"),
                                 ("SEEDS", "0,", "SEEDS has to be whole numbers, separated by commas, not '0,'"),
                                 ("SEEDS", str(2 ** 63), "SEED has to be a whole number, at least 0"),
                                 ("PRESET", "sample", "PRESET in yolov3/dataset.py is 'sample'"),
                                 ("MAX_STEPS", 0, "MAX_STEPS has to be a whole number")]:
        with monkeypatch.context() as patch, pytest.raises(InputError, match=message):
            patch.setattr(train, name, value)
            train.main()


def test_detections_are_those_of_the_experiments_boxes(small):
    # An image of 128 x 64 pixels in a letterbox of 64 x 64: half as large, 16 pixels of grey above and below. One
    # predictor claims an object: stride 32, the first anchor, 81 x 82 pixels, row 0, column 1, t_x = 0.5, t_y = 0,
    # t_w = log(16/81), t_h = log(16/82): a box of 16 x 16. Its centre in the letterbox, in pixels:
    #    anchor offsets   x = 0.5 * 81 + 32 + 16 = 88.5, y = 16      linear xy   x = (0.5 + 1) 32 = 48, y = 0
    # In the image, y less 16, all twice as large: x from 161 to 193, clipped to 128, y from -16 to 16; and x from 80
    # to 112, y from -48 to -16. So the first has no width left, the second no height. With t_x = -0.25, t_y = 0.75:
    #    anchor offsets   x = -0.25 * 81 + 48 = 27.75, y = 0.75 * 82 + 16 = 77.5: below the image
    #    linear xy        x = (1 - 0.25) 32 = 24, y = 0.75 * 32 = 24: 32..64 and 0..32
    cv2.imwrite(str(small / "grey.png"), np.full((64, 128, 3), 127, np.uint8))
    annotation = Annotation(small / "grey.png", 128, 64, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool))

    class Claims(nn.Module):
        def forward(self, images):
            heads = [torch.full((1, 3, 64 // stride, 64 // stride, 25), -20.0) for stride in STRIDES]
            heads[0][0, 0, 0, 1] = torch.tensor([-0.25, 0.75, log(16/81), log(16/82), 20, 20, *[-20] * 19])
            return heads

    def boxes(experiment):
        return train.detect_all(Claims(), [annotation], experiment, torch.device("cpu"))

    assert boxes("linear xy")[0] == approx([0, 0, 1, 32, 0, 64, 32], abs=1e-3)
    assert boxes("anchor offsets")[0, 3:] == approx([39.5, 64, 71.5, 64], abs=1e-3)      # y: 107..139, clipped to 64
    # sigmoid(-0.25) = 0.43782, sigmoid(0.75) = 0.67918: (46.0104, 21.7337) in the letterbox
    assert boxes("baseline")[0, 3:] == approx([76.0206, 0, 108.0206, 27.4674], abs=1e-3)


def test_recall_counts_every_detection_however_low_its_score():
    # Two truths of class 0. A detection of score .01 finds the first; one of score .9 has another class. Recall 1/2.
    truths = np.array([[0, 0, 0, 0, 10, 10, 0], [0, 0, 20, 20, 30, 30, 0]], float)
    detections = np.array([[0, 0, 0.01, 0, 0, 10, 10], [0, 1, 0.9, 20, 20, 30, 30]], float)
    figures = train.measure(detections, truths)
    assert figures == approx({"AP50": 1/2, "COCO AP": 51/101, "recall": 1/2})


def test_results_of_other_trainings_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(results, "OUT", tmp_path)
    head = "experiment,seed,AP50,COCO AP,recall,steps,minutes\n"
    (tmp_path / "results.csv").write_text(head + "linear xy,0,0.1,0.05,0.3,600,3.1\nbaseline,1,0.3,0.2,0.5,600,3.1\n")
    for name, line in ("linear_xy_0", "linear xy,0,0.2,0.05,0.3,600,3.1\n"), ("x", "baseline,0,0.4,0.2,0.5,600,3.1\n"):
        (tmp_path / "runs" / "did_not_work" / name).mkdir(parents=True)
        (tmp_path / "runs" / "did_not_work" / name / "result.csv").write_text(head + line)
    results.collect()
    assert (tmp_path / "results.csv").read_text() == (
        head + "baseline,0,0.4,0.2,0.5,600,3.1\nbaseline,1,0.3,0.2,0.5,600,3.1\nlinear xy,0,0.2,0.05,0.3,600,3.1\n")
    assert (tmp_path / "results.png").stat().st_size > 5_000
    for text in (head + "linear xz,0,1,1,1,1,1\n", head + "linear xy,0,,1,1,1,1\n", head + "linear xy\n"):
        (tmp_path / "results.csv").write_text(text)
        with pytest.raises(InputError, match="results.csv: not a table of these results"):
            results.collect()
