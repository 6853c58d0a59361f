"""
The vehicles of Pascal VOC, seen from the side and driving to the right. Each function draws one with the pen. The
random generator chooses colours, proportions and parts.
"""

import numpy as np

from data_samples.pen import (BLACK, BLUE, BROWN, CREAM, DARK, GLASS, GREEN, GREY, NAVY, ORANGE, PURPLE, RED, SILVER,
                              TEAL, WHITE, YELLOW, blend, blob, box, curve, ellipse, pick, tone, vary)


def wheel(pen, x, y, radius, rim=SILVER):
    """A tyre, a rim and its hub."""
    pen.fill(ellipse(x, y, radius), BLACK)
    pen.fill(ellipse(x, y, radius * .6), rim)
    pen.fill(ellipse(x, y, radius * .22), DARK)


def aeroplane(pen, rng):
    colour, accent = pick(rng, WHITE, SILVER, CREAM), pick(rng, RED, BLUE, ORANGE, TEAL, NAVY, PURPLE)
    fat, wing, fin = vary(rng, .085, .18), vary(rng, .28, .2), vary(rng, .22, .2)
    pen.fill([(.56, .46), (.42, .46 - wing * .8), (.48, .46 - wing * .8), (.70, .46)], tone(colour, .72), .008)
    pen.fill([(.02, .46), (-.06, .48 - fin), (.04, .48 - fin), (.22, .45)], accent, .01)
    pen.fill(blob((.0, .5 - fat * .75), (.25, .5 - fat), (.75, .5 - fat), (.92, .5 - fat * .7), (1, .52),
                  (.93, .5 + fat * .75), (.78, .5 + fat), (.35, .5 + fat), (.12, .5 + fat * .2)), colour)
    pen.patch(box(-.2, .5 + fat * .12, 1.1, .5 + fat * .38), accent)
    pen.shade(box(-.2, .5 + fat * .45, 1.1, 1), .84)
    for x in np.arange(.2, .84, vary(rng, .062, .2)):
        pen.fill(ellipse(x, .5 - fat * .25, .013, .017), tone(BLUE, .7))
    pen.fill([(.89, .5 - fat * .6), (.945, .5 - fat * .36), (.955, .5 - fat * .08), (.885, .5 - fat * .08)],
             tone(BLUE, .55), .006)
    pen.fill([(.02, .47), (-.1, .55), (-.02, .56), (.16, .5)], tone(colour, .8), .008)
    pen.fill([(.40, .5 + fat * .3), (.18, .52 + wing), (.27, .52 + wing), (.66, .5 + fat * .45)],
             tone(colour, .88), .01)
    pen.fill([(.26, .52 + wing * .8), (.18, .52 + wing), (.27, .52 + wing), (.33, .52 + wing * .8)], accent, .01)
    pen.fill(box(.38, .56 + wing * .28, .54, .62 + wing * .3), accent, .025)
    pen.fill(ellipse(.555, .59 + wing * .29, .018, .05), DARK)


