"""
Compares YOLOv1, YOLOv2 and YOLOv3 on the miniature VOC. All are trained on the same 28,800 images at 192 x 192 pixels.

    python data_samples/compare.py             trains the six tiny networks, three versions with two seeds, one after
                                               the other, evaluates them, prints a table of means, and draws accuracy
                                               against speed, as Figure 4 of the YOLOv2 paper
    SEEDS=0 python data_samples/compare.py     the networks of one seed; a second process can train the other one

A network takes 10 to 25 minutes (expected) on one CPU core that computes in bfloat16. The command continues where it
was interrupted. Each training leaves its curves in runs/compare_yolovN_seedS/ and, when it is finished,
comparison.json, its rows of the table: one for each input size. YOLOv2 and YOLOv3 are convolutional, so one network can
be evaluated at several sizes (Table 3 of the YOLOv2 paper). YOLOv1 has fully connected layers and one size.

data_samples/readme/comparison.csv has the rows of all networks, and comparison.png is drawn from it. Rows whose network
is not in runs/ are kept, so a training that you repeat replaces its own rows alone.

All networks are trained with 3600 steps of 8 images: 28,800 images, 18 epochs of the 1,600 drawings. The learning rates
come from the preset "mini" of each train.py: 3e-4, 3e-4 and 1e-3 for batches of 16, 4 and 16 images. For batches of 8,
those of YOLOv1 and YOLOv3 are scaled roughly with the square root of the batch size; YOLOv2's is 3.5e-4. None of them
was tuned on this comparison. All have a burn-in of 200 steps. The augmentations are those of each version. At 192
pixels YOLOv1 has 3 x 3 cells, which can learn at most .885 of the test objects (the column "own predictor").

This compares what the versions do with the same 28,800 images. It does not repeat the papers' results.

No other file of data_samples imports the versions. This one does it with import_module.
"""
import csv
import json
import os
import statistics
import time
from importlib import import_module
from types import SimpleNamespace

import torch
from matplotlib.figure import Figure

from shared.annotations import read_annotations
from shared.errors import InputError, one_line, run
from shared.files import read_lines
from shared.layers import count_operations, fuse_batchnorm
from shared.nms import nms_per_class
from shared.paths import RUNS, SAMPLES, atomic_write

os.environ.setdefault("PRESET", "mini")                # the versions read it when they are imported
FILES = ["train", "evaluate", "dataset", "loss"]
VERSIONS = {version: SimpleNamespace(**{file: import_module(f"yolov{version}.{file}") for file in FILES})
            for version in (1, 2, 3)}                  # VERSIONS[3].train is yolov3/train.py
TEST = VERSIONS[3].dataset.TEST
SEEDS = [seed.strip() for seed in os.environ.get("SEEDS", "0,1").split(",")]
STEPS, BATCH_SIZE, SIZE = 3600, 8, 192                 # SIZE: of the input, in pixels
LEARNING_RATE = {1: 2e-4, 2: 3.5e-4, 3: 7e-4}          # of each version
SIZES = {1: [192], 2: [128, 160, 192, 224, 256], 3: [128, 160, 192, 224, 256]}       # at which it is evaluated
TIMED = 60                                             # test images for the measurement of ms
TABLE = SAMPLES / "readme" / "comparison.csv"
COLUMNS = ["version", "seed", "size", "AP50", "AP", "AP small", "AP medium", "AP large", "recall", "own predictor",
           "ms", "parameters", "operations"]
WHOLE_NUMBERS = ["version", "seed", "size", "parameters", "operations"]    # the other columns are fractions and ms
# recall          the fraction of the objects that a detection of the right class overlaps by an IOU of .5 or more. The
#                 detections are those that NMS keeps, with a score above the SCORE_THRESHOLD of each evaluate.py: .001
#                 for YOLOv1, .005 for the others
# own predictor   share_with_predictor
# ms              milliseconds


