"""
The letterbox, the stretch and both augmentations by hand, on images drawn here; every process draws the same random
numbers.
"""
import numpy as np
import pytest
import torch
from PIL import Image

from shared.voc import Annotation
from yolov2.dataset import (DetectionDataset, collate, crop, letterbox, letterbox_boxes, letterbox_geometry, place,
                            stretch, undo_letterbox)


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
    # 3 x 1 pixels of 0, 100, 200 into 5 x 5: 5 x 1 in the middle row. With aligned corners the five pixels are at 0,
    # 1/2, 1, 3/2, 2 of the old ones: 0 50 100 150 200. (The usual resize, with pixel centres at halves, gives 0 40 100
    # 160 200.)
    image = np.repeat(np.array([[[0], [100], [200]]], np.uint8), 3, 2)
    usual = torch.nn.functional.interpolate(torch.tensor([[[[0.0, 100, 200]]]]), (1, 5), mode="bilinear")
    assert usual.flatten().tolist() == pytest.approx([0, 40, 100, 160, 200])
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


def test_targets_of_evaluation_when_images_are_stretched(annotation):
    image, targets = DetectionDataset([annotation], 64, stretched=True)[0]
    # Centre (60 / 200, 35 / 100) = (0.3, 0.35), size (80 / 200, 50 / 100) = (0.4, 0.5); the letterbox has (0.3, 0.425)
    # and (0.4, 0.25). On the square of 64 the white box reaches from 6.4 to 32 across and from 6.4 to 38.4 down; the
    # rest is black, and nothing is grey.
    assert targets.shape == (1, 5) and targets[0].tolist() == pytest.approx([3, 0.3, 0.35, 0.4, 0.5])
    assert image.shape == (3, 64, 64) and image[0, 8, 8] == 1 == image[0, 36, 30]
    assert image[0, 41, 20] == 0 == image[0, 20, 35] == image[0, 4, 20]


def test_stretch_by_hand():
    # 3 x 2 pixels, rows of 0, 100, 200 and of 10, 110, 210, into 5 x 5. The corners stay: the five columns are at 0,
    # 1/2, 1, 3/2, 2 of the old ones, 0 50 100 150 200, and the middle row is half-way between the two rows.
    image = np.repeat(np.array([[[0], [100], [200]], [[10], [110], [210]]], np.uint8), 3, 2)
    square = stretch(image, 5)
    assert square.shape == (3, 5, 5)
    assert (square[0, 0] * 255).tolist() == pytest.approx([0, 50, 100, 150, 200], abs=1e-3)
    assert (square[1, 2] * 255).tolist() == pytest.approx([5, 55, 105, 155, 205], abs=1e-3)


@pytest.mark.parametrize("draw", range(8))
def test_cropped_boxes_stay_on_their_objects(annotation, draw):
    image, targets = DetectionDataset([annotation], 96, augment=True, stretched=True)[0, 96, (7, draw)]
    assert image.shape == (3, 96, 96) and 0 <= image.min() and image.max() <= 1
    (label, x, y, w, h), = targets.tolist()
    assert label == 3
    white = image.amax(0) > 0.5 * image.max()
    columns, rows = white.any(0).nonzero(), white.any(1).nonzero()
    assert [columns.min(), columns.max() + 1] == pytest.approx([(x - w / 2) * 96, (x + w / 2) * 96], abs=1.5)
    assert [rows.min(), rows.max() + 1] == pytest.approx([(y - h / 2) * 96, (y + h / 2) * 96], abs=1.5)


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
    # object is at 0.3, or, mirrored, at 0.7. Its height is 0.25 without jitter, and from 0.25 * 0.7 / 1.3 = 0.135 to
    # 0.25 * 1.3 / 0.7 = 0.464 with it. White is 1 if the exposure goes up, at least 1 / 1.5 = 0.667 if it goes down.
    dataset = DetectionDataset([annotation], 96, augment=True)
    items = [dataset[0, 96, draw] for draw in range(64)]
    x, height = (torch.stack([targets[0, k] for _, targets in items]) for k in (1, 4))
    assert ((x - 0.3).abs() < 1e-5).logical_or((x - 0.7).abs() < 1e-5).all() and 20 < (x > 0.5).sum() < 44
    assert 0.125 < height.min() < 0.17 and 0.4 < height.max() < 0.465
    white = torch.stack([image.max() for image, _ in items])
    assert 0.66 < white.min() < 0.72 and white.max() == 1
    assert (white[x > 0.5] == 1).any() and (white[x > 0.5] < 1).any()     # the mirror image is not always the dark one
    assert (white[x < 0.5] == 1).any() and (white[x < 0.5] < 1).any()


