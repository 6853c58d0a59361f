"""
Every expected number in this file is worked out in its comment. Check it with a pencil.

The world is as small as it can be: one image, 2 x 2 cells, one anchor of 1 x 1 cell, two classes. One object of class
0: centre (0.625, 0.25), size 0.5 x 0.25 of the image. That is centre (1.25, 0.5) and size 1 x 0.5 in cells. So the
responsible cell is row 0, column 1, and the targets are

    x = 1.25 - 1 = 0.25     q = log(1 / 1)   = 0            size weight = 2 - 0.5 * 0.25 = 1.875
    y = 0.5  - 0 = 0.5      r = log(0.5 / 1) = log 0.5

Logits are logs, so that sigmoids are fractions: sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4.
"""
from math import exp, log

import pytest
import torch

import yolov2.loss
from yolov2.loss import assign, yolov2_loss
from yolov2.model import ANCHORS

TARGETS, ONE_ANCHOR = torch.tensor([[0, 0, 0.625, 0.25, 0.5, 0.25]]), [(1.0, 1.0)]


def zeros(cells=13, images=1, classes=20):
    return torch.zeros(images, 5, cells, cells, 5 + classes)


def test_coordinates():
    prediction = torch.zeros(1, 1, 2, 2, 7)                               # (B, A, row, column, 5 + C)
    prediction[0, 0, 0, 1, :4] = torch.tensor([log(3), -log(3), -0.5, log(0.5) + 0.5])
    # t_x   sigmoid( log 3) = 0.75   0.75 - 0.25 =  0.5    squared 0.25
    # t_y   sigmoid(-log 3) = 0.25   0.25 - 0.5  = -0.25   squared 0.0625   sum 0.3125
    # t_w                            -0.5 - 0    = -0.5    squared 0.25
    # t_h       log 0.5 + 0.5 - log 0.5          =  0.5    squared 0.25     sum 0.5
    # xy = 1/2 * 1.875 * 0.3125 = 0.29296875
    # wh = 1/2 * 1.875 * 0.5    = 0.46875
    #
    # What a bug would give instead. xy: a second sigmoid 0.1763, x and y swapped 0.0586, no size weight 0.1563,
    # no half 0.5859. wh: w / p_w without the log 2.5598, a mean over the coordinates 0.2344.
    loss = yolov2_loss(prediction, TARGETS, ONE_ANCHOR)
    assert loss["xy"].item() == pytest.approx(0.29296875, abs=1e-6)
    assert loss["wh"].item() == pytest.approx(0.46875, abs=1e-6)


def test_objectness_and_class():
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[0, 0, 0, 1] = torch.tensor([-log(3), 0, log(2), log(0.5), log(4), log(3), 0])
    # The box: centre (1/4 + 1, 1/2 + 0), size 2 x 1/2. The object: same centre, 1 x 1/2. IOU = 0.5 / 1 = 1/2.
    # object     5/2 (sigmoid(log 4) - 1/2)^2 = 5/2 (0.8 - 0.5)^2 = 0.225               (target 1: 0.1)
    # no_object  the three other cells, sigmoid(0) = 1/2 each: 1/2 * 3 * 1/4 = 0.375
    # class      -log(3 / (3 + 1)) = log(4/3)
    loss = yolov2_loss(prediction, TARGETS, ONE_ANCHOR)
    assert loss["object"].item() == pytest.approx(0.225)
    assert loss["no_object"].item() == pytest.approx(0.375)
    assert loss["class"].item() == pytest.approx(log(4 / 3))


def test_the_pull_to_the_anchors():
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[0, 0, 0, 1, :4] = 3                                        # responsible: its anchor does not pull
    prediction[0, 0, 1, 0, :4] = torch.tensor([log(3), -log(3), 0.5, -1])
    # Row 1, column 0: 1/2 * .01 * [(3/4 - 1/2)^2 + (1/4 - 1/2)^2 + 1/4 + 1] = .005 * 1.375 = 0.006875. The two
    # others: 0.
    for seen, expected in [(4, 0.006875), (12799, 0.006875), (12800, 0), (10**6, 0)]:
        loss = yolov2_loss(prediction, TARGETS, ONE_ANCHOR, seen)
        assert loss["prior"].item() == pytest.approx(expected)
        assert loss["total"].item() == pytest.approx(sum(loss[term].item() for term in list(loss)[:-1]))
    assert yolov2_loss(prediction, TARGETS, ONE_ANCHOR)["prior"] == 0     # unless it is told


