"""
Opens files of trained YOLOv2 detectors: checkpoints of train.py, and Darknet's .weights, the authors' or your own.

The authors have published yolov2-voc.weights and yolov2.weights (COCO), those of a tiny network for each, and
darknet19_448.conv.23 (the backbone, trained on ImageNet) at https://pjreddie.com/media/files/. Since 2025 that address
answers with a web page (issue 2655 of pjreddie/darknet); release v2.0 of github.com/hank-ai/darknet has copies of the
two for COCO.

A .weights file holds neither the name of its network nor anchors nor class names. The table FILES below gives them for
each length of a file. If it is the network of 2016, images are stretched, as Darknet did then; otherwise they are
letterboxed. Put a file into runs/ and its path into a constant:

    detect.py, evaluate.py    CHECKPOINT = RUNS / "yolov2-voc.weights"
    train.py                  BACKBONE = RUNS / "darknet19_448.conv.23"
                              START = RUNS / "yolov2-voc.weights", also for other classes: all layers but the last
                              are copied

    python yolov2/weights.py  reads CHECKPOINT and writes, beside it, a .weights file that Darknet reads

What changed from yolov1/weights.py: a row of FILES has anchors; all networks have BatchNorm, so none is folded.
"""
from functools import partial
from pathlib import Path

import torch
import torch.nn as nn

from shared.checkpoint import damage_is_an_input_error, load_backbone, load_checkpoint, load_weights
from shared.coco import CLASSES as COCO_CLASSES
from shared.darknet_weights import read_weights, write_weights
from shared.detector_files import copy_detector, export, recognise
from shared.errors import run
from shared.paths import RUNS
from shared.voc import CLASSES as VOC_CLASSES
from yolov2.dataset import CLASSES, PRESET
from yolov2.model import ANCHORS, ANCHORS_2016, COCO_ANCHORS, COCO_ANCHORS_2016, Backbone, YOLOv2
from yolov2.tiny.model import ANCHORS as TINY_ANCHORS
from yolov2.tiny.model import YOLOv2Tiny

CHECKPOINT = RUNS / f"yolov2_{PRESET}" / "last.pt"
SIZE = 416         # input size for a .weights file; 32 has to divide it. Darknet: 608 in yolov2.cfg
NETWORKS = {       # what train.py trains: the class and its anchors
    "YOLOv2": (YOLOv2, ANCHORS),
    "YOLOv2 of 2016": (partial(YOLOv2, passthrough_channels=None), ANCHORS_2016),    # at the paper's time
    "YOLOv2Tiny": (YOLOv2Tiny, TINY_ANCHORS),
    "YOLOv2Tiny for COCO": (partial(YOLOv2Tiny, channels=512), COCO_ANCHORS),    # its last 3 x 3 has 512 channels
}
FILES = [          # what a .weights file may hold: network, anchors, classes. The first row whose network is as long as
                   # the file is taken. Rows for your own files go to the top, with the anchors of their training
    ("YOLOv2", ANCHORS, VOC_CLASSES),                       # yolov2-voc.weights       [darknet] cfg/yolov2-voc.cfg
    ("YOLOv2", COCO_ANCHORS, COCO_CLASSES),                 # yolov2.weights           [darknet] cfg/yolov2.cfg
    ("YOLOv2 of 2016", ANCHORS_2016, VOC_CLASSES),          # yolo-voc.weights of 2016 [darknet] cfg/yolo-voc.2.0.cfg
    ("YOLOv2 of 2016", COCO_ANCHORS_2016, COCO_CLASSES),    # yolo.weights of 2016     [darknet] cfg/yolo.2.0.cfg
    ("YOLOv2Tiny", TINY_ANCHORS, VOC_CLASSES),              # yolov2-tiny-voc.weights  [darknet] cfg/yolov2-tiny-voc.cfg
    ("YOLOv2Tiny for COCO", COCO_ANCHORS, COCO_CLASSES),    # yolov2-tiny.weights      [darknet] cfg/yolov2-tiny.cfg
    ("YOLOv2", ANCHORS, CLASSES),                           # trained with Darknet on your data
    ("YOLOv2 of 2016", ANCHORS_2016, CLASSES),
    ("YOLOv2Tiny", TINY_ANCHORS, CLASSES),
]


