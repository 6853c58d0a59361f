"""
Trains Darknet-53 to classify ImageNet. Its weights are the ones with which YOLOv3's backbone begins.

Paper   "YOLOv3: An Incremental Improvement", section 2.4: "identical settings" for Darknet-19, ResNets and Darknet-53;
        tested at 256 x 256, with a single crop.
Source  The values are Darknet's: cfg/darknet53.cfg, cfg/darknet53_448.cfg, examples/classifier.c,
        src/network.c (get_current_rate) and src/blas.c (softmax_x_ent_cpu) of pjreddie/darknet at f6afaab.

    python yolov3/darknet53/train.py                          on one GPU, or on the CPU if there is none
    torchrun --nproc-per-node=4 yolov3/darknet53/train.py     on four GPUs of one machine, with one process for each

PRESET in yolov3/darknet53/dataset.py chooses the data and, here, the values that belong to it. "sample", as
committed, trains the whole network on 80 drawings in one to two minutes on 2 CPU cores. "darknet" trains on
ImageNet with the authors' values, and "darknet_448" fine-tunes runs/darknet53/best.pt at 448 x 448 [darknet].

Writes to runs/<RUN>/: log.csv (each step's loss, each evaluation's top-1 and top-5 accuracy), curves.png, last.pt,
best.pt (the highest top-1 accuracy on VAL) and backbone.pt: best.pt without the layer that names the classes, for
BACKBONE in yolov3/train.py. The same command continues from last.pt. To start a new training, give RUN a new name.

What changed from yolov2/darknet19/train.py: the paper's input size is 256 x 256, too. The network is larger, so there
are more subdivisions.
"""
import math

import torch
import torch.nn.functional as F
from torch.utils.data import default_collate
from tqdm import tqdm

from shared.accuracy import top_accuracies
from shared.batches import load_batches, shuffled_batches
from shared.checkpoint import fingerprint, load_start, resume, save_best, save_checkpoint
from shared.constants import check_values
from shared.draw import write_training_curves
from shared.errors import check_loss, run
from shared.imagenet import list_classes, read_split
from shared.layers import set_batchnorm_momentum
from shared.log import append_row, start_log
from shared.paths import RUNS, open_run
from shared.processes import average, end_processes, has_bfloat16, share_gradients, start_processes, stoppable, stopped
from yolov3.darknet53.dataset import PRESET, TRAIN, VAL, ClassificationDataset
from yolov3.darknet53.model import Darknet53

# What to train
RUN = {"sample": "darknet53_sample", "darknet": "darknet53", "darknet_448": "darknet53_448"}[PRESET]    # in runs/
START = None               # or the best.pt of another training on the same classes, to continue from
SEED = 0

# How to train it
if PRESET == "sample":         # short enough for a CPU, so with Adam and a cosine instead of SGD and a polynomial
    MAX_STEPS = 100
    BATCH_SIZE = 16            # images per step, over all GPUs
    SUBDIVISIONS = 1           # parts of a batch that go through the network one by one, to save memory
    SIZE = 64                  # of the input, in pixels
    CROPS = (32, 112)          # the short side of an image, least and most, before a square of SIZE x SIZE is cut out
    AUGMENT = False            # 100 steps suffice to memorise 80 images, but not all their variations
    OPTIMIZER = "adam"
    LEARNING_RATE = 1e-3
    BURN_IN = 10               # steps in which the learning rate rises
    SCHEDULE = "cosine"        # or "poly", which is LEARNING_RATE (1 - step / MAX_STEPS)^POWER
    POWER = 4
    BATCHNORM_MOMENTUM = 0.1   # .01 would leave the running averages unfinished after 100 steps
    EVALUATE_EVERY = CHECKPOINT_EVERY = 25     # steps
elif PRESET in ("darknet", "darknet_448"):
    MAX_STEPS = 800_000                        # 80 epochs
    BATCH_SIZE = 128
    SUBDIVISIONS = 4
    SIZE = 256                                 # [paper]
    CROPS = (128, 448)
    AUGMENT = True
    OPTIMIZER = "sgd"
    LEARNING_RATE = 0.1
    BURN_IN = 1000
    SCHEDULE = "poly"
    POWER = 4
    BATCHNORM_MOMENTUM = 0.01
    EVALUATE_EVERY = CHECKPOINT_EVERY = 10_000    # ours: about an epoch
    if PRESET == "darknet_448":
        START = RUNS / "darknet53" / "best.pt"
        MAX_STEPS, LEARNING_RATE, BURN_IN = 100_000, 1e-3, 0                 # 10 epochs
        SUBDIVISIONS, SIZE, CROPS = 8, 448, (448, 512)
MOMENTUM = 0.9                 # of SGD [darknet]
WEIGHT_DECAY = 5e-4            # of the convolutions' weights only [darknet]
ADAM_BETAS = (0.9, 0.95)       # as in yolov3/train.py
NUM_WORKERS = 2                # processes that load images, for each GPU; ImageNet needs 8 or more
MAX_TRAIN_EVALUATED = 10_000   # evaluate at most this many images of TRAIN; of VAL all are evaluated
EVALUATION_BATCH = 40

