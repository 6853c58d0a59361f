"""
Average precision, worked with a pencil, and the loops of shared/average_precision.py against the arrays of metrics.py.

letters(), voc() and coco() compute every result twice, with the loops and with the arrays, and assert that they agree.

TABLE is the example of shared/average_precision.py: one class, five images with one truth each, and seven detections,
best score first:

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

from shared.average_precision import (COCO_AREAS, COCO_IOUS, ELEVEN_RECALLS, best_first, coco_average_precision,
                                      coco_match, iou, precision_recall, voc_average_precision, voc_match)
from shared.metrics import (area, at_confidence, average_precision, average_precision_at, coco_ap, envelope, match,
                            mean_ap, voc_ap, voc_curves)

RIGHT, WRONG = [10, 20, 50, 40], [60, 20, 90, 40]                        # boxes that do not overlap
TABLE = (np.array([[0, 0, .9, *RIGHT], [1, 0, .8, *WRONG], [2, 0, .7, *RIGHT], [1, 0, .6, *RIGHT], [3, 0, .5, *WRONG],
                   [4, 0, .4, *WRONG], [3, 0, .3, *RIGHT]]),
         np.array([[image, 0, *RIGHT, 0] for image in range(5)], float))
LETTERS = {"true positive": "T", "false positive": "F", "ignored": "-"}


def rows(*rows):
    return np.array(rows, float).reshape(-1, 7)


def letters(detections, truths, iou_threshold=.5):
    """VOC's decision on each detection, in the order of the rows: T true positive, F false positive, - ignored."""
    true_positive, false_positive = match(detections, truths, iou_threshold)
    fast = ["T" if t else "F" if f else "-" for t, f in zip(true_positive, false_positive)]
    for label in np.unique(detections[:, 1]):
        mine = sorted(np.flatnonzero(detections[:, 1] == label), key=lambda d: -detections[d, 2])
        loops = voc_match(detections[mine].tolist(), truths[truths[:, 1] == label].tolist(), iou_threshold)
        assert [fast[d] for d in mine] == [LETTERS[outcome] for outcome in loops]
    return "".join(fast)


def voc(detections, truths, num_classes, iou_threshold=.5, eleven_point=False):
    """VOC's AP of each class."""
    fast = voc_ap(detections, truths, num_classes, iou_threshold, eleven_point)
    loops = [voc_average_precision(detections.tolist(), truths.tolist(), label, iou_threshold, eleven_point)
             for label in range(num_classes)]
    assert fast == pytest.approx(loops, abs=1e-12, nan_ok=True)
    return fast


def with_areas(truths, areas=None):
    return np.column_stack([truths, area(truths[:, 2:6]) if areas is None else areas]).tolist()


def coco(detections, truths, num_classes, areas=None):
    """COCO's six figures."""
    fast = coco_ap(detections, truths, num_classes, areas)
    for name, area_range, thresholds in [("AP", "all", COCO_IOUS), ("AP50", "all", [.5]), ("AP75", "all", [.75]),
                                         ("AP_small", "small", COCO_IOUS), ("AP_medium", "medium", COCO_IOUS),
                                         ("AP_large", "large", COCO_IOUS)]:
        loops = [coco_average_precision(detections.tolist(), with_areas(truths, areas), label, area_range, thresholds)
                 for label in range(num_classes)]
        assert fast.pop(name) == pytest.approx(mean_ap(np.array(loops)), abs=1e-12, nan_ok=True), name
    assert not fast
    return coco_ap(detections, truths, num_classes, areas)


def coco_letters(detections, truths, iou_threshold, area_range="all"):
    """COCO's decisions on the detections of one image and class, best score first."""
    outcomes = coco_match(detections.tolist(), with_areas(truths), iou_threshold, *COCO_AREAS[area_range])
    return "".join(LETTERS[outcome] for _, outcome in outcomes)


def at_ten_thresholds(detections, truths, area_range="all"):
    return [coco_letters(detections, truths, threshold, area_range) for threshold in COCO_IOUS]


# ---- PASCAL VOC

def test_precision_and_recall():
    assert letters(*TABLE) == "TFTTFFT"
    [(recall, precision, score, positives)] = voc_curves(*TABLE, num_classes=1)
    assert recall == pytest.approx([.2, .2, .4, .6, .6, .6, .8])
    assert precision == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4, 3 / 5, 1 / 2, 4 / 7])
    assert envelope(precision) == pytest.approx([1, 3 / 4, 3 / 4, 3 / 4, 3 / 5, 4 / 7, 4 / 7])
    assert score == pytest.approx([.9, .8, .7, .6, .5, .4, .3]) and positives == 5


