"""
The YOLOv1 loss.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", Redmon, Divvala, Girshick and Farhadi, 2015
        (arXiv:1506.02640), section 2.2, equation (3).
Source  The paper writes its loss down in equation (3). Statements marked [darknet] come from the authors' C code:
        src/detection_layer.c and cfg/yolov1.cfg of pjreddie/darknet at f6afaab.

A predictor is one of n boxes in one cell. Its cell, in column c_x and row c_y, predicts C class probabilities p. It
predicts x, y, r_w, r_h and a confidence c; yolov1/model.py says what they mean. For each image there
are two kinds of predictors:

    responsible  An object makes one predictor responsible for it: among the boxes of the cell that contains the
                 object's centre, the one that has the highest IOU with the object. If none of them overlaps it, the one
                 whose b_x, b_y, b_w, b_h have the smallest RMSE [darknet].
    background   All others.

For an object of w x h, as fractions of the image, the targets of its predictor are

    x*, y*       the offset of its centre from the corner of the cell, from 0 to 1
    w*, h*       w, h
    IOU          the overlap of the predicted box with the object, as a constant: this target moves no box

The loss of one image is the sum of these terms:

    xy         LAMBDA_COORD  sum_responsible [ (x - x*)^2 + (y - y*)^2 ]
    wh         LAMBDA_COORD  sum_responsible [ (r_w - sqrt(w*))^2 + (r_h - sqrt(h*))^2 ]
    object                   sum_responsible (c - IOU)^2
    no_object  LAMBDA_NOOBJ  sum_background  c^2
    class                    sum_responsible sum_k (p_k - (1 if the object is of class k, else 0))^2

This is equation (3). The target of c is Pr(object) IOU (section 2).

yolov1_loss returns the mean over the images. Darknet sums over them and stores -dL/dt as its delta, so the gradient
here, times the number of images, is minus twice Darknet's delta. (Its squares have a factor of 1/2.) Where the
paper, Darknet and this file differ:

    roots     Equation (3) takes the square root of a predicted width, which is undefined below 0 and has an infinite
              gradient at 0. In Darknet the network predicts the root itself. So does ours.
    shared    The paper does not say what happens to a second object in a cell. The first one keeps the cell and the
              second is not learned [darknet]. yolov1/dataset.py shuffles the objects when it augments.
    RMSE      Darknet looks for an RMSE below 20. If no box has one, it trains a box that does not exist. We take the
              smallest.
    clamp     On a GPU, later versions of Darknet clamp the deltas of fully connected layers to -1..1. We do not.
    border    A centre at exactly 1.0 belongs to the last cell here. Darknet writes it into memory that belongs to
              another cell.

What changed from the detectors before (section 3): one loss trains the whole network for where and what. R-CNN trains
its stages one after the other.

    python yolov1/loss.py      prints the terms of the example that tests/test_yolov1_loss.py works out by hand
"""
import torch
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy, paired_iou, xyxy_to_cxcywh
from yolov1.model import BOXES, decode

LAMBDA_COORD = 5.0         # [paper]
LAMBDA_NOOBJ = 0.5         # [paper]
CONFIDENCE_TARGET = "iou"  # [paper], rescore=1 in [darknet]; or 1, as in many other implementations


