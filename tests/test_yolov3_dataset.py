"""The letterbox and the augmentation by hand, on images drawn here; the same pictures whatever loads them."""
import numpy as np
import pytest
import torch
from PIL import Image

from shared.voc import Annotation
from yolov3.dataset import (VISIBLE, DetectionDataset, collate, letterbox, letterbox_boxes, letterbox_geometry, mosaic,
                            place, undo_letterbox)


@pytest.fixture
def annotation(tmp_path):
    """A black image of 200 x 100 with a white box, (20, 10, 100, 60): an object of label 3; and a difficult object."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[10:60, 20:100] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    return Annotation(tmp_path / "a.png", 200, 100, np.array([[20.0, 10, 100, 60], [0, 0, 9, 9]]), np.array([3, 5]),
                      np.array([False, True]))


@pytest.mark.parametrize("image, network, geometry", [
    ((500, 375), (416, 416), (416, 312, 0, 52)),     # 375 416 / 500 = 312
    ((375, 500), (416, 416), (312, 416, 52, 0)),
    ((500, 333), (416, 416), (416, 277, 0, 69)),     # 277.056 is cut to 277, (416 - 277) / 2 = 69.5 to 69 [darknet]
    ((333, 499), (608, 352), (234, 352, 187, 0)),    # not square: 333 352 / 499 = 234.9
    ((10, 4000), (416, 416), (1, 416, 207, 0)),      # 1.04
    ((1, 4000), (416, 416), (1, 416, 207, 0)),       # .1: one pixel is the least
])
def test_letterbox_geometry(image, network, geometry):
    assert letterbox_geometry(*image, *network) == geometry


def test_letterbox_by_hand():
    # 3 x 1 pixels of 0, 100, 200 into 5 x 5: 5 x 1 in the middle row. Corners stay: the five are at 0, 1/2, 1, 3/2, 2
    # of the old ones, 0 50 100 150 200. (Pixel centres at halves, the usual resize, would give 0 40 100 160 200.)
    image = np.repeat(np.array([[[0], [100], [200]]], np.uint8), 3, 2)
    canvas = letterbox(image, 5, 5)
    assert canvas.shape == (3, 5, 5)
    assert (canvas[0, 2] * 255).tolist() == pytest.approx([0, 50, 100, 150, 200], abs=1e-3)
    assert canvas[:, [0, 1, 3, 4]].eq(0.5).all()


def test_boxes_into_the_letterbox_and_back():
    # 200 x 100 into 64 x 64: 64 x 32, 16 grey rows above. (20, 10, 100, 60) becomes (6.4, 19.2, 32, 35.2) of 64.
    box = np.array([[20.0, 10, 100, 60]])
    inside = letterbox_boxes(box, 200, 100, 64, 64)
    assert (inside * 64)[0].tolist() == pytest.approx([6.4, 19.2, 32, 35.2])
    for size in [(500, 333), (333, 500), (497, 498)]:
        for network in [(416, 416), (608, 352)]:
            back = undo_letterbox(letterbox_boxes(box, *size, *network), *size, *network)
            assert back[0].tolist() == pytest.approx(box[0].tolist(), abs=1e-9)


def test_targets_of_evaluation(annotation):
    image, targets = DetectionDataset([annotation], 64)[0]
    # Centre ((6.4 + 32) / 2, (19.2 + 35.2) / 2) / 64 = (0.3, 0.425), size (25.6, 16) / 64 = (0.4, 0.25). The difficult
    # object is left out.
    assert targets.shape == (1, 5) and targets[0].tolist() == pytest.approx([3, 0.3, 0.425, 0.4, 0.25])
    assert image.shape == (3, 64, 64) and image[0, 27, 19] == 1 and image[0, 40, 50] == 0 and image[0, 5, 5] == 0.5


@pytest.mark.parametrize("draw", range(8))
def test_augmented_boxes_stay_on_their_objects(annotation, draw):
    image, targets = DetectionDataset([annotation], 96, augment=True)[0, 96, (7, draw)]
    assert image.shape == (3, 96, 96) and 0 <= image.min() and image.max() <= 1
    (label, x, y, w, h), = targets.tolist()
    assert label == 3
    white = image.amax(0) > 0.85 * image.max()       # whatever the exposure, the grey bars are at most 3/4 as bright
    columns, rows = white.any(0).nonzero(), white.any(1).nonzero()
    assert [columns.min(), columns.max() + 1] == pytest.approx([(x - w / 2) * 96, (x + w / 2) * 96], abs=1.5)
    assert [rows.min(), rows.max() + 1] == pytest.approx([(y - h / 2) * 96, (y + h / 2) * 96], abs=1.5)


def test_what_augmentation_varies(annotation):
    # 200 x 100 stays wider than high whatever the jitter: it fills the canvas from left to right. So the centre of the
    # object is at 0.3, in the mirror at 0.7. Its height is 0.25 without jitter, and from 0.25 0.7 / 1.3 = 0.135 to
    # 0.25 1.3 / 0.7 = 0.464 with it. White is 1 if the exposure goes up, and at least 1 / 1.5 = 0.667 if it goes down.
    dataset = DetectionDataset([annotation], 96, augment=True)
    items = [dataset[0, 96, draw] for draw in range(64)]
    x, height = (torch.stack([targets[0, k] for _, targets in items]) for k in (1, 4))
    assert ((x - 0.3).abs() < 1e-5).logical_or((x - 0.7).abs() < 1e-5).all() and 20 < (x > 0.5).sum() < 44
    assert 0.125 < height.min() < 0.17 and 0.4 < height.max() < 0.465
    white = torch.stack([image.max() for image, _ in items])
    assert 0.66 < white.min() < 0.72 and white.max() == 1
    assert (white[x > 0.5] == 1).any() and (white[x > 0.5] < 1).any()     # the mirror image is not always the dark one
    assert (white[x < 0.5] == 1).any() and (white[x < 0.5] < 1).any()


class Fixed:
    """Stands for a random generator: uniform(low, high) gives the next of the fractions, between low and high."""

    def __init__(self, *fractions):
        self.fractions = list(fractions)

    def uniform(self, low, high):
        return low + self.fractions.pop(0) * (high - low)


def test_placement_by_hand():
    # 200 x 100, jitter .3: width up by 30 % to 260, height down by 30 % to 70, aspect 3.714: 64 wide and
    # 64 / 3.714 = 17.2 -> 17 high, at the bottom: top = 64 - 17 = 47. The box (20, 10, 100, 60) times
    # (64 / 200, 17 / 100), plus (0, 47).
    image, box = np.full((100, 200, 3), 255, np.uint8), np.array([[20.0, 10, 100, 60]])
    canvas, boxes = place(image, box, 64, 0.3, Fixed(1, 0, 0, 1))
    assert boxes[0].tolist() == pytest.approx([6.4, 48.7, 32, 57.2])
    assert (canvas[:47] == 127).all() and (canvas[47:] == 255).all()
    # Width down to 140, height up to 130: aspect 1.077, still wider than high: 64 x 59, in the middle of what is left.
    canvas, boxes = place(image, box, 64, 0.3, Fixed(0, 1, 0, 0.5))
    assert boxes[0].tolist() == pytest.approx([6.4, 2 + 5.9, 32, 2 + 35.4])
    # A portrait of 100 x 200: 32 x 64, at the right edge, without jitter.
    canvas, boxes = place(image.transpose(1, 0, 2), box[:, [1, 0, 3, 2]], 64, 0, Fixed(0.5, 0.5, 1, 0))
    assert boxes[0].tolist() == pytest.approx([32 + 3.2, 6.4, 32 + 19.2, 32])
    assert (canvas[:, :32] == 127).all() and (canvas[:, 32:] == 255).all()


def test_tiny_boxes_are_dropped_only_in_training(annotation):
    # The first box is .05 of 200 pixels wide, which is less than .001.
    boxes = np.array([[20.0, 10, 20.05, 60], [20.0, 10, 100, 60]])
    thin = annotation._replace(boxes=boxes, difficult=np.zeros(2, bool))
    assert len(DetectionDataset([thin], 64, augment=True)[0, 64, 1][1]) == 1
    assert len(DetectionDataset([thin], 64)[0][1]) == 2


def test_collate(annotation):
    empty = annotation._replace(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), difficult=np.zeros(0, bool))
    dataset = DetectionDataset([annotation, empty, annotation], 64)
    images, targets = collate([dataset[i] for i in range(3)])
    assert images.shape == (3, 3, 64, 64)
    assert targets.shape == (2, 6) and targets[:, 0].tolist() == [0, 2] and targets[0, 1:].equal(dataset[0][1][0])
    assert collate([dataset[1]])[1].shape == (0, 6)


def test_an_augmented_image_without_objects(annotation):
    empty = annotation._replace(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), difficult=np.zeros(0, bool))
    assert DetectionDataset([empty], 64, augment=True)[0, 64, 1][1].shape == (0, 5)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_draw_what_one_process_draws(annotation, method):
    # The same draw gives the same picture in every process and epoch, another draw another picture.
    keys = [[(0, 64, (0, n)), (0, 64, (0, n + 1))] for n in range(4)]
    dataset = DetectionDataset([annotation], 64, augment=True)
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=keys, num_workers=2, collate_fn=collate,
                                         multiprocessing_context=method)
    loaded = list(loader)
    for (images, targets), batch in zip(loaded, keys):
        here = collate([dataset[key] for key in batch])
        assert images.equal(here[0]) and targets.equal(here[1])
    pictures = [images[0] for images, _ in loaded]
    assert all(not a.equal(b) for i, a in enumerate(pictures) for b in pictures[:i])


def test_the_size_goes_with_the_key(annotation):
    dataset = DetectionDataset([annotation], 64, augment=True)
    assert dataset[0, 128, 1][0].shape == (3, 128, 128)
    assert DetectionDataset([annotation], 64)[0, 96, 1][0].shape == (3, 96, 96)


# ---- the mosaic

class Drawn:
    """A generator whose integers are given; nothing else is drawn from it but the jitter, which is 0."""

    def __init__(self, *integers):
        self.given = iter(integers)

    def integers(self, low, high=None, size=None, endpoint=False):
        return np.array([next(self.given) for _ in range(size)]) if size else next(self.given)

    def uniform(self, low, high):
        return 0


def test_the_mosaic_by_hand():
    # A square of 80, the middle at (20, 50): quarters 20 x 50, 60 x 50, 20 x 30, 60 x 30. An image of 100 x 50 covers
    # them as 100 x 50, 100 x 50, 60 x 30, 60 x 30. Their colours are 10, 20, 30, 40.
    white = [np.full((50, 100, 3), value, np.uint8) for value in (10, 20, 30, 40)]
    boxes = [np.array([[50.0, 10, 60, 20], [0, 0, 50, 50], [90, 0, 100, 10]]),
             np.array([[0.0, 0, 100, 50]]), np.array([[10.0, 10, 30, 20]]), np.zeros((0, 4))]
    labels = [np.array([1, 2, 3]), np.array([4]), np.array([5]), np.zeros(0, int)]
    # Cut at 45 from the left in the first, at 30 in the second, at 0 in the third.
    rng = Drawn(20, 50, 45, 0, 30, 0, 0, 0, 0, 0)
    canvas, kept, names = mosaic(list(zip(white, boxes, labels)), 80, 0, VISIBLE, rng)
    corners = [(49, 19), (49, 20), (50, 19), (50, 20), (0, 0), (79, 79)]
    assert [canvas[y, x, 0] for y, x in corners] == [10, 20, 30, 40, 10, 40]
    # First: (50 - 45, 10) to (60 - 45, 20); of 0..50 a tenth is left, 5 of 50, and dropped; 90..100 is outside.
    # Second: 0..100 less 30, moved by 20: -10..90, cut to 20..80; 60 of 100 are left. Third: scaled by .6: 6 6 18 12,
    # moved down by 50.
    assert names.tolist() == [1, 4, 5]
    assert kept.tolist() == [pytest.approx(box) for box in ([5, 10, 15, 20], [20, 0, 80, 50], [6, 56, 18, 62])]


def test_a_mosaic_is_made_with_its_probability_and_only_of_other_images_boxes(tmp_path):
    # Four images of one colour each, wholly one object: in the mosaic each quarter is its object.
    annotations = []
    for n in range(4):
        Image.fromarray(np.full((60, 60, 3), 40 + 50 * n, np.uint8)).save(tmp_path / f"{n}.png")
        annotations.append(Annotation(tmp_path / f"{n}.png", 60, 60, np.array([[0.0, 0, 60, 60]]), np.array([n]),
                                      np.array([False])))
    whole = DetectionDataset(annotations, 64)[1]
    made = 0
    for seed in range(200):
        image, targets = DetectionDataset(annotations, 64, mosaic=0.75)[1, 64, seed]
        made += len(targets) == 4
        if len(targets) == 1:
            assert image.equal(whole[0]) and targets.equal(whole[1])
            continue
        assert targets[0, 0] == 1                                       # the image that was asked for is among them
        assert targets[:, 3:].prod(1).sum() == pytest.approx(1)         # four boxes tile the square
        for label, x, y, w, h in targets.tolist():
            left, top, right, bottom = (round(64 * edge) for edge in (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
            assert image[:, top:bottom, left:right].sub((40 + 50 * label) / 255).abs().max() < 1e-6
    assert 130 <= made <= 170                                           # 150 expected, 6.1 the standard deviation


def test_an_augmented_mosaic_keeps_boxes_on_objects(annotation):
    for seed in range(20):
        image, targets = DetectionDataset([annotation], 96, augment=True, mosaic=1)[0, 96, seed]
        for _, x, y, w, h in targets.tolist():
            assert 0 <= x - w / 2 + 1e-6 and x + w / 2 <= 1 + 1e-6 and 0 <= y - h / 2 + 1e-6 and y + h / 2 <= 1 + 1e-6
            left, top, right, bottom = (round(96 * edge) for edge in (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
            inside = image[:, top + 1:bottom - 1, left + 1:right - 1]
            assert inside.numel() == 0 or inside.amax(0).min() > 0.5 * image.max()      # white, whatever the exposure
