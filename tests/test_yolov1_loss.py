"""
Every expected number in this file is worked out in its comment. Check it with a pencil.

The world is as small as it can be: one image, 2 x 2 cells, two boxes each, two classes. One object of class 0: centre
(0.625, 0.25), size 0.25 x 0.16 of the image, so from 0.5 to 0.75 across and from 0.17 to 0.33 down. Its centre is
(1.25, 0.5) in cells: it belongs to the cell in row 0, column 1, and the targets are

    x^ = 1.25 - 1 = 0.25     sqrt(w^) = 0.5
    y^ = 0.5  - 0 = 0.5      sqrt(h^) = 0.4

A cell's twelve numbers: p0 p1, c0 c1, x y r_w r_h of box 0, x y r_w r_h of box 1.
"""
from math import sqrt

import pytest
import torch

import yolov1.loss
from yolov1.loss import assign, yolov1_loss

TARGETS = torch.tensor([[0, 0, 0.625, 0.25, 0.25, 0.16]])


def zeros(cells=2, images=1, classes=2):
    return torch.zeros(images, cells, cells, classes + 10)


def test_coordinates():
    prediction = zeros()                                                  # (B, row, column, C + 5n)
    prediction[0, 0, 1, 4:8] = torch.tensor([0.75, 0.25, 0.7, 0.5])
    # Box 0: centre (1.75 / 2, 0.25 / 2) = (0.875, 0.125), size 0.49 x 0.25: it overlaps the object; box 1, a point at
    # the corner of the cell, does not.
    # x    0.75 - 0.25 =  0.5    squared 0.25
    # y    0.25 - 0.5  = -0.25   squared 0.0625   sum 0.3125
    # r_w  0.7  - 0.5  =  0.2    squared 0.04
    # r_h  0.5  - 0.4  =  0.1    squared 0.01     sum 0.05
    # xy = 5 * 0.3125 = 1.5625, wh = 5 * 0.05 = 0.25
    #
    # What a bug would give instead. xy: x and y swapped 0.3125, centres in fractions of the image 0.390625, sigmoids
    # 1.2. wh: sizes without the root 0.3285, roots of the outputs 1.07, half the sum 0.125.
    loss = yolov1_loss(prediction, TARGETS)
    assert loss["xy"].item() == pytest.approx(1.5625)
    assert loss["wh"].item() == pytest.approx(0.25)


def test_objectness_and_class():
    prediction = zeros()
    prediction[0, 0, 1] = torch.tensor([0.7, 0.4, 0.8, 0.6, 0.25, 0.5, sqrt(0.5), 0.4, 0, 0, 0, 0])
    prediction[0, 0, 0, :4] = torch.tensor([9, 9, 0.2, 0])
    prediction[0, 1, 0, :4] = torch.tensor([9, 9, 0, -0.4])
    prediction[0, 1, 1, :4] = torch.tensor([9, 9, 1, 0])
    # Box 0: the object's centre, size 0.5 x 0.16, twice as wide: IOU = 1/2.
    # object     (0.8 - 1/2)^2 = 0.09                                     (target 1: 0.04)
    # no_object  the other box of the cell, then the other cells: .5 (0.36 + 0.04 + 0.16 + 1) = 0.78
    #            (empty cells only: 0.6)
    # class      (0.7 - 1)^2 + 0.4^2 = 0.25, in the object's cell alone
    loss = yolov1_loss(prediction, TARGETS)
    assert loss["object"].item() == pytest.approx(0.09, abs=1e-6)
    assert loss["no_object"].item() == pytest.approx(0.78)
    assert loss["class"].item() == pytest.approx(0.25)


def test_the_confidence_target_of_many_others(monkeypatch):
    prediction = zeros()
    prediction[0, 0, 1] = torch.tensor([0, 0, 0.8, 0, 0.25, 0.5, sqrt(0.5), 0.4, 0, 0, 0, 0])
    assert yolov1_loss(prediction, TARGETS)["object"].item() == pytest.approx(0.09, abs=1e-6)
    monkeypatch.setattr(yolov1.loss, "CONFIDENCE_TARGET", 1)
    assert yolov1_loss(prediction, TARGETS)["object"].item() == pytest.approx(0.04, abs=1e-6)


def test_total_is_the_sum_and_the_mean_over_images():
    torch.manual_seed(0)
    prediction = torch.randn(1, 2, 2, 12)
    once = yolov1_loss(prediction, TARGETS)
    assert list(once) == ["xy", "wh", "object", "no_object", "class", "total"]
    assert once["total"].item() == pytest.approx(sum(once[term].item() for term in list(once)[:-1]), rel=1e-6)
    # The same image twice: the mean stays.
    both = torch.cat([TARGETS, TARGETS + torch.tensor([1, 0, 0, 0, 0, 0])])
    twice = yolov1_loss(prediction.repeat(2, 1, 1, 1), both)
    for term in once:
        assert twice[term].item() == pytest.approx(once[term].item(), rel=1e-5)


