"""
Images and labels for YOLOv3 on a ResNeXt: the data set, its augmentation, and the assignment. All of it is done while
the images are loaded, before the network sees them.

Paper   "YOLOv3: An Incremental Improvement", sections 2.1 and 2.3, for the assignment. "SSD: Single Shot MultiBox
        Detector", Liu et al., 2015 (arXiv:1512.02325), section 2.2, for the photometric distortion.
Source  The ranges and probabilities of the distortion are the defaults of torchvision's RandomPhotometricDistort, which
        follows SSD's code. We keep a fixed order and do not permute the channels.

A predictor is one anchor in one cell of one scale. An input of 608 x 608 pixels has L = 3 (19^2 + 38^2 + 76^2) = 22,743
of them, in the order of head (stride 32 first), anchor, row, column. The anchor box of a predictor has the size of its
anchor, p_w x p_h pixels, and its centre is the centre of the cell. For each image there are four labels:

    gt_boxes_label          True for the responsible predictors. An object makes one predictor responsible for it: among
                            all nine anchors the one whose shape is most similar to the object's, in the cell that
                            contains the object's centre.
    gt_and_neg_boxes_label  True for the responsible predictors and the background. All other predictors are ignored:
                            their anchor boxes overlap an object by an IOU of more than IGNORE_IOU.
    coordinates_label       x*, y*, t*_w, t*_h of the responsible predictors: the offset of the object's centre from the
                            corner of the cell, from 0 to 1, and log(w / p_w), log(h / p_h) of an object of w x h pixels
    classification_label    True for each class that a responsible predictor learns

The paper, too, ignores by the anchor boxes ("bounding box priors", section 2.1). Darknet and yolov3/loss.py ignore by
the predicted boxes. Assigning beforehand has two advantages:

    - The loss consists of two masks and five lines.
    - The processes that load the images make the labels, not the GPU, and one can look at the labels without a network.
      8 images at 608 x 608 with 7 objects each take 11 ms of one core (measured).

and three disadvantages:

    - The labels of an image at 608 x 608 take 2.2 MB, half as much as the image itself.
    - A predictor whose anchor box overlaps an object by .5 or less is always background, even if its predicted box has
      come to fit the object. yolov3/loss.py ignores it then.
    - A predictor whose anchor box overlaps an object by more than .5 is always ignored, even if its predicted box has
      moved away.

    python yolov3/resnext_coco/dataset.py     checks all files of TRAIN and TEST; prints how many objects of which sizes
                                              they have; writes runs/yolov3_resnext/augmented.png: training images as
                                              the network sees them, with boxes

What changed from yolov3/dataset.py: training, too, uses the letterbox; the colours are distorted as in SSD; collate
makes the labels.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F

from shared.annotations import describe, read_train_and_test
from shared.boxes import cxcywh_to_xyxy, paired_iou, shape_iou
from shared.coco import CLASSES as COCO_CLASSES
from shared.draw import draw_targets, write_sheet
from shared.errors import InputError, run
from shared.images import read_image
from shared.paths import ROOT, RUNS, SAMPLES
from yolov3.dataset import letterbox, letterbox_boxes, make_targets
from yolov3.model import ANCHORS, STRIDES

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations otherwise looks for an update online
import albumentations as A

PRESET = "sample"  # chooses the data here and all values of a training in train.py:
#                    "sample"  16 drawings, learned in about 2 minutes on 2 CPU cores
#                    "coco"    COCO, with values that are meant for it and have not been tried

if PRESET == "sample":
    COCO = SAMPLES / "coco"
elif PRESET == "coco":
    COCO = ROOT / "coco"
TRAIN = [(COCO / "train2017", COCO / "annotations" / "instances_train2017.json")]  # (folder of images, JSON file)
TEST = [(COCO / "val2017", COCO / "annotations" / "instances_val2017.json")]
CLASSES = COCO_CLASSES

SKIP_UNUSABLE = False        # True: go on without the images that cannot be used, after a list of them

IGNORE_IOU = 0.5             # [paper], section 2.1

# Each of these four changes half of the images. They are factors, except HUE, a fraction of the circle. [torchvision]
BRIGHTNESS = (0.875, 1.125)
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE = (-0.05, 0.05)


class DetectionDataset(torch.utils.data.Dataset):
    """
    dataset[i]        image i
    dataset[i, seed]  image i. The seed, a number or a tuple of numbers, fixes the augmentation, so that a training can
                      be repeated. Without a seed it differs each time.

    The image is put into its letterbox. augment=True first mirrors it half of the time and distorts its colours.

    returns  image (3, size, size) float 0..1; targets (n, 5) label, centre x, centre y, width, height as fractions
    """

    def __init__(self, annotations, size, augment=False):
        self.annotations, self.size, self.augment = annotations, size, augment
        self.distort = A.Compose(
            [A.HorizontalFlip(p=0.5),
             A.ColorJitter(brightness=BRIGHTNESS, contrast=(1, 1), saturation=(1, 1), hue=(0, 0), p=0.5),
             A.ColorJitter(brightness=(1, 1), contrast=CONTRAST, saturation=(1, 1), hue=(0, 0), p=0.5),
             A.ColorJitter(brightness=(1, 1), contrast=(1, 1), saturation=SATURATION, hue=(0, 0), p=0.5),
             A.ColorJitter(brightness=(1, 1), contrast=(1, 1), saturation=(1, 1), hue=HUE, p=0.5)],
            bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"], clip=True, filter_invalid_bboxes=True))

    def __len__(self):
        return len(self.annotations)

    def __getitem__(self, key):
        index, seed = key if isinstance(key, tuple) else (key, None)
        annotation = self.annotations[index]
        image, easy = read_image(annotation.image), ~annotation.difficult
        boxes, labels = annotation.boxes[easy], annotation.labels[easy]      # (n, 4) in pixels of the image, (n,)
        if image.shape[:2] != (annotation.height, annotation.width):
            raise InputError(f"{annotation.image}: its pixels are not as wide and high as its annotations say")
        if self.augment:
            rng = np.random.default_rng(seed)
            for transform in self.distort.transforms:                        # each needs a seed of its own: with one
                transform.set_random_seed(int(rng.integers(2**32)))          # for all, flip and colours are correlated
            out = self.distort(image=image, bboxes=boxes, labels=labels)
            image, boxes, labels = out["image"], out["bboxes"].reshape(-1, 4), out["labels"]
        boxes = letterbox_boxes(boxes, image.shape[1], image.shape[0], self.size, self.size)     # (n, 4)  fractions
        return letterbox(image, self.size, self.size), make_targets(boxes, labels)


def anchor_boxes(height, width):
    """
    The anchor boxes of all predictors, in the order of head, anchor, row, column, for an input of height x width.

    returns  (L, 4)  centre x, centre y, width, height in pixels of the input
    """
    boxes = []
    for p_wh, stride in zip(ANCHORS, STRIDES):
        A, H, W = len(p_wh), height // stride, width // stride
        c_xy = torch.stack(torch.meshgrid(torch.arange(W), torch.arange(H), indexing="xy"), -1)      # (H, W, 2)
        xy = ((c_xy + 0.5) * stride).expand(A, H, W, 2)
        wh = torch.tensor(p_wh).view(A, 1, 1, 2).expand(A, H, W, 2)
        boxes.append(torch.cat([xy, wh], -1).flatten(0, 2))                  # (A H W, 4)
    return torch.cat(boxes)


def assign(targets, B, height, width, C):
    """
    Makes the labels of B images of height x width pixels, for C classes.

    targets  (N, 6)  the batch's objects: image, label, centre x, centre y, width, height; lengths as fractions
    returns  coordinates_label (B, L, 4) float; bool: classification_label (B, L, C), gt_boxes_label (B, L, 1),
             gt_and_neg_boxes_label (B, L, 1)

    A second object with the same anchor and cell takes over the box, and both classes are learned.
    """
    grids = [(height // stride, width // stride) for stride in STRIDES]                      # H, W of each scale
    centres = [(targets[:, 2:4] * targets.new_tensor([W, H])).tolist() for H, W in grids]    # in cells of each scale
    sizes = targets[:, 4:6] * targets.new_tensor([width, height])                            # (N, 2)  in pixels
    nine_anchors = targets.new_tensor([p_wh for scale in ANCHORS for p_wh in scale])         # (9, 2)  in pixels
    best = shape_iou(sizes, nine_anchors).argmax(1)                                          # (N,)    from 0 to 8
    target_wh = (sizes / nine_anchors[best]).log().tolist()                                  # t*_w, t*_h of each object
    scale_and_anchor = [(scale, anchor) for scale in range(len(ANCHORS)) for anchor in range(len(ANCHORS[scale]))]

    # An object makes one predictor responsible: the anchor with the most similar shape, in the cell of its centre.
    shapes = [(B, len(p_wh), H, W) for p_wh, (H, W) in zip(ANCHORS, grids)]
    coordinates = [torch.zeros(*shape, 4) for shape in shapes]                               # 3 times (B, A, H, W, 4)
    classes = [torch.zeros(*shape, C, dtype=torch.bool) for shape in shapes]                 # 3 times (B, A, H, W, C)
    responsible = [torch.zeros(*shape, 1, dtype=torch.bool) for shape in shapes]             # 3 times (B, A, H, W, 1)
    for n, (image, label) in enumerate(targets[:, :2].long().tolist()):
        scale, anchor = scale_and_anchor[best[n]]
        x, y = centres[scale][n]
        H, W = grids[scale]
        row, col = min(int(y), H - 1), min(int(x), W - 1)
        slot = image, anchor, row, col
        coordinates[scale][slot] = torch.tensor([x - col, y - row, *target_wh[n]])           # a later object takes the
        classes[scale][slot][label] = True                                                   # box, both classes stay
        responsible[scale][slot] = True
    coordinates_label = torch.cat([label.flatten(1, 3) for label in coordinates], 1)         # (B, L, 4)
    classification_label = torch.cat([label.flatten(1, 3) for label in classes], 1)          # (B, L, C)
    gt_boxes_label = torch.cat([label.flatten(1, 3) for label in responsible], 1)            # (B, L, 1)

    # All other predictors are background, except where the anchor box overlaps an object by more than IGNORE_IOU.
    anchors = cxcywh_to_xyxy(anchor_boxes(height, width))                                    # (L, 4)  in pixels
    objects = cxcywh_to_xyxy(torch.cat([targets[:, 2:4] * targets.new_tensor([width, height]), sizes], 1))   # (N, 4)
    ignored = []
    for image in range(B):
        truths = objects[targets[:, 0] == image]                                             # (M, 4)
        ignored.append((paired_iou(truths[:, None], anchors) > IGNORE_IOU).any(0))           # (L,)
    gt_and_neg_boxes_label = gt_boxes_label | ~torch.stack(ignored)[..., None]               # (B, L, 1)
    return coordinates_label, classification_label, gt_boxes_label, gt_and_neg_boxes_label


def collate(items, num_classes):
    """A list of (image, targets) -> images (B, 3, H, W) float 0..1, and the four labels that assign returns."""
    images = torch.stack([image for image, _ in items])                      # (B, 3, H, W)
    targets = torch.cat([F.pad(targets, (1, 0), value=i) for i, (_, targets) in enumerate(items)])           # (N, 6)
    return images, *assign(targets, len(items), *images.shape[2:], num_classes)


def main():
    train, test = read_train_and_test(TRAIN, TEST, CLASSES, SKIP_UNUSABLE)
    describe("TRAIN", train, CLASSES)
    describe("TEST", test, CLASSES)
    dataset = DetectionDataset(train, 416, augment=True)
    pictures = [draw_targets(*dataset[n % len(dataset), n], CLASSES) for n in range(16)]
    write_sheet(RUNS / "yolov3_resnext" / "augmented.png", pictures, columns=4)


if __name__ == "__main__":
    run(main)
