"""The drawings of YOLO9000 and the data set that mixes images with boxes and images with a label alone."""
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest
import torch

import data_samples.draw_tree as draw_tree
import yolov2.yolo9000.dataset as dataset
from shared.errors import InputError
from shared.paths import SAMPLES
from shared.voc import CLASSES, Annotation
from yolov2.dataset import collate
from yolov2.yolo9000.dataset import JointDataset, drawn_tree, mix, read_boxes, read_labelled, read_training
from yolov2.yolo9000.wordtree import path_to_root

VOC_SAMPLE = SAMPLES / "voc" / "VOCdevkit" / "VOC2007"


# ---- the drawings

def test_the_kinds():
    kinds, tree = set(draw_tree.KINDS), drawn_tree()
    leaves = {name for node, name in enumerate(tree.names) if tree.child_group[node] == -1}
    assert leaves == kinds and len(kinds) == 62
    assert set(CLASSES) <= set(tree.names)
    depths = [len(path_to_root(tree, tree.names.index(name))) for name in kinds]
    assert min(depths) == 2 and max(depths) == 5             # person; the breeds
    # What never has a box is no class of VOC, and neither above nor below one
    for name in draw_tree.NEVER_BOXED:
        path = [tree.names[node] for node in path_to_root(tree, tree.names.index(name))]
        assert name in kinds and not set(path) & set(CLASSES)
    assert len(draw_tree.NEVER_BOXED_ANIMALS) >= 3 and len(draw_tree.NEVER_BOXED_THINGS) >= 2
    # A dog may be reached as a domestic animal; the carnivores are in the tree already, so this way is the shorter one
    assert "domestic_animal" not in tree.names


def test_the_flat_tree_has_all_labels():
    tree = drawn_tree(flat=True)
    assert set(tree.names) == set(draw_tree.KINDS) | set(CLASSES) and set(tree.parent) == {-1}
    assert len(tree.names) == len(set(tree.names)) == 77     # 62 kinds and the 15 classes of VOC that have kinds


def test_dictated_choices():
    rng = draw_tree.Dictated(np.random.default_rng(0), [5, None, (2, 3)], [0.25])
    assert rng.integers(9) == 5 and 0 <= rng.integers(1, 4) < 4 and rng.integers(9) in (2, 3)
    assert rng.random() == 0.25 and 0 <= rng.random() < 1 and 0 <= rng.integers(2) < 2


def mean_colour(name):
    """Of the opaque pixels of three drawings."""
    pixels = [draw_tree.draw(name, 50, np.random.default_rng(seed), False, draw_tree.FUNCTIONS) for seed in range(3)]
    return np.mean([layer[layer[..., 3] == 255][:, :3].mean(0) for layer in pixels], 0)


def test_the_kinds_have_their_colours():
    red, green, blue = mean_colour("cardinal")
    assert red > 1.5 * green and red > 1.5 * blue
    red, green, blue = mean_colour("bluebird")
    assert blue > 1.2 * red
    assert mean_colour("white_cat").sum() > mean_colour("grey_cat").sum() > mean_colour("black_cat").sum()
    red, green, blue = mean_colour("school_bus")
    assert red > 1.3 * blue and green > 1.2 * blue           # yellow


