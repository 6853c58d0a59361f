"""
Trains YOLO9000: jointly on detection images, with boxes, and on classification images, with a label alone.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 4, "Joint
        classification and detection".
Source  Statements marked [darknet] come from cfg/yolo9000.cfg of pjreddie/darknet at f6afaab.

    python yolov2/yolo9000/classifier.py       first the classifier, whose weights the detector begins with
    python yolov2/yolo9000/train.py            the joint training

EXPERIMENT, which dataset.py describes, chooses another training: set EXPERIMENT=flat before both commands, or
EXPERIMENT=boxes before the second one alone.

The values are ours, chosen for a tiny network that learns 89 nodes from drawings. The paper's training cannot be
repeated, because the list of its images was never published. The comments give the values of cfg/yolo9000.cfg.

Writes to runs/yolo9000_<EXPERIMENT>/: log.csv (each step's loss by term, each evaluation's AP50), curves.png, last.pt.
The same command continues from last.pt. To start a new training, give RUN a new name.

This script runs in one process. The term prior of the loss acts for the first 12,800 images, of both kinds.

What changed from yolov2/train.py: the images are of two kinds, and the labels are nodes of a tree.
"""
import math

import torch
from tqdm import tqdm

from shared.batches import load_batches, shuffled_batches
from shared.checkpoint import fingerprint, resume, save_checkpoint
from shared.constants import check_values
from shared.draw import write_training_curves
from shared.errors import InputError, check_loss, run
from shared.layers import set_batchnorm_momentum
from shared.log import append_row, start_log
from shared.paths import RUNS, open_run
from shared.processes import has_bfloat16, stoppable, stopped
from yolov2.dataset import collate
from yolov2.yolo9000.dataset import EXPERIMENT, JointDataset, drawn_tree, mix, read_training
from yolov2.yolo9000.evaluate import MEASURES, check_evaluation, measure
from yolov2.yolo9000.loss import yolo9000_loss
from yolov2.yolo9000.model import NETWORKS
from yolov2.yolo9000.weights import load_classifier

# What to train
RUN = f"yolo9000_{EXPERIMENT}"   # the folder in runs/
NETWORK = "YOLO9000Tiny"         # or "YOLO9000"
SEED = 0
# In cells, of which there are 10 x 10 at 320 pixels: three clusters of the boxes of the miniature VOC, which
# best_clusters in yolov2/anchors.py found
ANCHORS = [(0.52, 0.48), (2.12, 1.88), (3.96, 3.08)]
# The file of classifier.py whose weights the detector begins with; None: random weights
CLASSIFIER = RUNS / "yolo9000_classifier" / "last.pt"
if EXPERIMENT == "flat":
    CLASSIFIER = RUNS / "yolo9000_classifier_flat" / "last.pt"
elif EXPERIMENT == "boxes":
    CLASSIFIER = None            # because the classifier has seen the classification images

# How to train it
MAX_STEPS = 2000                 # Darknet: 500,200
BATCH_SIZE = 8                   # images of both kinds. Darknet: 64
if EXPERIMENT == "boxes":
    BATCH_SIZE = 4               # "joint" and "flat" spend the other half on classification images
SIZE = 320                       # of the input, in pixels. Darknet: 320 to 608, another size every 10 steps
LEARNING_RATE = 3e-4             # of Adam, with a cosine. Darknet: SGD with 1e-3, x .1 at 400,000 and at 450,000 steps
BURN_IN = 50                     # steps in which the learning rate rises. Darknet: 1000
WEIGHT_DECAY = 5e-4              # of the convolutions' weights only [darknet]
ADAM_BETAS = (0.9, 0.95)         # as in yolov2/train.py
BATCHNORM_MOMENTUM = 0.1         # Darknet: .01. Its running averages lag behind the weights of so short a training
EVALUATE_EVERY = 1000            # it takes half a minute
CHECKPOINT_EVERY = 200
NUM_WORKERS = 2                  # processes that load images

TERMS = ["xy", "wh", "object", "no_object", "class", "prior", "total"]
COLUMNS = ["step", "epoch", "learning rate", *TERMS, *MEASURES]


