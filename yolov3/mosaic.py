"""
Mosaic: a training image made of four.

    To train with it, write in yolov3/train.py:    from yolov3.mosaic import MosaicDataset as DetectionDataset

Source  Not in YOLOv3's paper. Bochkovskiy, Wang and Liao, "YOLOv4: Optimal Speed and Accuracy of Object Detection",
        2020 (arXiv:2004.10934), section 3.3. Objects become smaller, and appear beside objects of other images.

What changed from yolov2: YOLOv2 has no mosaic.
"""
import cv2
import numpy as np
import torch

from yolov3.dataset import DetectionDataset, make_targets, place

MOSAIC = 0.75  # the probability that an image is a mosaic
VISIBLE = 0.3  # drop a box of which the mosaic leaves less than this share of its area


class MosaicDataset(DetectionDataset):
    """A DetectionDataset in which, with a probability of MOSAIC, an image is a mosaic of itself and three others."""

    def __init__(self, annotations, size, augment=False):
        super().__init__(annotations, size, augment)
        self.probability, self.visible = MOSAIC, VISIBLE

    def __getitem__(self, key):
        index, size, seed = key if isinstance(key, tuple) else (key, self.size, None)
        rng = np.random.default_rng(seed)
        is_mosaic = rng.random() < self.probability
        if not is_mosaic and not self.augment:
            return super().__getitem__(key)                                  # in its letterbox
        image, boxes, labels = self.read(index)
        if is_mosaic:
            four = [(image, boxes, labels), *(self.read(other) for other in rng.integers(len(self), size=3))]
            jitter = self.jitter if self.augment else 0
            image, boxes, labels = mosaic(four, size, jitter, self.visible, rng)
        else:
            image, boxes = place(image, boxes, size, self.jitter, rng)
        if self.augment:
            return self.finish(image, boxes, labels, rng)
        image = torch.from_numpy(image).permute(2, 0, 1).float() / 255       # (3, size, size)
        targets = make_targets(torch.as_tensor(boxes).float() / size, labels)
        return image, targets[(targets[:, 3:] >= self.smallest).all(1)]


def mosaic(four, size, jitter, visible, rng):
    """
    Puts four images around a random point of a square. Each is resized, with its aspect ratio distorted at random,
    until it just covers its quarter, and cropped to it at a random place. A box is cropped with its image, and dropped
    if less than the share `visible` of its area is left.

    four     for each image (h, w, 3) uint8, boxes (n, 4) in its pixels, labels (n,)
    returns  canvas (size, size, 3) uint8, boxes (m, 4) in its pixels, labels (m,)
    """
    canvas, kept_boxes, kept_labels = np.empty((size, size, 3), np.uint8), [], []
    x, y = rng.integers(size // 4, size - size // 4, 2, endpoint=True)
    quarters = [(0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size)]
    for (image, boxes, labels), (left, top, right, bottom) in zip(four, quarters):
        (h, w), width, height = image.shape[:2], right - left, bottom - top
        aspect = (w * (1 + rng.uniform(-jitter, jitter))) / (h * (1 + rng.uniform(-jitter, jitter)))
        new_w, new_h = max(width, round(height * aspect)), max(height, round(width / aspect))
        dx, dy = rng.integers(new_w - width, endpoint=True), rng.integers(new_h - height, endpoint=True)
        canvas[top:bottom, left:right] = cv2.resize(image, (new_w, new_h))[dy:dy + height, dx:dx + width]

        whole = boxes * ([new_w / w, new_h / h] * 2) + [left - dx, top - dy] * 2             # (n, 4)
        cut = whole.clip([left, top] * 2, [right, bottom] * 2)                               # (n, 4)
        share = (cut[:, 2:] - cut[:, :2]).prod(1) / (whole[:, 2:] - whole[:, :2]).prod(1)    # (n,)
        kept_boxes.append(cut[share >= visible])
        kept_labels.append(labels[share >= visible])
    return canvas, np.concatenate(kept_boxes), np.concatenate(kept_labels)
