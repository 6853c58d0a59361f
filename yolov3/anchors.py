"""
Anchors from the data: k-means over the widths and heights of the training boxes.

Paper   "YOLOv3: An Incremental Improvement", section 2.3: "We still use k-means clustering to determine our bounding
        box priors. We just sort of chose 9 clusters and 3 scales arbitrarily and then divide up the clusters evenly
        across scales." The method is that of YOLOv2: yolov2/anchors.py explains it.

The quality of the anchors is their average IOU: the mean, over all boxes, of the IOU with the anchor that overlaps the
box most, both with the same centre. The published anchors were found on COCO. Others help where they raise this number
clearly: where all objects are small, or all have the same shape, or the input is much smaller than 416 x 416. They are
no certain gain. Objects then spread over more anchors, each of which has classes of its own to learn, and a short
training suffers: on the miniature VOC YOLOv3Tiny reached an AP50 of .34 after 600 steps with its own six anchors, and
.47 with the published ones.

    python yolov3/anchors.py     reads the TRAIN and CLASSES of yolov3/dataset.py and the TEST_SIZE of yolov3/train.py;
                                 prints nine anchors for YOLOv3 and six for YOLOv3Tiny, and the average IOU that they
                                 and the published ones reach. The k-means of 40,000 boxes takes about a second

Paste them into yolov3/train.py, as the constant ANCHORS. A checkpoint keeps the anchors that it was trained with.

Anchors are pixels of the network's input, so the boxes are measured in their letterbox of TEST_SIZE. The largest three
belong to stride 32. Difficult objects are left out, as in training.

What changed from yolov2/anchors.py: pixels instead of cells; nine anchors on three scales instead of five on one.
"""
import numpy as np

from shared.annotations import read_annotations
from shared.errors import InputError, run
from yolov3.dataset import CLASSES, SKIP_UNUSABLE, TRAIN, letterbox_boxes
from yolov3.model import ANCHORS
from yolov3.tiny.model import ANCHORS as TINY_ANCHORS
from yolov3.train import TEST_SIZE

PER_SCALE = 3      # anchors on each scale [paper]
RESTARTS = 3       # runs of k-means, of which the best is taken
TOLERANCE = 0.01   # k-means has converged when at most this share of the boxes changes its cluster
MAX_ROUNDS = 100   # of k-means
SEED = 0


def box_sizes(annotations):
    """-> (N, 2) float32: width and height of every object that is not difficult, in pixels of the letterbox"""
    sizes = [np.zeros((0, 2))]
    for a in annotations:
        boxes = letterbox_boxes(a.boxes[~a.difficult], a.width, a.height, TEST_SIZE, TEST_SIZE)   # (n, 4)  fractions
        sizes.append((boxes[:, 2:] - boxes[:, :2]) * TEST_SIZE)
    return np.concatenate(sizes).astype(np.float32)                          # twice as fast as float64


def overlaps(sizes, clusters):
    """sizes (N, 2), clusters (k, 2) -> (k, N) the IOU of each cluster with each box, both with the same centre"""
    (w, h), (p_w, p_h) = sizes.T, clusters.T[:, :, None]                     # (N,), (k, 1)
    intersection = np.minimum(w, p_w) * np.minimum(h, p_h)                   # (k, N)
    return intersection / (w * h + p_w * p_h - intersection)


def average_iou(sizes, clusters):
    """The mean, over all boxes, of the IOU with the cluster that overlaps the box most."""
    return float(overlaps(sizes, clusters).max(0).mean())


def first_clusters(sizes, k, rng):
    """-> (k, 2) boxes from sizes. The farther a box is from those already drawn, the more probably it is drawn next."""
    clusters = sizes[[rng.integers(len(sizes))]]                             # (1, 2)  a copy
    for _ in range(k - 1):
        distance = 1 - overlaps(sizes, clusters).max(0)                      # (N,)
        cumulative = np.cumsum(distance)                                     # (N,)
        drawn = min(np.searchsorted(cumulative, rng.uniform(0, cumulative[-1]), side="right"), len(sizes) - 1)
        clusters = np.concatenate([clusters, sizes[[drawn]]])
    return clusters


def k_means(sizes, k, rng):
    """sizes (N, 2) -> (k, 2) clusters, the smallest first"""
    clusters, nearest = first_clusters(sizes, k, rng), np.full(len(sizes), -1)
    for _ in range(MAX_ROUNDS):
        before, nearest = nearest, overlaps(sizes, clusters).argmax(0)       # (N,)
        if (nearest != before).mean() <= TOLERANCE:
            break
        for j in np.unique(nearest):                                         # a cluster without boxes does not move
            clusters[j] = np.median(sizes[nearest == j], axis=0)
    return clusters[clusters.prod(1).argsort()]


def best_clusters(sizes, k):
    """-> (k, 2) the clusters with the highest average IOU among RESTARTS runs of k-means"""
    candidates = [k_means(sizes, k, np.random.default_rng((SEED, k, n))) for n in range(RESTARTS)]
    return max(candidates, key=lambda clusters: average_iou(sizes, clusters))


def main():
    annotations = read_annotations(TRAIN, CLASSES, SKIP_UNUSABLE)
    sizes = box_sizes(annotations)                                           # (N, 2)
    different, needed = len(np.unique(sizes, axis=0)), PER_SCALE * max(len(ANCHORS), len(TINY_ANCHORS))
    if different < needed:
        raise InputError(f"yolov3/anchors.py: {needed} clusters need {needed} boxes of different sizes; TRAIN has "
                         f"{different}")
    print(f"{len(sizes)} boxes of {len(annotations)} images in letterboxes of {TEST_SIZE} x {TEST_SIZE} pixels")
    for network, scales in ("YOLOv3", ANCHORS), ("YOLOv3Tiny", TINY_ANCHORS):
        clusters = best_clusters(sizes, PER_SCALE * len(scales))             # (k, 2) pixels, the smallest first
        print(f"\n{network}: average IOU {average_iou(sizes, clusters):.1%}, with the published anchors "
              f"{average_iou(sizes, np.array(scales).reshape(-1, 2)):.1%}")
        rows = clusters.reshape(len(scales), PER_SCALE, 2)[::-1]             # the largest on stride 32, the first row
        rows = [", ".join(f"({w:.4g}, {h:.4g})" for w, h in row) for row in rows]
        print("ANCHORS = [[" + "],\n           [".join(rows) + "]]")


if __name__ == "__main__":
    run(main)