def bicycle(pen, rng):
    colour, radius = pick(rng, RED, BLUE, TEAL, ORANGE, GREEN, PURPLE, YELLOW, DARK), vary(rng, .235, .1)
    y, back, front = .74, .25, vary(rng, .92, .06)
    crank, seat, head = (.52, .76), (.43, vary(rng, .38, .08)), (front - .15, .4)
    for x in (back, front):
        for angle in np.arange(0, 180, 30) + rng.uniform(0, 30):
            pen.line(ellipse(x, y, radius, start=angle, end=angle + 360)[[0, 20]], .008, GREY)
        pen.line(ellipse(x, y, radius), .038, BLACK)
        pen.line(ellipse(x, y, radius * .88), .012, SILVER)
        pen.fill(ellipse(x, y, .028), DARK)
    pen.line([crank, (.42, .74), (back, y)], .016, DARK)
    if rng.random() < .4:                                                       # mudguards
        for x in (back, front):
            pen.line(ellipse(x, y, radius + .035, start=190, end=310), .022, tone(colour, .8))
    pen.line([(back, y), crank, seat, (back, y)], .034, colour)
    low = rng.random() < .3                                                     # a step-through frame
    pen.line([(.455, .52) if low else (.435, .45), (head[0] + .01, .48) if low else (head[0], .43)], .034, colour)
    pen.line([crank, (head[0] + .015, .5)], .036, colour)
    pen.line([(head[0] - .03, .3), head, (head[0] + .05, .55), (front, y)], .034, colour)
    pen.line([seat, (seat[0] - .02, .29)], .024, GREY)
    pen.fill(blob((.3, .255), (.42, .26), (.51, .27), (.42, .3), (.31, .305)), BLACK)
    if rng.random() < .5:                                                       # a racing or an upright handlebar
        pen.line(curve((head[0] - .03, .29), (head[0] + .1, .27), (head[0] + .14, .33), (head[0] + .06, .38)),
                 .028, DARK)
    else:
        pen.line(curve((head[0] - .03, .3), (head[0] + .03, .22), (head[0] - .1, .2)), .028, DARK)
    if rng.random() < .35:
        pen.fill([(head[0] + .06, .3), (head[0] + .27, .3), (head[0] + .23, .44), (head[0] + .09, .44)], BROWN, .01)
        pen.line([(head[0] + .07, .35), (head[0] + .25, .35)], .012, tone(BROWN, 1.4))
    pen.line(ellipse(*crank, .055), .02, DARK)
    pen.line([(.46, .68), (.58, .84)], .02, GREY)
    pen.line([(.55, .845), (.62, .845)], .024, BLACK)


def motorbike(pen, rng):
    colour, radius = pick(rng, RED, BLUE, ORANGE, GREEN, YELLOW, BLACK, TEAL), vary(rng, .2, .08)
    y, back, front = .78, .22, vary(rng, .9, .05)
    for x in (back, front):
        pen.fill(ellipse(x, y, radius), BLACK)
        pen.fill(ellipse(x, y, radius * .66), SILVER)
        pen.fill(ellipse(x, y, radius * .55), DARK)
        for angle in (0, 60, 120):
            pen.line(ellipse(x, y, radius * .6, start=angle, end=angle + 360)[[0, 20]], .022, SILVER)
    pen.line([(front, y), (front - .17, .36)], .05, SILVER)
    pen.line(ellipse(front, y, radius + .02, start=215, end=320), .045, colour)
    pen.line([(back, y), (.46, .74)], .05, GREY)
    pen.fill(box(.4, .56, .66, .8), GREY, .03)                                  # engine with its fins
    for i in range(4):
        pen.line([(.43, .58 + .045 * i), (.63, .58 + .045 * i)], .016, DARK)
    pen.fill(ellipse(.53, .79, .07), tone(SILVER, .9))
    pen.line(curve((.62, .72), (.56, .88), (.36, .88), (.06, .83)), .06, SILVER)
    pen.line([(.14, .853), (.05, .83)], .07, DARK)
    pen.fill(blob((.04, .46), (.2, .5), (.4, .54), (.46, .6), (.3, .62), (.14, .56)), colour)
    pen.fill(blob((.06, .42), (.18, .43), (.36, .5), (.5, .5), (.48, .55), (.3, .56), (.12, .5)), BLACK)
    pen.fill(blob((.42, .46), (.52, .38), (.66, .36), (.77, .44), (.72, .56), (.56, .58), (.46, .54)), colour)
    pen.shade(blob((.44, .52), (.6, .5), (.76, .47), (.72, .58), (.56, .6)), .8)
    pen.fill(ellipse(.6, .425, .06, .016, tilt=-12), blend(colour, WHITE, .5))
    if rng.random() < .5:                                                       # racing fairing
        pen.fill(blob((.7, .4), (.8, .36), (.88, .46), (.8, .66), (.68, .66), (.66, .52)), colour)
        pen.fill(blob((.7, .38), (.74, .26), (.78, .27), (.86, .42), (.78, .42)), tone(GLASS, .85))
    pen.fill(ellipse(front - .07, .46, .06, .065), DARK)
    pen.fill(ellipse(front - .05, .46, .045, .055), YELLOW)
    pen.line([(front - .16, .38), (front - .2, .29), (front - .3, .3)], .035, BLACK)
    pen.fill(ellipse(.06, .5, .03, .022), RED)


