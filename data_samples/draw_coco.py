"""
Draws a small sample in the layout of COCO: the same folders, JSON fields and eighty categories.

    python data_samples/draw_coco.py        writes data_samples/coco, 16 + 8 images, in 3 seconds

The images are drawn by draw_voc.py and have other numbers than the images of the VOC sample. Their objects have COCO's
names; 20 of the 80 categories occur.

- The outline of an object is one polygon or several around its visible part. Its area is the count of the pixels within
  the outline, holes included. Its box is the tight box of its visible pixels.
- One training image has a flock of sheep. COCO gives one annotation to objects that are too many to be annotated one by
  one: iscrowd is 1, and the outline is a list of run lengths.
- One training image has no objects.
- The ids of the images have gaps, as in COCO.
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
FIRST = 201                            # number of the first image from draw_voc.py; it begins a block of 8, which shows
                                       # all classes
CROWD, EMPTY = 5, 11                   # numbers of the two images that are not from draw_voc.py
OUT = SAMPLES / "coco"
JPEG_QUALITY = 84
OTHER_NAMES = {"aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle",
               "pottedplant": "potted plant", "sofa": "couch", "tvmonitor": "tv"}
SUPERCATEGORIES = {                    # category id from which on it holds: name
    1: "person", 2: "vehicle", 10: "outdoor", 16: "animal", 27: "accessory", 34: "sports", 44: "kitchen", 52: "food",
    62: "furniture", 72: "electronic", 78: "appliance", 84: "indoor"}
ABOUT = "drawn by data_samples/draw_coco.py"


def draw_image(number):
    """
    number   of the image, from 1
    returns  image (H, W, 3) uint8 RGB, and a list of (name, mask (H, W) bool, whether it is a crowd)
    """
    rng = np.random.default_rng((SEED, number))
    if number == CROWD:
        return flock(rng)
    if number == EMPTY:
        image, _ = background(seaside, 500, 333, rng)
        return image, []
    voc_number = FIRST + number
    for other in (CROWD, EMPTY):
        if number > other:
            voc_number -= 1
    image, objects, owner = draw_voc.draw_image(voc_number)
    annotated = []
    for index, item in enumerate(objects):
        name = OTHER_NAMES.get(item["name"], item["name"])
        annotated.append((name, owner == index, False))
    return image, annotated


def flock(rng):
    """Thirty sheep on a meadow, drawn from the farthest to the nearest, and a dog and a person in front of them."""
    image, ground = background(meadow, 500, 375, rng)
    owner = np.zeros(image.shape[:2], int)                   # visible: 1 the flock, 2 the dog, 3 the person, or 0
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
    """
    mask     (H, W) bool
    returns  a list of polygons [x1, y1, x2, y2, ...], the outlines of the parts of the mask; the count of the pixels
             within them
    """
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    within = cv2.drawContours(np.zeros(mask.shape, np.uint8), outlines, -1, 1, cv2.FILLED)
    result = []
    for outline in outlines:                                                 # (points, 1, 2)
        simple = cv2.approxPolyDP(outline, 1, True)                          # fewer points, at most one pixel off
        if len(simple) >= 3:
            result.append(simple.ravel().astype(float).tolist())
        elif len(outline) >= 3:                                              # a thin part, simplified to a line
            result.append(outline.ravel().astype(float).tolist())
    return result, float(within.sum())


def run_lengths(mask):
    """
    mask     (H, W) bool
    returns  COCO's dict of counts and size. The counts go through the mask column by column: the number of pixels
             that are 0, then of those that are 1, then of those that are 0 again, and so on
    """
    values = mask.T.ravel()                                                  # (W H,)
    edges = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *edges, len(values)]).tolist()
    if values[0]:                                                            # the first count is always of zeros
        counts = [0, *counts]
    return {"counts": counts, "size": list(mask.shape)}


def instances(numbers, ids):
    """
    numbers  of the images to draw
    ids      a list: the image with number n has the id ids[n]
    returns  {file name: image}, and the content of COCO's JSON file
    """
    category_ids = {name: i for i, name in CATEGORIES.items()}
    images, pictures, annotations = [], {}, []
    for number in tqdm(numbers, unit="image"):
        image, objects = draw_image(number)
        name = f"{ids[number]:012d}.jpg"
        pictures[name] = image
        images.append({"license": 1, "file_name": name, "coco_url": "", "height": image.shape[0],
                       "width": image.shape[1], "date_captured": "2017-01-01 00:00:00", "flickr_url": "",
                       "id": ids[number]})
        for n, (name, mask, crowd) in enumerate(objects):
            left, top, right, bottom = map(float, tight_box(mask))
            if crowd:
                outline, area = run_lengths(mask), float(mask.sum())
            else:
                outline, area = polygons(mask)
            annotations.append({"segmentation": outline, "area": area, "iscrowd": int(crowd), "image_id": ids[number],
                                "bbox": [left, top, right - left, bottom - top], "category_id": category_ids[name],
                                "id": 100 * ids[number] + n})
    categories = []
    for i, name in CATEGORIES.items():
        first = max(first for first in SUPERCATEGORIES if first <= i)
        categories.append({"supercategory": SUPERCATEGORIES[first], "id": i, "name": name})
    return pictures, {
        "info": {"description": ABOUT, "url": "", "version": "1.0", "year": 2017, "contributor": ABOUT,
                 "date_created": "2017/01/01"},
        "licenses": [{"url": "", "id": 1, "name": "as this repository"}],
        "images": images,
        "annotations": annotations,
        "categories": categories}


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
