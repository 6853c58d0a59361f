"""
Detects objects with YOLO9000 in an image or in every image of a folder: one answer for each box, a node of the tree.

Paper   "YOLO9000: Better, Faster, Stronger", Redmon and Farhadi, 2016 (arXiv:1612.08242), section 4: "We traverse the
        tree down, taking the highest confidence path at every split until we reach some threshold and we predict that
        object class".
Source  Statements marked [darknet] come from examples/detector.c and src/region_layer.c of pjreddie/darknet at f6afaab.

    python yolov2/yolo9000/detect.py     reads CHECKPOINT and SOURCE; writes pictures with boxes and detections.txt,
                                         which has the whole path of each answer, to OUT

For the authors' network set CHECKPOINT = RUNS / "yolo9000.weights"; weights.py says which files it needs.

What changed from yolov2/detect.py: the answer is a walk down a tree, and its score is the objectness alone. Videos are
left out.
"""
from pathlib import Path

import torch
from tqdm import tqdm

from shared.constants import check_values
from shared.draw import draw_boxes, write_picture
from shared.errors import run
from shared.images import list_images, read_image
from shared.layers import fuse_batchnorm
from shared.paths import RUNS, atomic_write
from yolov2.dataset import letterbox, undo_letterbox
from yolov2.yolo9000.dataset import EXPERIMENT, SCENES
from yolov2.yolo9000.evaluate import find_answers
from yolov2.yolo9000.model import decode
from yolov2.yolo9000.weights import load_detector
from yolov2.yolo9000.wordtree import darknet_walk, paper_walk, path_to_root

CHECKPOINT = RUNS / f"yolo9000_{EXPERIMENT}" / "last.pt"    # or RUNS / "yolo9000.weights"
SOURCE = SCENES[0][0] / "JPEGImages"      # or an image
OUT = Path(CHECKPOINT).parent / "detect"
CONFIDENCE = 0.15                         # Darknet: .5. A class that never had a box learns objectness only up to .3
HIER_THRESH = 0.5                         # [darknet]
WALK = "paper"                            # or "darknet"


@torch.inference_mode()
def main():
    check_values("yolov2/yolo9000/detect.py", globals(), WALK=("paper", "darknet"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, state = load_detector(CHECKPOINT)
    tree, size = state["tree"], state["size"]
    network = fuse_batchnorm(network).to(device, memory_format=torch.channels_last)
    walk = paper_walk if WALK == "paper" else darknet_walk

    lines = ["\t".join(["# file", "objectness", "left", "top", "right", "bottom (pixels)", "Pr(answer)", "path"])]
    for path in tqdm(list_images(SOURCE), desc="detecting", unit=" images"):
        image = read_image(path)                                             # (h, w, 3)
        head = network(letterbox(image, size, size)[None].to(device, memory_format=torch.channels_last))
        boxes, objectness, p = (numbers[0] for numbers in decode(head, tree, state["anchors"]))
        boxes, objectness, p = find_answers(boxes, objectness, p, CONFIDENCE)            # (D, 4), (D,), (D, n)
        height, width = image.shape[:2]
        corners = undo_letterbox(boxes.double().cpu().numpy(), width, height, size, size).clip(0, [width, height] * 2)
        p = p.cpu()
        answers = [walk(row, tree, HIER_THRESH) for row in p]
        rows = [(answer, score, *box) for answer, score, box in zip(answers, objectness.tolist(), corners)]
        write_picture(Path(OUT) / f"{Path(path).stem}.jpg", draw_boxes(image, rows, tree.names))
        for (answer, score, *box), probabilities in zip(rows, p):
            steps = " > ".join(f"{tree.names[node]} {probabilities[node]:.2f}"
                               for node in path_to_root(tree, answer)[::-1])
            lines.append("\t".join([Path(path).name, f"{score:.4f}", *(f"{x:.1f}" for x in box),
                                    f"{probabilities[answer]:.4f}", steps]))
    with atomic_write(Path(OUT) / "detections.txt") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines) - 1} detections: pictures and detections.txt in {OUT}")


if __name__ == "__main__":
    run(main)
