"""YOLOv3 on a ResNeXt: its shapes; the labels, entry by entry; the loss by hand; its data; its training."""
import csv
import inspect
import math
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn as nn
import torchvision
import torchvision.transforms.v2

import yolov3.detect as detect
import yolov3.evaluate as evaluate
import yolov3.resnext_coco.dataset as dataset
import yolov3.resnext_coco.train as train
import yolov3.weights as weights
from shared.annotations import read_annotations
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.draw import class_colour
from shared.errors import InputError
from shared.layers import count_operations
from shared.paths import ROOT
from shared.report import truths_of
from yolov3.dataset import DetectionDataset as LetterboxDataset
from yolov3.loss import yolov3_loss
from yolov3.model import ANCHORS, decode
from yolov3.resnext_coco.dataset import CLASSES, TEST, TRAIN, DetectionDataset, anchor_boxes, assign, collate
from yolov3.resnext_coco.loss import resnext_loss
from yolov3.resnext_coco.model import ResNeXtYOLOv3

LOG3, LOG4_3 = math.log(3), math.log(4 / 3)


# ---- the network

@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ResNeXtYOLOv3(num_classes=2).eval()


def test_output_shapes(network):
    with torch.no_grad():
        heads = network(torch.zeros(2, 3, 64, 96))
        assert [head.shape for head in heads] == [(2, 3, 2, 3, 7), (2, 3, 4, 6, 7), (2, 3, 8, 12, 7)]
        assert [head.shape for head in network(torch.zeros(1, 3, 32, 32))] == [(1, 3, n, n, 7) for n in (1, 2, 4)]
    with pytest.raises(ValueError, match="divisible by 32"):
        network(torch.zeros(1, 3, 64, 80))


def test_parameters_and_operations():
    # The backbone: torchvision's 25,028,904 less the classifier's 2,049,000. The head: YOLOv3's 61,949,149 less
    # Darknet-53's 40,584,928 (41,609,928 less the classifier's 1,025,000). The first 1 x 1 of each scale takes twice as
    # many channels from the backbone: 1024 x 512 + 512 x 256 + 256 x 128 weights more.
    with torch.device("meta"):                                               # counts without computing
        rows = count_operations(ResNeXtYOLOv3(), 608, 608)
    assert 25_028_904 - 2_049_000 + 61_949_149 - 40_584_928 + 524_288 + 131_072 + 32_768 == 45_032_253
    assert sum(row[3] for row in rows) == 45_032_253 and round(sum(row[4] for row in rows) / 1e9, 2) == 99.40


def test_it_is_torchvisions_network_on_normalised_colours(network):
    # torchvision's own forward up to layer4, on (image - mean) / deviation.
    resnext = torchvision.models.resnext50_32x4d().eval()
    stem, backbone = network.backbone.stem, network.backbone
    for part, ours in zip(["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"],
                          [stem[0], stem[1], backbone.stage2, backbone.stage3, backbone.stage4, backbone.stage5]):
        getattr(resnext, part).load_state_dict(ours.state_dict())
    resnext.avgpool = resnext.fc = nn.Identity()
    images = torch.rand(1, 3, 64, 32)
    normalised = torchvision.transforms.functional.normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        stride8, stride16, stride32 = backbone(images)
        torch.testing.assert_close(stride32, resnext(normalised).view(1, 2048, 2, 1), rtol=1e-4, atol=1e-4)
    assert stride8.shape == (1, 512, 8, 4) and stride16.shape == (1, 1024, 4, 2)


def test_a_download_that_fails_is_one_line(monkeypatch):
    def no_network(weights=None):
        raise OSError("urlopen error: no network")
    monkeypatch.setattr(torchvision.models, "resnext50_32x4d", no_network)
    with pytest.raises(InputError, match="ResNeXt-50: torchvision's DEFAULT weights could not be loaded .*no network"):
        ResNeXtYOLOv3(weights="DEFAULT")


# ---- the labels

def test_the_number_of_predictors():
    assert len(anchor_boxes(608, 608)) == 3 * (76 ** 2 + 38 ** 2 + 19 ** 2) == 22_743
    assert len(anchor_boxes(416, 416)) == 10_647


