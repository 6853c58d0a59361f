"""
ImageNet for Extraction: where it lies, its augmentation, and the crop that is evaluated.

Paper   "You Only Look Once", section 2.2, says no more on it than "224 x 224" and "single crop".
Source  The numbers stand in [darknet]: cfg/extraction.cfg and, where it is silent, src/parser.c; their meaning in
        src/image.c (random_augment_args, rotate_crop_image, center_crop_image) and src/data.c (load_data_augment) of
        pjreddie/darknet at f6afaab.

Training    The short side to a random length, then a square cut out at a random place, and a mirror image half of the
            time. Pixels are 0..1: no mean is subtracted.
Evaluation  The square in the middle, scaled to the input.

    python yolov1/extraction/dataset.py     writes runs/extraction/augmented.png: images as training would show them

What changed from yolov1/dataset.py: one label for an image, and a cut out of it; no colours.
"""
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from shared.draw import draw_boxes, write_sheet
from shared.errors import InputError
from shared.imagenet import list_classes, read_names, read_split
from shared.images import read_image
from shared.paths import RUNS, SAMPLES

IMAGENET = Path(SAMPLES, "imagenet")      # or Path("where/your/ImageNet/lies")
TRAIN = IMAGENET / "train"                # a folder for each class; shared/imagenet.py says how to sort val
VAL = IMAGENET / "val"
NAMES = IMAGENET / "LOC_synset_mapping.txt"   # for pictures; it may be missing


class ClassificationDataset(torch.utils.data.Dataset):
    """
    Without augmentation, dataset[i] is the middle of image i at the given size. With it, dataset[i, seed] is a random
    cut of image i, whose short side is first scaled to a length between the two crops. All that is random about it
    follows from the seed, one or more numbers: workers and epochs differ, a run can be repeated.

    images   a list of (path, label)
    returns  image (3, size, size) float 0..1, label
    """

    def __init__(self, images, size, crops=None, augment=False):
        self.images, self.size, self.crops, self.augment = images, size, crops, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        index, seed = key if isinstance(key, tuple) else (key, None)
        path, label = self.images[index]
        image = read_image(path)                                             # (h, w, 3) uint8
        if not self.augment:
            return centre_crop(image, self.size), label
        rng = np.random.default_rng(seed)
        image = random_crop(image, self.size, self.crops, rng)               # (size, size, 3) uint8
        if rng.random() < 0.5:
            image = cv2.flip(image, 1)
        return torch.from_numpy(image).permute(2, 0, 1).float() / 255, label


def random_crop(image, size, crops, rng):
    """
    image (h, w, 3) uint8 -> (size, size, 3) uint8: [darknet] random_augment_args and rotate_crop_image.

    The image becomes w scale wide and h scale high; the square's middle is moved away from its middle, at most until an
    edge of it meets one of the image.
    """
    h, w = image.shape[:2]
    scale = rng.integers(crops[0], crops[1] + 1) / min(h, w)
    dx = rng.uniform(-1, 1) * (w * scale - size) / 2                    # of the square's middle, in its pixels
    dy = rng.uniform(-1, 1) * (h * scale - size) / 2
    left, top = w / 2 + (dx - size / 2) / scale, h / 2 + (dy - size / 2) / scale        # in the image's pixels
    matrix = np.array([[1 / scale, 0, left], [0, 1 / scale, top]])                      # to the image's pixels
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def centre_crop(image, size):
    """
    The square in the middle ([darknet] center_crop_image). Corners stay on corners, nothing is smoothed before it
    shrinks.

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
    images = read_split(TRAIN, classes)
    dataset = ClassificationDataset(images, 224, crops=(224, 320), augment=True)
    pictures = []
    for seed in range(24):
        image, label = dataset[seed * len(dataset) // 24, seed]
        picture = (image * 255).byte().permute(1, 2, 0).numpy()
        pictures.append(draw_boxes(picture, [(label, 1, 0, 0, 224, 224)], names))
    write_sheet(RUNS / "extraction" / "augmented.png", pictures, columns=6, cell=228)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
