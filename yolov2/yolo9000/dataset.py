"""
The data of YOLO9000: detection images with boxes, classification images with a label alone, mixed in one list.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 4, "Dataset
        combination with WordTree" and "Joint classification and detection".
Source  The paper mixes COCO and the full ImageNet; the list of its images was never published. Here everything is
        drawn: the boxes are those of the miniature VOC (data_samples/draw_mini.py), the classification images are of
        62 kinds of things (data_samples/draw_tree.py). Statements marked [darknet] come from cfg/yolo9000.cfg of
        pjreddie/darknet at f6afaab.

All labels are nodes of one tree. VOC's classes are inner nodes ("dog") or leaves ("sofa"), the kinds are leaves
("beagle"). Five animals and five things have no class in VOC, so they never have a box in training. SCENES has boxes of
them, for evaluation.

The paper oversamples COCO until ImageNet is larger only by a factor of 4. Here the smaller of the two lists is repeated
until there are about CLASSIFICATION_PER_DETECTION classification images for each detection image. It is 1: in a
training of some minutes, a factor of 4 would leave too few images with boxes to learn boxes from.

Both kinds of images are placed and mirrored as in yolov2/dataset.py (jitter .3; yolo9000.cfg: .2). Only the colours are
distorted less: the kinds of the drawings differ in colour, so HUE is smaller here, and saturation and exposure are
those of yolo9000.cfg.

    python yolov2/yolo9000/dataset.py     writes runs/yolo9000/augmented.png: images of both kinds as the network sees
                                          them

What changed from yolov2/dataset.py: images without boxes, labels that are nodes of a tree.
"""
import os
from pathlib import Path

import numpy as np
import torch

from data_samples import draw_tree
from shared.annotations import read_annotations
from shared.draw import draw_targets, write_sheet
from shared.errors import InputError, run
from shared.imagenet import read_split
from shared.images import image_size
from shared.paths import RUNS, SAMPLES
from shared.voc import CLASSES as VOC_CLASSES
from shared.voc import Annotation
from yolov2.dataset import DetectionDataset, collate
from yolov2.yolo9000.wordtree import build_tree, flat_tree

import albumentations as A  # after yolov2.dataset, which turns its online check for a newer version off

EXPERIMENT = os.environ.get("EXPERIMENT", "joint")
# It chooses what is trained on. Edit it, or set it for one command, as in
# EXPERIMENT=flat python yolov2/yolo9000/train.py
#    "joint"   detection and classification images, and the tree
#    "flat"    the same images, and one softmax over all names that occur as a label, without a tree
#    "boxes"   detection images alone, and the tree; as many of them as "joint" sees

TRAIN = [(SAMPLES / "mini" / "VOC2007", "train")]           # with boxes
TEST = [(SAMPLES / "mini" / "VOC2007", "test")]
SCENES = [(draw_tree.FOLDER / "VOC2007", "test")]           # with boxes for everything, for evaluation only
LABELLED = draw_tree.FOLDER / "train"                       # without boxes: a folder of images for each name
LABELLED_VAL = draw_tree.FOLDER / "val"
CLASSIFICATION_PER_DETECTION = 1    # paper: 4
HUE = 0.02                          # Darknet: .1
SATURATION = EXPOSURE = 4 / 3       # a factor from 3/4 to 4/3 [darknet]


def drawn_tree(flat=False):
    """The tree of the drawings; flat: of their labels, all of them roots."""
    names = list(draw_tree.KINDS)
    if flat:
        return flat_tree([*names, *(name for name in VOC_CLASSES if name not in names)])
    return build_tree([*names, *VOC_CLASSES], draw_tree.HYPERNYMS)


def read_boxes(parts, tree):
    """-> a list of Annotation, whose labels are nodes. parts: as in read_annotations of shared/annotations.py"""
    if any(draw_tree.FOLDER in Path(folder).parents for folder, _ in parts):
        draw_tree.draw_tree()                                # at its first use
    return read_annotations(parts, tree.names)


def read_labelled(folder, tree):
    """-> a list of (Annotation without objects, node), one for each image in the folder, which has a folder per name"""
    if draw_tree.FOLDER in Path(folder).parents:
        draw_tree.draw_tree()                                # at its first use
    names = sorted(draw_tree.KINDS)
    labelled = []
    for path, label in read_split(folder, names):
        width, height = image_size(path)
        nothing = Annotation(path, width, height, np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
        labelled.append((nothing, tree.names.index(names[label])))
    return labelled


def mix(detection, classification):
    """
    Repeats the smaller list so that there are about CLASSIFICATION_PER_DETECTION classification images per detection
    image.

    detection       how many detection images there are: the images 0, 1, ... of the data set
    classification  how many classification images there are: the following ones
    returns         a list of image numbers, each at least once
    """
    wanted = CLASSIFICATION_PER_DETECTION * detection        # classification images
    repeat_detection = max(round(classification / wanted), 1) if wanted else 0
    repeat_classification = max(round(wanted / classification), 1) if classification else 0
    return [*range(detection)] * repeat_detection + [*range(detection, detection + classification)] * \
        repeat_classification


class JointDataset(torch.utils.data.Dataset):
    """
    dataset[i, size, seed] is image i as in yolov2/dataset.py: first the images with boxes, then those with a label.

    returns  image (3, size, size) float 0..1; targets (n, 5) node, centre x, centre y, width, height as fractions. An
             image without boxes has one row, (node, 0, 0, 0, 0)
    """

    def __init__(self, detection, labelled, size, augment=True):
        self.num_detection, self.nodes = len(detection), [node for _, node in labelled]
        annotations = [*detection, *(annotation for annotation, _ in labelled)]
        self.images = DetectionDataset(annotations, size, augment, stretched=False)
        self.images.distort = A.Compose(
            [A.HorizontalFlip(p=0.5),
             A.ColorJitter(brightness=(1 / EXPOSURE, EXPOSURE), contrast=(1, 1),
                           saturation=(1 / SATURATION, SATURATION), hue=(-HUE, HUE), p=1)],
            bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"], clip=True, filter_invalid_bboxes=True))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        index = key[0] if isinstance(key, tuple) else key
        image, targets = self.images[key]
        if index >= self.num_detection:
            targets = torch.tensor([[self.nodes[index - self.num_detection], 0, 0, 0, 0.0]])
        return image, targets


def read_training(tree):
    """-> annotations of the detection images, (annotation, node) of the classification images"""
    if EXPERIMENT not in ("joint", "flat", "boxes"):
        raise InputError(f'yolov2/yolo9000/dataset.py: EXPERIMENT is {EXPERIMENT!r}, not "joint", "flat" or "boxes"')
    detection = read_boxes(TRAIN, tree)
    return detection, [] if EXPERIMENT == "boxes" else read_labelled(LABELLED, tree)


def main():
    tree = drawn_tree()
    detection, labelled = read_training(tree)
    dataset = JointDataset(detection, labelled, 192)
    order = mix(len(detection), len(labelled))
    print(f"{len(detection)} detection images and {len(labelled)} classification images; one epoch has {len(order)}")
    rng, pictures = np.random.default_rng(0), []
    for n, index in enumerate(rng.choice(order, 20)):
        image, targets = dataset[int(index), 192, n]
        if index >= len(detection):                          # a label alone: show it at the border of the image
            targets[:, 1:] = torch.tensor([0.5, 0.5, 1, 1])
        pictures.append(draw_targets(image, targets, tree.names))
    sheet = RUNS / "yolo9000" / "augmented.png"
    write_sheet(sheet, pictures, columns=5, cell=220)
    print(sheet)


if __name__ == "__main__":
    run(main)