def name_of(version, seed):
    return f"compare_yolov{version}_seed{seed}"


def train_one(version, seed):
    """Trains to runs/compare_yolovN_seedS/last.pt, or continues there."""
    train = VERSIONS[version].train
    train.RUN, train.SEED, train.MAX_STEPS, train.BATCH_SIZE = name_of(version, seed), seed, STEPS, BATCH_SIZE
    train.LEARNING_RATE, train.BURN_IN = LEARNING_RATE[version], 200
    train.EVALUATE_EVERY = train.CHECKPOINT_EVERY = STEPS // 4
    if version == 1:
        train.SIZE = SIZE
    else:
        train.TRAIN_SIZES, train.TEST_SIZE = [SIZE], SIZE
    train.main()


def measure_one(version, seed, size):
    """-> a row of the table: {column: value}"""
    evaluate = VERSIONS[version].evaluate
    folder = RUNS / name_of(version, seed)
    evaluate.CHECKPOINT, evaluate.DATA, evaluate.SIZE = folder / "last.pt", {"test": TEST}, size
    evaluate.main()
    figures = json.loads((folder / "evaluation" / "test" / "figures.json").read_text())
    network, state = evaluate.load_detector(folder / "last.pt")
    layers = count_operations(network, size, size)
    network = fuse_batchnorm(network).to(memory_format=torch.channels_last)
    # The strides of YOLOv3's functions begin with the two of YOLOv3Tiny, 32 and 16.
    setting = [state["boxes"]] if version == 1 else [state["anchors"]]
    coco = figures["COCO"]
    return {"version": version, "seed": seed, "size": size, "AP50": figures["VOC AP50"], "AP": coco["AP"],
            "AP small": coco["AP_small"], "AP medium": coco["AP_medium"], "AP large": coco["AP_large"],
            "recall": figures["recall of all detections"],
            "own predictor": share_with_predictor(version, network, state["classes"], setting, size),
            "ms": milliseconds(version, network, state["classes"], setting, size),
            "parameters": sum(layer[3] for layer in layers), "operations": sum(layer[4] for layer in layers)}


@torch.inference_mode()
def share_with_predictor(version, network, classes, setting, size):
    """
    The fraction of the test objects that train the box of a predictor. Of several objects that share a predictor, one
    does. (The detector may still find the others, by the box of a neighbouring cell.)
    """
    loss, data = VERSIONS[version].loss, VERSIONS[version].dataset
    images = data.DetectionDataset(read_annotations(TEST, classes), size)
    objects = kept = 0
    for n in range(len(images)):
        image, targets = data.collate([images[n]])
        assigned = loss.assign(network(image), targets, *setting)
        scales = assigned if version == 3 else [assigned]
        objects += len(targets)
        kept += sum(len(scale[0]) for scale in scales)                       # their slots
    return kept / objects


@torch.inference_mode()
def milliseconds(version, network, classes, setting, size):
    """The median time from a test image, already of the right size, to its boxes, one image at a time."""
    evaluate, data = VERSIONS[version].evaluate, VERSIONS[version].dataset
    images = data.DetectionDataset(read_annotations(TEST, classes)[:TIMED], size)
    seconds = []
    for n in range(len(images)):
        image = images[n][0][None].to(memory_format=torch.channels_last)     # (1, 3, size, size)
        start = time.perf_counter()
        boxes, scores = evaluate.decode(network(image), *setting)
        nms_per_class(boxes[0], scores[0], evaluate.SCORE_THRESHOLD, evaluate.NMS_THRESHOLD)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median_high(seconds)


def compare(version, seed):
    """Trains and measures a network, once: its rows are kept in comparison.json in the folder of its run."""
    rows = RUNS / name_of(version, seed) / "comparison.json"
    if rows.exists():
        return
    if not (rows.parent / "trained").exists():
        train_one(version, seed)
        (rows.parent / "trained").touch()
    last = sorted(SIZES[version], key=lambda size: size == SIZE)     # SIZE comes last, so that its evaluation remains
    measured = sorted([measure_one(version, seed, size) for size in last], key=lambda row: row["size"])
    with atomic_write(rows) as temporary:
        temporary.write_text(json.dumps(measured, indent=1))


