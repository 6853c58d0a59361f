"""
Every expected number in this file is worked out in its comment. Check it with a pencil.

The world is as small as it can be: one image, 2 x 2 cells with two boxes each, two classes. One object of class 0 (x
marks its centre), and box 0 of the cell that the object belongs to:

    0              .43 .5        .75           1.07
  0 +---------------+-----------------------------+
    |               |                             |        the object   centre  (0.625, 0.25) of the image
.15 |           +---+-----------------------------+--+             (1.25, 0.5) cells
.17 |           |   +-----------+                 |  |             size    0.25 x 0.16 of the image
    |           |   |     x     |   b             |  |
.33 |           |   +-----------+                 |  |     box 0        centre  (0.75, 0.275) of the image
.40 |           +---+-----------------------------+--+             size    0.64 x 0.25 of the image
 .5 +---------------+-----------------------------+
    |               |                             |
    |               |                             |
  1 +---------------+-----------------------------+

The object's centre is in row 0, column 1. The targets are

    x* = 1.25 - 1 = 0.25     sqrt(w*) = sqrt(0.25) = 0.5
    y* = 0.5  - 0 = 0.5      sqrt(h*) = sqrt(0.16) = 0.4

A cell's twelve numbers: p0 p1, c0 c1, x y r_w r_h of box 0, x y r_w r_h of box 1. The same example is printed by
python yolov1/loss.py.
"""
import runpy
from math import exp, sqrt

import pytest
import torch
from reference_yolov1_loss import darknet_delta

import yolov1.loss
from yolov1.loss import assign, yolov1_loss

TARGETS = torch.tensor([[0, 0, 0.625, 0.25, 0.25, 0.16]])


def zeros(cells=2, images=1, classes=2):
    return torch.zeros(images, cells, cells, classes + 10)


def example():
    prediction = zeros()                                                     # (B, row, column, C + 5n)
    prediction[0, 0, 0, :4] = torch.tensor([9, 9, 0.2, 0])
    prediction[0, 0, 1] = torch.tensor([0.8, 0.3, 0.75, 0.6, 0.5, 0.55, 0.8, 0.5, 0, 0, 0, 0])
    prediction[0, 1, 0, :4] = torch.tensor([9, 9, 0, -0.4])
    prediction[0, 1, 1, :4] = torch.tensor([9, 9, 1, 0])
    return prediction


def check(value, expected, **bugs):
    """
    Asserts value == expected. Each bug is what a common mistake would give; it has to differ from `expected`, or this
    test could not detect it.
    """
    assert value.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for bug, wrong in bugs.items():
        assert abs(wrong - expected) > 1e-3, bug


def sigmoid(t):
    return 1 / (1 + exp(-t))


def test_the_responsible_box():
    # Box 0: b_x = (0.5 + 1) / 2 = 0.75, b_y = (0.55 + 0) / 2 = 0.275, b_w = 0.8^2 = 0.64, b_h = 0.5^2 = 0.25. It
    # reaches from 0.43 to 1.07 across and from 0.15 to 0.4 down. The object, from 0.5 to 0.75 and from 0.17 to 0.33, is
    # inside it. So the IOU is the ratio of the areas, (0.25 0.16) / (0.64 0.25) = 0.04 / 0.16 = 1/4.
    # Box 1 has no area: IOU 0.
    slots, objects, ious, background = assign(example(), TARGETS)
    assert slots.tolist() == [[0, 0, 1, 0]] and objects.tolist() == [0]      # image, row, column, box
    check(ious[0], 1/4)
    assert (~background).nonzero().tolist() == [[0, 0, 1, 0]]