def test_a_network_that_answers_0_on_the_papers_grid():
    # One object in the middle of the middle cell, w = .25, h = .16; 20 classes. Nothing overlaps, so the IOU is 0.
    # xy 5 (.5^2 + .5^2) = 2.5; wh 5 (.25 + .16) = 2.05; class 1; confidences 0. In all 5.55.
    loss = yolov1_loss(zeros(7, classes=20), torch.tensor([[0, 7, 0.5, 0.5, 0.25, 0.16]]))
    assert loss["xy"].item() == pytest.approx(2.5)
    assert loss["wh"].item() == pytest.approx(2.05)
    assert loss["object"].item() == loss["no_object"].item() == 0
    assert loss["class"].item() == 1
    assert loss["total"].item() == pytest.approx(5.55)


@pytest.mark.parametrize("better", [0, 1])
def test_the_box_with_the_highest_iou_is_responsible(better):
    # Both boxes have the object's height and centre. One is 0.36 wide, IOU .25 / .36 = .694; the other 0.16, IOU .16 /
    # .25 = .64, although its numbers are nearer: (.4 - .5)^2 = (.6 - .5)^2 for the root, (.16 - .25)^2 = .0081 <
    # (.36 - .25)^2 = .0121 for the size.
    prediction = zeros()
    boxes = torch.tensor([[0.25, 0.5, 0.4, 0.4]] * 2)
    boxes[better, 2] = 0.6
    prediction[0, 0, 1, 4:] = boxes.flatten()
    slot, owner, overlap, background = assign(prediction, TARGETS)
    assert [index.item() for index in slot] == [0, 0, 1, better]          # image, row, column, box
    assert owner.tolist() == [0] and overlap.item() == pytest.approx(0.25 / 0.36)
    assert background.sum() == 7 and not background[0, 0, 1, better] and background[0, 0, 1, 1 - better]


@pytest.mark.parametrize("nearer", [0, 1])
def test_where_nothing_overlaps_the_nearest_box_is_responsible(nearer):
    # Both boxes lie right of the object, which ends at 0.75, and have its size: centres at (1 + .9) / 2 = .95 and
    # (1 + 1.2) / 2 = 1.1, half a width of .125 to the left of it .825 and .975. The target for c is then 0.
    prediction = zeros()
    boxes = torch.tensor([[1.2, 0.5, 0.5, 0.4]] * 2)
    boxes[nearer, 0] = 0.9
    prediction[0, 0, 1, 4:] = boxes.flatten()
    prediction[0, 0, 1, 2:4] = 0.5
    slot, _, overlap, _ = assign(prediction, TARGETS)
    assert slot[3].item() == nearer and overlap.item() == 0
    loss = yolov1_loss(prediction, TARGETS)
    assert loss["xy"].item() == pytest.approx(5 * 0.65 ** 2)              # 0.9 - 0.25
    assert loss["object"].item() == pytest.approx(0.25) and loss["no_object"].item() == pytest.approx(0.125)


def test_distances_are_in_the_image_not_in_roots_or_cells():
    # Nothing overlaps. Box 0: centre (0.625, .25 + .4) = y of 1.3 in the cell, size right: distance 0.4. Box 1: the
    # object's centre, roots 1 and 0, size 1 x 0, which has no area: sqrt(.75^2 + .16^2) = .767. Box 0 is nearer,
    # although in cells it is .8 away, and in roots box 1 only sqrt(.5^2 + .4^2) = .64.
    prediction = zeros()
    prediction[0, 0, 1, 4:] = torch.tensor([0.25, 1.3, 0.5, 0.4, 0.25, 0.5, 1, 0])
    assert assign(prediction, TARGETS)[0][3].item() == 0


def test_negative_and_zero_sizes():
    # r_w = -.5: the box of +.5, so the perfect one, IOU 1. Its root is pulled up through 0: wh = 5 (-.5 - .5)^2 = 5 and
    # a gradient of 2 * 5 * -1 = -10. A root of 0 is a box without area: 5 .5^2 = 1.25, gradient -5, nothing infinite.
    for root, wh, gradient, overlap in [(-0.5, 5, -10, 1), (0.0, 1.25, -5, 0)]:
        prediction = zeros()
        prediction[0, 0, 1, 4:8] = torch.tensor([0.25, 0.5, root, 0.4])
        prediction[0, 0, 1, 8:] = torch.tensor([5.0, 5, 0, 0])            # far away
        prediction.requires_grad_()
        assert assign(prediction, TARGETS)[2].item() == pytest.approx(overlap)
        loss = yolov1_loss(prediction, TARGETS)
        assert loss["wh"].item() == pytest.approx(wh)
        loss["total"].backward()
        assert prediction.grad[0, 0, 1, 6].item() == pytest.approx(gradient)
        assert prediction.grad.isfinite().all()


