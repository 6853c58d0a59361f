"""digitStruct.mat by hand, with one digit and with several; errors in it; images and targets; anchors."""
import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import yolov3.smol_svhn.dataset as dataset_file
from shared.errors import InputError
from yolov3.dataset import collate
from yolov3.smol_svhn.anchors import box_sizes, k_means
from yolov3.smol_svhn.dataset import DigitDataset, move, read_split, stretch

ORDER = ["height", "label", "left", "top", "width"]


def write_struct(path, images):
    """Writes the structure that MATLAB writes. images: a list of (name, [(height, label, left, top, width), ...])"""
    with h5py.File(path, "w") as file:
        refs = file.create_group("#refs#")
        names, boxes = [], []
        for n, (name, digits) in enumerate(images):
            letters = np.array([[ord(letter)] for letter in name], np.uint16)
            names.append([refs.create_dataset(f"a{n}", data=letters).ref])
            group = refs.create_group(f"b{n}")
            boxes.append([group.ref])
            for k, key in enumerate(ORDER):
                if len(digits) == 1:
                    group[key] = np.array([[digits[0][k]]], float)
                else:
                    ones = [[refs.create_dataset(f"c{n}{key}{i}", data=np.array([[digit[k]]], float)).ref]
                            for i, digit in enumerate(digits)]
                    group.create_dataset(key, data=ones, dtype=h5py.ref_dtype)
        file.create_dataset("digitStruct/name", data=names, dtype=h5py.ref_dtype)
        file.create_dataset("digitStruct/bbox", data=boxes, dtype=h5py.ref_dtype)


@pytest.fixture
def folder(tmp_path):
    """2.png, 80 x 40, with the digits 1, 0 (label 10) and 7; then 1.png, 20 x 30, with a 9."""
    Image.new("RGB", (80, 40)).save(tmp_path / "2.png")
    Image.new("RGB", (20, 30)).save(tmp_path / "1.png")
    write_struct(tmp_path / "digitStruct.mat", [
        ("2.png", [(20, 1, 10, 5, 6), (22, 10, 20, 6, 12), (30, 7, 70, 25, 20)]), ("1.png", [(24, 9, -2, 0, 12)])])
    return tmp_path


def test_digit_struct_by_hand(folder):
    # The corners are left, top, left + width, top + height. The 7 ends at (90, 50) and is clipped to (80, 40). The 9
    # begins at -2 and is clipped to 0. Label 10 is the digit 0. The images are in the order of the file, not by name.
    first, second = read_split(folder)
    assert (first.image, first.width, first.height) == (folder / "2.png", 80, 40)
    assert first.labels.tolist() == [1, 0, 7] and first.labels.dtype == np.int64
    assert first.boxes.tolist() == [[10, 5, 16, 25], [20, 6, 32, 28], [70, 25, 80, 40]]
    assert (second.image, second.width, second.height) == (folder / "1.png", 20, 30)
    assert second.labels.tolist() == [9] and second.boxes.tolist() == [[0, 0, 10, 24]]
    assert first.difficult.tolist() == [False] * 3 and second.difficult.tolist() == [False]


def test_a_box_wholly_outside_is_named_and_left_out(folder, capsys):
    write_struct(folder / "digitStruct.mat", [("2.png", [(20, 1, 80, 5, 6), (20, 2, 10, 5, 6)]),
                                              ("1.png", [(24, 9, 3, 5, 0)])])
    first, second = read_split(folder)
    assert first.labels.tolist() == [2] and first.boxes.tolist() == [[10, 5, 16, 25]]
    assert second.boxes.shape == (0, 4) and second.labels.shape == (0,)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 and "digitStruct.mat: 2.png has 1 boxes without an area" in printed[0]


