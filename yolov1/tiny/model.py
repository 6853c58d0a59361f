"""
The tiny YOLOv1 network: eight convolutions and one fully connected layer. It suits laptops.

Source  cfg/yolov1-tiny.cfg of pjreddie/darknet at f6afaab [darknet]. Its weights are published.

This is not the paper's Fast YOLO, which has nine convolutions without BatchNorm and three fully connected layers
(yolov1/fast/model.py), but Darknet's later small network.

Its output means what yolov1/model.py says. NETWORK in yolov1/train.py chooses it. detect.py and evaluate.py find the
name of the network in the file that they open.

    python yolov1/tiny/model.py     prints the layer table

The network has 27,095,374 parameters for VOC's 20 classes. It takes 3.216 billion operations at 448 x 448, a thirteenth
of YOLOv1's.

What changed from yolov1/model.py: all six halvings are poolings, where YOLOv1 has two convolutions with a stride of 2;
there is always BatchNorm; the end has 256 channels and one fully connected layer instead of 1024 and two.
"""
from functools import partial

import torch
import torch.nn as nn

from shared.layers import print_layer_table
from yolov1.model import BOXES, GRID, STRIDE, ConvBlock


class Backbone(nn.Module):
    """Each convolution doubles the channels, each pooling halves the height and width."""

    def __init__(self):
        super().__init__()
        Conv = partial(ConvBlock, kernel=3, batch_norm=True)
        self.stage64 = nn.Sequential(
            Conv(3, 16),
            nn.MaxPool2d(2, 2),
            Conv(16, 32),
            nn.MaxPool2d(2, 2),
            Conv(32, 64),
            nn.MaxPool2d(2, 2),
            Conv(64, 128),
            nn.MaxPool2d(2, 2),
            Conv(128, 256),
            nn.MaxPool2d(2, 2),
            Conv(256, 512),
            nn.MaxPool2d(2, 2),
            Conv(512, 1024))

    def forward(self, x):                                           # (B, 3, H, W)
        return self.stage64(x)                                      # (B, 1024, H/64, W/64)


class YOLOv1Tiny(nn.Module):
    def __init__(self, num_classes=20, grid=GRID, num_boxes=BOXES):
        super().__init__()
        outputs = grid * grid * (num_classes + 5 * num_boxes)       # 7 * 7 * (20 + 5 * 2) = 1470 for VOC
        self.num_classes, self.grid, self.num_boxes = num_classes, grid, num_boxes
        self.backbone = Backbone()
        self.detect = nn.Sequential(
            ConvBlock(1024, 256, 3, batch_norm=True),
            nn.Flatten(),                                           # in the order of channel, row, column [darknet]
            nn.Linear(256 * grid * grid, outputs))

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in); BatchNorm starts at 1 and 0
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")    # [darknet]
            if isinstance(layer, nn.Linear):                        # uniform between +-sqrt(2 / fan-in)
                limit = (2 / layer.in_features) ** 0.5
                nn.init.uniform_(layer.weight, -limit, limit)                                # [darknet]
                nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, 64 S, 64 S)  0..1
        returns  the raw output (B, S, S, C + 5n): C class probabilities, n confidences, n times x y r_w r_h
        """
        S, C, n = self.grid, self.num_classes, self.num_boxes
        if images.shape[2:] != (STRIDE * S, STRIDE * S):
            raise ValueError(f"YOLOv1Tiny with {S} x {S} cells takes images of {STRIDE * S} x {STRIDE * S}, "
                             f"not {tuple(images.shape[2:])}")
        x = self.detect(self.backbone(images))                      # (B, S S (C + 5n))
        # Darknet's order: the classes of all cells, then the confidences of all cells, then the boxes of all cells.
        classes = x[:, :S * S * C].unflatten(1, (S, S, C))                                   # (B, S, S, C)
        confidences = x[:, S * S * C:S * S * (C + n)].unflatten(1, (S, S, n))                # (B, S, S, n)
        boxes = x[:, S * S * (C + n):].unflatten(1, (S, S, 4 * n))                           # (B, S, S, 4n)
        return torch.cat([classes, confidences, boxes], 3)          # (B, S, S, C + 5n)


if __name__ == "__main__":
    print_layer_table(YOLOv1Tiny(num_classes=20), height=448, width=448)
