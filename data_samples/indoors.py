"""
The furniture, bottles, plants and screens of Pascal VOC, seen from the front. Each function draws one with the pen. The
random generator chooses colours, proportions and parts.
"""

import numpy as np

from data_samples.pen import (BLACK, BLUE, BROWN, CREAM, DARK, GLASS, GREEN, GREY, NAVY, ORANGE, PINK, PURPLE, RED,
                              SILVER, TAN, TEAL, WHITE, YELLOW, blend, blob, box, curve, ellipse, pick, tone, turned,
                              vary)


def bottle(pen, rng):
    glass = pick(rng, (62, 110, 66), (62, 110, 66), (120, 70, 40), (150, 196, 214), (60, 96, 150), (176, 58, 62))
    body, shoulder, neck = vary(rng, .14, .2), vary(rng, .4, .12), vary(rng, .048, .12)
    cap, label = pick(rng, RED, YELLOW, BLACK, WHITE, BLUE), pick(rng, WHITE, CREAM, YELLOW, ORANGE)
    side = np.concatenate([[(neck, .06)], curve((neck, .22), (neck * 1.2, shoulder - .11), (body, shoulder + .02)),
                           [(body, .97), (body * .9, 1)]])
    pen.fill(np.concatenate([side, side[::-1] * (-1, 1)]), glass, .008)
    pen.shade(box(body * .35, 0, 1, 1.1), .78)
    pen.fill(box(-neck * 1.15, .0, neck * 1.15, .08), cap, .008)
    pen.fill(box(-neck * 1.3, .105, neck * 1.3, .125), tone(glass, .75), .005)
    pen.line([(-body * .68, shoulder + .06), (-body * .68, .92)], body * .16, blend(glass, WHITE, .5))
    top = rng.uniform(shoulder + .07, shoulder + .16)
    low = rng.uniform(top + .16, .9)
    pen.patch(box(-1, top, 1, low), label)
    pen.patch(box(-1, top + .02, 1, top + .04), tone(cap, .8))
    kind = rng.integers(3)
    if kind == 0:
        pen.fill(ellipse(0, (top + low) / 2 + .015, body * .45), cap)
    elif kind == 1:
        pen.fill([(-body * .6, low - .03), (-.02, top + .07), (body * .6, low - .03)], cap)
    else:
        for y in np.arange(top + .08, low - .02, .05):
            pen.line([(-body * .55, y), (body * .4, y)], .014, GREY)
    pen.shade(box(body * .5, top, 1, low), .85)


def chair(pen, rng):
    if rng.random() < .3:
        office_chair(pen, rng)
    else:
        wooden_chair(pen, rng)


def wooden_chair(pen, rng):
    wood = pick(rng, BROWN, TAN, RED, TEAL, (176, 116, 66), WHITE, BLUE)
    seat = pick(rng, RED, TEAL, CREAM, NAVY, YELLOW)
    wide, top, level = vary(rng, .24, .18), rng.uniform(.0, .14), rng.uniform(.55, .62)
    thick = vary(rng, .05, .15)
    for x in (-wide, wide):                                                 # the rear legs and the posts of the back
        pen.line([(x, level), (x * .98, .91)], thick * .9, tone(wood, .66))
        pen.line([(x, level + .03), (x * 1.03, top + .03)], thick, tone(wood, .9))
    if rng.random() < .5:
        for y in np.linspace(top + .08, level - .12, 3):
            pen.line(curve((-wide, y), (0, y - .02), (wide, y)), thick * 1.15, wood)
    else:
        for x in np.linspace(-.6, .6, rng.integers(3, 5)):
            pen.line([(x * wide, level), (x * wide, top + .08)], thick * .6, tone(wood, .95))
        pen.line(curve((-wide * 1.05, top + .06), (0, top + .02), (wide * 1.05, top + .06)), thick * 1.9, wood)
    deep = .12
    pen.fill([(-wide, level), (wide, level), (wide * 1.28, level + deep), (-wide * 1.28, level + deep)], wood, .015)
    if rng.random() < .6:
        pen.fill([(-wide * .9, level - .01), (wide * .9, level - .01), (wide * 1.12, level + deep * .75),
                  (-wide * 1.12, level + deep * .75)], seat, .02)
    pen.fill(box(-wide * 1.28, level + deep, wide * 1.28, level + deep + .04), tone(wood, .75), .015)
    for x in (-wide * 1.2, wide * 1.2):
        pen.line([(x, level + deep + .04), (x * 1.06, .99)], thick * 1.1, tone(wood, .92))
    pen.line([(-wide * 1.2, .86), (wide * 1.2, .86)], thick * .5, tone(wood, .78))


