"""
Every expected number in this file is worked out in its comment. Check it with a pencil.

The world is as small as it can be: one image of 64 x 64 pixels, one scale of stride 32, so 2 x 2 cells, one anchor of
32 x 32 pixels, two classes. One object of class 0 (x marks its centre):

    0                               32                              64 pixels
  0 +-------------------------------+-------------------------------+
    | row 0, column 0               | row 0, column 1               |      centre  (40, 16) pixels
  8 |                       +-------|-----------------------+       |              (1.25, 0.5) cells
    |                       |       |                       |       |              (0.625, 0.25) of the image
 16 |                       |       |       x               |       |
    |                       |       |                       |       |      size    32 x 16 pixels
 24 |                       +-------|-----------------------+       |              0.5 x 0.25 of the image
    |                               |                               |
 32 +-------------------------------+-------------------------------+
    | row 1, column 0               | row 1, column 1               |
    |                               |                               |
 64 +-------------------------------+-------------------------------+

The cell of the centre, and so the responsible predictor, is in row 0, column 1. The targets are

    x*   = 1.25 - 1 = 0.25
    y*   = 0.5  - 0 = 0.5
    t*_w = log(32 / 32) = 0
    t*_h = log(16 / 32) = log 0.5

and the size weight is 2 - w h = 2 - 0.5 * 0.25 = 1.875.

Logits are logs, so that sigmoids are fractions: sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4.
"""
from math import exp, log

import pytest
import torch

import yolov3.loss
from yolov3.loss import assign, yolov3_loss
from yolov3.model import ANCHORS, STRIDES, decode

TARGETS, ONE_ANCHOR, STRIDE = torch.tensor([[0, 0, 0.625, 0.25, 0.5, 0.25]]), [[(32, 32)]], [32]
IN_THE_MIDDLE = torch.tensor([[0, 7, 0.5, 0.5, 116 / 416, 90 / 416]])        # of 416 x 416 pixels: 116 x 90 pixels


