"""
Measures a trained YOLO9000: average precision of classes that had boxes and of classes that never had one, and how deep
and how right its answers are.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 4, Table 7.
Source  Statements marked [darknet] come from src/region_layer.c and examples/detector.c of pjreddie/darknet at f6afaab.

There are two ways to turn the network's numbers into detections.

    evaluation   The score of node c is Pr(physical object) Pr(c). All that score more than .005 are kept, after NMS at
                 .45 for each class [darknet]. The paper's 19.7 mAP on ImageNet's 200 classes is measured so.
    detection    A box whose Pr(physical object) is above CONFIDENCE gets one answer, by a walk down the tree with the
                 threshold HIER_THRESH. Its score is Pr(physical object) alone [darknet]. NMS compares all boxes,
                 whatever their answers, so that a "dog" and a "beagle" do not both stay on one animal [darknet, the
                 release].

    python yolov2/yolo9000/evaluate.py     reads CHECKPOINT and the data of dataset.py; prints tables

What changed from yolov2/evaluate.py: classes are nodes of a tree; the table of answers.
"""
import math

import numpy as np
import torch
import torchvision
from tqdm import tqdm

from data_samples.draw_tree import KINDS, NEVER_BOXED, NEVER_BOXED_ANIMALS, NEVER_BOXED_THINGS, UNKNOWN_KINDS
from shared.boxes import paired_iou
from shared.constants import check_values
from shared.errors import run
from shared.layers import fuse_batchnorm
from shared.metrics import mean_ap, voc_ap
from shared.nms import nms_per_class
from shared.paths import RUNS
from shared.report import truths_of
from shared.voc import CLASSES as VOC_CLASSES
from yolov2.dataset import DetectionDataset, collate, undo_letterbox
from yolov2.yolo9000.dataset import EXPERIMENT, SCENES, TEST, read_boxes
from yolov2.yolo9000.model import decode
from yolov2.yolo9000.weights import load_detector
from yolov2.yolo9000.wordtree import darknet_walk, paper_walk, path_to_root

CHECKPOINT = RUNS / f"yolo9000_{EXPERIMENT}" / "last.pt"
SCORE_THRESHOLD = 0.005                   # [darknet]
NMS_THRESHOLD = 0.45                      # [darknet]
CONFIDENCE = 0.15                         # Darknet: .5. A class that never had a box learns objectness only up to .3
ANSWER_NMS = 0.4                          # [darknet, the release]
HIER_THRESHOLDS = [0.1, 0.25, 0.5, 0.75, 0.9]    # of the table of answers. Darknet: .5
BATCH_SIZE = 8
NUM_WORKERS = 2
MEASURES = ["AP50 boxed", "AP50 kinds", "AP50 animals", "AP50 things"]
GROUPS = {                                # names whose mean AP50 is a measure, and the data that it is measured on
    "AP50 boxed": (VOC_CLASSES, TEST),    # VOC's classes, on the miniature VOC
    "AP50 kinds": ([name for name in KINDS if name not in NEVER_BOXED and name not in VOC_CLASSES], SCENES),
    "AP50 animals": (NEVER_BOXED_ANIMALS, SCENES),
    "AP50 things": (NEVER_BOXED_THINGS, SCENES)}


def check_evaluation():
    """Raises InputError for invalid values of these constants."""
    check_values("yolov2/yolo9000/evaluate.py", globals())


@torch.inference_mode()
def predict(network, annotations, tree, size, anchors, device, workers):
    """Yields, for each image in its letterbox, what decode returns: boxes (L, 4), objectness (L,), p (L, n)."""
    dataset = DetectionDataset(annotations, size, stretched=False)
    loader = torch.utils.data.DataLoader(dataset, BATCH_SIZE, collate_fn=collate, num_workers=workers)
    network.eval()
    for images, _ in tqdm(loader, desc="detecting", leave=False):
        yield from zip(*decode(network(images.to(device)), tree, anchors))


def in_pixels(boxes, annotation, size):
    """(D, 4) fractions of the letterbox -> (D, 4) pixels of the image, float64"""
    boxes = undo_letterbox(boxes.double().cpu().numpy(), annotation.width, annotation.height, size, size)
    return boxes.clip(0, [annotation.width, annotation.height] * 2)


def detect_all(network, annotations, tree, size, anchors, device, workers):
    """-> detections for evaluation (D, 7): image, node, score, left, top, right, bottom in pixels of the image"""
    detections = [np.zeros((0, 7))]
    predictions = predict(network, annotations, tree, size, anchors, device, workers)
    for n, (annotation, (boxes, objectness, p)) in enumerate(zip(annotations, predictions)):
        rows = nms_per_class(boxes, objectness[:, None] * p, SCORE_THRESHOLD, NMS_THRESHOLD)             # (D, 6)
        corners = in_pixels(rows[:, 2:], annotation, size)
        labels_scores = rows[:, :2].double().cpu().numpy()
        detections.append(np.column_stack([np.full(len(rows), n), labels_scores, corners]))
    return np.concatenate(detections)