def test_coordinates():
    loss = yolov1_loss(example(), TARGETS)
    # x    0.5  - 0.25 = 0.25   squared 0.0625
    # y    0.55 - 0.5  = 0.05   squared 0.0025   sum 0.065
    # xy   5 0.065 = 0.325
    check(loss["xy"], 0.325,
          x_and_y_swapped=5 * ((0.5 - 0.5) ** 2 + (0.55 - 0.25) ** 2),                        # 0.45
          targets_in_fractions_of_the_image=5 * ((0.5 - 0.625) ** 2 + (0.55 - 0.25) ** 2),    # 0.528125
          sigmoids_of_the_outputs=5 * ((sigmoid(0.5) - 0.25) ** 2 + (sigmoid(0.55) - 0.5) ** 2),    # 0.784
          no_weight=0.065)
    # r_w  0.8  - 0.5  = 0.3    squared 0.09
    # r_h  0.5  - 0.4  = 0.1    squared 0.01     sum 0.1
    # wh   5 0.1 = 0.5
    check(loss["wh"], 0.5,
          sizes_without_roots=5 * ((0.64 - 0.25) ** 2 + (0.25 - 0.16) ** 2),                  # 0.801
          roots_of_the_outputs=5 * ((sqrt(0.8) - 0.5) ** 2 + (sqrt(0.5) - 0.4) ** 2),         # 1.249
          targets_without_roots=5 * ((0.8 - 0.25) ** 2 + (0.5 - 0.16) ** 2),                  # 2.0905
          width_and_height_swapped=5 * ((0.8 - 0.4) ** 2 + (0.5 - 0.5) ** 2),                 # 0.8
          no_weight=0.1)


def test_objectness_and_class():
    loss = yolov1_loss(example(), TARGETS)
    # object: c0 is 0.75 and the IOU is 1/4, so (0.75 - 0.25)^2 = 0.25.
    check(loss["object"], 0.25, target_1=(0.75 - 1) ** 2)
    # no_object: the other box of the object's cell, 0.6, then the other cells, 0.2, -0.4 and 1:
    # 0.5 (0.36 + 0.04 + 0.16 + 1) = 0.78
    check(loss["no_object"], 0.78,
          empty_cells_only=0.5 * (0.04 + 0.16 + 1),
          the_responsible_too=0.5 * (0.5625 + 0.36 + 0.04 + 0.16 + 1),
          no_weight=0.36 + 0.04 + 0.16 + 1)
    # class: (0.8 - 1)^2 + (0.3 - 0)^2 = 0.04 + 0.09 = 0.13, in the object's cell alone
    check(loss["class"], 0.13, the_right_class_only=0.04, the_empty_cells_too=0.13 + 6 * 9 ** 2)
    # 0.325 + 0.5 + 0.25 + 0.78 + 0.13 = 1.985
    check(loss["total"], 1.985)


def test_the_file_prints_the_example(capsys):
    runpy.run_path(yolov1.loss.__file__, run_name="__main__")
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert {term: float(value) for term, value in printed.items()} == {
        "xy": 0.325, "wh": 0.5, "object": 0.25, "no_object": 0.78, "class": 0.13, "total": 1.985}


def test_the_confidence_target_of_many_others(monkeypatch):
    # With a target of 1 instead of the IOU, the object term is (0.75 - 1)^2 = 0.0625. Its gradient is
    # 2 (0.75 - 1) = -0.5: c0 grows. With the IOU it is 2 (0.75 - 0.25) = 1: c0 shrinks.
    for target, value, gradient in [("iou", 0.25, 1), (1, 0.0625, -0.5)]:
        monkeypatch.setattr(yolov1.loss, "CONFIDENCE_TARGET", target)
        prediction = example().requires_grad_()
        loss = yolov1_loss(prediction, TARGETS)
        check(loss["object"], value)
        loss["object"].backward()
        check(prediction.grad[0, 0, 1, 2], gradient)


