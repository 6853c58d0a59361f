"""
Trains YOLOv1.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", section 2.2, "Training".
Source  The values are those of cfg/yolo.cfg at 8c5364f5, of the paper's time; the code is examples/yolo.c and
        src/network.c (get_current_rate). Comments give the paper's values where they differ. The paper trains for about
        135 epochs, of 16,551 / 64 = 258.6 steps each on VOC: the learning rate rises slowly from 1e-3 to 1e-2, then
        stays at 1e-2 for 75 epochs, at 1e-3 for 30 and at 1e-4 for 30.

    python yolov1/train.py                               on one GPU, or on the CPU if there is none
    torchrun --nproc-per-node=4 yolov1/train.py          on four GPUs of one machine, with one process for each

PRESET in yolov1/dataset.py chooses the data and, here, the values that belong to it. As committed, "mini" trains the
tiny network on 1,600 drawings in about 10 minutes on one or two CPU cores and finds objects in drawings that it has
never seen.

Writes to runs/<RUN>/: log.csv (each step's loss by term, each evaluation's AP50 and accuracies), curves.png,
detections/ (the same images at each evaluation), last.pt and best.pt (the highest AP50 on TEST). The same command
continues from last.pt. To start a new training, give RUN a new name. At the end it prints the highest AP50 that is
possible with one object in each cell (see yolov1/evaluate.py).

What changed from the pretraining (section 2.2): there are four more convolutions and two fully connected layers, with
random weights; the input is twice as wide and high; the loss is a different one.
"""
import math

import torch
import torch.nn as nn
from tqdm import tqdm

from shared.annotations import read_train_and_test
from shared.batches import load_batches, shuffled_batches
from shared.checkpoint import fingerprint, resume, save_best, save_checkpoint
from shared.constants import check_values
from shared.draw import write_training_curves
from shared.errors import InputError, check_loss, run
from shared.layers import set_batchnorm_momentum
from shared.log import append_row, start_log
from shared.paths import RUNS, open_run
from shared.processes import average, end_processes, has_bfloat16, share_gradients, start_processes, stoppable, stopped
from shared.schedules import one_cycle
from yolov1.dataset import CLASSES, PRESET, SKIP_UNUSABLE, TEST, TRAIN, DetectionDataset, collate
from yolov1.evaluate import ACCURACIES, MAX_TRAIN_EVALUATED, MEASURES, ceiling, check_evaluation, measure
from yolov1.loss import yolov1_loss
from yolov1.model import BATCH_NORM, BOXES, STRIDE
from yolov1.weights import NETWORKS, load_pretrained

# What to train
RUN = f"yolov1_{PRESET}"   # the folder in runs/
START = None               # or a detector to fine-tune, perhaps of other classes: RUNS / "yolov1_mini" / "last.pt"
SEED = 0

# How to train it
if PRESET in ("mini", "sample"):    # short enough for a CPU, so with Adam and a cosine instead of SGD and steps
    BACKBONE = None            # random weights
    SUBDIVISIONS = 1           # parts of a batch that go through the network one by one, to save memory
    OPTIMIZER = "adam"
    SCHEDULE = "cosine"        # or "steps", or "one_cycle", in which LEARNING_RATE is the peak
    LR_STEPS = {}
    WEIGHT_DECAY = 5e-4
    BATCHNORM_MOMENTUM = 0.1   # .01 would leave the running averages unfinished after so few steps
if PRESET == "mini":
    NETWORK = "YOLOv1Tiny"     # needs a thirteenth of YOLOv1's operations
    MAX_STEPS = 1500
    BATCH_SIZE = 16            # images per step, over all GPUs
    SIZE = 192                 # of the input, in pixels: 64 for each of 3 x 3 cells
    AUGMENT = True
    DROPOUT = 0.0              # YOLOv1Tiny has none
    LEARNING_RATE = 3e-4
    BURN_IN = 50               # steps in which the learning rate rises
    EVALUATE_EVERY = CHECKPOINT_EVERY = 375    # steps
elif PRESET == "sample":
    NETWORK = "YOLOv1"
    MAX_STEPS = 180
    BATCH_SIZE = 4
    SIZE = 192
    AUGMENT = False            # so few steps suffice to memorise 16 images, but not all their variations
    DROPOUT = 0.0              # dropout prevents memorising
    LEARNING_RATE = 6e-5       # low, because there is no BatchNorm. Measured with 1e-4: the network predicts the same
    #                            for every image during the first 100 steps
    BURN_IN = 12
    EVALUATE_EVERY = CHECKPOINT_EVERY = 60
