"""
Reads small COCO files that are made here: category ids, crowds, boxes without area. Every kind of faulty file raises an
error of one line that names the file.
"""
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from shared.annotations import read_annotations
from shared.coco import CATEGORIES, CLASSES, read_split
from shared.detections import write_coco
from shared.errors import InputError
from shared.metrics import coco_ap
from shared.paths import ROOT, SAMPLES
from shared.voc import CLASSES as VOC_CLASSES
from yolov3.evaluate import truths_of


@pytest.fixture
def content(tmp_path):
    """
    Three images of 100 x 80:
        25  a cat, a crowd of persons and a box without area
         9  no annotations
        30  a toothbrush whose box overhangs the image
    """
    for name in ("000000000009.jpg", "000000000025.jpg", "000000000030.jpg"):
        Image.new("RGB", (100, 80)).save(tmp_path / name)
    annotation = {"area": 150.5, "iscrowd": 0, "image_id": 25, "category_id": 17, "bbox": [10, 20, 30, 15.5], "id": 1}
    return {"images": [{"id": n, "file_name": f"{n:012d}.jpg", "width": 100, "height": 80} for n in (25, 9, 30)],
            "categories": [{"id": i, "name": name} for i, name in CATEGORIES.items()],
            "annotations": [annotation,
                            {**annotation, "id": 2, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 50, 50]},
                            {**annotation, "id": 3, "bbox": [5, 5, 0, 10]},
                            {**annotation, "id": 4, "image_id": 30, "category_id": 90, "bbox": [-2, 70, 12, 14]}]}


def write(tmp_path, content):
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return read_split(tmp_path, tmp_path / "instances.json", CLASSES)


def test_the_eighty_categories():
    # Ten ids from 1 to 90 are not used: 12, 26, 29, 30, 45, 66, 68, 69, 71 and 83. Nine of them are below 72, the id of
    # tv. Ids count from 1 and labels from 0, so the label of tv is 72 - 9 - 1 = 62.
    assert len(CLASSES) == len(set(CLASSES)) == 80
    assert set(range(1, 91)) - set(CATEGORIES) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert [CLASSES[label] for label in (0, 11, 15, 62, 79)] == ["person", "stop sign", "cat", "tv", "toothbrush"]


def test_a_file_read_by_hand(tmp_path, content):
    first, second, third = write(tmp_path, content)
    assert [a.number for a in (first, second, third)] == [25, 9, 30]         # the order of the file
    assert first.image == tmp_path / "000000000025.jpg" and (first.width, first.height) == (100, 80)
    assert first.boxes.tolist() == [[10, 20, 40, 35.5], [0, 0, 50, 50]]      # without the box of no area
    assert first.labels.tolist() == [15, 0] and first.difficult.tolist() == [False, True]
    assert first.areas.tolist() == [150.5, 150.5]
    assert len(second.boxes) == 0 and second.boxes.shape == (0, 4)           # no annotations; the image is kept
    assert third.boxes.tolist() == [[0, 70, 10, 80]] and third.labels.tolist() == [79]       # cut off at the border


def test_one_list_may_hold_both_layouts(tmp_path, content):
    # The category with id 7 x 3 = 21 is VOC's class 3. The annotation has no area, so it is the box's: 5 x 5 = 25.
    content["categories"] = [{"id": 7 * label, "name": name} for label, name in enumerate(VOC_CLASSES)]
    content["annotations"] = [{"image_id": 9, "category_id": 21, "bbox": [0, 0, 5, 5]}]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    both = read_annotations([(tmp_path, tmp_path / "instances.json"), (SAMPLES / "voc/VOCdevkit/VOC2007", "val")],
                            VOC_CLASSES)
    assert [a.number for a in both[:4]] == [25, 9, 30, None] and len(both) == 3 + 8
    assert both[1].labels.tolist() == [3] and both[1].areas.tolist() == [25]


@pytest.mark.parametrize("change, message", [
    ({"category_id": 12}, "annotation 1: class '12' is not one of CLASSES"),
    ({"image_id": 7}, "annotation 1: belongs to image 7, which is not in the file"),
    ({"bbox": [10, 20, -3, 5]}, "annotation 1: its bbox 10 20 -3 5 has a negative width or height"),
    ({"bbox": [100, 20, 30, 5]}, "annotation 1: its bbox 100 20 30 5 lies outside the 100 x 80 image"),
    ({"bbox": [10, 20, float("nan"), 5]}, "annotation 1: its bbox 10 20 nan 5 is not four finite numbers"),
    ({"bbox": [10, 20, 5]}, "an annotation without image_id, category_id or four numbers as bbox"),
    ({"bbox": [10, 20, 5, "x"]}, "an annotation without image_id, category_id or four numbers as bbox"),
])
def test_wrong_annotations_are_named(tmp_path, content, change, message):
    content["annotations"][0].update(change)
    with pytest.raises(InputError, match=f"instances.json: {message}"):
        write(tmp_path, content)


