"""A value that a constant cannot have is one line that names the script and the constant. The committed ones pass."""
import importlib
import math
from pathlib import Path

import pytest

from shared.constants import NUMBERS, OTHERS, WHOLE_NUMBERS, check_values
from shared.errors import InputError
from shared.paths import ROOT

SCRIPTS = sorted(path.relative_to(ROOT) for path in ROOT.glob("yolov*/**/*.py")
                 if path.name in ("train.py", "evaluate.py", "detect.py"))
WRONG = {  # by kind of constant, what has been tried on the scripts and ended in an error far from its cause
    "MAX_STEPS": [0, -5, 1.5, True, None, "300", math.nan, 10 ** 30],
    "BATCH_SIZE": [0, -4], "SUBDIVISIONS": [0, -1], "SIZE": [0, -32, None], "TEST_SIZE": [0, "416"],
    "EVALUATE_EVERY": [0], "CHECKPOINT_EVERY": [0, -1], "MAX_TRAIN_EVALUATED": [0], "EVALUATION_BATCH": [0],
    "PICTURE": [0], "SEED": [-1, 0.5, 2 ** 64], "BURN_IN": [-1, None], "NUM_WORKERS": [-1], "PICTURES": [-6],
    "LEARNING_RATE": [-1, math.nan, math.inf, "1e-3", None], "WEIGHT_DECAY": [-1, math.nan], "POWER": [None],
    "MAX_NORM": [-1, math.nan], "MOMENTUM": [1.5, -0.1], "BATCHNORM_MOMENTUM": [2], "DROPOUT": [-0.1, 1.1, None],
    "SCORE_THRESHOLD": [2, math.nan], "NMS_THRESHOLD": [-1], "CONFIDENCE": [2, None, "0.5"],
    "RUN": ["", None, 3, "a\0b"], "AUGMENT": ["yes", 1, None], "SKIP_UNUSABLE": [0],
    "TRAIN_SIZES": [[], [0], 416, [320.5], None],
    "LR_STEPS": [None, [1.5], {200: "2"}, {-1: 2}], "CROPS": [(-5, 5), (92, 64), (64,), 64],
    "ADAM_BETAS": [(2, 0.9), (0.9,), (0.9, 1), 0.9, None],
    "CLASSES": [None, [], [1, 2], [["cat"]], ["cat", "cat"], [""], {"cat"}, "cat"],
    "TRAIN": [None, ("VOC2007", "train"), "VOC2007", [3], [("VOC2007", "train", "x")], [(None, "train")]],
    "TEST": [None], "VAL": [None, 3], "DATA": [{}, None, {"x": None}, [("VOC2007", "test")]],
    "CHECKPOINT": [None, "", 3], "OUT": [None], "BACKBONE": ["", 3], "START": [False], "WEIGHTS": [0],
    "SOURCE": [None, "", -1, 0.5],
}
RIGHT = {
    "MAX_STEPS": [1, 300], "SEED": [0, 2 ** 40], "NUM_WORKERS": [0], "PICTURES": [0], "BURN_IN": [0],
    "LEARNING_RATE": [0, 1e-3, 1], "MAX_NORM": [math.inf], "MOMENTUM": [0, 0.9, 1], "CONFIDENCE": [0, 0.2, 1],
    "LR_STEPS": [[], {}, [40_000, 45_000], {200: 2.5}], "TRAIN_SIZES": [[128], range(320, 609, 32)],
    "TRAIN": [[], [("VOC2007", "train")], [Path("a"), "b"], [(Path("a"), Path("b.json"))]],
    "CROPS": [(64, 64), [48, 168]],
    "DATA": [{"test": [("VOC2007", "test")]}], "BACKBONE": [None, "a.weights", Path("a.pt")], "START": [None, "a.pt"],
    "WEIGHTS": [None, "DEFAULT"], "SOURCE": ["a.jpg", Path("a"), 0, "."], "ADAM_BETAS": [(0, 0.999), [0.9, 0.95]],
}


@pytest.mark.parametrize("name", [*WHOLE_NUMBERS, *NUMBERS, *OTHERS])
def test_values_that_cannot_be(name):
    for value in WRONG[name]:
        with pytest.raises(InputError, match=f"^yolov3/train.py: {name} has to be .*, not ") as error:
            check_values("yolov3/train.py", {name: value})
        assert "\n" not in str(error.value) and str(error.value).endswith(repr(value)), value
    for value in RIGHT.get(name, []):
        check_values("yolov3/train.py", {name: value})


def test_the_messages():
    for name, value, message in [
            ("MAX_STEPS", 0, "MAX_STEPS has to be a whole number, at least 1, not 0"),
            ("LEARNING_RATE", math.nan, "LEARNING_RATE has to be a number from 0 to 1e+09, not nan"),
            ("AUGMENT", "yes", "AUGMENT has to be True or False, not 'yes'")]:
        with pytest.raises(InputError) as error:
            check_values("a/train.py", {name: value})
        assert str(error.value) == f"a/train.py: {message}"
    with pytest.raises(InputError) as error:
        check_values("a/train.py", {"CLASSES": [1] * 10_000})
    assert len(str(error.value)) < 300


def test_what_depends_on_the_script():
    # A classifier's TRAIN is one folder. In a script that opens a checkpoint SIZE may be None.
    check_values("a/train.py", {"TRAIN": Path("train"), "VAL": Path("val")})
    with pytest.raises(InputError, match="TRAIN has to be a folder, not "):
        check_values("a/train.py", {"TRAIN": [("VOC2007", "train")], "VAL": Path("val")})
    check_values("a/evaluate.py", {"SIZE": None, "CHECKPOINT": "last.pt"})
    check_values("a/train.py", {"SCHEDULE": "poly", "MAX_STEPS_": 0}, SCHEDULE=("cosine", "poly"))
    with pytest.raises(InputError, match=r"a/train.py: SCHEDULE 'Poly' is none of \('cosine', 'poly'\)"):
        check_values("a/train.py", {"SCHEDULE": "Poly"}, SCHEDULE=("cosine", "poly"))
    with pytest.raises(InputError, match=r"NETWORK \['YOLOv3'\] is none of \('YOLOv3',\)"):
        check_values("a/train.py", {"NETWORK": ["YOLOv3"]}, NETWORK={"YOLOv3": 1})           # a list is no key


@pytest.mark.parametrize("path", SCRIPTS, ids=str)
def test_every_script_checks_its_own_constants(path, monkeypatch):
    # As committed they pass. The script's main() refuses a wrong value of each constant that the tables know, before
    # it reads or writes anything; a script that trains also refuses wrong values of its evaluation.
    script = importlib.import_module(".".join(path.with_suffix("").parts))
    check_values(str(path), vars(script))
    for function in "load_detector", "load_checkpoint", "read_annotations", "read_split", "list_classes", "open_run":
        if hasattr(script, function):
            monkeypatch.setattr(script, function, lambda *_, name=function: pytest.fail(f"{name} is called first"))
    places = [(script, str(path))]
    if hasattr(script, "measure") and path.name == "train.py" and path.parent.name != "resnext_coco":
        places.append((importlib.import_module(script.measure.__module__), script.measure.__module__))
    for module, place in places:
        for name in {*WHOLE_NUMBERS, *NUMBERS, *OTHERS} & vars(module).keys():
            with monkeypatch.context() as context, pytest.raises(InputError, match=f"{name} has to be"):
                wrong = WRONG[name][0]
                context.setattr(module, name, wrong)
                script.main()
