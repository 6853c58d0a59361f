"""
The animals of Pascal VOC. Each function draws one with the pen. The random generator chooses colours and proportions.
All animals look to the right, but for the cat, which faces the viewer.
"""

import numpy as np

from data_samples.pen import (BLACK, BLUE, BROWN, CREAM, DARK, GREEN, GREY, ORANGE, PINK, PURPLE, RED, TAN, TEAL,
                              WHITE, YELLOW, blend, blob, curve, ellipse, pick, tone, vary)


def eye(pen, x, y, radius):
    pen.fill(ellipse(x, y, radius), BLACK)
    pen.fill(ellipse(x + radius * .3, y - radius * .35, radius * .35), WHITE)


def leg(pen, x, top, bottom, width, colour, foot, step=0):
    """A leg from (x, top) down to bottom. The hoof or paw has the colour `foot`, and `step` moves it forward."""
    knee = (x + step * .3 + .01, top + (bottom - top) * .5)
    pen.line([(x, top), knee], width * 1.2, colour)
    pen.line([knee, (x + step, bottom)], width, colour)
    pen.line([(x + step - width * .1, bottom), (x + step + width * .25, bottom)], width * 1.05, foot)


def bird(pen, rng):
    back = pick(rng, BLUE, RED, YELLOW, GREEN, BROWN, ORANGE, TEAL, DARK, PURPLE)
    belly = pick(rng, CREAM, WHITE, ORANGE, YELLOW)
    beak, length = pick(rng, ORANGE, YELLOW, DARK), rng.uniform(.08, .2)
    plump, flying = vary(rng, .19, .15), rng.random() < .6
    dark = tone(back, .72)
    if flying:
        pen.fill(blob((.38, .46), (.2, .2), (.12, -.06), (.3, .02), (.48, .2), (.6, .42)), dark)
    else:
        for x in (.46, .56):
            pen.line([(x, .66), (x + .01, .9)], .02, tone(ORANGE, .8))
            pen.line([(x - .05, .92), (x + .01, .89), (x + .07, .92)], .02, tone(ORANGE, .8))
    for dy in (.06, 0):
        pen.fill([(.34, .48 + dy), (-.02, .52 + dy * 1.6), (-.04, .58 + dy * 1.6), (.34, .62 + dy)],
                 tone(back, .6 if dy else .8), .008)
    pen.fill([(.8, .31), (.83 + length, .37), (.8, .41)], beak)
    pen.shade([(.75, .37), (1.1, .37), (.8, .45)], .8)
    if rng.random() < .3:
        pen.fill([(.63, .28), (.56, .1), (.7, .18), (.74, .26)], dark, .008)
    pen.fill(blob((.2, .52), (.42, .4), (.6, .26), (.73, .2), (.84, .28), (.85, .4), (.79, .54),
                  (.66, .56 + plump * .75), (.48, .56 + plump * .8), (.3, .63)), back)
    pen.patch(blob((.88, .44), (.76, .46), (.6, .6), (.3, .64), (.4, .9), (.7, .85)), belly)
    if flying:
        pen.fill(blob((.36, .5), (.3, .3), (.3, .05), (.34, -.08), (.48, .1), (.62, .34), (.62, .5), (.48, .56)),
                 tone(back, .88))
        pen.line(curve((.42, .44), (.42, .3), (.37, .1)), .016, dark)
        pen.line(curve((.5, .46), (.5, .34), (.44, .16)), .016, dark)
    else:
        pen.fill(blob((.14, .6), (.34, .46), (.54, .42), (.64, .5), (.54, .63), (.34, .66)), dark)
        pen.line(curve((.24, .6), (.38, .58), (.52, .56)), .016, back)
        pen.line(curve((.3, .53), (.42, .51), (.54, .49)), .016, back)
    pen.fill(ellipse(.76, .32, .036), WHITE)
    eye(pen, .765, .32, .026)