def test_an_image_depends_on_its_numbers_alone():
    first, again, other = (draw_tree.draw_image(0, 3, number) for number in (1, 1, 2))
    assert np.array_equal(first, again) and first.dtype == np.uint8
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_a_scene_and_its_annotation(tmp_path):
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / part).mkdir()
    tree = drawn_tree()
    for number in (1, 6):                                    # zebra, clock: kinds that never have a box
        draw_tree.write_scene(tmp_path, number)
        height, width, _ = cv2.imread(str(tmp_path / "JPEGImages" / f"{number:06d}.jpg")).shape
        root = ElementTree.parse(tmp_path / "Annotations" / f"{number:06d}.xml").getroot()
        names = [item.findtext("name") for item in root.iter("object")]
        assert draw_tree.NEVER_BOXED[number] in names and set(names) <= set(tree.names)
        for box in root.iter("bndbox"):
            left, top, right, bottom = (int(box.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax"))
            assert 1 <= left < right <= width and 1 <= top < bottom <= height


def test_drawing_is_not_repeated(tmp_path):
    draw_tree.draw_tree(tmp_path)                            # the folder exists
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_drawing_all(tmp_path):
    draw_tree.draw_tree(tmp_path / "tree", num_train=1, num_val=1, num_scenes=2)
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
    tree = drawn_tree()
    for split in ("train", "val"):
        assert len(read_labelled(tmp_path / "tree" / split, tree)) == 62
    assert len(read_boxes([(tmp_path / "tree" / "VOC2007", "test")], tree)) == 2


# ---- the data set

@pytest.fixture
def labelled(tmp_path):
    """A folder with one small image for each kind, as drawn_tree knows them."""
    for name in draw_tree.KINDS:
        (tmp_path / "train" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "train" / name / "1.jpg"), np.full((24, 32, 3), 200, np.uint8))
    return tmp_path / "train"


def test_boxes_have_nodes_as_labels():
    tree = drawn_tree()
    annotations = read_boxes([(VOC_SAMPLE, "train")], tree)
    names = {tree.names[label] for annotation in annotations for label in annotation.labels}
    assert names <= set(CLASSES) and len(names) > 10


def test_both_kinds_of_images(labelled):
    tree = drawn_tree()
    detection, alone = read_boxes([(VOC_SAMPLE, "train")], tree), read_labelled(labelled, tree)
    assert {tree.names[node] for _, node in alone} == set(draw_tree.KINDS)
    data = JointDataset(detection, alone, 96)
    assert len(data) == 16 + 62
    image, targets = data[0, 96, 5]
    assert image.shape == (3, 96, 96) and (targets[:, 3:] > 0).all()
    image, targets = data[16 + 3, 64, 5]                     # the fourth name in alphabetical order
    fourth = tree.names.index(sorted(draw_tree.KINDS)[3])
    assert image.shape == (3, 64, 64) and targets.tolist() == [[fourth, 0, 0, 0, 0]]
    again, _ = data[16 + 3, 64, 5]
    assert image.equal(again)                                # the seed decides everything
    # Without augmentation the image is in its letterbox: 32 x 24 in 64 x 64 leaves 8 grey rows above and below
    image, _ = JointDataset(detection, alone, 64, augment=False)[16]
    assert image[:, :8].eq(0.5).all() and image[:, 8:56].sub(200 / 255).abs().max() < 0.02
    images, targets = collate([data[19, 96, 1], data[0, 96, 1]])
    assert targets[0].tolist() == [0, fourth, 0, 0, 0, 0] and (targets[1:, 0] == 1).all()


@pytest.mark.parametrize("ratio, detection, classification, expected", [
    (4, 10, 400, (10, 1)),      # ImageNet is 40 times as large: COCO 10 times
    (4, 10, 42, (1, 1)),        # 4.2 : 1
    (4, 10, 10, (1, 4)),        # here the classification images are too few
    (1, 1600, 3224, (2, 1)),    # the drawings: 3200 and 3224
    (4, 1600, 3224, (1, 2)),    # 1600 and 6448
    (4, 10, 0, (1, 0))])        # detection images alone
def test_the_mixture(ratio, detection, classification, expected, monkeypatch):
    monkeypatch.setattr(dataset, "CLASSIFICATION_PER_DETECTION", ratio)
    counts = torch.tensor(mix(detection, classification)).bincount(minlength=detection + classification)
    assert set(counts[:detection].tolist()) == {expected[0]}
    assert set(counts[detection:].tolist()) == ({expected[1]} if classification else set())


def test_the_picture_shows_a_label_alone_at_the_border_of_the_image(tmp_path, monkeypatch):
    # A detection image without objects (index 0) and a classification image of node 7 (index 1): the second alone has
    # a box, the whole image: centre .5 .5, size 1 1.
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), np.full((24, 32, 3), 200, np.uint8))
    nothing = Annotation(path, 32, 24, np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    shown = []
    monkeypatch.setattr(dataset, "read_training", lambda tree: ([nothing], [(nothing, 7)]))
    monkeypatch.setattr(dataset, "draw_targets", lambda image, targets, names: shown.append(targets.tolist()))
    monkeypatch.setattr(dataset, "write_sheet", lambda path, pictures, columns, cell: None)
    dataset.main()
    assert len(shown) == 20 and [] in shown and [[7, 0.5, 0.5, 1, 1]] in shown
    assert all(targets in ([], [[7, 0.5, 0.5, 1, 1]]) for targets in shown)


def test_the_experiments(labelled, monkeypatch):
    monkeypatch.setattr(dataset, "TRAIN", [(VOC_SAMPLE, "train")])
    monkeypatch.setattr(dataset, "LABELLED", labelled)
    for experiment, counts in [("joint", (16, 62)), ("boxes", (16, 0)), ("flat", (16, 62))]:
        monkeypatch.setattr(dataset, "EXPERIMENT", experiment)
        assert tuple(map(len, read_training(drawn_tree(flat=experiment == "flat")))) == counts
    monkeypatch.setattr(dataset, "EXPERIMENT", "no")
    with pytest.raises(InputError, match="EXPERIMENT is 'no', not"):
        read_training(drawn_tree())
