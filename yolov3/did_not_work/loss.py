"""
The loss of the experiments of section 4.

Paper   "YOLOv3: An Incremental Improvement", section 4, "Things We Tried That Didn't Work" (arXiv:1804.02767).
Source  The paper gives no equations. Statements marked [darknet] come from src/yolo_layer.c of pjreddie/darknet at
        f6afaab. The focal loss is that of Lin et al., "Focal Loss for Dense Object Detection" (arXiv:1708.02002).

Read yolov3/loss.py first: its docstring defines the symbols. Each experiment changes this:

    baseline         nothing
    anchor offsets   xy  1/2 sum_responsible (2 - w h) [ (t_x - t*_x)^2 + (t_y - t*_y)^2 ],  where, with the object's
                     centre (x, y) in cells,  t*_x = (x - c_x - 1/2) s / p_w,  t*_y = (y - c_y - 1/2) s / p_h
    linear xy        xy  1/2 sum_responsible (2 - w h) [ (t_x - x*)^2 + (t_y - y*)^2 ]
    focal loss       object     sum_responsible  ALPHA      (1 - p)^GAMMA BCE(t_o, 1),  with p = sigmoid(t_o)
                     no_object  sum_background  (1 - ALPHA)       p^GAMMA BCE(t_o, 0)
    dual thresholds  A predictor whose box overlaps an object by more than POSITIVE_IOU learns that object, as if it
                     were responsible for it. One whose box overlaps none by more than NEGATIVE_IOU is background. The
                     others are ignored.

What the paper leaves open, and what we chose:

    squares     A linear t_x is no probability, so there is no cross-entropy for it. The gradient of our squares, for
                linear xy (2 - w h) (t_x - x*), is the baseline's with t_x instead of sigmoid(t_x).
    focal loss  It is applied to the objectness, the only term to which the background contributes. ALPHA and GAMMA are
                those of Lin et al. They divide by the number of positive anchors. Our terms are sums over an
                image, averaged over the batch.
    overlaps    "If a prediction overlaps the ground truth by .7": so we take predicted boxes, as Darknet does. Its
                yolo_layer.c still has the parameters of the experiment, ignore_thresh and truth_thresh; yolov3.cfg sets
                truth_thresh to 1, which no overlap exceeds. Faster R-CNN compares its anchors.
    no .7       Often no box overlaps an object by .7, and in an untrained network hardly any does. The object's
                responsible predictor, the one with the best anchor, is always positive, too: so does Darknet, and
                Faster R-CNN also makes the best anchor positive. It keeps its object, even if its box overlaps
                another one by more than .7.
    neighbours  A positive box may belong to a cell beside that of the object's centre. The sigmoid cannot leave its
                cell, so x* is then the nearest of 0 and 1. Darknet does not limit it.

What changed from yolov3/loss.py: the argument `experiment` and the lines that read it. With "baseline" the values are
the same to the last bit (tests/test_did_not_work.py).
"""
import torch
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy, paired_iou, shape_iou
from yolov3.did_not_work.decode import decode_head
from yolov3.loss import IGNORE_IOU

ALPHA, GAMMA = 0.25, 2                   # of the focal loss (Lin et al.)
POSITIVE_IOU, NEGATIVE_IOU = 0.7, 0.3    # the two thresholds [paper]


