"""
Draws pictures of the READMEs into data_samples/readme/.

    unseen.jpg        what YOLOv1, YOLOv2 and YOLOv3 find in drawings that they have not been trained on
    errors.png        what kinds of errors the three make on the 300 test drawings and on photographs, and what kinds
                      YOLO and Fast R-CNN make in the paper
    assignment.jpg    which predictors learn which object; taken out of yolov3/walkthrough.ipynb

First run these nine commands, which write to runs/ (25 minutes on 2 CPU cores):

    python yolov1/train.py      python yolov1/evaluate.py      python yolov1/detect.py
    python yolov2/train.py      python yolov2/evaluate.py      python yolov2/detect.py
    python yolov3/train.py      python yolov3/evaluate.py      python yolov3/detect.py

The bars of the photographs are drawn if runs/ has their trainings, such as yolov1_bccd; yolov3/README.md has the edits.

Then draw the pictures. They have a white background, so that they are legible on a dark page too:

    python data_samples/draw_readme.py
"""
import base64
import json

from matplotlib.figure import Figure
from PIL import Image

from data_samples.draw_errors import PAPER, shares_of
from shared.draw import write_errors
from shared.errors import InputError, run
from shared.paths import ROOT, RUNS, SAMPLES, atomic_write

OUT = SAMPLES / "readme"
SCENES = ["000008", "000013"]                           # two images of the sample; training was on the miniature VOC
VERSIONS = ["yolov1", "yolov2", "yolov3"]
BARS = {"drawings": "mini", "blood cells": "bccd"}    # of errors.png: the end of the name of a RUN
NOTEBOOK, CHAPTER = ROOT / "yolov3" / "walkthrough.ipynb", "Which predictor learns which object"


def lines_of(path):
    """The lines of a text file that the nine commands write."""
    if not path.exists():
        raise InputError(f"{path}: no such file; run the nine commands that data_samples/draw_readme.py names first")
    return path.read_text(encoding="utf-8").splitlines()


def draw_unseen(figure):
    """A row for each scene, a column for each version: the picture that its detect.py has drawn."""
    panels = figure.subplots(len(SCENES), len(VERSIONS))
    for column, version in enumerate(VERSIONS):
        folder = RUNS / f"{version}_mini" / "detect"
        lines_of(folder / "detections.txt")                 # one line if the nine commands were not run
        for row, scene in enumerate(SCENES):
            panels[row, column].imshow(Image.open(folder / f"{scene}.jpg"))
            panels[row, column].axis("off")
        panels[0, column].set_title(f"YOLO{version[4:]}", fontsize=12)


def error_shares():
    """{name of a bar: the shares of KINDS}: the paper's, then those of the three versions on each of BARS."""
    rows = dict(PAPER)
    for data, end in BARS.items():
        for version in VERSIONS:
            figures = RUNS / f"{version}_{end}" / "evaluation" / "test" / "figures.json"
            if end == "mini" or figures.exists():
                rows[f"YOLO{version[4:]} ({data})"] = shares_of(figures)
    return rows


def assignment():
    """The bytes of the first picture (a JPEG) in the notebook's chapter CHAPTER."""
    in_chapter = False
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and text.startswith("## "):
            in_chapter = CHAPTER in text.splitlines()[0]
        if not in_chapter:
            continue
        for output in cell.get("outputs", []):
            if "image/jpeg" in output.get("data", {}):
                return base64.b64decode(output["data"]["image/jpeg"])
    raise InputError(f"{NOTEBOOK}: has no picture below a heading '{CHAPTER}'")


def main():
    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    draw_unseen(figure)
    with atomic_write(OUT / "unseen.jpg") as temporary:
        figure.savefig(temporary, dpi=100, pil_kwargs={"quality": 88})
    write_errors(OUT / "errors.png", error_shares())
    with atomic_write(OUT / "assignment.jpg") as temporary:
        temporary.write_bytes(assignment())
    print(f"{OUT}: unseen.jpg, errors.png, assignment.jpg")


if __name__ == "__main__":
    run(main)
