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
import math
from pathlib import Path

import numpy as np

from shared.errors import InputError
from shared.voc import Annotation, check_classes

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


def read_split(folder, instances, classes):
    """
    folder     a path that holds the images
    instances  the JSON file
    classes    the class names, in the order of their labels
    returns    a list of Annotation, in the order of the file's images, including the images without objects. Boxes
               without area are skipped. A box that overhangs its image is cut off at the border
    raises     InputError, naming the file, if
               - it is not JSON, or not a file of COCO instances
               - two of its images have the same id, or an image is missing
               - one of CLASSES is not in the file, or the class of an annotation is not one of CLASSES
               - an annotation belongs to no image
               - a box has a negative width or height, or is wholly outside its image
    """
    check_classes(classes)
    folder = Path(folder)
    images, category_id_of, annotations = read_instances(instances)
    for name in classes:
        if name not in category_id_of:
            raise InputError(f"{instances}: has no category '{name}', which is one of CLASSES")
    check_images_exist(folder, instances, images)

    category_name_of = {category: name for name, category in category_id_of.items()}
    label_of = {category_id_of[name]: label for label, name in enumerate(classes)}
    rows_of = {number: [] for number in images}      # image id -> rows of left, top, right, bottom, label, crowd, area
    for annotation in annotations:
        try:
            where = f"{instances}: annotation {annotation.get('id')}"
            image, category = annotation["image_id"], annotation["category_id"]
            left, top, width, height = [float(length) for length in annotation["bbox"]]
        except (AttributeError, TypeError, ValueError, KeyError):
            raise InputError(f"{instances}: an annotation without image_id, category_id or four numbers as bbox: "
                             f"{str(annotation)[:200]}") from None
        if image not in images:
            raise InputError(f"{where}: belongs to image {image}, which is not in the file")
        if category not in label_of:
            raise InputError(f"{where}: class '{category_name_of.get(category, category)}' is not one of CLASSES "
                             f"({', '.join(classes)})")
        box = f"{left:g} {top:g} {width:g} {height:g}"
        if not all(math.isfinite(length) for length in (left, top, width, height)):
            raise InputError(f"{where}: its bbox {box} is not four finite numbers")
        if width < 0 or height < 0:
            raise InputError(f"{where}: its bbox {box} has a negative width or height")
        if width == 0 or height == 0:
            continue
        _, image_width, image_height = images[image]
        right, bottom = min(left + width, image_width), min(top + height, image_height)
        left, top = max(left, 0.0), max(top, 0.0)
        if left >= right or top >= bottom:
            raise InputError(f"{where}: its bbox {box} lies outside the {image_width} x {image_height} image")
        crowd, area = annotation.get("iscrowd", 0), annotation.get("area", width * height)
        rows_of[image].append((left, top, right, bottom, label_of[category], crowd, area))

    result = []
    category_ids = [category_id_of[name] for name in classes]
    for number, (name, image_width, image_height) in images.items():
        rows = np.array(rows_of[number], np.float64).reshape(-1, 7)                              # (n, 7)
        boxes, labels, crowd, areas = rows[:, :4], rows[:, 4].astype(np.int64), rows[:, 5] > 0, rows[:, 6]
        result.append(Annotation(folder / name, image_width, image_height, boxes, labels, crowd, areas,
                                 number, category_ids))
    return result


def read_instances(path):
    """
    returns  {image id: (file name, width, height)}, {category name: category id}, the list of annotations (dicts)
    raises   InputError as read_split
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError:
        raise InputError(f"{path}: no such file") from None
    except ValueError as error:
        raise InputError(f"{path}: not well-formed JSON ({error})") from None
    try:
        images = {image["id"]: (image["file_name"], image["width"], image["height"]) for image in content["images"]}
        categories = {category["name"]: category["id"] for category in content["categories"]}
        annotations = content["annotations"]
    except KeyError as key:
        raise InputError(f"{path}: not a file of COCO instances ({key} is missing)") from None
    except TypeError as error:
        raise InputError(f"{path}: not a file of COCO instances ({error})") from None
    if not images:
        raise InputError(f"{path}: names no images")
    if len(images) < len(content["images"]):
        raise InputError(f"{path}: two images have the same id")
    return images, categories, annotations


def check_images_exist(folder, instances, images):
    """Raises InputError if an image of the file is not in the folder."""
    present = set()                                  # listing the folder once is faster than asking for each image
    if folder.is_dir():
        present = {path.name for path in folder.iterdir()}
    for name, _, _ in images.values():
        if name not in present and not (folder / name).is_file():            # a name may contain a subfolder
            raise InputError(f"{instances}: names {name}, but there is no {folder / name}")
