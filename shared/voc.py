"""
Reads data in the layout of Pascal VOC: one folder with JPEGImages/, Annotations/ and ImageSets/Main/.

VOC counts pixels from 1, and the last pixel belongs to the box. Here a box is (xmin - 1, ymin - 1, xmax, ymax) in
continuous lengths. A box from pixel 1 to pixel 1 is then one pixel wide, and the plain IOU equals the IOU of VOC's
development kit, which adds 1 to every width and height.
"""
import math
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
    width: int                 # pixels of the upright image, after the EXIF rotation
    height: int
    boxes: np.ndarray          # (n, 4) float64: left, top, right, bottom in pixels, inside the image
    labels: np.ndarray         # (n,)   int64: index into the list of classes
    difficult: np.ndarray      # (n,)   bool
    areas: np.ndarray = None   # (n,)   COCO only: the areas of the outlines in pixels. None: use the areas of the boxes
    number: int = None         # COCO only: the id of the image
    category_ids: list = None  # COCO only: the category id of each class


def read_split(folder, split, classes):
    """
    folder   a path that holds JPEGImages, Annotations and ImageSets
    split    the name of a list in ImageSets/Main: train, val, trainval, test ...
    classes  the class names, in the order of their labels
    returns  a list of Annotation, in the order of the split's list
    raises   InputError, naming the file, if a split is missing or empty, if an image is missing or unreadable, and
             for the reasons that read_objects gives
    """
    check_classes(classes)
    folder = Path(folder)
    split_file = folder / "ImageSets" / "Main" / f"{split}.txt"
    try:
        lines = split_file.read_text(encoding="utf-8-sig").splitlines()
    except OSError:
        raise InputError(f"{split_file}: no such file") from None
    except UnicodeError:
        raise InputError(f"{split_file}: not UTF-8 text; save it as UTF-8") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise InputError(f"{split_file}: names no images")

    annotations = []
    for name in tqdm(names, desc=f"reading {split_file}", disable=len(names) < 1000):
        image = find_image(folder / "JPEGImages", name)
        if image is None:
            raise InputError(f"{split_file}: names {name}, but there is no {folder / 'JPEGImages' / name}.jpg "
                             f"(nor .png ...)")
        width, height = image_size(image)
        objects = read_objects(folder / "Annotations" / f"{image.stem}.xml", classes, width, height)
        annotations.append(Annotation(image, width, height, *objects))
    return annotations


def check_classes(classes):
    """Raises InputError if the classes are one string, or if a name occurs twice."""
    if isinstance(classes, str) or len(set(classes)) < len(classes):
        raise InputError(f"CLASSES has to be a list of different names, not {classes!r}")


def find_image(folder, name):
    """The path of an image whose name is given with or without its extension, or None if there is no such file."""
    for extension in ("", *EXTENSIONS, *(extension.upper() for extension in EXTENSIONS)):
        path = folder / (name + extension)
        if path.is_file():
            return path
    return None


def read_objects(path, classes, width, height):
    """
    Reads the objects of one annotation file. The parts of an object (the heads, hands and feet of VOC 2012) are left
    out. A box that overhangs the image is cut off at its border.

    returns  boxes (n, 4), labels (n,), difficult (n,) as in Annotation
    raises   InputError for a missing or malformed file, for an unknown class, and for a box with its corners in the
             wrong order or wholly outside the image
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
        try:
            xmin, ymin, xmax, ymax = [float(element.findtext(f"bndbox/{corner}"))
                                      for corner in ("xmin", "ymin", "xmax", "ymax")]
            is_difficult = int(element.findtext("difficult") or 0)           # some files of VOC 2012 leave it out
        except (TypeError, ValueError):
            raise InputError(f"{path}: a {name} without four numbers in its bndbox, or with a difficult that is "
                             f"not 0 or 1") from None
        corners = f"{xmin:g} {ymin:g} {xmax:g} {ymax:g}"
        if any(math.isnan(corner) for corner in (xmin, ymin, xmax, ymax)) or xmin > xmax or ymin > ymax:
            raise InputError(f"{path}: a {name} whose box {corners} does not have xmin <= xmax and ymin <= ymax")
        left, top, right, bottom = max(xmin - 1, 0), max(ymin - 1, 0), min(xmax, width), min(ymax, height)
        if left >= right or top >= bottom:
            raise InputError(f"{path}: a {name} whose box {corners} lies outside the {width} x {height} image")
        boxes.append([left, top, right, bottom])
        labels.append(classes.index(name))
        difficult.append(is_difficult != 0)
    return np.array(boxes).reshape(-1, 4), np.array(labels, np.int64), np.array(difficult, bool)
