"""
The YOLOv2 loss.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 2.
Source  The paper does not write its loss down. Statements marked [darknet] come from the authors' C code:
        src/region_layer.c and cfg/yolov2-voc.cfg of pjreddie/darknet at f6afaab, that is, as of March 2017 and later.
        With SIZE_WEIGHT = False the loss is that of b61bcf54, at the paper's time.

A predictor is one anchor in one cell. Its anchor is p_w x p_h cells, its cell is in column c_x and row c_y. It predicts
t_x, t_y, t_w, t_h, t_o and C class logits; yolov2/model.py says what they mean. For each image there are three kinds of
predictors:

    responsible  An object makes one predictor responsible for it: among all five anchors the one whose IOU with the
                 object is highest when both have the same centre, in the cell that contains the object's centre.
    ignored      It is not responsible, and its predicted box overlaps an object by an IOU of more than IGNORE_IOU. It
                 adds only to the term prior.
    background   All others.

For an object of w x h, as fractions of the input, which has W x H cells, the targets of its predictor are

    x*, y*       the offset of its centre from the top left corner of the cell, in cells, from 0 to 1
    t*_w, t*_h   log(w W / p_w), log(h H / p_h)
    IOU          the IOU of the predicted box with the object. No gradient flows through it

The loss of one image is the sum of these terms:

    xy         1/2 LAMBDA_COORD  sum_responsible (2 - w h) [ (sigmoid(t_x) - x*)^2 + (sigmoid(t_y) - y*)^2 ]
    wh         1/2 LAMBDA_COORD  sum_responsible (2 - w h) [ (t_w - t*_w)^2 + (t_h - t*_h)^2 ]
    object     1/2 LAMBDA_OBJECT sum_responsible (sigmoid(t_o) - IOU)^2
    no_object  1/2 LAMBDA_NOOBJ  sum_background  sigmoid(t_o)^2
    class          LAMBDA_CLASS  sum_responsible -log softmax(logits)[class of the object]
    prior      1/2 LAMBDA_PRIOR  sum_others [ (sigmoid(t_x) - 1/2)^2 + (sigmoid(t_y) - 1/2)^2 + t_w^2 + t_h^2 ]

sum_others is over all predictors that are not responsible: the ignored ones and the background. The term prior pulls
their boxes towards the middle of the cell and the shape of the anchor (the paper's word for an anchor is "prior"), as
long as the network has seen fewer than WARM_UP_IMAGES images.

yolov2_loss returns the mean L over the B images; what Darknet calls delta is -B dL/dt.

Details that the paper leaves open, or in which the paper and Darknet differ:

    weights   The paper does not give any. The five LAMBDA_... are Darknet's, in 2016 and later.
    2 - w h   Darknet has had this factor, which gives small boxes up to twice the weight, since March 2017. So do we.
              SIZE_WEIGHT = False removes it: Darknet of 2016, at the paper's time, does not have it.
    ignored   The paper does not mention ignored predictors, nor the term prior. Both are [darknet].
    seen      Darknet counts the images by subdivisions, we by steps: it ends the term prior a few subdivisions later.
    shared    A second object with the same anchor and cell takes over the predictor [darknet].
    limit     Darknet reads the first 30 objects of an image. We read all.
    border    A centre at exactly 1.0 belongs to the last cell here. Darknet writes it into memory that belongs to
              another cell.

What changed from yolov1/loss.py: the shape of an anchor, not the better of two predictions, decides which predictor is
responsible; width and height are learned as logarithms, not as square roots; the class uses a softmax instead of
squares; a predictor whose box overlaps an object well is ignored; boxes are pulled to their anchors at the start; of
two objects for one predictor the later one is learned, not the first; the weights of the terms; factors of 1/2 and,
since March 2017, 2 - w h; sigmoids of t_x, t_y and t_o.

    python yolov2/loss.py      prints the terms of the example that tests/test_yolov2_loss.py works out by hand
"""
import torch
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy, paired_iou, shape_iou
from yolov2.dataset import PRESET
from yolov2.model import ANCHORS, decode

IGNORE_IOU = 0.6        # [darknet] thresh
LAMBDA_COORD = 1.0      # [darknet] coord_scale
LAMBDA_OBJECT = 5.0     # [darknet] object_scale
LAMBDA_NOOBJ = 1.0      # [darknet] noobject_scale
LAMBDA_CLASS = 1.0      # [darknet] class_scale
LAMBDA_PRIOR = 0.01     # [darknet]
WARM_UP_IMAGES = 12800  # [darknet]
SIZE_WEIGHT = True      # multiply xy and wh by 2 - w h [darknet, since March 2017]
if PRESET == "darknet_2016":
    SIZE_WEIGHT = False


