"""The lists TRAIN and TEST: which layout an entry is in, every problem told at once, and what the data are."""
import numpy as np
import pytest
from PIL import Image

from shared import annotations
from shared.annotations import describe, read_annotations, read_train_and_test
from shared.errors import InputError
from shared.paths import SAMPLES
from shared.voc import CLASSES as VOC_CLASSES
from shared.voc import Annotation

CLASSES = ["cat", "dog"]
OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax>" \
         "<ymax>20</ymax></bndbox></object>"
HINT = "To go on without these images, set SKIP_UNUSABLE = True in dataset.py."


def write(folder, names, xml="<annotation>" + OBJECT.format("dog", 0, 10) + "</annotation>", split="train"):
    """Writes images of 100 x 50 in VOC's layout, and adds their names to the list of the split."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with open(folder / "ImageSets" / "Main" / f"{split}.txt", "a") as file:
        for name in names:
            Image.new("RGB", (100, 50)).save(folder / "JPEGImages" / f"{name}.jpg")
            (folder / "Annotations" / f"{name}.xml").write_text(xml)
            file.write(f"{name}\n")


def damage(path):
    path.write_bytes(path.read_bytes()[:-20])
    return f"{path}: cannot be read as an image (not an image file, or a damaged one)"


def test_every_problem_of_both_lists_is_in_one_message(tmp_path, capsys):
    # Five images of TRAIN, three of TEST. b is in both. In b the end is missing, d has two wrong objects.
    write(tmp_path, "abc")
    write(tmp_path, "d", f"<annotation>{OBJECT.format('cow', 0, 9)}{OBJECT.format('dog', 0, 0)}</annotation>")
    write(tmp_path, "e", "<annotation>", "test")
    with open(tmp_path / "ImageSets/Main/test.txt", "a") as file:
        file.write("b\nf\n")
    write(tmp_path, "f")
    xml = tmp_path / "Annotations"
    expected = [damage(tmp_path / "JPEGImages/b.jpg"), f"{xml / 'd.xml'}: class 'cow' is not one of CLASSES (cat, dog)",
                f"{xml / 'd.xml'}: a dog whose box 1 1 0 20 does not have xmin <= xmax and ymin <= ymax",
                f"{xml / 'e.xml'}: not well-formed XML (no element found: line 1, column 12)"]
    lists = [(tmp_path, "train")], [(tmp_path, "test")]
    with pytest.raises(InputError) as error:
        read_train_and_test(*lists, CLASSES)
    assert str(error.value).split("\n") == ["The data have 4 problems:", *expected, HINT]
    with pytest.raises(InputError) as error:
        read_annotations(lists[1], CLASSES)
    assert str(error.value).split("\n") == ["The data have 2 problems:", expected[3], expected[0], HINT]
    assert capsys.readouterr().out == ""

    train, test = read_train_and_test(*lists, CLASSES, skip_unusable=True)
    assert [a.image.stem for a in train] == ["a", "c", "f"] and [a.image.stem for a in test] == ["f"]
    said = capsys.readouterr().out.splitlines()
    assert said == ["The data have 4 problems:", *expected, "SKIP_UNUSABLE: going on without these images."]


def test_only_the_first_of_many_problems_are_shown(tmp_path):
    names = [f"{n:03}" for n in range(25)]
    write(tmp_path, names, "")
    with pytest.raises(InputError) as error:
        read_annotations([(tmp_path, "train")], CLASSES)
    lines = str(error.value).split("\n")
    assert lines[0] == "The data have 25 problems:" and lines[-2:] == ["... and 5 more", HINT] and len(lines) == 23
    assert [name in line for name, line in zip(names, lines[1:21])] == [True] * 20
    with pytest.raises(InputError, match="TRAIN or TEST has no image that can be used"):
        read_annotations([(tmp_path, "train")], CLASSES, skip_unusable=True)


def test_only_the_first_process_prints(tmp_path, monkeypatch, capsys):
    write(tmp_path, "ab")
    damage(tmp_path / "JPEGImages/b.jpg")
    monkeypatch.setenv("RANK", "1")
    assert len(read_annotations([(tmp_path, "train")], CLASSES, skip_unusable=True)) == 1
    assert capsys.readouterr().out == ""


def test_an_entry_that_cannot_be_read_is_an_error_in_any_case(tmp_path):
    write(tmp_path, "a")
    damage(tmp_path / "JPEGImages/a.jpg")
    missing = f"{tmp_path / 'ImageSets' / 'Main' / 'val.txt'}: no such file"
    for skip in (False, True):
        with pytest.raises(InputError) as error:             # one problem: one line
            read_annotations([(tmp_path, "val")], CLASSES, skip)
        assert str(error.value) == missing
        with pytest.raises(InputError) as error:
            read_train_and_test([(tmp_path, "train")], [(tmp_path, "val")], CLASSES, skip)
        lines = str(error.value).split("\n")
        assert lines[:2] == ["The data have 2 problems:", missing] and "a.jpg: cannot be read" in lines[2]
        assert len(lines) == 3


@pytest.mark.parametrize("parts", [("folder", "train"), ["folder"], [("folder",)], [("folder", None)], [None],
                                   [("folder", "train", "x")], [(3, "train")]])
def test_entries_are_pairs(parts):
    with pytest.raises(InputError, match="TRAIN and TEST are lists of pairs"):
        read_annotations(parts, CLASSES)


def test_lists_are_not_empty():
    for parts in ([], None):
        with pytest.raises(InputError, match="TRAIN and TEST need at least one"):
            read_annotations(parts, CLASSES)


@pytest.mark.parametrize("xml", ["<annotation/>", f"<annotation>{OBJECT.format('dog', 1, 10)}</annotation>"])
def test_a_training_needs_an_object(tmp_path, xml):
    write(tmp_path, "ab", xml)
    part = [(tmp_path, "train")]
    assert len(read_annotations(part, CLASSES)) == 2         # without objects, or with a difficult one
    with pytest.raises(InputError, match="TRAIN: none of its 2 images has an object that is not difficult"):
        read_train_and_test(part, part, CLASSES)
    write(tmp_path, "c")
    assert [len(found) for found in read_train_and_test(part, part, CLASSES)] == [3, 3]


def test_the_layout_is_told_by_the_entry(tmp_path, monkeypatch):
    # "train" is a list of VOC's if there is a folder ImageSets, and a folder of images if there is none.
    calls = []
    for module in ("voc", "coco", "darknet_labels"):
        monkeypatch.setattr(getattr(annotations, module), "read_split",
                            lambda *given, module=module: calls.append(module) or [None])
    for folder in ("voc/ImageSets", "voc/train", "yolo/train"):
        (tmp_path / folder).mkdir(parents=True)
    for part in [("voc", "train"), ("yolo", "train"), ("yolo", "val"), ("yolo", "train.txt"), ("voc", "train.csv"),
                 ("yolo", "a.json"), ("voc", tmp_path / "a.json")]:
        read_annotations([(tmp_path / part[0], part[1])], CLASSES)
    assert calls == ["voc", "darknet_labels", "voc", "darknet_labels", "darknet_labels", "coco", "coco"]


def test_what_the_data_are(capsys):
    # The first image is 100 x 50, the second 200 x 100, the third has no objects. Widths and heights of the dogs:
    #     10 x 20  10 % and 40 %     20 x 30  20 % and 60 %     20 x 5 of 200 x 100  10 % and 5 %
    # Their medians are 10 % and 40 %. The smallest has 100 square pixels.
    boxes = np.array([[0, 0, 10, 20], [5, 5, 25, 35.0]]), np.array([[10, 10, 30, 15], [0, 0, 1.5, 1]])
    data = [Annotation(None, 100, 50, boxes[0], np.array([1, 1]), np.array([True, False])),
            Annotation(None, 200, 100, boxes[1], np.array([1, 2]), np.array([False, False])),
            Annotation(None, 9, 9, np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))]
    describe("TRAIN", data, ["cat", "dog", "bird", "cow"])
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert " ".join(said[0]) == "TRAIN: 3 images, 1 of them without objects; 4 objects"
    assert said[2] == ["dog", "3", "1", "10.0%", "x", "40.0%", "20", "x", "5"]
    assert said[3] == ["bird", "1", "0", "0.8%", "x", "1.0%", "1.5", "x", "1"]
    assert " ".join(said[4]) == "no objects: cat, cow"


def test_the_sample_has_no_problems_and_every_class(capsys):
    voc = SAMPLES / "voc" / "VOCdevkit" / "VOC2007"
    train, test = read_train_and_test([(voc, "train")], [(voc, "val")], VOC_CLASSES)
    describe("TRAIN", train, VOC_CLASSES)
    said = capsys.readouterr().out
    assert said.startswith("TRAIN: 16 images, 0 of them without objects; 61 objects\n") and "no objects" not in said
    assert sum(len(a.boxes) for a in train) == 61 and len(test) == 8