def test_hue_and_saturation_vary(tmp_path):
    # A picture of (150, 100, 100): hue 0, spread 150 - 100 = 50, luma .299 * 150 + .587 * 100 + .114 * 100 = 114.95.
    # Saturation times U(1 / 1.5, 1.5) changes spread / luma = 0.435 to a value from 0.290 to 0.652; exposure scales
    # both alike. A hue of up to .1 of the circle = 36 degrees moves the middle colour, in a sector of 60 degrees, by up
    # to 36 / 60 = 0.6 of the spread. Without hue it does not move: 0.
    Image.new("RGB", (60, 60), (150, 100, 100)).save(tmp_path / "a.png")
    picture = Annotation(tmp_path / "a.png", 60, 60, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool))
    dataset = DetectionDataset([picture], 96, augment=True)
    spreads, hues = [], []
    for draw in range(64):
        red, green, blue = dataset[0, 96, draw][0][:, 48, 48].tolist()
        low, middle, high = sorted([red, green, blue])
        spreads.append((high - low) / (0.299 * red + 0.587 * green + 0.114 * blue))
        hues.append((middle - low) / (high - low))
    assert 0.27 < min(spreads) < 0.33 and 0.60 < max(spreads) < 0.66
    assert 0.54 < max(hues) < 0.66


class Fixed:
    """A random generator whose numbers are known: uniform(low, high) is at the next of the fractions of the way."""

    def __init__(self, *fractions):
        self.fractions = list(fractions)

    def uniform(self, low, high):
        return low + self.fractions.pop(0) * (high - low)


def test_placement_by_hand():
    # 200 x 100, jitter .3: width up by 30 % to 260, height down by 30 % to 70, aspect 3.714: 64 wide and
    # 64 / 3.714 = 17.2, cut to 17, high, at the bottom: top = 64 - 17 = 47. The box (20, 10, 100, 60) times
    # (64 / 200, 17 / 100) is (6.4, 1.7, 32, 10.2); plus (0, 47).
    image, box = np.full((100, 200, 3), 255, np.uint8), np.array([[20.0, 10, 100, 60]])
    canvas, boxes = place(image, box, 64, 0.3, Fixed(1, 0, 0, 1))
    assert boxes[0].tolist() == pytest.approx([6.4, 48.7, 32, 57.2])
    assert (canvas[:47] == 127).all() and (canvas[47:] == 255).all()
    # Width down to 140, height up to 130: aspect 1.077, still wider than high: 64 x 59.4, cut to 59, in the middle of
    # what is left: top = 2.5, cut to 2. The box times (64 / 200, 59 / 100), plus (0, 2).
    canvas, boxes = place(image, box, 64, 0.3, Fixed(0, 1, 0, 0.5))
    assert boxes[0].tolist() == pytest.approx([6.4, 2 + 5.9, 32, 2 + 35.4])
    # A portrait of 100 x 200: 32 x 64, at the right edge, without jitter.
    canvas, boxes = place(image.transpose(1, 0, 2), box[:, [1, 0, 3, 2]], 64, 0, Fixed(0.5, 0.5, 1, 0))
    assert boxes[0].tolist() == pytest.approx([32 + 3.2, 6.4, 32 + 19.2, 32])
    assert (canvas[:, :32] == 127).all() and (canvas[:, 32:] == 255).all()


def test_the_crop_of_2016_by_hand():
    # 200 x 100, jitter .2. The left side moves in by 20 % to 40, the right side out by 20 % to 240: 200 wide. The upper
    # side moves out by 20 % to -20, the lower side in by 10 % to 90: 110 high. Into 64 x 64: the box (20, 10, 100, 60)
    # less (40, -20), times (64 / 200, 64 / 110), is (-6.4, 17.45, 19.2, 46.55). It is clipped later.
    image, box = np.zeros((100, 200, 3), np.uint8), np.array([[20.0, 10, 100, 60]])
    image[:, 150:], image[:5] = (255, 0, 0), (0, 255, 0)
    square, boxes = crop(image, box, 64, 0.2, Fixed(1, 0, 0, 0.75))
    assert boxes[0].tolist() == pytest.approx([-6.4, 30 * 64 / 110, 19.2, 80 * 64 / 110])
    assert [30 * 64 / 110, 80 * 64 / 110] == pytest.approx([17.45, 46.55], abs=0.01)
    # The rows up to 5 are green, plus 20: up to 25 * 64 / 110 = 14.5. Above the image its first row is repeated. The
    # columns from 150 on are red, less 40: from 110 * 64 / 200 = 35.2 on, to the very end at 240.
    assert (square[:13] == [0, 255, 0]).all() and (square[16:, 37:] == [255, 0, 0]).all() and not square[16:, :34].any()
    # Without jitter it is the whole image: (20, 10, 100, 60) times (64 / 200, 64 / 100).
    _, boxes = crop(image, box, 64, 0, Fixed(0, 0.3, 0.6, 1))
    assert boxes[0].tolist() == pytest.approx([6.4, 6.4, 32, 38.4])


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


@pytest.mark.parametrize("method, workers", [("fork", 2), ("spawn", 1),
                                             pytest.param("forkserver", 2, marks=pytest.mark.slow)])
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
