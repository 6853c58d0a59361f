"""YOLOv3 on a ResNeXt: its shapes; the labels, entry by entry; the loss by hand; its training."""
import csv
import inspect
import math
import os
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
from shared.checkpoint import load_checkpoint
from shared.draw import class_colour
from shared.errors import InputError
from shared.layers import count_operations
from shared.paths import ROOT
from yolov3.dataset import DetectionDataset as LetterboxDataset
from yolov3.loss import yolov3_loss
from yolov3.model import decode
from yolov3.resnext_coco.dataset import CLASSES, TEST, TRAIN, DetectionDataset, anchor_boxes, assign, collate
from yolov3.resnext_coco.loss import resnext_loss
from yolov3.resnext_coco.model import ResNeXtYOLOv3

SHORT = dict(MAX_STEPS=4, BATCH_SIZE=8, SIZE=64, WARM_UP=2, EVALUATE_EVERY=1, CHECKPOINT_EVERY=1, NUM_WORKERS=0,
             EVALUATED=2)
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
    # torchvision's 25,028,904 less the classifier's 2,049,000, and YOLOv3's pyramid: its 61,949,149 less Darknet-53's
    # 40,584,928 (41,609,928 less a classifier of 1,025,000). From the backbone each scale's first 1 x 1 takes twice as
    # many channels: 1024 x 512 + 512 x 256 + 256 x 128 weights more.
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


def test_anchor_boxes_stand_in_the_order_of_the_heads():
    # A network that answers 0 predicts every anchor round the centre of its cell.
    boxes, _ = decode([torch.zeros(1, 3, 2, 4, 6), torch.zeros(1, 3, 4, 8, 6), torch.zeros(1, 3, 8, 16, 6)])
    xy, wh = anchor_boxes(64, 128).split(2, 1)
    size = torch.tensor([128, 64])
    torch.testing.assert_close(torch.cat([(xy - wh / 2) / size, (xy + wh / 2) / size], 1), boxes[0])


# An input of 128 x 64 pixels: 4 x 2, 8 x 4 and 16 x 8 cells, L = 3 (8 + 32 + 128) = 504. The nine anchors' first
# predictors are 0, 8, 16; 24, 56, 88; 120, 248, 376.
PIXELS = torch.tensor([1, 1, 128, 64, 128, 64])


def test_labels_by_hand():
    # Image 0 has an object of class 7, 33 x 23 pixels round (50, 21). The ninth anchor, 33 x 23, has just its shape; at
    # stride 8 its centre is at column 6.25, row 2.625: predictor 376 + 2 * 16 + 6 = 414, x = .25, y = .625, q = r = 0.
    # The anchor box in that cell, round (52, 20), is responsible. The same anchor to the left, round (44, 20), shares
    # 27 x 22 = 594 pixels with the object, 594 / (2 * 759 - 594) = .643: ignored. To the right, round (60, 20), it is
    # 23 x 22 = 506, and 506 / 1012 is not more than .5: background. Below, round (52, 28), 31 x 16 = 496 and .485.
    # No other anchor has half of its area: 16 x 30 reaches 16 x 23 / (480 + 759 - 368) = .42, 30 x 61 .36.
    # Image 1 has none.
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
    # 60 x 48 round (70, 30) and 64 x 45 round (72, 24) both want the fifth anchor, 62 x 45, at stride 16 in column 4
    # (4.375, 4.5) and row 1 (1.875, 1.5): predictor 56 + 8 + 4 = 68. The later one gives the box, both give a class.
    objects = torch.tensor([[0.0, 3, 70, 30, 60, 48], [0, 5, 72, 24, 64, 45]]) / PIXELS
    learned = [[0.375, 0.875, math.log(60 / 62), math.log(48 / 45)], [0.5, 0.5, math.log(64 / 62), 0]]
    coordinates, classification, gt_boxes, gt_and_neg_boxes = assign(objects[[earlier, 1 - earlier]], 1, 64, 128, 80)
    torch.testing.assert_close(coordinates[0, 68], torch.tensor(learned[1 - earlier]))
    assert classification.nonzero().tolist() == [[0, 68, 3], [0, 68, 5]]
    assert gt_boxes.nonzero().tolist() == [[0, 68, 0]] and gt_and_neg_boxes[0, 68]


