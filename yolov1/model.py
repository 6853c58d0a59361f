"""
The YOLOv1 network: 24 convolutions and two fully connected layers, for one grid of cells.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", Redmon, Divvala, Girshick and Farhadi, 2015
        (arXiv:1506.02640), section 2 and Figure 3.
Source  The paper gives every layer (Figure 3). Statements marked [darknet] come from the C code of pjreddie/darknet at
        f6afaab and from cfg/yolo.cfg at 8c5364f5, which is the network of the paper.

The network divides the image into S x S cells. In each cell it predicts n boxes (the paper's B) and one set of C class
probabilities p, which the boxes share. For each box it predicts x, y, r_w, r_h and a confidence c. For a cell in column
c_x and row c_y they mean (section 2; r_w and r_h section 2.2):

    b_x = (x + c_x) / S     b_w = r_w^2     Pr(object) IOU(b, object) = c
    b_y = (y + c_y) / S     b_h = r_h^2     Pr(class | object)        = p, for the whole cell

b_x, b_y, b_w, b_h are fractions of the image. The score of a detection is Pr(class | object) Pr(object) IOU(b, object)
(equation 1).

The last layer is linear (section 2.2), so nothing is bounded. The targets of x and y are between 0 and 1, the outputs
need not be. r_w and r_h are the square roots, which the network predicts itself, as the text of section 2.2 says and
Darknet does (equation (3) instead takes the root of a predicted w); a negative root means the same box as a positive
one. A negative c times a negative p gives a positive score, as in Darknet.

The paper has no BatchNorm; BATCH_NORM adds it. Darknet's later cfg/yolov1.cfg is another network: it has BatchNorm,
predicts 3 boxes in each cell, and replaces the layer of 4096 by a locally connected layer with 256 channels. It is in
yolov1/locally_connected/model.py.

    python yolov1/model.py     prints the layer table

The network has 271,703,550 parameters for VOC's 20 classes. Three quarters of them are in the first fully connected
layer. It takes 40.57 billion operations at 448 x 448; a multiplication and an addition are two. The 40.19 billion of
the authors' page are those of cfg/yolov1.cfg without its locally connected layer.

What changed from the detectors before, R-CNN and DPM (section 3): there are no region proposals and no sliding window.
One network sees the whole image once and predicts all boxes.
"""
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy
from shared.layers import print_layer_table

STRIDE = 64         # pixels of the input for each cell, across and down
GRID = 7            # S: 7 x 7 cells, so an input of 448 x 448 [paper]
BOXES = 2           # n: boxes that each cell predicts [paper]; Darknet: 3 in yolov1.cfg
BATCH_NORM = False  # [paper]; Darknet: True in yolov1.cfg


class ConvBlock(nn.Module):
    """Convolution, BatchNorm if batch_norm, leaky ReLU. (B, in, H, W) -> (B, out, H / stride, W / stride)"""

    def __init__(self, in_channels, out_channels, kernel, stride=1, batch_norm=BATCH_NORM):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=not batch_norm)
        self.bn = None
        if batch_norm:
            self.bn = nn.BatchNorm2d(out_channels, eps=1e-5, momentum=0.01)  # average: .99 old + .01 new [darknet]

    def forward(self, x):
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return F.leaky_relu(x, 0.1, inplace=True)


class Backbone(nn.Module):
    """The first 20 convolutions of Figure 3, pretrained on ImageNet (section 2.2). Each stage halves the image."""

    def __init__(self, batch_norm=BATCH_NORM):
        super().__init__()
        Conv = partial(ConvBlock, batch_norm=batch_norm)
        self.stage1 = nn.Sequential(Conv(3, 64, 7, stride=2))
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2, 2),
            Conv(64, 192, 3))
        self.stage3 = nn.Sequential(
            nn.MaxPool2d(2, 2),
            Conv(192, 128, 1),
            Conv(128, 256, 3),
            Conv(256, 256, 1),
            Conv(256, 512, 3))
        self.stage4 = nn.Sequential(
            nn.MaxPool2d(2, 2),
            Conv(512, 256, 1),
            Conv(256, 512, 3),
            Conv(512, 256, 1),
            Conv(256, 512, 3),
            Conv(512, 256, 1),
            Conv(256, 512, 3),
            Conv(512, 256, 1),
            Conv(256, 512, 3),
            Conv(512, 512, 1),
            Conv(512, 1024, 3))
        self.stage5 = nn.Sequential(
            nn.MaxPool2d(2, 2),
            Conv(1024, 512, 1),
            Conv(512, 1024, 3),
            Conv(1024, 512, 1),
            Conv(512, 1024, 3))

    def forward(self, x):                                           # (B, 3, H, W)
        x = self.stage2(self.stage1(x))                             # (B, 192, H/4, W/4)
        x = self.stage4(self.stage3(x))                             # (B, 1024, H/16, W/16)
        return self.stage5(x)                                       # (B, 1024, H/32, W/32)


