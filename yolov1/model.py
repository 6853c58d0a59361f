"""
The YOLOv1 network: 24 convolutions and two fully connected layers, for one grid of cells.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", Redmon, Divvala, Girshick and Farhadi, 2015
        (arXiv:1506.02640), section 2 and Figure 3.
Source  The paper gives every layer (Figure 3). Lines marked [darknet] are read off the C code of pjreddie/darknet at
        f6afaab, and off cfg/yolo.cfg at 8c5364f5, the network of the paper.

The image is divided into S x S cells. Each cell predicts, with plain numbers out of the last layer, C probabilities
Pr(class | object) for the whole cell, and n boxes, the paper's B, of a confidence and four numbers each. In the cell in
column c_x and row c_y a box (x, y, r_w, r_h) means, in fractions of the image (section 2):

    b_x = (x + c_x) / S     b_w = r_w^2     confidence = Pr(object) IOU(b, object)
    b_y = (y + c_y) / S     b_h = r_h^2     score      = Pr(class | object) confidence        (equation 1)

x and y are bounded by nothing. r_w and r_h are the square roots of section 2.2, predicted as such [darknet]: a negative
one has the box of its square. Nor are the factors of a score bounded: two negative ones make a positive score, as in
Darknet.

The paper has no BatchNorm; one constant adds it. Darknet's later cfg/yolov1.cfg is another network: BatchNorm
everywhere, 256 more channels with weights of their own at each place instead of the 4096, and 3 boxes for each cell:
197,301,875 parameters, 40.42 billion operations.

    python yolov1/model.py     prints the layer table

Parameters 271,703,550 for VOC's 20 classes, three quarters of them in one layer, the first fully connected one; 40.57
billion operations at 448 x 448 (the authors' page says 40.19).

What changed from the detectors before, R-CNN and DPM (section 3): no proposals, no sliding window. One network sees the
whole image once and answers with all boxes.
"""
import math
from functools import partial
from itertools import islice

import torch
import torch.nn as nn
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy
from shared.darknet_weights import fold_batchnorm, read_header, read_weights, write_weights
from shared.layers import print_layer_table

STRIDE = 64         # pixels of the input for each cell, across and down
GRID = 7            # S: 7 x 7 cells, so an input of 448 x 448            # paper
BOXES = 2           # n: boxes that each cell predicts                    # paper; 3 in the later yolov1.cfg [darknet]
BATCH_NORM = False  # paper: there was none yet; True in the later yolov1.cfg [darknet]


class ConvBlock(nn.Module):
    """Convolution, BatchNorm if it is wanted, leaky ReLU. (B, in, H, W) -> (B, out, H / stride, W / stride)"""

    def __init__(self, in_channels, out_channels, kernel, stride=1, batch_norm=BATCH_NORM):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=not batch_norm)
        self.bn = None
        if batch_norm:
            self.bn = nn.BatchNorm2d(out_channels, eps=1e-5, momentum=0.01)  # averages: .99 old + .01 new [darknet]

    def forward(self, x):
        x = self.conv(x) if self.bn is None else self.bn(self.conv(x))
        return F.leaky_relu(x, 0.1, inplace=True)


class Backbone(nn.Module):
    """The first 20 convolutions of Figure 3, pretrained on ImageNet (section 2.2). All stages halve."""

    def __init__(self, batch_norm=BATCH_NORM):
        super().__init__()
        Conv = partial(ConvBlock, batch_norm=batch_norm)
        self.stage1 = nn.Sequential(Conv(3, 64, 7, stride=2))
        self.stage2 = nn.Sequential(nn.MaxPool2d(2, 2), Conv(64, 192, 3))
        self.stage3 = nn.Sequential(nn.MaxPool2d(2, 2), Conv(192, 128, 1), Conv(128, 256, 3), Conv(256, 256, 1),
                                    Conv(256, 512, 3))
        self.stage4 = nn.Sequential(nn.MaxPool2d(2, 2), Conv(512, 256, 1), Conv(256, 512, 3), Conv(512, 256, 1),
                                    Conv(256, 512, 3), Conv(512, 256, 1), Conv(256, 512, 3), Conv(512, 256, 1),
                                    Conv(256, 512, 3), Conv(512, 512, 1), Conv(512, 1024, 3))
        self.stage5 = nn.Sequential(nn.MaxPool2d(2, 2), Conv(1024, 512, 1), Conv(512, 1024, 3), Conv(1024, 512, 1),
                                    Conv(512, 1024, 3))

    def forward(self, x):                                           # (B, 3, H, W)
        x = self.stage3(self.stage2(self.stage1(x)))                # (B, 512, H/8, W/8)
        return self.stage5(self.stage4(x))                          # (B, 1024, H/32, W/32)


