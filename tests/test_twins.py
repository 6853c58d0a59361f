"""
What the papers left as it was is written out in each version's folder. These copies have to stay equal, statement by
statement, docstrings included; only the version's own number may differ.
"""
import ast
import re

import pytest

from shared.paths import ROOT

V2_V3 = ["yolov2", "yolov3"]
TWINS = [  # file, a definition or constant in it, the folders
    *[("model.py", name, V2_V3) for name in ("ConvBlock", "YOLOvN.fuse")],
    *[("dataset.py", name, V2_V3) for name in (
        "VOC", "TRAIN", "TEST", "CLASSES", "JITTER", "HUE", "SATURATION", "EXPOSURE", "SMALLEST", "DetectionDataset",
        "place", "letterbox_geometry", "letterbox", "letterbox_boxes", "undo_letterbox", "collate", "main")],
    *[("train.py", name, V2_V3) for name in (
        "MOMENTUM", "WEIGHT_DECAY", "MEASURES", "learning_rate", "image_size", "batches", "check_constants",
        "make_optimizer", "evaluate")],
    *[("evaluate.py", name, V2_V3) for name in (
        "DATA", "SCORE_THRESHOLD", "NMS_THRESHOLD", "CONFIDENCE", "truths_of", "report", "main")],
    *[("detect.py", name, V2_V3) for name in ("CHECKPOINT", "SOURCE", "OUT", "SCORE_THRESHOLD", "NMS_THRESHOLD")],
]


def statements(folder, file, name):
    """A definition ("Class.method" too) or a constant, one line per statement, with yolovN for the version's name."""
    node = ast.parse(re.sub(r"(?i)(yolov)\d", r"\1N", (ROOT / folder / file).read_text()))
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
