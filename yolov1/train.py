"""
Trains YOLOv1.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", section 2.2, "Training".
Source  The paper's numbers; where it has none, [darknet]: cfg/yolo.cfg at 8c5364f5, the network of the paper,
        examples/yolo.c and src/network.c (get_current_rate) of pjreddie/darknet at f6afaab.

    python yolov1/train.py                               one GPU if there is one, the CPU otherwise
    torchrun --nproc-per-node=4 yolov1/train.py          four GPUs of one machine, one process each

Edit the constants here and the data set in yolov1/dataset.py. As committed they train all layers of the paper on the 16
drawn images of the sample, on a CPU, in about 3 minutes, with 3 x 3 cells instead of 7 x 7; the authors' values stand
beside them.
The paper trained on VOC for about 135 epochs of 16,551 / 64 = 258.6 steps: at first slowly up from 1e-3 to 1e-2, 75
epochs with 1e-2, 30 with 1e-3, 30 with 1e-4. Darknet's cfg file says that in steps; its later yolov1.cfg has half the
rate.

Writes to runs/<RUN>/: log.csv (each step's loss by term, each evaluation's AP and accuracies), curves.png, detections/
(the same images at each evaluation), last.pt (the same command goes on from there) and best.pt (the highest AP50 on
TEST). At the end it prints the ceiling that one object per cell sets (yolov1/evaluate.py says what that is). With
several processes BatchNorm, where there is any, has statistics of each one's images; the averages kept are the first
one's.

What changed from the pretraining (section 2.2): four convolutions and two fully connected layers more, with random
weights; an input twice as wide and high; another loss.
"""
import csv
import math
import os
import sys
import zlib
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from tqdm import tqdm

from shared.annotations import read_annotations
from shared.checkpoint import load_backbone, load_checkpoint, load_weights, save_checkpoint
from shared.draw import draw_boxes, write_sheet, write_training_curves
from shared.errors import InputError
from shared.images import read_image
from shared.metrics import at_confidence, mean_ap, voc_ap
from shared.paths import RUNS, atomic_write
from yolov1.dataset import CLASSES, TEST, TRAIN, DetectionDataset, collate
from yolov1.evaluate import detect_all, one_object_per_cell, truths_of
from yolov1.loss import yolov1_loss
from yolov1.model import BATCH_NORM, BOXES, STRIDE, YOLOv1, load_darknet_weights
from yolov1.tiny.model import YOLOv1Tiny
from yolov1.weights import start_from

RUN = "yolov1"            # the folder in runs/; a new name begins a new training
NETWORK = "YOLOv1"        # or "YOLOv1Tiny": a thirteenth of the operations, in tiny/model.py
BACKBONE = None           # or RUNS / "extraction" / "backbone.pt", or RUNS / "extraction.conv.weights", the authors':
                          # pretrained on ImageNet, as the paper does
START = None              # or a whole detector, .pt or .weights, of other classes: all but the last layer is kept
SEED = 0

# The sample's values        the authors', for VOC
MAX_STEPS = 180              # [darknet] 40,000 (154.7 epochs of VOC 2007 + 2012); paper 135 epochs, 34,912
BATCH_SIZE = 4               # paper 64: images per optimizer step, over all GPUs
SUBDIVISIONS = 1             # [darknet] 2: the parts in which a batch goes through the network, for memory
SIZE = 192                   # paper 448: 64 pixels for each of 7 x 7 cells
AUGMENT = False              # paper True; ours: 180 steps suffice for 16 images, not for all their variations
DROPOUT = 0.0                # paper .5; ours: what is to be learnt by heart within 180 steps must not be dropped
OPTIMIZER = "adam"           # [darknet] "sgd"; ours: SGD at the authors' rate needs thousands of steps
LEARNING_RATE = 6e-5         # paper 1e-3, rising to 1e-2, for a loss of half squares [darknet]: 5e-4 for equation (3),
                             # which has twice the gradient. ours: Adam without BatchNorm; at 1e-4 the network answers
                             # the same to every image for 100 steps, at 2e-4 for more than 150
