"""
Kinds of errors, worked with a pencil, and shared/error_analysis.py against the rules of Hoiem's toolbox on small worlds
drawn at random.

The pencil's boxes are 10 high and begin at the same height, so an IOU is a quotient of lengths:

    dog      |----------|          0 to 10
    box      |----|                0 to 4     4/10 = .4: localization
"""
import json
import random

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

import data_samples.draw_errors as draw_errors
import yolov1.evaluate
import yolov2.evaluate
import yolov3.evaluate
from shared import coco, voc
from shared.draw import ERROR_COLOURS, plot_errors, write_errors
from shared.error_analysis import COCO_GROUPS, KINDS, VOC_GROUPS, error_shares, groups_of, mean_shares
from shared.errors import InputError
from shared.metrics import match
from shared.paths import SAMPLES
from reference_error_analysis import Detection, Object, count_kinds

CLASSES = ["dog", "cat", "sofa"]
DOG, CAT, SOFA = range(3)
FAR = (80, 90)


def found(*rows):
    """image, label, score, (from, to) -> detections (D, 7)"""
    return np.array([[image, label, score, a, 0, b, 10] for image, label, score, (a, b) in rows], float).reshape(-1, 7)


def objects(*rows):
    """image, label, (from, to), and "difficult" if it is -> truths (M, 7)"""
    return np.array([[image, label, a, 0, b, 10, bool(flag)] for image, label, (a, b), *flag in rows],
                    float).reshape(-1, 7)


def kinds(detections, truths, label=DOG, classes=CLASSES):
    """The kinds of a class that have a share: {kind: share}"""
    shares = error_shares(detections, truths, classes, VOC_GROUPS)[label]
    return {kind: share for kind, share in zip(KINDS, shares.tolist()) if share}


# ---- by hand

def test_one_of_each_kind():
    # Five images with a dog each, so N = 5. In image 3 there is also a cat, in image 4 a sofa. The sixth detection of a
    # dog is correct and is not looked at.
    truths = objects(*[(n, DOG, (0, 10)) for n in range(5)], (3, CAT, (20, 30)), (4, SOFA, (20, 30)))
    detections = found((0, DOG, .9, (0, 10)),           # correct
                       (1, DOG, .8, (0, 4)),            # IOU 4/10 with the dog
                       (3, DOG, .7, (20, 30)),          # the cat: both are animals
                       (4, DOG, .6, (20, 30)),          # the sofa
                       (2, DOG, .5, FAR),
                       (2, DOG, .4, (0, 10)))
    shares = error_shares(detections, truths, CLASSES, VOC_GROUPS)
    assert shares.tolist() == [[.2] * 5, [0] * 5, [0] * 5]                   # nobody predicts the cat or the sofa
    assert error_shares(detections[::-1], truths[::-1], CLASSES, VOC_GROUPS).tolist() == shares.tolist()
    # Means over the three classes: .2 / 3 each.
    assert mean_shares(shares) == {kind: pytest.approx(.2 / 3) for kind in KINDS}
    # Without groups no classes are similar.
    assert error_shares(detections, truths, CLASSES, [])[DOG].tolist() == [.2, .2, 0, .4, .2]


@pytest.mark.parametrize("box, kind", [
    ((0, 5), "correct"),            # 5/10 is enough
    ((0, 4.9), "localization"),
    ((0, 1), "localization"),       # 1/10 is enough
    ((0, .9), "background"),
    ((20, 21), "similar"),          # 1/10 of the cat
    ((20, 20.9), "background"),
    ((10, 20), "background"),       # it touches the dog and the cat, and shares no area with them
])
def test_the_thresholds_belong_to_the_better_kind(box, kind):
    assert kinds(found((0, DOG, .9, box)), objects((0, DOG, (0, 10)), (0, CAT, (20, 30)))) == {kind: 1}


def test_an_object_of_another_image_is_none():
    assert kinds(found((1, DOG, .9, (0, 10))), objects((0, DOG, (0, 10)))) == {"background": 1}


def test_the_own_class_comes_first():
    # The box is a cat's, IOU 1, and has IOU 2/18 with a dog. At 1/19 < .1 only the cat is left.
    assert kinds(found((0, DOG, .9, (8, 18))), objects((0, DOG, (0, 10)), (0, CAT, (8, 18)))) == {"localization": 1}
    assert kinds(found((0, DOG, .9, (9, 19))), objects((0, DOG, (0, 10)), (0, CAT, (9, 19)))) == {"similar": 1}


