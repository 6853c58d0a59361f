"""
A YOLOv3 of any size: the network that a JSON file describes.

Paper   "YOLOv3: An Incremental Improvement", sections 2.3 and 2.4, for the parts: yolov3/model.py has them, and its
        decode reads the boxes. Their number, width and order are the file's.

    num_classes             C
    image_size              of the input, a square, in pixels
    backbone_layers         in order, each one of
                              {"Downsample": {"in_channels": .., "out_channels": ..}}    3 x 3, stride 2
                              {"ResidualBlock": {"num_blocks": .., "channels": ..}}      that many, one after the other
    anchors                 width, height as fractions of the image, the largest area first
    num_anchors_per_scale   A
    num_detection_layers    the heads

A stage is a Downsample and the residual blocks behind it. The last stage has the coarsest head, the one before it the
next: after three Downsamples the strides of two heads are 8 and 4. The first A anchors are the first head's. From head
to head as in the paper (2.3): the five convolutions of a set halve the stage's channels; from there a 1 x 1 convolution
halves them again, they are upsampled to twice the size, and put before the channels of the stage above. With
Darknet-53's channels and three heads this is the paper's pyramid.

smol.json has 127,150 parameters, YOLOv3 61,949,149. Its image fills the input whatever its shape (dataset.py), so that
fractions of the image are fractions of the input.

    python yolov3/smol_svhn/model.py     prints the layer table of smol.json

What changed from yolov3/model.py: the backbone is read from a file; the first convolution halves the image; as many
heads and anchors as the file says.
"""
import json
import sys
from pathlib import Path

import torch
import torch.nn as nn

from shared.errors import InputError
from shared.layers import print_layer_table
from yolov3.model import ConvBlock, ResidualBlock, conv_set, detection_layer

CONFIG = Path(__file__).with_name("smol.json")

KEYS = ["num_classes", "image_size", "backbone_layers", "anchors", "num_anchors_per_scale", "num_detection_layers"]
LAYERS = {"Downsample": ["in_channels", "out_channels"], "ResidualBlock": ["num_blocks", "channels"]}


def read_config(path):
    """The dict in the JSON file at path. InputError, naming the file and the key, for what makes no network."""
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{path}: no such file") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    check_config(config, path)
    return config


def check_config(config, path):
    def wanted(condition, message):
        if not condition:
            raise InputError(f"{path}: {message}")

    def whole(value):
        return type(value) is int and value > 0                             # True is no number here

    def has_keys(value, keys, where):
        wanted(isinstance(value, dict), f"{where} has to be an object with {', '.join(keys)}")
        for key in keys:
            wanted(key in value, f"{where} lacks {key}")
        for key in value:
            wanted(key in keys, f"{where} has an unknown key, {key}")

    has_keys(config, KEYS, "the file")
    for key in KEYS:
        if key not in ("backbone_layers", "anchors"):
            wanted(whole(config[key]), f"{key} has to be a whole number above 0, not {config[key]!r}")

    layers, channels, stages = config["backbone_layers"], 3, 0
    wanted(isinstance(layers, list), "backbone_layers has to be a list")
    for n, layer in enumerate(layers):
        where = f"backbone_layers[{n}]"
        kind = next(iter(layer)) if isinstance(layer, dict) and len(layer) == 1 else None
        wanted(kind in LAYERS, f"{where} has to be one {' or '.join(LAYERS)}")
        layer = layer[kind]
        has_keys(layer, LAYERS[kind], f"{where} {kind}")
        for key, value in layer.items():
            wanted(whole(value), f"{where} {kind} {key} has to be a whole number above 0, not {value!r}")
        wanted(kind == "Downsample" or stages, f"{where} {kind} comes before the first Downsample")
        given = layer["in_channels" if kind == "Downsample" else "channels"]
        wanted(given == channels, f"{where} {kind} takes {given} channels, but the layer before it gives {channels}")
        if kind == "Downsample":
            channels, stages = layer["out_channels"], stages + 1
            wanted(channels % 4 == 0, f"{where} Downsample out_channels {channels} cannot be halved twice for a head")

    size, heads = config["image_size"], config["num_detection_layers"]
    wanted(stages >= heads, f"num_detection_layers {heads} is more than the {stages} Downsamples of backbone_layers")
    wanted(size % 2 ** stages == 0, f"image_size {size} cannot be halved by {stages} Downsamples")
    anchors, count = config["anchors"], config["num_anchors_per_scale"] * heads
    wanted(isinstance(anchors, list) and len(anchors) == count,
           f"anchors has to be a list of num_anchors_per_scale x num_detection_layers = {count}"
           + (f", not {len(anchors)}" if isinstance(anchors, list) else ""))
    for n, anchor in enumerate(anchors):
        wanted(isinstance(anchor, list) and len(anchor) == 2
               and all(type(side) in (int, float) and 0 < side <= 1 for side in anchor),
               f"anchors[{n}] has to be a width and a height above 0, at most 1, not {anchor!r}")
        wanted(n == 0 or anchor[0] * anchor[1] <= anchors[n - 1][0] * anchors[n - 1][1],
               f"anchors[{n}] is larger than the one before it; the largest comes first")


