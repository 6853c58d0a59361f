"""
Trains the experiments of section 4, "Things We Tried That Didn't Work", and measures what each is worth in miniature.

Paper   "YOLOv3: An Incremental Improvement", section 4 (arXiv:1804.02767). decode.py and loss.py say what each changes.

    python yolov3/did_not_work/train.py                                      all experiments, seeds 0 and 1
    SEEDS=0 python yolov3/did_not_work/train.py                              all experiments, one seed
    EXPERIMENT="linear xy" SEEDS=2 python yolov3/did_not_work/train.py       one training

Each training is that of yolov3/train.py with the preset "mini", the tiny network on 1,600 drawings of 160 x 160 pixels,
but with 600 steps instead of 960. Trainings with the same seed begin with the same weights and see the same images in
the same order. At the end the network is evaluated on the miniature's test images.

Writes to runs/did_not_work/<EXPERIMENT>_<SEED>/: log.csv (each step's loss by term) and, at the end, result.csv. At
the start and after each training all of these results are collected in results.csv and results.png beside this file.

A training is finished if it stands in results.csv: then it is skipped. So the same command goes on after an
interruption; the training that was interrupted begins again. To repeat a training, delete its line in results.csv and,
if there is one, its folder in runs/did_not_work/. Two commands with different SEEDS may run at the same time.

A training whose loss is no longer finite ends at that step and is evaluated as it is; the column steps shows it.

What changed from yolov3/train.py: the argument `experiment` of the loss and of decode; one evaluation, at the end.
"""
import math
import os
import time

import numpy as np
import torch
from tqdm import tqdm

from shared.annotations import read_train_and_test
from shared.batches import ignore_ctrl_c, load_batches, shuffled_batches
from shared.constants import check_values
from shared.errors import InputError, check_choice, run
from shared.layers import set_batchnorm_momentum
from shared.log import append_row, start_log
from shared.metrics import at_confidence, coco_ap, mean_ap, voc_ap
from shared.nms import nms_per_class
from shared.paths import RUNS, open_run
from shared.processes import has_bfloat16
from shared.report import truths_of
from yolov3.dataset import CLASSES, PRESET, SKIP_UNUSABLE, TEST, TRAIN, DetectionDataset, collate, undo_letterbox
from yolov3.did_not_work.decode import EXPERIMENTS, decode
from yolov3.did_not_work.loss import experiment_loss
from yolov3.did_not_work.results import OUT, RUN, collect, write_rows
from yolov3.evaluate import NMS_THRESHOLD, SCORE_THRESHOLD
from yolov3.tiny.model import ANCHORS, STRIDES, YOLOv3Tiny

# What to train
EXPERIMENT = os.environ.get("EXPERIMENT", "all")   # or one of EXPERIMENTS in decode.py
SEEDS = os.environ.get("SEEDS", "0,1")             # whole numbers, separated by commas

# How to train it: the preset "mini" of yolov3/train.py, with fewer steps
MAX_STEPS = 600
BATCH_SIZE = 16
INPUT_SIZE = 160               # in pixels, in the training and in the evaluation
LEARNING_RATE = 1e-3           # of Adam, with a cosine
BURN_IN = 50                   # steps in which the learning rate rises
WEIGHT_DECAY = 5e-4            # of the convolutions' weights only [darknet]
ADAM_BETAS = (0.9, 0.95)       # as in yolov3/train.py
BATCHNORM_MOMENTUM = 0.1       # Darknet: .01. Its running averages lag behind the weights of so short a training
NUM_WORKERS = 1                # processes that load images

TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
COLUMNS = ["step", "learning rate", *TERMS]


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


def train(experiment, seed, train_images, folder, device):
    """Trains one network. Returns it, and how many steps were done."""
    dataset = DetectionDataset(train_images, INPUT_SIZE, augment=True)
    torch.manual_seed(seed)
    network = YOLOv3Tiny(len(CLASSES), ANCHORS)
    set_batchnorm_momentum(network, BATCHNORM_MOMENTUM)
    network = network.to(device, memory_format=torch.channels_last).train()
    optimizer = make_optimizer(network)

    steps = range(1, MAX_STEPS + 1)
    batches = shuffled_batches(len(train_images), BATCH_SIZE, steps, seed)
    keys = ([(index, INPUT_SIZE, image_seed) for index, image_seed in batch] for _, batch in batches)
    loader = load_batches(dataset, keys, collate, NUM_WORKERS, device)
    start_log(folder / "log.csv", COLUMNS, done=0)
    bar = tqdm(steps, desc=f"{experiment}, seed {seed}")
    for step in bar:
        # One step: forward, loss, backward, update
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        images, targets = next(loader)                                       # (B, 3, H, W), (N, 6)
        images = images.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            predictions = network(images)                                    # 2 times (B, A, h, w, 5 + C)
        loss = experiment_loss(predictions, targets, ANCHORS, STRIDES, experiment)
        if not loss["total"].isfinite():
            bar.write(f"{experiment}, seed {seed}: the loss of step {step} is not finite")
            return network, step - 1
        loss["total"].backward()
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went
        terms = {term: loss[term].item() for term in TERMS}
        bar.set_postfix({term: f"{value:.4g}" for term, value in terms.items()})
        append_row(folder / "log.csv", COLUMNS, {"step": step, "learning rate": learning_rate(step), **terms})
    return network, MAX_STEPS


