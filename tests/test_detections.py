"""The files for other people's tools, compared with texts written by hand. Two images, two classes, x != y, w != h."""
import json
import os

import numpy as np
import pytest

from shared.detections import write_coco, write_padilla
from shared.errors import InputError

DETECTIONS = np.array([[1, 0, 1 / 3, 10, 20, 30, 50],
                       [0, 1, .9, 0, 0.5, 100, 60],
                       [1, 1, .75, 1, 2, 4, 6]])
TRUTHS = np.array([[1, 1, 0, 1, 2, 4, 0],
                   [1, 0, 9, 19, 30, 50, 1.]])
NAMES, CLASSES, SIZES = ["2008_000034.jpg", "second.jpg"], ["traffic light", "dog"], [(500, 375), (40, 60)]


def everything_in(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_padilla_text(tmp_path):
    # - Every image has a file, also the one without truths.
    # - Left and top are 1 more, right and bottom unchanged: a box from 0 to 2 is the pixels 1 and 2.
    # - The ignored truth is left out.
    # - A class name has no spaces.
    # - The score 1/3 is written in full.
    write_padilla(tmp_path, DETECTIONS, TRUTHS, NAMES, CLASSES)
    assert everything_in(tmp_path) == {
        "groundtruths/2008_000034.txt": "",
        "groundtruths/second.txt": "dog 1.0 2.0 2.0 4.0\n",
        "detections/2008_000034.txt": "dog 0.9 1.0 1.5 100.0 60.0\n",
        "detections/second.txt": "traffic_light 0.3333333333333333 11.0 21.0 30.0 50.0\ndog 0.75 2.0 3.0 4.0 6.0\n"}


def test_padilla_folder_with_other_images_is_refused(tmp_path):
    # The toolkit reads every text file of the folder. Writing the same images again is allowed. Writing image 0 alone
    # is not, because the files of the other image would be counted too.
    write_padilla(tmp_path, DETECTIONS, TRUTHS, NAMES, CLASSES)
    write_padilla(tmp_path, DETECTIONS[:1], TRUTHS, NAMES, CLASSES)
    before = everything_in(tmp_path)
    assert before["detections/2008_000034.txt"] == ""
    with pytest.raises(InputError, match="text files of 1 other images"):
        write_padilla(tmp_path, DETECTIONS[1:2], TRUTHS[:0], NAMES[:1], CLASSES)
    assert everything_in(tmp_path) == before


def test_padilla_needs_different_names(tmp_path):
    with pytest.raises(InputError, match="are called 1, and"):
        write_padilla(tmp_path, DETECTIONS, TRUTHS, ["2007/1.jpg", "2012/1.jpg"], CLASSES)


def test_coco_json(tmp_path):
    # - Ids of categories and annotations begin at 1, ids of images at 0.
    # - Boxes are left, top, width, height: 0, 1, 2, 4 becomes 0, 1, 2, 3.
    # - The areas of the truths are 2 x 3 = 6 and 21 x 31 = 651.
    # - A difficult truth is a crowd.
    write_coco(tmp_path, DETECTIONS, TRUTHS, NAMES, SIZES, CLASSES)
    files = {name: json.loads(text) for name, text in everything_in(tmp_path).items()}
    assert files == {
        "truths.json": {
            "info": {},
            "images": [{"id": 0, "file_name": "2008_000034.jpg", "width": 500, "height": 375},
                       {"id": 1, "file_name": "second.jpg", "width": 40, "height": 60}],
            "categories": [{"id": 1, "name": "traffic light"}, {"id": 2, "name": "dog"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 2, "bbox": [0, 1, 2, 3], "area": 6, "iscrowd": 0, "ignore": 0},
                {"id": 2, "image_id": 1, "category_id": 1, "bbox": [9, 19, 21, 31], "area": 651, "iscrowd": 1,
                 "ignore": 1}]},
        "detections.json": [
            {"image_id": 1, "category_id": 1, "score": 1 / 3, "bbox": [10, 20, 20, 30]},
            {"image_id": 0, "category_id": 2, "score": .9, "bbox": [0, .5, 100, 59.5]},
            {"image_id": 1, "category_id": 2, "score": .75, "bbox": [1, 2, 3, 4]}]}


def test_coco_areas_may_be_given(tmp_path):
    write_coco(tmp_path, DETECTIONS, TRUTHS, NAMES, SIZES, CLASSES, areas=np.array([5, 600]))
    truths = json.loads((tmp_path / "truths.json").read_text())
    assert [annotation["area"] for annotation in truths["annotations"]] == [5, 600]


def test_nothing_detected_and_nothing_there(tmp_path):
    nothing = np.zeros((0, 7))
    write_coco(tmp_path, nothing, nothing, NAMES, SIZES, CLASSES)
    assert json.loads((tmp_path / "detections.json").read_text()) == []
    assert json.loads((tmp_path / "truths.json").read_text())["annotations"] == []
    write_padilla(tmp_path, nothing, nothing, NAMES, CLASSES)
    assert [text for name, text in everything_in(tmp_path).items() if name.endswith(".txt")] == [""] * 4


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    # The machine stops before the new file replaces the old one. The old one is still there, unchanged.
    write_coco(tmp_path, DETECTIONS, TRUTHS, NAMES, SIZES, CLASSES)
    write_padilla(tmp_path, DETECTIONS, TRUTHS, NAMES, CLASSES)
    before = everything_in(tmp_path)

    def power_cut(*names):
        raise OSError("power cut")
    monkeypatch.setattr(os, "replace", power_cut)
    with pytest.raises(InputError, match="power cut"):
        write_coco(tmp_path, DETECTIONS[:0], TRUTHS[:0], NAMES, SIZES, CLASSES)
    with pytest.raises(InputError, match="power cut"):
        write_padilla(tmp_path, DETECTIONS[:0], TRUTHS[:0], NAMES, CLASSES)
    assert everything_in(tmp_path) == before