def test_total_is_the_sum_and_the_mean_over_images():
    # The example, then an image without objects in which one confidence is 0.4. The second image adds
    # 0.5 0.4^2 = 0.08 to no_object. The mean of the two images is half of each sum: no_object (0.78 + 0.08) / 2 = 0.43.
    empty = zeros()
    empty[0, 1, 1, 3] = 0.4
    loss = yolov1_loss(torch.cat([example(), empty]), TARGETS)
    assert list(loss) == ["xy", "wh", "object", "no_object", "class", "total"]
    for term, expected in [("xy", 0.1625), ("wh", 0.25), ("object", 0.125), ("no_object", 0.43), ("class", 0.065)]:
        check(loss[term], expected)
    check(loss["total"], 0.1625 + 0.25 + 0.125 + 0.43 + 0.065)
    # The example twice: each mean is that of one image.
    twice = yolov1_loss(example().repeat(2, 1, 1, 1), torch.cat([TARGETS, TARGETS + torch.tensor([1, 0, 0, 0, 0, 0])]))
    check(twice["total"], 1.985)


def test_a_network_that_answers_0_on_the_papers_grid():
    # One object in the middle of the middle cell, w = 0.25, h = 0.16; 20 classes. All boxes are points, so no box
    # overlaps it, and the target of the confidence is an IOU of 0.
    # xy 5 (0.5^2 + 0.5^2) = 2.5; wh 5 (0.25 + 0.16) = 2.05; class 1; confidences 0. In all 5.55.
    loss = yolov1_loss(zeros(7, classes=20), torch.tensor([[0, 7, 0.5, 0.5, 0.25, 0.16]]))
    for term, expected in [("xy", 2.5), ("wh", 2.05), ("object", 0), ("no_object", 0), ("class", 1), ("total", 5.55)]:
        check(loss[term], expected)


@pytest.mark.parametrize("better", [0, 1])
def test_the_box_with_the_highest_iou_is_responsible(better):
    # Both boxes have the object's height and centre. One is 0.36 wide, IOU 0.25 / 0.36 = 0.694. The other is 0.16
    # wide, IOU 0.16 / 0.25 = 0.64. The first is responsible, although the other's numbers are no further away:
    roots, widths = (0.6, 0.4), (0.36, 0.16)
    assert abs(roots[0] - 0.5) == pytest.approx(abs(roots[1] - 0.5))         # 0.1 = 0.1
    assert abs(widths[0] - 0.25) > abs(widths[1] - 0.25)                     # 0.11 > 0.09
    prediction = zeros()
    boxes = torch.tensor([[0.25, 0.5, 0.4, 0.4]] * 2)
    boxes[better, 2] = 0.6
    prediction[0, 0, 1, 4:] = boxes.flatten()
    slots, objects, ious, background = assign(prediction, TARGETS)
    assert slots.tolist() == [[0, 0, 1, better]]                             # image, row, column, box
    assert objects.tolist() == [0]
    check(ious[0], 0.25 / 0.36, the_other_box=0.16 / 0.25)
    assert background.sum() == 7 and not background[0, 0, 1, better] and background[0, 0, 1, 1 - better]


@pytest.mark.parametrize("nearer", [0, 1])
def test_where_nothing_overlaps_the_nearest_box_is_responsible(nearer):
    # Both boxes are to the right of the object, which ends at 0.625 + 0.25 / 2 = 0.75, and have its size. Half of
    # their width, 0.5^2 = 0.25, is 0.125.
    #   x = 0.9: centre (1 + 0.9) / 2 = 0.95, left edge 0.95 - 0.125 = 0.825
    #   x = 1.2: centre (1 + 1.2) / 2 = 1.1,  left edge 1.1  - 0.125 = 0.975
    # No box overlaps the object, so the IOU is 0. The first one is nearer.
    prediction = zeros()
    boxes = torch.tensor([[1.2, 0.5, 0.5, 0.4]] * 2)
    boxes[nearer, 0] = 0.9
    prediction[0, 0, 1, 4:] = boxes.flatten()
    prediction[0, 0, 1, 2:4] = 0.5
    slots, _, ious, _ = assign(prediction, TARGETS)
    assert slots.tolist() == [[0, 0, 1, nearer]] and ious.tolist() == [0]
    # xy 5 (0.9 - 0.25)^2 = 2.1125. The responsible confidence has the target 0: (0.5 - 0)^2 = 0.25. The other box is
    # background: 0.5 0.5^2 = 0.125.
    loss = yolov1_loss(prediction, TARGETS)
    check(loss["xy"], 2.1125, the_other_box=5 * (1.2 - 0.25) ** 2)
    check(loss["object"], 0.25, target_1=0.5 ** 2 + 1)
    check(loss["no_object"], 0.125)


