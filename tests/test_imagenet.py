"""
Reads ImageNet's folders: the labels follow the alphabetical order of the ids, every fault is reported in one line, and
the flat validation folder is sorted into classes.
"""
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import InputError
from shared.imagenet import list_classes, read_names, read_split, sort_validation
from shared.paths import ROOT


def make(folder, *files):
    """Makes empty files in the folder, with the subfolders they need. Returns the folder."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.fixture
def train(tmp_path):
    return make(tmp_path / "train", "n02123045/n02123045_7.JPEG", "n02123045/n02123045_10.JPEG", "n01440764/b.jpg",
                "n01440764/a.png", "n01440764/notes.txt", ".cache/c.JPEG")


def test_labels_count_the_sorted_classes(train):
    classes = list_classes(train)
    assert classes == ["n01440764", "n02123045"]
    images = read_split(train, classes)
    assert [(path.removeprefix(f"{train}/"), label) for path, label in images] == [
        ("n01440764/a.png", 0), ("n01440764/b.jpg", 0), ("n02123045/n02123045_10.JPEG", 1),
        ("n02123045/n02123045_7.JPEG", 1)]


def test_the_labels_of_val_are_those_of_train(train, tmp_path):
    # Eleven classes, made in another order in val than in train; the disk may list them in any order.
    names = ["n01440764", "n02123045", *(f"n0160000{n}" for n in (5, 1, 7, 0, 3, 8, 2, 6, 4))]
    make(train, *(f"{name}/d.JPEG" for name in names))
    val = make(tmp_path / "val", *(f"{name}/e.JPEG" for name in reversed(names)))
    images = read_split(val, list_classes(train))
    assert [label for _, label in images] == list(range(11))
    assert [path.split("/")[-2] for path, _ in images] == sorted(names)


def test_faulty_folders_are_named(train, tmp_path):
    classes = list_classes(train)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        list_classes(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no class folders"):
        list_classes(tmp_path / "empty")
    other = make(tmp_path / "other", "n01440764/a.JPEG", "n02123045/b.JPEG", "n09999999/c.JPEG")
    with pytest.raises(InputError, match="other/n09999999: no such class in training"):
        read_split(other, classes)
    fewer = make(tmp_path / "fewer", "n01440764/a.JPEG")
    with pytest.raises(InputError, match="fewer/n02123045: no such folder"):
        read_split(fewer, classes)
    without = make(tmp_path / "without", "n01440764/a.JPEG", "n02123045/b.txt")
    with pytest.raises(InputError, match="without/n02123045: no images in this folder"):
        read_split(without, classes)


def test_a_flat_validation_folder_raises_an_error_with_the_command_that_sorts_it(train, tmp_path):
    flat = make(tmp_path / "val", "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG")
    with pytest.raises(InputError) as error:
        read_split(flat, list_classes(train))
    assert f"{flat}: 2 images in one flat folder" in str(error.value)
    assert f"python shared/imagenet.py {flat} LOC_val_solution.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_ends_at_the_first_comma_and_a_class_without_a_name_keeps_its_id(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("n01440764 tench, Tinca tinca\nn02123045 tabby, tabby cat\nn02099712 Labrador retriever\n")
    classes = ["n02123045", "n02099712", "n09999999"]
    assert read_names(words, classes) == ["tabby", "Labrador retriever", "n09999999"]
    assert read_names(tmp_path / "missing.txt", classes) == classes


KAGGLE = """ImageId,PredictionString
ILSVRC2012_val_00000002,n02123045 10 20 30 40 n02123045 1 2 3 4
ILSVRC2012_val_00000001,n01440764 0 0 9 9
ILSVRC2012_val_00000003,n02123045 5 6 7 8
"""
SORTED = ["n01440764/ILSVRC2012_val_00000001.JPEG", "n02123045/ILSVRC2012_val_00000002.JPEG",
          "n02123045/ILSVRC2012_val_00000003.JPEG"]


def relative_paths(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.JPEG"))


@pytest.mark.parametrize("text", [KAGGLE, "ILSVRC2012_val_00000001.JPEG n01440764\n"
                                          "ILSVRC2012_val_00000002.JPEG n02123045\n"
                                          "ILSVRC2012_val_00000003.JPEG n02123045\n"])
def test_sorting_the_validation_images(train, tmp_path, text):
    flat = make(tmp_path / "val", *(f"ILSVRC2012_val_{n:08}.JPEG" for n in (1, 2, 3)))
    (tmp_path / "labels").write_text(text)
    assert sort_validation(flat, tmp_path / "labels") == 3
    assert relative_paths(flat) == SORTED
    assert [label for _, label in read_split(flat, list_classes(train))] == [0, 1, 1]
    assert sort_validation(flat, tmp_path / "labels") == 0 and relative_paths(flat) == SORTED


def test_nothing_is_moved_if_an_image_has_no_label(tmp_path):
    flat = make(tmp_path / "val", "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000009.JPEG")
    (tmp_path / "labels.csv").write_text(KAGGLE)
    with pytest.raises(InputError, match="labels.csv: no line for ILSVRC2012_val_00000009.JPEG"):
        sort_validation(flat, tmp_path / "labels.csv")
    assert relative_paths(flat) == ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000009.JPEG"]
    with pytest.raises(InputError, match="missing.csv: no such file"):
        sort_validation(flat, tmp_path / "missing.csv")


def test_sorting_never_replaces_an_image(tmp_path):
    # The second of three images has a namesake in its class, with another content. No image is moved.
    flat = make(tmp_path / "val", *(f"ILSVRC2012_val_{n:08}.JPEG" for n in (1, 2, 3)), SORTED[1])
    (flat / SORTED[1]).write_bytes(b"another")
    (tmp_path / "labels.csv").write_text(KAGGLE)
    before = {path: path.read_bytes() for path in flat.rglob("*.JPEG")}
    with pytest.raises(InputError, match="val/n02123045/ILSVRC2012_val_00000002.JPEG: is already there, and .*; noth"):
        sort_validation(flat, tmp_path / "labels.csv")
    assert {path: path.read_bytes() for path in flat.rglob("*.JPEG")} == before and len(before) == 4
    (flat / SORTED[1]).unlink()
    (flat / SORTED[1]).symlink_to("gone.JPEG")                               # a link to a file that does not exist
    with pytest.raises(InputError, match="is already there"):
        sort_validation(flat, tmp_path / "labels.csv")
    (flat / SORTED[1]).unlink()
    assert sort_validation(flat, tmp_path / "labels.csv") == 3 and relative_paths(flat) == SORTED


def test_a_file_in_the_place_of_a_class_stops_the_sorting(tmp_path):
    flat = make(tmp_path / "val", *(f"ILSVRC2012_val_{n:08}.JPEG" for n in (1, 2, 3)), "n02123045")
    (tmp_path / "labels.csv").write_text(KAGGLE)
    with pytest.raises(InputError, match="val/n02123045: is a file in the place of the class's folder; nothing was"):
        sort_validation(flat, tmp_path / "labels.csv")
    assert relative_paths(flat) == [f"ILSVRC2012_val_{n:08}.JPEG" for n in (1, 2, 3)]


def test_sorting_goes_on_after_an_error_of_the_disk(tmp_path, monkeypatch):
    # The second image cannot be moved. The first one has been; the same command moves the other two.
    flat = make(tmp_path / "val", *(f"ILSVRC2012_val_{n:08}.JPEG" for n in (1, 2, 3)))
    (tmp_path / "labels.csv").write_text(KAGGLE)
    rename = Path.rename

    def full(path, new):
        if path.stem.endswith("2"):
            raise OSError(28, "No space left on device")
        return rename(path, new)
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(InputError, match=r"00000002.JPEG: cannot be moved to .* \(no space left on device\); the"):
        sort_validation(flat, tmp_path / "labels.csv")
    assert relative_paths(flat) == ["ILSVRC2012_val_00000002.JPEG", "ILSVRC2012_val_00000003.JPEG", SORTED[0]]
    monkeypatch.setattr(Path, "rename", rename)
    assert sort_validation(flat, tmp_path / "labels.csv") == 2 and relative_paths(flat) == SORTED


def test_two_classes_for_an_image_are_refused(tmp_path):
    flat = make(tmp_path / "val", "ILSVRC2012_val_00000001.JPEG")
    (tmp_path / "labels.csv").write_text(KAGGLE + "ILSVRC2012_val_00000001,n01440764 0 0 9 9\n")
    assert sort_validation(make(tmp_path / "twice", "ILSVRC2012_val_00000001.JPEG"), tmp_path / "labels.csv") == 1
    (tmp_path / "labels.csv").write_text(KAGGLE + "ILSVRC2012_val_00000001,n02123045 0 0 9 9\n")
    with pytest.raises(InputError, match="different classes for ILSVRC2012_val_00000001.JPEG: n01440764, n02123045"):
        sort_validation(flat, tmp_path / "labels.csv")
    assert relative_paths(flat) == ["ILSVRC2012_val_00000001.JPEG"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_text_in_another_encoding_is_one_line(tmp_path, encoding):
    # 0xfc, the u umlaut of Latin-1, is never a byte of UTF-8. Text in UTF-16 begins with 0xff, which is not either.
    flat = make(tmp_path / "val", "ILSVRC2012_val_00000001.JPEG")
    (tmp_path / "text").write_bytes("n01440764 M\u00fcller\n".encode(encoding))
    for function, *arguments in [(read_names, tmp_path / "text", ["n01440764"]),
                                 (sort_validation, flat, tmp_path / "text")]:
        with pytest.raises(InputError, match="text: not UTF-8 text") as error:
            function(*arguments)
        assert "\n" not in str(error.value)


def test_a_byte_order_mark_is_no_letter(tmp_path):
    flat = make(tmp_path / "val", "ILSVRC2012_val_00000001.JPEG")
    (tmp_path / "labels").write_bytes(b"\xef\xbb\xbfILSVRC2012_val_00000001.JPEG n01440764\n")
    assert sort_validation(flat, tmp_path / "labels") == 1 and relative_paths(flat) == SORTED[:1]


def test_the_command_sorts_and_reports_errors_in_one_line(tmp_path):
    flat = make(tmp_path / "val", *(f"ILSVRC2012_val_{n:08}.JPEG" for n in (1, 2, 3)))
    (tmp_path / "labels.csv").write_text(KAGGLE)
    command = [sys.executable, "-m", "shared.imagenet", str(flat), str(tmp_path / "labels.csv")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and "3 images sorted" in result.stdout and relative_paths(flat) == SORTED
    result = subprocess.run(command[:-1] + ["nowhere.csv"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0 and result.stderr == "nowhere.csv: no such file\n"