def test_a_duplicate_is_a_localization_error():
    truths = objects((0, DOG, (0, 10)), (1, DOG, (0, 10)))
    assert kinds(found((0, DOG, .9, (0, 10)), (0, DOG, .8, (0, 10))), truths) == {"correct": .5, "localization": .5}
    # The higher score finds the object, also with the worse box.
    assert kinds(found((0, DOG, .9, (0, 5)), (0, DOG, .8, (0, 10))), truths) == {"correct": .5, "localization": .5}
    # A poor box does not use the object up.
    assert kinds(found((0, DOG, .9, (0, 4)), (0, DOG, .8, (0, 10))), truths) == {"correct": .5, "localization": .5}
    # An object in another image is another object.
    assert kinds(found((0, DOG, .9, (0, 10)), (1, DOG, .8, (0, 10))), truths) == {"correct": 1}


def test_a_second_detection_may_find_the_neighbour():
    # Dogs at 0 to 10 and 2 to 12: the first dog's box has IOU 8/12 with the second. Predicted twice, it finds first the
    # one, then the other. VOC's AP looks at the best object alone: the second detection is a false positive.
    truths = objects((0, DOG, (0, 10)), (0, DOG, (2, 12)))
    twice = found((0, DOG, .9, (0, 10)), (0, DOG, .8, (0, 10)))
    assert kinds(twice, truths) == {"correct": 1}
    true_positive, false_positive = match(twice, truths)
    assert true_positive.tolist() == [True, False] and false_positive.tolist() == [False, True]
    # At 4 to 14 the IOU is 6/14 < .5: the second detection is a duplicate.
    truths = objects((0, DOG, (0, 10)), (0, DOG, (4, 14)))
    assert kinds(twice, truths) == {"correct": .5, "localization": .5}


def test_a_detection_finds_the_object_that_it_overlaps_most():
    # Dogs at 0 to 10 and 1 to 11. The box 1 to 11 has IOU 9/11 with the first and 1 with the second, so it finds the
    # second. The box 0 to 6 has 6/10 with the first and 5/11 < .5 with the second: it is correct if the first is left.
    truths = objects((0, DOG, (0, 10)), (0, DOG, (1, 11)))
    assert kinds(found((0, DOG, .9, (1, 11)), (0, DOG, .8, (0, 6))), truths) == {"correct": 1}
    # The box 0 to 10 finds the first one, so the box 0 to 6 finds nothing.
    assert kinds(found((0, DOG, .9, (0, 10)), (0, DOG, .8, (0, 6))), truths) == {"correct": .5, "localization": .5}


def test_difficult_objects():
    # A difficult dog does not count: N = 1, so only the first detection is looked at. It finds the difficult dog and is
    # correct.
    truths = objects((0, DOG, (0, 10), "difficult"), (1, DOG, (0, 10)))
    assert kinds(found((0, DOG, .9, (0, 10)), (1, DOG, .8, FAR)), truths) == {"correct": 1}
    # A difficult object is found once, too. With two more dogs, N = 3.
    truths = objects((0, DOG, (0, 10), "difficult"), *[(n, DOG, (0, 10)) for n in (1, 2, 3)])
    twice = found((0, DOG, .9, (0, 10)), (0, DOG, .8, (0, 10)), (0, DOG, .7, (0, 4)))
    assert kinds(twice, truths) == {"correct": pytest.approx(1 / 3), "localization": pytest.approx(2 / 3)}
    # A difficult object of another class is an object.
    truths = objects((0, DOG, (0, 10)), (0, CAT, (20, 30), "difficult"))
    assert kinds(found((0, DOG, .9, (20, 30))), truths) == {"similar": 1}
    # A class whose objects are all difficult has no shares.
    assert np.isnan(error_shares(found((0, CAT, .9, (20, 30))), truths, CLASSES, VOC_GROUPS)[CAT]).all()


@pytest.mark.parametrize("cat, sofa, kind", [
    ((0, 4), (5, 10), "other"),             # 4/10 and 5/10
    ((0, 5), (6, 10), "similar"),           # 5/10 and 4/10
    ((0, 4), (6, 10), "similar"),           # equal: the class that comes first, the cat
    ((0, .9), (9, 10), "other"),            # .09 is no overlap
])
def test_the_largest_overlap_decides_between_similar_and_other(cat, sofa, kind):
    truths = objects((0, SOFA, sofa), (0, CAT, cat), (1, DOG, (0, 10)))
    detections = found((0, DOG, .9, (0, 10)))
    assert kinds(detections, truths) == kinds(detections, truths[::-1]) == {kind: 1}