def test_every_point_average_precision():
    # Recall rises by .2 four times, to points with envelope 1, 3/4, 3/4, 4/7.
    # .2 (1 + 3/4 + 3/4 + 4/7) = .2 (43/14) = 43/70 = .6143
    assert voc(*TABLE, num_classes=1) == pytest.approx([43 / 70])

    # Two common mistakes. Without the envelope: .2 (1 + 2/3 + 3/4 + 4/7) = .5976.
    # By trapezoids from (0, 1) without the envelope: .2 (1 + 1 + 1/2 + 2/3 + 2/3 + 3/4 + 1/2 + 4/7) / 2 = .5655.
    [(recall, precision, _, _)] = voc_curves(*TABLE, num_classes=1)
    assert average_precision(recall, precision) == pytest.approx(43 / 70)
    steps = np.diff(recall, prepend=0)
    assert (steps * precision).sum() == pytest.approx(.5976, abs=5e-5)
    assert (steps * (precision + [1, *precision[:-1]]) / 2).sum() == pytest.approx(.5655, abs=5e-5)


def test_eleven_point_average_precision():
    # Recall     0   .1   .2   .3   .4   .5   .6   .7   .8   .9   1
    # envelope   1    1    1  3/4  3/4  3/4  3/4  4/7  4/7    0   0     .9 and 1 are never reached
    # (3 + 4 (3/4) + 2 (4/7)) / 11 = 50/77 = .6494
    assert voc(*TABLE, num_classes=1, eleven_point=True) == pytest.approx([50 / 77])

    # Two common mistakes. With .6000000000000001 for .6: (3 + 3 (3/4) + 3 (4/7)) / 11 = .6331.
    # Ten points instead of eleven: (2 + 3 + 8/7) / 10 = .6143 without 0, (3 + 3 + 8/7) / 10 = .7143 without 1.
    [(recall, precision, _, _)] = voc_curves(*TABLE, num_classes=1)
    assert average_precision_at(recall, precision, np.linspace(0, 1, 11)) == pytest.approx(.6331, abs=5e-5)
    assert average_precision_at(recall, precision, ELEVEN_RECALLS[1:]) == pytest.approx(.6143, abs=5e-5)
    assert average_precision_at(recall, precision, ELEVEN_RECALLS[:-1]) == pytest.approx(.7143, abs=5e-5)


def test_order_of_rows_does_not_matter_where_scores_differ():
    detections, truths = TABLE
    mixed = [4, 0, 6, 2, 5, 1, 3]
    assert letters(detections[mixed], truths) == "FTTTFFT"
    assert voc(detections[mixed], truths[::-1], 1) == pytest.approx([43 / 70])
    assert coco(detections[mixed], truths[::-1], 1) == pytest.approx(coco(*TABLE, 1), nan_ok=True)


def test_iou_of_exactly_one_half_is_enough():
    # 10 x 5 inside 10 x 10 has IOU 1/2, and 10 x 4.9 has .49. The devkit asks for .5 or more; its widely copied Python
    # port, voc_eval.py, for more than .5.
    truths = rows([0, 0, 0, 0, 10, 10, 0])
    assert letters(rows([0, 0, .9, 0, 0, 10, 5]), truths) == "T"
    assert letters(rows([0, 0, .9, 0, 0, 10, 4.9]), truths) == "F"
    assert letters(rows([0, 0, .9, 0, 0, 10, 5]), truths, iou_threshold=.6) == "F"


def test_duplicates_are_false_positives():
    # One truth of 10 x 10 and three detections of it:
    #     score   IOU
    #      .9     .6    true positive
    #      .8      1    false positive, although it fits better
    #      .7     .8    false positive
    truths = rows([0, 0, 0, 0, 10, 10, 0])
    detections = rows([0, 0, .7, 0, 0, 10, 8], [0, 0, .8, 0, 0, 10, 10], [0, 0, .9, 0, 0, 10, 6])
    assert [iou(box, truths[0, 2:6]) for box in detections[:, 3:]] == pytest.approx([.8, 1, .6])
    assert letters(detections, truths) == "FFT"


