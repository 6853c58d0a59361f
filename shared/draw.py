"""Pictures to look at: boxes on images, sheets of images, training curves, precision-recall curves."""
import colorsys
import csv
import math

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from shared.metrics import envelope
from shared.paths import atomic_write


def class_colour(label):
    """A colour of its own for each label: golden-ratio steps round the hue circle. -> (r, g, b), 0..255"""
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.85, 0.95))


def draw_boxes(image, rows, classes):
    """
    image    (H, W, 3) uint8
    rows     (D, 6)  label, score, left, top, right, bottom in pixels; a score of 1 is not written
    returns  a copy of the image, (H, W, 3) uint8, with the boxes and their names, the best on top
    """
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 250))
    font = ImageFont.load_default(size=max(11, round(max(picture.size) / 36)))
    for label, score, left, top, right, bottom in sorted(map(tuple, rows), key=lambda row: row[1]):
        colour = class_colour(label)
        text = classes[int(label)] + ("" if score == 1 else f" {score:.2f}")
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=line)
        x0, y0, x1, y1 = pen.textbbox((0, 0), text, font=font)
        width, height = x1 - x0 + 4, y1 - y0 + 4
        x = min(max(left, 0), max(picture.width - width, 0))                 # the name stays inside the picture
        y = top - height if top >= height else top
        pen.rectangle((x, y, x + width, y + height), fill=colour)
        brightness = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2]
        pen.text((x + 2 - x0, y + 2 - y0), text, font=font, fill="black" if brightness > 110 else "white")
    return np.asarray(picture)


def draw_targets(image, targets, classes):
    """
    image    (3, H, W) float 0..1, as the network takes it
    targets  (n, 5)  label, centre x, centre y, width, height as fractions
    returns  the picture with its boxes, (H, W, 3) uint8
    """
    pixels = (image * 255).byte().permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    rows = [(label, 1, (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            for label, x, y, w, h in targets.tolist()]
    return draw_boxes(pixels, rows, classes)


def write_picture(path, image):
    """image (H, W, 3) uint8 -> a file, of the kind that its name says"""
    with atomic_write(path) as temporary:
        Image.fromarray(image).save(temporary, quality=92)


def write_sheet(path, images, columns, cell=320):
    """Several images (h, w, 3) uint8, of any size, in rows of cells of cell x cell pixels, in one file."""
    columns = min(columns, len(images))
    sheet = Image.new("RGB", (columns * cell, math.ceil(len(images) / columns) * cell), "white")
    for i, image in enumerate(images):
        picture = Image.fromarray(image)
        picture.thumbnail((cell - 4, cell - 4))
        sheet.paste(picture, (i % columns * cell + (cell - picture.width) // 2,
                              i // columns * cell + (cell - picture.height) // 2))
    write_picture(path, np.asarray(sheet))


def write_training_curves(path, log, terms, measures, title="average precision"):
    """
    From a log.csv, two panels over the column step: the loss terms (log scale) and the measures (0 to 1; title says
    what they are), which have values in some rows only.
    """
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for term in terms:
        points = [(int(row["step"]), float(row[term])) for row in rows if row[term]]
        style = {"linewidth": 2, "color": "black"} if term == "total" else {"linewidth": 1}
        left.plot(*zip(*points), label=term, **style)
    for measure in measures:
        points = [(int(row["step"]), float(row[measure])) for row in rows if row.get(measure)]
        if points:
            right.plot(*zip(*points), marker="o", label=measure)
    left.set(yscale="log", xlabel="step", title="loss, by term")
    right.set(ylim=(0, 1.02), xlabel="step", title=title)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)


def write_precision_recall(path, curves, ap, classes):
    """
    One small panel for each class that has truths: its points, and the envelope under which the area is its AP.

    curves  as shared/metrics.py's voc_curves returns them; ap (C,) every-point AP
    """
    labels = [label for label, (*_, positives) in enumerate(curves) if positives]
    columns = min(5, max(len(labels), 1))
    lines = max(math.ceil(len(labels) / columns), 1)
    figure = Figure(figsize=(2.6 * columns, 2.5 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat[len(labels):]:
        axes.axis("off")
    for axes, label in zip(panels.flat, labels):
        recall, precision, *_ = curves[label]
        axes.plot(recall, precision, ".-", color="0.6", linewidth=1, markersize=3)
        if len(recall):
            axes.step(np.insert(recall, 0, 0), np.insert(envelope(precision), 0, envelope(precision)[0]), where="pre")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.05), title=f"{classes[label]}  {ap[label]:.3f}")
        axes.grid(alpha=0.3)
    figure.supxlabel("recall")
    figure.supylabel("precision")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=90)
