"""
Images and boxes for YOLOv1: the data set and its augmentation.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", section 2.2: "random scaling and translations of up
        to 20% of the original image size"; exposure and saturation changed "by up to a factor of 1.5 in the HSV color
        space".
Source  [darknet] src/data.c (load_data_region), src/image.c (crop_image) and scripts/voc_label.py of pjreddie/darknet
        at f6afaab.

Training    Move each of the four sides of the image in or out by up to 20 %; what is then outside of the image gets the
            colour of the nearest pixel of its edge. Stretch the result to the square. Distort its colours. Mirror it
            half of the time. Shuffle the objects, so that chance decides which of two in one cell keeps the cell.
Evaluation  Stretch the whole image to the square. This does not change boxes that are fractions of its sides.

Training leaves difficult objects out [darknet]. The colours are approximate: Darknet multiplies S and V of HSV by
U(1, 1.5) or its inverse, and albumentations' ColorJitter multiplies saturation and brightness by U(1 / 1.5, 1.5).

To train on your own photographs, put them into a folder with JPEGImages, Annotations and ImageSets/Main as VOC has
them, and edit TRAIN, TEST and CLASSES below. read_annotations in shared/annotations.py lists the other layouts: COCO's
JSON and YOLO's text labels.

    python yolov1/dataset.py     checks all files of TRAIN and TEST; prints how many objects of which sizes they have;
                                 writes runs/yolov1/augmented.png: 16 training images at 448, augmented, with boxes

What changed from the classifier's pretraining (section 2.2): the images have boxes, which move with them, and 448 x 448
pixels instead of 224 x 224.
"""
import os

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from shared.annotations import describe, read_train_and_test
from shared.boxes import xyxy_to_cxcywh
from shared.draw import draw_targets, write_sheet
from shared.errors import InputError, run
from shared.images import read_image
from shared.paths import ROOT, RUNS, SAMPLES
from shared.voc import CLASSES as VOC_CLASSES

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations otherwise looks for an update online
import albumentations as A

PRESET = os.environ.get("PRESET", "mini")
# PRESET chooses the data (below) and the values of a training (train.py). Edit it, or set it for one command:
# PRESET=sample python yolov1/train.py
#    "mini"          the miniature VOC, 1,600 drawings, from which the tiny network learns to detect in 9 minutes
#    "sample"        16 drawings, which the whole network memorises in 3 minutes: the check that nothing is broken
#    "darknet"       VOC 2007 + 2012, with the authors' values

if PRESET == "mini":
    TRAIN = [(SAMPLES / "mini" / "VOC2007", "train")]                  # (folder in VOC's layout, name of the split)
    TEST = [(SAMPLES / "mini" / "VOC2007", "test")]
    CLASSES = VOC_CLASSES
elif PRESET == "sample":
    TRAIN = [(SAMPLES / "voc" / "VOCdevkit" / "VOC2007", "train")]
    TEST = [(SAMPLES / "voc" / "VOCdevkit" / "VOC2007", "val")]
    CLASSES = VOC_CLASSES
elif PRESET == "darknet":
    VOC = ROOT / "voc" / "VOCdevkit"
    TRAIN = [(VOC / "VOC2007", "trainval"), (VOC / "VOC2012", "trainval")]
    TEST = [(VOC / "VOC2007", "test")]
    CLASSES = VOC_CLASSES
else:
    raise SystemExit(f'yolov1/dataset.py: PRESET is {PRESET!r}, not "mini", "sample" or "darknet"')

SKIP_UNUSABLE = False   # True: go on without the images that cannot be used, after a list of them

JITTER = 0.2       # move each side by up to 20 % of the image's width or height [paper]
HUE = 0.0          # [paper]; Darknet: .1 in the later yolov1.cfg, up to 36 degrees either way
SATURATION = 1.5   # [paper]
EXPOSURE = 1.5     # [paper]
SMALLEST = 0.005   # of the image: drop a box whose width or height augmentation leaves below this [darknet]


