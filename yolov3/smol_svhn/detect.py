"""
Reads house numbers: finds the digits of an image, or of every image of a folder, and writes them from left to right.

    python yolov3/smol_svhn/detect.py     reads runs/smol_svhn/last.pt and SOURCE; writes the pictures with their boxes
                                          and numbers.txt to OUT, and prints the numbers

The classes are independent, so the network may find two digits in one place. Only the one with the higher score is
kept. Digits that are above each other are also read from left to right.

What changed from yolov3/detect.py: there is no letterbox; a second NMS across the classes; the numbers; the pictures
are enlarged.
"""
from pathlib import Path

import torch
from tqdm import tqdm

from shared.checkpoint import load_checkpoint, load_weights
from shared.draw import draw_boxes, write_picture
from shared.errors import InputError, run
from shared.images import list_images, read_image
from shared.nms import greedy_nms, nms_per_class
from shared.paths import RUNS, SAMPLES, atomic_write
from yolov3.model import decode
from yolov3.smol_svhn.dataset import stretch, to_tensor
from yolov3.smol_svhn.model import SmolYOLOv3

CHECKPOINT = RUNS / "smol_svhn" / "last.pt"  # or best.pt, which has the highest AP50 on TEST
SOURCE = SAMPLES / "svhn" / "test"           # an image, or a folder of images
OUT = Path(CHECKPOINT).parent / "detect"
SCORE_THRESHOLD = 0.5
NMS_THRESHOLD = 0.45                         # [darknet]
PICTURE = 320                                # pixels; smaller pictures are enlarged by a whole number, up to this


@torch.inference_mode()
def main():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state = load_checkpoint(CHECKPOINT, "SmolYOLOv3")
    classes, size = state["classes"], state["size"]
    network = SmolYOLOv3(state["config"])
    load_weights(network, state["model"], CHECKPOINT)
    network = network.eval().to(device)

    lines = []
    for path in tqdm(list_images(Path(SOURCE)), desc="detecting"):
        try:
            image = read_image(path)                                         # (h, w, 3)
        except InputError as error:
            tqdm.write(str(error))                                           # and go on with the other images
            continue
        heads = network(to_tensor(stretch(image, size))[None].to(device))
        boxes, scores = decode(heads, network.anchors, network.strides)      # (1, L, 4), (1, L, C)
        rows = nms_per_class(boxes[0], scores[0], SCORE_THRESHOLD, NMS_THRESHOLD)            # (D, 6)
        rows = rows[greedy_nms(rows[:, 2:], rows[:, 1], NMS_THRESHOLD)]      # one digit in one place
        rows = rows[(rows[:, 2] + rows[:, 4]).argsort()].double().cpu().numpy()              # left to right

        h, w = image.shape[:2]
        enlarge = max(1, PICTURE // max(h, w))
        rows[:, 2:] = rows[:, 2:].clip(0, 1) * ([w * enlarge, h * enlarge] * 2)
        write_picture(Path(OUT) / path.name, draw_boxes(image.repeat(enlarge, 0).repeat(enlarge, 1), rows, classes))
        lines.append(f"{path.name}\t" + "".join(classes[int(label)] for label in rows[:, 0]))

    if not lines:
        raise InputError(f"{SOURCE}: holds no image that can be read")
    text = "\n".join(lines) + "\n"
    with atomic_write(Path(OUT) / "numbers.txt") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{text}{len(lines)} images at {size} x {size}: pictures and numbers.txt in {OUT}")


if __name__ == "__main__":
    run(main)
