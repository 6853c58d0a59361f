"""
Images and boxes for YOLOv3: the data set, its augmentation, and the letterbox.

Paper   "YOLOv3: An Incremental Improvement", section 2.5: "multi-scale training, lots of data augmentation, batch
        normalization, all the standard stuff". The paper does not say more.
Source  [darknet] src/data.c (load_data_detection), src/image.c (place_image, letterbox_image) and scripts/voc_label.py
        of pjreddie/darknet at f6afaab.

Training    Distort the aspect ratio, scale the image to fit, and paste it at a random place on a grey square. Distort
            the colours of the whole square. Mirror it half of the time.
Evaluation  The letterbox: scale the image to fit and paste it in the middle of a grey square.

Training leaves difficult objects out [darknet]. The colours are approximate: Darknet multiplies S and V of HSV by
U(1, 1.5) or its inverse, and albumentations' ColorJitter multiplies saturation and brightness by U(1 / 1.5, 1.5).

To train on your own photographs, put them into a folder with JPEGImages, Annotations and ImageSets/Main as VOC has
them, and edit TRAIN, TEST and CLASSES below. read_annotations in shared/annotations.py lists the other layouts: COCO's
JSON and YOLO's text labels.

    python yolov3/dataset.py     checks all files of TRAIN and TEST; prints how many objects of which sizes they have;
                                 writes runs/yolov3/augmented.png: 16 training images at 416, augmented, with boxes

What changed from yolov2/dataset.py: nothing since March 2017; the random crops and stretched images of 2016 are gone.
The paper (caption of Figure 3) says that a bug in YOLOv2's data loading was fixed, which gained about 2 mAP, but not
what the bug was. The mosaic of yolov3/mosaic.py is not in the paper.
"""
import os

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from shared.annotations import describe, read_train_and_test
from shared.boxes import xyxy_to_cxcywh
from shared.coco import CLASSES as COCO_CLASSES
from shared.draw import draw_targets, write_sheet
from shared.errors import InputError, run
from shared.images import read_image
from shared.paths import ROOT, RUNS, SAMPLES
from shared.voc import CLASSES as VOC_CLASSES

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations otherwise looks for an update online
import albumentations as A

PRESET = os.environ.get("PRESET", "mini")
# PRESET chooses the data (below), the values of a training (train.py) and IGNORE_IOU (loss.py). Edit it, or set it for
# one command: PRESET=sample python yolov3/train.py
#    "mini"          the miniature VOC, 1,600 drawings, from which the tiny network learns to detect in 6 minutes
#    "sample"        16 drawings, which the whole network memorises in 3 minutes: the check that nothing is broken
#    "darknet"       VOC 2007 + 2012, with the authors' values
#    "darknet_coco"  COCO, with the authors' values

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
elif PRESET == "darknet_coco":
    COCO = ROOT / "coco"
    TRAIN = [(COCO / "train2017", COCO / "annotations" / "instances_train2017.json")]    # (folder of images, JSON file)
    TEST = [(COCO / "val2017", COCO / "annotations" / "instances_val2017.json")]
    CLASSES = COCO_CLASSES
else:
    raise SystemExit(f'yolov3/dataset.py: PRESET is {PRESET!r}, not "mini", "sample", "darknet" or "darknet_coco"')

SKIP_UNUSABLE = False   # True: go on without the images that cannot be used, after a list of them

JITTER = 0.3       # of the aspect ratio: change width and height by up to 30 % each [darknet]
HUE = 0.1          # turn the hue by up to 36 degrees either way [darknet]
SATURATION = 1.5   # [darknet]
EXPOSURE = 1.5     # [darknet]
SMALLEST = 0.001   # of the image: drop a box whose width or height augmentation leaves below this [darknet]


class DetectionDataset(torch.utils.data.Dataset):
    """
    dataset[i]              image i at the size given to the constructor
    dataset[i, size, seed]  image i at another size. The seed, a number or a tuple of numbers, fixes the augmentation,
                            so that a training can be repeated. Without a seed it differs each time.

    augment=True places the image at random and distorts its colours; augment=False puts it into its letterbox.

    returns  image (3, size, size) float 0..1; targets (n, 5) label, centre x, centre y, width, height as fractions
    """

    def __init__(self, annotations, size, augment=False):
        self.annotations, self.size, self.augment = annotations, size, augment
        self.jitter, self.smallest = JITTER, SMALLEST
        self.distort = A.Compose(
            [A.HorizontalFlip(p=0.5),
             A.ColorJitter(brightness=(1 / EXPOSURE, EXPOSURE), contrast=(1, 1),
                           saturation=(1 / SATURATION, SATURATION), hue=(-HUE, HUE), p=1)],
            bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"], clip=True, filter_invalid_bboxes=True))

    def __len__(self):
        return len(self.annotations)

    def __getitem__(self, key):
        index, size, seed = key if isinstance(key, tuple) else (key, self.size, None)
        image, boxes, labels = self.read(index)
        if self.augment:
            rng = np.random.default_rng(seed)
            image, boxes = place(image, boxes, size, self.jitter, rng)
            return self.finish(image, boxes, labels, rng)
        height, width = image.shape[:2]
        boxes = letterbox_boxes(boxes, width, height, size, size)            # (n, 4)  fractions
        return letterbox(image, size, size), make_targets(boxes, labels)

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


def place(image, boxes, size, jitter, rng):
    """
    Distorts the aspect ratio of the image at random, scales it to fit into a square and pastes it there at a random
    place, on grey ([darknet] load_data_detection). We do not copy two flaws of Darknet's place_image, which samples
    half a pixel off and darkens the last row and column of an enlarged image.

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
    """How an image fits into width x height: its size there and its left and top edge, in pixels [darknet]."""
    if width / image_width < height / image_height:
        new_width, new_height = width, max(image_height * width // image_width, 1)
    else:
        new_width, new_height = max(image_width * height // image_height, 1), height
    return new_width, new_height, (width - new_width) // 2, (height - new_height) // 2


def letterbox(image, width, height):
    """
    Scales the image to fit and pastes it in the middle of a grey canvas. The interpolation is bilinear, with aligned
    corners and without antialiasing ([darknet] resize_image).

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
    """The exact inverse of letterbox_boxes. Darknet's is half a pixel off where the two grey bars differ in width."""
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
    train, test = read_train_and_test(TRAIN, TEST, CLASSES, SKIP_UNUSABLE)
    describe("TRAIN", train, CLASSES)
    describe("TEST", test, CLASSES)
    dataset = DetectionDataset(train, 416, augment=True)
    pictures = [draw_targets(*dataset[n % len(dataset), 416, n], CLASSES) for n in range(16)]
    sheet = RUNS / "yolov3" / "augmented.png"
    write_sheet(sheet, pictures, columns=4)
    print(sheet)


if __name__ == "__main__":
    run(main)
