"""
Which values the constants of the scripts may have. A script checks its constants at its start, so that an invalid value
is reported in one line instead of failing hours later.
"""
from numbers import Integral, Real
from pathlib import Path

from shared.errors import InputError, check_choice, one_line

WHOLE_NUMBERS = {  # the least value of each
    "MAX_STEPS": 1, "BATCH_SIZE": 1, "SUBDIVISIONS": 1, "SIZE": 1, "TEST_SIZE": 1, "EVALUATE_EVERY": 1,
    "CHECKPOINT_EVERY": 1, "MAX_TRAIN_EVALUATED": 1, "EVALUATION_BATCH": 1, "PICTURE": 1,
    "SEED": 0, "BURN_IN": 0, "NUM_WORKERS": 0, "PICTURES": 0,
}
NUMBERS = {  # the least and the greatest value of each
    "LEARNING_RATE": (0, 1e9), "WEIGHT_DECAY": (0, 1e9), "POWER": (0, 1e9), "MAX_NORM": (0, float("inf")),
    "MOMENTUM": (0, 1), "BATCHNORM_MOMENTUM": (0, 1), "DROPOUT": (0, 1),
    "SCORE_THRESHOLD": (0, 1), "NMS_THRESHOLD": (0, 1), "CONFIDENCE": (0, 1),
}
LARGEST = 2 ** 62  # PyTorch's seeds and indices have 64 bits


def is_whole(value, least=0):
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= value <= LARGEST


def is_number(value, least, most):
    """False for nan, too."""
    return isinstance(value, Real) and not isinstance(value, bool) and least <= value <= most


def is_path(value):
    return isinstance(value, (str, Path)) and str(value) != "" and "\0" not in str(value)


def is_list(value, is_item, least=1):
    return isinstance(value, (list, tuple, range)) and len(value) >= least and all(map(is_item, value))


def is_steps(value):
    """A list of steps, or a dict {step: factor of the learning rate}."""
    if isinstance(value, dict):
        return is_list([*value], is_whole, 0) and all(is_number(factor, 0, 1e9) for factor in value.values())
    return is_list(value, is_whole, 0)


def is_crops(value):
    return is_list(value, lambda side: is_whole(side, 1), 2) and len(value) == 2 and value[0] <= value[1]


def is_names(value):
    return is_list(value, lambda name: isinstance(name, str) and name.strip()) and len(set(value)) == len(value)


def is_data(value):
    """A list of folders, or of pairs that begin with a folder. Where it is read, an empty one is refused."""
    def is_part(part):
        return is_path(part) or isinstance(part, (list, tuple)) and len(part) == 2 and is_path(part[0])
    return isinstance(value, list) and all(map(is_part, value))


OTHERS = {  # what the value has to be, and a function that tells
    "RUN": ("the name of a folder", is_path),
    "AUGMENT": ("True or False", lambda value: isinstance(value, bool)),
    "SKIP_UNUSABLE": ("True or False", lambda value: isinstance(value, bool)),
    "TRAIN_SIZES": ("a list of whole numbers, at least 1",
                    lambda value: is_list(value, lambda size: is_whole(size, 1))),
    "LR_STEPS": ("a list of steps, or {step: factor}", is_steps),
    "CROPS": ("two whole numbers, the least and the greatest", is_crops),
    "ADAM_BETAS": ("two numbers, at least 0 and less than 1",
                   lambda value: is_list(value, lambda beta: is_number(beta, 0, 1) and beta < 1) and len(value) == 2),
    "CLASSES": ("a list of names, each another one", is_names),
    "TRAIN": ("a list of folders with their splits, as in dataset.py", is_data),
    "TEST": ("a list of folders with their splits, as in dataset.py", is_data),
    "VAL": ("a folder", is_path),
    "DATA": ("{name: a list of folders with their splits}",
             lambda value: isinstance(value, dict) and is_list([*value.values()], is_data)),
    "CHECKPOINT": ("the path of a file", is_path),
    "OUT": ("the path of a folder", is_path),
    "BACKBONE": ("None or the path of a file", lambda value: value is None or is_path(value)),
    "START": ("None or the path of a file", lambda value: value is None or is_path(value)),
    "WEIGHTS": ("None or the name of torchvision's weights", lambda value: value is None or is_path(value)),
    "SOURCE": ("the path of an image, a folder or a video, or a camera's number",
               lambda value: is_path(value) or is_whole(value)),
}


def check_values(script, constants, **choices):
    """
    Raises InputError, naming the script and the constant, for the first constant with an invalid value.

    constants  {name: value}: globals() of the script. Names that are in none of the tables above are not looked at
    choices    the values that a constant may have: SCHEDULE=("cosine", "steps")
    """
    for name, values in choices.items():
        check_choice(script, name, constants[name], values)
    for name, value in constants.items():
        if name == "SIZE" and value is None and "CHECKPOINT" in constants:
            continue                                         # None: the checkpoint's own
        if name in WHOLE_NUMBERS:
            least = WHOLE_NUMBERS[name]
            possible, needed = is_whole(value, least), f"a whole number, at least {least}"
        elif name in NUMBERS:
            least, most = NUMBERS[name]
            possible, needed = is_number(value, least, most), f"a number from {least:g} to {most:g}"
        elif name in OTHERS:
            kind = name
            if name == "TRAIN" and "VAL" in constants:       # a classifier's TRAIN is one folder, as its VAL is
                kind = "VAL"
            needed, is_possible = OTHERS[kind]
            possible = is_possible(value)
        else:
            continue
        if not possible:
            raise InputError(f"{script}: {name} has to be {needed}, not {one_line(repr(value))}")