def test_absurd_predictions_give_no_nan():
    # Both boxes 1e6 away and 1e10 x 1e10 in size; in Darknet no box would be near enough to be responsible.
    prediction = zeros()
    prediction[0, 0, 1, 4:] = torch.tensor([2e6, 0, 1, 1, 1e6, 0, 1, 1])
    assert assign(prediction, TARGETS)[0][3].item() == 1
    prediction[0, 0, 1, 4:] = torch.tensor([0, 0, 1e10, 1e10, 0, 0, -1e10, 0])
    prediction.requires_grad_()
    loss = yolov1_loss(prediction, TARGETS)
    loss["total"].backward()
    assert not any(value.isnan() for value in loss.values()) and not prediction.grad.isnan().any()


def test_two_objects_in_one_slot():
    # Both centres are in the cell of row 0, column 1. The first in the list keeps it: its class, its box. In the other
    # order the other.
    prediction = zeros()
    prediction[0, 0, 1] = torch.tensor([1, 0, 1, 0, 0.25, 0.5, 0.5, 0.4, 0, 0, 0, 0])    # the first object, perfectly
    second = torch.tensor([[0, 1, 0.75, 0.25, 0.25, 0.16]])
    loss = yolov1_loss(prediction, torch.cat([TARGETS, second]))
    assert loss["total"].item() == pytest.approx(0, abs=1e-6)
    # x^ = 1.5 - 1 = .5: xy 5 * .25^2 = .3125; wh 0; IOU: .125 / (.5 - .125) = 1/3, object (1 - 1/3)^2 = .4444; class 2.
    loss = yolov1_loss(prediction, torch.cat([second, TARGETS]))
    assert loss["xy"].item() == pytest.approx(0.3125) and loss["wh"].item() == pytest.approx(0, abs=1e-6)
    assert loss["object"].item() == pytest.approx(4 / 9) and loss["class"].item() == pytest.approx(2)
    # Another image's object in the same place takes nothing away.
    slot, owner, _, _ = assign(prediction.repeat(2, 1, 1, 1), torch.cat([second + torch.tensor([1.0, 0, 0, 0, 0, 0]),
                                                                         TARGETS]))
    assert slot[0].tolist() == [0, 1] and owner.tolist() == [1, 0]


def test_the_iou_moves_no_box():
    # Box 0.5 x 0.16 at the object's centre: IOU 1/2. c learns 2 (0 - 1/2) = -1, and nothing else learns from this term.
    prediction = zeros()
    prediction[0, 0, 1, 4:8] = torch.tensor([0.25, 0.5, sqrt(0.5), 0.4])
    prediction.requires_grad_()
    yolov1_loss(prediction, TARGETS)["object"].backward()
    assert prediction.grad[0, 0, 1, 2].item() == pytest.approx(-1)
    assert prediction.grad.count_nonzero() == 1


def test_a_centre_on_the_border_is_in_the_last_cell():
    for x, y, expected in [(1.0, 0.4, (0, 1)), (0.4, 1.0, (1, 0)), (1.0, 1.0, (1, 1))]:
        (image, row, col, box), *_ = assign(zeros(), torch.tensor([[0, 0, x, y, 0.5, 0.5]]))
        assert (row.item(), col.item()) == expected


