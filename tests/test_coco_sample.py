"""The drawn sample in COCO's layout: data_samples/draw_coco.py and the files that it wrote to data_samples/coco."""
import json

import cv2
import numpy as np
import pytest

from data_samples import draw_coco
from shared.coco import CATEGORIES
from shared.paths import SAMPLES

FOLDER = SAMPLES / "coco"
COUNTS = {"train2017": 16, "val2017": 8}


@pytest.fixture(scope="module")
def content():
    return {split: json.loads((FOLDER / f"annotations/instances_{split}.json").read_text()) for split in COUNTS}


@pytest.mark.parametrize("split", COUNTS)
def test_every_field_of_coco_is_there(content, split):
    assert list(content[split]) == ["info", "licenses", "images", "annotations", "categories"]
    assert set(content[split]["info"]) == {"description", "url", "version", "year", "contributor", "date_created"}
    assert all(set(row) == {"url", "id", "name"} for row in content[split]["licenses"])
    assert all(set(image) == {"license", "file_name", "coco_url", "height", "width", "date_captured", "flickr_url",
                              "id"} for image in content[split]["images"])
    assert all(set(a) == {"segmentation", "area", "iscrowd", "image_id", "bbox", "category_id", "id"}
               for a in content[split]["annotations"])
    assert all(set(category) == {"supercategory", "id", "name"} for category in content[split]["categories"])
    assert {category["id"]: category["name"] for category in content[split]["categories"]} == CATEGORIES
    groups = {category["name"]: category["supercategory"] for category in content[split]["categories"]}
    assert [groups[name] for name in ("boat", "bench", "bird", "umbrella", "fork", "cake", "tv", "sink", "vase")] == [
        "vehicle", "outdoor", "animal", "accessory", "kitchen", "food", "electronic", "appliance", "indoor"]


def test_the_images_their_ids_and_their_sizes(content):
    for split, count in COUNTS.items():
        images = content[split]["images"]
        assert len(images) == count and {image["file_name"] for image in images} == {
            path.name for path in (FOLDER / split).iterdir()}
        for image in images:
            assert image["file_name"] == f"{image['id']:012d}.jpg"
            assert cv2.imread(str(FOLDER / split / image["file_name"])).shape == (image["height"], image["width"], 3)
    everything = [row["id"] for part in content.values() for kind in ("images", "annotations") for row in part[kind]]
    assert len(set(everything)) == len(everything)
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1e6


def test_outlines_areas_and_boxes_agree(content):
    crowds = 0
    for part in content.values():
        shapes = {image["id"]: (image["height"], image["width"]) for image in part["images"]}
        for a in part["annotations"]:
            mask = np.zeros(shapes[a["image_id"]], np.uint8)
            if a["iscrowd"]:
                crowds += 1
                assert tuple(a["segmentation"]["size"]) == mask.shape
                runs = [np.full(count, i % 2) for i, count in enumerate(a["segmentation"]["counts"])]
                mask = np.concatenate(runs).reshape(mask.shape[::-1]).T      # the runs go column by column
                assert mask.sum() == a["area"]
            else:
                for polygon in a["segmentation"]:
                    assert len(polygon) >= 6 and len(polygon) % 2 == 0
                    cv2.fillPoly(mask, [np.array(polygon, int).reshape(-1, 2)], 1)
                assert abs(mask.sum() - a["area"]) < 0.03 * a["area"] + 12   # polygons are up to one pixel off
            columns, rows = mask.any(0).nonzero()[0], mask.any(1).nonzero()[0]
            box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
            assert np.abs(np.subtract(box, a["bbox"])).max() <= (0 if a["iscrowd"] else 2)
    assert crowds == 1


def test_one_image_is_empty_and_all_twenty_drawings_occur(content):
    used = [{a["image_id"] for a in part["annotations"]} for part in content.values()]
    assert [COUNTS["train2017"] - len(used[0]), COUNTS["val2017"] - len(used[1])] == [1, 0]
    for part in content.values():
        assert len({a["category_id"] for a in part["annotations"] if not a["iscrowd"]}) >= 18


def test_run_lengths_by_hand():
    #     0 1 0
    #     1 1 0     column by column: 0, 1 | 1, 1 | 0, 0, so one 0, three 1, two 0
    #
    #     1 0       begins with 1, so no 0, one 1, one 0
    assert draw_coco.run_lengths(np.array([[0, 1, 0], [1, 1, 0]], bool)) == {"counts": [1, 3, 2], "size": [2, 3]}
    assert draw_coco.run_lengths(np.array([[1, 0]], bool)) == {"counts": [0, 1, 1], "size": [1, 2]}


def test_polygons_by_hand():
    # A rectangle of 4 rows and 5 columns with a hole of one pixel. The area counts the hole: 4 x 5 = 20.
    mask = np.zeros((8, 9), bool)
    mask[2:6, 3:8] = True
    mask[4, 5] = False
    (polygon,), area = draw_coco.polygons(mask)
    assert area == 20
    assert {tuple(point) for point in np.reshape(polygon, (-1, 2))} == {(3, 2), (3, 5), (7, 5), (7, 2)}


def test_drawing_again_gives_the_committed_files(content):
    ids = [0] + [image["id"] for part in content.values() for image in part["images"]]
    for split, number in [("train2017", 5), ("train2017", 11), ("val2017", 20)]:
        pictures, again = draw_coco.instances([number], ids)
        (name, image), = pictures.items()
        stored = cv2.imread(str(FOLDER / split / name))[..., ::-1]
        assert np.abs(image.astype(int) - stored).mean() < 4                 # JPEG changes the pixels a little
        assert again["annotations"] == [a for a in content[split]["annotations"] if a["image_id"] == ids[number]]
