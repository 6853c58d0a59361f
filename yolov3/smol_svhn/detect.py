"""
Reads house numbers: finds the digits of an image, of every image of a folder, of a video, or of what a camera sees, and
writes them from left to right.

    python yolov3/smol_svhn/detect.py     reads runs/smol_svhn/last.pt and SOURCE; writes the pictures, or the video,
                                          with boxes and numbers.txt to OUT; prints the numbers and the images per
                                          second. Ctrl-C ends it and keeps what is done

The classes are independent, so the network may find two digits in one place. Only the one with the higher score is
kept. Digits that are above each other are also read from left to right.

What changed from yolov3/detect.py: there is no letterbox; a second NMS across the classes; the numbers; the pictures
are enlarged.
"""
import time
from pathlib import Path

import torch
from tqdm import tqdm

from shared.checkpoint import load_checkpoint, load_weights
from shared.constants import check_values
from shared.draw import draw_boxes, write_picture
from shared.errors import InputError, run
from shared.nms import greedy_nms, nms_per_class
from shared.paths import RUNS, SAMPLES, atomic_write
from shared.video import add_frame, finish_video, open_source, video_path
from yolov3.model import decode
from yolov3.smol_svhn.dataset import stretch, to_tensor
from yolov3.smol_svhn.model import SmolYOLOv3, check_config

CHECKPOINT = RUNS / "smol_svhn" / "last.pt"  # or best.pt, which has the highest AP50 on TEST
SOURCE = SAMPLES / "svhn" / "test"           # or an image, a video, or 0, the first camera
OUT = Path(CHECKPOINT).parent / "detect"
SCORE_THRESHOLD = 0.5
NMS_THRESHOLD = 0.45                         # [darknet]
PICTURE = 320                                # pixels; smaller pictures are enlarged by a whole number, up to this


@torch.inference_mode()
def main():
    check_values("yolov3/smol_svhn/detect.py", globals())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state = load_checkpoint(CHECKPOINT, "SmolYOLOv3")
    classes, size = state["classes"], state["size"]
    check_config(state.get("config"), CHECKPOINT)
    network = SmolYOLOv3(state["config"])
    load_weights(network, state["model"], CHECKPOINT)
    network = network.eval().to(device)

    images, total, fps = open_source(SOURCE, OUT)                            # fps: None for photographs
    lines, video, began = [], None, time.perf_counter()
    try:
        for name, image in tqdm(images, desc="detecting", total=total, unit=" images"):      # (h, w, 3)
            heads = network(to_tensor(stretch(image, size))[None].to(device))
            boxes, scores = decode(heads, network.anchors, network.strides)  # (1, L, 4), (1, L, C)
            rows = nms_per_class(boxes[0], scores[0], SCORE_THRESHOLD, NMS_THRESHOLD)        # (D, 6)
            rows = rows[greedy_nms(rows[:, 2:], rows[:, 1], NMS_THRESHOLD)]  # one digit in one place
            rows = rows[(rows[:, 2] + rows[:, 4]).argsort()].double().cpu().numpy()          # left to right

            h, w = image.shape[:2]
            enlarge = max(1, PICTURE // max(h, w))
            rows[:, 2:] = rows[:, 2:].clip(0, 1) * ([w * enlarge, h * enlarge] * 2)
            picture = draw_boxes(image.repeat(enlarge, 0).repeat(enlarge, 1), rows, classes)
            if fps:
                video = add_frame(video, video_path(SOURCE, OUT), picture, fps)
            else:
                write_picture(Path(OUT) / name, picture)
            lines.append(f"{name}\t" + "".join(classes[int(label)] for label in rows[:, 0]))
    except KeyboardInterrupt:
        if not lines:
            raise
        print("stopped by Ctrl-C; the results so far are kept")
    finally:
        finish_video(video, video_path(SOURCE, OUT))

    elapsed = time.perf_counter() - began
    if not lines:
        raise InputError(f"{SOURCE}: holds no image that can be read")
    text = "\n".join(lines) + "\n"
    with atomic_write(Path(OUT) / "numbers.txt") as temporary:
        temporary.write_text(text, encoding="utf-8")
    written = video_path(SOURCE, OUT).name if fps else "pictures"
    print(f"{text}{len(lines)} images at {size} x {size}: {written} and numbers.txt in {OUT}")
    print(f"images per second, with reading, drawing and writing: {len(lines) / elapsed:.1f}")


if __name__ == "__main__":
    run(main)
