"""
Draws what YOLO9000 needs beside the miniature VOC: small classification images of 62 kinds of things, most of them
finer than VOC's classes, ten of them in no class of VOC; and scenes with boxes to test the detector on.

    python data_samples/draw_tree.py     writes data_samples/mini/tree (about 20 MB), in about two minutes, and
                                         runs/kinds.png, a sheet with six drawings of each kind

yolov2/yolo9000/dataset.py draws it at its first use. It is not shipped.

    train/dalmatian/1.jpg ...  52 images of each kind, with a label but without boxes
    val/dalmatian/1.jpg ...    10 other images of each kind
    VOC2007/                   the split "test" of 240 scenes in VOC's layout, each object with its finest name
                               each shows one thing of NEVER_BOXED and up to three others

HYPERNYMS is the graph of the names: what each of them is. As in WordNet, a name may have several names above it: a dog
is a carnivore and a domestic animal. The names and the graph are ours. VOC's twenty classes are names of the graph.

No drawing of NEVER_BOXED is in the miniature VOC, so a training on its boxes and on the classification images has never
seen a box of them. UNKNOWN_KINDS are drawings of known classes whose kind is not in the tree, and in no
classification image: brown dogs, for example. The scenes name them "dog".
"""
import os
import shutil
from functools import partial
from multiprocessing import get_context

import cv2
import numpy as np
from tqdm import tqdm

from data_samples import animals, indoors, person, vehicles
from data_samples.draw_mini import HALF_SIZES
from data_samples.draw_voc import (FLYING, JPEG_QUALITY, PLACES_TRIED, acceptable, annotation, cover, describe,
                                   object_size, position, shadow)
from data_samples.drawings import draw, put
from data_samples.pen import (BLACK, BLUE, BROWN, CREAM, DARK, GREEN, GREY, NAVY, ORANGE, PINK, PURPLE, RED, TAN, TEAL,
                              WHITE, YELLOW, Pen, blend, blob, box, curve, ellipse, pick, tone, turned, vary)
from data_samples.scenes import background, meadow, night, room, seaside, snow, street, studio
from shared.paths import RUNS, SAMPLES

FOLDER = SAMPLES / "mini" / "tree"
SEED = 9000
NUM_TRAIN, NUM_VAL, NUM_SCENES = 52, 10, 240               # images of each kind, of each kind, in all
SIZES = [(160, 120)] * 3 + [(120, 160), (140, 140)]         # width, height of a classification image
SHARE = .2, .75                                             # longer side of the object / shorter side of the image

# What each name is. A name with several entries has several ways up to the root.
HYPERNYMS = {
    "animal": ["living_thing"], "plant": ["living_thing"], "person": ["living_thing"],
    "carnivore": ["animal"], "ungulate": ["animal"], "bird": ["animal"], "domestic_animal": ["animal"],
    "dog": ["carnivore", "domestic_animal"], "cat": ["carnivore", "domestic_animal"], "fox": ["carnivore"],
    "horse": ["ungulate", "domestic_animal"], "cow": ["ungulate", "domestic_animal"],
    "sheep": ["ungulate", "domestic_animal"], "pig": ["ungulate", "domestic_animal"], "zebra": ["ungulate"],
    "elephant": ["animal"], "turtle": ["animal"],
    "vehicle": ["artifact"], "furniture": ["artifact"], "container": ["artifact"], "device": ["artifact"],
    "covering": ["artifact"], "two_wheeler": ["vehicle"],
    "aeroplane": ["vehicle"], "boat": ["vehicle"], "train": ["vehicle"], "bus": ["vehicle"], "car": ["vehicle"],
    "bicycle": ["two_wheeler"], "motorbike": ["two_wheeler"],
    "chair": ["furniture"], "sofa": ["furniture"], "diningtable": ["furniture"],
    "bottle": ["container"], "mug": ["container"], "tvmonitor": ["device"], "clock": ["device"],
    "guitar": ["device"], "umbrella": ["covering"], "hat": ["covering"], "pottedplant": ["plant"]}


