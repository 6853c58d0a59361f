"""
What the weights.py of every version does with files of trained detectors: recognising a .weights file by its length,
copying one detector's weights into another, and exporting a checkpoint.
"""
import os
from pathlib import Path

from shared.darknet_weights import read_header, write_weights
from shared.errors import InputError


def recognise(path, files, counts):
    """
    Finds out what a .weights file holds. Only its length tells.

    files    the table FILES of a weights.py: tuples whose first value is a network's name and whose last value is its
             class names
    counts   for each of them, how many numbers its .weights file has
    returns  the first of `files` that is as long as the file
    raises   InputError if there is no such file, or if none is as long
    """
    expected = {}
    for (name, *_, classes), count in zip(files, counts):
        expected.setdefault(count, f"{name}, {len(classes)} classes")        # of equal lengths the first
    found, *_ = read_header(path, expected)
    return files[counts.index(found)]


def copy_detector(network, other, excluded, path):
    """
    Copies the weights of another detector, read from path, into the network. Prints which layers keep their own.

    excluded  names of layers that are not copied. Tensors of another shape are not copied either
    returns   the names of the layers that keep their own weights
    raises    InputError if the other detector is of another class
    """
    if type(other) is not type(network):
        raise InputError(f"{path}: holds {type(other).__name__}, not {type(network).__name__}")
    own, copied = network.state_dict(), {}
    for key, value in other.state_dict().items():
        layer = key.rpartition(".")[0]                                       # "neck.0.conv" of "neck.0.conv.weight"
        if layer not in excluded and key in own and value.shape == own[key].shape:
            copied[key] = value
    network.load_state_dict({**own, **copied})
    fresh = list(dict.fromkeys(key.rpartition(".")[0] for key in own if key not in copied))
    if os.environ.get("RANK", "0") == "0":                                   # torchrun: only the first process prints
        line = f"{path}: all weights are copied"
        if fresh:
            line += f", except those of these layers, which start fresh: {', '.join(fresh)}"
        print(line)
    return fresh


def export(checkpoint, state, tensors):
    """
    Writes the network of a checkpoint to a .weights file beside it.

    state    the dict of load_detector
    tensors  the network's, in the order of its cfg file

    A .weights file stores how many images the network has seen, and Darknet computes the step from that. The step of
    the checkpoint is kept: it counts as 64 images, the batch of the authors' cfg files.
    """
    path = Path(checkpoint).with_suffix(".weights")
    if path == Path(checkpoint):
        raise InputError(f"{checkpoint}: is a .weights file already")
    write_weights(path, tensors, seen=64 * state["step"])
    print(f"{path}: {state['network']}, {len(state['classes'])} classes, {path.stat().st_size:,} bytes")