def test_a_touch_counts_more_than_being_near():
    # An overlap, however small, decides, and not the RMSE. Box 0 has the object's centre and height but no width: its
    # IOU is 0, its distance 0.25. Box 1 covers the whole image and more: its IOU is 0.25 0.16 / (4 4) = 0.0025.
    prediction = zeros()
    prediction[0, 0, 1, 4:] = torch.tensor([0.25, 0.5, 0, 0.4, 0, 1, 2, 2])
    slots, _, ious, _ = assign(prediction, TARGETS)
    assert slots.tolist() == [[0, 0, 1, 1]]
    check(ious[0], 0.25 * 0.16 / 16)


def test_the_distance_is_measured_in_the_image():
    # Nothing overlaps. Three ways to measure which box is nearer; only in fractions of the image it is box 0.
    #
    #                      box 0                              box 1
    # numbers              x 0.25, y 1.3, roots 0.5, 0.4      x 0.25, y 0.5, roots 1, 0
    # b                    (0.625, 0.65), 0.25 x 0.16         (0.625, 0.25), 1 x 0: no area
    #
    # in the image         0.65 - 0.25 = 0.4                  sqrt((1 - 0.25)^2 + (0 - 0.16)^2) = 0.767
    # centres in cells     1.3 - 0.5 = 0.8                    the same, 0.767
    # centres in cells     1.3 - 0.5 = 0.8                    sqrt((1 - 0.5)^2 + (0 - 0.4)^2) = 0.640
    #   and with roots
    in_the_image, in_cells, with_roots = sqrt(0.75 ** 2 + 0.16 ** 2), 0.8, sqrt(0.5 ** 2 + 0.4 ** 2)
    assert 0.4 < in_the_image and in_cells > in_the_image and in_cells > with_roots
    prediction = zeros()
    prediction[0, 0, 1, 4:] = torch.tensor([0.25, 1.3, 0.5, 0.4, 0.25, 0.5, 1, 0])
    slots, _, ious, _ = assign(prediction, TARGETS)
    assert slots.tolist() == [[0, 0, 1, 0]] and ious.tolist() == [0]


@pytest.mark.parametrize("root, wh, gradient, iou", [
    (-0.5, 5, -10, 1),     # the box of +0.5, which is the perfect one. 5 (-0.5 - 0.5)^2; 2 5 (-0.5 - 0.5): up through 0
    (0.0, 1.25, -5, 0)])   # a box without area. 5 (0 - 0.5)^2; 2 5 (0 - 0.5): nothing is infinite
def test_negative_and_zero_sizes(root, wh, gradient, iou):
    prediction = zeros()
    prediction[0, 0, 1, 4:8] = torch.tensor([0.25, 0.5, root, 0.4])
    prediction.requires_grad_()
    assert assign(prediction, TARGETS)[2].item() == pytest.approx(iou)
    loss = yolov1_loss(prediction, TARGETS)
    check(loss["wh"], wh)
    loss["total"].backward()
    check(prediction.grad[0, 0, 1, 6], gradient)
    assert prediction.grad.isfinite().all()


