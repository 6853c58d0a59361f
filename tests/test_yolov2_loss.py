"""
Every expected number in this file is worked out in its comment. Check it with a pencil.

The world is as small as it can be: one image of 2 x 2 cells, one anchor of 1 x 1 cell, two classes. One object of class
0, drawn as #: centre (0.625, 0.25), size 0.5 x 0.25 of the image. That is centre (1.25, 0.5) and size 1 x 0.5 in cells.

      column 0    column 1
    +-----------+-----------+
    |           |           |
    |        ###|########   |    row 0       The object's centre is in row 0, column 1: this cell's predictor is
    |        ###|########   |                responsible. Its targets are
    |           |           |
    +-----------+-----------+                x*   = 1.25 - 1 = 0.25      t*_w = log(1 / 1)   = 0
    |           |           |                y*   = 0.5  - 0 = 0.5       t*_h = log(0.5 / 1) = log 0.5
    |           |           |    row 1
    |           |           |                size weight 2 - w h = 2 - 0.5 * 0.25 = 1.875
    |           |           |
    +-----------+-----------+

The predictions are logarithms, so that sigmoids are fractions: sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4.
python yolov2/loss.py prints the terms of this world for a network that predicts 0 everywhere.
"""
import sys
from math import exp, log
from types import ModuleType

import pytest
import torch
from pytest import approx

import yolov2.loss
from reference_yolov2_loss import darknet_delta
from shared.paths import ROOT
from yolov2.loss import assign, yolov2_loss
from yolov2.model import ANCHORS

TARGETS, ONE_ANCHOR = torch.tensor([[0, 0, 0.625, 0.25, 0.5, 0.25]]), [(1.0, 1.0)]
IN_THE_MIDDLE = torch.tensor([[0, 7, 0.5, 0.5, 4 / 13, 4 / 13]])      # 4 x 4 cells at (6.5, 6.5) of 13 x 13


def sigmoid(t):
    return 1 / (1 + exp(-t))


def small_world(images=1, **keywords):
    return torch.zeros(images, 1, 2, 2, 7, **keywords)               # (B, A, row, column, 5 + C)


def zeros(cells=13, images=1, classes=20):
    return torch.zeros(images, 5, cells, cells, 5 + classes)


def test_a_network_that_predicts_zero():
    # xy         1/2 * 1.875 * ((1/2 - 1/4)^2 + (1/2 - 1/2)^2) = 0.05859375
    # wh         1/2 * 1.875 * (0^2 + (log 1/2)^2)
    # object     The box is 1 x 1 at (1.5, 0.5), from x = 1 to 2; the object reaches from 0.75 to 1.75, and is 0.5 high.
    #            IOU = 0.75 * 0.5 / (1 + 0.5 - 0.375) = 1/3. 5/2 * (1/2 - 1/3)^2 = 5/72
    # no_object  The three other cells: 1/2 * 3 * (1/2)^2 = 0.375
    # class      -log(1 / (1 + 1)) = log 2
    # prior      Every box is its anchor's, in the middle of its cell: 0
    loss = yolov2_loss(small_world(), TARGETS, ONE_ANCHOR, seen=1)
    expected = {"xy": 0.05859375, "wh": 0.5 * 1.875 * log(0.5) ** 2, "object": 5 / 72, "no_object": 0.375,
                "class": log(2), "prior": 0}
    for term, value in expected.items():
        assert loss[term].item() == approx(value, abs=1e-6), term
    assert loss["total"].item() == approx(sum(expected.values()))