class Dictated:
    """
    A random generator whose first answers are chosen. The drawing functions ask for colours and parts in a fixed order.

    integers  the first answers of rng.integers, which chooses among colours; a tuple of answers: one of them; None: any
    randoms   the first answers of rng.random, which decides between two forms; None: any
    """

    def __init__(self, rng, integers, randoms):
        self.rng, self.next_integers, self.next_randoms = rng, list(integers), list(randoms)
        self.uniform, self.permutation = rng.uniform, rng.permutation

    def integers(self, *limits):
        chosen, answer = self.next_integers.pop(0) if self.next_integers else None, self.rng.integers(*limits)
        if isinstance(chosen, tuple):
            return chosen[self.rng.integers(len(chosen))]
        return answer if chosen is None else chosen

    def random(self):
        chosen, answer = self.next_randoms.pop(0) if self.next_randoms else None, self.rng.random()
        return answer if chosen is None else chosen


# ---- Kinds that are drawings of VOC's classes with something added

def dalmatian(pen, rng):
    animals.dog(pen, Dictated(rng, [3], [0, 1]))            # white, its ears in a shade of it, without a patch
    for x in np.arange(.16, .72, .085):
        for y in (.4, .49, .58):
            pen.patch(ellipse(x + rng.uniform(-.02, .02), y + rng.uniform(-.02, .02), rng.uniform(.02, .032)), BLACK)
    for x, y in ((.72, .13), (.78, .27), (.66, .28)):
        pen.patch(ellipse(x, y, .022), BLACK)


def police_car(pen, rng):
    vehicles.car(pen, Dictated(rng, [7], [1]))              # navy
    pen.patch(box(.3, .53, .64, .76), WHITE)
    pen.fill(box(.38, .19, .46, .27), RED, .01)
    pen.fill(box(.47, .19, .55, .27), BLUE, .01)


def zebra(pen, rng):
    animals.horse(pen, Dictated(rng, [4], []))
    for x in np.arange(.1, .98, .075) + rng.uniform(0, .03):
        pen.patch([(x, 0), (x + .034, 0), (x + .014, .72), (x - .02, .72)], BLACK)
    for y in (.74, .82, .9):
        pen.patch(box(-.1, y, 1, y + .03), BLACK)


# ---- What has no class in VOC

def fox(pen, rng):
    fur = pick(rng, (222, 112, 44), (206, 98, 40), (232, 128, 58))
    ground, white = vary(rng, .82, .05), WHITE
    pen.fill(blob((.24, .5), (.1, .46), (-.08, .52), (-.2, .66), (-.08, .7), (.1, .64)), fur)       # a bushy tail
    pen.patch(blob((-.08, .5), (-.3, .6), (-.25, .75), (-.08, .7)), white)
    for x, dark in ((.3, .7), (.62, .7), (.22, 1), (.66, 1)):
        animals.leg(pen, x, .56, ground, .05, tone(fur, dark), BLACK, rng.uniform(-.03, .03))
    pen.fill(blob((.16, .5), (.26, .42), (.5, .43), (.68, .38), (.76, .46), (.7, .6), (.46, .6), (.24, .6)), fur)
    pen.patch(blob((.5, .56), (.7, .46), (.78, .52), (.7, .68), (.5, .66)), white)
    for x in (.66, .76):
        pen.fill([(x - .035, .28), (x + .01, .08), (x + .06, .26)], fur, .008)
        pen.fill([(x - .012, .25), (x + .012, .14), (x + .035, .24)], BLACK)
    pen.fill(blob((.62, .32), (.72, .22), (.84, .26), (1.02, .4), (.98, .43), (.8, .46), (.66, .44)), fur)
    pen.patch(blob((.7, .4), (.86, .38), (1.04, .4), (1, .46), (.8, .5)), white)
    pen.fill(ellipse(1.01, .405, .022), BLACK)
    animals.eye(pen, .82, .32, .022)


def pig(pen, rng):
    skin = pick(rng, PINK, (240, 170, 170), (226, 150, 140))
    ground, fat = vary(rng, .84, .04), vary(rng, .2, .12)
    pen.line(curve((.1, .42), (.03, .36), (.0, .44), (.06, .46), (.02, .38)), .022, tone(skin, .9))       # a curl
    for x, dark in ((.3, .78), (.66, .78), (.22, 1), (.6, 1)):
        animals.leg(pen, x, .6, ground, .085, tone(skin, dark), tone(skin, .55))
    pen.fill(ellipse(.44, .5, .36, fat), skin)
    pen.shade(blob((.08, .58), (.44, .62), (.8, .56), (.7, .8), (.2, .8)), .88)
    pen.fill(ellipse(.78, .42, .17, .16), skin)
    for x in (.7, .84):
        pen.fill([(x - .05, .3), (x + .01, .16), (x + .07, .3)], tone(skin, .85), .012)
    pen.fill(ellipse(.93, .46, .055, .075), tone(skin, .85))
    for y in (.44, .49):
        pen.fill(ellipse(.945, y, .013), tone(skin, .5))
    animals.eye(pen, .82, .37, .022)


