"""What evaluate.py prints and writes, for two images with detections made up here."""
import json

import numpy as np
import pytest
from PIL import Image

import shared.report
from shared.report import draw_detections, report, truths_of
from shared.voc import Annotation

CLASSES = ["cow", "dog", "traffic light"]


@pytest.fixture
def annotations(tmp_path):
    """An image without objects; one with a difficult cow, two dogs. No image has a traffic light."""
    for name in "ab":
        Image.new("RGB", (100, 50)).save(tmp_path / f"{name}.jpg")
    boxes = np.array([[1.0, 2, 30, 40], [5, 6, 70, 50], [80, 6, 90, 50]])
    return [Annotation(tmp_path / "a.jpg", 100, 50, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool)),
            Annotation(tmp_path / "b.jpg", 100, 50, boxes, np.array([0, 1, 1]), np.array([True, False, False]))]


# A dog in the wrong image; the first dog; the difficult cow; nothing is found of the second dog.
DETECTIONS = np.array([[0, 1, 0.9, 5, 6, 70, 50], [1, 1, 0.8, 5, 6, 70, 50], [1, 0, 0.4, 1, 2, 30, 40]])


def test_truths_by_hand(annotations):
    assert truths_of(annotations).tolist() == [[1, 0, 1, 2, 30, 40, 1], [1, 1, 5, 6, 70, 50, 0],
                                               [1, 1, 80, 6, 90, 50, 0]]
    assert truths_of(annotations[:1]).shape == (0, 7)


def test_the_pictures_have_their_own_images_detections(annotations, monkeypatch):
    # Of at least the confidence: .8 is enough for .8, .4 is not.
    drawn = []
    monkeypatch.setattr(shared.report, "draw_boxes", lambda image, rows, _: drawn.append(rows.tolist()) or image)
    pictures = draw_detections(DETECTIONS, annotations, CLASSES, confidence=0.8)
    assert [picture.shape for picture in pictures] == [(50, 100, 3)] * 2
    assert drawn == [[[1, 0.9, 5, 6, 70, 50]], [[1, 0.8, 5, 6, 70, 50]]]
    assert len(draw_detections(DETECTIONS, annotations[:1], CLASSES, 0.8)) == 1


def test_the_figures_by_hand(annotations, tmp_path, capsys):
    # Two dogs, of which one is found, after one detection that is wrong. Precision and recall after the two detections
    # are 0, 0 and 1/2, 1/2. The every-point AP is 1/2 * 1/2 = .25. At the recalls 0, .1, .. .5 the highest precision to
    # the right is 1/2, so the 11-point AP is 6/11 * 1/2 = .2727. The cow is difficult, so it does not count as a truth.
    accuracies = {"class": 0.25, "object": 0.5, "no_object": 1.0}
    report(DETECTIONS, accuracies, annotations, CLASSES, 0.5, tmp_path / "out")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == [["VOC", "truths", "AP50", "11-point"], ["dog", "2", "0.2500", "0.2727"],
                         ["mean", "2", "0.2500", "0.2727"]]
    assert lines[3][:1] == ["COCO"]                                          # checked in tests/test_metrics.py
    assert lines[4][:3] == ["at", "confidence", "0.5"] and lines[4][3:7] == ["precision", "0.5000", "recall", "0.5000"]
    assert lines[5] == ["all", "detections", "recall", "0.5000"]             # one of two dogs, at any score
    assert lines[6] == ["accuracies", "class", "0.2500", "object", "0.5000", "no_object", "1.0000"]
    # Of the two best dogs, one is where nothing is and one is correct. The cow has no shares: it is difficult.
    assert " ".join(lines[7]) == ("best N detections correct 50.0 % localization 0.0 % similar 0.0 % other 0.0 % "
                                  "background 50.0 %")
    assert (tmp_path / "out" / "precision_recall.png").stat().st_size > 0
    assert (tmp_path / "out" / "errors.png").stat().st_size > 0
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert (figures["VOC AP50"], figures["recall of all detections"]) == (0.25, 0.5)
    assert figures["errors"] == {"correct": 0.5, "localization": 0, "similar": 0, "other": 0, "background": 0.5}
    assert figures["VOC AP50, 11-point"] == pytest.approx(3 / 11) and figures["COCO"]["AP50"] == figures["COCO"]["AP75"]

    # The files have all detections. Each image has its text file; one that an earlier evaluation left is deleted.
    (tmp_path / "out" / "padilla" / "detections" / "old.txt").write_text("")
    report(DETECTIONS[1:], accuracies, annotations, CLASSES, 0.5, tmp_path / "out")
    # Now every detection that counts is right, so the precision is 1, and the recall still 1/2.
    assert json.loads((tmp_path / "out" / "figures.json").read_text())["recall of all detections"] == 0.5
    texts = {path.name: path.read_text() for path in (tmp_path / "out" / "padilla" / "detections").iterdir()}
    assert texts == {"a.txt": "", "b.txt": "dog 0.8 6.0 7.0 70.0 50.0\ncow 0.4 2.0 3.0 30.0 40.0\n"}
    truths = json.loads((tmp_path / "out" / "truths.json").read_text())
    assert [image["file_name"] for image in truths["images"]] == ["a.jpg", "b.jpg"]
    assert [image["id"] for image in truths["images"]] == [0, 1]
    assert {image["width"] for image in truths["images"]} == {100}


def test_similar_classes_are_handed_on(annotations, tmp_path, capsys):
    # The better of two dogs is where the cow is. With and without a group it is another kind of error.
    detections = np.array([[1, 1, 0.9, 1, 2, 20, 40], [1, 1, 0.8, 5, 6, 70, 50]])
    boxes = np.array([[1.0, 2, 20, 40], [30, 6, 70, 50], [80, 6, 90, 50]])                  # the first is the cow
    pair = [annotations[0], annotations[1]._replace(boxes=boxes)]
    report(detections, {}, pair, CLASSES, 0.5, tmp_path, [{"cow", "dog"}])
    assert "similar 50.0 %  other 0.0 %" in capsys.readouterr().out
    report(detections, {}, pair, CLASSES, 0.5, tmp_path)
    assert "similar 0.0 %  other 50.0 %" in capsys.readouterr().out


def test_coco_keeps_its_own_ids_and_areas_and_comes_first(annotations, tmp_path, capsys):
    first, second = (a._replace(number=n, category_ids=[7, 9, 11]) for a, n in zip(annotations, (139, 285)))
    coco = [first._replace(areas=np.zeros(0)), second._replace(areas=np.array([5.0, 6, 7]))]
    report(DETECTIONS, {}, coco, CLASSES, 0.5, tmp_path)
    assert capsys.readouterr().out.startswith("COCO ")
    truths = json.loads((tmp_path / "truths.json").read_text())
    assert [image["id"] for image in truths["images"]] == [139, 285]
    assert [(row["image_id"], row["category_id"], row["area"]) for row in truths["annotations"]] == [
        (285, 7, 5), (285, 9, 6), (285, 9, 7)]
    found = json.loads((tmp_path / "detections.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in found] == [(139, 9), (285, 9), (285, 7)]
