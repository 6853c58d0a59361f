"""
The backgrounds of the drawings: a room, a street, a meadow, the sea and others.

A scene is a function of a pen, a random generator and the aspect ratio width / height. Its unit coordinates run from
(0, 0) at the top left to (aspect, 1) at the bottom right. It returns the height of the line where wall and floor, or
sky and ground, meet. `background` paints a scene and adds a soft light from one side and a little noise, as in a
photograph.
"""

import numpy as np

from data_samples.pen import (BROWN, CREAM, DARK, GLASS, GREEN, GREY, NAVY, RED, TAN, TEAL, WHITE, YELLOW, Pen, blend,
                              blob, box, curve, ellipse, paint, pick, tone, turned)

SKIES = [((112, 176, 226), (222, 238, 244)), ((150, 202, 230), (246, 236, 214)), ((96, 140, 196), (250, 206, 168)),
         ((178, 196, 210), (232, 234, 232))]
NOISE = 3                                   # grey levels, up or down


def bands(pen, aspect, top, bottom, first, last, count=40):
    """A colour gradient from top to bottom, painted as horizontal stripes."""
    edges = np.linspace(top, bottom, count + 1)
    for i in range(count):
        pen.fill(box(-.1, edges[i], aspect + .1, edges[i + 1] + .01), blend(first, last, i / (count - 1)))


def sky(pen, rng, aspect, horizon):
    """A sky down to the horizon, often with a sun and some clouds."""
    first, last = SKIES[rng.integers(len(SKIES))]
    bands(pen, aspect, 0, horizon, first, last)
    if rng.random() < .5:
        pen.fill(ellipse(rng.uniform(.1, .9) * aspect, rng.uniform(.08, .22), .06), blend(YELLOW, WHITE, .4))
    for _ in range(rng.integers(0, 4)):
        x, y, r = rng.uniform(0, aspect), rng.uniform(.05, horizon * .6), rng.uniform(.03, .06)
        for dx, dy, size in ((-1.5, .2, .7), (-.5, -.2, 1), (.6, 0, .85), (1.6, .25, .6)):
            pen.fill(ellipse(x + dx * r, y + dy * r, r * size * 1.25, r * size * .8), blend(last, WHITE, .75))


def ridge(rng, aspect, level, swing):
    """The points of a hilly landscape: a line around the level, up to `swing` above or below it, and all below it."""
    xs = np.linspace(-.2, aspect + .2, rng.integers(5, 9))
    line = curve(*[(x, level + rng.uniform(-swing, swing)) for x in xs])
    return np.concatenate([line, [(aspect + .2, 1.1), (-.2, 1.1)]])


def tree(pen, rng, x, y, height, green):
    pen.line([(x, y), (x, y - height * .5)], height * .09, tone(BROWN, .9))
    if rng.random() < .5:
        for i in range(3):
            top, half = y - height * (1 - .22 * i), height * (.17 + .06 * i)
            low = top + height * .38
            pen.fill([(x, top), (x + half, low), (x - half, low)], tone(green, .85 + .06 * i))
    else:
        for dx, dy, r in ((-.13, -.55, .17), (.14, -.57, .17), (0, -.75, .2)):
            pen.fill(ellipse(x + dx * height, y + dy * height, r * height), tone(green, .86 - dy * .1))


def meadow(pen, rng, aspect):
    horizon = rng.uniform(.42, .56)
    green = pick(rng, (134, 184, 104), (160, 190, 100), (112, 168, 108), (196, 186, 112))
    sky(pen, rng, aspect, horizon + .05)
    pen.fill(ridge(rng, aspect, horizon - .06, .05), blend(green, (150, 180, 200), .5))
    pen.fill(ridge(rng, aspect, horizon, .03), tone(green, .9))
    for _ in range(rng.integers(0, 5)):
        tree(pen, rng, rng.uniform(0, aspect), horizon + .03, rng.uniform(.1, .22), tone(green, .72))
    pen.fill(ridge(rng, aspect, horizon + .08, .03), green)
    if rng.random() < .5:                                                       # a path
        x = rng.uniform(.2, .8) * aspect
        path = blob((x, horizon + .1), (x + .1, .75), (x + .3, 1.2), (x - .35, 1.2), (x - .05, .75))
        pen.fill(path, blend(green, CREAM, .6))
    flower = pick(rng, WHITE, YELLOW, (236, 150, 160))
    for _ in range(rng.integers(15, 45)):
        x, y = rng.uniform(0, aspect), rng.uniform(horizon + .13, 1)
        pen.line([(x, y), (x + .006, y - .025 * y)], .007, tone(green, .78))
        if rng.random() < .3:
            pen.fill(ellipse(x + .006, y - .028 * y, .007), flower)
    return horizon


