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


def test_euclidean_k_means_and_the_average_iou_of_its_clusters():
    # The same boxes. The cluster of the 21 smaller ones has its mean at (10 * .1 + 11 * .4) / 21 = 5.4 / 21 = .257.
    # It overlaps .1 by (.1 / .257)^2 = .151 and .4 by (.257 / .4)^2 = .413: less than the clusters by IOU do.
    sizes = np.repeat([[0.1, 0.1], [0.4, 0.4], [0.9, 0.9]], [10, 11, 30], axis=0)
    found = anchors.euclidean_k_means(sizes, np.array([[0.1, 0.1], [0.9, 0.9]]))
    assert found == pytest.approx(np.array([[5.4 / 21] * 2, [0.9, 0.9]]))
    expected = (10 * (2.1 / 5.4) ** 2 + 11 * (5.4 / 8.4) ** 2 + 30) / 51
    assert [(2.1 / 5.4) ** 2, (5.4 / 8.4) ** 2] == pytest.approx([0.151, 0.413], abs=5e-4)
    assert anchors.average_iou(sizes, found) == pytest.approx(expected)
    assert expected < (10 + 11 * 16 / 81 + 30) / 51
    # Three clusters of three kinds have no error.
    three = anchors.euclidean_clusters(np.array([[0.1, 0.2], [0.4, 0.1], [0.9, 0.8]]), 3)
    assert sorted(three.tolist()) == [[0.1, 0.2], [0.4, 0.1], [0.9, 0.8]]


def test_the_first_clusters_of_the_smallest_error_win(monkeypatch):
    # Widths 0, 1, 10 and 11 in two clusters: {0, 1} and {10, 11} have the error 4 * .5^2 = 1, {0} and {1, 10, 11} that
    # of 1, 10, 11 around 22/3: (19/3)^2 + (8/3)^2 + (11/3)^2 = 60.7. From 0 and 1 the means go to .5 and 10.5, too.
    assert (19 / 3) ** 2 + (8 / 3) ** 2 + (11 / 3) ** 2 == pytest.approx(60.7, abs=0.05)
    sizes = np.array([[0.0, 1], [1, 1], [10, 1], [11, 1]])
    assert anchors.euclidean_k_means(sizes, sizes[:2].copy())[:, 0].tolist() == pytest.approx([0.5, 10.5])
    runs = iter([np.array([[0.0, 1], [22 / 3, 1]]), np.array([[0.5, 1], [10.5, 1]]), np.array([[0.0, 1], [22 / 3, 1]])])
    monkeypatch.setattr(anchors, "euclidean_k_means", lambda sizes, start: next(runs))
    assert anchors.euclidean_clusters(sizes, 2)[:, 0].tolist() == [0.5, 10.5]


def test_the_hand_picked_anchors(monkeypatch):
    # 128 x 128 pixels of 800 x 600: .16 of the letterbox, whose side is 800. With a height of 2 widths and the same
    # area: 128 / sqrt(2) = 90.5 wide, 181.0 high: .1131 and .2263. Of the image itself 128 / 600 = .2133 high.
    found = anchors.hand_picked()
    assert found.shape == (9, 2) and found[1].tolist() == pytest.approx([0.16, 0.16])
    assert found[2].tolist() == pytest.approx([0.1131, 0.2263], abs=5e-5)
    assert found[0].tolist() == pytest.approx(found[2][::-1])
    assert found.prod(1).tolist() == pytest.approx(np.repeat([0.16 ** 2, 0.32 ** 2, 0.64 ** 2], 3))
    monkeypatch.setattr(anchors, "LETTERBOX", False)
    assert anchors.hand_picked()[1].tolist() == pytest.approx([0.16, 0.2133], abs=5e-5)


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
    table = text[text.index("Table 1"):].splitlines()[1:5]
    assert [line.split()[-3] for line in table] == ["5", "5", "9", "9"]
    assert [line.split()[-1] for line in table] == ["58.7%", "61.0%", "60.9%", "67.2%"]                  # of the paper
    exec(text[text.index("ANCHORS ="):text.index("]\n") + 1], printed)
    cells = np.array(printed["ANCHORS"])
    assert cells.shape == (5, 2) and (np.diff(cells.prod(1)) > 0).all()
    assert 0.1 < cells.min() and 1 < cells.max() <= anchors.TEST_SIZE / 32


def test_too_few_boxes(monkeypatch):
    monkeypatch.setattr(anchors, "MAX_K", 1000)
    with pytest.raises(InputError, match="1000 clusters need 1000 boxes of different sizes"):
        anchors.main()