def learning_rate(step):
    """The learning rate of a step, counted from 1."""
    if step < BURN_IN:
        return LEARNING_RATE * (step / BURN_IN) ** 4
    return LEARNING_RATE * (1 + math.cos(math.pi * step / MAX_STEPS)) / 2


def make_optimizer(network):
    """Weights of convolutions decay; biases and BatchNorm's parameters do not [darknet]."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    return torch.optim.Adam(groups, lr=LEARNING_RATE, betas=ADAM_BETAS, fused=True)


def main():
    check_values("yolov2/yolo9000/train.py", globals(), NETWORK=NETWORKS)
    check_evaluation()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = open_run(RUNS / RUN)
    new = not (folder / "last.pt").exists()
    if new and CLASSIFIER and not CLASSIFIER.exists():
        raise InputError(f"{CLASSIFIER}: no such file. Run python yolov2/yolo9000/classifier.py first, with the same "
                         "EXPERIMENT, or set CLASSIFIER = None in yolov2/yolo9000/train.py")

    # The data: a list of image numbers, in which the smaller of the two sets is repeated
    tree = drawn_tree(flat=EXPERIMENT == "flat")
    detection, labelled = read_training(tree)
    dataset = JointDataset(detection, labelled, SIZE)
    order = mix(len(detection), len(labelled))

    # The network, with the weights of a classifier, or of an interrupted training
    torch.manual_seed(SEED)
    network = NETWORKS[NETWORK](len(tree.names), ANCHORS)
    set_batchnorm_momentum(network, BATCHNORM_MOMENTUM)
    if new and CLASSIFIER:
        load_classifier(network, tree, CLASSIFIER)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network)
    images = [*detection, *(annotation for annotation, _ in labelled)]
    fixed = {"network": NETWORK, "tree": [tree.names, tree.parent], "anchors": ANCHORS,
             "train": fingerprint(annotation.image for annotation in images)}
    done, best = resume(folder / "last.pt", network, optimizer, fixed, MAX_STEPS, "yolov2/yolo9000/train.py")

    steps = range(done + 1, MAX_STEPS + 1)
    batches = shuffled_batches(len(order), BATCH_SIZE, steps, SEED)
    keys = ([(order[place], SIZE, seed) for place, seed in batch] for _, batch in batches)
    loader = load_batches(dataset, keys, collate, NUM_WORKERS, device)
    start_log(folder / "log.csv", COLUMNS, done)
    bar = tqdm(stoppable(steps), initial=done, total=MAX_STEPS)
    for step in bar:
        # One step: forward, loss, backward, update
        network.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        batch, targets = next(loader)                                        # (B, 3, H, W), (N, 6)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            prediction = network(batch.to(device, memory_format=torch.channels_last))    # (B, A, H/32, W/32, 5 + n)
        loss = yolo9000_loss(prediction, targets, tree, ANCHORS, seen=step * BATCH_SIZE)
        loss["total"].backward()
        terms = {term: loss[term].item() for term in TERMS}
        check_loss("yolov2/yolo9000/train.py", step, terms)
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went
        bar.set_postfix({term: f"{value:.4g}" for term, value in terms.items()})
        row = {"step": step, "epoch": step * BATCH_SIZE // len(order), "learning rate": learning_rate(step), **terms}
        if step % EVALUATE_EVERY == 0 or step == MAX_STEPS:
            row |= measure(network, tree, SIZE, ANCHORS, device, NUM_WORKERS)[0]
            bar.write(f"step {step}  " + "  ".join(f"{name} {row[name]:.4f}" for name in MEASURES))
        append_row(folder / "log.csv", COLUMNS, row)
        if step % CHECKPOINT_EVERY == 0 or step == MAX_STEPS or stopped():
            write_training_curves(folder / "curves.png", folder / "log.csv", TERMS, MEASURES)
            save_checkpoint(folder / "last.pt", {**fixed, "size": SIZE, "step": step, "best": best,
                                                 "model": network.state_dict(),
                                                 "optimizer_state": optimizer.state_dict()})
    print(f"{folder}: curves.png, log.csv, last.pt. Next: python yolov2/yolo9000/evaluate.py, with the same EXPERIMENT")


if __name__ == "__main__":
    run(main)
