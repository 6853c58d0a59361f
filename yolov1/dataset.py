"""
Images and boxes for YOLOv1: the data set and its augmentation.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", section 2.2: "random scaling and translations of up
        to 20% of the original image size"; exposure and saturation changed "by up to a factor of 1.5 in the HSV color
        space".
Source  How, is read off [darknet]: src/data.c (load_data_region), src/image.c (crop_image) and scripts/voc_label.py of
        pjreddie/darknet at f6afaab.

Training    Each of the four sides of the image moved in or out by up to 20 %, what lies outside filled with the pixels
            of the edge; the rest stretched to the square; the colours distorted; half of the time its mirror image.
            The objects in random order: it is chance which of two keeps the cell that both claim [darknet].
Evaluation  The whole image, stretched to the square. Boxes are fractions of the image's sides, and stay so.

Difficult objects are not trained on [darknet]. The colours are the nearest that albumentations has: Darknet multiplies
S and V of HSV by U(1, 1.5) or its inverse; ColorJitter saturation and brightness by U(1 / 1.5, 1.5).

Your own photographs: put them into a folder with JPEGImages, Annotations and ImageSets/Main as VOC has them, and edit
TRAIN, TEST and CLASSES.

    python yolov1/dataset.py     writes runs/yolov1/augmented.png: training images as the network sees them, with boxes

What changed from the classifier's pretraining (section 2.2): the boxes, which move with the image; 448 x 448 pixels
instead of 224 x 224.
"""
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from shared.annotations import read_annotations
from shared.boxes import xyxy_to_cxcywh
from shared.draw import draw_boxes, write_sheet
from shared.errors import InputError
from shared.images import read_image
from shared.paths import RUNS, SAMPLES
from shared.voc import CLASSES as VOC_CLASSES

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look for a newer version over the network
import albumentations as A

VOC = Path(SAMPLES, "voc/VOCdevkit")  # or Path("where/your/VOCdevkit/lies")
TRAIN = [(VOC / "VOC2007", "train")]  # [darknet] [(VOC / "VOC2007", "trainval"), (VOC / "VOC2012", "trainval")]
TEST = [(VOC / "VOC2007", "val")]     # [darknet] [(VOC / "VOC2007", "test")]
CLASSES = VOC_CLASSES

JITTER = 0.2       # of the image's width and height: how far each side may move in or out # paper
HUE = 0.0          # paper; [darknet]'s later yolov1.cfg: .1, turned by up to 36 degrees either way
SATURATION = 1.5   # paper
EXPOSURE = 1.5     # paper
SMALLEST = 0.005   # of the image: what augmentation leaves narrower or lower is dropped [darknet]


class DetectionDataset(torch.utils.data.Dataset):
    """
    dataset[i] is image i, stretched to size x size; dataset[i, seed] is it augmented, if that is wanted. All that is
    random about it follows from the seed, one or more numbers: workers and epochs differ, a run can be repeated.

    returns  image (3, size, size) float 0..1; targets (n, 5) label, centre x, centre y, width, height as fractions
    """

    def __init__(self, annotations, size, augment=False):
        self.annotations, self.size = annotations, size
        self.jitter, self.smallest = JITTER, SMALLEST * augment
        self.transform = None
        if augment:
            self.transform = A.Compose(
                [A.HorizontalFlip(p=0.5),
                 A.ColorJitter(brightness=(1 / EXPOSURE, EXPOSURE), contrast=(1, 1),
                               saturation=(1 / SATURATION, SATURATION), hue=(-HUE, HUE), p=1)],
                bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"], clip=True, filter_invalid_bboxes=True))

    def __len__(self):
        return len(self.annotations)

    def __getitem__(self, key):
        index, seed = key if isinstance(key, tuple) else (key, None)
        annotation = self.annotations[index]
        image = read_image(annotation.image)                                 # (h, w, 3) uint8
        if image.shape[:2] != (annotation.height, annotation.width):
            raise InputError(f"{annotation.image}: its pixels are not as wide and high as its header says")
        easy = ~annotation.difficult
        boxes, labels = annotation.boxes[easy], annotation.labels[easy]      # (n, 4) pixels, (n,)

        if self.transform:
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(boxes))
            square, boxes = crop(image, boxes[order], self.size, self.jitter, rng)
            for transform in self.transform.transforms:                      # one seed for all would tie them together
                transform.set_random_seed(int(rng.integers(2**32)))
            out = self.transform(image=square, bboxes=boxes, labels=labels[order])
            image = torch.from_numpy(out["image"]).permute(2, 0, 1).float() / 255            # (3, size, size)
            boxes = torch.as_tensor(out["bboxes"]).float().view(-1, 4) / self.size           # (n, 4)  fractions
            labels = out["labels"]
        else:
            boxes = torch.from_numpy(boxes / ([annotation.width, annotation.height] * 2)).float()
            image = stretch(image, self.size)

        labels = torch.as_tensor(labels).float().view(-1, 1)                 # (n, 1)
        targets = torch.cat([labels, xyxy_to_cxcywh(boxes)], 1)              # (n, 5)
        return image, targets[(targets[:, 3:] >= self.smallest).all(1)]


def crop(image, boxes, size, jitter, rng):
    """
    Each side of the image moved in or out at random, the rest stretched to a square; outside of the image its edge goes
    on ([darknet] load_data_region, crop_image).

    image (h, w, 3) uint8, boxes (n, 4) in its pixels -> square (size, size, 3) uint8, boxes (n, 4) in its pixels
    """
    h, w = image.shape[:2]
    left, right, top, bottom = (int(side * rng.uniform(-jitter, jitter)) for side in (w, w, h, h))
    columns, rows = np.arange(left, w - right), np.arange(top, h - bottom)
    part = image[rows.clip(0, h - 1)[:, None], columns.clip(0, w - 1)]       # (rows, columns, 3)
    return cv2.resize(part, (size, size)), (boxes - [left, top] * 2) * ([size / len(columns), size / len(rows)] * 2)


def stretch(image, size):
    """
    The whole image, whatever its shape, as a square. Corners stay on corners, nothing is smoothed before it shrinks:
    [darknet] resize_image.

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
    annotations = read_annotations(TRAIN, CLASSES)
    dataset = DetectionDataset(annotations, 448, augment=True)
    pictures = []
    for seed in range(16):
        image, targets = dataset[seed % len(dataset), seed]
        label, xy, wh = targets[:, :1], targets[:, 1:3] * 448, targets[:, 3:5] * 448
        rows = torch.cat([label, torch.ones_like(label), xy - wh / 2, xy + wh / 2], 1)
        pictures.append(draw_boxes((image * 255).byte().permute(1, 2, 0).numpy(), rows.numpy(), CLASSES))
    write_sheet(RUNS / "yolov1" / "augmented.png", pictures, columns=4)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
