"""
The sizes of boxes in pixels of the letterbox, the anchors as a constant of train.py, what the published ones reach.
How k-means works is tested in test_yolov2_anchors.py: its functions are those of YOLOv2.
"""
import ast
import re

import numpy as np
import pytest

import yolov3.anchors as anchors
from shared.errors import InputError
from shared.voc import Annotation
from yolov3.model import ANCHORS
from yolov3.tiny.model import ANCHORS as TINY_ANCHORS


def test_sizes_are_pixels_of_the_letterbox(monkeypatch):
    # TEST_SIZE is 160. An image of 200 x 100 is 160 x 80 in its letterbox, so a box of 80 x 50 has 64 x 40 pixels. An
    # image of 40 x 80 is 80 x 160 there, twice as large: 10 x 30 becomes 20 x 60. The difficult object is left out.
    monkeypatch.setattr(anchors, "TEST_SIZE", 160)
    wide = Annotation(None, 200, 100, np.array([[20.0, 10, 100, 60], [0, 0, 9, 9]]), np.array([3, 5]),
                      np.array([False, True]))
    high = Annotation(None, 40, 80, np.array([[5.0, 5, 15, 35]]), np.array([0]), np.array([False]))
    empty = wide._replace(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), difficult=np.zeros(0, bool))
    assert anchors.box_sizes([wide, empty, high]).tolist() == [pytest.approx([64, 40]), pytest.approx([20, 60])]
    assert anchors.box_sizes([empty]).shape == (0, 2)


def test_overlaps_by_hand():
    # 4 x 2 with 2 x 3 share 2 x 2: 4 / (8 + 6 - 4) = 0.4. 4 x 2 with itself 1. 1 x 1 in 4 x 2: 1/8, in 2 x 3: 1/6.
    sizes, clusters = np.array([[4.0, 2], [1, 1]]), np.array([[2.0, 3], [4, 2]])
    assert anchors.overlaps(sizes, clusters).tolist() == [pytest.approx([0.4, 1 / 6]), pytest.approx([1, 1 / 8])]
    assert anchors.average_iou(sizes, clusters) == pytest.approx((1 + 1 / 6) / 2)


def run(monkeypatch, capsys, annotations):
    """Runs main() on these annotations in letterboxes of 416. -> {file: (its ANCHORS, two average IOUs)}, its text"""
    monkeypatch.setattr(anchors, "read_annotations", lambda *arguments: annotations)
    monkeypatch.setattr(anchors, "TEST_SIZE", 416)
    anchors.main()
    text, found = capsys.readouterr().out, {}
    for file, new, present, code in re.findall(
            r"(YOLOv3\S*): average IOU ([\d.]+)%, with the published anchors ([\d.]+)%\nANCHORS = (\[.*?\]\])", text,
            re.DOTALL):
        found[file] = ast.literal_eval(code), float(new), float(present)
    return found, text


def image_of(shapes):
    """An image of 416 x 416, which is its own letterbox, with a box of each of these sizes."""
    boxes = np.array([[0.0, 0, w, h] for w, h in shapes])
    return Annotation(None, 416, 416, boxes, np.zeros(len(boxes), int), np.zeros(len(boxes), bool))


def test_the_published_anchors_are_found_again(monkeypatch, capsys):
    # The boxes have the nine published sizes, 20 of each. Nine clusters are these sizes, with an average IOU of 1. The
    # printed text is the constant of model.py: three rows, the largest first, and within a row the smallest.
    shapes = [shape for scale in ANCHORS for shape in scale]
    monkeypatch.setattr(anchors, "RESTARTS", 20)
    found, text = run(monkeypatch, capsys, [image_of(shapes * 20)])
    assert found["YOLOv3"] == (ANCHORS, 100, 100)
    assert text.startswith("180 boxes of 1 images in letterboxes of 416 x 416 pixels\n")
    assert """
ANCHORS = [[(116, 90), (156, 198), (373, 326)],
           [(30, 61), (62, 45), (59, 119)],
           [(10, 13), (16, 30), (33, 23)]]
""" in text
    # Six anchors for two scales: two rows of three. They fit better than the tiny network's own, which are others.
    tiny, new, present = found["YOLOv3Tiny"]
    assert [len(row) for row in tiny] == [3, 3] and new > present
    areas = [w * h for row in reversed(tiny) for w, h in row]
    assert areas == sorted(areas)
    own = np.array(TINY_ANCHORS).reshape(-1, 2)
    assert present == pytest.approx(100 * anchors.average_iou(np.array(shapes), own), abs=0.06)


def test_what_is_printed_for_small_objects(monkeypatch, capsys):
    # All objects are squares of 2.25, 2.5 ... 4.25 pixels, 10 of each: nine clusters, printed with their decimals. The
    # smallest published anchor is 10 x 13, so the IOU of a square of s pixels is s^2 / 130. The mean of s^2 is
    # (2.25^2 + ... + 4.25^2) / 9 = 10.979, and the average IOU 8.4 %.
    sides = [2.25 + n / 4 for n in range(9)]
    monkeypatch.setattr(anchors, "RESTARTS", 20)
    found, _ = run(monkeypatch, capsys, [image_of([(s, s) for s in sides] * 10)])
    rows, new, present = found["YOLOv3"]
    assert rows == [[(s, s) for s in sides[first:first + 3]] for first in (6, 3, 0)]
    assert new == 100 and present == 8.4 == round(100 * sum(s * s for s in sides) / 9 / 130, 1)


def test_too_few_boxes_are_one_line(monkeypatch, capsys):
    with pytest.raises(InputError, match="yolov3/anchors.py: 9 clusters need 9 boxes of different sizes; TRAIN has 8"):
        run(monkeypatch, capsys, [image_of([(n, n) for n in range(1, 9)] * 3)])