def elephant(pen, rng):
    skin = pick(rng, GREY, (128, 134, 144), (156, 152, 156))
    far, ground = tone(skin, .75), vary(rng, .93, .03)
    pen.line(curve((.08, .38), (.02, .5), (.03, .62)), .025, far)
    for x, shade in ((.3, far), (.58, far), (.19, skin), (.5, skin)):
        pen.line([(x, .6), (x, ground - .05)], .13, shade)
        pen.line([(x - .04, ground - .01), (x + .04, ground - .01)], .03, CREAM)
    pen.fill(blob((.06, .42), (.16, .24), (.36, .2), (.58, .24), (.7, .36), (.66, .6), (.4, .68), (.12, .64)), skin)
    pen.shade(blob((.06, .6), (.36, .62), (.66, .54), (.6, .76), (.1, .76)), .85)
    trunk = .8 if rng.random() < .5 else .62                                    # down, or the tip raised
    pen.line(curve((.9, .34), (.97, .46), (.96, .62), (1.0, trunk)), .085, skin)
    pen.line(curve((.86, .5), (.93, .58), (1.02, .56)), .035, CREAM)
    pen.fill(ellipse(.78, .34, .15, .17), skin)
    pen.fill(blob((.74, .2), (.62, .16), (.54, .3), (.58, .48), (.68, .52), (.76, .4)), tone(skin, .82))
    animals.eye(pen, .86, .29, .022)


def turtle(pen, rng):
    shell, skin = pick(rng, (110, 120, 60), BROWN, (76, 116, 80)), pick(rng, (128, 168, 88), (150, 170, 96))
    high = vary(rng, .3, .12)
    pen.fill([(.02, .66), (.14, .6), (.14, .7)], skin, .01)
    for x in (.24, .66):
        pen.fill(blob((x - .07, .62), (x + .07, .62), (x + .09, .8), (x - .05, .8)), tone(skin, .9))
    pen.line(curve((.74, .62), (.84, .56), (.93, .46)), .09, skin)
    pen.fill(ellipse(.95, .44, .085, .065), skin)
    animals.eye(pen, .98, .42, .018)
    pen.fill(np.concatenate([ellipse(.44, .66, .36, high, start=180, end=360), [(.8, .7), (.08, .7)]]), shell)
    for x, y, r in ((.44, .5, .085), (.27, .57, .065), (.61, .57, .065), (.44, .64, .05)):
        pen.patch(ellipse(x, y, r, r * .75), tone(shell, 1.35))
    pen.line([(.07, .69), (.81, .69)], .04, tone(shell, .7))


def umbrella(pen, rng):
    cloth = pick(rng, RED, BLUE, YELLOW, GREEN, PURPLE, NAVY, PINK, BLACK)
    second = pick(rng, WHITE, CREAM) if rng.random() < .4 else tone(cloth, .8)
    high = vary(rng, .38, .12)
    pen.line([(0, .02), (0, .9)], .025, DARK)
    pen.line(ellipse(.06, .9, .06, start=0, end=180), .032, BROWN)
    rim = [(x, .45 - (.05 if i % 2 else 0)) for i, x in enumerate(np.linspace(.5, -.5, 9))]
    pen.fill(np.concatenate([ellipse(0, .45, .5, high, start=180, end=360), rim]), cloth)
    for left, right in ((-.5, -.25), (0, .25)):
        pen.patch([(0, .45 - high), (left, .47), (right, .47)], second)
    pen.line([(0, .45 - high), (0, .4 - high)], .02, DARK)


def clock(pen, rng):
    frame, face = pick(rng, RED, TEAL, BLACK, BROWN, YELLOW, NAVY), pick(rng, WHITE, CREAM)
    alarm = rng.random() < .4
    if alarm:
        for x in (-.2, .2):
            pen.line([(x * 1.2, .42), (x * 1.7, .5)], .05, DARK)
            pen.fill(ellipse(x * 1.3, -.4, .12, .1, tilt=30 if x > 0 else -30), tone(frame, .8))
    pen.fill(ellipse(0, 0, .48), frame)
    pen.fill(ellipse(0, 0, .4), face)
    for hour in range(12):
        c, s = np.cos(hour * np.pi / 6), np.sin(hour * np.pi / 6)
        pen.line([(.33 * c, .33 * s), (.37 * c, .37 * s)], .022, BLACK)
    for length, width in ((.2, .035), (.31, .022)):
        angle = rng.uniform(0, 2 * np.pi)
        pen.line([(0, 0), (length * np.cos(angle), length * np.sin(angle))], width, BLACK)
    pen.fill(ellipse(0, 0, .03), RED)


