"""
YOLOv3's head on a torchvision ResNeXt-50: the same outputs from another backbone.

Paper   "Aggregated Residual Transformations for Deep Neural Networks", Xie et al., 2016 (arXiv:1611.05431), Table 1,
        for ResNeXt-50 (32 x 4d). "YOLOv3: An Incremental Improvement", section 2.3, for the head: its parts and its
        decode are in yolov3/model.py.
Source  torchvision's resnext50_32x4d.

Without its average pool and its classifier the ResNeXt has 512, 1024 and 2048 channels at strides of 8, 16 and 32
pixels, twice as many as Darknet-53. The head is the paper's.

Weights that were trained on ImageNet expect each colour less its mean and divided by its standard deviation. The
backbone does that itself, so that images are 0..1 as in the other networks.

    python yolov3/resnext_coco/model.py     prints the layer table

The network has 45,032,253 parameters for COCO's 80 classes. It takes 99.40 billion operations at 608 x 608 (YOLOv3:
140.69).

What changed from yolov3/model.py: the backbone. The first convolution of each scale therefore takes twice as many
channels from it.
"""
import torch
import torch.nn as nn
import torchvision

from shared.errors import InputError
from shared.layers import print_layer_table
from yolov3.model import ANCHORS, ConvBlock, conv_set, detection_layer

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green, blue [torchvision]


class Backbone(nn.Module):
    """ResNeXt-50 (32 x 4d) without its average pool and classifier."""

    def __init__(self, weights=None):
        super().__init__()
        try:
            resnext = torchvision.models.resnext50_32x4d(weights=weights)
        except (OSError, RuntimeError, KeyError) as error:          # a failed or damaged download, or a wrong name
            raise InputError(f"ResNeXt-50: torchvision's {weights} weights could not be loaded ({error}); None starts "
                             "with random ones") from None
        self.stem = nn.Sequential(resnext.conv1, resnext.bn1, resnext.relu, resnext.maxpool)
        self.stage2, self.stage3 = resnext.layer1, resnext.layer2
        self.stage4, self.stage5 = resnext.layer3, resnext.layer4
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, images):                                      # (B, 3, H, W)
        x = self.stem((images - self.mean) / self.deviation)        # (B, 64, H/4, W/4)
        stride8 = self.stage3(self.stage2(x))                       # (B, 512, H/8, W/8)
        stride16 = self.stage4(stride8)                             # (B, 1024, H/16, W/16)
        stride32 = self.stage5(stride16)                            # (B, 2048, H/32, W/32)
        return stride8, stride16, stride32


class ResNeXtYOLOv3(nn.Module):
    def __init__(self, num_classes=80, anchors=ANCHORS, weights=None):
        """weights: of the backbone: None for random ones, or "DEFAULT" for torchvision's of ImageNet (a download)"""
        super().__init__()
        outputs = [len(a) * (5 + num_classes) for a in anchors]     # 3 (4 + 1 + 80) = 255 for COCO
        self.num_classes = num_classes
        self.neck32 = conv_set(2048, 512)
        self.detect32 = detection_layer(512, outputs[0])
        self.up16 = nn.Sequential(ConvBlock(512, 256, 1), nn.Upsample(scale_factor=2))
        self.neck16 = conv_set(256 + 1024, 256)
        self.detect16 = detection_layer(256, outputs[1])
        self.up8 = nn.Sequential(ConvBlock(256, 128, 1), nn.Upsample(scale_factor=2))
        self.neck8 = conv_set(128 + 512, 128)
        self.detect8 = detection_layer(128, outputs[2])

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in), as in yolov3/model.py
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.backbone = Backbone(weights)                           # last, because it has its own initialization

    def forward(self, images):
        """
        images   (B, 3, H, W)  0..1; H and W divisible by 32
        returns  the raw heads, stride 32 first, each (B, A, H/stride, W/stride, 5 + C): t_x t_y t_w t_h t_o scores
        """
        if images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError("ResNeXtYOLOv3 takes images whose sides are divisible by 32, not "
                             f"{tuple(images.shape[2:])}")
        stride8, stride16, stride32 = self.backbone(images)
        x32 = self.neck32(stride32)                                 # (B, 512, H/32, W/32)
        x16 = torch.cat([self.up16(x32), stride16], 1)              # (B, 256 + 1024, H/16, W/16)  upsampled first
        x16 = self.neck16(x16)                                      # (B, 256, H/16, W/16)
        x8 = torch.cat([self.up8(x16), stride8], 1)                 # (B, 128 + 512, H/8, W/8)
        x8 = self.neck8(x8)                                         # (B, 128, H/8, W/8)
        heads = []
        for head in self.detect32(x32), self.detect16(x16), self.detect8(x8):                # (B, A (5 + C), H, W)
            head = head.unflatten(1, (-1, 5 + self.num_classes))    # (B, A, 5 + C, H, W)
            heads.append(head.permute(0, 1, 3, 4, 2))               # (B, A, H, W, 5 + C)
        return heads


if __name__ == "__main__":
    print_layer_table(ResNeXtYOLOv3(num_classes=80), height=608, width=608)
