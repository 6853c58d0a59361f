"""
Every expected number in this file is worked out in its comment. Check it with a pencil.

TABLE is one class, five images with one truth each, and seven detections, best score first:

    score  right?  found  precision  recall  envelope (the best precision from here on)
     .9     yes      1       1         .2       1
     .8     no       1      1/2        .2      3/4
     .7     yes      2      2/3        .4      3/4
     .6     yes      3      3/4        .6      3/4
     .5     no       3      3/5        .6      3/5
     .4     no       3      1/2        .6      4/7
     .3     yes      4      4/7        .8      4/7
"""
import warnings

import numpy as np
import pytest

from shared.metrics import COCO_IOUS, COCO_RECALLS, at_confidence, coco_ap, match, mean_ap, voc_ap, voc_curves

RIGHT, WRONG = [10, 20, 50, 40], [60, 20, 90, 40]                        # boxes that do not overlap
TABLE = (np.array([[0, 0, .9, *RIGHT], [1, 0, .8, *WRONG], [2, 0, .7, *RIGHT], [1, 0, .6, *RIGHT], [3, 0, .5, *WRONG],
                   [4, 0, .4, *WRONG], [3, 0, .3, *RIGHT]]),
         np.array([[image, 0, *RIGHT, 0] for image in range(5)], float))


def rows(*rows):
    return np.array(rows, float).reshape(-1, 7)


def outcome(detections, truths, **options):
    """One letter per detection: T true positive, F false positive, - neither."""
    true_positive, false_positive = match(detections, truths, **options)
    return "".join("T" if t else "F" if f else "-" for t, f in zip(true_positive, false_positive))


# ---- PASCAL VOC

def test_precision_and_recall():
    [(recall, precision, score, positives)] = voc_curves(*TABLE, num_classes=1)
    assert recall == pytest.approx([.2, .2, .4, .6, .6, .6, .8])
    assert precision == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4, 3 / 5, 1 / 2, 4 / 7])
    assert score == pytest.approx([.9, .8, .7, .6, .5, .4, .3]) and positives == 5


def test_every_point_average_precision():
    # Recall rises by .2 four times, to points with envelope 1, 3/4, 3/4, 4/7.
    # .2 (1 + 3/4 + 3/4 + 4/7) = .2 * 43/14 = 43/70 = .6143
    # Without the envelope .2 (1 + 2/3 + 3/4 + 4/7) = .5976; by trapezoids from (0, 1) without it .5655.
    assert voc_ap(*TABLE, num_classes=1) == pytest.approx([43 / 70])


def test_eleven_point_average_precision():
    # Recall 0 .1 .2: 1.   .3 .4 .5 .6: 3/4.   .7 .8: 4/7.   .9 1: never reached, 0.
    # (3 + 4 * 3/4 + 2 * 4/7) / 11 = 50/77 = .6494
    # With .6000000000000001 for .6: (3 + 9/4 + 12/7) / 11 = .6331. Ten points instead of eleven: .6143 or .7143.
    assert voc_ap(*TABLE, num_classes=1, eleven_point=True) == pytest.approx([50 / 77])


def test_order_of_rows_does_not_matter_where_scores_differ():
    detections, truths = TABLE
    mixed = [4, 0, 6, 2, 5, 1, 3]
    assert outcome(detections, truths) == "TFTTFFT" and outcome(detections[mixed], truths) == "FTTTFFT"
    assert voc_ap(detections[mixed], truths[::-1], 1) == pytest.approx([43 / 70])
    assert coco_ap(detections[mixed], truths[::-1], 1) == pytest.approx(coco_ap(*TABLE, 1), nan_ok=True)


def test_iou_of_exactly_one_half_is_enough():
    # 10 x 5 inside 10 x 10: IOU 1/2. The devkit asks for .5 or more; its Python port for more than .5.
    assert outcome(rows([0, 0, .9, 0, 0, 10, 5]), rows([0, 0, 0, 0, 10, 10, 0])) == "T"
    assert outcome(rows([0, 0, .9, 0, 0, 10, 4.9]), rows([0, 0, 0, 0, 10, 10, 0])) == "F"
    assert outcome(rows([0, 0, .9, 0, 0, 10, 5]), rows([0, 0, 0, 0, 10, 10, 0]), iou_threshold=.6) == "F"