def test_of_equal_overlaps_the_class_that_comes_first_decides():
    # With the sofa as class 1 and the cat as class 2, the sofa decides.
    truths = objects((0, 2, (0, 4)), (0, 1, (6, 10)), (1, DOG, (0, 10)))
    assert kinds(found((0, DOG, .9, (0, 10))), truths, classes=["dog", "sofa", "cat"]) == {"other": 1}


def test_the_best_n_and_equal_scores():
    # N = 2. Of three detections the third is not looked at.
    truths = objects((0, DOG, (0, 10)), (1, DOG, (0, 10)), (2, CAT, (0, 10)))
    rows = (0, DOG, .7, FAR), (0, DOG, .9, (0, 10)), (1, DOG, .8, (0, 10))
    assert kinds(found(*rows), truths) == {"correct": 1}
    # Of equal scores the earlier rows are looked at.
    equal = [(image, label, .5, box) for image, label, _, box in rows]
    assert kinds(found(*equal), truths) == {"background": .5, "correct": .5}
    assert kinds(found(*equal[1:], equal[0]), truths) == {"correct": 1}
    # Detections of cats do not count among those of dogs.
    assert kinds(found((0, CAT, .95, FAR), *rows), truths) == {"correct": 1}
    # With fewer than N detections the shares add up to less than 1.
    assert kinds(found(rows[1]), truths) == {"correct": .5}
    assert kinds(found(), truths) == {}


def test_classes_without_objects_do_not_count_in_the_mean():
    shares = error_shares(found((0, DOG, .9, (0, 10)), (0, SOFA, .9, (0, 10))), objects((0, DOG, (0, 10))), CLASSES, [])
    assert shares[DOG].tolist() == [1, 0, 0, 0, 0] and np.isnan(shares[[CAT, SOFA]]).all()
    assert mean_shares(shares) == {"correct": 1, "localization": 0, "similar": 0, "other": 0, "background": 0}
    assert np.isnan(list(mean_shares(error_shares(found(), objects(), CLASSES, [])).values())).all()


# ---- similar classes

def similar_to(name, classes):
    groups = groups_of(classes)
    return {other for other in classes if other != name and any(name in group and other in group for group in groups)}


def test_vocs_similar_classes():
    assert {name for group in VOC_GROUPS for name in group} <= set(voc.CLASSES)
    assert [name for name in voc.CLASSES if not similar_to(name, voc.CLASSES)] == ["bottle", "pottedplant", "tvmonitor"]
    assert similar_to("person", voc.CLASSES) == {"bird", "cat", "cow", "dog", "horse", "sheep"}
    assert similar_to("bird", voc.CLASSES) == {"person", "cat", "cow", "dog", "horse", "sheep", "aeroplane"}
    assert similar_to("aeroplane", voc.CLASSES) == {"bicycle", "bird", "boat", "bus", "car", "motorbike", "train"}
    assert similar_to("car", voc.CLASSES) == {"aeroplane", "bicycle", "boat", "bus", "motorbike", "train"}  # no bird
    assert similar_to("sofa", voc.CLASSES) == {"chair", "diningtable"}


def test_cocos_similar_classes_are_its_supercategories():
    categories = json.loads((SAMPLES / "coco/annotations/instances_val2017.json").read_text())["categories"]
    groups = {}
    for category in categories:
        groups.setdefault(category["supercategory"], set()).add(category["name"])
    assert len(groups) == 12 and COCO_GROUPS == list(groups.values())
    assert similar_to("person", coco.CLASSES) == set() and similar_to("couch", coco.CLASSES) >= {"chair", "bed"}


def test_whose_groups():
    assert groups_of(["cow", "dog"]) is VOC_GROUPS and groups_of(["cow", "zebra"]) is COCO_GROUPS
    assert groups_of(["cow", "unicorn"]) == []
    own = [{"lorry", "van"}]
    assert groups_of(["van", "lorry", "cow"], own) == own and groups_of(["cow", "dog"], []) == []
    with pytest.raises(InputError, match=r"^SIMILAR names 'lory', which is not one of the classes \(lorry, van\)$"):
        groups_of(["lorry", "van"], [{"lory", "van"}])
    for wrong in ["van", "lorry"], {"van", "lorry"}, "van", 1, True:
        with pytest.raises(InputError, match="^SIMILAR has to be None or a list of sets of class names, not "):
            groups_of(["lorry", "van"], wrong)