TERMS = ["loss"]
MEASURES = ["top-1 train", "top-5 train", "top-1 val", "top-5 val"]
COLUMNS = ["step", "epoch", "learning rate", *TERMS, *MEASURES]


def learning_rate(step):
    """The learning rate of a step, counted from 1 ([darknet] get_current_rate)."""
    if step < BURN_IN:
        return LEARNING_RATE * (step / BURN_IN) ** 4
    if SCHEDULE == "cosine":
        return LEARNING_RATE * (1 + math.cos(math.pi * step / MAX_STEPS)) / 2
    return LEARNING_RATE * (1 - step / MAX_STEPS) ** POWER


def check_constants():
    """Raises InputError for values that would fail, or be misunderstood, only later."""
    check_values("yolov3/darknet53/train.py", globals(), OPTIMIZER=("adam", "sgd"), SCHEDULE=("cosine", "poly"))


def make_optimizer(network):
    """Only the weights of convolutions decay, not the biases and not BatchNorm's parameters [darknet]."""
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
    classes = list_classes(TRAIN)
    train, val = read_split(TRAIN, classes), read_split(VAL, classes)
    some_of_train = train[::math.ceil(len(train) / MAX_TRAIN_EVALUATED)]     # of all classes
    dataset = ClassificationDataset(train, SIZE, CROPS, AUGMENT)

    # The network, with random weights, those of START, or those of an interrupted training
    torch.manual_seed(SEED)
    network = Darknet53(len(classes))
    set_batchnorm_momentum(network, BATCHNORM_MOMENTUM)
    if START and not (folder / "last.pt").exists():
        load_start(network, START, "Darknet53", classes)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network)
    # A training is resumed only if its checkpoint has the same values
    fixed = {"network": "Darknet53", "train": fingerprint(path for path, _ in train), "classes": classes,
             "optimizer": OPTIMIZER}
    done, best = resume(folder / "last.pt", network, optimizer, fixed, MAX_STEPS, "yolov3/darknet53/train.py")
    model = share_gradients(network, device, ranks)

    steps = range(done + 1, MAX_STEPS + 1)
    batches = shuffled_batches(len(train), BATCH_SIZE, steps, SEED, SUBDIVISIONS, rank, ranks)
    loader = load_batches(dataset, (batch for _, batch in batches), default_collate, NUM_WORKERS, device)
    start_log(folder / "log.csv", COLUMNS, done, rank)
    bar = tqdm(stoppable(steps, ranks), initial=done, total=MAX_STEPS, disable=rank > 0)
    for step in bar:
        # One step: forward, loss, backward, update
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        total = 0
        for _ in range(SUBDIVISIONS):                                        # their gradients add up
            images, labels = next(loader)                                    # (B, 3, H, W), (B,)
            images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
                logits = model(images)                                       # (B, C)
            loss = F.cross_entropy(logits.float(), labels.to(device))        # the mean over the images [darknet]
            (loss / SUBDIVISIONS).backward()
            total += loss.detach() / SUBDIVISIONS
        terms = average({"loss": total}, ranks)
        check_loss("yolov3/darknet53/train.py", step, terms)
        optimizer.step()
        optimizer.zero_grad()

        # Write down how it went
        if rank == 0:
            bar.set_postfix(loss=f"{terms['loss']:.4g}")
            row = {"step": step, "epoch": step * BATCH_SIZE // len(train), "learning rate": learning_rate(step),
                   **terms}
            state = {**fixed, "size": SIZE, "step": step, "model": network.state_dict()}
            if step % EVALUATE_EVERY == 0 or step == MAX_STEPS:
                for name, images in ("train", some_of_train), ("val", val):
                    top1, top5 = top_accuracies(network, ClassificationDataset(images, SIZE), EVALUATION_BATCH,
                                                NUM_WORKERS, device)
                    row |= {f"top-1 {name}": top1, f"top-5 {name}": top5}
                bar.write(f"step {step}  " + "  ".join(f"{name} {row[name]:.4f}" for name in MEASURES))
                stages = {key: value for key, value in state["model"].items() if not key.startswith("classify")}
                save_best(folder / "backbone.pt", {**state, "model": stages}, row["top-1 val"], best)
                best = save_best(folder / "best.pt", state, row["top-1 val"], best)
            append_row(folder / "log.csv", COLUMNS, row)
            if step % CHECKPOINT_EVERY == 0 or step == MAX_STEPS or stopped():
                write_training_curves(folder / "curves.png", folder / "log.csv", TERMS, MEASURES, title="accuracy")
                save_checkpoint(folder / "last.pt", {**state, "best": best, "optimizer_state": optimizer.state_dict()})
    if rank == 0:
        print(f"{folder}: curves.png, log.csv, last.pt, best.pt and backbone.pt. Next: BACKBONE in yolov3/train.py")
    end_processes()


if __name__ == "__main__":
    run(main)
