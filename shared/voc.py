"""
Reads data in the layout of Pascal VOC: one folder with JPEGImages/, Annotations/ and ImageSets/Main/.

VOC counts pixels from 1, and the last pixel belongs to the box. Here a box is (xmin - 1, ymin - 1, xmax, ymax) in
continuous lengths. A box from pixel 1 to pixel 1 is then one pixel wide, and the plain IOU equals the IOU of VOC's
development kit, which adds 1 to every width and height.
"""
import math
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from shared.errors import InputError, one_line
from shared.files import check_file, read_bytes, read_lines
from shared.images import EXTENSIONS, image_size

CLASSES = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
           "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"]

# In pixels. A thinner box is a slip of the annotator or the rounding error of a converter, and float32, in which boxes
# are fractions of the image, hardly tells its edges apart. COCO's coordinates have two decimals, so its thinnest boxes
# have .01 pixel.
THINNEST = 0.005


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


def read_split(folder, split, classes, problems=None):
    """
    folder    a path that holds JPEGImages, Annotations and ImageSets
    split     the name of a list in ImageSets/Main: train, val, trainval, test ...
    classes   the class names, in the order of their labels
    problems  a list. It gets one line for each problem of an image or of its annotation file, and the image is left
              out. None: InputError with these lines
    returns   a list of Annotation, in the order of the split's list
    raises    InputError, naming the file, if the split's list is missing or empty
    """
    check_classes(classes)
    folder = Path(folder)
    split_file = folder / "ImageSets" / "Main" / f"{split}.txt"
    names = [line.strip() for line in read_lines(split_file) if line.strip()]
    if not names:
        raise InputError(f"{split_file}: names no images")

    annotations, found = [], []
    for name in tqdm(names, desc=f"reading {split_file}", disable=len(names) < 1000):
        try:
            image = find_image(folder / "JPEGImages", name, split_file)
            width, height = image_size(image)
            objects = read_objects(folder / "Annotations" / f"{image.stem}.xml", classes, width, height)
            annotations.append(Annotation(image, width, height, *objects))
        except InputError as error:
            found += str(error).split("\n")
    if problems is not None:
        problems += found
    elif found:
        raise InputError("\n".join(found))
    return annotations


def check_classes(classes):
    """Raises InputError if the classes are not a list of different names."""
    if not isinstance(classes, (list, tuple)) or not classes or not all(isinstance(name, str) for name in classes) \
            or len(set(classes)) < len(classes):
        raise InputError(f"CLASSES has to be a list of different names, not {one_line(repr(classes))}")


def find_image(folder, name, split_file):
    """The path of an image that split_file names with or without its extension. Raises InputError if there is none."""
    for extension in ("", *EXTENSIONS, *(extension.upper() for extension in EXTENSIONS)):
        path = folder / (name + extension)
        if os.path.isfile(path):
            return path
    try:
        check_file(folder / f"{name}.jpg")
    except InputError as error:
        raise InputError(f"{split_file}: names {one_line(name)}, but {error} (nor .png ...)") from None


def read_objects(path, classes, width, height):
    """
    Reads the objects of one annotation file. The parts of an object (the heads, hands and feet of VOC 2012) are left
    out. A box that overhangs the image is cut off at its border.

    returns  boxes (n, 4), labels (n,), difficult (n,) as in Annotation
    raises   InputError, with one line for each problem, for a missing or malformed file, for an unknown class, and for
             a box with its corners in the wrong order, wholly outside the image, or thinner than THINNEST
    """
    content = read_bytes(path)
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:       # LookupError: an unknown encoding
        raise InputError(f"{path}: not well-formed XML ({one_line(error)})") from None
    objects = root.findall("object")
    if root.tag != "annotation" or not objects and root.find(".//bndbox") is not None:
        raise InputError(f"{path}: not VOC's XML, whose boxes are in <annotation><object><bndbox>; the outermost "
                         f"element is <{one_line(root.tag)}>")

    boxes, labels, difficult, found = [], [], [], []
    for element in objects:
        name = (element.findtext("name") or "").strip()
        if name not in classes:
            found.append(f"{path}: class '{one_line(name)}' is not one of CLASSES ({one_line(', '.join(classes))})")
            continue
        try:
            xmin, ymin, xmax, ymax = [float(element.findtext(f"bndbox/{corner}"))
                                      for corner in ("xmin", "ymin", "xmax", "ymax")]
            is_difficult = int(element.findtext("difficult") or 0)           # some files of VOC 2012 leave it out
        except (TypeError, ValueError):
            found.append(f"{path}: a {name} without four numbers in its bndbox, or with a difficult that is not 0 or 1")
            continue
        corners = f"{xmin:g} {ymin:g} {xmax:g} {ymax:g}"
        left, top, right, bottom = max(xmin - 1, 0), max(ymin - 1, 0), min(xmax, width), min(ymax, height)
        if any(math.isnan(corner) for corner in (xmin, ymin, xmax, ymax)) or xmin > xmax or ymin > ymax:
            found.append(f"{path}: a {name} whose box {corners} does not have xmin <= xmax and ymin <= ymax")
        elif left >= right or top >= bottom:
            found.append(f"{path}: a {name} whose box {corners} lies outside the {width} x {height} image")
        elif right - left < THINNEST or bottom - top < THINNEST:
            found.append(f"{path}: a {name} whose box {corners} has less than {THINNEST} pixels in the {width} x "
                         f"{height} image")
        else:
            boxes.append([left, top, right, bottom])
            labels.append(classes.index(name))
            difficult.append(is_difficult != 0)
    if found:
        raise InputError("\n".join(found))
    return np.array(boxes).reshape(-1, 4), np.array(labels, np.int64), np.array(difficult, bool)