def street(pen, rng, aspect):
    horizon, x = rng.uniform(.5, .6), -.05
    sky(pen, rng, aspect, horizon)
    while x < aspect:
        wide, top = rng.uniform(.16, .3), rng.uniform(.08, .32)
        wall = pick(rng, (214, 150, 120), CREAM, TAN, (170, 188, 190), (206, 186, 170), (150, 130, 130))
        wall = blend(wall, WHITE, .2)
        pen.fill(box(x, top, x + wide, horizon), wall)
        pen.fill(box(x - .006, top - .015, x + wide + .006, top + .012), tone(wall, .8))
        pane = blend(GLASS, wall, .35) if rng.random() < .7 else (240, 214, 140)
        for wx in np.arange(x + .03, x + wide - .04, .07):
            for wy in np.arange(top + .045, horizon - .07, .1):
                pen.fill(box(wx, wy, wx + .036, wy + .055), pane)
        x += wide + rng.uniform(0, .01)
    road = pick(rng, (122, 124, 130), (138, 134, 132), (104, 110, 122))
    pen.fill(box(-.1, horizon - .01, aspect + .1, horizon + .08), (190, 186, 180))
    pen.fill(box(-.1, horizon + .08, aspect + .1, horizon + .1), (160, 156, 152))
    pen.fill(box(-.1, horizon + .1, aspect + .1, 1.1), road)
    for x in np.arange(rng.uniform(-.2, 0), aspect, .34):
        pen.fill([(x + .02, .8), (x + .17, .8), (x + .15, .825), (x - .01, .825)], tone(road, 1.5))
    return horizon


def seaside(pen, rng, aspect):
    horizon = rng.uniform(.36, .5)
    sky(pen, rng, aspect, horizon)
    if rng.random() < .5:
        x = rng.uniform(0, aspect)
        far = blob((x - .4, horizon + .02), (x - .15, horizon - .06), (x + .1, horizon - .09), (x + .4, horizon + .02))
        pen.fill(far, (130, 160, 170))
    water = pick(rng, (70, 150, 180), (84, 160, 170), (66, 124, 170))
    bands(pen, aspect, horizon, 1.02, tone(water, 1.15), tone(water, .85))
    for _ in range(rng.integers(14, 30)):
        x, y = rng.uniform(0, aspect), rng.uniform(horizon + .03, .98)
        half = .02 + .05 * (y - horizon)
        pen.line(curve((x - half, y), (x - half / 2, y - .006), (x, y), (x + half / 2, y - .006), (x + half, y)), .006,
                 blend(water, WHITE, .4))
    if rng.random() < .45:
        pen.fill(ridge(rng, aspect, .86, .02), blend(CREAM, WHITE, .5))
        pen.fill(ridge(rng, aspect, .885, .02), (232, 212, 168))
    return horizon


def night(pen, rng, aspect):
    horizon = rng.uniform(.5, .6)
    bands(pen, aspect, 0, horizon, (28, 34, 66), (92, 84, 122))
    pen.fill(ellipse(rng.uniform(.1, .9) * aspect, rng.uniform(.1, .25), .055), (246, 240, 210))
    for _ in range(rng.integers(15, 35)):
        x, y = rng.uniform(0, aspect), rng.uniform(0, horizon * .8)
        pen.fill(ellipse(x, y, rng.uniform(.002, .004)), (220, 222, 236))
    x = -.05
    while x < aspect:
        wide, top = rng.uniform(.1, .2), rng.uniform(.25, .45)
        pen.fill(box(x, top, x + wide, horizon), (46, 46, 80))
        for wx in np.arange(x + .02, x + wide - .02, .042):
            for wy in np.arange(top + .03, horizon - .03, .055):
                if rng.random() < .4:
                    pen.fill(box(wx, wy, wx + .018, wy + .026), (244, 208, 116))
        x += wide + rng.uniform(0, .06)
    bands(pen, aspect, horizon, 1.02, (96, 98, 124), (126, 122, 140), 12)
    return horizon


def snow(pen, rng, aspect):
    horizon = rng.uniform(.42, .55)
    sky(pen, rng, aspect, horizon + .05)
    for x in np.arange(-.1, aspect + .2, rng.uniform(.28, .42)):
        top, half = horizon - rng.uniform(.14, .3), rng.uniform(.2, .3)
        high = horizon + .06 - top
        pen.fill([(x - half, top + high), (x, top), (x + half, top + high)], (146, 166, 190))
        pen.fill([(x - half * .3, top + .3 * high), (x, top), (x + half * .3, top + .3 * high),
                  (x + half * .08, top + .22 * high), (x - half * .1, top + .32 * high)], WHITE)
    pen.fill(ridge(rng, aspect, horizon + .03, .025), (206, 220, 232))
    for _ in range(rng.integers(2, 6)):
        tree(pen, rng, rng.uniform(0, aspect), horizon + .08, rng.uniform(.12, .24), (90, 132, 122))
    pen.fill(ridge(rng, aspect, horizon + .12, .03), (232, 239, 244))
    return horizon + .06


