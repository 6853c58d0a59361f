"""
YOLOv1 as the authors' later cfg file has it: BatchNorm, and a locally connected layer in place of the layer of 4096.

Source  cfg/yolov1.cfg of pjreddie/darknet at f6afaab and its src/local_layer.c [darknet]. The published yolov1.weights
        belongs to this network, not to the paper's.

A locally connected layer is a convolution whose weights differ from place to place. Each of its S x S outputs has 3 x 3
weights of its own, so a feature may differ from place to place, as in a fully connected layer. At 7 x 7 it has
49 * 256 * 1024 * 9 = 115,605,504 weights, more than half of the network; the paper's layer of 4096 has 50,176 * 4096 =
205,520,896.

The output has the layout and the meaning given in yolov1/model.py. NETWORK in yolov1/train.py chooses the network, and
BOXES in yolov1/model.py the number of boxes for each cell: two files called yolov1.weights are in use, one with 3
boxes, as yolov1.cfg says, and one with 2. yolov1/weights.py tells them apart by their lengths. detect.py and
evaluate.py find the name of the network and the number of boxes in the file that they open. The images are 0..1.

    python yolov1/locally_connected/model.py     prints the layer table

The network has 197,301,875 parameters for VOC's 20 classes and 3 boxes (194,228,350 for 2). It takes 40.42 billion
operations at 448 x 448. The table leaves out the .23 billion of the locally connected layer, as Darknet does, and ends
with the 40.19 billion of the authors' page.

What changed from yolov1/model.py: all convolutions have BatchNorm; the locally connected layer with 256 channels
replaces the fully connected one with 4096 outputs; the cfg file has 3 boxes for each cell instead of 2.
"""
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F

from shared.layers import print_layer_table
from yolov1.model import BOXES, GRID, STRIDE, Backbone, ConvBlock


class LocallyConnected(nn.Module):
    """
    A 3 x 3 convolution, padded by 1, with weights of its own at each of S x S places. Its parameters have the shapes
    and the order of Darknet's file, and the biases one dimension, so that they do not decay (make_optimizer).
    """

    def __init__(self, in_channels, out_channels, grid):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(out_channels * grid * grid))
        self.weight = nn.Parameter(torch.empty(grid * grid, out_channels, in_channels * 9))

    def forward(self, x):                                           # (B, in, S, S)
        windows = F.unfold(x, 3, padding=1)                         # (B, in 3 3, S S)  what each place sees
        y = torch.einsum("poi,bip->bop", self.weight, windows)      # (B, out, S S)  p: place, o: output, i: input
        return y.flatten(1) + self.bias                             # (B, out S S)  in the order of channel, row, column


class YOLOv1Local(nn.Module):
    def __init__(self, num_classes=20, grid=GRID, num_boxes=BOXES):
        super().__init__()
        outputs = grid * grid * (num_classes + 5 * num_boxes)       # 7 * 7 * (20 + 5 * 3) = 1715 for 3 boxes
        Conv = partial(ConvBlock, batch_norm=True)
        self.num_classes, self.grid, self.num_boxes = num_classes, grid, num_boxes
        self.backbone = Backbone(batch_norm=True)
        self.detect = nn.Sequential(
            Conv(1024, 1024, 3),
            Conv(1024, 1024, 3, stride=2),
            Conv(1024, 1024, 3),
            Conv(1024, 1024, 3),
            LocallyConnected(1024, 256, grid),
            nn.LeakyReLU(0.1),
            nn.Dropout(0.5),
            nn.Linear(256 * grid * grid, outputs))

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in); BatchNorm starts at 1 and 0
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")    # [darknet]
            if isinstance(layer, (LocallyConnected, nn.Linear)):    # uniform between +-sqrt(2 / fan-in)
                # In Darknet only the first place of a locally connected layer gets random weights, all others start
                # at 0
                limit = (2 / layer.weight.shape[-1]) ** 0.5
                nn.init.uniform_(layer.weight, -limit, limit)
                nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, 64 S, 64 S)  0..1
        returns  the raw output (B, S, S, C + 5n): C class probabilities, n confidences, n times x y r_w r_h
        """
        S, C, n = self.grid, self.num_classes, self.num_boxes
        if images.shape[2:] != (STRIDE * S, STRIDE * S):
            raise ValueError(f"YOLOv1Local with {S} x {S} cells takes images of {STRIDE * S} x {STRIDE * S}, "
                             f"not {tuple(images.shape[2:])}")
        x = self.detect(self.backbone(images))                      # (B, S S (C + 5n))
        # Darknet's order: the classes of all cells, then the confidences of all cells, then the boxes of all cells.
        classes = x[:, :S * S * C].unflatten(1, (S, S, C))                                   # (B, S, S, C)
        confidences = x[:, S * S * C:S * S * (C + n)].unflatten(1, (S, S, n))                # (B, S, S, n)
        boxes = x[:, S * S * (C + n):].unflatten(1, (S, S, 4 * n))                           # (B, S, S, 4n)
        return torch.cat([classes, confidences, boxes], 3)          # (B, S, S, C + 5n)


if __name__ == "__main__":
    print_layer_table(YOLOv1Local(num_classes=20, num_boxes=3), height=448, width=448)
