"""
Table 2 of the paper, in miniature: "The path from YOLO to YOLOv2", one small training for each of its columns.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 2 and Table 2.
        Rows 1 to 3 are the first paper's detector (arXiv:1506.02640).
Source  All lengths are half of the paper's: images of 224 pixels instead of 448, a stride of 32 instead of 64 in rows
        1 to 3, of 16 instead of 32 from row 4 on. So the numbers of cells are the paper's. The channels, the head and
        the trainings are ours, so small that a row takes minutes. The loss of rows 4 to 9 is Darknet's of the paper's
        time, without the term prior.

A row here is a column of the paper's table. It keeps the changes of the rows above it, except that row 4 removes row
1's layers and row 6 replaces the anchors and offsets of rows 4 and 5. To read what a row changes, search this file for
the condition of the third column, and for its opposite, for example row < 4:

    row  idea                                 condition    what it changes
    1    YOLO                                              dropout, no BatchNorm, a fully connected head: 7 x 7 cells
    2    batch norm                           row >= 2     BatchNorm after each convolution, no dropout
    3    hi-res classifier                    row >= 3     the classifier, trained at 112, is fine-tuned at 224
    4    convolutional, with anchor boxes     row >= 4     no fully connected layers; 13 x 13 cells; nine hand-picked
                                                           anchors, each with its own classes; the loss
    5    new network                          row >= 5     a backbone like Darknet-19, with fewer operations
    6    dimension priors, direct location    row >= 6     five anchors by k-means; the cell bounds a box's centre
    7    passthrough                          row >= 7     2 x 2 squares of the 26 x 26 map become channels
    8    multi-scale                          row >= 8     another input size every 10 steps
    9    hi-res detector                      row >= 9     no training: row 8's network, evaluated at a larger size

In rows 1 to 3 a cell predicts C class probabilities p, n = 2 confidences c, and n times x, y, r_w, r_h (section 2.2 of
the first paper; n is the paper's B, the number of boxes). For the cell in column c_x and row c_y of S x S cells:

    b_x = (x + c_x) / S       b_w = r_w^2             score = c p

From row 4 on, an anchor of p_w x p_h cells predicts t_x, t_y, t_w, t_h, an objectness t_o and C class logits. In cells:

    b_w = p_w exp(t_w)        score = sigmoid(t_o) softmax(logits)
    rows 4 and 5              b_x = t_x p_w + c_x + 1/2         any place in the image
    from row 6 on             b_x = sigmoid(t_x) + c_x          within the cell

and the same for y and h; b_w and the score are those of all rows from 4 on. The paper prints the centre of rows 4 and 5
as x = (t_x w_a) - x_a. Faster R-CNN, which it cites, has + x_a, the anchor's centre. The term xy of the loss, for an
object with its centre at x in cells:

    rows 4 and 5              1/2 sum (t_x - t*_x)^2            t*_x = (x - c_x - 1/2) / p_w
    from row 6 on             1/2 sum (sigmoid(t_x) - x*)^2     x* = x - c_x

    python yolov2/table2/train.py                       all rows, seeds 0 and 1; expected: 2 hours of one core a seed
    ROWS=4,5 SEEDS=2 python yolov2/table2/train.py      rows 4 and 5 with another seed

A row is finished if it stands in results_seed<SEED>.csv, in this folder: then it is skipped. So the same command goes
on after an interruption; the row that was interrupted starts again. To repeat a row, delete its line. Two commands with
different SEEDS can run at once, because each seed has its own file.

Each backbone is trained first, on drawings of 62 kinds of things (data_samples/draw_tree.py), once for each seed.

The training of a detector whose loss is no longer finite ends at that step. The detector is evaluated as it is; the
column steps says how many steps it was trained.

Writes to this folder results_seed<SEED>.csv and results.png, our figures beside the paper's; to runs/, for each
training, table2_row4_seed0/ or table2_new_112_seed0/ with log.csv and network.pt.

What changed from yolov2/train.py: nine detectors in one file, all of them small.
"""
import csv
import math
import os
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from matplotlib.figure import Figure
from tqdm import tqdm