def read_table():
    """-> the rows of TABLE, none if there is no such file. Raises InputError if it is another table."""
    if not TABLE.exists():
        return []
    try:
        return [{column: int(row[column]) if column in WHOLE_NUMBERS else float(row[column]) for column in COLUMNS}
                for row in csv.DictReader(read_lines(TABLE))]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{TABLE}: not a table of this script ({one_line(error)}); delete it") from None


def collect_rows():
    """Returns the rows of TABLE, after replacing those of the networks whose comparison.json is in runs/."""
    rows = {}                                                                # (version, seed) -> a row for each size
    for row in read_table():
        rows.setdefault((row["version"], row["seed"]), []).append(row)
    for file in RUNS.glob("compare_yolov*_seed*/comparison.json"):
        measured = json.loads(file.read_text())
        rows[measured[0]["version"], measured[0]["seed"]] = measured
    return [row for key in sorted(rows) for row in rows[key]]


def text(rows, column, digits=3):
    """The mean over the seeds and, of several seeds, the range."""
    values = [row[column] for row in rows]
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def print_table(rows):
    """
    A Markdown table of the versions at SIZE: means over the seeds, with their range. Only ms is another one: the
    smallest of the seeds' medians, because whatever else runs on the computer can only make it larger.
    """
    columns = COLUMNS[3:10]
    print("| version | " + " | ".join(columns) + " | ms | million parameters | billion operations |")
    print("|---" * (len(columns) + 4) + "|")
    for version in sorted({row["version"] for row in rows}):
        same = [row for row in rows if row["version"] == version and row["size"] == SIZE]
        print(f"| YOLOv{version}Tiny | " + " | ".join(text(same, column) for column in columns)
              + f" | {min(row['ms'] for row in same):.1f} | {same[0]['parameters'] / 1e6:.1f}"
              f" | {same[0]['operations'] / 1e9:.2f} |")


def draw(rows):
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for version, marker in zip((1, 2, 3), "sD^"):
        points = []
        for size in SIZES[version]:
            same = [row for row in rows if (row["version"], row["size"]) == (version, size)]
            if same:
                x, values = 1000 / min(row["ms"] for row in same), [row["AP50"] for row in same]
                points.append((x, sum(values) / len(values)))
                axes.plot([x] * len(values), values, color="0.7", linewidth=3, zorder=1)     # the range of the seeds
                axes.annotate(f" {size}", points[-1], fontsize=8)
        if points:
            axes.plot(*zip(*points), marker=marker, label=f"YOLOv{version}Tiny")
    axes.set(xlabel="images per second, one at a time, on a CPU", ylim=(0, 1), ylabel="AP50 on 300 unseen drawings",
             title=f"trained at {SIZE} x {SIZE}; the numbers are the sizes at evaluation")
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(TABLE.with_suffix(".png")) as temporary:
        figure.savefig(temporary, dpi=110)


def main():
    if not all(seed.isdecimal() for seed in SEEDS):
        raise InputError(f"data_samples/compare.py: SEEDS is {','.join(SEEDS)!r}, not whole numbers, as in SEEDS=0,1")
    if os.environ["PRESET"] != "mini":
        raise InputError(f"data_samples/compare.py compares on the miniature, but PRESET is {os.environ['PRESET']!r}")
    for seed in map(int, SEEDS):
        for version in (3, 2, 1):
            compare(version, seed)
    rows = collect_rows()
    with atomic_write(TABLE) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print_table(rows)
    draw(rows)
    print(TABLE, TABLE.with_suffix(".png"))


if __name__ == "__main__":
    run(main)