@torch.inference_mode()
def detect_all(network, annotations, experiment, device):
    """-> (D, 7)  image, label, score, left, top, right, bottom in pixels of the image, as in yolov3/evaluate.py"""
    loader = torch.utils.data.DataLoader(DetectionDataset(annotations, INPUT_SIZE), 8, collate_fn=collate,
                                         num_workers=NUM_WORKERS, worker_init_fn=ignore_ctrl_c)
    detections = [np.zeros((0, 7))]
    network.eval()
    for images, _ in tqdm(loader, desc="detecting", leave=False):
        heads = network(images.to(device, memory_format=torch.channels_last))
        first = len(detections) - 1                                          # the index of the batch's first image
        for n, (boxes, scores) in enumerate(zip(*decode(heads, ANCHORS, STRIDES, experiment)), first):
            width, height = annotations[n].width, annotations[n].height
            rows = nms_per_class(boxes, scores, SCORE_THRESHOLD, NMS_THRESHOLD).double().cpu().numpy()   # (D, 6)
            corners = undo_letterbox(rows[:, 2:], width, height, INPUT_SIZE, INPUT_SIZE)
            rows[:, 2:] = corners.clip(0, [width, height] * 2)
            detections.append(np.insert(rows, 0, n, axis=1))                 # (D, 7)
    return np.concatenate(detections)


def measure(detections, truths):
    """
    AP50 and COCO's AP, as evaluate.py prints them, and recall: the share of the objects that are found, with the right
    class and an IOU of at least .5, by any of the detections, whatever its score.
    """
    return {"AP50": mean_ap(voc_ap(detections, truths, len(CLASSES))),
            "COCO AP": coco_ap(detections, truths, len(CLASSES))["AP"],
            "recall": at_confidence(detections, truths, len(CLASSES), confidence=0)["recall"]}


def check_constants():
    """Raises InputError for values that would fail, or be misunderstood, only later. Returns the seeds."""
    check_choice("yolov3/did_not_work/train.py", "EXPERIMENT", EXPERIMENT, ["all", *EXPERIMENTS])
    words = [word.strip() for word in SEEDS.split(",")]
    if not all(word.isdecimal() for word in words):
        raise InputError(f"yolov3/did_not_work/train.py: SEEDS has to be whole numbers, separated by commas, not "
                         f"{SEEDS!r}")
    seeds = sorted({int(word) for word in words})
    check_values("yolov3/did_not_work/train.py", {**globals(), "SEED": max(seeds), "TEST_SIZE": INPUT_SIZE})
    if PRESET != "mini":
        raise InputError(f'yolov3/did_not_work/train.py: PRESET in yolov3/dataset.py is {PRESET!r}. results.csv holds '
                         'figures of the miniature: set it to "mini"')
    return seeds


def main():
    seeds = check_constants()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_images, test_images = read_train_and_test(TRAIN, TEST, CLASSES, SKIP_UNUSABLE)
    finished = {(row["experiment"], int(row["seed"])) for row in collect()}
    for seed in seeds:
        for experiment in EXPERIMENTS if EXPERIMENT == "all" else [EXPERIMENT]:
            if (experiment, seed) in finished:
                print(f"{experiment}, seed {seed}: already in {OUT / 'results.csv'}")
                continue
            folder = open_run(RUNS / RUN / f"{experiment.replace(' ', '_')}_{seed}")
            began = time.perf_counter()
            network, steps = train(experiment, seed, train_images, folder, device)
            detections = detect_all(network, test_images, experiment, device)
            figures = measure(detections, truths_of(test_images))
            row = {"experiment": experiment, "seed": seed, "steps": steps,
                   "minutes": f"{(time.perf_counter() - began) / 60:.1f}",
                   **{name: f"{value:.4f}" for name, value in figures.items()}}
            write_rows(folder / "result.csv", [row])
            collect()
            print("  ".join(f"{name} {value}" for name, value in row.items()))
    print(f"{OUT}: results.csv, results.png. Next: python yolov3/did_not_work/results.py")


if __name__ == "__main__":
    run(main)