def mug(pen, rng):
    colour = pick(rng, RED, BLUE, WHITE, YELLOW, TEAL, GREEN, ORANGE, PINK)
    wide, mark = vary(rng, .27, .1), rng.integers(3)
    pen.line(ellipse(wide, .5, .17, .19, start=-90, end=90), .07, tone(colour, .85))
    pen.fill(box(-wide, .2, wide, .84), colour, .04)
    if mark == 0:
        pen.patch(box(-1, .44, wide + .045, .58), blend(colour, WHITE if sum(colour) < 600 else BLUE, .7))
    elif mark == 1:
        pen.fill(ellipse(0, .52, .1), blend(colour, WHITE if sum(colour) < 600 else RED, .75))
    pen.shade(box(wide * .4, .1, wide + .05, 1), .84)
    pen.fill(ellipse(0, .2, wide + .035, .075), tone(colour, .8))
    pen.fill(ellipse(0, .205, wide, .055), (96, 60, 40))


def guitar(pen, rng):
    wood, lean = pick(rng, (196, 128, 64), (150, 84, 46), RED, BLACK, (224, 176, 100)), rng.uniform(-35, 35)
    parts = Pen()
    parts.line([(0, .1), (0, .62)], .07, (84, 56, 40))
    parts.fill(box(-.055, -.06, .055, .1), tone(wood, .7), .01)
    for y in (-.03, .03, .09):
        parts.line([(-.085, y), (.085, y)], .02, GREY)
    parts.fill(blob((-.14, .52), (0, .48), (.14, .52), (.15, .63), (.12, .7), (.21, .8), (.2, .95), (0, 1.02),
                    (-.2, .95), (-.21, .8), (-.12, .7), (-.15, .63)), wood)
    parts.fill(ellipse(0, .68, .065), BLACK)
    parts.fill(box(-.08, .86, .08, .885), BLACK)
    for x in (-.015, .015):
        parts.line([(x, .0), (x, .87)], .008, CREAM)
    for kind, points, colour, width in parts.strokes:
        pen.strokes.append((kind, turned(points, 0, .5, lean), colour, width))


def hat(pen, rng):
    colour, band = pick(rng, BLACK, BROWN, TAN, RED, NAVY, GREY, GREEN), pick(rng, RED, YELLOW, WHITE, BLUE)
    high, top = vary(rng, .36, .25), rng.uniform(.16, .25)
    pen.fill(ellipse(0, .62, .5, .1), tone(colour, .85))
    pen.fill(blob((-.26, .62), (-top, .62 - high), (0, .65 - high * 1.15), (top, .62 - high), (.26, .62), (0, .68)),
             colour)
    pen.patch(blob((-.4, .52), (0, .58), (.4, .52), (.4, .6), (0, .67), (-.4, .6)), band)
    pen.shade(blob((.08, .2), (.3, .2), (.3, .7), (.12, .7)), .85)


def kind_of(draw, integers=(), randoms=()):
    """The drawing function `draw` of VOC's class with some of its choices dictated."""
    return partial(draw_dictated, draw, integers, randoms)


def draw_dictated(draw, integers, randoms, pen, rng):
    draw(pen, Dictated(rng, integers, randoms))