@torch.no_grad()
def assign(prediction, targets, anchors=ANCHORS):
    """
    Assigns predictors to objects. Arguments as in yolov2_loss: targets (N, 6) are image, label, centre x, centre y,
    width, height. A slot is the (image, anchor, row, column) of a predictor. M is the number of objects in one image.
    Returns

    slots       (R, 4)        the responsible predictors
    objects     (R,)          the object that each of them learns, as an index into targets
    ious        (R,)          the IOU of its predicted box with that object: its objectness target
    background  (B, A, H, W)  True for the predictors that are neither responsible nor ignored
    """
    B, A, H, W = prediction.shape[:4]
    grid = targets.new_tensor([W, H])
    centres = (targets[:, 2:4] * grid).tolist()                                          # N times x, y  in cells
    sizes = targets[:, 4:6] * grid                                                       # (N, 2)        in cells
    best = shape_iou(sizes, targets.new_tensor(anchors)).argmax(1).tolist()              # N numbers from 0 to A - 1

    # An object makes one predictor responsible: the anchor with the most similar shape, in the cell of its centre.
    object_of = {}                                           # slot -> the object that it learns
    for n, image in enumerate(targets[:, 0].long().tolist()):
        x, y = centres[n]
        slot = image, best[n], min(int(y), H - 1), min(int(x), W - 1)
        object_of[slot] = n                                         # a later object takes the slot from an earlier one

    # All other predictors are background, except where the predicted box overlaps an object by more than IGNORE_IOU.
    corners = cxcywh_to_xyxy(targets[:, 2:6]).to(prediction.device)                      # (N, 4)
    truths = [corners[targets[:, 0] == image] for image in range(B)]                     # B times (M, 4)
    boxes, _ = decode(prediction, anchors)                                               # (B, A H W, 4)
    overlaps = [paired_iou(boxes[image, :, None], truths[image]) for image in range(B)]  # B times (A H W, M)
    ignored = torch.stack([(overlap > IGNORE_IOU).any(1) for overlap in overlaps])       # (B, A H W)
    background = ~ignored.view(prediction.shape[:4])                                     # (B, A, H, W)

    responsible = sorted(object_of)                                                      # R slots
    slots = torch.tensor(responsible, dtype=torch.long).view(-1, 4)                      # (R, 4)  also for R = 0
    objects = torch.tensor([object_of[slot] for slot in responsible], dtype=torch.long)  # (R,)
    background[tuple(slots.T)] = False                              # responsible, even where its box would be ignored
    ious = paired_iou(boxes.view(B, A, H, W, 4)[tuple(slots.T)], corners[objects])       # (R,)
    return [tensor.to(prediction.device) for tensor in (slots, objects, ious, background)]


def yolov2_loss(prediction, targets, anchors=ANCHORS, seen=WARM_UP_IMAGES):
    """
    prediction  (B, A, H, W, 5 + C): raw network output, H rows and W columns of cells
    targets     (N, 6)  the batch's objects: image, label, centre x, centre y, width, height; lengths as fractions.
                They may stay on the CPU, where assign loops over them
    anchors     a list of (width, height) in cells
    seen        how many images the training has seen, this batch included: prior is 0 from WARM_UP_IMAGES on
    returns     a dict of scalars, each the mean over the images: xy, wh, object, no_object, class, prior, total
    """
    prediction = prediction.float()                                          # exp and long sums need full precision
    targets = targets.float()
    slots, objects, ious, background = assign(prediction, targets, anchors)
    targets = targets.to(prediction.device)

    B, A, H, W = prediction.shape[:4]
    image, anchor, row, col = slots.T
    t = prediction[image, anchor, row, col]                                  # (R, 5 + C)  the responsible predictors
    label = targets[objects, 1].long()                                       # (R,)        their objects
    centre, size = targets[objects, 2:4], targets[objects, 4:6]              # (R, 2)
    grid = targets.new_tensor([W, H])
    target_xy = centre * grid - torch.stack([col, row], 1)                   # (R, 2)      x*, y*
    target_wh = (size * grid / targets.new_tensor(anchors)[anchor]).log()    # (R, 2)      t*_w, t*_h
    size_weight = 1
    if SIZE_WEIGHT:
        size_weight = 2 - size.prod(1, keepdim=True)                         # (R, 1)      2 - w h
    background_t_o = prediction[..., 4][background]                          # (K,)
    not_responsible = torch.ones_like(background)                            # (B, A, H, W)
    not_responsible[image, anchor, row, col] = False
    t_prior = prediction[not_responsible]                                    # (B A H W - R, 5 + C)
    prior_weight = LAMBDA_PRIOR if seen < WARM_UP_IMAGES else 0

    loss = {}
    loss["xy"] = 0.5 * LAMBDA_COORD * (size_weight * (t[:, 0:2].sigmoid() - target_xy).square()).sum() / B
    loss["wh"] = 0.5 * LAMBDA_COORD * (size_weight * (t[:, 2:4] - target_wh).square()).sum() / B
    loss["object"] = 0.5 * LAMBDA_OBJECT * (t[:, 4].sigmoid() - ious).square().sum() / B
    loss["no_object"] = 0.5 * LAMBDA_NOOBJ * background_t_o.sigmoid().square().sum() / B
    loss["class"] = LAMBDA_CLASS * F.cross_entropy(t[:, 5:], label, reduction="sum") / B
    loss["prior"] = 0.5 * prior_weight * ((t_prior[:, 0:2].sigmoid() - 0.5).square().sum()
                                          + t_prior[:, 2:4].square().sum()) / B
    loss["total"] = sum(loss.values())
    return loss


if __name__ == "__main__":
    # One object in an image of 2 x 2 cells, one anchor of 1 x 1 cell, two classes; a network that predicts 0.
    zeros = torch.zeros(1, 1, 2, 2, 7)
    for term, value in yolov2_loss(zeros, torch.tensor([[0, 0, 0.625, 0.25, 0.5, 0.25]]), [(1, 1)], seen=1).items():
        print(f"{term:<10} {value.item():14.6f}")
