"""
Images and boxes for YOLOv2: the data set, its augmentation, and the letterbox.

Paper   "YOLO9000: Better, Faster, Stronger", section 3, "Training for detection": "a similar data augmentation to
        YOLO and SSD with random crops, color shifting, etc." No more than that.
Source  What it became is read off [darknet]: src/data.c (load_data_detection), src/image.c (place_image,
        letterbox_image) and scripts/voc_label.py of pjreddie/darknet at f6afaab.

Training    On a grey canvas the image, its aspect ratio changed at random, as large as it fits and at a random place;
            the colours of the whole canvas, grey bars too, distorted; half of the time its mirror image.
Evaluation  On a grey canvas the image, as large as it fits, in the middle: the letterbox.

Difficult objects are not trained on [darknet]. The colours are the nearest that albumentations has: Darknet multiplies
S and V of HSV by U(1, 1.5) or its inverse; ColorJitter saturation and brightness by U(1 / 1.5, 1.5).

Your own photographs: put them into a folder with JPEGImages, Annotations and ImageSets/Main as VOC has them, and edit
TRAIN, TEST and CLASSES.

    python yolov2/dataset.py     writes runs/yolov2/augmented.png: training images as the network sees them, with boxes

What changed from yolov1/dataset.py: the image keeps its shape, on a grey canvas, instead of being stretched to the
square; no part of it is cut off in training; the size is asked for with each image (multi-scale training). The objects
are not shuffled, which Darknet still does.
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
from shared.coco import CLASSES as COCO_CLASSES
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

COCO = Path(SAMPLES, "coco")          # or Path("where/your/COCO/lies"). For it, instead of those above, and in train.py
# COCO_ANCHORS in place of ANCHORS:
# TRAIN = [(COCO / "train2017", COCO / "annotations" / "instances_train2017.json")]
# TEST = [(COCO / "val2017", COCO / "annotations" / "instances_val2017.json")]  # the papers: test-dev, kept secret
# CLASSES = COCO_CLASSES

JITTER = 0.3       # width and height each by up to 30 % [darknet]
HUE = 0.1          # turned by up to 36 degrees either way [darknet]
SATURATION = 1.5   # [darknet]
EXPOSURE = 1.5     # [darknet]
SMALLEST = 0.001   # of the image: what augmentation leaves narrower or lower is dropped [darknet]


class DetectionDataset(torch.utils.data.Dataset):
    """
    dataset[i] is image i at the given size, dataset[i, size, seed] at another; in its letterbox, or augmented. All that
    is random about it follows from the seed, one or more numbers: workers and epochs differ, a run can be repeated.

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
        index, size, seed = key if isinstance(key, tuple) else (key, self.size, None)
        annotation = self.annotations[index]
        image = read_image(annotation.image)                                 # (h, w, 3) uint8
        if image.shape[:2] != (annotation.height, annotation.width):
            raise InputError(f"{annotation.image}: its pixels are not as wide and high as its header says")
        easy = ~annotation.difficult
        boxes, labels = annotation.boxes[easy], annotation.labels[easy]      # (n, 4) pixels, (n,)

        if self.transform:
            rng = np.random.default_rng(seed)
            canvas, boxes = place(image, boxes, size, self.jitter, rng)
            for transform in self.transform.transforms:                      # one seed for all would tie them together
                transform.set_random_seed(int(rng.integers(2**32)))
            out = self.transform(image=canvas, bboxes=boxes, labels=labels)
            image = torch.from_numpy(out["image"]).permute(2, 0, 1).float() / 255            # (3, size, size)
            boxes = torch.as_tensor(out["bboxes"]).float().view(-1, 4) / size                # (n, 4)  fractions
            labels = out["labels"]
        else:
            boxes = torch.from_numpy(letterbox_boxes(boxes, image.shape[1], image.shape[0], size, size)).float()
            image = letterbox(image, size, size)

        labels = torch.as_tensor(labels).float().view(-1, 1)                 # (n, 1)
        targets = torch.cat([labels, xyxy_to_cxcywh(boxes)], 1)              # (n, 5)
        return image, targets[(targets[:, 3:] >= self.smallest).all(1)]


