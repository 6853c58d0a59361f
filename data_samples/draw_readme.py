"""
Draws the pictures of the README into data_samples/readme/.

    scene.jpg         the detections of YOLOv1, YOLOv2 and YOLOv3 in one scene
    assignment.jpg    which predictors learn which object; taken out of yolov3/walkthrough.ipynb

First run these six commands, which write the detections into runs/ (10 minutes on 2 CPU cores):

    python yolov1/train.py      python yolov1/detect.py
    python yolov2/train.py      python yolov2/detect.py
    python yolov3/train.py      python yolov3/detect.py

Then draw the pictures. They have a white background, so that they are legible on a dark page too:

    python data_samples/draw_readme.py
"""
import base64
import json

from matplotlib.figure import Figure
from PIL import Image

from shared.errors import InputError, run
from shared.paths import ROOT, RUNS, SAMPLES, atomic_write
from shared.voc import CLASSES, read_split

OUT = SAMPLES / "readme"
SCENE = "000006"                                        # the name of an image of the split train
VERSIONS = ["yolov1", "yolov2", "yolov3"]
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
    figure = Figure(figsize=(10.5, 5.0), layout="constrained")
    draw_scene(figure.subplots(1, 3))
    with atomic_write(OUT / "scene.jpg") as temporary:
        figure.savefig(temporary, dpi=100, pil_kwargs={"quality": 88})
    with atomic_write(OUT / "assignment.jpg") as temporary:
        temporary.write_bytes(assignment())
    print(f"{OUT}: scene.jpg, assignment.jpg")


if __name__ == "__main__":
    run(main)
