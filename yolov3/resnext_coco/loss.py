"""
The loss of YOLOv3 on a ResNeXt: YOLOv3's, on labels that yolov3/resnext_coco/dataset.py has made beforehand.

Paper   "YOLOv3: An Incremental Improvement", section 2.1: "sum of squared error loss" for the box, logistic regression
        for the objectness, and 2.2: binary cross-entropy for the classes.
Source  The weight 5 is YOLOv1's, equation (3). The assignment is the paper's (dataset.py); the rest is ours.

For one image, summed over the predictors that gt_boxes_label calls responsible and those that gt_and_neg_boxes_label
leaves beside them, background, with x, y, q, r of coordinates_label and BCE as in yolov3/loss.py:

    xy         5 sum_responsible [ (sigmoid(t_x) - x)^2 + (sigmoid(t_y) - y)^2 ]
    wh         5 sum_responsible [ (t_w - q)^2 + (t_h - r)^2 ]
    object       sum_responsible BCE(t_o, 1)
    no_object    sum_background  BCE(t_o, 0)
    class        sum_responsible sum_k BCE(score_k, 1 if the object is of class k else 0)

The paper compares t_x itself, whose target is infinite on the border of a cell; here its sigmoid, the encoded offset.

The run that inspired this folder reached 15.8 AP and 27.4 AP50 on COCO, the paper's YOLOv3 33.0 and 57.9 on test-dev
(Table 3). Likely reasons, none of them tried: labels that do not follow the network (dataset.py says what is lost by
that); no random scale, place or crop, and one input size; squares of a sigmoid for x, y, whose gradient vanishes where
that of BCE does not; no 2 - w h for small boxes; and too few passes over the data, of which Darknet makes 273.

What changed from yolov3/loss.py: the assignment has gone to dataset.py, and asks what anchor boxes overlap, not
predicted ones; squares for x, y; a weight of 5 on the box instead of 2 - w h, and no 1/2 before wh.

    python yolov3/resnext_coco/loss.py     prints the terms of the example that tests/test_yolov3_resnext.py works out
"""
import torch
import torch.nn.functional as F

from yolov3.resnext_coco.dataset import assign

BOX_WEIGHT = 5  # YOLOv1, equation (3)


def resnext_loss(predictions, coordinates_label, classification_label, gt_boxes_label, gt_and_neg_boxes_label):
    """
    predictions             one (B, A, H, W, 5 + C) per scale: raw network output
    coordinates_label       (B, L, 4)  x, y, q, r
    classification_label    (B, L, C)  bool
    gt_boxes_label          (B, L, 1)  bool, responsible
    gt_and_neg_boxes_label  (B, L, 1)  bool, responsible or background
    returns                 a dict of scalars, each the mean over the images: xy, wh, object, no_object, class, total
    """
    t = torch.cat([prediction.float().flatten(1, 3) for prediction in predictions], 1)       # (B, L, 5 + C)
    B, responsible = len(t), gt_boxes_label[..., 0]                          # (B, L)
    background = gt_and_neg_boxes_label[..., 0] & ~responsible               # (B, L)
    box, t_o, scores = t[responsible].split([4, 1, t.shape[2] - 5], 1)       # (R, 4), (R, 1), (R, C)
    x_y, q_r = coordinates_label[responsible].split(2, 1)                    # (R, 2), (R, 2)
    quiet = t[..., 4][background]                                            # (K,)

    bce = F.binary_cross_entropy_with_logits
    loss = {
        "xy": BOX_WEIGHT * (box[:, :2].sigmoid() - x_y).square().sum() / B,
        "wh": BOX_WEIGHT * (box[:, 2:] - q_r).square().sum() / B,
        "object": bce(t_o, torch.ones_like(t_o), reduction="sum") / B,
        "no_object": bce(quiet, torch.zeros_like(quiet), reduction="sum") / B,
        "class": bce(scores, classification_label[responsible].float(), reduction="sum") / B,
    }
    loss["total"] = sum(loss.values())
    return loss


if __name__ == "__main__":
    # One object of exactly 116 x 90 pixels in the middle of a 416 x 416 image; a network that answers 0 everywhere.
    labels = assign(torch.tensor([[0, 0, 0.5, 0.5, 116 / 416, 90 / 416]]), 1, 416, 416, 80)
    zeros = [torch.zeros(1, 3, 416 // stride, 416 // stride, 85) for stride in (32, 16, 8)]
    for term, value in resnext_loss(zeros, *labels).items():
        print(f"{term:<10} {value.item():14.6f}")