elif PRESET == "darknet":
    # Darknet's schedule, which approximates the paper's. Equation (3) is twice Darknet's loss, so the learning rate is
    # halved and the weight decay doubled.
    NETWORK = "YOLOv1"                         # or "YOLOv1Local"; the two small ones need another BACKBONE (weights.py)
    BACKBONE = RUNS / "extraction.conv.weights"  # ImageNet, by the authors. Yours: RUNS / "extraction" / "backbone.pt"
    MAX_STEPS = 40_000                         # paper: 34_912
    BATCH_SIZE = 64
    SUBDIVISIONS = 2
    SIZE = 448
    AUGMENT = True
    DROPOUT = 0.5
    OPTIMIZER = "sgd"
    LEARNING_RATE = 5e-4                       # paper, Darknet: 1e-3
    BURN_IN = 0
    SCHEDULE = "steps"
    LR_STEPS = {200: 2.5, 400: 2, 600: 2, 20_000: 0.1, 30_000: 0.1}     # step: factor. Paper: .1 at 19_396 and 27_154
    WEIGHT_DECAY = 1e-3                        # paper, Darknet: 5e-4
    BATCHNORM_MOMENTUM = 0.01
    EVALUATE_EVERY = CHECKPOINT_EVERY = 1000   # ours
MOMENTUM = 0.9                 # of SGD [paper]
ADAM_BETAS = (0.9, 0.95)       # .95, because the first no_object gradients are large. With .999 Adam's second moment
#                                would remember them for so long that all later steps are too small
NUM_WORKERS = 2                # processes that load images, for each GPU

TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
COLUMNS = ["step", "epoch", "learning rate", *TERMS, *MEASURES, *ACCURACIES]


def learning_rate(step):
    """The learning rate of a step, from 1 on. Burn-in and "steps" are [darknet] get_current_rate, the rest is ours."""
    if SCHEDULE == "one_cycle":
        return one_cycle(step, MAX_STEPS, LEARNING_RATE)
    if step < BURN_IN:
        return LEARNING_RATE * (step / BURN_IN) ** 4
    if SCHEDULE == "cosine":
        return LEARNING_RATE * (1 + math.cos(math.pi * step / MAX_STEPS)) / 2
    return LEARNING_RATE * math.prod(factor for lr_step, factor in LR_STEPS.items() if step >= lr_step)


def check_constants():
    """Raises InputError for values that would fail, or be misunderstood, only later."""
    check_values("yolov1/train.py", globals(), NETWORK=NETWORKS, OPTIMIZER=("adam", "sgd"),
                 SCHEDULE=("cosine", "steps", "one_cycle"))
    check_evaluation()
    if SIZE % STRIDE:
        raise InputError(f"yolov1/train.py: SIZE has to be divisible by {STRIDE}")


def make_optimizer(network):
    """Weights of convolutions and fully connected layers decay; biases and BatchNorm's parameters do not [darknet]."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    if OPTIMIZER == "adam":
        return torch.optim.Adam(groups, lr=LEARNING_RATE, betas=ADAM_BETAS, fused=True)
    return torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)


def main():
    rank, ranks, device = start_processes()
    check_constants()
    folder = open_run(RUNS / RUN, rank)

    # The data
    train, test = read_train_and_test(TRAIN, TEST, CLASSES, SKIP_UNUSABLE)
    dataset = DetectionDataset(train, SIZE, AUGMENT)

    # The network, with random weights, pretrained ones, or those of an interrupted training
    torch.manual_seed(SEED)
    network = NETWORKS[NETWORK](len(CLASSES), SIZE // STRIDE, BOXES)
    set_batchnorm_momentum(network, BATCHNORM_MOMENTUM)
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = DROPOUT
    if not (folder / "last.pt").exists():
        load_pretrained(network, CLASSES, BACKBONE, START)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network)
    # A training is resumed only if its checkpoint has the same values
    fixed = {"network": NETWORK, "classes": CLASSES, "boxes": BOXES, "size": SIZE, "batch_norm": BATCH_NORM,
             "optimizer": OPTIMIZER, "train": fingerprint(annotation.image for annotation in train)}
    done, best = resume(folder / "last.pt", network, optimizer, fixed, MAX_STEPS, "yolov1/train.py")
    model = share_gradients(network, device, ranks)          # model is trained; network shares its weights and is saved

    # A step's batch has SUBDIVISIONS parts; this process gets its share of each
    steps = range(done + 1, MAX_STEPS + 1)
    batches = shuffled_batches(len(train), BATCH_SIZE, steps, SEED, SUBDIVISIONS, rank, ranks)
    keys = (batch for _, batch in batches)                                   # lists of (index, seed)
    loader = load_batches(dataset, keys, collate, NUM_WORKERS, device)
    start_log(folder / "log.csv", COLUMNS, done, rank)
    bar = tqdm(stoppable(steps, ranks), initial=done, total=MAX_STEPS, disable=rank > 0)
    for step in bar:
        # One step: forward, loss, backward, update
        model.train()
        torch.manual_seed(SEED + step * ranks + rank)                        # for dropout: the same after a resume
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        terms = dict.fromkeys(TERMS, 0)
        for _ in range(SUBDIVISIONS):                                        # their gradients add up
            images, targets = next(loader)                                   # (B, 3, H, W), (N, 6)
            images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
                prediction = model(images)                                   # (B, S, S, C + 5n)
            loss = yolov1_loss(prediction, targets, BOXES)
            (loss["total"] / SUBDIVISIONS).backward()
            terms = {term: terms[term] + loss[term].detach() / SUBDIVISIONS for term in TERMS}
        terms = average(terms, ranks)
        check_loss("yolov1/train.py", step, terms)
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
