"""
Every expected number in this file is worked out in its comment. The tree is the one of tests/test_yolo9000_wordtree.py:

    0 animal -+- 2 dog -+- 4 terrier        1 vehicle -+- 6 car
              |         +- 5 retriever                 +- 7 bus
              +- 3 cat

The world is an image of 1 x 2 cells with one anchor of 1 x 1 cell. The outputs of a predictor are logarithms, so that
its conditionals are fractions: animal .75, vehicle .25; dog .8, cat .2; terrier .9, retriever .1; car .5, bus .5.
"""
import runpy
from math import log

import pytest
import torch
from pytest import approx

import yolov2.yolo9000.loss as loss_file
from reference_yolo9000_loss import darknet_delta
from shared.paths import ROOT
from yolov2.loss import assign, yolov2_loss
from yolov2.yolo9000.loss import best_slot, slots_of, yolo9000_loss
from yolov2.yolo9000.model import ANCHORS
from yolov2.yolo9000.wordtree import flat_tree, make_tree

TREE = make_tree("animal vehicle dog cat terrier retriever car bus".split(), [-1, -1, 0, 0, 2, 2, 1, 1])
OUTPUTS = torch.tensor([3, 1, 4, 1, 9, 1, 1, 1.0]).log()
ONE_ANCHOR = [(1.0, 1.0)]


def logit(p):
    return log(p / (1 - p))


def world(left, right):
    """A prediction (1, 1, 1, 2, 13) with these objectnesses and the outputs of the docstring in both cells."""
    prediction = torch.zeros(1, 1, 1, 2, 13)
    prediction[..., 5:] = OUTPUTS
    prediction[0, 0, 0, 0, 4], prediction[0, 0, 0, 1, 4] = logit(left), logit(right)
    return prediction.requires_grad_()


def label_alone(label, image=0):
    return torch.tensor([[image, label, 0, 0, 0, 0.0]])


def test_a_label_alone():
    # "terrier": Pr = .75 * .8 * .9 = .54. Objectness .2 on the left: .108; .1 on the right: .054. Left is the best.
    # class      -log .54 = .616186
    # object     1/2 * 5 * (.2 - .3)^2 = .025
    # no_object  1/2 * .1^2 = .005, of the right cell
    prediction = world(0.2, 0.1)
    loss = yolo9000_loss(prediction, label_alone(4), TREE, ONE_ANCHOR, seen=1)
    expected = {"xy": 0, "wh": 0, "object": 0.025, "no_object": 0.005, "class": 0.616186, "prior": 0}
    assert -log(0.75 * 0.8 * 0.9) == approx(0.616186, abs=1e-6)
    for term, value in expected.items():
        assert loss[term].item() == approx(value, abs=1e-6), term
    assert loss["total"].item() == approx(0.646186, abs=1e-6)
    # The gradients: t_o of the best 5 * (.2 - .3) * .2 * .8 = -.08; of the other .1 * .1 * .9 = .009. The outputs of
    # the best: the conditional, minus 1 on the path; none for car and bus.
    loss["total"].backward()
    assert prediction.grad[0, 0, 0, 0].tolist() == approx(
        [0, 0, 0, 0, -0.08, -0.25, 0.25, -0.2, 0.2, -0.1, 0.1, 0, 0], abs=1e-6)
    assert prediction.grad[0, 0, 0, 1].tolist() == approx([0] * 4 + [0.009] + [0] * 8, abs=1e-6)


def test_the_best_objectness_is_only_raised(monkeypatch):
    # .4 is above .3 already: no term object. In the other cell .2: 1/2 * .2^2 = .02.
    loss = yolo9000_loss(world(0.4, 0.2), label_alone(2), TREE, ONE_ANCHOR)
    assert loss["object"] == 0 and loss["no_object"].item() == approx(0.02)
    # Since July 2017 Darknet leaves the objectness of the best predictor alone also below .3.
    monkeypatch.setattr(loss_file, "BEST_OBJECTNESS", None)
    prediction = world(0.2, 0.4)
    loss = yolo9000_loss(prediction, label_alone(2), TREE, ONE_ANCHOR)
    # The right cell is the best; the left one has 1/2 * .2^2 = .02.
    assert loss["object"] == 0 and loss["no_object"].item() == approx(0.02)
    loss["total"].backward()
    assert prediction.grad[0, 0, 0, 1, 4] == 0
    # Label dog: -log(.75 * .8) = .510826
    assert loss["class"].item() == approx(0.510826, abs=1e-6)


