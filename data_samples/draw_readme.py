"""
Draws the pictures of the README into data_samples/readme/.

    scene.jpg         the detections of YOLOv1, YOLOv2 and YOLOv3 in one scene
    training.png      the loss and the average precision during their trainings
    assignment.jpg    which predictors learn which object; taken out of yolov3/walkthrough.ipynb

First run these six commands, which write the detections and logs into runs/ (10 minutes on 2 CPU cores):

    python yolov1/train.py      python yolov1/detect.py
    python yolov2/train.py      python yolov2/detect.py
    python yolov3/train.py      python yolov3/detect.py

Then draw the pictures. They have a white background, so that they are legible on a dark page too:

    python data_samples/draw_readme.py
"""
import base64
import csv
import json

from matplotlib.figure import Figure
from PIL import Image

from shared.errors import InputError, run
from shared.paths import ROOT, RUNS, SAMPLES, atomic_write
from shared.voc import CLASSES, read_split

OUT = SAMPLES / "readme"
SCENE = "000006"                                        # the name of an image of the split train
VERSIONS = ["yolov1", "yolov2", "yolov3"]
TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
COLOURS = ["tab:blue", "tab:cyan", "tab:green", "tab:red", "tab:purple", "black"]
NOTEBOOK, CHAPTER = ROOT / "yolov3" / "walkthrough.ipynb", "Which predictor learns which object"


def lines_of(path):
    """The lines of a text file that the six commands write."""
    if not path.exists():
        raise InputError(f"{path}: no such file; run the six commands that data_samples/draw_readme.py names first")
    return path.read_text(encoding="utf-8").splitlines()


def draw_scene(axes):
    """Three panels: the picture that the detect.py of each version has drawn, and the count of the detections in it."""
    annotations = read_split(SAMPLES / "voc" / "VOCdevkit" / "VOC2007", "train", CLASSES)
    annotation, = [annotation for annotation in annotations if annotation.image.stem == SCENE]
    for panel, version in zip(axes, VERSIONS):
        folder = RUNS / version / "detect"
        found = sum(line.startswith(annotation.image.name) for line in lines_of(folder / "detections.txt"))
        panel.imshow(Image.open(folder / annotation.image.name))
        panel.set_title(f"YOLO{version[4:]}: {found} detections, {len(annotation.boxes)} objects", fontsize=11)
        panel.axis("off")


def draw_training(axes):
    """Three panels: the terms of the loss on a logarithmic scale, and the average precision on a second scale."""
    for panel, version in zip(axes, VERSIONS):
        rows = list(csv.DictReader(lines_of(RUNS / version / "log.csv")))
        steps = [int(row["step"]) for row in rows]
        for term, colour in zip(TERMS, COLOURS):
            values = [float(row[term] or "nan") for row in rows]             # an empty field is not drawn
            panel.plot(steps, values, color=colour, label=term, linewidth=1.6 if term == "total" else 0.9)
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
    for name, draw, size in [("scene.jpg", draw_scene, (10.5, 5.0)), ("training.png", draw_training, (12, 4))]:
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots(1, 3))
        quality = {"quality": 88} if name.endswith("jpg") else None
        with atomic_write(OUT / name) as temporary:
            figure.savefig(temporary, dpi=100, pil_kwargs=quality)
    with atomic_write(OUT / "assignment.jpg") as temporary:
        temporary.write_bytes(assignment())
    print(f"{OUT}: scene.jpg, training.png, assignment.jpg")


if __name__ == "__main__":
    run(main)
