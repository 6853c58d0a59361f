"""
ImageNet for Extraction: the data set, its augmentation, and the crop that is evaluated.

Paper   "You Only Look Once", section 2.2. It says only "224 x 224" and "single crop".
Source  The values are Darknet's: cfg/extraction.cfg, and src/parser.c where that is silent. Their meaning is in
        src/image.c (random_augment_args, rotate_crop_image, center_crop_image) and src/data.c (load_data_augment) of
        pjreddie/darknet at f6afaab.

Training    Scale the short side of the image to a random length, and cut out a square at a random place. Mirror it half
            of the time.
Evaluation  The square in the middle of the image, scaled to the input size.

Pixels are 0..1, and no mean is subtracted [darknet].

    python yolov1/extraction/dataset.py     writes runs/extraction/augmented.png: images as "darknet" augments them

What changed from yolov1/dataset.py: an image has one label instead of boxes, a square is cut out of it, and the colours
stay as they are.
"""
import cv2
import numpy as np
import torch
import torch.nn.functional as F

from shared.draw import draw_targets, write_sheet
from shared.errors import run
from shared.imagenet import list_classes, read_names, read_split
from shared.images import read_image
from shared.paths import ROOT, RUNS, SAMPLES

PRESET = "sample"  # chooses the data here and all values of a training in train.py:
#                    "sample"       80 drawings, learned in one to two minutes on 2 CPU cores
#                    "darknet"      ImageNet, with the authors' values

if PRESET == "sample":
    IMAGENET = SAMPLES / "imagenet"
elif PRESET == "darknet":
    IMAGENET = ROOT / "imagenet"
TRAIN = IMAGENET / "train"                     # one folder for each class
VAL = IMAGENET / "val"                         # the same; shared/imagenet.py sorts it into such folders
NAMES = IMAGENET / "LOC_synset_mapping.txt"    # readable class names for augmented.png; the file may be missing


class ClassificationDataset(torch.utils.data.Dataset):
    """
    dataset[i]        image i
    dataset[i, seed]  image i. The seed, a number or a tuple of numbers, fixes the augmentation, so that a training can
                      be repeated. Without a seed it differs each time.

    augment=True takes a random crop and mirrors it half of the time; augment=False scales the square in the middle of
    the image to size x size.

    images   a list of (path, label)
    crops    the smallest and the largest length that the short side of an image gets before the random crop, in pixels
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
    Scales the image so that its short side gets a random length between the two crops, and cuts out a square of
    size x size at a random place ([darknet] random_augment_args, rotate_crop_image).

    image (h, w, 3) uint8 -> (size, size, 3) uint8
    """
    h, w = image.shape[:2]
    scale = rng.integers(crops[0], crops[1] + 1) / min(h, w)
    # The square moves away from the image's centre, at most until an edge of one meets an edge of the other.
    dx = rng.uniform(-1, 1) * (w * scale - size) / 2
    dy = rng.uniform(-1, 1) * (h * scale - size) / 2
    # A pixel (x, y) of the square is the point matrix (x, y, 1) of the image.
    left, top = w / 2 + (dx - size / 2) / scale, h / 2 + (dy - size / 2) / scale
    matrix = np.array([[1 / scale, 0, left],
                       [0, 1 / scale, top]])                            # (2, 3)
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
    dataset = ClassificationDataset(read_split(TRAIN, classes), 224, crops=(224, 320), augment=True)
    pictures = []
    for n in range(24):
        image, label = dataset[n * len(dataset) // 24, n]                    # images of all classes
        pictures.append(draw_targets(image, torch.tensor([[label, 0.5, 0.5, 1, 1]]), names))
    write_sheet(RUNS / "extraction" / "augmented.png", pictures, columns=6, cell=228)


if __name__ == "__main__":
    run(main)