def test_duplicates_are_false_positives():
    # The best score finds the truth, the others are wrong, also the one that fits better: IOU .6, 1, .8.
    truths = rows([0, 0, 0, 0, 10, 10, 0])
    detections = rows([0, 0, .7, 0, 0, 10, 8], [0, 0, .8, 0, 0, 10, 10], [0, 0, .9, 0, 0, 10, 6])
    assert outcome(detections, truths) == "FFT"


def test_only_the_best_overlapping_truth_counts():
    # Truths A, B are 10 x 10 and 2 apart. The second detection lies 1/2 below A: IOU with A 9.5 / 10.5 = .905, with B
    # 8.5 / 11.5 = .739. VOC: its truth is A, which has been found, so it is wrong. AP = 1/2 * 1.
    # COCO: A is gone, so it takes B. AP50 = 1.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 0, 2, 10, 12, 0])
    detections = rows([0, 0, .9, 0, 0, 10, 10], [0, 0, .8, 0, .5, 10, 10.5])
    assert outcome(detections, truths) == "TF"
    assert voc_ap(detections, truths, 1) == pytest.approx([.5])
    assert coco_ap(detections, truths, 1)["AP50"] == pytest.approx(1)


def test_of_equally_good_truths_voc_takes_the_first_and_coco_the_last():
    # Truths A, B at 0 and 4, 10 wide. The first detection, at 2, has IOU 8 / 12 with both; the second, at 5, has
    # 9 / 11 with B and 5 / 15 with A. VOC: the first finds A, the second B. COCO: the first takes B, the second finds
    # nothing, recall stops at 1/2, and of the 101 recalls 0, .01, .. .50 have precision 1: AP50 = 51/101.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 4, 0, 14, 10, 0])
    detections = rows([0, 0, .9, 2, 0, 12, 10], [0, 0, .8, 5, 0, 15, 10])
    assert outcome(detections, truths) == "TT"
    assert coco_ap(detections, truths, 1)["AP50"] == pytest.approx(51 / 101)


def test_difficult_truths_are_neither_counted_nor_punished():
    # The first two detections find the difficult truth, both cost nothing; the third overlaps it by .4 only: wrong.
    # The fourth finds the other truth, the only one that counts. Recall 1 at precision 1/2: AP = 1/2.
    # Counted as an ordinary truth: T F F T, AP = 1/2 * 1 + 1/2 * 1/2 = 3/4. Punished: F F F T, AP = 1/4.
    # In the second set it is the better of two truths for a detection that could have found the other one as well.
    truths = rows([0, 0, 0, 0, 10, 10, 1], [0, 0, 50, 50, 60, 60, 0])
    detections = rows([0, 0, .9, 0, 0, 10, 10], [0, 0, .8, 0, 0, 10, 9], [0, 0, .7, 0, 0, 10, 4],
                      [0, 0, .6, 50, 50, 60, 60])
    assert outcome(detections, truths) == "--FT"
    assert voc_ap(detections, truths, 1) == pytest.approx([1 / 2])
    assert voc_curves(detections, truths, 1)[0][2] == pytest.approx([.7, .6])

    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 0, 1, 10, 11, 1])
    assert outcome(rows([0, 0, .9, 0, 1, 10, 11]), truths) == "-"


def test_images_and_classes_are_not_mixed():
    # Three images, three classes; the one truth is in image 1, class 2, and all detections have its box.
    truths = rows([1, 2, *RIGHT, 0])
    detections = rows(*[[image, label, .9, *RIGHT] for image in range(3) for label in range(3)])
    assert outcome(detections, truths) == "FFFFFTFFF"
    # Image + label is the same sum in both of these.
    assert outcome(rows([0, 1, .9, *RIGHT]), rows([1, 0, *RIGHT, 0])) == "F"
    assert outcome(rows([1, 0, .9, *RIGHT]), rows([0, 1, *RIGHT, 0])) == "F"
    # Class 2: wrong in image 0, right in image 1, wrong in image 2. Recall 1 is reached at precision 1/2.
    assert voc_ap(detections, truths, 3) == pytest.approx([np.nan, np.nan, 1 / 2], nan_ok=True)
    assert coco_ap(detections, truths, 3)["AP"] == pytest.approx(1 / 2)


