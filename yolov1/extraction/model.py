"""
Extraction: the classifier whose first 20 convolutions become YOLOv1's backbone.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", Redmon, Divvala, Girshick and Farhadi, 2015
        (arXiv:1506.02640), sections 2.1, 2.2 and Figure 3. The name is Darknet's.
Source  Statements marked [darknet] come from cfg/extraction.cfg and the C code of pjreddie/darknet at f6afaab.

The network consists of 3 x 3 convolutions. Before most of them a 1 x 1 convolution reduces the number of channels. It
differs from the paper in its last layer, and in BatchNorm if that is chosen:

    last layer   The paper averages the output of the 20th convolution over the image and connects the average fully to
                 the classes (section 2.2). An early extraction.cfg (at 42ba5d4) does the same, with a leaky ReLU at the
                 end. The later extraction.cfg has a 1 x 1 convolution with a leaky ReLU, and averages after it; without
                 the ReLU this would equal the paper's. We follow the later one, because the authors' weights belong to
                 it.
    BatchNorm    The paper has none. The later extraction.cfg has it. BATCH_NORM below chooses.

    python yolov1/extraction/model.py     prints the layer table

The network has 23,428,136 parameters for ImageNet's 1000 classes, and 23,437,224 with BatchNorm. It takes 8.52 billion
operations at 224 x 224.

What changed from GoogLeNet, the model for this network (section 2.1): 1 x 1 convolutions followed by 3 x 3 ones replace
the inception modules.
"""
from functools import partial

import torch.nn as nn
import torch.nn.functional as F

from shared.layers import print_layer_table

BATCH_NORM = False  # [paper]  Darknet: True. backbone.pt fits a detector whose BATCH_NORM, in yolov1/model.py, is equal


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


class Extraction(nn.Module):
    """Figure 3's first 20 convolutions and a layer for the classes. Backbone in yolov1/model.py has the same stages."""

    def __init__(self, num_classes=1000, batch_norm=BATCH_NORM):
        super().__init__()
        Conv = partial(ConvBlock, batch_norm=batch_norm)
        self.stage1 = nn.Sequential(
            Conv(3, 64, 7, stride=2))
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
        self.classify = nn.Conv2d(1024, num_classes, 1)             # with a bias, no BatchNorm [darknet]

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in); BatchNorm starts at 1 and 0
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")    # [darknet]
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, H, W)  0..1; H and W at least 32
        returns  (B, C)        logits: a softmax makes them probabilities
        """
        x = self.stage1(images)                                     # (B, 64, H/2, W/2)
        x = self.stage2(x)                                          # (B, 192, H/4, W/4)
        x = self.stage3(x)                                          # (B, 512, H/8, W/8)
        x = self.stage4(x)                                          # (B, 1024, H/16, W/16)
        x = self.stage5(x)                                          # (B, 1024, H/32, W/32)
        x = F.leaky_relu(self.classify(x), 0.1)                     # (B, C, H/32, W/32)  leaky here, too [darknet]
        return x.mean((2, 3))                                       # (B, C)  global average pooling


if __name__ == "__main__":
    print_layer_table(Extraction(num_classes=1000), height=224, width=224)
