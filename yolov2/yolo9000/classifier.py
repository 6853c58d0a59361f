"""
Trains and measures the hierarchical classifier, and a flat one to compare it with.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 4, "Hierarchical
        classification": Darknet-19 trained on WordTree1k, 1369 nodes, reaches 71.9 % top-1 and 90.4 % top-5. The flat
        Darknet-19 with its 1000 classes reaches 72.9 and 91.2.
Source  Statements marked [darknet] come from cfg/darknet9000.cfg, src/data.c and src/softmax_layer.c of
        pjreddie/darknet at f6afaab.

    python yolov2/yolo9000/classifier.py                     89 nodes in a tree
    EXPERIMENT=flat python yolov2/yolo9000/classifier.py     62 leaves, one softmax

The labels are the 62 kinds of data_samples/draw_tree.py. Both classifiers are asked for the most probable leaf of an
image of LABELLED_VAL: this is top-1. Of the hierarchical one, the answers of the paper's walk are printed too.

Writes to runs/yolo9000_classifier/ or runs/yolo9000_classifier_flat/:

    log.csv        each step's loss; the accuracies of the last step
    last.pt        yolov2/yolo9000/train.py begins with it; the same command continues from it
    backbone.pt    of the TinyClassifier: BACKBONE in yolov2/train.py takes it for the tiny YOLOv2

What changed from yolov2/darknet19/train.py: the loss is the sum of the cross-entropies on the label's path; the tiny
network; images are placed on grey as for detection.
"""
import math

import numpy as np
import torch
from tqdm import tqdm

from data_samples.draw_tree import KINDS
from shared.accuracy import count_correct
from shared.batches import load_batches, shuffled_batches
from shared.checkpoint import fingerprint, resume, save_checkpoint
from shared.constants import check_values
from shared.errors import check_loss, run
from shared.layers import set_batchnorm_momentum
from shared.log import append_row, start_log
from shared.paths import RUNS, open_run
from shared.processes import has_bfloat16
from yolov2.dataset import collate
from yolov2.yolo9000.dataset import EXPERIMENT, LABELLED, LABELLED_VAL, JointDataset, drawn_tree, read_labelled
from yolov2.yolo9000.evaluate import HIER_THRESHOLDS, judge
from yolov2.yolo9000.model import CLASSIFIERS
from yolov2.yolo9000.train import ADAM_BETAS, WEIGHT_DECAY
from yolov2.yolo9000.wordtree import absolute, conditionals, flat_tree, paper_walk, path_cross_entropy, path_to_root

# What to train
RUN = "yolo9000_classifier" + ("_flat" if EXPERIMENT == "flat" else "")
NETWORK = "TinyClassifier"       # or "Darknet19"
SEED = 0

# How to train it
MAX_STEPS = 800                  # Darknet: 100,000
BATCH_SIZE = 32                  # Darknet: 128
SIZE = 192                       # of the input, in pixels. Darknet: 448
LEARNING_RATE = 1e-3             # of Adam, with a cosine. Darknet: SGD with 1e-3, times (1 - step / MAX_STEPS)^4
BATCHNORM_MOMENTUM = 0.1         # Darknet: .01. Its running averages lag behind the weights of so short a training
CHECKPOINT_EVERY = 200
EVALUATION_BATCH = 40
NUM_WORKERS = 2

MEASURES = ["top-1 val", "top-5 val"]
COLUMNS = ["step", "learning rate", "loss", *MEASURES]


def learning_rate(step):
    """The learning rate of a step, counted from 1."""
    return LEARNING_RATE * (1 + math.cos(math.pi * step / MAX_STEPS)) / 2


@torch.inference_mode()
def classify_all(network, labelled, tree, device):
    """-> (N, n) Pr(node) of each image, (N,) its label, a node"""
    loader = torch.utils.data.DataLoader(JointDataset([], labelled, SIZE, augment=False), EVALUATION_BATCH,
                                         collate_fn=collate, num_workers=NUM_WORKERS)
    network.eval()
    p = [absolute(conditionals(network(images.to(device)).cpu(), tree), tree) for images, _ in loader]
    return torch.cat(p), torch.tensor([node for _, node in labelled])