def office_chair(pen, rng):
    cloth = pick(rng, DARK, BLUE, RED, GREEN, NAVY, TEAL, ORANGE)
    wide, top = vary(rng, .22, .15), rng.uniform(-.04, .1)
    for x in (-.26, -.12, .13, .27):
        pen.line([(0, .84), (x, .95)], .04, DARK)
        pen.fill(ellipse(x, .97, .032), BLACK)
    pen.line([(0, .62), (0, .9)], .055, GREY)
    pen.line([(0, .35), (0, .6)], .06, DARK)
    pen.fill(box(-wide, top + .05, wide, .44), cloth, .05)
    pen.shade(box(-1, .36, 1, .55), .85)
    pen.shade(blob((-wide, top + .04), (wide, top + .04), (wide * .7, top + .12), (-wide * .7, top + .12)), 1.15)
    if rng.random() < .6:
        for side in (-1, 1):
            pen.line([(side * wide * .9, .62), (side * wide * 1.4, .6), (side * wide * 1.4, .47)], .035, DARK)
            pen.line([(side * wide * 1.4 - .03, .46), (side * wide * 1.4 + .03, .46)], .045, BLACK)
    pen.fill(box(-wide * 1.15, .56, wide * 1.15, .62), cloth, .045)
    pen.shade(box(-1, .6, 1, .67), .72)


def sofa(pen, rng):
    cloth = pick(rng, RED, TEAL, BLUE, GREEN, ORANGE, PURPLE, GREY, TAN, NAVY, (190, 110, 90))
    wide, top, arm, seats = vary(rng, .58, .15), vary(rng, .16, .2), vary(rng, .09, .2), rng.integers(2, 4)
    for x in (-wide + .05, wide - .05):
        pen.line([(x, .6), (x, .7)], .045, tone(BROWN, .8))
    pen.fill(box(-wide + .06, top, wide - .06, .5), tone(cloth, .84), .05)
    inner = wide - arm
    for i in range(seats):
        left, right = (-inner + 2 * inner * (i + side) / seats for side in (0, 1))
        pen.fill(box(left + .025, top + .05, right - .025, .4), tone(cloth, .95), .03)
        if rng.random() < .5:
            pen.fill(ellipse((left + right) / 2, (top + .42) / 2, .014), tone(cloth, .6))
    pen.fill(box(-wide + .06, .5, wide - .06, .62), tone(cloth, .72), .02)
    for i in range(seats):
        left, right = (-inner + 2 * inner * (i + side) / seats for side in (0, 1))
        pen.fill(box(left + .035, .41, right - .035, .47), cloth, .032)
        pen.shade(box(left + .01, .475, right - .01, .505), .85)
        pen.line([(left + .05, .395), (right - .05, .395)], .012, blend(cloth, WHITE, .3))
    for side in (-1, 1):
        pen.fill(box(side * wide - arm * .6, .34, side * wide + arm * .6, .62), cloth, .035)
        pen.shade(box(side * wide - arm, .52, side * wide + arm, .7), .85)
        pen.line([(side * wide - arm * .5, .325), (side * wide + arm * .5, .325)], .022, blend(cloth, WHITE, .25))
    for side in (-1, 1):
        if rng.random() < .6:
            x = side * (inner - .11)
            pillow = turned(box(x - .075, .255, x + .075, .395), x, .33, rng.uniform(-20, 20))
            colour = pick(rng, YELLOW, CREAM, WHITE, ORANGE, PINK)
            pen.fill(pillow, colour, .02)
            pen.line(pillow[[0, 2]], .012, tone(colour, .8))


