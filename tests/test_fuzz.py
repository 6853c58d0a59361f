"""
Files that are damaged at random. Each is read sensibly, with finite boxes inside the image and labels of CLASSES, or it
is refused in an InputError whose every line names the file. The damage is the same in every run of the tests.
"""
import io
import json

import numpy as np
import pytest
from PIL import Image

from shared import coco, darknet_labels, voc
from shared.errors import InputError
from shared.images import image_size, read_image

CLASSES = ["cat", "dog"]
CASES = 300                                          # damaged files for each reader

# What converters, labelling tools, torn disks and jokers leave in the place of a number or a word.
ODD_TEXTS = ["", "nan", "-inf", "1e999", "-1", "0", "1e-12", "9" * 400, "dog ", "bird", "a\nb", "\0", "\x1b[31m", "é",
             "\ud800", "x" * 3000, "<a>", "&lol;", "{", "]", "1,5", "0x10", "1_0"]
ODD_VALUES = [None, "100", "x", "", "a\nb", "\0", "x" * 3000, [], {}, [1], {"a": 1}, json.loads("[" * 500 + "]" * 500),
              True, -1, 0, 1e-12, 1.5, 10 ** 400, float("nan"), float("inf")]


def damage_bytes(content, rng):
    """Cuts the end off, changes bytes, or takes a piece out, doubles it or fills it with zeros."""
    content = bytearray(content)
    first, last = sorted(rng.integers(0, len(content) + 1, 2))
    kind = rng.integers(5)
    if kind == 0:
        return bytes(content[:first])
    if kind == 1:
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(256)
        return bytes(content)
    piece = [b"", content[first:last] * 2, bytes(last - first)][kind - 2]
    return bytes(content[:first] + piece + content[last:])


def damage_text(content, rng):
    """Puts something odd in the place of one of the words, which are separated by spaces and the signs < and >."""
    if rng.integers(2):
        return damage_bytes(content.encode(), rng)
    words = content.replace("<", " < ").replace(">", " > ").split(" ")
    words[rng.integers(len(words))] = ODD_TEXTS[rng.integers(len(ODD_TEXTS))]
    return " ".join(words).replace(" < ", "<").replace(" > ", ">").encode("utf-8", "surrogatepass")


def damage_json(content, rng):
    """Puts an odd value in the place of one of the values, at any depth, or leaves it out."""
    if rng.integers(4) == 0:
        return damage_bytes(json.dumps(content).encode(), rng)
    content = json.loads(json.dumps(content))
    places = []                                      # lists and dicts, each with one of its indices or keys

    def collect(value):
        for key in value.keys() if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], (dict, list)):
                collect(value[key])

    collect(content)
    for _ in range(rng.integers(1, 3)):
        inside, key = places[rng.integers(len(places))]
        if isinstance(inside, dict) and rng.integers(8) == 0:
            inside.pop(key, None)
        else:
            inside[key] = ODD_VALUES[rng.integers(len(ODD_VALUES))]
    return json.dumps(content).encode()


def check_annotations(annotations):
    """The annotations can be trained on and evaluated."""
    for a in annotations:
        assert (a.width, a.height) == read_image(a.image).shape[1::-1]
        assert a.boxes.shape == (len(a.labels), 4) and np.isfinite(a.boxes).all()
        assert (a.boxes >= 0).all() and (a.boxes <= [a.width, a.height] * 2).all()
        assert (a.boxes[:, 2:] - a.boxes[:, :2] >= voc.THINNEST).all()
        assert set(a.labels.tolist()) <= set(range(len(CLASSES))) and a.difficult.dtype == bool
        if a.areas is not None:
            assert np.isfinite(a.areas).all() and (a.areas >= 0).all()
        json.dumps([a.number, a.category_ids], allow_nan=False)


def read_all(read, path, contents):
    """Writes each content to the path and reads it. -> how many were read, how many refused"""
    counts = [0, 0]
    for content in contents:
        path.write_bytes(content)
        try:
            check_annotations(read())
            counts[0] += 1
        except InputError as error:
            for line in str(error).split("\n"):
                assert str(path) in line and len(line) < 1500 and line.isprintable(), line
            counts[1] += 1
    return counts


