"""
Exercise 4 of yolov3/README.md: the generalized IOU (Rezatofighi et al., arXiv:1902.09630) as the loss of a box.

    GIOU = IOU - (hull - union) / hull        hull: the area of the smallest box that contains both

The loss of a box is (2 - w h) (1 - GIOU) in place of the terms xy and wh; it goes into xy, and wh is a tensor of 0.

The world of tests/test_yolov3_loss.py: 64 x 64 pixels, 2 x 2 cells, one anchor of 32 x 32. The object is 32 x 16 pixels
with its centre at (40, 16). The responsible predictor, in row 0, column 1, predicts zeros: 32 x 32 at (48, 16).

     0          24     32                   56     64 pixels
   0 |           |      +- - - - - - - - - - - - - -+      object       24 to 56 across,  8 to 24 down   512
   8 |           +------|--------------------+      |      prediction   32 to 64 across,  0 to 32 down  1024
     |           |      |                    |      |      intersection (56 - 32)(24 - 8)              =  384
  24 |           +------|--------------------+      |      union        512 + 1024 - 384               = 1152
  32 |           |      +- - - - - - - - - - - - - -+      hull         (64 - 24)(32 - 0)              = 1280

GIOU = 384/1152 - (1280 - 1152)/1280 = 1/3 - 1/10 = 7/30, and 2 - w h = 2 - (1/2)(1/4) = 1.875. For the loss there is a
second object, 32 pixels below the first. Its predictor, in row 1, column 1, predicts zeros, too, so its GIOU is equal.
"""
import pytest
import torch

import shared.boxes
from yolov3.loss import yolov3_loss

PIXELS = torch.tensor([[24.0, 8, 56, 24], [32, 0, 64, 32]])                  # the object, the prediction
OBJECTS = torch.tensor([[0, 0, 0.625, 0.25, 0.5, 0.25], [0, 0, 0.625, 0.75, 0.5, 0.25]])


def giou(a, b):
    assert hasattr(shared.boxes, "paired_giou"), "write paired_giou(a, b) beside paired_iou in shared/boxes.py"
    return shared.boxes.paired_giou(a, b)


def test_two_boxes_that_overlap():
    found = giou(PIXELS[0], PIXELS[1]).item()
    assert found == pytest.approx(7 / 30), f"paired_giou gives {found:.4f}; wanted: 1/3 - 1/10 = {7 / 30:.4f}"
    found = giou(PIXELS, PIXELS).tolist()
    assert found == [1, 1], f"paired_giou gives {found} for two pairs of equal boxes; wanted: [1, 1]"


def test_two_boxes_that_do_not():
    # Unit squares, 1 apart: IOU 0, union 2, hull 3 x 1, so GIOU = 0 - (3 - 2)/3 = -1/3. If they are d apart it is
    # -d / (2 + d), whose slope is -2 / (2 + d)^2 = -2/9. The slope of the IOU is 0: it cannot pull them together.
    a, b = torch.tensor([0.0, 0, 1, 1]), torch.tensor([2.0, 0, 3, 1], requires_grad=True)
    value = giou(a, b)
    assert value.item() == pytest.approx(-1 / 3), f"paired_giou gives {value:.4f}; wanted: 0 - (3 - 2)/3 = -0.3333"
    assert value.requires_grad, "paired_giou gives a value without a gradient; wanted: a slope of -2/9"
    slope, = torch.autograd.grad(value, b)
    found = (slope[0] + slope[2]).item()                                     # of a shift to the right: both its edges
    assert found == pytest.approx(-2 / 9), (f"the slope of paired_giou is {found:.4f}; wanted: -2/9 = -0.2222. Is the "
                                            "hull computed with gradients?")


def test_the_term_xy():
    loss = yolov3_loss([torch.zeros(1, 1, 2, 2, 7)], OBJECTS, [[(32, 32)]], [32])
    found, wanted = float(loss["xy"]), 2 * 1.875 * 23 / 30
    assert found == pytest.approx(wanted), (f"xy is {found:.4f}; wanted: 2 x 1.875 (1 - 7/30) = {wanted:.4f}. Change "
                                            "yolov3_loss. Are 2 - w h and GIOU both of shape (R,)?")


def test_the_term_wh():
    loss = yolov3_loss([torch.zeros(1, 1, 2, 2, 7)], OBJECTS, [[(32, 32)]], [32])
    assert isinstance(loss["wh"], torch.Tensor), (f"wh is the number {loss['wh']}; wanted: a tensor. In "
                                                  'yolov3_loss add torch.zeros_like(loss["xy"]) to it')
    found = [value.item() for value in loss.values()]
    assert found[1] == 0, f"wh is {found[1]:.4f}; wanted: 0, because xy holds a box's whole loss. Change yolov3_loss"
    assert found[-1] == pytest.approx(sum(found[:-1])), (f"total is {found[-1]:.4f}; wanted: the sum of the terms, "
                                                         f"{sum(found[:-1]):.4f}")