def test_anchor_boxes_are_in_the_order_of_the_heads():
    # A network whose outputs are all 0 predicts the anchor boxes.
    boxes, _ = decode([torch.zeros(1, 3, 2, 4, 6), torch.zeros(1, 3, 4, 8, 6), torch.zeros(1, 3, 8, 16, 6)])
    xy, wh = anchor_boxes(64, 128).split(2, 1)
    size = torch.tensor([128, 64])
    torch.testing.assert_close(torch.cat([(xy - wh / 2) / size, (xy + wh / 2) / size], 1), boxes[0])


# An input of 128 x 64 pixels: 4 x 2, 8 x 4 and 16 x 8 cells, L = 3 (8 + 32 + 128) = 504. The nine anchors' first
# predictors are 0, 8, 16; 24, 56, 88; 120, 248, 376.
PIXELS = torch.tensor([1, 1, 128, 64, 128, 64])


def test_labels_by_hand():
    # Image 0 has an object of class 7. It is 33 x 23 = 759 pixels large, with its centre at (50, 21). The ninth anchor
    # is also 33 x 23. At stride 8 the centre is at column 6.25, row 2.625, so predictor 376 + 2 * 16 + 6 = 414 is
    # responsible, with x* = .25, y* = .625 and t*_w = t*_h = 0. Its anchor box has its centre at (52, 20).
    # Other predictors of the ninth anchor:
    #     to the left, centre (44, 20)    intersection 27 x 22 = 594, IOU 594 / (2 * 759 - 594) = .643: ignored
    #     to the right, centre (60, 20)   intersection 23 x 22 = 506, IOU 506 / 1012 = .5, not more: background
    #     below, centre (52, 28)          intersection 31 x 16 = 496, IOU .485: background
    # Other anchors do not reach an IOU of .5: 16 x 30 has at most 16 * 23 / (480 + 759 - 368) = .42, 30 x 61 at most
    # 30 * 23 / (1830 + 759 - 690) = .36.
    # Image 1 has no object.
    targets = torch.tensor([[0.0, 7, 50, 21, 33, 23]]) / PIXELS
    coordinates, classification, gt_boxes, gt_and_neg_boxes = assign(targets, 2, 64, 128, 80)

    expected = torch.zeros(2, 504, 4)
    expected[0, 414] = torch.tensor([0.25, 0.625, 0, 0])
    assert coordinates.equal(expected)
    expected = torch.zeros(2, 504, 80, dtype=torch.bool)
    expected[0, 414, 7] = True
    assert classification.equal(expected)
    expected = torch.zeros(2, 504, 1, dtype=torch.bool)
    expected[0, 414] = True
    assert gt_boxes.equal(expected)
    expected = torch.ones(2, 504, 1, dtype=torch.bool)
    expected[0, 413] = False
    assert gt_and_neg_boxes.equal(expected)


@pytest.mark.parametrize("earlier", [0, 1])
def test_two_objects_with_one_anchor_and_cell(earlier):
    # Objects of 60 x 48 pixels at (70, 30) and 64 x 45 at (72, 24). The fifth anchor, 62 x 45, is the most similar to
    # both. At stride 16 both centres, (4.375, 1.875) and (4.5, 1.5), are in column 4, row 1: predictor 56 + 8 + 4 = 68.
    # The later object gives the box, both give a class.
    objects = torch.tensor([[0.0, 3, 70, 30, 60, 48], [0, 5, 72, 24, 64, 45]]) / PIXELS
    learned = [[0.375, 0.875, math.log(60 / 62), math.log(48 / 45)], [0.5, 0.5, math.log(64 / 62), 0]]
    coordinates, classification, gt_boxes, gt_and_neg_boxes = assign(objects[[earlier, 1 - earlier]], 1, 64, 128, 80)
    torch.testing.assert_close(coordinates[0, 68], torch.tensor(learned[1 - earlier]))
    assert classification.nonzero().tolist() == [[0, 68, 3], [0, 68, 5]]
    assert gt_boxes.nonzero().tolist() == [[0, 68, 0]] and gt_and_neg_boxes[0, 68]


def test_a_centre_on_the_far_border_is_in_the_last_cell():
    targets = torch.tensor([[0.0, 0, 128, 64, 33, 23]]) / PIXELS             # the lower right corner
    coordinates, _, gt_boxes, _ = assign(targets, 1, 64, 128, 80)
    assert gt_boxes.nonzero().tolist() == [[0, 503, 0]] and coordinates[0, 503].tolist() == [1, 1, 0, 0]