def car(pen, rng):
    colour = pick(rng, RED, BLUE, TEAL, ORANGE, YELLOW, WHITE, SILVER, NAVY, GREEN, PURPLE)
    roof, tail, nose = vary(rng, .3, .12), rng.uniform(.03, .2), rng.uniform(.7, .8)
    radius = vary(rng, .1, .1)
    pen.fill([(tail, .52), (tail + .1, roof), (nose - .2, roof), (nose, .52)], colour, .03)
    pen.fill([(.03, .54), (.03, .76), (.98, .76), (.99, .62), (.94, .56), (.74, .51), (.2, .51)], colour, .03)
    pen.shade(box(-.1, .66, 1.1, .9), .82)
    pen.shade(box(-.1, .515, 1.1, .535), 1.14)
    middle = (tail + nose) / 2 - .02
    for glass in ([(tail + .04, .5), (tail + .115, roof + .03), (middle - .015, roof + .03), (middle - .015, .5)],
                  [(middle + .015, .5), (middle + .015, roof + .03), (nose - .205, roof + .03), (nose - .05, .5)]):
        pen.fill(glass, GLASS, .008)
    pen.fill([(middle + .04, .5), (middle + .1, roof + .03), (middle + .14, roof + .03), (middle + .08, .5)],
             tone(GLASS, 1.15))
    if rng.random() < .25:                                                      # a taxi
        pen.fill(box(middle - .06, roof - .09, middle + .06, roof - .03), YELLOW, .01)
    pen.line([(middle, .53), (middle, .75)], .01, tone(colour, .68))
    pen.line([(middle + .05, .585), (middle + .1, .585)], .018, tone(colour, .6))
    pen.line([(middle - .18, .585), (middle - .13, .585)], .018, tone(colour, .6))
    pen.fill(box(.925, .6, 1, .645), YELLOW, .015)
    pen.fill(box(.01, .58, .045, .65), tone(RED, .9), .01)
    pen.line([(.0, .765), (1.01, .765)], .035, DARK)
    for x in (.22, .79):
        pen.fill(ellipse(x, .76, radius * 1.22, start=180, end=360), tone(colour, .5))
        wheel(pen, x, .79, radius)


def bus(pen, rng):
    colour, second = pick(rng, RED, YELLOW, BLUE, GREEN, ORANGE, TEAL), pick(rng, WHITE, CREAM, NAVY)
    length, windows = vary(rng, 1.1, .12), rng.integers(4, 7)
    decks = 2 if rng.random() < .35 else 1
    top = .3 - .27 * (decks - 1)
    pen.fill(box(.03, top, length, .76), colour, .035)
    pen.shade(box(-.1, .69, 2, .9), .8)
    pen.patch(box(-.1, .575, 2, .62), second)
    pen.shade(box(-.1, top - .1, 2, top + .01), 1.15)
    step = (length - .3) / windows
    for deck in range(decks):
        y = .36 - .26 * deck
        for i in range(windows + deck):
            left = .06 + step * i
            pen.fill(box(left, y, left + step * .8, y + .15), tone(GLASS, .92), .012)
            pen.fill([(left + step * .15, y + .15), (left + step * .4, y), (left + step * .6, y),
                      (left + step * .35, y + .15)], tone(GLASS, 1.08))
    pen.fill(box(length - .21, .36, length - .1, .74), tone(DARK, 1.1), .012)      # door
    for left in (length - .205, length - .15):
        pen.fill(box(left, .375, left + .038, .72), GLASS)
    pen.fill(box(length - .055, .35, length + .02, .54), GLASS, .014)                # windscreen
    pen.fill(box(length - .2, top - .005, length + .01, top + .035), BLACK, .008)   # destination sign
    pen.line([(length - .18, top + .015), (length - .05, top + .015)], .016, YELLOW)
    pen.fill(box(length - .02, .64, length + .025, .68), YELLOW, .01)
    pen.fill(box(.0, .64, .02, .7), RED, .01)
    for x in (.24, length - .29):
        pen.fill(ellipse(x, .77, .115, start=180, end=360), tone(colour, .45))
        wheel(pen, x, .79, .09)


