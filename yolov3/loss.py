"""
The YOLOv3 loss.

Paper   "YOLOv3: An Incremental Improvement", Redmon and Farhadi, 2018 (arXiv:1804.02767), sections 2.1 to 2.3.
Source  The paper describes its loss in words. Statements marked [darknet] come from the authors' C code:
        src/yolo_layer.c and cfg/yolov3.cfg of pjreddie/darknet at f6afaab.

A predictor is one anchor in one cell of one scale. Its anchor is p_w x p_h pixels, its cell is in column c_x and row
c_y. It predicts t_x, t_y, t_w, t_h, t_o and C class logits; yolov3/model.py says what they mean. For each image there
are three kinds of predictors:

    responsible  An object makes one predictor responsible for it: among all nine anchors the one whose IOU with the
                 object is highest when both have the same centre, in the cell that contains the object's centre.
    ignored      It is not responsible, and its predicted box overlaps an object by an IOU of more than IGNORE_IOU. It
                 adds nothing to the loss.
    background   All others.

For an object of w x h, as fractions of the input, on a scale of W x H cells of s x s pixels, the targets of its
predictor are

    x*, y*       the offset of its centre from the top left corner of the cell, in cells, from 0 to 1
    t*_w, t*_h   log(w W s / p_w), log(h H s / p_h)

With BCE(t, p) = -p log sigmoid(t) - (1 - p) log(1 - sigmoid(t)), the loss of one image is the sum over the three
scales of these terms:

    xy             sum_responsible (2 - w h) [ BCE(t_x, x*) + BCE(t_y, y*) ]
    wh         1/2 sum_responsible (2 - w h) [ (t_w - t*_w)^2 + (t_h - t*_h)^2 ]
    object         sum_responsible BCE(t_o, 1)
    no_object      sum_background  BCE(t_o, 0)
    class          sum_responsible sum_k BCE(logit_k, 1 if the object is of class k, else 0)

Because of the 1/2 the gradient of wh is (2 - w h) (t - t*). What section 2.1 calls the gradient is target minus
prediction, without 2 - w h; there a hat marks the target, and * stands for x, y, w or h. yolov3_loss returns the mean L
over the B images; what Darknet calls delta is -B dL/dt.

Details that the paper leaves open, or in which the paper and Darknet differ:

    x, y      The paper uses squared errors of t_x, t_y. Darknet's gradient, sigmoid(t_x) - x*, is that of BCE. So is
              ours.
    2 - w h   The paper does not have this factor, which gives small boxes up to twice the weight. We have it [darknet].
    ignored   The paper ignores a prior that overlaps an object by more than .5. Darknet ignores a predictor whose
              predicted box overlaps any object of the image by more than .7 (yolov3.cfg, COCO) or .5 (yolov3-voc.cfg).
              So do we: IGNORE_IOU is .7 with the preset "darknet_coco", otherwise .5.
    shared    A second object with the same anchor and cell takes over the box, and both classes are learned [darknet].
    limit     Darknet reads the first 90 objects of an image. We read all.
    border    A centre at exactly 1.0 belongs to the last cell here. Darknet writes it into memory that belongs to
              another cell.

What changed from yolov2/loss.py: there are nine anchors on three scales; x, y, objectness and each class use logistic
regression instead of squares and a softmax; the objectness target is 1, not the IOU; the IOU above which a predictor is
ignored is .5 (COCO: .7), not .6; a predictor that several objects share learns all their classes; the terms have no
weights, and none of them pulls boxes to their anchors.

    python yolov3/loss.py      prints the terms of the example that tests/test_yolov3_loss.py works out by hand
"""
import torch
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy, paired_iou, shape_iou
from yolov3.dataset import PRESET
from yolov3.model import ANCHORS, STRIDES, decode_head

IGNORE_IOU = 0.5      # yolov3-voc.cfg; the paper has .5, too, but for anchors instead of predicted boxes
if PRESET == "darknet_coco":
    IGNORE_IOU = 0.7  # yolov3.cfg


