"""The drawn sample of ImageNet: data_samples/draw_imagenet.py and the files that it wrote to data_samples/imagenet."""
import cv2
import numpy as np
import pytest

from data_samples import draw_imagenet
from data_samples.draw_imagenet import CLASSES, draw_image
from shared.imagenet import list_classes, read_names, read_split
from shared.paths import SAMPLES

FOLDER = SAMPLES / "imagenet"
COUNTS = {"train": 8, "val": 4}


def pixels(path):
    return cv2.imread(str(path))[..., ::-1]


def test_ten_classes_with_their_names():
    classes = list_classes(FOLDER / "train")
    assert classes == sorted(wnid for wnid, *_ in CLASSES) == [wnid for wnid, *_ in CLASSES] and len(classes) == 10
    assert read_names(FOLDER / "LOC_synset_mapping.txt", classes) == [
        "Labrador retriever", "sorrel", "ram", "airliner", "dining table", "mountain bike", "pop bottle", "pot",
        "studio couch", "television"]
    assert (FOLDER / "LOC_synset_mapping.txt").read_text().splitlines()[5] == \
        "n03792782 mountain bike, all-terrain bike, off-roader"


@pytest.mark.parametrize("split", COUNTS)
def test_every_class_has_its_images_and_all_images_differ(split):
    images = read_split(FOLDER / split, list_classes(FOLDER / "train"))
    assert [label for _, label in images] == [label for label in range(10) for _ in range(COUNTS[split])]
    shapes = [pixels(path).shape for path, _ in images]
    assert {(width, height) for height, width, _ in shapes} == set(draw_imagenet.SIZES)
    assert len({pixels(path).tobytes() for path, _ in images}) == len(images)


def test_the_file_names_are_those_of_imagenet_and_all_files_fit_in_a_megabyte_and_a_half():
    assert sorted(path.name for path in (FOLDER / "train/n02690373").iterdir()) == \
        [f"n02690373_{n}.JPEG" for n in range(1, 9)]
    assert sorted(path.name for path in (FOLDER / "val").rglob("*.JPEG")) == \
        [f"ILSVRC2012_val_{n:08}.JPEG" for n in range(1, 41)]
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1.5e6


@pytest.mark.parametrize("split, label, number, path", [
    (0, 3, 5, "train/n02690373/n02690373_5.JPEG"), (0, 9, 8, "train/n04404412/n04404412_8.JPEG"),
    (1, 2, 1, "val/n02412080/ILSVRC2012_val_00000009.JPEG")])
def test_drawing_again_gives_the_same_pixels_and_the_committed_files(split, label, number, path):
    first = draw_image(split, label, number)
    assert np.array_equal(first, draw_image(split, label, number))
    assert np.abs(first.astype(int) - pixels(FOLDER / path)).mean() < 4              # JPEG changes the pixels a little
    assert np.abs(first.astype(int)[:100, :100] - draw_image(split, label, number + 1)[:100, :100]).mean() > 8


def test_most_of_an_object_is_in_the_central_square(monkeypatch):
    # Evaluation crops the central square of an image. At least .6 of each object's rectangle has to be inside it.
    places = []
    monkeypatch.setattr(draw_imagenet, "put",
                        lambda image, layer, x, y: places.append((image.shape, layer.shape, x, y)))
    for split, count in enumerate(COUNTS.values()):
        for label in range(10):
            for number in range(1, count + 1):
                draw_image(split, label, number)
    for (height, width, _), (h, w, _), x, y in places:
        assert 0 <= x <= width - w and 0 <= y <= height - h                         # the whole object is in the image
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        inside = (min(x + w, left + side) - max(x, left)) * (min(y + h, top + side) - max(y, top))
        assert inside > 0.6 * w * h
    assert len(places) == 120


def test_an_image_does_not_depend_on_how_many_are_drawn(monkeypatch, tmp_path):
    for name, value in [("OUT", tmp_path / "imagenet"), ("NUM_TRAIN", 2), ("NUM_VAL", 1)]:
        monkeypatch.setattr(draw_imagenet, name, value)
    draw_imagenet.main()
    monkeypatch.setattr(draw_imagenet, "NUM_TRAIN", 1)
    draw_imagenet.main()                                                # deletes the files of the run before
    written = sorted((tmp_path / "imagenet/train").rglob("*.JPEG"))
    assert [path.name for path in written] == [f"{wnid}_1.JPEG" for wnid, *_ in CLASSES]
    for path in written:
        stored = pixels(FOLDER / "train" / path.parent.name / path.name)
        assert np.abs(pixels(path).astype(int) - stored).mean() < 1
    assert sorted(path.name for path in (tmp_path / "imagenet/val").rglob("*.JPEG")) == \
        [f"ILSVRC2012_val_{n:08}.JPEG" for n in range(1, 11)]
    assert [path.name for path in tmp_path.iterdir()] == ["imagenet"]


def test_a_folder_of_other_files_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(draw_imagenet, "OUT", tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\n")
    with pytest.raises(SystemExit, match="did not write"):
        draw_imagenet.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LOC_synset_mapping.txt", "train"]
