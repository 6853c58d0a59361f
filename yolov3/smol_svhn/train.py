"""
Trains the network of smol.json on house numbers.

Paper   "YOLOv3: An Incremental Improvement", for the loss: yolov3/loss.py as it is, with this network's anchors and
        strides. The settings are no paper's.

    python yolov3/smol_svhn/train.py     a GPU if there is one, the CPU otherwise

Edit the constants here, the network in smol.json and the data in yolov3/smol_svhn/dataset.py. As committed it trains
100 epochs of the 256 drawn images, on a CPU, in about 1 minute: AP50 1.00 on them, .70 on the 64 that it has not seen.

Writes to runs/<RUN>/: log.csv (each step's loss by term, each evaluation's AP), curves.png, detections/ (the same
images at each evaluation), last.pt (the same command goes on from there) and best.pt (the highest AP50 on TEST).

What changed from yolov3/train.py: Adam only, without burn-in; epochs instead of steps; one input size; one process,
since a step of 127,150 parameters is too short to be shared.
"""
import csv
import math
import sys
import zlib

import numpy as np
import torch
import torch.nn as nn
from tqdm import tqdm

from shared.checkpoint import load_checkpoint, load_weights, save_checkpoint
from shared.draw import draw_boxes, write_sheet, write_training_curves
from shared.errors import InputError
from shared.images import read_image
from shared.metrics import at_confidence, mean_ap, voc_ap
from shared.nms import nms_per_class
from shared.paths import RUNS, atomic_write
from yolov3.dataset import collate
from yolov3.evaluate import NMS_THRESHOLD, SCORE_THRESHOLD, truths_of
from yolov3.loss import yolov3_loss
from yolov3.model import decode
from yolov3.smol_svhn.dataset import CLASSES, TEST, TRAIN, DigitDataset, read_split
from yolov3.smol_svhn.model import CONFIG, SmolYOLOv3, read_config

RUN = "smol_svhn"            # the folder in runs/; a new name begins a new training
SEED = 0

# The sample's values        for SVHN's 33,402 images
EPOCHS = 100                 # 100
BATCH_SIZE = 16              # 64; ours: 400 steps are too few for 256 images that are moved about
LEARNING_RATE = 3e-3         # 1e-3
SCHEDULE = "cosine"          # "constant"; ours: a short run has to come to rest by itself
ADAM_BETAS = (0.9, 0.95)     # (0.9, 0.999); ours: there the no_object gradients of the start shorten all later steps
WEIGHT_DECAY = 1e-4          # on the weights of convolutions only
BATCHNORM_MOMENTUM = 0.1     # [darknet] .01; ours: .01 leaves the running averages unfinished after 1,600 steps
AUGMENT = True

EVALUATE_EVERY = 10          # epochs
CHECKPOINT_EVERY = 10        # epochs
EVALUATED = 1000             # at most this many images of TRAIN are evaluated; of TEST all
PICTURES = 6                 # images of TRAIN and of TEST drawn with their detections at each evaluation
CONFIDENCE = 0.5             # for these pictures, and for the mAP at one fixed confidence
NUM_WORKERS = 2              # processes that load images

TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
MEASURES = ["AP50 train", "AP50 test", "mAP at confidence train", "mAP at confidence test"]
COLUMNS = ["step", "epoch", "learning rate", *TERMS, *MEASURES]


def learning_rate(step, steps):
    """The rate of the step-th of all steps, counted from 1."""
    return LEARNING_RATE * (1 + math.cos(math.pi * step / steps)) / 2 if SCHEDULE == "cosine" else LEARNING_RATE


def batches(count, first_step, steps):
    """
    For each step from first_step on a list of (index, seed), as DigitDataset takes them. The images, numbered n through
    all epochs, depend on SEED alone, not on when the training was interrupted.
    """
    epoch = None
    for step in range(first_step, steps + 1):
        batch = []
        for n in range((step - 1) * BATCH_SIZE, step * BATCH_SIZE):
            if n // count != epoch:
                epoch = n // count
                order = np.random.default_rng((SEED, epoch)).permutation(count)
            batch.append((order[n % count], (SEED, n)))
        yield batch


