"""
Draws a small sample of Street View House Numbers in its layout "full numbers", with drawings instead of photographs.

    python data_samples/draw_svhn.py        writes data_samples/svhn, 256 + 64 images, in 3 seconds

        train/1.png 2.png ... digitStruct.mat           256 images
        test/1.png 2.png ... digitStruct.mat            64 images

The photographs are for non-commercial use only; these images are for everybody. Each shows a number of 1 to 4 digits on
a wall or a plate, slightly rotated and blurred. Some show a part of another digit beside it, which has no box.

digitStruct.mat is an HDF5 file, as MATLAB 7.3 writes it; yolov3/smol_svhn/dataset.py describes its structure. Two
things keep it small: equal values are stored once, and the file is in the newest version of HDF5.

For a larger task, still an easy one, set NUM_TRAIN, NUM_TEST = 4000, 1000 and set OUT to a folder of yours; it takes 1
minute. An image depends on SEED, its split and its number alone.
"""

import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
from tqdm import tqdm

from data_samples.drawings import put, tight_box
from data_samples.pen import (BLACK, BLUE, BROWN, CREAM, DARK, GREEN, GREY, NAVY, RED, SILVER, TAN, TEAL, WHITE, YELLOW,
                              Pen, blend, box, curve, ellipse, paint, pick, tone, turned)
from shared.paths import SAMPLES

SEED = 2011
NUM_TRAIN, NUM_TEST = 256, 64
OUT = SAMPLES / "svhn"
DRAWN_BY = "data_samples/draw_svhn.py"
# Pairs are the least and the greatest value.
LENGTHS = [.25, .5, .17, .08]                           # probabilities of a number with 1, 2, 3 and 4 digits
HEIGHTS = 40, 56                                        # of an image in pixels
LARGE, SMALL = (.68, .76), (.46, .52)                   # height of a digit / height of the image
PITCH = {LARGE: (.26, .27), SMALL: (.14, .15)}          # distance from digit to digit / width of the image; it is more
                                                        # than a cell of the detector (1/4 and 1/8)
TWO_LARGE = .9                                          # share of large ones among the numbers with 2 digits; numbers
                                                        # with 1 digit are large, those with 3 or 4 are small
ASPECT = .55, .62                                       # width of a digit / its height
SPACE = .78, .84                                        # width of a digit / pitch
MAX_TURN, MAX_BLUR = 3, .7                              # degrees; pixels
CENTRE_Y = .57                                          # centre of a number / height of the image
OFF_CENTRE = .03                                        # a number is up to this share of the image away from its place
OTHERS = .3                                             # probability of a part of another digit
LEVELS = 4                                              # colours are multiples of it, for smaller files


def digit(value, rng):
    """The strokes of a digit in the unit square: a list of the points (N, 2) of their middle lines."""
    bend = rng.uniform(.8, 1)                           # how round 0 and 8 are; no two digits are drawn alike
    m = rng.uniform(.44, .52)                           # y at which the upper half ends
    if value == 0:
        return [np.clip((ellipse(.5, .5, .5 / bend, .5) - .5) * [bend, 1] + .5, 0, 1)]
    if value == 1:
        x = rng.uniform(.5, .62)
        foot = [np.array([(x - .25, 1), (x + .25, 1)])] if rng.random() < .3 else []
        return [np.array([(x - .3, .22), (x, 0), (x, 1)]), *foot]
    if value == 2:
        return [np.concatenate([curve((0, .27), (.12, .06), (.5, 0), (.88, .08), (1, .28), (.85, .52)),
                                [(0, 1), (1, 1)]])]
    if value == 3:
        if rng.random() < .25:
            return [np.concatenate([[(.05, 0), (.95, 0), (.45, m - .06)],
                                    curve((.45, m - .06), (.85, .5), (1, .72), (.8, .95), (.45, 1), (0, .86))])]
        return [curve((.02, .16), (.25, .01), (.55, 0), (.93, .2), (.8, m - .04), (.4, m)),
                curve((.4, m), (.85, m + .06), (1, .73), (.8, .95), (.45, 1), (0, .84))]
    if value == 4:
        if rng.random() < .35:
            return [np.array([(.12, 0), (0, .62), (1, .62)]), np.array([(.72, .2), (.72, 1)])]
        return [np.array([(.75, 1), (.75, 0), (0, .7), (1, .7)])]
    if value == 5:
        return [np.concatenate([[(.92, 0), (.15, 0), (.08, m - .02)],
                                curve((.08, m - .02), (.5, .36), (.92, .52), (1, .7), (.82, .94), (.45, 1), (0, .88))])]
    if value in (6, 9):
        low = 1 - rng.uniform(.29, .33)
        ring, arm = ellipse(.5, low, .5, 1 - low), curve((.8, 0), (.35, .12), (.06, .45), (0, low))
        if value == 6:
            return [ring, arm]
        return [1 - ring, 1 - arm]                      # a 9 is a 6 rotated by 180 degrees
    if value == 7:
        bar = [np.array([(.3, .52), (.8, .52)])] if rng.random() < .2 else []
        return [np.array([(0, 0), (1, 0), (.38, 1)]), *bar]
    return [ellipse(.5, m / 2, .44 * bend + .02, m / 2), ellipse(.5, (1 + m) / 2, .5, (1 - m) / 2)]