def test_what_is_wrong_is_one_line(folder):
    struct = folder / "digitStruct.mat"
    with pytest.raises(InputError, match="nowhere/digitStruct.mat: no such file"):
        read_split(folder / "nowhere")
    write_struct(struct, [("3.png", [(20, 1, 10, 5, 6)])])
    with pytest.raises(InputError, match="digitStruct.mat: names 3.png, but there is no such image in "):
        read_split(folder)
    for label in (0, 11, 2.5):
        write_struct(struct, [("1.png", [(20, label, 1, 5, 6), (20, 2, 1, 5, 6)])])
        with pytest.raises(InputError, match="digitStruct.mat: 1.png has a label that is not 1 to 10"):
            read_split(folder)
    with h5py.File(struct, "a") as file:
        del file["#refs#/b0/width"]
    with pytest.raises(InputError, match="digitStruct.mat: not the digitStruct of SVHN"):
        read_split(folder)
    for name in ("n" * 300 + ".png", "two\nlines.png", "zero\0.png"):
        write_struct(struct, [(name, [(20, 1, 10, 5, 6)])])
        with pytest.raises(InputError, match="digitStruct.mat: names .*, but there is no such image in ") as error:
            read_split(folder)
        assert "\n" not in str(error.value)
    with h5py.File(struct, "w") as file:
        file["digitStruct/name"] = [[1.0]]
    with pytest.raises(InputError, match="digitStruct.mat: not the digitStruct of SVHN"):
        read_split(folder)
    struct.write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(InputError, match="digitStruct.mat: not the digitStruct of SVHN") as error:
        read_split(folder)
    assert "\n" not in str(error.value)


def test_declared_sizes_are_bounded(folder):
    # HDF5 stores no values for a dataset that is declared and never written. Reading 2^40 of them would take 8 TB.
    struct = folder / "digitStruct.mat"
    for key in ("name", "bbox"):
        write_struct(struct, [("1.png", [(24, 9, 3, 5, 6)])])
        with h5py.File(struct, "a") as file:
            del file[f"digitStruct/{key}"]
            file.create_dataset(f"digitStruct/{key}", (2**40, 1), dtype=h5py.ref_dtype, chunks=(1024, 1))
        with pytest.raises(InputError, match=r"digitStruct.mat: not .* \(1099511627776 images, for which the file is"):
            read_split(folder)
    write_struct(struct, [("1.png", [(24, 9, 3, 5, 6)])])
    with h5py.File(struct, "a") as file:
        del file["#refs#/b0/width"]
        file.create_dataset("#refs#/b0/width", (2**40, 1), dtype=float, chunks=(1024, 1))
    with pytest.raises(InputError, match=r"digitStruct.mat: not .*an image's digits have \(1099511627776, 1\) values"):
        read_split(folder)


def test_targets_are_fractions_of_the_stretched_image(folder):
    # In the image of 80 x 40 the 0 has the corners 20, 6, 32, 28. Its centre is (26 / 80, 17 / 40) = (.325, .425), its
    # size 12 / 80 = .15, 22 / 40 = .55.
    image, targets = DigitDataset(read_split(folder), 32)[0]
    assert image.shape == (3, 32, 32) and targets.shape == (3, 5)
    assert targets[1].tolist() == pytest.approx([0, 0.325, 0.425, 0.15, 0.55])


def test_stretching_averages_what_a_pixel_covers():
    # From 4 x 2 to 2 x 2, two columns become one: (0 + 100) / 2 = 50, (200 + 40) / 2 = 120. From 8 x 2 to 2 x 2, four
    # become one: (80 + 0 + 0 + 0) / 4 = 20. Bilinear interpolation takes the middle two of the four, and gives 0.
    image = np.repeat(np.array([[[0], [100], [200], [40]], [[8], [8], [0], [0]]], np.uint8), 3, 2)
    assert stretch(image, 2)[..., 0].tolist() == [[50, 120], [8, 0]]
    wide = np.repeat(np.array([[[80], [0], [0], [0], [0], [0], [0], [0]]] * 2, np.uint8), 3, 2)
    assert stretch(wide, 2)[..., 0].tolist() == [[20, 0], [20, 0]]


