"""
The YOLOv2 network: Darknet-19, a passthrough from stride 16, and a head with anchors.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), sections 2 and 3.
Source  The paper gives the backbone (Table 6) and describes the head in words. Statements marked [darknet] come from
        cfg/yolov2-voc.cfg, cfg/yolov2.cfg and the C code of pjreddie/darknet at f6afaab.

The network divides the image into cells once, with a stride of 32 pixels. In each cell it predicts A = 5 boxes. A
prediction is t_x, t_y, t_w, t_h, an objectness t_o and C class logits. For a cell in column c_x and row c_y, and an
anchor (the paper: a prior) of p_w x p_h cells, it means (section 2, "Direct location prediction", Figure 3):

    b_x = sigmoid(t_x) + c_x     b_w = p_w exp(t_w)     Pr(object) IOU(b, object) = sigmoid(t_o)
    b_y = sigmoid(t_y) + c_y     b_h = p_h exp(t_h)     Pr(class | object)        = softmax(logits)

b_x, b_y, b_w, b_h are in cells; decode divides them by the number of cells. The softmax is [darknet]: the paper does
not say how the class probabilities are made. The score of a detection is Pr(object) IOU(b, object) Pr(class | object).

Darknet changed YOLOv2 in March 2017, three months after the paper. This file has both networks. They differ in the
passthrough and in the anchors; yolov2/README.md says what else changed.

    since March 2017  YOLOv2(num_classes, ANCHORS). In the passthrough, a 1 x 1 convolution turns 26 x 26 x 512 into
                      26 x 26 x 64, which reorg turns into 13 x 13 x 256. The published weights need this network.
    2016, the paper   YOLOv2(num_classes, ANCHORS_2016, passthrough_channels=None). Reorg alone turns 26 x 26 x 512 into
                      13 x 13 x 2048.

    python yolov2/model.py     prints the layer table of the network since March 2017

The network since March 2017 has 50,962,889 parameters for COCO's 80 classes and 50,655,389 for VOC's 20. It takes 29.46
and 29.36 billion operations at 416 x 416; a multiplication and an addition are two. The network of 2016 has 67,137,565
parameters for VOC and takes 34.90 billion operations.

What changed from yolov1/model.py: a smaller backbone, with BatchNorm; convolutions instead of two fully connected
layers, so the sides of the input may be any multiple of 32; 5 anchors in each cell, each with its own classes; the
passthrough.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy
from shared.layers import print_layer_table

STRIDE = 32
# Width and height in cells, whatever the input's size. anchors.py computes the anchors of your own data
ANCHORS = [(1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892), (9.47112, 4.84053),
           (11.2364, 10.0071)]            # VOC, since March 2017: yolov2-voc.cfg [darknet]
COCO_ANCHORS = [(0.57273, 0.677385), (1.87446, 2.06253), (3.33843, 5.47434), (7.88282, 3.52778),
                (9.77052, 9.16828)]       # COCO, since March 2017: yolov2.cfg [darknet]
ANCHORS_2016 = [(1.08, 1.19), (3.42, 4.41), (6.63, 11.38), (9.42, 5.11),
                (16.62, 10.52)]           # VOC, at the paper's time: yolo-voc.2.0.cfg [darknet]
COCO_ANCHORS_2016 = [(0.738768, 0.874946), (2.42204, 2.65704), (4.30971, 7.04493), (10.246, 4.59428),
                     (12.6868, 11.8741)]  # COCO, at the paper's time: yolo.2.0.cfg [darknet]


class ConvBlock(nn.Module):
    """Convolution, BatchNorm, leaky ReLU. (B, in, H, W) -> (B, out, H / stride, W / stride)"""

    def __init__(self, in_channels, out_channels, kernel, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-5, momentum=0.01)  # running average: .99 old + .01 new [darknet]

    def forward(self, x):
        return F.leaky_relu(self.bn(self.conv(x)), 0.1, inplace=True)


class Backbone(nn.Module):
    """Darknet-19 up to its last 3 x 3: Table 6 without its last three lines. Stages 2 to 6 each halve the image."""

    def __init__(self):
        super().__init__()
        self.stage1 = nn.Sequential(ConvBlock(3, 32, 3))
        self.stage2 = nn.Sequential(
            nn.MaxPool2d(2, 2),
            ConvBlock(32, 64, 3))
        self.stage3 = nn.Sequential(
            nn.MaxPool2d(2, 2),
            ConvBlock(64, 128, 3),
            ConvBlock(128, 64, 1),
            ConvBlock(64, 128, 3))
        self.stage4 = nn.Sequential(
            nn.MaxPool2d(2, 2),
            ConvBlock(128, 256, 3),
            ConvBlock(256, 128, 1),
            ConvBlock(128, 256, 3))
        self.stage5 = nn.Sequential(
            nn.MaxPool2d(2, 2),
            ConvBlock(256, 512, 3),
            ConvBlock(512, 256, 1),
            ConvBlock(256, 512, 3),
            ConvBlock(512, 256, 1),
            ConvBlock(256, 512, 3))
        self.stage6 = nn.Sequential(
            nn.MaxPool2d(2, 2),
            ConvBlock(512, 1024, 3),
            ConvBlock(1024, 512, 1),
            ConvBlock(512, 1024, 3),
            ConvBlock(1024, 512, 1),
            ConvBlock(512, 1024, 3))

    def forward(self, x):                                           # (B, 3, H, W)
        x = self.stage3(self.stage2(self.stage1(x)))                # (B, 128, H/4, W/4)
        stride16 = self.stage5(self.stage4(x))                      # (B, 512, H/16, W/16)
        stride32 = self.stage6(stride16)                            # (B, 1024, H/32, W/32)
        return stride16, stride32


class Reorg(nn.Module):
    """
    Darknet's reorg: half the height and width, four times the channels. (B, C, H, W) -> (B, 4 C, H / 2, W / 2)

    The paper means that each 2 x 2 square becomes one cell with four times the channels ("stacking adjacent features
    into different channels"). That is F.pixel_unshuffle(x, 2). Darknet's reorg (src/blas.c) does something else, a
    known bug, which is kept because the published weights were trained with it. It reads the numbers of the map as if
    their shape were (C/4, 2H, 2W), turns each 2 x 2 square of that map into one cell, which gives (C, H, W), and reads
    the result as if its shape were (4 C, H/2, W/2). tests/test_yolov2_model.py shows it on a map of 4 x 4.

    So all values of a cell come from its own two columns, but only half of them from its own two rows. If the number of
    cells is odd, as in 13 x 13, a quarter comes from the row above these two and a quarter from the row below them; at
    the upper and lower edge the map's other edge takes the place of the missing row. If the number is even, as in
    10 x 10, the other half comes from the row below in the 1st, 3rd, ... row of cells, and from the row above in the
    2nd, 4th, ...
    """

    def forward(self, x):
        B, C, H, W = x.shape
        x = x.reshape(B, C // 4, H, 2, W, 2)                        # 2H rows and 2W columns, in squares of 2 x 2
        x = x.permute(0, 3, 5, 1, 2, 4)                             # (B, 2, 2, C/4, H, W)
        return x.reshape(B, C * 4, H // 2, W // 2)


class YOLOv2(nn.Module):
    """
    passthrough_channels: outputs of the 1 x 1 convolution before the reorg [darknet, March 2017]. None: there is no
    such convolution, and all 512 channels are reorganized [paper].
    """

    def __init__(self, num_classes=20, anchors=ANCHORS, passthrough_channels=64):
        super().__init__()
        outputs = len(anchors) * (5 + num_classes)                  # 5 (4 + 1 + 20) = 125 for VOC (section 3)
        self.num_classes = num_classes
        self.backbone = Backbone()
        self.neck32 = nn.Sequential(ConvBlock(1024, 1024, 3), ConvBlock(1024, 1024, 3))
        if passthrough_channels is None:                            # paper, Darknet of 2016
            reorg_channels = 512
            self.passthrough = Reorg()
        else:                                                       # [darknet], since March 2017
            reorg_channels = passthrough_channels
            self.passthrough = nn.Sequential(ConvBlock(512, passthrough_channels, 1), Reorg())
        self.detect32 = nn.Sequential(ConvBlock(4 * reorg_channels + 1024, 1024, 3), nn.Conv2d(1024, outputs, 1))

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in); BatchNorm starts at 1 and 0
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")    # [darknet]
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, H, W)  0..1; H and W divisible by 32
        returns  the raw head (B, A, H/32, W/32, 5 + C): t_x t_y t_w t_h t_o logits
        """
        if images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError(f"YOLOv2 takes images whose sides are divisible by 32, not {tuple(images.shape[2:])}")
        stride16, stride32 = self.backbone(images)
        x32 = self.neck32(stride32)                                 # (B, 1024, H/32, W/32)
        x32 = torch.cat([self.passthrough(stride16), x32], 1)       # (B, 1280 or 3072, H/32, W/32)  passthrough first
        head = self.detect32(x32)                                   # (B, A (5 + C), H/32, W/32)
        head = head.unflatten(1, (-1, 5 + self.num_classes))        # (B, A, 5 + C, H/32, W/32)
        return head.permute(0, 1, 3, 4, 2)                          # (B, A, H/32, W/32, 5 + C)


def decode(head, anchors=ANCHORS):
    """
    Turns the numbers of the head into boxes and scores.

    head     (B, A, H, W, 5 + C) as YOLOv2 returns it; H and W count cells here
    returns  boxes (B, L, 4)   left, top, right, bottom as fractions of the network's input
             scores (B, L, C)  Pr(object) IOU(b, object) Pr(class | object)
             The L boxes (845 at 416 x 416) are in the order of anchor, row, column.
    """
    head = head.float()                                             # exp needs full precision
    B, A, H, W = head.shape[:4]
    p_wh = head.new_tensor(anchors).view(A, 1, 1, 2)
    c_x, c_y = torch.arange(W, device=head.device), torch.arange(H, device=head.device)
    c_xy = torch.stack(torch.meshgrid(c_x, c_y, indexing="xy"), -1)                          # (H, W, 2)
    cells = head.new_tensor([W, H])
    b_xy = head[..., 0:2].sigmoid() + c_xy                          # (B, A, H, W, 2)  in cells
    b_wh = p_wh * head[..., 2:4].exp()                              # (B, A, H, W, 2)  in cells
    boxes = torch.cat([b_xy / cells, b_wh / cells], -1)             # (B, A, H, W, 4)  as fractions of the input
    boxes = cxcywh_to_xyxy(boxes).flatten(1, 3)                     # (B, A H W, 4)
    scores = (head[..., 4:5].sigmoid() * head[..., 5:].softmax(-1)).flatten(1, 3)            # (B, A H W, C)
    return boxes, scores


if __name__ == "__main__":
    print_layer_table(YOLOv2(num_classes=20), height=416, width=416)