def test_total_is_the_sum_and_the_mean_over_images():
    torch.manual_seed(0)
    prediction = torch.randn(1, 1, 2, 2, 7)
    once = yolov2_loss(prediction, TARGETS, ONE_ANCHOR, seen=1)
    assert list(once) == ["xy", "wh", "object", "no_object", "class", "prior", "total"]
    assert once["total"].item() == pytest.approx(sum(once[term].item() for term in list(once)[:-1]), rel=1e-6)
    # The same image twice: the mean stays.
    both = torch.cat([TARGETS, TARGETS + torch.tensor([1, 0, 0, 0, 0, 0])])
    twice = yolov2_loss(prediction.repeat(2, 1, 1, 1, 1), both, ONE_ANCHOR, seen=1)
    for term in once:
        assert twice[term].item() == pytest.approx(once[term].item(), rel=1e-5)


def test_the_published_anchors_on_one_object_in_the_middle():
    # An object of 4 x 4 cells at (6.5, 6.5) of 13 x 13. IOU of its shape with the five: .1431 .7967 .3907 .3490 .1423.
    # 3.19275 x 4.00944: intersection 3.19275 * 4 = 12.771, union 16 + 12.80114 - 12.771 = 16.03014, IOU 0.796687.
    # weight     2 - 16 / 169 = 1.905325
    # xy         0
    # wh         1/2 * 1.905325 (log(4 / 3.19275)^2 + log(4 / 4.00944)^2) = .952663 (.225412^2 + .002357^2) = 0.048411
    # object     5/2 (1/2 - 0.796687)^2 = 0.220058
    # no_object  844 / 8 = 105.5: no neighbour's box overlaps the object by more than .6
    # class      log 20
    loss = yolov2_loss(zeros(), torch.tensor([[0, 7, 0.5, 0.5, 4 / 13, 4 / 13]]))
    assert loss["xy"].item() == pytest.approx(0, abs=1e-9)
    assert loss["wh"].item() == pytest.approx(0.048411, abs=1e-6)
    assert loss["object"].item() == pytest.approx(0.220058, abs=1e-6)
    assert loss["no_object"].item() == pytest.approx(105.5)
    assert loss["class"].item() == pytest.approx(log(20))


def test_the_ignore_threshold(monkeypatch):
    # The anchor of 5.05587 x 8.09892 in the same cell overlaps by 16 / 40.947 = .391; the boxes of the responsible
    # anchor in columns 5 and 7 by 2.596375 * 4 / (16 + 12.80114 - 10.3855) = .564, in rows 5 and 7 by 3.19275 *
    # 3.00472 / 19.2079 = .499.
    target = torch.tensor([[0, 7, 0.5, 0.5, 4 / 13, 4 / 13]])
    for threshold, ignored in [(0.6, 0), (0.55, 2), (0.49, 4)]:
        monkeypatch.setattr(yolov2.loss, "IGNORE_IOU", threshold)
        assert yolov2_loss(zeros(), target)["no_object"].item() == pytest.approx((844 - ignored) / 8)


def test_what_is_ignored_is_the_predicted_box_in_its_own_image():
    # Two images. An object of 4 x 4 cells in image 1, in the middle. Another predictor of its cell, anchor 5.05587 x
    # 8.09892, shrinks its box onto the object: it is left alone. The same predictor of image 0 does the same and is
    # background, as there is nothing. A third, 9.47112 x 4.84053, shrinks in image 1 only. Nor do the anchors' own
    # shapes matter: without shrinking they count.
    target = torch.tensor([[1, 7, 0.5, 0.5, 4 / 13, 4 / 13]])
    prediction = zeros(images=2)
    before = assign(prediction, target)[-1].sum().item()
    prediction[:, 2, 6, 6, 2:4] = torch.tensor([log(4 / 5.05587), log(4 / 8.09892)])
    prediction[1, 3, 6, 6, 2:4] = torch.tensor([log(4 / 9.47112), log(4 / 4.84053)])
    background = assign(prediction, target)[-1]
    assert background[0, 2, 6, 6] and not background[1, 2, 6, 6] and not background[1, 3, 6, 6]
    assert before == 2 * 845 - 1 and background.sum().item() == before - 2


def test_one_anchor_of_five_learns_in_the_cell_of_the_centre():
    # 9 x 5 cells: most like 9.47112 x 4.84053. Centre (0.2, 0.7): column 2 (2.6), row 9 (9.1).
    slot, owner, _, _ = assign(zeros(), torch.tensor([[0, 3, 0.2, 0.7, 9 / 13, 5 / 13]]))
    assert [index.item() for index in slot] == [0, 3, 9, 2]              # image, anchor, row, column
    assert owner.tolist() == [0]


