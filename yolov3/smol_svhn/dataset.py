"""
Street View House Numbers with a box for each digit: reading it, and its little augmentation.

Paper   "Reading Digits in Natural Images with Unsupervised Feature Learning", Netzer, Wang, Coates, Bissacco, Wu and
        Ng, 2011. The format is called "full numbers": 33,402 images for training, 13,068 for testing.

    train/1.png 2.png ...        colour images of any size
    train/digitStruct.mat        a struct array of MATLAB 7.3, which is HDF5:
        digitStruct/name         (n, 1) references, each to the letters of a file name as uint16 (letters, 1)
        digitStruct/bbox         (n, 1) references, each to a group of height, label, left, top, width: for an image of
                                 one digit (1, 1) float64; of k digits (k, 1) references to (1, 1) float64

Label 10 is the digit 0. Left and top are taken as lengths, left + width as the right edge. What overhangs the image is
cut off; a box wholly outside it is named and left out, since nobody can mend somebody else's file.

An image is squeezed or stretched to the input's square, in training as in evaluation: a number is wider than high, and
in a letterbox of 32 pixels its digits would be two pixels wide. The augmentation is a colour jitter, and seldom; images
of the sample are also moved by up to a pixel: without it the AP50 on its test images was .42, with it .70.

    python yolov3/smol_svhn/dataset.py     writes runs/smol_svhn/augmented.png: training images as the network sees them

What changed from yolov3/dataset.py: digitStruct.mat instead of XML; no letterbox, no placement, and no mirror image,
which would make other digits.
"""
import os
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import torch
from h5py import h5d, h5r, h5s, h5t
from tqdm import tqdm

from shared.boxes import xyxy_to_cxcywh
from shared.draw import draw_boxes, write_sheet
from shared.errors import InputError
from shared.images import image_size, read_image
from shared.paths import RUNS, SAMPLES
from shared.voc import Annotation

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look for a newer version over the network
import albumentations as A

SVHN = Path(SAMPLES, "svhn")  # or Path("where/your/SVHN/lies")
TRAIN = [SVHN / "train"]    # folders with digitStruct.mat and its images; [SVHN / "train", SVHN / "extra"] is more
TEST = [SVHN / "test"]
CLASSES = list("0123456789")

JITTER_PROBABILITY = 0.05
BRIGHTNESS = CONTRAST = SATURATION = 0.2   # ours: each times U(.8, 1.2)
HUE = 0.05                                 # ours: turned by up to 18 degrees either way
SHIFT = 1                                  # pixels of the input, either way; ours: 256 drawn images are few. SVHN: 0

FIELDS = ("left", "top", "width", "height", "label")


def read_split(folder):
    """The images of a folder, as shared.voc's Annotation each, in the file's order. InputError names what is wrong."""
    path, annotations = Path(folder) / "digitStruct.mat", []
    for name, (left, top, width, height, label) in read_digit_struct(path):
        image = Path(folder) / name
        if not image.is_file():
            raise InputError(f"{path}: names {name}, but there is no {image}")
        if not np.isin(label, range(1, 11)).all():
            raise InputError(f"{path}: {name} has a label that is not 1 to 10 (10 is the digit 0)")
        W, H = image_size(image)
        boxes = np.stack([left, top, left + width, top + height], 1).clip(0, [W, H, W, H])       # (n, 4)
        inside = (boxes[:, :2] < boxes[:, 2:]).all(1)                        # (n,)
        if not inside.all():
            tqdm.write(f"{path}: {name} has {(~inside).sum()} boxes without an area in the image; they are left out")
        annotations.append(Annotation(image, W, H, boxes[inside], label[inside].astype(np.int64) % 10,
                                      np.zeros(inside.sum(), bool)))
    return annotations


def read_digit_struct(path):
    """
    Yields each image's file name and its (5, n) float64: FIELDS of its n digits.

    33,402 images are half a million small datasets: 20 seconds at h5py's lower level, as here, three times as many
    with its own objects.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with h5py.File(path) as file:
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
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not the digitStruct of SVHN's full numbers, or a damaged one ({error})") from None


def read(dataset, dtype):
    values = np.empty(dataset.shape, dtype)
    dataset.read(h5s.ALL, h5s.ALL, values)
    return values


class DigitDataset(torch.utils.data.Dataset):
    """
    dataset[i] is image i, stretched to the given size. With augmentation, dataset[i, seed]: all that is random about it
    follows from the seed, one or more numbers.

    returns  image (3, size, size) float 0..1; targets (n, 5) label, centre x, centre y, width, height as fractions
    """

    def __init__(self, annotations, size, augment=False):
        self.annotations, self.size = annotations, size
        self.transform, self.shift = None, SHIFT * augment
        if augment:
            self.transform = A.Compose([A.ColorJitter(
                brightness=(1 - BRIGHTNESS, 1 + BRIGHTNESS), contrast=(1 - CONTRAST, 1 + CONTRAST),
                saturation=(1 - SATURATION, 1 + SATURATION), hue=(-HUE, HUE), p=JITTER_PROBABILITY)])

    def __len__(self):
        return len(self.annotations)

    def __getitem__(self, key):
        index, seed = key if isinstance(key, tuple) else (key, None)
        annotation = self.annotations[index]
        image = stretch(read_image(annotation.image), self.size)             # (size, size, 3) uint8
        boxes = annotation.boxes / ([annotation.width, annotation.height] * 2)                   # (n, 4)  fractions
        if self.transform:
            rng = np.random.default_rng(seed)
            image, boxes = move(image, boxes, *rng.integers(-self.shift, self.shift + 1, 2))
            self.transform.set_random_seed(int(rng.integers(2**32)))
            image = self.transform(image=image)["image"]
        targets = torch.cat([torch.from_numpy(annotation.labels).float().view(-1, 1),
                             xyxy_to_cxcywh(torch.from_numpy(boxes).float())], 1)                # (n, 5)
        return to_tensor(image), targets[(targets[:, 3:] > 0).all(1)]


def stretch(image, size):
    """(h, w, 3) uint8 -> (size, size, 3), each new pixel the average of those it covers"""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def move(image, boxes, dx, dy):
    """
    The image moved by dx and dy whole pixels to the right and down; its border is repeated where nothing comes in.

    image (size, size, 3) uint8, boxes (n, 4) fractions, cut off at the border
    """
    size, most = len(image), max(abs(dx), abs(dy))
    wide = cv2.copyMakeBorder(image, *[int(most)] * 4, cv2.BORDER_REPLICATE)
    moved = np.ascontiguousarray(wide[most - dy:most - dy + size, most - dx:most - dx + size])
    return moved, (boxes + np.array([dx, dy, dx, dy]) / size).clip(0, 1)


def to_tensor(image):
    """(h, w, 3) uint8 -> (3, h, w) float 0..1"""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def main():
    annotations = [a for folder in TRAIN for a in read_split(folder)]
    dataset = DigitDataset(annotations, 32, augment=True)
    pictures = []
    for seed in range(48):
        image, targets = dataset[seed % len(dataset), seed]
        picture = cv2.resize((image * 255).byte().permute(1, 2, 0).numpy(), (192, 192), interpolation=cv2.INTER_NEAREST)
        label, xy, wh = targets[:, :1], targets[:, 1:3] * 192, targets[:, 3:5] * 192
        rows = torch.cat([label, torch.ones_like(label), xy - wh / 2, xy + wh / 2], 1)
        pictures.append(draw_boxes(picture, rows.numpy(), CLASSES))
    write_sheet(RUNS / "smol_svhn" / "augmented.png", pictures, columns=8, cell=196)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