@torch.no_grad()
def assign(prediction, targets, num_boxes=BOXES):
    """
    Assigns predictors to objects. Arguments as in yolov1_loss. Returns

    slots       (R, 4)        image, row, column and box of each responsible predictor
    objects     (R,)          the object that it learns, as an index into targets
    ious        (R,)          the IOU of its predicted box with that object: its confidence target
    background  (B, S, S, n)  True where the confidence target is 0
    """
    B, S = prediction.shape[:2]
    centres = (targets[:, 2:4] * S).tolist()                                             # N times x, y  in cells

    # An object belongs to the cell that contains its centre.
    object_of_cell = {}                                      # cell -> the object that it learns
    for n, image in enumerate(targets[:, 0].long().tolist()):
        x, y = centres[n]
        cell = image, min(int(y), S - 1), min(int(x), S - 1)
        object_of_cell.setdefault(cell, n)                          # the first object keeps the cell

    # It makes one box of the cell responsible: the one with the highest IOU or, if all are 0, with the smallest RMSE.
    boxes, _ = decode(prediction, num_boxes)                                             # (B, S S n, 4)
    boxes = boxes.view(B, S, S, num_boxes, 4)                                            # (B, S, S, n, 4)
    boxes_of_cell = boxes.to(targets.device)                 # on the CPU, where the targets of a training are
    corners = cxcywh_to_xyxy(targets[:, 2:6])                                            # (N, 4)
    object_of = {}                                           # slot -> the object that it learns
    for cell, n in object_of_cell.items():
        overlaps = paired_iou(boxes_of_cell[cell], corners[n])                           # (n,)
        if (overlaps > 0).any():
            box = overlaps.argmax()
        else:
            errors = xyxy_to_cxcywh(boxes_of_cell[cell]) - targets[n, 2:6]               # (n, 4)
            box = errors.square().sum(1).argmin()
        object_of[*cell, box.item()] = n

    # All other predictors are background.
    slots = sorted(object_of)
    background = torch.ones(boxes.shape[:4], dtype=torch.bool, device=prediction.device)     # (B, S, S, n)
    for slot in slots:
        background[slot] = False

    index = dict(dtype=torch.long, device=prediction.device)
    objects = torch.tensor([object_of[slot] for slot in slots], **index)                 # (R,)
    slots = torch.tensor(slots, **index).view(-1, 4)                                     # (R, 4)
    own_boxes = boxes[tuple(slots.T)]                                                    # (R, 4)
    return slots, objects, paired_iou(own_boxes, corners.to(prediction.device)[objects]), background


def yolov1_loss(prediction, targets, num_boxes=BOXES):
    """
    prediction  (B, S, S, C + 5n)  raw network output: C class probabilities, n confidences, n times x y r_w r_h
    targets     (N, 6)  the batch's objects: image, label, centre x, centre y, width, height; lengths as fractions
    num_boxes   n
    returns     a dict of scalars, each the mean over the images: xy, wh, object, no_object, class, total
    """
    prediction = prediction.float()                                          # long sums need full precision
    slots, objects, ious, background = assign(prediction, targets.float(), num_boxes)
    targets = targets.float().to(prediction.device)

    B, S = prediction.shape[:2]
    C, n = prediction.shape[3] - 5 * num_boxes, num_boxes
    image, row, col, box = slots.T
    p = prediction[image, row, col, :C]                                      # (R, C)        the cells with an object
    c = prediction[..., C:C + n]                                             # (B, S, S, n)  of all predictors
    t = prediction[..., C + n:].unflatten(3, (n, 4))                         # (B, S, S, n, 4)  x, y, r_w, r_h of all
    t = t[image, row, col, box]                                              # (R, 4)      the responsible predictors
    label = targets[objects, 1].long()                                       # (R,)        their objects
    centre, size = targets[objects, 2:4], targets[objects, 4:6]              # (R, 2)
    target_xy = centre * S - torch.stack([col, row], 1)                      # (R, 2)      x*, y*
    target_wh = size.sqrt()                                                  # (R, 2)      sqrt(w*), sqrt(h*)
    target_c = ious if CONFIDENCE_TARGET == "iou" else CONFIDENCE_TARGET     # (R,), or one number for all

    loss = {}
    loss["xy"] = LAMBDA_COORD * (t[:, 0:2] - target_xy).square().sum() / B
    loss["wh"] = LAMBDA_COORD * (t[:, 2:4] - target_wh).square().sum() / B
    loss["object"] = (c[image, row, col, box] - target_c).square().sum() / B
    loss["no_object"] = LAMBDA_NOOBJ * c[background].square().sum() / B
    loss["class"] = (p - F.one_hot(label, C)).square().sum() / B
    loss["total"] = sum(loss.values())
    return loss


if __name__ == "__main__":
    # The example of tests/test_yolov1_loss.py: 2 x 2 cells with two boxes each, two classes, one object.
    prediction = torch.zeros(1, 2, 2, 12)                                    # p p, c c, x y r_w r_h, x y r_w r_h
    prediction[0, 0, 0, :4] = torch.tensor([9, 9, 0.2, 0])
    prediction[0, 0, 1] = torch.tensor([0.8, 0.3, 0.75, 0.6, 0.5, 0.55, 0.8, 0.5, 0, 0, 0, 0])
    prediction[0, 1, 0, :4] = torch.tensor([9, 9, 0, -0.4])
    prediction[0, 1, 1, :4] = torch.tensor([9, 9, 1, 0])
    for term, value in yolov1_loss(prediction, torch.tensor([[0, 0, 0.625, 0.25, 0.25, 0.16]])).items():
        print(f"{term:<10} {value.item():14.6f}")