def test_coordinates():
    prediction = small_world()
    prediction[0, 0, 0, 1, :4] = torch.tensor([log(3), -log(3), -0.5, log(0.5) + 0.5])
    # t_x   sigmoid( log 3) = 0.75   0.75 - 0.25 =  0.5    squared 0.25
    # t_y   sigmoid(-log 3) = 0.25   0.25 - 0.5  = -0.25   squared 0.0625   sum 0.3125
    # t_w                            -0.5 - 0    = -0.5    squared 0.25
    # t_h       log 0.5 + 0.5 - log 0.5          =  0.5    squared 0.25     sum 0.5
    # xy = 1/2 * 1.875 * 0.3125 = 0.29296875
    # wh = 1/2 * 1.875 * 0.5    = 0.46875
    loss = yolov2_loss(prediction, TARGETS, ONE_ANCHOR)
    assert loss["xy"].item() == approx(0.29296875, abs=1e-6)
    assert loss["wh"].item() == approx(0.46875, abs=1e-6)
    # What a bug would give instead:
    for number, wrong in [(0.1763, 0.5 * 1.875 * ((sigmoid(0.75) - 0.25) ** 2 + (sigmoid(0.25) - 0.5) ** 2)),
                          (0.0586, 0.5 * 1.875 * ((0.75 - 0.5) ** 2 + (0.25 - 0.25) ** 2)),     # x and y swapped
                          (0.1563, 0.5 * 0.3125),                                               # no size weight
                          (0.5859, 1.875 * 0.3125)]:                                            # no half
        assert wrong == approx(number, abs=1e-4) and loss["xy"].item() != approx(wrong, abs=0.01)
    for number, wrong in [(2.5598, 0.5 * 1.875 * ((-0.5 - 1) ** 2 + (log(0.5) + 0.5 - 0.5) ** 2)),     # w / p_w, no log
                          (0.2344, 0.5 * 1.875 * 0.5 / 2)]:                            # a mean over the coordinates
        assert wrong == approx(number, abs=1e-4) and loss["wh"].item() != approx(wrong, abs=0.01)


def test_the_loss_of_2016_has_no_size_weight(monkeypatch):
    # The predictions and squares of the last test, without 1.875: xy = 1/2 * 0.3125 = 0.15625, wh = 1/2 * 0.5 = 0.25.
    # The other terms stay as they are.
    prediction = small_world()
    prediction[0, 0, 0, 1, :4] = torch.tensor([log(3), -log(3), -0.5, log(0.5) + 0.5])
    weighted = yolov2_loss(prediction, TARGETS, ONE_ANCHOR, seen=1)
    monkeypatch.setattr(yolov2.loss, "SIZE_WEIGHT", False)
    loss = yolov2_loss(prediction, TARGETS, ONE_ANCHOR, seen=1)
    assert loss["xy"].item() == approx(0.15625, abs=1e-6)
    assert loss["wh"].item() == approx(0.25, abs=1e-6)
    for term in ("object", "no_object", "class", "prior"):
        assert loss[term] == weighted[term]
    assert loss["total"].item() == approx(weighted["total"].item() - 0.875 * (0.15625 + 0.25))
    assert yolov2_loss(prediction, torch.zeros(0, 6), ONE_ANCHOR)["xy"] == 0     # no object: nothing to weight


@pytest.mark.parametrize("preset, size_weight", [("sample", True), ("darknet", True), ("darknet_coco", True),
                                                 ("darknet_2016", False)])
def test_the_loss_of_each_preset(monkeypatch, preset, size_weight):
    dataset, loss = ModuleType("yolov2.dataset"), ModuleType("yolov2.loss")
    dataset.PRESET = preset
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "yolov2.dataset", dataset)
        exec((ROOT / "yolov2" / "loss.py").read_text().split("@torch.no_grad")[0], loss.__dict__)
    assert loss.SIZE_WEIGHT is size_weight


