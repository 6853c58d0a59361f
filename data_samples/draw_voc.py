"""Draws a tiny Pascal VOC: the tree, the XML and the twenty classes of the real one, with drawings for photographs.

    python data_samples/draw_voc.py         writes data_samples/voc/VOCdevkit/VOC2007, 40 images, in 2 seconds

The photographs of VOC may not be redistributed; these images may. An image shows 1 to 5 objects on a scene, some
behind others, some cut by the border, a few too small or too hidden to ask for. The corners are those of what is
visible, in pixels counted from 1, the last one included, as in VOC [VOC2007 guidelines].

For a real, if easy, detection task set NUM_TRAIN, NUM_VAL, NUM_TEST = 4000, 504, 504 and OUT to a folder of yours:
3 minutes. Image n depends on SEED and n alone.
"""

import shutil
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_samples.drawings import draw, pose, put, tight_box
from data_samples.pen import BLACK, ellipse, paint
from data_samples.scenes import background, meadow, night, room, seaside, snow, street, studio
from shared.paths import SAMPLES

SEED = 2007
NUM_TRAIN, NUM_VAL, NUM_TEST = 16, 8, 16                # multiples of 8: eight images share a deck of all classes
OUT = SAMPLES / "voc"
SIZES = [(500, 375)] * 5 + [(375, 500)] * 2 + [(500, 333)] * 2 + [(333, 500), (500, 400), (480, 360)]   # width, height
JPEG_QUALITY = 88
DATABASE = "drawn by data_samples/draw_voc.py"

THEMES = [                                              # classes, where their deck is cut into hands, guests, scenes
    (["bottle", "cat", "chair", "diningtable", "dog", "pottedplant", "sofa", "tvmonitor"], [0, 1, 4, 8],
     ["person"], [room, room, room, studio]),
    (["bicycle", "bus", "car", "motorbike", "person", "train"], [0, 2, 6],
     ["person", "dog", "bird", "aeroplane"], [street, street, night, studio]),
    (["bird", "cow", "horse", "sheep"], [0, 1, 4],
     ["person", "dog", "bicycle", "car"], [meadow, meadow, snow, studio]),
    (["aeroplane", "boat"], [0, 2], ["bird"], [seaside])]
FLYING = ["aeroplane", "bird"]
LARGE = ["aeroplane", "bus", "diningtable", "sofa", "train"]
SMALL = ["bird", "bottle", "cat", "dog", "pottedplant"]

MOST_COVERED = [.1, .25, .6]                            # of an object by others; an image takes one of these
MOST_OVERLAP = .35                                      # IOU of two boxes
DIFFICULT_VISIBLE, DIFFICULT_SIDE = .55, .05            # share of the drawing that shows; longer side / the image's
REQUIRED_VISIBLE = .8                                   # share that shows of an object that the image must show
SMALLEST_SIDE = 8                                       # pixels
TRIES = 40


def deal(number):
    """Image number (from 1) -> (classes that it must show, classes that it may show, scene).

    Each block of 8 images shows all classes: their decks are shuffled and cut into 8 hands of 1 to 4.
    """
    block, place = divmod(number - 1, 8)
    rng = np.random.default_rng((SEED, 0, block))       # 0 is no image's number
    hands = []
    for names, cuts, guests, scenes in THEMES:
        deck = [str(name) for name in rng.permutation(names)]
        hands += [(deck[a:b], names + guests, scenes[rng.integers(len(scenes))]) for a, b in zip(cuts, cuts[1:])]
    return hands[rng.permutation(len(hands))[place]]


def draw_image(number):
    """-> image (H, W, 3) uint8 RGB, its objects, farthest first, owner (H, W): which object shows at a pixel, or -1.

    An object is a dict of name, pose, truncated, difficult and box: first column and row, last column and row + 1.
    """
    for attempt in range(20):
        result = compose(number, np.random.default_rng((SEED, number, attempt)))
        if result:
            return result
    raise RuntimeError(f"image {number}: its objects do not fit; make them smaller or allow more overlap")


def compose(number, rng):
    """One attempt at draw_image: None if a class that the image must show found no place."""
    names, others, scene = deal(number)
    width, height = SIZES[rng.integers(len(SIZES))]
    image, ground = background(scene, width, height, rng)
    owner = np.full((height, width), -1)                # which object shows at a pixel
    objects, most_covered = [], rng.choice(MOST_COVERED)
    for depth, name, required in plan(names, others, rng):
        for attempt in range(TRIES):
            size = .97 ** attempt * object_size(name, depth, len(names), min(width, height), rng)
            flip = bool(rng.random() < .5)
            layer = draw(name, size, rng, flip)
            x, y = position(name, layer.shape, width, height, ground, depth, rng)
            if x < 0 and flip or x + layer.shape[1] > width and not flip:       # the border cuts tails, not heads
                layer, flip = layer[:, ::-1], not flip
            trial, mask = owner.copy(), layer[..., 3] >= 128
            cover(trial, mask, x, y, len(objects))
            new = {"name": name, "pose": pose(name, flip), "required": required, "whole": int(mask.sum()),
                   "inside": int((trial == len(objects)).sum())}
            described = describe(objects + [new], trial)
            if acceptable(described, most_covered):
                objects, owner = described, trial
                if scene not in (studio, seaside) and name not in FLYING:
                    shadow(image, x, y, layer.shape)
                put(image, layer, x, y)
                break
        else:
            if required:
                return None
    return image, objects, owner


def plan(names, others, rng):
    """(depth, name, required) from the farthest, 0, to the nearest, 1; those that are not required may be far away."""
    extras = rng.choice(others, min(rng.integers(0, 3), 5 - len(names)))
    objects = [(rng.random(), name, True) for name in names]
    objects += [(0 if rng.random() < .35 else rng.random(), str(name), False) for name in extras]
    return sorted(objects)