# name: (the name above it, the class of VOC whose sizes and scenes it has, its drawing)
KINDS = {
    "retriever": ("dog", "dog", kind_of(animals.dog, [2], [0, 1])),
    "setter": ("dog", "dog", kind_of(animals.dog, [5], [0, 1])),
    "newfoundland": ("dog", "dog", kind_of(animals.dog, [4], [0, 1])),
    "beagle": ("dog", "dog", kind_of(animals.dog, [3], [1, 0])),
    "dalmatian": ("dog", "dog", dalmatian),
    "ginger_tabby": ("cat", "cat", kind_of(animals.cat, [0], [0])),
    "grey_cat": ("cat", "cat", kind_of(animals.cat, [1], [1])),
    "black_cat": ("cat", "cat", kind_of(animals.cat, [2], [1])),
    "white_cat": ("cat", "cat", kind_of(animals.cat, [3], [1])),
    "sorrel": ("horse", "horse", kind_of(animals.horse, [1])),
    "palomino": ("horse", "horse", kind_of(animals.horse, [3])),
    "grey_horse": ("horse", "horse", kind_of(animals.horse, [4])),
    "black_horse": ("horse", "horse", kind_of(animals.horse, [5])),
    "holstein": ("cow", "cow", kind_of(animals.cow, [0])),
    "hereford": ("cow", "cow", kind_of(animals.cow, [3])),
    "galloway": ("cow", "cow", kind_of(animals.cow, [4])),
    "suffolk": ("sheep", "sheep", kind_of(animals.sheep, [(0, 1), 0])),
    "merino": ("sheep", "sheep", kind_of(animals.sheep, [(0, 1), 2])),
    "black_sheep": ("sheep", "sheep", kind_of(animals.sheep, [3])),
    "bluebird": ("bird", "bird", kind_of(animals.bird, [0])),
    "cardinal": ("bird", "bird", kind_of(animals.bird, [1])),
    "canary": ("bird", "bird", kind_of(animals.bird, [2])),
    "parakeet": ("bird", "bird", kind_of(animals.bird, [3])),
    "magpie": ("bird", "bird", kind_of(animals.bird, [7, 1])),
    "fox": ("carnivore", "dog", fox),
    "zebra": ("ungulate", "horse", zebra),
    "pig": ("ungulate", "sheep", pig),
    "elephant": ("animal", "cow", elephant),
    "turtle": ("animal", "dog", turtle),
    "person": ("living_thing", "person", person.person),
    "fern": ("pottedplant", "pottedplant", kind_of(indoors.pottedplant, [None, None, 0])),
    "cactus": ("pottedplant", "pottedplant", kind_of(indoors.pottedplant, [None, None, 1])),
    "flower": ("pottedplant", "pottedplant", kind_of(indoors.pottedplant, [None, None, 2])),
    "bonsai": ("pottedplant", "pottedplant", kind_of(indoors.pottedplant, [None, None, 3])),
    "aeroplane": ("vehicle", "aeroplane", vehicles.aeroplane),
    "sailing_boat": ("boat", "boat", vehicles.sailing_boat),
    "steamer": ("boat", "boat", vehicles.steamer),
    "steam_train": ("train", "train", vehicles.steam_train),
    "electric_train": ("train", "train", vehicles.electric_train),
    "school_bus": ("bus", "bus", kind_of(vehicles.bus, [1], [1])),
    "double_decker": ("bus", "bus", kind_of(vehicles.bus, [0], [0])),
    "city_bus": ("bus", "bus", kind_of(vehicles.bus, [(2, 3, 5)], [1])),
    "taxi": ("car", "car", kind_of(vehicles.car, [4], [0])),
    "police_car": ("car", "car", police_car),
    "hatchback": ("car", "car", kind_of(vehicles.car, [(0, 1, 2, 5, 8, 9)], [1])),
    "bicycle": ("two_wheeler", "bicycle", vehicles.bicycle),
    "motorbike": ("two_wheeler", "motorbike", vehicles.motorbike),
    "office_chair": ("chair", "chair", indoors.office_chair),
    "wooden_chair": ("chair", "chair", indoors.wooden_chair),
    "sofa": ("furniture", "sofa", indoors.sofa),
    "round_table": ("diningtable", "diningtable", kind_of(indoors.diningtable, [], [0])),
    "long_table": ("diningtable", "diningtable", kind_of(indoors.diningtable, [], [1])),
    "wine_bottle": ("bottle", "bottle", kind_of(indoors.bottle, [0])),
    "beer_bottle": ("bottle", "bottle", kind_of(indoors.bottle, [2])),
    "water_bottle": ("bottle", "bottle", kind_of(indoors.bottle, [3])),
    "mug": ("container", "bottle", mug),
    "television": ("tvmonitor", "tvmonitor", kind_of(indoors.tvmonitor, [None, 0])),
    "computer_screen": ("tvmonitor", "tvmonitor", kind_of(indoors.tvmonitor, [None, 1])),
    "clock": ("device", "bottle", clock),
    "guitar": ("device", "chair", guitar),
    "umbrella": ("covering", "chair", umbrella),
    "hat": ("covering", "bottle", hat)}
