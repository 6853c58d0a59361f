"""
Checkpoints: a dict of state_dicts and plain values in one file. A file is written completely or not at all.

Every detector's checkpoint holds

    network, classes, anchors    the name of its class, the class names, the anchors (YOLOv2 and YOLOv3)
    size                         of the input in evaluation, in pixels
    step                         how many steps it was trained
    model                        the network's state_dict

last.pt also holds what a training needs to continue: optimizer (the constant's value), train (which images), best (the
highest AP or accuracy so far) and optimizer_state.
"""
import math
import zlib
from pathlib import Path
from textwrap import shorten

import torch

from shared.errors import InputError
from shared.paths import atomic_write


def save_checkpoint(path, state):
    """Writes the dict state to path."""
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path, *networks):
    """
    Returns the dict in the checkpoint at path, with its tensors on the CPU. Raises InputError, naming the file, if it
    is missing or damaged, or if the network in it is none of `networks`, names of classes.
    """
    state = read(path)
    if state.get("network") not in networks:
        raise InputError(f"{path}: holds {state.get('network', 'no network of ours')}, not {' or '.join(networks)}")
    return state


def load_weights(network, weights, path):
    """Copies a state_dict that was read from path into the network. Raises InputError if it is another network's."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path}: not weights of this network ({shorten(str(error).splitlines()[1], 200)})") from None


def load_backbone(backbone, path):
    """
    Copies a classifier's weights into a detector's backbone, whose keys are the classifier's own. Raises InputError,
    before anything is changed, if one is missing or has another shape.
    """
    weights = read(path)
    weights = weights.get("model", weights)
    for key, value in backbone.state_dict().items():
        found = getattr(weights.get(key), "shape", None)
        if found != value.shape:
            raise InputError(f"{path}: not weights of this backbone: {key} should be {tuple(value.shape)}, "
                             f"{'is missing' if found is None else f'is {tuple(found)}'}")
    backbone.load_state_dict({key: weights[key] for key in backbone.state_dict()})


def load_start(network, path, name, classes):
    """
    Copies the weights of a checkpoint into a classifier. Raises InputError if the network in it is not called `name`,
    or if it was trained on other classes.
    """
    state = load_checkpoint(path, name)
    if state["classes"] != classes:
        raise InputError(f"{path}: was trained on other classes than those of this training")
    load_weights(network, state["model"], path)


def fingerprint(paths):
    """Tells one list of images from another in a checkpoint: how many they are, and a checksum of their names."""
    names = [Path(path).name for path in paths]
    return [len(names), zlib.crc32(" ".join(names).encode())]


def resume(path, network, optimizer, fixed, max_steps, script):
    """
    Continues the training whose last checkpoint is at path: copies its weights and its optimizer's state.

    fixed      {"classes": CLASSES, ...}: values that must equal the checkpoint's; a key in capitals is the constant
    max_steps  the constant MAX_STEPS of the script, which the messages name
    returns    how many steps are done, and the best result so far; 0 and -1.0 if there is no checkpoint
    raises     InputError if one of `fixed` differs, if all steps are done, or if the checkpoint is damaged or, as
               best.pt, without the optimizer's state
    """
    if not path.exists():
        return 0, -1.0
    state = read(path)
    for key, value in fixed.items():
        if state.get(key) != value:
            raise InputError(f"{path}: was trained with another {key.upper()}; put it back, or give RUN in {script} "
                             "a new name")
    missing = {"step", "best", "model", "optimizer_state"} - state.keys()
    if missing:
        raise InputError(f"{path}: does not hold what a training needs to continue: {', '.join(sorted(missing))}")
    if state["step"] >= max_steps:
        raise InputError(f"{path}: all {state['step']} steps are done. To train on, raise MAX_STEPS in {script}; to "
                         "start a new training, give RUN a new name")
    load_weights(network, state["model"], path)
    # The saved moments, with the learning rate, momentum and weight decay that the constants have now
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state["optimizer_state"]["state"]})
    return state["step"], state["best"]


def save_best(path, state, result, best):
    """
    Writes state to path if this result is at least as good as the best so far. Returns the better of the two. A result
    is nan where the data has no objects to be found; then the latest state counts as the best.
    """
    if result >= best or math.isnan(result) or math.isnan(best):
        save_checkpoint(path, state)
        return result
    return best


def read(path):
    """The dict in the file at path, unchecked."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # torch.load reports foreign bytes in a dozen ways
        raise InputError(f"{path}: not a checkpoint, or a damaged one ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict):
        raise InputError(f"{path}: not a checkpoint")
    return state
