"""
Trains YOLOv2.

Paper   "YOLO9000: Better, Faster, Stronger", section 2, "Multi-Scale Training", section 3, "Training for detection".
Source  The values are Darknet's: cfg/yolov2-voc.cfg, cfg/yolov2.cfg, examples/detector.c, src/network.c
        (get_current_rate) and src/convolutional_layer.c of pjreddie/darknet at f6afaab. Burn-in and steps are those of
        March 2017; the preset "darknet_2016" has the values of cfg/yolo-voc.2.0.cfg. The paper trains for 160 epochs
        with a learning rate of 1e-3, divided by 10 after 60 and 90 epochs. On VOC an epoch has 16,551 / 64 = 258.6
        steps, with Darknet's batches of 64; the paper does not give its own.

    python yolov2/train.py                               on one GPU, or on the CPU if there is none
    torchrun --nproc-per-node=4 yolov2/train.py          on four GPUs of one machine, with one process for each

PRESET in yolov2/dataset.py chooses the data and, here, the values that belong to it. As committed, "mini" trains the
tiny network on 1,600 drawings in about 8 minutes on 2 CPU cores and finds objects in drawings that it has never seen.

Writes to runs/<RUN>/: log.csv (each step's loss by term, each evaluation's AP50 and accuracies), curves.png,
detections/ (the same images at each evaluation), last.pt and best.pt (the highest AP50 on TEST). The same command
continues from last.pt. To start a new training, give RUN a new name.

What changed from yolov1/train.py: the input size changes every 10 steps; the schedule; BatchNorm instead of dropout;
for the first 12,800 images, boxes are pulled to their anchors. "mini" (4,000 images) and "sample" (880) end before
that, so there the term prior acts until the end.
"""
import math
import random

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
from shared.paths import RUNS, open_run
from shared.processes import average, end_processes, has_bfloat16, share_gradients, start_processes, stoppable, stopped
from shared.schedules import one_cycle
from yolov2.dataset import CLASSES, PRESET, SKIP_UNUSABLE, STRETCH, TEST, TRAIN, DetectionDataset, collate
from yolov2.evaluate import ACCURACIES, MEASURES, check_evaluation, measure
from yolov2.loss import yolov2_loss
from yolov2.model import COCO_ANCHORS
from yolov2.weights import NETWORKS, load_pretrained

# What to train
RUN = f"yolov2_{PRESET}"   # the folder in runs/
ANCHORS = None             # those of the network; or your own, from yolov2/anchors.py
START = None               # or a detector to fine-tune, perhaps of other classes: RUNS / "yolov2.weights", or a .pt
SEED = 0

# How to train it
if PRESET in ("mini", "sample"):    # short enough for a CPU, so with Adam and a cosine instead of SGD and steps
    BACKBONE = None            # random weights
    SUBDIVISIONS = 1           # parts of a batch that go through the network one by one, to save memory
    OPTIMIZER = "adam"
    SCHEDULE = "cosine"        # or "steps", or "one_cycle", in which LEARNING_RATE is the peak
    LR_STEPS = {}
    BATCHNORM_MOMENTUM = 0.1   # .01 would leave the running averages unfinished after so few steps
if PRESET == "mini":
    NETWORK = "YOLOv2Tiny"     # needs a quarter of YOLOv2's operations
    MAX_STEPS = 1000
    BATCH_SIZE = 4             # images per step, over all GPUs
    TRAIN_SIZES = [320]        # input sizes, in pixels; each is used for 10 steps. Measured: 340 steps with 4 images of
    #                            320 pixels reach an AP50 of .12; with 8 of 224, in the same time, .06
    TEST_SIZE = 320
    AUGMENT = True
    LEARNING_RATE = 3e-4
    BURN_IN = 50               # steps in which the learning rate rises
    EVALUATE_EVERY = CHECKPOINT_EVERY = 250    # steps