def make_optimizer(network):
    weights = [p for p in network.parameters() if p.ndim > 1]                # of convolutions
    others = [p for p in network.parameters() if p.ndim == 1]                # BatchNorm's, and the last layers' biases
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    return torch.optim.Adam(groups, lr=LEARNING_RATE, betas=ADAM_BETAS, fused=True)


@torch.inference_mode()
def detect_all(network, annotations, size, device):
    """-> (D, 7)  image, label, score, left, top, right, bottom in pixels of the image: see shared/metrics.py"""
    loader = torch.utils.data.DataLoader(DigitDataset(annotations, size), BATCH_SIZE, collate_fn=collate,
                                         num_workers=NUM_WORKERS)
    detections = []
    network.eval()
    for images, _ in tqdm(loader, desc="detecting", leave=False):
        heads = network(images.to(device))
        for boxes, scores in zip(*decode(heads, network.anchors, network.strides)):          # (L, 4), (L, C)
            a = annotations[len(detections)]
            rows = nms_per_class(boxes, scores, SCORE_THRESHOLD, NMS_THRESHOLD).double().cpu().numpy()   # (D, 6)
            rows[:, 2:] = rows[:, 2:].clip(0, 1) * ([a.width, a.height] * 2)
            detections.append(np.insert(rows, 0, len(detections), axis=1))   # (D, 7)
    return np.concatenate([np.zeros((0, 7)), *detections])


def evaluate(network, splits, size, folder, step, device):
    """Measures the network on the train and test annotations, draws some of them; -> {name of MEASURES: value}."""
    measured, pictures = {}, []
    for name, annotations in splits.items():
        detections, truths = detect_all(network, annotations, size, device), truths_of(annotations)
        measured[f"AP50 {name}"] = mean_ap(voc_ap(detections, truths, len(CLASSES)))
        measured[f"mAP at confidence {name}"] = at_confidence(detections, truths, len(CLASSES), CONFIDENCE)["mAP"]
        for n in range(min(PICTURES, len(annotations))):
            found = detections[(detections[:, 0] == n) & (detections[:, 2] >= CONFIDENCE), 1:]
            image = read_image(annotations[n].image)
            enlarge = math.ceil(320 / max(image.shape))                      # for the names of the boxes
            found[:, 2:] *= enlarge
            pictures.append(draw_boxes(image.repeat(enlarge, 0).repeat(enlarge, 1), found, CLASSES))
    write_sheet(folder / "detections" / f"step_{step:06}.jpg", pictures, columns=PICTURES)
    return measured