def test_equal_scores_keep_the_order_of_the_rows():
    # Twenty truths, forty detections of one score. The right ones first: AP 1. The wrong ones first: the k-th right
    # one has precision k / (20 + k), highest for the last: 20 / 40 everywhere, AP 1/2. Other orders lie between.
    truths = rows(*[[0, 0, 100 * i, 0, 100 * i + 50, 40, 0] for i in range(20)])
    # Duplicates with lower scores stand between them: they change nothing, but leave a sort something to do.
    right = np.insert(truths[:, :6], 2, .5, axis=1)
    wrong = right + [0, 0, 0, 0, 50, 0, 50]
    low = np.concatenate([right, right])
    low[:, 2] = np.random.default_rng(0).permutation(40) / 100
    for tied, result, ap in (([right, wrong], "TF" * 20 + "FF" * 20, 1), ([wrong, right], "FF" * 20 + "TF" * 20, .5),
                             ([right, right], "TF" * 20 + "FF" * 20, 1)):
        detections = np.stack([np.concatenate(tied), low], 1).reshape(-1, 7)
        assert outcome(detections, truths) == result
        assert voc_ap(detections, truths, 1) == pytest.approx([ap])
        assert coco_ap(detections, truths, 1)["AP"] == pytest.approx(ap)


def test_mean_leaves_out_classes_without_truths():
    detections, truths = TABLE
    ap = voc_ap(detections, np.concatenate([truths, rows([0, 2, *WRONG, 0], [0, 3, *WRONG, 1])]), 4)
    # class 1 has no truth, class 2 one that is not found, class 3 only a difficult one
    assert ap == pytest.approx([43 / 70, np.nan, 0, np.nan], nan_ok=True)
    assert mean_ap(ap) == pytest.approx(43 / 140)
    assert np.isnan(mean_ap(np.full(3, np.nan)))


# ---- at one confidence

def test_at_confidence():
    # Scores of .6 and above: right, wrong, right, right. Precision 3/4, recall 3/5.
    # mAP = .2 * 1 + .4 * 3/4 = 1/2; all detections give 43/70 = .614.
    assert at_confidence(*TABLE, num_classes=1, confidence=.6) == pytest.approx(
        {"precision": 3 / 4, "recall": 3 / 5, "mAP": 1 / 2})


def test_precision_at_confidence_is_of_all_classes_together():
    # Class 0: one right of one, one truth. Class 1: one right of four, three truths. Together 2/5 and 2/4; the means
    # of the classes would be 5/8 and 2/3. The difficult truth of image 1 and what finds it do not count.
    detections = rows([0, 0, .9, *RIGHT], [0, 1, .9, *RIGHT], *[[0, 1, .8, *WRONG]] * 3, [1, 1, .9, *RIGHT])
    truths = rows([0, 0, *RIGHT, 0], [0, 1, *RIGHT, 0], [2, 1, *RIGHT, 0], [3, 1, *RIGHT, 0], [1, 1, *RIGHT, 1])
    got = at_confidence(detections, truths, 2)
    assert got == pytest.approx({"precision": 2 / 5, "recall": 2 / 4, "mAP": (1 + 1 / 3) / 2})


# ---- COCO

def test_coco_interpolates_at_101_recalls():
    # The boxes are exact, so all ten thresholds give the same. Recall 0 to .20: 21 points with 1. To .60: 40 with 3/4.
    # To .80: 20 with 4/7. Then 0. (21 + 30 + 80/7) / 101 = 437/707 = .61810; the area is 43/70 = .61429.
    # The boxes are 40 x 20 = 800 pixels and small.
    got = coco_ap(*TABLE, num_classes=1)
    assert got["AP"] == got["AP50"] == got["AP75"] == pytest.approx(437 / 707)
    assert got["AP_small"] == pytest.approx(437 / 707)
    assert np.isnan(got["AP_medium"]) and np.isnan(got["AP_large"])


@pytest.mark.parametrize("height, ap, ap75", [(5, .1, 0), (6.2, .3, 0), (7.5, .6, 1), (9.6, 1, 1)])
def test_coco_averages_over_ten_thresholds(height, ap, ap75):
    # IOU .5 is enough at .50: 1 of 10 thresholds. .62 at .50, .55, .60: 3 of 10. .75 from .50 to .75: 6. .96: all.
    got = coco_ap(rows([0, 0, .9, 0, 0, 10, height]), rows([0, 0, 0, 0, 10, 10, 0]), 1)
    assert (got["AP"], got["AP50"], got["AP75"]) == pytest.approx((ap, 1, ap75))


