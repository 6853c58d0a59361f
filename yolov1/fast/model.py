"""
Fast YOLO, the paper's small network: nine convolutions and three fully connected layers.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", section 2.1: "fewer convolutional layers (9 instead
        of 24) and fewer filters in those layers". On VOC 2007 the paper reports 52.7 mAP for it and 63.4 for YOLO, at
        155 instead of 45 images per second.
Source  The paper does not list the layers. They are those of cfg/yolo-tiny.cfg of pjreddie/darknet at eaf033c0
        (2015-11-09) [darknet].

Six poolings bring 448 x 448 to 7 x 7. The last three convolutions keep that size. The cfg file begins with a [crop]
layer, which maps the images to -1..1. Here this is a part of the network, which takes images of 0..1 as all others do.

The output has the layout and the meaning given in yolov1/model.py. NETWORK in yolov1/train.py chooses the network.
detect.py and evaluate.py find its name in the file that they open. The authors' file is called yolo-tiny.weights.

    python yolov1/fast/model.py     prints the layer table

The network has 45,089,374 parameters for VOC's 20 classes, 19.9 million of them in fully connected layers. It takes
4.837 billion operations at 448 x 448, an eighth of YOLOv1's.

What changed from yolov1/model.py: there are nine convolutions, all 3 x 3, instead of 24; all six halvings are poolings;
a linear layer of 256 stands before the one of 4096.
"""
from functools import partial

import torch
import torch.nn as nn

from shared.layers import print_layer_table
from yolov1.model import BOXES, GRID, STRIDE, ConvBlock


class Backbone(nn.Module):
    """Seven convolutions; from the second on each doubles the channels. Each pooling halves the height and width."""

    def __init__(self):
        super().__init__()
        Conv = partial(ConvBlock, kernel=3, batch_norm=False)
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


class FastYOLO(nn.Module):
    def __init__(self, num_classes=20, grid=GRID, num_boxes=BOXES):
        super().__init__()
        outputs = grid * grid * (num_classes + 5 * num_boxes)       # 7 * 7 * (20 + 5 * 2) = 1470 for VOC
        Conv = partial(ConvBlock, kernel=3, batch_norm=False)
        self.num_classes, self.grid, self.num_boxes = num_classes, grid, num_boxes
        self.backbone = Backbone()
        self.detect = nn.Sequential(
            Conv(1024, 1024),
            Conv(1024, 1024),
            nn.Flatten(),                                           # in the order of channel, row, column [darknet]
            nn.Linear(1024 * grid * grid, 256),                     # linear: no activation follows [darknet]
            nn.Linear(256, 4096),
            nn.LeakyReLU(0.1),
            nn.Dropout(0.5),
            nn.Linear(4096, outputs))

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in)
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")    # [darknet]
            if isinstance(layer, nn.Linear):                        # uniform between +-sqrt(2 / fan-in)
                limit = (2 / layer.in_features) ** 0.5
                nn.init.uniform_(layer.weight, -limit, limit)                                # [darknet]
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, 64 S, 64 S)  0..1
        returns  the raw output (B, S, S, C + 5n): C class probabilities, n confidences, n times x y r_w r_h
        """
        S, C, n = self.grid, self.num_classes, self.num_boxes
        if images.shape[2:] != (STRIDE * S, STRIDE * S):
            raise ValueError(f"FastYOLO with {S} x {S} cells takes images of {STRIDE * S} x {STRIDE * S}, "
                             f"not {tuple(images.shape[2:])}")
        x = self.detect(self.backbone(2 * images - 1))              # (B, S S (C + 5n))  [crop]: -1..1 [darknet]
        # Darknet's order: the classes of all cells, then the confidences of all cells, then the boxes of all cells.
        classes = x[:, :S * S * C].unflatten(1, (S, S, C))                                   # (B, S, S, C)
        confidences = x[:, S * S * C:S * S * (C + n)].unflatten(1, (S, S, n))                # (B, S, S, n)
        boxes = x[:, S * S * (C + n):].unflatten(1, (S, S, 4 * n))                           # (B, S, S, 4n)
        return torch.cat([classes, confidences, boxes], 3)          # (B, S, S, C + 5n)


if __name__ == "__main__":
    print_layer_table(FastYOLO(num_classes=20), height=448, width=448)
