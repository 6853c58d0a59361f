"""
The YOLOv1 loss.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", Redmon, Divvala, Girshick and Farhadi, 2015
        (arXiv:1506.02640), section 2.2, equation (3).
Source  Lines marked [darknet] are read off the authors' C code: src/detection_layer.c and cfg/yolov1.cfg of
        pjreddie/darknet at f6afaab.

Each cell gives C class probabilities p and n boxes of x, y, r_w, r_h and a confidence c; yolov1/model.py says what they
mean. An object belongs to the cell under its centre, and makes one of that cell's n boxes responsible: the one with the
highest IOU with it; where none overlaps it at all the one with the smallest RMSE of b_x, b_y, b_w, b_h [darknet]. All
other boxes are background, those of the same cell too. For one image, with x^, y^ the offset of the object's centre
inside its cell, w^, h^ its size as fractions of the image:

    xy         LAMBDA_COORD sum_responsible [ (x - x^)^2 + (y - y^)^2 ]
    wh         LAMBDA_COORD sum_responsible [ (r_w - sqrt(w^))^2 + (r_h - sqrt(h^))^2 ]
    object                  sum_responsible (c - IOU(b, object))^2
    no_object  LAMBDA_NOOBJ sum_background  c^2
    class                   sum_cells with an object, classes k  (p_k - 1{k = label})^2

This is equation (3) as printed. Its target for c stands in section 2: Pr(object) IOU. The IOU is a constant: it teaches
the confidence, and moves no box. The classes are squares too, without a softmax.

The square roots. Equation (3) has sqrt(w) of a predicted w, which is NaN below 0 and has an infinite gradient at 0. In
Darknet the network's own number is the root, r_w; its square is the width. So no root of an output is ever taken. A
negative r_w means the box of the positive one, has its IOU, and is pulled through 0 to the positive root.

The gradient, times the number of images, is -2 times Darknet's delta: there each square has a 1/2. So a learning rate
of Darknet's is to be halved here, and its weight decay doubled.
Where the paper, Darknet and this file differ:

    twice    A second object in a cell is not learnt: the first in the list keeps it [darknet]. As here;
             yolov1/dataset.py shuffles the list when it augments.
    far off  Darknet looks for an RMSE below 20, and if both boxes are further away takes one that does not exist. Here
             the smaller.
    clamp    Darknet's fully connected layers later came to cut each delta to -1..1 on a GPU. Not here.
    border   A centre at exactly 1.0 is in the last cell here; Darknet writes past its list.

What changed from the detectors before (section 3): one sum for where and what, so that all of the network learns it
together; R-CNN trains its stages one after the other.

    python yolov1/loss.py      prints the terms of the example that tests/test_yolov1_loss.py works out by hand
"""
import torch
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy, paired_iou
from yolov1.model import BOXES

LAMBDA_COORD = 5.0         # paper
LAMBDA_NOOBJ = 0.5         # paper
CONFIDENCE_TARGET = "iou"  # paper, rescore=1 [darknet]; or 1, as many have it: one re-implementation measured 10 points
                           # of mAP between the two


@torch.no_grad()
def assign(prediction, targets, boxes=BOXES):
    """
    Who answers for what. Arguments as in yolov1_loss. Returns

    slot        (image, row, column, box), each (R,)  the responsible boxes, every one once
    owner       (R,)          the object that each of them learns: its row in targets
    overlap     (R,)          its IOU with that object: what its confidence has to be
    background  (B, S, S, n)  True where the confidence has to be 0
    """
    B, S, _, numbers = prediction.shape
    image = targets[:, 0].long()                                             # (N,)
    col, row = (targets[:, 2:4] * S).long().clamp(max=S - 1).unbind(-1)      # (N,)  1.0: last cell

    # Objects with the same cell: the first one gets it.
    claim, mine = ((image * S + row) * S + col).unique(return_inverse=True)  # (R,), (N,)
    order = torch.arange(len(mine), device=mine.device)
    owner = torch.full_like(claim, len(mine)).scatter_reduce(0, mine, order, "amin")
    cell = claim // (S * S), claim // S % S, claim % S

    # The n boxes of each such cell against its object.
    x_y_r = prediction[cell][:, numbers - 4 * boxes:].unflatten(1, (boxes, 4))               # (R, n, 4)
    b_xy = (x_y_r[..., 0:2] + torch.stack([cell[2], cell[1]], -1)[:, None]) / S
    b = torch.cat([b_xy, x_y_r[..., 2:4].square()], -1)                      # (R, n, 4)
    objects = targets[owner, None, 2:6]                                      # (R, 1, 4)
    iou = paired_iou(cxcywh_to_xyxy(b), cxcywh_to_xyxy(objects))             # (R, n)
    distance = (b - objects).square().sum(-1)                                # (R, n)  RMSE^2: the same order
    box = torch.where((iou > 0).any(1), iou.argmax(1), distance.argmin(1))   # (R,)
    slot = *cell, box
    overlap = iou.gather(1, box[:, None])[:, 0]                              # (R,)
    background = torch.ones(B, S, S, boxes, dtype=torch.bool, device=prediction.device)
    background[slot] = False
    return slot, owner, overlap, background


def yolov1_loss(prediction, targets, boxes=BOXES):
    """
    prediction  (B, S, S, C + 5n)  raw network output: C classes, n confidences, n times x y r_w r_h
    targets     (N, 6)  the batch's objects: image, label, centre x, centre y, width, height; lengths as fractions
    boxes       n
    returns     a dict of scalars, each the mean over the images: xy, wh, object, no_object, class, total
    """
    prediction = prediction.float()                                          # long sums want full precision
    targets = targets.float()
    slot, owner, overlap, background = assign(prediction, targets, boxes)

    B, S, _, numbers = prediction.shape
    C = numbers - 5 * boxes
    *cell, box = slot
    p = prediction[*cell][:, :C]                                             # (R, C)  the cells with an object
    c = prediction[..., C:C + boxes]                                         # (B, S, S, n)
    x_y_r = prediction[..., C + boxes:].unflatten(3, (boxes, 4))[slot]       # (R, 4)  the responsible boxes
    xy, wh, label = targets[owner, 2:4], targets[owner, 4:6], targets[owner, 1].long()   # (R, 2), (R,)  their objects
    offset = xy * S - torch.stack([cell[2], cell[1]], -1)                    # (R, 2)  x^, y^
    goal = overlap if CONFIDENCE_TARGET == "iou" else torch.full_like(overlap, CONFIDENCE_TARGET)    # (R,)

    loss = {}
    loss["xy"] = LAMBDA_COORD * (x_y_r[:, 0:2] - offset).square().sum() / B
    loss["wh"] = LAMBDA_COORD * (x_y_r[:, 2:4] - wh.sqrt()).square().sum() / B
    loss["object"] = (c[slot] - goal).square().sum() / B
    loss["no_object"] = LAMBDA_NOOBJ * c[background].square().sum() / B
    loss["class"] = (p - F.one_hot(label, C)).square().sum() / B
    loss["total"] = sum(loss.values())
    return loss


if __name__ == "__main__":
    # One object in the middle of 7 x 7 cells, w^ = .25, h^ = .16; a network that answers 0 everywhere.
    zeros = torch.zeros(1, 7, 7, 30)
    for term, value in yolov1_loss(zeros, torch.tensor([[0, 0, 0.5, 0.5, 0.25, 0.16]])).items():
        print(f"{term:<10} {value.item():14.6f}")
