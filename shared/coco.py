"""
Reads data in the layout of COCO: a folder of images and a JSON file of instances (cocodataset.org, "Data format").

A box is [left, top, width, height], continuous lengths in pixels. Category ids have gaps, 1 to 90 for 80 classes: a
label is the position of the category's name in the list of classes. A crowd, many objects in one annotation, is read
as difficult: it is not trained on, and finding it earns and costs nothing (shared/metrics.py). The area is that of the
outline, by which COCO tells small objects from large ones.
"""
import json
from pathlib import Path

import numpy as np

from shared.errors import InputError
from shared.voc import Annotation

CATEGORIES = {  # of COCO 2014 and 2017: id and name
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
    returns    a list of Annotation, in the order of the file's images; those without objects too. Boxes of no area are
               skipped, what overhangs the image is cut off
    raises     InputError, naming the file: no JSON or not this kind of it, a missing image, two of one id, a class that
               the file or CLASSES does not have, an annotation of no image, a box that is inside out or wholly outside
               its image
    """
    if isinstance(classes, str) or len(set(classes)) < len(classes):
        raise InputError(f"CLASSES has to be a list of different names, not {classes!r}")
    folder = Path(folder)
    try:
        content = json.loads(Path(instances).read_bytes())
    except OSError:
        raise InputError(f"{instances}: no such file") from None
    except ValueError as error:
        raise InputError(f"{instances}: not well-formed JSON ({error})") from None
    try:
        images = {image["id"]: (image["file_name"], image["width"], image["height"]) for image in content["images"]}
        ids = {category["name"]: category["id"] for category in content["categories"]}
        annotations, count = content["annotations"], len(content["images"])
    except (TypeError, KeyError) as error:
        raise InputError(f"{instances}: not a file of COCO instances ({error} is missing)") from None
    if not images or len(images) < count:
        raise InputError(f"{instances}: " + ("two images have the same id" if images else "names no images"))
    for name in classes:
        if name not in ids:
            raise InputError(f"{instances}: has no category '{name}', which is one of CLASSES")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for name, _, _ in images.values():
        if name not in there and not (folder / name).is_file():              # the latter: in a folder below
            raise InputError(f"{instances}: names {name}, but there is no {folder / name}")

    names = {number: name for name, number in ids.items()}
    labels = {ids[name]: label for label, name in enumerate(classes)}
    objects = {number: [] for number in images}                          # rows of box, label, crowd, area
    for annotation in annotations:
        try:
            where = f"{instances}: annotation {annotation.get('id')}"
            image, category = annotation["image_id"], annotation["category_id"]
            left, top, w, h = map(float, annotation["bbox"])
        except (AttributeError, TypeError, ValueError, KeyError):
            raise InputError(f"{instances}: an annotation without image_id, category_id or four numbers as bbox: "
                             f"{str(annotation)[:200]}") from None
        if image not in images:
            raise InputError(f"{where}: of image {image}, which is not in the file")
        if category not in labels:
            raise InputError(f"{where}: class '{names.get(category, category)}' is not one of CLASSES "
                             f"({', '.join(classes)})")
        if w < 0 or h < 0:
            raise InputError(f"{where}: its box is inside out: {left:g} {top:g}, {w:g} wide and {h:g} high")
        if w == 0 or h == 0:
            continue
        _, width, height = images[image]
        box = [max(left, 0.0), max(top, 0.0), min(left + w, width), min(top + h, height)]
        if not (box[0] < box[2] and box[1] < box[3]):
            raise InputError(f"{where}: its box {left:g} {top:g} {left + w:g} {top + h:g} lies outside "
                             f"the {width} x {height} image")
        objects[image].append((*box, labels[category], annotation.get("iscrowd", 0), annotation.get("area", w * h)))

    result, category_ids = [], [ids[name] for name in classes]
    for number, (name, width, height) in images.items():
        rows = np.array(objects[number], np.float64).reshape(-1, 7)
        result.append(Annotation(folder / name, width, height, rows[:, :4], rows[:, 4].astype(np.int64), rows[:, 5] > 0,
                                 rows[:, 6], number, category_ids))
    return result
