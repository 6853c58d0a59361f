"""
Darknet's YOLO9000, written with loops.

- darknet_delta is the gradient of the detector's loss, predictor by predictor and object by object, in the order of
  forward_region_layer in src/region_layer.c. tests/test_yolo9000_loss.py compares the gradient of
  yolov2/yolo9000/loss.py with it.
- masked_targets and masked_cross_entropy are the classifier's loss. tests/test_yolo9000_wordtree.py compares
  path_cross_entropy in yolov2/yolo9000/wordtree.py with it.

A tree is a list of parents, and a group of siblings is a run of equal ones.
"""
from math import exp, log

import torch

SECRET_NUM = -1234    # a classification target that is not learned


def sigmoid(t):
    return 1 / (1 + exp(-t))


def iou(a, b):
    """Of two boxes, each centre x, centre y, width, height."""
    w, h = (min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
            for i in (0, 1))
    overlap = w * h if w > 0 and h > 0 else 0
    return overlap / (a[2] * a[3] + b[2] * b[3] - overlap)


def softmax_tree(logits, parents):
    """An independent softmax over each group of siblings."""
    p = []
    for node, parent in enumerate(parents):
        total = sum(exp(logits[other]) for other, above in enumerate(parents) if above == parent)
        p.append(exp(logits[node]) / total)
    return p


def class_delta(delta, p, label, parents):
    """delta_region_class: from the label up to the root, in each group: 1 for the node on the path, 0 for others."""
    node = label
    while node >= 0:
        for other, above in enumerate(parents):
            if above == parents[node]:
                delta[5 + other] = (other == node) - p[other]
        node = parents[node]


def hierarchy_probability(p, node, parents):
    product = 1
    while node >= 0:
        product, node = product * p[node], parents[node]
    return product


def masked_targets(labels, parents):
    """
    fill_hierarchy in src/data.c: a target for each output, 1 for the label and its ancestors, 0 for their siblings,
    SECRET_NUM in groups where no node is 1. labels: R nodes -> R lists of n targets
    """
    targets = []
    for label in labels:
        row = [SECRET_NUM] * len(parents)
        node = label
        while node >= 0:
            for other, above in enumerate(parents):
                if above == parents[node]:
                    row[other] = int(other == node)
            node = parents[node]
        targets.append(row)
    return targets


def masked_cross_entropy(logits, targets, parents):
    """softmax_layer.c with a tree: R lists of n outputs, R lists of n targets -> R losses"""
    losses = []
    for row, wanted in zip(logits, targets):
        p = softmax_tree(row, parents)
        losses.append(sum(-log(p[node]) for node, target in enumerate(wanted) if target == 1))
    return losses


def box_delta(delta, t, anchor, row, col, H, W, box, weight, anchors):
    (x, y, w, h), (p_w, p_h) = box, anchors[anchor]
    delta[0] = weight * (x * W - col - sigmoid(t[0]))
    delta[1] = weight * (y * H - row - sigmoid(t[1]))
    delta[2] = weight * (log(w * W / p_w) - t[2])
    delta[3] = weight * (log(h * H / p_h) - t[3])


def darknet_delta(prediction, targets, parents, anchors, seen, best_objectness):
    """
    prediction       (B, A, H, W, 5 + n), targets (N, 6) as in yolo9000_loss
    best_objectness  .3: the release of January 2017; None: the last version
    returns          (B, A, H, W, 5 + n) minus the gradient of the loss, summed over the images
    """
    B, A, H, W, _ = prediction.shape
    delta = torch.zeros_like(prediction)
    for image in range(B):
        truths = [target for target in targets.tolist() if target[0] == image]
        slots = [(a, j, i) for a in range(A) for j in range(H) for i in range(W)]

        only_class = [int(label) for _, label, _, _, w, h in truths if w == 0]
        if only_class:
            label, highest, best = only_class[0], 0, (0, 0, 0)
            for slot in slots:
                t, d = prediction[(image, *slot)].tolist(), delta[(image, *slot)]
                d[4] = -sigmoid(t[4])
                p = sigmoid(t[4]) * hierarchy_probability(softmax_tree(t[5:], parents), label, parents)
                if p > highest:
                    highest, best = p, slot
            t, d = prediction[(image, *best)].tolist(), delta[(image, *best)]
            class_delta(d, softmax_tree(t[5:], parents), label, parents)
            d[4] = 0
            if best_objectness is not None and sigmoid(t[4]) < best_objectness:
                d[4] = 5 * (best_objectness - sigmoid(t[4]))
            continue

        for anchor, row, col in slots:
            t, d = prediction[image, anchor, row, col].tolist(), delta[image, anchor, row, col]
            p_w, p_h = anchors[anchor]
            box = [(col + sigmoid(t[0])) / W, (row + sigmoid(t[1])) / H, p_w * exp(t[2]) / W, p_h * exp(t[3]) / H]
            if not max([iou(box, truth[2:]) for truth in truths], default=0) > 0.6:
                d[4] = -sigmoid(t[4])
            if seen < 12800:
                prior = [(col + 0.5) / W, (row + 0.5) / H, p_w / W, p_h / H]
                box_delta(d, t, anchor, row, col, H, W, prior, 0.01, anchors)

        for _, label, *truth in truths:
            x, y, w, h = truth
            shapes = [iou([0, 0, w * W, h * H], [0, 0, p_w, p_h]) for p_w, p_h in anchors]
            anchor, row, col = shapes.index(max(shapes)), int(y * H), int(x * W)
            t, d = prediction[image, anchor, row, col].tolist(), delta[image, anchor, row, col]
            p_w, p_h = anchors[anchor]
            box = [(col + sigmoid(t[0])) / W, (row + sigmoid(t[1])) / H, p_w * exp(t[2]) / W, p_h * exp(t[3]) / H]
            box_delta(d, t, anchor, row, col, H, W, truth, 2 - w * h, anchors)
            d[4] = 5 * (iou(box, truth) - sigmoid(t[4]))
            class_delta(d, softmax_tree(t[5:], parents), int(label), parents)

    for k in (0, 1, 4):                                              # backward_region_layer_gpu: times sigmoid'
        s = prediction[..., k].sigmoid()
        delta[..., k] *= s * (1 - s)
    return delta
