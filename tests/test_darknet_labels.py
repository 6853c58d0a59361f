"""
Reads YOLO's text labels that are worked out by hand: Darknet's list of images, a folder of images, and the CSV of two
columns. Every kind of faulty file raises an error that names the file and the line.
"""
import re

import numpy as np
import pytest
from PIL import Image

from shared.annotations import read_annotations
from shared.darknet_labels import label_file, read_split
from shared.errors import InputError

CLASSES = ["cat", "dog", "bird"]


def write(folder, image="images/a.jpg", labels="labels/a.txt", text="1 0.5 0.5 0.2 0.4\n", size=(100, 50)):
    for path in (folder / image, folder / labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "gray").save(folder / image)
    if text is not None:
        (folder / labels).write_text(text)


def test_fractions_become_pixels(tmp_path):
    # The image is 100 x 50. Centre 50, 25 and size 20 x 20: from 40 to 60 and from 15 to 35.
    # The second box overhangs on the left and at the bottom: -10 to 20 becomes 0 to 20, and 40 to 60 becomes 40 to 50.
    write(tmp_path, text="\n1 0.5 0.5 0.2 0.4\r\n  0\t0.05 1.0 0.3 0.4  \n\n")
    (found,) = read_split(tmp_path, "images", CLASSES)
    assert (found.image, found.width, found.height) == (tmp_path / "images/a.jpg", 100, 50)
    assert found.boxes == pytest.approx(np.array([[40, 15, 60, 35], [0, 40, 20, 50]]))
    assert found.boxes.dtype == np.float64
    assert found.labels.tolist() == [1, 0] and found.difficult.tolist() == [False, False]
    assert (found.areas, found.number) == (None, None)


def test_an_empty_file_is_an_image_without_objects(tmp_path):
    write(tmp_path, text="")
    (found,) = read_split(tmp_path, "images", CLASSES)
    assert found.boxes.shape == (0, 4) and found.labels.shape == found.difficult.shape == (0,)


def test_where_the_text_file_is(tmp_path):
    # The last folder called images or JPEGImages is replaced, not a part of a name and not the name of the image.
    for image, labels in [("images/train/a.jpg", "labels/train/a.txt"), ("JPEGImages/a.b.png", "labels/a.b.txt"),
                          ("images/x/images/a.jpg", "images/x/labels/a.txt"), ("my_images/a.jpg", "my_images/a.txt"),
                          ("x/images", "x/images.txt")]:
        assert label_file(tmp_path / image) == tmp_path / labels
    write(tmp_path, "images/a.jpg", "images/a.txt")          # only the file beside the image is there
    assert label_file(tmp_path / "images/a.jpg") == tmp_path / "images/a.txt"
    write(tmp_path, "images/a.jpg", "labels/a.txt")          # both are
    assert label_file(tmp_path / "images/a.jpg") == tmp_path / "labels/a.txt"


def test_the_three_lists(tmp_path):
    # The list and the CSV have the order b, a; a folder is sorted.
    write(tmp_path, "images/a.jpg", "labels/a.txt", "0 .5 .5 1 1")
    write(tmp_path, "images/b.jpg", "labels/b.txt", "1 .5 .5 1 1\n2 .5 .5 1 1")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/images/b.jpg\n\nimages/a.jpg\n")
    (tmp_path / "plain.csv").write_text("b.jpg,b.txt\na.jpg,a.txt\n")
    (tmp_path / "header.csv").write_text('\ufeffimg,label\r\n"b.jpg", "b.txt"\r\n"a.jpg","a.txt"\r\n', "utf-8")
    for split, labels in [("list.txt", [[1, 2], [0]]), ("plain.csv", [[1, 2], [0]]), ("header.csv", [[1, 2], [0]]),
                          ("images", [[0], [1, 2]])]:
        for read in (read_split(tmp_path, split, CLASSES), read_annotations([(tmp_path, split)], CLASSES),
                     read_annotations([(str(tmp_path), str(split))], CLASSES)):
            assert [a.labels.tolist() for a in read] == labels
            assert [a.image.name for a in read] == (["a.jpg", "b.jpg"] if split == "images" else ["b.jpg", "a.jpg"])