def test_objectness_and_class():
    prediction = small_world()
    prediction[0, 0, 0, 1] = torch.tensor([-log(3), 0, log(2), log(0.5), log(4), log(3), 0])
    # The box: centre (1/4 + 1, 1/2 + 0), size 2 x 1/2. The object: same centre, 1 x 1/2. IOU = 0.5 / 1 = 1/2.
    # object     5/2 * (sigmoid(log 4) - 1/2)^2 = 5/2 * (0.8 - 0.5)^2 = 0.225     (with a target of 1, not the IOU: 0.1)
    # no_object  the three other cells, sigmoid(0) = 1/2 each: 1/2 * 3 * 1/4 = 0.375
    # class      -log(3 / (3 + 1)) = log(4/3)
    loss = yolov2_loss(prediction, TARGETS, ONE_ANCHOR)
    assert loss["object"].item() == approx(0.225)
    assert 5 / 2 * (0.8 - 1) ** 2 == approx(0.1)
    assert loss["no_object"].item() == approx(0.375)
    assert loss["class"].item() == approx(log(4 / 3))


def test_the_pull_to_the_anchors():
    prediction = small_world()
    prediction[0, 0, 0, 1, :4] = 3                                   # responsible: it is not pulled to its anchor
    prediction[0, 0, 1, 0, :4] = torch.tensor([log(3), -log(3), 0.5, -1])
    # Row 1, column 0: 1/2 * .01 * [(3/4 - 1/2)^2 + (1/4 - 1/2)^2 + 1/4 + 1] = .005 * 1.375 = 0.006875. The two
    # others: 0.
    for seen, expected in [(4, 0.006875), (12799, 0.006875), (12800, 0), (10**6, 0)]:
        loss = yolov2_loss(prediction, TARGETS, ONE_ANCHOR, seen)
        assert loss["prior"].item() == approx(expected)
        assert loss["total"].item() == approx(sum(loss[term].item() for term in list(loss)[:-1]))
    assert yolov2_loss(prediction, TARGETS, ONE_ANCHOR)["prior"] == 0     # without `seen` there is no pull


def test_total_is_the_sum_and_the_mean_over_images():
    torch.manual_seed(0)
    prediction = torch.randn(1, 1, 2, 2, 7)
    once = yolov2_loss(prediction, TARGETS, ONE_ANCHOR, seen=1)
    assert list(once) == ["xy", "wh", "object", "no_object", "class", "prior", "total"]
    assert once["total"].item() == approx(sum(once[term].item() for term in list(once)[:-1]), rel=1e-6)
    # The same image twice: the mean does not change.
    both = torch.cat([TARGETS, TARGETS + torch.tensor([1, 0, 0, 0, 0, 0])])
    twice = yolov2_loss(prediction.repeat(2, 1, 1, 1, 1), both, ONE_ANCHOR, seen=1)
    for term in once:
        assert twice[term].item() == approx(once[term].item(), rel=1e-5)


def test_the_published_anchors_on_one_object_in_the_middle():
    # An object of 4 x 4 cells at (6.5, 6.5) of 13 x 13. Its IOU with the shapes of the five anchors: the smaller width
    # times the smaller height is the intersection. 3.19275 x 4.00944: 3.19275 * 4 = 12.771; union 16 + 12.80114 -
    # 12.771 = 16.03014; IOU 0.796687, the best.
    for (p_w, p_h), expected in zip(ANCHORS, [0.1431, 0.7967, 0.3907, 0.3490, 0.1423]):
        intersection = min(4, p_w) * min(4, p_h)
        assert intersection / (16 + p_w * p_h - intersection) == approx(expected, abs=5e-5)
    # weight     2 - 16 / 169 = 1.905325
    # xy         0
    # wh         1/2 * 1.905325 * (log(4 / 3.19275)^2 + log(4 / 4.00944)^2)
    #            = 0.952663 * (0.225412^2 + 0.002357^2) = 0.048411
    # object     5/2 * (1/2 - 0.796687)^2 = 0.220058
    # no_object  845 predictors less the responsible one: (845 - 1) * 1/2 * (1/2)^2 = 105.5. None is ignored: the boxes
    #            that overlap the object most are those of its two neighbours, by 0.564 (next test).
    # class      log 20
    loss = yolov2_loss(zeros(), IN_THE_MIDDLE)
    assert loss["xy"].item() == approx(0, abs=1e-9)
    assert loss["wh"].item() == approx(0.048411, abs=1e-6)
    assert loss["object"].item() == approx(0.220058, abs=1e-6)
    assert loss["no_object"].item() == approx(105.5)
    assert loss["class"].item() == approx(log(20))


