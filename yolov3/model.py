"""
The YOLOv3 network: Darknet-53 and a head at three scales.

Paper   "YOLOv3: An Incremental Improvement", Redmon and Farhadi, 2018 (arXiv:1804.02767), sections 2.1 to 2.4.
Source  The paper gives the backbone (Table 1) and describes the head in words. Statements marked [darknet] come from
        cfg/yolov3.cfg and the C code of pjreddie/darknet at f6afaab.

The network divides the image into cells three times, with strides of 32, 16 and 8 pixels. In each cell it predicts
A = 3 boxes. A prediction is t_x, t_y, t_w, t_h, an objectness t_o and C class logits. For a cell in column c_x and row
c_y, and an anchor (the paper: a prior) of p_w x p_h pixels, it means (sections 2.1 and 2.2, Figure 2):

    b_x = sigmoid(t_x) + c_x     b_w = p_w exp(t_w)     Pr(object)         = sigmoid(t_o)
    b_y = sigmoid(t_y) + c_y     b_h = p_h exp(t_h)     Pr(class | object) = sigmoid(logit), for each class separately

b_x, b_y are in cells, b_w, b_h in pixels; decode turns both into fractions of the input. The score of a detection is
Pr(object) Pr(class | object) [darknet].

    python yolov3/model.py     prints the layer table

The network has 61,949,149 parameters for COCO's 80 classes and 61,626,049 for VOC's 20. It takes 65.86 and 65.43
billion operations at 416 x 416; a multiplication and an addition are two.

What changed from yolov2/model.py: Darknet-53 with shortcuts replaces Darknet-19 with max pooling; three scales with 3
anchors each, in pixels, replace one scale with 5, in cells; upsampling replaces the reorg; a sigmoid for each class
replaces the softmax.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from shared.boxes import cxcywh_to_xyxy
from shared.layers import print_layer_table

STRIDES = [32, 16, 8]

# Width and height (section 2.3), one row per stride. They are pixels of the input, whatever its size, and the largest
# three belong to the largest stride [darknet].
ANCHORS = [[(116, 90), (156, 198), (373, 326)],
           [(30, 61), (62, 45), (59, 119)],
           [(10, 13), (16, 30), (33, 23)]]


class ConvBlock(nn.Module):
    """Convolution, BatchNorm, leaky ReLU. (B, in, H, W) -> (B, out, H / stride, W / stride)"""

    def __init__(self, in_channels, out_channels, kernel, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-5, momentum=0.01)  # running average: .99 old + .01 new [darknet]

    def forward(self, x):
        return F.leaky_relu(self.bn(self.conv(x)), 0.1, inplace=True)


class ResidualBlock(nn.Module):
    """A 1 x 1 to half the channels, a 3 x 3 back, and the shortcut. (B, C, H, W) -> (B, C, H, W)"""

    def __init__(self, channels):
        super().__init__()
        self.reduce = ConvBlock(channels, channels // 2, 1)
        self.expand = ConvBlock(channels // 2, channels, 3)

    def forward(self, x):
        return x + self.expand(self.reduce(x))


class Backbone(nn.Module):
    """Darknet-53 up to its last residual block, Table 1 without its last three lines. Each stage halves the size."""

    def __init__(self):
        super().__init__()
        self.stem = ConvBlock(3, 32, 3)
        self.stage1 = nn.Sequential(ConvBlock(32, 64, 3, stride=2), *[ResidualBlock(64) for _ in range(1)])
        self.stage2 = nn.Sequential(ConvBlock(64, 128, 3, stride=2), *[ResidualBlock(128) for _ in range(2)])
        self.stage3 = nn.Sequential(ConvBlock(128, 256, 3, stride=2), *[ResidualBlock(256) for _ in range(8)])
        self.stage4 = nn.Sequential(ConvBlock(256, 512, 3, stride=2), *[ResidualBlock(512) for _ in range(8)])
        self.stage5 = nn.Sequential(ConvBlock(512, 1024, 3, stride=2), *[ResidualBlock(1024) for _ in range(4)])

    def forward(self, x):                                           # (B, 3, H, W)
        x = self.stage2(self.stage1(self.stem(x)))                  # (B, 128, H/4, W/4)
        stride8 = self.stage3(x)                                    # (B, 256, H/8, W/8)
        stride16 = self.stage4(stride8)                             # (B, 512, H/16, W/16)
        stride32 = self.stage5(stride16)                            # (B, 1024, H/32, W/32)
        return stride8, stride16, stride32


def conv_set(in_channels, channels):
    """Five convolutions. The next scale branches off after them, the "2 layers previous" of section 2.3."""
    return nn.Sequential(
        ConvBlock(in_channels, channels, 1),
        ConvBlock(channels, channels * 2, 3),
        ConvBlock(channels * 2, channels, 1),
        ConvBlock(channels, channels * 2, 3),
        ConvBlock(channels * 2, channels, 1))


def detection_layer(channels, outputs):
    """The last two layers of a scale: a 3 x 3 and the linear 1 x 1 convolution that predicts."""
    return nn.Sequential(
        ConvBlock(channels, channels * 2, 3),
        nn.Conv2d(channels * 2, outputs, 1))


class YOLOv3(nn.Module):
    def __init__(self, num_classes=80, anchors=ANCHORS):
        super().__init__()
        outputs = [len(a) * (5 + num_classes) for a in anchors]     # 3 (4 + 1 + 80) = 255 for COCO (section 2.3)
        self.num_classes = num_classes
        self.backbone = Backbone()
        self.neck32 = conv_set(1024, 512)
        self.detect32 = detection_layer(512, outputs[0])
        self.up16 = nn.Sequential(ConvBlock(512, 256, 1), nn.Upsample(scale_factor=2))       # the 1 x 1 is [darknet]
        self.neck16 = conv_set(256 + 512, 256)
        self.detect16 = detection_layer(256, outputs[1])
        self.up8 = nn.Sequential(ConvBlock(256, 128, 1), nn.Upsample(scale_factor=2))
        self.neck8 = conv_set(128 + 256, 128)
        self.detect8 = detection_layer(128, outputs[2])

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in); BatchNorm starts at 1 and 0
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")    # [darknet]
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, H, W)  0..1; H and W divisible by 32
        returns  the raw heads, stride 32 first, each (B, A, H/stride, W/stride, 5 + C): t_x t_y t_w t_h t_o logits
        """
        if images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError(f"YOLOv3 takes images whose sides are divisible by 32, not {tuple(images.shape[2:])}")
        stride8, stride16, stride32 = self.backbone(images)
        x32 = self.neck32(stride32)                                 # (B, 512, H/32, W/32)
        x16 = torch.cat([self.up16(x32), stride16], 1)              # (B, 256 + 512, H/16, W/16)
        x16 = self.neck16(x16)                                      # (B, 256, H/16, W/16)
        x8 = torch.cat([self.up8(x16), stride8], 1)                 # (B, 128 + 256, H/8, W/8)
        x8 = self.neck8(x8)                                         # (B, 128, H/8, W/8)
        heads = []
        for head in self.detect32(x32), self.detect16(x16), self.detect8(x8):                # (B, A (5 + C), h, w)
            head = head.unflatten(1, (-1, 5 + self.num_classes))    # (B, A, 5 + C, h, w)
            heads.append(head.permute(0, 1, 3, 4, 2))               # (B, A, h, w, 5 + C)  h = H/stride, w = W/stride
        return heads