def test_only_the_best_overlapping_truth_counts():
    # All boxes are 10 x 10, from x = 0 to 10, and differ in y only:
    #
    #     y =  0          10            IOU with A          IOU with B
    #     A    |==========|
    #     B      |==========|
    #     .9   |----------|             1                   8/12   = .667
    #     .8    |----------|            9.5 / 10.5 = .905   8.5 / 11.5 = .739
    #
    # VOC:  the best truth of the second detection is A, which has been found: false positive. AP = 1/2.
    # COCO: A is taken, so the second detection takes B. AP50 = 1.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 0, 2, 10, 12, 0])
    detections = rows([0, 0, .9, 0, 0, 10, 10], [0, 0, .8, 0, .5, 10, 10.5])
    assert [[iou(d, t) for t in truths[:, 2:6]] for d in detections[:, 3:]] == [
        pytest.approx([1, .667], abs=5e-4), pytest.approx([.905, .739], abs=5e-4)]
    assert letters(detections, truths) == "TF" and coco_letters(detections, truths, .5) == "TT"
    assert voc(detections, truths, 1) == pytest.approx([.5])
    assert coco(detections, truths, 1)["AP50"] == pytest.approx(1)


def test_of_equally_good_truths_voc_takes_the_first_and_coco_the_last():
    # All boxes are 10 wide and 10 high, and differ in x only:
    #
    #     x =  0   4     10  14         IOU with A   IOU with B
    #     A    |=========|
    #     B        |=========|
    #     .9     |---------|            8/12         8/12
    #     .8        |---------|         5/15         9/11
    #
    # VOC:  the first detection finds A, the second B.
    # COCO: the first detection takes B, and the second finds nothing, since A is below the threshold. Recall ends at
    #       1/2. Of the 101 recalls 0, .01, .. .50, that is 51, have precision 1: AP50 = 51/101.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 4, 0, 14, 10, 0])
    detections = rows([0, 0, .9, 2, 0, 12, 10], [0, 0, .8, 5, 0, 15, 10])
    assert [[iou(d, t) for t in truths[:, 2:6]] for d in detections[:, 3:]] == [
        pytest.approx([8 / 12, 8 / 12]), pytest.approx([5 / 15, 9 / 11])]
    assert letters(detections, truths) == "TT" and coco_letters(detections, truths, .5) == "TF"
    assert voc(detections, truths, 1) == pytest.approx([1])
    assert coco(detections, truths, 1)["AP50"] == pytest.approx(51 / 101)


def test_difficult_truths_are_neither_counted_nor_punished():
    # A difficult truth of 10 x 10 at (0, 0), an ordinary one at (50, 50).
    #     score                                    ignored   if it counted   if it were punished
    #      .9     difficult truth, IOU 1              -            T                  F
    #      .8     difficult truth, IOU .9             -            F                  F
    #      .7     difficult truth, IOU .4             F            F                  F
    #      .6     ordinary truth,  IOU 1              T            T                  T
    #                                        AP      1/2     (1 + 1/2) / 2           1/4
    detections = rows([0, 0, .9, 0, 0, 10, 10], [0, 0, .8, 0, 0, 10, 9], [0, 0, .7, 0, 0, 10, 4],
                      [0, 0, .6, 50, 50, 60, 60])
    difficult, counted, ordinary = [0, 0, 0, 0, 10, 10, 1], [0, 0, 0, 0, 10, 10, 0], [0, 0, 50, 50, 60, 60, 0]
    assert [iou(box, difficult[2:6]) for box in detections[:, 3:]] == pytest.approx([1, .9, .4, 0])
    assert letters(detections, rows(difficult, ordinary)) == "--FT"
    assert voc(detections, rows(difficult, ordinary), 1) == pytest.approx([1 / 2])
    assert voc_curves(detections, rows(difficult, ordinary), 1)[0][2] == pytest.approx([.7, .6])         # the scores
    assert letters(detections, rows(counted, ordinary)) == "TFFT"
    assert voc(detections, rows(counted, ordinary), 1) == pytest.approx([3 / 4])
    assert letters(detections, rows(ordinary)) == "FFFT"
    assert voc(detections, rows(ordinary), 1) == pytest.approx([1 / 4])


def test_a_difficult_truth_that_overlaps_most_is_the_one_that_counts():
    # An ordinary truth at y = 0 and a difficult one at y = 1, 10 high. The detection has IOU 9/11 with the ordinary one
    # and 1 with the difficult one. VOC looks at the difficult one alone, so the detection is ignored.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 0, 1, 10, 11, 1])
    detection = rows([0, 0, .9, 0, 1, 10, 11])
    assert [iou(detection[0, 3:], t) for t in truths[:, 2:6]] == pytest.approx([9 / 11, 1])
    assert letters(detection, truths) == "-"


