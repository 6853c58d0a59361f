"""
The YOLOv1 loss.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", Redmon, Divvala, Girshick and Farhadi, 2015
        (arXiv:1506.02640), section 2.2, equation (3).
Source  The paper writes its loss down in equation (3). Statements marked [darknet] come from the authors' C code:
        src/detection_layer.c and cfg/yolov1.cfg of pjreddie/darknet at f6afaab.

A predictor is one of the n boxes of a cell. It predicts x, y, r_w, r_h and a confidence c. Its cell, in column c_x and
row c_y, predicts C class probabilities p. yolov1/model.py says what these numbers mean. For each image there are two
kinds of predictors:

    responsible  An object makes one predictor responsible for it: among the boxes of the cell that contains the
                 object's centre, the one that has the highest IOU with the object. If none of them overlaps it, the one
                 with the smallest RMSE between its b_x, b_y, b_w, b_h and the object's, as fractions of the image
                 [darknet].
    background   All others, also those in a cell with an object [darknet]. The paper does not define 1_ij^noobj: it
                 speaks of grid cells that "do not contain any object" and of "boxes that don't contain objects".

For an object of w x h, as fractions of the image, the targets of its predictor are

    x*, y*       the offset of its centre from the top left corner of the cell, in cells, from 0 to 1
    IOU          the IOU of the predicted box with the object. No gradient flows through it

The loss of one image is the sum of these terms, which is equation (3):

    xy         LAMBDA_COORD  sum_responsible [ (x - x*)^2 + (y - y*)^2 ]
    wh         LAMBDA_COORD  sum_responsible [ (r_w - sqrt(w))^2 + (r_h - sqrt(h))^2 ]
    object                   sum_responsible (c - IOU)^2
    no_object  LAMBDA_NOOBJ  sum_background  c^2
    class                    sum_responsible sum_k (p_k - (1 if the object is of class k, else 0))^2

In the symbols of equation (3) c is C_i, and p_k is p_i(k). As each cell learns only one object ("shared", below), a
cell with an object has exactly one responsible predictor. So sum_responsible is the sum with 1_ij^obj as well as the
one with 1_i^obj.

yolov1_loss returns the mean L over the B images. Darknet's squares have a factor of 1/2; what it calls delta is
-(B / 2) dL/d(output).

Details that the paper leaves open, or in which the paper and Darknet differ:

    roots     The text of section 2.2 has the network predict the roots. Equation (3) takes the root of a predicted
              width, which is undefined below 0 and has an infinite gradient at 0. We follow the text, as Darknet does.
    shared    The paper does not say what happens to a second object in a cell. The first one keeps the cell and the
              second is ignored [darknet]. yolov1/dataset.py shuffles the objects when it augments.
    RMSE      Darknet looks for an RMSE below 20. If no box has one, it trains a wrong box. We take the smallest.
    clamp     On a GPU, later versions of Darknet clamp the deltas of fully connected layers to -1..1. We do not.
    border    A centre at exactly 1.0 belongs to the last cell here. Darknet writes it into memory that belongs to
              another cell.

What changed from the detectors before (section 3): one loss trains the whole network, for localization and for
classification. R-CNN trains its stages one after the other.

    python yolov1/loss.py      prints the terms of the example that tests/test_yolov1_loss.py works out by hand
"""
import torch
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy, paired_iou, xyxy_to_cxcywh
from yolov1.model import BOXES, decode

LAMBDA_COORD = 5.0         # [paper]
LAMBDA_NOOBJ = 0.5         # [paper]
CONFIDENCE_TARGET = "iou"  # [paper], [darknet] (rescore=1 in the cfg). Or the number 1, as in many implementations


@torch.no_grad()
def assign(prediction, targets, num_boxes=BOXES):
    """
    Assigns predictors to objects. Arguments as in yolov1_loss: targets (N, 6) are image, label, centre x, centre y,
    width, height. A slot is the (image, row, column, box) of a predictor. Returns

    slots       (R, 4)        the responsible predictors
    objects     (R,)          the object that each of them learns, as an index into targets
    ious        (R,)          the IOU of its predicted box with that object: its confidence target
    background  (B, S, S, n)  True for the predictors that are responsible for no object
    """
    B, S = prediction.shape[:2]
    centres = (targets[:, 2:4] * S).tolist()                                             # N times x, y  in cells
    boxes, _ = decode(prediction, num_boxes)                                             # (B, S S n, 4)
    boxes = boxes.view(B, S, S, num_boxes, 4).to(targets.device)                         # (B, S, S, n, 4)
    corners = cxcywh_to_xyxy(targets[:, 2:6])                                            # (N, 4)

    # An object belongs to the cell that contains its centre.
    object_of_cell = {}                                      # (image, row, column) -> the object that the cell learns
    for i, image in enumerate(targets[:, 0].long().tolist()):
        x, y = centres[i]
        cell = image, min(int(y), S - 1), min(int(x), S - 1)
        object_of_cell.setdefault(cell, i)                          # the first object keeps the cell

    # It makes one box of the cell responsible: the one with the highest IOU or, if all are 0, with the smallest RMSE.
    object_of = {}                                           # slot -> the object that it learns
    for cell, i in object_of_cell.items():
        overlaps = paired_iou(boxes[cell], corners[i])                                   # (n,)
        if (overlaps > 0).any():
            box = overlaps.argmax()
        else:
            errors = xyxy_to_cxcywh(boxes[cell]) - targets[i, 2:6]                       # (n, 4)
            box = errors.square().sum(1).argmin()                   # the smallest RMSE: mean and root keep the order
        image, row, col = cell
        object_of[image, row, col, box.item()] = i

    # All other predictors are background.
    background = torch.ones(boxes.shape[:4], dtype=torch.bool)                           # (B, S, S, n)
    responsible = sorted(object_of)                                                      # R slots
    slots = torch.tensor(responsible, dtype=torch.long).view(-1, 4)                      # (R, 4)  also for R = 0
    objects = torch.tensor([object_of[slot] for slot in responsible], dtype=torch.long)  # (R,)
    background[tuple(slots.T)] = False
    ious = paired_iou(boxes[tuple(slots.T)], corners[objects])                           # (R,)
    return [tensor.to(prediction.device) for tensor in (slots, objects, ious, background)]


def yolov1_loss(prediction, targets, num_boxes=BOXES):
    """
    prediction  (B, S, S, C + 5n)  raw network output: C class probabilities, n confidences, n times x y r_w r_h
    targets     (N, 6)  the batch's objects: image, label, centre x, centre y, width, height; lengths as fractions.
                They may stay on the CPU, where assign loops over them
    num_boxes   n
    returns     a dict of scalars, each the mean over the images: xy, wh, object, no_object, class, total
    """
    prediction = prediction.float()                                          # long sums need full precision
    targets = targets.float()
    slots, objects, ious, background = assign(prediction, targets, num_boxes)
    targets = targets.to(prediction.device)

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
    target_wh = size.sqrt()                                                  # (R, 2)      sqrt(w), sqrt(h)
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
