"""
Street View House Numbers (SVHN) with a box for each digit: the data set and its augmentation.

Paper   "Reading Digits in Natural Images with Unsupervised Feature Learning", Netzer, Wang, Coates, Bissacco, Wu and
        Ng, 2011. The format is called "full numbers": 33,402 images for training, 13,068 for testing.

    train/1.png 2.png ...        colour images of any size
    train/digitStruct.mat        a struct array of MATLAB 7.3, which is HDF5:
        digitStruct/name         (n, 1) references, each to the letters of a file name as uint16 (letters, 1)
        digitStruct/bbox         (n, 1) references, each to a group with height, label, left, top, width. In an image of
                                 one digit, each is (1, 1) float64; of k digits, (k, 1) references to (1, 1) float64

Label 10 is the digit 0. We read left and top as lengths, and left + width as the right edge. Boxes are clipped to the
image. A box that is wholly outside is left out, with a message.

An image is stretched to the square of the input, in training and in evaluation. A house number is wider than high, and
in a letterbox of 32 pixels its digits would be two pixels wide. The augmentation is a colour jitter of few images, and,
for the sample, a shift of up to one pixel. Without the shift the AP50 on the sample's test images is .42, with it .70
(measured with python yolov3/smol_svhn/train.py).

    python yolov3/smol_svhn/dataset.py     writes runs/smol_svhn/augmented.png: training images as the network sees
                                           them, with boxes

What changed from yolov3/dataset.py: digitStruct.mat instead of XML; images are stretched, not letterboxed or placed at
random; they are not mirrored, because a mirrored digit is another sign.
"""
import math
import os
from pathlib import Path

import cv2
import h5py
import numpy as np
import torch
from h5py import h5d, h5r, h5s, h5t
from tqdm import tqdm

from shared.draw import draw_targets, write_sheet
from shared.errors import InputError, one_line, run
from shared.files import check_file
from shared.images import image_size, read_image
from shared.paths import ROOT, RUNS, SAMPLES
from shared.voc import Annotation
from yolov3.dataset import make_targets

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations otherwise looks for an update online
import albumentations as A

PRESET = "sample"  # chooses the data here and all values of a training in train.py:
#                    "sample"  256 drawn images, learned in about 1 minute on 2 CPU cores
#                    "svhn"    SVHN, with values that are meant for it and have not been tried

if PRESET == "sample":
    SVHN = SAMPLES / "svhn"
    SHIFT = 1      # move an image by up to one pixel of the input either way, because 256 images are few
elif PRESET == "svhn":
    SVHN = ROOT / "svhn"
    SHIFT = 0
TRAIN = [SVHN / "train"]    # folders with digitStruct.mat and its images; SVHN / "extra" has 202,353 more
TEST = [SVHN / "test"]
CLASSES = list("0123456789")

JITTER_PROBABILITY = 0.05
BRIGHTNESS = CONTRAST = SATURATION = 0.2   # multiply each by U(.8, 1.2)
HUE = 0.05                                 # turn the hue by up to 18 degrees either way

FIELDS = ("left", "top", "width", "height", "label")
MAX_VALUES = 10_000    # letters of a file name, or digits of an image


def read_split(folder):
    """
    Reads a folder with digitStruct.mat and its images.

    returns  a list of shared.voc.Annotation, in the order of the file
    raises   InputError, naming the file, if something is missing, damaged or wrong
    """
    path, annotations = Path(folder) / "digitStruct.mat", []
    for name, (left, top, width, height, label) in read_digit_struct(path):
        image = Path(folder) / name
        if not os.path.isfile(image):                                        # False, too, for a name that cannot be
            raise InputError(f"{path}: names {one_line(name)}, but there is no such image in {folder}")
        if not np.isin(label, range(1, 11)).all():
            raise InputError(f"{path}: {one_line(name)} has a label that is not 1 to 10 (10 is the digit 0)")
        W, H = image_size(image)
        boxes = np.stack([left, top, left + width, top + height], 1).clip(0, [W, H, W, H])       # (n, 4)
        inside = (boxes[:, :2] < boxes[:, 2:]).all(1)                        # (n,)
        if not inside.all():
            tqdm.write(f"{path}: {one_line(name)} has {(~inside).sum()} boxes without an area in the image; they are "
                       "left out")
        annotations.append(Annotation(image, W, H, boxes[inside], label[inside].astype(np.int64) % 10,
                                      np.zeros(inside.sum(), bool)))
    return annotations