def test_a_centre_on_the_far_border_is_in_the_last_cell():
    targets = torch.tensor([[0.0, 0, 128, 64, 33, 23]]) / PIXELS             # the corner below, to the right
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
        # What a responsible predictor has to answer, decoded, is an object, and its class is named.
        for predictor in gt_boxes[image, :, 0].nonzero()[:, 0].tolist():
            stride = 32 if predictor < 36 else 16 if predictor < 180 else 8                  # 3 (3 x 4), 3 (6 x 8)
            x, y, q, r = coordinates[image, predictor].tolist()
            corner = xy[predictor] - stride / 2                                              # of the cell
            found = torch.cat([corner + stride * torch.tensor([x, y]),
                               anchor_wh[predictor] * torch.tensor([q, r]).exp()])
            match = (torch.cat([centre, size], 1) - found).abs().amax(1) < 1e-3
            assert match.sum() == 1 and classification[image, predictor, int(own[match, 1])]
    assert gt_boxes.sum() < 90                                               # some share a slot
    assert classification.any(2).equal(gt_boxes[..., 0])


# ---- the loss

def test_the_loss_by_hand():
    # Two images, two predictors each, two classes. Sigmoids of log 3, 0 and -log 3 are 3/4, 1/2, 1/4.
    # Image 0: the first is responsible. t_x = log 3 and t_y = -log 3 against 1/2: 5 (1/16 + 1/16) = .625. t_w = .5 and
    # t_h = -1 against 0: 5 (.25 + 1) = 6.25. t_o = log 3: -log 3/4. Class 1: -log(1 - 3/4) - log 1/2 = log 4 + log 2.
    # The other, t_o = -log 3, is background: -log 3/4.
    # Image 1: the first is background, t_o = 0: log 2. The other is ignored. All is halved: the mean of two images.
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
    # sigmoid - target for the logits; for t_w 2 * 5 (.5 - 0); for t_x 2 * 5 (3/4 - 1/2) 3/4 1/4. Halved.
    torch.testing.assert_close(head.grad[0, 0, 0, 0], torch.tensor(
        [10 / 4 * 3 / 16, -10 / 4 * 3 / 16, 5, -10, -1 / 4, 3 / 4, -1 / 2]) / 2)
    torch.testing.assert_close(head.grad[:, 0, 0, :, 4], torch.tensor([[-1 / 4, 1 / 4], [1 / 2, 0]]) / 2)
    assert all(label.equal(copy) for label, copy in zip(labels, before))
    assert resnext_loss([head], *labels)["total"].equal(loss["total"])


def test_the_scales_are_taken_in_the_order_of_the_labels():
    # A network that answers 0 predicts its anchor boxes: it ignores what the labels ignore.
    torch.manual_seed(2)
    targets = torch.cat([torch.randint(0, 2, (12, 1)), torch.randint(0, 5, (12, 1)), torch.rand(12, 2),
                         torch.rand(12, 2) * 0.5 + 0.05], 1)
    heads = [torch.zeros(2, 3, 64 // s, 128 // s, 10) for s in (32, 16, 8)]
    ours, paper = resnext_loss(heads, *assign(targets, 2, 64, 128, 5)), yolov3_loss(heads, targets)
    for term in ("object", "no_object", "class"):
        assert ours[term].item() == pytest.approx(paper[term].item(), rel=1e-5)
    for head in heads:                                                       # each place by itself
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
    for n in (0, 4, 10):                                                     # 4 has a crowd, 10 no objects
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
    assert 20 <= flipped <= 44 and 1 <= same_colours <= 12                   # 32, and 1/16 of 64 = 4, are expected
    again = augmented[1, 5][0]
    assert again.equal(augmented[1, 5][0]) and not again.equal(augmented[1, 6][0])


def test_the_distortion_is_torchvisions():
    defaults = inspect.signature(torchvision.transforms.v2.RandomPhotometricDistort).parameters
    for name in ("brightness", "contrast", "saturation", "hue"):
        assert getattr(dataset, name.upper()) == defaults[name].default
    # Each has a transform of its own, which leaves the other three as they are and is there half of the time.
    _, *jitters = DetectionDataset([], 96, augment=True).transform.transforms
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

def test_the_learning_rate(monkeypatch):
    for name, value in [("WARM_UP", 10), ("MAX_STEPS", 110), ("LEARNING_RATE", 2e-4)]:
        monkeypatch.setattr(train, name, value)
    for step, rate in [(1, 2e-5), (5, 1e-4), (10, 2e-4), (60, 1e-4), (110, 0)]:     # half-way, cos(pi / 2) = 0
        assert train.learning_rate(step) == pytest.approx(rate, abs=1e-12)


def test_adamw_by_hand(monkeypatch):
    # Weight 1, gradient 4, rate .1, decay .01: the first step of Adam is the rate, -.1, whatever the gradient; the
    # decay beside it .1 * .01 * 1. BatchNorm's has none.
    monkeypatch.setattr(train, "LEARNING_RATE", 0.1)
    layers = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1))
    nn.init.ones_(layers[0].weight)
    for parameter in layers.parameters():
        parameter.grad = torch.full_like(parameter, 4)
    train.make_optimizer(layers).step()
    assert layers[0].weight.item() == pytest.approx(1 - 0.001 - 0.1)
    assert layers[1].weight.item() == pytest.approx(1 - 0.1)


