"""
Darknet-53: the classifier whose first 52 convolutions become YOLOv3's backbone.

Paper   "YOLOv3: An Incremental Improvement", Redmon and Farhadi, 2018 (arXiv:1804.02767), section 2.4, Table 1.
Source  Statements marked [darknet] come from cfg/darknet53.cfg and the C code of pjreddie/darknet at f6afaab.

The network consists of residual blocks: a 1 x 1 convolution halves the number of channels, a 3 x 3 convolution doubles
it again, and the block's input is added to the result. Five times a 3 x 3 convolution with a stride of 2 halves the
image and doubles the number of channels. Global average pooling comes before the last layer, so the input may have any
size.

    python yolov3/darknet53/model.py     prints the layer table

The network has 41,609,928 parameters for ImageNet's 1000 classes. It takes 18.57 billion operations at 256 x 256. The
paper's 18.7 (Table 2) is the number for a last layer before the average, at each of 8 x 8 places, as in Darknet-19;
Table 1 and darknet53.cfg have it after the average.

What changed from yolov2/darknet19/model.py: there are 53 layers instead of 19; residual blocks have shortcuts;
convolutions with a stride of 2 replace max pooling; the last layer comes after the average. The network takes 18.57
billion operations at 256 x 256 instead of 7.29.
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


class ResidualBlock(nn.Module):
    """A 1 x 1 to half the channels, a 3 x 3 back, and the shortcut. (B, C, H, W) -> (B, C, H, W)"""

    def __init__(self, channels):
        super().__init__()
        self.reduce = ConvBlock(channels, channels // 2, 1)
        self.expand = ConvBlock(channels // 2, channels, 3)

    def forward(self, x):
        return x + self.expand(self.reduce(x))


class Darknet53(nn.Module):
    """Table 1. Backbone in yolov3/model.py has the same stages."""

    def __init__(self, num_classes=1000):
        super().__init__()
        self.stem = ConvBlock(3, 32, 3)
        self.stage1 = nn.Sequential(ConvBlock(32, 64, 3, stride=2), *[ResidualBlock(64) for _ in range(1)])
        self.stage2 = nn.Sequential(ConvBlock(64, 128, 3, stride=2), *[ResidualBlock(128) for _ in range(2)])
        self.stage3 = nn.Sequential(ConvBlock(128, 256, 3, stride=2), *[ResidualBlock(256) for _ in range(8)])
        self.stage4 = nn.Sequential(ConvBlock(256, 512, 3, stride=2), *[ResidualBlock(512) for _ in range(8)])
        self.stage5 = nn.Sequential(ConvBlock(512, 1024, 3, stride=2), *[ResidualBlock(1024) for _ in range(4)])
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
        x = self.stem(images)                                       # (B, 32, H, W)
        x = self.stage1(x)                                          # (B, 64, H/2, W/2)
        x = self.stage2(x)                                          # (B, 128, H/4, W/4)
        x = self.stage3(x)                                          # (B, 256, H/8, W/8)
        x = self.stage4(x)                                          # (B, 512, H/16, W/16)
        x = self.stage5(x)                                          # (B, 1024, H/32, W/32)
        x = x.mean((2, 3), keepdim=True)                            # (B, 1024, 1, 1)  global average pooling
        return self.classify(x).flatten(1)                          # (B, C)


if __name__ == "__main__":
    print_layer_table(Darknet53(num_classes=1000), height=256, width=256)
