"""
Finds anchors for other data: k-means over the widths and heights of the training boxes, as fractions of the image.

Paper   "YOLO9000: Better, Faster, Stronger", section 2, "Dimension Clusters": the distance between a box and a cluster
        is 1 - IOU, with one centre for both. yolov2/anchors.py explains it and compares it with the paper's numbers.

    python yolov3/smol_svhn/anchors.py     reads the TRAIN of yolov3/smol_svhn/dataset.py, and from smol.json how many
                                           anchors there are; prints the average IOU and the anchors to be copied into
                                           smol.json

What changed from yolov2/anchors.py: sizes are fractions of the image, because the image fills the whole input.
"""
import numpy as np
import torch

from shared.boxes import shape_iou
from shared.errors import InputError, run
from yolov3.smol_svhn.dataset import TRAIN, read_split
from yolov3.smol_svhn.model import CONFIG, read_config

ROUNDS = 30
SEED = 0


def box_sizes(annotations):
    """-> (N, 2) width and height of every digit, as fractions of its image"""
    sizes = [(a.boxes[:, 2:] - a.boxes[:, :2]) / [a.width, a.height] for a in annotations]
    return torch.from_numpy(np.concatenate([np.zeros((0, 2)), *sizes])).float()


def k_means(sizes, k):
    """sizes (N, 2) -> (k, 2) the median of the boxes nearest to each cluster, the largest area first"""
    torch.manual_seed(SEED)
    different = sizes.unique(dim=0)
    if len(different) < k:
        raise InputError(f"{k} anchors need {k} boxes of different sizes; TRAIN has {len(different)}")
    clusters = different[torch.randperm(len(different))[:k]]                 # (k, 2)
    for _ in range(ROUNDS):
        nearest = (1 - shape_iou(sizes, clusters)).argmin(1)                 # (N,)
        for j in nearest.unique():                                           # a cluster without boxes stays where it is
            clusters[j] = sizes[nearest == j].median(0).values
    return clusters[clusters.prod(1).argsort(descending=True)]


def main():
    config = read_config(CONFIG)
    sizes = box_sizes([annotation for folder in TRAIN for annotation in read_split(folder)])
    clusters = k_means(sizes, config["num_anchors_per_scale"] * config["num_detection_layers"])
    for name, anchors in [("k-means", clusters), (CONFIG.name, torch.tensor(config["anchors"]))]:
        print(f"average IOU of {len(sizes)} boxes with the anchors of {name}: "
              f"{shape_iou(sizes, anchors).amax(1).mean().item():.1%}")
    print('"anchors": [' + ", ".join(f"[{w:.4f}, {h:.4f}]" for w, h in clusters.tolist()) + "]")


if __name__ == "__main__":
    run(main)