class SmolYOLOv3(nn.Module):
    """
    config   as read_config returns it
    anchors  (width, height) in pixels of the input, a list for each head, as yolov3_loss and decode want them
    strides  pixels per cell, one per head, the largest first
    """

    def __init__(self, config):
        super().__init__()
        size, A, heads = config["image_size"], config["num_anchors_per_scale"], config["num_detection_layers"]
        stages, channels = [], []
        for layer in config["backbone_layers"]:
            (kind, layer), = layer.items()
            if kind == "Downsample":
                channels.append(layer["out_channels"])
                stages.append(nn.Sequential(ConvBlock(layer["in_channels"], layer["out_channels"], 3, stride=2)))
            else:
                stages[-1].extend(ResidualBlock(layer["channels"]) for _ in range(layer["num_blocks"]))
        self.num_classes = config["num_classes"]
        self.anchors = [[(w * size, h * size) for w, h in config["anchors"][first:first + A]]
                        for first in range(0, A * heads, A)]
        self.strides = [2 ** (len(stages) - head) for head in range(heads)]
        self.backbone = nn.ModuleList(stages)

        self.ups, self.sets, self.detects = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        below = 0                                                   # channels that come up from the head before
        for stage in channels[::-1][:heads]:
            if self.sets:
                self.ups.append(nn.Sequential(ConvBlock(below * 2, below, 1), nn.Upsample(scale_factor=2)))
            self.sets.append(conv_set(below + stage, stage // 2))
            self.detects.append(detection_layer(stage // 2, A * (5 + self.num_classes)))
            below = stage // 4

        for layer in self.modules():                                # as yolov3/model.py
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images):
        """
        images   (B, 3, H, W)  0..1; H and W divisible by the largest stride
        returns  the raw heads, largest stride first, each (B, A, H/stride, W/stride, 5 + C): t_x t_y t_w t_h t_o scores
        """
        x, features = images, []
        for stage in self.backbone:
            x = stage(x)                                            # half as high and wide
            features.append(x)
        heads = []
        for n, (conv, detect) in enumerate(zip(self.sets, self.detects)):
            x = features[-1 - n]                                    # (B, stage, H/stride, W/stride)
            if n:
                x = torch.cat([self.ups[n - 1](up), x], 1)          # upsampled first
            up = conv(x)                                            # (B, stage / 2, H/stride, W/stride)
            heads.append(detect(up).unflatten(1, (-1, 5 + self.num_classes)).permute(0, 1, 3, 4, 2))
        return heads


if __name__ == "__main__":
    try:
        config = read_config(CONFIG)
        print_layer_table(SmolYOLOv3(config), config["image_size"], config["image_size"])
    except InputError as error:
        sys.exit(str(error))