class DetectionDataset(torch.utils.data.Dataset):
    """
    dataset[i]        image i
    dataset[i, seed]  image i. The seed, a number or a tuple of numbers, fixes the augmentation, so that a training can
                      be repeated. Without a seed it differs each time.

    augment=True crops the image at random and distorts its colours; augment=False stretches the whole image.
    transforms replaces the mirroring and the colours, jitter replaces JITTER.

    returns  image (3, size, size) float 0..1; targets (n, 5) label, centre x, centre y, width, height as fractions
    """

    def __init__(self, annotations, size, augment=False, jitter=JITTER, transforms=None):
        self.annotations, self.size, self.augment = annotations, size, augment
        self.jitter, self.smallest = jitter, SMALLEST
        self.distort = A.Compose(
            transforms or
            [A.HorizontalFlip(p=0.5),
             A.ColorJitter(brightness=(1 / EXPOSURE, EXPOSURE), contrast=(1, 1),
                           saturation=(1 / SATURATION, SATURATION), hue=(-HUE, HUE), p=1)],
            bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"], clip=True, filter_invalid_bboxes=True))

    def __len__(self):
        return len(self.annotations)

    def __getitem__(self, key):
        index, seed = key if isinstance(key, tuple) else (key, None)
        image, boxes, labels = self.read(index)
        if self.augment:
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(boxes))
            image, boxes = crop(image, boxes[order], self.size, self.jitter, rng)
            return self.finish(image, boxes, labels[order], rng)
        height, width = image.shape[:2]
        return stretch(image, self.size), make_targets(boxes / [width, height, width, height], labels)

    def read(self, index):
        """-> image (h, w, 3) uint8, boxes (n, 4) in its pixels, labels (n,); without the difficult objects"""
        annotation = self.annotations[index]
        image = read_image(annotation.image)
        if image.shape[:2] != (annotation.height, annotation.width):
            raise InputError(f"{annotation.image}: its pixels are not as wide and high as its header says")
        easy = ~annotation.difficult
        return image, annotation.boxes[easy], annotation.labels[easy]

    def finish(self, image, boxes, labels, rng):
        """
        image (size, size, 3) uint8, boxes (n, 4) in its pixels, labels (n,) -> image and targets as described above, in
        other colours and, half of the time, mirrored
        """
        for transform in self.distort.transforms:                            # each needs a seed of its own: with one
            transform.set_random_seed(int(rng.integers(2**32)))              # for both, flip and colour are correlated
        out = self.distort(image=image, bboxes=boxes, labels=labels)
        image = torch.from_numpy(out["image"]).permute(2, 0, 1).float() / 255                # (3, size, size)
        boxes = torch.as_tensor(out["bboxes"]).float().view(-1, 4) / image.shape[-1]         # (n, 4)  fractions
        targets = make_targets(boxes, out["labels"])
        return image, targets[(targets[:, 3:] >= self.smallest).all(1)]


def make_targets(boxes, labels):
    """Corner boxes (n, 4) as fractions, labels (n,) -> targets (n, 5) label, centre x, centre y, width, height"""
    boxes, labels = torch.as_tensor(boxes).float(), torch.as_tensor(labels).float()
    return torch.cat([labels.view(-1, 1), xyxy_to_cxcywh(boxes)], 1)


def crop(image, boxes, size, jitter, rng):
    """
    Moves each side of the image in or out at random and stretches the result to a square. Outside of the image the
    pixels of its edge are repeated ([darknet] load_data_region, crop_image).

    image (h, w, 3) uint8, boxes (n, 4) in its pixels -> square (size, size, 3) uint8, boxes (n, 4) in its pixels
    """
    h, w = image.shape[:2]
    left, right = int(w * rng.uniform(-jitter, jitter)), int(w * rng.uniform(-jitter, jitter))
    top, bottom = int(h * rng.uniform(-jitter, jitter)), int(h * rng.uniform(-jitter, jitter))
    columns, rows = np.arange(left, w - right), np.arange(top, h - bottom)   # of the image; some are outside
    part = image[rows.clip(0, h - 1)[:, None], columns.clip(0, w - 1)]       # (rows, columns, 3)
    scale_x, scale_y = size / len(columns), size / len(rows)
    boxes = (boxes - [left, top, left, top]) * [scale_x, scale_y, scale_x, scale_y]
    return cv2.resize(part, (size, size)), boxes


def stretch(image, size):
    """
    Scales the whole image, whatever its shape, to a square. The interpolation is bilinear, with aligned corners and
    without antialiasing ([darknet] resize_image).

    image (h, w, 3) uint8 -> (3, size, size) float 0..1
    """
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255    # (1, 3, h, w)
    return F.interpolate(pixels, (size, size), mode="bilinear", align_corners=True)[0]


def collate(items):
    """
    A list of (image, targets) -> images (B, 3, H, W) float 0..1, targets (N, 6) float: image in the batch, label,
    centre x, centre y, width, height.
    """
    targets = [F.pad(targets, (1, 0), value=i) for i, (_, targets) in enumerate(items)]
    return torch.stack([image for image, _ in items]), torch.cat(targets)


def main():
    train, test = read_train_and_test(TRAIN, TEST, CLASSES, SKIP_UNUSABLE)
    describe("TRAIN", train, CLASSES)
    describe("TEST", test, CLASSES)
    dataset = DetectionDataset(train, 448, augment=True)
    pictures = [draw_targets(*dataset[n % len(dataset), n], CLASSES) for n in range(16)]
    sheet = RUNS / "yolov1" / "augmented.png"
    write_sheet(sheet, pictures, columns=4)
    print(sheet)


if __name__ == "__main__":
    run(main)