def main():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)                 # more would wait for each other longer than so small a step takes

    # The data.
    config = read_config(CONFIG)
    size = config["image_size"]
    if config["num_classes"] != len(CLASSES):
        raise InputError(f"{CONFIG}: num_classes is {config['num_classes']}, but yolov3/smol_svhn/dataset.py has "
                         f"{len(CLASSES)} CLASSES")
    train, test = ([a for folder in part for a in read_split(folder)] for part in (TRAIN, TEST))
    if not train or not test:
        raise InputError("yolov3/smol_svhn/dataset.py: TRAIN and TEST need at least one folder with images each")
    splits = {"train": train[:EVALUATED], "test": test}
    if SCHEDULE not in ("cosine", "constant"):
        raise InputError(f"yolov3/smol_svhn/train.py: SCHEDULE {SCHEDULE!r} is none of ('cosine', 'constant')")
    steps = math.ceil(EPOCHS * len(train) / BATCH_SIZE)

    # The network, from the beginning or from where it was.
    folder = RUNS / RUN
    last, best, log = folder / "last.pt", folder / "best.pt", folder / "log.csv"
    torch.manual_seed(SEED)
    network = SmolYOLOv3(config)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = BATCHNORM_MOMENTUM
    network = network.to(device)
    optimizer = make_optimizer(network)
    done, best_ap = 0, -1.0
    fixed = {"config": config,                                               # what a run may not change
             "train": [len(train), zlib.crc32(b"".join(a.boxes.tobytes() for a in train))]}    # all names are 1.png ..
    if last.exists():
        state = load_checkpoint(last, "SmolYOLOv3")
        for what, key in [(CONFIG.name, "config"), ("TRAIN", "train")]:
            if state[key] != fixed[key]:
                raise InputError(f"{last}: was trained with another {what}; put it back, or give RUN in "
                                 "yolov3/smol_svhn/train.py a new name")
        done, best_ap = state["step"], state["best_ap"]
        if done >= steps:
            print(f"{last} has done its {done} steps. For more raise EPOCHS in yolov3/smol_svhn/train.py, for another "
                  "training give RUN a new name.")
            return
        load_weights(network, state["model"], last)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state["optimizer"]["state"]})
    rows = csv.DictReader(log.read_text().splitlines() if done and log.exists() else [])
    with atomic_write(log) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row for row in rows if int(row["step"]) <= done)    # not beyond the checkpoint
    file = open(log, "a", newline="")
    writer = csv.DictWriter(file, COLUMNS)

    loader = iter(torch.utils.data.DataLoader(
        DigitDataset(train, size, AUGMENT), batch_sampler=batches(len(train), done + 1, steps),
        num_workers=NUM_WORKERS, collate_fn=collate, pin_memory=device.type == "cuda"))
    bar = tqdm(range(done + 1, steps + 1), initial=done, total=steps)
    for step in bar:
        network.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        images, targets = next(loader)
        images, targets = images.to(device), targets.to(device)              # (B, 3, H, W), (N, 6)
        loss = yolov3_loss(network(images), targets, network.anchors, network.strides)
        terms = {term: loss[term].item() for term in TERMS}
        figures = " ".join(f"{term} {value:.4g}" for term, value in terms.items())
        if not math.isfinite(terms["total"]):
            sys.exit(f"yolov3/smol_svhn/train.py: the loss of step {step} is not finite: {figures}. {last} is as it "
                     "was.")
        optimizer.zero_grad()
        loss["total"].backward()
        optimizer.step()

        # Write down how it went.
        epochs_before, epochs = (step - 1) * BATCH_SIZE // len(train), step * BATCH_SIZE // len(train)
        ended = step == steps
        evaluating = ended or epochs // EVALUATE_EVERY > epochs_before // EVALUATE_EVERY
        saving = ended or epochs // CHECKPOINT_EVERY > epochs_before // CHECKPOINT_EVERY
        bar.set_postfix_str(figures)
        measured = evaluate(network, splits, size, folder, step, device) if evaluating else {}
        writer.writerow({"step": step, "epoch": epochs, "learning rate": learning_rate(step, steps),
                         **terms, **measured})
        file.flush()
        state = {"network": "SmolYOLOv3", "classes": CLASSES, "anchors": network.anchors, "size": size, "step": step,
                 **fixed, "model": network.state_dict()}
        if evaluating:
            bar.write(f"step {step}  " + "  ".join(f"{name} {value:.4f}" for name, value in measured.items()))
            write_training_curves(folder / "curves.png", log, TERMS, MEASURES)
            if not measured["AP50 test"] < best_ap:                          # of equal ones the last; nan: no truths
                best_ap = measured["AP50 test"]
                save_checkpoint(best, state)
        if saving:
            save_checkpoint(last, {**state, "best_ap": best_ap, "optimizer": optimizer.state_dict()})
    print(f"{folder}: curves.png, log.csv, detections/, last.pt, best.pt. Next: python yolov3/smol_svhn/detect.py"
          + f" with CHECKPOINT = RUNS / {RUN!r} / 'last.pt'" * (RUN != "smol_svhn"))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error).split("InputError: ")[-1].strip())  # a process that loads images puts a traceback before it
