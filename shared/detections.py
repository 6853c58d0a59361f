"""
Writes detections and truths to files, so that other people's tools can check our figures.

    write_padilla  text for github.com/rafaelpadilla/Object-Detection-Metrics
    write_coco     JSON for pycocotools

Both take
    detections  (N, 7)  rows of image, label, score, left, top, right, bottom; continuous corners in pixels
    truths      (M, 7)  rows of image, label, left, top, right, bottom, ignore
    file_names          of the images; row[0] is an index into it
    classes             their names; row[1] is an index into it
Numbers are written in full, because rounding would make different scores equal. The files are written atomically.

Padilla's toolkit is run with absolute paths:

    python pascalvoc.py -gtformat xyrb -detformat xyrb -np -gt FOLDER/groundtruths -det FOLDER/detections

Its APs may differ from ours for these reasons:
- Its IOU counts pixels and includes the last one ("+ 1"). So corners are written as in VOC: left and top are 1 more
  than ours, and the IOUs are the same.
- It has no ignored truths. They are left out of the files, so a detection of one is a false positive there, and its AP
  is a little lower than ours.
- It orders equal scores by the alphabetical order of the files.
- Its 11-point AP misses a recall of exactly .3, .6 or .7 because of a rounding error.

pycocotools computes the same figures as shared.metrics.coco_ap. In the files an ignored truth is a crowd ("iscrowd"):
detections inside it are neither right nor wrong. Without ids of their own, a category's id is its label + 1 and an
image's id is its index. On the COCO data set the ids are COCO's own, so detections.json also fits COCO's
file of annotations.

    truths = COCO("FOLDER/truths.json")
    COCOeval(truths, truths.loadRes("FOLDER/detections.json"), "bbox")
"""
import json
from pathlib import Path

from shared.errors import InputError
from shared.metrics import area
from shared.paths import atomic_write


def write_padilla(folder, detections, truths, file_names, classes):
    """
    folder/groundtruths/NAME.txt  lines of: class left top right bottom
    folder/detections/NAME.txt    lines of: class score left top right bottom

    Every image has one file of each kind, which may be empty. Spaces in a class name become underscores.
    """
    names = [Path(name).stem for name in file_names]
    words = [name.replace(" ", "_") for name in classes]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two images are called {twice}, and the toolkit would take them for one: rename one of them")
    found, present = [[] for _ in names], [[] for _ in names]
    for image, label, score, left, top, right, bottom in detections.tolist():
        found[int(image)].append(f"{words[int(label)]} {score} {left + 1} {top + 1} {right} {bottom}\n")
    for image, label, left, top, right, bottom, ignore in truths.tolist():
        if not ignore:
            present[int(image)].append(f"{words[int(label)]} {left + 1} {top + 1} {right} {bottom}\n")

    for kind in "groundtruths", "detections":
        others = {path.stem for path in Path(folder, kind).glob("*.txt")} - set(names)
        if others:
            raise InputError(f"{Path(folder, kind)} holds text files of {len(others)} other images, which the toolkit "
                             "would count: empty it or choose another folder")
    for kind, lines in ("groundtruths", present), ("detections", found):
        for name, text in zip(names, lines):
            with atomic_write(Path(folder, kind, name + ".txt")) as path:
                path.write_text("".join(text), encoding="utf-8")


def write_coco(folder, detections, truths, file_names, sizes, classes, areas=None, image_ids=None,
               category_ids=None):
    """
    folder/truths.json      info, images, categories, annotations
    folder/detections.json  a list of image_id, category_id, score, bbox (left, top, width, height)

    sizes         (width, height) of each image in pixels
    areas         (M,) of the truths in pixels, as for coco_ap. None means the areas of the boxes
    image_ids     an id for each image
    category_ids  an id for each class

    pycocotools itself cannot load an empty list of detections.
    """
    areas = area(truths[:, 2:6]) if areas is None else areas
    image_ids = range(len(file_names)) if image_ids is None else image_ids
    category_ids = range(1, len(classes) + 1) if category_ids is None else category_ids
    images = [{"id": i, "file_name": str(name), "width": int(width), "height": int(height)}
              for i, name, (width, height) in zip(image_ids, file_names, sizes)]
    categories = [{"id": i, "name": name} for i, name in zip(category_ids, classes)]
    annotations = [{"id": i, "image_id": image_ids[int(image)], "category_id": category_ids[int(label)],
                    "area": float(pixels), "bbox": [left, top, right - left, bottom - top], "iscrowd": int(ignore),
                    "ignore": int(ignore)}
                   for i, ((image, label, left, top, right, bottom, ignore), pixels)
                   in enumerate(zip(truths.tolist(), areas), 1)]         # ids from 1: 0 means "no match" to pycocotools
    results = [{"image_id": image_ids[int(image)], "category_id": category_ids[int(label)], "score": score,
                "bbox": [left, top, right - left, bottom - top]}
               for image, label, score, left, top, right, bottom in detections.tolist()]
    everything = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
    for name, content in ("truths.json", everything), ("detections.json", results):
        with atomic_write(Path(folder, name)) as path:
            path.write_text(json.dumps(content), encoding="utf-8")