def test_the_ignore_threshold(monkeypatch):
    # The same object. The boxes of the responsible anchor, 3.19275 x 4.00944, in the neighbouring cells:
    # columns 5 and 7  common width 2 + 3.19275 / 2 - 1 = 2.596375, height 4: 10.3855 / (28.80114 - 10.3855) = .564
    # rows 5 and 7     common width 3.19275, height 2 + 4.00944 / 2 - 1 = 3.00472: 9.5933 / 19.2078 = .499
    for common, expected in [(2.596375 * 4, 0.564), (3.19275 * 3.00472, 0.499)]:
        assert common / (16 + 3.19275 * 4.00944 - common) == approx(expected, abs=5e-4)
    # All others overlap it less; the anchor of 5.05587 x 8.09892 in the same cell by 0.3907.
    for threshold, ignored in [(0.6, 0), (0.565, 0), (0.56, 2), (0.5, 2), (0.49, 4)]:
        monkeypatch.setattr(yolov2.loss, "IGNORE_IOU", threshold)
        assert yolov2_loss(zeros(), IN_THE_MIDDLE)["no_object"].item() == approx((844 - ignored) * 1 / 2 * 1 / 4)


def test_exactly_the_threshold_is_not_more_than_it(monkeypatch):
    # An object of 2 x 1 cells covers row 0; its centre, (1, 0.5) in cells, is in column 1. The 1 x 1 box of column 0
    # overlaps it by exactly half. It is background, as the two of row 1: 1/2 * 3 * 1/4.
    monkeypatch.setattr(yolov2.loss, "IGNORE_IOU", 0.5)
    loss = yolov2_loss(small_world(), torch.tensor([[0, 0, 0.5, 0.25, 1, 0.5]]), ONE_ANCHOR)
    assert loss["no_object"].item() == approx(0.375)


def test_what_is_ignored_is_the_predicted_box_in_its_own_image():
    # Two images. The object is in image 1; image 0 has none. In both images the predictor of row 0, column 0 has a box
    # of 1.5 x 0.5 cells at (1, 0.5): t_x = 50 moves it to the right edge of its cell. It reaches from x = 0.25 to 1.75
    # and covers the object, 1 x 0.5: IOU 0.5 / 0.75 = 2/3 > .6. As large as its anchor and in the middle of its cell
    # it would overlap the object by 0.25 * 0.5 / (1 + 0.5 - 0.125) = 1/11 only.
    prediction = small_world(images=2)
    prediction[:, 0, 0, 0, :4] = torch.tensor([50, 0, log(1.5), log(0.5)])
    background = assign(prediction, TARGETS + torch.tensor([1, 0, 0, 0, 0, 0]), ONE_ANCHOR)[-1]
    assert background[:, 0].tolist() == [[[True, True], [True, True]], [[False, False], [True, True]]]
    background = assign(small_world(images=2), TARGETS + torch.tensor([1, 0, 0, 0, 0, 0]), ONE_ANCHOR)[-1]
    assert background[:, 0].tolist() == [[[True, True], [True, True]], [[True, False], [True, True]]]


def test_a_box_without_an_iou_is_background():
    # exp(100) is infinite in float32, exp(-200) is 0: the area of this box is inf * 0 = nan, and so is its IOU. Darknet
    # begins with best_iou = 0 and asks `iou > best_iou`, which nan is not: the predictor is background [darknet].
    prediction = small_world()
    prediction[0, 0, 1, 0, 2:4] = torch.tensor([100.0, -200])
    background = assign(prediction, TARGETS, ONE_ANCHOR)[-1]
    assert background[0, 0].tolist() == [[True, False], [True, True]]


