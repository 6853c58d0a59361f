"""
Trains Darknet-19 to classify ImageNet: the weights with which YOLOv2's backbone begins.

Paper   "YOLO9000: Better, Faster, Stronger", section 3, "Training for classification".
Source  Where the paper is silent, [darknet]: cfg/darknet19.cfg, cfg/darknet19_448.cfg, examples/classifier.c,
        src/network.c (get_current_rate), src/blas.c (softmax_x_ent_cpu) of pjreddie/darknet at f6afaab.

    python yolov2/darknet19/train.py                           one GPU if there is one, the CPU otherwise
    torchrun --nproc-per-node=4 yolov2/darknet19/train.py      four GPUs of one machine, one process each
    torchrun --nnodes=2 --nproc-per-node=4 --rdzv-backend=c10d --rdzv-endpoint=FIRST:29500 yolov2/darknet19/train.py
                                                               the same line on each of two machines, FIRST being the
                                                               name of one; data and runs/ on a disk that both see

As committed the constants train the whole network on the sample's 80 drawings, on a CPU, in one to two minutes. For
ImageNet set IMAGENET in yolov2/darknet19/dataset.py and, here, the first of the two values at the right of each
constant. Then fine-tune at 448 x 448 as the paper does: the second value of each, START being the first run's best.pt.

Writes runs/<RUN>/: log.csv (each step's loss, each evaluation's top-1 and top-5), curves.png, last.pt (to go on from:
the same command does), best.pt (the highest top-1 on VAL) and backbone.pt: best.pt without the layer that names the
classes, which yolov2/train.py takes as BACKBONE.

The loss is the softmax cross-entropy, its mean over the images. Darknet adds up the images' gradients and divides the
step by their number, which is the same, and prints the same mean.

Several GPUs are one process each, under DistributedDataParallel. nn.DataParallel is one process for all of them: its
threads wait for one Python interpreter, the weights are copied to every GPU at every step, the first GPU gathers all
outputs, and it ends at the edge of one machine. BatchNorm takes its averages over each process's part of the batch, as
Darknet does.

What changed from yolov1/extraction/train.py: a burn-in, half the steps, and the fine-tuning at 448 x 448.
"""
import csv
import math
import os
import sys
import zlib
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from tqdm import tqdm

from shared.checkpoint import load_checkpoint, load_weights, save_checkpoint
from shared.draw import write_training_curves
from shared.errors import InputError
from shared.imagenet import list_classes, read_split
from shared.paths import RUNS, atomic_write
from yolov2.darknet19.dataset import TRAIN, VAL, ClassificationDataset
from yolov2.darknet19.model import Darknet19

# The sample's values        the authors', to pretrain at 256 x 256 / to fine-tune at 448 x 448
RUN = "darknet19"            # "darknet19" / "darknet19_448": the folder in runs/; a new name begins a new training
START = None                 # None / RUNS / "darknet19" / "best.pt": the weights to begin with
MAX_STEPS = 100              # [darknet] 800,000 / 100,000 (80 / 10 epochs); paper 1,601,459 / 100,091 (160 / 10)
BATCH_SIZE = 16              # [darknet] 128 / 128: images per optimizer step, over all GPUs
SUBDIVISIONS = 1             # [darknet] 2 / 4: the parts in which a batch goes through the network, for memory
SIZE = 96                    # [darknet] 256 / 448; paper 224 / 448
CROPS = (48, 168)            # [darknet] (128, 448) / (448, 512): the short side, least and most, before the cut
AUGMENT = False              # [darknet] True; ours: 100 steps suffice for 80 images, not for all their variations
OPTIMIZER = "adam"           # paper "sgd"; ours: SGD at the authors' rate needs thousands of steps
LEARNING_RATE = 1e-3         # paper .1 / .001
BURN_IN = 10                 # [darknet] 1000 / 0 steps
SCHEDULE = "cosine"          # paper "poly"; ours: of a short run poly would leave too little
POWER = 4                    # paper: of the polynomial (1 - step / MAX_STEPS)^POWER
BATCHNORM_MOMENTUM = 0.1     # [darknet] .01; ours: .01 leaves the running averages unfinished after 100 steps
MOMENTUM = 0.9               # paper: SGD's
WEIGHT_DECAY = 5e-4          # paper; on the weights of convolutions only [darknet]
ADAM_BETAS = (0.9, 0.95)     # ours, as in the detectors
SEED = 0