def test_coco_is_greedy():
    # Truths A at 0 and B at 2, 10 wide. The first detection, at .5, has IOU .905 with A and .739 with B; the second,
    # at -2, 8 / 12 with A and 6 / 14 with B. The first takes A, and nothing is left for the second: AP50 = 51/101. If
    # the first took B, both would be right.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 2, 0, 12, 10, 0])
    detections = rows([0, 0, .9, .5, 0, 10.5, 10], [0, 0, .8, -2, 0, 8, 10])
    for truths in truths, truths[::-1]:
        assert coco_ap(detections, truths, 1)["AP50"] == pytest.approx(51 / 101)


def test_a_crowd_absorbs_any_number_of_detections():
    # Two detections lie inside the crowd: IOU 1/100 each, but all of their own area. Neither costs anything: AP50 = 1.
    # By plain IOU they would be wrong, AP50 = 1/3; with room for one in the crowd 1/2.
    truths = rows([0, 0, 0, 0, 100, 100, 1], [0, 0, 200, 0, 210, 10, 0])
    detections = rows([0, 0, .9, 0, 0, 10, 10], [0, 0, .8, 20, 0, 30, 10], [0, 0, .7, 200, 0, 210, 10])
    assert coco_ap(detections, truths, 1)["AP50"] == pytest.approx(1)
    # VOC has no crowds: a difficult truth is compared by plain IOU.
    assert voc_ap(detections, truths, 1) == pytest.approx([1 / 3])


def test_a_crowd_comes_after_every_truth_that_counts():
    # The detection has IOU .6 with the truth and lies wholly inside the crowd. To .60 it finds the truth; above, the
    # crowd takes it, and nothing is found. AP = 3/10, not 0.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 0, 0, 100, 100, 1])
    assert coco_ap(rows([0, 0, .9, 0, 0, 10, 6]), truths, 1)["AP"] == pytest.approx(.3)
    assert coco_ap(rows([0, 0, .9, 0, 0, 10, 6]), truths[::-1], 1)["AP"] == pytest.approx(.3)


def test_coco_ranges_of_area():
    # Truths of 10 x 10 and 40 x 40. The first detection, 100 x 100, finds nothing. The second, 30 x 30, finds the
    # large truth (IOU .5625) at the thresholds .50 and .55, nothing at the other eight. The third finds the small one.
    #              .50 and .55                             from .60 on
    #     all      wrong, right, right: precision 2/3
    #     small    too large, finds ignored, right: 1      too large, wrong, right: 1/2              (2 + 4) / 10
    #     medium   too large, right, finds ignored: 1      too large, too small, finds ignored: 0    2 / 10
    #     large    no truth
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 50, 0, 90, 40, 0])
    detections = rows([0, 0, .9, 200, 200, 300, 300], [0, 0, .8, 50, 0, 80, 30], [0, 0, .7, 0, 0, 10, 10])
    got = coco_ap(detections, truths, 1)
    assert got["AP50"] == pytest.approx(2 / 3)
    assert (got["AP_small"], got["AP_medium"]) == pytest.approx((.6, .2)) and np.isnan(got["AP_large"])


def test_a_truth_outside_the_range_is_found_once():
    # A crowd would absorb both detections of 30 x 30. The truth of 40 x 40, ignored among the small ones, takes the
    # first; the second is small and wrong. Precision at .50 and .55 (-, wrong, right) 1/2; from .60 on (wrong, wrong,
    # right) 1/3. AP_small = (2 / 2 + 8 / 3) / 10 = 11/30; with a crowd (2 + 8 / 3) / 10 = 14/30.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 50, 0, 90, 40, 0])
    detections = rows([0, 0, .9, 50, 0, 80, 30], [0, 0, .8, 50, 0, 80, 30], [0, 0, .7, 0, 0, 10, 10])
    assert coco_ap(detections, truths, 1)["AP_small"] == pytest.approx(11 / 30)