@pytest.fixture
def picture(tmp_path):
    """A photograph of 100 x 80 in VOC's and in YOLO's layout."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", "labels"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    Image.new("RGB", (100, 80)).save(tmp_path / "JPEGImages" / "a.jpg")
    return tmp_path / "JPEGImages" / "a.jpg"


def test_voc_xml(tmp_path, picture):
    rng, xml = np.random.default_rng(1), """<?xml version="1.0" encoding="utf-8"?><annotation><size><width>100</width>
        <height>80</height></size><object><name>dog</name><difficult>0</difficult><bndbox><xmin>5</xmin><ymin>6.5</ymin>
        <xmax>50</xmax><ymax>80</ymax></bndbox></object><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin>
        <xmax>100</xmax><ymax>10</ymax></bndbox><part><bndbox></bndbox></part></object></annotation>"""
    read, refused = read_all(lambda: voc.read_split(tmp_path, "train", CLASSES), tmp_path / "Annotations" / "a.xml",
                             [damage_text(xml, rng) for _ in range(CASES)])
    assert read > 30 and refused > 30


def test_lists_of_images(tmp_path, picture):
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation/>")
    (tmp_path / "labels" / "a.txt").write_text("")
    for seed, read, path, content in [
            (2, lambda: voc.read_split(tmp_path, "train", CLASSES), "ImageSets/Main/train.txt", "a \na \na.jpg"),
            (3, lambda: darknet_labels.read_split(tmp_path, "list.txt", CLASSES), "list.txt",
             f"{picture} \nJPEGImages/a.jpg \n"),
            (4, lambda: darknet_labels.read_split(tmp_path, "list.csv", CLASSES), "list.csv", "a,b \na.jpg,a.txt \n")]:
        rng = np.random.default_rng(seed)
        for _ in range(CASES // 3):
            (tmp_path / path).write_bytes(damage_text(content, rng))
            try:
                check_annotations(read())
            except InputError as error:
                for line in str(error).split("\n"):  # names the list, or the text file that the damaged list names
                    assert str(tmp_path / path) in line or str(tmp_path / "labels") in line, line
                    assert len(line) < 3000 and line.isprintable()


def test_yolo_text_labels(tmp_path, picture):
    rng, text = np.random.default_rng(5), "1 0.5 0.5 0.25 0.5\n0 0.1 0.9 0.3 0.3\n"
    read, refused = read_all(lambda: darknet_labels.read_split(tmp_path, "JPEGImages", CLASSES),
                             tmp_path / "labels" / "a.txt", [damage_text(text, rng) for _ in range(CASES)])
    assert read > 15 and refused > 30


def test_coco_json(tmp_path, picture):
    rng, content = np.random.default_rng(6), {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 5, "bbox": [1, 2, 30.5, 40], "area": 9.5, "iscrowd": 0},
                        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [90, 70, 20, 20], "iscrowd": 1,
                         "segmentation": [[1, 2, 3]]}]}
    path = tmp_path / "instances.json"
    read, refused = read_all(lambda: coco.read_split(tmp_path / "JPEGImages", path, CLASSES), path,
                             [damage_json(content, rng) for _ in range(CASES)])
    assert read > 30 and refused > 30


def pictures():
    """Small photographs in several formats, with and without an orientation."""
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 40, 3), dtype=np.uint8))
    for format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"):
        for orientation in (None, 6):
            content, exif = io.BytesIO(), Image.Exif()
            if orientation:
                exif[274] = orientation
            pixels.save(content, format, exif=exif)
            yield content.getvalue()


def test_images(tmp_path):
    # The size is that of the pixels, or both are refused. The size is read from the header, so of a picture that is
    # damaged elsewhere only the pixels are refused.
    rng, path, counts = np.random.default_rng(7), tmp_path / "a.jpg", {"read": 0, "refused": 0, "pixels refused": 0}
    for content in pictures():
        for _ in range(CASES // 12):
            path.write_bytes(damage_bytes(content, rng))
            sizes = []
            for read in (image_size, lambda path: read_image(path).shape[1::-1]):
                try:
                    sizes.append(read(path))
                except InputError as error:
                    assert str(error).startswith(f"{path}: cannot be read as an image") and str(error).isprintable()
            counts["read" if len(sizes) == 2 else "refused" if not sizes else "pixels refused"] += 1
            if len(sizes) == 2:
                assert sizes[0] == sizes[1]
    assert counts["read"] > 30 and counts["refused"] > 30 and counts["pixels refused"] < 30
