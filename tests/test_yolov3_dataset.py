"""
The letterbox, the augmentation and the mosaic by hand, on images drawn here. Every process loads the same pictures.
"""
import numpy as np
import pytest
import torch
from PIL import Image

import yolov3.mosaic
from shared.errors import InputError
from shared.voc import Annotation
from yolov3.dataset import (DetectionDataset, collate, letterbox, letterbox_boxes, letterbox_geometry, place,
                            undo_letterbox)
from yolov3.mosaic import VISIBLE, MosaicDataset, mosaic


# ---- the letterbox


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
    # 3 x 1 pixels of 0, 100, 200 into 5 x 5: 5 x 1 in the middle row. With aligned corners the five are at the places
    # 0, 1/2, 1, 3/2, 2 of the old ones: 0 50 100 150 200. The usual resize, with the centres of pixels at halves, would
    # give 0 40 100 160 200.
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


# ---- augmentation

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
    # object is at 0.3, in the mirror at 0.7. Its height is 0.25 without jitter, and with it from 0.25 (0.7 / 1.3) =
    # 0.135 to 0.25 (1.3 / 0.7) = 0.464. White is 1 if the exposure goes up, at least 1 / 1.5 = 0.667 if it goes down.
    dataset = DetectionDataset([annotation], 96, augment=True)
    items = [dataset[0, 96, draw] for draw in range(64)]
    x, height = (torch.stack([targets[0, k] for _, targets in items]) for k in (1, 4))
    assert ((x - 0.3).abs() < 1e-5).logical_or((x - 0.7).abs() < 1e-5).all() and 20 < (x > 0.5).sum() < 44
    assert 0.125 < height.min() < 0.17 and 0.4 < height.max() < 0.465
    white = torch.stack([image.max() for image, _ in items])
    assert 0.66 < white.min() < 0.72 and white.max() == 1
    assert (white[x > 0.5] == 1).any() and (white[x > 0.5] < 1).any()     # the mirror image is not always the dark one
    assert (white[x < 0.5] == 1).any() and (white[x < 0.5] < 1).any()


def test_what_the_colours_vary(tmp_path):
    # A picture all of (150, 100, 100). Its grey value is .299 * 150 + .587 * 100 + .114 * 100 = 114.95. The difference
    # of its colours is (150 - 100) / 114.95 = .435 of it. The saturation multiplies this by 1 / 1.5 to 1.5, so it is
    # from .290 to .652. In red, green = blue. If the hue turns by 36 of the 60 degrees from red to yellow (or magenta),
    # green (or blue) is .6 of the way up from the lowest to the highest colour. The exposure changes none of these.
    Image.fromarray(np.full((64, 64, 3), (150, 100, 100), np.uint8)).save(tmp_path / "red.png")
    red = Annotation(tmp_path / "red.png", 64, 64, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool))
    dataset = DetectionDataset([red], 64, augment=True)
    pixels = []
    for seed in range(64):
        image = dataset[0, 64, seed][0].flatten(1)
        pixels.append(image[:, (image.amax(0) - image.amin(0)).argmax()] * 255)              # not on a grey bar
    pixels = torch.stack(pixels)                                                             # (64, 3)
    low, middle, high = pixels.sort(1).values.T
    colour = (high - low) / (pixels @ torch.tensor([0.299, 0.587, 0.114]))
    assert 0.27 < colour.min() < 0.33 and 0.60 < colour.max() < 0.67
    turned = (middle - low) / (high - low) * torch.where(pixels[:, 1] > pixels[:, 2], 1, -1)     # > 0: to yellow
    assert -0.66 < turned.min() < -0.5 and 0.5 < turned.max() < 0.66


class Fixed:
    """Replaces a random generator: uniform(low, high) gives the next of the fractions, between low and high."""

    def __init__(self, *fractions):
        self.fractions = list(fractions)

    def uniform(self, low, high):
        return low + self.fractions.pop(0) * (high - low)