def test_coco_areas_at_the_limits_belong_to_both_ranges_and_may_be_given():
    square = rows([0, 0, 0, 0, 32, 32, 0])                               # 1024 pixels
    found = rows([0, 0, .9, 0, 0, 32, 32])
    for areas, expected in (None, [1, 1, np.nan]), ([9216], [np.nan, 1, 1]), ([1023], [1, np.nan, np.nan]):
        got = coco_ap(found, square, 1, areas)
        assert [got["AP_small"], got["AP_medium"], got["AP_large"]] == pytest.approx(expected, nan_ok=True)


def test_coco_reads_100_detections_per_image_and_class():
    # 99 wrong ones and then the right one: precision 1/100. One more wrong one, and it is the 101st: never read.
    # Wrong ones of another class or another image take no room; of another image they count: 1/101.
    truths = rows([0, 1, *RIGHT, 0])
    right, wrong = [0, 1, .1, *RIGHT], [0, 1, .9, *WRONG]
    other_image, other_class = [1, 1, .9, *WRONG], [0, 0, .9, *WRONG]
    assert coco_ap(rows(right, *[wrong] * 99), truths, 2)["AP"] == pytest.approx(1 / 100)
    assert coco_ap(rows(right, *[wrong] * 100), truths, 2)["AP"] == 0
    assert coco_ap(rows(right, *[wrong] * 99, other_class), truths, 2)["AP"] == pytest.approx(1 / 100)
    assert coco_ap(rows(right, *[wrong] * 99, other_image), truths, 2)["AP"] == pytest.approx(1 / 101)
    assert voc_ap(rows(right, *[wrong] * 100), truths, 2)[1] == pytest.approx(1 / 101)


def test_coco_orders_equal_scores_by_image():
    # The wrong one is the first row, but in image 1. COCO: right, wrong, AP 1. VOC: wrong, right, AP 1/2.
    detections, truths = rows([1, 0, .5, *WRONG], [0, 0, .5, *RIGHT]), rows([0, 0, *RIGHT, 0])
    assert coco_ap(detections, truths, 1)["AP"] == pytest.approx(1)
    assert voc_ap(detections, truths, 1) == pytest.approx([.5])


# ---- all of them

