"""The stretch and the augmentation by hand, on images drawn here; the same pictures whatever loads them."""
import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image

from shared.voc import Annotation
from yolov1.dataset import DetectionDataset, collate, crop, stretch


@pytest.fixture
def annotation(tmp_path):
    """A black image of 200 x 100 with a white box, (20, 10, 100, 60): an object of label 3; and a difficult object."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[10:60, 20:100] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    return Annotation(tmp_path / "a.png", 200, 100, np.array([[20.0, 10, 100, 60], [0, 0, 9, 9]]), np.array([3, 5]),
                      np.array([False, True]))


def test_stretch_by_hand():
    # 3 x 2 pixels, rows of 0, 100, 200 and of 10, 110, 210, into 5 x 5. Corners stay: the five columns are at 0, 1/2,
    # 1, 3/2, 2 of the old ones, 0 50 100 150 200, and the middle row is half way between the two. (Pixel centres at
    # halves, the usual resize, would give 0 40 100 160 200.)
    image = np.repeat(np.array([[[0], [100], [200]], [[10], [110], [210]]], np.uint8), 3, 2)
    square = stretch(image, 5)
    assert square.shape == (3, 5, 5)
    assert (square[0, 0] * 255).tolist() == pytest.approx([0, 50, 100, 150, 200], abs=1e-3)
    assert (square[1, 2] * 255).tolist() == pytest.approx([5, 55, 105, 155, 205], abs=1e-3)


def test_targets_of_evaluation(annotation):
    image, targets = DetectionDataset([annotation], 64)[0]
    # Centre (60 / 200, 35 / 100) = (0.3, 0.35), size (80 / 200, 50 / 100) = (0.4, 0.5). The difficult object is left
    # out. On the square of 64 the white box reaches from 6.4 to 32 across, from 6.4 to 38.4 down.
    assert targets.shape == (1, 5) and targets[0].tolist() == pytest.approx([3, 0.3, 0.35, 0.4, 0.5])
    assert image.shape == (3, 64, 64) and image[0, 8, 8] == 1 == image[0, 36, 30]
    assert image[0, 41, 20] == 0 == image[0, 20, 35] == image[0, 4, 20]


@pytest.mark.parametrize("draw", range(8))
def test_augmented_boxes_stay_on_their_objects(annotation, draw):
    image, targets = DetectionDataset([annotation], 96, augment=True)[0, (7, draw)]
    assert image.shape == (3, 96, 96) and 0 <= image.min() and image.max() <= 1
    (label, x, y, w, h), = targets.tolist()
    assert label == 3
    white = image.amax(0) > 0.5 * image.max()
    columns, rows = white.any(0).nonzero(), white.any(1).nonzero()
    assert [columns.min(), columns.max() + 1] == pytest.approx([(x - w / 2) * 96, (x + w / 2) * 96], abs=1.5)
    assert [rows.min(), rows.max() + 1] == pytest.approx([(y - h / 2) * 96, (y + h / 2) * 96], abs=1.5)


def test_what_augmentation_varies(annotation):
    # Each side by up to 20 %: of the width .6 to 1.4 are left. The object, .4 of it, becomes .4 / 1.4 = .286 to .4 / .6
    # = .667 of the square's, at most where nothing is cut off. Half of the time it is the mirror image: its centre, on
    # the left at .3, is on the right. White is 1 if the exposure goes up, and at least 1 / 1.5 = .667 if it goes down.
    dataset = DetectionDataset([annotation], 96, augment=True)
    items = [dataset[0, draw] for draw in range(64)]
    x, width = (torch.stack([targets[0, k] for _, targets in items]) for k in (1, 3))
    assert 20 < (x > 0.5).sum() < 44 and len(x.unique()) > 40
    assert 0.285 < width.min() < 0.32 and 0.5 < width.max() < 0.668
    white = torch.stack([image.max() for image, _ in items])
    assert 0.66 < white.min() < 0.72 and white.max() == 1
    assert (white[x > 0.5] == 1).any() and (white[x > 0.5] < 1).any()     # the mirror image is not always the dark one
    assert (white[x < 0.5] == 1).any() and (white[x < 0.5] < 1).any()


def test_saturation_changes_and_hue_does_not(annotation, tmp_path):
    # All pixels are (150, 100, 100). ColorJitter's saturation moves each colour away from its grey, or luma,
    # 0.299 150 + 0.587 100 + 0.114 100 = 114.95: (max - min) / luma is 50 / 114.95 = 0.435 in the picture, and between
    # 0.435 / 1.5 = 0.290 and 0.435 1.5 = 0.652 in augmented ones. The exposure multiplies both, which changes nothing.
    # Hue is the same in all: green and blue stay equal, where a turn of up to 36 degrees would part them by up to
    # 36 / 60 = 0.6 of max - min.
    luma = 0.299 * 150 + 0.587 * 100 + 0.114 * 100
    assert [luma, 50 / luma, 50 / luma / 1.5, 50 / luma * 1.5] == pytest.approx([114.95, 0.435, 0.290, 0.652], abs=5e-4)
    Image.fromarray(np.full((100, 200, 3), (150, 100, 100), np.uint8)).save(tmp_path / "red.png")
    dataset = DetectionDataset([annotation._replace(image=tmp_path / "red.png")], 32, augment=True)
    colours = torch.stack([dataset[0, draw][0][:, 16, 16] for draw in range(64)])            # (64, 3)
    red, green, blue = colours.T
    saturation = (red - green) / (0.299 * red + 0.587 * green + 0.114 * blue)
    assert 0.27 < saturation.min() < 0.33 and 0.60 < saturation[red < 1].max() < 0.66
    assert (green - blue).abs().max() < 0.01


def test_other_transforms_can_follow_the_crop(annotation):
    # Without jitter and with a transform that never happens, the picture is the image itself, only resized otherwise.
    dataset = DetectionDataset([annotation], 100, augment=True, jitter=0, transforms=[A.HorizontalFlip(p=0)])
    image, targets = dataset[0, 1]
    assert targets[0].tolist() == pytest.approx([3, 0.3, 0.35, 0.4, 0.5])
    assert image[0, 35, 11:49].tolist() == [1] * 38 and image[0, 35, 52:].max() == 0


class Fixed:
    """Stands for a random generator: uniform(low, high) gives the next of the fractions, between low and high."""

    def __init__(self, *fractions):
        self.fractions = list(fractions)

    def uniform(self, low, high):
        return low + self.fractions.pop(0) * (high - low)


def test_placement_by_hand():
    # 200 x 100, jitter .2. Left edge in by 20 % to 40, right edge out by 20 % to 240: 200 wide. Top edge out by 20 % to
    # -20, lower edge in by 10 % to 90: 110 high. Into 64 x 64: the box (20, 10, 100, 60) less (40, -20), times
    # (64 / 200, 64 / 110).
    image, box = np.zeros((100, 200, 3), np.uint8), np.array([[20.0, 10, 100, 60]])
    image[:, 150:], image[:5] = (255, 0, 0), (0, 255, 0)
    square, boxes = crop(image, box, 64, 0.2, Fixed(1, 0, 0, 0.75))
    assert boxes[0].tolist() == pytest.approx([-20 * 0.32, 30 * 64 / 110, 60 * 0.32, 80 * 64 / 110])
    # Columns from 150 on, less 40, are red, to the very end at 240; rows up to 5, plus 20, are green.
    assert (square[:13] == [0, 255, 0]).all() and (square[16:, 37:] == [255, 0, 0]).all() and not square[16:, :34].any()
    # No jitter: the whole image.
    square, boxes = crop(image, box, 64, 0, Fixed(0, 0.3, 0.6, 1))
    assert boxes[0].tolist() == pytest.approx([6.4, 6.4, 32, 38.4])


def test_objects_are_shuffled_only_in_training(annotation):
    # Two objects with one centre: which of them comes first, and so keeps the cell, is chance.
    two = annotation._replace(boxes=np.array([[20.0, 10, 100, 60], [40, 20, 80, 50]]), difficult=np.zeros(2, bool))
    dataset = DetectionDataset([two], 64, augment=True)
    targets = [dataset[0, draw][1] for draw in range(40)]
    first = [int(target[0, 0]) for target in targets]
    assert 8 < first.count(3) < 32 and first.count(3) + first.count(5) == 40
    assert all(target[target[:, 0] == 3, 3] > target[target[:, 0] == 5, 3] for target in targets)    # the larger box
    assert DetectionDataset([two], 64)[0][1][:, 0].tolist() == [3, 5]
    assert DetectionDataset([two], 64)[0, 1][1][:, 0].tolist() == [3, 5]


def test_tiny_boxes_are_dropped_only_in_training(annotation):
    # The first box is .5 of 200 pixels wide, .0025 of the image, up to .0025 / .6 = .0042 when augmented: below .005.
    # The second is .01 of it, at least .01 / 1.4 = .0071. Both are where nothing is cut off.
    boxes = np.array([[100.0, 40, 100.5, 60], [100.0, 40, 102, 60]])
    thin = annotation._replace(boxes=boxes, labels=np.array([3, 5]), difficult=np.zeros(2, bool))
    for draw in range(5):
        assert DetectionDataset([thin], 64, augment=True)[0, draw][1][:, 0].tolist() == [5]
    assert DetectionDataset([thin], 64)[0][1][:, 0].tolist() == [3, 5]


def test_what_is_cut_away_is_no_object(annotation):
    # Of 200 columns the first 10 hold the object. Where the left edge moves in by more than that it is gone.
    edge = annotation._replace(boxes=np.array([[0.0, 10, 10, 60]]), labels=np.array([3]), difficult=np.zeros(1, bool))
    dataset = DetectionDataset([edge], 64, augment=True)
    counts = [len(dataset[0, draw][1]) for draw in range(40)]
    assert 5 < counts.count(0) < 25 and counts.count(0) + counts.count(1) == 40      # 37.5 % are expected


def test_collate(annotation):
    empty = annotation._replace(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), difficult=np.zeros(0, bool))
    dataset = DetectionDataset([annotation, empty, annotation], 64)
    images, targets = collate([dataset[i] for i in range(3)])
    assert images.shape == (3, 3, 64, 64)
    assert targets.shape == (2, 6) and targets[:, 0].tolist() == [0, 2] and targets[0, 1:].equal(dataset[0][1][0])
    assert collate([dataset[1]])[1].shape == (0, 6)


def test_an_augmented_image_without_objects(annotation):
    empty = annotation._replace(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), difficult=np.zeros(0, bool))
    assert DetectionDataset([empty], 64, augment=True)[0, 1][1].shape == (0, 5)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_draw_what_one_process_draws(annotation, method):
    # The same draw gives the same picture in every process and epoch, another draw another picture.
    keys = [[(0, (0, n)), (0, (0, n + 1))] for n in range(4)]
    dataset = DetectionDataset([annotation], 64, augment=True)
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=keys, num_workers=2, collate_fn=collate,
                                         multiprocessing_context=method)
    loaded = list(loader)
    for (images, targets), batch in zip(loaded, keys):
        here = collate([dataset[key] for key in batch])
        assert images.equal(here[0]) and targets.equal(here[1])
    pictures = [images[0] for images, _ in loaded]
    assert all(not a.equal(b) for i, a in enumerate(pictures) for b in pictures[:i])
