"""
Measures a trained YOLOv1 on a data set.

Source  The paper evaluates with the VOC devkit (shared/average_precision.py). As Darknet's validate, we keep every
        (box, class) that scores more than .001, after per-class NMS at .5 ([darknet] examples/yolo.c, validate_yolo).
        The kinds of errors are those of section 4.2 and Figure 4 (shared/error_analysis.py).

    python yolov1/evaluate.py     reads CHECKPOINT and the data of yolov1/dataset.py; prints tables of average
                                  precision and of the kinds of errors; writes to the folder evaluation/ beside
                                  CHECKPOINT these figures, precision-recall curves, and detections and truths as
                                  text for Padilla's toolkit and as COCO JSON

It also prints a ceiling. "Each grid cell only predicts two boxes and can only have one class" (section 2.4), and the
loss lets a cell learn one object, the first one. A detector that predicts exactly what the loss asks for finds these
objects and no others; its AP50 is the ceiling. It is not a strict upper bound: training shuffles the objects when it
augments, so the second box of a cell may learn a second object of the same class.

The checkpoint may also be one of yolov1/resnet/train.py.

What changed from the detectors before (section 3): there are 98 boxes for each image, where R-CNN has about 2000
proposals.
"""
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from shared.annotations import read_annotations
from shared.batches import ignore_ctrl_c
from shared.boxes import xyxy_to_cxcywh
from shared.constants import check_values
from shared.draw import write_sheet
from shared.error_analysis import groups_of
from shared.errors import run
from shared.metrics import mean_ap, voc_ap
from shared.nms import nms_per_class
from shared.paths import RUNS
from shared.report import draw_detections, report, truths_of
from yolov1.dataset import PRESET, SKIP_UNUSABLE, TEST, TRAIN, DetectionDataset, collate
from yolov1.loss import assign
from yolov1.model import STRIDE, decode
from yolov1.weights import load_detector

CHECKPOINT = RUNS / f"yolov1_{PRESET}" / "last.pt"
# or best.pt (the highest AP50 on TEST), or RUNS / "tiny-yolov1.weights"
DATA = {"train": TRAIN, "test": TEST}     # papers report test, whose images the network has not seen
SCORE_THRESHOLD = 0.001                   # [darknet] low, because a precision-recall curve needs doubtful detections
NMS_THRESHOLD = 0.5                       # [darknet]
CONFIDENCE = 0.2                          # the score threshold of detect.py, for precision and recall
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
    check_values("yolov1/evaluate.py", globals())


@torch.inference_mode()
def detect_all(network, annotations, size, num_boxes, device, workers):
    """
    Runs the network on every image, stretched to size x size. A cell predicts num_boxes boxes.

    returns  detections (D, 7)  image, label, score, left, top, right, bottom in pixels of the image
             accuracies         a dict of three fractions:
                                class      of the cells with an object, how many give its class the top probability
                                object     of the responsible predictors, how many have a confidence above .5
                                no_object  of the background predictors, how many have a confidence of at most .5
    """
    loader = torch.utils.data.DataLoader(DetectionDataset(annotations, size), BATCH_SIZE, collate_fn=collate,
                                         num_workers=workers, worker_init_fn=ignore_ctrl_c)
    detections, correct, counted = [], np.zeros(3), np.zeros(3)
    network.eval()
    for images, targets in tqdm(loader, desc="detecting", leave=False):
        output = network(images.to(device))

        first = len(detections)                                              # the index of the batch's first image
        for n, (boxes, scores) in enumerate(zip(*decode(output, num_boxes)), first):         # (L, 4), (L, C)
            width, height = annotations[n].width, annotations[n].height
            rows = nms_per_class(boxes, scores, SCORE_THRESHOLD, NMS_THRESHOLD).double().cpu().numpy()   # (D, 6)
            rows[:, 2:] = (rows[:, 2:] * ([width, height] * 2)).clip(0, [width, height] * 2)
            detections.append(np.insert(rows, 0, n, axis=1))                 # (D, 7)

        slots, objects, _, background = assign(output, targets, num_boxes)
        image, row, col, box = slots.T
        C = output.shape[3] - 5 * num_boxes
        confidence = output[..., C:C + num_boxes]                            # (B, S, S, n)
        class_right = output[image, row, col, :C].argmax(1) == targets.to(device)[objects, 1]    # (R,)
        object_right = confidence[image, row, col, box] > 0.5                # (R,)
        background_right = confidence[background] <= 0.5                     # (K,)
        for i, right in enumerate([class_right, object_right, background_right]):
            correct[i] += right.sum().item()
            counted[i] += len(right)
    accuracies = dict(zip(["class", "object", "no_object"], correct / np.maximum(counted, 1)))
    return np.concatenate([np.zeros((0, 7)), *detections]), accuracies


