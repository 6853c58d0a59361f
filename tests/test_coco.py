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
    ({"bbox": [10, 20, 5]}, "annotation 1: its bbox 10 20 5 is not four finite numbers"),
    ({"bbox": [10, 20, 5, "6"]}, "annotation 1: its bbox 10 20 5 '6' is not four finite numbers"),
    ({"bbox": "1234"}, "annotation 1: its bbox '1234' is not four finite numbers"),
    ({"bbox": [10, 20, [], None]}, "annotation 1: its bbox 10 20 (list) None is not four finite numbers"),
    ({"bbox": [10, 20, 5, 10 ** 400]}, "annotation 1: its bbox 10 20 5 1000"),
    ({"bbox": None}, "annotation 1: its bbox None is not four finite numbers"),
    ({"area": "150"}, "annotation 1: its area '150' is not a number of pixels"),
    ({"area": None}, "annotation 1: its area None is not a number of pixels"),
    ({"area": {}}, "annotation 1: its area (dict) is not a number of pixels"),
    ({"area": -1}, "annotation 1: its area -1 is not a number of pixels"),
    ({"area": float("nan")}, "annotation 1: its area nan is not a number of pixels"),
    ({"iscrowd": "no"}, "annotation 1: its iscrowd 'no' is not 0 or 1"),
    ({"iscrowd": None}, "annotation 1: its iscrowd None is not 0 or 1"),
    ({"image_id": [1]}, "annotation 1: has no image_id or no category_id"),
    ({"category_id": [3]}, "annotation 1: has no image_id or no category_id"),
    ({"image_id": "2\n5"}, r"annotation 1: belongs to image '2\n5', which is not in the file"),
    ({"id": 0, "area": -1}, "annotation 0: its area -1 is not a number of pixels"),
    ({"id": "a\nb", "area": -1}, r"annotation a\nb: its area -1 is not a number of pixels"),
    ({"id": [1], "area": -1}, "annotation number 1 of the list: its area -1 is not a number of pixels"),
])
def test_wrong_annotations_are_named(tmp_path, content, change, message):
    content["annotations"][0].update(change)
    with pytest.raises(InputError) as error:
        write(tmp_path, content)
    assert f"instances.json: {message}" in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("change, message", [
    ({"width": "100"}, "image 25: has width '100' and height 80, but .*25.jpg has 100 x 80 pixels"),
    ({"height": None}, "image 25: has width 100 and height None, but"),
    ({"width": float("nan")}, "image 25: has width nan and height 80, but"),
    ({"height": [80]}, r"image 25: has width 100 and height \(list\), but"),
    ({"width": 80, "height": 100}, "image 25: has width 80 and height 100, but"),
    ({"file_name": None}, "image 25: has no id or no file_name"),
    ({"file_name": "x" * 300}, "image 25: .*: file name too long"),
    ({"file_name": "a\0b"}, r"image 25: .*a\\x00b: no such file"),
    ({"file_name": ""}, "image 25: .*: is a folder, not a file"),
])
def test_wrong_images_are_named_and_their_annotations_passed_over(tmp_path, content, change, message):
    content["images"][0].update(change)
    with pytest.raises(InputError, match=f"instances.json: {message}") as error:
        write(tmp_path, content)
    assert "\n" not in str(error.value)
    problems = []
    found = read_split(tmp_path, tmp_path / "instances.json", CLASSES, problems)
    assert problems == [str(error.value)] and [a.number for a in found] == [9, 30]


def test_every_problem_is_told_and_the_other_images_are_read(tmp_path, content):
    # Image 25 has two wrong annotations. One more belongs to no image, and one is no object at all. Image 9 is damaged.
    content["annotations"] += [{"id": 5, "image_id": 25, "category_id": 12, "bbox": [1, 1, 2, 2]},
                               {"id": 6, "image_id": 25, "category_id": 17, "bbox": [1, 1, -2, 2]},
                               {"id": 7, "image_id": 31, "category_id": 17, "bbox": [1, 1, 2, 2]}, None]
    jpeg = tmp_path / "000000000009.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[:-2])
    with pytest.raises(InputError) as error:
        write(tmp_path, content)
    problems = []
    (found,) = read_split(tmp_path, tmp_path / "instances.json", CLASSES, problems)
    assert found.number == 30 and len(found.boxes) == 1
    assert problems == str(error.value).split("\n")
    assert [line.split("instances.json: ")[1] for line in problems] == [
        f"image 9: {jpeg}: cannot be read as an image (not an image file, or a damaged one)",
        f"annotation 5: class '12' is not one of CLASSES ({', '.join(CLASSES)[:200]} ...)",
        "annotation 6: its bbox 1 1 -2 2 has a negative width or height",
        "annotation 7: belongs to image 31, which is not in the file",
        "annotation number 8 of the list: has no image_id or no category_id"]


def test_boxes_that_are_too_thin_are_skipped(tmp_path, content):
    # A converter leaves 1e-12 where it means 0. In float32 the box would have no width at all. COCO's own coordinates
    # have two decimals: .01 pixels stay. At the border, 100 - 99.999 = .001 pixels of the last box are in the image.
    wide = [[10, 5, 1e-12, 20], [10, 5, 20, 0.004], [10.33, 5, 0.01, 20], [99.999, 5, 10, 20]]
    content["annotations"] = [{"id": n, "image_id": 25, "category_id": 17, "bbox": bbox} for n, bbox in enumerate(wide)]
    assert write(tmp_path, content)[0].boxes == pytest.approx(np.array([[10.33, 5, 10.34, 25]]))


def test_wrong_files_are_named(tmp_path, content):
    with pytest.raises(InputError, match="none.json: no such file"):
        read_split(tmp_path, tmp_path / "none.json", CLASSES)
    with pytest.raises(InputError, match="not a file of COCO instances"):
        write(tmp_path, [{"image_id": 1, "score": 0.5}])                     # this is a file of detections
    with pytest.raises(InputError, match="'categories' is missing"):
        write(tmp_path, {"images": [], "annotations": []})
    with pytest.raises(InputError, match="instances.json: image 1: .*000000000031.jpg: no such file"):
        write(tmp_path, {**content, "images": [{"id": 1, "file_name": "000000000031.jpg", "width": 1, "height": 1}]})
    with pytest.raises(InputError, match="two images have the same id"):
        write(tmp_path, {**content, "images": content["images"] * 2})
    with pytest.raises(InputError, match="has no category 'toothbrush', which is one of CLASSES"):
        write(tmp_path, {**content, "categories": content["categories"][:-1]})
    for categories in ([{"id": [], "name": "cat"}], [{"id": 1, "name": ["cat"]}], [None]):
        with pytest.raises(InputError, match="instances.json: category number 1 of the list has no id or no name"):
            write(tmp_path, {**content, "categories": categories})
    for key in ("images", "annotations"):
        with pytest.raises(InputError, match=rf"not a file of COCO instances \('{key}' is missing, or is not a list"):
            write(tmp_path, {**content, key: None})
    for text in ('{"images": [', "[" * 200_000, "\x00", '{"images": ' + "9" * 5000):
        (tmp_path / "instances.json").write_text(text)
        with pytest.raises(InputError, match="instances.json: not well-formed JSON") as error:
            read_split(tmp_path, tmp_path / "instances.json", CLASSES)
        assert "\n" not in str(error.value)


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
train.RUNS, train.RUN, train.NUM_WORKERS = Path({str(tmp_path)!r}), {version!r}, 0
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