HYPERNYMS |= {name: [above] for name, (above, _, _) in KINDS.items() if name not in HYPERNYMS}

NEVER_BOXED_ANIMALS = ["fox", "zebra", "pig", "elephant", "turtle"]
NEVER_BOXED_THINGS = ["umbrella", "clock", "mug", "guitar", "hat"]
NEVER_BOXED = NEVER_BOXED_ANIMALS + NEVER_BOXED_THINGS
UNKNOWN_KINDS = {                                           # class: its drawing; in no classification image
    "dog": kind_of(animals.dog, [1], [0, 1]), "cat": kind_of(animals.cat, [4], [1]),
    "bird": kind_of(animals.bird, [8]), "horse": kind_of(animals.horse, [2])}      # brown, brown, purple, dark brown

SCENES = {"dog": [meadow, snow, street, room], "cat": [room, room, studio], "bird": [meadow, seaside, snow, studio],
          "aeroplane": [seaside, meadow, snow], "boat": [seaside]}
SCENES |= dict.fromkeys(["horse", "cow", "sheep"], [meadow, meadow, snow, studio])
SCENES |= dict.fromkeys(["bicycle", "bus", "car", "motorbike", "train"], [street, street, night, studio])
SCENES |= dict.fromkeys(["chair", "diningtable", "pottedplant", "sofa", "tvmonitor", "bottle"], [room, room, studio])
SCENES["person"] = [street, meadow, room, studio]


FUNCTIONS = {name: function for name, (_, _, function) in KINDS.items()} | UNKNOWN_KINDS


def like(name):
    """The class of VOC whose sizes and scenes a kind, or a drawing of an unknown kind, has."""
    return KINDS[name][1] if name in KINDS else name


# ---- Classification images

def draw_image(split, label, number):
    """
    split    0 for train, 1 for val
    label    index into KINDS
    number   of the image in its kind, from 1
    returns  (H, W, 3) uint8 RGB, with one thing in it
    """
    rng = np.random.default_rng((SEED, split, label, number))
    name = list(KINDS)[label]
    scenes = SCENES[like(name)]
    scene = scenes[rng.integers(len(scenes))]
    width, height = SIZES[rng.integers(len(SIZES))]
    image, ground = background(scene, width, height, rng)
    layer = draw(name, rng.uniform(*SHARE) * min(width, height), rng, bool(rng.random() < .5), FUNCTIONS)
    h, w = layer.shape[:2]
    x = round(rng.uniform(.1, .9) * (width - w))
    if like(name) in FLYING:
        y = round(rng.uniform(0, .6) * (height - h))
    else:
        y = round(np.clip(ground + rng.uniform(.3, .95) * (height - ground) - h, 2, max(height - h - 1, 2)))
        if scene not in (studio, seaside):
            shadow(image, x, y, layer.shape)
    put(image, layer, x, y)
    return image