def test_images_and_classes_are_not_mixed():
    # Three images, three classes; the one truth is in image 1, class 2, and all detections have its box:
    #     image    0      1      2
    #     label  0 1 2  0 1 2  0 1 2
    #            F F F  F F T  F F F
    truths = rows([1, 2, *RIGHT, 0])
    detections = rows(*[[image, label, .9, *RIGHT] for image in range(3) for label in range(3)])
    assert letters(detections, truths) == "FFFFFTFFF"
    # Image + label is the same sum in both of these.
    assert letters(rows([0, 1, .9, *RIGHT]), rows([1, 0, *RIGHT, 0])) == "F"
    assert letters(rows([1, 0, .9, *RIGHT]), rows([0, 1, *RIGHT, 0])) == "F"
    # Class 2 is F, T, F: recall 1 is reached at precision 1/2. The other two classes have no truth.
    assert voc(detections, truths, 3) == pytest.approx([np.nan, np.nan, 1 / 2], nan_ok=True)
    assert coco(detections, truths, 3)["AP"] == pytest.approx(1 / 2)


def test_equal_scores_keep_the_order_of_the_rows():
    # Twenty truths. Forty detections of one score, .5, come in two halves, and "right" means one for each truth:
    #
    #     first half   second half    outcomes, best first    precision                            AP
    #     right        wrong          T x 20, F x 20          1 at each of the 20 recalls           1
    #     wrong        right          F x 20, T x 20          k / (20 + k) at the k-th, at most    1/2
    #                                                         20/40, which is the envelope of all
    #     right        right again    T x 20, F x 20          1                                     1
    #
    # A sort that does not keep the order of equal scores gives an AP between. Forty more duplicates of the truths, with
    # scores below .5, are every other row. They are all F and change no AP, but give the sort something to move.
    truths = rows(*[[0, 0, 100 * i, 0, 100 * i + 50, 40, 0] for i in range(20)])
    right = np.insert(truths[:, :6], 2, .5, axis=1)
    wrong = right + [0, 0, 0, 0, 50, 0, 50]
    low = np.concatenate([right, right])
    low[:, 2] = np.random.default_rng(0).permutation(40) / 100           # 0, .01, .. .39
    for first, second, result, ap in ((right, wrong, "TF" * 20 + "FF" * 20, 1),
                                      (wrong, right, "FF" * 20 + "TF" * 20, 1 / 2),
                                      (right, right, "TF" * 20 + "FF" * 20, 1)):
        detections = np.stack([np.concatenate([first, second]), low], 1).reshape(-1, 7)  # one of .5, one low, ...
        assert letters(detections, truths) == result
        assert voc(detections, truths, 1) == pytest.approx([ap])
        assert coco(detections, truths, 1)["AP"] == pytest.approx(ap)


def test_mean_leaves_out_classes_without_truths():
    # class   truths                           AP
    #   0     the table's                      43/70
    #   1     none                             nan
    #   2     one, which nothing finds         0
    #   3     a difficult one                  nan        mean over classes 0 and 2: 43/140
    detections, truths = TABLE
    ap = voc(detections, np.concatenate([truths, rows([0, 2, *WRONG, 0], [0, 3, *WRONG, 1])]), 4)
    assert ap == pytest.approx([43 / 70, np.nan, 0, np.nan], nan_ok=True)
    assert mean_ap(ap) == pytest.approx(43 / 140)
    assert np.isnan(mean_ap(np.full(3, np.nan)))


# ---- at one confidence

def test_at_confidence():
    # The table down to a score of .6: T F T T. Precision 3/4, recall 3/5.
    # mAP = .2 (1) + .4 (3/4) = 1/2; with all detections it is 43/70 = .614.
    assert at_confidence(*TABLE, num_classes=1, confidence=.6) == pytest.approx(
        {"precision": 3 / 4, "recall": 3 / 5, "mAP": 1 / 2})
    assert at_confidence(*TABLE, num_classes=1, confidence=0)["mAP"] == pytest.approx(43 / 70)


def test_precision_at_confidence_is_of_all_classes_together():
    #                right   detections   truths    precision   recall
    # class 0          1          1          1          1          1
    # class 1          1          4          3         1/4        1/3
    # both             2          5          4         2/5        2/4
    # means of the classes                             5/8        2/3
    # Image 1 has a difficult truth and a detection that finds it; neither is in the table.
    detections = rows([0, 0, .9, *RIGHT], [0, 1, .9, *RIGHT], *[[0, 1, .8, *WRONG]] * 3, [1, 1, .9, *RIGHT])
    truths = rows([0, 0, *RIGHT, 0], [0, 1, *RIGHT, 0], [2, 1, *RIGHT, 0], [3, 1, *RIGHT, 0], [1, 1, *RIGHT, 1])
    assert letters(detections, truths) == "TTFFF-"
    got = at_confidence(detections, truths, 2)
    assert got == pytest.approx({"precision": 2 / 5, "recall": 2 / 4, "mAP": (1 + 1 / 3) / 2})
    by_class = [at_confidence(detections[detections[:, 1] == c], truths[truths[:, 1] == c], 2) for c in (0, 1)]
    assert np.mean([c["precision"] for c in by_class]) == pytest.approx(5 / 8)
    assert np.mean([c["recall"] for c in by_class]) == pytest.approx(2 / 3)