def test_the_best_predictor():
    # Objectness .2 and .3; cell 0 says "dog" with .8, cell 1 with 1/4: "animal" is .75 in both.
    # dog:    .2 * .75 * .8 = .12      .3 * .75 / 4 = .05625      cell 0, although its objectness is lower
    # animal: .2 * .75      = .15      .3 * .75     = .225        cell 1
    # vehicle: .2 * .25     = .05      .3 * .25     = .075        cell 1
    prediction = world(0.2, 0.3).detach()
    prediction[0, 0, 0, 1, 7:9] = torch.tensor([1, 3.0]).log()
    for label, column in [(2, 0), (0, 1), (1, 1)]:
        assert best_slot(prediction, 0, label, TREE) == (0, 0, 0, column)
    # Of equal ones the first, also if all are 0: exp(-200) is 0 in float32
    assert best_slot(world(0.3, 0.3).detach(), 0, 4, TREE) == (0, 0, 0, 0)
    prediction[..., 4] = -200
    assert best_slot(prediction, 0, 4, TREE) == (0, 0, 0, 0)
    # Three anchors, 2 x 3 cells: anchor 1, row 1, column 2 has the index 1 * 6 + 1 * 3 + 2 = 11
    prediction = torch.zeros(2, 3, 2, 3, 13)
    prediction[1, 1, 1, 2, 4] = 1
    assert best_slot(prediction, 1, 4, TREE) == (1, 1, 1, 2)


def test_a_box_labelled_dog_teaches_nothing_about_breeds():
    # An object of 1 x 1 cells in the middle of the right cell, label dog: class -log(.75 * .8) = .510826.
    prediction = world(0.5, 0.5)
    loss = yolo9000_loss(prediction, torch.tensor([[0, 2, 0.75, 0.5, 0.5, 1.0]]), TREE, ONE_ANCHOR)
    assert loss["class"].item() == approx(0.510826, abs=1e-6)
    loss["class"].backward()
    assert prediction.grad[0, 0, 0, 1, 5:].tolist() == approx([-0.25, 0.25, -0.2, 0.2, 0, 0, 0, 0], abs=1e-6)
    assert prediction.grad[0, 0, 0, 0].count_nonzero() == 0
    # xy and wh are 0; the box is the object's: object 5/2 * (1/2 - 1)^2 = .625; no_object 1/2 * 1/4 = .125
    assert [loss[term].item() for term in ("xy", "wh", "object", "no_object")] == approx([0, 0, 0.625, 0.125], abs=1e-6)


def test_two_objects_in_one_slot():
    # First terrier, then cat, in the same cell. Cat takes over the roots (animal, as before) and the group dog, cat.
    # The group terrier, retriever is still taught by the first: -log .75 - log .2 - log .9 = 2.002481.
    boxes = [[0, 4, 0.75, 0.5, 0.5, 1.0], [0, 3, 0.75, 0.5, 0.5, 0.9]]
    expected = -log(0.75) - log(0.2) - log(0.9)
    assert expected == approx(2.002481, abs=1e-6)
    loss = yolo9000_loss(world(0.5, 0.5), torch.tensor(boxes), TREE, ONE_ANCHOR)
    assert loss["class"].item() == approx(expected, abs=1e-6)
    # The other way round: all of terrier's path, .616186. The sum of both losses would be 2.513307.
    loss = yolo9000_loss(world(0.5, 0.5), torch.tensor(boxes[::-1]), TREE, ONE_ANCHOR)
    assert loss["class"].item() == approx(0.616186, abs=1e-6)
    assert -log(0.75 * 0.2) - log(0.54) == approx(2.513306, abs=1e-5)


def test_the_mean_over_images_of_both_kinds():
    # Image 0 has a box, image 1 a label alone, image 2 nothing: the sum of the three losses divided by 3.
    prediction = torch.cat([world(0.2, 0.6), world(0.2, 0.1), world(0.4, 0.4)]).detach()
    box = torch.tensor([[0, 2, 0.75, 0.5, 0.5, 1.0]])
    both = yolo9000_loss(prediction, torch.cat([box, label_alone(4, image=1)]), TREE, ONE_ANCHOR, seen=1)
    alone = [yolo9000_loss(prediction[i:i + 1], targets, TREE, ONE_ANCHOR, seen=1)
             for i, targets in enumerate([box, label_alone(4), torch.zeros(0, 6)])]
    assert alone[2]["total"].item() == approx(0.16)          # 2 * 1/2 * .4^2
    for term in both:
        assert both[term].item() == approx(sum(loss[term].item() for loss in alone) / 3, abs=1e-6), term