def wall(pen, rng, aspect):
    """Paints the wall that a house number is on. Returns the colour of the wall."""
    colour = pick(rng, CREAM, TAN, GREY, (170, 96, 76), (150, 170, 180), BROWN, (206, 190, 170), NAVY, TEAL, WHITE)
    pen.fill(box(-.1, -.1, aspect + .1, 1.1), colour)
    kind, line = rng.integers(4), tone(colour, rng.choice([.8, .88, 1.1]))
    if kind == 0:                                       # bricks
        high, shift = rng.uniform(.16, .26), rng.uniform(0, .4)
        for row, y in enumerate(np.arange(rng.uniform(-.2, 0), 1, high)):
            pen.line([(-.1, y), (aspect + .1, y)], .025, line)
            for x in np.arange(shift * (row % 2) - high, aspect, 2.4 * high):
                pen.line([(x, y), (x, y + high)], .025, line)
    elif kind == 1:                                     # boards
        for y in np.arange(rng.uniform(-.2, .1), 1, rng.uniform(.2, .4)):
            pen.fill(box(-.1, y, aspect + .1, y + .05), line)
    elif kind == 2:                                     # the edge of a door or a gate
        x = rng.choice([rng.uniform(-.1, .12), aspect - rng.uniform(.05, .2)])
        pen.fill(box(x, -.1, x + .12, 1.1), line)
    return colour


def plate(pen, rng, left, top, right, bottom):
    """Paints a plate around the number. Returns the colour of the plate."""
    colour = pick(rng, WHITE, CREAM, SILVER, NAVY, BLUE, GREEN, BLACK, YELLOW, RED)
    rim = blend(colour, BLACK if sum(colour) > 330 else WHITE, rng.uniform(.3, .8))
    corners = box(left, top, right, bottom)
    if rng.random() < .3:
        corners = ellipse((left + right) / 2, (top + bottom) / 2, (right - left) * .6, (bottom - top) * .6)
    pen.fill(corners, rim, corner_radius=.05)
    pen.fill(corners, colour, corner_radius=.02)
    return colour


def contrasting(rng, colour):
    """A colour for digits on a background of the given colour."""
    brightness = np.dot(colour, (.3, .6, .1))
    if brightness < rng.uniform(115, 150):
        return pick(rng, WHITE, WHITE, CREAM, YELLOW, SILVER)
    return pick(rng, BLACK, BLACK, DARK, NAVY, RED, BROWN)


def draw_image(split, number):
    """
    split    0 for train, 1 for test
    number   of the image in its split, from 1
    returns  image (H, W, 3) uint8 RGB, digits (n,) 0 to 9, boxes (n, 4) left, top, right, bottom in pixels
    """
    rng = np.random.default_rng((SEED, split, number))
    count = 1 + rng.choice(len(LENGTHS), p=LENGTHS)
    values = rng.integers(0, 10, count)
    if count > 1:
        values[0] = max(values[0], 1)                   # a house number does not begin with 0
    sizes = SMALL
    if count == 1 or count == 2 and rng.random() < TWO_LARGE:
        sizes = LARGE
    high, pitch, digit_aspect = rng.uniform(*sizes), rng.uniform(*PITCH[sizes]), rng.uniform(*ASPECT)
    wide = high * digit_aspect                          # from here on all lengths are in units of the image's height
    aspect = wide / rng.uniform(*SPACE) / pitch         # width / height of the image
    height = rng.integers(HEIGHTS[0], HEIGHTS[1] + 1)   # pixels
    width = round(aspect * height)                      # pixels
    pitch, line, slant = pitch * aspect, rng.uniform(.13, .2) * wide * 1.8, rng.uniform(-.04, .12)
    length = (count - 1) * pitch + wide
    left = (aspect - length) / 2 + rng.uniform(-1, 1) * OFF_CENTRE * aspect
    top = np.clip(CENTRE_Y - high / 2 + rng.uniform(-1, 1) * OFF_CENTRE, .05, .95 - high)

    pen = Pen()
    ground = wall(pen, rng, aspect)
    if rng.random() < .55:
        edge = rng.uniform(.06, .14)
        ground = plate(pen, rng, left - edge, top - edge, left + length + edge, top + high + edge)
    image = paint(pen.strokes, (height, 0, 0), width, height)[..., :3].copy()
    colour, turn = contrasting(rng, ground), rng.uniform(-MAX_TURN, MAX_TURN)
    shadow = tone(ground, .7) if rng.random() < .35 else None

    def write(value, x, y):
        """
        Draws one digit into the image. Before the number is rotated, the top left corner of the digit is at (x, y).
        Returns a layer (H, W, 4) with this digit only, without its shadow.
        """
        pen, half = Pen(), line / 2
        lines = []
        for points in digit(value, rng):
            points = points * [wide - line, high - line] + [x + half, y + half]
            points[:, 0] += slant * (y + high / 2 - points[:, 1])
            lines.append(turned(points, aspect / 2, .5, turn))
        if shadow:
            for points in lines:
                pen.line(points + .025, line, shadow)
        first_stroke = len(pen.strokes)
        for points in lines:
            pen.line(points, line, colour)
        alone = paint(pen.strokes[first_stroke:], (height, 0, 0), width, height)
        put(image, paint(pen.strokes, (height, 0, 0), width, height), 0, 0)
        return alone

    others = rng.random() < OTHERS
    if others:                                          # a quarter of a digit that the border of the image cuts off
        if rng.integers(2) == 0:
            x, free_space = -.75 * wide, left
        else:
            x, free_space = aspect - .25 * wide, aspect - left - length
        if free_space > .4 * wide:
            write(rng.integers(10), x, top)
    boxes = []
    for n, value in enumerate(values):
        layer = write(int(value), left + n * pitch, top)
        boxes.append(tight_box(layer[..., 3] >= 128))
    return photograph(image, rng), values, np.array(boxes)