def diningtable(pen, rng):
    wood, wide, back = pick(rng, BROWN, TAN, (176, 116, 66), (110, 76, 56)), vary(rng, .56, .15), vary(rng, .26, .08)
    cloth, front = pick(rng, WHITE, RED, BLUE, GREEN, YELLOW), back + vary(rng, .17, .15)
    round_top, covered = rng.random() < .35, rng.random() < .45
    if round_top:
        pen.line([(0, front), (0, .86)], .09, tone(wood, .75))
        for x in (-.24, .24):
            pen.line(curve((0, .8), (x * .6, .85), (x, .93)), .05, tone(wood, .7))
        y, ry = (back + front) / 2, (front - back) / 2 + .02
        pen.fill(ellipse(0, y + .035, wide, ry), tone(wood, .68))
        pen.fill(ellipse(0, y, wide, ry), wood)
        if covered:
            pen.fill(ellipse(0, y, wide, ry), tone(cloth, .78), .012)
            pen.fill(ellipse(0, y + .05, wide, ry), tone(cloth, .78), .012)
            pen.fill(ellipse(0, y, wide, ry), cloth, .005)
    else:
        for x in (-wide * .8, wide * .8):
            pen.line([(x, front), (x, .86)], .05, tone(wood, .62))
        for x in (-wide * .97, wide * .97):
            pen.fill([(x - .035, front), (x + .035, front), (x + .025, .95), (x - .025, .95)], tone(wood, .85), .008)
        pen.fill(box(-wide * .9, front + .03, wide * .9, front + .09), tone(wood, .7))
        pen.fill([(-wide * .84, back), (wide * .84, back), (wide * 1.04, front), (-wide * 1.04, front)], wood, .012)
        pen.fill(box(-wide * 1.04, front, wide * 1.04, front + .035), tone(wood, .78), .012)
        if covered:
            pen.fill([(-wide * .84, back), (wide * .84, back), (wide * 1.06, front), (-wide * 1.06, front)], cloth)
            hem = [(x * wide * 1.06, front + (.19 if i % 2 else .15)) for i, x in enumerate(np.linspace(1, -1, 11))]
            pen.fill([(-wide * 1.06, front), (wide * 1.06, front), *hem], tone(cloth, .8), .01)
    laid = (back + front) / 2
    plates = (-.6, 0, .6) if rng.random() < .6 else (-.5, .5)
    for x in plates:
        pen.fill(ellipse(x * wide, laid + .03, .105, .037), SILVER)
        pen.fill(ellipse(x * wide, laid + .024, .105, .037), WHITE)
        pen.fill(ellipse(x * wide, laid + .024, .07, .022), pick(rng, CREAM, YELLOW, ORANGE, GREEN))
        pen.line([(x * wide + .13, laid), (x * wide + .15, laid + .05)], .012, GREY)
    x = wide * rng.uniform(-.35, .35)
    if rng.random() < .5:                                                       # flowers or a bowl of fruit
        for dx, dy in ((-.05, -.16), (0, -.2), (.055, -.15)):
            pen.line([(x, laid - .1), (x + dx, laid + dy)], .012, GREEN)
            pen.fill(ellipse(x + dx, laid + dy, .035), pick(rng, RED, PINK, YELLOW, PURPLE))
        pen.fill([(x - .03, laid - .1), (x + .03, laid - .1), (x + .04, laid), (x - .04, laid)], tone(BLUE, 1.1), .01)
    else:
        for dx, dy in ((-.05, -.07), (.05, -.07), (0, -.1)):
            pen.fill(ellipse(x + dx, laid + dy, .045), pick(rng, RED, ORANGE, YELLOW, GREEN))
        pen.fill(ellipse(x, laid - .06, .11, .07, start=0, end=180), tone(TEAL, .95))


def pottedplant(pen, rng):
    green = pick(rng, GREEN, (70, 140, 84), (120, 168, 70), (60, 122, 92))
    clay = pick(rng, (198, 104, 70), WHITE, BLUE, TEAL, YELLOW)
    kinds = [fan_of_leaves, cactus, flowers, little_tree]
    draw_plant = kinds[rng.integers(4)]
    draw_plant(pen, rng, green)
    top, bottom, height = vary(rng, .2, .12), vary(rng, .135, .12), vary(rng, .3, .1)
    pen.fill([(-top, 1 - height), (top, 1 - height), (bottom, .99), (-bottom, .99)], clay, .01)
    pen.patch(box(-1, 1 - height * .55, 1, 1 - height * .4), blend(clay, WHITE if rng.random() < .5 else BROWN, .35))
    pen.shade([(top * .35, .5), (1, .5), (1, 1.1), (bottom * .35, 1.1)], .82)
    pen.fill(box(-top * 1.1, .97 - height, top * 1.1, 1.03 - height), tone(clay, .9), .015)
    pen.line([(-top * 1.0, .975 - height), (top * .4, .975 - height)], .012, blend(clay, WHITE, .4))


def leaf(pen, x, y, length, angle, colour, width=.22):
    """A leaf that begins at (x, y), with its right half darker. It points up at angle 0."""
    shape = blob((0, 0), (-width * length, -.45 * length), (0, -length), (width * length, -.45 * length))
    pen.fill(turned(shape + (x, y), x, y, angle), colour)
    half = blob((0, 0), (0, -length), (width * length, -.45 * length))
    pen.shade(turned(half + (x, y), x, y, angle), .86)


def fan_of_leaves(pen, rng, green):
    angles = np.linspace(-75, 75, rng.integers(6, 10))
    for i in sorted(range(len(angles)), key=lambda i: -abs(angles[i] + 5)):
        length = vary(rng, .62 - abs(angles[i]) * .0028, .14)
        leaf(pen, 0, .74, length, angles[i] + rng.uniform(-6, 6), tone(green, rng.uniform(.8, 1.15)), .17)


