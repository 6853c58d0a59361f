"""
Measures a network of yolov3/smol_svhn on house numbers.

    python yolov3/smol_svhn/evaluate.py     reads runs/smol_svhn/last.pt and the data of yolov3/smol_svhn/dataset.py;
                                            prints AP50, and mAP, precision and recall counting only the detections that
                                            score at least CONFIDENCE

What changed from yolov3/evaluate.py: an image is stretched to the input instead of letterboxed; fewer measures.
"""
import math

import numpy as np
import torch
from tqdm import tqdm

from shared.batches import ignore_ctrl_c
from shared.checkpoint import load_checkpoint, load_weights
from shared.constants import check_values
from shared.draw import draw_boxes, write_sheet
from shared.errors import run
from shared.images import read_image
from shared.metrics import at_confidence, mean_ap, voc_ap
from shared.nms import nms_per_class
from shared.paths import RUNS
from shared.report import truths_of
from yolov3.dataset import collate
from yolov3.evaluate import CONFIDENCE, MAX_TRAIN_EVALUATED, NMS_THRESHOLD, PICTURES, SCORE_THRESHOLD
from yolov3.model import decode
from yolov3.smol_svhn.dataset import TEST, TRAIN, DigitDataset, read_split
from yolov3.smol_svhn.model import SmolYOLOv3, check_config

CHECKPOINT = RUNS / "smol_svhn" / "last.pt"  # or best.pt, which has the highest AP50 on TEST
BATCH_SIZE = 16
NUM_WORKERS = 2
MEASURES = ["AP50 train", "AP50 test"]       # during a training


def check_evaluation():
    """Raises InputError for values of these constants that cannot be."""
    check_values("yolov3/smol_svhn/evaluate.py", globals())


@torch.inference_mode()
def detect_all(network, annotations, size, device, workers):
    """
    Runs the network on every image, stretched to size x size.

    returns  (D, 7)  image, label, score, left, top, right, bottom in pixels of the image
    """
    loader = torch.utils.data.DataLoader(DigitDataset(annotations, size), BATCH_SIZE, collate_fn=collate,
                                         num_workers=workers, worker_init_fn=ignore_ctrl_c)
    detections = []
    network.eval()
    for images, _ in tqdm(loader, desc="detecting", leave=False):
        heads = network(images.to(device))
        first = len(detections)                                              # the index of the batch's first image
        for n, (boxes, scores) in enumerate(zip(*decode(heads, network.anchors, network.strides)), first):
            width, height = annotations[n].width, annotations[n].height
            rows = nms_per_class(boxes, scores, SCORE_THRESHOLD, NMS_THRESHOLD).double().cpu().numpy()   # (D, 6)
            rows[:, 2:] = rows[:, 2:].clip(0, 1) * ([width, height] * 2)
            detections.append(np.insert(rows, 0, n, axis=1))                 # (D, 7)
    return np.concatenate([np.zeros((0, 7)), *detections])


def measure(network, train, test, classes, size, device, workers, sheet):
    """What train.py writes into log.csv: {name of MEASURES: value}. Draws detections to the file sheet."""
    measured, pictures = {}, []
    for name, annotations in ("train", train[:MAX_TRAIN_EVALUATED]), ("test", test):
        detections = detect_all(network, annotations, size, device, workers)
        measured[f"AP50 {name}"] = mean_ap(voc_ap(detections, truths_of(annotations), len(classes)))
        for n, annotation in enumerate(annotations[:PICTURES]):
            image = read_image(annotation.image)
            enlarge = math.ceil(320 / max(image.shape))                      # so that the boxes' names are legible
            found = detections[(detections[:, 0] == n) & (detections[:, 2] >= CONFIDENCE), 1:]   # (D, 6)
            found[:, 2:] *= enlarge
            pictures.append(draw_boxes(image.repeat(enlarge, 0).repeat(enlarge, 1), found, classes))
    write_sheet(sheet, pictures, columns=PICTURES)
    return measured


def main():
    check_evaluation()
    state = load_checkpoint(CHECKPOINT, "SmolYOLOv3")
    check_config(state.get("config"), CHECKPOINT)
    network = SmolYOLOv3(state["config"])
    load_weights(network, state["model"], CHECKPOINT)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device)

    print(f"{CHECKPOINT}, step {state['step']}, input {state['size']} x {state['size']}")
    for name, folders in ("train", TRAIN), ("test", TEST):
        annotations = [annotation for folder in folders for annotation in read_split(folder)]
        detections = detect_all(network, annotations, state["size"], device, NUM_WORKERS)
        truths = truths_of(annotations)
        ap = mean_ap(voc_ap(detections, truths, len(state["classes"])))
        fixed = at_confidence(detections, truths, len(state["classes"]), CONFIDENCE)
        print(f"{name}: {len(annotations)} images, AP50 {ap:.4f}; at confidence {CONFIDENCE}: "
              + ", ".join(f"{measure} {value:.4f}" for measure, value in fixed.items()))


if __name__ == "__main__":
    run(main)