EVALUATE_EVERY = 5           # epochs; 1 for ImageNet
CHECKPOINT_EVERY = 5         # epochs; 1 for ImageNet
EVALUATED = 10_000           # at most this many images of TRAIN are evaluated, of all classes; of VAL all
EVALUATION_BATCH = 40
NUM_WORKERS = 2              # processes that load images, for each GPU; 8 or more for ImageNet

TERMS = ["loss"]
MEASURES = ["top-1 train", "top-5 train", "top-1 val", "top-5 val"]
COLUMNS = ["step", "epoch", "learning rate", *TERMS, *MEASURES]


def learning_rate(step):
    """The rate of the step-th optimizer step, counted from 1 ([darknet] get_current_rate)."""
    if step < BURN_IN:
        return LEARNING_RATE * (step / BURN_IN) ** 4
    if SCHEDULE == "cosine":
        return LEARNING_RATE * (1 + math.cos(math.pi * step / MAX_STEPS)) / 2
    return LEARNING_RATE * (1 - step / MAX_STEPS) ** POWER


def batches(count, first_step, rank, ranks):
    """
    What this process loads, from first_step on: for each subdivision of each step a list of (index, seed), as
    ClassificationDataset takes them. The images, numbered through all epochs, depend on SEED alone, not on when the
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
    for name, value, known in [("OPTIMIZER", OPTIMIZER, ("adam", "sgd")), ("SCHEDULE", SCHEDULE, ("cosine", "poly"))]:
        if value not in known:
            raise InputError(f"yolov2/darknet19/train.py: {name} {value!r} is none of {known}")
    if BATCH_SIZE % (SUBDIVISIONS * ranks):
        raise InputError(f"yolov2/darknet19/train.py: BATCH_SIZE {BATCH_SIZE} cannot be divided by "
                         f"SUBDIVISIONS {SUBDIVISIONS} x {ranks} processes")


def make_optimizer(network):
    weights = [p for p in network.parameters() if p.ndim > 1]                # of convolutions
    others = [p for p in network.parameters() if p.ndim == 1]                # BatchNorm's, and the last layer's biases
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    if OPTIMIZER == "adam":
        return torch.optim.Adam(groups, lr=LEARNING_RATE, betas=ADAM_BETAS, fused=True)
    return torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)


def correct(logits, labels):
    """logits (B, C), labels (B,) -> how many images have their class first, how many among the first five"""
    found = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]          # (B, 5), best first
    return found[:, 0].sum().item(), found.any(1).sum().item()


@torch.inference_mode()
def evaluate(network, splits, device):
    """How often an image's class is the network's first, or among its first five; -> {name of MEASURES: value}"""
    measured = {}
    network.eval()
    for name, images in splits.items():
        loader = torch.utils.data.DataLoader(ClassificationDataset(images, SIZE), EVALUATION_BATCH,
                                             num_workers=NUM_WORKERS)
        counts = np.zeros(2)
        for pixels, labels in tqdm(loader, desc=f"evaluating {name}", leave=False):
            counts += correct(network(pixels.to(device, memory_format=torch.channels_last)), labels.to(device))
        measured[f"top-1 {name}"], measured[f"top-5 {name}"] = (counts / len(images)).tolist()
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
    classes = list_classes(TRAIN)
    train, val = read_split(TRAIN, classes), read_split(VAL, classes)
    splits = {"train": train[::math.ceil(len(train) / EVALUATED)], "val": val}

    # The network, from the beginning or from where it was.
    torch.manual_seed(SEED)
    network = Darknet19(len(classes))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = BATCHNORM_MOMENTUM
    folder = RUNS / RUN
    last, best, log = folder / "last.pt", folder / "best.pt", folder / "log.csv"
    done, best_top1 = 0, -1.0
    fixed = {"classes": classes, "optimizer_name": OPTIMIZER,                           # what a run may not change
             "train": [len(train), zlib.crc32(" ".join(os.path.basename(path) for path, _ in train).encode())]}
    if last.exists():
        state = load_checkpoint(last, "Darknet19")
        for key, constant in [("classes", "TRAIN"), ("train", "TRAIN"), ("optimizer_name", "OPTIMIZER")]:
            if state[key] != fixed[key]:
                raise InputError(f"{last}: was trained with another {constant}; put it back, or give RUN in "
                                 "yolov2/darknet19/train.py a new name")
        done, best_top1 = state["step"], state["best_top1"]
        if done >= MAX_STEPS:
            if rank == 0:
                print(f"{last} has done its {done} steps. For more raise MAX_STEPS in yolov2/darknet19/train.py (the "
                      "rate then starts again higher), for another training give RUN a new name.")
            if ranks > 1:
                dist.destroy_process_group()
            return
    elif START:
        state = load_checkpoint(START, "Darknet19")
        if state["classes"] != classes:
            raise InputError(f"{START}: was trained on other classes than those in {TRAIN}")
    if last.exists() or START:
        load_weights(network, state["model"], last if last.exists() else START)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network)
    if done:
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
        ClassificationDataset(train, SIZE, CROPS, AUGMENT), batch_sampler=batches(len(train), done + 1, rank, ranks),
        num_workers=NUM_WORKERS, pin_memory=cuda))
    bar = tqdm(range(done + 1, MAX_STEPS + 1), initial=done, total=MAX_STEPS, disable=rank > 0)
    for step in bar:
        # One optimizer step: the gradients of SUBDIVISIONS parts add up, those of all GPUs are averaged in the last.
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        total = torch.zeros(1, device=device)
        for subdivision in range(SUBDIVISIONS):
            images, labels = next(loader)
            images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
            labels = labels.to(device, non_blocking=True)
            model.require_backward_grad_sync = subdivision == SUBDIVISIONS - 1          # read by DDP only
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = model(images)
            loss = F.cross_entropy(logits.float(), labels)
            (loss / SUBDIVISIONS).backward()
            total += loss.detach() / SUBDIVISIONS
        if ranks > 1:
            dist.all_reduce(total)                                           # so that all stop if one has to
        total = total.item() / ranks
        if not math.isfinite(total):
            sys.exit(f"yolov2/darknet19/train.py: the loss of step {step} is not finite: {total}. "
                     f"{last} is as it was.")
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went.
        epochs_before, epochs = (step - 1) * BATCH_SIZE // len(train), step * BATCH_SIZE // len(train)
        ended = step == MAX_STEPS
        evaluating = ended or epochs // EVALUATE_EVERY > epochs_before // EVALUATE_EVERY
        saving = ended or epochs // CHECKPOINT_EVERY > epochs_before // CHECKPOINT_EVERY
        if rank == 0:
            bar.set_postfix_str(f"loss {total:.4g}")
            measured = evaluate(network, splits, device) if evaluating else {}
            writer.writerow({"step": step, "epoch": epochs, "learning rate": learning_rate(step), "loss": total,
                             **measured})
            file.flush()
        if rank == 0 and (evaluating or saving):
            state = {"network": "Darknet19", "size": SIZE, "step": step, **fixed, "model": network.state_dict()}
            if evaluating:
                bar.write(f"step {step}  " + "  ".join(f"{name} {value:.4f}" for name, value in measured.items()))
                write_training_curves(folder / "curves.png", log, TERMS, MEASURES, title="accuracy")
                if measured["top-1 val"] >= best_top1:                       # of equal ones the last
                    best_top1 = measured["top-1 val"]
                    save_checkpoint(best, state)
                    stages = {key: value for key, value in state["model"].items() if not key.startswith("classify")}
                    save_checkpoint(folder / "backbone.pt", {**state, "model": stages})
            if saving:
                save_checkpoint(last, {**state, "best_top1": best_top1, "optimizer": optimizer.state_dict()})
        if ranks > 1 and (evaluating or saving):
            dist.barrier()
    if rank == 0:
        print(f"{folder}: curves.png, log.csv, last.pt, best.pt and backbone.pt. Next: BACKBONE in yolov2/train.py")
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error).split("InputError: ")[-1].strip())  # a process that loads images puts a traceback before it
