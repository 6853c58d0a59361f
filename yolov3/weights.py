"""
Trained YOLOv3 detectors from files: checkpoints of train.py, and Darknet's .weights, the authors' or your own.

The authors' files lie at https://pjreddie.com/media/files/: yolov3.weights, yolov3-tiny.weights (both COCO);
darknet53.conv.74 (ImageNet: the backbone). Such a file does not say what it holds; its length does (FILES, below). Nor
does it hold anchors and names.

    detect.py, evaluate.py    CHECKPOINT = RUNS / "yolov3.weights": with it come classes, anchors and input size
    train.py                  BACKBONE = RUNS / "darknet53.conv.74", or, for classes of your own,
                              START = RUNS / "yolov3.weights": it prints which layers start fresh

    python yolov3/weights.py  writes runs/yolov3/last.weights, which Darknet reads, from runs/yolov3/last.pt

What changed from yolov2/weights.py: the files.
"""
from pathlib import Path

import torch
import torch.nn as nn

from shared.checkpoint import load_backbone, load_checkpoint, load_weights
from shared.coco import CLASSES as COCO_CLASSES
from shared.darknet_weights import read_header, read_weights, write_weights
from shared.errors import InputError, run
from shared.paths import RUNS
from shared.voc import CLASSES as VOC_CLASSES
from yolov3.dataset import CLASSES
from yolov3.model import ANCHORS, Backbone, ConvBlock, YOLOv3
from yolov3.resnext_coco.model import ResNeXtYOLOv3
from yolov3.tiny.model import ANCHORS as TINY_ANCHORS
from yolov3.tiny.model import YOLOv3Tiny

CHECKPOINT = RUNS / "yolov3" / "last.pt"
SIZE = 416         # of the input of a .weights file's network; or any that 32 divides: yolov3.cfg has 608 [darknet]
NETWORKS = {"YOLOv3": (YOLOv3, ANCHORS), "YOLOv3Tiny": (YOLOv3Tiny, TINY_ANCHORS)}    # what train.py can train
FILES = [          # network, anchors, classes of a .weights file: the first that is as long; your own go to the top.
                   # The anchors are the authors' as long as those in model.py and tiny/model.py are not edited
    ("YOLOv3", ANCHORS, COCO_CLASSES),            # yolov3.weights          [darknet] cfg/yolov3.cfg
    ("YOLOv3", ANCHORS, VOC_CLASSES),             # of cfg/yolov3-voc.cfg   [darknet]
    ("YOLOv3Tiny", TINY_ANCHORS, COCO_CLASSES),   # yolov3-tiny.weights     [darknet] cfg/yolov3-tiny.cfg
    ("YOLOv3", ANCHORS, CLASSES),                 # what Darknet has trained on your data
    ("YOLOv3Tiny", TINY_ANCHORS, CLASSES),
]


def darknet_order(model):
    """The numbers of a .weights file: layer by layer as in yolov3.cfg, which is the order of the layers above."""
    for layer in model.modules():
        if isinstance(layer, ConvBlock):
            yield from [layer.bn.bias, layer.bn.weight, layer.bn.running_mean, layer.bn.running_var, layer.conv.weight]
        elif isinstance(layer, nn.Conv2d) and layer.bias is not None:        # no BatchNorm
            yield from [layer.bias, layer.weight]


@torch.no_grad()
def load_darknet_weights(model, path):
    """Copies a .weights file into the model: the whole network, or its backbone alone. Returns the images seen."""
    tensors = list(darknet_order(model))
    classifier = 1000 + 1000 * 1024 if isinstance(model, Backbone) else 0    # ImageNet's: may follow, and is not read
    windows, seen = read_weights(path, [tensor.shape for tensor in tensors], classifier)
    for tensor, window in zip(tensors, windows):
        tensor.copy_(window)
    return seen


def save_darknet_weights(model, path, seen=0):
    """Writes a .weights file that Darknet reads; seen: the number of images that the model was trained on."""
    write_weights(path, darknet_order(model), seen)


def load_detector(path):
    """
    path     a checkpoint, *.pt, or a .weights file, of any other ending
    returns  the network, on the CPU; a dict of its name (network), classes, anchors, size (of the input, in pixels)
             and step
    raises   InputError, naming the file, if it is missing, damaged, or of no network known here
    """
    classes_of = {name: network for name, (network, _) in NETWORKS.items()} | {"ResNeXtYOLOv3": ResNeXtYOLOv3}
    if Path(path).suffix == ".pt":
        state = load_checkpoint(path, *classes_of)
        network = classes_of[state["network"]](len(state["classes"]), state["anchors"])
        load_weights(network, state["model"], path)
        return network, state

    with torch.device("meta"):                                               # only to count: no numbers are made
        networks = [classes_of[name](len(classes), anchors) for name, anchors, classes in FILES]
    counts = [sum(tensor.numel() for tensor in darknet_order(network)) for network in networks]
    expected = {f"{name}, {len(classes)} classes": count for (name, _, classes), count in zip(FILES, counts)}
    what, *_ = read_header(path, expected)
    name, anchors, classes = FILES[counts.index(expected[what])]
    network = classes_of[name](len(classes), anchors)
    step = load_darknet_weights(network, path) // 64                         # of 64 images [darknet] get_current_batch
    return network, {"network": name, "classes": classes, "anchors": anchors, "size": SIZE, "step": step}


def start_from(path, network, anchors, classes):
    """
    Copies a detector's weights into the network. What names its classes, the last layers, is left as it was, if classes
    or anchors are others; so is what has another shape. Returns the names of the layers that were left.
    """
    other, state = load_detector(path)
    if type(other) is not type(network):
        raise InputError(f"{path}: holds {state['network']}, not {type(network).__name__}")
    last = [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d) and layer.bias is not None]
    same = state["classes"] == classes and state["anchors"] == anchors
    own, kept = network.state_dict(), {}
    for key, value in other.state_dict().items():
        if value.shape == own[key].shape and (same or key.rpartition(".")[0] not in last):
            kept[key] = value
    network.load_state_dict({**own, **kept})
    return list(dict.fromkeys(key.rpartition(".")[0] for key in own if key not in kept))


def load_pretrained(network, anchors, classes, backbone, start):
    """
    Gives a new network its first weights. Both files may be a checkpoint (.pt) or a .weights file, or None.

    backbone  the constant BACKBONE of train.py: a classifier's weights, for the network's backbone
    start     the constant START of train.py: a whole detector's, perhaps of other classes
    returns   the names of the layers that keep their random weights although start was given
    """
    if backbone and Path(backbone).suffix == ".pt":
        load_backbone(network.backbone, backbone)
    elif backbone:
        load_darknet_weights(network.backbone, backbone)
    return start_from(start, network, anchors, classes) if start else []


def main():
    network, state = load_detector(CHECKPOINT)
    out = Path(CHECKPOINT).with_suffix(".weights")
    if out == Path(CHECKPOINT):
        raise InputError(f"{CHECKPOINT}: is such a file already")
    if state["network"] not in [name for name, *_ in FILES]:
        raise InputError(f"{CHECKPOINT}: holds {state['network']}, which Darknet does not know")
    save_darknet_weights(network, out, seen=64 * state["step"])
    print(f"{out}: {state['network']}, {len(state['classes'])} classes, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    run(main)