elif PRESET == "sample":
    NETWORK = "YOLOv2"
    MAX_STEPS = 220
    BATCH_SIZE = 4
    TRAIN_SIZES = [192]
    TEST_SIZE = 192
    AUGMENT = False            # so few steps suffice to memorise 16 images, but not all their variations
    LEARNING_RATE = 3e-4       # with 1e-3 some sigmoid(t_o) saturate near 0, where the square has almost no gradient
    BURN_IN = 25
    EVALUATE_EVERY = CHECKPOINT_EVERY = 50
elif PRESET in ("darknet", "darknet_coco", "darknet_2016"):
    NETWORK = "YOLOv2"                         # or "YOLOv2 of 2016"; "YOLOv2Tiny" with BACKBONE = None
    BACKBONE = RUNS / "darknet19_448.conv.23"  # ImageNet, by the authors. Yours: RUNS / "darknet19_448" / "backbone.pt"
    MAX_STEPS, TEST_SIZE = 80_200, 416         # paper: 41_378
    LR_STEPS = {40_000: 0.1, 60_000: 0.1}      # step: factor. Paper: at 15_517 and 23_275
    if PRESET == "darknet_coco":
        ANCHORS = ANCHORS or COCO_ANCHORS
        MAX_STEPS, TEST_SIZE = 500_200, 608
        LR_STEPS = {400_000: 0.1, 450_000: 0.1}
    BATCH_SIZE = 64
    SUBDIVISIONS = 8
    TRAIN_SIZES = list(range(320, 609, 32))
    AUGMENT = True
    OPTIMIZER = "sgd"
    LEARNING_RATE = 1e-3
    BURN_IN = 1000                             # paper: 0
    SCHEDULE = "steps"
    BATCHNORM_MOMENTUM = 0.01
    EVALUATE_EVERY = CHECKPOINT_EVERY = 1000   # ours
    if PRESET == "darknet_2016":
        NETWORK = "YOLOv2 of 2016"
        LEARNING_RATE, BURN_IN, MAX_STEPS = 1e-4, 0, 45_000
        LR_STEPS = {100: 10, 25_000: 0.1, 35_000: 0.1}
        TRAIN_SIZES = [416]                    # random=0 in the cfg; paper: list(range(320, 609, 32))
MOMENTUM = 0.9                 # of SGD [paper]
WEIGHT_DECAY = 5e-4            # [paper]; of the convolutions' weights only [darknet]
ADAM_BETAS = (0.9, 0.95)       # .95, because the first no_object gradients are large. With .999 Adam's second moment
#                                would remember them for so long that all later steps are too small
NUM_WORKERS = 2                # processes that load images, for each GPU

TERMS = ["xy", "wh", "object", "no_object", "class", "prior", "total"]
COLUMNS = ["step", "epoch", "learning rate", "size", *TERMS, *MEASURES, *ACCURACIES]


def learning_rate(step):
    """The learning rate of a step, from 1 on. Burn-in and "steps" are [darknet] get_current_rate, the rest is ours."""
    if SCHEDULE == "one_cycle":
        return one_cycle(step, MAX_STEPS, LEARNING_RATE)
    if step < BURN_IN:
        return LEARNING_RATE * (step / BURN_IN) ** 4
    if SCHEDULE == "cosine":
        return LEARNING_RATE * (1 + math.cos(math.pi * step / MAX_STEPS)) / 2
    return LEARNING_RATE * math.prod(factor for lr_step, factor in LR_STEPS.items() if step >= lr_step)


def image_size(step):
    """
    The input size of a step: drawn at random every 10 steps [paper], the largest in about the last 200 [darknet]. It
    depends on the step alone, so all GPUs agree and a resumed training repeats it.
    """
    block = (step - 1) // 10
    if block * 10 + 200 > MAX_STEPS:
        return max(TRAIN_SIZES)
    return random.Random(SEED + block).choice(TRAIN_SIZES)