def test_a_flat_tree_is_yolov2():
    torch.manual_seed(0)
    prediction, targets = torch.randn(2, 3, 3, 4, 5 + 6), torch.rand(9, 6)
    targets[:, 0], targets[:, 1] = torch.tensor([0] * 6 + [1] * 3), targets[:, 1].mul(6).floor()
    targets[:, 4:] = targets[:, 4:] * 0.5 + 0.05
    slots, *_ = assign(prediction, targets, ANCHORS)
    assert len(slots) == 9 or len(slots) == len(set(slots_of(targets, ANCHORS, 3, 4)))
    flat = yolo9000_loss(prediction, targets, flat_tree(list("abcdef")), ANCHORS, seen=7)
    for term, value in yolov2_loss(prediction, targets, ANCHORS, seen=7).items():
        assert flat[term].item() == approx(value.item(), rel=1e-5), term


def crowd(seed):
    """Four images of 3 x 4 cells: one crowded, two with a label alone, one with two objects; outputs, targets."""
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(4, 3, 3, 4, 13, generator=generator)
    prediction[..., 2:4] = prediction[..., 2:4] / 2 - 1.2            # boxes smaller than the image: some are ignored
    prediction[..., 4] -= 2.5                                        # so that some best predictors are below .3
    targets = torch.rand(30, 6, generator=generator)
    targets[:, 0] = torch.tensor([0] * 26 + [1, 2] + [3] * 2)
    targets[:, 1] = (targets[:, 1] * 8).floor()
    targets[:, 4:] = 0.02 + 0.9 * targets[:, 4:] ** 2
    targets[26:28, 2:] = 0
    return prediction.requires_grad_(), targets


@pytest.mark.parametrize("best_objectness", [0.3, None])
@pytest.mark.parametrize("seed, seen", [(0, 64), (1, 12799), (2, 12800), (3, 99999)])
def test_gradient_is_minus_darknets_delta(seed, seen, best_objectness, monkeypatch):
    monkeypatch.setattr(loss_file, "BEST_OBJECTNESS", best_objectness)
    prediction, targets = crowd(seed)
    boxed = targets[targets[:, 4] > 0]
    slots, *_ = assign(prediction, boxed, ANCHORS)
    all_slots = slots_of(boxed, ANCHORS, 3, 4)
    assert sorted(set(all_slots)) == [tuple(slot) for slot in slots.tolist()]    # the same rule as yolov2/loss.py's
    assert len(slots) < 28                                                       # some slots are shared
    yolo9000_loss(prediction, targets, TREE, seen=seen)["total"].backward()
    expected = darknet_delta(prediction.detach(), targets, TREE.parent, ANCHORS, seen, best_objectness)
    torch.testing.assert_close(-4 * prediction.grad, expected, atol=2e-5, rtol=1e-4)


def test_the_crowds_have_all_cases():
    # Otherwise the comparison above could not tell a wrong loss from a right one.
    objectness, ignored = [], 0
    for seed in range(4):
        prediction, targets = crowd(seed)
        slots, _, _, background = assign(prediction, targets[targets[:, 4] > 0], ANCHORS)
        ignored += 2 * 36 - background[[0, 3]].sum() - len(slots)
        for image, label in targets[26:28, :2].long().tolist():
            objectness.append(prediction[(*best_slot(prediction, image, label, TREE), 4)].sigmoid().item())
    assert ignored >= 2 and min(objectness) < 0.3 < max(objectness)


def test_loss_leaves_its_inputs_alone():
    prediction, targets = crowd(0)
    before, rows = prediction.detach().clone(), targets.clone()
    first, second = (yolo9000_loss(prediction, targets, TREE)["total"] for _ in range(2))
    assert first == second and prediction.equal(before) and targets.equal(rows)


def test_the_file_prints_its_example(capsys):
    # Everything is 0: Pr(dog) = 1/2 * 1/2, so class = log 4. The only predictor is the best: its objectness is 1/2.
    runpy.run_path(str(ROOT / "yolov2/yolo9000/loss.py"), run_name="__main__")
    assert f"class      {log(4):14.6f}" in capsys.readouterr().out and log(4) == approx(1.386294, abs=1e-6)
