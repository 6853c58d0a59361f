"""
Detects objects in an image, or in every image of a folder.

Source  Darknet's detect ([darknet] examples/detector.c, test_detector): the letterbox, per-class NMS at .45, a score
        (objectness x class probability) of more than .5.

    python yolov3/detect.py     reads runs/yolov3/last.pt and SOURCE; writes the pictures with their boxes and
                                detections.txt to OUT, and prints the milliseconds that each stage takes

CHECKPOINT may also be a .weights file of the authors (yolov3/weights.py lists them). Classes, anchors and input size
are set automatically.

What changed from yolov2/detect.py: there are three heads.
"""
import time
from pathlib import Path

import torch
from tqdm import tqdm

from shared.draw import draw_boxes, write_picture
from shared.errors import InputError, run
from shared.images import list_images, read_image
from shared.layers import fuse_batchnorm
from shared.nms import nms_per_class
from shared.paths import RUNS, SAMPLES, atomic_write
from yolov3.dataset import letterbox, undo_letterbox
from yolov3.model import decode
from yolov3.weights import load_detector

CHECKPOINT = RUNS / "yolov3" / "last.pt"  # or best.pt (the highest AP50 on TEST), or RUNS / "yolov3.weights"
SOURCE = SAMPLES / "voc" / "VOCdevkit" / "VOC2007" / "JPEGImages"  # an image, or a folder of images
OUT = Path(CHECKPOINT).parent / "detect"
SCORE_THRESHOLD = 0.5                     # [darknet]
NMS_THRESHOLD = 0.45                      # [darknet]


@torch.inference_mode()
def main():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, state = load_detector(CHECKPOINT)
    classes, anchors, size = state["classes"], state["anchors"], state["size"]
    network = fuse_batchnorm(network).to(device, memory_format=torch.channels_last)

    def now():
        if device.type == "cuda":
            torch.cuda.synchronize()                                         # wait until the GPU has finished
        return time.perf_counter()

    lines, seconds = ["\t".join(["# file", "class", "score", "left", "top", "right", "bottom (pixels)"])], []
    for path in tqdm(list_images(Path(SOURCE)), desc="detecting"):
        try:
            image = read_image(path)                                         # (h, w, 3)
        except InputError as error:
            tqdm.write(str(error))                                           # and go on with the other images
            continue
        x = letterbox(image, size, size)[None].to(device, memory_format=torch.channels_last)

        start = now()
        heads = network(x)
        forward = now()
        boxes, scores = decode(heads, anchors)                               # (1, L, 4), (1, L, C)
        decoded = now()
        rows = nms_per_class(boxes[0], scores[0], SCORE_THRESHOLD, NMS_THRESHOLD)            # (D, 6)
        seconds.append([forward - start, decoded - forward, now() - decoded])

        rows, (h, w) = rows.double().cpu().numpy(), image.shape[:2]
        rows[:, 2:] = undo_letterbox(rows[:, 2:], w, h, size, size).clip(0, [w, h, w, h])
        write_picture(Path(OUT) / path.name, draw_boxes(image, rows, classes))
        lines += ["\t".join([path.name, classes[int(label)], f"{score:.4f}", *(f"{x:.1f}" for x in box)])
                  for label, score, *box in rows]

    if not seconds:
        raise InputError(f"{SOURCE}: holds no image that can be read")
    with atomic_write(Path(OUT) / "detections.txt") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    network_ms, decode_ms, nms_ms = (torch.tensor(seconds).median(0).values * 1000).tolist()
    print(f"{len(seconds)} images at {size} x {size} on {device.type}, median milliseconds: network {network_ms:.1f}, "
          f"decoding {decode_ms:.1f}, NMS {nms_ms:.1f}")
    print(f"{len(lines) - 1} detections: pictures and detections.txt in {OUT}")


if __name__ == "__main__":
    run(main)
