"""
Draws a small sample in the layout of Pascal VOC: the same folders, XML fields and twenty classes, with drawings instead
of photographs.

    python data_samples/draw_voc.py         writes data_samples/voc/VOCdevkit/VOC2007, 40 images, in 2 seconds

The photographs of VOC may not be redistributed; these images may. An image shows 1 to 5 objects on a scene. Some are
behind others, and some are cut off by the border. A few are so small or so well hidden that they are marked difficult.
As in VOC, a box encloses what is visible of its object, and pixels are counted from 1, the last one included [VOC2007
guidelines].

For a larger detection task, still an easy one, set NUM_TRAIN, NUM_VAL, NUM_TEST = 4000, 504, 504 and set OUT to a
folder of yours; it takes 3 minutes. Image n depends on SEED and n alone.
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
NUM_TRAIN, NUM_VAL, NUM_TEST = 16, 8, 16                # multiples of 8: each 8 images show all classes
OUT = SAMPLES / "voc"
SIZES = [(500, 375)] * 5 + [(375, 500)] * 2 + [(500, 333)] * 2 + [(333, 500), (500, 400), (480, 360)]   # width, height
JPEG_QUALITY = 88
DATABASE = "drawn by data_samples/draw_voc.py"

# A theme is a list of classes; the places at which this list, shuffled, is cut into the classes of single images; the
# other classes that may appear; and the scenes. Cuts 0, 1, 4, 8 make three images of 1, 3 and 4 classes.
THEMES = [
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

MOST_COVERED = [.1, .25, .6]                            # share of an object that others may cover; each image uses one
MOST_OVERLAP = .35                                      # the highest IOU of two boxes
DIFFICULT_VISIBLE = .55                                 # difficult: less than this share of the object is visible,
DIFFICULT_SIDE = .05                                    # or its longer side is less than this share of the image's
REQUIRED_VISIBLE = .8                                   # visible share of an object that the image must show
SMALLEST_SIDE = 8                                       # pixels, of a box
PLACES_TRIED = 40                                       # for each object
IMAGES_TRIED = 20


def deal(number, seed):
    """
    Chooses what an image shows. Each block of 8 images shows all classes: the classes of each theme are shuffled and
    divided among the images of the block, 1 to 4 for each.

    number   of the image, from 1
    returns  the classes that it must show, the classes that it may show, the scene
    """
    block, place = divmod(number - 1, 8)
    rng = np.random.default_rng((seed, 0, block))       # no image has the number 0
    images = []
    for names, cuts, guests, scenes in THEMES:
        shuffled = [str(name) for name in rng.permutation(names)]
        for first, last in zip(cuts, cuts[1:]):
            images.append((shuffled[first:last], names + guests, scenes[rng.integers(len(scenes))]))
    return images[rng.permutation(len(images))[place]]


def draw_image(number, seed=SEED, sizes=SIZES):
    """
    number   of the image, from 1
    sizes    a list of (width, height) in pixels, of which the image gets one
    returns  image (H, W, 3) uint8 RGB
             objects, a list of dicts, the farthest first: name, pose, truncated, difficult and box, which is the first
             column, the first row, the last column + 1 and the last row + 1
             owner (H, W), the index of the object that is visible at a pixel, or -1
    """
    for attempt in range(IMAGES_TRIED):
        result = compose(number, seed, sizes, np.random.default_rng((seed, number, attempt)))
        if result:
            return result
    raise RuntimeError(f"image {number}: its objects do not fit; make them smaller or allow more overlap")


def compose(number, seed, sizes, rng):
    """One attempt at draw_image. Returns None if there is no place for a class that the image must show."""
    names, others, scene = deal(number, seed)
    width, height = sizes[rng.integers(len(sizes))]
    image, ground = background(scene, width, height, rng)
    owner = np.full((height, width), -1)                # index of the object that is visible at a pixel, or -1
    objects, most_covered = [], rng.choice(MOST_COVERED)
    for depth, name, required in plan(names, others, rng):
        for attempt in range(PLACES_TRIED):
            size = .97 ** attempt * object_size(name, depth, len(names), min(width, height), rng)
            flip = bool(rng.random() < .5)
            layer = draw(name, size, rng, flip)
            x, y = position(name, layer.shape, width, height, ground, depth, rng)
            cut_on_the_left, cut_on_the_right = x < 0, x + layer.shape[1] > width
            if cut_on_the_left and flip or cut_on_the_right and not flip:       # let the border cut tails, not heads
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
    """
    The objects of an image as (depth, name, required), from the farthest, with depth 0, to the nearest, with depth 1.
    Up to two objects that are not required are added. These may be at depth 0, where they are very small.
    """
    extras = rng.choice(others, min(rng.integers(0, 3), 5 - len(names)))
    objects = [(rng.random(), name, True) for name in names]
    for name in extras:
        depth = 0 if rng.random() < .35 else rng.random()
        objects.append((depth, str(name), False))
    return sorted(objects)


def object_size(name, depth, count, side, rng):
    """The longer side of a drawing in pixels. `side` is the shorter side of the image, which has `count` objects."""
    if depth == 0:
        return rng.uniform(.04, .09) * side
    share = rng.uniform(.3, 1.15 - .1 * count) * (.75 + .4 * depth)
    if name in LARGE:
        return side * share * 1.3
    if name in SMALL:
        return side * share * .8
    return side * share


def position(name, shape, width, height, ground, depth, rng):
    """The first column and row of a drawing, on the ground or in the air. About a fifth cross the border."""
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
    """Sets owner to the index of an object where its (h, w) mask, with its first pixel at (x, y), is True."""
    top, left = max(y, 0), max(x, 0)
    mask = mask[top - y:max(owner.shape[0] - y, 0), left - x:max(owner.shape[1] - x, 0)]
    owner[top:top + mask.shape[0], left:left + mask.shape[1]][mask] = index


def describe(objects, owner):
    """Adds to each object the box of its visible pixels, what acceptable() checks, and truncated and difficult."""
    height, width = owner.shape
    result = []
    for index, item in enumerate(objects):
        visible = owner == index
        left, top, right, bottom = tight_box(visible)
        shown = int(visible.sum())                      # of its item["whole"] pixels item["inside"] are in the image
        small = max(right - left, bottom - top) < DIFFICULT_SIDE * max(width, height)
        hidden = shown < DIFFICULT_VISIBLE * item["whole"]
        result.append({**item, "box": (left, top, right, bottom),
                       "covered": 1 - shown / max(item["inside"], 1),
                       "truncated": int(item["inside"] < item["whole"]),
                       "at_border": left == 0 or top == 0 or right == width or bottom == height,
                       "shown": shown / item["whole"],
                       "difficult": int(small or hidden)})
    return result


def acceptable(objects, most_covered):
    """Whether every object is visible enough, and every required object is easy enough."""
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
    """The IOU of two boxes (left, top, right, bottom)."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return intersection / union