def cat(pen, rng):
    fur = pick(rng, ORANGE, GREY, (68, 66, 74), CREAM, BROWN, (190, 150, 110))
    light, mark = blend(fur, WHITE, .6), tone(fur, .68)
    eyes, wide, stripes = pick(rng, GREEN, YELLOW, TEAL), vary(rng, .21, .12), rng.random() < .5
    pen.line(curve((.62, .92), (.86, .93), (.95, .78), (.86, .62), (.92, .52)), .08, tone(fur, .88))
    pen.line(curve((.88, .64), (.87, .58), (.92, .52)), .08, light if rng.random() < .5 else mark)
    pen.fill(blob((.5, .38), (.5 + wide * .75, .55), (.5 + wide * 1.15, .8), (.5 + wide, .97), (.5, .98),
                  (.5 - wide, .97), (.5 - wide * 1.15, .8), (.5 - wide * .75, .55)), fur)
    pen.shade(blob((.5 + wide * .9, .97), (.5 + wide * .4, .85), (.5 + wide * .75, .7), (.5 + wide * 1.2, .8)), .86)
    if stripes:
        for side in (-1, 1):
            for y in (.6, .69, .78):
                pen.patch([(.5 + side * .3, y - .03), (.5 + side * wide * .45, y + .01), (.5 + side * .3, y + .025)],
                          mark)
    pen.patch(blob((.5, .44), (.59, .52), (.57, .7), (.5, .76), (.43, .7), (.41, .52)), light)
    for x in (.42, .58):
        pen.line([(x, .72), (x, .95)], .085, fur)
        pen.fill(ellipse(x, .965, .062, .036), light)
    pen.line([(.5, .78), (.5, .97)], .012, mark)
    for side in (-1, 1):
        pen.fill([(.5 + side * .2, .25), (.5 + side * .2, .03), (.5 + side * .05, .15)], fur, .015)
        pen.fill([(.5 + side * .175, .2), (.5 + side * .18, .075), (.5 + side * .09, .15)], PINK)
    pen.fill(ellipse(.5, .29, wide, .175), fur)
    if stripes:
        for x in (-.06, 0, .06):
            pen.patch([(.5 + x - .018, .1), (.5 + x + .018, .1), (.5 + x * .8, .2)], mark)
        for side in (-1, 1):
            pen.patch([(.5 + side * .24, .3), (.5 + side * .14, .32), (.5 + side * .24, .345)], mark)
    pen.fill(ellipse(.5, .36, .085, .06), light)
    for side in (-1, 1):
        pen.fill(ellipse(.5 + side * .09, .275, .042, .045), eyes)
        pen.fill(ellipse(.5 + side * .09, .275, .015, .04), BLACK)
        pen.fill(ellipse(.5 + side * .09 + .012, .258, .01), WHITE)
        for y in (.34, .375):
            pen.line([(.5 + side * .1, y + .005), (.5 + side * .25, y + (y - .36) * .8)], .009,
                     WHITE if sum(fur) < 330 else DARK)
        pen.line(ellipse(.5 + side * .028, .37, .028, start=0, end=180), .012, DARK)
    pen.fill([(.472, .335), (.528, .335), (.5, .365)], PINK, .008)


def dog(pen, rng):
    fur = pick(rng, TAN, BROWN, (226, 190, 130), WHITE, (80, 66, 60), (180, 110, 60))
    ear, tall = tone(fur, .62) if rng.random() < .7 else BROWN, vary(rng, .3, .15)
    far, collar = tone(fur, .75), pick(rng, RED, BLUE, GREEN, YELLOW)
    ground, y = .52 + tall + .04, .52
    pen.line(curve((.18, .45), (.06, .36), (.03, .22), (.1, .14)), .055, fur)
    for x in (.3, .62):
        leg(pen, x + .03, y, ground, .07, far, far, .03)
    pen.fill(blob((.14, .44), (.24, .36), (.45, .37), (.64, .33), (.73, .42), (.68, .58), (.5, .6), (.34, .57),
                  (.2, .59)), fur)
    pen.fill([(.56, .4), (.62, .24), (.8, .3), (.72, .52)], fur, .02)
    pen.shade(blob((.15, .55), (.45, .53), (.72, .5), (.66, .65), (.2, .65)), .84)
    if rng.random() < .45:                                                      # a patch of another colour on the back
        pen.patch(blob((.18, .3), (.5, .3), (.56, .42), (.4, .49), (.22, .46)), ear)
    for x in (.22, .64):
        leg(pen, x, y, ground, .075, fur, blend(fur, WHITE, .4), rng.uniform(-.03, .03))
    pen.line([(.58, .36), (.71, .42)], .045, collar)
    pen.fill(ellipse(.69, .45, .026), YELLOW)
    if rng.random() < .6:
        pen.fill(blob((.86, .34), (.92, .34), (.93, .43), (.89, .45)), PINK)
    pen.fill(blob((.58, .2), (.64, .1), (.76, .08), (.84, .16), (.97, .2), (1.0, .27), (.95, .33), (.8, .36),
                  (.66, .36), (.59, .3)), fur)
    pen.patch(blob((.86, .17), (1.05, .2), (1.05, .4), (.84, .38), (.83, .26)), blend(fur, WHITE, .55))
    pen.fill(ellipse(.985, .21, .035, .03), BLACK)
    pen.line(curve((.97, .27), (.92, .315), (.84, .31)), .014, DARK)
    eye(pen, .81, .19, .026)
    pen.fill(blob((.62, .1), (.7, .1), (.73, .22), (.68, .4), (.59, .36), (.57, .22)), ear)


