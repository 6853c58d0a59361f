"""
Darknet-19: the classifier whose first 18 convolutions become YOLOv2's backbone.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 3, Table 6.
Source  Statements marked [darknet] come from cfg/darknet19.cfg and the C code of pjreddie/darknet at f6afaab.

The network consists of 3 x 3 convolutions, which double the number of channels after each of five poolings, and of
1 x 1 convolutions between them, which halve it. BatchNorm follows every convolution but the last. Global average
pooling takes the place of fully connected layers, so the input may have any size.

    python yolov2/darknet19/model.py     prints the layer table

The network has 20,842,376 parameters for ImageNet's 1000 classes. It takes 5.58 billion operations at 224 x 224, 7.29
at 256 x 256 and 22.33 at 448 x 448.

What changed from yolov1/extraction/model.py: there are 19 convolutions instead of 21; all but the last have BatchNorm;
the first is a 3 x 3 instead of a 7 x 7; the last is linear. The network takes 5.58 billion operations instead of 8.52.
"""
import torch.nn as nn
import torch.nn.functional as F

from shared.layers import print_layer_table


class ConvBlock(nn.Module):
    """Convolution, BatchNorm, leaky ReLU. (B, in, H, W) -> (B, out, H / stride, W / stride)"""

    def __init__(self, in_channels, out_channels, kernel, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-5, momentum=0.01)  # running average: .99 old + .01 new [darknet]

    def forward(self, x):
        return F.leaky_relu(self.bn(self.conv(x)), 0.1, inplace=True)


class Darknet19(nn.Module):
    """Table 6. Backbone in yolov2/model.py has the same stages."""

    def __init__(self, num_classes=1000):
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
        self.classify = nn.Conv2d(1024, num_classes, 1)             # linear, with a bias, no BatchNorm [darknet]

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
        x = self.stage1(images)                                     # (B, 32, H, W)
        x = self.stage2(x)                                          # (B, 64, H/2, W/2)
        x = self.stage3(x)                                          # (B, 128, H/4, W/4)
        x = self.stage4(x)                                          # (B, 256, H/8, W/8)
        x = self.stage5(x)                                          # (B, 512, H/16, W/16)
        x = self.stage6(x)                                          # (B, 1024, H/32, W/32)
        x = self.classify(x)                                        # (B, C, H/32, W/32)
        return x.mean((2, 3))                                       # (B, C)  global average pooling


if __name__ == "__main__":
    print_layer_table(Darknet19(num_classes=1000), height=224, width=224)