def object_size(name, depth, count, side, rng):
    """The longer side of a drawing in pixels; side is the image's shorter one, shared by about count objects."""
    if depth == 0:
        return rng.uniform(.04, .09) * side
    share = rng.uniform(.3, 1.15 - .1 * count) * (.75 + .4 * depth)
    return side * share * (1.3 if name in LARGE else .8 if name in SMALL else 1)


def position(name, shape, width, height, ground, depth, rng):
    """First column and row of a drawing: on the ground, or in the air; a fifth of them may cross the border."""
    h, w = shape[:2]
    x, y = rng.uniform(0, max(width - w, 0)), ground + (.08 + .9 * depth) * (height - ground) - h
    if name in FLYING:
        y = rng.uniform(0, max(height - h, 0) * .5)
    chance = rng.random()
    if chance < .15:
        x = rng.choice([rng.uniform(-.5, -.1) * w, width - rng.uniform(.5, .9) * w])
    if .15 <= chance < .22 and name not in FLYING:
        y = height - rng.uniform(.6, .9) * h
    else:
        y = min(max(y, 2), height - h)
    return round(x), round(y)


def cover(owner, mask, x, y, index):
    """Gives the pixels under the (h, w) mask, its first pixel at (x, y), to an object."""
    top, left = max(y, 0), max(x, 0)
    mask = mask[top - y:max(owner.shape[0] - y, 0), left - x:max(owner.shape[1] - x, 0)]
    owner[top:top + mask.shape[0], left:left + mask.shape[1]][mask] = index


def describe(objects, owner):
    """The objects with the boxes of what shows of them, and the two flags."""
    height, width = owner.shape
    result = []
    for index, item in enumerate(objects):
        visible = owner == index
        left, top, right, bottom = box = tight_box(visible)
        shown = int(visible.sum())
        small = max(right - left, bottom - top) < DIFFICULT_SIDE * max(width, height)
        result.append({**item, "box": box, "covered": 1 - shown / max(item["inside"], 1),
                       "truncated": int(item["inside"] < item["whole"]),
                       "at_border": left == 0 or top == 0 or right == width or bottom == height,
                       "shown": shown / item["whole"],
                       "difficult": int(small or shown < DIFFICULT_VISIBLE * item["whole"])})
    return result


def acceptable(objects, most_covered):
    """Whether every object can be told and those that must be shown are easy enough."""
    for i, item in enumerate(objects):
        left, top, right, bottom = item["box"]
        if min(right - left, bottom - top) < SMALLEST_SIDE or item["covered"] > most_covered:
            return False
        if item["required"] and (item["difficult"] or item["shown"] < REQUIRED_VISIBLE):
            return False
        if item["truncated"] and not item["at_border"]:
            return False
        if any(iou(item["box"], other["box"]) > MOST_OVERLAP for other in objects[:i]):
            return False
    return True


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def shadow(image, x, y, shape):
    """A soft dark ellipse under the feet of a drawing at (x, y)."""
    h, w = shape[:2]
    ry = max(2, round(.05 * w))
    layer = paint([("fill", ellipse(w / 2, ry, w * .48, ry), BLACK, 0)], (1, 0, 0), w, 2 * ry, supersample=2)
    layer[..., 3] //= 4
    put(image, layer, x, y + h - ry - 1)


def annotation(name, shape, objects):
    """The XML of one image, as in VOC 2007: corners in pixels from 1, the last one included."""
    height, width, depth = shape
    lines = ["<annotation>", "\t<folder>VOC2007</folder>", f"\t<filename>{name}.jpg</filename>",
             f"\t<source>\n\t\t<database>{DATABASE}</database>\n\t\t<annotation>PASCAL VOC2007</annotation>",
             "\t\t<image>drawing</image>\n\t</source>", "\t<owner>\n\t\t<name>none: a drawing</name>\n\t</owner>",
             f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>{depth}</depth>",
             "\t</size>", "\t<segmented>0</segmented>"]
    for item in objects:
        left, top, right, bottom = item["box"]
        fields = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
        lines += ["\t<object>"] + [f"\t\t<{k}>{item[k]}</{k}>" for k in ("name", "pose", "truncated", "difficult")]
        lines += ["\t\t<bndbox>"] + [f"\t\t\t<{k}>{v}</{k}>" for k, v in fields.items()] + ["\t\t</bndbox>"]
        lines += ["\t</object>"]
    return "\n".join(lines + ["</annotation>"]) + "\n"


def main():
    final = Path(OUT) / "VOCdevkit/VOC2007"
    if any(DATABASE not in path.read_text() for path in final.glob("Annotations/*.xml")):
        raise SystemExit(f"{final} holds annotations that this script did not write: set OUT to another folder")
    folder = final.with_name("VOC2007.unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)

    first, splits = 1, {}
    for split, count in (("train", NUM_TRAIN), ("val", NUM_VAL), ("test", NUM_TEST)):
        splits[split] = range(first, first + count)
        first += count
    splits["trainval"] = range(1, 1 + NUM_TRAIN + NUM_VAL)
    for split, numbers in splits.items():
        (folder / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{n:06d}\n" for n in numbers))

    for number in tqdm(range(1, first), unit="image"):
        image, objects, _ = draw_image(number)
        name = f"{number:06d}"
        cv2.imwrite(str(folder / "JPEGImages" / f"{name}.jpg"), image[..., ::-1],
                    [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (folder / "Annotations" / f"{name}.xml").write_text(annotation(name, image.shape, objects))
    if final.exists():
        shutil.rmtree(final)
    folder.rename(final)
    print(f"{first - 1} images in {final}")


if __name__ == "__main__":
    main()
