"""
Every expected number in this file is worked out in its comment. Check it with a pencil.

The world is as small as it can be: one image of 64 x 64 pixels, one scale of stride 32, so 2 x 2 cells, one anchor of
32 x 32 pixels, two classes. One object of class 0: centre (0.625, 0.25), size 0.5 x 0.25 of the image. That is centre
(1.25, 0.5) in cells and 32 x 16 in pixels. So the responsible cell is row 0, column 1, and the targets are

    x = 1.25 - 1 = 0.25     q = log(32 / 32) = 0            size weight = 2 - 0.5 * 0.25 = 1.875
    y = 0.5  - 0 = 0.5      r = log(16 / 32) = log 0.5

Logits are logs, so that sigmoids are fractions: sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4.
"""
from math import exp, log

import pytest
import torch

import yolov3.loss
from yolov3.loss import assign, yolov3_loss
from yolov3.model import ANCHORS, STRIDES

TARGETS, ONE_ANCHOR, STRIDE = torch.tensor([[0, 0, 0.625, 0.25, 0.5, 0.25]]), [[(32, 32)]], [32]


def zeros(size=416, images=1, classes=80):
    return [torch.zeros(images, 3, size // s, size // s, 5 + classes) for s in STRIDES]


def test_coordinates():
    prediction = torch.zeros(1, 1, 2, 2, 7)                               # (B, A, row, column, 5 + C)
    prediction[0, 0, 0, 1, :4] = torch.tensor([log(3), -log(3), -0.5, log(0.5) + 0.5])
    # BCE(t_x, x)  -1/4 log 3/4 - 3/4 log 1/4  = 1.1116413
    # BCE(t_y, y)  -1/2 log 1/4 - 1/2 log 3/4  = 0.8369882
    # xy = 1.875 (1.1116413 + 0.8369882)       = 3.653680
    # wh = 1/2 1.875 ((-0.5 - 0)^2 + (log 0.5 + 0.5 - log 0.5)^2) = 1/2 1.875 (0.25 + 0.25) = 0.46875
    #
    # What a bug would give instead. xy: squares 0.585938, x and y swapped 2.623731, no size weight 1.948630. wh: no
    # half 0.9375, r without the logarithm 0.684800, anchors in cells instead of pixels 22.989985.
    loss = yolov3_loss([prediction], TARGETS, ONE_ANCHOR, STRIDE)
    assert loss["xy"].item() == pytest.approx(1.875 * (-0.25 * log(0.75) - 0.75 * log(0.25) - 0.5 * log(0.25 * 0.75)))
    assert loss["xy"].item() == pytest.approx(3.653680, abs=1e-5)
    assert loss["wh"].item() == pytest.approx(0.46875, abs=1e-6)


def test_objectness_and_class():
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[0, 0, 0, 1, 4:] = torch.tensor([log(4), log(3), 0])
    # object     -log sigmoid(log 4) = -log 4/5                                      (target 1: not the IOU)
    # class      -log sigmoid(log 3) - log(1 - sigmoid(0)) = log 4/3 + log 2         (softmax would give log 4/3)
    # no_object  the three other cells: 3 log 2. Their boxes, 32 x 32 at the cells' centres, overlap the object's
    #            32 x 16 by 8 x 16 / (1024 + 512 - 128) = 1/11 at the most.
    loss = yolov3_loss([prediction], TARGETS, ONE_ANCHOR, STRIDE)
    assert loss["object"].item() == pytest.approx(log(5 / 4))
    assert loss["class"].item() == pytest.approx(log(4 / 3) + log(2))
    assert loss["no_object"].item() == pytest.approx(3 * log(2))


def test_total_is_the_sum_and_the_mean_over_images():
    torch.manual_seed(0)
    prediction = torch.randn(1, 1, 2, 2, 7)
    once = yolov3_loss([prediction], TARGETS, ONE_ANCHOR, STRIDE)
    assert list(once) == ["xy", "wh", "object", "no_object", "class", "total"]
    assert once["total"].item() == pytest.approx(sum(once[term].item() for term in list(once)[:-1]), rel=1e-6)
    # The same image twice: the mean stays.
    both = torch.cat([TARGETS, TARGETS + torch.tensor([1, 0, 0, 0, 0, 0])])
    twice = yolov3_loss([prediction.repeat(2, 1, 1, 1, 1)], both, ONE_ANCHOR, STRIDE)
    for term in once:
        assert twice[term].item() == pytest.approx(once[term].item(), rel=1e-5)


def test_the_published_anchors_on_one_object_in_the_middle():
    # An object of exactly 116 x 90 pixels at (208, 208) of 416: stride 32, first anchor, cell (6, 6), x = y = 1/2,
    # q = r = 0, size weight 2 - 116 * 90 / 416^2 = 1.939673.
    #
    # xy         2 log 2 * 1.939673 = 2.688957, the least that it can be
    # class      80 log 2 = 55.451774
    # no_object  10,647 predictors less the responsible one, less two neighbours, in columns 5 and 7 of row 6, whose
    #            boxes overlap it by (116 - 32) / (116 + 32) = 0.5676 > .5: 10,644 log 2 = 7377.8586
    loss = yolov3_loss(zeros(), torch.tensor([[0, 7, 0.5, 0.5, 116 / 416, 90 / 416]]))
    assert loss["xy"].item() == pytest.approx(2.688957)
    assert loss["wh"].item() == pytest.approx(0, abs=1e-6)
    assert loss["object"].item() == pytest.approx(log(2))
    assert loss["no_object"].item() == pytest.approx(10644 * log(2))
    assert loss["class"].item() == pytest.approx(80 * log(2))


def test_the_ignore_threshold(monkeypatch):
    # The same object: of the two neighbours' 0.5676 neither is more than .7, so that nobody is ignored.
    target = torch.tensor([[0, 7, 0.5, 0.5, 116 / 416, 90 / 416]])
    monkeypatch.setattr(yolov3.loss, "IGNORE_IOU", 0.7)
    assert yolov3_loss(zeros(), target)["no_object"].item() == pytest.approx(10646 * log(2))


def test_exactly_the_threshold_is_not_more_than_it():
    # An object of 64 x 32 pixels over both cells of row 0; its centre, (1, 0.5) in cells, is in column 1. The 32 x 32
    # box of column 0 overlaps it by exactly half, and is background, as are the two of row 1, which do not overlap it.
    loss = yolov3_loss([torch.zeros(1, 1, 2, 2, 7)], torch.tensor([[0, 0, 0.5, 0.25, 1, 0.5]]), ONE_ANCHOR, STRIDE)
    assert loss["no_object"].item() == pytest.approx(3 * log(2))


def test_what_is_ignored_is_the_predicted_box_in_its_own_image():
    # Two images, and in image 0 an object of 116 x 90 pixels at (208, 208). A predictor of another scale, stride 16,
    # second anchor (62 x 45), row 13, column 13, has its box at (216, 216). As large as its anchor that box overlaps
    # the object by 62 * 45 / (116 * 90) = 0.267, and it is background. Stretched to 116 x 90 it overlaps it by
    # 108 * 82 / (2 * 116 * 90 - 108 * 82) = 0.737, and is left alone; in image 1, where there is nothing, it is not.
    target = torch.tensor([[0, 7, 0.5, 0.5, 116 / 416, 90 / 416]])
    heads = zeros(images=2)
    before = [b.sum().item() for *_, b in assign(heads, target)]
    heads[1][:, 1, 13, 13, 2] = log(116 / 62)
    heads[1][:, 1, 13, 13, 3] = log(90 / 45)
    background = assign(heads, target)[1][3]
    assert not background[0, 1, 13, 13] and background[1, 1, 13, 13]
    assert background.sum().item() == before[1] - 1


def test_one_anchor_of_nine_learns_whatever_the_scale():
    # 30 x 61 is the first anchor of stride 16. Centre (0.2, 0.7): column 5 (5.2), row 18 (18.2) of 26 x 26.
    target = torch.tensor([[0, 3, 0.2, 0.7, 30 / 416, 61 / 416]])
    scale32, scale16, scale8 = assign(zeros(), target)
    assert [len(scale[1]) for scale in (scale32, scale16, scale8)] == [0, 1, 0]
    assert [index.item() for index in scale16[0]] == [0, 0, 18, 5]       # image, anchor, row, column


def test_anchors_stay_in_pixels_when_the_input_grows():
    # 0.1 x 0.1 of the image is 32 x 32 pixels at 320: anchor 33 x 23 (stride 8) with IOU .703 against .507 for the next
    # best, 30 x 61 (stride 16). At 608 it is 60.8 x 60.8: anchor 62 x 45 (stride 16) with .729.
    target = torch.tensor([[0, 0, 0.5, 0.5, 0.1, 0.1]])
    assert [len(owner) for _, owner, _, _ in assign(zeros(320), target)] == [0, 0, 1]
    assert [len(owner) for _, owner, _, _ in assign(zeros(608), target)] == [0, 1, 0]


def test_two_objects_in_one_slot():
    # The second object, class 1, has the same cell and anchor: its box counts, and both classes are named.
    # x = 1.5 - 1 = 1/2, y = 1/2: xy = 2 log 2 (2 - 1/4) = 2.426015. q = r = 0: wh = 0. object log 2, once.
    # class: log 2 for each of the two. With scores of log 3 for both: 2 log 4/3; if the first one's class were lost:
    # log 4/3 + log 4.
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[0, 0, 0, 1, 5:] = log(3)
    targets = torch.cat([TARGETS, torch.tensor([[0, 1, 0.75, 0.25, 0.5, 0.5]])])
    loss = yolov3_loss([prediction], targets, ONE_ANCHOR, STRIDE)
    assert loss["xy"].item() == pytest.approx(2 * log(2) * 1.75)
    assert loss["wh"].item() == pytest.approx(0, abs=1e-6)
    assert loss["object"].item() == pytest.approx(log(2))
    assert loss["class"].item() == pytest.approx(2 * log(4 / 3))


def test_a_centre_on_the_border_is_in_the_last_cell():
    (image, anchor, row, col), *_ = assign([torch.zeros(1, 1, 2, 3, 7)], torch.tensor([[0, 0, 1.0, 1.0, 0.5, 0.5]]),
                                           ONE_ANCHOR, STRIDE)[0]
    assert (row.item(), col.item()) == (1, 2)


def test_a_perfect_prediction():
    # wh, object, no_object and class vanish. xy is the entropy of its targets: 1.875 (H(1/4) + H(1/2)) with
    # H(1/4) = -1/4 log 1/4 - 3/4 log 3/4 = 0.562335 and H(1/2) = log 2 = 0.693147, so 2.354029.
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[..., 4:] = -50
    prediction[0, 0, 0, 1] = torch.tensor([-log(3), 0, 0, log(0.5), 50, 50, -50])
    loss = yolov3_loss([prediction], TARGETS, ONE_ANCHOR, STRIDE)
    assert loss["xy"].item() == pytest.approx(2.354029, abs=1e-5)
    assert loss["total"].item() == pytest.approx(loss["xy"].item(), abs=1e-5)


@pytest.mark.parametrize("size, boxes", [(416, 10647), (320, 6300)])
def test_an_image_without_objects(size, boxes):
    # Every predictor is background with objectness 1/2: 10,647 log 2 = 7379.938 at 416.
    heads = [head.requires_grad_() for head in zeros(size)]
    loss = yolov3_loss(heads, torch.zeros(0, 6))
    assert loss["no_object"].item() == pytest.approx(boxes * log(2))
    assert loss["total"].item() == loss["no_object"].item()
    loss["total"].backward()                                              # sigmoid - 0 = 1/2 for t_o, nothing else
    assert sum(head.grad.abs().sum().item() for head in heads) == pytest.approx(boxes / 2)


def test_loss_leaves_its_inputs_alone():
    torch.manual_seed(0)
    heads, targets = [torch.randn(1, 1, 2, 2, 7)], TARGETS.clone()
    before = heads[0].clone()
    first, second = (yolov3_loss(heads, targets, ONE_ANCHOR, STRIDE)["total"] for _ in range(2))
    assert first == second and heads[0].equal(before) and targets.equal(TARGETS)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_heads_are_computed_in_full(precision):
    # 10,647 log 2 = 7379.938. Half precision counts in fours there, and would say 7380; bfloat16 in 32s.
    loss = yolov3_loss([head.to(precision) for head in zeros()], torch.zeros(0, 6))
    assert loss["no_object"].dtype == torch.float32
    assert loss["no_object"].item() == pytest.approx(10647 * log(2))


def darknet_delta(heads, targets):
    """Minus the gradient, predictor by predictor and object by object, in the order of [darknet] forward_yolo_layer."""
    def sigmoid(t):
        return 1 / (1 + exp(-t))

    def common(a, b, i):                                                  # length of the overlap along x (0) or y (1)
        return min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)

    def iou(a, b):                                                        # centre x, centre y, width, height
        w, h = common(a, b, 0), common(a, b, 1)
        overlap = w * h if w > 0 and h > 0 else 0
        return overlap / (a[2] * a[3] + b[2] * b[3] - overlap)

    deltas = [torch.zeros_like(head) for head in heads]
    for head, delta, anchors, stride in zip(heads, deltas, ANCHORS, STRIDES):
        B, A, H, W, _ = head.shape
        for image in range(B):
            objects = [row for row in targets.tolist() if row[0] == image]
            for a in range(A):
                for row in range(H):
                    for col in range(W):
                        t = head[image, a, row, col].tolist()
                        box = [(col + sigmoid(t[0])) / W, (row + sigmoid(t[1])) / H,
                               anchors[a][0] * exp(t[2]) / (W * stride), anchors[a][1] * exp(t[3]) / (H * stride)]
                        if max([iou(box, o[2:]) for o in objects], default=0) <= 0.5:
                            delta[image, a, row, col, 4] = -sigmoid(t[4])
            for _, label, x, y, w, h in objects:
                shapes = [iou([0, 0, w * W * stride, h * H * stride], [0, 0, *p]) for scale in ANCHORS for p in scale]
                best = shapes.index(max(shapes))
                if best // 3 != ANCHORS.index(anchors):
                    continue
                a, row, col = best % 3, int(y * H), int(x * W)
                t, d = head[image, a, row, col].tolist(), delta[image, a, row, col]
                d[0] = (2 - w * h) * (x * W - col - sigmoid(t[0]))
                d[1] = (2 - w * h) * (y * H - row - sigmoid(t[1]))
                d[2] = (2 - w * h) * (log(w * W * stride / anchors[a][0]) - t[2])
                d[3] = (2 - w * h) * (log(h * H * stride / anchors[a][1]) - t[3])
                d[4] = 1 - sigmoid(t[4])
                if d[5] == 0:                                             # nobody was here before
                    for k in range(len(t) - 5):
                        d[5 + k] = (k == label) - sigmoid(t[5 + k])
                d[5 + int(label)] = 1 - sigmoid(t[5 + int(label)])
    return deltas


@pytest.mark.parametrize("seed", range(6))
def test_gradient_is_minus_darknets_delta(seed):
    # Three images of 96 x 64: one crowded, with objects that share cells and anchors, one empty, one with two objects.
    generator = torch.Generator().manual_seed(seed)
    heads = [torch.randn(3, 3, 64 // s, 96 // s, 8, generator=generator).requires_grad_() for s in STRIDES]
    crowd = torch.rand(40, 6, generator=generator)
    crowd[:, 0] = torch.tensor([0] * 38 + [2] * 2)
    crowd[:, 1] = (crowd[:, 1] * 3).floor()
    crowd[:, 4:] = 0.02 + 0.9 * crowd[:, 4:] ** 2
    owners = torch.cat([owner for _, owner, *_ in assign(heads, crowd)])
    assert (crowd[owners, 0] == 0).sum() < 38                             # of the crowd some have lost their slot
    yolov3_loss(heads, crowd)["total"].backward()
    for head, delta in zip(heads, darknet_delta([h.detach() for h in heads], crowd)):
        torch.testing.assert_close(-3 * head.grad, delta, atol=2e-5, rtol=1e-4)