def shadow(image, x, y, shape):
    """Draws a soft dark ellipse under the feet of a drawing of this shape at (x, y)."""
    h, w = shape[:2]
    ry = max(2, round(.05 * w))
    layer = paint([("fill", ellipse(w / 2, ry, w * .48, ry), BLACK, 0)], (1, 0, 0), w, 2 * ry, supersample=2)
    layer[..., 3] //= 4
    put(image, layer, x, y + h - ry - 1)


def annotation(name, shape, objects):
    """The XML of one image as in VOC 2007: pixels are counted from 1, and the last one belongs to the box."""
    height, width, depth = shape
    lines = ["<annotation>", "\t<folder>VOC2007</folder>", f"\t<filename>{name}.jpg</filename>",
             f"\t<source>\n\t\t<database>{DATABASE}</database>\n\t\t<annotation>PASCAL VOC2007</annotation>",
             "\t\t<image>drawing</image>\n\t</source>", "\t<owner>\n\t\t<name>none: a drawing</name>\n\t</owner>",
             f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>{depth}</depth>",
             "\t</size>", "\t<segmented>0</segmented>"]
    for item in objects:
        left, top, right, bottom = item["box"]
        fields = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
        lines.append("\t<object>")
        lines += [f"\t\t<{key}>{item[key]}</{key}>" for key in ("name", "pose", "truncated", "difficult")]
        lines.append("\t\t<bndbox>")
        lines += [f"\t\t\t<{key}>{value}</{key}>" for key, value in fields.items()]
        lines += ["\t\t</bndbox>", "\t</object>"]
    lines.append("</annotation>")
    return "\n".join(lines) + "\n"


def write_image(folder, number, seed, sizes):
    """Draws one image and writes it and its XML into the folders JPEGImages and Annotations."""
    image, objects, _ = draw_image(number, seed, sizes)
    name = f"{number:06d}"
    cv2.imwrite(str(folder / "JPEGImages" / f"{name}.jpg"), image[..., ::-1],
                [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    (folder / "Annotations" / f"{name}.xml").write_text(annotation(name, image.shape, objects))


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
        write_image(folder, number, SEED, SIZES)
    if final.exists():
        shutil.rmtree(final)
    folder.rename(final)
    print(f"{first - 1} images in {final}")


if __name__ == "__main__":
    main()