def horse(pen, rng):
    coat = pick(rng, BROWN, (160, 100, 56), (92, 62, 50), (208, 170, 120), (196, 196, 200), (60, 54, 58))
    mane = pick(rng, BLACK, CREAM, (70, 46, 36)) if sum(coat) > 230 else pick(rng, BLACK, GREY)
    hoof, far, sock = tone(DARK, .8), tone(coat, .72), rng.random() < .5
    belly, stride = vary(rng, .635, .03), rng.uniform(0, .1)
    pen.line(curve((.15, .44), (.07, .48), (.05, .62), (.01, .78)), .075, mane)
    leg(pen, .25, .55, .98, .05, far, hoof, -stride)
    leg(pen, .61, .55, .98, .05, far, hoof, stride)
    pen.fill([(.73, .14), (.765, -.01), (.81, .12)], far, .006)
    pen.fill(blob((.12, .48), (.2, .38), (.42, .42), (.58, .37), (.71, .42), (.73, .54), (.64, belly), (.44, belly),
                  (.3, .59), (.17, .61)), coat)
    pen.fill(blob((.5, .42), (.62, .26), (.68, .1), (.78, .1), (.82, .2), (.76, .38), (.7, .54), (.58, .52)), coat)
    pen.shade(blob((.14, .56), (.42, .55), (.66, .52), (.74, .44), (.74, .62), (.4, .7), (.2, .66)), .84)
    for x, step in ((.2, stride * .6), (.65, -stride * .5)):
        leg(pen, x, .54, .98, .055, coat, hoof, step)
        if sock:
            pen.line([(x + step * .8, .88), (x + step, .945)], .055, WHITE)
    pen.fill(blob((.68, .1), (.78, .05), (.87, .13), (.98, .26), (.985, .33), (.92, .36), (.84, .28), (.74, .27)),
             coat)
    pen.patch(blob((.93, .22), (1.05, .25), (1.05, .4), (.9, .4), (.9, .3)), tone(coat, .75))
    if rng.random() < .5:
        pen.line([(.83, .1), (.93, .22)], .028, WHITE)
    pen.fill([(.7, .12), (.715, -.02), (.77, .09)], coat, .008)
    pen.fill(blob((.74, .04), (.66, .07), (.58, .2), (.52, .34), (.5, .44), (.6, .38), (.68, .24), (.72, .12)), mane)
    pen.line(curve((.72, .05), (.79, .08), (.8, .15)), .03, mane)
    eye(pen, .815, .155, .021)
    pen.fill(ellipse(.955, .285, .012, .016), BLACK)


