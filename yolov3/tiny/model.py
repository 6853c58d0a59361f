"""
The tiny YOLOv3 network: 13 convolutions instead of 75, and heads at two scales instead of three. For laptops.

Source  Not in the paper. cfg/yolov3-tiny.cfg of pjreddie/darknet at f6afaab [darknet].

Its numbers mean what they mean in yolov3/model.py, and the functions there and in yolov3/weights.py work for it too.
NETWORK in yolov3/train.py chooses it; detect.py and evaluate.py recognise it from the file.

    python yolov3/tiny/model.py     prints the layer table

The network has 8,852,366 parameters for COCO's 80 classes. It takes 5.565 billion operations at 416 x 416, a twelfth of
YOLOv3's. On COCO the README of AlexeyAB's Darknet reports 33.1 AP50 for it, and 55.3 for YOLOv3.

What changed from yolov2/tiny/model.py: there is a second scale, and a 1 x 1 convolution before the heads.
"""
import torch
import torch.nn as nn

from shared.layers import print_layer_table
from yolov3.model import ConvBlock, detection_layer

STRIDES = [32, 16]
ANCHORS = [[(81, 82), (135, 169), (344, 319)],  # width, height in pixels of the network's input; one row per stride
           [(10, 14), (23, 27), (37, 58)]]      # Darknet: (23, 27), (37, 58), (81, 82) in the first version (481d9d9)


class Backbone(nn.Module):
    """Each convolution doubles the channels, each pooling but the last halves the height and the width."""

    def __init__(self):
        super().__init__()
        self.stage16 = nn.Sequential(
            ConvBlock(3, 16, 3), nn.MaxPool2d(2, 2),
            ConvBlock(16, 32, 3), nn.MaxPool2d(2, 2),
            ConvBlock(32, 64, 3), nn.MaxPool2d(2, 2),
            ConvBlock(64, 128, 3), nn.MaxPool2d(2, 2),
            ConvBlock(128, 256, 3))
        self.stage32 = nn.Sequential(
            nn.MaxPool2d(2, 2),
            ConvBlock(256, 512, 3),
            nn.ConstantPad2d((0, 1, 0, 1), -torch.inf), nn.MaxPool2d(2, 1),  # keeps the size: padded right and below
            ConvBlock(512, 1024, 3))

    def forward(self, x):                                           # (B, 3, H, W)
        stride16 = self.stage16(x)                                  # (B, 256, H/16, W/16)
        stride32 = self.stage32(stride16)                           # (B, 1024, H/32, W/32)
        return stride16, stride32


class YOLOv3Tiny(nn.Module):
    def __init__(self, num_classes=80, anchors=ANCHORS):
        super().__init__()
        outputs = [len(a) * (5 + num_classes) for a in anchors]     # 3 (4 + 1 + 80) = 255 for COCO
        self.num_classes = num_classes
        self.backbone = Backbone()
        self.neck32 = ConvBlock(1024, 256, 1)
        self.detect32 = detection_layer(256, outputs[0])
        self.up16 = nn.Sequential(ConvBlock(256, 128, 1), nn.Upsample(scale_factor=2))
        self.detect16 = nn.Sequential(ConvBlock(128 + 256, 256, 3), nn.Conv2d(256, outputs[1], 1))

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
            raise ValueError(f"YOLOv3Tiny takes images whose sides are divisible by 32, not {tuple(images.shape[2:])}")
        stride16, stride32 = self.backbone(images)
        x32 = self.neck32(stride32)                                 # (B, 256, H/32, W/32)
        x16 = torch.cat([self.up16(x32), stride16], 1)              # (B, 128 + 256, H/16, W/16)  upsampled first
        heads = []
        for head in self.detect32(x32), self.detect16(x16):         # (B, A (5 + C), h, w)
            head = head.unflatten(1, (-1, 5 + self.num_classes))    # (B, A, 5 + C, h, w)
            heads.append(head.permute(0, 1, 3, 4, 2))               # (B, A, h, w, 5 + C)  h = H/stride, w = W/stride
        return heads


if __name__ == "__main__":
    print_layer_table(YOLOv3Tiny(num_classes=80), height=416, width=416)
