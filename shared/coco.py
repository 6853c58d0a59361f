"""
Reads data in the layout of COCO: a folder of images and a JSON file of instances (cocodataset.org, "Data format").

- A box is [left, top, width, height], continuous lengths in pixels.
- Category ids have gaps: the 80 classes have ids from 1 to 90. A label is the index of the category's name in the list
  of classes.
- A crowd is one annotation for many objects. It is read as a difficult object: the training leaves it out, and a
  detection of it counts neither as right nor as wrong (shared/metrics.py).
- The area of an object is the area of its outline. COCO divides the objects by it into small, medium and large ones.
"""
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from shared.errors import InputError, one_line
from shared.files import read_bytes
from shared.images import image_size
from shared.voc import THINNEST, Annotation, check_classes

CATEGORIES = {  # id: name, the same in COCO 2014 and 2017
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush"}
CLASSES = list(CATEGORIES.values())


def read_split(folder, instances, classes, problems=None):
    """
    folder     a path that holds the images
    instances  the JSON file
    classes    the class names, in the order of their labels
    problems   a list. It gets one line for each problem of an image or of an annotation, as check_image and read_object
               find them, and the image is left out. None: InputError with these lines
    returns    a list of Annotation, in the order of the file's images, including the images without objects. A box
               without area is skipped, and so is one that is thinner than shared.voc.THINNEST. A box that overhangs its
               image is cut off at the border
    raises     InputError, naming the file, if it is not JSON, not a file of COCO instances, or has no category for one
               of CLASSES
    """
    check_classes(classes)
    images, category_id_of, annotations = read_instances(instances)
    for name in classes:
        if name not in category_id_of:
            raise InputError(f"{instances}: has no category '{one_line(name)}', which is one of CLASSES")
    name_of = {category: name for name, category in category_id_of.items()}
    label_of = {category_id_of[name]: label for label, name in enumerate(classes)}

    found = []
    pictures, unusable = {}, set()                   # image id -> path, width, height; the ids of all other images
    for n, image in enumerate(tqdm(images, desc=f"reading {instances}", disable=len(images) < 1000), 1):
        number = id_of(image)
        try:
            if number in pictures:
                raise InputError("two images have the same id")
            pictures[number] = check_image(image, folder)
        except InputError as error:
            found.append(f"{instances}: {name_entry('image', image, n)}: {error}")
            unusable.add(number)

    rows_of = {number: [] for number in pictures}    # image id -> rows of left, top, right, bottom, label, crowd, area
    spoilt = set()                                   # the ids of images with annotations that have a problem
    for n, annotation in enumerate(annotations, 1):
        number = id_of(annotation, "image_id")
        if number is not None and number in unusable:
            continue
        try:
            row = read_object(annotation, pictures, label_of, name_of)
            if row is not None:
                rows_of[number].append(row)
        except InputError as error:
            found.append(f"{instances}: {name_entry('annotation', annotation, n)}: {error}")
            spoilt.add(number)
    if problems is not None:
        problems += found
    elif found:
        raise InputError("\n".join(found))

    result = []
    category_ids = [category_id_of[name] for name in classes]
    for number, (path, width, height) in pictures.items():
        if number not in unusable and number not in spoilt:
            rows = np.array(rows_of[number], np.float64).reshape(-1, 7)                      # (n, 7)
            boxes, labels, crowd, areas = rows[:, :4], rows[:, 4].astype(np.int64), rows[:, 5] > 0, rows[:, 6]
            result.append(Annotation(path, width, height, boxes, labels, crowd, areas, number, category_ids))
    return result


def read_instances(path):
    """
    returns  the list of images, {category name: category id}, the list of annotations
    raises   InputError as read_split
    """
    content = read_bytes(path)
    try:
        content = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not well-formed JSON ({one_line(error)})") from None
    for key in ("images", "categories", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"{path}: not a file of COCO instances ('{key}' is missing, or is not a list)")
    if not content["images"]:
        raise InputError(f"{path}: names no images")
    category_id_of = {}
    for n, category in enumerate(content["categories"], 1):
        if id_of(category) is None or not isinstance(category.get("name"), str):
            raise InputError(f"{path}: category number {n} of the list has no id or no name")
        category_id_of[category["name"]] = category["id"]
    return content["images"], category_id_of, content["annotations"]


def check_image(image, folder):
    """
    image    an entry of the file's list of images
    folder   the folder of the images
    returns  the path of the image, its width and height in pixels
    raises   InputError if the entry has no id or no file name, if there is no such file, if that cannot be read as an
             image, or if it has another width or height than the entry says
    """
    if id_of(image) is None or not isinstance(image.get("file_name"), str):
        raise InputError("has no id or no file_name")
    path = Path(folder) / image["file_name"]
    width, height = image_size(path)
    if (image.get("width"), image.get("height")) != (width, height):
        raise InputError(f"has width {shown(image.get('width'))} and height {shown(image.get('height'))}, but {path} "
                         f"has {width} x {height} pixels")
    return path, width, height


def read_object(annotation, pictures, label_of, name_of):
    """
    annotation  an entry of the file's list of annotations
    pictures    image id -> path, width, height
    label_of    category id -> label, for the categories in CLASSES
    name_of     category id -> name, for all categories
    returns     left, top, right, bottom, label, crowd, area; None for a box thinner than shared.voc.THINNEST
    raises      InputError if the image or the class is unknown, if bbox, iscrowd or area are not what they have to be,
                if the width or height is negative, or if the box is wholly outside its image
    """
    number, category = id_of(annotation, "image_id"), id_of(annotation, "category_id")
    if number is None or category is None:
        raise InputError("has no image_id or no category_id")
    if number not in pictures:
        raise InputError(f"belongs to image {shown(number)}, which is not in the file")
    if category not in label_of:
        raise InputError(f"class '{one_line(name_of.get(category, category))}' is not one of CLASSES "
                         f"({one_line(', '.join(name_of[known] for known in label_of))})")
    bbox = annotation.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(is_number(length) for length in bbox):
        numbers = " ".join(shown(length) for length in bbox[:4]) if isinstance(bbox, list) else shown(bbox)
        raise InputError(f"its bbox {numbers} is not four finite numbers")
    left, top, width, height = [float(length) for length in bbox]
    crowd, area = annotation.get("iscrowd", 0), annotation.get("area", width * height)
    box = f"{left:g} {top:g} {width:g} {height:g}"
    if width < 0 or height < 0:
        raise InputError(f"its bbox {box} has a negative width or height")
    if crowd not in (0, 1):
        raise InputError(f"its iscrowd {shown(crowd)} is not 0 or 1")
    if not is_number(area) or area < 0:
        raise InputError(f"its area {shown(area)} is not a number of pixels")
    if width == 0 or height == 0:
        return None
    _, image_width, image_height = pictures[number]
    right, bottom = min(left + width, image_width), min(top + height, image_height)
    left, top = max(left, 0.0), max(top, 0.0)
    if left >= right or top >= bottom:
        raise InputError(f"its bbox {box} lies outside the {image_width} x {image_height} image")
    if right - left < THINNEST or bottom - top < THINNEST:
        return None
    return left, top, right, bottom, label_of[category], crowd, area


def id_of(entry, key="id"):
    """The id of an entry, a text or a number, or None if it has none."""
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if is_number(value) or isinstance(value, str) else None


def name_entry(kind, entry, n):
    """What to call the n-th image or annotation of the file."""
    return f"{kind} number {n} of the list" if id_of(entry) is None else f"{kind} {one_line(entry['id'])}"


def is_number(value):
    """Whether a value of a JSON file is a finite number that a float can hold."""
    return isinstance(value, (int, float)) and abs(value) < 1e300


def shown(value):
    """A value of a JSON file in a message of one line. Of lists and objects only what they are."""
    return one_line(repr(value)) if isinstance(value, (str, int, float, type(None))) else f"({type(value).__name__})"
