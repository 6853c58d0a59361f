"""
Draws Figure 4 of the first paper: the kinds of errors of its YOLO and of Fast R-CNN, and of detectors trained here.

    python data_samples/draw_errors.py     reads runs/RUN/evaluation/test/figures.json of each of RUNS_SHOWN, which
                                           evaluate.py writes, and writes runs/errors.png

The paper's bars are measured on the photographs of VOC 2007 test. Compare the others with them only if they are, too.
"""
import json
import os

from shared.draw import write_errors
from shared.error_analysis import KINDS
from shared.errors import InputError, run
from shared.files import read_bytes
from shared.paths import RUNS

PRESET = os.environ.get("PRESET", "mini")
RUNS_SHOWN = {"YOLOv1": f"yolov1_{PRESET}", "YOLOv2": f"yolov2_{PRESET}", "YOLOv3": f"yolov3_{PRESET}"}  # name: RUN
SPLIT = "test"
OUT = RUNS / "errors.png"
PAPER = {"Fast R-CNN (paper)": [0.716, 0.086, 0.043, 0.019, 0.136],      # [paper] in the order of KINDS
         "YOLO (paper)": [0.655, 0.190, 0.0675, 0.040, 0.0475]}          # [paper]


def shares_of(path):
    """The share of each of KINDS in a figures.json. Raises InputError if the file is not one that evaluate.py wrote."""
    try:
        errors = json.loads(read_bytes(path))["errors"]
        return [float(errors[kind]) for kind in KINDS]
    except (ValueError, TypeError, LookupError) as error:
        if isinstance(error, InputError):                    # the file is missing; an InputError is a ValueError
            raise InputError(f"{error}; run evaluate.py of this version first") from None
        raise InputError(f"{path}: has no kinds of errors; run evaluate.py of this version again") from None


def main():
    ours = {name: shares_of(RUNS / folder / "evaluation" / SPLIT / "figures.json")
            for name, folder in RUNS_SHOWN.items()}
    write_errors(OUT, PAPER | ours)
    print(OUT)


if __name__ == "__main__":
    run(main)