@torch.no_grad()
def assign(predictions, targets, anchors, strides, experiment):
    """
    Assigns predictors to objects: see assign in yolov3/loss.py for the arguments and the result. R also counts the
    predictors that "dual thresholds" makes positive.
    """
    B, C = predictions[0].shape[0], predictions[0].shape[4] - 5
    shapes = [prediction.shape[2:4] for prediction in predictions]                       # H, W of each scale
    centres = [(targets[:, 2:4] * targets.new_tensor([W, H])).tolist() for H, W in shapes]   # N times x, y  in cells
    height, width = (side * strides[0] for side in shapes[0])                            # of the input, in pixels
    sizes = targets[:, 4:6] * targets.new_tensor([width, height])                        # (N, 2)  in pixels
    places = [(scale, anchor) for scale in range(len(anchors)) for anchor in range(len(anchors[scale]))]
    all_anchors = targets.new_tensor([anchors[scale][anchor] for scale, anchor in places])   # (6, 2)  in pixels
    best = shape_iou(sizes, all_anchors).argmax(1).tolist()                              # N indices into places

    # An object makes one predictor responsible: the anchor with the most similar shape, in the cell of its centre.
    object_of = [{} for _ in anchors]                        # for each scale: slot -> the object whose box it learns
    labels_of = [{} for _ in anchors]                        # for each scale: slot -> the labels that it learns
    for n, (image, label) in enumerate(targets[:, :2].long().tolist()):
        scale, anchor = places[best[n]]
        x, y = centres[scale][n]
        H, W = shapes[scale]
        slot = image, anchor, min(int(y), H - 1), min(int(x), W - 1)
        object_of[scale][slot] = n                                  # a later object takes the box from an earlier one,
        labels_of[scale].setdefault(slot, []).append(label)         # but both classes stay

    # All other predictors are background, except where the predicted box overlaps an object by more than ignore_iou.
    ignore_iou = NEGATIVE_IOU if experiment == "dual thresholds" else IGNORE_IOU
    corners = cxcywh_to_xyxy(targets[:, 2:6]).to(predictions[0].device)                  # (N, 4)
    members = [(targets[:, 0] == image).nonzero()[:, 0] for image in range(B)]           # B times (M,)  objects
    assigned = []
    for scale, prediction in enumerate(predictions):
        boxes, _ = decode_head(prediction, anchors[scale], strides[scale], experiment)   # (B, A H W, 4)
        overlaps = [paired_iou(boxes[image, :, None], corners[members[image]]) for image in range(B)]    # (A H W, M)
        # Dual thresholds: a free predictor whose box overlaps an object by more than POSITIVE_IOU learns the object
        # that it overlaps most.
        if experiment == "dual thresholds":
            for image, overlap in enumerate(overlaps):
                if not len(members[image]):
                    continue
                iou, nearest = overlap.view(*prediction.shape[1:4], -1).max(3)           # (A, H, W) each
                for place in (iou > POSITIVE_IOU).nonzero().tolist():                    # anchor, row, column
                    slot, n = (image, *place), members[image][nearest[tuple(place)]].item()
                    if slot not in object_of[scale]:                                     # not yet responsible
                        object_of[scale][slot], labels_of[scale][slot] = n, [int(targets[n, 1])]
        ignored = torch.stack([(overlap > ignore_iou).any(1) for overlap in overlaps])   # (B, A H W)
        background = ~ignored.view(prediction.shape[:4])                                 # (B, A, H, W)

        responsible = sorted(object_of[scale])                                           # R slots
        slots = torch.tensor(responsible, dtype=torch.long).view(-1, 4)                  # (R, 4)  also for R = 0
        objects = torch.tensor([object_of[scale][slot] for slot in responsible], dtype=torch.long)       # (R,)
        background[tuple(slots.T)] = False                          # responsible, even where its box would be ignored
        classes = torch.zeros(len(slots), C)                                             # (R, C)
        for r, slot in enumerate(responsible):
            classes[r, labels_of[scale][slot]] = 1
        assigned.append([tensor.to(prediction.device) for tensor in (slots, objects, classes, background)])
    return assigned


def experiment_loss(predictions, targets, anchors, strides, experiment):
    """
    predictions  one (B, A, H, W, 5 + C) per scale: raw network output, H rows and W columns of cells
    targets      (N, 6)  the batch's objects: image, label, centre x, centre y, width, height; lengths as fractions.
                 They may stay on the CPU, where assign loops over them
    anchors      one list of (width, height) in pixels of the network's input per scale
    strides      pixels per cell, one per scale
    experiment   one of EXPERIMENTS in decode.py
    returns      a dict of scalars, each the mean over the images: xy, wh, object, no_object, class, total
    """
    predictions = [prediction.float() for prediction in predictions]         # exp and long sums need full precision
    targets = targets.float()
    assigned = assign(predictions, targets, anchors, strides, experiment)
    targets = targets.to(predictions[0].device)
    bce = F.binary_cross_entropy_with_logits

    loss = dict.fromkeys(["xy", "wh", "object", "no_object", "class"], 0)
    for prediction, (slots, objects, classes, background), p_wh, stride in zip(predictions, assigned, anchors, strides):
        B, A, H, W = prediction.shape[:4]
        image, anchor, row, col = slots.T
        t = prediction[image, anchor, row, col]                              # (R, 5 + C)  the responsible predictors
        centre, size = targets[objects, 2:4], targets[objects, 4:6]          # (R, 2)      their objects
        grid = targets.new_tensor([W, H])
        target_xy = centre * grid - torch.stack([col, row], 1)               # (R, 2)      x*, y*
        target_wh = (size * grid * stride / targets.new_tensor(p_wh)[anchor]).log()      # (R, 2)  t*_w, t*_h
        size_weight = 2 - size.prod(1, keepdim=True)                         # (R, 1)      2 - w h
        background_t_o = prediction[..., 4][background]                      # (K,)

        if experiment == "anchor offsets":
            target_xy = (target_xy - 0.5) * stride / targets.new_tensor(p_wh)[anchor]    # (R, 2)  t*_x, t*_y
        if experiment == "dual thresholds":
            target_xy = target_xy.clamp(0, 1)                                # of a positive box in another cell
        if experiment in ("anchor offsets", "linear xy"):
            loss["xy"] += 0.5 * (size_weight * (t[:, 0:2] - target_xy).square()).sum() / B
        else:
            loss["xy"] += bce(t[:, 0:2], target_xy, weight=size_weight, reduction="sum") / B
        loss["wh"] += 0.5 * (size_weight * (t[:, 2:4] - target_wh).square()).sum() / B

        positive = bce(t[:, 4], torch.ones_like(t[:, 4]), reduction="none")  # (R,)
        negative = bce(background_t_o, torch.zeros_like(background_t_o), reduction="none")   # (K,)
        if experiment == "focal loss":
            positive = ALPHA * (1 - t[:, 4].sigmoid()) ** GAMMA * positive   # the gradient includes that of the factor
            negative = (1 - ALPHA) * background_t_o.sigmoid() ** GAMMA * negative
        loss["object"] += positive.sum() / B
        loss["no_object"] += negative.sum() / B
        loss["class"] += bce(t[:, 5:], classes, reduction="sum") / B
    loss["total"] = sum(loss.values())
    return loss
