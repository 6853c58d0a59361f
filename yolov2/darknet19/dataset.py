"""
ImageNet for Darknet-19: where it lies, its augmentation, and the crop that is evaluated.

Paper   "YOLO9000: Better, Faster, Stronger", section 3, "Training for classification": "random crops, rotations,
        and hue, saturation, and exposure shifts". No more than that.
Source  The numbers stand in [darknet]: cfg/darknet19.cfg; their meaning in src/image.c (random_augment_args,
        rotate_crop_image, center_crop_image) and src/data.c (load_data_augment) of pjreddie/darknet at f6afaab.

Training    One affine map: the short side to a random length, the aspect ratio changed, turned by up to 7 degrees, cut
            out at a random place. The cut may be larger than the image, and what lies outside is black. Then a mirror
            image half of the time, and the colours. Pixels are 0..1: no mean is subtracted.
Evaluation  The square in the middle, scaled to the input.

The colours are the nearest that albumentations has: Darknet multiplies S and V of HSV by U(.75, 1) or its inverse,
ColorJitter saturation and brightness by U(.75, 1 / .75).

    python yolov2/darknet19/dataset.py     writes runs/darknet19/augmented.png: images as training would show them

What changed from yolov1/extraction/dataset.py: rotation, aspect and colours; larger and smaller cuts.
"""
import os
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

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look for a newer version over the network
import albumentations as A

IMAGENET = Path(SAMPLES, "imagenet")      # or Path("where/your/ImageNet/lies")
TRAIN = IMAGENET / "train"                # a folder for each class; shared/imagenet.py says how to sort val
VAL = IMAGENET / "val"
NAMES = IMAGENET / "LOC_synset_mapping.txt"   # for pictures; it may be missing

ANGLE = 7          # degrees either way [darknet]
ASPECT = 0.75      # width times U(.75, 1) or its inverse [darknet]
HUE = 0.1          # turned by up to 36 degrees either way [darknet]
SATURATION = 0.75  # [darknet]
EXPOSURE = 0.75    # [darknet]


class ClassificationDataset(torch.utils.data.Dataset):
    """
    Without augmentation, dataset[i] is the middle of image i at the given size. With it, dataset[i, seed] is a random
    cut of image i, whose short side is first scaled to a length between the two crops. All that is random about it
    follows from the seed, one or more numbers: workers and epochs differ, a run can be repeated.

    images   a list of (path, label)
    returns  image (3, size, size) float 0..1, label
    """

    def __init__(self, images, size, crops=None, augment=False):
        self.images, self.size, self.crops = images, size, crops
        self.angle, self.aspect = ANGLE, ASPECT
        self.transform = None
        if augment:
            self.transform = A.Compose(
                [A.HorizontalFlip(p=0.5),
                 A.ColorJitter(brightness=(EXPOSURE, 1 / EXPOSURE), contrast=(1, 1),
                               saturation=(SATURATION, 1 / SATURATION), hue=(-HUE, HUE), p=1)])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        index, seed = key if isinstance(key, tuple) else (key, None)
        path, label = self.images[index]
        image = read_image(path)                                             # (h, w, 3) uint8
        if self.transform is None:
            return centre_crop(image, self.size), label
        rng = np.random.default_rng(seed)
        image = random_crop(image, self.size, self.crops, self.angle, self.aspect, rng)
        for transform in self.transform.transforms:                          # one seed for all would tie them together
            transform.set_random_seed(int(rng.integers(2**32)))
        image = self.transform(image=image)["image"]                         # (size, size, 3) uint8
        return torch.from_numpy(image).permute(2, 0, 1).float() / 255, label


def random_crop(image, size, crops, angle, aspect, rng):
    """
    image (h, w, 3) uint8 -> (size, size, 3) uint8: [darknet] random_augment_args and rotate_crop_image.

    The image, w scale / aspect wide and h scale high, is turned round its middle; the square's middle is moved away
    from there, at most until an edge of it meets one of the image. A square larger than the image holds it whole.
    """
    h, w = image.shape[:2]
    aspect = rng.uniform(aspect, 1) ** rng.choice([1, -1])
    scale = rng.integers(crops[0], crops[1] + 1) / int(min(h, w * aspect))
    radians = np.radians(rng.uniform(-angle, angle))
    dx = rng.uniform(-1, 1) * (w * scale / aspect - size) / 2           # of the square's middle, in its pixels
    dy = rng.uniform(-1, 1) * (h * scale - size) / 2
    c, s = np.cos(radians), np.sin(radians)
    turn = np.array([[c, -s], [s, c]]) @ np.diag([aspect / scale, 1 / scale])           # (2, 2) to the image's pixels
    shift = turn @ [dx - size / 2, dy - size / 2] + [w / 2, h / 2]                      # (2,)
    matrix = np.column_stack([turn, shift])                                             # (2, 3)
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
    dataset = ClassificationDataset(images, 256, crops=(128, 448), augment=True)
    pictures = []
    for seed in range(24):
        image, label = dataset[seed * len(dataset) // 24, seed]
        picture = (image * 255).byte().permute(1, 2, 0).numpy()
        pictures.append(draw_boxes(picture, [(label, 1, 0, 0, 256, 256)], names))
    write_sheet(RUNS / "darknet19" / "augmented.png", pictures, columns=6, cell=260)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
