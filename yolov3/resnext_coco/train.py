"""
Trains YOLOv3 on a ResNeXt, on COCO.

Paper   "YOLOv3: An Incremental Improvement", section 3, for the input of 608 x 608 and COCO's average precision.
Source  The rest is ours: AdamW, clipped gradients, a linear burn-in, then a cosine.

    python yolov3/resnext_coco/train.py                            on one GPU, or on the CPU if there is none
    torchrun --nproc-per-node=4 yolov3/resnext_coco/train.py       on four GPUs of one machine, one process for each

PRESET in yolov3/resnext_coco/dataset.py chooses the data and, here, the values that belong to it. As committed,
"sample" trains the whole network, from random weights, on 16 drawings in about 2 minutes on 2 CPU cores.

Writes to runs/<RUN>/: log.csv (each step's loss by term, each evaluation's AP), curves.png, detections/ (the same
images at each evaluation: above with their objects, below with the detections), last.pt and best.pt (the highest AP on
TEST). The same command continues from last.pt. To start a new training, give RUN a new name.

yolov3/detect.py and yolov3/evaluate.py open these checkpoints: set CHECKPOINT there. For evaluate.py also import TEST
and TRAIN from yolov3.resnext_coco.dataset there.

What changed from yolov3/train.py: the network, whose pretrained weights come from torchvision; labels instead of
targets; AdamW; the gradients are clipped; one input size; COCO's AP; the pictures also show the objects.
"""
import math
from functools import partial

import numpy as np
import torch
import torch.nn as nn
from tqdm import tqdm

from shared.annotations import read_train_and_test
from shared.batches import load_batches, shuffled_batches
from shared.checkpoint import fingerprint, resume, save_best, save_checkpoint
from shared.constants import check_values
from shared.draw import write_sheet, write_training_curves
from shared.errors import InputError, check_loss, run
from shared.layers import set_batchnorm_momentum
from shared.log import append_row, start_log
from shared.metrics import area, coco_ap
from shared.paths import RUNS, open_run
from shared.processes import average, end_processes, has_bfloat16, share_gradients, start_processes, stoppable, stopped
from shared.report import draw_detections, truths_of
from yolov3.evaluate import CONFIDENCE, MAX_TRAIN_EVALUATED, PICTURES, detect_all
from yolov3.model import ANCHORS
from yolov3.resnext_coco.dataset import CLASSES, PRESET, SKIP_UNUSABLE, TEST, TRAIN, DetectionDataset, collate
from yolov3.resnext_coco.loss import resnext_loss
from yolov3.resnext_coco.model import ResNeXtYOLOv3

# What to train
RUN = "yolov3_resnext"         # the folder in runs/
SEED = 0

# How to train it
if PRESET == "sample":
    WEIGHTS = None             # random weights
    MAX_STEPS = 160
    BATCH_SIZE = 8             # images per step, over all GPUs
    SUBDIVISIONS = 1           # parts of a batch that go through the network one by one, to save memory
    SIZE = 128
    AUGMENT = False            # 160 steps suffice to memorise 16 images, but not all their variations
    LEARNING_RATE = 5e-4       # in 160 steps 2e-4 gets half as far
    BURN_IN = 10               # steps in which the learning rate rises
    EVALUATE_EVERY = CHECKPOINT_EVERY = 40     # steps
elif PRESET == "coco":
    WEIGHTS = "DEFAULT"        # torchvision's, trained on ImageNet and downloaded once
    MAX_STEPS = 110_000        # 30 epochs of 118,287 images
    BATCH_SIZE = 32
    SUBDIVISIONS = 1
    SIZE = 608                 # [paper]
    AUGMENT = True
    LEARNING_RATE = 2e-4
    BURN_IN = 1000
    EVALUATE_EVERY = 7400      # 2 epochs
    CHECKPOINT_EVERY = 3700    # 1 epoch
WEIGHT_DECAY = 0.01            # of the convolutions' weights only
MAX_NORM = 2.0                 # of all gradients together; a longer gradient is shortened to it
BATCHNORM_MOMENTUM = 0.1       # Darknet: .01
NUM_WORKERS = 2                # processes that load images, for each GPU; give it as many as it has cores

TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
MEASURES = ["AP train", "AP50 train", "AP test", "AP50 test"]
COLUMNS = ["step", "epoch", "learning rate", *TERMS, *MEASURES]


def learning_rate(step):
    """The learning rate of a step, counted from 1: a straight line up to BURN_IN, then half a cosine down to 0."""
    if step < BURN_IN:
        return LEARNING_RATE * step / BURN_IN
    return LEARNING_RATE * (1 + math.cos(math.pi * (step - BURN_IN) / (MAX_STEPS - BURN_IN))) / 2


def check_constants():
    """Raises InputError for values that would fail, or be misunderstood, only later."""
    check_values("yolov3/resnext_coco/train.py", globals())
    if SIZE % 32:
        raise InputError("yolov3/resnext_coco/train.py: SIZE has to be divisible by 32")
    if BURN_IN >= MAX_STEPS:
        raise InputError("yolov3/resnext_coco/train.py: BURN_IN has to be less than MAX_STEPS")


