"""
The YOLOv2 loss.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 2.
Source  The paper never writes its loss down. Lines marked [darknet] are read off the authors' C code:
        src/region_layer.c and cfg/yolov2-voc.cfg of pjreddie/darknet at f6afaab.

Each predictor, an anchor p_w x p_h in a cell (c_x, c_y), gives t_x, t_y, t_w, t_h, t_o and C class scores;
yolov2/model.py says what they mean. An object makes one predictor responsible: of the five anchors the one of the most
similar shape, in the cell under the object's centre. A predictor is background if its box b overlaps no object by more
than IGNORE_IOU. Predictors that are neither are left alone. For one image, with x, y the offset of the object's centre
inside its cell, w, h its size as fractions of the image, and q = log(w W / p_w), r = log(h H / p_h) for W x H cells:

    xy         1/2 LAMBDA_COORD  sum_responsible (2 - w h) [ (sigmoid(t_x) - x)^2 + (sigmoid(t_y) - y)^2 ]
    wh         1/2 LAMBDA_COORD  sum_responsible (2 - w h) [ (t_w - q)^2 + (t_h - r)^2 ]
    object     1/2 LAMBDA_OBJECT sum_responsible (sigmoid(t_o) - IOU(b, object))^2
    no_object  1/2 LAMBDA_NOOBJ  sum_background  sigmoid(t_o)^2
    class          LAMBDA_CLASS  sum_responsible -log softmax(scores)[label]
    prior      1/2 LAMBDA_PRIOR  sum_others [ (sigmoid(t_x) - 1/2)^2 + (sigmoid(t_y) - 1/2)^2 + t_w^2 + t_h^2 ]

The IOU is a constant: it teaches the confidence, and moves no box. prior is there for the first WARM_UP_IMAGES images
only; it pulls the boxes of all who are not responsible towards the middle of their cell and the shape of their anchor.

The gradient, times the number of images, is minus what Darknet passes back on a GPU (on a CPU it does not train).
Where the paper, Darknet and this file differ:

    2 - w h  Not in the paper: small boxes count up to twice as much [darknet]. As here.
    prior    Not in the paper [darknet]. As here.
    twice    A second object with the same anchor and cell takes it from the first [darknet]. As here.
    limit    Darknet reads the first 30 objects of an image. Here all.
    border   A centre at exactly 1.0 is in the last cell here; Darknet reads past it.

What changed from yolov1/loss.py: the anchor's shape, not the better prediction, decides who is responsible; t_w in log
space, not square roots; softmax, not squares, for the class; some are ignored; the pull to the anchors at the start.

    python yolov2/loss.py      prints the terms of the example that tests/test_yolov2_loss.py works out by hand
"""
import torch
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy, paired_iou, shape_iou
from yolov2.model import ANCHORS

IGNORE_IOU = 0.6        # thresh         [darknet]
LAMBDA_COORD = 1.0      # coord_scale    [darknet]; one re-implementation had 3 points more mAP with these four
LAMBDA_OBJECT = 5.0     # object_scale   [darknet]  than with 10, 100, .5 and 1
LAMBDA_NOOBJ = 1.0      # noobject_scale [darknet]
LAMBDA_CLASS = 1.0      # class_scale    [darknet]
LAMBDA_PRIOR = 0.01     # [darknet]
WARM_UP_IMAGES = 12800  # [darknet]