from data_samples.draw_tree import KINDS
from shared.accuracy import count_correct
from shared.annotations import read_train_and_test
from shared.batches import load_batches, shuffled_batches
from shared.boxes import cxcywh_to_xyxy, paired_iou, shape_iou, xyxy_to_cxcywh
from shared.checkpoint import load_checkpoint, load_weights, save_checkpoint
from shared.constants import check_values
from shared.errors import InputError, run
from shared.files import read_lines
from shared.layers import count_operations
from shared.log import append_row, start_log
from shared.metrics import mean_ap, voc_ap
from shared.nms import nms_per_class
from shared.paths import ROOT, RUNS, atomic_write, open_run
from shared.processes import has_bfloat16
from shared.report import truths_of
from yolov2.anchors import best_clusters
from yolov2.dataset import CLASSES, PRESET, SKIP_UNUSABLE, TEST, TRAIN, DetectionDataset, collate
from yolov2.yolo9000.dataset import LABELLED, LABELLED_VAL, JointDataset, read_labelled
from yolov2.yolo9000.wordtree import flat_tree

# What to run
ROWS = os.environ.get("ROWS", "1,2,3,4,5,6,7,8,9")
SEEDS = os.environ.get("SEEDS", "0,1")
FOLDER = ROOT / "yolov2" / "table2"

# The detectors
STRIDE = 16                            # from row 4 on: pixels of the input for each cell. paper: 32
GRID, BOXES = 7, 2                     # rows 1 to 3: S, cells across and down; n, boxes of each cell [paper]
FULLY_CONNECTED_SIZE = 224             # rows 1 to 3. paper: 448
CONVOLUTIONAL_SIZE = 208               # from row 4 on: 13 cells, an odd number. paper: 416
HIGH_SIZE = 272                        # row 9. paper: 544
MULTI_SCALE_SIZES = range(160, 305, STRIDE)                        # from row 8 on. paper: 320 to 608, by 32
# Width and height in cells. As in Faster R-CNN there are three sizes, each twice the one before, and three ratios of
# width to height. Its sides of 128, 256 and 512 pixels are about .2, .4 and .8 of its images
HAND_PICKED = [(side * ratio ** 0.5, side / ratio ** 0.5)
               for side in (13 * 0.2, 13 * 0.4, 13 * 0.8) for ratio in (0.5, 1, 2)]
CLUSTERS = 5                           # [paper]

# The trainings
STEPS = 2000
BATCH_SIZE = 8
LEARNING_RATE = 4e-4                   # of Adam, with a cosine; the same for all rows (README.md says why)
BURN_IN = 50                           # steps in which the learning rate rises
ADAM_BETAS = (0.9, 0.95)               # as in yolov2/train.py
WEIGHT_DECAY = 5e-4                    # [paper]
JITTER = 0.2                           # of the random crops [darknet, 2016]
NUM_WORKERS = 1                        # processes that load images

# The classifiers' trainings
CLASSIFIER_RATE = 1e-3                 # of Adam, with a cosine; the same for all rows
LOW_SIZE, LOW_STEPS, LOW_BATCH = 112, 1000, 32                     # paper: 224 pixels, 160 epochs
TUNED_SIZE, TUNED_STEPS, TUNED_BATCH = 224, 150, 16                # paper: 448 pixels, 10 epochs

# The losses
LAMBDA_COORD, LAMBDA_NOOBJ = 5.0, 0.5  # rows 1 to 3, as in yolov1/loss.py [paper]
LAMBDA_OBJECT = 5.0                    # from row 4 on, as in yolov2/loss.py; the other weights are 1 [darknet]
IGNORE_IOU = 0.6                       # from row 4 on [darknet]

# The evaluation, as in yolov2/evaluate.py
SCORE_THRESHOLD = 0.005
NMS_THRESHOLD = 0.45

PAPER = [63.4, 65.8, 69.5, 69.2, 69.6, 74.4, 75.4, 76.8, 78.6]     # mAP on VOC 2007 of rows 1 to 9 [paper]
NAMES = ["YOLO", "batch norm", "hi-res classifier", "anchor boxes", "new network", "priors, location", "passthrough",
         "multi-scale", "hi-res detector"]
TERMS = ["xy", "wh", "object", "no_object", "class", "total"]
RESULTS = ["row", "seed", "mAP", "recall", "milliseconds", "operations", "steps", "minutes"]       # recall: recall_of


# ---- The networks

def conv(row, in_channels, out_channels, kernel, stride=1):
    """Convolution, from row 2 on BatchNorm, leaky ReLU. (B, in, H, W) -> (B, out, H / stride, W / stride)"""
    layers = [nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=row < 2)]
    nn.init.kaiming_normal_(layers[0].weight, a=0.1)
    if row >= 2:
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers, nn.LeakyReLU(0.1))


