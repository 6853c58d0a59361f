"""
Opens files of trained YOLOv1 detectors: checkpoints of train.py and resnet/train.py, and Darknet's .weights, the
authors' or your own.

The authors have published yolov1/yolov1.weights and yolov1/tiny-yolov1.weights (both VOC), and the backbones
extraction.conv.weights and darknet.conv.weights (trained on ImageNet; the second one is that of the two small networks)
at https://pjreddie.com/media/files/. In 2025 that address answered with a web page (issue 2655 of pjreddie/darknet).
Others name https://data.pjreddie.com/files/ since (not tried). README.md has lengths and a checksum.

A .weights file holds neither the name of its network nor class names. The table FILES below gives them for each length
of a file. Put a file into runs/ and its path into a constant:

    detect.py, evaluate.py    CHECKPOINT = RUNS / "yolov1.weights"
    train.py                  BACKBONE = RUNS / "extraction.conv.weights"
                              NETWORK = "YOLOv1Local", SIZE = 448, START = RUNS / "yolov1.weights": all layers are
                              copied, but not the last one if the classes or BOXES in model.py are others

A file of 2015 (yolo.weights of the paper's network, yolo-tiny.weights of Fast YOLO) expects images of -1..1. Ours are
0..1. FastYOLO always maps them itself. For YOLOv1, load_darknet_weights sets `centred`, which is not saved: a training
that starts from such a file goes on with images of 0..1.

    python yolov1/weights.py  reads CHECKPOINT and writes, beside it, a .weights file that Darknet reads

What changed from the detectors before YOLO: those consist of several parts, each with a file of its own. Here one file
holds the whole detector.
"""
from pathlib import Path

import torch
import torch.nn as nn

from shared.checkpoint import damage_is_an_input_error, load_backbone, load_checkpoint, load_weights
from shared.darknet_weights import fold_batchnorm, read_header, read_weights, write_weights
from shared.detector_files import copy_detector, export, recognise
from shared.errors import InputError, run
from shared.paths import RUNS
from shared.voc import CLASSES as VOC_CLASSES
from yolov1.dataset import CLASSES, PRESET
from yolov1.fast.model import FastYOLO
from yolov1.locally_connected.model import LocallyConnected, YOLOv1Local
from yolov1.model import BOXES, GRID, STRIDE, Backbone, YOLOv1
from yolov1.resnet.model import ResNetYOLOv1
from yolov1.tiny.model import YOLOv1Tiny

CHECKPOINT = RUNS / f"yolov1_{PRESET}" / "last.pt"
NETWORKS = {       # what train.py trains
    "YOLOv1": YOLOv1,
    "YOLOv1Local": YOLOv1Local,
    "YOLOv1Tiny": YOLOv1Tiny,
    "FastYOLO": FastYOLO,
}
FILES = [          # what a .weights file may hold: network, boxes per cell, classes. The first row whose network is as
                   # long as the file is taken. The networks have GRID x GRID cells (model.py), YOLOv1 has no BatchNorm
    ("YOLOv1Local", 3, VOC_CLASSES),     # yolov1.weights           [darknet] cfg/yolov1.cfg
    ("YOLOv1Local", 2, VOC_CLASSES),     # yolov1.weights, too: a shorter file of the same name
    ("YOLOv1Tiny", 2, VOC_CLASSES),      # tiny-yolov1.weights      [darknet] cfg/yolov1-tiny.cfg
    ("YOLOv1", 2, VOC_CLASSES),          # yolo.weights of 2015     [darknet] cfg/yolo.cfg at 8c5364f5
    ("FastYOLO", 2, VOC_CLASSES),        # yolo-tiny.weights        [darknet] cfg/yolo-tiny.cfg at eaf033c0
    ("YOLOv1", BOXES, CLASSES),          # trained with Darknet on your data
    ("YOLOv1Local", BOXES, CLASSES),
    ("YOLOv1Tiny", BOXES, CLASSES),
    ("FastYOLO", BOXES, CLASSES),
]


def darknet_layers(module):
    """
    Yields the layers of a network that have weights, in the order of the cfg file: the ConvBlocks, and the layers
    outside of them. The modules of our networks are defined in the same order.
    """
    if hasattr(module, "bn") or isinstance(module, (nn.Conv2d, nn.Linear, LocallyConnected)):
        yield module
    else:
        for child in module.children():
            yield from darknet_layers(child)


def layer_tensors(layer):
    """The tensors of one of the darknet_layers in the order of a .weights file."""
    bn = getattr(layer, "bn", None)
    if bn is not None:                                                       # a ConvBlock with BatchNorm
        return [bn.bias, bn.weight, bn.running_mean, bn.running_var, layer.conv.weight]
    layer = getattr(layer, "conv", layer)                                    # a ConvBlock without BatchNorm
    return [layer.bias, layer.weight]


def darknet_order(model):
    """Yields the tensors of a network in the order of its .weights file."""
    for layer in darknet_layers(model):
        yield from layer_tensors(layer)


