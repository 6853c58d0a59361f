"""
Measures a trained YOLOv2 on a data set.

Source  The papers evaluate with the VOC devkit and with COCO's tools (shared/metrics.py), on what Darknet's validate
        writes: every (box, class) with a score above .005, per-class NMS at .45 ([darknet] examples/detector.c,
        validate_detector).

    python yolov2/evaluate.py     reads runs/yolov2/last.pt and the data of yolov2/dataset.py; prints tables of average
                                  precision and writes, to runs/yolov2/evaluation/, precision-recall curves, and
                                  detections and truths as text for Padilla's toolkit and as COCO JSON

What changed from yolov1/evaluate.py: the letterbox; the thresholds (there .001 and .5); no ceiling, as a cell no longer
has one object only.
"""
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from shared.annotations import read_annotations
from shared.detections import write_coco, write_padilla
from shared.draw import write_precision_recall
from shared.errors import InputError
from shared.metrics import area, at_confidence, coco_ap, mean_ap, voc_ap, voc_curves
from shared.nms import nms_per_class
from shared.paths import RUNS
from yolov2.dataset import TEST, TRAIN, DetectionDataset, collate, undo_letterbox
from yolov2.loss import assign
from yolov2.model import decode
from yolov2.weights import load_detector

CHECKPOINT = RUNS / "yolov2" / "last.pt"  # or best.pt, of the highest AP50 on TEST, or RUNS / "yolov2-voc.weights"
DATA = {"train": TRAIN, "test": TEST}     # what the network has seen, and what it has not; a paper reports the latter
SCORE_THRESHOLD = 0.005                   # [darknet] low: a curve wants the doubtful detections too
NMS_THRESHOLD = 0.45                      # [darknet]
CONFIDENCE = 0.5                          # for precision and recall at one fixed score: detect.py's
BATCH_SIZE = 8
NUM_WORKERS = 2


@torch.inference_mode()
def detect_all(network, annotations, size, anchors, device, workers):
    """
    Runs the network on every image in its letterbox of size x size.

    returns  detections (D, 7)  image, label, score, left, top, right, bottom in pixels of the image
             accuracies         three fractions that some courses report. class: of the responsible predictors, how many
                                give the object's class the highest score; object: how many of them have an objectness
                                above .5; no_object: how many background predictors have not
    """
    loader = torch.utils.data.DataLoader(DetectionDataset(annotations, size), BATCH_SIZE, collate_fn=collate,
                                         num_workers=workers)
    detections, correct, counted = [], np.zeros(3), np.zeros(3)
    network.eval()
    for images, targets in tqdm(loader, desc="detecting", leave=False):
        head, targets = network(images.to(device)), targets.to(device)

        for boxes, scores in zip(*decode(head, anchors)):                    # (L, 4), (L, C)  image by image
            n = len(detections)                                              # the image
            width, height = annotations[n].width, annotations[n].height
            rows = nms_per_class(boxes, scores, SCORE_THRESHOLD, NMS_THRESHOLD).double().cpu().numpy()   # (D, 6)
            rows[:, 2:] = undo_letterbox(rows[:, 2:], width, height, size, size).clip(0, [width, height] * 2)
            detections.append(np.insert(rows, 0, n, axis=1))                 # (D, 7)

        slot, owner, _, background = assign(head, targets, anchors)
        responsible = head[slot]                                             # (R, 5 + C)
        named = responsible[:, 5:].argmax(1) == targets[owner, 1]            # (R,)
        found, quiet = responsible[:, 4] > 0, head[..., 4][background] <= 0  # sigmoid(0) is .5
        correct += [named.sum().item(), found.sum().item(), quiet.sum().item()]
        counted += [len(named), len(found), len(quiet)]
    accuracies = dict(zip(["class", "object", "no_object"], correct / np.maximum(counted, 1)))
    return np.concatenate([np.zeros((0, 7)), *detections]), accuracies


def truths_of(annotations):
    """-> (M, 7)  image, label, left, top, right, bottom in pixels, 1 if difficult: see shared/metrics.py"""
    return np.concatenate([np.column_stack([np.full(len(a.boxes), n), a.labels, a.boxes, a.difficult])
                           for n, a in enumerate(annotations)])


def report(detections, truths, accuracies, annotations, classes, folder):
    """Prints every definition of average precision, and writes the curves, text files and JSON to the folder."""
    every_point, eleven_point = (voc_ap(detections, truths, len(classes), eleven_point=e) for e in (False, True))
    areas = np.concatenate([area(a.boxes) if a.areas is None else a.areas for a in annotations])             # (M,)
    coco = coco_ap(detections, truths, len(classes), areas)
    fixed = at_confidence(detections, truths, len(classes), CONFIDENCE)
    counts = np.bincount(truths[truths[:, 6] == 0, 1].astype(int), minlength=len(classes))

    table = [f"{'class':<20} {'truths':>6} {'AP50':>7} {'11-point':>9}"]
    for label in counts.nonzero()[0]:
        table += [f"{classes[label]:<20} {counts[label]:>6} {every_point[label]:>7.4f} {eleven_point[label]:>9.4f}"]
    table += [f"{'mean':<20} {counts.sum():>6} {mean_ap(every_point):>7.4f} {mean_ap(eleven_point):>9.4f}"]
    figures = ["COCO                 " + "  ".join(f"{name} {value:.4f}" for name, value in coco.items())]
    on_coco = all(a.number is not None for a in annotations)                 # its own figures come first there
    print("\n".join(figures + table if on_coco else table + figures))
    print(f"at confidence {CONFIDENCE:<6} " + "  ".join(f"{name} {value:.4f}" for name, value in fixed.items()))
    print("accuracies           " + "  ".join(f"{name} {value:.4f}" for name, value in accuracies.items()))

    images = [a.image.name for a in annotations]
    curves = voc_curves(detections, truths, len(classes))
    write_precision_recall(folder / "precision_recall.png", curves, every_point, classes)
    ids = ([a.number for a in annotations], annotations[0].category_ids) if on_coco else (None, None)
    write_coco(folder, detections, truths, images, [(a.width, a.height) for a in annotations], classes, areas, *ids)
    shutil.rmtree(folder / "padilla", ignore_errors=True)                    # the toolkit counts every file it finds
    write_padilla(folder / "padilla", detections, truths, images, classes)
    print(f"curves, text files and JSON in {folder}")


def main():
    network, state = load_detector(CHECKPOINT)
    classes, anchors, size = state["classes"], state["anchors"], state["size"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.fuse().to(device, memory_format=torch.channels_last)

    print(f"{CHECKPOINT}, {state['network']}, step {state['step']}, input {size} x {size}")
    for name, splits in DATA.items():
        annotations = read_annotations(splits, classes)
        print(f"\n{name}: {len(annotations)} images, " + ", ".join(f"{folder} {split}" for folder, split in splits))
        detections, accuracies = detect_all(network, annotations, size, anchors, device, NUM_WORKERS)
        folder = Path(CHECKPOINT).parent / "evaluation" / name
        report(detections, truths_of(annotations), accuracies, annotations, classes, folder)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error).split("InputError: ")[-1].strip())  # a process that loads images puts a traceback before it
