"""
What one paper took over from the one before is written out in each version's folder, so that each can be read alone.
Such copies have to be equal, statement by statement. Docstrings and the version's own number may differ.
"""
import ast
import re

import pytest

from shared.paths import ROOT

V2_V3 = ["yolov2", "yolov3"]
ALL = ["yolov1", "yolov2", "yolov3"]
CLASSIFIERS = {"yolov1": "Extraction", "yolov2": "Darknet19", "yolov3": "Darknet53"}    # in folders of their names
TWINS = [  # file, definitions and constants in it, the versions in which they are equal
    ("model.py", ["ConvBlock"], V2_V3),
    ("weights.py", ["darknet_order"], V2_V3),
    ("dataset.py", ["SATURATION", "EXPOSURE", "make_targets", "collate"], ALL),
    ("dataset.py", ["crop", "stretch"], ["yolov1", "yolov2"]),
    ("dataset.py", ["JITTER", "HUE", "SMALLEST", "place", "letterbox_geometry", "letterbox", "letterbox_boxes",
                    "undo_letterbox"], V2_V3),
    ("anchors.py", ["overlaps", "average_iou", "first_clusters", "k_means", "best_clusters"], V2_V3),
    ("train.py", ["MOMENTUM", "ADAM_BETAS", "learning_rate"], ALL),
    ("train.py", ["WEIGHT_DECAY", "image_size", "make_optimizer"], V2_V3),
    ("evaluate.py", ["SCORE_THRESHOLD", "NMS_THRESHOLD"], V2_V3),
    ("detect.py", ["SCORE_THRESHOLD", "NMS_THRESHOLD"], V2_V3),
    ("CLASSIFIER/model.py", ["ConvBlock"], V2_V3),
    ("CLASSIFIER/dataset.py", ["centre_crop"], ALL),
    ("CLASSIFIER/dataset.py", ["ANGLE", "ASPECT", "HUE", "SATURATION", "EXPOSURE", "ClassificationDataset",
                               "random_crop"], V2_V3),
    ("CLASSIFIER/train.py", ["MOMENTUM", "WEIGHT_DECAY", "ADAM_BETAS", "learning_rate", "make_optimizer"], ALL),
]
PAIRS = [(file, name, versions) for file, names, versions in TWINS for name in names]
BLOCKS = [("yolov1", "ConvBlock"), ("yolov2", "ConvBlock"), ("yolov3", "ConvBlock"), ("yolov3", "ResidualBlock")]


class Comparable(ast.NodeTransformer):
    """Removes docstrings."""

    def visit_Expr(self, node):
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def statements(version, file, name):
    """A definition or a constant, one line per statement, with yolovN and Classifier for the version's own names."""
    classifier = CLASSIFIERS[version]
    text = (ROOT / version / file.replace("CLASSIFIER", classifier.lower())).read_text()
    text = re.sub(r"(?i)(yolov)\d", r"\1N", text).replace(classifier, "Classifier")
    text = text.replace(classifier.lower(), "classifier")
    found = [node for node in ast.parse(text).body if getattr(node, "name", None) == name
             or isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name]
    assert len(found) == 1, f"{version}/{file}: {name} is there {len(found)} times"
    return ast.unparse(Comparable().visit(found[0])).splitlines()


@pytest.mark.parametrize("file, name, versions", PAIRS, ids=[f"{file}:{name}" for file, name, _ in PAIRS])
def test_the_copies_are_equal(file, name, versions):
    first, *others = [statements(version, file, name) for version in versions]
    for other in others:
        assert other == first


@pytest.mark.parametrize("version, name", BLOCKS)
def test_a_classifier_has_its_detectors_blocks(version, name):
    assert statements(version, "CLASSIFIER/model.py", name) == statements(version, "model.py", name)
