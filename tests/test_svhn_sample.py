"""The drawn sample of SVHN: data_samples/draw_svhn.py and the files that it wrote to data_samples/svhn."""
import cv2
import h5py
import numpy as np
import pytest

from data_samples import draw_svhn
from data_samples.draw_svhn import draw_image
from shared.paths import SAMPLES
from yolov3.smol_svhn.dataset import read_split

FOLDER = SAMPLES / "svhn"
COUNTS = {"train": 256, "test": 64}


def pixels(path):
    return cv2.imread(str(path))[..., ::-1]


@pytest.mark.parametrize("split", COUNTS)
def test_every_image_is_there_with_its_digits(split):
    annotations = read_split(FOLDER / split)
    assert [a.image.name for a in annotations] == [f"{n}.png" for n in range(1, COUNTS[split] + 1)]
    assert sorted(path.name for path in (FOLDER / split).iterdir()) == \
        sorted(["digitStruct.mat", *(a.image.name for a in annotations)])
    assert {len(a.labels) for a in annotations} == {1, 2, 3, 4}
    counts = np.bincount(np.concatenate([a.labels for a in annotations]), minlength=10)
    assert len(counts) == 10 and counts.min() >= COUNTS[split] / 16
    assert all(draw_svhn.HEIGHTS[0] <= a.height <= draw_svhn.HEIGHTS[1] and a.width > a.height for a in annotations)
    assert all((np.diff(a.boxes[:, 0]) > 0).all() for a in annotations)             # from left to right
    assert len({pixels(a.image).tobytes() for a in annotations}) == len(annotations)


def test_digit_struct_has_the_structure_of_svhns():
    # SVHN's digitStruct.mat has
    #     the names of n images         (n, 1), references to (letters, 1) uint16
    #     a label of one digit          (1, 1) float64
    #     the labels of k digits        (k, 1) references to (1, 1) float64
    #     the label 10 for the digit 0
    with h5py.File(FOLDER / "train" / "digitStruct.mat") as file:
        assert set(file) == {"#refs#", "digitStruct"} and set(file["digitStruct"]) == {"bbox", "name"}
        names, boxes = file["digitStruct/name"], file["digitStruct/bbox"]
        assert names.shape == boxes.shape == (256, 1)
        letters = file[names[41, 0]]
        assert letters.dtype == np.uint16 and letters.shape == (6, 1) and letters[:, 0].tolist() == [*b"42.png"]
        seen = set()
        for n in range(256):
            group = file[boxes[n, 0]]
            assert list(group) == ["height", "label", "left", "top", "width"]
            label = group["label"]
            if label.shape == (1, 1):
                assert label.dtype == np.float64
                seen.add(label[0, 0])
            else:
                numbers = [file[ref] for ref in label[:, 0]]
                assert {(number.shape, number.dtype) for number in numbers} == {((1, 1), np.dtype("f8"))}
                seen |= {number[0, 0] for number in numbers}
        assert seen == set(range(1, 11))


def test_all_files_fit_in_a_megabyte_and_a_half():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1.5e6


@pytest.mark.parametrize("split, number", [(0, 1), (0, 256), (1, 7)])
def test_drawing_again_gives_the_same_pixels_and_the_committed_files(split, number):
    image, digits, boxes = draw_image(split, number)
    again = draw_image(split, number)
    assert np.array_equal(image, again[0]) and np.array_equal(boxes, again[2])
    annotation = read_split(FOLDER / ("train", "test")[split])[number - 1]
    assert np.abs(image.astype(int) - pixels(annotation.image)).mean() < 2
    assert annotation.labels.tolist() == digits.tolist()
    assert np.abs(annotation.boxes - boxes).max() <= 1
    assert draw_image(split, number + 1)[0].shape != image.shape or \
        not np.array_equal(draw_image(split, number + 1)[0], image)


def test_a_box_fits_its_digit_tightly(monkeypatch):
    # The digits are drawn in white on a black wall. Each of the four edges of a box touches white pixels, and there are
    # no white pixels outside the boxes.
    for name, value in [("wall", lambda pen, rng, aspect: (0, 0, 0)), ("plate", lambda *a: (0, 0, 0)),
                        ("contrasting", lambda *a: (255, 255, 255)), ("photograph", lambda image, rng: image),
                        ("OTHERS", 0)]:
        monkeypatch.setattr(draw_svhn, name, value)
    for number in range(1, 30):
        image, digits, boxes = draw_image(0, number)
        white = image[..., 0] >= 128
        for left, top, right, bottom in boxes:
            inside = white[top:bottom, left:right]
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            white[top:bottom, left:right] = False
        assert not white.any() and len(digits) == len(boxes)


def test_the_bytes_do_not_depend_on_the_time_or_on_how_many_are_drawn(monkeypatch, tmp_path):
    for folder, train in (("a", 3), ("b", 3), ("c", 2)):
        for name, value in [("OUT", tmp_path / folder), ("NUM_TRAIN", train), ("NUM_TEST", 1)]:
            monkeypatch.setattr(draw_svhn, name, value)
        draw_svhn.main()
    for path in sorted((tmp_path / "a").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    monkeypatch.setattr(draw_svhn, "OUT", tmp_path / "b")
    draw_svhn.main()                                 # draws b again with 2 training images, deletes the old 3
    for folder in ("b", "c"):
        assert sorted(path.name for path in (tmp_path / folder / "train").iterdir()) == [
            "1.png", "2.png", "digitStruct.mat"]
    assert (tmp_path / "c/train/2.png").read_bytes() == (tmp_path / "a/train/2.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_folder_of_other_files_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(draw_svhn, "OUT", tmp_path)
    (tmp_path / "train").mkdir()
    with h5py.File(tmp_path / "train" / "digitStruct.mat", "w") as file:
        file["digitStruct/name"] = [[1.0]]
    with pytest.raises(SystemExit, match="did not write"):
        draw_svhn.main()
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["digitStruct.mat"]
