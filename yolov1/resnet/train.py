"""
Trains YOLOv1 on a ResNet.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", section 2.2, for the loss: yolov1/loss.py, unchanged.
Source  The rest is ours: Adam with a cosine, and an augmentation with colour jitter, mirroring, and shift, scale and
        rotation, each half of the time.

    python yolov1/resnet/train.py                             on one GPU, or on the CPU if there is none
    torchrun --nproc-per-node=4 yolov1/resnet/train.py        on four GPUs of one machine, with one process for each

PRESET in yolov1/dataset.py chooses the data and, here, the values that belong to it. As committed, "mini" trains a
ResNet-18 with random weights on 1,600 drawings (not measured); "sample" memorises 16 drawings in about 2 minutes on 2
CPU cores. With "darknet" it trains on VOC 2012 and is tested on VOC 2007. These values are ours, and untried.

Writes to runs/<RUN>/ what yolov1/train.py writes. The same command continues from last.pt. To start a new training,
give RUN a new name. yolov1/evaluate.py and detect.py open its checkpoints: set their CHECKPOINT.

What changed from yolov1/train.py: the network and its pretrained weights are torchvision's; the augmentation; there is
only Adam.
"""
import math

import torch
from tqdm import tqdm

from shared.annotations import read_train_and_test
from shared.batches import load_batches, shuffled_batches
from shared.checkpoint import fingerprint, resume, save_best, save_checkpoint
from shared.constants import check_values
from shared.draw import write_training_curves
from shared.errors import InputError, check_loss, run
from shared.layers import set_batchnorm_momentum
from shared.log import append_row, start_log
from shared.paths import ROOT, RUNS, open_run
from shared.processes import average, end_processes, has_bfloat16, share_gradients, start_processes, stoppable, stopped
from yolov1.dataset import CLASSES, PRESET, SKIP_UNUSABLE, TEST, TRAIN, DetectionDataset, collate
from yolov1.evaluate import ACCURACIES, MAX_TRAIN_EVALUATED, MEASURES, ceiling, check_evaluation, measure
from yolov1.loss import yolov1_loss
from yolov1.model import BOXES, STRIDE
from yolov1.resnet.model import ResNetYOLOv1

import albumentations as A  # after yolov1.dataset, which forbids it to ask the network for a newer version

# What to train
RUN = f"yolov1_resnet_{PRESET}"      # the folder in runs/
DEPTH = 18                 # of the ResNet; or 34
SEED = 0

# How to train it
if PRESET in ("mini", "sample"):
    WEIGHTS = None             # random ones
    SUBDIVISIONS = 1           # parts of a batch that go through the network one by one, to save memory
    BATCHNORM_MOMENTUM = 0.1   # .01, as in Darknet, would leave the running averages unfinished after so few steps
    ADAM_BETAS = (0.9, 0.95)
    LEARNING_RATE = 3e-4
if PRESET == "mini":
    MAX_STEPS = 600
    BATCH_SIZE = 16            # images per step, over all GPUs
    SIZE = 192                 # of the input, in pixels: 64 for each of 3 x 3 cells
    AUGMENT = True
    BURN_IN = 50               # steps in which the learning rate rises
    EVALUATE_EVERY = CHECKPOINT_EVERY = 300    # steps
elif PRESET == "sample":
    MAX_STEPS = 150
    BATCH_SIZE = 8
    SIZE = 256
    AUGMENT = False            # 150 steps suffice to memorise 16 images, but not all their variations
    BURN_IN = 12
    EVALUATE_EVERY = CHECKPOINT_EVERY = 40
elif PRESET == "darknet":
    TRAIN = [(ROOT / "voc" / "VOCdevkit" / "VOC2012", "trainval")]
    WEIGHTS = "DEFAULT"        # torchvision's, pretrained on ImageNet; they are downloaded once
    MAX_STEPS = 18_000         # 100 epochs of 11,540 images
    BATCH_SIZE = 64
    SUBDIVISIONS = 1
    SIZE = 448
    AUGMENT = True
    LEARNING_RATE = 1e-4
    BURN_IN = 1000
    BATCHNORM_MOMENTUM = 0.1
    ADAM_BETAS = (0.9, 0.999)
    EVALUATE_EVERY = CHECKPOINT_EVERY = 1000
WEIGHT_DECAY = 5e-4            # of the convolutions' weights only
NUM_WORKERS = 2                # processes that load images, for each GPU

TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
COLUMNS = ["step", "epoch", "learning rate", *TERMS, *MEASURES, *ACCURACIES]


def learning_rate(step):
    """The learning rate of a step, counted from 1."""
    if step < BURN_IN:
        return LEARNING_RATE * (step / BURN_IN) ** 4
    return LEARNING_RATE * (1 + math.cos(math.pi * step / MAX_STEPS)) / 2