class Backbone(nn.Module):
    """
    stride8  at 208 x 208 the map of 26 x 26 cells, before the last pooling
    stride16 the map of 13 x 13 cells
    """

    def __init__(self, row):
        super().__init__()
        if row < 5:                                                 # the first paper's Figure 3, made small
            self.stride8 = nn.Sequential(
                conv(row, 3, 16, 7, stride=2), nn.MaxPool2d(2),
                conv(row, 16, 48, 3), nn.MaxPool2d(2),
                conv(row, 48, 32, 1), conv(row, 32, 64, 3), conv(row, 64, 64, 1), conv(row, 64, 128, 3))
            self.stride16 = nn.Sequential(
                nn.MaxPool2d(2),
                conv(row, 128, 64, 1), conv(row, 64, 128, 3), conv(row, 128, 64, 1), conv(row, 64, 128, 3),
                conv(row, 128, 128, 1), conv(row, 128, 256, 3), conv(row, 256, 128, 1), conv(row, 128, 256, 3))
            self.channels = 128, 256
        if row >= 5:                                                # Darknet-19 (Table 6), made small
            self.stride8 = nn.Sequential(
                conv(row, 3, 8, 3), nn.MaxPool2d(2),
                conv(row, 8, 16, 3), nn.MaxPool2d(2),
                conv(row, 16, 32, 3), conv(row, 32, 16, 1), conv(row, 16, 32, 3), nn.MaxPool2d(2),
                conv(row, 32, 64, 3), conv(row, 64, 32, 1), conv(row, 32, 64, 3))
            self.stride16 = nn.Sequential(
                nn.MaxPool2d(2),
                conv(row, 64, 256, 3), conv(row, 256, 128, 1), conv(row, 128, 256, 3))
            self.channels = 64, 256

    def forward(self, images):                                      # (B, 3, H, W)
        stride8 = self.stride8(2 * images - 1)                      # (B, 128 or 64, H/8, W/8)  -1..1 [darknet, 2015]
        return stride8, self.stride16(stride8)                      # (B, 256, H/16, W/16)


class Classifier(nn.Module):
    """The backbone, a 1 x 1 convolution, the average over the map. (B, 3, H, W) -> (B, C) logits"""

    def __init__(self, row, num_classes):
        super().__init__()
        self.backbone = Backbone(row)
        self.classify = nn.Conv2d(self.backbone.channels[1], num_classes, 1)

    def forward(self, images):
        return self.classify(self.backbone(images)[1]).mean((2, 3))


class Detector(nn.Module):
    """
    Returns the raw head: in rows 1 to 3 (B, S, S, C + 5n): C class probabilities, n confidences, n times x y r_w r_h;
    from row 4 on (B, A, H, W, 5 + C): t_x t_y t_w t_h t_o logits.
    """

    def __init__(self, row, num_classes, num_anchors):
        super().__init__()
        self.row, self.num_classes = row, num_classes
        self.backbone = Backbone(row)
        stride8_channels, channels = self.backbone.channels
        if row < 4:
            self.neck = nn.Sequential(conv(row, channels, 256, 3, stride=2), conv(row, 256, 256, 3))
            self.head = nn.Sequential(
                nn.Flatten(), nn.Linear(256 * GRID * GRID, 512), nn.LeakyReLU(0.1),
                nn.Dropout(0.5 if row < 2 else 0),                  # "we can remove dropout" (section 2)
                nn.Linear(512, GRID * GRID * (num_classes + 5 * BOXES)))
        if row >= 4:                                                # the stride of 2 is gone, as in the paper
            passthrough = 4 * stride8_channels if row >= 7 else 0
            self.neck = conv(row, channels, 256, 3)
            self.head = nn.Sequential(conv(row, 256 + passthrough, 256, 3),
                                      nn.Conv2d(256, num_anchors * (5 + num_classes), 1))

    def forward(self, images):                                      # (B, 3, H, W)
        stride8, x = self.backbone(images)                          # (B, 256, H/16, W/16)
        x = self.neck(x)                                            # (B, 256, S, S), or (B, 256, H/16, W/16)
        if self.row >= 7:                                           # each 2 x 2 square becomes one cell (section 2)
            x = torch.cat([F.pixel_unshuffle(stride8, 2), x], 1)    # (B, 512, H/16, W/16)
        x = self.head(x)
        if self.row < 4:
            return x.view(-1, GRID, GRID, self.num_classes + 5 * BOXES)
        return x.unflatten(1, (-1, 5 + self.num_classes)).permute(0, 1, 3, 4, 2)


# ---- Boxes and losses: rows 1 to 3