def test_a_crowd_against_loops():
    torch.manual_seed(1)
    wh = torch.rand(90, 2) * 0.6 + 0.02
    targets = torch.cat([torch.randint(0, 3, (90, 1)), torch.randint(0, 4, (90, 1)), torch.rand(90, 2), wh], 1)
    coordinates, classification, gt_boxes, gt_and_neg_boxes = assign(targets, 3, 128, 96, 4)
    xy, anchor_wh = anchor_boxes(128, 96).split(2, 1)
    anchors = torch.cat([xy - anchor_wh / 2, xy + anchor_wh / 2], 1)
    for image in range(3):
        own = targets[targets[:, 0] == image]
        centre, size = own[:, 2:4] * torch.tensor([96, 128]), own[:, 4:] * torch.tensor([96, 128])
        objects = torch.cat([centre - size / 2, centre + size / 2], 1)
        iou = torchvision.ops.box_iou(anchors, objects)                      # (L, n)
        assert gt_and_neg_boxes[image, :, 0].equal((iou <= 0.5).all(1) | gt_boxes[image, :, 0])
        # The targets of a responsible predictor, decoded, are an object of this image, and its class is learned.
        for predictor in gt_boxes[image, :, 0].nonzero()[:, 0].tolist():
            stride = 32 if predictor < 36 else 16 if predictor < 180 else 8                  # 3 (3 x 4), 3 (6 x 8)
            x, y, t_w, t_h = coordinates[image, predictor].tolist()
            corner = xy[predictor] - stride / 2                                              # of the cell
            found = torch.cat([corner + stride * torch.tensor([x, y]),
                               anchor_wh[predictor] * torch.tensor([t_w, t_h]).exp()])
            match = (torch.cat([centre, size], 1) - found).abs().amax(1) < 1e-3
            assert match.sum() == 1 and classification[image, predictor, int(own[match, 1])]
    assert gt_boxes.sum() < 90                                               # some share a slot
    assert classification.any(2).equal(gt_boxes[..., 0])


# ---- the loss

def test_the_loss_by_hand():
    # Two images, two predictors each, two classes. The sigmoids of log 3, 0 and -log 3 are 3/4, 1/2 and 1/4.
    # Image 0, first predictor: responsible.
    #     xy         t_x = log 3, t_y = -log 3, x* = y* = 1/2: 5 [(1/4)^2 + (1/4)^2] = .625
    #     wh         t_w = .5, t_h = -1, targets 0: 5 [.5^2 + 1^2] = 6.25
    #     object     t_o = log 3: -log(3/4) = log(4/3)
    #     class      scores log 3 and 0, class 1: -log(1 - 3/4) - log(1/2) = log 4 + log 2 = log 8
    # Image 0, second predictor: background, t_o = -log 3: -log(1 - 1/4) = log(4/3).
    # Image 1: the first predictor is background, t_o = 0: log 2. The second one is ignored.
    # All terms are halved, because they are means over two images.
    head = torch.zeros(2, 1, 1, 2, 7)
    head[0, 0, 0, 0] = torch.tensor([LOG3, -LOG3, 0.5, -1, LOG3, LOG3, 0])
    head[0, 0, 0, 1, 4], head[1, 0, 0, 1, 4] = -LOG3, 9
    head.requires_grad_()
    coordinates = torch.zeros(2, 2, 4)
    coordinates[0, 0, :2] = 0.5
    classification = torch.zeros(2, 2, 2, dtype=torch.bool)
    classification[0, 0, 1] = True
    gt_boxes = torch.tensor([[[True], [False]], [[False], [False]]])
    gt_and_neg_boxes = torch.tensor([[[True], [True]], [[True], [False]]])
    labels = [coordinates, classification, gt_boxes, gt_and_neg_boxes]
    before = [label.clone() for label in labels]

    loss = resnext_loss([head], *labels)
    expected = {"xy": 0.3125, "wh": 3.125, "object": LOG4_3 / 2, "no_object": (LOG4_3 + math.log(2)) / 2,
                "class": math.log(8) / 2}
    expected["total"] = sum(expected.values())
    assert {name: value.item() for name, value in loss.items()} == pytest.approx(expected)
    loss["total"].backward()
    assert head.grad[1, 0, 0, 1].abs().max() == 0                            # ignored
    # The gradient of BCE is sigmoid - target, that of wh is 2 * 5 (.5 - 0) for t_w, that of xy is
    # 2 * 5 (3/4 - 1/2) * 3/4 * 1/4 for t_x. All are halved.
    torch.testing.assert_close(head.grad[0, 0, 0, 0], torch.tensor(
        [10 / 4 * 3 / 16, -10 / 4 * 3 / 16, 5, -10, -1 / 4, 3 / 4, -1 / 2]) / 2)
    torch.testing.assert_close(head.grad[:, 0, 0, :, 4], torch.tensor([[-1 / 4, 1 / 4], [1 / 2, 0]]) / 2)
    assert all(label.equal(copy) for label, copy in zip(labels, before))
    assert resnext_loss([head], *labels)["total"].equal(loss["total"])