def room(pen, rng, aspect):
    floor = rng.uniform(.6, .72)
    wall = pick(rng, (150, 186, 190), (214, 176, 160), CREAM, (168, 190, 160), (190, 182, 206), (222, 204, 150))
    wall = blend(wall, WHITE, .3)
    pen.fill(box(-.1, -.1, aspect + .1, floor), wall)
    paper = rng.integers(4)
    if paper == 0:                                                              # stripes, dots, panels or plain
        for x in np.arange(0, aspect, .12):
            pen.fill(box(x, -.1, x + .06, floor), tone(wall, .965))
    elif paper == 1:
        for i, y in enumerate(np.arange(.04, floor, .075)):
            for x in np.arange(.04 + .05 * (i % 2), aspect, .1):
                pen.fill(ellipse(x, y, .008), tone(wall, .91))
    elif paper == 2:
        pen.fill(box(-.1, floor - .2, aspect + .1, floor), blend(wall, WHITE, .45))
        pen.line([(-.1, floor - .2), (aspect + .1, floor - .2)], .012, tone(wall, .86))
    x = rng.uniform(.15, .75) * aspect
    if rng.random() < .55:                                                      # a window or a picture
        pen.fill(box(x - .15, .07, x + .15, .42), WHITE, .012)
        pen.fill(box(x - .14, .08, x + .14, .41), (176, 214, 232))
        hill = blob((x - .13, .36), (x - .06, .3), (x + .04, .33), (x + .13, .28), (x + .13, .4), (x - .13, .4))
        pen.fill(hill, GREEN)
        pen.line([(x, .08), (x, .41)], .014, WHITE)
        pen.line([(x - .14, .245), (x + .14, .245)], .014, WHITE)
    else:
        frame = pick(rng, BROWN, DARK, YELLOW)
        pen.fill(box(x - .1, .1, x + .1, .34), frame, .01)
        pen.fill(box(x - .085, .115, x + .085, .325), CREAM)
        pen.fill(ellipse(x, .22, .05), pick(rng, RED, TEAL, NAVY, YELLOW))
    wood = pick(rng, (186, 140, 98), (160, 116, 84), (206, 176, 138), (150, 148, 150))
    pen.fill(box(-.1, floor, aspect + .1, 1.1), wood)
    for y in (.07, .17, .3, .47):
        pen.line([(-.1, floor + y), (aspect + .1, floor + y)], .004, tone(wood, .86))
    pen.fill(box(-.1, floor - .025, aspect + .1, floor), blend(wall, WHITE, .6))
    if rng.random() < .5:
        rug, x = pick(rng, RED, TEAL, NAVY, TAN), rng.uniform(.3, .7) * aspect
        for size, colour in ((1, rug), (.82, blend(rug, CREAM, .5)), (.72, rug)):
            pen.fill(ellipse(x, (floor + 1) / 2 + .02, .42 * size, .1 * size), blend(colour, WHITE, .12))
    return floor


def studio(pen, rng, aspect):
    """Paper with a pattern of stripes, dots or squares, without a floor."""
    paper = blend(pick(rng, TEAL, RED, YELLOW, NAVY, GREEN, GREY, TAN), WHITE, rng.uniform(.45, .7))
    pen.fill(box(-.1, -.1, aspect + .1, 1.1), paper)
    kind, step, angle = rng.integers(3), rng.uniform(.1, .2), rng.uniform(-40, 40)
    for y in np.arange(-.8, 1.8, step):
        if kind == 0:
            pen.fill(turned(box(-2, y, 4, y + step / 2), aspect / 2, .5, angle), tone(paper, 1.06))
            continue
        for x in np.arange(-.8, aspect + .8, step):
            if kind == 1:
                spot = ellipse(x, y, step * .2)
            else:
                spot = box(x, y, x + step * .5, y + step * .5)
            pen.fill(turned(spot, aspect / 2, .5, angle), tone(paper, 1.06))
    return .45


def background(scene, width, height, rng):
    """The painted scene, (height, width, 3) uint8 RGB, and the row where its ground begins."""
    pen = Pen()
    ground = scene(pen, rng, width / height)
    image = paint(pen.strokes, (height, 0, 0), width, height, supersample=2)[..., :3]
    left, right = rng.permutation([.94, 1.04])
    light = np.linspace(left, right, width) * np.linspace(1.02, .97, height)[:, None]
    light = light.astype(np.float32)
    noise = rng.integers(-NOISE, NOISE + 1, (height, width), dtype=np.int8)
    image = image * light[..., None] + noise[..., None]
    return np.clip(image, 0, 255).astype(np.uint8), int(ground * height)
