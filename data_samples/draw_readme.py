"""Draws the README's pictures: one scene as YOLOv1, v2 and v3 detect it, their training, and who learns what.

    python data_samples/draw_readme.py     writes data_samples/readme/, from what these six commands leave in runs/ (10
                                           minutes on 2 CPU cores):
                                               python yolov1/train.py      python yolov1/detect.py
                                               python yolov2/train.py      python yolov2/detect.py
                                               python yolov3/train.py      python yolov3/detect.py

The third picture is taken out of yolov3/walkthrough.ipynb. All have a white ground, to be legible on a dark page too.
"""
import base64
import csv
import json
import sys

from matplotlib.figure import Figure
from PIL import Image

from shared.errors import InputError
from shared.paths import ROOT, RUNS, SAMPLES, atomic_write
from shared.voc import CLASSES, read_split

OUT = SAMPLES / "readme"
SCENE = "000006"                                        # an image of the split train
VERSIONS = ["yolov1", "yolov2", "yolov3"]
TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
COLOURS = ["tab:blue", "tab:cyan", "tab:green", "tab:red", "tab:purple", "black"]
NOTEBOOK, CHAPTER = ROOT / "yolov3" / "walkthrough.ipynb", "Who learns what"


def lines_of(path):
    if not path.exists():
        raise InputError(f"{path}: no such file; run the six commands that data_samples/draw_readme.py names first")
    return path.read_text(encoding="utf-8").splitlines()


def draw_scene(axes):
    """Three panels: the picture that each version's detect.py has drawn, and how many boxes it has found."""
    annotation, = [a for a in read_split(SAMPLES / "voc" / "VOCdevkit" / "VOC2007", "train", CLASSES)
                   if a.image.stem == SCENE]
    for panel, version in zip(axes, VERSIONS):
        folder = RUNS / version / "detect"
        found = sum(line.startswith(annotation.image.name) for line in lines_of(folder / "detections.txt"))
        panel.imshow(Image.open(folder / annotation.image.name))
        panel.set_title(f"YOLO{version[4:]}: {found} detections, {len(annotation.boxes)} objects", fontsize=11)
        panel.axis("off")


def draw_training(axes):
    """Three panels: each term of the loss over the steps, log scale; the average precision on a second scale."""
    for panel, version in zip(axes, VERSIONS):
        rows = list(csv.DictReader(lines_of(RUNS / version / "log.csv")))
        steps = [int(row["step"]) for row in rows]
        for term, colour in zip(TERMS, COLOURS):
            panel.plot(steps, [float(row[term] or "nan") for row in rows], color=colour, label=term,
                       linewidth=1.6 if term == "total" else 0.9)
        panel.set(yscale="log", ylim=(0.005, 5000), xlabel="step", title=f"YOLO{version[4:]}")
        panel.grid(alpha=0.3)
        right = panel.twinx()
        measured = [row for row in rows if row["AP50 train"]]
        right.plot([int(row["step"]) for row in measured], [float(row["AP50 train"]) for row in measured], "o--",
                   color="tab:orange", label="AP50 train (right)")
        right.set_ylim(0, 1.02)
    axes[0].set_ylabel("loss, by term")
    handles, labels = panel.get_legend_handles_labels()
    more, names = right.get_legend_handles_labels()
    panel.figure.legend(handles + more, labels + names, loc="outside lower center", ncols=7, frameon=False)


def assignment():
    """The first picture below the heading CHAPTER of the notebook, as bytes of a JPEG."""
    below = False
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown" and "".join(cell["source"]).startswith("## "):
            below = CHAPTER in "".join(cell["source"]).splitlines()[0]
        for output in cell.get("outputs", []) if below else []:
            if "image/jpeg" in output.get("data", {}):
                return base64.b64decode(output["data"]["image/jpeg"])
    raise InputError(f"{NOTEBOOK}: has no picture below a heading '{CHAPTER}'")


def main():
    for name, draw, size in [("scene.jpg", draw_scene, (10.5, 5.0)), ("training.png", draw_training, (12, 4))]:
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots(1, 3))
        with atomic_write(OUT / name) as temporary:
            figure.savefig(temporary, dpi=100, **{"pil_kwargs": {"quality": 88}} if name.endswith("jpg") else {})
    with atomic_write(OUT / "assignment.jpg") as temporary:
        temporary.write_bytes(assignment())
    print(f"{OUT}: scene.jpg, training.png, assignment.jpg")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