def test_one_anchor_of_five_learns_in_the_cell_of_the_centre():
    # 9 x 5 cells: most like 9.47112 x 4.84053. Centre (0.2, 0.7): column 2 (2.6), row 9 (9.1).
    # IOU 9 * 4.84053 / (45 + 9.47112 * 4.84053 - 9 * 4.84053) = 43.565 / 47.281; the predicted box, of the same shape,
    # is at (2.5, 9.5), .1 to the left and .4 below.
    slots, objects, ious, _ = assign(zeros(), torch.tensor([[0, 3, 0.2, 0.7, 9 / 13, 5 / 13]]))
    assert slots.tolist() == [[0, 3, 9, 2]]                          # image, anchor, row, column
    assert objects.tolist() == [0]
    # Common width: from max(2.6 - 4.5, 2.5 - 4.73556) = -1.9 to min(7.1, 7.23556) = 7.1, so 9.
    # Common height: from max(9.1 - 2.5, 9.5 - 2.420265) = 7.079735 to min(11.6, 11.920265) = 11.6, so 4.520265.
    common = 9 * 4.520265
    assert ious.tolist() == [approx(common / (45 + 9.47112 * 4.84053 - common), abs=1e-5)]


def test_anchors_stay_in_cells_when_the_input_grows():
    # 0.2 x 0.25 of the image is 2 x 2.5 cells at 320 (10 x 10): anchor 1.3221 x 1.73145 with IOU .458 against .391;
    # at 608 it is 3.8 x 4.75 cells: anchor 3.19275 x 4.00944.
    first, second = 1.3221 * 1.73145, 3.19275 * 4.00944
    assert first / (2 * 2.5) == approx(0.458, abs=5e-4) and 2 * 2.5 / second == approx(0.391, abs=5e-4)
    target = torch.tensor([[0, 0, 0.5, 0.5, 0.2, 0.25]])
    assert assign(zeros(10), target)[0][0, 1] == 0
    assert assign(zeros(19), target)[0][0, 1] == 1


def test_two_objects_in_one_slot():
    # The second object, class 1, has the same cell and anchor, and takes the predictor over: x* = 1.5 - 1 = 1/2,
    # y* = 1/2, t*_w = t*_h = 0, so xy and wh vanish. Its box, 1 x 1 cells around the cell's middle, is the predicted
    # one: object = 5/2 * (1/2 - 1)^2 = 0.625, once. class: -log(3 / (3 + 1)) = log(4/3).
    prediction = small_world()
    prediction[0, 0, 0, 1, 6] = log(3)
    targets = torch.cat([TARGETS, torch.tensor([[0, 1, 0.75, 0.25, 0.5, 0.5]])])
    loss = yolov2_loss(prediction, targets, ONE_ANCHOR)
    assert loss["xy"].item() == approx(0, abs=1e-9)
    assert loss["wh"].item() == approx(0, abs=1e-9)
    assert loss["object"].item() == approx(0.625)
    assert loss["class"].item() == approx(log(4 / 3))


def test_the_iou_moves_no_box():
    # Predictions of 0: IOU 1/3, as in the first test. t_o learns 5 * (1/2 - 1/3) * sigmoid'(0) = 5/6 * 1/4 = 5/24, and
    # nothing else learns from this term.
    prediction = small_world(requires_grad=True)
    yolov2_loss(prediction, TARGETS, ONE_ANCHOR)["object"].backward()
    assert prediction.grad[0, 0, 0, 1, 4].item() == approx(5 / 24)
    assert prediction.grad.count_nonzero() == 1


def test_a_centre_on_the_border_is_in_the_last_cell():
    corner = torch.tensor([[0, 0, 1.0, 1.0, 0.5, 0.5]])
    slots = assign(torch.zeros(1, 1, 2, 3, 7), corner, ONE_ANCHOR)[0]
    assert slots.tolist() == [[0, 0, 1, 2]]                          # row 1 of 2, column 2 of 3


