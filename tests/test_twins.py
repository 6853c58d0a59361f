"""
What the papers left as it was is written out in each version's folder. These copies have to stay equal, statement by
statement, docstrings included; only the version's own number may differ.
"""
import ast
import re

import pytest

from shared.paths import ROOT

V2_V3 = ["yolov2", "yolov3"]
ALL = ["yolov1", *V2_V3]
CLASSIFIERS = {"yolov1": "Extraction", "yolov2": "Darknet19", "yolov3": "Darknet53"}  # in the files named in lower case
TWINS = [  # file, a definition or constant in it, the folders
    *[("model.py", name, V2_V3) for name in (
        "ConvBlock", "YOLOvN.fuse", "darknet_order", "load_darknet_weights", "save_darknet_weights")],
    *[("weights.py", name, V2_V3) for name in ("CHECKPOINT", "SIZE", "load_detector", "start_from", "main")],
    *[("dataset.py", name, V2_V3) for name in (
        "JITTER", "HUE", "SMALLEST", "place", "letterbox_geometry", "letterbox", "letterbox_boxes", "undo_letterbox")],
    *[("dataset.py", name, ALL) for name in (
        "VOC", "TRAIN", "TEST", "CLASSES", "SATURATION", "EXPOSURE", "collate")],
    *[("train.py", name, V2_V3) for name in ("image_size", "batches", "evaluate")],
    *[("train.py", name, ALL) for name in ("MOMENTUM", "WEIGHT_DECAY", "MEASURES", "ACCURACIES", "make_optimizer")],
    *[("evaluate.py", name, V2_V3) for name in (
        "SCORE_THRESHOLD", "NMS_THRESHOLD", "CONFIDENCE", "main")],
    *[("evaluate.py", name, ALL) for name in ("CHECKPOINT", "DATA", "truths_of", "report")],
    *[("detect.py", name, V2_V3) for name in ("SCORE_THRESHOLD", "NMS_THRESHOLD")],
    *[("detect.py", name, ALL) for name in ("CHECKPOINT", "SOURCE", "OUT")],
    *[("classifier_model.py", name, V2_V3) for name in (
        "ConvBlock", "darknet_order", "load_darknet_weights", "save_darknet_weights")],
    *[("classifier_dataset.py", name, ALL) for name in ("IMAGENET", "TRAIN", "VAL", "NAMES", "centre_crop")],
    *[("classifier_dataset.py", name, V2_V3) for name in (
        "ANGLE", "ASPECT", "HUE", "SATURATION", "EXPOSURE", "ClassificationDataset", "random_crop", "main")],
    *[("classifier_train.py", name, ALL) for name in (
        "RUN", "START", "BATCH_SIZE", "AUGMENT", "OPTIMIZER", "SCHEDULE", "POWER", "BATCHNORM_MOMENTUM", "MOMENTUM",
        "WEIGHT_DECAY", "ADAM_BETAS", "TERMS", "MEASURES", "COLUMNS", "learning_rate", "batches", "check_constants",
        "make_optimizer", "correct", "evaluate", "main")],
]
BLOCKS = [("yolov1", "ConvBlock"), ("yolov2", "ConvBlock"), ("yolov3", "ConvBlock"), ("yolov3", "ResidualBlock")]


def statements(folder, file, name):
    """
    A definition ("Class.method" too) or a constant, one line per statement, with yolovN for the version's name and
    Classifier for its classifier's. Extraction's choice of BatchNorm, which the others have not, is left out.
    """
    classifier = CLASSIFIERS[folder]
    path = ROOT / folder / file.replace("classifier_", classifier.lower() + "/")
    text = re.sub(r"(?i)(yolov)\d", r"\1N", path.read_text())
    text = text.replace(classifier, "Classifier").replace(classifier.lower(), "classifier")
    text = text.replace(', "batch_norm": BATCH_NORM', "").replace(', ("batch_norm", "BATCH_NORM")', "")
    node = ast.parse(text)
    for part in name.split("."):
        found = [child for child in node.body if getattr(child, "name", None) == part
                 or isinstance(child, ast.Assign) and ast.unparse(child.targets[0]) == part]
        assert len(found) == 1, f"{folder}/{file}: {part} is there {len(found)} times"
        node = found[0]
    return ast.unparse(node).splitlines()


@pytest.mark.parametrize("file, name, folders", TWINS, ids=[f"{file}:{name}" for file, name, _ in TWINS])
def test_the_copies_are_equal(file, name, folders):
    first, *others = [statements(folder, file, name) for folder in folders]
    for other in others:
        assert other == first


@pytest.mark.parametrize("folder, name", BLOCKS)
def test_a_classifier_has_its_detectors_blocks(folder, name):
    assert statements(folder, "classifier_model.py", name) == statements(folder, "model.py", name)
