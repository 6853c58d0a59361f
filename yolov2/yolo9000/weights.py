"""
Opens files of trained YOLO9000 detectors: checkpoints of train.py, and Darknet's yolo9000.weights.

The authors published yolo9000.weights: 195,230,020 bytes, a header of 16 bytes and 48,807,501 numbers in the order of
cfg/yolo9000.cfg. The functions of yolov2/weights.py read it, because the order of the layers is the same. Its nodes are
the lines of data/9k.tree in Darknet's repository, and data/9k.names has readable names for them. Put all three files
into runs/ and set CHECKPOINT = RUNS / "yolo9000.weights" in detect.py. None of the files was available here; loading
was tested with a file of marked numbers made by hand.

    load_darknet_weights(network, path)    reads yolo9000.weights into YOLO9000(), or darknet9000.weights, the
                                           classifier, into Darknet19(9418)

What changed from yolov2/weights.py: a tree belongs to the weights.
"""
from pathlib import Path

import torch

from shared.checkpoint import load_checkpoint, load_weights
from shared.errors import InputError
from shared.files import read_lines
from shared.paths import RUNS
from yolov2.weights import load_darknet_weights, save_darknet_weights
from yolov2.yolo9000.model import ANCHORS, CLASSIFIERS, NETWORKS, YOLO9000
from yolov2.yolo9000.wordtree import make_tree, read_tree

TREE = RUNS / "9k.tree"       # of yolo9000.weights
NAMES = RUNS / "9k.names"     # one line for each line of TREE. If there is no such file, the names are those of TREE
SIZE = 544                    # of the input, for a .weights file; 32 has to divide it [darknet]


def load_detector(path):
    """
    path     a checkpoint of train.py if it ends with .pt, otherwise yolo9000.weights
    returns  the network, on the CPU, and a dict with network (its name), tree (a WordTree), anchors, size (of the
             input, in pixels) and step
    raises   InputError, naming the file, if one is missing or damaged, or if the tree is another network's
    """
    if Path(path).suffix == ".pt":
        state = load_checkpoint(path, *NETWORKS)
        state["tree"] = make_tree(*state["tree"], source=path)
        network = NETWORKS[state["network"]](len(state["tree"].names), state["anchors"])
        load_weights(network, state["model"], path)
        return network, state

    tree = read_tree(TREE)
    if Path(NAMES).exists():
        names = read_lines(NAMES)
        if len(names) != len(tree.names):
            raise InputError(f"{NAMES}: has {len(names)} lines, {TREE} has {len(tree.names)}")
        tree = tree._replace(names=names)
    network = YOLO9000(len(tree.names), ANCHORS)
    seen = load_darknet_weights(network, path)
    return network, {"network": "YOLO9000", "tree": tree, "anchors": ANCHORS, "size": SIZE, "step": seen // 64}


def load_classifier(network, tree, path):
    """
    Gives a new YOLO9000 what a classifier has learned: its backbone and, in each anchor, its outputs for the nodes that
    both trees name. Without this, another predictor than the one with the object's box often learns the label: the
    README has the measurement.

    path      the last.pt of classifier.py
    returns   how many of the tree's nodes the classifier has
    raises    InputError, naming the file, if it is missing or damaged, or if its backbone is another one
    """
    state = load_checkpoint(path, *CLASSIFIERS)
    nodes = make_tree(*state["tree"], source=path).names
    classifier = CLASSIFIERS[state["network"]](len(nodes))
    load_weights(classifier, state["model"], path)
    weights = {name.removeprefix("backbone."): value for name, value in classifier.state_dict().items()}
    load_weights(network.backbone, {name: weights[name] for name in network.backbone.state_dict() if name in weights},
                 path)
    known = [node for node, name in enumerate(tree.names) if name in nodes]
    places = [nodes.index(tree.names[node]) for node in known]
    outputs = 5 + network.num_classes                                        # of an anchor
    with torch.no_grad():
        for first in range(5, network.detect32.out_channels, outputs):
            channels = [first + node for node in known]
            network.detect32.weight[channels] = classifier.classify.weight[places]
            network.detect32.bias[channels] = classifier.classify.bias[places]
    return len(known)