def cow(pen, rng):
    colours = [(WHITE, BLACK), (WHITE, BROWN), (CREAM, (160, 90, 50)), (BROWN, CREAM), ((70, 62, 64), WHITE)]
    coat, spot = colours[rng.integers(5)]
    far, horn = tone(coat, .74), vary(rng, .09, .25)
    ground, muzzle = vary(rng, .94, .04), pick(rng, PINK, PINK, (214, 170, 150))
    pen.line(curve((.1, .36), (.03, .44), (.04, .62), (.02, .7)), .024, far)
    pen.fill(ellipse(.02, .73, .035, .06), spot)
    for x in (.24, .6):
        leg(pen, x + .06, .6, ground, .075, far, DARK)
    pen.fill(ellipse(.36, .69, .085, .06), PINK)
    pen.line([(.33, .72), (.33, .765)], .025, tone(PINK, .9))
    pen.line([(.39, .72), (.39, .765)], .025, tone(PINK, .9))
    pen.fill(blob((.09, .38), (.2, .31), (.45, .33), (.66, .29), (.77, .36), (.78, .52), (.7, .66), (.45, .7),
                  (.2, .66), (.1, .55)), coat)
    for x in rng.permutation([.16, .33, .5, .68])[:rng.integers(3, 5)]:
        y, r = rng.uniform(.32, .56), rng.uniform(.07, .12)
        angles = np.arange(6) * np.pi / 3
        around = [(x + vary(rng, r, .35) * np.cos(a), y + .9 * vary(rng, r, .35) * np.sin(a)) for a in angles]
        pen.patch(blob(*around), spot)
    pen.shade(blob((.08, .58), (.4, .62), (.78, .54), (.74, .78), (.1, .78)), .85)
    for x in (.17, .66):
        leg(pen, x, .6, ground, .08, coat, DARK)
    for x, side in ((.79, -1), (.89, 1)):
        pen.line(curve((x, .22), (x + side * horn * .55, .19), (x + side * horn * .6, .19 - horn)), .035,
                 (232, 220, 190))
    for x, tilt in ((.72, 20), (.97, -20)):
        pen.fill(ellipse(x, .27, .065, .034, tilt=tilt), spot)
    pen.fill(blob((.75, .24), (.84, .19), (.93, .24), (.95, .38), (.92, .5), (.84, .53), (.77, .48), (.74, .36)), coat)
    if rng.random() < .7:
        pen.patch(blob((.7, .15), (.82, .15), (.82, .36), (.7, .42)), spot)
    pen.fill(ellipse(.845, .49, .105, .072), muzzle)
    for x in (.805, .885):
        pen.fill(ellipse(x, .485, .016, .02), tone(muzzle, .55))
    eye(pen, .795, .335, .024)
    eye(pen, .9, .335, .024)
    if rng.random() < .4:
        pen.fill([(.79, .6), (.83, .6), (.85, .67), (.77, .67)], YELLOW, .01)
        pen.line([(.75, .57), (.87, .57)], .025, RED)


def sheep(pen, rng):
    wool = pick(rng, WHITE, CREAM, (226, 220, 208), (110, 98, 92))
    face = pick(rng, (60, 54, 56), (60, 54, 56), (232, 200, 176))
    rx, ry, bumps = vary(rng, .31, .1), vary(rng, .2, .12), rng.integers(10, 14)
    for x, dark in ((.26, .75), (.6, .75), (.2, 1), (.54, 1)):
        leg(pen, x + .04, .6, .92, .05, tone(face, dark), tone(BLACK, dark))
    angles = np.arange(bumps) * 2 * np.pi / bumps
    for a in angles:
        pen.fill(ellipse(.44 + rx * np.cos(a), .46 + ry * np.sin(a), vary(rng, .105, .12)), tone(wool, .93))
    pen.fill(ellipse(.44, .46, rx, ry), wool)
    pen.shade(blob((.06, .56), (.4, .6), (.84, .54), (.8, .8), (.1, .8)), .84)
    for _ in range(7):                                                          # curls
        x, y = .44 + rng.uniform(-.8, .6) * rx, .44 + rng.uniform(-.75, .7) * ry
        pen.line(ellipse(x, y, .04, start=20, end=rng.uniform(200, 290)), .014, tone(wool, .8))
    pen.fill(ellipse(.7, .34, .075, .032, tilt=-25 + 180), tone(face, .8))
    pen.fill(blob((.74, .26), (.84, .24), (.92, .34), (.95, .46), (.89, .52), (.8, .46), (.74, .36)), face)
    pen.fill(ellipse(.72, .36, .032, .075, tilt=25), tone(face, .8))
    for x, y in ((.72, .27), (.79, .22), (.86, .25)):
        pen.fill(ellipse(x, y, .062), wool)
    pen.fill(ellipse(.845, .355, .025), WHITE)
    pen.fill(ellipse(.85, .355, .014), BLACK)
    pen.fill(ellipse(.925, .46, .014), tone(face, .5))
