"""
Trains YOLOv3.

Paper   "YOLOv3: An Incremental Improvement", section 2.5, which names the ingredients without their values.
Source  The values are Darknet's: cfg/yolov3-voc.cfg, cfg/yolov3.cfg, examples/detector.c, src/network.c
        (get_current_rate) and src/convolutional_layer.c of pjreddie/darknet at f6afaab.

    python yolov3/train.py                               on one GPU, or on the CPU if there is none
    torchrun --nproc-per-node=4 yolov3/train.py          on four GPUs of one machine, with one process for each

PRESET in yolov3/dataset.py chooses the data and, here, the values that belong to it. As committed, "mini" trains the
tiny network on 1,600 drawings in about 6 minutes on 2 CPU cores and finds objects in drawings that it has never seen.

Writes to runs/<RUN>/: log.csv (each step's loss by term, each evaluation's AP50 and accuracies), curves.png,
detections/ (the same images at each evaluation), last.pt and best.pt (the highest AP50 on TEST). The same command
continues from last.pt. To start a new training, give RUN a new name.

What changed from yolov2/train.py: the boxes are not pulled to their anchors at the start; on VOC there are 50,200 steps
instead of 80,200, and the learning rate falls at 40,000 and 45,000 instead of 40,000 and 60,000.
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
from yolov3.dataset import CLASSES, PRESET, SKIP_UNUSABLE, TEST, TRAIN, DetectionDataset, collate
from yolov3.evaluate import ACCURACIES, MEASURES, check_evaluation, measure
from yolov3.loss import yolov3_loss
from yolov3.weights import NETWORKS, load_pretrained

# What to train
RUN = f"yolov3_{PRESET}"   # the folder in runs/
ANCHORS = None             # those of the network; or your own, from yolov3/anchors.py
START = None               # or a detector to fine-tune, perhaps of other classes: RUNS / "yolov3.weights", or a .pt
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
    NETWORK = "YOLOv3Tiny"     # needs a twelfth of YOLOv3's operations
    MAX_STEPS = 960
    BATCH_SIZE = 16            # images per step, over all GPUs
    TRAIN_SIZES = [160]        # input sizes, in pixels; each is used for 10 steps
    TEST_SIZE = 160
    AUGMENT = True
    LEARNING_RATE = 1e-3
    BURN_IN = 50               # steps in which the learning rate rises
    EVALUATE_EVERY = CHECKPOINT_EVERY = 240    # steps
elif PRESET == "sample":
    NETWORK = "YOLOv3"
    MAX_STEPS = 300
    BATCH_SIZE = 4
    TRAIN_SIZES = [128]
    TEST_SIZE = 128
    AUGMENT = False            # so few steps suffice to memorise 16 images, but not all their variations
    LEARNING_RATE = 1e-3
    BURN_IN = 10
    EVALUATE_EVERY = CHECKPOINT_EVERY = 50
elif PRESET in ("darknet", "darknet_coco"):
    NETWORK = "YOLOv3"                         # or "YOLOv3Tiny" with BACKBONE = None
    BACKBONE = RUNS / "darknet53.conv.74"      # ImageNet, by the authors. Yours: RUNS / "darknet53" / "backbone.pt"
    MAX_STEPS, TEST_SIZE = 50_200, 416
    LR_STEPS = {40_000: 0.1, 45_000: 0.1}      # step: factor
    if PRESET == "darknet_coco":
        MAX_STEPS, TEST_SIZE = 500_200, 608
        LR_STEPS = {400_000: 0.1, 450_000: 0.1}
    BATCH_SIZE = 64
    SUBDIVISIONS = 16
    TRAIN_SIZES = list(range(320, 609, 32))
    AUGMENT = True
    OPTIMIZER = "sgd"
    LEARNING_RATE = 1e-3
    BURN_IN = 1000
    SCHEDULE = "steps"
    BATCHNORM_MOMENTUM = 0.01
    EVALUATE_EVERY = CHECKPOINT_EVERY = 1000   # ours
MOMENTUM = 0.9                 # of SGD [darknet]
WEIGHT_DECAY = 5e-4            # of the convolutions' weights only [darknet]
ADAM_BETAS = (0.9, 0.95)       # .95, because the first no_object gradients are large. With .999 Adam's second moment
#                                would remember them for so long that all later steps are too small
NUM_WORKERS = 2                # processes that load images, for each GPU

TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
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
    The input size of a step: drawn at random every 10 steps, the largest in about the last 200 [darknet]. It depends on
    the step alone, so all GPUs agree and a resumed training repeats it.
    """
    block = (step - 1) // 10
    if block * 10 + 200 > MAX_STEPS:
        return max(TRAIN_SIZES)
    return random.Random(SEED + block).choice(TRAIN_SIZES)


def check_constants():
    """Raises InputError for values that would fail, or be misunderstood, only later."""
    check_values("yolov3/train.py", globals(), NETWORK=NETWORKS, OPTIMIZER=("adam", "sgd"),
                 SCHEDULE=("cosine", "steps", "one_cycle"))
    check_evaluation()
    if any(size % 32 for size in [TEST_SIZE, *TRAIN_SIZES]):
        raise InputError("yolov3/train.py: TEST_SIZE and TRAIN_SIZES have to be divisible by 32")


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
             "train": fingerprint(annotation.image for annotation in train)}
    done, best = resume(folder / "last.pt", network, optimizer, fixed, MAX_STEPS, "yolov3/train.py")
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
                predictions = model(images)                                  # 3 times (B, A, h, w, 5 + C)
            loss = yolov3_loss(predictions, targets, anchors)
            (loss["total"] / SUBDIVISIONS).backward()
            terms = {term: terms[term] + loss[term].detach() / SUBDIVISIONS for term in TERMS}
        terms = average(terms, ranks)
        check_loss("yolov3/train.py", step, terms)
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
