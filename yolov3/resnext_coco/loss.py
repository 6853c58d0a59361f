"""
The loss of YOLOv3 on a ResNeXt, computed from the labels that yolov3/resnext_coco/dataset.py makes.

Paper   "YOLOv3: An Incremental Improvement", section 2.1 ("sum of squared error loss" for the box, logistic regression
        for the objectness) and section 2.2 (binary cross-entropy for the classes).
Source  The weight 5 is YOLOv1's lambda_coord, equation (3). Where the paper is silent, the choice is ours.

gt_boxes_label says which predictors are responsible. Of the others, those of gt_and_neg_boxes_label are background.
coordinates_label holds the targets x*, y*, t*_w, t*_h. With BCE as in yolov3/loss.py, the loss of one image is the sum
of these terms:

    xy         5 sum_responsible [ (sigmoid(t_x) - x*)^2 + (sigmoid(t_y) - y*)^2 ]
    wh         5 sum_responsible [ (t_w - t*_w)^2 + (t_h - t*_h)^2 ]
    object       sum_responsible BCE(t_o, 1)
    no_object    sum_background  BCE(t_o, 0)
    class        sum_responsible sum_k BCE(score_k, 1 if the object is of class k, else 0)

The paper's squared error is that of t_x itself, whose target is infinite where the centre is on the border of a cell.
Here it is the error of sigmoid(t_x).

On COCO this network should reach less than YOLOv3 in the paper, which has 33.0 AP and 57.9 AP50 on test-dev (Table 3).
We have not measured it. The likely reasons:

    - The labels do not follow the network. yolov3/resnext_coco/dataset.py says what that costs.
    - Training uses one input size, and neither scales nor places nor crops the images at random.
    - The gradient of a squared sigmoid vanishes where the sigmoid is near 0 or 1, and that of BCE does not.
    - Small boxes do not get a larger weight (2 - w h).
    - 30 epochs are few. Darknet trains for 273 epochs of its 117,264 images.

What changed from yolov3/loss.py: the assignment is in dataset.py, and ignores by the anchor boxes instead of the
predicted ones; x, y use squares; the box has a weight of 5 instead of 2 - w h, and wh no factor 1/2.

    python yolov3/resnext_coco/loss.py     prints the terms of the example that tests/test_yolov3_resnext.py works out
                                           by hand
"""
import torch
import torch.nn.functional as F

from yolov3.resnext_coco.dataset import assign

BOX_WEIGHT = 5  # YOLOv1, equation (3)


def resnext_loss(predictions, coordinates_label, classification_label, gt_boxes_label, gt_and_neg_boxes_label):
    """
    predictions             one (B, A, H, W, 5 + C) per scale: raw network output
    coordinates_label       (B, L, 4)  x*, y*, t*_w, t*_h
    classification_label    (B, L, C)  bool
    gt_boxes_label          (B, L, 1)  bool: responsible
    gt_and_neg_boxes_label  (B, L, 1)  bool: responsible or background
    returns                 a dict of scalars, each the mean over the images: xy, wh, object, no_object, class, total
    """
    predictions = torch.cat([prediction.float().flatten(1, 3) for prediction in predictions], 1)     # (B, L, 5 + C)
    B = len(predictions)
    responsible = gt_boxes_label[..., 0]                                     # (B, L)
    background = gt_and_neg_boxes_label[..., 0] & ~responsible               # (B, L)
    t = predictions[responsible]                                             # (R, 5 + C)  the responsible predictors
    target_xy, target_wh = coordinates_label[responsible].split(2, 1)        # (R, 2)      x*, y*; t*_w, t*_h
    classes = classification_label[responsible].float()                      # (R, C)
    background_t_o = predictions[..., 4][background]                         # (K,)

    bce = F.binary_cross_entropy_with_logits
    loss = {
        "xy": BOX_WEIGHT * (t[:, 0:2].sigmoid() - target_xy).square().sum() / B,
        "wh": BOX_WEIGHT * (t[:, 2:4] - target_wh).square().sum() / B,
        "object": bce(t[:, 4], torch.ones_like(t[:, 4]), reduction="sum") / B,
        "no_object": bce(background_t_o, torch.zeros_like(background_t_o), reduction="sum") / B,
        "class": bce(t[:, 5:], classes, reduction="sum") / B,
    }
    loss["total"] = sum(loss.values())
    return loss


if __name__ == "__main__":
    # One object of exactly 116 x 90 pixels in the middle of a 416 x 416 image; a network that predicts 0 everywhere.
    labels = assign(torch.tensor([[0, 0, 0.5, 0.5, 116 / 416, 90 / 416]]), 1, 416, 416, 80)
    zeros = [torch.zeros(1, 3, 416 // stride, 416 // stride, 85) for stride in (32, 16, 8)]
    for term, value in resnext_loss(zeros, *labels).items():
        print(f"{term:<10} {value.item():14.6f}")
