"""
Detects objects in an image, in every image of a folder, in a video file, or in front of a camera.

Source  Darknet's detect ([darknet] examples/detector.c, test_detector): the letterbox, per-class NMS at .45, a score
        (objectness x class probability) of more than .5. In 2016 it stretched the image to the square, and the
        thresholds were .4 (NMS) and .24 (score). We stretch if the network was trained so; the thresholds stay.
        Darknet's demo averages the outputs of the last three frames of a video ([darknet] src/demo.c). Here, each frame
        is detected by itself.

    python yolov2/detect.py     reads CHECKPOINT and SOURCE; writes the pictures, or the video, with boxes and
                                detections.txt to OUT; prints the milliseconds that each stage takes, and the images per
                                second. Ctrl-C stops it, for example the video of a camera, and keeps what is done

CHECKPOINT may also be a .weights file of the authors (yolov2/weights.py lists them). Classes, anchors, input size, and
whether images are letterboxed or stretched are set automatically.

What changed from yolov1/detect.py: the thresholds, which were .4 (NMS) and .2 (score); since March 2017 the letterbox.
"""
import time
from pathlib import Path

import torch
from tqdm import tqdm

from shared.constants import check_values
from shared.draw import draw_boxes, write_picture
from shared.errors import InputError, run
from shared.layers import fuse_batchnorm
from shared.nms import nms_per_class
from shared.paths import RUNS, SAMPLES, atomic_write
from shared.video import add_frame, finish_video, open_source, video_path
from yolov2.dataset import PRESET, letterbox, stretch, undo_letterbox
from yolov2.model import decode
from yolov2.weights import load_detector

CHECKPOINT = RUNS / f"yolov2_{PRESET}" / "last.pt"
# or best.pt (the highest AP50 on TEST), or RUNS / "yolov2-voc.weights"
SOURCE = SAMPLES / "voc" / "VOCdevkit" / "VOC2007" / "JPEGImages"  # or an image, a video, or 0, the first camera
OUT = Path(CHECKPOINT).parent / "detect"
SCORE_THRESHOLD = 0.5                     # [darknet]
NMS_THRESHOLD = 0.45                      # [darknet]


@torch.inference_mode()
def main():
    check_values("yolov2/detect.py", globals())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, state = load_detector(CHECKPOINT)
    classes, anchors, size, stretched = state["classes"], state["anchors"], state["size"], state["stretch"]
    network = fuse_batchnorm(network).to(device, memory_format=torch.channels_last)

    def now():
        if device.type == "cuda":
            torch.cuda.synchronize()                                         # wait until the GPU has finished
        return time.perf_counter()

    images, total, fps = open_source(SOURCE, OUT)                            # fps: None for photographs
    lines = ["\t".join(["# file", "class", "score", "left", "top", "right", "bottom (pixels)"])]
    seconds, video, began = [], None, now()
    bar = tqdm(images, desc="detecting", total=total, unit=" images")
    try:
        for name, image in bar:                                              # (h, w, 3)
            x = stretch(image, size) if stretched else letterbox(image, size, size)      # (3, size, size)
            x = x[None].to(device, memory_format=torch.channels_last)

            started = now()
            head = network(x)
            network_done = now()
            boxes, scores = decode(head, anchors)                            # (1, L, 4), (1, L, C)
            decode_done = now()
            rows = nms_per_class(boxes[0], scores[0], SCORE_THRESHOLD, NMS_THRESHOLD)        # (D, 6)
            seconds.append([network_done - started, decode_done - network_done, now() - decode_done])

            rows = rows.double().cpu().numpy()                               # (D, 6)
            h, w = image.shape[:2]
            corners = rows[:, 2:] * [w, h, w, h] if stretched else undo_letterbox(rows[:, 2:], w, h, size, size)
            rows[:, 2:] = corners.clip(0, [w, h, w, h])
            picture = draw_boxes(image, rows, classes)
            if fps:
                video = add_frame(video, video_path(SOURCE, OUT), picture, fps)
            else:
                write_picture(Path(OUT) / name, picture)
            lines += ["\t".join([name, classes[int(label)], f"{score:.4f}", *(f"{side:.1f}" for side in box)])
                      for label, score, *box in rows]
            bar.set_postfix_str(f"network alone {1 / (network_done - started):.1f}", refresh=False)
    except KeyboardInterrupt:
        if not seconds:
            raise
        print("stopped by Ctrl-C; the results so far are kept")
    finally:
        finish_video(video, video_path(SOURCE, OUT))

    elapsed = now() - began
    if not seconds:
        raise InputError(f"{SOURCE}: holds no image that can be read")
    with atomic_write(Path(OUT) / "detections.txt") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    network_ms, decode_ms, nms_ms = (torch.tensor(seconds).median(0).values * 1000).tolist()
    print(f"{len(seconds)} images at {size} x {size} on {device.type}, median milliseconds: network {network_ms:.1f}, "
          f"decoding {decode_ms:.1f}, NMS {nms_ms:.1f}")
    print(f"images per second: network alone {1000 / network_ms:.1f}, with reading, drawing and writing "
          f"{len(seconds) / elapsed:.1f}")
    written = video_path(SOURCE, OUT).name if fps else "pictures"
    print(f"{len(lines) - 1} detections: {written} and detections.txt in {OUT}")


if __name__ == "__main__":
    run(main)
