"""
Anchors from the data: k-means over the widths and heights of the training boxes.

Paper   "YOLO9000: Better, Faster, Stronger", section 2, "Dimension Clusters", Figure 2 and Table 1.

With Euclidean distance large boxes would make larger errors than small ones. So the paper defines the distance of a box
to a cluster as

    d(box, centroid) = 1 - IOU(box, centroid)

where both have the same centre. The quality of k clusters is their average IOU: the mean, over all boxes, of the IOU
with the cluster that overlaps the box most. The paper chooses k = 5, with an average IOU of 61.0 % on VOC. It reports
67.2 % for k = 9, 58.7 % for k = 5 with Euclidean distance, and 60.9 % for nine hand-picked anchors, those of Faster
R-CNN (Table 1).

The paper does not say what the centroid of a cluster is. Here it is the median of the widths and the median of the
heights in the cluster. The first centroids are boxes, drawn one after the other, each with a probability proportional
to its distance from the nearest centroid so far (as in k-means++). The result is the best of RESTARTS runs.

    python yolov2/anchors.py     reads the TRAIN and CLASSES of yolov2/dataset.py and the TEST_SIZE of yolov2/train.py;
                                 prints the average IOU for 1 to 15 clusters, the paper's Table 1 for these boxes,
                                 and five anchors to be pasted into train.py as the constant ANCHORS; writes
                                 runs/yolov2/anchors.png. 40,000 boxes take about 5 seconds

Sizes are fractions of the network's input, into which the letterbox has put the image (LETTERBOX). For a network whose
images are stretched (STRETCH in yolov2/dataset.py), set LETTERBOX = False. Difficult objects are left out, as in
training. Two published sets exist for VOC, in cells of a 13 x 13 input:

    2016         the ANCHORS_2016 of yolov2/model.py. The last is 16.62 / 13 = 1.28 inputs wide.
    March 2017   the ANCHORS of yolov2/model.py. The largest, 11.2364 x 10.0071, is .86 x .77 of the input.

What changed from yolov1: YOLOv1 has no anchors.
"""
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from shared.annotations import read_annotations
from shared.errors import InputError, run
from shared.paths import RUNS, atomic_write
from yolov2.dataset import CLASSES, SKIP_UNUSABLE, TRAIN, letterbox_boxes
from yolov2.model import ANCHORS, STRIDE
from yolov2.train import TEST_SIZE

CLUSTERS = 5       # [paper] "a good tradeoff between model complexity and high recall"
MAX_K = 15         # the largest number of clusters that is tried; [paper] Figure 2
LETTERBOX = True   # False: sizes as fractions of the image itself, for a comparison with Table 1
RESTARTS = 3       # runs of k-means for each number of clusters
TOLERANCE = 0.01   # k-means has converged when at most this share of the boxes changes its cluster
MAX_ROUNDS = 100   # of k-means
SEED = 0


def box_sizes(annotations):
    """-> (N, 2) float32: width and height of every object that is not difficult, as fractions"""
    sizes = [np.zeros((0, 2))]
    for a in annotations:
        boxes = a.boxes[~a.difficult]                                        # (n, 4)  corners in pixels
        w, h = a.width, a.height
        boxes = letterbox_boxes(boxes, w, h, TEST_SIZE, TEST_SIZE) if LETTERBOX else boxes / [w, h, w, h]
        sizes.append(boxes[:, 2:] - boxes[:, :2])
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


def euclidean_k_means(sizes, clusters):
    """sizes (N, 2), first clusters (k, 2) -> (k, 2): ordinary k-means, with the mean of each cluster as its centroid"""
    nearest = np.full(len(sizes), -1)
    for _ in range(MAX_ROUNDS):
        distance = np.square(sizes - clusters[:, None]).sum(2)               # (k, N)
        before, nearest = nearest, distance.argmin(0)                        # (N,)
        if (nearest == before).all():
            break
        clusters = np.array([sizes[nearest == j].mean(0) if (nearest == j).any() else clusters[j]
                             for j in range(len(clusters))])
    return clusters


