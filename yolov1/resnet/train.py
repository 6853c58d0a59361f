"""
Trains YOLOv1 on a ResNet, from VOC 2012 to VOC 2007's test.

Paper   "You Only Look Once: Unified, Real-Time Object Detection", section 2.2, for the loss: yolov1/loss.py, unchanged.
        Boxes that are not responsible are background, all of them, also in cells with an object.
Source  The rest is ours: Adam, and an augmentation of colour jitter, mirror image, and shift, scale and rotation, each
        half of the time. Difficult objects are neither trained on nor, at the evaluation, counted or punished.

    python yolov1/resnet/train.py                             one GPU if there is one, the CPU otherwise
    torchrun --nproc-per-node=4 yolov1/resnet/train.py        four GPUs of one machine, one process each

Edit the constants here; the classes, and where VOC lies, in yolov1/dataset.py. As committed they train a ResNet-18 with
random weights on the 16 drawn images of the sample, on a CPU, in about 2 minutes. The values beside them are meant for
VOC and have not been tried.

Writes to runs/<RUN>/ what yolov1/train.py writes. yolov1/evaluate.py and detect.py open its checkpoints: put their
paths into CHECKPOINT there, and into DATA what is to be measured. With several processes BatchNorm has statistics of
each one's images; the averages kept are the first one's.

What changed from yolov1/train.py: the network and its weights from torchvision; the augmentation; TRAIN and TEST are
here; Adam only.
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
from tqdm import tqdm

from shared.annotations import read_annotations
from shared.checkpoint import load_checkpoint, load_weights, save_checkpoint
from shared.draw import draw_boxes, write_sheet, write_training_curves
from shared.errors import InputError
from shared.images import read_image
from shared.metrics import at_confidence, mean_ap, voc_ap
from shared.paths import RUNS, atomic_write
from yolov1.dataset import CLASSES, VOC, A, DetectionDataset, collate
from yolov1.evaluate import detect_all, one_object_per_cell, truths_of
from yolov1.loss import yolov1_loss
from yolov1.model import BOXES, STRIDE
from yolov1.resnet.model import ResNetYOLOv1

RUN = "yolov1_resnet"     # the folder in runs/; a new name begins a new training
DEPTH = 18                # or 34
WEIGHTS = None            # random ones; or "DEFAULT": torchvision's, pretrained on ImageNet; downloaded once
SEED = 0

# The sample's values                 for VOC
TRAIN = [(VOC / "VOC2007", "train")]  # [(VOC / "VOC2012", "trainval")]
TEST = [(VOC / "VOC2007", "val")]     # [(VOC / "VOC2007", "test")]
MAX_STEPS = 150                       # 18,000: 100 epochs of 11,540 images
BATCH_SIZE = 8                        # 64: images per optimizer step, over all GPUs
SUBDIVISIONS = 1                      # the parts in which a batch goes through the network, for memory
SIZE = 256                            # 448: 64 pixels for each of 7 x 7 cells
AUGMENT = False                       # True; 150 steps suffice for 16 images, not for all their variations
LEARNING_RATE = 3e-4                  # 1e-4 with pretrained weights
BURN_IN = 12                          # 1000 steps
BATCHNORM_MOMENTUM = 0.1              # torchvision's; Darknet's .01 leaves the averages unfinished after 150 steps
WEIGHT_DECAY = 5e-4                   # on the weights of convolutions
ADAM_BETAS = (0.9, 0.95)              # (0.9, 0.999)

EVALUATE_EVERY = 20          # epochs; 10 for VOC
CHECKPOINT_EVERY = 20        # epochs; 1 for VOC
EVALUATED = 1000             # at most this many images of TRAIN are evaluated; of TEST all
PICTURES = 6                 # images of TRAIN and of TEST drawn with their detections at each evaluation
CONFIDENCE = 0.2             # for these pictures, and for the mAP at one fixed confidence
NUM_WORKERS = 2              # processes that load images, for each GPU; as many as there are cores for it

TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
MEASURES = ["AP50 train", "AP50 test", "mAP at confidence train", "mAP at confidence test"]
ACCURACIES = [f"{name} accuracy {split}" for split in ("train", "test") for name in ("class", "object", "no_object")]
COLUMNS = ["step", "epoch", "learning rate", *TERMS, *MEASURES, *ACCURACIES]


def learning_rate(step):
    """The rate of the step-th optimizer step, counted from 1."""
    if step < BURN_IN:
        return LEARNING_RATE * (step / BURN_IN) ** 4
    return LEARNING_RATE * (1 + math.cos(math.pi * step / MAX_STEPS)) / 2


def augmentation():
    """Each half of the time. Affine is ShiftScaleRotate's name in albumentations 2; a turned object's box is wider."""
    return A.Compose(
        [A.HorizontalFlip(p=0.5),
         A.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.8, 1.2), hue=(-0.05, 0.05), p=0.5),
         A.Affine(translate_percent=(-0.1, 0.1), scale=(0.8, 1.2), rotate=(-10, 10), keep_ratio=True,
                  rotate_method="ellipse", fill=127, p=0.5)],
        bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"], clip=True, filter_invalid_bboxes=True))


def batches(count, first_step, rank, ranks):
    """
    What this process loads, from first_step on: for each subdivision of each step a list of (index, seed), as
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
                batch.append((order[n % count], (SEED, n)))
            yield batch


