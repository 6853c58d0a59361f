"""Reads the lists TRAIN and TEST of a dataset.py, whatever layout each of their entries is in."""
from shared import coco, voc


def read_annotations(parts, classes):
    """
    parts    a list of (folder, split) in VOC's layout, or (folder of images, JSON file) in COCO's
    classes  the class names, in the order of their labels
    returns  a list of shared.voc.Annotation; raises InputError as shared/voc.py and shared/coco.py say
    """
    annotations = []
    for folder, split in parts:
        reader = coco if str(split).endswith(".json") else voc
        annotations += reader.read_split(folder, split, classes)
    return annotations