def test_a_perfect_prediction():
    # Every term vanishes: the box is the object's, so the IOU that the confidence has to name is 1.
    prediction = zeros()
    prediction[0, 0, 1] = torch.tensor([1, 0, 0, 1, 0, 0, 0, 0, 0.25, 0.5, 0.5, 0.4])
    loss = yolov1_loss(prediction, TARGETS)
    assert loss["total"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("cells, boxes", [(7, 98), (3, 18)])
def test_an_image_without_objects(cells, boxes):
    # Every box is background: .5 * 98 * .2^2 = 1.96. Each confidence learns 2 * .5 * .2 = .2, nothing else learns.
    prediction = torch.full((1, cells, cells, 30), 0.2, requires_grad=True)
    loss = yolov1_loss(prediction, torch.zeros(0, 6))
    assert loss["no_object"].item() == pytest.approx(boxes * 0.02)
    assert loss["total"].item() == loss["no_object"].item()
    loss["total"].backward()
    assert prediction.grad.abs().sum().item() == pytest.approx(boxes * 0.2)
    assert prediction.grad[..., 20:22].abs().sum().item() == pytest.approx(boxes * 0.2)


def test_loss_leaves_its_inputs_alone():
    torch.manual_seed(0)
    prediction, targets = torch.randn(1, 2, 2, 12), TARGETS.clone()
    before = prediction.clone()
    first, second = (yolov1_loss(prediction, targets)["total"] for _ in range(2))
    assert first == second and prediction.equal(before) and targets.equal(TARGETS)


def test_half_precision_heads_are_computed_in_full():
    # r_w = 300: 5 (300 - .5)^2 is beyond half precision, as is the width of 90,000.
    prediction = zeros().half()
    prediction[0, 0, 1, 6] = 300
    loss = yolov1_loss(prediction, TARGETS)
    assert loss["total"].isfinite() and loss["object"] < 1
    # 98 times .5 .1^2 with .1 in half precision, .09998: half precision would give three digits of the sum.
    loss = yolov1_loss(torch.full((1, 7, 7, 30), 0.1, dtype=torch.float16), torch.zeros(0, 6))
    assert loss["no_object"].item() == pytest.approx(49 * 0.0999755859375 ** 2, rel=1e-5)


def darknet_delta(prediction, targets, n):
    """Minus the gradient, cell by cell, as [darknet] forward_detection_layer has it, but in the layout of model.py."""
    def overlap(a, b):                                                    # centre x, centre y, width, height
        w, h = (min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
                for i in (0, 1))
        return w * h if w > 0 and h > 0 else 0

    B, S, _, numbers = prediction.shape
    C = numbers - 5 * n
    delta = torch.zeros_like(prediction)
    for image, row, col in [(image, row, col) for image in range(B) for row in range(S) for col in range(S)]:
        out, d = prediction[image, row, col].tolist(), delta[image, row, col]
        for j in range(n):
            d[C + j] = 0.5 * (0 - out[C + j])
        mine = [o for o in targets.tolist() if (o[0], int(o[3] * S), int(o[2] * S)) == (image, row, col)]
        if not mine:
            continue
        _, label, x, y, w, h = mine[0]
        x, y = x * S - col, y * S - row
        for k in range(C):
            d[k] = (k == label) - out[k]
        best, best_iou, best_rmse, truth = None, 0, 20, [x / S, y / S, w, h]
        for j in range(n):
            o = out[C + n + 4 * j:C + n + 4 * j + 4]
            box = [o[0] / S, o[1] / S, o[2] * o[2], o[3] * o[3]]
            common = overlap(box, truth)
            iou = common / (box[2] * box[3] + w * h - common)
            rmse = sqrt(sum((a - b) ** 2 for a, b in zip(box, truth)))
            if best_iou > 0 or iou > 0:
                if iou > best_iou:
                    best, best_iou = j, iou
            elif rmse < best_rmse:
                best, best_rmse = j, rmse
        d[C + best] = 1 * (best_iou - out[C + best])
        for i, wanted in enumerate([x, y, sqrt(w), sqrt(h)]):
            place = C + n + 4 * best + i
            d[place] = 5 * (wanted - out[place])
    return delta


@pytest.mark.parametrize("seed, n", [(0, 2), (1, 2), (2, 3), (3, 3), (4, 1)])
def test_gradient_is_minus_twice_darknets_delta(seed, n):
    # Three images of 4 x 4 cells: one crowded, with objects that share cells, one empty, one with two objects. Half of
    # the boxes are about where the objects are, half anywhere.
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(3, 4, 4, 3 + 5 * n, generator=generator)
    prediction[:, ::2, :, 3 + n:] = 0.4 + 0.2 * prediction[:, ::2, :, 3 + n:]
    prediction.requires_grad_()
    crowd = torch.rand(40, 6, generator=generator)
    crowd[:, 0] = torch.tensor([0] * 38 + [2] * 2)
    crowd[:, 1] = (crowd[:, 1] * 3).floor()
    crowd[:, 4:] = 0.02 + 0.9 * crowd[:, 4:] ** 2
    overlap = assign(prediction, crowd, n)[2]
    assert len(overlap) < 20 and (overlap == 0).any() and (overlap > 0.05).any()
    yolov1_loss(prediction, crowd, n)["total"].backward()
    expected = darknet_delta(prediction.detach(), crowd, n)
    torch.testing.assert_close(-3 * prediction.grad, 2 * expected, atol=1e-5, rtol=1e-4)
