"""
Trains YOLOv2.

Paper   "YOLO9000: Better, Faster, Stronger", section 2, "Multi-Scale Training", section 3, "Training for detection".
Source  The numbers and their meaning are read off [darknet]: cfg/yolov2-voc.cfg, cfg/yolov2.cfg, examples/detector.c,
        src/network.c (get_current_rate) and src/convolutional_layer.c of pjreddie/darknet at f6afaab.

    python yolov2/train.py                               one GPU if there is one, the CPU otherwise
    torchrun --nproc-per-node=4 yolov2/train.py          four GPUs of one machine, one process each

Edit the constants here and the data set in yolov2/dataset.py. As committed they train the whole network on the 16 drawn
images of the sample, on a CPU, in 3 to 4 minutes; the authors' values stand beside them.
The paper trained on VOC for 160 epochs, of 16,551 / 64 = 258.6 steps each, and divided the rate by 10 after 60 and 90;
Darknet's cfg file has other numbers.

Writes to runs/<RUN>/: log.csv (each step's loss by term, each evaluation's AP and accuracies), curves.png, detections/
(the same images at each evaluation), last.pt (the same command goes on from there) and best.pt (the highest AP50 on
TEST). With several processes each has BatchNorm statistics of its own images; the running averages kept are the first
one's.

What changed from yolov1/train.py: the input size is drawn anew every 10 steps; another schedule; BatchNorm in place of
dropout; for the first 12,800 images the boxes are pulled to their anchors. That is the whole of the sample's run; with
a weight of .01 it only holds the boxes that no object claims.
"""
import csv
import math
import os
import random
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
from yolov2.dataset import CLASSES, TEST, TRAIN, DetectionDataset, collate
from yolov2.evaluate import detect_all, truths_of
from yolov2.loss import yolov2_loss
from yolov2.model import ANCHORS, YOLOv2, load_darknet_weights  # for COCO: COCO_ANCHORS as ANCHORS
from yolov2.tiny.model import ANCHORS as TINY_ANCHORS
from yolov2.tiny.model import YOLOv2Tiny
from yolov2.weights import start_from

RUN = "yolov2"            # the folder in runs/; a new name begins a new training
NETWORK = "YOLOv2"        # or "YOLOv2Tiny": four times cheaper, in tiny/model.py
BACKBONE = None           # or RUNS / "darknet19_448" / "backbone.pt", or RUNS / "darknet19_448.conv.23", the authors':
                          # pretrained on ImageNet, as the paper does
START = None              # or a whole detector, .pt or .weights, of other classes: all but the last layer is kept
SEED = 0

# The sample's values        the authors', for VOC / for COCO
MAX_STEPS = 220              # [darknet] 80,200 / 500,200 (310 epochs of VOC 2007 + 2012 / 273 of COCO); paper 41,378
BATCH_SIZE = 4               # [darknet] 64: images per optimizer step, over all GPUs
SUBDIVISIONS = 1             # [darknet] 8: the parts in which a batch goes through the network, for memory
SIZES = [192]                # [darknet] list(range(320, 609, 32)): one is drawn every 10 steps; the largest ends it
SIZE = 192                   # [darknet] 416 / 608: for evaluation
AUGMENT = False              # [darknet] True; ours: 220 steps suffice for 16 images, not for all their variations
OPTIMIZER = "adam"           # [darknet] "sgd"; ours: SGD at the authors' rate needs thousands of steps
LEARNING_RATE = 3e-4         # paper 1e-3; one re-implementation found a constant 2e-5 best for Adam; ours: at 1e-3 Adam
                             # soon pushes some sigmoid(t_o) so near 0 that the square's gradient no longer lifts it
