"""
The person of Pascal VOC, seen from the front. `person` draws one with the pen. The random generator chooses colours,
clothes and the position of the arms.
"""

import numpy as np

from data_samples.pen import (BLACK, BLUE, BROWN, DARK, GREEN, GREY, NAVY, ORANGE, PINK, PURPLE, RED, TAN, TEAL,
                              WHITE, YELLOW, blend, blob, box, ellipse, pick, tone, vary)

SKIN = (250, 214, 180), (232, 184, 146), (196, 140, 100), (140, 94, 66), (100, 66, 50)
HAIR = (44, 36, 34), (92, 60, 38), (150, 92, 48), (222, 180, 96), (190, 80, 44), (186, 186, 190)


def person(pen, rng):
    skin, hair = pick(rng, *SKIN), pick(rng, *HAIR)
    shirt = pick(rng, RED, BLUE, TEAL, YELLOW, ORANGE, GREEN, PURPLE, WHITE, PINK)
    trousers = pick(rng, NAVY, DARK, BROWN, BLUE, GREY, TAN)
    wide, skirt, long_hair = vary(rng, .105, .15), rng.random() < .35, rng.random() < .45
    shoe, hip = pick(rng, BLACK, RED, BROWN, WHITE), vary(rng, .55, .03)
    if long_hair:
        pen.fill(blob((0, .0), (.085, .06), (.09, .18), (.07, .24), (-.07, .24), (-.09, .18), (-.085, .06)), hair)
    stride = rng.uniform(.0, .05)
    for side in (-1, 1):
        foot = side * (.055 + stride)
        pen.line([(side * .052, hip), (foot, .95)], .075 if skirt else .09,
                 tone(skin, .94) if skirt else tone(trousers, 1 if side > 0 else .9))
        pen.line([(foot - .005 + side * .005, .972), (foot + side * .03, .975)], .046, shoe)
    for side in (-1, 1):                                                        # the arm is down, on the hip or waving
        pose = rng.integers(3)
        shoulder, long_sleeve = (side * (wide + .01), .25), rng.random() < .5
        if pose == 0:
            elbow, hand = (side * (wide + .05), .4), (side * (wide + .055), .53)
        elif pose == 1:
            elbow, hand = (side * (wide + .14), .39), (side * (wide + .02), .5)
        else:
            elbow, hand = (side * (wide + .13), .31), (side * (wide + .16), .14)
        pen.line([shoulder, elbow, hand], .05, skin)
        pen.fill(ellipse(*hand, .034), skin)
        pen.line([shoulder, elbow], .066, tone(shirt, .9))
        if long_sleeve:
            pen.line([elbow, np.array(hand) * .75 + np.array(elbow) * .25], .062, tone(shirt, .9))
    pen.fill(box(-.032, .17, .032, .23), tone(skin, .85))
    pen.fill([(-wide, .235), (wide, .235), (wide * .85, hip), (-wide * .85, hip)], shirt, .025)
    kind = rng.integers(4)
    if kind == 0:
        for y in np.arange(.27, hip, .075):
            pen.patch(box(-1, y, 1, y + .03), blend(shirt, WHITE if sum(shirt) < 560 else BLUE, .7))
    elif kind == 1:
        pen.line([(0, .24), (0, hip)], .012, tone(shirt, .7))
    elif kind == 2:
        pen.fill(ellipse(0, .36, .04), blend(shirt, WHITE, .65))
    pen.shade(box(wide * .4, .2, wide + .03, hip + .03), .88)
    if skirt:
        cloth = [(-wide * .85, hip - .03), (wide * .85, hip - .03), (wide * 1.5, .76), (-wide * 1.5, .76)]
        pen.fill(cloth, trousers, .015)
        pen.shade([(wide * .3, hip - .05), (wide, hip - .05), (wide * 1.8, .8), (wide * .5, .8)], .85)
    else:
        pen.line([(-wide * .8, hip + .012), (wide * .8, hip + .012)], .035, tone(trousers, .7))
    head(pen, rng, skin, hair)


def head(pen, rng, skin, hair):
    for side in (-1, 1):
        pen.fill(ellipse(side * .075, .115, .018, .024), tone(skin, .9))
    pen.fill(ellipse(0, .105, .074, .088), skin)
    parting = rng.uniform(-.04, .04)
    pen.fill(blob((-.082, .11), (-.085, .05), (-.04, .0), (.04, .0), (.085, .05), (.082, .11), (.062, .07),
                  (parting, .045), (-.062, .07)), hair)
    if rng.random() < .25:
        hat = pick(rng, RED, BLUE, GREEN, YELLOW)
        pen.fill(ellipse(0, .045, .085, .07, start=180, end=360), hat)
        pen.line([(-.09, .045), (.09, .045)], .024, tone(hat, .8))
    for side in (-1, 1):
        pen.fill(ellipse(side * .028, .108, .0105, .0125), BLACK)
    pen.line(ellipse(0, .135, .026, .02, start=20, end=160), .0095, tone(skin, .5))