def test_anchors_stay_in_cells_when_the_input_grows():
    # 0.2 x 0.25 of the image is 2 x 2.5 cells at 320 (10 x 10): anchor 1.3221 x 1.73145 with IOU .458 against .391;
    # at 608 it is 3.8 x 4.75 cells: anchor 3.19275 x 4.00944.
    target = torch.tensor([[0, 0, 0.5, 0.5, 0.2, 0.25]])
    assert assign(zeros(10), target)[0][1].item() == 0
    assert assign(zeros(19), target)[0][1].item() == 1


def test_two_objects_in_one_slot():
    # The second object, class 1, has the same cell and anchor, and gets it: x = 1.5 - 1 = 1/2, y = 1/2, q = r = 0, so
    # that xy and wh vanish. Its box, 1 x 1 cells around the cell's middle, is the predicted one: object = 5/2 (1/2 -
    # 1)^2 = 0.625, once. class: -log sigmoid(log 3 - 0) = log 4/3.
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[0, 0, 0, 1, 6] = log(3)
    targets = torch.cat([TARGETS, torch.tensor([[0, 1, 0.75, 0.25, 0.5, 0.5]])])
    loss = yolov2_loss(prediction, targets, ONE_ANCHOR)
    assert loss["xy"].item() == pytest.approx(0, abs=1e-9)
    assert loss["wh"].item() == pytest.approx(0, abs=1e-9)
    assert loss["object"].item() == pytest.approx(0.625)
    assert loss["class"].item() == pytest.approx(log(4 / 3))


def test_the_iou_moves_no_box():
    # Box 1 x 1, object 1 x 1/2, centres (1.5, .5) and (1.25, .5): IOU 3/8 / (1 + 1/2 - 3/8) = 1/3. t_o learns
    # 5 (1/2 - 1/3) sigmoid' = 5/6 1/4 = 5/24, and nothing else learns from this term.
    prediction = torch.zeros(1, 1, 2, 2, 7, requires_grad=True)
    yolov2_loss(prediction, TARGETS, ONE_ANCHOR)["object"].backward()
    assert prediction.grad[0, 0, 0, 1, 4].item() == pytest.approx(5 / 24)
    assert prediction.grad.count_nonzero() == 1


def test_a_centre_on_the_border_is_in_the_last_cell():
    corner = torch.tensor([[0, 0, 1.0, 1.0, 0.5, 0.5]])
    (image, anchor, row, col), *_ = assign(torch.zeros(1, 1, 2, 3, 7), corner, ONE_ANCHOR)
    assert (row.item(), col.item()) == (1, 2)


