"""
YOLOv1 on a torchvision ResNet: the same grid and the same raw numbers out of another network.

Paper   "Deep Residual Learning for Image Recognition", He et al., 2015 (arXiv:1512.03385), Table 1, for ResNet-18 and
        -34; "You Only Look Once" (arXiv:1506.02640), section 2, for what the numbers mean: yolov1/model.py says it.
Source  torchvision's ResNet. The head is ours.

The ResNet without its average pool and classifier leaves 512 channels at a stride of 32 pixels. In place of YOLOv1's
last four convolutions and its fully connected layers stand three convolutions: a 3 x 3 to the paper's stride of 64, so
that 448 x 448 gives its 7 x 7 cells, another 3 x 3, and the 1 x 1 that predicts. The same weights serve every cell: a
square image may have any side divisible by 64, and 5 million parameters take the place of 249.

Weights pretrained on ImageNet expect colours without the mean, in units of the deviation. That is done here, so that
images are 0..1 as everywhere else.

    python yolov1/resnet/model.py     prints the layer table

Parameters 15,912,542 with ResNet-18, 26,020,702 with ResNet-34, for VOC's 20 classes; 14.97 and 29.77 billion
operations at 448 x 448.

What changed from yolov1/model.py: shortcuts and BatchNorm; a head of convolutions; the last layer gives the numbers
cell by cell, as there is no order of Darknet's to keep.
"""
import torch
import torch.nn as nn
import torchvision

from shared.errors import InputError
from shared.layers import print_layer_table
from yolov1.model import BOXES, STRIDE, ConvBlock

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green, blue [torchvision]


class ResNetYOLOv1(nn.Module):
    def __init__(self, num_classes=20, depth=18, boxes=BOXES, weights=None):
        """depth 18 or 34; weights None for random ones, or "DEFAULT" for torchvision's of ImageNet, downloaded once"""
        super().__init__()
        try:
            resnet = {18: torchvision.models.resnet18, 34: torchvision.models.resnet34}[depth](weights=weights)
        except (OSError, RuntimeError) as error:                    # a failed or a damaged download
            raise InputError(f"ResNet-{depth}: torchvision's {weights} weights could not be loaded ({error}); None "
                             "begins with random ones") from None
        self.backbone = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool,
                                      resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)
        self.detect = nn.Sequential(ConvBlock(512, 512, 3, stride=2, batch_norm=True),
                                    ConvBlock(512, 512, 3, batch_norm=True), nn.Conv2d(512, num_classes + 5 * boxes, 1))
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

        for layer in self.detect.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in), as Darknet's
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        nn.init.normal_(self.detect[-1].weight, std=0.01)           # or it begins with a loss of 200
        nn.init.zeros_(self.detect[-1].bias)

    def forward(self, images):
        """
        images   (B, 3, 64 S, 64 S)  0..1
        returns  the raw numbers (B, S, S, C + 5n): C classes, n confidences, n times x y r_w r_h
        """
        if images.shape[2] != images.shape[3] or images.shape[2] % STRIDE:
            raise ValueError(f"ResNetYOLOv1 takes square images of a side divisible by {STRIDE}, "
                             f"not {tuple(images.shape[2:])}")
        x = self.backbone((images - self.mean) / self.deviation)    # (B, 512, H/32, W/32)
        return self.detect(x).permute(0, 2, 3, 1)                   # (B, S, S, C + 5n)


if __name__ == "__main__":
    print_layer_table(ResNetYOLOv1(num_classes=20), height=448, width=448)