BURN_IN = 25                 # [darknet] 1000 steps
SCHEDULE = "cosine"          # [darknet] "steps"; ours: a short run has to come to rest by itself
STEPS = [40_000, 60_000]     # [darknet] / [400_000, 450_000]: at each the rate falls to a tenth; paper 15_517, 23_275
BATCHNORM_MOMENTUM = 0.1     # [darknet] .01; ours: .01 leaves the running averages unfinished after 220 steps
MOMENTUM = 0.9               # paper; SGD's
WEIGHT_DECAY = 5e-4          # paper; on the weights of convolutions only [darknet]
ADAM_BETAS = (0.9, 0.95)     # ours: at .999 the huge no_object gradients of the start shorten all later steps

EVALUATE_EVERY = 11          # epochs; 10 for VOC
CHECKPOINT_EVERY = 11        # epochs; 1 for VOC
EVALUATED = 1000             # at most this many images of TRAIN are evaluated; of TEST all
PICTURES = 6                 # images of TRAIN and of TEST drawn with their detections at each evaluation
CONFIDENCE = 0.5             # for these pictures, and for the mAP at one fixed confidence
NUM_WORKERS = 2              # processes that load images, for each GPU; as many as there are cores for it

TERMS = ["xy", "wh", "object", "no_object", "class", "prior", "total"]
MEASURES = ["AP50 train", "AP50 test", "mAP at confidence train", "mAP at confidence test"]
ACCURACIES = [f"{name} accuracy {split}" for split in ("train", "test") for name in ("class", "object", "no_object")]
COLUMNS = ["step", "epoch", "learning rate", "size", *TERMS, *MEASURES, *ACCURACIES]


def learning_rate(step):
    """The rate of the step-th optimizer step, counted from 1 ([darknet] get_current_rate)."""
    if step < BURN_IN:
        return LEARNING_RATE * (step / BURN_IN) ** 4
    if SCHEDULE == "cosine":
        return LEARNING_RATE * (1 + math.cos(math.pi * step / MAX_STEPS)) / 2
    return LEARNING_RATE * 0.1 ** sum(step >= s for s in STEPS)


def image_size(step):
    """The input size of the step-th step: drawn anew every 10, the largest at the end ([darknet] train_detector)."""
    tens = (step - 1) // 10
    if tens * 10 + 200 > MAX_STEPS:
        return max(SIZES)
    return random.Random(SEED + tens).choice(SIZES)


