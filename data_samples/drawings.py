"""
The twenty classes of Pascal VOC as small drawings. draw("sheep", 120, rng) is a sheep 120 pixels long.

Each class is one function of a pen and a random generator, in animals.py, person.py, vehicles.py or indoors.py. The
generator decides colours, proportions and parts, so that no two drawings are equal. Drawings that show a side face to
the right, or to the left if they are flipped.

    python data_samples/drawings.py         writes runs/drawings.png, a sheet with six drawings of each class
"""

import cv2
import numpy as np

from data_samples import animals, indoors, person, vehicles
from data_samples.pen import Pen, paint, turned
from shared.paths import RUNS

DRAWINGS = {
    "aeroplane": vehicles.aeroplane, "bicycle": vehicles.bicycle, "bird": animals.bird, "boat": vehicles.boat,
    "bottle": indoors.bottle, "bus": vehicles.bus, "car": vehicles.car, "cat": animals.cat, "chair": indoors.chair,
    "cow": animals.cow, "diningtable": indoors.diningtable, "dog": animals.dog, "horse": animals.horse,
    "motorbike": vehicles.motorbike, "person": person.person, "pottedplant": indoors.pottedplant,
    "sheep": animals.sheep, "sofa": indoors.sofa, "train": vehicles.train, "tvmonitor": indoors.tvmonitor}
FRONT_VIEWS = ["cat", "chair", "person", "sofa", "tvmonitor"]
NO_SIDES = ["bottle", "diningtable", "pottedplant"]
TILT = {"aeroplane": 14, "bird": 8, "boat": 5, "bicycle": 3, "motorbike": 3, "sheep": 2}  # degrees, to either side
OTHER_TILT = 1


def draw(name, size, rng, flip=False, functions=DRAWINGS):
    """A tightly cropped drawing of the class, (h, w, 4) uint8 RGBA. Its longer side has about `size` pixels."""
    pen = Pen()
    functions[name](pen, rng)
    tilt = rng.uniform(-1, 1) * TILT.get(name, OTHER_TILT)
    strokes = []
    for kind, points, colour, width in pen.strokes:
        points = turned(points, .5, .5, tilt)
        if flip:
            points = points * (-1, 1)
        strokes.append((kind, points, colour, width))
    solid = [(points, width / 2) for kind, points, _, width in strokes if kind in ("fill", "line")]
    low = np.min([points.min(0) - half for points, half in solid], 0)
    high = np.max([points.max(0) + half for points, half in solid], 0)
    scale = size / (high - low).max()
    width, height = np.ceil((high - low) * scale).astype(int) + 2
    layer = paint(strokes, (scale, 1 - low[0] * scale, 1 - low[1] * scale), width, height)
    left, top, right, bottom = tight_box(layer[..., 3] >= 128)
    return layer[top:bottom, left:right]


def pose(name, flip):
    """The pose that VOC's annotation files give to a drawing."""
    if name in NO_SIDES:
        return "Unspecified"
    if name in FRONT_VIEWS:
        return "Frontal"
    return "Left" if flip else "Right"


def tight_box(mask):
    """
    mask     (H, W) bool
    returns  first column, first row, last column + 1, last row + 1 of the True pixels; four zeros if there are none
    """
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if len(rows) == 0:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def sheet(names, variants=6, cell=150, seed=0):
    """A sheet with one row of variants for each name, (rows * cell, variants * cell, 3) uint8 RGB."""
    page = np.full((len(names) * cell, variants * cell, 3), (226, 228, 222), np.uint8)
    for row, name in enumerate(names):
        for column in range(variants):
            layer = draw(name, cell - 14, np.random.default_rng((seed, row, column)), flip=column % 2 == 1)
            y = row * cell + (cell - layer.shape[0]) // 2
            x = column * cell + (cell - layer.shape[1]) // 2
            put(page, layer, x, y)
    return page


def put(image, layer, x, y):
    """Draws the (h, w, 4) layer over the (H, W, 3) image, its first pixel at (x, y). What is outside is cut off."""
    top, left = max(y, 0), max(x, 0)
    layer = layer[top - y:max(image.shape[0] - y, 0), left - x:max(image.shape[1] - x, 0)]
    part = image[top:top + layer.shape[0], left:left + layer.shape[1]]
    alpha = layer[..., 3:].astype(np.float32) / 255
    part[:] = (part + (layer[..., :3].astype(np.float32) - part) * alpha).round()


def main():
    names = list(DRAWINGS)
    page = np.concatenate([sheet(names[:10]), sheet(names[10:], seed=1)], 1)
    RUNS.mkdir(exist_ok=True)
    cv2.imwrite(str(RUNS / "drawings.png"), page[..., ::-1])


if __name__ == "__main__":
    main()
