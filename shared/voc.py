"""
Reads data in the layout of Pascal VOC: JPEGImages/, Annotations/ and ImageSets/Main/ in one folder.

VOC's corners are pixel numbers, counted from 1, and the last pixel belongs to the box. They become continuous lengths,
(xmin - 1, ymin - 1, xmax, ymax): a box from 1 to 1 is one pixel wide, and plain IOU equals the devkit's "+ 1" IOU.
"""
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from shared.errors import InputError
from shared.images import EXTENSIONS, image_size

CLASSES = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
           "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"]


class Annotation(NamedTuple):
    """One image and its n objects."""
    image: Path
    width: int             # of the picture as a person sees it, in pixels
    height: int
    boxes: np.ndarray      # (n, 4) float64: left, top, right, bottom in pixels, within the image
    labels: np.ndarray     # (n,)   int64: position in the list of classes
    difficult: np.ndarray  # (n,)   bool
    areas: np.ndarray = None  # (n,) in pixels, of the objects' outlines; None: the boxes' (COCO has outlines)
    number: int = None        # COCO's id of the image,
    category_ids: list = None  # and of each class


def read_split(folder, split, classes):
    """
    folder   a path that holds JPEGImages, Annotations and ImageSets
    split    the name of a list in ImageSets/Main: train, val, trainval, test ...
    classes  the class names, in the order of their labels
    returns  a list of Annotation, in the list's order
    raises   InputError, naming the file: a missing or empty split, a missing or unreadable image, and what read_objects
             says
    """
    if isinstance(classes, str) or len(set(classes)) < len(classes):
        raise InputError(f"CLASSES has to be a list of different names, not {classes!r}")
    folder = Path(folder)
    split_file = folder / "ImageSets" / "Main" / f"{split}.txt"
    try:
        names = [line.strip() for line in split_file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError:
        raise InputError(f"{split_file}: no such file") from None
    except UnicodeError:
        raise InputError(f"{split_file}: not UTF-8 text; save it as such") from None
    if not names:
        raise InputError(f"{split_file}: names no images")

    annotations = []
    for name in tqdm(names, desc=f"reading {split_file}", disable=len(names) < 1000):
        endings = ("", *EXTENSIONS, *map(str.upper, EXTENSIONS))
        candidates = [folder / "JPEGImages" / (name + ending) for ending in endings]
        image = next((path for path in candidates if path.is_file()), None)
        if image is None:
            raise InputError(f"{split_file}: names {name}, but there is no {candidates[1]} (nor .png ...)")
        width, height = image_size(image)
        objects = read_objects(folder / "Annotations" / f"{image.stem}.xml", classes, width, height)
        annotations.append(Annotation(image, width, height, *objects))
    return annotations


def read_objects(path, classes, width, height):
    """
    The objects of one annotation file: boxes (n, 4), labels (n,), difficult (n,) as in Annotation. Parts of objects
    (VOC 2012's heads, hands and feet) are left out; what overhangs the image is cut off. Raises InputError for a
    missing or malformed file, an unknown class, and a box that is inside out or wholly outside the image.
    """
    try:
        objects = ElementTree.parse(path).getroot().findall("object")
    except OSError:
        raise InputError(f"{path}: no such file") from None
    except (ElementTree.ParseError, UnicodeError, ValueError) as error:
        raise InputError(f"{path}: not well-formed XML ({error})") from None

    boxes, labels, difficult = [], [], []
    for element in objects:
        name = (element.findtext("name") or "").strip()
        if name not in classes:
            raise InputError(f"{path}: class '{name}' is not one of CLASSES ({', '.join(classes)})")
        corners = [element.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        try:
            xmin, ymin, xmax, ymax = map(float, corners)
            hard = int(element.findtext("difficult") or 0)                   # VOC 2012 leaves it out at times
        except (TypeError, ValueError):
            raise InputError(f"{path}: a {name} without four numbers in its bndbox or a 0 or 1 as difficult") from None
        if not (xmin <= xmax and ymin <= ymax):
            raise InputError(f"{path}: a {name} whose box is inside out: {xmin:g} {ymin:g} {xmax:g} {ymax:g}")
        box = [max(xmin - 1, 0), max(ymin - 1, 0), min(xmax, width), min(ymax, height)]
        if not (box[0] < box[2] and box[1] < box[3]):
            raise InputError(f"{path}: a {name} whose box {xmin:g} {ymin:g} {xmax:g} {ymax:g} lies outside "
                             f"the {width} x {height} image")
        boxes.append(box)
        labels.append(classes.index(name))
        difficult.append(hard != 0)
    return np.array(boxes).reshape(-1, 4), np.array(labels, np.int64), np.array(difficult, bool)