def place(image, boxes, size, jitter, rng):
    """
    The image at a random aspect ratio and place on a grey square, as large as it fits ([darknet] load_data_detection;
    its place_image samples half a pixel aside and darkens the last row and column of an enlarged image: not copied).

    image (h, w, 3) uint8, boxes (n, 4) in its pixels -> canvas (size, size, 3) uint8, boxes (n, 4) in its pixels
    """
    h, w = image.shape[:2]
    aspect = (w * (1 + rng.uniform(-jitter, jitter))) / (h * (1 + rng.uniform(-jitter, jitter)))
    new_w = size if aspect >= 1 else max(int(size * aspect), 1)
    new_h = size if aspect < 1 else max(int(size / aspect), 1)
    left, top = int(rng.uniform(0, size - new_w)), int(rng.uniform(0, size - new_h))
    canvas = np.full((size, size, 3), 127, np.uint8)
    canvas[top:top + new_h, left:left + new_w] = cv2.resize(image, (new_w, new_h))
    return canvas, boxes * ([new_w / w, new_h / h] * 2) + [left, top, left, top]


def letterbox_geometry(image_width, image_height, width, height):
    """How an image fits whole into width x height: its size there and its left and top edge, in pixels [darknet]."""
    if width / image_width < height / image_height:
        new_width, new_height = width, max(image_height * width // image_width, 1)
    else:
        new_width, new_height = max(image_width * height // image_height, 1), height
    return new_width, new_height, (width - new_width) // 2, (height - new_height) // 2


def letterbox(image, width, height):
    """
    The whole image in the middle of a grey canvas. Corners stay on corners, nothing is smoothed before it shrinks:
    [darknet] resize_image.

    image (h, w, 3) uint8 -> (3, height, width) float 0..1
    """
    new_width, new_height, left, top = letterbox_geometry(image.shape[1], image.shape[0], width, height)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255    # (1, 3, h, w)
    canvas = torch.full((3, height, width), 0.5)
    canvas[:, top:top + new_height, left:left + new_width] = F.interpolate(
        pixels, (new_height, new_width), mode="bilinear", align_corners=True)[0]
    return canvas


def letterbox_boxes(boxes, image_width, image_height, width, height):
    """boxes (n, 4) corners in pixels of the image -> (n, 4) as fractions of its width x height letterbox"""
    new_width, new_height, left, top = letterbox_geometry(image_width, image_height, width, height)
    in_pixels = boxes * ([new_width / image_width, new_height / image_height] * 2) + [left, top, left, top]
    return in_pixels / [width, height, width, height]


def undo_letterbox(boxes, image_width, image_height, width, height):
    """The exact inverse of letterbox_boxes. (Darknet's is half a pixel off where the grey bars are unequal.)"""
    new_width, new_height, left, top = letterbox_geometry(image_width, image_height, width, height)
    in_pixels = boxes * [width, height, width, height] - [left, top, left, top]
    return in_pixels * ([image_width / new_width, image_height / new_height] * 2)


def collate(items):
    """
    A list of (image, targets) -> images (B, 3, H, W) float 0..1, targets (N, 6) float: image in the batch, label,
    centre x, centre y, width, height.
    """
    targets = [F.pad(targets, (1, 0), value=i) for i, (_, targets) in enumerate(items)]
    return torch.stack([image for image, _ in items]), torch.cat(targets)


def main():
    annotations = read_annotations(TRAIN, CLASSES)
    dataset = DetectionDataset(annotations, 416, augment=True)
    pictures = []
    for seed in range(16):
        image, targets = dataset[seed % len(dataset), 416, seed]
        label, xy, wh = targets[:, :1], targets[:, 1:3] * 416, targets[:, 3:5] * 416
        rows = torch.cat([label, torch.ones_like(label), xy - wh / 2, xy + wh / 2], 1)
        pictures.append(draw_boxes((image * 255).byte().permute(1, 2, 0).numpy(), rows.numpy(), CLASSES))
    write_sheet(RUNS / "yolov2" / "augmented.png", pictures, columns=4)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