class YOLOv1(nn.Module):
    centred = False     # True: map the images to -1..1, which a .weights file of 2015 expects (yolov1/weights.py)

    def __init__(self, num_classes=20, grid=GRID, num_boxes=BOXES, batch_norm=BATCH_NORM):
        super().__init__()
        outputs = grid * grid * (num_classes + 5 * num_boxes)       # 7 * 7 * (20 + 5 * 2) = 1470 for VOC (section 2)
        Conv = partial(ConvBlock, batch_norm=batch_norm)
        self.num_classes, self.grid, self.num_boxes = num_classes, grid, num_boxes
        self.backbone = Backbone(batch_norm)
        self.detect = nn.Sequential(
            Conv(1024, 1024, 3),
            Conv(1024, 1024, 3, stride=2),
            Conv(1024, 1024, 3),
            Conv(1024, 1024, 3),
            nn.Flatten(),                                           # in the order of channel, row, column [darknet]
            nn.Linear(1024 * grid * grid, 4096),
            nn.LeakyReLU(0.1),
            nn.Dropout(0.5),
            nn.Linear(4096, outputs))

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in); BatchNorm starts at 1 and 0
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")    # [darknet]
            if isinstance(layer, nn.Linear):                        # uniform between +-sqrt(2 / fan-in)
                limit = (2 / layer.in_features) ** 0.5
                nn.init.uniform_(layer.weight, -limit, limit)                                # [darknet]
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, 64 S, 64 S)  0..1
        returns  the raw output (B, S, S, C + 5n): C class probabilities, n confidences, n times x y r_w r_h
        """
        S, C, n = self.grid, self.num_classes, self.num_boxes
        if images.shape[2:] != (STRIDE * S, STRIDE * S):
            raise ValueError(f"YOLOv1 with {S} x {S} cells takes images of {STRIDE * S} x {STRIDE * S}, "
                             f"not {tuple(images.shape[2:])}")
        if self.centred:
            images = 2 * images - 1
        x = self.detect(self.backbone(images))                      # (B, S S (C + 5n))
        # Darknet's order: the classes of all cells, then the confidences of all cells, then the boxes of all cells.
        classes = x[:, :S * S * C].unflatten(1, (S, S, C))                                   # (B, S, S, C)
        confidences = x[:, S * S * C:S * S * (C + n)].unflatten(1, (S, S, n))                # (B, S, S, n)
        boxes = x[:, S * S * (C + n):].unflatten(1, (S, S, 4 * n))                           # (B, S, S, 4n)
        return torch.cat([classes, confidences, boxes], 3)          # (B, S, S, C + 5n)


def decode(output, num_boxes=BOXES):
    """
    Turns the numbers of the output into boxes and scores.

    output   as YOLOv1 returns it, with n = num_boxes
    returns  boxes (B, L, 4)   left, top, right, bottom as fractions of the image
             scores (B, L, C)  Pr(class | object) Pr(object) IOU(b, object)
             The L boxes (98 for 7 x 7 cells) are in the order of row, column, box.
    """
    output = output.float()
    S = output.shape[1]
    C, n = output.shape[3] - 5 * num_boxes, num_boxes
    p = output[..., :C].unsqueeze(3)                                # (B, S, S, 1, C)
    c = output[..., C:C + n].unsqueeze(4)                           # (B, S, S, n, 1)
    t = output[..., C + n:].unflatten(3, (n, 4))                    # (B, S, S, n, 4)  x, y, r_w, r_h
    c_x, c_y = torch.arange(S, device=output.device), torch.arange(S, device=output.device)
    c_xy = torch.stack(torch.meshgrid(c_x, c_y, indexing="xy"), -1).unsqueeze(2)             # (S, S, 1, 2)
    b_xy = (t[..., 0:2] + c_xy) / S                                 # (B, S, S, n, 2)
    b_wh = t[..., 2:4].square()                                     # (B, S, S, n, 2)
    boxes = cxcywh_to_xyxy(torch.cat([b_xy, b_wh], -1)).flatten(1, 3)                        # (B, L, 4)
    scores = (p * c).flatten(1, 3)                                  # (B, L, C)
    return boxes, scores


if __name__ == "__main__":
    print_layer_table(YOLOv1(num_classes=20), height=448, width=448)