def test_placement_by_hand():
    # 200 x 100, jitter .3: width up by 30 % to 260, height down by 30 % to 70, aspect 260 / 70 = 3.714. So it becomes
    # 64 wide and 64 / 3.714 = 17.2, cut to 17, high. At the bottom: top = 64 - 17 = 47. The box (20, 10, 100, 60) is
    # multiplied by (64 / 200, 17 / 100), and (0, 47) is added.
    image, box = np.full((100, 200, 3), 255, np.uint8), np.array([[20.0, 10, 100, 60]])
    canvas, boxes = place(image, box, 64, 0.3, Fixed(1, 0, 0, 1))
    assert boxes[0].tolist() == pytest.approx([6.4, 48.7, 32, 57.2])
    assert (canvas[:47] == 127).all() and (canvas[47:] == 255).all()
    # Width down to 140, height up to 130: aspect 140 / 130 = 1.077, still wider than high. It becomes 64 x 59 (59.4)
    # with 5 rows left, and half of them, cut to 2, above. The box's height: 59 / 100 of 10 to 60.
    canvas, boxes = place(image, box, 64, 0.3, Fixed(0, 1, 0, 0.5))
    assert boxes[0].tolist() == pytest.approx([6.4, 2 + 5.9, 32, 2 + 35.4])
    # A portrait of 100 x 200, without jitter: 32 x 64, at the right edge. The box is turned with it.
    canvas, boxes = place(image.transpose(1, 0, 2), box[:, [1, 0, 3, 2]], 64, 0, Fixed(0.5, 0.5, 1, 0))
    assert boxes[0].tolist() == pytest.approx([32 + 3.2, 6.4, 32 + 19.2, 32])
    assert (canvas[:, :32] == 127).all() and (canvas[:, 32:] == 255).all()


def test_tiny_boxes_are_dropped_only_in_training(annotation):
    # The first box is .05 of 200 pixels wide, which is less than .001.
    boxes = np.array([[20.0, 10, 20.05, 60], [20.0, 10, 100, 60]])
    thin = annotation._replace(boxes=boxes, difficult=np.zeros(2, bool))
    assert len(DetectionDataset([thin], 64, augment=True)[0, 64, 1][1]) == 1
    assert len(DetectionDataset([thin], 64)[0][1]) == 2


def test_pixels_that_do_not_fit_their_annotation_are_refused(annotation):
    with pytest.raises(InputError, match="a.png: its pixels are not as wide and high as its header says"):
        DetectionDataset([annotation._replace(width=100, height=200)], 64)[0]


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


@pytest.mark.parametrize("method, workers", [("fork", 2), ("spawn", 1)])     # forkserver copies the data set as spawn
def test_workers_draw_what_one_process_draws(annotation, method, workers):
    # The same seed gives the same picture in every process and epoch, another seed another picture.
    keys = [[(0, 64, (0, n)), (0, 64, (0, n + 1))] for n in range(4)]
    dataset = DetectionDataset([annotation], 64, augment=True)
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=keys, num_workers=workers, collate_fn=collate,
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
    """Replaces a random generator: its integers are given, and uniform, which draws the jitter, gives 0."""

    def __init__(self, *integers):
        self.given = iter(integers)

    def integers(self, low, high=None, size=None, endpoint=False):
        return np.array([next(self.given) for _ in range(size)]) if size else next(self.given)

    def uniform(self, low, high):
        return 0


def test_the_mosaic_by_hand():
    # A square of 80, the middle at (20, 50): quarters 20 x 50, 60 x 50, 20 x 30, 60 x 30. An image of 100 x 50 covers
    # them as 100 x 50, 100 x 50, 60 x 30, 60 x 30. Their greys are 10, 20, 30, 40.
    grey = [np.full((50, 100, 3), value, np.uint8) for value in (10, 20, 30, 40)]
    boxes = [np.array([[50.0, 10, 60, 20], [0, 0, 50, 50], [90, 0, 100, 10]]),
             np.array([[0.0, 0, 100, 50]]), np.array([[10.0, 10, 30, 20]]), np.zeros((0, 4))]
    labels = [np.array([1, 2, 3]), np.array([4]), np.array([5]), np.zeros(0, int)]
    # Cut at 45 from the left in the first, at 30 in the second, at 0 in the third.
    rng = Drawn(20, 50, 45, 0, 30, 0, 0, 0, 0, 0)
    canvas, kept, names = mosaic(list(zip(grey, boxes, labels)), 80, 0, VISIBLE, rng)
    corners = [(49, 19), (49, 20), (50, 19), (50, 20), (0, 0), (79, 79)]
    assert [canvas[y, x, 0] for y, x in corners] == [10, 20, 30, 40, 10, 40]
    # First image, moved left by 45. Box 50..60 becomes 5..15. Of box 0..50 a tenth is left, 5 of 50, so it is dropped.
    # Box 90..100 becomes 45..55, outside of the quarter.
    # Second image, moved left by 30 and right by 20. Box 0..100 becomes -10..90 and is cut to 20..80, 60 of 100.
    # Third image, scaled by .6 and moved down by 50. Box 10 10 30 20 becomes 6 6 18 12, then 6 56 18 62.
    assert names.tolist() == [1, 4, 5]
    assert kept.tolist() == [pytest.approx(box) for box in ([5, 10, 15, 20], [20, 0, 80, 50], [6, 56, 18, 62])]