def decode_grid(head):
    """(B, S, S, C + 5n) -> boxes (B, S, S, n, 4) corners as fractions of the image, scores (B, S, S, n, C)"""
    head = head.float()
    S, C = head.shape[1], head.shape[3] - 5 * BOXES
    p, c = head[..., :C], head[..., C:C + BOXES]                    # (B, S, S, C), (B, S, S, n)
    t = head[..., C + BOXES:].unflatten(3, (BOXES, 4))              # (B, S, S, n, 4)  x y r_w r_h
    c_xy = cell_corners(S, S, head.device)[:, :, None]              # (S, S, 1, 2)
    boxes = cxcywh_to_xyxy(torch.cat([(t[..., :2] + c_xy) / S, t[..., 2:].square()], -1))
    return boxes, c[..., None] * p[..., None, :]


def grid_loss(head, targets):
    """Equation (3) of the first paper: see yolov1/loss.py. targets (N, 6): image, label, cx, cy, w, h as fractions"""
    head = head.float()
    B, S, C = len(head), head.shape[1], head.shape[3] - 5 * BOXES
    boxes = decode_grid(head.detach())[0].to(targets.device)        # (B, S, S, n, 4)
    corners = cxcywh_to_xyxy(targets[:, 2:])                        # (N, 4)

    # In the cell of an object's centre the box with the highest IOU is responsible; if all IOUs are 0, the one with the
    # smallest error. The first object keeps the cell.
    slots, objects, ious = {}, [], []                               # (image, row, column) -> box
    for i, (image, _, x, y, _, _) in enumerate(targets.tolist()):
        cell = int(image), min(int(y * S), S - 1), min(int(x * S), S - 1)
        if cell in slots:
            continue
        overlaps = paired_iou(boxes[cell], corners[i])              # (n,)
        errors = (xyxy_to_cxcywh(boxes[cell]) - targets[i, 2:]).square().sum(1)              # (n,)
        slots[cell] = (overlaps.argmax() if (overlaps > 0).any() else errors.argmin()).item()
        objects.append(i)
        ious.append(overlaps[slots[cell]])
    slots = torch.tensor([[*cell, box] for cell, box in slots.items()], dtype=torch.long).view(-1, 4).to(head.device)
    image, cell_row, cell_col, box = slots.T                                  # (R,) each
    learned = targets[objects].to(head.device)                      # (R, 6)
    ious = torch.tensor(ious, device=head.device)                   # (R,)

    p, c = head[image, cell_row, cell_col, :C], head[..., C:C + BOXES]        # (R, C), (B, S, S, n)
    t = head[..., C + BOXES:].unflatten(3, (BOXES, 4))[image, cell_row, cell_col, box]       # (R, 4)
    background = torch.ones_like(c, dtype=torch.bool)               # (B, S, S, n)
    background[image, cell_row, cell_col, box] = False
    target_xy = learned[:, 2:4] * S - torch.stack([cell_col, cell_row], 1)    # (R, 2)
    loss = {"xy": LAMBDA_COORD * (t[:, :2] - target_xy).square().sum() / B,
            "wh": LAMBDA_COORD * (t[:, 2:] - learned[:, 4:].sqrt()).square().sum() / B,
            "object": (c[image, cell_row, cell_col, box] - ious).square().sum() / B,
            "no_object": LAMBDA_NOOBJ * c[background].square().sum() / B,
            "class": (p - F.one_hot(learned[:, 1].long(), C)).square().sum() / B}
    return {**loss, "total": sum(loss.values())}


# ---- Boxes and losses: from row 4 on

def cell_corners(H, W, device):
    """-> (H, W, 2) c_x, c_y of each cell"""
    c_x, c_y = torch.arange(W, device=device), torch.arange(H, device=device)
    return torch.stack(torch.meshgrid(c_x, c_y, indexing="xy"), -1)


def decode_anchors(row, head, anchors):
    """(B, A, H, W, 5 + C) -> boxes (B, A, H, W, 4) corners as fractions of the input, scores (B, A, H, W, C)"""
    head = head.float()
    A, H, W = head.shape[1:4]
    p_wh = head.new_tensor(anchors).view(A, 1, 1, 2)
    c_xy = cell_corners(H, W, head.device)                          # (H, W, 2)
    if row >= 6:                                                    # direct location prediction
        b_xy = head[..., 0:2].sigmoid() + c_xy                      # (B, A, H, W, 2)  in cells
    else:                                                           # offsets are multiples of the anchor
        b_xy = head[..., 0:2] * p_wh + c_xy + 0.5                   # (B, A, H, W, 2)  in cells
    b_wh = p_wh * head[..., 2:4].exp()                              # (B, A, H, W, 2)  in cells
    boxes = torch.cat([b_xy, b_wh], -1) / head.new_tensor([W, H, W, H])
    return cxcywh_to_xyxy(boxes), head[..., 4:5].sigmoid() * head[..., 5:].softmax(-1)