def test_absurd_predictions_give_no_nan():
    # Both boxes are far away: b_x = (2,000,000 + 1) / 2 and (1,000,000 + 1) / 2. Darknet finds none of them nearer than
    # 20; here the nearer one, box 1, is responsible.
    prediction = zeros()
    prediction[0, 0, 1, 4:] = torch.tensor([2e6, 0, 1, 1, 1e6, 0, 1, 1])
    assert assign(prediction, TARGETS)[0].tolist() == [[0, 0, 1, 1]]
    # Sizes of 1e20 x 1e20, whose area is infinite in single precision.
    prediction[0, 0, 1, 4:] = torch.tensor([0, 0, 1e10, 1e10, 0, 0, -1e10, 0])
    prediction.requires_grad_()
    loss = yolov1_loss(prediction, TARGETS)
    loss["total"].backward()
    assert not any(value.isnan() for value in loss.values()) and not prediction.grad.isnan().any()


OTHER = torch.tensor([[0, 1, 0.75, 0.25, 0.25, 0.16]])     # class 1; centre (1.5, 0.5) in cells: the same cell


def test_the_first_object_keeps_the_cell():
    # Box 1 is the first object exactly. The second object has the same size, and x* = 0.5.
    prediction = zeros()
    prediction[0, 0, 1, 8:] = torch.tensor([0.25, 0.5, 0.5, 0.4])
    # The first object in the list is learned: xy and wh are 0, object (0 - 1)^2 = 1, class (0 - 1)^2 = 1. Had the
    # second one been learned too, the class would be 2.
    loss = yolov1_loss(prediction, torch.cat([TARGETS, OTHER]))
    check(loss["xy"] + loss["wh"], 0)
    check(loss["object"], 1)
    check(loss["class"], 1, both_classes=2)
    # In the other order OTHER is learned: xy 5 (0.25 - 0.5)^2 = 0.3125. The boxes are 0.25 wide and 0.125 apart: they
    # have 0.125 in common of 0.25 + 0.25 - 0.125 = 0.375, an IOU of 1/3. Object (0 - 1/3)^2 = 1/9.
    loss = yolov1_loss(prediction, torch.cat([OTHER, TARGETS]))
    check(loss["xy"], 0.3125, the_last_object=0)
    check(loss["object"], 1/9)
    check(loss["class"], 1)


def test_objects_of_different_images_do_not_share_cells():
    # The list has OTHER in image 1 first, then the object of image 0. Each is learned, in the order of the images.
    targets = torch.cat([OTHER + torch.tensor([1, 0, 0, 0, 0, 0]), TARGETS])
    slots, objects, _, _ = assign(zeros(images=2), targets)
    assert slots[:, :3].tolist() == [[0, 0, 1], [1, 0, 1]] and objects.tolist() == [1, 0]


def test_slots_are_in_the_order_of_image_row_and_column():
    # Three objects of two images, on 3 x 3 cells, listed backwards. Their cells are in (image, row, column)
    # (1, 0, 1), (0, 2, 0) and (0, 1, 2).
    targets = torch.tensor([[1, 0, 0.5, 0.1, 0.2, 0.2], [0, 0, 0.2, 0.9, 0.2, 0.2], [0, 0, 0.9, 0.5, 0.2, 0.2]])
    slots, objects, _, _ = assign(zeros(3, images=2), targets)
    assert slots[:, :3].tolist() == [[0, 1, 2], [0, 2, 0], [1, 0, 1]] and objects.tolist() == [2, 1, 0]


def test_the_iou_moves_no_box():
    # In the example the IOU is 1/4. c0 learns from the object term, 2 (0.75 - 1/4) = 1. Nothing else does.
    prediction = example().requires_grad_()
    yolov1_loss(prediction, TARGETS)["object"].backward()
    check(prediction.grad[0, 0, 1, 2], 1)
    assert prediction.grad.count_nonzero() == 1