class YOLOv1(nn.Module):
    def __init__(self, num_classes=20, grid=GRID, boxes=BOXES, batch_norm=BATCH_NORM):
        super().__init__()
        outputs = grid * grid * (num_classes + 5 * boxes)           # 7 7 (20 + 5 2) = 1470 for VOC (section 2)
        Conv = partial(ConvBlock, batch_norm=batch_norm)
        self.num_classes, self.grid, self.boxes = num_classes, grid, boxes
        self.backbone = Backbone(batch_norm)
        self.detect = nn.Sequential(
            Conv(1024, 1024, 3), Conv(1024, 1024, 3, stride=2), Conv(1024, 1024, 3), Conv(1024, 1024, 3),
            nn.Flatten(),                                           # channel, row, column, as in Darknet
            nn.Linear(1024 * grid * grid, 4096), nn.LeakyReLU(0.1), nn.Dropout(0.5), nn.Linear(4096, outputs))

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in); BatchNorm starts at 1 and 0
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")    # [darknet]
            if isinstance(layer, nn.Linear):
                limit = (2 / layer.in_features) ** 0.5
                nn.init.uniform_(layer.weight, -limit, limit)                                # [darknet]
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, 64 S, 64 S)  0..1
        returns  the raw numbers (B, S, S, C + 5n): C classes, n confidences, n times x y r_w r_h
        """
        side = STRIDE * self.grid
        if images.shape[2:] != (side, side):
            raise ValueError(f"YOLOv1 with {self.grid} x {self.grid} cells takes images of {side} x {side}, "
                             f"not {tuple(images.shape[2:])}")
        x = self.detect(self.backbone(images))                                             # (B, S S (C + 5n))
        # Darknet's order: the classes of all cells, then the confidences of all cells, then the boxes of all cells.
        cells, parts = self.grid ** 2, (self.num_classes, self.boxes, 4 * self.boxes)
        x = torch.cat([part.unflatten(1, (cells, -1)) for part in x.split([cells * p for p in parts], 1)], 2)
        return x.unflatten(1, (self.grid, self.grid))


def decode(output, boxes=BOXES):
    """
    output   as YOLOv1 returns it, for n = boxes
    returns  boxes (B, L, 4)   left, top, right, bottom as fractions of the image
             scores (B, L, C)  Pr(class | object) Pr(object) IOU(b, object)
             L counts row, column, box: 98 boxes for 7 x 7 cells
    """
    output = output.float()
    S, C = output.shape[1], output.shape[3] - 5 * boxes
    classes, confidence, x_y_r = output[..., None, :C], output[..., C:C + boxes, None], output[..., C + boxes:]
    x_y_r = x_y_r.unflatten(3, (boxes, 4))                          # (B, S, S, n, 4)
    c_xy = torch.stack(torch.meshgrid(torch.arange(S), torch.arange(S), indexing="xy"), -1).to(output.device)
    b_xy = (x_y_r[..., 0:2] + c_xy[:, :, None]) / S                 # (B, S, S, n, 2)
    b_wh = x_y_r[..., 2:4].square()                                 # (B, S, S, n, 2)
    corners = cxcywh_to_xyxy(torch.cat([b_xy, b_wh], -1)).flatten(1, 3)
    scores = (classes * confidence).flatten(1, 3)
    return corners, scores


def darknet_order(model):
    """The numbers of a .weights file: layer by layer as in yolo.cfg, which is the order of the layers above."""
    for layer in model.modules():
        if isinstance(layer, ConvBlock) and layer.bn is not None:
            yield from [layer.bn.bias, layer.bn.weight, layer.bn.running_mean, layer.bn.running_var, layer.conv.weight]
        elif isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
            yield from [layer.bias, layer.weight]


@torch.no_grad()
def load_darknet_weights(model, path):
    """
    Copies a .weights file into the model: the whole network, or its backbone alone. BatchNorm that the file has and the
    model has not, as extraction.weights and the paper's network, is folded into the convolutions. Returns the images
    seen.
    """
    tensors = list(darknet_order(model))
    folded = {id(layer.conv.bias) for layer in model.modules() if isinstance(layer, ConvBlock) and layer.bn is None}
    shapes = {"this network": [tensor.shape for tensor in tensors],             # four vectors in the place of a bias:
              "with BatchNorm": [tensor.shape for tensor in tensors for _ in range(4 if id(tensor) in folded else 1)]}
    counts = {kind: sum(map(math.prod, each)) for kind, each in shapes.items()}
    classifier = 1000 + 1000 * 1024 if isinstance(model, Backbone) else 0    # ImageNet's: may follow, and is not read
    and_classifier = {f"{kind} and a classifier": count + classifier for kind, count in counts.items() if classifier}
    kind = read_header(path, counts | and_classifier)[0].removesuffix(" and a classifier")
    windows, seen = read_weights(path, shapes[kind], classifier)
    if kind == "with BatchNorm":
        rest = iter(windows)
        windows = (window for bias in tensors[::2] for window in             # for each bias and its weights
                   (fold_batchnorm(*islice(rest, 5)) if id(bias) in folded else islice(rest, 2)))
    for tensor, window in zip(tensors, windows):
        tensor.copy_(window)
    return seen


def save_darknet_weights(model, path, seen=0):
    """Writes a .weights file that Darknet reads; seen: the number of images that the model was trained on."""
    write_weights(path, darknet_order(model), seen)


if __name__ == "__main__":
    print_layer_table(YOLOv1(num_classes=20), height=448, width=448)
