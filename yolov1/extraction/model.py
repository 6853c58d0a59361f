"""
Extraction: the classifier whose 20 first convolutions become YOLOv1's backbone.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", Redmon, Divvala, Girshick and Farhadi, 2015
        (arXiv:1506.02640), sections 2.1, 2.2 and Figure 3. The name is Darknet's.
Source  Lines marked [darknet] are read off cfg/extraction.cfg and the C code of pjreddie/darknet at f6afaab.

3 x 3 convolutions, and before most of them a 1 x 1 convolution that reduces the channels. The paper averages what the
20th gives and connects it fully to the classes. So does an early extraction.cfg (at 42ba5d4), with a leaky ReLU at the
end; the later one has a 1 x 1 convolution with the leaky ReLU, then the average. Without that ReLU the two would be the
same. The later one here, so that the authors' weights mean the same.

The paper has no BatchNorm; the later extraction.cfg has it. BATCH_NORM below chooses.

    python yolov1/extraction/model.py     prints the layer table

Parameters 23,428,136 for ImageNet's 1000 classes, 23,437,224 with BatchNorm; 8.52 billion operations at 224 x 224.

What changed from GoogLeNet, by which it is inspired: 1 x 1 convolutions followed by 3 x 3 ones instead of the inception
modules (section 2.1).
"""
import math
from functools import partial
from itertools import islice

import torch
import torch.nn as nn
import torch.nn.functional as F

from shared.darknet_weights import fold_batchnorm, read_header, read_weights, write_weights
from shared.layers import print_layer_table

BATCH_NORM = False  # paper; True [darknet]. A backbone.pt fits the detector whose BATCH_NORM, in model.py, is the same


class ConvBlock(nn.Module):
    """Convolution, BatchNorm if it is wanted, leaky ReLU. (B, in, H, W) -> (B, out, H / stride, W / stride)"""

    def __init__(self, in_channels, out_channels, kernel, stride=1, batch_norm=BATCH_NORM):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=not batch_norm)
        self.bn = None
        if batch_norm:
            self.bn = nn.BatchNorm2d(out_channels, eps=1e-5, momentum=0.01)  # averages: .99 old + .01 new [darknet]

    def forward(self, x):
        x = self.conv(x) if self.bn is None else self.bn(self.conv(x))
        return F.leaky_relu(x, 0.1, inplace=True)


class Extraction(nn.Module):
    """Figure 3's first 20 convolutions. The stages have the names that they have in yolov1/model.py's Backbone."""

    def __init__(self, num_classes=1000, batch_norm=BATCH_NORM):
        super().__init__()
        Conv = partial(ConvBlock, batch_norm=batch_norm)
        self.stage1 = nn.Sequential(Conv(3, 64, 7, stride=2))
        self.stage2 = nn.Sequential(nn.MaxPool2d(2, 2), Conv(64, 192, 3))
        self.stage3 = nn.Sequential(nn.MaxPool2d(2, 2), Conv(192, 128, 1), Conv(128, 256, 3), Conv(256, 256, 1),
                                    Conv(256, 512, 3))
        self.stage4 = nn.Sequential(nn.MaxPool2d(2, 2), Conv(512, 256, 1), Conv(256, 512, 3), Conv(512, 256, 1),
                                    Conv(256, 512, 3), Conv(512, 256, 1), Conv(256, 512, 3), Conv(512, 256, 1),
                                    Conv(256, 512, 3), Conv(512, 512, 1), Conv(512, 1024, 3))
        self.stage5 = nn.Sequential(nn.MaxPool2d(2, 2), Conv(1024, 512, 1), Conv(512, 1024, 3), Conv(1024, 512, 1),
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
        x = F.leaky_relu(self.classify(x), 0.1)                     # (B, C, H/32, W/32)  leaky here too [darknet]
        return x.mean((2, 3))                                       # (B, C)  global average pooling


def darknet_order(model):
    """The numbers of a .weights file: layer by layer as in extraction.cfg, which is the order of the layers above."""
    for layer in model.modules():
        if isinstance(layer, ConvBlock) and layer.bn is not None:
            yield from [layer.bn.bias, layer.bn.weight, layer.bn.running_mean, layer.bn.running_var, layer.conv.weight]
        elif isinstance(layer, nn.Conv2d) and layer.bias is not None:        # no BatchNorm
            yield from [layer.bias, layer.weight]


@torch.no_grad()
def load_darknet_weights(model, path):
    """
    Copies a .weights file into the model: BatchNorm that the file has and the model has not, as extraction.weights
    and the paper's network, is folded into the convolutions. Returns the images seen.
    """
    tensors = list(darknet_order(model))
    folded = {id(layer.conv.bias) for layer in model.modules() if isinstance(layer, ConvBlock) and layer.bn is None}
    shapes = {"this network": [tensor.shape for tensor in tensors],             # four vectors in the place of a bias:
              "with BatchNorm": [tensor.shape for tensor in tensors for _ in range(4 if id(tensor) in folded else 1)]}
    kind, *_ = read_header(path, {kind: sum(map(math.prod, each)) for kind, each in shapes.items()})
    windows, seen = read_weights(path, shapes[kind])
    if kind == "with BatchNorm":
        rest = iter(windows)
        windows = (window for bias in tensors[::2] for window in             # for each bias and its weights
                   (fold_batchnorm(*islice(rest, 5)) if id(bias) in folded else islice(rest, 2)))
    for tensor, window in zip(tensors, windows):
        tensor.copy_(window)
    return seen


def save_darknet_weights(model, path, seen=0):
    """Writes a .weights file that Darknet reads; seen: the number of images that the model was trained on."""
    write_weights(path, darknet_order(model), seen)


if __name__ == "__main__":
    print_layer_table(Extraction(num_classes=1000), height=224, width=224)