def train(pen, rng):
    if rng.random() < .5:
        steam_train(pen, rng)
    else:
        electric_train(pen, rng)


def steam_train(pen, rng):
    colour, trim = pick(rng, GREEN, BLACK, NAVY, RED, TEAL), pick(rng, RED, YELLOW, ORANGE)
    boiler, chimney = vary(rng, .125, .12), vary(rng, .17, .2)
    y = .5
    pen.line([(-.2, .72), (.1, .72)], .03, DARK)
    pen.fill([(-.44, .46), (-.12, .46), (-.14, .74), (-.42, .74)], colour, .015)   # tender with coal
    pen.fill(blob((-.43, .46), (-.36, .37), (-.27, .4), (-.2, .36), (-.13, .46)), BLACK)
    pen.fill(box(-.43, .56, -.13, .59), trim)
    for x in (-.36, -.2):
        wheel(pen, x, .82, .075, trim)
    pen.fill([(.74, y), (.75, y - boiler - chimney), (.83, y - boiler - chimney), (.84, y)], BLACK, .01)
    pen.fill(box(.715, y - boiler - chimney - .03, .865, y - boiler - chimney), tone(trim, .9), .012)
    pen.fill(ellipse(.52, y - boiler, .07, .075), tone(YELLOW, .85))
    pen.fill(box(.3, y - boiler, .84, y + boiler), colour, .01)
    pen.shade(box(.2, y + boiler * .3, 1, 1), .72)
    pen.shade(box(.2, y - boiler * .75, 1, y - boiler * .4), 1.3)
    for x in (.42, .62):
        pen.fill(box(x, y - boiler - .01, x + .025, y + boiler + .01), tone(YELLOW, .9))
    pen.fill(box(.8, y - boiler - .012, .92, y + boiler + .012), tone(BLACK, 1.1), .012)
    pen.fill(ellipse(.945, y - boiler * .5, .04, .045), YELLOW)
    pen.fill(box(.02, .2, .3, .72), colour, .01)                                    # cab
    pen.fill(box(.07, .28, .25, .44), GLASS, .01)
    pen.fill(box(-.03, .15, .35, .2), trim, .015)
    pen.fill(box(.0, .68, .96, .73), trim, .01)
    pen.fill([(.94, .7), (1.06, .9), (.9, .9), (.88, .74)], tone(trim, .8), .01)
    for x, radius in ((.14, .115), (.4, .115), (.64, .115), (.83, .07)):
        wheel(pen, x, .905 - radius, radius, trim)
    pen.line([(.14, .83), (.64, .83)], .03, SILVER)


def electric_train(pen, rng):
    colour, accent = pick(rng, WHITE, SILVER, CREAM, YELLOW), pick(rng, RED, BLUE, GREEN, NAVY, ORANGE)
    nose, windows, length = rng.uniform(.1, .32), rng.integers(4, 7), vary(rng, 1.3, .12)
    pen.line([(.3, .3), (.42, .2), (.33, .13)], .018, DARK)                       # pantograph
    pen.line([(.26, .125), (.42, .125)], .02, DARK)
    pen.fill(box(.2, .255, .5, .29), GREY, .01)
    for x in (.17, .27, length - .36, length - .26):
        wheel(pen, x, .76, .05)
    pen.fill(box(.12, .69, .32, .75), DARK, .01)
    pen.fill(box(length - .41, .69, length - .21, .75), DARK, .01)
    pen.fill([(.02, .3), (length - nose, .3), (length - nose * .45, .38), (length, .56), (length, .69), (.02, .69)],
             colour, .025)
    pen.patch(box(-.1, .55, 2, .63), accent)
    pen.patch([(length - nose * .9, .63), (length - nose * .5, .5), (2, .5), (2, .63)], accent)
    pen.shade(box(-.1, .63, 2, .8), .82)
    pen.shade(box(-.1, .2, 2, .3), .9)
    pen.fill([(length - nose + .01, .345), (length - nose * .5, .4), (length - nose * .2, .5),
              (length - nose - .03, .5)],
             tone(BLUE, .45), .012)
    right = length - nose - .1
    for i in range(windows):
        left = .08 + (right - .08) * i / windows
        wide = (right - .08) / windows
        if i == windows - 1 or i == 0:                                          # a door at either end
            pen.fill(box(left + wide * .1, .36, left + wide * .7, .67), accent, .01)
            pen.fill(box(left + wide * .2, .38, left + wide * .6, .5), tone(GLASS, .95), .006)
        else:
            pen.fill(box(left, .37, left + wide * .78, .5), tone(BLUE, .5), .012)
            pen.fill([(left + wide * .2, .5), (left + wide * .4, .37), (left + wide * .55, .37),
                      (left + wide * .35, .5)], tone(BLUE, .72))
    pen.fill(ellipse(length - .01, .605, .022, .018), YELLOW)


