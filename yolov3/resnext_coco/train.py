"""
Trains YOLOv3 on a ResNeXt, on COCO.

Paper   "YOLOv3: An Incremental Improvement", section 3, for the input of 608 x 608 and COCO's average precision.
Source  The rest is ours: AdamW, gradients clipped, a linear warm-up, then a cosine.

    python yolov3/resnext_coco/train.py                            one GPU if there is one, the CPU otherwise
    torchrun --nproc-per-node=4 yolov3/resnext_coco/train.py       four GPUs of one machine, one process each

Edit the constants here and the data set in yolov3/resnext_coco/dataset.py. As committed they train the whole network,
with random weights, on the 16 drawn images of the sample, on a CPU, in about 2 minutes. The values beside them are
meant for COCO and have not been tried.

Writes to runs/<RUN>/: log.csv (each step's loss by term, each evaluation's AP), curves.png, detections/ (the same
images at each evaluation: of each what is there above, what is found below), last.pt (the same command goes on from
there) and best.pt (the highest AP on TEST). yolov3/evaluate.py and detect.py open these checkpoints: set CHECKPOINT
there, and for evaluate.py take COCO's three lines in yolov3/dataset.py.

What changed from yolov3/train.py: the network and its weights from torchvision; labels instead of targets; AdamW; the
gradients clipped; one input size; the pictures show the truth too.
"""
import csv
import math
import os
import sys
import zlib
from datetime import timedelta
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from tqdm import tqdm

from shared.annotations import read_annotations
from shared.checkpoint import load_checkpoint, load_weights, save_checkpoint
from shared.draw import draw_boxes, write_sheet, write_training_curves
from shared.errors import InputError
from shared.images import read_image
from shared.metrics import area, coco_ap
from shared.paths import RUNS, atomic_write
from yolov3.evaluate import detect_all, truths_of
from yolov3.model import ANCHORS
from yolov3.resnext_coco.dataset import CLASSES, TEST, TRAIN, DetectionDataset, collate
from yolov3.resnext_coco.loss import resnext_loss
from yolov3.resnext_coco.model import ResNeXtYOLOv3

RUN = "yolov3_resnext"    # the folder in runs/; a new name begins a new training
WEIGHTS = None            # random ones; for COCO "DEFAULT": torchvision's, pretrained on ImageNet; downloaded once
SEED = 0

# The sample's values     for COCO
MAX_STEPS = 160           # 110,000: 30 epochs of 118,287 images
BATCH_SIZE = 8            # 32: images per optimizer step, over all GPUs
SUBDIVISIONS = 1          # the parts in which a batch goes through the network, for memory
SIZE = 128                # 608 [paper]
AUGMENT = False           # True; 160 steps suffice for 16 images, not for all their variations
LEARNING_RATE = 5e-4      # 2e-4; ours: 160 steps at 2e-4 reach half as far
WARM_UP = 10              # 1,000 steps
WEIGHT_DECAY = 0.01       # on the weights of convolutions only, not on BatchNorm's
MAX_NORM = 2.0            # of all gradients together; longer ones are shortened to it
BATCHNORM_MOMENTUM = 0.1  # torchvision's; [darknet] .01

EVALUATE_EVERY = 20       # epochs; 2 for COCO
CHECKPOINT_EVERY = 20     # epochs; 1 for COCO
EVALUATED = 1000          # at most this many images of TRAIN are evaluated; of TEST all
PICTURES = 6              # images of TRAIN and of TEST drawn with their detections at each evaluation
CONFIDENCE = 0.5          # for these pictures
NUM_WORKERS = 2           # processes that load images, for each GPU; as many as there are cores for it

TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
MEASURES = ["AP train", "AP50 train", "AP test", "AP50 test"]
COLUMNS = ["step", "epoch", "learning rate", *TERMS, *MEASURES]


def learning_rate(step):
    """The rate of the step-th optimizer step, counted from 1."""
    if step < WARM_UP:
        return LEARNING_RATE * step / WARM_UP
    return LEARNING_RATE * (1 + math.cos(math.pi * (step - WARM_UP) / (MAX_STEPS - WARM_UP))) / 2


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
    if SIZE % 32:
        raise InputError("yolov3/resnext_coco/train.py: SIZE has to be divisible by 32")
    if WARM_UP >= MAX_STEPS:
        raise InputError("yolov3/resnext_coco/train.py: WARM_UP has to be less than MAX_STEPS")
    if BATCH_SIZE % (SUBDIVISIONS * ranks):
        raise InputError(f"yolov3/resnext_coco/train.py: BATCH_SIZE {BATCH_SIZE} cannot be divided by SUBDIVISIONS "
                         f"{SUBDIVISIONS} x {ranks} processes")


def make_optimizer(network):
    weights = [p for p in network.parameters() if p.ndim > 1]                # of convolutions
    others = [p for p in network.parameters() if p.ndim == 1]                # BatchNorm's, and the last layers' biases
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)