def anchor_loss(row, head, targets, anchors):
    """
    From row 6 on as yolov2/loss.py with SIZE_WEIGHT = False and without prior; in rows 4 and 5 the term xy differs.
    targets (N, 6): image, label, cx, cy, w, h as fractions
    """
    head = head.float()
    B, A, H, W = head.shape[:4]
    grid = targets.new_tensor([W, H])
    boxes = decode_anchors(row, head.detach(), anchors)[0].to(targets.device)                # (B, A, H, W, 4)
    corners = cxcywh_to_xyxy(targets[:, 2:])                        # (N, 4)
    best = shape_iou(targets[:, 4:] * grid, targets.new_tensor(anchors)).argmax(1).tolist()  # N anchors

    # In the cell of an object's centre the anchor with the most similar shape is responsible. Of two objects for one
    # anchor and cell the later one is learned. A box that overlaps an object well is no background.
    object_of, background = {}, torch.ones(B, A, H, W, dtype=torch.bool)
    for i, (image, _, x, y, _, _) in enumerate(targets.tolist()):
        object_of[int(image), best[i], min(int(y * H), H - 1), min(int(x * W), W - 1)] = i
        background[int(image)] &= paired_iou(boxes[int(image)], corners[i]) <= IGNORE_IOU
    slots, objects = torch.tensor([*object_of], dtype=torch.long).view(-1, 4), [*object_of.values()]
    background[tuple(slots.T)] = False
    ious = paired_iou(boxes[tuple(slots.T)], corners[objects]).to(head.device)               # (R,)
    image, anchor, cell_row, cell_col = slots.T.to(head.device)     # (R,) each
    learned, grid = targets[objects].to(head.device), grid.to(head.device)                   # (R, 6)

    t = head[image, anchor, cell_row, cell_col]                     # (R, 5 + C)
    p_wh = head.new_tensor(anchors)[anchor]                         # (R, 2)
    offset = learned[:, 2:4] * grid - torch.stack([cell_col, cell_row], 1)                   # (R, 2)  from the corner
    if row >= 6:                                                    # 0 to 1
        xy_error = t[:, :2].sigmoid() - offset                      # (R, 2)
    else:                                                           # from the cell's middle, in anchors
        xy_error = t[:, :2] - (offset - 0.5) / p_wh                 # (R, 2)
    wh_error = t[:, 2:4] - (learned[:, 4:] * grid / p_wh).log()     # (R, 2)
    loss = {"xy": 0.5 * xy_error.square().sum() / B,
            "wh": 0.5 * wh_error.square().sum() / B,
            "object": 0.5 * LAMBDA_OBJECT * (t[:, 4].sigmoid() - ious).square().sum() / B,
            "no_object": 0.5 * head[..., 4][background.to(head.device)].sigmoid().square().sum() / B,
            "class": F.cross_entropy(t[:, 5:], learned[:, 1].long(), reduction="sum") / B}
    return {**loss, "total": sum(loss.values())}


def anchors_of(row, annotations):
    """The anchors of a row, a list of (width, height) in cells of the 13 x 13; in rows 1 to 3 none."""
    if row < 4:
        return []
    if row < 6:
        return HAND_PICKED
    sizes = [(a.boxes[:, 2:] - a.boxes[:, :2])[~a.difficult] / [a.width, a.height] for a in annotations]
    clusters = best_clusters(np.concatenate(sizes).astype(np.float32), CLUSTERS)             # (k, 2)  fractions
    return (clusters * CONVOLUTIONAL_SIZE / STRIDE).tolist()        # dimension priors


def decode(row, head, anchors):
    """-> boxes (B, L, 4) corners as fractions of the input, scores (B, L, C), for every row"""
    boxes, scores = decode_anchors(row, head, anchors) if row >= 4 else decode_grid(head)
    return boxes.flatten(1, 3), scores.flatten(1, 3)


def detection_loss(row, head, targets, anchors):
    """-> the dict of TERMS, for every row"""
    return anchor_loss(row, head, targets, anchors) if row >= 4 else grid_loss(head, targets)


