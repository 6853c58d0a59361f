"""
Trained YOLOv1 detectors from files: checkpoints of train.py and resnet/train.py, and Darknet's .weights, the authors'
or your own.

The authors' files lie at https://pjreddie.com/media/files/: yolov1-tiny.weights; extraction.conv.weights (ImageNet: the
backbone). Such a file does not say what it holds; its length does (FILES, below). Nor does it hold names. The paper's
own network was yolo.weights in 2015; today's yolov1.weights is of another network (yolov1/model.py says which), and is
refused.

    detect.py, evaluate.py    CHECKPOINT = RUNS / "yolov1-tiny.weights": with it come classes and input size
    train.py                  BACKBONE = RUNS / "extraction.conv.weights", or, for classes of your own,
                              START = RUNS / "yolov1-tiny.weights": it prints which layers start fresh

    python yolov1/weights.py  writes runs/yolov1/last.weights, which Darknet reads, from runs/yolov1/last.pt

What changed from the detectors before: their parts had files of their own; here one file is the whole detector.
"""
import sys
from functools import partial
from pathlib import Path

import torch
import torch.nn as nn

from shared.checkpoint import load_checkpoint, load_weights
from shared.darknet_weights import read_header
from shared.errors import InputError
from shared.paths import RUNS
from shared.voc import CLASSES as VOC_CLASSES
from yolov1.dataset import CLASSES
from yolov1.model import BOXES, GRID, STRIDE, YOLOv1, darknet_order, load_darknet_weights, save_darknet_weights
from yolov1.resnet.model import ResNetYOLOv1
from yolov1.tiny.model import YOLOv1Tiny

CHECKPOINT = RUNS / "yolov1" / "last.pt"
NETWORKS = {"YOLOv1": partial(YOLOv1, batch_norm=False), "YOLOv1Tiny": YOLOv1Tiny}
FILES = [          # network, classes of a .weights file, with the paper's 7 x 7 cells and 2 boxes, as long as GRID and
                   # BOXES of model.py are not edited: the first as long
    ("YOLOv1", VOC_CLASSES),         # yolo.weights of 2015  [darknet] cfg/yolo.cfg at 8c5364f5
    ("YOLOv1Tiny", VOC_CLASSES),     # yolov1-tiny.weights   [darknet] cfg/yolov1-tiny.cfg
    ("YOLOv1", CLASSES),             # what Darknet has trained on your data
    ("YOLOv1Tiny", CLASSES),
]


def load_detector(path):
    """
    path     a checkpoint, *.pt, or a .weights file, of any other ending
    returns  the network, on the CPU, not training; a dict of its name (network), classes, boxes, size (of the input,
             in pixels) and step
    raises   InputError, naming the file, if it is missing, damaged, or of no network known here
    """
    if Path(path).suffix == ".pt":
        state = load_checkpoint(path, *NETWORKS, "ResNetYOLOv1")
        count, grid = len(state["classes"]), state["size"] // STRIDE
        if state["network"] == "YOLOv1":
            network = YOLOv1(count, grid, state["boxes"], state["batch_norm"])
        elif state["network"] == "YOLOv1Tiny":
            network = YOLOv1Tiny(count, grid, state["boxes"])
        else:
            network = ResNetYOLOv1(count, state["depth"], state["boxes"])
        load_weights(network, state["model"], path)
        return network.eval(), state

    with torch.device("meta"):                                               # only to count: no numbers are made
        networks = [NETWORKS[name](len(classes)) for name, classes in FILES]
    counts = [sum(tensor.numel() for tensor in darknet_order(network)) for network in networks]
    expected = {f"{name}, {len(classes)} classes": count for (name, classes), count in zip(FILES, counts)}
    what, *_ = read_header(path, expected)
    name, classes = FILES[counts.index(expected[what])]
    network = NETWORKS[name](len(classes))
    step = load_darknet_weights(network, path) // 64                         # of 64 images [darknet] get_current_batch
    return network.eval(), {"network": name, "classes": classes, "boxes": BOXES, "size": STRIDE * GRID, "step": step}


def start_from(path, network, classes):
    """
    Copies a detector's weights into the network. What names its classes, the last layer, is left as it was, if the
    classes are others; so is what has another shape. Returns the names of the layers that were left.
    """
    other, state = load_detector(path)
    if type(other) is not type(network):
        raise InputError(f"{path}: holds {state['network']}, not {type(network).__name__}")
    *_, last = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    same = state["classes"] == classes
    own, kept = network.state_dict(), {}
    for key, value in other.state_dict().items():
        if key in own and value.shape == own[key].shape and (same or key.rpartition(".")[0] != last):
            kept[key] = value
    network.load_state_dict({**own, **kept})
    return list(dict.fromkeys(key.rpartition(".")[0] for key in own if key not in kept))


def main():
    network, state = load_detector(CHECKPOINT)
    out = Path(CHECKPOINT).with_suffix(".weights")
    if out == Path(CHECKPOINT):
        raise InputError(f"{CHECKPOINT}: is such a file already")
    if state["network"] not in NETWORKS:
        raise InputError(f"{CHECKPOINT}: holds {state['network']}, which Darknet does not know")
    save_darknet_weights(network, out, seen=64 * state["step"])
    print(f"{out}: {state['network']}, {len(state['classes'])} classes, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
