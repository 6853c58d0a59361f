"""
The results of the experiments of section 4: a table and a picture.

    python yolov3/did_not_work/results.py     collects the finished trainings in runs/did_not_work/, writes results.csv
                                              and results.png beside this file, and prints a table of the means

train.py also writes both files, at its start and after every training. Rows of results.csv whose training is not in
runs/ are kept, so a training that you repeat replaces its own row alone.

What changed from yolov3: nothing; yolov3 has no such file.
"""
import csv

from matplotlib.figure import Figure

from shared.errors import InputError, one_line, run
from shared.files import read_lines
from shared.paths import ROOT, RUNS, atomic_write
from yolov3.did_not_work.decode import EXPERIMENTS

RUN = "did_not_work"                         # the folder in runs/
OUT = ROOT / "yolov3" / "did_not_work"       # the folder of results.csv and results.png
COLUMNS = ["experiment", "seed", "AP50", "COCO AP", "recall", "steps", "minutes"]
# recall: the fraction of the objects that a detection of the right class finds (measure in train.py)
PAPER = {"baseline": "our YOLOv3 baseline",
         "anchor offsets": '"decreased model stability\nand didn\'t work very well"',
         "linear xy": '"a couple point drop in mAP"',
         "focal loss": '"dropped our mAP about 2 points"',
         "dual thresholds": '"couldn\'t get good results"'}


def read_rows(path):
    """-> {(experiment, seed): row} of a CSV file, empty if there is none. Raises InputError for another file."""
    if not path.exists():
        return {}
    try:
        rows = list(csv.DictReader(read_lines(path), strict=True))
        for row in rows:
            if row["experiment"] not in EXPERIMENTS:
                raise ValueError(f"no experiment {row['experiment']!r}")
            for column in COLUMNS[1:]:
                float(row[column])
        return {(row["experiment"], int(row["seed"])): row for row in rows}
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a table of these results ({one_line(error)}); delete it") from None


def write_rows(path, rows):
    """Writes rows, dicts of the COLUMNS, to a CSV file."""
    with atomic_write(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def collect():
    """
    Writes results.csv and results.png. Every process reads all finished trainings, so it does not matter which of
    several trainings at the same time comes last. Returns the rows, in the order of EXPERIMENTS, then by seed.
    """
    rows = read_rows(OUT / "results.csv")
    for path in (RUNS / RUN).glob("*/result.csv"):
        rows |= read_rows(path)
    rows = [rows[key] for key in sorted(rows, key=lambda key: (EXPERIMENTS.index(key[0]), key[1]))]
    write_rows(OUT / "results.csv", rows)
    write_figure(OUT / "results.png", rows)
    return rows


def values_of(rows, experiment, column):
    """The values of a column, one for each seed."""
    return [float(row[column]) for row in rows if row["experiment"] == experiment]


def write_figure(path, rows):
    """One line for each experiment: a dot for each seed's AP50, their range, and the paper's words beside it."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    for y, experiment in enumerate(EXPERIMENTS):
        values = values_of(rows, experiment, "AP50")
        if values:
            axes.plot([min(values), max(values)], [y, y], color="tab:blue", linewidth=6, alpha=0.3)
            axes.plot(values, [y] * len(values), "o", color="tab:blue")
        axes.text(1.02, y, PAPER[experiment], transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    baseline = values_of(rows, "baseline", "AP50")
    if baseline:
        axes.axvspan(min(baseline), max(baseline), color="0.85", zorder=0)
    axes.set_yticks(range(len(EXPERIMENTS)), EXPERIMENTS)
    axes.set(xlabel="AP50 on the miniature's test images, one dot for each seed", xlim=(0, None),
             ylim=(len(EXPERIMENTS) - 0.5, -0.5))
    axes.text(1.02, 1.03, "the paper, on COCO", transform=axes.transAxes, fontsize=9, color="0.4")
    axes.grid(axis="x", alpha=0.3)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)


def main():
    rows = collect()
    print("| experiment | seeds | AP50, mean (range) | COCO AP | recall |\n|---|---|---|---|---|")
    for experiment in EXPERIMENTS:
        ap50, ap, recall = (values_of(rows, experiment, column) for column in ("AP50", "COCO AP", "recall"))
        if ap50:
            print(f"| {experiment} | {len(ap50)} | {sum(ap50) / len(ap50):.3f} ({min(ap50):.3f} to {max(ap50):.3f}) "
                  f"| {sum(ap) / len(ap):.3f} | {sum(recall) / len(recall):.3f} |")
    print(f"\n{OUT}: results.csv, results.png")


if __name__ == "__main__":
    run(main)