def test_nothing_detected_and_nothing_there():
    detections, truths = TABLE
    nothing = np.zeros((0, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert voc_ap(nothing, truths, 2) == pytest.approx([0, np.nan], nan_ok=True)
        assert voc_ap(nothing, truths, 1, eleven_point=True) == pytest.approx([0])
        assert np.isnan(voc_ap(detections, nothing, 2)).all() and np.isnan(voc_ap(nothing, nothing, 2)).all()
        assert np.isnan(voc_ap(detections, nothing, 2, eleven_point=True)).all()
        assert coco_ap(nothing, truths, 2)["AP"] == 0
        assert all(np.isnan(value) for value in coco_ap(detections, nothing, 2).values())
        assert all(np.isnan(value) for value in coco_ap(nothing, nothing, 2).values())
        assert at_confidence(nothing, truths, 1) == {"precision": 0, "recall": 0, "mAP": 0}
        lost = at_confidence(detections, nothing, 1)
        assert lost["precision"] == 0 and np.isnan(lost["recall"]) and np.isnan(lost["mAP"])
        # An image without objects is one more place for false positives: wrong, then the table's seven.
        # Precision 1/2, 1/3, 2/4, 3/5, 3/6, 3/7, 4/8; envelope at the four steps 3/5, 3/5, 3/5, 1/2.
        surplus = np.concatenate([rows([9, 0, .95, *RIGHT]), detections])
        assert voc_ap(surplus, truths, 1) == pytest.approx([.2 * (3 / 5 * 3 + 1 / 2)])
        # Boxes without area overlap nothing.
        flat = rows([0, 0, .9, 10, 20, 10, 40], [0, 0, .8, 50, 40, 10, 20])
        assert outcome(flat, rows([0, 0, 10, 20, 10, 40, 0])) == "FF"


def random_world(seed):
    """Few images, few places, few scores: many ties of scores and of IOUs, areas just at the limits of the ranges."""
    random = np.random.default_rng(seed)
    size = random.choice([10, 32, 96])

    def boxes(n):
        left_top = random.integers(0, 4, (n, 2)) * (size // 8)
        return np.concatenate([left_top, left_top + size + random.integers(-1, 2, (n, 2)) * (size // 8)], 1)
    n, m = random.integers(0, 60), random.integers(0, 30)
    detections = np.column_stack([random.integers(0, 3, (n, 2)), random.integers(0, 8, n) / 8, boxes(n)])
    truths = np.column_stack([random.integers(0, 2, (m, 2)) * [1, 3], boxes(m), random.random(m) < .3])
    truths[::3, 1] = 1
    return detections.astype(float), truths.astype(float)


def test_single_precision_and_inputs_unchanged():
    # Image 10,000,000 of 4 classes: image and label in one number do not fit into float32's 24 bits.
    detections, truths = random_world(1)
    detections[:, 0] += 10000000
    truths[:, 0] += 10000000
    before = detections.copy(), truths.copy()
    expected = outcome(detections, truths), coco_ap(detections, truths, 4)
    assert (before[0] == detections).all() and (before[1] == truths).all()
    single = detections.astype(np.float32), truths.astype(np.float32)
    assert outcome(*single) == expected[0] and coco_ap(*single, 4) == pytest.approx(expected[1], nan_ok=True)


def iou(a, b, crowd=False):
    width, height = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (area_a if crowd else area_a + area_b - width * height)


def devkit_loop(detections, truths):
    """VOCevaldet.m, one detection after the other."""
    result, found = ["F"] * len(detections), set()
    for d in sorted(range(len(detections)), key=lambda d: -detections[d, 2]):
        best, best_iou = None, -1
        for t in range(len(truths)):
            if (truths[t, :2] == detections[d, :2]).all() and iou(detections[d, 3:], truths[t, 2:6]) > best_iou:
                best, best_iou = t, iou(detections[d, 3:], truths[t, 2:6])
        if best_iou >= .5 and truths[best, 6]:
            result[d] = "-"
        elif best_iou >= .5 and best not in found:
            result[d] = "T"
            found.add(best)
    return "".join(result)


def pycocotools_loop(detections, truths, low, high):
    """cocoeval.py's evaluateImg and accumulate for one class and one range of area: the mean over ten thresholds."""
    areas = (truths[:, 4] - truths[:, 2]) * (truths[:, 5] - truths[:, 3])
    outside = (truths[:, 6] > 0) | (areas < low) | (areas > high)
    if outside.all():
        return np.nan
    means = []
    for threshold in COCO_IOUS:
        points = []                                                      # (score, right, counted)
        for image in range(3):
            mine = sorted(np.flatnonzero(detections[:, 0] == image), key=lambda d: -detections[d, 2])
            candidates = sorted(np.flatnonzero(truths[:, 0] == image), key=lambda t: outside[t])
            taken = set()
            for box in detections[mine[:100]]:
                best, best_iou = None, threshold
                for t in candidates:
                    if t in taken and not truths[t, 6]:
                        continue
                    if best is not None and not outside[best] and outside[t]:
                        break
                    if iou(box[3:], truths[t, 2:6], truths[t, 6]) >= best_iou:
                        best, best_iou = t, iou(box[3:], truths[t, 2:6], truths[t, 6])
                taken.add(best)
                size = (box[5] - box[3]) * (box[6] - box[4])
                ignored = not low <= size <= high if best is None else outside[best]
                points.append((box[2], best is not None and not ignored, not ignored))
        points.sort(key=lambda point: -point[0])
        right, counted = (np.cumsum([point[i] for point in points]) for i in (1, 2))
        recall, precision = right / (~outside).sum(), right / np.maximum(counted, 1)
        means.append(np.mean([precision[recall >= r].max(initial=0) for r in COCO_RECALLS]))
    return np.mean(means)


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_the_loops_of_the_originals(seed):
    detections, truths = random_world(seed)
    assert outcome(detections, truths) == devkit_loop(detections, truths)
    got = coco_ap(detections, truths, 4)
    for name, low, high in ("AP", 0, 1e10), ("AP_small", 0, 1024), ("AP_medium", 1024, 9216), ("AP_large", 9216, 1e10):
        expected = np.array([pycocotools_loop(detections[detections[:, 1] == label], truths[truths[:, 1] == label],
                                              low, high) for label in range(4)])
        assert got[name] == pytest.approx(mean_ap(expected), abs=1e-9, nan_ok=True)