def test_a_perfect_prediction():
    # Every term vanishes: the box is the object's, so the target of its objectness is an IOU of 1.
    prediction = small_world()
    prediction[..., 4:] = -50
    prediction[0, 0, 0, 1] = torch.tensor([-log(3), 0, 0, log(0.5), 50, 50, -50])
    loss = yolov2_loss(prediction, TARGETS, ONE_ANCHOR)
    assert loss["total"].item() == approx(0, abs=1e-6)


@pytest.mark.parametrize("cells, boxes", [(13, 845), (10, 500)])
def test_an_image_without_objects(cells, boxes):
    # Every predictor is background with objectness 1/2: 845 * 1/2 * 1/4 = 105.625 at 416. prior is 0 where all t are.
    prediction = zeros(cells).requires_grad_()
    loss = yolov2_loss(prediction, torch.zeros(0, 6), seen=1)
    assert loss["no_object"].item() == approx(boxes / 8)
    assert loss["total"].item() == loss["no_object"].item()
    loss["total"].backward()                                         # 1/2 * sigmoid' = 1/8 for t_o, nothing else
    assert prediction.grad.abs().sum().item() == approx(boxes / 8)


def test_loss_leaves_its_inputs_alone():
    torch.manual_seed(0)
    prediction, targets = torch.randn(1, 1, 2, 2, 7), TARGETS.clone()
    before = prediction.clone()
    first, second = (yolov2_loss(prediction, targets, ONE_ANCHOR, seen=1)["total"] for _ in range(2))
    assert first == second and prediction.equal(before) and targets.equal(TARGETS)


def test_half_precision_heads_are_computed_in_full():
    # exp(12) = 162,755 is beyond half precision: wh = 1/2 * 1.875 * (12^2 + log(0.5)^2), not infinite.
    prediction = small_world(dtype=torch.float16)
    prediction[0, 0, 0, 1, 2] = 12
    loss = yolov2_loss(prediction, TARGETS, ONE_ANCHOR)
    assert loss["wh"].item() == approx(0.5 * 1.875 * (144 + log(0.5) ** 2))
    assert loss["object"].item() == approx(2.5 * 0.25, abs=1e-3)     # and the IOU is almost 0, not nan
    # 845 times sigmoid(-3)^2 / 2: half precision would give three digits of it.
    loss = yolov2_loss(torch.full((1, 5, 13, 13, 6), -3.0, dtype=torch.float16), torch.zeros(0, 6))
    assert loss["no_object"].item() == approx(845 / 2 * sigmoid(-3) ** 2, rel=1e-5)


@pytest.mark.parametrize("seed, seen, year", [(0, 64, 2017), (1, 12799, 2017), (2, 12800, 2017), (3, 64, 2017),
                                              (4, 99999, 2017), (5, 64, 2016)])
def test_gradient_is_minus_darknets_delta(seed, seen, year, monkeypatch):
    # Three images of 5 x 3 cells: one crowded, with objects that share cells and anchors, one empty, one with two
    # objects.
    monkeypatch.setattr(yolov2.loss, "SIZE_WEIGHT", year == 2017)
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(3, 5, 3, 5, 8, generator=generator)
    prediction[..., 2:4] = prediction[..., 2:4] / 2 - 1.2            # boxes smaller than the image: some are ignored
    prediction.requires_grad_()
    crowd = torch.rand(40, 6, generator=generator)
    crowd[:, 0] = torch.tensor([0] * 38 + [2] * 2)
    crowd[:, 1] = (crowd[:, 1] * 3).floor()
    crowd[:, 4:] = 0.02 + 0.9 * crowd[:, 4:] ** 2
    slots, _, _, background = assign(prediction, crowd)
    assert len(slots) < 38                                           # some objects have lost their slot,
    assert background.sum() < 3 * 75 - len(slots)                    # and some predictors are ignored
    yolov2_loss(prediction, crowd, seen=seen)["total"].backward()
    expected = darknet_delta(prediction.detach(), crowd, seen, year)
    torch.testing.assert_close(-3 * prediction.grad, expected, atol=1e-5, rtol=1e-4)
