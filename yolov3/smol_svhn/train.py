"""
Trains the network of smol.json on house numbers.

Paper   "YOLOv3: An Incremental Improvement", for the loss: that of yolov3/loss.py, with this network's anchors and
        strides. The values of the constants are ours.

    python yolov3/smol_svhn/train.py     on a GPU, or on the CPU if there is none

PRESET in yolov3/smol_svhn/dataset.py chooses the data and, here, the values that belong to it. The network is described
in yolov3/smol_svhn/smol.json. As committed, "sample" trains on 256 drawn images in about 1 minute on 2 CPU cores, to an
AP50 of 1.00 on these images and .70 on 64 others.

Writes to runs/<RUN>/: log.csv (each step's loss by term, each evaluation's AP50), curves.png, detections/ (the same
images at each evaluation), last.pt and best.pt (the highest AP50 on TEST). The same command continues from last.pt. To
start a new training, give RUN a new name.

What changed from yolov3/train.py: the network is described in a file; Adam only, without a burn-in; one input size; one
process, because a step of 127,150 parameters is too short to be shared.
"""
import math
import zlib

import torch
from tqdm import tqdm

from shared.batches import load_batches, shuffled_batches
from shared.checkpoint import resume, save_best, save_checkpoint
from shared.constants import check_values
from shared.draw import write_training_curves
from shared.errors import InputError, check_loss, run
from shared.layers import set_batchnorm_momentum
from shared.log import append_row, start_log
from shared.paths import RUNS, open_run
from shared.processes import stoppable, stopped
from yolov3.dataset import collate
from yolov3.loss import yolov3_loss
from yolov3.smol_svhn.dataset import CLASSES, PRESET, TEST, TRAIN, DigitDataset, read_split
from yolov3.smol_svhn.evaluate import MEASURES, check_evaluation, measure
from yolov3.smol_svhn.model import CONFIG, SmolYOLOv3, read_config

# What to train
RUN = "smol_svhn"                # the folder in runs/
SEED = 0

# How to train it
if PRESET == "sample":
    MAX_STEPS = 1600             # 100 epochs of 256 images
    BATCH_SIZE = 16              # at 64 there would be 400 steps, too few for images that are moved at random
    LEARNING_RATE = 3e-3
    SCHEDULE = "cosine"          # or "constant". A short training needs a learning rate that falls to 0
    ADAM_BETAS = (0.9, 0.95)     # .95, because the first no_object gradients are large. With .999 Adam's second moment
    #                              would remember them for so long that all later steps are too small
    EVALUATE_EVERY = CHECKPOINT_EVERY = 160      # steps: 10 epochs
elif PRESET == "svhn":
    MAX_STEPS = 52_191           # 100 epochs of 33,402 images
    BATCH_SIZE = 64
    LEARNING_RATE = 1e-3
    SCHEDULE = "constant"
    ADAM_BETAS = (0.9, 0.999)
    EVALUATE_EVERY = CHECKPOINT_EVERY = 5219     # 10 epochs
AUGMENT = True
WEIGHT_DECAY = 1e-4              # of the convolutions' weights only
BATCHNORM_MOMENTUM = 0.1         # Darknet: .01, which would leave the running averages unfinished after 1,600 steps
NUM_WORKERS = 2                  # processes that load images

TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
COLUMNS = ["step", "epoch", "learning rate", *TERMS, *MEASURES]


def learning_rate(step):
    """The learning rate of a step, counted from 1."""
    if SCHEDULE == "cosine":
        return LEARNING_RATE * (1 + math.cos(math.pi * step / MAX_STEPS)) / 2
    return LEARNING_RATE


def check_constants(config):
    """Raises InputError for values that would fail, or be misunderstood, only later."""
    check_values("yolov3/smol_svhn/train.py", globals(), SCHEDULE=("cosine", "constant"))
    check_evaluation()
    if config["num_classes"] != len(CLASSES):
        raise InputError(f"{CONFIG}: num_classes is {config['num_classes']}, but yolov3/smol_svhn/dataset.py has "
                         f"{len(CLASSES)} CLASSES")


def make_optimizer(network):
    """Only the weights of convolutions decay, not the biases and not BatchNorm's parameters."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    return torch.optim.Adam(groups, lr=LEARNING_RATE, betas=ADAM_BETAS, fused=True)


def main():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)                 # for so short a step, several threads would be slower than one
    config = read_config(CONFIG)
    check_constants(config)
    size, folder = config["image_size"], open_run(RUNS / RUN)

    # The data
    train = [annotation for part in TRAIN for annotation in read_split(part)]
    test = [annotation for part in TEST for annotation in read_split(part)]
    if not train or not test:
        raise InputError("yolov3/smol_svhn/dataset.py: TRAIN and TEST need at least one image each")
    dataset = DigitDataset(train, size, AUGMENT)

    # The network, with random weights or those of an interrupted training
    torch.manual_seed(SEED)
    network = SmolYOLOv3(config)
    set_batchnorm_momentum(network, BATCHNORM_MOMENTUM)
    network = network.to(device)
    optimizer = make_optimizer(network)
    # A training is resumed only if its checkpoint has the same values. The boxes identify the data, because all file
    # names are 1.png, 2.png, ...
    boxes = b"".join(annotation.boxes.tobytes() for annotation in train)
    fixed = {"network": "SmolYOLOv3", "config": config, "classes": CLASSES, "anchors": network.anchors,
             "optimizer": "adam", "train": [len(train), zlib.crc32(boxes)]}
    done, best = resume(folder / "last.pt", network, optimizer, fixed, MAX_STEPS, "yolov3/smol_svhn/train.py")

    steps = range(done + 1, MAX_STEPS + 1)
    batches = shuffled_batches(len(train), BATCH_SIZE, steps, SEED)
    keys = (batch for step, batch in batches)
    loader = load_batches(dataset, keys, collate, NUM_WORKERS, device)
    start_log(folder / "log.csv", COLUMNS, done)
    bar = tqdm(stoppable(steps), initial=done, total=MAX_STEPS)
    for step in bar:
        # One step: forward, loss, backward, update
        network.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        images, targets = next(loader)                                       # (B, 3, H, W), (N, 6)
        predictions = network(images.to(device))
        loss = yolov3_loss(predictions, targets, network.anchors, network.strides)
        terms = {term: loss[term].item() for term in TERMS}
        check_loss("yolov3/smol_svhn/train.py", step, terms)
        loss["total"].backward()
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went
        bar.set_postfix({term: f"{value:.4g}" for term, value in terms.items()})
        row = {"step": step, "epoch": step * BATCH_SIZE // len(train), "learning rate": learning_rate(step), **terms}
        state = {**fixed, "size": size, "step": step, "model": network.state_dict()}
        if step % EVALUATE_EVERY == 0 or step == MAX_STEPS:
            sheet = folder / "detections" / f"step_{step:06}.jpg"
            row |= measure(network, train, test, CLASSES, size, device, NUM_WORKERS, sheet)
            bar.write(f"step {step}  " + "  ".join(f"{name} {row[name]:.4f}" for name in MEASURES))
            best = save_best(folder / "best.pt", state, row["AP50 test"], best)
        append_row(folder / "log.csv", COLUMNS, row)
        if step % CHECKPOINT_EVERY == 0 or step == MAX_STEPS or stopped():
            write_training_curves(folder / "curves.png", folder / "log.csv", TERMS, MEASURES)
            save_checkpoint(folder / "last.pt", {**state, "best": best, "optimizer_state": optimizer.state_dict()})
    print(f"{folder}: curves.png, log.csv, detections/, last.pt, best.pt")


if __name__ == "__main__":
    run(main)