@torch.no_grad()
def load_darknet_weights(model, path):
    """
    Copies a .weights file into a detector, a classifier or the backbone of either. Returns the number of images seen.

    The ConvBlocks of the file may have BatchNorm where the model's have none: extraction.weights has it, the paper's
    network has not. BatchNorm is then folded into the convolutions. The file of YOLOv1's backbone may also hold the
    last layer of the ImageNet classifier, which is skipped.
    """
    layers = list(darknet_layers(model))
    plain = [layer for layer in layers if hasattr(layer, "bn") and layer.bn is None]         # ConvBlocks without it
    classifier = 1000 + 1000 * 1024 if isinstance(model, Backbone) else 0    # biases and weights of its last layer

    count = sum(tensor.numel() for tensor in darknet_order(model))
    expected = {count: "this network"}
    if plain:                                                                # gamma, mean, variance for each channel
        count += 3 * sum(block.conv.out_channels for block in plain)
        expected[count] = "this network with BatchNorm"
    if classifier:
        expected |= {count + classifier: f"{name} and a classifier" for count, name in expected.items()}
    found, _, _, transposed = read_header(path, expected)
    folded = plain if "BatchNorm" in expected[found] else []

    shapes = []                                                              # of the tensors in the file
    for layer in layers:
        own = [tensor.shape for tensor in layer_tensors(layer)]
        if layer in folded:
            bias, weight = own
            own = [bias, bias, bias, bias, weight]                           # beta, gamma, mean, variance, weights
        shapes += own
    numbers, seen = read_weights(path, shapes, classifier)

    if isinstance(model, YOLOv1):
        model.centred = transposed                                           # of 2015

    numbers = iter(numbers)
    for layer in layers:
        if layer in folded:
            beta, gamma, mean, variance, weight = (next(numbers) for _ in range(5))
            values = fold_batchnorm(beta, gamma, mean, variance, weight)     # bias, weights
            if not all(value.isfinite().all() for value in values):          # a negative variance gives NaN
                raise InputError(f"{path}: damaged: its BatchNorm makes weights that are NaN or infinite")
        else:
            values = [next(numbers) for _ in layer_tensors(layer)]
        for tensor, value in zip(layer_tensors(layer), values):
            tensor.copy_(value)
    return seen


def save_darknet_weights(model, path, seen=0):
    """Writes a .weights file that Darknet reads; seen: the number of images that the model was trained on."""
    write_weights(path, darknet_order(model), seen)


def darknet_network(name, boxes, classes):
    """The network of a row of FILES."""
    if name == "YOLOv1":
        return YOLOv1(len(classes), GRID, boxes, batch_norm=False)
    return NETWORKS[name](len(classes), GRID, boxes)


def load_detector(path):
    """
    path     a checkpoint if it ends with .pt, otherwise a .weights file
    returns  the network, on the CPU and in evaluation mode, and a dict with network (its name), classes, boxes, size
             (of the input, in pixels) and step; a checkpoint's dict holds more
    raises   InputError, naming the file, if it is missing or damaged, or if its network is unknown
    """
    if Path(path).suffix == ".pt":
        state = load_checkpoint(path, *NETWORKS, "ResNetYOLOv1")
        with damage_is_an_input_error(path):
            count, grid = len(state["classes"]), state["size"] // STRIDE
            if state["network"] == "YOLOv1":
                network = YOLOv1(count, grid, state["boxes"], state["batch_norm"])
            elif state["network"] == "ResNetYOLOv1":
                network = ResNetYOLOv1(count, state["depth"], state["boxes"])
            else:
                network = NETWORKS[state["network"]](count, grid, state["boxes"])
        load_weights(network, state["model"], path)
        return network.eval(), state

    counts = []                                                              # of the numbers in each row's file
    for row in FILES:
        with torch.device("meta"):                                           # shapes only, without memory for numbers
            network = darknet_network(*row)
        counts.append(sum(tensor.numel() for tensor in darknet_order(network)))
    name, boxes, classes = recognise(path, FILES, counts)
    network = darknet_network(name, boxes, classes)
    step = load_darknet_weights(network, path) // 64                         # of 64 images [darknet]
    return network.eval(), {"network": name, "classes": classes, "boxes": boxes, "size": STRIDE * GRID, "step": step}


def load_pretrained(network, classes, backbone, start):
    """
    Gives a new network its first weights. Both files may be a checkpoint (.pt), a .weights file or None.

    backbone  the constant BACKBONE of train.py: a classifier's weights, for the network's backbone
    start     the constant START of train.py: a detector's weights. If its classes are others, the last layer is not
              copied
    returns   the names of the layers that keep their random weights although start was given
    """
    try:
        if backbone and Path(backbone).suffix == ".pt":
            load_backbone(network.backbone, backbone)
        elif backbone:
            load_darknet_weights(network.backbone, backbone)
    except InputError as error:
        if isinstance(network, YOLOv1) and "weights of this" in str(error):  # the file is whole, but another network's
            batch_norm = network.backbone.stage1[0].bn is not None
            raise InputError(f"{error}; was it trained with another BATCH_NORM than {batch_norm}?") from None
        raise
    if not start:
        return []
    other, state = load_detector(start)
    excluded = []
    if state["classes"] != classes:
        *_, last = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
        excluded = [last]
    return copy_detector(network, other, excluded, start)


def main():
    network, state = load_detector(CHECKPOINT)
    if state["network"] not in NETWORKS:
        raise InputError(f"{CHECKPOINT}: holds {state['network']}, which Darknet does not know")
    export(CHECKPOINT, state, darknet_order(network))


if __name__ == "__main__":
    run(main)
