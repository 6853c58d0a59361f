"""
Reads annotations in VOC's layout that are worked out by hand. Every kind of faulty file raises an error of one line
that names the file.
"""
import os

import numpy as np
import pytest
from PIL import Image

from shared.errors import InputError
from shared.voc import read_split

CLASSES = ["cat", "dog"]


def annotation(*objects):
    return "<annotation>" + "".join(
        f"<object><name>{name}</name>{extra}"
        f"<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d, extra in objects) + "</annotation>"


def write(folder, name="a", xml=annotation(("dog", 1, 1, 10, 20, "")), split="train", size=(100, 50), suffix=".jpg",
          exif=None):
    """Writes one image and its annotation file, and adds its name to the list of the split."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "gray").save(folder / "JPEGImages" / (name + suffix), exif=exif or Image.Exif())
    if xml is not None:
        (folder / "Annotations" / f"{name}.xml").write_text(xml)
    with open(folder / "ImageSets" / "Main" / f"{split}.txt", "a") as file:
        file.write(name + "\n")


def test_pixels_counted_from_one_become_lengths(tmp_path):
    # VOC                       here
    # pixels 1 to 10            0 to 10: ten pixels
    # pixels 7 to 7             6 to 7: one pixel
    # 10.5 to 20.5 (VOC 2012)   9.5 to 20.5: halves stay halves
    write(tmp_path, xml=annotation(("dog", 1, 2, 10, 20, "<difficult>1</difficult>"), ("cat", 7, 7, 7, 7, ""),
                                   ("cat", 10.5, 3.5, 20.5, 30, "<difficult>0</difficult>")))
    (found,) = read_split(tmp_path, "train", CLASSES)
    assert (found.width, found.height, found.image.name) == (100, 50, "a.jpg")
    assert found.boxes.tolist() == [[0, 1, 10, 20], [6, 6, 7, 7], [9.5, 2.5, 20.5, 30]]
    assert found.labels.tolist() == [1, 0, 0]
    assert found.difficult.tolist() == [True, False, False]


def test_a_box_is_cut_off_at_the_border_of_the_image(tmp_path):
    # The image is 100 x 50. Two boxes overhang it: one on the left and at the top, one on the right and at the bottom.
    write(tmp_path, xml=annotation(("dog", -4, 0, 10, 20, ""), ("dog", 90, 40, 120, 51, "")))
    assert read_split(tmp_path, "train", CLASSES)[0].boxes.tolist() == [[0, 0, 10, 20], [89, 39, 100, 50]]


def test_parts_of_objects_are_not_objects(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    write(tmp_path, xml=annotation(("dog", 1, 1, 10, 20, part)))
    assert read_split(tmp_path, "train", CLASSES)[0].boxes.tolist() == [[0, 0, 10, 20]]


def test_an_image_without_objects_is_kept(tmp_path):
    write(tmp_path, xml="<annotation></annotation>")
    (found,) = read_split(tmp_path, "train", CLASSES)
    assert found.boxes.shape == (0, 4) and found.labels.shape == (0,) and found.boxes.dtype == np.float64


def test_the_order_of_the_list_and_other_extensions(tmp_path):
    write(tmp_path, "b", suffix=".png")
    write(tmp_path, "a", suffix=".JPG")
    assert [a.image.name for a in read_split(tmp_path, "train", CLASSES)] == ["b.png", "a.JPG"]


def test_the_size_is_that_of_the_image_after_its_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[274] = 6    # 6: to see the image upright, rotate it by 90 degrees clockwise; 100 x 50 becomes 50 x 100
    write(tmp_path, xml=annotation(("dog", 1, 60, 50, 100, "")), exif=exif)
    (found,) = read_split(tmp_path, "train", CLASSES)
    assert (found.width, found.height) == (50, 100)
    assert found.boxes.tolist() == [[0, 59, 50, 100]]


@pytest.mark.parametrize("xml, message", [
    (annotation(("bird", 1, 1, 10, 20, "")), "a.xml: class 'bird' is not one of CLASSES"),
    (annotation(("dog", 11, 1, 10, 20, "")), "a.xml: a dog whose box 11 1 10 20 does not have xmin <= xmax"),
    (annotation(("dog", 1, 21, 10, 20, "")), "a.xml: a dog whose box 1 21 10 20 does not have xmin <= xmax"),
    (annotation(("dog", 101, 1, 120, 20, "")), "a.xml: a dog whose box 101 1 120 20 lies outside the 100 x 50 image"),
    (annotation(("dog", 1, -9, 10, 0, "")), "a.xml: a dog whose box 1 -9 10 0 lies outside"),
    (annotation(("dog", "nan", 1, 10, 20, "")), "a.xml: a dog whose box nan 1 10 20 does not have xmin <= xmax"),
    (annotation(("dog", 1, 1, 10, "nan", "")), "a.xml: a dog whose box 1 1 10 nan does not have xmin <= xmax"),
    (annotation(("dog", "left", 1, 10, 20, "")), "a.xml: a dog without four numbers"),
    (annotation(("dog", 1, 1, 10, 20, "<difficult>yes</difficult>")), "with a difficult that is not 0 or 1"),
    ("<annotation><object><name>dog</name></object></annotation>", "a.xml: a dog without four numbers"),
    ("<annotation><object>", "a.xml: not well-formed XML"),
    ('<?xml version="1.0" encoding="foo"?><annotation/>', "a.xml: not well-formed XML (unknown encoding: foo"),
    ('<?xml version="1.0" encoding="rot13"?><annotation/>', "a.xml: not well-formed XML"),
    (None, "a.xml: no such file"),
    (annotation(("do\ng\x85" + "x" * 300, 1, 1, 10, 20, "")), r"a.xml: class 'do\ng\x85xxx"),
    # The image is 100 pixels wide, so this box has 100 - 99.996 = .004 pixels.
    (annotation(("dog", 100.996, 1, 101, 20, "")), "a dog whose box 100.996 1 101 20 has less than 0.005 pixels"),
    # An XML that is not VOC's is not an image without objects.
    ('<annotation xmlns="http://voc"><object/></annotation>', "the outermost element is <{http://voc}annotation>"),
    ("<svg></svg>", "a.xml: not VOC's XML, whose boxes are in <annotation><object><bndbox>; the outermost element is "
                    "<svg>"),
    (f"<annotation>{annotation(('dog', 1, 1, 10, 20, ''))}</annotation>", "a.xml: not VOC's XML"),
])
def test_bad_annotations_name_the_file(tmp_path, xml, message):
    write(tmp_path, xml=xml)
    with pytest.raises(InputError) as error:
        read_split(tmp_path, "train", CLASSES)
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 500


def test_every_problem_is_told_and_the_other_images_are_read(tmp_path):
    write(tmp_path, "a", annotation(("bird", 1, 1, 10, 20, ""), ("dog", 1, 1, 10, 20, ""), ("dog", 9, 1, 1, 20, "")))
    write(tmp_path, "b")
    write(tmp_path, "c", None)
    problems = ["found before"]
    assert [found.image.name for found in read_split(tmp_path, "train", CLASSES, problems)] == ["b.jpg"]
    xml = tmp_path / "Annotations"
    assert problems == ["found before", f"{xml / 'a.xml'}: class 'bird' is not one of CLASSES (cat, dog)",
                        f"{xml / 'a.xml'}: a dog whose box 9 1 1 20 does not have xmin <= xmax and ymin <= ymax",
                        f"{xml / 'c.xml'}: no such file"]
    with pytest.raises(InputError) as error:
        read_split(tmp_path, "train", CLASSES)
    assert str(error.value).split("\n") == problems[1:]


def test_the_thinnest_box(tmp_path):
    write(tmp_path, xml=annotation(("dog", 100.99, 1, 101, 20, "")))         # 100 - 99.99 = .01 pixels
    assert read_split(tmp_path, "train", CLASSES)[0].boxes == pytest.approx(np.array([[99.99, 0, 100, 20]]))


def test_what_is_no_file_is_said(tmp_path):
    write(tmp_path)
    write(tmp_path, "b")
    main = tmp_path / "ImageSets" / "Main"
    for name, message in [("c" * 300, "names c{200} ..., but .*: file name too long"),
                          ("c\0d", r"names c\\x00d, but .*/c\\x00d.jpg: no such file"),
                          ("../JPEGImages", "names ../JPEGImages, but .*: no such file")]:
        (main / "odd.txt").write_text(name)
        with pytest.raises(InputError, match=f"odd.txt: {message}") as error:
            read_split(tmp_path, "odd", CLASSES)
        assert "\n" not in str(error.value)
    (tmp_path / "Annotations" / "a.xml").unlink()
    os.mkfifo(tmp_path / "Annotations" / "a.xml")            # opening it would wait for somebody who writes
    (tmp_path / "Annotations" / "b.xml").unlink()
    (tmp_path / "Annotations" / "b.xml").mkdir()
    with pytest.raises(InputError) as error:
        read_split(tmp_path, "train", CLASSES)
    first, second = str(error.value).split("\n")
    assert first.endswith("a.xml: is a pipe or a device, not a file")
    assert second.endswith("b.xml: is a folder, not a file")


def test_bad_splits_and_images_name_the_file(tmp_path):
    write(tmp_path)
    main = tmp_path / "ImageSets" / "Main"
    (main / "empty.txt").write_text("\n")
    (main / "more.txt").write_text("a\nzebra\n")
    (tmp_path / "JPEGImages" / "noise.jpg").write_bytes(b"not a picture")
    (main / "noise.txt").write_text("noise\n")
    for split, message in [("val", "val.txt: no such file"), ("empty", "empty.txt: names no images"),
                           ("more", "more.txt: names zebra, but .*zebra.jpg: no such file"),
                           ("noise", "noise.jpg: cannot be read")]:
        with pytest.raises(InputError, match=message) as error:
            read_split(tmp_path, split, CLASSES)
        assert "\n" not in str(error.value)


def test_bad_classes_and_encodings(tmp_path):
    write(tmp_path)
    for classes in ("dog", ["dog", "cat", "dog"], [], None, [1, 2], [["cat"]], {"cat": 1}):
        with pytest.raises(InputError, match="CLASSES has to be a list of different names"):
            read_split(tmp_path, "train", classes)
    split = tmp_path / "ImageSets" / "Main" / "train.txt"
    split.write_bytes(b"\xef\xbb\xbfa\r\n\r\n")      # a byte order mark and the line ends of Windows
    assert len(read_split(tmp_path, "train", CLASSES)) == 1
    split.write_text("a\n", encoding="utf-16")
    with pytest.raises(InputError, match="train.txt: not UTF-8 text"):
        read_split(tmp_path, "train", CLASSES)