def check_constants():
    """Raises InputError for values that would fail, or be misunderstood, only later."""
    check_values("yolov2/train.py", globals(), NETWORK=NETWORKS, OPTIMIZER=("adam", "sgd"),
                 SCHEDULE=("cosine", "steps", "one_cycle"))
    check_evaluation()
    if any(size % 32 for size in [TEST_SIZE, *TRAIN_SIZES]):
        raise InputError("yolov2/train.py: TEST_SIZE and TRAIN_SIZES have to be divisible by 32")


def make_optimizer(network):
    """Weights of convolutions decay; biases and BatchNorm's parameters do not [darknet]."""
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
    dataset = DetectionDataset(train, TEST_SIZE, AUGMENT)

    # The network, with random weights, pretrained ones, or those of an interrupted training
    torch.manual_seed(SEED)
    network_class, anchors = NETWORKS[NETWORK]
    anchors = ANCHORS or anchors
    network = network_class(len(CLASSES), anchors)
    set_batchnorm_momentum(network, BATCHNORM_MOMENTUM)
    if not (folder / "last.pt").exists():
        load_pretrained(network, anchors, CLASSES, BACKBONE, START)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network)
    # A training is resumed only if its checkpoint has the same values
    fixed = {"network": NETWORK, "classes": CLASSES, "anchors": anchors, "optimizer": OPTIMIZER,
             "stretch": STRETCH,
             "train": fingerprint(annotation.image for annotation in train)}
    done, best = resume(folder / "last.pt", network, optimizer, fixed, MAX_STEPS, "yolov2/train.py")
    model = share_gradients(network, device, ranks)          # model is trained; network shares its weights and is saved

    # A step's batch has SUBDIVISIONS parts, all of one image size; this process gets its share of each
    steps = range(done + 1, MAX_STEPS + 1)
    batches = shuffled_batches(len(train), BATCH_SIZE, steps, SEED, SUBDIVISIONS, rank, ranks)
    keys = ([(index, image_size(step), seed) for index, seed in batch] for step, batch in batches)
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
                prediction = model(images)                                   # (B, A, H/32, W/32, 5 + C)
            loss = yolov2_loss(prediction, targets, anchors, seen=step * BATCH_SIZE)
            (loss["total"] / SUBDIVISIONS).backward()
            terms = {term: terms[term] + loss[term].detach() / SUBDIVISIONS for term in TERMS}
        terms = average(terms, ranks)
        check_loss("yolov2/train.py", step, terms)
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went
        if rank == 0:
            bar.set_postfix({term: f"{value:.4g}" for term, value in terms.items()})
            row = {"step": step, "epoch": step * BATCH_SIZE // len(train), "learning rate": learning_rate(step),
                   "size": images.shape[-1], **terms}
            state = {**fixed, "size": TEST_SIZE, "step": step, "model": network.state_dict()}
            if step % EVALUATE_EVERY == 0 or step == MAX_STEPS:
                sheet = folder / "detections" / f"step_{step:06}.jpg"
                row |= measure(network, train, test, CLASSES, anchors, TEST_SIZE, device, NUM_WORKERS, sheet)
                bar.write(f"step {step}  " + "  ".join(f"{name} {row[name]:.4f}" for name in MEASURES))
                best = save_best(folder / "best.pt", state, row["AP50 test"], best)
            append_row(folder / "log.csv", COLUMNS, row)
            if step % CHECKPOINT_EVERY == 0 or step == MAX_STEPS or stopped():
                write_training_curves(folder / "curves.png", folder / "log.csv", TERMS, MEASURES)
                save_checkpoint(folder / "last.pt", {**state, "best": best, "optimizer_state": optimizer.state_dict()})
    if rank == 0:
        print(f"{folder}: curves.png, log.csv, detections/, last.pt, best.pt")
    end_processes()


if __name__ == "__main__":
    run(main)
