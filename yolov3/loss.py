"""
The YOLOv3 loss.

Paper   "YOLOv3: An Incremental Improvement", Redmon and Farhadi, 2018 (arXiv:1804.02767), sections 2.1 to 2.3.
Source  The paper tells its loss in words. Lines marked [darknet] are read off the authors' C code:
        src/yolo_layer.c and cfg/yolov3.cfg of pjreddie/darknet at f6afaab.

Each predictor, an anchor p_w x p_h in a cell (c_x, c_y) of one of the three scales, gives t_x, t_y, t_w, t_h, t_o and
C class scores; yolov3/model.py says what they mean. An object makes one predictor responsible: of all nine anchors the
one of the most similar shape, in the cell under the object's centre. A predictor is background if its box overlaps no
object by more than IGNORE_IOU. Predictors that are neither are left alone. For one image, with x, y the offset of the
object's centre inside its cell, w, h its size as fractions of the image, q = log(w W / p_w), r = log(h H / p_h) for an
input of W x H pixels, and BCE(t, p) = -p log sigmoid(t) - (1 - p) log(1 - sigmoid(t)), summed over the scales:

    xy             sum_responsible (2 - w h) [ BCE(t_x, x) + BCE(t_y, y) ]
    wh         1/2 sum_responsible (2 - w h) [ (t_w - q)^2 + (t_h - r)^2 ]
    object         sum_responsible BCE(t_o, 1)
    no_object      sum_background  BCE(t_o, 0)
    class          sum_responsible sum_k BCE(score_k, 1 if the object is of class k else 0)

The gradient, times the number of images, is minus Darknet's delta. Where the paper, Darknet and this file differ:

    x, y     The paper: sum of squared error on t_x, t_y. Darknet passes back sigmoid(t_x) - x, which is BCE. As here.
    2 - w h  Not in the paper: small boxes count up to twice as much [darknet]. As here.
    ignore   The paper ignores an anchor that overlaps an object by more than .5. Darknet asks what the predicted box
             overlaps, any object of its image, and cuts at .7 (yolov3.cfg) or .5 (yolov3-voc.cfg). Here: predicted, .5.
    twice    A second object with the same anchor and cell overwrites the box and adds its class [darknet]. As here.
    border   A centre at exactly 1.0 is in the last cell here; Darknet writes into the next row's first.

What changed from yolov2/loss.py: one of nine anchors over three scales; logistic regression in place of squares and
softmax, for x, y, objectness and each class; the objectness target is 1, not the IOU; ignored above .5, not .6; no
weights between the terms.

    python yolov3/loss.py      prints the terms of the example that tests/test_yolov3_loss.py works out by hand
"""
import torch
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy, paired_iou, shape_iou
from yolov3.model import ANCHORS, STRIDES

IGNORE_IOU = 0.5  # paper, section 2.1; [darknet] .5 in yolov3-voc.cfg, .7 in yolov3.cfg (ignore_thresh)