def test_moving_by_hand(folder):
    # One pixel to the right and two up, in 4 x 4 pixels. The new row 0 is the old row 2. The new columns 0 and 1 are
    # both the old column 0, and the new rows 1, 2 and 3 all the old row 3.
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1).repeat(3, 2)
    moved, boxes = move(image, np.array([[0.5, 0.25, 1, 0.75], [0, 0, 0.25, 0.5]]), 1, -2)
    assert moved[..., 0].tolist() == [[8, 8, 9, 10], [12, 12, 13, 14], [12, 12, 13, 14], [12, 12, 13, 14]]
    assert boxes.tolist() == [[0.75, 0, 1, 0.25], [0.25, 0, 0.5, 0]]     # of the second, nothing is left


def test_the_sample_is_moved_by_a_pixel(folder):
    # The centre of the 0 is (.325, .425). A pixel is 1 / 32. All nine shifts by -1, 0 or 1 occur.
    dataset = DigitDataset(read_split(folder), 32, augment=True)
    centres = torch.stack([dataset[0, n][1][1, 1:3] for n in range(60)])
    steps = (centres - torch.tensor([0.325, 0.425])) * 32
    assert (steps - steps.round()).abs().max() < 1e-4 and len(steps.round().unique(dim=0)) == 9


def test_the_jitter_is_seldom_and_leaves_the_boxes(folder, monkeypatch):
    # Of 400 images about 400 * .05 = 20 are changed, with a standard deviation of (400 * .05 * .95)^(1/2) = 4.4. The
    # same seed gives the same image.
    monkeypatch.setattr(dataset_file, "SHIFT", 0)
    Image.new("RGB", (80, 40), (120, 60, 200)).save(folder / "2.png")
    annotations = read_split(folder)
    plain, targets = DigitDataset(annotations, 32)[0]
    dataset = DigitDataset(annotations, 32, augment=True)
    items = [dataset[0, (3, n)] for n in range(400)]
    changed = [n for n, (image, _) in enumerate(items) if not image.equal(plain)]
    assert 5 < len(changed) < 40 and all(drawn.equal(targets) for _, drawn in items)
    assert dataset[0, (3, changed[0])][0].equal(items[changed[0]][0])


def test_the_jitter_changes_all_four(folder):
    # Each is a factor of .8 to 1.2, or for the hue a turn of up to .05.
    jitter, = DigitDataset(read_split(folder), 32, augment=True).distort.transforms
    assert jitter.brightness == jitter.contrast == jitter.saturation == pytest.approx((0.8, 1.2))
    assert jitter.hue == pytest.approx((-0.05, 0.05)) and jitter.p == 0.05


def test_a_batch_with_an_image_without_digits(folder):
    write_struct(folder / "digitStruct.mat", [("1.png", [(24, 9, 30, 5, 6)]), ("2.png", [(20, 1, 10, 5, 6)])])
    dataset = DigitDataset(read_split(folder), 32, augment=True)
    images, targets = collate([dataset[0, 1], dataset[1, 2]])
    assert images.shape == (2, 3, 32, 32) and targets[:, :2].tolist() == [[1, 1]]


def test_k_means_by_hand(folder):
    # As fractions of the images: 6/80 x 20/40, 12/80 x 22/40, 10/80 x 15/40, 10/20 x 24/30.
    sizes = box_sizes(read_split(folder))
    assert sizes.flatten().tolist() == pytest.approx([0.075, 0.5, 0.15, 0.55, 0.125, 0.375, 0.5, 0.8])
    # Two clusters of three boxes. Medians of the first: .11 of .1, .11, .12 and .48 of .46, .48, .5; of the second: .22
    # of .2, .22, .3 and .8 of .7, .8, .9. The larger comes first.
    boxes = torch.tensor([[0.1, 0.5], [0.11, 0.46], [0.12, 0.48], [0.3, 0.9], [0.2, 0.7], [0.22, 0.8]])
    assert k_means(boxes, 2).flatten().tolist() == pytest.approx([0.22, 0.8, 0.11, 0.48])
    with pytest.raises(InputError, match="7 anchors need 7 boxes of different sizes; TRAIN has 6"):
        k_means(boxes, 7)