@pytest.mark.parametrize("line, message", [
    ("3 .5 .5 .1 .1", "the label is none of 0 to 2, the indices of CLASSES"),
    ("-1 .5 .5 .1 .1", "the label is none of 0 to 2"),
    ("1.0 .5 .5 .1 .1", "is not a label, centre x, centre y, width and height"),
    ("dog .5 .5 .1 .1", "is not a label"), ("1 .5 .5 .1", "is not a label"), ("1 .5 .5 .1 .1 .9", "is not a label"),
    ("1 .5 .5 .1 x", "is not a label"), ("1,.5,.5,.1,.1", "is not a label"),
    ("1 nan .5 .1 .1", "the lengths are not finite"), ("1 .5 .5 .1 nan", "the lengths are not finite"),
    ("1 .5 .5 inf .1", "the lengths are not finite"),
    ("1 .5 .5 0 .1", "the width and the height have to be above 0"), ("1 .5 .5 .1 -.1", "have to be above 0"),
    ("1 50 25 20 20", "the box lies outside the image; its lengths have to be fractions"),       # pixels
    ("1 -.1 .5 .2 .1", "the box lies outside the image"), ("1 .5 1.05 .2 .1", "the box lies outside the image"),
    ("1 .5 .5 .00004 .1", "the box has less than 0.005 pixels in the 100 x 50 image"),           # .004 pixels
    ("1 .5 .5 .1 .1\x0b2", "is not a label"),
])
def test_bad_lines_are_named(tmp_path, line, message):
    write(tmp_path, text=f"0 .5 .5 .1 .1\n{line}\n")
    with pytest.raises(InputError) as error:
        read_split(tmp_path, "images", CLASSES)
    said = str(error.value).split("\n")[0]
    assert said.startswith(f"{tmp_path / 'labels/a.txt'}, line ") and message in said


def test_every_problem_is_told_and_the_other_images_are_read(tmp_path):
    write(tmp_path, "images/a.jpg", "labels/a.txt", "3 .5 .5 1 1\n0 .5 .5 1 1\n" + "x" * 300)
    write(tmp_path, "images/b.jpg", "labels/b.txt")
    write(tmp_path, "images/c.jpg", "labels/c.txt", None)
    (tmp_path / "list.txt").write_text("images/d.jpg\nimages/a.jpg\nimages/b.jpg\nimages/c.jpg\n")
    problems = []
    (found,) = read_split(tmp_path, "list.txt", CLASSES, problems)
    labels = tmp_path / "labels"
    assert found.image.name == "b.jpg" and problems == [
        f"{tmp_path / 'list.txt'}: names {tmp_path / 'images' / 'd.jpg'}: no such file",
        f"{labels / 'a.txt'}, line 1: '3 .5 .5 1 1': the label is none of 0 to 2, the indices of CLASSES",
        f"{labels / 'a.txt'}, line 3: '{'x' * 80} ...' is not a label, centre x, centre y, width and height",
        f"{labels / 'c.txt'}: no such file"]
    with pytest.raises(InputError, match=re.escape("\n".join(problems))):
        read_split(tmp_path, "list.txt", CLASSES)


def test_bad_lists_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "header.csv").write_text("image,label\n")
    (tmp_path / "columns.csv").write_text("image\na.jpg\n")
    (tmp_path / "none").mkdir()
    for split, message in [("train.txt", "train.txt: no such file"), ("empty.txt", "empty.txt: names no images"),
                           ("header.csv", "header.csv: names no images"), ("none", "none: no images in this folder"),
                           ("columns.csv", "columns.csv, line 2: 'a.jpg' does not name an image and a .txt file"),
                           ("x" * 300, "file name too long"), ("train.csv", "train.csv: no such file")]:
        with pytest.raises(InputError, match=message) as error:
            read_split(tmp_path, split, CLASSES)
        assert "\n" not in str(error.value)
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="train.txt: not UTF-8 text"):
        read_split(tmp_path, "train.txt", CLASSES)
    with pytest.raises(InputError, match="CLASSES has to be a list of different names"):
        read_split(tmp_path, "images", "dog")
