"""
Detections and truths as files, so that other people's tools can check our figures.

    write_padilla  text for github.com/rafaelpadilla/Object-Detection-Metrics. Its IOU counts pixels, the last one
                   included ("+ 1"), so corners are written as VOC has them: left and top are 1 more than ours. It
                   knows no ignored truths. They are left out, so a detection of one is a false positive there, and
                   its AP a little lower than ours. Equal scores follow the alphabetical order of the files. Its
                   11 points miss a recall of exactly .3, .6 or .7 by a rounding error.

                       python pascalvoc.py -gtformat xyrb -detformat xyrb -np
                                           -gt FOLDER/groundtruths -det FOLDER/detections      (absolute paths)

    write_coco     JSON for pycocotools. Its figures are those of shared.metrics.coco_ap. Without ids a category is a
                   label + 1, an image's id its index. Ignored truths are crowds ("iscrowd"): whatever lies in one
                   costs nothing. On COCO itself, with its ids, detections.json is what its own truths.json goes with.

                       truths = COCO("FOLDER/truths.json")
                       COCOeval(truths, truths.loadRes("FOLDER/detections.json"), "bbox")

Both take
    detections  (N, 7)  rows of image, label, score, left, top, right, bottom; continuous corners in pixels
    truths      (M, 7)  rows of image, label, left, top, right, bottom, ignore
    file_names          the images': row[0] is an index into it
    classes             their names: row[1] is an index into it
Numbers are written in full, since rounded scores would tie. A file is there whole or not at all.
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

    One of each for every image, empty ones too. Spaces in a class name become underscores.
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

    sizes  (width, height) of each image in pixels; areas (M,) of the truths as for coco_ap; an id for each image and
           each class
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
                   in enumerate(zip(truths.tolist(), areas), 1)]         # from 1: to pycocotools, 0 is "no match"
    results = [{"image_id": image_ids[int(image)], "category_id": category_ids[int(label)], "score": score,
                "bbox": [left, top, right - left, bottom - top]}
               for image, label, score, left, top, right, bottom in detections.tolist()]
    everything = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
    for name, content in ("truths.json", everything), ("detections.json", results):
        with atomic_write(Path(folder, name)) as path:
            path.write_text(json.dumps(content), encoding="utf-8")
