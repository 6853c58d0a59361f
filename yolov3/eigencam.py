"""
Shows where YOLOv3 looks: a saliency map for each of its three scales, beside the detections.

Paper   "Eigen-CAM: Class Activation Map using Principal Components", Muhammad and Yeasin, 2020 (arXiv:2008.00299),
        section III. It is not part of YOLOv3.

    python yolov3/eigencam.py     reads CHECKPOINT and SOURCE; writes to OUT one picture for each image: its
                                  detections, then the maps of stride 32, 16 and 8

Other methods follow the gradient of one output, a class score, back to a layer. A detector has thousands of outputs,
and NMS, which selects among them, has no gradient. Eigen-CAM does not need a gradient. O is a matrix with the
activations of a layer: one row for each cell, one column for each channel. The mean of each column is subtracted.

    O = U S V^T      the singular value decomposition
    L = O v_1        v_1, the first column of V, is the direction in channel space in which the cells differ most

L has one number for each cell. It is the map. The layer is the last one before the convolution that predicts, which is
the first convolution of the detection layer of each scale.

The paper does not subtract the mean (CENTRE = False). v_1 is then close to the direction of the mean itself, and the
map is bright wherever the activations are large.

The sign of v_1 is arbitrary: -v_1 is an equally good singular vector, and would show the background. Objects cover
fewer cells than the background and are therefore further from the mean. We choose the sign that makes the L of the
largest magnitude positive, and set negative values to 0.

What changed from yolov2: there is no such file, because YOLOv2 has one scale, which would give one map.
"""
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from shared.checkpoint import load_checkpoint, load_weights
from shared.draw import draw_boxes, write_sheet
from shared.errors import InputError, run
from shared.images import list_images, read_image
from shared.layers import fuse_batchnorm
from shared.nms import nms_per_class
from shared.paths import RUNS, SAMPLES
from yolov3.dataset import PRESET, letterbox, letterbox_geometry, undo_letterbox
from yolov3.model import YOLOv3, decode

CHECKPOINT = RUNS / f"yolov3_{PRESET}" / "last.pt"
SOURCE = SAMPLES / "voc" / "VOCdevkit" / "VOC2007" / "JPEGImages"  # an image, or a folder of images
OUT = CHECKPOINT.parent / "eigencam"
SCORE_THRESHOLD = 0.5
NMS_THRESHOLD = 0.45
CENTRE = True   # paper: False


def first_component(activations):
    """activations (C, H, W) -> (H, W) 0..1: the coordinate of each cell along the first principal component"""
    C, H, W = activations.shape
    O = activations.float().reshape(C, H * W).T                              # (H W, C)
    if CENTRE:
        O = O - O.mean(0)
    v_1 = torch.linalg.svd(O, full_matrices=False).Vh[0]                     # (C,)
    L = O @ v_1                                                              # (H W,)
    L = (L * L[L.abs().argmax()].sign()).clamp(min=0)
    return (L / L.max().clamp(min=1e-12)).view(H, W)


def over_image(saliency, image, size):
    """
    saliency  (H, W) 0..1, one number for each cell of the size x size letterbox
    image     (h, w, 3) uint8
    returns   (h, w, 3) uint8: the image, coloured from blue (0) to red (1)
    """
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
    network = fuse_batchnorm(network).to(device)
    activations = {}                                                         # stride: (1, C, H, W)
    for stride, layer in [(32, network.detect32[0]), (16, network.detect16[0]), (8, network.detect8[0])]:
        layer.register_forward_hook(lambda layer, inputs, output, stride=stride: activations.update({stride: output}))

    for path in tqdm(list_images(Path(SOURCE)), desc="detecting"):
        try:
            image = read_image(path)                                         # (h, w, 3)
        except InputError as error:
            tqdm.write(str(error))                                           # and go on with the other images
            continue
        heads = network(letterbox(image, size, size)[None].to(device))
        boxes, scores = decode(heads, anchors)                               # (1, L, 4), (1, L, C)
        rows = nms_per_class(boxes[0], scores[0], SCORE_THRESHOLD, NMS_THRESHOLD).double().cpu().numpy()     # (D, 6)
        h, w = image.shape[:2]
        rows[:, 2:] = undo_letterbox(rows[:, 2:], w, h, size, size).clip(0, [w, h, w, h])
        maps = [over_image(first_component(activations[stride][0]), image, size) for stride in (32, 16, 8)]
        write_sheet(Path(OUT) / path.name, [draw_boxes(image, rows, classes), *maps], columns=4)
    print(f"pictures in {OUT}: the detections, then the maps of stride 32, 16 and 8")


if __name__ == "__main__":
    run(main)