def write_image(folder, key):
    """Draws one classification image and writes it. key: split, label and number of draw_image"""
    split, label, number = key
    path = folder / ("train", "val")[split] / list(KINDS)[label] / f"{number}.jpg"
    cv2.imwrite(str(path), draw_image(*key)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


# ---- Scenes with boxes, for testing

def draw_scene(number):
    """
    Image `number`, from 1, shows the kind of NEVER_BOXED whose turn it is and up to three others.

    returns  image (H, W, 3) uint8 RGB, and its objects as draw_voc.draw_image returns them. Their names are leaves of
             the tree, or VOC's class for an unknown kind
    """
    for attempt in range(100):
        rng = np.random.default_rng((SEED, 2, number, attempt))
        objects = compose(NEVER_BOXED[number % len(NEVER_BOXED)], rng)
        if objects:
            return objects
    raise RuntimeError(f"scene {number}: its objects do not fit")


def compose(name, rng):
    """One attempt at draw_scene. Returns None if there is no place for the object that the scene must show."""
    scenes = SCENES[like(name)]
    scene = scenes[rng.integers(len(scenes))]
    width, height = HALF_SIZES[rng.integers(len(HALF_SIZES))]
    image, ground = background(scene, width, height, rng)
    boxed = [other for other in KINDS if other not in NEVER_BOXED and scene in SCENES[like(other)]]
    unknown = [other for other in UNKNOWN_KINDS if scene in SCENES[other]]
    names = [name, *rng.choice(boxed, rng.integers(0, 3)), *rng.choice(unknown, rng.integers(0, 2))] if unknown \
        else [name, *rng.choice(boxed, rng.integers(0, 3))]
    owner, objects = np.full((height, width), -1), []
    for depth, index in sorted((rng.random(), index) for index in range(len(names))):
        item = str(names[index])
        for attempt in range(PLACES_TRIED):
            size = .97 ** attempt * object_size(like(item), depth, len(names), min(width, height), rng)
            layer = draw(item, size, rng, bool(rng.random() < .5), FUNCTIONS)
            x, y = position(like(item), layer.shape, width, height, ground, depth, rng)
            trial, mask = owner.copy(), layer[..., 3] >= 128
            cover(trial, mask, x, y, len(objects))
            new = {"name": item, "pose": "Unspecified", "required": True, "whole": int(mask.sum()),
                   "inside": int((trial == len(objects)).sum())}
            described = describe(objects + [new], trial)
            if acceptable(described, .25):
                objects, owner = described, trial
                if scene not in (studio, seaside) and like(item) not in FLYING:
                    shadow(image, x, y, layer.shape)
                put(image, layer, x, y)
                break
        else:
            if index == 0:
                return None
    return image, objects


def write_scene(folder, number):
    """Draws one scene and writes it and its XML into the folders JPEGImages and Annotations."""
    image, objects = draw_scene(number)
    cv2.imwrite(str(folder / "JPEGImages" / f"{number:06d}.jpg"), image[..., ::-1],
                [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    (folder / "Annotations" / f"{number:06d}.xml").write_text(annotation(f"{number:06d}", image.shape, objects))


def draw_tree(folder=FOLDER, num_train=NUM_TRAIN, num_val=NUM_VAL, num_scenes=NUM_SCENES):
    """Draws all images with one process per core, unless the folder exists."""
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished.{os.getpid()}")     # each of several trainings has its own
    shutil.rmtree(unfinished, ignore_errors=True)
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (unfinished / "VOC2007" / part).mkdir(parents=True)
    for name in KINDS:
        for split in ("train", "val"):
            (unfinished / split / name).mkdir(parents=True)
    numbers = range(1, num_scenes + 1)
    (unfinished / "VOC2007" / "ImageSets" / "Main" / "test.txt").write_text("".join(f"{n:06d}\n" for n in numbers))
    keys = [(split, label, number) for split, count in enumerate((num_train, num_val))
            for label in range(len(KINDS)) for number in range(1, count + 1)]
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        for function, work in ((partial(write_image, unfinished), keys),
                               (partial(write_scene, unfinished / "VOC2007"), numbers)):
            for _ in tqdm(pool.imap_unordered(function, work, chunksize=8), total=len(work), desc="drawing the tree",
                          unit="image"):
                pass
    try:
        unfinished.rename(folder)                           # only now, so that an interrupted drawing begins again
    except OSError:                                         # another process has finished first
        shutil.rmtree(unfinished)


def sheet(names, variants=6, cell=110):
    """A sheet with one row of variants for each name, (rows * cell, variants * cell, 3) uint8 RGB."""
    page = np.full((len(names) * cell, variants * cell, 3), (226, 228, 222), np.uint8)
    for row, name in enumerate(names):
        for column in range(variants):
            layer = draw(name, cell - 12, np.random.default_rng((row, column)), column % 2 == 1, FUNCTIONS)
            y, x = row * cell + (cell - layer.shape[0]) // 2, column * cell + (cell - layer.shape[1]) // 2
            put(page, layer, x, y)
        cv2.putText(page, name, (4, row * cell + 12), cv2.FONT_HERSHEY_SIMPLEX, .4, BLACK, 1, cv2.LINE_AA)
    return page


def main():
    draw_tree()
    names = list(KINDS)
    third = -(-len(names) // 3)
    pages = [sheet(names[:third]), sheet(names[third:2 * third]), sheet(names[2 * third:] + ["dog", "cat"])]
    high = max(len(page) for page in pages)
    pages = [np.pad(page, ((0, high - len(page)), (0, 20), (0, 0)), constant_values=255) for page in pages]
    RUNS.mkdir(exist_ok=True)
    cv2.imwrite(str(RUNS / "kinds.png"), np.concatenate(pages, 1)[..., ::-1])
    print(f"{FOLDER}, {RUNS / 'kinds.png'}")


if __name__ == "__main__":
    main()
