"""Draws a tiny COCO: the folders, the JSON with all its fields and the eighty categories of the real one.

    python data_samples/draw_coco.py        writes data_samples/coco, 16 + 8 images, in 3 seconds

The scenes are those of draw_voc.py, of other numbers, with COCO's names: 20 of the 80 categories occur. An object's
outline is a polygon or several around what shows of it; its area is the pixels within, holes too, its box is tight. One
training image has a flock, annotated as COCO does where objects are too many to tell: one annotation, iscrowd 1, its
outline run lengths. One image has no objects. The ids of the images have gaps, as COCO's have.
"""
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_samples import draw_voc
from data_samples.drawings import draw, put, tight_box
from data_samples.scenes import background, meadow, seaside
from shared.coco import CATEGORIES
from shared.paths import SAMPLES

SEED = 2017
NUM_TRAIN, NUM_VAL = 16, 8
FIRST = 201                            # the number of the first of draw_voc.py's scenes: a block of 8 shows all classes
CROWD, EMPTY = 5, 11                   # images that are not among those scenes
OUT = SAMPLES / "coco"
JPEG_QUALITY = 84
OTHER_NAMES = {"aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle",
               "pottedplant": "potted plant", "sofa": "couch", "tvmonitor": "tv"}
SUPERCATEGORIES = {1: "person", 2: "vehicle", 10: "outdoor", 16: "animal", 27: "accessory", 34: "sports",
                   44: "kitchen", 52: "food", 62: "furniture", 72: "electronic", 78: "appliance", 84: "indoor"}
ABOUT = "drawn by data_samples/draw_coco.py"


def draw_image(number):
    """-> image (H, W, 3) uint8 RGB, a list of (name, mask (H, W) bool, is it a crowd)"""
    if number == CROWD:
        return flock(np.random.default_rng((SEED, number)))
    if number == EMPTY:
        return background(seaside, 500, 333, np.random.default_rng((SEED, number)))[0], []
    image, objects, owner = draw_voc.draw_image(FIRST + number - (number > CROWD) - (number > EMPTY))
    return image, [(OTHER_NAMES.get(item["name"], item["name"]), owner == n, False) for n, item in enumerate(objects)]


def flock(rng):
    """Thirty sheep on a meadow, the farthest first, and a dog and a person in front of them."""
    image, ground = background(meadow, 500, 375, rng)
    owner = np.zeros(image.shape[:2], int)                   # what shows at a pixel: 0 nothing, 1 the flock, 2, 3
    for depth in np.linspace(0.05, 0.5, 30):
        layer = draw("sheep", 26 + 40 * depth, rng, bool(rng.random() < 0.5))
        x, y = round(rng.uniform(20, 420)), round(ground + depth * (375 - ground)) - layer.shape[0]
        put(image, layer, x, y)
        draw_voc.cover(owner, layer[..., 3] >= 128, x, y, 1)
    for name, size, x, bottom, value in [("dog", 110, 300, 350, 2), ("person", 190, 90, 365, 3)]:
        layer = draw(name, size, rng)
        draw_voc.shadow(image, x, bottom - layer.shape[0], layer.shape)
        put(image, layer, x, bottom - layer.shape[0])
        draw_voc.cover(owner, layer[..., 3] >= 128, x, bottom - layer.shape[0], value)
    return image, [("sheep", owner == 1, True), ("dog", owner == 2, False), ("person", owner == 3, False)]


def polygons(mask):
    """(H, W) bool -> a list of [x1, y1, x2, y2, ...], the outlines of its parts; the number of pixels within"""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    within = cv2.drawContours(np.zeros(mask.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    simple = [cv2.approxPolyDP(outline, 1, True) for outline in outlines]    # one pixel off at most
    chosen = [few if len(few) >= 3 else all_of_it for few, all_of_it in zip(simple, outlines)]
    return [points.ravel().astype(float).tolist() for points in chosen if len(points) >= 3], float(within.sum())


def run_lengths(mask):
    """(H, W) bool -> counts and size: how many 0, then 1, then 0 ... follow each other, column by column"""
    values = mask.T.ravel()
    edges = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *edges, len(values)]).tolist()
    return {"counts": [0] * bool(values[0]) + counts, "size": list(mask.shape)}


def instances(numbers, ids):
    """Draws the images -> {file name: image}, and all that COCO's JSON says of them"""
    label_ids, images, pictures, annotations = {name: i for i, name in CATEGORIES.items()}, [], {}, []
    for number in tqdm(numbers, unit="image"):
        image, objects = draw_image(number)
        name = f"{ids[number]:012d}.jpg"
        pictures[name] = image
        images.append({"license": 1, "file_name": name, "coco_url": "", "height": image.shape[0],
                       "width": image.shape[1], "date_captured": "2017-01-01 00:00:00", "flickr_url": "",
                       "id": ids[number]})
        for n, (name, mask, crowd) in enumerate(objects):
            left, top, right, bottom = map(float, tight_box(mask))
            outline, area = (run_lengths(mask), float(mask.sum())) if crowd else polygons(mask)
            annotations.append({"segmentation": outline, "area": area, "iscrowd": int(crowd), "image_id": ids[number],
                                "bbox": [left, top, right - left, bottom - top], "category_id": label_ids[name],
                                "id": 100 * ids[number] + n})
    supercategories = [max(first for first in SUPERCATEGORIES if first <= i) for i in CATEGORIES]
    return pictures, {
        "info": {"description": ABOUT, "url": "", "version": "1.0", "year": 2017, "contributor": ABOUT,
                 "date_created": "2017/01/01"},
        "licenses": [{"url": "", "id": 1, "name": "as this repository"}],
        "images": images,
        "annotations": annotations,
        "categories": [{"supercategory": SUPERCATEGORIES[first], "id": i, "name": name}
                       for (i, name), first in zip(CATEGORIES.items(), supercategories)]}


def main():
    final = Path(OUT)
    if any(ABOUT not in path.read_text() for path in final.glob("annotations/*.json")):
        raise SystemExit(f"{final} holds annotations that this script did not write: set OUT to another folder")
    folder = final.with_name("coco.unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "annotations").mkdir(parents=True)
    total = NUM_TRAIN + NUM_VAL
    ids = np.sort(np.random.default_rng(SEED).choice(600_000, total + 1, replace=False)).tolist()
    for split, numbers in (("train2017", range(1, NUM_TRAIN + 1)), ("val2017", range(NUM_TRAIN + 1, total + 1))):
        pictures, content = instances(numbers, ids)
        (folder / split).mkdir()
        for name, image in pictures.items():
            cv2.imwrite(str(folder / split / name), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    if final.exists():
        shutil.rmtree(final)
    folder.rename(final)
    print(f"{total} images in {final}")


if __name__ == "__main__":
    main()