def euclidean_clusters(sizes, k):
    """-> (k, 2) the clusters with the smallest sum of squared errors (SSE) among RESTARTS runs"""
    def sse(clusters):
        return np.square(sizes - clusters[:, None]).sum(2).min(0).sum()
    starts = [np.random.default_rng((SEED, k, n)).choice(sizes, k, replace=False) for n in range(RESTARTS)]
    return min([euclidean_k_means(sizes, start) for start in starts], key=sse)


def hand_picked():
    """
    -> (9, 2) the anchors of Faster R-CNN, as fractions. They have areas of 128^2, 256^2 and 512^2 pixels, and heights
    of 1/2, 1 and 2 widths, in an image whose shorter side is 600 pixels: of VOC's usual 500 x 375, that is 800 x 600.
    """
    sides, ratios = np.array([128, 256, 512])[:, None], np.array([0.5, 1, 2])
    w, h = sides / np.sqrt(ratios), sides * np.sqrt(ratios)                  # (3, 3) each, in pixels
    return np.stack([w / 800, h / (800 if LETTERBOX else 600)], 2).reshape(9, 2)


def write_figure(path, ious, clusters):
    """Figure 2: the average IOU over the number of clusters, and the chosen clusters as boxes with a common centre."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(range(1, len(ious) + 1), ious, "o-")
    left.axvline(len(clusters), color="0.7", linewidth=1)
    left.set(xlabel="clusters", ylabel="average IOU", xlim=(0, len(ious) + 1), ylim=(0, 1))
    left.grid(alpha=0.3)
    for w, h in clusters:
        right.add_patch(Rectangle((0.5 - w / 2, 0.5 - h / 2), w, h, fill=False, linewidth=2, edgecolor="tab:blue"))
    right.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[],
              title=f"{len(clusters)} clusters in the network's input")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)


def main():
    annotations = read_annotations(TRAIN, CLASSES, SKIP_UNUSABLE)
    sizes = box_sizes(annotations)                                           # (N, 2)
    different, needed = len(np.unique(sizes, axis=0)), max(MAX_K, CLUSTERS, 9)
    if different < needed:
        raise InputError(f"yolov2/anchors.py: {needed} clusters need {needed} boxes of different sizes; TRAIN has "
                         f"{different}")
    found = {k: best_clusters(sizes, k) for k in {*range(1, MAX_K + 1), 5, 9, CLUSTERS}}
    ious = [average_iou(sizes, found[k]) for k in range(1, MAX_K + 1)]
    five = found[CLUSTERS]                                                   # (k, 2)

    print(f"{len(sizes)} boxes of {len(annotations)} images, as fractions of the {'input' if LETTERBOX else 'image'}")
    print("clusters  average IOU")
    for k, iou in enumerate(ious, 1):
        print(f"{k:>8} {iou:>12.1%}")
    print("Table 1          number  average IOU  the paper's, on VOC 2007")
    for name, clusters, paper in [("Euclidean", euclidean_clusters(sizes, 5), "58.7%"), ("1 - IOU", found[5], "61.0%"),
                                  ("hand-picked", hand_picked(), "60.9%"), ("1 - IOU", found[9], "67.2%")]:
        print(f"{name:<16} {len(clusters):>6} {average_iou(sizes, clusters):>12.1%} {paper:>25}")
    print(f"the anchors of yolov2/model.py: {average_iou(sizes, np.array(ANCHORS) * STRIDE / TEST_SIZE):.1%}")

    cells = ", ".join(f"({w:.5g}, {h:.5g})" for w, h in five * TEST_SIZE / STRIDE)
    print(f"\nin cells, for an input of {TEST_SIZE} x {TEST_SIZE}:\nANCHORS = [{cells}]")
    path = RUNS / "yolov2" / "anchors.png"
    write_figure(path, ious, five)
    print(f"\n{path}")


if __name__ == "__main__":
    run(main)