@pytest.mark.parametrize("evaluate", [yolov1.evaluate, yolov2.evaluate, yolov3.evaluate])
def test_each_evaluation_hands_its_groups_on(evaluate, monkeypatch):
    given = []

    class Stop(Exception):
        pass

    def stop(*args):
        given.append(args)
        raise Stop
    state = {"classes": ["lorry", "van"], "network": "", "step": 0, "size": 64, "boxes": 2, "anchors": [],
             "stretch": False}
    monkeypatch.setattr(evaluate, "load_detector", lambda path: (torch.nn.Identity(), state))
    monkeypatch.setattr(evaluate, "read_annotations", lambda *_: [])
    monkeypatch.setattr(evaluate, "detect_all", lambda *_: (None, None))
    monkeypatch.setattr(evaluate, "report", stop)
    monkeypatch.setattr(evaluate, "SIMILAR", [{"lorry", "van"}])
    with pytest.raises(Stop):
        evaluate.main()
    assert given[0][-1] == [{"lorry", "van"}]
    monkeypatch.setattr(evaluate, "SIMILAR", [{"lorry", "bus"}])             # a name that is no class: before anything
    with pytest.raises(InputError, match="'bus', which is not one of the classes"):
        evaluate.main()
    assert len(given) == 1


# ---- against the rules of the toolbox

NAMES = ["a", "b", "c", "d"]
GROUPS = [{"a", "b"}, {"b", "c"}]                        # a and c are not similar


def are_similar(label, other):
    return {label, other} in ({0, 1}, {1, 2})


def draw_world(seed):
    """
    Objects and detections of four classes in three images of 12 x 12 pixels, with VOC's pixels. Most detections are
    objects with one side moved, half have another class, and many have the same score.
    """
    dice = random.Random(seed)

    def box():
        xmin, ymin = dice.randint(1, 10), dice.randint(1, 10)
        return xmin, ymin, dice.randint(xmin, 12), dice.randint(ymin, 12)
    things = [Object(dice.randrange(3), dice.randrange(4), box(), dice.random() < 0.2) for _ in range(24)]
    seen = []
    for _ in range(dice.randint(0, 60)):
        thing, new = dice.choice(things), box()
        moved = [*thing.box]
        side = dice.randrange(4)
        moved[side] = new[side]
        if moved[0] > moved[2] or moved[1] > moved[3] or dice.random() < 0.2:
            moved = new
        label = thing.label if dice.random() < 0.4 else dice.randrange(4)
        seen.append(Detection(thing.image, label, dice.randint(1, 9) / 10, tuple(moved)))
    return things, seen


def our_rows(things, seen):
    """The rows of shared/metrics.py: 1 is subtracted from xmin and ymin (see shared/voc.py)."""
    truths = [[t.image, t.label, t.box[0] - 1, t.box[1] - 1, t.box[2], t.box[3], t.difficult] for t in things]
    detections = [[d.image, d.label, d.score, d.box[0] - 1, d.box[1] - 1, d.box[2], d.box[3]] for d in seen]
    return np.array(detections, float).reshape(-1, 7), np.array(truths, float)


def test_the_rules_of_the_toolbox_in_small_worlds():
    # The toolbox passes over objects that are taken when it chooses between similar and other. Otherwise all is equal.
    looked_at, swapped = np.zeros(5, int), 0
    for seed in range(300):
        things, seen = draw_world(seed)
        shares = error_shares(*our_rows(things, seen), NAMES, GROUPS)
        for label in range(4):
            counts, N = count_kinds(seen, things, label, 4, are_similar, taken_count=True)
            if N == 0:
                assert np.isnan(shares[label]).all()
                continue
            assert (shares[label] * N).tolist() == pytest.approx(counts), (seed, label)
            tool, _ = count_kinds(seen, things, label, 4, are_similar)
            assert tool[:2] == counts[:2] and tool[4] == counts[4] and tool[2] + tool[3] == counts[2] + counts[3]
            looked_at += counts
            swapped += abs(tool[2] - counts[2])
    assert looked_at.sum() > 4000 and looked_at.min() > 300                  # every kind has been compared
    assert 0 < swapped < 0.005 * looked_at.sum()


