"""Reads the lists TRAIN and TEST of a dataset.py. Each entry may be in the layout of VOC or of COCO."""
from shared import coco, voc
from shared.errors import InputError


def read_annotations(parts, classes):
    """
    parts    a list; an entry is (folder, split) in VOC's layout, or (folder of images, JSON file) in COCO's
    classes  the class names, in the order of their labels
    returns  a list of shared.voc.Annotation
    raises   InputError if the list is empty, and as read_split in shared/voc.py and in shared/coco.py
    """
    if not parts:
        raise InputError("TRAIN and TEST need at least one (folder, split) or (folder of images, JSON file) each")
    annotations = []
    for folder, split in parts:
        if str(split).endswith(".json"):
            annotations += coco.read_split(folder, split, classes)
        else:
            annotations += voc.read_split(folder, split, classes)
    return annotations