def augmentation():
    """
    Each transform happens half of the time. Affine replaces ShiftScaleRotate in albumentations 2. The box of a rotated
    object is wider than the object's own.
    """
    return [
        A.HorizontalFlip(p=0.5),
        A.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.8, 1.2), hue=(-0.05, 0.05), p=0.5),
        A.Affine(translate_percent=(-0.1, 0.1), scale=(0.8, 1.2), rotate=(-10, 10), keep_ratio=True,
                 rotate_method="ellipse", fill=127, p=0.5)]


def check_constants():
    """Raises InputError for values that would fail, or be misunderstood, only later."""
    check_values("yolov1/resnet/train.py", globals(), DEPTH=(18, 34))
    check_evaluation()
    if SIZE % STRIDE:
        raise InputError(f"yolov1/resnet/train.py: SIZE has to be divisible by {STRIDE}")


def make_optimizer(network):
    """Only the weights of convolutions decay, not the biases and not BatchNorm's parameters."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    return torch.optim.Adam(groups, lr=LEARNING_RATE, betas=ADAM_BETAS, fused=True)


def main():
    rank, ranks, device = start_processes()
    check_constants()
    folder = open_run(RUNS / RUN, rank)

    # The data
    train, test = read_train_and_test(TRAIN, TEST, CLASSES, SKIP_UNUSABLE)
    dataset = DetectionDataset(train, SIZE, AUGMENT, jitter=0, transforms=augmentation())

    # The network, with random weights, pretrained ones, or those of an interrupted training
    torch.manual_seed(SEED)
    weights = None if (folder / "last.pt").exists() else WEIGHTS
    network = ResNetYOLOv1(len(CLASSES), DEPTH, BOXES, weights)
    set_batchnorm_momentum(network, BATCHNORM_MOMENTUM)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network)
    # A training is resumed only if its checkpoint has the same values
    fixed = {"network": "ResNetYOLOv1", "classes": CLASSES, "boxes": BOXES, "size": SIZE, "depth": DEPTH,
             "train": fingerprint(annotation.image for annotation in train)}
    done, best = resume(folder / "last.pt", network, optimizer, fixed, MAX_STEPS, "yolov1/resnet/train.py")
    model = share_gradients(network, device, ranks)

    steps = range(done + 1, MAX_STEPS + 1)
    batches = shuffled_batches(len(train), BATCH_SIZE, steps, SEED, SUBDIVISIONS, rank, ranks)
    keys = (batch for _, batch in batches)                                   # lists of (index, seed)
    loader = load_batches(dataset, keys, collate, NUM_WORKERS, device)
    start_log(folder / "log.csv", COLUMNS, done, rank)
    bar = tqdm(stoppable(steps, ranks), initial=done, total=MAX_STEPS, disable=rank > 0)
    for step in bar:
        # One step: forward, loss, backward, update
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        terms = dict.fromkeys(TERMS, 0)
        for _ in range(SUBDIVISIONS):                                        # their gradients add up
            images, targets = next(loader)                                   # (B, 3, H, W), (N, 6)
            images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
                prediction = model(images)
            loss = yolov1_loss(prediction, targets, BOXES)
            (loss["total"] / SUBDIVISIONS).backward()
            terms = {term: terms[term] + loss[term].detach() / SUBDIVISIONS for term in TERMS}
        terms = average(terms, ranks)
        check_loss("yolov1/resnet/train.py", step, terms)
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went
        if rank == 0:
            bar.set_postfix({term: f"{value:.4g}" for term, value in terms.items()})
            row = {"step": step, "epoch": step * BATCH_SIZE // len(train), "learning rate": learning_rate(step),
                   **terms}
            state = {**fixed, "step": step, "model": network.state_dict()}
            if step % EVALUATE_EVERY == 0 or step == MAX_STEPS:
                sheet = folder / "detections" / f"step_{step:06}.jpg"
                row |= measure(network, train, test, CLASSES, BOXES, SIZE, device, NUM_WORKERS, sheet)
                bar.write(f"step {step}  " + "  ".join(f"{name} {row[name]:.4f}" for name in MEASURES))
                best = save_best(folder / "best.pt", state, row["AP50 test"], best)
            append_row(folder / "log.csv", COLUMNS, row)
            if step % CHECKPOINT_EVERY == 0 or step == MAX_STEPS or stopped():
                write_training_curves(folder / "curves.png", folder / "log.csv", TERMS, MEASURES)
                save_checkpoint(folder / "last.pt", {**state, "best": best, "optimizer_state": optimizer.state_dict()})
    if rank == 0:
        for name, annotations in ("train", train[:MAX_TRAIN_EVALUATED]), ("test", test):
            highest = ceiling(annotations, CLASSES, SIZE // STRIDE)
            print(f"one object per cell: at most AP50 {highest:.4f} on {name}")
        print(f"{folder}: curves.png, log.csv, detections/, last.pt, best.pt")
    end_processes()


if __name__ == "__main__":
    run(main)
