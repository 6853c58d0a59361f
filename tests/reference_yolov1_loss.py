"""
The delta of Darknet's detection layer, written cell by cell as [darknet] forward_detection_layer has it
(src/detection_layer.c of pjreddie/darknet at f6afaab). tests/test_yolov1_loss.py compares our gradient with it.
"""
from math import sqrt

import torch


def iou(a, b):
    """The IOU of two boxes: centre x, centre y, width, height."""
    sides = []
    for i in (0, 1):                                                         # across, down
        first = max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        last = min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        sides.append(max(last - first, 0))
    intersection = sides[0] * sides[1]
    return intersection / (a[2] * a[3] + b[2] * b[3] - intersection)


def rmse(a, b):
    """Darknet's "RMSE" of two boxes. It is the root of the sum, not of the mean."""
    return sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


def responsible_box(boxes, truth):
    """The index of the box that [darknet] makes responsible for an object, and its IOU with it."""
    best, best_iou, best_rmse = None, 0, 20
    for j, box in enumerate(boxes):
        overlap = iou(box, truth)
        if best_iou > 0 or overlap > 0:
            if overlap > best_iou:
                best, best_iou = j, overlap
        elif rmse(box, truth) < best_rmse:
            best, best_rmse = j, rmse(box, truth)
    return best, best_iou


def darknet_delta(prediction, targets, n):
    """
    prediction  (B, S, S, C + 5n)  in the layout of yolov1/model.py: C classes, n confidences, n times x y r_w r_h
    targets     (N, 6)  image, label, centre x, centre y, width, height
    returns     (B, S, S, C + 5n)  Darknet's delta, minus the gradient of the sum of 1/2 x each weighted square
    """
    B, S, _, outputs = prediction.shape
    C = outputs - 5 * n
    delta = torch.zeros_like(prediction)
    for image in range(B):
        for row in range(S):
            for col in range(S):
                out = prediction[image, row, col].tolist()
                delta_of_cell = delta[image, row, col]
                for j in range(n):
                    delta_of_cell[C + j] = 0.5 * (0 - out[C + j])            # noobject_scale
                objects = [o for o in targets.tolist() if (o[0], int(o[3] * S), int(o[2] * S)) == (image, row, col)]
                if not objects:
                    continue

                _, label, x, y, w, h = objects[0]                            # the first one of the list
                for k in range(C):
                    delta_of_cell[k] = 1 * ((k == label) - out[k])           # class_scale
                numbers = [out[C + n + 4 * j:C + n + 4 * j + 4] for j in range(n)]           # x, y, r_w, r_h
                boxes = [[t[0] / S, t[1] / S, t[2] * t[2], t[3] * t[3]] for t in numbers]    # from the cell's corner
                best, best_iou = responsible_box(boxes, [x - col / S, y - row / S, w, h])
                delta_of_cell[C + best] = 1 * (best_iou - out[C + best])     # object_scale, with rescore=1
                for i, target in enumerate([x * S - col, y * S - row, sqrt(w), sqrt(h)]):
                    delta_of_cell[C + n + 4 * best + i] = 5 * (target - numbers[best][i])    # coord_scale
    return delta