def test_the_jitter_of_a_mosaic_changes_the_aspect_ratio():
    # Three tenths wider and three tenths lower, an image of 100 x 50 has an aspect ratio of 130 / 35 = 3.714. It covers
    # a quarter of 40 x 40 as 149 x 40 (40 * 3.714 = 148.6), so its box, 10..30 of 100 pixels, is 14.9..44.7 wide and is
    # cut at 40. The other images have no jitter: 80 x 40.
    class Jitter(Drawn):
        drawn = [0.3, -0.3, 0, 0, 0, 0, 0, 0]

        def uniform(self, low, high):
            assert (low, high) == (-0.3, 0.3)
            return self.drawn.pop(0)

    four = [(np.zeros((50, 100, 3), np.uint8), np.array([[10.0, 0, 30, 50]]), np.array([n])) for n in range(4)]
    _, boxes, labels = mosaic(four, 80, 0.3, VISIBLE, Jitter(40, 40, 0, 0, 0, 0, 0, 0, 0, 0))
    assert boxes[0].tolist() == pytest.approx([14.9, 0, 40, 40]) and labels.tolist() == [0, 1, 2, 3]
    assert boxes[1].tolist() == pytest.approx([48, 0, 64, 40])


def test_a_mosaic_is_made_with_its_probability_and_only_of_other_images_boxes(tmp_path, monkeypatch):
    # Four images of one colour each, wholly one object: in the mosaic each quarter is its object. Of 200 images
    # 200 * .75 = 150 mosaics are expected, with a standard deviation of sqrt(200 * .75 * .25) = 6.1.
    monkeypatch.setattr(yolov3.mosaic, "MOSAIC", 0.75)
    annotations = []
    for n in range(4):
        Image.fromarray(np.full((60, 60, 3), 40 + 50 * n, np.uint8)).save(tmp_path / f"{n}.png")
        annotations.append(Annotation(tmp_path / f"{n}.png", 60, 60, np.array([[0.0, 0, 60, 60]]), np.array([n]),
                                      np.array([False])))
    whole = DetectionDataset(annotations, 64)[1]
    made = 0
    for seed in range(200):
        image, targets = MosaicDataset(annotations, 64)[1, 64, seed]
        made += len(targets) == 4
        if len(targets) == 1:
            assert image.equal(whole[0]) and targets.equal(whole[1])
            continue
        assert targets[0, 0] == 1                                       # the image that was asked for is among them
        assert targets[:, 3:].prod(1).sum() == pytest.approx(1)         # four boxes tile the square
        for label, x, y, w, h in targets.tolist():
            left, top, right, bottom = (round(64 * edge) for edge in (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
            assert image[:, top:bottom, left:right].sub((40 + 50 * label) / 255).abs().max() < 1e-6
    assert 130 <= made <= 170


def test_an_augmented_mosaic_keeps_boxes_on_objects(annotation, monkeypatch):
    monkeypatch.setattr(yolov3.mosaic, "MOSAIC", 1)
    for seed in range(20):
        image, targets = MosaicDataset([annotation], 96, augment=True)[0, 96, seed]
        for _, x, y, w, h in targets.tolist():
            assert 0 <= x - w / 2 + 1e-6 and x + w / 2 <= 1 + 1e-6 and 0 <= y - h / 2 + 1e-6 and y + h / 2 <= 1 + 1e-6
            left, top, right, bottom = (round(96 * edge) for edge in (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
            inside = image[:, top + 1:bottom - 1, left + 1:right - 1]
            assert inside.numel() == 0 or inside.amax(0).min() > 0.5 * image.max()      # white, whatever the exposure


def test_a_mosaic_depends_on_its_seed_alone(annotation):
    dataset = MosaicDataset([annotation], 96, augment=True)
    images = [dataset[0, 64, (7, n)][0] for n in (0, 1, 0)]
    assert images[0].shape == (3, 64, 64) and images[0].equal(images[2]) and not images[0].equal(images[1])


def test_an_image_that_is_no_mosaic_is_augmented_as_without_mosaics(annotation, monkeypatch):
    # As in test_what_augmentation_varies, the height of the object is from 0.135 to 0.464. If the random number that
    # decides on a mosaic were also the one that changes the width, the width could only become larger here, by a factor
    # from 1 to 1.3, and the height could be 0.25 (1.3 / 1) = 0.325 at the most.
    monkeypatch.setattr(yolov3.mosaic, "MOSAIC", 0.5)
    twice = annotation._replace(boxes=annotation.boxes[[0, 0]], labels=np.array([3, 4]), difficult=np.zeros(2, bool))
    dataset = MosaicDataset([twice], 96, augment=True)
    targets = [dataset[0, 96, seed][1] for seed in range(128)]
    heights = torch.stack([rows[0, 4] for rows in targets if len(rows) == 2])                # not a mosaic
    assert 40 < len(heights) < 88
    assert 0.125 < heights.min() < 0.18 and 0.39 < heights.max() < 0.465