def boat(pen, rng):
    if rng.random() < .6:
        sailing_boat(pen, rng)
    else:
        steamer(pen, rng)


def sailing_boat(pen, rng):
    hull, cloth = pick(rng, RED, BLUE, WHITE, BROWN, TEAL, NAVY), pick(rng, WHITE, CREAM, WHITE, ORANGE, RED, YELLOW)
    top, mast = rng.uniform(-.1, .1), vary(rng, .48, .08)
    pen.line([(mast, top - .03), (mast, .78)], .025, BROWN)
    pen.fill([(mast, top - .04), (mast - .13, top), (mast, top + .04)], pick(rng, RED, BLUE, GREEN))
    pen.fill(np.concatenate([curve((mast - .025, top + .06), (mast - .14, .42), (.06, .66)),
                             curve((.06, .66), (mast * .6, .69), (mast - .025, .67))]), cloth)
    pen.shade([(mast, top), (mast - .11, .7), (mast, .7)], .9)
    if rng.random() < .4:
        pen.patch(box(0, .46, mast - .01, .52), pick(rng, RED, BLUE, TEAL))
    pen.fill(np.concatenate([curve((mast + .025, top + .1), (mast + .2, .38), (.93, .68)),
                             curve((.93, .68), (.7, .7), (mast + .025, .66))]), tone(cloth, .93))
    pen.fill([(.02, .75), (1.02, .72), (.84, .93), (.17, .93)], hull, .02)
    pen.patch(box(-.1, .86, 1.2, 1), blend(hull, BLACK, .45))
    pen.patch([(-.1, .75), (1.2, .705), (1.2, .735), (-.1, .785)], blend(hull, WHITE, .65))
    for x in (.34, .5, .66):
        pen.fill(ellipse(x, .815, .02), tone(hull, .6))


def steamer(pen, rng):
    hull, funnel = pick(rng, RED, NAVY, TEAL, BLACK, GREEN), pick(rng, RED, ORANGE, YELLOW)
    cabin, left = vary(rng, .16, .2), rng.uniform(.12, .24)
    pen.line([(.86, .6), (.86, .22)], .02, BROWN)
    pen.fill([(.86, .22), (.98, .26), (.86, .31)], pick(rng, YELLOW, RED, BLUE))
    pen.fill([(.34, .5), (.36, .14), (.5, .14), (.52, .5)], funnel, .005)
    pen.patch(box(.3, .2, .6, .26), WHITE)
    pen.shade(box(.45, .1, .6, .5), .82)
    pen.fill(box(left, .6 - cabin, .72, .62), WHITE, .012)
    pen.fill(box(.5, .6 - cabin * 1.75, .7, .62 - cabin), CREAM, .012)
    pen.fill(box(.56, .625 - cabin * 1.65, .685, .6 - cabin), tone(BLUE, .75), .008)
    pen.shade(box(left - .1, .57, .9, .7), .85)
    for x in np.arange(left + .06, .7, .1):
        pen.fill(ellipse(x, .6 - cabin * .45, .028), tone(BLUE, .65))
    pen.fill([(.0, .6), (.6, .62), (1.08, .54), (.94, .88), (.1, .88)], hull, .02)
    pen.patch(box(-.1, .8, 1.2, 1), blend(hull, RED, .8))
    pen.patch([(-.1, .605), (.6, .64), (1.2, .54), (1.2, .575), (.6, .67), (-.1, .64)], WHITE)