def one_object_per_cell(annotations, grid):
    """
    The objects that the loss lets grid x grid cells learn: of those with their centre in a cell the first one, in the
    order of the files and without the difficult ones.

    returns  (K, 7)  the detections of a perfect network: image, label, a score of 1, left, top, right, bottom
    """
    first = {}                                                               # (image, row, column) -> its detection
    for n, annotation in enumerate(annotations):
        sides = [annotation.width, annotation.height] * 2
        centres = xyxy_to_cxcywh(torch.from_numpy(annotation.boxes / sides).float())[:, :2]  # (n, 2)  as in dataset.py
        cells = (centres * grid).long().clamp(max=grid - 1).tolist()         # column, row
        for i, (col, row) in enumerate(cells):
            if not annotation.difficult[i]:
                first.setdefault((n, row, col), [n, annotation.labels[i], 1, *annotation.boxes[i]])
    return np.array(list(first.values()), dtype=float).reshape(-1, 7)


def ceiling(annotations, classes, grid):
    """The AP50 of the detections of one_object_per_cell."""
    return mean_ap(voc_ap(one_object_per_cell(annotations, grid), truths_of(annotations), len(classes)))


def measure(network, train, test, classes, num_boxes, size, device, workers, sheet):
    """Returns {name of MEASURES or ACCURACIES: value} for log.csv. Draws detections to the file sheet."""
    measured, pictures = {}, []
    for name, annotations in ("train", train[:MAX_TRAIN_EVALUATED]), ("test", test):
        detections, accuracies = detect_all(network, annotations, size, num_boxes, device, workers)
        measured[f"AP50 {name}"] = mean_ap(voc_ap(detections, truths_of(annotations), len(classes)))
        measured |= {f"{kind} accuracy {name}": value for kind, value in accuracies.items()}
        pictures += draw_detections(detections, annotations[:PICTURES], classes, CONFIDENCE)
    write_sheet(sheet, pictures, columns=PICTURES)
    return measured


def main():
    check_evaluation()
    network, state = load_detector(CHECKPOINT)
    classes, num_boxes, size = state["classes"], state["boxes"], state["size"]
    groups = groups_of(classes, SIMILAR)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device, memory_format=torch.channels_last)

    print(f"{CHECKPOINT}, {state['network']}, step {state['step']}, input {size} x {size}")
    for name, splits in DATA.items():
        annotations = read_annotations(splits, classes, SKIP_UNUSABLE)
        print(f"\n{name}: {len(annotations)} images, " + ", ".join(f"{folder} {split}" for folder, split in splits))
        detections, accuracies = detect_all(network, annotations, size, num_boxes, device, NUM_WORKERS)
        folder = Path(CHECKPOINT).parent / "evaluation" / name
        report(detections, accuracies, annotations, classes, CONFIDENCE, folder, groups)
        kept = len(one_object_per_cell(annotations, size // STRIDE))
        objects = sum((~annotation.difficult).sum() for annotation in annotations)
        highest = ceiling(annotations, classes, size // STRIDE)
        print(f"the ceiling          AP50 {highest:.4f}: {kept} of {objects} objects keep their cell")


if __name__ == "__main__":
    run(main)