BURN_IN = 12                 # [darknet] 0
SCHEDULE = "cosine"          # [darknet] "steps"; ours: a short run has to come to rest by itself
STEPS = {200: 2.5, 400: 2, 600: 2, 20_000: 0.1, 30_000: 0.1}  # [darknet] at each the rate is multiplied by that;
                             # the paper's 75 and 30 epochs end at 19,396 and 27,154
BATCHNORM_MOMENTUM = 0.1     # [darknet] .01; of YOLOv1Tiny, and of YOLOv1 if model.py's BATCH_NORM is on
MOMENTUM = 0.9               # paper; SGD's
WEIGHT_DECAY = 5e-4          # paper; beside 5e-4 above 1e-3; on the weights of all layers, not on biases [darknet]
ADAM_BETAS = (0.9, 0.95)     # ours, as in the other versions

EVALUATE_EVERY = 15          # epochs; 10 for VOC
CHECKPOINT_EVERY = 15        # epochs; 1 for VOC
EVALUATED = 1000             # at most this many images of TRAIN are evaluated; of TEST all
PICTURES = 6                 # images of TRAIN and of TEST drawn with their detections at each evaluation
CONFIDENCE = 0.2             # for these pictures, and for the mAP at one fixed confidence
NUM_WORKERS = 2              # processes that load images, for each GPU; as many as there are cores for it

TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
MEASURES = ["AP50 train", "AP50 test", "mAP at confidence train", "mAP at confidence test"]
ACCURACIES = [f"{name} accuracy {split}" for split in ("train", "test") for name in ("class", "object", "no_object")]
COLUMNS = ["step", "epoch", "learning rate", *TERMS, *MEASURES, *ACCURACIES]


def learning_rate(step):
    """The rate of the step-th optimizer step, counted from 1 ([darknet] get_current_rate)."""
    if step < BURN_IN:
        return LEARNING_RATE * (step / BURN_IN) ** 4
    if SCHEDULE == "cosine":
        return LEARNING_RATE * (1 + math.cos(math.pi * step / MAX_STEPS)) / 2
    return LEARNING_RATE * math.prod(scale for s, scale in STEPS.items() if step >= s)


def batches(count, first_step, rank, ranks):
    """
    What this process loads, from first_step on: for each subdivision of each step a list of (index, seed), as
    DetectionDataset takes them. The images, numbered n through all epochs, depend on SEED alone, not on when the
    training was interrupted or how many processes share it.
    """
    share, epoch = BATCH_SIZE // (SUBDIVISIONS * ranks), None
    for step in range(first_step, MAX_STEPS + 1):
        for subdivision in range(SUBDIVISIONS):
            start = (step - 1) * BATCH_SIZE + (subdivision * ranks + rank) * share
            batch = []
            for n in range(start, start + share):
                if n // count != epoch:
                    epoch = n // count
                    order = np.random.default_rng((SEED, epoch)).permutation(count)
                batch.append((order[n % count], (SEED, n)))
            yield batch


def check_constants(ranks):
    """Raises InputError for what would fail, or mean something else, only later."""
    for name, value, known in [("OPTIMIZER", OPTIMIZER, ("adam", "sgd")), ("SCHEDULE", SCHEDULE, ("cosine", "steps")),
                               ("NETWORK", NETWORK, ("YOLOv1", "YOLOv1Tiny"))]:
        if value not in known:
            raise InputError(f"yolov1/train.py: {name} {value!r} is none of {known}")
    if SIZE % STRIDE:
        raise InputError(f"yolov1/train.py: SIZE has to be divisible by {STRIDE}")
    if BATCH_SIZE % (SUBDIVISIONS * ranks):
        raise InputError(f"yolov1/train.py: BATCH_SIZE {BATCH_SIZE} cannot be divided by SUBDIVISIONS {SUBDIVISIONS} "
                         f"x {ranks} processes")


def make_optimizer(network):
    weights = [p for p in network.parameters() if p.ndim > 1]                # of convolutions and connections
    others = [p for p in network.parameters() if p.ndim == 1]                # biases, and BatchNorm's
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    if OPTIMIZER == "adam":
        return torch.optim.Adam(groups, lr=LEARNING_RATE, betas=ADAM_BETAS, fused=True)
    return torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)