def test_every_epoch_holds_every_image_once(monkeypatch):
    for name, value in [("BATCH_SIZE", 4), ("MAX_STEPS", 5), ("SUBDIVISIONS", 2)]:
        monkeypatch.setattr(train, name, value)
    alone = list(train.batches(10, 1, 0, 1))
    loaded = [key for batch in alone for key in batch]
    assert [n for _, (_, n) in loaded] == list(range(20))
    assert sorted(key[0] for key in loaded[:10]) == sorted(key[0] for key in loaded[10:]) == list(range(10))
    assert list(train.batches(10, 3, 0, 1)) == alone[4:]
    first, second = (list(train.batches(10, 1, rank, 2)) for rank in (0, 1))
    assert [a + b for a, b in zip(first, second)] == alone


def test_the_measures_are_cocos(annotations, tmp_path, monkeypatch):
    # Boxes cut to .52 of their height: right at an IOU of .5, wrong at the other nine thresholds.
    def low(network, annotations, *_):
        truths = evaluate.truths_of(annotations)
        boxes = truths[:, 2:6].copy()
        boxes[:, 3] = boxes[:, 1] + 0.52 * (boxes[:, 3] - boxes[:, 1])
        return np.column_stack([truths[:, :2], np.ones(len(truths)), boxes]), {}

    pictures = []
    monkeypatch.setattr(train, "detect_all", low)
    monkeypatch.setattr(train, "write_sheet", lambda path, images, **_: pictures.extend(images))
    measured = train.evaluate(None, {"train": annotations[:2], "test": annotations[:4]}, tmp_path, 1, None)
    assert measured == pytest.approx({"AP train": 0.1, "AP50 train": 1, "AP test": 0.1, "AP50 test": 1})
    assert len(pictures) == 6
    above, below = np.split(pictures[1], 2)                                  # a cat as it is there, as it is found
    (left, top, right, bottom), = annotations[1].boxes.round().astype(int)
    colour = class_colour(CLASSES.index("cat"))
    assert tuple(above[bottom - 1, (left + right) // 2]) == colour != tuple(below[bottom - 1, (left + right) // 2])


def start(folder, before="", **constants):
    """Runs yolov3.resnext_coco.train's main() with its constants changed; -> CompletedProcess"""
    settings = "".join(f"train.{name} = {value!r}\n" for name, value in {**SHORT, **constants}.items())
    (folder / "start.py").write_text(
        f"import sys, pathlib, torch\nimport yolov3.resnext_coco.train as train\nfrom shared.errors import InputError\n"
        f"train.RUNS = pathlib.Path({str(folder)!r})\n{settings}\n{before}\nif __name__ == '__main__':\n"
        f"    try: train.main()\n    except InputError as error: sys.exit(str(error))\n")
    return subprocess.run([sys.executable, str(folder / "start.py")], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "2"})


def log(folder):
    with open(folder / "yolov3_resnext" / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training of four steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    result = start(folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_what_a_training_leaves(whole):
    run = whole / "yolov3_resnext"
    assert {path.name for path in run.iterdir()} == {"last.pt", "best.pt", "log.csv", "curves.png", "detections"}
    assert [row["step"] for row in log(whole)] == ["1", "2", "3", "4"]
    for row in log(whole):
        *terms, total = (float(row[term]) for term in train.TERMS)
        assert total == pytest.approx(sum(terms), rel=1e-4)
    state = load_checkpoint(run / "last.pt", "ResNeXtYOLOv3")
    assert (state["step"], state["size"], state["classes"]) == (4, 64, CLASSES)


def test_interrupted_and_started_again_ends_with_the_same_weights(whole, tmp_path):
    # Killed after the evaluation of step 2, which the checkpoint holds.
    killed = "old = train.save_checkpoint\ndef save(path, state):\n    old(path, state)\n" \
             "    if path.name == 'last.pt': sys.exit('killed')\ntrain.save_checkpoint = save"
    assert "killed" in start(tmp_path, killed).stderr and log(tmp_path)[-1]["step"] == "2"
    assert start(tmp_path).returncode == 0
    one, other = (load_checkpoint(folder / "yolov3_resnext" / "last.pt", "ResNeXtYOLOv3")["model"]
                  for folder in (whole, tmp_path))
    assert all(value.equal(other[key]) for key, value in one.items())
    assert [row["total"] for row in log(tmp_path)] == [row["total"] for row in log(whole)]


def test_gradients_are_shortened_to_max_norm(tmp_path, monkeypatch):
    # Plain descent at a rate of 1 moves all weights together by the length of the gradient: of some hundreds, or 2.
    moved = {}
    for norm in (2.0, 1e9):
        network = ResNeXtYOLOv3(80)
        state = {name: value.clone() for name, value in network.named_parameters()}
        monkeypatch.setattr(train, "ResNeXtYOLOv3", lambda *_: network)
        monkeypatch.setattr(train, "make_optimizer", lambda network: torch.optim.SGD(network.parameters(), lr=1))
        for name, value in {**SHORT, "RUNS": tmp_path / f"{norm}", "MAX_STEPS": 1, "WARM_UP": 0, "BATCH_SIZE": 2,
                            "MAX_NORM": norm, "learning_rate": lambda step: 1.0,
                            "evaluate": lambda *_: dict.fromkeys(train.MEASURES, 0.0)}.items():
            monkeypatch.setattr(train, name, value)
        train.main()
        difference = torch.cat([(value - state[name]).flatten() for name, value in network.named_parameters()])
        moved[norm] = difference.double().norm().item()
    assert moved[2.0] == pytest.approx(2, rel=1e-3) and moved[1e9] > 10


def test_a_finished_run_or_other_anchors_are_refused(whole):
    result = start(whole)
    assert result.returncode == 0 and "has done its 4 steps" in result.stdout
    result = start(whole, MAX_STEPS=6, ANCHORS=[[(1, 1)] * 3] * 3)
    assert result.returncode == 1 and "was trained with another ANCHORS" in result.stderr


@pytest.mark.parametrize("constants, message", [
    (dict(SUBDIVISIONS=3), "BATCH_SIZE 8 cannot be divided by SUBDIVISIONS 3"), (dict(SIZE=80), "divisible by 32"),
    (dict(WARM_UP=4), "WARM_UP has to be less"), (dict(TRAIN=[]), "TRAIN and TEST need at least one")])
def test_constants_that_cannot_be_are_refused(tmp_path, monkeypatch, constants, message):
    for name, value in {**SHORT, "RUNS": tmp_path, **constants}.items():
        monkeypatch.setattr(train, name, value)
    with pytest.raises(InputError, match=message):
        train.main()


def test_a_loss_that_is_not_finite_stops_with_its_terms(tmp_path):
    result = start(tmp_path, AUGMENT=True, before="old = train.resnext_loss\ntrain.resnext_loss = lambda *a: "
                   "{name: value * torch.nan for name, value in old(*a).items()}")
    assert result.returncode == 1 and "the loss of step 1 is not finite: xy nan wh nan" in result.stderr
    assert not (tmp_path / "yolov3_resnext" / "last.pt").exists()


# ---- yolov3's own scripts open its checkpoint

def test_evaluate_and_detect_open_it_by_its_name(whole, tmp_path, monkeypatch, capsys):
    path = whole / "yolov3_resnext" / "last.pt"
    network, state = weights.load_detector(path)
    assert isinstance(network, ResNeXtYOLOv3)
    for name, value in [("CHECKPOINT", path), ("DATA", {"test": TEST}), ("NUM_WORKERS", 0)]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    assert "test: 8 images" in capsys.readouterr().out
    source = sorted(TEST[0][0].iterdir())[0]
    for name, value in [("CHECKPOINT", path), ("SOURCE", source), ("OUT", tmp_path), ("SCORE_THRESHOLD", 0.0)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    # What stands in detections.txt is what the network itself says of this image.
    annotation = next(a for a in read_annotations(TEST, CLASSES) if a.image == source)
    with torch.no_grad():
        _, scores = decode(network.eval()(DetectionDataset([annotation], 64)[0][0][None]))
    lines = (tmp_path / "detections.txt").read_text().splitlines()[1:]
    assert max(float(line.split("\t")[2]) for line in lines) == pytest.approx(scores.max().item(), abs=1e-3)


def test_darknet_has_no_resnext(whole, monkeypatch):
    monkeypatch.setattr(weights, "CHECKPOINT", whole / "yolov3_resnext" / "last.pt")
    with pytest.raises(InputError, match="holds ResNeXtYOLOv3, which Darknet does not know"):
        weights.main()


@pytest.mark.slow
def test_the_committed_constants_reach_their_bar(tmp_path):
    # python yolov3/resnext_coco/train.py, as a newcomer starts it, only with another folder for what it writes.
    (tmp_path / "start.py").write_text(
        f"import pathlib, yolov3.resnext_coco.train as train\ntrain.RUNS = pathlib.Path({str(tmp_path)!r})\n"
        "if __name__ == '__main__': train.main()")
    result = subprocess.run([sys.executable, str(tmp_path / "start.py")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(log(tmp_path)[-1]["AP50 train"]) >= 0.80
