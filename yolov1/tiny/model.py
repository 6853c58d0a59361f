"""
The tiny YOLOv1 network: eight convolutions and one fully connected layer. For laptops.

Source  cfg/yolov1-tiny.cfg of pjreddie/darknet at f6afaab [darknet], the network whose weights are published. It is not
        the paper's Fast YOLO, of which section 2.1 says no more than that it has 9 convolutions and fewer filters: this
        one has 8, with BatchNorm, which the paper does not have, and no hidden fully connected layer.

What its numbers mean is as in yolov1/model.py; so are the functions that decode them and that read and write weights.
NETWORK in yolov1/train.py chooses it; detect.py and evaluate.py know it by the file.

    python yolov1/tiny/model.py     prints the layer table

Parameters 27,095,374 for VOC's 20 classes; 3.216 billion operations at 448 x 448, a thirteenth of YOLOv1's. On VOC 2007
the paper has 52.7 mAP for Fast YOLO, 63.4 for YOLO.

What changed from yolov1/model.py: all six halvings are poolings, where YOLOv1 has two strides of 2; BatchNorm always;
256 channels and one fully connected layer at the end instead of 1024 and two.
"""
from functools import partial

import torch
import torch.nn as nn

from shared.layers import print_layer_table
from yolov1.model import BOXES, GRID, STRIDE, ConvBlock
from yolov1.model import decode, load_darknet_weights, save_darknet_weights  # for who imports them: the same here


class Backbone(nn.Module):
    """Twice the channels at each convolution, half the height and width at each pooling."""

    def __init__(self):
        super().__init__()
        Conv = partial(ConvBlock, kernel=3, batch_norm=True)
        self.stage64 = nn.Sequential(
            Conv(3, 16), nn.MaxPool2d(2, 2), Conv(16, 32), nn.MaxPool2d(2, 2), Conv(32, 64), nn.MaxPool2d(2, 2),
            Conv(64, 128), nn.MaxPool2d(2, 2), Conv(128, 256), nn.MaxPool2d(2, 2), Conv(256, 512), nn.MaxPool2d(2, 2),
            Conv(512, 1024))

    def forward(self, x):                                           # (B, 3, H, W)
        return self.stage64(x)                                      # (B, 1024, H/64, W/64)


class YOLOv1Tiny(nn.Module):
    def __init__(self, num_classes=20, grid=GRID, boxes=BOXES):
        super().__init__()
        outputs = grid * grid * (num_classes + 5 * boxes)           # 7 7 (20 + 5 2) = 1470 for VOC
        self.num_classes, self.grid, self.boxes = num_classes, grid, boxes
        self.backbone = Backbone()
        self.detect = nn.Sequential(ConvBlock(1024, 256, 3, batch_norm=True), nn.Flatten(),  # channel, row, column
                                    nn.Linear(256 * grid * grid, outputs))

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in); BatchNorm starts at 1 and 0
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")    # [darknet]
            if isinstance(layer, nn.Linear):
                limit = (2 / layer.in_features) ** 0.5
                nn.init.uniform_(layer.weight, -limit, limit)                                # [darknet]
                nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, 64 S, 64 S)  0..1
        returns  the raw numbers (B, S, S, C + 5n): C classes, n confidences, n times x y r_w r_h
        """
        side = STRIDE * self.grid
        if images.shape[2:] != (side, side):
            raise ValueError(f"YOLOv1Tiny with {self.grid} x {self.grid} cells takes images of {side} x {side}, "
                             f"not {tuple(images.shape[2:])}")
        x = self.detect(self.backbone(images))                                             # (B, S S (C + 5n))
        # Darknet's order: the classes of all cells, then the confidences of all cells, then the boxes of all cells.
        cells, parts = self.grid ** 2, (self.num_classes, self.boxes, 4 * self.boxes)
        x = torch.cat([part.unflatten(1, (cells, -1)) for part in x.split([cells * p for p in parts], 1)], 2)
        return x.unflatten(1, (self.grid, self.grid))


if __name__ == "__main__":
    print_layer_table(YOLOv1Tiny(num_classes=20), height=448, width=448)
