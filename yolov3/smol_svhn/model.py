"""
A YOLOv3 of any size: the network that a JSON file describes.

Paper   "YOLOv3: An Incremental Improvement", sections 2.3 and 2.4, for the parts, which are in yolov3/model.py. The
        file says how many there are, how wide they are, and in which order.

The file is an object with these keys:

    num_classes             C
    image_size              of the input, a square, in pixels
    backbone_layers         a list; each layer is one of
                              {"type": "Downsample", "in_channels": .., "out_channels": ..}    a 3 x 3 with stride 2
                              {"type": "ResidualBlock", "num_blocks": .., "channels": ..}      that many, in sequence
    anchors                 a list of [width, height], as fractions of the image, in any order
    num_anchors_per_scale   A
    num_detection_layers    the number of heads

A stage is a Downsample and the residual blocks after it. The last stage has the first head, which has the largest
stride; the stage before it has the second head, and so on. After three Downsamples the strides of two heads are 8 and 4
pixels. The A largest anchors belong to the first head, the next A to the second.

The heads are connected as in the paper (section 2.3). Five convolutions reduce the channels of a stage to half. From
there a 1 x 1 convolution reduces them to half again. They are upsampled and concatenated with the channels of the stage
before. With Darknet-53's channels and three heads this is the paper's network, except for its first convolution.

The network of smol.json has 127,150 parameters, YOLOv3 61,949,149. An image is stretched to the input (dataset.py), so
fractions of the image are fractions of the input.

    python yolov3/smol_svhn/model.py     prints the layer table of smol.json

What changed from yolov3/model.py: the backbone is read from a file, and so are the numbers of heads and anchors; the
first convolution halves the image.
"""
import json
import reprlib
from pathlib import Path

import torch
import torch.nn as nn

from shared.errors import InputError, run
from shared.files import read_bytes
from shared.layers import print_layer_table
from yolov3.model import ConvBlock, ResidualBlock, conv_set, detection_layer

CONFIG = Path(__file__).with_name("smol.json")

KEYS = ["num_classes", "image_size", "backbone_layers", "anchors", "num_anchors_per_scale", "num_detection_layers"]
LAYERS = {"Downsample": ["in_channels", "out_channels"], "ResidualBlock": ["num_blocks", "channels"]}
KINDS = '"Downsample" or "ResidualBlock"'
MAX_COUNT = 10_000             # the largest value of any whole number in the file
MAX_BLOCKS = 1000              # residual blocks in all; Darknet-53 has 23
MAX_WEIGHTS = 1_000_000_000


def read_config(path):
    """
    path     a JSON file, as described above
    returns  the dict in it
    raises   InputError, naming the file and the key, if it does not describe a network
    """
    content = read_bytes(path)
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    check_config(config, path)
    return config


