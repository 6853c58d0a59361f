"""The drawn sample in VOC's layout: data_samples/draw_voc.py and the files that it wrote to data_samples/voc."""

import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest

from data_samples import draw_voc
from data_samples.drawings import DRAWINGS, draw, put, tight_box
from shared.paths import SAMPLES

FOLDER = SAMPLES / "voc/VOCdevkit/VOC2007"
SPLITS = {"train": 16, "val": 8, "test": 16}
DRAWN_AGAIN = [1, 18, 30]


def split(name):
    return (FOLDER / f"ImageSets/Main/{name}.txt").read_text().split()


def read_objects(name):
    """Width, height and a list of (class, truncated, difficult, (xmin, ymin, xmax, ymax)) of one annotation file."""
    root = ElementTree.parse(FOLDER / f"Annotations/{name}.xml").getroot()
    objects = []
    for item in root.iter("object"):
        corners = tuple(int(item.find("bndbox").findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax"))
        truncated, difficult = (int(item.findtext(key)) for key in ("truncated", "difficult"))
        objects.append((item.findtext("name"), truncated, difficult, corners))
    return int(root.findtext("size/width")), int(root.findtext("size/height")), objects


@pytest.fixture(scope="module")
def sample():
    return {name: read_objects(name) for names in SPLITS for name in split(names)}


def test_splits():
    for name, count in SPLITS.items():
        assert len(split(name)) == count
    assert split("trainval") == split("train") + split("val")
    everything = split("trainval") + split("test")
    assert everything == [f"{number:06d}" for number in range(1, 41)]
    assert sorted(path.stem for path in (FOLDER / "JPEGImages").iterdir()) == everything
    assert sorted(path.stem for path in (FOLDER / "Annotations").iterdir()) == everything


@pytest.mark.parametrize("name", SPLITS)
def test_every_split_has_every_class_with_an_object_that_is_not_difficult(name, sample):
    shown = {label for image in split(name) for label, _, difficult, _ in sample[image][2] if not difficult}
    assert shown == set(DRAWINGS)
    assert len(shown) == 20


def test_any_later_block_of_eight_shows_every_class():
    for first in (41, 4993):
        hands = [draw_voc.deal(number, draw_voc.SEED)[0] for number in range(first, first + 8)]
        assert sorted(name for hand in hands for name in hand) == sorted(DRAWINGS)
        assert max(len(hand) for hand in hands) <= 4


def test_boxes_are_pixels_counted_from_one(sample):
    for width, height, objects in sample.values():
        assert 1 <= len(objects) <= 5
        for _, truncated, difficult, (xmin, ymin, xmax, ymax) in objects:
            assert 1 <= xmin and xmin + 7 <= xmax <= width
            assert 1 <= ymin and ymin + 7 <= ymax <= height
            if truncated:
                assert xmin == 1 or ymin == 1 or xmax == width or ymax == height
            if max(xmax - xmin + 1, ymax - ymin + 1) < .05 * max(width, height):
                assert difficult
    objects = [item for image in sample.values() for item in image[2]]
    for flag in (1, 2):
        assert .03 < np.mean([item[flag] for item in objects]) < .5


def test_images_have_the_sizes_in_their_annotations_and_fit_in_two_megabytes(sample):
    for name, (width, height, _) in sample.items():
        assert cv2.imread(str(FOLDER / f"JPEGImages/{name}.jpg")).shape == (height, width, 3)
        assert (width, height) in draw_voc.SIZES
    assert len({image[:2] for image in sample.values()}) >= 4
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 2e6


@pytest.mark.parametrize("number", DRAWN_AGAIN)
def test_drawing_again_gives_the_same_pixels_and_the_committed_files(number):
    first, objects, _ = draw_voc.draw_image(number)
    again, objects_again, _ = draw_voc.draw_image(number)
    assert np.array_equal(first, again)
    assert objects == objects_again

    stored = cv2.imread(str(FOLDER / f"JPEGImages/{number:06d}.jpg"))[..., ::-1]
    assert np.abs(first.astype(int) - stored).mean() < 4                        # JPEG changes the pixels a little
    text = (FOLDER / f"Annotations/{number:06d}.xml").read_text()
    assert draw_voc.annotation(f"{number:06d}", first.shape, objects) == text


def test_an_image_does_not_depend_on_how_many_are_drawn(monkeypatch, tmp_path):
    monkeypatch.setattr(draw_voc, "OUT", tmp_path)
    monkeypatch.setattr(draw_voc, "NUM_TRAIN", 2)
    monkeypatch.setattr(draw_voc, "NUM_VAL", 1)
    monkeypatch.setattr(draw_voc, "NUM_TEST", 1)
    draw_voc.main()
    monkeypatch.setattr(draw_voc, "NUM_TEST", 0)
    draw_voc.main()                                                             # deletes the files of the run before
    written = sorted((tmp_path / "VOCdevkit/VOC2007/Annotations").iterdir())
    assert [path.name for path in written] == ["000001.xml", "000002.xml", "000003.xml"]
    for path in written:
        assert path.read_text() == (FOLDER / "Annotations" / path.name).read_text()

    written[0].write_text("<annotation><source><database>The VOC2007 Database</database></source></annotation>")
    with pytest.raises(SystemExit, match="did not write"):
        draw_voc.main()
    assert written[0].exists()


def test_a_box_encloses_what_is_visible_and_counts_pixels_from_one():
    # Three rectangles in an image of 12 x 9 pixels. B is drawn after A and hides 3 x 3 of A's 6 x 4 pixels. Parts of
    # A's first and last rows and columns remain visible, so A keeps its corners. 2 x 2 of C's 4 x 4 pixels are inside
    # the image.
    #
    #             column  0  1  2  3  4  5  6  7  8  9 10 11
    #     row 0           .  .  .  .  .  .  .  .  .  .  .  .
    #     row 1           .  .  A  A  A  A  A  A  .  .  .  .
    #     row 2           .  .  A  A  A  B  B  B  .  .  .  .
    #     row 3           .  .  A  A  A  B  B  B  .  .  .  .
    #     row 4           .  .  A  A  A  B  B  B  .  .  .  .
    #     row 5           .  .  .  .  .  B  B  B  .  .  .  .
    #     row 6           .  .  .  .  .  B  B  B  .  .  .  .
    #     row 7           .  .  .  .  .  .  .  .  .  .  C  C
    #     row 8           .  .  .  .  .  .  .  .  .  .  C  C
    owner = np.full((9, 12), -1)
    places = {"A": (6, 4, 2, 1), "B": (3, 5, 5, 2), "C": (4, 4, 10, 7)}         # width, height, column, row
    objects = []
    for index, (name, (w, h, x, y)) in enumerate(places.items()):
        draw_voc.cover(owner, np.ones((h, w), bool), x, y, index)
        objects.append({"name": name, "pose": "Left", "required": False, "whole": w * h,
                        "inside": int((owner == index).sum())})
    a, b, c = draw_voc.describe(objects, owner)
    assert (a["box"], b["box"], c["box"]) == ((2, 1, 8, 5), (5, 2, 8, 7), (10, 7, 12, 9))
    assert a["covered"] == 9 / 24 and b["covered"] == c["covered"] == 0
    assert (a["truncated"], b["truncated"], c["truncated"]) == (0, 0, 1)
    root = ElementTree.fromstring(draw_voc.annotation("000001", (9, 12, 3), [a, b, c]))
    corners = [[int(corner.text) for corner in box] for box in root.iter("bndbox")]
    assert corners == [[3, 2, 8, 5], [6, 3, 8, 7], [11, 8, 12, 9]]              # xmin = first column + 1
    assert [corner.tag for corner in root.find("object/bndbox")] == ["xmin", "ymin", "xmax", "ymax"]


def test_half_hidden_and_tiny_objects_are_difficult():
    # Four squares in an image of 500 x 400:
    #     40 x 40, its right 20 columns hidden by the next one: half of it is visible, less than .55     difficult
    #     40 x 40, wholly visible                                                                        not difficult
    #     24 x 24, less than .05 x 500 = 25                                                              difficult
    #     25 x 25                                                                                        not difficult
    owner = np.full((400, 500), -1)
    for index, (side, x) in enumerate([(40, 100), (40, 120), (24, 300), (25, 400)]):
        draw_voc.cover(owner, np.ones((side, side), bool), x, 50, index)
    objects = [{"whole": side ** 2, "inside": side ** 2} for side in (40, 40, 24, 25)]
    assert [item["difficult"] for item in draw_voc.describe(objects, owner)] == [1, 0, 1, 0]


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawing_fills_its_frame(name):
    layer = draw(name, 100, np.random.default_rng(3))
    assert tight_box(layer[..., 3] >= 128) == (0, 0, layer.shape[1], layer.shape[0])
    assert 96 <= max(layer.shape) <= 102
    assert np.array_equal(layer, draw(name, 100, np.random.default_rng(3)))
    other = draw(name, 100, np.random.default_rng(4))                           # another seed, another drawing
    assert other.shape != layer.shape or not np.array_equal(other, layer)


def test_flip_mirrors_a_drawing():
    # The same car is drawn twice, once mirrored. Its pixels differ a little at the edges, where they are rounded.
    right, left = (draw("car", 120, np.random.default_rng(0), flip) for flip in (False, True))
    assert abs(right.shape[1] - left.shape[1]) <= 1
    w = min(right.shape[1], left.shape[1])
    h = min(right.shape[0], left.shape[0])
    mirrored = left[:h, ::-1][:, :w].astype(int)
    assert np.abs(right[:h, :w] - mirrored).mean() < 10
    assert np.abs(right[:h, :w] - left[:h, :w].astype(int)).mean() > 20


def test_a_layer_is_cut_off_at_the_border():
    image = np.zeros((4, 5, 3), np.uint8)
    layer = np.full((3, 3, 4), 200, np.uint8)
    layer[..., 3] = 255
    put(image, layer, 3, -1)                                                    # inside: columns 3, 4 and rows 0, 1
    put(image, layer, 0, 7)                                                     # wholly below the image
    assert image.sum() == 4 * 3 * 200
    assert (image[:2, 3:] == 200).all()