# ---- The trainings

def learning_rate(step, steps, peak):
    """The learning rate of a step, counted from 1."""
    return peak * min(step / BURN_IN, 1) * (1 + math.cos(math.pi * step / steps)) / 2


def input_size(row, step, seed):
    """The input size of a step of the detector's training."""
    if row < 4:
        return FULLY_CONNECTED_SIZE
    if row >= 8:                                                    # drawn every 10 steps [paper]
        return random.Random(f"{seed} {(step - 1) // 10}").choice(MULTI_SCALE_SIZES)
    return CONVOLUTIONAL_SIZE


def evaluation_size(row):
    """The input size of the evaluation."""
    if row < 4:
        return FULLY_CONNECTED_SIZE
    return HIGH_SIZE if row >= 9 else CONVOLUTIONAL_SIZE


def make_optimizer(network, peak):
    """Weights of convolutions and of fully connected layers decay; biases and BatchNorm's parameters do not."""
    groups = [{"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
              {"params": [p for p in network.parameters() if p.ndim == 1], "weight_decay": 0}]
    return torch.optim.Adam(groups, lr=peak, betas=ADAM_BETAS, fused=True)


def classifier_run(row, size, seed):
    """The folder of a backbone's training in runs/. Rows with the same backbone share it."""
    kind = "plain" if row < 2 else "batchnorm" if row < 5 else "new"
    return RUNS / f"table2_{kind}_{size}_seed{seed}"


def pretrain(row, size, seed, device):
    """
    Trains the classifier of a row at LOW_SIZE, or fine-tunes it at TUNED_SIZE, unless this was done before.
    Returns its state_dict. Raises InputError if the loss is not finite.
    """
    folder = classifier_run(row, size, seed)
    classes = sorted(KINDS)
    torch.manual_seed(seed)
    network = Classifier(row, len(classes))
    if (folder / "network.pt").exists():
        load_weights(network, load_checkpoint(folder / "network.pt", "Classifier")["model"], folder / "network.pt")
        return network.state_dict()
    if size == TUNED_SIZE:
        steps, batch_size = TUNED_STEPS, TUNED_BATCH
        network.load_state_dict(pretrain(row, LOW_SIZE, seed, device))
    else:
        steps, batch_size = LOW_STEPS, LOW_BATCH
    network = network.to(device, memory_format=torch.channels_last)
    open_run(folder)

    tree = flat_tree(classes)                                       # without branches: a label is an index of classes
    train, val = read_labelled(LABELLED, tree), read_labelled(LABELLED_VAL, tree)
    optimizer = make_optimizer(network, CLASSIFIER_RATE)
    batches = shuffled_batches(len(train), batch_size, range(1, steps + 1), seed)
    keys = ([(index, size, image_seed) for index, image_seed in batch] for _, batch in batches)
    loader = load_batches(JointDataset([], train, size), keys, collate, NUM_WORKERS, device)
    start_log(folder / "log.csv", ["step", "learning rate", "loss"], 0)
    network.train()
    bar = tqdm(range(1, steps + 1), desc=folder.name)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, CLASSIFIER_RATE)
        images, targets = next(loader)                              # (B, 3, size, size), (B, 6)
        images = images.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            logits = network(images)                                # (B, C)
        loss = F.cross_entropy(logits.float(), targets[:, 1].long().to(device))
        if not loss.isfinite():
            raise InputError(f"{folder}: the classifier's loss of step {step} is not finite. Lower CLASSIFIER_RATE in "
                             "yolov2/table2/train.py")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        bar.set_postfix(loss=f"{loss.item():.4g}")
        append_row(folder / "log.csv", ["step", "learning rate", "loss"],
                   {"step": step, "learning rate": learning_rate(step, steps, CLASSIFIER_RATE),
                    "loss": loss.item()})

    network.eval()
    correct = 0
    with torch.inference_mode():
        for images, targets in torch.utils.data.DataLoader(JointDataset([], val, size, augment=False), 40,
                                                           collate_fn=collate):
            correct += count_correct(network(images.to(device)).cpu(), targets[:, 1].long())[0]
    print(f"{folder.name}: top-1 accuracy {correct / len(val):.3f} on {len(val)} other images")
    save_checkpoint(folder / "network.pt", {"network": "Classifier", "classes": classes, "size": size, "step": steps,
                                            "model": network.state_dict()})
    return {name: value.cpu() for name, value in network.state_dict().items()}


