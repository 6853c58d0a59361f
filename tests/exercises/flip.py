"""
Exercise 3 of yolov3/README.md: detect in the image and in its mirror image, and merge the detections.

The network of this test sees only the left half of its input. If that half is red, it finds a cow in row 0, column 0 of
2 x 2 cells of 32 pixels: t_x = -log 3, so its centre is at sigmoid(t_x) = 1/4 of the first cell across, and at 1/2 of
it down; the size is the anchor's, 8 x 16. In fractions of the input of 64 x 64: centre (1/8, 1/4), size 1/8 x 1/4.
The first image, 100 x 100 pixels, is red on the right:

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

The second image is red on the left, so the network finds the cow in the image itself, from 6.25 to 18.75 across.
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
    annotations, nothing = [], (np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool))
    for name, red in ("a.png", slice(50, 100)), ("b.png", slice(0, 50)):
        pixels = np.zeros((100, 100, 3), np.uint8)
        pixels[:, red, 0] = 255
        Image.fromarray(pixels).save(tmp_path / name)
        annotations.append(Annotation(tmp_path / name, 100, 100, *nothing))
    detections, _ = detect_all(SeesTheLeftHalf(), annotations, 64, [[(8, 16)]], torch.device("cpu"), workers=0)
    in_mirror, in_image = [detections[detections[:, 0] == n, 3:].tolist() for n in (0, 1)]       # boxes

    where = "detect_all of yolov3/evaluate.py"
    assert len(in_mirror) == 1, (f"{len(in_mirror)} detections in the first image; wanted: the one that is found in "
                                 f"its mirror image. Change {where}")
    wanted = [81.25, 12.5, 93.75, 37.5]
    assert in_mirror[0] == pytest.approx(wanted, abs=1e-3), (f"the box of the mirror image is {in_mirror[0]}; "
                                                             f"wanted: {wanted}. Change {where}")
    wanted = [6.25, 12.5, 18.75, 37.5]
    assert in_image == [pytest.approx(wanted, abs=1e-3)], (f"the boxes of the second image are {in_image}; wanted: "
                                                           f"{[wanted]}, from the image itself. Change {where}")