def check_constants(ranks):
    """Raises InputError for what would fail, or mean something else, only later."""
    if DEPTH not in (18, 34):
        raise InputError(f"yolov1/resnet/train.py: DEPTH {DEPTH!r} is neither 18 nor 34")
    if SIZE % STRIDE:
        raise InputError(f"yolov1/resnet/train.py: SIZE has to be divisible by {STRIDE}")
    if BATCH_SIZE % (SUBDIVISIONS * ranks):
        raise InputError(f"yolov1/resnet/train.py: BATCH_SIZE {BATCH_SIZE} cannot be divided by SUBDIVISIONS "
                         f"{SUBDIVISIONS} x {ranks} processes")


def make_optimizer(network):
    weights = [p for p in network.parameters() if p.ndim > 1]                # of convolutions
    others = [p for p in network.parameters() if p.ndim == 1]                # biases, and BatchNorm's
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    return torch.optim.Adam(groups, lr=LEARNING_RATE, betas=ADAM_BETAS, fused=True)


def evaluate(network, splits, folder, step, device):
    """Measures the network on the train and test annotations, draws some; -> {name of MEASURES, ACCURACIES: value}."""
    measured, pictures = {}, []
    for name, annotations in splits.items():
        detections, accuracies = detect_all(network, annotations, SIZE, BOXES, device, NUM_WORKERS)
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
        raise InputError("yolov1/resnet/train.py: TRAIN and TEST need at least one (folder, split) each")
    splits = {"train": train[:EVALUATED], "test": test}

    # The network, from the beginning or from where it was.
    folder = RUNS / RUN
    last, best, log = folder / "last.pt", folder / "best.pt", folder / "log.csv"
    torch.manual_seed(SEED)
    network = ResNetYOLOv1(len(CLASSES), DEPTH, BOXES, None if last.exists() else WEIGHTS)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = BATCHNORM_MOMENTUM
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network)
    done, best_ap = 0, -1.0
    fixed = {"classes": CLASSES, "boxes": BOXES, "size": SIZE, "depth": DEPTH,               # what a run may not change
             "train": [len(train), zlib.crc32(" ".join(a.image.name for a in train).encode())]}
    if last.exists():
        state = load_checkpoint(last, "ResNetYOLOv1")
        for constant, key in [("CLASSES", "classes"), ("BOXES", "boxes"), ("SIZE", "size"),
                              ("DEPTH", "depth"), ("TRAIN", "train")]:
            if state[key] != fixed[key]:
                raise InputError(f"{last}: was trained with another {constant}; put it back, or give RUN in "
                                 "yolov1/resnet/train.py a new name")
        done, best_ap = state["step"], state["best_ap"]
        if done >= MAX_STEPS:
            if rank == 0:
                print(f"{last} has done its {done} steps. For more raise MAX_STEPS in yolov1/resnet/train.py (the "
                      "cosine then starts again higher), for another training give RUN a new name.")
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
    dataset = DetectionDataset(train, SIZE, AUGMENT)
    if AUGMENT:
        dataset.jitter, dataset.transform = 0, augmentation()                # in place of the paper's
    loader = iter(torch.utils.data.DataLoader(
        dataset, batch_sampler=batches(len(train), done + 1, rank, ranks), num_workers=NUM_WORKERS,
        collate_fn=collate, pin_memory=cuda))
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
            loss = yolov1_loss(prediction, targets, BOXES)
            (loss["total"] / SUBDIVISIONS).backward()
            terms += torch.stack([loss[term].detach() for term in TERMS]) / SUBDIVISIONS
        if ranks > 1:
            dist.all_reduce(terms)                                           # so that all stop if one has to
        terms = dict(zip(TERMS, (terms / ranks).tolist()))
        figures = " ".join(f"{term} {value:.4g}" for term, value in terms.items())
        if not math.isfinite(terms["total"]):
            sys.exit(f"yolov1/resnet/train.py: the loss of step {step} is not finite: {figures}. {last} is as it was.")
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went.
        epochs_before, epochs = (step - 1) * BATCH_SIZE // len(train), step * BATCH_SIZE // len(train)
        ended = step == MAX_STEPS
        evaluating = ended or epochs // EVALUATE_EVERY > epochs_before // EVALUATE_EVERY
        saving = ended or epochs // CHECKPOINT_EVERY > epochs_before // CHECKPOINT_EVERY
        if rank == 0:
            bar.set_postfix_str(figures)
            measured = evaluate(network, splits, folder, step, device) if evaluating else {}
            writer.writerow({"step": step, "epoch": epochs, "learning rate": learning_rate(step), **terms, **measured})
            file.flush()
        if rank == 0 and (evaluating or saving):
            state = {"network": "ResNetYOLOv1", "step": step, **fixed, "model": network.state_dict()}
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
        for name, annotations in splits.items():
            possible = one_object_per_cell(annotations, SIZE // STRIDE)
            ceiling = mean_ap(voc_ap(possible, truths_of(annotations), len(CLASSES)))
            print(f"one object per cell: at most AP50 {ceiling:.4f} on {name}")
        print(f"{folder}: curves.png, log.csv, detections/, last.pt, best.pt. Next: python yolov1/detect.py with "
              f"CHECKPOINT = RUNS / {RUN!r} / 'last.pt'")
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error).split("InputError: ")[-1].strip())  # a process that loads images puts a traceback before it