def make_optimizer(network):
    """Only the weights of convolutions decay, not the biases and not BatchNorm's parameters."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)


def measure(network, train, test, device, sheet):
    """-> {name of MEASURES: value}. Draws the objects and the detections of some images to the file sheet."""
    measured, pictures = {}, []
    for name, annotations in ("train", train[:MAX_TRAIN_EVALUATED]), ("test", test):
        detections, _ = detect_all(network, annotations, SIZE, ANCHORS, device, NUM_WORKERS)
        truths = truths_of(annotations)                                                          # (M, 7)
        areas = np.concatenate([area(a.boxes) if a.areas is None else a.areas for a in annotations])         # (M,)
        ap = coco_ap(detections, truths, len(CLASSES), areas)
        measured |= {f"AP {name}": ap["AP"], f"AP50 {name}": ap["AP50"]}
        objects = np.insert(truths[:, :6], 2, 1, axis=1)                     # (M, 7)  as detections with a score of 1
        above, below = (draw_detections(rows, annotations[:PICTURES], CLASSES, CONFIDENCE)
                        for rows in (objects, detections))
        pictures += [np.concatenate(pair) for pair in zip(above, below)]
    write_sheet(sheet, pictures, columns=PICTURES, cell=400)
    return measured


def main():
    rank, ranks, device = start_processes()
    check_constants()
    folder = open_run(RUNS / RUN, rank)

    # The data
    train, test = read_train_and_test(TRAIN, TEST, CLASSES, SKIP_UNUSABLE)
    if not train or not test:
        raise InputError("yolov3/resnext_coco/dataset.py: TRAIN and TEST need at least one image each")
    dataset = DetectionDataset(train, SIZE, AUGMENT)

    # The network, with random weights, pretrained ones, or those of an interrupted training
    torch.manual_seed(SEED)
    network = ResNeXtYOLOv3(len(CLASSES), ANCHORS, None if (folder / "last.pt").exists() else WEIGHTS)
    set_batchnorm_momentum(network, BATCHNORM_MOMENTUM)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network)
    # A training is resumed only if its checkpoint has the same values
    fixed = {"network": "ResNeXtYOLOv3", "classes": CLASSES, "anchors": ANCHORS, "optimizer": "adamw",
             "train": fingerprint(annotation.image for annotation in train)}
    done, best = resume(folder / "last.pt", network, optimizer, fixed, MAX_STEPS, "yolov3/resnext_coco/train.py")
    model = share_gradients(network, device, ranks)

    steps = range(done + 1, MAX_STEPS + 1)
    batches = shuffled_batches(len(train), BATCH_SIZE, steps, SEED, SUBDIVISIONS, rank, ranks)
    keys = (batch for step, batch in batches)
    loader = load_batches(dataset, keys, partial(collate, num_classes=len(CLASSES)), NUM_WORKERS, device)
    start_log(folder / "log.csv", COLUMNS, done, rank)
    bar = tqdm(stoppable(steps, ranks), initial=done, total=MAX_STEPS, disable=rank > 0)
    for step in bar:
        # One step: forward, loss, backward, update
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        terms = dict.fromkeys(TERMS, 0)
        for _ in range(SUBDIVISIONS):                                        # their gradients add up
            images, *labels = next(loader)                                   # (B, 3, H, W); 4 times (B, L, ...)
            images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
            labels = [label.to(device, non_blocking=True) for label in labels]
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
                predictions = model(images)
            loss = resnext_loss(predictions, *labels)
            (loss["total"] / SUBDIVISIONS).backward()
            terms = {term: terms[term] + loss[term].detach() / SUBDIVISIONS for term in TERMS}
        terms = average(terms, ranks)
        check_loss("yolov3/resnext_coco/train.py", step, terms)
        nn.utils.clip_grad_norm_(network.parameters(), MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went
        if rank == 0:
            bar.set_postfix({term: f"{value:.4g}" for term, value in terms.items()})
            row = {"step": step, "epoch": step * BATCH_SIZE // len(train), "learning rate": learning_rate(step),
                   **terms}
            state = {**fixed, "size": SIZE, "step": step, "model": network.state_dict()}
            if step % EVALUATE_EVERY == 0 or step == MAX_STEPS:
                row |= measure(network, train, test, device, folder / "detections" / f"step_{step:06}.jpg")
                bar.write(f"step {step}  " + "  ".join(f"{name} {row[name]:.4f}" for name in MEASURES))
                best = save_best(folder / "best.pt", state, row["AP test"], best)
            append_row(folder / "log.csv", COLUMNS, row)
            if step % CHECKPOINT_EVERY == 0 or step == MAX_STEPS or stopped():
                write_training_curves(folder / "curves.png", folder / "log.csv", TERMS, MEASURES)
                save_checkpoint(folder / "last.pt", {**state, "best": best, "optimizer_state": optimizer.state_dict()})
    if rank == 0:
        print(f"{folder}: curves.png, log.csv, detections/, last.pt, best.pt")
    end_processes()


if __name__ == "__main__":
    run(main)