# ---- COCO

def test_coco_interpolates_at_101_recalls():
    # The boxes of the table are exact, so all ten thresholds give the same.
    #     recalls             how many   envelope
    #       0, .01, .. .20       21         1
    #     .21, .22, .. .60       40        3/4
    #     .61, .62, .. .80       20        4/7
    #     .81, .82, .. 1         20         0      (21 + 30 + 80/7) / 101 = 437/707 = .61810
    # The area is different, 43/70 = .61429. The boxes have 40 x 20 = 800 pixels, so they are small.
    got = coco(*TABLE, num_classes=1)
    assert got["AP"] == got["AP50"] == got["AP75"] == pytest.approx(437 / 707)
    assert (437 / 707, 43 / 70) == pytest.approx((.61810, .61429), abs=5e-6)
    assert got["AP_small"] == pytest.approx(437 / 707)
    assert np.isnan(got["AP_medium"]) and np.isnan(got["AP_large"])


@pytest.mark.parametrize("height, ap, ap75", [(5, .1, 0), (6.2, .3, 0), (7.5, .6, 1), (9.6, 1, 1)])
def test_coco_averages_over_ten_thresholds(height, ap, ap75):
    #     IOU    is enough at               of 10
    #     .50    .50                          1
    #     .62    .50, .55, .60                3
    #     .75    .50, .55, .. .75             6
    #     .96    .50, .55, .. .95            10
    got = coco(rows([0, 0, .9, 0, 0, 10, height]), rows([0, 0, 0, 0, 10, 10, 0]), 1)
    assert (got["AP"], got["AP50"], got["AP75"]) == pytest.approx((ap, 1, ap75))


def test_coco_is_greedy():
    # All boxes are 10 wide and 10 high, and differ in x only:
    #
    #     x = -2 0 2     10  12         IOU with A           IOU with B
    #     A      |=========|
    #     B        |=========|
    #     .9      |---------|           9.5 / 10.5 = .905    8.5 / 11.5 = .739
    #     .8   |---------|              8 / 12               6 / 14
    #
    # The first detection takes A, and nothing is left for the second, so recall ends at 1/2: AP50 = 51/101. If the
    # first took B, both would be right.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 2, 0, 12, 10, 0])
    detections = rows([0, 0, .9, .5, 0, 10.5, 10], [0, 0, .8, -2, 0, 8, 10])
    assert [[iou(d, t) for t in truths[:, 2:6]] for d in detections[:, 3:]] == [
        pytest.approx([.905, .739], abs=5e-4), pytest.approx([8 / 12, 6 / 14])]
    for truths in truths, truths[::-1]:
        assert coco_letters(detections, truths, .5) == "TF"
        assert coco(detections, truths, 1)["AP50"] == pytest.approx(51 / 101)


def test_a_crowd_absorbs_any_number_of_detections():
    # A crowd of 100 x 100, an ordinary truth of 10 x 10, three detections of 10 x 10:
    #     score                         with a crowd   by plain IOU   if a crowd were used up
    #      .9     inside the crowd           -              F                  -
    #      .8     inside the crowd           -              F                  F
    #      .7     the ordinary truth         T              T                  T
    #                              AP50      1             1/3                1/2
    # The IOU with the crowd is 1/100, but the share of the detection inside it is 1.
    truths = rows([0, 0, 0, 0, 100, 100, 1], [0, 0, 200, 0, 210, 10, 0])
    detections = rows([0, 0, .9, 0, 0, 10, 10], [0, 0, .8, 20, 0, 30, 10], [0, 0, .7, 200, 0, 210, 10])
    assert iou(detections[0, 3:], truths[0, 2:6]) == 1 / 100 and iou(detections[0, 3:], truths[0, 2:6], crowd=True) == 1
    assert coco_letters(detections, truths, .5) == "--T"
    assert coco(detections, truths, 1)["AP50"] == pytest.approx(1)
    # VOC has no crowds: the IOU with a difficult truth is the plain one.
    assert letters(detections, truths) == "FFT"
    assert voc(detections, truths, 1) == pytest.approx([1 / 3])


