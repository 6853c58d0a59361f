"""
The gradient of Darknet's YOLOv2 loss, predictor by predictor and object by object, in the order of forward_region_layer
in src/region_layer.c. tests/test_yolov2_loss.py compares the gradient of yolov2/loss.py with it.
"""
from math import exp, log

import torch

from yolov2.model import ANCHORS


def sigmoid(t):
    return 1 / (1 + exp(-t))


def iou(a, b):
    """Of two boxes, each centre x, centre y, width, height."""
    w, h = (min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
            for i in (0, 1))
    overlap = w * h if w > 0 and h > 0 else 0
    return overlap / (a[2] * a[3] + b[2] * b[3] - overlap)


def predicted_box(t, anchor, row, col, H, W):
    """-> centre x, centre y, width, height as fractions of the image"""
    p_w, p_h = ANCHORS[anchor]
    return [(col + sigmoid(t[0])) / W, (row + sigmoid(t[1])) / H, p_w * exp(t[2]) / W, p_h * exp(t[3]) / H]


def box_delta(delta, t, anchor, row, col, H, W, box, weight):
    """Sets the delta of t_x, t_y, t_w, t_h for a predictor that is to predict the box."""
    (x, y, w, h), (p_w, p_h) = box, ANCHORS[anchor]
    delta[0] = weight * (x * W - col - sigmoid(t[0]))
    delta[1] = weight * (y * H - row - sigmoid(t[1]))
    delta[2] = weight * (log(w * W / p_w) - t[2])
    delta[3] = weight * (log(h * H / p_h) - t[3])


def darknet_delta(prediction, targets, seen, year=2017):
    """
    prediction (B, A, H, W, 5 + C), targets (N, 6) -> (B, A, H, W, 5 + C) minus the gradient of the loss, summed over
    the images. The anchors are ANCHORS. In 2016 Darknet did not multiply coord_scale, which is 1, by 2 - w h.
    """
    B, A, H, W, _ = prediction.shape
    delta = torch.zeros_like(prediction)
    for image in range(B):
        objects = [target for target in targets.tolist() if target[0] == image]

        for anchor, row, col in [(a, j, i) for a in range(A) for j in range(H) for i in range(W)]:
            t, d = prediction[image, anchor, row, col].tolist(), delta[image, anchor, row, col]
            box = predicted_box(t, anchor, row, col, H, W)
            best_iou = 0
            for _, _, *truth in objects:
                if iou(box, truth) > best_iou:
                    best_iou = iou(box, truth)
            if not best_iou > 0.6:
                d[4] = -sigmoid(t[4])
            if seen < 12800:
                p_w, p_h = ANCHORS[anchor]
                prior = [(col + 0.5) / W, (row + 0.5) / H, p_w / W, p_h / H]
                box_delta(d, t, anchor, row, col, H, W, prior, 0.01)

        for _, label, *truth in objects:
            x, y, w, h = truth
            shapes = [iou([0, 0, w * W, h * H], [0, 0, p_w, p_h]) for p_w, p_h in ANCHORS]
            anchor, row, col = shapes.index(max(shapes)), int(y * H), int(x * W)
            t, d = prediction[image, anchor, row, col].tolist(), delta[image, anchor, row, col]
            box_delta(d, t, anchor, row, col, H, W, truth, 2 - w * h if year == 2017 else 1)
            d[4] = 5 * (iou(predicted_box(t, anchor, row, col, H, W), truth) - sigmoid(t[4]))
            total = sum(exp(score) for score in t[5:])
            for k, score in enumerate(t[5:]):
                d[5 + k] = (k == label) - exp(score) / total

    for k in (0, 1, 4):                                              # backward_region_layer_gpu: times sigmoid'
        s = prediction[..., k].sigmoid()
        delta[..., k] *= s * (1 - s)
    return delta