def decode(heads, anchors=ANCHORS, strides=STRIDES):
    """
    Turns the numbers of the heads into boxes and scores.

    heads    as YOLOv3 returns them
    returns  boxes (B, L, 4)   left, top, right, bottom as fractions of the network's input
             scores (B, L, C)  Pr(object) Pr(class | object)
             The L boxes (10,647 at 416 x 416) are in the order of head, anchor, row, column.
    """
    decoded = [decode_head(*args) for args in zip(heads, anchors, strides)]
    boxes, scores = zip(*decoded)
    return torch.cat(boxes, 1), torch.cat(scores, 1)


def decode_head(head, anchors, stride):
    """The same for one of the heads (B, A, H, W, 5 + C), with its A anchors and its stride."""
    head = head.float()                                             # exp needs full precision
    B, A, H, W = head.shape[:4]
    p_wh = head.new_tensor(anchors).view(A, 1, 1, 2)
    c_x, c_y = torch.arange(W, device=head.device), torch.arange(H, device=head.device)
    c_xy = torch.stack(torch.meshgrid(c_x, c_y, indexing="xy"), -1)                          # (H, W, 2)
    cells = head.new_tensor([W, H])
    b_xy = head[..., 0:2].sigmoid() + c_xy                          # (B, A, H, W, 2)  in cells
    b_wh = p_wh * head[..., 2:4].exp()                              # (B, A, H, W, 2)  in pixels
    boxes = torch.cat([b_xy / cells, b_wh / (cells * stride)], -1)  # (B, A, H, W, 4)  as fractions of the input
    boxes = cxcywh_to_xyxy(boxes).flatten(1, 3)                     # (B, A H W, 4)
    scores = (head[..., 4:5].sigmoid() * head[..., 5:].sigmoid()).flatten(1, 3)              # (B, A H W, C)
    return boxes, scores


if __name__ == "__main__":
    print_layer_table(YOLOv3(num_classes=80), height=416, width=416)