@torch.no_grad()
def assign(predictions, targets, anchors=ANCHORS, strides=STRIDES):
    """
    Who answers for what. Arguments as in yolov3_loss. Returns, for each scale,

    slot        (image, anchor, row, column), each (R,)  the responsible predictors, every one once
    owner       (R,)          the object whose box each of them learns: its row in targets
    classes     (R, C)        1 for each class that it has to name, 0 elsewhere
    background  (B, A, H, W)  True where objectness has to be 0
    """
    objects = cxcywh_to_xyxy(targets[:, 2:6])                                # (N, 4)  corners as fractions
    height, width = (n * strides[0] for n in predictions[0].shape[2:4])      # of the network's input, in pixels
    size = targets[:, 4:6] * targets.new_tensor([width, height])             # (N, 2)  in pixels
    all_anchors = targets.new_tensor([a for scale in anchors for a in scale])                # (9, 2)
    best_anchor = shape_iou(size, all_anchors).argmax(-1)                    # (N,)    of all nine

    assigned, first = [], 0
    for prediction, p_wh, stride in zip(predictions, anchors, strides):
        B, A, H, W, C = *prediction.shape[:4], prediction.shape[4] - 5
        own = ((best_anchor >= first) & (best_anchor < first + A)).nonzero()[:, 0]           # (M,)  of this scale
        image, label = targets[own, 0].long(), targets[own, 1].long()        # (M,)
        anchor = best_anchor[own] - first                                    # (M,)
        first += A
        cells = targets.new_tensor([W, H])
        cell = torch.minimum((targets[own, 2:4] * cells).long(), cells.long() - 1)          # (M, 2)  1.0: the last
        col, row = cell.unbind(-1)                                           # (M,)

        # Objects with the same slot share it: the last one's box, everyone's classes.
        claim, claim_of = (((image * A + anchor) * H + row) * W + col).unique(return_inverse=True)   # (R,), (M,)
        n = torch.arange(len(own), device=own.device)                        # (M,)
        owner = own[torch.zeros_like(claim).scatter_reduce(0, claim_of, n, "amax")]          # (R,)
        classes = torch.zeros(len(claim), C, device=claim.device)
        classes[claim_of, label] = 1                                         # (R, C)
        slot = claim // (A * H * W), claim // (H * W) % A, claim // W % H, claim % W         # each (R,)

        # Every predicted box against every object of its image, of whatever scale.
        p_wh = prediction.new_tensor(p_wh).view(A, 1, 1, 2) / (cells * stride)               # as fractions
        c_x, c_y = torch.arange(W, device=own.device), torch.arange(H, device=own.device)
        c_xy = torch.stack(torch.meshgrid(c_x, c_y, indexing="xy"), -1)      # (H, W, 2)
        b_xy = (prediction[..., 0:2].sigmoid() + c_xy) / cells               # (B, A, H, W, 2)
        b = cxcywh_to_xyxy(torch.cat([b_xy, p_wh * prediction[..., 2:4].exp()], -1))         # (B, A, H, W, 4)
        image_of = targets[:, 0].long()                                      # (N,)
        iou = paired_iou(b[image_of], objects.view(-1, 1, 1, 1, 4)).flatten(1)               # (N, A H W)
        best_iou = torch.zeros(B, A * H * W, device=iou.device).scatter_reduce(
            0, image_of[:, None].expand_as(iou), iou, "amax").view(B, A, H, W)
        background = ~(best_iou > IGNORE_IOU)                                # (B, A, H, W)  also where it is nan
        background[slot] = False                                             # responsible even if it would be ignored
        assigned.append((slot, owner, classes, background))
    return assigned


def yolov3_loss(predictions, targets, anchors=ANCHORS, strides=STRIDES):
    """
    predictions  one (B, A, H, W, 5 + C) per scale: raw network output, H rows and W columns of cells
    targets      (N, 6)  the batch's objects: image, label, centre x, centre y, width, height; lengths as fractions
    anchors      one list of (width, height) in pixels of the network's input per scale
    strides      pixels per cell, one per scale
    returns      a dict of scalars, each the mean over the images: xy, wh, object, no_object, class, total
    """
    predictions = [prediction.float() for prediction in predictions]         # exp and long sums want full precision
    targets = targets.float()
    loss = dict.fromkeys(["xy", "wh", "object", "no_object", "class"], 0)
    assigned = assign(predictions, targets, anchors, strides)

    for prediction, (slot, owner, classes, background), p_wh, stride in zip(predictions, assigned, anchors, strides):
        B, A, H, W = prediction.shape[:4]
        t = prediction[slot]                                                 # (R, 5 + C)  the responsible predictors
        xy, wh = targets[owner, 2:4], targets[owner, 4:6]                    # (R, 2)      their objects
        cells = targets.new_tensor([W, H])
        x_y = xy * cells - torch.stack([slot[3], slot[2]], -1)               # (R, 2)      x, y
        q_r = (wh * cells * stride / targets.new_tensor(p_wh)[slot[1]]).log()                # (R, 2)  q, r
        size_weight = 2 - wh.prod(-1, keepdim=True)                          # (R, 1)      small boxes count more

        bce = F.binary_cross_entropy_with_logits
        loss["xy"] += bce(t[:, 0:2], x_y, weight=size_weight, reduction="sum") / B
        loss["wh"] += 0.5 * (size_weight * (t[:, 2:4] - q_r).square()).sum() / B
        loss["object"] += bce(t[:, 4], torch.ones_like(t[:, 4]), reduction="sum") / B
        t_o = prediction[..., 4][background]                                 # (K,)
        loss["no_object"] += bce(t_o, torch.zeros_like(t_o), reduction="sum") / B
        loss["class"] += bce(t[:, 5:], classes, reduction="sum") / B
    loss["total"] = sum(loss.values())
    return loss


if __name__ == "__main__":
    # One object of exactly 116 x 90 pixels in the middle of a 416 x 416 image; a network that answers 0 everywhere.
    zeros = [torch.zeros(1, 3, 416 // stride, 416 // stride, 85) for stride in STRIDES]
    for term, value in yolov3_loss(zeros, torch.tensor([[0, 0, 0.5, 0.5, 116 / 416, 90 / 416]])).items():
        print(f"{term:<10} {value.item():14.6f}")