def check_config(config, path):
    """Raises InputError, naming the path and the key, if the dict config does not describe a network."""
    def require(condition, message):
        if not condition:
            raise InputError(f"{path}: {message}")

    def is_count(value):
        return type(value) is int and 0 < value <= MAX_COUNT                # True is an int, but not a count

    def check_keys(value, keys, where):
        require(isinstance(value, dict), f"{where} has to be an object with {', '.join(keys)}")
        for key in keys:
            require(key in value, f"{where} lacks {key}")
        for key in value:
            require(key in keys, f"{where} has an unknown key, {reprlib.repr(key)}")

    a_count = f"has to be a whole number from 1 to {MAX_COUNT:,}, not"
    check_keys(config, KEYS, "the file")
    for key in KEYS:
        if key not in ("backbone_layers", "anchors"):
            require(is_count(config[key]), f"{key} {a_count} {reprlib.repr(config[key])}")

    layers, channels, blocks, weights = config["backbone_layers"], 3, 0, 0   # channels: of the layer before
    widths = []                                                              # the channels of each stage
    require(isinstance(layers, list), "backbone_layers has to be a list")
    for n, layer in enumerate(layers):
        kind = layer.get("type") if isinstance(layer, dict) else None
        require(kind in list(LAYERS), f'backbone_layers[{n}] has to be an object with "type": {KINDS}')
        where = f"backbone_layers[{n}] {kind}"
        check_keys(layer, ["type", *LAYERS[kind]], where)
        for key in LAYERS[kind]:
            require(is_count(layer[key]), f"{where} {key} {a_count} {reprlib.repr(layer[key])}")
        require(kind == "Downsample" or widths, f"{where} comes before the first Downsample")
        given = layer["in_channels" if kind == "Downsample" else "channels"]
        require(given == channels, f"{where} takes {given} channels, but the layer before it gives {channels}")
        if kind == "Downsample":
            channels = layer["out_channels"]
            widths.append(channels)
            weights += 9 * given * channels
            require(channels % 4 == 0, f"{where} out_channels {channels} cannot be halved twice for a head")
        else:
            blocks += layer["num_blocks"]
            weights += layer["num_blocks"] * 5 * channels ** 2               # a 1 x 1 and a 3 x 3, c to c / 2 and back
            require(blocks <= MAX_BLOCKS, f"{where}: there are {blocks} blocks up to here, more than {MAX_BLOCKS}")

    size, heads, stages = config["image_size"], config["num_detection_layers"], len(widths)
    require(stages >= heads, f"num_detection_layers {heads} is more than the {stages} Downsamples of backbone_layers")
    require(size % 2 ** stages == 0, f"image_size {size} cannot be halved by {stages} Downsamples")
    anchors, count = config["anchors"], config["num_anchors_per_scale"] * heads
    wanted = f"anchors has to be a list of num_anchors_per_scale x num_detection_layers = {count}"
    require(isinstance(anchors, list), wanted)
    require(len(anchors) == count, f"{wanted}, not {len(anchors)}")
    for n, anchor in enumerate(anchors):
        require(isinstance(anchor, list) and len(anchor) == 2
                and all(type(side) in (int, float) and 0 < side <= 1 for side in anchor),
                f"anchors[{n}] has to be a width and a height above 0, at most 1, not {reprlib.repr(anchor)}")

    outputs = config["num_anchors_per_scale"] * (5 + config["num_classes"])
    weights += sum(c * (15 * c + outputs) for c in widths[-heads:])          # the seven convolutions of each head
    require(weights <= MAX_WEIGHTS, f"the network has about {weights:,} weights, more than {MAX_WEIGHTS:,}")


class SmolYOLOv3(nn.Module):
    """
    config   as read_config returns it
    anchors  (width, height) in pixels of the input, a list for each head, as yolov3_loss and decode take them
    strides  pixels per cell, one for each head, the largest first
    """

    def __init__(self, config):
        super().__init__()
        size, A, heads = config["image_size"], config["num_anchors_per_scale"], config["num_detection_layers"]
        stages, channels = [], []                                   # channels: of each stage's output
        for layer in config["backbone_layers"]:
            if layer["type"] == "Downsample":
                channels.append(layer["out_channels"])
                stages.append(nn.Sequential(ConvBlock(layer["in_channels"], layer["out_channels"], 3, stride=2)))
            else:
                stages[-1].extend(ResidualBlock(layer["channels"]) for _ in range(layer["num_blocks"]))
        anchors = sorted(config["anchors"], key=lambda anchor: anchor[0] * anchor[1], reverse=True)  # the largest first
        self.num_classes = config["num_classes"]
        self.anchors = [[(w * size, h * size) for w, h in anchors[first:first + A]] for first in range(0, A * heads, A)]
        self.strides = [2 ** (len(stages) - head) for head in range(heads)]
        self.backbone = nn.ModuleList(stages)

        self.ups, self.necks, self.detects = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        below = 0                                                   # channels that come from the head before
        for stage in channels[::-1][:heads]:
            if self.necks:
                self.ups.append(nn.Sequential(ConvBlock(below * 2, below, 1), nn.Upsample(scale_factor=2)))
            self.necks.append(conv_set(below + stage, stage // 2))
            self.detects.append(detection_layer(stage // 2, A * (5 + self.num_classes)))
            below = stage // 4

        for layer in self.modules():                                # as in yolov3/model.py
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
        for n, (neck, detect) in enumerate(zip(self.necks, self.detects)):
            stage = features[-1 - n]                                # (B, channels, H/stride, W/stride)
            x = neck(stage if n == 0 else torch.cat([self.ups[n - 1](x), stage], 1))         # upsampled first
            head = detect(x).unflatten(1, (-1, 5 + self.num_classes))            # (B, A, 5 + C, H/stride, W/stride)
            heads.append(head.permute(0, 1, 3, 4, 2))               # (B, A, H/stride, W/stride, 5 + C)
        return heads


def main():
    config = read_config(CONFIG)
    print_layer_table(SmolYOLOv3(config), config["image_size"], config["image_size"])


if __name__ == "__main__":
    run(main)