def read_digit_struct(path):
    """
    Yields the file name of each image and FIELDS of its n digits, (5, n) float64.

    The 33,402 images of SVHN are half a million small HDF5 datasets. This takes 20 seconds with h5py's low-level
    functions, and three times as long with its objects (measured).
    """
    check_file(path)
    try:
        with h5py.File(path) as file:
            rows = max(len(file[f"digitStruct/{key}"]) for key in ("name", "bbox"))
            if rows * 8 > path.stat().st_size:                               # a reference has 8 bytes
                raise ValueError(f"{rows} images, for which the file is too small")
            names, groups = (file["digitStruct"][key][:, 0] for key in ("name", "bbox"))         # (n,) references
            for name, group in zip(tqdm(names, desc=f"reading {path}", disable=len(names) < 1000), groups, strict=True):
                letters = read(h5r.dereference(name, file.id), np.uint16)    # (letters, 1)
                group = h5r.dereference(group, file.id)
                values = []
                for field in FIELDS:
                    dataset = h5d.open(group, field.encode())
                    if dataset.get_type().get_class() == h5t.REFERENCE:      # several digits
                        refs = read(dataset, h5py.ref_dtype)                 # (n, 1)
                        values.append([read(h5r.dereference(ref, file.id), np.float64)[0, 0] for ref in refs[:, 0]])
                    else:
                        values.append(read(dataset, np.float64)[:, 0])
                yield letters.tobytes().decode("utf-16-le"), np.array(values)
    except (OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError, AttributeError) as error:
        raise InputError(f"{path}: not the digitStruct of SVHN's full numbers, or a damaged one ({one_line(error)})"
                         ) from None


def read(dataset, dtype):
    """The values of an HDF5 dataset, as an array. Raises ValueError for more than any image's name or digits take."""
    shape = dataset.shape
    if math.prod(shape) > MAX_VALUES:
        raise ValueError(f"a name or an image's digits have {shape} values")
    values = np.empty(shape, dtype)
    dataset.read(h5s.ALL, h5s.ALL, values)
    return values


class DigitDataset(torch.utils.data.Dataset):
    """
    dataset[i]        image i
    dataset[i, seed]  image i. The seed, a number or a tuple of numbers, fixes the augmentation, so that a training can
                      be repeated. Without a seed it differs each time.

    The image is stretched to size x size. augment=True then shifts it and distorts its colours.

    returns  image (3, size, size) float 0..1; targets (n, 5) label, centre x, centre y, width, height as fractions
    """

    def __init__(self, annotations, size, augment=False):
        self.annotations, self.size, self.augment, self.shift = annotations, size, augment, SHIFT
        self.distort = A.Compose([A.ColorJitter(
            brightness=(1 - BRIGHTNESS, 1 + BRIGHTNESS), contrast=(1 - CONTRAST, 1 + CONTRAST),
            saturation=(1 - SATURATION, 1 + SATURATION), hue=(-HUE, HUE), p=JITTER_PROBABILITY)])

    def __len__(self):
        return len(self.annotations)

    def __getitem__(self, key):
        index, seed = key if isinstance(key, tuple) else (key, None)
        annotation = self.annotations[index]
        image = stretch(read_image(annotation.image), self.size)             # (size, size, 3) uint8
        boxes = annotation.boxes / ([annotation.width, annotation.height] * 2)                   # (n, 4)  fractions
        if self.augment:
            rng = np.random.default_rng(seed)
            image, boxes = move(image, boxes, *rng.integers(-self.shift, self.shift + 1, 2))
            self.distort.set_random_seed(int(rng.integers(2**32)))
            image = self.distort(image=image)["image"]
        targets = make_targets(boxes, annotation.labels)                     # (n, 5)
        return to_tensor(image), targets[(targets[:, 3:] > 0).all(1)]        # without boxes that were moved out


def stretch(image, size):
    """(h, w, 3) uint8 -> (size, size, 3). Each new pixel is the average of the pixels that it covers."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def move(image, boxes, dx, dy):
    """
    Moves the image by dx pixels to the right and dy down, and clips the boxes. The pixels of the border are repeated
    where nothing moves in.

    image (size, size, 3) uint8, boxes (n, 4) as fractions -> the same, moved
    """
    size, most = len(image), max(abs(dx), abs(dy))
    wide = cv2.copyMakeBorder(image, *[int(most)] * 4, cv2.BORDER_REPLICATE)
    moved = np.ascontiguousarray(wide[most - dy:most - dy + size, most - dx:most - dx + size])
    return moved, (boxes + np.array([dx, dy, dx, dy]) / size).clip(0, 1)


def to_tensor(image):
    """(h, w, 3) uint8 -> (3, h, w) float 0..1"""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def main():
    annotations = [annotation for folder in TRAIN for annotation in read_split(folder)]
    dataset = DigitDataset(annotations, 32, augment=True)
    pictures = []
    for n in range(48):
        image, targets = dataset[n % len(dataset), n]
        enlarged = image.repeat_interleave(6, 1).repeat_interleave(6, 2)     # (3, 192, 192)
        pictures.append(draw_targets(enlarged, targets, CLASSES))
    write_sheet(RUNS / "smol_svhn" / "augmented.png", pictures, columns=8, cell=196)


if __name__ == "__main__":
    run(main)
