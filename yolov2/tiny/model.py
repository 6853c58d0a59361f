"""
The tiny YOLOv2 network: nine convolutions instead of 23, and no passthrough. For laptops.

Source  Not in the paper. cfg/yolov2-tiny-voc.cfg and cfg/yolov2-tiny.cfg of pjreddie/darknet at f6afaab [darknet].

Its numbers mean what they mean in yolov2/model.py, and the functions there and in yolov2/weights.py work for it too.
NETWORK in yolov2/train.py chooses it; detect.py and evaluate.py recognise it from the file.

    python yolov2/tiny/model.py     prints the layer table

The network has 15,861,773 parameters for VOC's 20 classes. It takes 6.971 billion operations at 416 x 416, a quarter of
YOLOv2's. On VOC 2007 the authors' site reports 57.1 mAP, and 76.8 for YOLOv2. The network for COCO's 80 classes has
half the channels in its last 3 x 3 convolution: 11,232,057 parameters, 5.406 billion operations.

What changed from yolov1/tiny/model.py: anchors; convolutions instead of a fully connected layer.
"""
import torch
import torch.nn as nn

from shared.layers import print_layer_table
from yolov2.model import ANCHORS_2016, ConvBlock

STRIDE = 32
ANCHORS = ANCHORS_2016  # yolov2-tiny-voc.cfg still has them [darknet]. The network for COCO has COCO_ANCHORS


class Backbone(nn.Module):
    """From 16 channels on, each convolution doubles them. Each pooling but the last halves the height and the width."""

    def __init__(self):
        super().__init__()
        self.stage32 = nn.Sequential(
            ConvBlock(3, 16, 3), nn.MaxPool2d(2, 2),
            ConvBlock(16, 32, 3), nn.MaxPool2d(2, 2),
            ConvBlock(32, 64, 3), nn.MaxPool2d(2, 2),
            ConvBlock(64, 128, 3), nn.MaxPool2d(2, 2),
            ConvBlock(128, 256, 3), nn.MaxPool2d(2, 2),
            ConvBlock(256, 512, 3),
            nn.ConstantPad2d((0, 1, 0, 1), -torch.inf), nn.MaxPool2d(2, 1),  # keeps the size: padded right and below
            ConvBlock(512, 1024, 3))

    def forward(self, x):                                           # (B, 3, H, W)
        return self.stage32(x)                                      # (B, 1024, H/32, W/32)


class YOLOv2Tiny(nn.Module):
    def __init__(self, num_classes=20, anchors=ANCHORS, channels=1024):
        super().__init__()
        outputs = len(anchors) * (5 + num_classes)                  # 5 (4 + 1 + 20) = 125 for VOC
        self.num_classes = num_classes
        self.backbone = Backbone()
        self.detect32 = nn.Sequential(ConvBlock(1024, channels, 3), nn.Conv2d(channels, outputs, 1))

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):                        # N(0, 2 / fan-in); BatchNorm starts at 1 and 0
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")    # [darknet]
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, H, W)  0..1; H and W divisible by 32
        returns  the raw head (B, A, H/32, W/32, 5 + C): t_x t_y t_w t_h t_o scores
        """
        if images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError(f"YOLOv2Tiny takes images whose sides are divisible by 32, not {tuple(images.shape[2:])}")
        head = self.detect32(self.backbone(images))                 # (B, A (5 + C), H/32, W/32)
        head = head.unflatten(1, (-1, 5 + self.num_classes))        # (B, A, 5 + C, H/32, W/32)
        return head.permute(0, 1, 3, 4, 2)                          # (B, A, H/32, W/32, 5 + C)


if __name__ == "__main__":
    print_layer_table(YOLOv2Tiny(num_classes=20), height=416, width=416)