def test_the_scales_are_taken_in_the_order_of_the_labels():
    # A network whose outputs are all 0 predicts the anchor boxes, so yolov3_loss ignores what the labels ignore. The
    # second time the objectness differs from place to place.
    torch.manual_seed(2)
    targets = torch.cat([torch.randint(0, 2, (12, 1)), torch.randint(0, 5, (12, 1)), torch.rand(12, 2),
                         torch.rand(12, 2) * 0.5 + 0.05], 1)
    heads = [torch.zeros(2, 3, 64 // s, 128 // s, 10) for s in (32, 16, 8)]
    ours, paper = resnext_loss(heads, *assign(targets, 2, 64, 128, 5)), yolov3_loss(heads, targets)
    for term in ("object", "no_object", "class"):
        assert ours[term].item() == pytest.approx(paper[term].item(), rel=1e-5)
    for head in heads:
        head[..., 4] = torch.randn_like(head[..., 4])
    ours, paper = resnext_loss(heads, *assign(targets, 2, 64, 128, 5)), yolov3_loss(heads, targets)
    for term in ("object", "no_object", "class"):
        assert ours[term].item() == pytest.approx(paper[term].item(), rel=1e-5)


def test_a_batch_without_objects():
    labels = assign(torch.zeros(0, 6), 2, 64, 64, 80)
    heads = [torch.zeros(2, 3, 64 // s, 64 // s, 85) for s in (32, 16, 8)]
    loss = resnext_loss(heads, *labels)
    assert not labels[0].any() and not labels[1].any() and not labels[2].any() and labels[3].all()
    assert loss["no_object"].item() == loss["total"].item() == pytest.approx(252 * math.log(2))


# ---- the data

@pytest.fixture(scope="module")
def annotations():
    return read_annotations(TRAIN, CLASSES)


def test_images_without_augmentation_are_yolov3s(annotations):
    for n in (0, 4, 10):                                                     # 4 has a crowd, 10 has no objects
        image, targets = DetectionDataset(annotations, 96)[n]
        expected_image, expected_targets = LetterboxDataset(annotations, 96)[n]
        assert image.equal(expected_image) and targets.equal(expected_targets)


def test_augmentation_flips_and_distorts(annotations):
    plain, augmented = DetectionDataset(annotations, 96)[1], DetectionDataset(annotations, 96, augment=True)
    mirror = plain[1].clone()
    mirror[:, 1] = 1 - mirror[:, 1]
    flipped, same_colours = 0, 0
    for seed in range(64):
        image, targets = augmented[1, seed]
        is_flipped = not torch.allclose(targets, plain[1], atol=1e-5)
        torch.testing.assert_close(targets, mirror if is_flipped else plain[1], atol=1e-5, rtol=0)
        difference = (image - (plain[0].flip(2) if is_flipped else plain[0])).abs().max()
        flipped, same_colours = flipped + is_flipped, same_colours + bool(difference < 0.02)
    assert 20 <= flipped <= 44 and 1 <= same_colours <= 12                   # 64 / 2 = 32 and 64 / 16 = 4 are expected
    again = augmented[1, 5][0]
    assert again.equal(augmented[1, 5][0]) and not again.equal(augmented[1, 6][0])


def test_the_distortion_is_torchvisions():
    defaults = inspect.signature(torchvision.transforms.v2.RandomPhotometricDistort).parameters
    for name in ("brightness", "contrast", "saturation", "hue"):
        assert getattr(dataset, name.upper()) == defaults[name].default
    # Each of the four has a transform of its own, which leaves the other three unchanged and is used half of the time.
    _, *jitters = DetectionDataset([], 96, augment=True).distort.transforms
    for jitter, changed in zip(jitters, ("brightness", "contrast", "saturation", "hue"), strict=True):
        for name, same in [("brightness", (1, 1)), ("contrast", (1, 1)), ("saturation", (1, 1)), ("hue", (0, 0))]:
            assert getattr(jitter, name) == (getattr(dataset, name.upper()) if name == changed else same)
        assert jitter.p == 0.5


def test_collate(annotations):
    items = [DetectionDataset(annotations, 64)[n] for n in (3, 0)]
    images, *labels = collate(items, 80)
    assert images.equal(torch.stack([items[0][0], items[1][0]]))
    targets = torch.cat([nn.functional.pad(part, (1, 0), value=n) for n, (_, part) in enumerate(items)])
    assert all(a.equal(b) for a, b in zip(labels, assign(targets, 2, 64, 64, 80)))


def test_a_sheet_of_training_images(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "RUNS", tmp_path)
    dataset.main()
    assert [path.name for path in (tmp_path / "yolov3_resnext").iterdir()] == ["augmented.png"]


# ---- its training

def test_both_presets(monkeypatch):
    # Each preset gives a value to the same constants. 30 epochs of COCO's 118,287 images in batches of 32 are
    # 110,894 steps, one epoch 3,696.
    def constants(script, preset):
        monkeypatch.setattr(dataset, "PRESET", preset)
        return {name: value for name, value in runpy.run_path(script.__file__).items() if name.isupper()}

    sample, coco = constants(train, "sample"), constants(train, "coco")
    assert sample.keys() == coco.keys()
    assert (sample["MAX_STEPS"], sample["SIZE"], sample["WEIGHTS"]) == (160, 128, None)
    assert (coco["SIZE"], coco["WEIGHTS"], coco["LEARNING_RATE"], coco["AUGMENT"]) == (608, "DEFAULT", 2e-4, True)
    epoch = 118_287 / coco["BATCH_SIZE"]
    assert coco["MAX_STEPS"] / epoch == pytest.approx(30, rel=0.01)
    assert coco["EVALUATE_EVERY"] / epoch == pytest.approx(2, rel=0.01)
    assert coco["CHECKPOINT_EVERY"] / epoch == pytest.approx(1, rel=0.01)


def test_the_learning_rate(monkeypatch):
    for name, value in [("BURN_IN", 10), ("MAX_STEPS", 110), ("LEARNING_RATE", 2e-4)]:
        monkeypatch.setattr(train, name, value)
    for step, rate in [(1, 2e-5), (5, 1e-4), (10, 2e-4), (60, 1e-4), (110, 0)]:     # half-way, cos(pi / 2) = 0
        assert train.learning_rate(step) == pytest.approx(rate, abs=1e-12)


def test_adamw_by_hand(monkeypatch):
    # Weight 1, gradient 4, learning rate .1, decay .01. The first step of Adam is as long as the learning rate,
    # whatever the gradient is: -.1. The decay is subtracted separately: -.1 * .01 * 1. BatchNorm has no decay.
    monkeypatch.setattr(train, "LEARNING_RATE", 0.1)
    layers = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1))
    nn.init.ones_(layers[0].weight)
    for parameter in layers.parameters():
        parameter.grad = torch.full_like(parameter, 4)
    train.make_optimizer(layers).step()
    assert layers[0].weight.item() == pytest.approx(1 - 0.001 - 0.1)
    assert layers[1].weight.item() == pytest.approx(1 - 0.1)


def test_the_measures_are_cocos(annotations, tmp_path, monkeypatch):
    # The boxes of TRAIN are cut to .52 of their height: right at an IOU of .5, wrong at the other nine thresholds. So
    # AP50 is 1 and AP 1/10. Nothing is found in the images of TEST.
    def low(network, annotations, *_):
        if len(annotations) == 4:
            return np.zeros((0, 7)), {}
        truths = truths_of(annotations)
        boxes = truths[:, 2:6].copy()
        boxes[:, 3] = boxes[:, 1] + 0.52 * (boxes[:, 3] - boxes[:, 1])
        return np.column_stack([truths[:, :2], np.ones(len(truths)), boxes]), {}

    pictures = []
    monkeypatch.setattr(train, "detect_all", low)
    monkeypatch.setattr(train, "MAX_TRAIN_EVALUATED", 2)
    monkeypatch.setattr(train, "write_sheet", lambda path, images, **_: pictures.extend(images))
    measured = train.measure(None, annotations, annotations[:4], None, tmp_path / "sheet.jpg")
    assert measured == pytest.approx({"AP train": 0.1, "AP50 train": 1, "AP test": 0, "AP50 test": 0})
    assert len(pictures) == 6
    above, below = np.split(pictures[1], 2)                                  # the cat's true box and the one found
    (left, top, right, bottom), = annotations[1].boxes.round().astype(int)
    colour = class_colour(CLASSES.index("cat"))
    assert tuple(above[bottom - 1, (left + right) // 2]) == colour != tuple(below[bottom - 1, (left + right) // 2])


class ThreeWeights(nn.Module):
    """
    In place of the network: a convolution of three weights, each 1. Its output, which is also the loss, is their sum.
    The input of its BatchNorm is 1 and 3.
    """

    def __init__(self, num_classes, anchors, weights):
        super().__init__()
        self.weights = weights
        self.conv, self.bn = nn.Conv2d(3, 1, 1, bias=False), nn.BatchNorm2d(1)
        nn.init.ones_(self.conv.weight)

    def forward(self, images):
        self.bn(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
        return self.conv.weight.sum()


@pytest.fixture
def train_three_weights(tmp_path, monkeypatch):
    """A function that runs main() on ThreeWeights. Plain gradient descent; result[step] is that step's AP on TEST."""
    def run(results, network=ThreeWeights, **constants):
        def measure(network, train, test, device, sheet):
            network.eval()
            result = results[int(sheet.stem.removeprefix("step_")) - 1]
            return dict(zip(train_file.MEASURES, [1 - result, 1 - result, result, 1 - result]))

        settings = dict(
            RUNS=tmp_path, ResNeXtYOLOv3=network, measure=measure, MAX_STEPS=len(results), BATCH_SIZE=8, SIZE=32,
            BURN_IN=0, EVALUATE_EVERY=1, CHECKPOINT_EVERY=1, NUM_WORKERS=0, MAX_NORM=1e9,
            resnext_loss=lambda total, *labels: dict.fromkeys(train_file.TERMS, total),
            write_training_curves=lambda *_: None,
            make_optimizer=lambda network: torch.optim.SGD(network.parameters(), lr=1))
        for name, value in {**settings, **constants}.items():
            assert hasattr(train_file, name)
            monkeypatch.setattr(train_file, name, value)
        train_file.main()
        return load_checkpoint(tmp_path / "yolov3_resnext" / "last.pt", "ResNeXtYOLOv3")

    train_file = train
    return run


def log(folder):
    with open(folder / "yolov3_resnext" / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("subdivisions", [1, 2, 4])
def test_steps_by_hand(train_three_weights, tmp_path, subdivisions):
    # The gradient is (1, 1, 1), of length sqrt(3), and is shortened to sqrt(3) / 2: (1/2, 1/2, 1/2). Subdivisions do
    # not change it. The learning rates of the four steps are .1 (1/2) = .05, .1, .1 (1 + cos(pi/2)) / 2 = .05 and 0. So
    # the weights are 1, .975, .925, .9, .9. The loss of a step is three times the weight before it.
    state = train_three_weights([0] * 4, SUBDIVISIONS=subdivisions, LEARNING_RATE=0.1, BURN_IN=2, MAX_NORM=0.75 ** 0.5)
    assert state["model"]["conv.weight"].flatten().tolist() == pytest.approx([0.9] * 3)
    rows = log(tmp_path)
    assert [float(row["learning rate"]) for row in rows] == pytest.approx([0.05, 0.1, 0.05, 0])
    assert [float(row["total"]) for row in rows] == pytest.approx([3, 2.925, 2.775, 2.7])
    assert [(row["step"], row["epoch"]) for row in rows] == [("1", "0"), ("2", "1"), ("3", "1"), ("4", "2")]


def test_a_gradient_shorter_than_max_norm_is_not_changed(train_three_weights):
    # The gradient is (1, 1, 1) in every step. Its length, sqrt(3) = 1.73, is less than 2. The learning rates are .1,
    # .1 (1 + cos(pi/2)) / 2 = .05 and 0. A sum over the subdivisions, or over two steps, would be (2, 2, 2) and
    # would be shortened.
    state = train_three_weights([0, 0, 0], SUBDIVISIONS=2, LEARNING_RATE=0.1, BURN_IN=1, MAX_NORM=2.0)
    assert state["model"]["conv.weight"].flatten().tolist() == pytest.approx([0.85] * 3)


def test_the_running_averages(train_three_weights):
    # The mean of 1 and 3 is 2. With BATCHNORM_MOMENTUM .25 the running mean is .75 * 0 + .25 * 2 = .5 after one step,
    # and .75 * .5 + .25 * 2 = .875 after two. With PyTorch's own .1 it would be .2 and .38. A network that stayed in
    # evaluation mode after the evaluation of step 1 would keep .5.
    state = train_three_weights([0, 0], BATCHNORM_MOMENTUM=0.25)
    assert state["model"]["bn.running_mean"].item() == pytest.approx(0.875)


def test_the_best_is_the_best_on_test_also_after_an_interruption(train_three_weights, tmp_path):
    # The AP on TEST is .5, .5, .4. Of the equal ones, the later is kept. All other measures are best in step 3.
    train_three_weights([0.5, 0.5])
    last = train_three_weights([0.5, 0.5, 0.4])
    best = load_checkpoint(tmp_path / "yolov3_resnext" / "best.pt", "ResNeXtYOLOv3")
    assert (best["step"], last["step"], last["best"]) == (2, 3, 0.5)
    assert [float(row["AP test"]) for row in log(tmp_path)] == [0.5, 0.5, 0.4]


def test_what_the_data_set_is_asked_for(train_three_weights, monkeypatch):
    # It gets the constants. Step s takes the images 4 (s - 1) to 4 s - 1 of the shuffled order, seeded by their number.
    made, loaded = [], []

    class Recorder(DetectionDataset):
        def __init__(self, annotations, size, augment):
            made.append((len(annotations), size, augment))
            super().__init__(annotations, size, augment)

        def __getitem__(self, key):
            loaded.append(key)
            return super().__getitem__(key)

    train_three_weights([0] * 4, DetectionDataset=Recorder, AUGMENT=True, SIZE=64, BATCH_SIZE=4, SUBDIVISIONS=2, SEED=5)
    assert made == [(16, 64, True)]
    assert sorted(index for index, _ in loaded) == list(range(16)) and [seed for _, seed in loaded] == [
        (5, n) for n in range(16)]


def test_pretrained_weights_only_at_the_start(train_three_weights):
    asked = []
    network = lambda *arguments: asked.append(arguments) or ThreeWeights(*arguments)
    train_three_weights([0], network, WEIGHTS="DEFAULT")
    train_three_weights([0, 0], network, WEIGHTS="DEFAULT")
    assert asked == [(80, ANCHORS, "DEFAULT"), (80, ANCHORS, None)]


def test_a_finished_run_or_other_constants_are_refused(train_three_weights):
    state = train_three_weights([0])
    assert {key: state[key] for key in ("network", "classes", "anchors", "size", "step")} == {
        "network": "ResNeXtYOLOv3", "classes": CLASSES, "anchors": ANCHORS, "size": 32, "step": 1}
    with pytest.raises(InputError, match="last.pt: all 1 steps are done"):
        train_three_weights([0])
    with pytest.raises(InputError, match="was trained with another ANCHORS"):
        train_three_weights([0, 0], ANCHORS=[[(1, 1)] * 3] * 3)
    with pytest.raises(InputError, match="was trained with another TRAIN"):
        train_three_weights([0, 0], ANCHORS=ANCHORS, TRAIN=TEST)


@pytest.mark.parametrize("constants, message", [
    (dict(SUBDIVISIONS=3), "BATCH_SIZE 8 cannot be divided by SUBDIVISIONS 3"), (dict(SIZE=80), "divisible by 32"),
    (dict(BURN_IN=1), "BURN_IN has to be less"), (dict(TRAIN=[]), "TRAIN and TEST need at least one"),
    (dict(TEST=[]), "TRAIN and TEST need at least one")])
def test_constants_that_cannot_be_are_refused(train_three_weights, tmp_path, constants, message):
    with pytest.raises(InputError, match=message):
        train_three_weights([0], **constants)
    assert not (tmp_path / "yolov3_resnext" / "last.pt").exists()


def test_a_loss_that_is_not_finite_stops_with_its_terms(train_three_weights, tmp_path):
    def broken(total, *labels):
        return dict.fromkeys(train.TERMS, total) | {"wh": total * torch.nan, "total": total * torch.nan}

    with pytest.raises(InputError, match="the loss of step 1 is not finite: {'xy': 3.0, 'wh': nan"):
        train_three_weights([0], resnext_loss=broken)
    assert not (tmp_path / "yolov3_resnext" / "last.pt").exists()


# ---- yolov3's own scripts open its checkpoint

@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network with random weights, and its checkpoint."""
    torch.manual_seed(0)
    network = ResNeXtYOLOv3(80).eval()
    path = tmp_path_factory.mktemp("checkpoint") / "last.pt"
    save_checkpoint(path, {"network": "ResNeXtYOLOv3", "classes": CLASSES, "anchors": ANCHORS, "size": 64, "step": 1,
                           "model": network.state_dict()})
    return network, path


@pytest.mark.slow
def test_evaluate_and_detect_open_it_by_its_name(checkpoint, tmp_path, monkeypatch, capsys):
    # The highest score in detections.txt is the network's own highest score for this image.
    network, path = checkpoint
    annotation = min(read_annotations(TEST, CLASSES), key=lambda annotation: annotation.image)
    with torch.no_grad():
        _, scores = decode(network(DetectionDataset([annotation], 64)[0][0][None]))
    highest = scores.max().item()
    for name, value in [("CHECKPOINT", path), ("DATA", {"test": TEST}), ("NUM_WORKERS", 0),
                        ("SCORE_THRESHOLD", highest)]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    assert "test: 8 images" in capsys.readouterr().out
    for name, value in [("CHECKPOINT", path), ("SOURCE", annotation.image), ("OUT", tmp_path),
                        ("SCORE_THRESHOLD", 0.99 * highest)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    lines = (tmp_path / "detections.txt").read_text().splitlines()[1:]
    assert max(float(line.split("\t")[2]) for line in lines) == pytest.approx(highest, abs=1e-3)


def test_darknet_has_no_resnext(checkpoint, monkeypatch):
    monkeypatch.setattr(weights, "CHECKPOINT", checkpoint[1])
    with pytest.raises(InputError, match="holds ResNeXtYOLOv3, which Darknet does not know"):
        weights.main()


# ---- trainings of the network itself, in a process of their own, as a user starts them

def start(folder, before="", **constants):
    """Runs yolov3.resnext_coco.train as a script, with some of its constants changed; -> CompletedProcess"""
    settings = "".join(f"train.{name} = {value!r}\n" for name, value in constants.items())
    (folder / "start.py").write_text(
        f"import pathlib, sys\nimport yolov3.resnext_coco.train as train\nfrom shared.errors import run\n"
        f"train.RUNS = pathlib.Path({str(folder)!r})\n{settings}\n{before}\n"
        f"if __name__ == '__main__':\n    run(train.main)\n")
    return subprocess.run([sys.executable, str(folder / "start.py")], cwd=ROOT, capture_output=True, text=True)


SHORT = dict(MAX_STEPS=4, BATCH_SIZE=8, SIZE=64, BURN_IN=2, EVALUATE_EVERY=2, CHECKPOINT_EVERY=2, NUM_WORKERS=0,
             MAX_TRAIN_EVALUATED=2)


@pytest.mark.slow
def test_what_a_training_leaves_and_an_interrupted_one_too(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    result = start(whole, **SHORT)
    assert result.returncode == 0, result.stderr
    run = whole / "yolov3_resnext"
    assert {path.name for path in run.iterdir()} == {".lock", "last.pt", "best.pt", "log.csv", "curves.png",
                                                     "detections"}
    assert [bool(row["AP test"]) for row in log(whole)] == [False, True, False, True]
    for row in log(whole):
        *terms, total = (float(row[term]) for term in train.TERMS)
        assert total == pytest.approx(sum(terms), rel=1e-4)

    # Killed after step 2, which the checkpoint holds.
    kill = "old = train.save_checkpoint\ndef save(path, state):\n    old(path, state)\n" \
           "    if path.name == 'last.pt': sys.exit('killed')\ntrain.save_checkpoint = save"
    assert "killed" in start(killed, kill, **SHORT).stderr and log(killed)[-1]["step"] == "2"
    assert start(killed, **SHORT).returncode == 0
    one, other = (load_checkpoint(folder / "yolov3_resnext" / "last.pt", "ResNeXtYOLOv3")["model"]
                  for folder in (whole, killed))
    assert all(value.equal(other[key]) for key, value in one.items())
    assert [row["total"] for row in log(killed)] == [row["total"] for row in log(whole)]


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    result = start(tmp_path)
    assert result.returncode == 0, result.stderr
    assert float(log(tmp_path)[-1]["AP50 train"]) >= 0.80