def top_accuracies(p, labels, tree):
    """Top-1 and top-5 among the leaves; inner nodes do not compete [darknet: hierarchy_predictions, only_leaves]"""
    leaves = torch.tensor([node for node in range(len(tree.names)) if tree.child_group[node] == -1])
    place = torch.searchsorted(leaves, labels)               # of the label among the leaves
    return [correct / len(labels) for correct in count_correct(p[:, leaves], place)]


def print_answers(p, labels, tree):
    """How deep and how right the answers of the paper's walk are, for each threshold."""
    print("threshold  depth   exact   above   wrong")
    for threshold in HIER_THRESHOLDS:
        answers = [paper_walk(row, tree, threshold) for row in p]
        verdicts = [judge(tree, answer, label) for answer, label in zip(answers, labels.tolist())]
        depth = np.mean([len(path_to_root(tree, answer)) for answer in answers])
        shares = " ".join(f"{verdicts.count(verdict) / len(p):>7.3f}" for verdict in ("exact", "above", "wrong"))
        print(f"{threshold:>9} {depth:>6.2f} {shares}")


def main():
    check_values("yolov2/yolo9000/classifier.py", globals(), EXPERIMENT=("joint", "flat"), NETWORK=CLASSIFIERS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = open_run(RUNS / RUN)

    # The data
    tree = flat_tree(list(KINDS)) if EXPERIMENT == "flat" else drawn_tree()
    train, val = read_labelled(LABELLED, tree), read_labelled(LABELLED_VAL, tree)
    dataset = JointDataset([], train, SIZE)

    # The network, with random weights or those of an interrupted training
    torch.manual_seed(SEED)
    network = CLASSIFIERS[NETWORK](len(tree.names))
    set_batchnorm_momentum(network, BATCHNORM_MOMENTUM)
    network = network.to(device, memory_format=torch.channels_last)
    groups = [{"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
              {"params": [p for p in network.parameters() if p.ndim == 1], "weight_decay": 0}]
    optimizer = torch.optim.Adam(groups, lr=LEARNING_RATE, betas=ADAM_BETAS, fused=True)
    fixed = {"network": NETWORK, "tree": [tree.names, tree.parent],
             "train": fingerprint(annotation.image for annotation, _ in train)}
    done, best = resume(folder / "last.pt", network, optimizer, fixed, MAX_STEPS, "yolov2/yolo9000/classifier.py")

    steps = range(done + 1, MAX_STEPS + 1)
    batches = shuffled_batches(len(train), BATCH_SIZE, steps, SEED)
    keys = ([(index, SIZE, seed) for index, seed in batch] for _, batch in batches)
    loader = load_batches(dataset, keys, collate, NUM_WORKERS, device)
    start_log(folder / "log.csv", COLUMNS, done)
    bar = tqdm(steps, initial=done, total=MAX_STEPS)
    for step in bar:
        # One step: forward, loss, backward, update
        network.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        images, targets = next(loader)                                       # (B, 3, H, W), (B, 6)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            logits = network(images.to(device, memory_format=torch.channels_last))       # (B, n)
        loss = path_cross_entropy(logits.float(), targets[:, 1].long(), tree).mean()
        loss.backward()
        check_loss("yolov2/yolo9000/classifier.py", step, {"loss": loss.item()})
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went
        bar.set_postfix(loss=f"{loss.item():.4g}")
        row = {"step": step, "learning rate": learning_rate(step), "loss": loss.item()}
        if step == MAX_STEPS:
            p, labels = classify_all(network, val, tree, device)
            row |= dict(zip(MEASURES, top_accuracies(p, labels, tree)))
            bar.write(f"step {step}  " + "  ".join(f"{name} {row[name]:.4f}" for name in MEASURES))
            if len(tree.size) > 1:
                print_answers(p, labels, tree)
        append_row(folder / "log.csv", COLUMNS, row)
        if step % CHECKPOINT_EVERY == 0 or step == MAX_STEPS:
            state = {**fixed, "size": SIZE, "step": step, "best": best, "model": network.state_dict()}
            save_checkpoint(folder / "last.pt", {**state, "optimizer_state": optimizer.state_dict()})
    files = "log.csv, last.pt"
    if NETWORK == "TinyClassifier":
        save_checkpoint(folder / "backbone.pt", {**state, "model": network.backbone.state_dict()})
        files += ", backbone.pt"
    print(f"{folder}: {files}")


if __name__ == "__main__":
    run(main)
