"""
Images, boxes and labels for YOLOv3 on a ResNeXt: the data set, its augmentation, and the assignment, all of it done
here, before the network has seen the images.

Paper   "YOLOv3: An Incremental Improvement", sections 2.1 and 2.3, for who is responsible and who is ignored; "SSD:
        Single Shot MultiBox Detector", Liu et al., 2015 (arXiv:1512.02325), section 2.2, for the photometric
        distortion.
Source  Its ranges and probabilities are the defaults of torchvision's RandomPhotometricDistort, modelled on SSD's code;
        the order is fixed here, and its last part, which swaps the channels, is left out.

Every one of the L = 3 (19^2 + 38^2 + 76^2) = 22,743 predictors of a 608 x 608 input has an anchor box: its anchor's
p_w x p_h pixels round the centre of its cell. For each image, with the predictors in the order of the heads (stride 32
first), then anchor, row, column:

    gt_boxes_label          1 where a predictor is responsible: of the nine anchors in the cell under an object's centre
                            that of the most similar shape
    gt_and_neg_boxes_label  1 where it is responsible or background: its anchor box overlaps no object by more than
                            IGNORE_IOU. The others are left alone
    coordinates_label       of the responsible: x, y, the offset of the object's centre in its cell, and
                            q = log(w / p_w), r = log(h / p_h), w x h being the object's pixels
    classification_label    of the responsible: 1 for each class that it has to name

Section 2.1 says just this, of "priors"; Darknet, and yolov3/loss.py, ask what the predicted box overlaps instead.
Gained: the loss is two masks and five lines; the labels are made by the processes that load the images, not by the GPU
(8 images at 608 with 7 objects each: 26 ms of one core), and can be looked at before there is a network. Lost: an image
at 608 brings 2.2 MB of labels, half its own size; and what is ignored does not follow the network. A predictor whose
box has come to fit an object that another one answers for, which yolov3/loss.py sees, is punished for it wherever its
anchor box overlaps the object by .5 or less; and one whose anchor box overlaps more is never told that it is wrong.

    python yolov3/resnext_coco/dataset.py     writes runs/yolov3_resnext/augmented.png: training images as the network
                                              sees them, with their boxes

What changed from yolov3/dataset.py: the letterbox in training too, and colours that change after SSD; collate assigns.
"""
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from shared.annotations import read_annotations
from shared.boxes import cxcywh_to_xyxy, paired_iou, shape_iou, xyxy_to_cxcywh
from shared.coco import CLASSES as COCO_CLASSES
from shared.draw import draw_boxes, write_sheet
from shared.errors import InputError
from shared.images import read_image
from shared.paths import RUNS, SAMPLES
from yolov3.dataset import letterbox, letterbox_boxes
from yolov3.model import ANCHORS, STRIDES

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look for a newer version over the network
import albumentations as A

COCO = Path(SAMPLES, "coco")  # or Path("where/your/COCO/lies")
TRAIN = [(COCO / "train2017", COCO / "annotations" / "instances_train2017.json")]
TEST = [(COCO / "val2017", COCO / "annotations" / "instances_val2017.json")]
CLASSES = COCO_CLASSES

IGNORE_IOU = 0.5             # paper, section 2.1

BRIGHTNESS = (0.875, 1.125)  # each of these four with a probability of one half [torchvision]
CONTRAST = (0.5, 1.5)        # [torchvision]
SATURATION = (0.5, 1.5)      # [torchvision]
HUE = (-0.05, 0.05)          # of the circle [torchvision]