def evaluate(network, splits, folder, step, device):
    """Measures the network on the train and test annotations, draws some; -> {name of MEASURES, ACCURACIES: value}."""
    measured, pictures = {}, []
    for name, annotations in splits.items():
        detections, accuracies = detect_all(network, annotations, SIZE, BOXES, device, NUM_WORKERS)
        truths = truths_of(annotations)
        measured[f"AP50 {name}"] = mean_ap(voc_ap(detections, truths, len(CLASSES)))
        measured |= {f"{kind} accuracy {name}": value for kind, value in accuracies.items()}
        measured[f"mAP at confidence {name}"] = at_confidence(detections, truths, len(CLASSES), CONFIDENCE)["mAP"]
        for n in range(min(PICTURES, len(annotations))):
            found = detections[(detections[:, 0] == n) & (detections[:, 2] >= CONFIDENCE), 1:]
            pictures.append(draw_boxes(read_image(annotations[n].image), found, CLASSES))
    write_sheet(folder / "detections" / f"step_{step:06}.jpg", pictures, columns=PICTURES)
    return measured


def main():
    # One process per GPU when torchrun starts them; otherwise this one.
    rank, ranks, local_rank = (int(os.environ.get(name, default)) for name, default in
                               [("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)])
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if ranks > 1:
        dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None,
                                timeout=timedelta(hours=3))                  # the others wait while the first evaluates
    check_constants(ranks)

    # The data.
    train, test = read_annotations(TRAIN, CLASSES), read_annotations(TEST, CLASSES)
    if not train or not test:
        raise InputError("yolov1/dataset.py: TRAIN and TEST need at least one (folder, split) each")
    splits = {"train": train[:EVALUATED], "test": test}

    # The network, from the beginning or from where it was.
    folder = RUNS / RUN
    last, best, log = folder / "last.pt", folder / "best.pt", folder / "log.csv"
    torch.manual_seed(SEED)
    if NETWORK == "YOLOv1":
        network = YOLOv1(len(CLASSES), SIZE // STRIDE, BOXES, BATCH_NORM)
    else:
        network = YOLOv1Tiny(len(CLASSES), SIZE // STRIDE, BOXES)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = BATCHNORM_MOMENTUM
        if isinstance(layer, nn.Dropout):
            layer.p = DROPOUT
    if BACKBONE and not last.exists():
        try:
            (load_backbone if Path(BACKBONE).suffix == ".pt" else load_darknet_weights)(network.backbone, BACKBONE)
        except InputError as error:
            hint = f"; was it trained with another BATCH_NORM than {BATCH_NORM}?"
            raise InputError(f"{error}" + hint * (NETWORK == "YOLOv1" and Path(BACKBONE).exists())) from None
    if START and not last.exists():
        fresh = start_from(START, network, CLASSES)
        if rank == 0:
            print(f"{START}: all is kept" + (", but these start fresh: " + ", ".join(fresh)) * bool(fresh))
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network)
    done, best_ap = 0, -1.0
    fixed = {"network": NETWORK, "classes": CLASSES, "boxes": BOXES, "size": SIZE,           # what a run may not change
             "batch_norm": BATCH_NORM or NETWORK == "YOLOv1Tiny", "optimizer_name": OPTIMIZER,
             "train": [len(train), zlib.crc32(" ".join(a.image.name for a in train).encode())]}
    if last.exists():
        state = load_checkpoint(last, "YOLOv1", "YOLOv1Tiny")
        for constant, key in [("NETWORK", "network"), ("CLASSES", "classes"), ("BOXES", "boxes"), ("SIZE", "size"),
                              ("BATCH_NORM", "batch_norm"), ("OPTIMIZER", "optimizer_name"), ("TRAIN", "train")]:
            if state[key] != fixed[key]:
                raise InputError(f"{last}: was trained with another {constant}; put it back, or give RUN in "
                                 "yolov1/train.py a new name")
        done, best_ap = state["step"], state["best_ap"]
        if done >= MAX_STEPS:
            if rank == 0:
                print(f"{last} has done its {done} steps. For more raise MAX_STEPS in yolov1/train.py (a cosine then "
                      "starts again higher), for another training give RUN a new name.")
            if ranks > 1:
                dist.destroy_process_group()
            return
        load_weights(network, state["model"], last)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state["optimizer"]["state"]})
    if rank == 0:
        rows = csv.DictReader(log.read_text().splitlines() if done and log.exists() else [])
        with atomic_write(log) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(row for row in rows if int(row["step"]) <= done)                # not beyond the checkpoint
        file = open(log, "a", newline="")
        writer = csv.DictWriter(file, COLUMNS)
    bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    model = nn.parallel.DistributedDataParallel(network, [device] if cuda else None) if ranks > 1 else network
    loader = iter(torch.utils.data.DataLoader(
        DetectionDataset(train, SIZE, AUGMENT), batch_sampler=batches(len(train), done + 1, rank, ranks),
        num_workers=NUM_WORKERS, collate_fn=collate, pin_memory=cuda))
    bar = tqdm(range(done + 1, MAX_STEPS + 1), initial=done, total=MAX_STEPS, disable=rank > 0)
    for step in bar:
        # One optimizer step: the gradients of SUBDIVISIONS parts add up, those of all GPUs are averaged in the last.
        model.train()
        torch.manual_seed(SEED + step * ranks + rank)   # dropout: other masks in each process, the same after a resume
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        terms = torch.zeros(len(TERMS), device=device)
        for subdivision in range(SUBDIVISIONS):
            images, targets = next(loader)
            images = images.to(device, memory_format=torch.channels_last, non_blocking=True)         # (B, 3, H, W)
            targets = targets.to(device, non_blocking=True)                                          # (N, 6)
            model.require_backward_grad_sync = subdivision == SUBDIVISIONS - 1               # read by DDP only
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                prediction = model(images)
            loss = yolov1_loss(prediction, targets, BOXES)
            (loss["total"] / SUBDIVISIONS).backward()
            terms += torch.stack([loss[term].detach() for term in TERMS]) / SUBDIVISIONS
        if ranks > 1:
            dist.all_reduce(terms)                                           # so that all stop if one has to
        terms = dict(zip(TERMS, (terms / ranks).tolist()))
        figures = " ".join(f"{term} {value:.4g}" for term, value in terms.items())
        if not math.isfinite(terms["total"]):
            sys.exit(f"yolov1/train.py: the loss of step {step} is not finite: {figures}. {last} is as it was.")
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went.
        epochs_before, epochs = (step - 1) * BATCH_SIZE // len(train), step * BATCH_SIZE // len(train)
        ended = step == MAX_STEPS
        evaluating = ended or epochs // EVALUATE_EVERY > epochs_before // EVALUATE_EVERY
        saving = ended or epochs // CHECKPOINT_EVERY > epochs_before // CHECKPOINT_EVERY
        if rank == 0:
            bar.set_postfix_str(figures)
            measured = evaluate(network, splits, folder, step, device) if evaluating else {}
            writer.writerow({"step": step, "epoch": epochs, "learning rate": learning_rate(step), **terms, **measured})
            file.flush()
        if rank == 0 and (evaluating or saving):
            state = {"step": step, **fixed, "model": network.state_dict()}
            if evaluating:
                bar.write(f"step {step}  " + "  ".join(f"{name} {measured[name]:.4f}" for name in MEASURES))
                write_training_curves(folder / "curves.png", log, TERMS, MEASURES)
                if not measured["AP50 test"] < best_ap:                      # of equal ones the last; nan: no truths
                    best_ap = measured["AP50 test"]
                    save_checkpoint(best, state)
            if saving:
                save_checkpoint(last, {**state, "best_ap": best_ap, "optimizer": optimizer.state_dict()})
        if ranks > 1 and (evaluating or saving):
            dist.barrier()
    if rank == 0:
        for name, annotations in splits.items():
            possible = one_object_per_cell(annotations, SIZE // STRIDE)
            ceiling = mean_ap(voc_ap(possible, truths_of(annotations), len(CLASSES)))
            print(f"one object per cell: at most AP50 {ceiling:.4f} on {name}")
        print(f"{folder}: curves.png, log.csv, detections/, last.pt, best.pt. Next: python yolov1/detect.py"
              + f" with CHECKPOINT = RUNS / {RUN!r} / 'last.pt'" * (RUN != "yolov1"))
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error).split("InputError: ")[-1].strip())  # a process that loads images puts a traceback before it