def test_wrong_files_are_named(tmp_path, content):
    with pytest.raises(InputError, match="none.json: no such file"):
        read_split(tmp_path, tmp_path / "none.json", CLASSES)
    with pytest.raises(InputError, match="not a file of COCO instances"):
        write(tmp_path, [{"image_id": 1, "score": 0.5}])                     # this is a file of detections
    with pytest.raises(InputError, match="'categories' is missing"):
        write(tmp_path, {"images": [], "annotations": []})
    with pytest.raises(InputError, match="names 000000000031.jpg, but there is no .*000000000031.jpg"):
        write(tmp_path, {**content, "images": [{"id": 1, "file_name": "000000000031.jpg", "width": 1, "height": 1}]})
    with pytest.raises(InputError, match="two images have the same id"):
        write(tmp_path, {**content, "images": content["images"] * 2})
    with pytest.raises(InputError, match="has no category 'toothbrush', which is one of CLASSES"):
        write(tmp_path, {**content, "categories": content["categories"][:-1]})
    (tmp_path / "instances.json").write_text('{"images": [')
    with pytest.raises(InputError, match="instances.json: not well-formed JSON"):
        read_split(tmp_path, tmp_path / "instances.json", CLASSES)


def test_the_crowd_in_the_average_precision(tmp_path, content):
    # There are four detections:
    #     a cat, exact                               correct
    #     two persons inside the crowd of persons    ignored: neither correct nor wrong
    #     a person outside the crowd                 wrong
    # All persons are a crowd, so no person has to be found and the class person has no AP. The AP is the mean over cat,
    # which is found, and toothbrush, which is not: (1 + 0) / 2 = .5. All outlines have 150.5 pixels, less than 32^2,
    # so all objects are small.
    annotations = write(tmp_path, content)
    truths = truths_of(annotations)
    assert truths.tolist() == [[0, 15, 10, 20, 40, 35.5, 0], [0, 0, 0, 0, 50, 50, 1], [2, 79, 0, 70, 10, 80, 0]]
    detections = np.array([[0, 15, .9, 10, 20, 40, 35.5], [0, 0, .8, 1, 1, 9, 9], [0, 0, .7, 20, 20, 40, 40],
                           [0, 0, .6, 60, 60, 90, 79]])
    areas = np.concatenate([a.areas for a in annotations])
    ap = coco_ap(detections, truths, 80, areas)
    assert ap["AP"] == ap["AP50"] == ap["AP_small"] == 0.5 and np.isnan(ap["AP_large"])

    write_coco(tmp_path / "out", detections, truths, ["a", "b", "c"], [(100, 80)] * 3, CLASSES, areas,
               [a.number for a in annotations], annotations[0].category_ids)
    found, there = (json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("detections", "truths"))
    assert [(row["image_id"], row["category_id"]) for row in found] == [(25, 17), (25, 1), (25, 1), (25, 1)]
    assert [(a["image_id"], a["category_id"], a["iscrowd"]) for a in there["annotations"]] == [
        (25, 17, 0), (25, 1, 1), (30, 90, 0)]
    assert [image["id"] for image in there["images"]] == [25, 9, 30]
    assert there["categories"][62] == {"id": 72, "name": "tv"}


@pytest.mark.slow
@pytest.mark.parametrize("version", ["yolov2", "yolov3"])
def test_a_detector_trains_on_coco_if_the_constants_of_its_dataset_say_so(tmp_path, version):
    # Two steps on the sample in COCO's layout, then evaluation. The ground truth that evaluation writes has to equal
    # the annotations of the sample.
    script = f"""
from pathlib import Path
import {version}.dataset as dataset
from shared.coco import CLASSES
from shared.paths import SAMPLES
coco = SAMPLES / "coco"
dataset.TRAIN = [(coco / "train2017", coco / "annotations" / "instances_train2017.json")]
dataset.TEST = [(coco / "val2017", coco / "annotations" / "instances_val2017.json")]
dataset.CLASSES = CLASSES
import {version}.train as train
train.RUNS, train.NUM_WORKERS = Path({str(tmp_path)!r}), 0
train.MAX_STEPS, train.TRAIN_SIZES, train.TEST_SIZE = 2, [64], 64
train.main()
import {version}.evaluate as evaluate
evaluate.CHECKPOINT, evaluate.NUM_WORKERS = train.RUNS / {version!r} / "last.pt", 0
evaluate.main()
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "train: 16 images" in result.stdout and "test: 8 images" in result.stdout
    truths = json.loads((tmp_path / version / "evaluation" / "train" / "truths.json").read_text())
    sample = json.loads((SAMPLES / "coco/annotations/instances_train2017.json").read_text())
    assert [image["id"] for image in truths["images"]] == [image["id"] for image in sample["images"]]
    assert len(truths["annotations"]) == len(sample["annotations"])
    for ours, theirs in zip(sorted(truths["annotations"], key=lambda a: (a["image_id"], a["bbox"])),
                            sorted(sample["annotations"], key=lambda a: (a["image_id"], a["bbox"]))):
        assert all(ours[key] == theirs[key] for key in ("image_id", "category_id", "iscrowd", "area", "bbox"))