def zeros(size=416, images=1, classes=80):
    return [torch.zeros(images, 3, size // s, size // s, 5 + classes) for s in STRIDES]


def check(value, expected, **bugs):
    """
    Asserts value == expected. Each bug is what a common mistake would give; it has to differ from `expected`, or this
    test could not detect it.
    """
    assert value.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for bug, wrong in bugs.items():
        assert abs(wrong - expected) > 1e-3, bug


def test_coordinates():
    prediction = torch.zeros(1, 1, 2, 2, 7)                                  # (B, A, H, W, 5 + C)
    prediction[0, 0, 0, 1, :4] = torch.tensor([log(3), -log(3), -0.5, log(0.5) + 0.5])
    loss = yolov3_loss([prediction], TARGETS, ONE_ANCHOR, STRIDE)
    # BCE(t_x, x*) = -(1/4) log(3/4) - (3/4) log(1/4)       = 1.1116413
    # BCE(t_y, y*) = -(1/2) log(1/4) - (1/2) log(3/4)       = 0.8369882
    # xy           = 1.875 (1.1116413 + 0.8369882)          = 3.653680
    bce_x, bce_y = -1/4 * log(3/4) - 3/4 * log(1/4), -1/2 * log(1/4) - 1/2 * log(3/4)
    assert [bce_x, bce_y, 1.875 * (bce_x + bce_y)] == pytest.approx([1.1116413, 0.8369882, 3.653680], rel=1e-6)
    check(loss["xy"], 1.875 * (bce_x + bce_y),
          squares=1.875 * ((3/4 - 1/4) ** 2 + (1/4 - 1/2) ** 2),                              # 0.585938
          x_and_y_swapped=1.875 * (-1/2 * log(3/4 * 1/4) - 1/4 * log(1/4) - 3/4 * log(3/4)),  # 2.623731
          no_size_weight=bce_x + bce_y)                                                       # 1.948630
    # wh = (1/2) 1.875 [ (-0.5 - 0)^2 + (log 0.5 + 0.5 - log 0.5)^2 ] = (1/2) 1.875 (0.25 + 0.25) = 0.46875
    t_w, t_h = -0.5, log(0.5) + 0.5
    check(loss["wh"], 0.46875,
          no_half=1.875 * 0.5,                                                                # 0.9375
          no_logarithm=1/2 * 1.875 * ((t_w - 1) ** 2 + (t_h - 0.5) ** 2),                     # 2.559800
          anchors_in_cells=1/2 * 1.875 * ((t_w - log(32)) ** 2 + (t_h - log(16)) ** 2),       # 22.989985
          size_in_cells=1/2 * 1.875 * ((t_w + log(32)) ** 2 + (t_h - log(0.5) + log(32)) ** 2))     # 22.989985


def test_objectness_and_class():
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[0, 0, 0, 1, 4:] = torch.tensor([log(4), log(3), 0])
    loss = yolov3_loss([prediction], TARGETS, ONE_ANCHOR, STRIDE)
    # object: the target is 1, so -log sigmoid(log 4) = -log(4/5). Had it the IOU as its target, as YOLOv2: the box is
    # 32 x 32 at (48, 16), it covers the object's columns from 32 to 56: 24 x 16 / (1024 + 512 - 24 x 16) = 1/3.
    check(loss["object"], -log(4/5), iou_as_target=-1/3 * log(4/5) - 2/3 * log(1/5))
    # class: -log sigmoid(log 3) - log(1 - sigmoid(0)) = -log(3/4) - log(1/2)
    check(loss["class"], -log(3/4) - log(1/2), softmax=-log(3 / (3 + 1)))
    # no_object: the three other cells, 3 log 2. Their boxes are 32 x 32 at the centres of their cells. The one in
    # column 0 overlaps the object most, from 24 to 32: 8 x 16 / (1024 + 512 - 8 x 16) = 1/11.
    check(loss["no_object"], 3 * log(2), the_responsible_too=3 * log(2) - log(1/5), weight_of_yolov1=0.5 * 3 * log(2))


def test_total_is_the_sum_and_the_mean_over_images():
    torch.manual_seed(0)
    prediction = torch.randn(1, 1, 2, 2, 7)
    once = yolov3_loss([prediction], TARGETS, ONE_ANCHOR, STRIDE)
    assert list(once) == ["xy", "wh", "object", "no_object", "class", "total"]
    assert once["total"].item() == pytest.approx(sum(once[term].item() for term in list(once)[:-1]), rel=1e-6)
    # With the same image twice the mean is unchanged.
    both = torch.cat([TARGETS, TARGETS + torch.tensor([1, 0, 0, 0, 0, 0])])
    twice = yolov3_loss([prediction.repeat(2, 1, 1, 1, 1)], both, ONE_ANCHOR, STRIDE)
    for term in once:
        assert twice[term].item() == pytest.approx(once[term].item(), rel=1e-5)


def test_the_published_anchors_on_one_object_in_the_middle():
    # An object of exactly 116 x 90 pixels at (208, 208) of 416 x 416: stride 32, first anchor, cell (6, 6).
    # x* = y* = 1/2, t*_w = t*_h = 0, size weight 2 - 116 * 90 / 416^2 = 1.939673.
    loss = yolov3_loss(zeros(), IN_THE_MIDDLE)
    weight = 2 - 116 * 90 / 416 ** 2
    assert [weight, weight * 2 * log(2)] == pytest.approx([1.939673, 2.688957], rel=1e-6)
    # xy: BCE(0, 1/2) = log 2, twice. With these targets it cannot be less.
    check(loss["xy"], weight * 2 * log(2))
    check(loss["wh"], 0)
    check(loss["object"], log(2))
    # no_object: 3 (13^2 + 26^2 + 52^2) = 10,647 predictors, without the responsible one and without two neighbours, in
    # columns 5 and 7 of row 6, which are ignored: their boxes overlap the object by (116 - 32) / (116 + 32) = 0.5676.
    assert 3 * (13 ** 2 + 26 ** 2 + 52 ** 2) == 10_647 and (116 - 32) / (116 + 32) == pytest.approx(0.5676, abs=5e-5)
    check(loss["no_object"], 10_644 * log(2), nothing_ignored=10_646 * log(2), object_as_background=10_645 * log(2))
    check(loss["class"], 80 * log(2), softmax=log(80))


def test_the_ignore_threshold(monkeypatch):
    # The same object: the overlap of the two neighbours, 0.5676, is not more than .7, so no predictor is ignored.
    monkeypatch.setattr(yolov3.loss, "IGNORE_IOU", 0.7)
    check(yolov3_loss(zeros(), IN_THE_MIDDLE)["no_object"], 10_646 * log(2), fixed_at_one_half=10_644 * log(2))


def test_exactly_the_threshold_is_not_more_than_it():
    # An object of 64 x 32 pixels over both cells of row 0. Its centre, (1, 0.5) in cells, is in column 1. The 32 x 32
    # box of column 0 overlaps it by exactly half and is background; so are the two of row 1, which do not overlap it.
    loss = yolov3_loss([torch.zeros(1, 1, 2, 2, 7)], torch.tensor([[0, 0, 0.5, 0.25, 1, 0.5]]), ONE_ANCHOR, STRIDE)
    check(loss["no_object"], 3 * log(2), ignored_at_equality=2 * log(2))


def test_a_box_that_overflows_is_background():
    # t_w = 100 and t_h = -200 in row 1, column 0: exp gives a width of inf and a height of 0, so the area and the IOU
    # are nan. No overlap is known, so the predictor is background like the others. (`iou <= IGNORE_IOU` instead of
    # `not iou > IGNORE_IOU` would ignore it.)
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[0, 0, 1, 0, 2:4] = torch.tensor([100.0, -200])
    assert not decode([prediction], ONE_ANCHOR, STRIDE)[0].isfinite().all()
    background = assign([prediction], TARGETS, ONE_ANCHOR, STRIDE)[0][3]
    assert background.tolist() == [[[[True, False], [True, True]]]]


def test_what_is_ignored_is_the_predicted_box_in_its_own_image():
    # Two images, and in image 0 the object of 116 x 90 pixels at (208, 208). The predictor of another scale, stride 16,
    # second anchor (62 x 45), row 13, column 13, has its box at (216, 216). With the size of its anchor this box
    # overlaps the object by (62 * 45) / (116 * 90) = 0.267 and is background. Stretched to 116 x 90 it overlaps it by
    # (108 * 82) / (2 * 116 * 90 - 108 * 82) = 0.737 and is ignored. In image 1, without objects, it is background.
    assert (62 * 45) / (116 * 90) == pytest.approx(0.267, abs=5e-4)
    assert (108 * 82) / (2 * 116 * 90 - 108 * 82) == pytest.approx(0.737, abs=5e-4)
    heads = zeros(images=2)
    before = [background.sum().item() for *_, background in assign(heads, IN_THE_MIDDLE)]
    heads[1][:, 1, 13, 13, 2] = log(116 / 62)
    heads[1][:, 1, 13, 13, 3] = log(90 / 45)
    background = assign(heads, IN_THE_MIDDLE)[1][3]
    assert not background[0, 1, 13, 13] and background[1, 1, 13, 13]
    assert background.sum().item() == before[1] - 1


def test_one_anchor_of_nine_learns_whatever_the_scale():
    # 30 x 61 is the first anchor of stride 16. Centre (0.2, 0.7): column 5 (5.2) and row 18 (18.2) of 26 x 26.
    target = torch.tensor([[0, 3, 0.2, 0.7, 30 / 416, 61 / 416]])
    scale32, scale16, scale8 = assign(zeros(), target)
    assert [len(objects) for _, objects, _, _ in (scale32, scale16, scale8)] == [0, 1, 0]
    assert scale16[0].tolist() == [[0, 0, 18, 5]]                            # image, anchor, row, column


def test_anchors_stay_in_pixels_when_the_input_grows():
    # 0.1 x 0.1 of the image is 32 x 32 pixels at 320. Its best anchors are 33 x 23 (stride 8) with an IOU of
    # (32 * 23) / (32 * 32 + 33 * 23 - 32 * 23) = .703, and 30 x 61 (stride 16) with
    # (30 * 32) / (32 * 32 + 30 * 61 - 30 * 32) = .507. At 608 it is 60.8 x 60.8: 62 x 45 (stride 16) with
    # (60.8 * 45) / (60.8 * 60.8 + 62 * 45 - 60.8 * 45) = .729.
    assert [(32 * 23) / (32 * 32 + 33 * 23 - 32 * 23), (30 * 32) / (32 * 32 + 30 * 61 - 30 * 32),
            (60.8 * 45) / (60.8 * 60.8 + 62 * 45 - 60.8 * 45)] == pytest.approx([0.703, 0.507, 0.729], abs=5e-4)
    target = torch.tensor([[0, 0, 0.5, 0.5, 0.1, 0.1]])
    assert [len(objects) for _, objects, _, _ in assign(zeros(320), target)] == [0, 0, 1]
    assert [len(objects) for _, objects, _, _ in assign(zeros(608), target)] == [0, 1, 0]


def test_two_objects_in_one_slot():
    # A second object, of class 1 and 32 x 32 pixels at (48, 16), has the same cell and anchor. Its box is the target,
    # and both classes are. x* = 1.5 - 1 = 1/2, y* = 1/2, t*_w = t*_h = 0, size weight 2 - 0.5 * 0.5 = 1.75.
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[0, 0, 0, 1, 5:] = log(3)
    targets = torch.cat([TARGETS, torch.tensor([[0, 1, 0.75, 0.25, 0.5, 0.5]])])
    loss = yolov3_loss([prediction], targets, ONE_ANCHOR, STRIDE)
    assert 1.75 * 2 * log(2) == pytest.approx(2.426015, rel=1e-6)
    check(loss["xy"], 1.75 * 2 * log(2), box_of_the_first=1.875 * 2 * log(2))
    check(loss["wh"], 0, box_of_the_first=1/2 * 1.875 * log(0.5) ** 2)
    check(loss["object"], log(2), counted_twice=2 * log(2))
    check(loss["class"], -2 * log(3/4), class_of_the_first_lost=-log(3/4) - log(1/4))


def test_a_centre_on_the_border_is_in_the_last_cell():
    corner = torch.tensor([[0, 0, 1.0, 1.0, 0.5, 0.5]])
    slots = assign([torch.zeros(1, 1, 2, 3, 7)], corner, ONE_ANCHOR, STRIDE)[0][0]
    assert slots.tolist() == [[0, 0, 1, 2]]                                  # image, anchor, row, column


def test_a_perfect_prediction():
    # wh, object, no_object and class vanish. xy cannot: its minimum is the entropy of its targets, 1.875 (H(1/4) +
    # H(1/2)) with H(1/4) = -(1/4) log(1/4) - (3/4) log(3/4) = 0.562335 and H(1/2) = log 2 = 0.693147.
    prediction = torch.zeros(1, 1, 2, 2, 7)
    prediction[..., 4:] = -50
    prediction[0, 0, 0, 1] = torch.tensor([-log(3), 0, 0, log(0.5), 50, 50, -50])
    loss = yolov3_loss([prediction], TARGETS, ONE_ANCHOR, STRIDE)
    entropy = -1/4 * log(1/4) - 3/4 * log(3/4)
    assert [entropy, log(2), 1.875 * (entropy + log(2))] == pytest.approx([0.562335, 0.693147, 2.354029], rel=1e-6)
    check(loss["xy"], 1.875 * (entropy + log(2)))
    check(loss["total"], 1.875 * (entropy + log(2)))


@pytest.mark.parametrize("size, boxes", [(416, 10_647), (320, 6_300)])
def test_an_image_without_objects(size, boxes):
    # Every predictor is background with an objectness of 1/2. The gradient for t_o is sigmoid(0) - 0 = 1/2, all others
    # are 0.
    heads = [head.requires_grad_() for head in zeros(size)]
    loss = yolov3_loss(heads, torch.zeros(0, 6))
    check(loss["no_object"], boxes * log(2))
    assert loss["total"].item() == loss["no_object"].item()
    loss["total"].backward()
    assert sum(head.grad[..., 4].sum().item() for head in heads) == pytest.approx(boxes / 2)
    assert sum(head.grad.abs().sum().item() for head in heads) == pytest.approx(boxes / 2)


def test_loss_leaves_its_inputs_alone():
    torch.manual_seed(0)
    heads, targets = [torch.randn(1, 1, 2, 2, 7)], TARGETS.clone()
    before = heads[0].clone()
    first, second = (yolov3_loss(heads, targets, ONE_ANCHOR, STRIDE)["total"] for _ in range(2))
    assert first == second and heads[0].equal(before) and targets.equal(TARGETS)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_heads_are_computed_in_full(precision):
    # 10,647 log 2 = 7379.938. Half precision has steps of 4 there, bfloat16 of 32.
    loss = yolov3_loss([head.to(precision) for head in zeros()], torch.zeros(0, 6))
    assert loss["no_object"].dtype == torch.float32
    assert 10_647 * log(2) == pytest.approx(7379.938, abs=5e-4)
    check(loss["no_object"], 10_647 * log(2), rounded=torch.tensor(10_647 * log(2)).to(precision).item())


# ---- against slow and simple implementations

def iou(a, b):
    """IOU of two boxes: centre x, centre y, width, height."""
    def common(i):                                                           # length of the overlap along x or y
        return min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
    overlap = max(common(0), 0) * max(common(1), 0)
    return overlap / (a[2] * a[3] + b[2] * b[3] - overlap)


def crowded_batch(seed):
    """Heads of three images of 96 x 64 pixels, 40 objects: one image is crowded, one is empty, one has two objects."""
    generator = torch.Generator().manual_seed(seed)
    heads = [torch.randn(3, 3, 64 // s, 96 // s, 8, generator=generator) for s in STRIDES]
    targets = torch.rand(40, 6, generator=generator)
    targets[:, 0] = torch.tensor([0] * 38 + [2] * 2)
    targets[:, 1] = (targets[:, 1] * 3).floor()
    targets[:, 4:] = 0.02 + 0.9 * targets[:, 4:] ** 2
    return heads, targets[torch.randperm(40, generator=generator)]


@pytest.mark.parametrize("seed", range(3))
def test_assign_on_a_crowded_batch(seed):
    # Asks each predictor in turn which objects chose it, where `assign` asks each object which predictor it chooses.
    heads, targets = crowded_batch(seed)
    rows, lost = targets.tolist(), 0
    shapes = [[[iou([0, 0, w * 96, h * 64], [0, 0, *p_wh]) for p_wh in three] for three in ANCHORS]
              for *_, w, h in rows]                                                          # of 40 objects, 3 x 3 IOUs
    for scale, (slots, objects, classes, background) in enumerate(assign(heads, targets)):
        _, A, H, W, _ = heads[scale].shape
        boxes = decode([heads[scale]], [ANCHORS[scale]], [STRIDES[scale]])[0]                # (B, A H W, 4) corners
        expected = []
        for place in range(3 * A * H * W):                                                   # in the order of slots
            image, anchor, row, col = place // (A * H * W), place // (H * W) % A, place // W % H, place % W
            chosen_by = []
            for n, (of_image, _, x, y, _, _) in enumerate(rows):
                if (of_image == image and int(x * W) == col and int(y * H) == row
                        and shapes[n][scale][anchor] == max(map(max, shapes[n]))):
                    chosen_by.append(n)
            left, top, right, bottom = boxes[image, place % (A * H * W)].tolist()
            box = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
            overlaps = [iou(box, other[2:]) for other in rows if other[0] == image]
            is_background = not chosen_by and max(overlaps, default=0) <= 0.5
            assert background[image, anchor, row, col].item() == is_background
            if chosen_by:
                labels = {rows[n][1] for n in chosen_by}
                expected.append(([image, anchor, row, col], chosen_by[-1], [float(k in labels) for k in range(3)]))
                lost += len(chosen_by) - 1
        assert list(zip(slots.tolist(), objects.tolist(), classes.tolist())) == expected
    assert lost > 0                                                          # there were shared slots


def darknet_delta(heads, targets):
    """Minus the gradient, predictor by predictor and object by object, in the order of [darknet] forward_yolo_layer."""
    def sigmoid(t):
        return 1 / (1 + exp(-t))

    deltas = [torch.zeros_like(head) for head in heads]
    for head, delta, anchors, stride in zip(heads, deltas, ANCHORS, STRIDES):
        B, A, H, W, _ = head.shape
        for image in range(B):
            objects = [target for target in targets.tolist() if target[0] == image]
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
                if d[5] == 0:                                             # no object took this predictor before
                    for k in range(len(t) - 5):
                        d[5 + k] = (k == label) - sigmoid(t[5 + k])
                d[5 + int(label)] = 1 - sigmoid(t[5 + int(label)])
    return deltas


@pytest.mark.parametrize("seed", range(6))
def test_gradient_is_minus_darknets_delta(seed):
    heads, targets = crowded_batch(seed)
    learned = torch.cat([objects for _, objects, *_ in assign(heads, targets)])
    assert len(learned) < 40                                                 # some objects lost their slot to another
    for head in heads:
        head.requires_grad_()
    yolov3_loss(heads, targets)["total"].backward()
    for head, delta in zip(heads, darknet_delta([h.detach() for h in heads], targets)):
        torch.testing.assert_close(-3 * head.grad, delta, atol=2e-5, rtol=1e-4)      # -B dL/dt with B = 3 images