def test_a_crowd_comes_after_every_truth_that_counts():
    # The detection has IOU .6 with the truth, and all of it is inside the crowd. At .50, .55 and .60 it takes the
    # truth. Above, it takes the crowd, so nothing is found and the AP is 0. The mean over ten thresholds is 3/10.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 0, 0, 100, 100, 1])
    detection = rows([0, 0, .9, 0, 0, 10, 6])
    for truths in truths, truths[::-1]:
        assert at_ten_thresholds(detection, truths) == ["T"] * 3 + ["-"] * 7
        assert coco(detection, truths, 1)["AP"] == pytest.approx(.3)


def test_coco_ranges_of_area():
    # Truth A is 10 x 10 (small: up to 32 x 32), truth B is 40 x 40 (medium: up to 96 x 96). Three detections:
    #
    #                                             all              small            medium
    #     IOU thresholds                      .50-.55 .60-.95  .50-.55 .60-.95  .50-.55 .60-.95
    #     .9  100 x 100, far from both           F       F        - 2     - 2      - 2     - 2
    #     .8  30 x 30 in B, IOU 900/1600         T       F        - 1     F        T       - 2
    #     .7  10 x 10, is A                      T       T        T       T        - 1     - 1
    #     AP                                    2/3    17/101     1      1/2       1       0
    #
    #     - 1  ignored: it takes a truth outside the range
    #     - 2  ignored: it takes nothing, and its own area is outside the range
    #
    # "all" at .50 to .55, F T T: precision 2/3 at recall 1. "all" at .60 to .95, F F T: precision 1/3 at recall 1/2,
    # which covers 51 of the 101 recalls: (51/101) (1/3) = 17/101. Two thresholds are .50-.55, eight are .60-.95.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 50, 0, 90, 40, 0])
    detections = rows([0, 0, .9, 200, 200, 300, 300], [0, 0, .8, 50, 0, 80, 30], [0, 0, .7, 0, 0, 10, 10])
    assert iou(detections[1, 3:], truths[1, 2:6]) == 900 / 1600
    for area_range, low, high in ("all", "FTT", "FFT"), ("small", "--T", "-FT"), ("medium", "-T-", "---"):
        assert at_ten_thresholds(detections, truths, area_range) == [low] * 2 + [high] * 8
    got = coco(detections, truths, 1)
    assert got["AP"] == pytest.approx((2 * (2 / 3) + 8 * (17 / 101)) / 10) and got["AP50"] == pytest.approx(2 / 3)
    assert got["AP_small"] == pytest.approx((2 * 1 + 8 * (1 / 2)) / 10)                  # .6
    assert got["AP_medium"] == pytest.approx((2 * 1 + 8 * 0) / 10)                       # .2
    assert np.isnan(got["AP_large"])                                                     # there is no large truth


def test_a_truth_outside_the_range_is_found_once():
    # The truths of the last test, and two equal detections of B, small themselves. In the range "small" B is ignored:
    #
    #                                                           if B were a crowd
    #     IOU thresholds                      .50-.55  .60-.95      .50-.95
    #     .9  30 x 30 in B, IOU 900/1600         -        F            -
    #     .8  30 x 30 in B, IOU 900/1600         F        F            -
    #     .7  10 x 10, is A                      T        T            T
    #     AP                                    1/2      1/3           1
    #
    # AP_small = (2 (1/2) + 8 (1/3)) / 10 = 11/30. It is 1 with a crowd, which all of both detections is inside.
    truths = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 50, 0, 90, 40, 0])
    crowd = rows([0, 0, 0, 0, 10, 10, 0], [0, 0, 50, 0, 90, 40, 1])
    detections = rows([0, 0, .9, 50, 0, 80, 30], [0, 0, .8, 50, 0, 80, 30], [0, 0, .7, 0, 0, 10, 10])
    assert at_ten_thresholds(detections, truths, "small") == ["-FT"] * 2 + ["FFT"] * 8
    assert coco(detections, truths, 1)["AP_small"] == pytest.approx(11 / 30)
    assert at_ten_thresholds(detections, crowd, "small") == ["--T"] * 10
    assert coco(detections, crowd, 1)["AP_small"] == pytest.approx(1)


def test_coco_areas_at_the_limits_belong_to_both_ranges_and_may_be_given():
    #     area of the truth                 small   medium   large
    #     None: the box's, 32^2 = 1024        1       1        -
    #     96^2 = 9216                         -       1        1
    #     1023                                1       -        -
    # The detection has the truth's box. It finds the truth in every range that the truth belongs to.
    square, found = rows([0, 0, 0, 0, 32, 32, 0]), rows([0, 0, .9, 0, 0, 32, 32])
    for areas, expected in (None, [1, 1, np.nan]), ([9216], [np.nan, 1, 1]), ([1023], [1, np.nan, np.nan]):
        got = coco(found, square, 1, areas)
        assert [got["AP_small"], got["AP_medium"], got["AP_large"]] == pytest.approx(expected, nan_ok=True)


