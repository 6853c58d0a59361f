"""
Shows where YOLOv3 looks: a saliency map for each of its three scales, beside the detections.

Paper   "Eigen-CAM: Class Activation Map using Principal Components", Muhammad and Yeasin, 2020 (arXiv:2008.00299),
        section III. It is not part of YOLOv3.

    python yolov3/eigencam.py     reads runs/yolov3/last.pt and SOURCE; writes to OUT one picture for each image: its
                                  detections, then the maps of stride 32, 16 and 8

Other saliency maps follow the gradient of one output, a class score, back to a layer. A detector has thousands of
outputs, of which NMS leaves a list of boxes, without a gradient. Eigen-CAM needs none. With O the activations of a
layer, a row for each cell and a column for each channel, less the mean of each column,

    O = U S V^T      the singular value decomposition
    L = O v_1        v_1, the first column of V: the direction in channel space in which the cells differ most

and L, a number for each cell, is the map. The paper does not subtract the mean (CENTRE = False); v_1 then is little
more than the mean itself, and bright wherever there is anything. The layer is the last before the convolution that
predicts: at each scale the first convolution of the detection layer.

The sign. v_1 and -v_1 are equally good singular vectors, and which of them comes back is chance: half of the maps would
show the background. Objects cover fewer cells than the background, so they lie further from the mean: the largest of
|L| is made positive. What is then negative is 0.

What changed from yolov2: it had none; YOLOv2's one scale would give one map.
"""
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from shared.checkpoint import load_checkpoint, load_weights
from shared.draw import draw_boxes, write_sheet
from shared.errors import InputError
from shared.images import list_images, read_image
from shared.nms import nms_per_class
from shared.paths import RUNS, SAMPLES
from yolov3.dataset import letterbox, letterbox_geometry, undo_letterbox
from yolov3.model import YOLOv3, decode

CHECKPOINT = RUNS / "yolov3" / "last.pt"
SOURCE = SAMPLES / "voc" / "VOCdevkit" / "VOC2007" / "JPEGImages"  # an image, or a folder of images
OUT = CHECKPOINT.parent / "eigencam"
SCORE_THRESHOLD = 0.5
NMS_THRESHOLD = 0.45
CENTRE = True   # ours; the paper False


def first_component(activations):
    """activations (C, H, W) -> (H, W) 0..1: how far each cell lies along the first principal component"""
    C, H, W = activations.shape
    O = activations.float().reshape(C, H * W).T                              # (H W, C)
    if CENTRE:
        O = O - O.mean(0)
    v_1 = torch.linalg.svd(O, full_matrices=False).Vh[0]                     # (C,)
    L = O @ v_1                                                              # (H W,)
    L = (L * L[L.abs().argmax()].sign()).clamp(min=0)
    return (L / L.max().clamp(min=1e-12)).view(H, W)


def over_image(saliency, image, size):
    """saliency (H, W) 0..1 of the size x size letterbox's cells, image (h, w, 3) uint8 -> (h, w, 3) uint8, red at 1"""
    h, w = image.shape[:2]
    new_w, new_h, left, top = letterbox_geometry(w, h, size, size)
    pixels = F.interpolate(saliency[None, None], (size, size), mode="bilinear")[0, 0].cpu().numpy()
    pixels = cv2.resize(pixels[top:top + new_h, left:left + new_w], (w, h))  # (h, w)
    colours = cv2.applyColorMap((pixels * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return (0.5 * image + 0.5 * colours).astype(np.uint8)


@torch.inference_mode()
def main():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state = load_checkpoint(CHECKPOINT, "YOLOv3")
    classes, anchors, size = state["classes"], state["anchors"], state["size"]
    network = YOLOv3(len(classes), anchors)
    load_weights(network, state["model"], CHECKPOINT)
    network = network.fuse().to(device)
    seen = {}                                                                # stride: activations (1, C, H, W)
    for stride, layer in [(32, network.detect32[0]), (16, network.detect16[0]), (8, network.detect8[0])]:
        layer.register_forward_hook(lambda layer, inputs, output, stride=stride: seen.update({stride: output}))

    for path in tqdm(list_images(Path(SOURCE)), desc="looking"):
        try:
            image = read_image(path)                                         # (h, w, 3)
        except InputError as error:
            tqdm.write(str(error))                                           # the others are not lost with it
            continue
        heads = network(letterbox(image, size, size)[None].to(device))
        boxes, scores = decode(heads, anchors)                               # (1, L, 4), (1, L, C)
        rows = nms_per_class(boxes[0], scores[0], SCORE_THRESHOLD, NMS_THRESHOLD).double().cpu().numpy()     # (D, 6)
        h, w = image.shape[:2]
        rows[:, 2:] = undo_letterbox(rows[:, 2:], w, h, size, size).clip(0, [w, h, w, h])
        maps = [over_image(first_component(seen[stride][0]), image, size) for stride in (32, 16, 8)]
        write_sheet(Path(OUT) / path.name, [draw_boxes(image, rows, classes), *maps], columns=4)
    print(f"pictures in {OUT}: the detections, then where stride 32, 16 and 8 look")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
