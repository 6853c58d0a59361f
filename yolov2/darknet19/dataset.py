"""
ImageNet for Darknet-19: the data set, its augmentation, and the crop that is evaluated.

Paper   "YOLO9000: Better, Faster, Stronger", section 3, "Training for classification": "random crops, rotations, and
        hue, saturation, and exposure shifts". The paper does not say more.
Source  The values and their meaning are Darknet's: cfg/darknet19.cfg, src/image.c (random_augment_args,
        rotate_crop_image, center_crop_image) and src/data.c (load_data_augment) of pjreddie/darknet at f6afaab.

Training    Rotate the image by up to 7 degrees, scale its short side to a random length, change its aspect ratio, and
            cut out a square at a random place. The square may be larger than the image; the rest of it is black. Mirror
            it half of the time. Distort its colours.
Evaluation  The square in the middle of the image, scaled to the input size.

Pixels are 0..1, and no mean is subtracted [darknet]. The colours are approximate: Darknet multiplies S and V of HSV by
U(.75, 1) or its inverse, and albumentations' ColorJitter multiplies saturation and brightness by U(.75, 1 / .75).

    python yolov2/darknet19/dataset.py     writes runs/darknet19/augmented.png: images as "darknet" augments them

What changed from yolov1/extraction/dataset.py: rotation, aspect ratio and colours are new, and crops may be larger or
smaller.
"""
import os

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from shared.draw import draw_targets, write_sheet
from shared.errors import run
from shared.imagenet import list_classes, read_names, read_split
from shared.images import read_image
from shared.paths import ROOT, RUNS, SAMPLES

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations otherwise looks for an update online
import albumentations as A

PRESET = "sample"  # chooses the data here and all values of a training in train.py:
#                    "sample"       80 drawings, learned in one to two minutes on 2 CPU cores
#                    "darknet"      ImageNet, with the authors' values
#                    "darknet_448"  ImageNet, with the authors' values for fine-tuning at 448 x 448 after "darknet"

if PRESET == "sample":
    IMAGENET = SAMPLES / "imagenet"
elif PRESET in ("darknet", "darknet_448"):
    IMAGENET = ROOT / "imagenet"
TRAIN = IMAGENET / "train"                     # one folder for each class
VAL = IMAGENET / "val"                         # the same; shared/imagenet.py sorts it into such folders
NAMES = IMAGENET / "LOC_synset_mapping.txt"    # readable class names for augmented.png; the file may be missing

ANGLE = 7          # rotate by up to 7 degrees either way [darknet]
ASPECT = 0.75      # divide the width by U(.75, 1), or multiply by it [darknet]
HUE = 0.1          # turn the hue by up to 36 degrees either way [darknet]
SATURATION = 0.75  # [darknet]
EXPOSURE = 0.75    # [darknet]


class ClassificationDataset(torch.utils.data.Dataset):
    """
    dataset[i]        image i
    dataset[i, seed]  image i. The seed, a number or a tuple of numbers, fixes the augmentation, so that a training can
                      be repeated. Without a seed it differs each time.

    augment=True takes a random crop, mirrors it half of the time and distorts its colours; augment=False scales the
    square in the middle of the image to size x size.

    images   a list of (path, label)
    crops    the smallest and the largest length that the short side of an image gets before the random crop, in pixels
    returns  image (3, size, size) float 0..1, label
    """

    def __init__(self, images, size, crops=None, augment=False):
        self.images, self.size, self.crops, self.augment = images, size, crops, augment
        self.angle, self.aspect = ANGLE, ASPECT
        self.distort = A.Compose(
            [A.HorizontalFlip(p=0.5),
             A.ColorJitter(brightness=(EXPOSURE, 1 / EXPOSURE), contrast=(1, 1),
                           saturation=(SATURATION, 1 / SATURATION), hue=(-HUE, HUE), p=1)])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        index, seed = key if isinstance(key, tuple) else (key, None)
        path, label = self.images[index]
        image = read_image(path)                                             # (h, w, 3) uint8
        if not self.augment:
            return centre_crop(image, self.size), label
        rng = np.random.default_rng(seed)
        image = random_crop(image, self.size, self.crops, self.angle, self.aspect, rng)
        for transform in self.distort.transforms:                            # each needs a seed of its own: with one
            transform.set_random_seed(int(rng.integers(2**32)))              # for both, flip and colour are correlated
        image = self.distort(image=image)["image"]                           # (size, size, 3) uint8
        return torch.from_numpy(image).permute(2, 0, 1).float() / 255, label


def random_crop(image, size, crops, angle, aspect, rng):
    """
    Rotates the image, scales it, changes its aspect ratio, and cuts out a square of size x size at a random place
    ([darknet] random_augment_args, rotate_crop_image). If the square is larger than the image, the rest is black.

    crops   the smallest and the largest length that the smaller of height and aspect x width may get, in pixels
    angle   degrees, the largest rotation either way
    aspect  from 0 to 1; the width is divided by a random number between aspect and 1, or multiplied by it

    image (h, w, 3) uint8 -> (size, size, 3) uint8
    """
    h, w = image.shape[:2]
    aspect = rng.uniform(aspect, 1) ** rng.choice([1, -1])
    scale = rng.integers(crops[0], crops[1] + 1) / int(min(h, w * aspect))
    radians = np.radians(rng.uniform(-angle, angle))
    # The square moves away from the image's centre, at most until an edge of one meets an edge of the other.
    dx = rng.uniform(-1, 1) * (w * scale / aspect - size) / 2
    dy = rng.uniform(-1, 1) * (h * scale - size) / 2
    # A pixel (x, y) of the square is the point matrix (x, y, 1) of the image.
    c, s = np.cos(radians), np.sin(radians)
    linear = np.array([[c, -s], [s, c]]) @ np.diag([aspect / scale, 1 / scale])              # (2, 2)
    shift = linear @ [dx - size / 2, dy - size / 2] + [w / 2, h / 2]                         # (2,)
    matrix = np.column_stack([linear, shift])                                                # (2, 3)
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def centre_crop(image, size):
    """
    The square in the middle of the image, scaled to size x size ([darknet] center_crop_image). The interpolation is
    bilinear, with aligned corners and without antialiasing ([darknet] resize_image).

    image (h, w, 3) uint8 -> (3, size, size) float 0..1
    """
    h, w = image.shape[:2]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    square = image[top:top + side, left:left + side]                         # (side, side, 3)
    pixels = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255   # (1, 3, side, side)
    return F.interpolate(pixels, (size, size), mode="bilinear", align_corners=True)[0]


def main():
    classes = list_classes(TRAIN)
    names = read_names(NAMES, classes)
    dataset = ClassificationDataset(read_split(TRAIN, classes), 256, crops=(128, 448), augment=True)
    pictures = []
    for n in range(24):
        image, label = dataset[n * len(dataset) // 24, n]                    # images of all classes
        pictures.append(draw_targets(image, torch.tensor([[label, 0.5, 0.5, 1, 1]]), names))
    write_sheet(RUNS / "darknet19" / "augmented.png", pictures, columns=6, cell=260)


if __name__ == "__main__":
    run(main)