def test_where_we_differ_from_the_toolbox():
    # Two detections of dogs at 0 to 10, where a cat is. A second cat, 8 to 10, has IOU 2/10 with the detections, and a
    # sofa, 0 to 3, has 3/10. We find both similar. In the toolbox the first detection takes the first cat. For the
    # second, the second cat, .2, is less than the sofa, .3.
    truths = objects((0, CAT, (0, 10)), (0, CAT, (8, 10)), (0, SOFA, (0, 3)), (1, DOG, (0, 10)), (2, DOG, (0, 10)))
    detections = found((0, DOG, .9, (0, 10)), (0, DOG, .8, (0, 10)))
    assert kinds(detections, truths) == {"similar": 1}
    things = [Object(row[0], row[1], (row[2] + 1, 1, row[4], 10), False) for row in truths.tolist()]
    seen = [Detection(row[0], row[1], row[2], (row[3] + 1, 1, row[5], 10)) for row in detections.tolist()]
    assert count_kinds(seen, things, DOG, 3, lambda *pair: SOFA not in pair) == ([0, 0, 1, 1, 0], 2)


# ---- pictures

def test_the_bars_are_as_long_as_the_shares():
    axes = Figure().subplots()
    plot_errors(axes, {"one": [.5, .25, .125, .03, .095], "two": [.25, 0, 0, 0, .25]})
    lengths = np.array([[(bar.get_x(), bar.get_width()) for bar in kind] for kind in axes.containers])   # (5, rows, 2)
    assert lengths[:, 0].tolist() == [[0, 50], [50, 25], [75, 12.5], [87.5, 3], [90.5, 9.5]]
    assert lengths[:, 1].tolist() == [[0, 25], [25, 0], [25, 0], [25, 0], [25, 25]]
    texts = [text.get_text() for text in axes.texts]                         # kind after kind; 3 % is too short for one
    assert texts == ["50.0", "25.0", "25.0", "", "12.5", "", "", "", "9.5", "25.0"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["one", "two"]
    bottom, top = axes.get_ylim()
    assert top < 0 < 1 < bottom                                              # the first bar is at the top
    assert [text.get_text() for text in axes.get_legend().get_texts()] == KINDS
    assert [kind[0].get_facecolor()[:3] for kind in axes.containers] == [to_rgb(colour) for colour in ERROR_COLOURS]


def test_a_picture_without_any_objects(tmp_path):
    write_errors(tmp_path / "errors.png", {"mean of the classes": [float("nan")] * 5})
    assert Image.open(tmp_path / "errors.png").size == (800, 142)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two trainings with their figures.json."""
    for number, run in enumerate(("first", "second")):
        folder = tmp_path / run / "evaluation" / "test"
        folder.mkdir(parents=True)
        shares = dict(zip(KINDS, [.5 + number / 10, .1, .1, .1, .1]))
        (folder / "figures.json").write_text(json.dumps({"errors": shares, "VOC AP50": 0}))
    monkeypatch.setattr(draw_errors, "RUNS", tmp_path)
    monkeypatch.setattr(draw_errors, "OUT", tmp_path / "errors.png")
    monkeypatch.setattr(draw_errors, "RUNS_SHOWN", {"ours": "first", "theirs": "second"})
    return tmp_path


def test_the_papers_bars_stand_beside_ours(runs, monkeypatch):
    drawn = []
    monkeypatch.setattr(draw_errors, "write_errors", lambda path, rows: drawn.append((path, rows)))
    draw_errors.main()
    [(path, rows)] = drawn
    assert path == runs / "errors.png" and list(rows) == ["Fast R-CNN (paper)", "YOLO (paper)", "ours", "theirs"]
    assert rows["ours"] == [.5, .1, .1, .1, .1] and rows["theirs"] == [.6, .1, .1, .1, .1]
    for name in "Fast R-CNN (paper)", "YOLO (paper)":
        assert sum(rows[name]) == pytest.approx(1)
    # "Localization errors account for more of YOLO's errors than all other sources combined" (section 4.2).
    _, localization, *others = rows["YOLO (paper)"]
    assert localization > sum(others)


def test_what_is_missing_for_the_picture_is_one_line(runs):
    figures = runs / "second" / "evaluation" / "test" / "figures.json"
    figures.write_text(json.dumps({"VOC AP50": 0}))
    with pytest.raises(InputError, match="figures.json: has no kinds of errors; run evaluate.py of this version again"):
        draw_errors.main()
    for damaged in "{", "[]", '{"errors": 1}', '{"errors": {"correct": 1}}':
        figures.write_text(damaged)
        with pytest.raises(InputError, match="figures.json: has no kinds of errors"):
            draw_errors.main()
    figures.unlink()
    with pytest.raises(InputError, match="figures.json: no such file; run evaluate.py of this version first"):
        draw_errors.main()
    assert not (runs / "errors.png").exists()