def evaluate(network, splits, folder, step, device):
    """Measures the network on the train and test annotations, draws some of them; -> {name of MEASURES: value}."""
    measured, pictures = {}, []
    for name, annotations in splits.items():
        detections, _ = detect_all(network, annotations, SIZE, ANCHORS, device, NUM_WORKERS)
        truths = truths_of(annotations)
        areas = np.concatenate([area(a.boxes) if a.areas is None else a.areas for a in annotations])         # (M,)
        ap = coco_ap(detections, truths, len(CLASSES), areas)
        measured |= {f"{kind} {name}": ap[kind] for kind in ("AP", "AP50")}
        for n in range(min(PICTURES, len(annotations))):
            image = read_image(annotations[n].image)
            there = np.insert(truths[truths[:, 0] == n, 1:6], 1, 1, axis=1)  # (M, 6)  with a score of 1
            found = detections[(detections[:, 0] == n) & (detections[:, 2] >= CONFIDENCE), 1:]               # (D, 6)
            pictures.append(np.concatenate([draw_boxes(image, rows, CLASSES) for rows in (there, found)]))
    write_sheet(folder / "detections" / f"step_{step:06}.jpg", pictures, columns=PICTURES, cell=400)
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
        raise InputError("yolov3/resnext_coco/dataset.py: TRAIN and TEST need at least one (folder, split) each")
    splits = {"train": train[:EVALUATED], "test": test}

    # The network, from the beginning or from where it was.
    folder = RUNS / RUN
    last, best, log = folder / "last.pt", folder / "best.pt", folder / "log.csv"
    torch.manual_seed(SEED)
    network = ResNeXtYOLOv3(len(CLASSES), ANCHORS, None if last.exists() else WEIGHTS)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = BATCHNORM_MOMENTUM
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network)
    done, best_ap = 0, -1.0
    fixed = {"network": "ResNeXtYOLOv3", "classes": CLASSES, "anchors": ANCHORS,             # what a run may not change
             "train": [len(train), zlib.crc32(" ".join(a.image.name for a in train).encode())]}
    if last.exists():
        state = load_checkpoint(last, "ResNeXtYOLOv3")
        for constant, key in [("CLASSES", "classes"), ("ANCHORS", "anchors"), ("TRAIN", "train")]:
            if state[key] != fixed[key]:
                raise InputError(f"{last}: was trained with another {constant}; put it back, or give RUN in "
                                 "yolov3/resnext_coco/train.py a new name")
        done, best_ap = state["step"], state["best_ap"]
        if done >= MAX_STEPS:
            if rank == 0:
                print(f"{last} has done its {done} steps. For more raise MAX_STEPS in yolov3/resnext_coco/train.py "
                      "(the cosine then starts again higher), for another training give RUN a new name.")
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
        num_workers=NUM_WORKERS, collate_fn=partial(collate, num_classes=len(CLASSES)), pin_memory=cuda))
    bar = tqdm(range(done + 1, MAX_STEPS + 1), initial=done, total=MAX_STEPS, disable=rank > 0)
    for step in bar:
        # One optimizer step: the gradients of SUBDIVISIONS parts add up, those of all GPUs are averaged in the last.
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        terms = torch.zeros(len(TERMS), device=device)
        for subdivision in range(SUBDIVISIONS):
            images, *labels = next(loader)
            images = images.to(device, memory_format=torch.channels_last, non_blocking=True)         # (B, 3, H, W)
            labels = [label.to(device, non_blocking=True) for label in labels]                       # (B, L, ...)
            model.require_backward_grad_sync = subdivision == SUBDIVISIONS - 1               # read by DDP only
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                predictions = model(images)
            loss = resnext_loss(predictions, *labels)
            (loss["total"] / SUBDIVISIONS).backward()
            terms += torch.stack([loss[term].detach() for term in TERMS]) / SUBDIVISIONS
        if ranks > 1:
            dist.all_reduce(terms)                                           # so that all stop if one has to
        terms = dict(zip(TERMS, (terms / ranks).tolist()))
        figures = " ".join(f"{term} {value:.4g}" for term, value in terms.items())
        if not math.isfinite(terms["total"]):
            sys.exit(f"yolov3/resnext_coco/train.py: the loss of step {step} is not finite: {figures}. {last} is as it "
                     "was.")
        nn.utils.clip_grad_norm_(network.parameters(), MAX_NORM)
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
            state = {"size": SIZE, "step": step, **fixed, "model": network.state_dict()}
            if evaluating:
                bar.write(f"step {step}  " + "  ".join(f"{name} {measured[name]:.4f}" for name in MEASURES))
                write_training_curves(folder / "curves.png", log, TERMS, MEASURES)
                if not measured["AP test"] < best_ap:                        # of equal ones the last; nan: no truths
                    best_ap = measured["AP test"]
                    save_checkpoint(best, state)
            if saving:
                save_checkpoint(last, {**state, "best_ap": best_ap, "optimizer": optimizer.state_dict()})
        if ranks > 1 and (evaluating or saving):
            dist.barrier()
    if rank == 0:
        print(f"{folder}: curves.png, log.csv, detections/, last.pt, best.pt. Next: python yolov3/detect.py"
              + f" with CHECKPOINT = RUNS / {RUN!r} / 'last.pt'")
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error).split("InputError: ")[-1].strip())  # a process that loads images puts a traceback before it