def train_detector(row, seed, train, anchors, device):
    """Trains the detector of a row, from 1 to 8. Returns it, the number of steps done, and the minutes."""
    weights = pretrain(row, TUNED_SIZE if row >= 3 else LOW_SIZE, seed, device)
    folder = open_run(RUNS / f"table2_row{row}_seed{seed}")
    torch.manual_seed(seed)
    network = Detector(row, len(CLASSES), len(anchors))
    network.backbone.load_state_dict({name.removeprefix("backbone."): value for name, value in weights.items()
                                      if name.startswith("backbone.")})
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network, LEARNING_RATE)

    dataset = DetectionDataset(train, CONVOLUTIONAL_SIZE, augment=True, stretched=True)      # random crops, as in 2016
    dataset.jitter = JITTER
    batches = shuffled_batches(len(train), BATCH_SIZE, range(1, STEPS + 1), seed)            # the same for all rows
    keys = ([(index, input_size(row, step, seed), image_seed) for index, image_seed in batch]
            for step, batch in batches)
    loader = load_batches(dataset, keys, collate, NUM_WORKERS, device)
    columns = ["step", "learning rate", "size", *TERMS]
    start_log(folder / "log.csv", columns, 0)
    start, done = time.time(), 0
    network.train()
    bar = tqdm(range(1, STEPS + 1), desc=folder.name)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, STEPS, LEARNING_RATE)
        images, targets = next(loader)                              # (B, 3, H, W), (N, 6)
        images = images.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            head = network(images)
        loss = detection_loss(row, head, targets, anchors)
        if not loss["total"].isfinite():
            bar.write(f"row {row}, seed {seed}: the loss of step {step} is not finite")
            break
        loss["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
        done = step
        terms = {term: value.item() for term, value in loss.items()}
        bar.set_postfix({term: f"{value:.3g}" for term, value in terms.items()})
        append_row(folder / "log.csv", columns,
                   {"step": step, "learning rate": learning_rate(step, STEPS, LEARNING_RATE),
                    "size": images.shape[-1], **terms})
    minutes = (time.time() - start) / 60
    save_checkpoint(folder / "network.pt", {"network": "Detector", "classes": CLASSES, "size": evaluation_size(row),
                                            "step": done, "model": network.state_dict()})
    return network, done, minutes


# ---- The evaluation

@torch.inference_mode()
def detect_all(row, network, annotations, anchors, device):
    """
    returns  detections (D, 7)  image, label, score, left, top, right, bottom in pixels of the image
             milliseconds       of the network alone, for one image in a batch of BATCH_SIZE
    """
    dataset = DetectionDataset(annotations, evaluation_size(row), stretched=True)
    detections, seconds = [], 0
    network.eval()
    for images, _ in torch.utils.data.DataLoader(dataset, BATCH_SIZE, collate_fn=collate):
        images = images.to(device, memory_format=torch.channels_last)
        start = time.time()
        head = network(images).cpu()
        seconds += time.time() - start
        for n, (boxes, scores) in enumerate(zip(*decode(row, head, anchors)), len(detections)):
            kept = nms_per_class(boxes, scores, SCORE_THRESHOLD, NMS_THRESHOLD).double().numpy()     # (D, 6)
            sides = [annotations[n].width, annotations[n].height] * 2
            kept[:, 2:] = (kept[:, 2:] * sides).clip(0, sides)
            detections.append(np.insert(kept, 0, n, axis=1))        # (D, 7)
    return np.concatenate([np.zeros((0, 7)), *detections]), 1000 * seconds / len(annotations)


def recall_of(detections, truths):
    """
    The paper's recall, as we read it: the fraction of the objects that any detection in their image, whatever its class
    and its score, overlaps by an IOU of .5 or more. The detections are those of detect_all, so their scores are above
    SCORE_THRESHOLD. One detection may find several objects. Objects marked as difficult do not count.
    """
    detections, truths = torch.as_tensor(detections), torch.as_tensor(truths)
    found = []
    for truth in truths[truths[:, 6] == 0]:
        boxes = detections[detections[:, 0] == truth[0], 3:]        # (D, 4)
        found.append((paired_iou(boxes, truth[2:6]) >= 0.5).any().item())
    return sum(found) / max(len(found), 1)


def results_file(seed):
    return FOLDER / f"results_seed{seed}.csv"


def read_results(seed):
    """-> {row: {column: number}} of a seed. Raises InputError, naming the file, if it cannot be read."""
    results = {}
    if results_file(seed).exists():
        for line in csv.DictReader(read_lines(results_file(seed))):
            try:
                results[int(line["row"])] = {name: float(line[name]) for name in RESULTS}
            except (KeyError, TypeError, ValueError):
                raise InputError(f"{results_file(seed)}: not a line with the columns {', '.join(RESULTS)}: "
                                 f"{','.join(str(value) for value in line.values())}") from None
    return results


def write_result(result):
    """Adds a row, {column: number}, to the results of its seed, in the order of the rows. The write is atomic."""
    path = results_file(result["seed"])
    rows = [*csv.DictReader(read_lines(path)), result] if path.exists() else [result]
    with atomic_write(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, RESULTS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda line: int(line["row"])))


