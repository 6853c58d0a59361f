"""
Checkpoints: a dict of state_dicts and plain values in one file, written whole or not at all.

Every detector's holds network (its class's name), classes, anchors, size (of the input, in pixels) and model (the
state_dict); last.pt holds what training needs to go on besides.
"""
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
    The dict in the checkpoint at path, on the CPU. Raises InputError, naming the file, if it is missing, damaged, or of
    another network than those whose classes are named.
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
    Copies a classifier's weights into a detector's backbone, which has the classifier's own keys. Raises InputError,
    before anything is changed, if one is missing or of another shape.
    """
    weights = read(path)
    weights = weights.get("model", weights)
    for key, value in backbone.state_dict().items():
        found = getattr(weights.get(key), "shape", None)
        if found != value.shape:
            raise InputError(f"{path}: not weights of this backbone: {key} should be {tuple(value.shape)}, "
                             f"{'is missing' if found is None else f'is {tuple(found)}'}")
    backbone.load_state_dict({key: weights[key] for key in backbone.state_dict()})


def read(path):
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # torch.load reports foreign bytes in a dozen ways
        raise InputError(f"{path}: not a checkpoint, or a damaged one ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict):
        raise InputError(f"{path}: not a checkpoint")
    return state