@pytest.mark.parametrize("x, y, row, col", [(1.0, 0.4, 0, 1), (0.4, 1.0, 1, 0), (1.0, 1.0, 1, 1)])
def test_a_centre_on_the_border_is_in_the_last_cell(x, y, row, col):
    slots, *_ = assign(zeros(), torch.tensor([[0, 0, x, y, 0.5, 0.5]]))
    assert slots[0, 1:3].tolist() == [row, col]


def test_a_perfect_prediction():
    # Every term vanishes: the box is the object's, so its IOU, the target of the confidence, is 1.
    prediction = zeros()
    prediction[0, 0, 1] = torch.tensor([1, 0, 0, 1, 0, 0, 0, 0, 0.25, 0.5, 0.5, 0.4])
    check(yolov1_loss(prediction, TARGETS)["total"], 0)


@pytest.mark.parametrize("cells, boxes", [(7, 98), (3, 18)])
def test_an_image_without_objects(cells, boxes):
    # Every box is background: 98 0.5 0.2^2 = 1.96. The gradient of each confidence is 2 0.5 0.2 = 0.2, that of all
    # other numbers is 0.
    prediction = torch.full((1, cells, cells, 30), 0.2, requires_grad=True)
    loss = yolov1_loss(prediction, torch.zeros(0, 6))
    check(loss["no_object"], boxes * 0.5 * 0.2 ** 2)
    assert loss["total"].item() == loss["no_object"].item()
    loss["total"].backward()
    assert prediction.grad[..., 20:22].flatten().tolist() == pytest.approx([0.2] * boxes)
    assert prediction.grad.count_nonzero() == boxes


def test_loss_leaves_its_inputs_alone():
    prediction, targets = example(), TARGETS.clone()
    first, second = (yolov1_loss(prediction, targets)["total"] for _ in range(2))
    assert first == second and prediction.equal(example()) and targets.equal(TARGETS)


def test_half_precision_heads_are_computed_in_full():
    # r_w = 300: the width is 90,000 and wh 5 (300 - 0.5)^2 = 448,501. Half precision ends at 65,504.
    prediction = zeros().half()
    prediction[0, 0, 1, 4:8] = torch.tensor([0.25, 0.5, 300, 0.4])
    loss = yolov1_loss(prediction, TARGETS)
    check(loss["wh"] / 448501.25, 1)
    assert loss["total"].isfinite() and loss["object"] < 1
    # 98 confidences of 0.1, which is 0.0999755859375 in half precision: 98 0.5 of its square. A sum in half precision
    # would have three digits.
    loss = yolov1_loss(torch.full((1, 7, 7, 30), 0.1, dtype=torch.float16), torch.zeros(0, 6))
    check(loss["no_object"], 49 * 0.0999755859375 ** 2)


@pytest.mark.parametrize("seed, n", [(0, 2), (1, 2), (2, 3), (3, 3), (4, 1)])
def test_gradient_is_minus_twice_darknets_delta(seed, n):
    # Three images of 4 x 4 cells: one crowded, with objects that share cells, one empty, one with two objects. Half of
    # the boxes are about where the objects are, half anywhere. The loss is the mean of the three images.
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(3, 4, 4, 3 + 5 * n, generator=generator)
    prediction[:, ::2, :, 3 + n:] = 0.4 + 0.2 * prediction[:, ::2, :, 3 + n:]
    prediction.requires_grad_()
    crowd = torch.rand(40, 6, generator=generator)
    crowd[:, 0] = torch.tensor([0] * 38 + [2] * 2)
    crowd[:, 1] = (crowd[:, 1] * 3).floor()
    crowd[:, 4:] = 0.02 + 0.9 * crowd[:, 4:] ** 2
    ious = assign(prediction, crowd, n)[2]
    assert len(ious) < 20 and (ious == 0).any() and (ious > 0.05).any()
    yolov1_loss(prediction, crowd, n)["total"].backward()
    expected = darknet_delta(prediction.detach(), crowd, n)
    torch.testing.assert_close(-3 * prediction.grad, 2 * expected, atol=1e-5, rtol=1e-4)
