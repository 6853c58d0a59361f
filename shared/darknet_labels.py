"""
Reads data with YOLO's text labels, Darknet's own format. Each image has a text file, with one line for each object:

    label  centre x  centre y  width  height        11 0.344 0.611 0.416 0.262

The label is the index into the list of classes. The four lengths are fractions of the width and height of the image.

Source  [darknet] src/data.c (fill_truth_detection, read_boxes) of pjreddie/darknet at f6afaab. There, too, an empty
        file means an image without objects, and a missing one ends the program. Darknet replaces the first "images" in
        the path, even inside a longer word, and does not check the numbers.
"""
import math
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from shared.errors import InputError, one_line
from shared.files import check_file, read_lines
from shared.images import EXTENSIONS, image_size, list_images
from shared.voc import THINNEST, Annotation, check_classes


def read_split(folder, split, classes, problems=None):
    """
    folder    a path
    split     one of the following, each relative to the folder:
              - a list of images, a .txt file with one path in each line: absolute, or relative to the folder
              - a folder of images
              - a .csv file, whose lines are the name of an image in the folder images/ and the name of its text file in
                the folder labels/. A first line that names no image is taken for a header
    classes   the class names, in the order of their labels
    problems  a list. It gets one line for each problem of an image or of its text file, and the image is left out.
              None: InputError with these lines
    returns   a list of Annotation, in the order of the list, or of the names in the folder. No object is difficult
    raises    InputError, naming the file, if the list is missing or empty
    """
    check_classes(classes)
    folder, path = Path(folder), Path(folder) / split
    if path.suffix == ".csv":
        pairs = []
        for n, line in enumerate(read_lines(path), 1):
            image, _, labels = [part.strip(' "') for part in line.partition(",")]
            if Path(image).suffix.lower() in EXTENSIONS and labels.endswith(".txt"):
                pairs.append((folder / "images" / image, folder / "labels" / labels))
            elif line.strip() and n > 1:
                raise InputError(f"{path}, line {n}: {one_line(line, 80)!r} does not name an image and a .txt file")
    elif path.suffix == ".txt":
        images = [folder / line.strip() for line in read_lines(path) if line.strip()]
        pairs = [(image, label_file(image)) for image in images]
    else:
        pairs = [(image, label_file(image)) for image in list_images(path)]
    if not pairs:
        raise InputError(f"{path}: names no images")

    annotations, found = [], []
    for image, labels in tqdm(pairs, desc=f"reading {path}", disable=len(pairs) < 1000):
        try:
            check_file(image)
        except InputError as error:
            found.append(f"{path}: names {error}")
            continue
        try:
            width, height = image_size(image)
            boxes, labels = read_objects(labels, classes, width, height)
            annotations.append(Annotation(image, width, height, boxes, labels, np.zeros(len(labels), bool)))
        except InputError as error:
            found += str(error).split("\n")
    if problems is not None:
        problems += found
    elif found:
        raise InputError("\n".join(found))
    return annotations


def label_file(image):
    """
    The text file of an image. Where the path has a folder images or JPEGImages, the last of them is replaced by labels.
    If there is no such file, the text file is the one beside the image.
    """
    beside, parts = image.parent / f"{image.stem}.txt", image.parts
    for n in reversed(range(len(parts) - 1)):
        if parts[n] in ("images", "JPEGImages"):
            parallel = Path(*parts[:n], "labels", *parts[n + 1:-1]) / beside.name
            return beside if os.path.isfile(beside) and not os.path.isfile(parallel) else parallel
    return beside


def read_objects(path, classes, width, height):
    """
    Reads one text file, for an image of width x height pixels. A box that overhangs the image is cut off at its border.

    returns  boxes (n, 4), labels (n,) as in Annotation
    raises   InputError, with one line for each problem, for a missing file, a line that is not five numbers, a label
             that is no index into the classes, and for a box without width or height, wholly outside the image, or
             thinner than shared.voc.THINNEST
    """
    boxes, labels, found = [], [], []
    for n, line in enumerate(read_lines(path), 1):
        where = f"{path}, line {n}: {one_line(line.strip(), 80)!r}"
        if not line.strip():
            continue
        try:
            label, x, y, w, h = line.split()
            label, x, y, w, h = int(label), float(x), float(y), float(w), float(h)
        except ValueError:
            found.append(f"{where} is not a label, centre x, centre y, width and height")
            continue
        left, top, right, bottom = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        left, top = max(left, 0) * width, max(top, 0) * height
        right, bottom = min(right, 1) * width, min(bottom, 1) * height
        if not 0 <= label < len(classes):
            found.append(f"{where}: the label is none of 0 to {len(classes) - 1}, the indices of CLASSES")
        elif not all(math.isfinite(length) for length in (x, y, w, h)):
            found.append(f"{where}: the lengths are not finite")
        elif w <= 0 or h <= 0:
            found.append(f"{where}: the width and the height have to be above 0")
        elif left >= right or top >= bottom:
            found.append(f"{where}: the box lies outside the image; its lengths have to be fractions of the image")
        elif right - left < THINNEST or bottom - top < THINNEST:
            found.append(f"{where}: the box has less than {THINNEST} pixels in the {width} x {height} image")
        else:
            boxes.append([left, top, right, bottom])
            labels.append(label)
    if found:
        raise InputError("\n".join(found))
    return np.array(boxes).reshape(-1, 4), np.array(labels, np.int64)