def test_a_detection_at_the_limit_of_a_range_is_inside_it():
    # The truth is 10 x 10, the unmatched detection before it 32 x 32: it is small, and wrong: AP_small = 1/2. With
    # 32 x 33 it is too large to be small, and ignored: AP_small = 1. For medium it is the other way round.
    for side, ap in (32, 1 / 2), (33, 1):
        detections = rows([0, 0, .9, 100, 0, 132, side], [0, 0, .8, 0, 0, 10, 10])
        assert coco(detections, rows([0, 0, 0, 0, 10, 10, 0]), 1)["AP_small"] == pytest.approx(ap)
    for side, ap in (32, 1 / 2), (31, 1):
        detections = rows([0, 0, .9, 100, 0, 132, side], [0, 0, .8, 0, 0, 40, 40])
        assert coco(detections, rows([0, 0, 0, 0, 40, 40, 0]), 1)["AP_medium"] == pytest.approx(ap)


def test_coco_reads_100_detections_per_image_and_class():
    # One truth. The right detection has the lowest score, .1; before it come wrong ones with .9:
    #     99 wrong                            the right one is the 100th: precision 1/100
    #     100 wrong                           the right one is the 101st and is not read: AP 0. VOC reads it: 1/101
    #     99 wrong, 1 of another class        still the 100th of its class: 1/100
    #     99 wrong, 1 in another image        still the 100th of its image, but there are 101 in all: 1/101
    truths = rows([0, 1, *RIGHT, 0])
    right, wrong = [0, 1, .1, *RIGHT], [0, 1, .9, *WRONG]
    other_image, other_class = [1, 1, .9, *WRONG], [0, 0, .9, *WRONG]
    assert coco(rows(right, *[wrong] * 99), truths, 2)["AP"] == pytest.approx(1 / 100)
    assert coco(rows(right, *[wrong] * 100), truths, 2)["AP"] == 0
    assert voc(rows(right, *[wrong] * 100), truths, 2)[1] == pytest.approx(1 / 101)
    assert coco(rows(right, *[wrong] * 99, other_class), truths, 2)["AP"] == pytest.approx(1 / 100)
    assert coco(rows(right, *[wrong] * 99, other_image), truths, 2)["AP"] == pytest.approx(1 / 101)


def test_coco_orders_equal_scores_by_image():
    # Two detections of one score. Row 0 is in image 1 and wrong, row 1 is in image 0 and right.
    # COCO goes by the image: T F, AP 1. VOC goes by the row: F T, AP 1/2.
    detections, truths = rows([1, 0, .5, *WRONG], [0, 0, .5, *RIGHT]), rows([0, 0, *RIGHT, 0])
    assert coco(detections, truths, 1)["AP"] == pytest.approx(1)
    assert letters(detections, truths) == "FT" and voc(detections, truths, 1) == pytest.approx([.5])


# ---- all of them

def test_nothing_detected_and_nothing_there():
    detections, truths = TABLE
    nothing = np.zeros((0, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert voc(nothing, truths, 2) == pytest.approx([0, np.nan], nan_ok=True)
        assert voc(nothing, truths, 1, eleven_point=True) == pytest.approx([0])
        assert np.isnan(voc(detections, nothing, 2)).all() and np.isnan(voc(nothing, nothing, 2)).all()
        assert np.isnan(voc(detections, nothing, 2, eleven_point=True)).all()
        assert coco(nothing, truths, 2)["AP"] == 0
        assert all(np.isnan(value) for value in coco(detections, nothing, 2).values())
        assert all(np.isnan(value) for value in coco(nothing, nothing, 2).values())
        assert at_confidence(nothing, truths, 1) == {"precision": 0, "recall": 0, "mAP": 0}
        lost = at_confidence(detections, nothing, 1)
        assert lost["precision"] == 0 and np.isnan(lost["recall"]) and np.isnan(lost["mAP"])


def test_an_image_without_objects_is_a_place_for_false_positives():
    # A wrong detection with score .95 in image 9, which has no truth, then the table's seven:
    #     outcome     F    T    F    T    T    F    F    T
    #     precision   0   1/2  1/3  2/4  3/5  3/6  3/7  4/8
    #     envelope        3/5       3/5  3/5            1/2     where recall rises
    detections, truths = TABLE
    surplus = np.concatenate([rows([9, 0, .95, *RIGHT]), detections])
    assert letters(surplus, truths) == "FTFTTFFT"
    assert voc_curves(surplus, truths, 1)[0][1] == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4, 3 / 5, 3 / 6, 3 / 7, 4 / 8])
    assert voc(surplus, truths, 1) == pytest.approx([.2 * (3 / 5 + 3 / 5 + 3 / 5 + 1 / 2)])