def batches(count, first_step, rank, ranks):
    """
    What this process loads, from first_step on: for each subdivision of each step a list of (index, size, seed), as
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
                batch.append((order[n % count], image_size(step), (SEED, n)))
            yield batch


def check_constants(ranks):
    """Raises InputError for what would fail, or mean something else, only later."""
    for name, value, known in [("OPTIMIZER", OPTIMIZER, ("adam", "sgd")), ("SCHEDULE", SCHEDULE, ("cosine", "steps")),
                               ("NETWORK", NETWORK, ("YOLOv2", "YOLOv2Tiny"))]:
        if value not in known:
            raise InputError(f"yolov2/train.py: {name} {value!r} is none of {known}")
    if any(size % 32 for size in [SIZE, *SIZES]):
        raise InputError("yolov2/train.py: SIZE and SIZES have to be divisible by 32")
    if BATCH_SIZE % (SUBDIVISIONS * ranks):
        raise InputError(f"yolov2/train.py: BATCH_SIZE {BATCH_SIZE} cannot be divided by SUBDIVISIONS {SUBDIVISIONS} "
                         f"x {ranks} processes")


def make_optimizer(network):
    weights = [p for p in network.parameters() if p.ndim > 1]                # of convolutions
    others = [p for p in network.parameters() if p.ndim == 1]                # BatchNorm's, and the last layer's bias
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    if OPTIMIZER == "adam":
        return torch.optim.Adam(groups, lr=LEARNING_RATE, betas=ADAM_BETAS, fused=True)
    return torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)


def evaluate(network, splits, folder, step, device, anchors):
    """Measures the network on the train and test annotations, draws some; -> {name of MEASURES, ACCURACIES: value}."""
    measured, pictures = {}, []
    for name, annotations in splits.items():
        detections, accuracies = detect_all(network, annotations, SIZE, anchors, device, NUM_WORKERS)
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
        raise InputError("yolov2/dataset.py: TRAIN and TEST need at least one (folder, split) each")
    splits = {"train": train[:EVALUATED], "test": test}

    # The network, from the beginning or from where it was.
    folder = RUNS / RUN
    last, best, log = folder / "last.pt", folder / "best.pt", folder / "log.csv"
    torch.manual_seed(SEED)
    network_class, anchors = (YOLOv2, ANCHORS) if NETWORK == "YOLOv2" else (YOLOv2Tiny, TINY_ANCHORS)
    network = network_class(len(CLASSES), anchors)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = BATCHNORM_MOMENTUM
    if BACKBONE and not last.exists():
        (load_backbone if Path(BACKBONE).suffix == ".pt" else load_darknet_weights)(network.backbone, BACKBONE)
    if START and not last.exists():
        fresh = start_from(START, network, anchors, CLASSES)
        if rank == 0:
            print(f"{START}: all is kept" + (", but these start fresh: " + ", ".join(fresh)) * bool(fresh))
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network)
    done, best_ap = 0, -1.0
    fixed = {"network": NETWORK, "classes": CLASSES, "anchors": anchors,                     # what a run may not change
             "optimizer_name": OPTIMIZER,
             "train": [len(train), zlib.crc32(" ".join(a.image.name for a in train).encode())]}
    if last.exists():
        state = load_checkpoint(last, "YOLOv2", "YOLOv2Tiny")
        for constant, key in [("NETWORK", "network"), ("CLASSES", "classes"), ("ANCHORS", "anchors"),
                              ("OPTIMIZER", "optimizer_name"), ("TRAIN", "train")]:
            if state[key] != fixed[key]:
                raise InputError(f"{last}: was trained with another {constant}; put it back, or give RUN in "
                                 "yolov2/train.py a new name")
        done, best_ap = state["step"], state["best_ap"]
        if done >= MAX_STEPS:
            if rank == 0:
                print(f"{last} has done its {done} steps. For more raise MAX_STEPS in yolov2/train.py (a cosine then "
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
            loss = yolov2_loss(prediction, targets, anchors, seen=step * BATCH_SIZE)
            (loss["total"] / SUBDIVISIONS).backward()
            terms += torch.stack([loss[term].detach() for term in TERMS]) / SUBDIVISIONS
        if ranks > 1:
            dist.all_reduce(terms)                                           # so that all stop if one has to
        terms = dict(zip(TERMS, (terms / ranks).tolist()))
        figures = " ".join(f"{term} {value:.4g}" for term, value in terms.items())
        if not math.isfinite(terms["total"]):
            sys.exit(f"yolov2/train.py: the loss of step {step} is not finite: {figures}. {last} is as it was.")
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went.
        epochs_before, epochs = (step - 1) * BATCH_SIZE // len(train), step * BATCH_SIZE // len(train)
        ended = step == MAX_STEPS
        evaluating = ended or epochs // EVALUATE_EVERY > epochs_before // EVALUATE_EVERY
        saving = ended or epochs // CHECKPOINT_EVERY > epochs_before // CHECKPOINT_EVERY
        if rank == 0:
            bar.set_postfix_str(figures)
            measured = evaluate(network, splits, folder, step, device, anchors) if evaluating else {}
            writer.writerow({"step": step, "epoch": epochs, "learning rate": learning_rate(step),
                             "size": images.shape[-1], **terms, **measured})
            file.flush()
        if rank == 0 and (evaluating or saving):
            state = {"size": SIZE, "step": step, **fixed, "model": network.state_dict()}
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
        print(f"{folder}: curves.png, log.csv, detections/, last.pt, best.pt. Next: python yolov2/detect.py"
              + f" with CHECKPOINT = RUNS / {RUN!r} / 'last.pt'" * (RUN != "yolov2"))
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error).split("InputError: ")[-1].strip())  # a process that loads images puts a traceback before it
