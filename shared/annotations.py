"""Reads the lists TRAIN and TEST of a dataset.py, reports every problem of the data at once, and counts the objects."""
import os
from pathlib import Path

import numpy as np

from data_samples import draw_mini
from shared import coco, darknet_labels, voc
from shared.errors import InputError, one_line

MAX_SHOWN = 20     # lines of a message


def read_annotations(parts, classes, skip_unusable=False):
    """
    parts          a list; each entry is a folder and what to read there. Except for COCO this is relative to the folder
                   (folder, "train")                VOC's layout: the list train in ImageSets/Main
                   (folder, "path/instances.json")  COCO's layout: a folder of images, and the path of a JSON file
                   (folder, "train.txt")            YOLO's text labels: a list of images, as Darknet takes it
                   (folder, "images/train")         YOLO's text labels: a folder of images in this folder
                   (folder, "train.csv")            YOLO's text labels: images and text files in two columns
    classes        the class names, in the order of their labels
    skip_unusable  True: print the problems and leave these images out
    returns        a list of shared.voc.Annotation
    raises         InputError if an entry cannot be read, and, unless skip_unusable, if an image or its annotations
                   cannot be used. The message has one line for each of the first MAX_SHOWN problems. See read_split
                   in shared/voc.py, shared/coco.py and shared/darknet_labels.py
    """
    return read_lists([parts], classes, skip_unusable)[0]


def read_train_and_test(train, test, classes, skip_unusable=False):
    """The same for two lists, whose problems are reported together. Raises InputError if there is nothing to learn."""
    train, test = read_lists([train, test], classes, skip_unusable)
    if not any((~annotation.difficult).any() for annotation in train):
        raise InputError(f"TRAIN: none of its {len(train)} images has an object that is not difficult, so there is "
                         f"nothing to learn")
    return train, test


def read_lists(lists, classes, skip_unusable):
    """read_annotations for several lists of entries; returns a list of annotations for each."""
    results, unreadable, problems = [], [], []
    for parts in lists:
        if not parts:
            raise InputError("TRAIN and TEST need at least one entry each; read_annotations in shared/annotations.py "
                             "lists the layouts")
        results.append([])
        for part in parts:
            try:
                results[-1] += read_part(part, classes, problems)
            except InputError as error:
                unreadable.append(str(error))

    problems = unreadable + list(dict.fromkeys(problems))    # an image may be in TRAIN and in TEST
    message = [one_line(problem, 1000) for problem in problems[:MAX_SHOWN]]
    if len(problems) > MAX_SHOWN:
        message.append(f"... and {len(problems) - MAX_SHOWN} more")
    if problems != unreadable or len(problems) > 1:
        message.insert(0, f"The data have {len(problems)} problem{'s' if len(problems) > 1 else ''}:")
    if unreadable:
        raise InputError("\n".join(message))
    if problems and not skip_unusable:
        message.append("To go on without these images, set SKIP_UNUSABLE = True in dataset.py.")
        raise InputError("\n".join(message))
    if problems and os.environ.get("RANK", "0") == "0":
        print("\n".join([*message, "SKIP_UNUSABLE: going on without these images."]))
    if not all(results):
        raise InputError("TRAIN or TEST has no image that can be used")
    return results


def read_part(part, classes, problems):
    """Reads one entry. Appends one line to problems for each problem of an image, which is then left out."""
    if not isinstance(part, (tuple, list)) or not all(isinstance(path, (str, Path)) for path in part) or len(part) != 2:
        raise InputError(f"TRAIN and TEST are lists of pairs (folder, split); {one_line(repr(part))} is none")
    folder, split = part
    if folder == draw_mini.FOLDER:
        draw_mini.draw_mini()                                # it is not in the repository; drawn when it is first read
    suffix = Path(split).suffix
    if suffix == ".json":
        return coco.read_split(folder, split, classes, problems)
    has_voc_layout = os.path.isdir(Path(folder) / "ImageSets")
    if suffix in (".txt", ".csv") or (os.path.isdir(Path(folder) / split) and not has_voc_layout):
        return darknet_labels.read_split(folder, split, classes, problems)
    return voc.read_split(folder, split, classes, problems)


def describe(name, annotations, classes):
    """Prints how many images and objects there are, and for each class the number and the sizes of its objects."""
    labels = np.concatenate([a.labels for a in annotations])                                 # (N,)
    difficult = np.concatenate([a.difficult for a in annotations])                           # (N,)
    boxes = np.concatenate([a.boxes for a in annotations])                                   # (N, 4)
    images = np.concatenate([np.full((len(a.boxes), 2), (a.width, a.height)) for a in annotations])      # (N, 2)
    pixels = boxes[:, 2:] - boxes[:, :2]                                                     # (N, 2)  width, height
    empty = sum(len(a.boxes) == 0 for a in annotations)
    print(f"{name}: {len(annotations)} images, {empty} of them without objects; {len(boxes)} objects")
    print(f"{'':<20} {'objects':>8} {'difficult':>9} {'median width x height':>22} {'smallest, in pixels':>20}")
    for label in np.unique(labels):
        chosen = labels == label
        width, height = np.median(pixels[chosen] / images[chosen], 0)
        smallest = pixels[chosen][pixels[chosen].prod(1).argmin()]
        print(f"{classes[label]:<20} {chosen.sum():>8} {difficult[chosen].sum():>9} {width:>13.1%} x {height:>6.1%} "
              f"{smallest[0]:>11.4g} x {smallest[1]:>6.4g}")
    missing = [name for label, name in enumerate(classes) if label not in labels]
    if missing:
        print(f"no objects: {', '.join(missing)}")
    print()