def test_boxes_without_area_overlap_nothing():
    # The first is 0 wide. The second has left and right, top and bottom exchanged.
    flat = rows([0, 0, .9, 10, 20, 10, 40], [0, 0, .8, 50, 40, 10, 20])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert letters(flat, rows([0, 0, 10, 20, 10, 40, 0])) == "FF"
        assert coco_letters(flat, rows([0, 0, 0, 0, 100, 100, 1]), .5) == "FF"
        assert coco(flat, rows([0, 0, 0, 0, 100, 100, 1], [0, 0, *WRONG, 0]), 1)["AP"] == 0


def random_world(seed, n=None, m=None, images=3, classes=3):
    """
    n detections and m truths in few places, with few scores. There are many equal scores and equal IOUs, ignored truths
    that overlap others, images without truths, a class without detections, areas just at the limits of the ranges.
    """
    random = np.random.default_rng(seed)
    n, m = random.integers(0, 60) if n is None else n, random.integers(0, 30) if m is None else m
    size = random.choice([10, 32, 96])

    def boxes(count):
        left_top = random.integers(0, 4, (count, 2)) * (size // 8)
        return np.concatenate([left_top, left_top + size + random.integers(-1, 2, (count, 2)) * (size // 8)], 1)
    detections = np.column_stack([random.integers(0, images, n), random.integers(0, classes, n),
                                  random.integers(0, 8, n) / 8, boxes(n)])
    truths = np.column_stack([random.integers(0, max(images - 1, 1), m), random.integers(0, classes + 1, m), boxes(m),
                              random.random(m) < .3])
    return detections.astype(float), truths.astype(float)


def test_random_worlds_hold_what_they_promise():
    worlds = [random_world(seed) for seed in range(40)]
    assert any(len(np.unique(d[:, 2])) < len(d) for d, _ in worlds)
    outcomes = "".join(letters(*world) for world in worlds)
    assert min(outcomes.count(letter) for letter in "TF-") > 50
    areas = np.concatenate([area(t[:, 2:6]) for _, t in worlds])
    assert all((areas == limit).any() for limit in (32 ** 2, 96 ** 2)) and (areas > 96 ** 2).any()


@pytest.mark.parametrize("seed", range(60))
def test_loops_and_arrays_agree(seed):
    detections, truths = random_world(seed)
    areas = [None, area(truths[:, 2:6]) * .6][seed % 2]                  # outlines are smaller than boxes
    coco(detections, truths, 4, areas)
    for iou_threshold in .5, .75:
        letters(detections, truths, iou_threshold)
        for eleven_point in False, True:
            voc(detections, truths, 4, iou_threshold, eleven_point)
    for label, (recall, precision, score, positives) in enumerate(voc_curves(detections, truths, 4)):
        mine, there = (rows[rows[:, 1] == label].tolist() for rows in (detections, truths))
        outcomes = voc_match(mine, there)
        assert positives == sum(1 for *_, difficult in there if not difficult)
        assert score.tolist() == [row[2] for row, outcome in zip(best_first(mine), outcomes) if outcome != "ignored"]
        if positives:
            assert (recall.tolist(), precision.tolist()) == precision_recall(outcomes, positives)


@pytest.mark.parametrize("n, m, images, classes", [
    (0, 0, 1, 1), (0, 20, 1, 1), (40, 0, 1, 1), (1, 1, 1, 1),
    (250, 12, 1, 1),                                                     # COCO reads 100 per image and class
    (800, 60, 3, 4),                                                     # about 67 per image and class
])
def test_loops_and_arrays_agree_where_there_is_nothing_or_much(n, m, images, classes):
    detections, truths = random_world(n, n, m, images, classes)
    letters(detections, truths)
    voc(detections, truths, classes + 1)
    coco(detections, truths, classes + 1)


def test_single_precision_and_inputs_unchanged():
    # Image 10,000,000 of 4 classes: a number for image and class together does not fit into float32's 24 bits.
    detections, truths = random_world(1)
    detections[:, 0] += 10000000
    truths[:, 0] += 10000000
    before = detections.copy(), truths.copy()
    expected = letters(detections, truths), coco(detections, truths, 4)
    assert (before[0] == detections).all() and (before[1] == truths).all()
    single = detections.astype(np.float32), truths.astype(np.float32)
    assert letters(*single) == expected[0] and coco_ap(*single, 4) == pytest.approx(expected[1], nan_ok=True)