def draw_results():
    """Draws results.png: the paper's mAP of each row, and ours of all seeds with their range; our recall."""
    results = [read_results(int(path.stem.removeprefix("results_seed"))) for path in FOLDER.glob("results_seed*.csv")]
    figure = Figure(figsize=(9, 8), layout="constrained")
    paper, ours, recall = figure.subplots(3, 1, sharex=True)
    paper.plot(range(1, 10), PAPER, "o-", color="0.4")
    paper.set(title="the paper: VOC 2007 test", ylabel="mAP")
    for axes, measure in (ours, "mAP"), (recall, "recall"):
        for row in range(1, 10):
            values = [100 * result[row][measure] for result in results if row in result]
            if values:
                axes.plot([row] * len(values), values, "_-", color="tab:blue")
                axes.plot(row, np.mean(values), "o", color="tab:blue")
        axes.set(title=f"here: {measure} on the miniature VOC, mean and range; seeds: {len(results)}", ylabel=measure)
    recall.set_xticks(range(1, 10), [f"{row} {name}" for row, name in enumerate(NAMES, 1)], rotation=20, ha="right")
    for axes in (paper, ours, recall):
        axes.grid(alpha=0.3)
    with atomic_write(FOLDER / "results.png") as temporary:
        figure.savefig(temporary, dpi=90)


def numbers(name, text, most):
    """"4,5" -> [4, 5]. Raises InputError if a number is not a whole one from 1, or 0 for SEEDS, to `most`."""
    least = 1 if name == "ROWS" else 0
    values = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and word.isascii() and least <= int(word) <= most for word in values):
        raise InputError(f"yolov2/table2/train.py: {name} has to be whole numbers from {least} to {most}, separated "
                         f"by commas, not {text!r}")
    return sorted({int(word) for word in values})


def main():
    check_values("yolov2/table2/train.py", globals())
    rows, seeds = numbers("ROWS", ROWS, 9), numbers("SEEDS", SEEDS, 999)
    if PRESET != "mini":
        raise InputError(f'yolov2/table2/train.py: PRESET in yolov2/dataset.py is {PRESET!r}. The results are figures '
                         'of the miniature: set it to "mini"')
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, test = read_train_and_test(TRAIN, TEST, CLASSES, SKIP_UNUSABLE)
    for seed in seeds:
        for row in rows:
            if row in read_results(seed):
                print(f"row {row}, seed {seed}: already in {results_file(seed).name}")
                continue
            anchors = anchors_of(row, train)
            if row < 9:
                network, steps, minutes = train_detector(row, seed, train, anchors, device)
            else:
                path = RUNS / f"table2_row8_seed{seed}" / "network.pt"
                if not path.exists():
                    raise InputError(f"{path}: no such file. Row 9 evaluates the network of row 8: delete row 8 in "
                                     f"{results_file(seed).name}, if it stands there, and train it first: "
                                     f"ROWS=8,9 SEEDS={seed}")
                network, steps, minutes = Detector(row, len(CLASSES), len(anchors)), 0, 0
                load_weights(network, load_checkpoint(path, "Detector")["model"], path)
                network = network.to(device, memory_format=torch.channels_last)
            detections, milliseconds = detect_all(row, network, test, anchors, device)
            truths, size = truths_of(test), evaluation_size(row)
            operations = sum(line[-1] for line in count_operations(network, size, size))
            result = {"row": row, "seed": seed, "mAP": round(mean_ap(voc_ap(detections, truths, len(CLASSES))), 4),
                      "recall": round(recall_of(detections, truths), 4), "milliseconds": round(milliseconds, 1),
                      "operations": operations, "steps": steps, "minutes": round(minutes, 1)}
            write_result(result)
            draw_results()
            print("  ".join(f"{name} {value}" for name, value in result.items()))
    print(f"{FOLDER}: results_seed*.csv, results.png")


if __name__ == "__main__":
    run(main)
