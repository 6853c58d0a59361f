"""
Images and boxes for YOLOv3: the data set, its augmentation, and the letterbox.

Paper   "YOLOv3: An Incremental Improvement", section 2.5: "multi-scale training, lots of data augmentation, batch
        normalization, all the standard stuff". No more than that.
Source  The standard stuff is read off [darknet]: src/data.c (load_data_detection), src/image.c (place_image,
        letterbox_image) and scripts/voc_label.py of pjreddie/darknet at f6afaab.

Training    On a grey canvas the image, its aspect ratio changed at random, as large as it fits and at a random place;
            the colours of the whole canvas, grey bars too, distorted; half of the time its mirror image.
Evaluation  On a grey canvas the image, as large as it fits, in the middle: the letterbox.
Mosaic      Not in the paper, and off as committed: with a probability of MOSAIC a training image is made of four, each
            resized until it covers its quarter. Objects are smaller then, and in company that they never had.

Difficult objects are not trained on [darknet]. The colours are the nearest that albumentations has: Darknet multiplies
S and V of HSV by U(1, 1.5) or its inverse; ColorJitter saturation and brightness by U(1 / 1.5, 1.5).

Your own photographs: put them into a folder with JPEGImages, Annotations and ImageSets/Main as VOC has them, and edit
TRAIN, TEST and CLASSES.

    python yolov3/dataset.py     writes runs/yolov3/augmented.png: training images as the network sees them, with boxes

What changed from yolov2/dataset.py: nothing that can be seen. The paper (Figure 3's caption) tells of a bug in YOLOv2's
data loading that was mended, worth 2 mAP, but not which.
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

COCO = Path(SAMPLES, "coco")          # or Path("where/your/COCO/lies"). For it, instead of those above:
# TRAIN = [(COCO / "train2017", COCO / "annotations" / "instances_train2017.json")]
# TEST = [(COCO / "val2017", COCO / "annotations" / "instances_val2017.json")]  # the papers: test-dev, kept secret
# CLASSES = COCO_CLASSES

JITTER = 0.3       # width and height each by up to 30 % [darknet]
HUE = 0.1          # turned by up to 36 degrees either way [darknet]
SATURATION = 1.5   # [darknet]
EXPOSURE = 1.5     # [darknet]
SMALLEST = 0.001   # of the image: what augmentation leaves narrower or lower is dropped [darknet]
MOSAIC = 0         # the probability of four images in one; ours: the paper has none. In the run that inspired it .75
VISIBLE = 0.3      # ours: what a mosaic cuts to less than this share of its area is dropped


class DetectionDataset(torch.utils.data.Dataset):
    """
    dataset[i] is image i at the given size, dataset[i, size, seed] at another; in its letterbox, or augmented, or, with
    the probability mosaic, in one of four quarters. All that is random about it follows from the seed, one or more
    numbers: workers and epochs differ, a run can be repeated.

    returns  image (3, size, size) float 0..1; targets (n, 5) label, centre x, centre y, width, height as fractions
    """

    def __init__(self, annotations, size, augment=False, mosaic=0):
        self.annotations, self.size, self.mosaic = annotations, size, mosaic
        self.jitter, self.smallest = JITTER * augment, SMALLEST * bool(augment or mosaic)
        self.visible, self.transform = VISIBLE, None
        if augment:
            self.transform = A.Compose(
                [A.HorizontalFlip(p=0.5),
                 A.ColorJitter(brightness=(1 / EXPOSURE, EXPOSURE), contrast=(1, 1),
                               saturation=(1 / SATURATION, SATURATION), hue=(-HUE, HUE), p=1)],
                bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"], clip=True, filter_invalid_bboxes=True))

    def __len__(self):
        return len(self.annotations)

    def read(self, index):
        """-> image (h, w, 3) uint8, boxes (n, 4) in its pixels, labels (n,); without the difficult objects"""
        annotation = self.annotations[index]
        image = read_image(annotation.image)
        if image.shape[:2] != (annotation.height, annotation.width):
            raise InputError(f"{annotation.image}: its pixels are not as wide and high as its header says")
        easy = ~annotation.difficult
        return image, annotation.boxes[easy], annotation.labels[easy]

    def __getitem__(self, key):
        index, size, seed = key if isinstance(key, tuple) else (key, self.size, None)
        image, boxes, labels = self.read(index)
        rng = np.random.default_rng(seed)
        in_four = rng.random() < self.mosaic if self.mosaic else False
        if in_four:
            others = [self.read(other) for other in rng.integers(len(self), size=3)]
            image, boxes, labels = mosaic([(image, boxes, labels), *others], size, self.jitter, self.visible, rng)
        elif self.transform:
            image, boxes = place(image, boxes, size, self.jitter, rng)

        if self.transform:
            for transform in self.transform.transforms:                      # one seed for all would tie them together
                transform.set_random_seed(int(rng.integers(2**32)))
            out = self.transform(image=image, bboxes=boxes, labels=labels)
            image, boxes, labels = out["image"], out["bboxes"], out["labels"]
        if self.transform or in_four:
            image = torch.from_numpy(image).permute(2, 0, 1).float() / 255                   # (3, size, size)
            boxes = torch.as_tensor(boxes).float().view(-1, 4) / size                        # (n, 4)  fractions
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


def mosaic(four, size, jitter, visible, rng):
    """
    Four images round a random point of a square. Each is resized, its aspect ratio changed at random, until it just
    covers its quarter, and cut to it at a random place. A box is cut with its image, and dropped if less than the
    share visible of it is left.

    four  of each image (h, w, 3) uint8, boxes (n, 4) in its pixels, labels (n,)
    ->    canvas (size, size, 3) uint8, boxes (m, 4) in its pixels, labels (m,)
    """
    canvas, kept_boxes, kept_labels = np.empty((size, size, 3), np.uint8), [], []
    x, y = rng.integers(size // 4, size - size // 4, 2, endpoint=True)
    quarters = [(0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size)]
    for (image, boxes, labels), (left, top, right, bottom) in zip(four, quarters):
        (h, w), width, height = image.shape[:2], right - left, bottom - top
        aspect = (w * (1 + rng.uniform(-jitter, jitter))) / (h * (1 + rng.uniform(-jitter, jitter)))
        new_w, new_h = max(width, round(height * aspect)), max(height, round(width / aspect))
        dx, dy = rng.integers(new_w - width, endpoint=True), rng.integers(new_h - height, endpoint=True)
        canvas[top:bottom, left:right] = cv2.resize(image, (new_w, new_h))[dy:dy + height, dx:dx + width]

        whole = boxes * ([new_w / w, new_h / h] * 2) + [left - dx, top - dy] * 2             # (n, 4)
        cut = whole.clip([left, top] * 2, [right, bottom] * 2)                               # (n, 4)
        share = (cut[:, 2:] - cut[:, :2]).prod(1) / (whole[:, 2:] - whole[:, :2]).prod(1)    # (n,)
        kept_boxes.append(cut[share >= visible])
        kept_labels.append(labels[share >= visible])
    return canvas, np.concatenate(kept_boxes), np.concatenate(kept_labels)


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
    dataset = DetectionDataset(annotations, 416, augment=True, mosaic=MOSAIC)
    pictures = []
    for seed in range(16):
        image, targets = dataset[seed % len(dataset), 416, seed]
        label, xy, wh = targets[:, :1], targets[:, 1:3] * 416, targets[:, 3:5] * 416
        rows = torch.cat([label, torch.ones_like(label), xy - wh / 2, xy + wh / 2], 1)
        pictures.append(draw_boxes((image * 255).byte().permute(1, 2, 0).numpy(), rows.numpy(), CLASSES))
    write_sheet(RUNS / "yolov3" / "augmented.png", pictures, columns=4)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
