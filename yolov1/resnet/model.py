"""
YOLOv1 on a torchvision ResNet: another network with the same grid and the same outputs.

Paper   "Deep Residual Learning for Image Recognition", He et al., 2015 (arXiv:1512.03385), Table 1, for ResNet-18 and
        -34; "You Only Look Once" (arXiv:1506.02640), section 2, for the meaning of the outputs (see yolov1/model.py).
Source  torchvision's ResNet. The head is ours.

The ResNet without its average pool and classifier has 512 channels at a stride of 32 pixels. Three convolutions follow
in place of YOLOv1's last four and its fully connected layers: a 3 x 3 with a stride of 2, so that 448 x 448 pixels
become 7 x 7 cells, another 3 x 3, and the 1 x 1 that predicts. Every cell uses the same weights. Therefore the input is
a square of any side divisible by 64, and these layers have 5 million parameters instead of 249 million.

Weights that were pretrained on ImageNet expect colours from which the mean is subtracted and which are divided by the
standard deviation. forward does this, so that images are 0..1 as for the other networks.

    python yolov1/resnet/model.py     prints the layer table

For VOC's 20 classes it has 15,912,542 parameters with ResNet-18 and 26,020,702 with ResNet-34. It takes 14.97 and 29.77
billion operations at 448 x 448.

What changed from yolov1/model.py: there are shortcuts and BatchNorm; the head has convolutions only; the last layer
predicts cell by cell, because there is no order of Darknet's to keep.
"""
import torch
import torch.nn as nn
import torchvision

from shared.errors import InputError
from shared.layers import print_layer_table
from yolov1.model import BOXES, STRIDE, ConvBlock

MEAN = (0.485, 0.456, 0.406)       # of ImageNet's red, green, blue, as torchvision has them
DEVIATION = (0.229, 0.224, 0.225)


class ResNetYOLOv1(nn.Module):
    def __init__(self, num_classes=20, depth=18, num_boxes=BOXES, weights=None):
        """depth: 18 or 34. weights: None, or "DEFAULT" for torchvision's of ImageNet, downloaded once."""
        super().__init__()
        try:
            if depth == 18:
                resnet = torchvision.models.resnet18(weights=weights)
            else:
                resnet = torchvision.models.resnet34(weights=weights)
        except (OSError, RuntimeError) as error:                    # a failed or a damaged download
            raise InputError(f"ResNet-{depth}: torchvision's {weights} weights could not be loaded ({error}). None "
                             "starts from random weights") from None
        self.backbone = nn.Sequential(
            resnet.conv1,
            resnet.bn1,
            resnet.relu,
            resnet.maxpool,
            resnet.layer1,
            resnet.layer2,
            resnet.layer3,
            resnet.layer4)
        self.detect = nn.Sequential(
            ConvBlock(512, 512, 3, stride=2, batch_norm=True),
            ConvBlock(512, 512, 3, batch_norm=True),
            nn.Conv2d(512, num_classes + 5 * num_boxes, 1))
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

        for layer in self.detect.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in), as in Darknet
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        nn.init.normal_(self.detect[-1].weight, std=0.01)           # small, or the first loss is about 200
        nn.init.zeros_(self.detect[-1].bias)

    def forward(self, images):
        """
        images   (B, 3, 64 S, 64 S)  0..1
        returns  the raw output (B, S, S, C + 5n): C class probabilities, n confidences, n times x y r_w r_h
        """
        if images.shape[2] != images.shape[3] or images.shape[2] % STRIDE:
            raise ValueError(f"ResNetYOLOv1 takes square images of a side divisible by {STRIDE}, "
                             f"not {tuple(images.shape[2:])}")
        x = self.backbone((images - self.mean) / self.deviation)    # (B, 512, H/32, W/32)
        return self.detect(x).permute(0, 2, 3, 1)                   # (B, S, S, C + 5n)


if __name__ == "__main__":
    print_layer_table(ResNetYOLOv1(num_classes=20), height=448, width=448)