def cactus(pen, rng, green):
    top = rng.uniform(.12, .3)
    arms = ((-1, rng.uniform(.46, .56), .3), (1, rng.uniform(.38, .5), .22))
    for side, y, up in arms:
        arm = curve((0, y + .06), (side * .17, y + .04), (side * .2, y - .04), (side * .2, y - up * .7))
        pen.line(arm, .1, tone(green, .9))
        pen.line([(side * .2, y - .02), (side * .2, y - up * .65)], .012, tone(green, .68))
    pen.line([(0, top), (0, .72)], .2, green)
    for x in (-.05, 0, .05):
        pen.line([(x, top), (x, .7)], .012, tone(green, .72))
    if rng.random() < .7:
        for angle in (-40, 0, 40):
            leaf(pen, 0, top - .08, .12, angle, PINK, .3)


def flowers(pen, rng, green):
    colour = pick(rng, RED, PINK, YELLOW, PURPLE, ORANGE)
    for angle in (-70, 70, -45, 45):
        leaf(pen, 0, .74, vary(rng, .32), angle, tone(green, .9))
    stems = (-26, 26, 0) if rng.random() < .6 else (-34, -12, 14, 36)
    for angle in stems:
        length = vary(rng, .46, .15)
        x, y = length * np.sin(np.radians(angle)), .74 - length * np.cos(np.radians(angle))
        pen.line([(0, .74), (x, y)], .024, tone(green, .85))
        for petal in range(6):
            pen.fill(ellipse(x + .062 * np.cos(petal * np.pi / 3), y + .062 * np.sin(petal * np.pi / 3), .045),
                     tone(colour, .88 if petal % 2 else 1.02))
        pen.fill(ellipse(x, y, .04), YELLOW if colour[1] < 170 else BROWN)


def little_tree(pen, rng, green):
    pen.line([(0, .4), (0, .75)], .045, BROWN)
    pen.fill(blob((-.19, .3), (-.1, .12), (.1, .12), (.19, .3), (.1, .5), (-.1, .5)), tone(green, .66))
    for _ in range(26):
        angle, r = rng.uniform(0, 360), .2 * np.sqrt(rng.random())
        x, y = r * np.cos(np.radians(angle)), .3 + .95 * r * np.sin(np.radians(angle))
        leaf(pen, x, y + .05, .16, angle + 90, tone(green, 1.18 - .5 * (y - .1)), .3)


def tvmonitor(pen, rng):
    frame, wide, high = pick(rng, BLACK, DARK, SILVER, WHITE), vary(rng, .5, .08), vary(rng, .29, .12)
    low = .05 + 2 * high
    if rng.random() < .5:
        pen.fill([(-.06, low), (.06, low), (.07, low + .13), (-.07, low + .13)], tone(frame, .7))
        pen.fill(blob((-.22, low + .15), (0, low + .115), (.22, low + .15), (.2, low + .165), (-.2, low + .165)),
                 tone(frame, .85))
    else:
        for x in (-wide * .65, wide * .65):
            pen.line([(x, low), (x * 1.1, low + .1)], .03, tone(frame, .75))
    pen.fill(box(-wide, .04, wide, low), frame, .025)
    left, right, top, bottom = -wide + .03, wide - .03, .065, low - .05
    pen.fill(box(left, top, right, bottom), (40, 54, 78))
    kind, middle = rng.integers(4), (top + bottom) / 2
    if kind == 0:                                                               # a landscape
        pen.fill(box(left, top, right, bottom), (132, 190, 226))
        pen.fill(ellipse(wide * .5, top + .12, .06), YELLOW)
        pen.fill([(left, bottom), (left, middle + .06), (-.2, middle - .1), (.02, middle + .1), (.2, middle),
                  (right, bottom)], TEAL)
        pen.fill([(left, bottom), (left, bottom - .08), (right, bottom - .14), (right, bottom)], GREEN)
    elif kind == 1:                                                             # lines of text
        for i, y in enumerate(np.arange(top + .06, bottom - .03, .06)):
            start = left + .06 + .06 * rng.integers(3)
            pen.line([(start, y), (start + rng.uniform(.15, .5), y)], .02, (YELLOW, GLASS, GREEN, PINK)[i % 4])
    elif kind == 2:                                                             # windows on a desk top
        pen.fill(box(left, top, right, bottom), pick(rng, BLUE, PURPLE, TEAL))
        for x, y, colour in ((-.25, middle - .05, CREAM), (.12, middle + .03, WHITE)):
            pen.fill(box(x - .17, y - .1, x + .17, y + .12), colour)
            pen.fill(box(x - .17, y - .1, x + .17, y - .06), DARK)
    gloss = [(left + .1, bottom), (left + .42, top), (left + .54, top), (left + .22, bottom)]
    pen.shade(gloss, 1.5 if kind == 3 else 1.1)
    pen.fill(ellipse(wide - .05, low - .012, .011), GREEN)