def measure(network, tree, size, anchors, device, workers):
    """-> {name of MEASURES: mean AP50}, {name of MEASURES: {class name: AP50}}"""
    each = {}
    for data in (TEST, SCENES):
        annotations = read_boxes(data, tree)
        detections = detect_all(network, annotations, tree, size, anchors, device, workers)
        ap = dict(zip(tree.names, voc_ap(detections, truths_of(annotations), len(tree.names)).tolist()))
        for name, (words, words_data) in GROUPS.items():
            if words_data == data:
                each[name] = {word: ap[word] for word in words}
    return {name: mean_ap(np.array([*each[name].values()])) for name in MEASURES}, each


def worst_first(ap):
    """{name: AP50} -> the names, the lowest AP50 first. Those without an object, whose AP50 is nan, come last."""
    measured = [name for name in ap if not math.isnan(ap[name])]
    return sorted(measured, key=ap.get) + [name for name in ap if math.isnan(ap[name])]


def find_answers(boxes, objectness, p, confidence):
    """
    The boxes that detection keeps, before the walk: objectness above `confidence`, NMS without regard to the classes.
    Returns boxes (D, 4), objectness (D,), p (D, n), the highest objectness first.
    """
    keep = (objectness > confidence).nonzero()[:, 0]
    keep = keep[torchvision.ops.nms(boxes[keep], objectness[keep], ANSWER_NMS)]
    return boxes[keep], objectness[keep], p[keep]


def judge(tree, answer, truth):
    """
    Compares two nodes: "exact", "above" (less precise: dog for a beagle), "below" (beagle for a dog whose kind
    is not in the tree) or "wrong".
    """
    if answer == truth:
        return "exact"
    if answer in path_to_root(tree, truth):
        return "above"
    return "below" if truth in path_to_root(tree, answer) else "wrong"


def answers_table(network, annotations, tree, size, anchors, device, workers):
    """
    Finds the objects that a kept box overlaps by an IOU of .5 or more. If several boxes do, the one that overlaps the
    object most counts. Returns a list of (the object's node, the box's p (n,)) and the number of all objects.
    """
    found, objects = [], 0
    predictions = predict(network, annotations, tree, size, anchors, device, workers)
    for annotation, prediction in zip(annotations, predictions):
        boxes, _, p = find_answers(*prediction, CONFIDENCE)
        corners = torch.from_numpy(in_pixels(boxes, annotation, size))
        objects += len(annotation.boxes)
        for node, box in zip(annotation.labels.tolist(), torch.from_numpy(annotation.boxes)):
            overlap = paired_iou(corners, box)                               # (D,)
            if len(overlap) and overlap.max() >= 0.5:
                found.append((node, p[overlap.argmax()].cpu()))
    return found, objects


def print_answers(found, tree, title):
    """How deep and how right the answers of both walks are, for each threshold."""
    print(f"\n{title}: {len(found)} objects with a box")
    if not found:
        return
    print(f"{'walk':<8} {'threshold':>9} {'depth':>6} {'exact':>7} {'above':>7} {'below':>7} {'wrong':>7}")
    for name, walk in ("paper", paper_walk), ("Darknet", darknet_walk):
        for threshold in HIER_THRESHOLDS:
            answers = [walk(p, tree, threshold) for _, p in found]
            verdicts = [judge(tree, answer, node) for answer, (node, _) in zip(answers, found)]
            depth = np.mean([len(path_to_root(tree, answer)) for answer in answers])
            shares = " ".join(f"{verdicts.count(verdict) / len(found):>7.3f}"
                              for verdict in ("exact", "above", "below", "wrong"))
            print(f"{name:<8} {threshold:>9} {depth:>6.2f} {shares}")


def main():
    check_evaluation()
    network, state = load_detector(CHECKPOINT)
    tree, anchors, size = state["tree"], state["anchors"], state["size"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = fuse_batchnorm(network).to(device, memory_format=torch.channels_last)

    print(f"{CHECKPOINT}, {state['network']}, step {state['step']}, input {size} x {size}")
    means, each = measure(network, tree, size, anchors, device, NUM_WORKERS)
    for name in MEASURES:
        print(f"\n{name} {means[name]:.4f}")
        for word in worst_first(each[name]):                                 # as in Table 7
            print(f"    {word:<16} {each[name][word]:.4f}")

    if len(tree.size) > 1:
        scenes = read_boxes(SCENES, tree)
        found, objects = answers_table(network, scenes, tree, size, anchors, device, NUM_WORKERS)
        leaves = [(node, p) for node, p in found if tree.child_group[node] == -1]
        unknown = [(node, p) for node, p in found if tree.names[node] in UNKNOWN_KINDS]
        print(f"\n{len(found)} of the {objects} objects of the scenes have a box with objectness above {CONFIDENCE}")
        print_answers(leaves, tree, "objects of a kind in the tree")
        print_answers(unknown, tree, "dogs, cats, birds and horses of kinds that are not in the tree")


if __name__ == "__main__":
    run(main)