@torch.no_grad()
def assign(prediction, targets, anchors=ANCHORS):
    """
    Who answers for what. Arguments as in yolov2_loss. Returns

    slot        (image, anchor, row, column), each (R,)  the responsible predictors, every one once
    owner       (R,)          the object that each of them learns: its row in targets
    overlap     (R,)          the IOU of its box with that object: what objectness has to be
    background  (B, A, H, W)  True where objectness has to be 0
    """
    objects = cxcywh_to_xyxy(targets[:, 2:6])                                # (N, 4)  corners as fractions
    B, A, H, W = prediction.shape[:4]
    cells = targets.new_tensor([W, H])
    p_wh = targets.new_tensor(anchors)                                       # (A, 2)  in cells
    image = targets[:, 0].long()                                             # (N,)
    anchor = shape_iou(targets[:, 4:6] * cells, p_wh).argmax(-1)             # (N,)
    col, row = torch.minimum((targets[:, 2:4] * cells).long(), cells.long() - 1).unbind(-1)      # (N,)  1.0: last cell

    # Objects with the same slot: the last one gets it.
    claim, mine = (((image * A + anchor) * H + row) * W + col).unique(return_inverse=True)       # (R,), (N,)
    owner = torch.zeros_like(claim).scatter_reduce(0, mine, torch.arange(len(mine), device=mine.device), "amax")
    slot = claim // (A * H * W), claim // (H * W) % A, claim // W % H, claim % W

    # Every predicted box against every object of its image.
    c_xy = torch.stack(torch.meshgrid(torch.arange(W), torch.arange(H), indexing="xy"), -1).to(prediction.device)
    b_xy = (prediction[..., 0:2].sigmoid() + c_xy) / cells
    b_wh = p_wh.view(A, 1, 1, 2) * prediction[..., 2:4].exp() / cells
    b = cxcywh_to_xyxy(torch.cat([b_xy, b_wh], -1))                          # (B, A, H, W, 4)
    iou = paired_iou(b[image], objects.view(-1, 1, 1, 1, 4)).flatten(1)      # (N, A H W)
    best_iou = torch.zeros(B, A * H * W, device=iou.device).scatter_reduce(
        0, image[:, None].expand_as(iou), iou, "amax").view(B, A, H, W)
    background = best_iou <= IGNORE_IOU
    background[slot] = False                                                 # responsible even if it would be ignored
    overlap = paired_iou(b[slot], objects[owner])                            # (R,)
    return slot, owner, overlap, background


def yolov2_loss(prediction, targets, anchors=ANCHORS, seen=WARM_UP_IMAGES):
    """
    prediction  (B, A, H, W, 5 + C)  raw network output, H rows and W columns of cells
    targets     (N, 6)  the batch's objects: image, label, centre x, centre y, width, height; lengths as fractions
    anchors     a list of (width, height) in cells
    seen        how many images the training has seen, this batch included; prior is 0 from WARM_UP_IMAGES on
    returns     a dict of scalars, each the mean over the images: xy, wh, object, no_object, class, prior, total
    """
    prediction = prediction.float()                                          # exp and long sums want full precision
    targets = targets.float()
    slot, owner, overlap, background = assign(prediction, targets, anchors)

    B, A, H, W = prediction.shape[:4]
    t = prediction[slot]                                                     # (R, 5 + C)  the responsible predictors
    xy, wh, label = targets[owner, 2:4], targets[owner, 4:6], targets[owner, 1].long()   # (R, 2), (R,)  their objects
    cells = targets.new_tensor([W, H])
    x_y = xy * cells - torch.stack([slot[3], slot[2]], -1)                   # (R, 2)      x, y
    q_r = (wh * cells / targets.new_tensor(anchors)[slot[1]]).log()          # (R, 2)      q, r
    small = 2 - wh.prod(-1, keepdim=True)                                    # (R, 1)      small boxes count more
    others = torch.ones_like(background)
    others[slot] = False
    boxes = prediction[others][:, :4]                                        # (B A H W - R, 4)

    loss = {}
    loss["xy"] = 0.5 * LAMBDA_COORD * (small * (t[:, 0:2].sigmoid() - x_y).square()).sum() / B
    loss["wh"] = 0.5 * LAMBDA_COORD * (small * (t[:, 2:4] - q_r).square()).sum() / B
    loss["object"] = 0.5 * LAMBDA_OBJECT * (t[:, 4].sigmoid() - overlap).square().sum() / B
    unclaimed = prediction[..., 4][background]
    loss["no_object"] = 0.5 * LAMBDA_NOOBJ * unclaimed.sigmoid().square().sum() / B
    loss["class"] = LAMBDA_CLASS * F.cross_entropy(t[:, 5:], label, reduction="sum") / B
    pull = LAMBDA_PRIOR if seen < WARM_UP_IMAGES else 0
    loss["prior"] = 0.5 * pull * ((boxes[:, 0:2].sigmoid() - 0.5).square().sum() + boxes[:, 2:4].square().sum()) / B
    loss["total"] = sum(loss.values())
    return loss


if __name__ == "__main__":
    # One object of 4 x 4 cells in the middle of 13 x 13; a network that answers 0 everywhere.
    zeros = torch.zeros(1, 5, 13, 13, 25)
    for term, value in yolov2_loss(zeros, torch.tensor([[0, 0, 0.5, 0.5, 4 / 13, 4 / 13]])).items():
        print(f"{term:<10} {value.item():14.6f}")