def darknet_order(model):
    """
    Yields the tensors of a network in the order of its .weights file: layer by layer as in the cfg file. The modules of
    our networks are defined in the same order.
    """
    for layer in model.modules():
        if hasattr(layer, "bn"):                                             # a ConvBlock
            bn = layer.bn
            yield from [bn.bias, bn.weight, bn.running_mean, bn.running_var, layer.conv.weight]
        elif isinstance(layer, nn.Conv2d) and layer.bias is not None:        # a layer that predicts
            yield from [layer.bias, layer.weight]


@torch.no_grad()
def load_darknet_weights(model, path):
    """
    Copies a .weights file into a detector, a classifier or the backbone of either. The file of YOLOv2's backbone may
    also hold the last layer of the ImageNet classifier, which is skipped. Returns the number of images seen.
    """
    tensors = list(darknet_order(model))
    classifier = 1000 + 1000 * 1024 if isinstance(model, Backbone) else 0    # biases and weights of its last layer
    numbers, seen = read_weights(path, [tensor.shape for tensor in tensors], classifier)
    for tensor, values in zip(tensors, numbers):
        tensor.copy_(values)
    return seen


def save_darknet_weights(model, path, seen=0):
    """Writes a .weights file that Darknet reads; seen: the number of images that the model was trained on."""
    write_weights(path, darknet_order(model), seen)


def load_detector(path):
    """
    path     a checkpoint if it ends with .pt, otherwise a .weights file
    returns  the network, on the CPU, and a dict with network (its name), classes, anchors, size (of the input, in
             pixels), stretch (True if images are stretched instead of letterboxed) and step; a checkpoint's dict holds
             more
    raises   InputError, naming the file, if it is missing or damaged, or if its network is unknown
    """
    if Path(path).suffix == ".pt":
        state = load_checkpoint(path, *NETWORKS)
        state["stretch"] = bool(state.get("stretch"))                        # older checkpoints do not have it
        network_class, _ = NETWORKS[state["network"]]
        with damage_is_an_input_error(path):
            network = network_class(len(state["classes"]), state["anchors"])
        load_weights(network, state["model"], path)
        return network, state

    counts = []                                                              # of the numbers in each row's file
    for name, anchors, classes in FILES:
        network_class, _ = NETWORKS[name]
        with torch.device("meta"):                                           # shapes only, without memory for numbers
            network = network_class(len(classes), anchors)
        counts.append(sum(tensor.numel() for tensor in darknet_order(network)))
    name, anchors, classes = recognise(path, FILES, counts)
    network_class, _ = NETWORKS[name]
    network = network_class(len(classes), anchors)
    step = load_darknet_weights(network, path) // 64                         # of 64 images [darknet]
    return network, {"network": name, "classes": classes, "anchors": anchors, "size": SIZE,
                     "stretch": name == "YOLOv2 of 2016", "step": step}


def load_pretrained(network, anchors, classes, backbone, start):
    """
    Gives a new network its first weights. Both files may be a checkpoint (.pt), a .weights file or None.

    backbone  the constant BACKBONE of train.py: a classifier's weights, for the network's backbone
    start     the constant START of train.py: a detector's weights. The layers that predict are not copied if its
              classes or anchors are others
    returns   the names of the layers that keep their random weights although start was given
    """
    if backbone and Path(backbone).suffix == ".pt":
        load_backbone(network.backbone, backbone)
    elif backbone:
        load_darknet_weights(network.backbone, backbone)
    if not start:
        return []
    other, state = load_detector(start)
    excluded = []
    if state["classes"] != classes or state["anchors"] != anchors:
        excluded = [name for name, layer in network.named_modules()
                    if isinstance(layer, nn.Conv2d) and layer.bias is not None]
    return copy_detector(network, other, excluded, start)


def main():
    network, state = load_detector(CHECKPOINT)
    export(CHECKPOINT, state, darknet_order(network))


if __name__ == "__main__":
    run(main)