def test_a_perfect_prediction():
    # Every term vanishes: the box is the object's, so the IOU that the objectness has to name is 1.
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[..., 4:] = -50
    prediction[0, 0, 0, 1] = torch.tensor([-log(3), 0, 0, log(0.5), 50, 50, -50])
    loss = yolov2_loss(prediction, TARGETS, ONE_ANCHOR)
    assert loss["total"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("cells, boxes", [(13, 845), (10, 500)])
def test_an_image_without_objects(cells, boxes):
    # Every predictor is background with objectness 1/2: 845 * 1/2 * 1/4 = 105.625 at 416. prior is 0 where all t are.
    prediction = zeros(cells).requires_grad_()
    loss = yolov2_loss(prediction, torch.zeros(0, 6), seen=1)
    assert loss["no_object"].item() == pytest.approx(boxes / 8)
    assert loss["total"].item() == loss["no_object"].item()
    loss["total"].backward()                                              # 1/2 * sigmoid' = 1/8 for t_o, nothing else
    assert prediction.grad.abs().sum().item() == pytest.approx(boxes / 8)


def test_loss_leaves_its_inputs_alone():
    torch.manual_seed(0)
    prediction, targets = torch.randn(1, 1, 2, 2, 7), TARGETS.clone()
    before = prediction.clone()
    first, second = (yolov2_loss(prediction, targets, ONE_ANCHOR, seen=1)["total"] for _ in range(2))
    assert first == second and prediction.equal(before) and targets.equal(TARGETS)


def test_half_precision_heads_are_computed_in_full():
    # exp(12) = 162,755 is beyond half precision: wh = 1/2 1.875 (12^2 + log(0.5)^2), not infinite.
    prediction = torch.zeros(1, 1, 2, 2, 7, dtype=torch.float16)
    prediction[0, 0, 0, 1, 2] = 12
    loss = yolov2_loss(prediction, TARGETS, ONE_ANCHOR)
    assert loss["wh"].item() == pytest.approx(0.5 * 1.875 * (144 + log(0.5) ** 2))
    assert loss["object"].item() == pytest.approx(2.5 * 0.25, abs=1e-3)   # and the IOU is almost 0, not nan
    # 845 times sigmoid(-3)^2 / 2: half precision would give three digits of it.
    loss = yolov2_loss(torch.full((1, 5, 13, 13, 6), -3.0, dtype=torch.float16), torch.zeros(0, 6))
    assert loss["no_object"].item() == pytest.approx(845 / 2 / (1 + exp(3)) ** 2, rel=1e-5)


def darknet_delta(prediction, targets, seen):
    """
    Minus the gradient, predictor by predictor and object by object, in the order of [darknet] forward_region_layer; at
    the end the factors of backward_region_layer_gpu.
    """
    def sigmoid(t):
        return 1 / (1 + exp(-t))

    def iou(a, b):                                                        # centre x, centre y, width, height
        w, h = (min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
                for i in (0, 1))
        overlap = w * h if w > 0 and h > 0 else 0
        return overlap / (a[2] * a[3] + b[2] * b[3] - overlap)

    B, A, H, W, _ = prediction.shape
    delta = torch.zeros_like(prediction)

    def box(image, a, row, col):
        t = prediction[image, a, row, col].tolist()
        return [(col + sigmoid(t[0])) / W, (row + sigmoid(t[1])) / H,
                ANCHORS[a][0] * exp(t[2]) / W, ANCHORS[a][1] * exp(t[3]) / H]

    def box_delta(d, t, a, row, col, x, y, w, h, scale):
        d[0], d[1] = scale * (x * W - col - sigmoid(t[0])), scale * (y * H - row - sigmoid(t[1]))
        d[2], d[3] = scale * (log(w * W / ANCHORS[a][0]) - t[2]), scale * (log(h * H / ANCHORS[a][1]) - t[3])

    for image in range(B):
        objects = [row for row in targets.tolist() if row[0] == image]
        for a, row, col in [(a, row, col) for a in range(A) for row in range(H) for col in range(W)]:
            t, d = prediction[image, a, row, col].tolist(), delta[image, a, row, col]
            if max([iou(box(image, a, row, col), o[2:]) for o in objects], default=0) <= 0.6:
                d[4] = -sigmoid(t[4])
            if seen < 12800:
                p_w, p_h = ANCHORS[a]
                box_delta(d, t, a, row, col, (col + 0.5) / W, (row + 0.5) / H, p_w / W, p_h / H, 0.01)
        for _, label, x, y, w, h in objects:
            shapes = [iou([0, 0, w * W, h * H], [0, 0, *p]) for p in ANCHORS]
            a, row, col = shapes.index(max(shapes)), int(y * H), int(x * W)
            t, d = prediction[image, a, row, col].tolist(), delta[image, a, row, col]
            box_delta(d, t, a, row, col, x, y, w, h, 2 - w * h)
            d[4] = 5 * (iou(box(image, a, row, col), [x, y, w, h]) - sigmoid(t[4]))
            total = sum(exp(score) for score in t[5:])
            for k, score in enumerate(t[5:]):
                d[5 + k] = (k == label) - exp(score) / total
    for k in (0, 1, 4):
        s = prediction[..., k].sigmoid()
        delta[..., k] *= s * (1 - s)
    return delta


@pytest.mark.parametrize("seed, seen", [(0, 64), (1, 12799), (2, 12800), (3, 64), (4, 99999)])
def test_gradient_is_minus_darknets_delta(seed, seen):
    # Three images of 5 x 3 cells: one crowded, with objects that share cells and anchors, one empty, one with two
    # objects.
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(3, 5, 3, 5, 8, generator=generator).requires_grad_()
    crowd = torch.rand(40, 6, generator=generator)
    crowd[:, 0] = torch.tensor([0] * 38 + [2] * 2)
    crowd[:, 1] = (crowd[:, 1] * 3).floor()
    crowd[:, 4:] = 0.02 + 0.9 * crowd[:, 4:] ** 2
    assert len(assign(prediction, crowd)[1]) < 38
    yolov2_loss(prediction, crowd, seen=seen)["total"].backward()
    expected = darknet_delta(prediction.detach(), crowd, seen)
    torch.testing.assert_close(-3 * prediction.grad, expected, atol=1e-5, rtol=1e-4)
