"""
Checkpoints: a dict of state_dicts and plain values in one file. A file is written completely or not at all.

Every detector's checkpoint holds

    network    the name of its class
    classes    the class names; YOLO9000 has the tree instead
    anchors    of YOLOv2 and YOLOv3. YOLOv1 has boxes, their number per cell, and batch_norm; YOLOv2 also has stretch
    size       of the input in evaluation, in pixels
    step       how many steps it was trained
    model      the network's state_dict

last.pt also holds what a training needs to continue: optimizer (the constant's value), train (which images), best (the
highest AP or accuracy so far) and optimizer_state.
"""
import math
import os
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import torch

from shared.constants import is_list, is_names, is_number, is_whole
from shared.errors import InputError, one_line
from shared.paths import atomic_write


def save_checkpoint(path, state):
    """Writes the dict state to path. It is on the disk, not only on its way there, before the old file is replaced."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:                        # torch's, with the OSError of a full disk behind it
            raise error.__context__ if isinstance(error.__context__, OSError) else error
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path, *networks):
    """
    Returns the dict in the checkpoint at path, with its tensors on the CPU. Raises InputError, naming the file, if it
    is missing or damaged, if the network in it is none of `networks`, names of classes, or if a value is missing or
    cannot be.
    """
    state = read(path)
    if state.get("network") not in networks:
        network = one_line(str(state.get("network", "no network of ours")), 100)
        raise InputError(f"{path}: holds {network}, not {' or '.join(networks)}")
    missing = {"size", "step", "model"} - state.keys()
    if missing:
        raise InputError(f"{path}: holds no {', '.join(sorted(missing))}")
    check_state(state, path)
    return state


def load_weights(network, weights, path):
    """
    Copies a state_dict that was read from path into the network. Raises InputError if it is another network's, or if
    its numbers are not finite.
    """
    check_tensors(weights, path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        problem = str(error).splitlines()[1:2] or [str(error)]               # after the heading
        raise InputError(f"{path}: not weights of this network ({one_line(problem[0].strip(), 200)})") from None
    check_finite(weights, path)


def load_backbone(backbone, path):
    """
    Copies a classifier's weights into a detector's backbone, whose keys are the classifier's own. Raises InputError,
    before anything is changed, if one is missing, has another shape or holds numbers that are not finite.
    """
    weights = read(path)
    weights = weights.get("model", weights)
    check_tensors(weights, path)
    for key, value in backbone.state_dict().items():
        found = getattr(weights.get(key), "shape", None)
        if found != value.shape:
            raise InputError(f"{path}: not weights of this backbone: {key} should be {tuple(value.shape)}, "
                             f"{'is missing' if found is None else f'is {tuple(found)}'}")
    weights = {key: weights[key] for key in backbone.state_dict()}
    check_finite(weights, path)
    backbone.load_state_dict(weights)


def load_start(network, path, name, classes):
    """
    Copies the weights of a checkpoint into a classifier. Raises InputError if the network in it is not called `name`,
    or if it was trained on other classes.
    """
    state = load_checkpoint(path, name)
    if state.get("classes") != classes:
        raise InputError(f"{path}: was trained on other classes than those of this training")
    load_weights(network, state["model"], path)


def fingerprint(paths):
    """Tells one list of images from another in a checkpoint: how many they are, and a checksum of their names."""
    names = [Path(path).name for path in paths]
    return [len(names), zlib.crc32(" ".join(names).encode())]


def resume(path, network, optimizer, fixed, max_steps, script):
    """
    Continues the training whose last checkpoint is at path: copies its weights and its optimizer's state.

    fixed      {"classes": CLASSES, ...}: values that must equal the checkpoint's. A message writes the key
               in capitals, as the constant is called
    max_steps  the constant MAX_STEPS of the script, which the messages name
    returns    how many steps are done, and the best result so far; 0 and -1.0 if there is no checkpoint
    raises     InputError if one of `fixed` differs, if all steps are done, or if the checkpoint is damaged or, as
               best.pt, without the optimizer's state
    """
    if not path.exists():
        return 0, -1.0
    try:
        state = read(path)
    except InputError as error:
        raise InputError(f"{error}. To start a new training, give RUN in {script} a new name") from None
    with damage_is_an_input_error(path):
        for key, value in fixed.items():
            if state.get(key) != value:
                raise InputError(f"{path}: was trained with another {key.upper()}; put it back, or give RUN in "
                                 f"{script} a new name")
        missing = {"step", "best", "model", "optimizer_state"} - state.keys()
        if missing:
            raise InputError(f"{path}: does not hold what a training needs to continue: {', '.join(sorted(missing))}. "
                             f"A copy of best.pt can be evaluated; to train, give RUN in {script} a new name")
        check_state(state, path)
        if state["step"] >= max_steps:
            raise InputError(f"{path}: all {state['step']} steps are done. To train on, raise MAX_STEPS in {script}; "
                             "to start a new training, give RUN a new name")
        moments = state["optimizer_state"]["state"]
        check_moments(moments, optimizer, path)
        load_weights(network, state["model"], path)
        # The saved moments, with the learning rate, momentum and weight decay that the constants have now
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
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
    """
    The dict in the file at path, whose values are not checked. Raises InputError if it cannot be read, or if a
    checksum in it is wrong: a .pt file is a zip archive, and torch.load does not look at the archive's checksums.
    """
    path = Path(path)
    problem = "not a checkpoint, or a damaged one"
    if path.name == "last.pt" and path.with_name("best.pt").exists():
        advice = "; best.pt beside it may be whole"
    else:
        advice = ""
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: {problem} (it is empty){advice}")
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    raise InputError(f"{path}: {problem} (a checksum is wrong){advice}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception:  # zipfile and torch report foreign and damaged bytes in a dozen ways
        raise InputError(f"{path}: {problem}{advice}") from None
    if not isinstance(state, dict):
        raise InputError(f"{path}: not a checkpoint{advice}")
    return state


def is_anchors(value):
    """Pairs of width and height, or lists of such pairs."""
    def is_pair(pair):
        return is_list(pair, lambda side: is_number(side, 0, 1e6) and side > 0) and len(pair) == 2
    return is_list(value, is_pair) or is_list(value, lambda pairs: is_list(pairs, is_pair))


CHECKS = {  # what the values of a checkpoint may be
    "classes": is_names,
    "anchors": is_anchors,
    "boxes": lambda value: is_whole(value, 1),
    "size": lambda value: is_whole(value, 1) and value <= 10_000,
    "step": lambda value: is_whole(value) and value <= 10 ** 12,
    "best": lambda value: isinstance(value, (int, float)),
}


def check_state(state, path):
    """Raises InputError, naming the file, if a value in a checkpoint cannot be."""
    for key, is_possible in CHECKS.items():
        if key in state and not is_possible(state[key]):
            raise InputError(f"{path}: {key} cannot be {one_line(repr(state[key]), 100)}")
    check_tensors(state["model"], path)


def check_tensors(weights, path):
    """Raises InputError if the weights that were read from path are not a dict {name: tensor of numbers}."""
    if not isinstance(weights, dict):
        raise InputError(f"{path}: holds no weights")
    for key, value in weights.items():
        if not is_tensor(value) or not isinstance(key, str):
            raise InputError(f"{path}: {one_line(repr(key), 100)} is no tensor of numbers")


def check_finite(weights, path):
    """Raises InputError if one of the tensors, {name: tensor} read from path, holds NaN or an infinite number."""
    for key, value in weights.items():
        if not value.isfinite().all():
            raise InputError(f"{path}: {key} holds numbers that are not finite")


def is_tensor(value):
    """Whether it is an ordinary tensor: not sparse, of real or whole numbers."""
    types = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and value.dtype in types


def check_moments(moments, optimizer, path):
    """
    Raises InputError if moments, an optimizer's state that was read from path, are not such as this optimizer keeps: a
    fused optimizer does not look at their shapes, and would read and write beyond their ends.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = {"momentum_buffer"} if isinstance(optimizer, torch.optim.SGD) else {"step", "exp_avg", "exp_avg_sq"}
    for index, values in moments.items():
        shape = parameters[index].shape
        if values.keys() not in (set(), names):
            raise InputError(f"{path}: the optimizer's state is another optimizer's")
        for name, value in values.items():
            missing = value is None and name == "momentum_buffer"            # SGD without momentum
            if not missing and (not is_tensor(value) or not value.is_floating_point()
                                or value.shape != (() if name == "step" else shape)):
                raise InputError(f"{path}: the optimizer's state does not fit the network: {name} of weights "
                                 f"{tuple(shape)}")


@contextmanager
def damage_is_an_input_error(path):
    """
    Around code that uses the values of the checkpoint at path: values that are missing or of the wrong kind raise
    InputError, naming the file, instead of a KeyError, a TypeError, ...
    """
    try:
        yield
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = one_line(str(error), 100)
        raise InputError(f"{path}: a checkpoint of another version, or a damaged one ({type(error).__name__}: {reason})"
                         ) from None
