"""
Measures a trained YOLOv1 on a data set; yolov1/resnet's too: the checkpoint says which it is.

Source  The paper evaluates with the VOC devkit (shared/metrics.py), on what Darknet's validate writes: of the 98 boxes
        every (box, class) with a class-specific confidence, equation (1), above .001, per-class NMS at .5 ([darknet]
        examples/yolo.c, validate_yolo).

Printed beside it: what section 2.4 means by "each grid cell only predicts two boxes and can only have one class". The
loss gives each cell one object, the first in the list. A detector that answers exactly what the loss asks for finds
those objects and no others; its AP50 is the ceiling. (Not a strict one: where training shuffles the objects, the second
box of a cell may come to know the second object, if it is of the same class.)

    python yolov1/evaluate.py     reads runs/yolov1/last.pt and the data of yolov1/dataset.py; prints tables of average
                                  precision and writes, to runs/yolov1/evaluation/, precision-recall curves, and
                                  detections and truths as text for Padilla's toolkit and as COCO JSON

What changed from the detectors before (section 3): 98 boxes an image, where R-CNN has about 2000 proposals.
"""
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from shared.annotations import read_annotations
from shared.boxes import xyxy_to_cxcywh
from shared.detections import write_coco, write_padilla
from shared.draw import write_precision_recall
from shared.errors import InputError
from shared.metrics import area, at_confidence, coco_ap, mean_ap, voc_ap, voc_curves
from shared.nms import nms_per_class
from shared.paths import RUNS
from yolov1.dataset import TEST, TRAIN, DetectionDataset, collate
from yolov1.loss import assign
from yolov1.model import STRIDE, decode
from yolov1.weights import load_detector

CHECKPOINT = RUNS / "yolov1" / "last.pt"  # or best.pt, of the highest AP50 on TEST, or RUNS / "yolov1-tiny.weights"
DATA = {"train": TRAIN, "test": TEST}     # what the network has seen, and what it has not; a paper reports the latter
SCORE_THRESHOLD = 0.001                   # [darknet] low: a curve wants the doubtful detections too
NMS_THRESHOLD = 0.5                       # [darknet]
CONFIDENCE = 0.2                          # for precision and recall at one fixed score: detect.py's
BATCH_SIZE = 8
NUM_WORKERS = 2


@torch.inference_mode()
def detect_all(network, annotations, size, boxes, device, workers):
    """
    Runs the network on every image, stretched to size x size; boxes: how many a cell predicts.

    returns  detections (D, 7)  image, label, score, left, top, right, bottom in pixels of the image
             accuracies         three fractions that some courses report. class: of the cells with an object, how many
                                give its class the highest probability; object: how many responsible boxes have a
                                confidence above .5; no_object: how many background boxes have not
    """
    loader = torch.utils.data.DataLoader(DetectionDataset(annotations, size), BATCH_SIZE, collate_fn=collate,
                                         num_workers=workers)
    detections, correct, counted = [], np.zeros(3), np.zeros(3)
    network.eval()
    for images, targets in tqdm(loader, desc="detecting", leave=False):
        output, targets = network(images.to(device)), targets.to(device)

        for corners, scores in zip(*decode(output, boxes)):                  # (L, 4), (L, C)  image by image
            n = len(detections)                                              # the image
            sides = [annotations[n].width, annotations[n].height] * 2
            rows = nms_per_class(corners, scores, SCORE_THRESHOLD, NMS_THRESHOLD).double().cpu().numpy()     # (D, 6)
            rows[:, 2:] = (rows[:, 2:] * sides).clip(0, sides)
            detections.append(np.insert(rows, 0, n, axis=1))                 # (D, 7)

        (*cell, box), owner, _, background = assign(output, targets, boxes)
        C = output.shape[3] - 5 * boxes
        confidence = output[..., C:C + boxes]                                # (B, S, S, n)
        named = output[*cell][:, :C].argmax(1) == targets[owner, 1]          # (R,)
        found, quiet = confidence[*cell, box] > 0.5, confidence[background] <= 0.5
        correct += [named.sum().item(), found.sum().item(), quiet.sum().item()]
        counted += [len(named), len(found), len(quiet)]
    accuracies = dict(zip(["class", "object", "no_object"], correct / np.maximum(counted, 1)))
    return np.concatenate([np.zeros((0, 7)), *detections]), accuracies


def truths_of(annotations):
    """-> (M, 7)  image, label, left, top, right, bottom in pixels, 1 if difficult: see shared/metrics.py"""
    return np.concatenate([np.column_stack([np.full(len(a.boxes), n), a.labels, a.boxes, a.difficult])
                           for n, a in enumerate(annotations)])


def one_object_per_cell(annotations, grid):
    """
    What the loss lets a cell learn, with the objects in their files' order: of those with their centre in it the first,
    difficult ones left out. -> (K, 7)  as detections of a perfect network, all with a score of 1
    """
    truths = truths_of(annotations)
    truths = truths[truths[:, 6] == 0]                                       # (M, 7)
    sides = np.array([(a.width, a.height) * 2 for a in annotations])[truths[:, 0].astype(int)]       # (M, 4)
    boxes = xyxy_to_cxcywh(torch.from_numpy(truths[:, 2:6] / sides).float())                         # as in dataset.py
    cell = (boxes[:, :2] * grid).long().clamp(max=grid - 1).numpy()                                  # (M, 2)
    _, first = np.unique(np.column_stack([truths[:, 0], cell]), axis=0, return_index=True)
    return np.insert(truths[np.sort(first), :6], 2, 1, axis=1)


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
    classes, boxes, size = state["classes"], state["boxes"], state["size"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device, memory_format=torch.channels_last)

    print(f"{CHECKPOINT}, {state['network']}, step {state['step']}, input {size} x {size}")
    for name, splits in DATA.items():
        annotations = read_annotations(splits, classes)
        print(f"\n{name}: {len(annotations)} images, " + ", ".join(f"{folder} {split}" for folder, split in splits))
        detections, accuracies = detect_all(network, annotations, size, boxes, device, NUM_WORKERS)
        truths, folder = truths_of(annotations), Path(CHECKPOINT).parent / "evaluation" / name
        report(detections, truths, accuracies, annotations, classes, folder)
        possible = one_object_per_cell(annotations, size // STRIDE)
        print(f"the ceiling          AP50 {mean_ap(voc_ap(possible, truths, len(classes))):.4f}: {len(possible)} of "
              f"{(truths[:, 6] == 0).sum()} objects keep their cell")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error).split("InputError: ")[-1].strip())  # a process that loads images puts a traceback before it