def photograph(image, rng):
    """Makes a drawing look like a photograph: adds light from one side and a little blur. Also reduces the colours."""
    height, width = image.shape[:2]
    across, down = np.linspace(-1, 1, width)[:, None], np.linspace(-1, 1, height)[:, None, None]
    light = rng.uniform(.75, 1.05) + rng.uniform(-.12, .12) * across + rng.uniform(-.12, .12) * down
    image = cv2.GaussianBlur(image * light.astype(np.float32), (0, 0), rng.uniform(.3, MAX_BLUR))
    return ((image / LEVELS).round() * LEVELS).clip(0, 255).astype(np.uint8)


def write_digit_struct(path, names, values, boxes):
    """
    Writes digitStruct.mat, the MATLAB struct array of the names and boxes of all images, as HDF5.

    names   a list of n file names
    values  a list of n arrays (digits,), 0 to 9
    boxes   a list of n arrays (digits, 4): left, top, right, bottom
    """
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["drawn by"] = DRAWN_BY
        refs, numbers = file.create_group("#refs#"), {}

        def number(value):
            """A reference to a dataset that holds the value. Equal values have one dataset."""
            if value not in numbers:
                numbers[value] = refs.create_dataset(f"number {value}", data=[[float(value)]]).ref
            return numbers[value]

        images = []
        for n, (name, digits, corners) in enumerate(zip(names, values, boxes), 1):
            text = refs.create_dataset(f"name {n}", data=np.array([list(name.encode("utf-16-le")[::2])], np.uint16).T)
            group = refs.create_group(f"bbox {n}")
            left, top, right, bottom = corners.T
            label = np.where(digits == 0, 10, digits)                        # SVHN's label of the digit 0 is 10
            fields = {"height": bottom - top, "label": label, "left": left, "top": top, "width": right - left}
            for key, field in fields.items():
                if len(field) == 1:
                    group.create_dataset(key, data=[[float(field[0])]])
                else:
                    group.create_dataset(key, data=[[number(value)] for value in field], dtype=h5py.ref_dtype)
            images.append((text.ref, group.ref))
        for key, field in zip(("name", "bbox"), zip(*images)):
            file.create_dataset(f"digitStruct/{key}", data=[[ref] for ref in field], dtype=h5py.ref_dtype)


def drawn_here(path):
    """Whether this script has written the file."""
    try:
        with h5py.File(path) as file:
            return file.attrs.get("drawn by") == DRAWN_BY
    except OSError:
        return False


def main():
    final = Path(OUT)
    if final.exists() and any(final.iterdir()) and not drawn_here(final / "train" / "digitStruct.mat"):
        raise SystemExit(f"{final} holds something that this script did not write: set OUT to another folder")
    folder = final.with_name(final.name + ".unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    for split, (name, count) in enumerate([("train", NUM_TRAIN), ("test", NUM_TEST)]):
        (folder / name).mkdir(parents=True)
        names, values, boxes = [f"{n}.png" for n in range(1, count + 1)], [], []
        for n in tqdm(range(1, count + 1), unit="image", desc=name):
            image, digits, corners = draw_image(split, n)
            cv2.imwrite(str(folder / name / names[n - 1]), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
            values.append(digits)
            boxes.append(corners)
        write_digit_struct(folder / name / "digitStruct.mat", names, values, boxes)
    if final.exists():
        shutil.rmtree(final)
    folder.rename(final)
    print(f"{NUM_TRAIN} + {NUM_TEST} images in {final}")


if __name__ == "__main__":
    main()
