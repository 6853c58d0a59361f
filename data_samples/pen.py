"""
A pen for small flat drawings. The shapes are in unit coordinates and can be painted at any size with smooth edges.

A drawing is a list of strokes in the order in which they are painted. A stroke is a polygon or a line of points: x
points to the right, y points down, and the whole drawing is about 1 long. `paint` draws the strokes with OpenCV on a
canvas that is SUPERSAMPLE times as large as the image. It then averages each block of canvas pixels to one pixel of
colour and alpha.
"""

import cv2
import numpy as np

SUPERSAMPLE = 3
SUBPIXEL_BITS = 4                           # the coordinates that OpenCV gets count 1/16 of a pixel

RED, ORANGE, YELLOW, GREEN = (208, 68, 60), (232, 134, 58), (244, 198, 80), (98, 162, 92)
TEAL, BLUE, NAVY, PURPLE = (54, 150, 148), (70, 126, 198), (54, 76, 126), (132, 94, 168)
PINK, BROWN, TAN, CREAM = (234, 142, 156), (134, 90, 60), (206, 166, 118), (246, 230, 202)
WHITE, SILVER, GREY, DARK, BLACK = (248, 247, 242), (200, 205, 212), (142, 148, 158), (70, 72, 84), (38, 38, 46)
GLASS = (188, 220, 236)


class Pen:
    """Collects strokes. A stroke is (kind, points (N, 2), colour or factor, width)."""

    def __init__(self):
        self.strokes = []

    def fill(self, points, colour, corner_radius=0):
        """A filled polygon. A corner radius rounds its corners, and makes it larger by this radius on all sides."""
        self.strokes.append(("fill", np.asarray(points, float), colour, 2 * corner_radius))

    def line(self, points, width, colour):
        """A line through the points, with round ends."""
        self.strokes.append(("line", np.asarray(points, float), colour, width))

    def patch(self, points, colour):
        """A polygon that colours only what is already painted, such as a stripe, a spot or a belly."""
        self.strokes.append(("patch", np.asarray(points, float), colour, 0))

    def shade(self, points, factor):
        """A polygon that multiplies what is already painted. A factor below 1 is a shadow, above 1 a light."""
        self.strokes.append(("shade", np.asarray(points, float), factor, 0))


def ellipse(x, y, rx, ry=None, start=0, end=360, tilt=0):
    """
    The points (40, 2) of an ellipse, or of its arc from start to end in degrees, where 0 is right and 90 is down.
    tilt rotates it clockwise by degrees.
    """
    t = np.radians(np.linspace(start, end, 40))
    dx, dy = rx * np.cos(t), (rx if ry is None else ry) * np.sin(t)
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    return np.stack([x + dx * c - dy * s, y + dx * s + dy * c], 1)


def box(left, top, right, bottom):
    """The corners (4, 2) of a rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def curve(*points, closed=False):
    """The points (M, 2) of a smooth curve (Catmull-Rom) through the points."""
    p = np.array(points, float)
    if closed:
        p = np.concatenate([p[-1:], p, p[:2]])
    else:
        p = np.concatenate([p[:1], p, p[-1:]])
    a, b, c, d = (p[i:len(p) - 3 + i, None] for i in range(4))                         # (segments, 1, 2) each
    t = np.linspace(0, 1, 9)[None, :, None]
    smooth = b + .5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return smooth.reshape(-1, 2)


def blob(*points):
    """The points (M, 2) of a smooth closed shape through the points."""
    return curve(*points, closed=True)


def turned(points, x, y, degrees):
    """The points, rotated clockwise around (x, y)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (np.asarray(points, float) - (x, y)) @ np.array([(c, s), (-s, c)]) + (x, y)


def vary(rng, value, spread=.15):
    """The value times a random factor from 1 - spread to 1 + spread."""
    return value * rng.uniform(1 - spread, 1 + spread)


def pick(rng, *colours):
    """One of the colours at random, made a little lighter or darker, and warmer or colder."""
    colour = np.array(colours[rng.integers(len(colours))]) * rng.uniform(.9, 1.06) + rng.uniform(-5, 5, 3)
    return tone(colour, 1)


def tone(colour, factor):
    """The colour times a factor. A factor below 1 makes it darker, above 1 lighter."""
    return tuple(int(np.clip(c * factor, 0, 255)) for c in colour)


def blend(colour, other, share):
    """A mixture of two colours. `share` is the share of the other one."""
    return tuple(int(a + (b - a) * share) for a, b in zip(colour, other))


def paint(strokes, to_pixels, width, height, supersample=SUPERSAMPLE):
    """
    strokes    as Pen collects them
    to_pixels  (scale, dx, dy): a point (x, y) of a stroke is at the pixel (scale x + dx, scale y + dy)
    returns    (height, width, 4) uint8 RGBA
    """
    canvas = np.zeros((height * supersample, width * supersample, 4), np.uint8)
    scale, dx, dy = (supersample * v for v in to_pixels)
    for kind, points, colour, line_width in strokes:
        pixels = np.round((points * scale + (dx, dy) - .5) * 2 ** SUBPIXEL_BITS).astype(np.int32)
        thickness = max(1, round(line_width * scale))
        if kind == "line" or line_width:
            cv2.polylines(canvas, [pixels], kind == "fill", (*colour, 255), thickness, cv2.LINE_8, SUBPIXEL_BITS)
        if kind == "fill":
            cv2.fillPoly(canvas, [pixels], (*colour, 255), cv2.LINE_8, SUBPIXEL_BITS)
        elif kind in ("patch", "shade"):
            recolour(canvas, pixels, colour)
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)          # premultiplied by alpha
    alpha = small[..., 3:].astype(np.float32)
    small[..., :3] = np.minimum(small[..., :3] * (255 / np.maximum(alpha, 1)), 255).round()
    return small


def recolour(canvas, pixels, colour):
    """
    Changes the painted pixels inside the polygon. A colour of three numbers replaces theirs. If `colour` is one number,
    it is a factor for their colours.
    """
    left, top = np.maximum((pixels.min(0) >> SUBPIXEL_BITS) - 1, 0)
    right, bottom = (pixels.max(0) >> SUBPIXEL_BITS) + 2
    part = canvas[top:bottom, left:right]
    if part.size == 0:
        return
    mask = np.zeros(part.shape[:2], np.uint8)
    cv2.fillPoly(mask, [pixels - (np.array([left, top], np.int32) << SUBPIXEL_BITS)], 255, cv2.LINE_8, SUBPIXEL_BITS)
    if np.ndim(colour) == 0:
        cv2.copyTo(cv2.multiply(part, (colour, colour, colour, 1)), mask, part)
    else:
        part[(mask > 0) & (part[..., 3] > 0)] = (*colour, 255)
