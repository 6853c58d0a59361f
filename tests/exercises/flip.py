"""
Exercise 3 of yolov3/README.md: detect in the image and in its mirror image, and merge the detections.

The network of this test sees only the left half of its input. Where that is red, it finds a cow in row 0, column 0 of
2 x 2 cells of 32 pixels: t_x = -log 3, so its centre is at sigmoid(t_x) = 1/4 of the first cell across, and at 1/2 of
it down; the size is the anchor's, 8 x 16. In fractions of the input of 64 x 64: centre (1/8, 1/4), size 1/8 x 1/4.
The image, 100 x 100 pixels, is red on the right:

    0               50             100                  0               50             100
    +---------------+---------------+                   +---------------+---------------+
    |               |###############|                   |##+-+##########|               |
    |               |###############|     mirrored      |##| |##########|               |
    |               |###############|                   |##+-+##########|               |
    |               |###############|                   |###############|               |
    +---------------+---------------+                   +---------------+---------------+

In the mirror image the box goes from 12.5 - 6.25 = 6.25 to 12.5 + 6.25 = 18.75 across, and from 25 - 12.5 = 12.5 to
25 + 12.5 = 37.5 down. In the image itself that is 100 - 18.75 = 81.25 to 100 - 6.25 = 93.75 across. A box whose left
and right edges did not change places would go from 93.75 to 81.25.
"""
from math import log

import numpy as np
import pytest
import torch
from PIL import Image

from shared.voc import Annotation
from yolov3.evaluate import detect_all


class SeesTheLeftHalf(torch.nn.Module):
    def forward(self, images):
        head = torch.full((len(images), 1, 2, 2, 25), -20.0)                     # (B, A, H, W, 5 + C)
        head[:, 0, 0, 0, :4] = torch.tensor([-log(3), 0, 0, 0])
        head[:, 0, 0, 0, 4] = 40 * images[:, 0, :, :32].mean((1, 2)) - 20        # -20 if it is black, 20 if it is red
        head[:, 0, 0, 0, 5 + 9] = 20                                             # class 9, a cow
        return [head]


def test_the_mirror_image_is_searched_too(tmp_path):
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:, 50:, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    annotation = Annotation(tmp_path / "a.png", 100, 100, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool))
    detections, _ = detect_all(SeesTheLeftHalf(), [annotation], 64, [[(8, 16)]], torch.device("cpu"), workers=0)
    assert len(detections) == 1, f"{len(detections)} detections; wanted: the one that is found in the mirror image"
    box = detections[0, 3:].tolist()
    wanted = [81.25, 12.5, 93.75, 37.5]
    assert box == pytest.approx(wanted, abs=1e-3), f"the box is {box}; wanted: {wanted}"
