"""k-means on boxes whose clusters are known, and the distance by hand."""
import numpy as np
import pytest

import yolov2.anchors as anchors
from shared.errors import InputError
from shared.voc import Annotation


def groups(shapes, n=200, spread=0.03):
    """n boxes around each of the shapes, their sides up to 3 % longer or shorter."""
    noise = np.random.default_rng(0).uniform(1 - spread, 1 + spread, (len(shapes), n, 2))
    return (np.array(shapes)[:, None] * noise).reshape(-1, 2)


def test_overlaps_by_hand():
    # 4 x 2 with 2 x 3 share 2 x 2: 4 / (8 + 6 - 4) = 0.4. 4 x 2 with itself 1. 1 x 1 in 4 x 2: 1/8, in 2 x 3: 1/6.
    sizes, clusters = np.array([[4.0, 2], [1, 1]]), np.array([[2.0, 3], [4, 2]])
    assert anchors.overlaps(sizes, clusters).tolist() == [pytest.approx([0.4, 1 / 6]), pytest.approx([1, 1 / 8])]
    assert anchors.average_iou(sizes, clusters) == pytest.approx((1 + 1 / 6) / 2)


def test_known_clusters_are_found():
    # A small, a high, a wide and a large kind: the medians are the shapes to within 1 %.
    shapes = [(0.05, 0.06), (0.1, 0.4), (0.5, 0.2), (0.8, 0.7)]                # the smallest first
    sizes = groups(shapes)
    found = anchors.best_clusters(sizes, 4)
    assert found == pytest.approx(np.array(shapes), rel=0.01)
    # Each side differs from the median's by 1.5 % on average: an IOU of about 1 - 2 * .015 = .97.
    assert anchors.average_iou(sizes, found) == pytest.approx(0.97, abs=0.005)


def test_the_distance_is_that_of_shapes_not_of_lengths(monkeypatch):
    # Squares of .1 (10 of them), .4 (11) and .9 (30); clusters that begin at .1 and .9. By Euclidean distance .4 is
    # nearer to .1 (.3 against .5). By IOU it belongs to .9: .16 / .81 = .198 against .01 / .16 = .0625; and the median
    # of those 41 is .9. By Euclidean distance the 21 smaller ones would be one cluster, with median .4.
    sizes = np.repeat([[0.1, 0.1], [0.4, 0.4], [0.9, 0.9]], [10, 11, 30], axis=0)
    monkeypatch.setattr(anchors, "first_clusters", lambda *a: np.array([[0.1, 0.1], [0.9, 0.9]]))
    found = anchors.k_means(sizes, 2, None)
    assert found.tolist() == [[0.1, 0.1], [0.9, 0.9]]
    assert anchors.average_iou(sizes, found) == pytest.approx((10 + 11 * 16 / 81 + 30) / 51)


def test_the_centroid_is_the_median():
    # One cluster of 1 x 1, 2 x 1 and 9 x 4: 2 x 1. (The mean: 4 x 2.) The boxes stay as they are.
    sizes = np.array([[0.1, 0.1], [0.2, 0.1], [0.9, 0.4]])
    before = sizes.copy()
    for seed in range(3):
        assert anchors.k_means(sizes, 1, np.random.default_rng(seed)).tolist() == [pytest.approx([0.2, 0.1])]
    assert (sizes == before).all()


def test_rounds_until_no_box_changes_its_cluster(monkeypatch):
    # Squares of .1, .19, .4 and .9; clusters that begin at .1 and .19. The IOU of two squares is the squared ratio
    # of their sides. Round 1: .1 alone; .19, .4 and .9 together, median .4. Round 2: .19 is now nearer to .1,
    # (.1 / .19)^2 = .277, than to .4, .226: the medians are .145 and .65. Round 3: no box changes.
    sizes = np.repeat([[0.1], [0.19], [0.4], [0.9]], 2, axis=1)
    monkeypatch.setattr(anchors, "first_clusters", lambda *a: np.array([[0.1, 0.1], [0.19, 0.19]]))
    found = anchors.k_means(sizes, 2, None)
    assert found[:, 0].tolist() == pytest.approx([0.145, 0.65])
    # One box of four changes in round 2. That is less than a TOLERANCE of .9: the clusters of round 1 are the result.
    monkeypatch.setattr(anchors, "TOLERANCE", 0.9)
    assert anchors.k_means(sizes, 2, None)[:, 0].tolist() == pytest.approx([0.1, 0.4])


def test_the_first_clusters_are_boxes_and_differ():
    # 999 boxes of one kind and 1 of another. Whichever is drawn first, the second is of the other kind, because boxes
    # of the same kind have distance 0.
    sizes = np.array([[0.5, 0.2]] * 999 + [[0.1, 0.1]])
    for seed in range(20):
        first = anchors.first_clusters(sizes, 2, np.random.default_rng(seed))
        assert sorted(first.tolist()) == [[0.1, 0.1], [0.5, 0.2]]


def test_more_clusters_overlap_more_and_again_is_the_same():
    sizes = np.random.default_rng(1).uniform(0.02, 1, (500, 2))
    ious = [anchors.average_iou(sizes, anchors.best_clusters(sizes, k)) for k in range(1, 8)]
    assert ious == sorted(ious) and ious[0] < 0.6 < ious[-1]
    assert (anchors.best_clusters(sizes, 5) == anchors.best_clusters(sizes, 5)).all()


def test_sizes_are_fractions_of_the_letterbox(monkeypatch):
    # A box of 80 x 50 in an image of 200 x 100. In its letterbox the image is 416 x 208: 80 / 200 = 0.4 and
    # 50 / 100 * 208 / 416 = 0.25. Of the image itself: 0.4 and 0.5. The difficult object is left out.
    annotation = Annotation(None, 200, 100, np.array([[20.0, 10, 100, 60], [0, 0, 9, 9]]), np.array([3, 5]),
                            np.array([False, True]))
    empty = annotation._replace(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), difficult=np.zeros(0, bool))
    assert anchors.box_sizes([empty, annotation]).tolist() == [pytest.approx([0.4, 0.25])]
    monkeypatch.setattr(anchors, "LETTERBOX", False)
    assert anchors.box_sizes([annotation, empty]).tolist() == [pytest.approx([0.4, 0.5])]


def test_the_script(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(anchors, "RUNS", tmp_path)
    anchors.main()
    assert (tmp_path / "yolov2" / "anchors.png").stat().st_size > 10_000
    # The printed anchors are Python: five pairs in cells, the smallest first.
    printed, text = {}, capsys.readouterr().out
    exec(text[text.index("ANCHORS ="):text.index("]\n") + 1], printed)
    cells = np.array(printed["ANCHORS"])
    assert cells.shape == (5, 2) and (np.diff(cells.prod(1)) > 0).all()
    assert 0.1 < cells.min() and 1 < cells.max() <= anchors.TEST_SIZE / 32


def test_too_few_boxes(monkeypatch):
    monkeypatch.setattr(anchors, "MAX_K", 1000)
    with pytest.raises(InputError, match="1000 clusters need 1000 boxes of different sizes"):
        anchors.main()
