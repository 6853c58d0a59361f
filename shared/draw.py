"""
Pictures to look at: boxes on images, sheets of images, training curves, precision-recall curves, kinds of errors.

The first half makes pictures for files. The second half draws on the axes of a figure, for the notebooks. There an
image is (3, H, W) float 0..1, as the network takes it, and a box is left, top, right, bottom as fractions of the image.
"""
import colorsys
import csv
import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont

from shared.error_analysis import KINDS
from shared.metrics import envelope
from shared.paths import atomic_write

ERROR_COLOURS = ["#009e73", "#56b4e9", "#e69f00", "#cc79a7", "#a6a6a6"]  # of KINDS; colour-blind people tell them apart


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
    """Images (h, w, 3) uint8 of any size, in rows of cells of cell x cell pixels, in one file. No images, no file."""
    if not images:
        return
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
        plot_precision_recall(axes, recall, precision, f"{classes[label]}  {ap[label]:.3f}")
    figure.supxlabel("recall")
    figure.supylabel("precision")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=90)


def write_errors(path, rows):
    """
    A bar for each row, as in Figure 4 of the first paper.

    rows  {name: (5,) the shares of shared/error_analysis.py's KINDS}; the first is at the top
    """
    figure = Figure(figsize=(8, 1.1 + 0.32 * len(rows)), layout="constrained")
    plot_errors(figure.subplots(), rows)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100)


# ---- On the axes of a figure, for the notebooks

def show_image(axes, image, title="", fade=0):
    """Fills the axes with the image (3, H, W). They run from 0 to 1, across and down. fade, 0..1, mixes in white."""
    pixels = image.permute(1, 2, 0).numpy()                              # (H, W, 3)
    axes.imshow(pixels * (1 - fade) + fade, extent=(0, 1, 1, 0))
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], title=title)


def draw_grid(axes, columns, rows):
    """Draws white lines around the cells."""
    axes.vlines([i / columns for i in range(columns + 1)], 0, 1, "white", linewidth=8 / columns, zorder=0.5)
    axes.hlines([i / rows for i in range(rows + 1)], 0, 1, "white", linewidth=8 / rows, zorder=0.5)


def fill_cells(axes, cells, columns, rows, colour, alpha=0.9):
    """Fills cells of a grid with a colour. cells is a list of (row, column)."""
    for row, column in cells:
        corner = column / columns, row / rows
        axes.add_patch(Rectangle(corner, 1 / columns, 1 / rows, facecolor=colour, alpha=alpha))


def outline_boxes(axes, boxes, colour, **style):
    """Outlines boxes, a tensor or array (n, 4). style goes to matplotlib's Rectangle: linewidth=2, linestyle="--"."""
    for left, top, right, bottom in boxes.tolist():
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, **style))


def label_colour(label):
    """The class_colour of a label as matplotlib takes it. -> (r, g, b), 0..1"""
    return tuple(c / 255 for c in class_colour(int(label)))


def write_name(axes, box, text, colour="black"):
    """Writes text on the upper edge of a box (4,), at its left corner, or at its right one in the right half."""
    left, top, right, bottom = (min(max(float(side), 0), 1) for side in box)
    x, side = (left, "left") if left < 0.5 else (right, "right")
    axes.text(x, max(top, 0.05), text, ha=side, va="bottom", fontsize=8.5, color=colour,
              bbox={"facecolor": "white", "pad": 1, "edgecolor": "none"})


def show_detections(axes, image, rows, classes, title="", names=True):
    """Shows the image with detections. rows (D, 6) label, score, left, top, right, bottom, as nms_per_class returns."""
    show_image(axes, image, title, fade=0.2)
    for row in rows.flip(0):                                             # the best on top
        label, score = int(row[0]), row[1].item()
        outline_boxes(axes, row[None, 2:], label_colour(label), linewidth=2)
        if names:
            write_name(axes, row[2:], f"{classes[label]} {score:.2f}")


def show_roles(axes, responsible, ignored):
    """Fills cells with a responsible predictor in orange, others with an ignored one in blue. Masks (A, H, W) bool."""
    for mask, colour in [(ignored, "royalblue"), (responsible, "darkorange")]:
        _, H, W = mask.shape
        fill_cells(axes, mask.any(0).nonzero().tolist(), W, H, colour)


def show_map(axes, image, values, title=""):
    """Shows a value for each cell, (H, W) 0..1, over the image: transparent where it is 0, red where it is 1."""
    show_image(axes, image, title, fade=0.4)
    values = values.numpy()
    axes.imshow(values, extent=(0, 1, 1, 0), cmap="Reds", vmin=0, vmax=1, alpha=values * 0.9, interpolation="nearest")


def plot_terms(axes, log, title=""):
    """Plots the loss by term. log has a dict for each step, {"xy": 0.1, ..., "total": 2.3}. The total is black."""
    for term in log[0]:
        style = {"color": "black", "linewidth": 2.5} if term == "total" else {}
        axes.plot(range(1, len(log) + 1), [row[term] for row in log], label=term, **style)
    axes.set(yscale="log", xlabel="step", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))                 # beside the axes


def plot_precision_recall(axes, recall, precision, title=""):
    """Plots recall and precision after each detection in grey, and fills the area under their envelope, the AP."""
    axes.plot(recall, precision, "o-", color="0.6", linewidth=1, markersize=4)
    if len(recall):
        best = envelope(np.asarray(precision))
        axes.fill_between([0, *recall], [best[0], *best], step="pre", alpha=0.3)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.05), title=title)
    axes.grid(alpha=0.3)


def plot_errors(axes, rows):
    """
    Plots a bar for each row, cut into its shares. Shares of at least 4 % have their number.

    rows  {name: (5,) the shares of shared/error_analysis.py's KINDS}; the first is at the top
    """
    percent = 100 * np.array(list(rows.values()), float).reshape(-1, len(KINDS))             # (rows, 5)
    left = percent.cumsum(1) - percent                                                       # (rows, 5)
    for k, (kind, colour) in enumerate(zip(KINDS, ERROR_COLOURS)):
        bars = axes.barh(range(len(rows)), percent[:, k], left=left[:, k], color=colour, edgecolor="white", label=kind)
        texts = [f"{share:.1f}" if share >= 4 else "" for share in percent[:, k]]
        axes.bar_label(bars, texts, label_type="center", fontsize=8)
    axes.set(xlim=(0, 100), ylim=(len(rows) - 0.4, -0.6), xlabel="% of the N best detections of a class with N objects")
    axes.set_yticks(range(len(rows)), rows)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(KINDS), frameon=False, fontsize=9)
