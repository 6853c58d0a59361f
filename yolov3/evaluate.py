"""
Measures a trained YOLOv3 on a data set.

Source  The paper evaluates with COCO's tools (shared/average_precision.py). As Darknet's validate, we keep every
        (box, class) that scores more than .005, after per-class NMS at .45 ([darknet] examples/detector.c,
        validate_detector).

    python yolov3/evaluate.py     reads CHECKPOINT and the data of yolov3/dataset.py; prints tables of average
                                  precision and of the kinds of errors; writes to the folder evaluation/ beside
                                  CHECKPOINT these figures, precision-recall curves, and detections and truths as
                                  text for Padilla's toolkit and as COCO JSON

What changed from yolov2/evaluate.py: there are three heads; the image is always in its letterbox.
"""
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from shared.annotations import read_annotations
from shared.batches import ignore_ctrl_c
from shared.constants import check_values
from shared.draw import write_sheet
from shared.error_analysis import groups_of
from shared.errors import run
from shared.layers import fuse_batchnorm
from shared.metrics import mean_ap, voc_ap
from shared.nms import nms_per_class
from shared.paths import RUNS
from shared.report import draw_detections, report, truths_of
from yolov3.dataset import PRESET, SKIP_UNUSABLE, TEST, TRAIN, DetectionDataset, collate, undo_letterbox
from yolov3.loss import assign
from yolov3.model import decode
from yolov3.weights import load_detector

CHECKPOINT = RUNS / f"yolov3_{PRESET}" / "last.pt"
# or best.pt (the highest AP50 on TEST), or, with PRESET = "darknet_coco", RUNS / "yolov3.weights"
SIZE = None                               # of the input; None: the checkpoint's. Figure 1 has 320, 416 and 608
DATA = {"train": TRAIN, "test": TEST}     # papers report test, whose images the network has not seen
SCORE_THRESHOLD = 0.005                   # [darknet] low, because a precision-recall curve needs doubtful detections
NMS_THRESHOLD = 0.45                      # [darknet]
CONFIDENCE = 0.5                          # the score threshold of detect.py, for precision and recall
SIMILAR = None                            # sets of similar classes: [{"lorry", "van"}]; None: VOC's or COCO's own
BATCH_SIZE = 8
NUM_WORKERS = 2

# During a training
MAX_TRAIN_EVALUATED = 300                 # evaluate at most this many images of TRAIN; of TEST all are evaluated
PICTURES = 6                              # images of TRAIN and of TEST that are drawn
MEASURES = ["AP50 train", "AP50 test"]
ACCURACIES = [f"{name} accuracy {split}" for split in ("train", "test") for name in ("class", "object", "no_object")]


def check_evaluation():
    """Raises InputError for invalid values of these constants."""
    check_values("yolov3/evaluate.py", globals())


@torch.inference_mode()
def detect_all(network, annotations, size, anchors, device, workers):
    """
    Runs the network on every image in its letterbox of size x size.

    returns  detections (D, 7)  image, label, score, left, top, right, bottom in pixels of the image
             accuracies         a dict of three fractions:
                                class      of the responsible predictors, how many give a right class the top score
                                object     of the responsible predictors, how many have an objectness above .5
                                no_object  of the background predictors, how many have an objectness of at most .5
    """
    loader = torch.utils.data.DataLoader(DetectionDataset(annotations, size), BATCH_SIZE, collate_fn=collate,
                                         num_workers=workers, worker_init_fn=ignore_ctrl_c)
    detections, correct, counted = [], np.zeros(3), np.zeros(3)
    network.eval()
    for images, targets in tqdm(loader, desc="detecting", leave=False):
        heads = network(images.to(device))

        first = len(detections)                                              # the index of the batch's first image
        for n, (boxes, scores) in enumerate(zip(*decode(heads, anchors)), first):         # (L, 4), (L, C)
            width, height = annotations[n].width, annotations[n].height
            rows = nms_per_class(boxes, scores, SCORE_THRESHOLD, NMS_THRESHOLD).double().cpu().numpy()   # (D, 6)
            rows[:, 2:] = undo_letterbox(rows[:, 2:], width, height, size, size).clip(0, [width, height] * 2)
            detections.append(np.insert(rows, 0, n, axis=1))                 # (D, 7)

        for head, (slots, _, classes, background) in zip(heads, assign(heads, targets, anchors)):
            responsible = head[tuple(slots.T)]                               # (R, 5 + C)
            class_right = classes.gather(1, responsible[:, 5:].argmax(1, keepdim=True))      # (R, 1)
            object_right = responsible[:, 4] > 0                             # (R,)  sigmoid(0) is .5
            background_right = head[..., 4][background] <= 0                 # (K,)
            for i, right in enumerate([class_right, object_right, background_right]):
                correct[i] += right.sum().item()
                counted[i] += len(right)
    accuracies = dict(zip(["class", "object", "no_object"], correct / np.maximum(counted, 1)))
    return np.concatenate([np.zeros((0, 7)), *detections]), accuracies


def measure(network, train, test, classes, anchors, size, device, workers, sheet):
    """Returns {name of MEASURES or ACCURACIES: value} for log.csv. Draws detections to the file sheet."""
    measured, pictures = {}, []
    for name, annotations in ("train", train[:MAX_TRAIN_EVALUATED]), ("test", test):
        detections, accuracies = detect_all(network, annotations, size, anchors, device, workers)
        measured[f"AP50 {name}"] = mean_ap(voc_ap(detections, truths_of(annotations), len(classes)))
        measured |= {f"{kind} accuracy {name}": value for kind, value in accuracies.items()}
        pictures += draw_detections(detections, annotations[:PICTURES], classes, CONFIDENCE)
    write_sheet(sheet, pictures, columns=PICTURES)
    return measured


def main():
    check_evaluation()
    network, state = load_detector(CHECKPOINT)
    classes, anchors, size = state["classes"], state["anchors"], SIZE or state["size"]
    groups = groups_of(classes, SIMILAR)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = fuse_batchnorm(network).to(device, memory_format=torch.channels_last)

    print(f"{CHECKPOINT}, {state['network']}, step {state['step']}, input {size} x {size}")
    for name, splits in DATA.items():
        annotations = read_annotations(splits, classes, SKIP_UNUSABLE)
        print(f"\n{name}: {len(annotations)} images, " + ", ".join(f"{folder} {split}" for folder, split in splits))
        detections, accuracies = detect_all(network, annotations, size, anchors, device, NUM_WORKERS)
        folder = Path(CHECKPOINT).parent / "evaluation" / name
        report(detections, accuracies, annotations, classes, CONFIDENCE, folder, groups)


if __name__ == "__main__":
    run(main)