@torch.no_grad()
def assign(predictions, targets, anchors=ANCHORS, strides=STRIDES):
    """
    Assigns predictors to objects. Arguments as in yolov3_loss: targets (N, 6) are image, label, centre x, centre y,
    width, height. A slot is the (image, anchor, row, column) of a predictor. M is the number of objects in one image.
    Returns for each scale

    slots       (R, 4)        the responsible predictors
    objects     (R,)          the object whose box each of them learns, as an index into targets
    classes     (R, C)        the classes that it learns: 1 for each, 0 elsewhere
    background  (B, A, H, W)  True for the predictors that are neither responsible nor ignored
    """
    B, C = predictions[0].shape[0], predictions[0].shape[4] - 5
    shapes = [prediction.shape[2:4] for prediction in predictions]                       # H, W of each scale
    centres = [(targets[:, 2:4] * targets.new_tensor([W, H])).tolist() for H, W in shapes]   # N times x, y  in cells
    height, width = (side * strides[0] for side in shapes[0])                            # of the input, in pixels
    sizes = targets[:, 4:6] * targets.new_tensor([width, height])                        # (N, 2)  in pixels
    places = [(scale, anchor) for scale in range(len(anchors)) for anchor in range(len(anchors[scale]))]     # of all 9
    all_anchors = targets.new_tensor([anchors[scale][anchor] for scale, anchor in places])   # (9, 2)  in pixels
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

    # All other predictors are background, except where the predicted box overlaps an object by more than IGNORE_IOU.
    corners = cxcywh_to_xyxy(targets[:, 2:6]).to(predictions[0].device)                  # (N, 4)
    truths = [corners[targets[:, 0] == image] for image in range(B)]                     # B times (M, 4)
    assigned = []
    for scale, prediction in enumerate(predictions):
        boxes, _ = decode_head(prediction, anchors[scale], strides[scale])               # (B, A H W, 4)
        overlaps = [paired_iou(boxes[image, :, None], truths[image]) for image in range(B)]      # B times (A H W, M)
        ignored = torch.stack([(overlap > IGNORE_IOU).any(1) for overlap in overlaps])   # (B, A H W)
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


def yolov3_loss(predictions, targets, anchors=ANCHORS, strides=STRIDES):
    """
    predictions  one (B, A, H, W, 5 + C) per scale: raw network output, H rows and W columns of cells
    targets      (N, 6)  the batch's objects: image, label, centre x, centre y, width, height; lengths as fractions.
                 They may stay on the CPU, where assign loops over them
    anchors      one list of (width, height) in pixels of the network's input per scale
    strides      pixels per cell, one per scale
    returns      a dict of scalars, each the mean over the images: xy, wh, object, no_object, class, total
    """
    predictions = [prediction.float() for prediction in predictions]         # exp and long sums need full precision
    targets = targets.float()
    assigned = assign(predictions, targets, anchors, strides)
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

        loss["xy"] += bce(t[:, 0:2], target_xy, weight=size_weight, reduction="sum") / B
        loss["wh"] += 0.5 * (size_weight * (t[:, 2:4] - target_wh).square()).sum() / B
        loss["object"] += bce(t[:, 4], torch.ones_like(t[:, 4]), reduction="sum") / B
        loss["no_object"] += bce(background_t_o, torch.zeros_like(background_t_o), reduction="sum") / B
        loss["class"] += bce(t[:, 5:], classes, reduction="sum") / B
    loss["total"] = sum(loss.values())
    return loss


if __name__ == "__main__":
    # One object of exactly 116 x 90 pixels in the middle of a 416 x 416 image; a network that predicts 0 everywhere.
    zeros = [torch.zeros(1, 3, 416 // stride, 416 // stride, 85) for stride in STRIDES]
    for term, value in yolov3_loss(zeros, torch.tensor([[0, 0, 0.5, 0.5, 116 / 416, 90 / 416]])).items():
        print(f"{term:<10} {value.item():14.6f}")