class DetectionDataset(torch.utils.data.Dataset):
    """
    dataset[i] is image i in its letterbox; dataset[i, seed] the same, augmented. All that is random about it follows
    from the seed, one or more numbers: workers and epochs differ, a run can be repeated.

    returns  image (3, size, size) float 0..1; targets (n, 5) label, centre x, centre y, width, height as fractions
    """

    def __init__(self, annotations, size, augment=False):
        self.annotations, self.size, self.transform = annotations, size, None
        if augment:
            same = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0), "p": 0.5}
            self.transform = A.Compose(
                [A.HorizontalFlip(p=0.5), A.ColorJitter(**{**same, "brightness": BRIGHTNESS}),
                 A.ColorJitter(**{**same, "contrast": CONTRAST}), A.ColorJitter(**{**same, "saturation": SATURATION}),
                 A.ColorJitter(**{**same, "hue": HUE})],
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
        if self.transform:
            rng = np.random.default_rng(seed)
            for transform in self.transform.transforms:                      # one seed for all would tie them together
                transform.set_random_seed(int(rng.integers(2**32)))
            out = self.transform(image=image, bboxes=boxes, labels=labels)
            image, boxes, labels = out["image"], out["bboxes"].reshape(-1, 4), out["labels"]
        boxes = letterbox_boxes(boxes, image.shape[1], image.shape[0], self.size, self.size)
        labels = torch.as_tensor(labels).float().view(-1, 1)                 # (n, 1)
        targets = torch.cat([labels, xyxy_to_cxcywh(torch.from_numpy(boxes).float())], 1)    # (n, 5)
        return letterbox(image, self.size, self.size), targets


def anchor_boxes(height, width):
    """
    Every predictor's anchor box (L, 4): centre x, centre y, width, height in pixels of a height x width input. L counts
    head by head, then anchor, row, column.
    """
    boxes = []
    for p_wh, stride in zip(ANCHORS, STRIDES):
        A, H, W = len(p_wh), height // stride, width // stride
        c_xy = torch.stack(torch.meshgrid(torch.arange(W), torch.arange(H), indexing="xy"), -1)      # (H, W, 2)
        xy = ((c_xy + 0.5) * stride).expand(A, H, W, 2)
        wh = torch.tensor(p_wh).view(A, 1, 1, 2).expand(A, H, W, 2)
        boxes.append(torch.cat([xy, wh], -1).flatten(0, 2))                  # (A H W, 4)
    return torch.cat(boxes)


def assign(targets, count, height, width, num_classes):
    """
    targets  (N, 6)  the objects of count images: image, label, centre x, centre y, width, height; lengths as fractions
    returns  coordinates_label (count, L, 4) float, classification_label (count, L, C), gt_boxes_label (count, L, 1),
             gt_and_neg_boxes_label (count, L, 1), these three bool

    Of two objects with the same anchor and cell the later one gives the box, both give their class, as yolov3/loss.py.
    """
    image, label = targets[:, 0].long(), targets[:, 1].long()                # (N,)
    xy, wh = (targets[:, 2:6] * torch.tensor([width, height] * 2)).split(2, 1)               # (N, 2), (N, 2)  in pixels

    # The nine anchors: their sizes, their strides, and in L the place of each one's first cell.
    p_wh = torch.tensor([anchor for scale in ANCHORS for anchor in scale])                   # (9, 2)
    strides = torch.tensor([stride for scale, stride in zip(ANCHORS, STRIDES) for _ in scale])       # (9,)
    cells = torch.tensor([width, height]) // strides[:, None]                # (9, 2)  columns, rows
    ends = cells.prod(1).cumsum(0)                                           # (9,)    the last one is L
    starts = ends - cells.prod(1)                                            # (9,)

    best = shape_iou(wh, p_wh).argmax(1)                                     # (N,)    0..8
    cell = torch.minimum((xy / strides[best, None]).long(), cells[best] - 1)                 # (N, 2)  1.0: the last
    col, row = cell.unbind(1)                                                # (N,)
    predictor = starts[best] + row * cells[best, 0] + col                    # (N,)    0..L-1
    encoded = torch.cat([xy / strides[best, None] - cell, (wh / p_wh[best]).log()], 1)       # (N, 4)  x, y, q, r
    slot = image * ends[-1] + predictor                                      # (N,)
    last = ~(slot == slot[:, None]).triu(1).any(1)                           # (N,)    no later object has its slot

    coordinates_label = torch.zeros(count, ends[-1], 4)
    classification_label = torch.zeros(count, ends[-1], num_classes, dtype=torch.bool)
    gt_boxes_label = torch.zeros(count, ends[-1], 1, dtype=torch.bool)
    coordinates_label[image[last], predictor[last]] = encoded[last]
    classification_label[image, predictor, label] = True
    gt_boxes_label[image, predictor] = True

    # Every anchor box against every object of the image, of whatever scale.
    objects = cxcywh_to_xyxy(torch.cat([xy, wh], 1))                         # (N, 4)
    anchors = cxcywh_to_xyxy(anchor_boxes(height, width))                    # (L, 4)
    best_iou = torch.zeros(count, ends[-1])                                  # (count, L)
    for n in image.unique():
        best_iou[n] = paired_iou(anchors, objects[image == n, None]).amax(0)
    gt_and_neg_boxes_label = (best_iou <= IGNORE_IOU)[..., None] | gt_boxes_label
    return coordinates_label, classification_label, gt_boxes_label, gt_and_neg_boxes_label


def collate(items, num_classes):
    """A list of (image, targets) -> images (B, 3, H, W) float 0..1, and the four labels that assign returns."""
    images = torch.stack([image for image, _ in items])                      # (B, 3, H, W)
    targets = torch.cat([F.pad(targets, (1, 0), value=n) for n, (_, targets) in enumerate(items)])
    return images, *assign(targets, len(items), *images.shape[2:], num_classes)


def main():
    dataset = DetectionDataset(read_annotations(TRAIN, CLASSES), 416, augment=True)
    pictures = []
    for seed in range(16):
        image, targets = dataset[seed % len(dataset), seed]
        label, xy, wh = targets[:, :1], targets[:, 1:3] * 416, targets[:, 3:5] * 416
        rows = torch.cat([label, torch.ones_like(label), xy - wh / 2, xy + wh / 2], 1)
        pictures.append(draw_boxes((image * 255).byte().permute(1, 2, 0).numpy(), rows.numpy(), CLASSES))
    write_sheet(RUNS / "yolov3_resnext" / "augmented.png", pictures, columns=4)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
