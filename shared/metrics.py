"""
How good are the detections? The average precision of PASCAL VOC and of COCO, fast enough for whole data sets.

Read shared/average_precision.py first: it defines precision, recall and AP, and computes the same numbers with loops.
This file does it with arrays, all images and classes at once. tests/test_metrics.py checks that the two agree.

    detections  (N, 7)  rows of image, label, score, left, top, right, bottom
    truths      (M, 7)  rows of image, label, left, top, right, bottom, ignore

Boxes are continuous corners in pixels of the original image. VOC's own corners are whole pixels counted from 1, and the
last pixel belongs to the box. After 1 is subtracted from left and top, plain IOU equals the devkit's IOU, which adds 1
to every width and height. ignore is 1 for a truth that VOC calls difficult or COCO a crowd, and 0 for all others. A
detection that finds an ignored truth is neither right nor wrong. Detections of equal score keep the order of the rows.

Which definition is computed where:
    voc_ap(...)                        VOC since 2010, every-point AP. "AP50" alone is mean_ap of it, at IOU .5
    voc_ap(..., eleven_point=True)     VOC 2007, as results on VOC 2007 customarily are
    coco_ap(...)                       COCO, six figures
    at_confidence(...)                 precision, recall and mAP at one confidence, not comparable with the above

Keep detections down to a score of .005 or less. Without the low scores the curve ends early, and the AP is too low.
"""
import numpy as np

from shared.average_precision import COCO_AREAS, COCO_IOUS, COCO_LIMIT, COCO_RECALLS, ELEVEN_RECALLS


def area(boxes):
    """Areas of boxes, (..., 4) corners -> (...)"""
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)


def overlapping_pairs(detections, truths):
    """
    Lists the P pairs of a detection and a truth of the same image and class that overlap.

    returns  detection (P,), truth (P,), intersection (P,): the two row numbers of each pair and the area they share.
             The pairs are in the order of the detections; those of one detection are in the order of the truths.
    """
    num_labels = max(detections[:, 1].max(initial=0), truths[:, 1].max(initial=0)) + 1
    # A group is one class in one image. With the truths sorted by group, those of a detection's group are neighbours.
    detection_group = detections[:, 0] * num_labels + detections[:, 1]   # (N,)
    truth_group = truths[:, 0] * num_labels + truths[:, 1]               # (M,)
    by_group = truth_group.argsort(kind="stable")                        # (M,)
    first = np.searchsorted(truth_group[by_group], detection_group, "left")              # (N,)
    count = np.searchsorted(truth_group[by_group], detection_group, "right") - first     # (N,)  truths in the group
    detection = np.repeat(np.arange(len(detections)), count)             # (P,)
    nth = np.arange(len(detection)) - np.repeat(count.cumsum() - count, count)           # (P,)  0, 1, .. count - 1
    truth = by_group[np.repeat(first, count) + nth]                      # (P,)
    a, b = detections[detection, 3:7], truths[truth, 2:6]                # (P, 4)
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])              # (P, 2)
    overlap = (sides > 0).all(1)                                         # (P,)
    return detection[overlap], truth[overlap], sides[overlap].prod(1)


# ---- PASCAL VOC

def match(detections, truths, iou_threshold=0.5):
    """
    Decides for every detection whether it is right, as average_precision.voc_match does. [devkit]

    returns  true_positive (N,), false_positive (N,): bool, in the order of the rows. Both are False for a detection
             that finds an ignored truth.
    """
    detections, truths = np.asarray(detections, np.float64), np.asarray(truths, np.float64)
    detection, truth, intersection = overlapping_pairs(detections, truths)               # (P,) each
    union = area(detections[:, 3:7])[detection] + area(truths[:, 2:6])[truth] - intersection
    iou = intersection / union                                           # (P,)
    highest_iou_first = np.lexsort((-iou, detection))                    # (P,)  within each detection
    detection, first = np.unique(detection[highest_iou_first], return_index=True)
    best = highest_iou_first[first]                                      # each detection's pair with its best truth
    enough = iou[best] >= iou_threshold
    detection, truth = detection[enough], truth[best[enough]]
    ignored = truths[truth, 6] > 0

    false_positive = np.ones(len(detections), bool)                      # until shown otherwise
    false_positive[detection[ignored]] = False
    detection, truth = detection[~ignored], truth[~ignored]
    by_score = (-detections[detection, 2]).argsort(kind="stable")
    _, first = np.unique(truth[by_score], return_index=True)             # the first detection to find each truth
    true_positive = np.zeros(len(detections), bool)
    true_positive[detection[by_score[first]]] = True
    return true_positive, false_positive & ~true_positive


def curve(true_positive, false_positive, positives):
    """(K,) bool twice, best score first -> recall (K,), precision (K,) of the first 1, 2, .. K detections"""
    found, wrong = true_positive.cumsum(), false_positive.cumsum()       # (K,) each
    return found / max(positives, 1), found / np.maximum(found + wrong, 1)


def voc_curves(detections, truths, num_classes, iou_threshold=0.5):
    """
    The precision-recall curve of each class. Point k is the recall and precision of the k best detections, without
    those that are neither right nor wrong.

    returns  a list with (recall (K,), precision (K,), score (K,), positives) for each class. positives is the number of
             truths to be found; if it is 0, the curve means nothing.
    """
    true_positive, false_positive = match(detections, truths, iou_threshold)
    positives = np.bincount(truths[truths[:, 6] == 0, 1].astype(int), minlength=num_classes)
    counted = true_positive | false_positive
    curves = []
    for label in range(num_classes):
        rows = np.flatnonzero(counted & (detections[:, 1] == label))
        rows = rows[(-detections[rows, 2]).argsort(kind="stable")]
        recall, precision = curve(true_positive[rows], false_positive[rows], positives[label])
        curves.append((recall, precision, detections[rows, 2], positives[label]))
    return curves


def envelope(precision):
    """(K,) -> (K,) the best precision from each point on, that is at its recall or a higher one"""
    return np.maximum.accumulate(precision[::-1])[::-1]


def average_precision(recall, precision):
    """VOC since 2010: the area under the envelope. Each step of recall counts times the envelope at its end."""
    return float((np.diff(recall, prepend=0) * envelope(precision)).sum())


def average_precision_at(recall, precision, points):
    """VOC 2007 and COCO: the mean of the envelope at 11 or 101 recalls. It is 0 at those that are never reached."""
    return float(np.append(envelope(precision), 0)[np.searchsorted(recall, points)].mean())


def voc_ap(detections, truths, num_classes, iou_threshold=0.5, eleven_point=False):
    """-> (C,) the AP of each class; nan for a class that has no truths, or ignored ones only"""
    ap = np.full(num_classes, np.nan)
    curves = voc_curves(detections, truths, num_classes, iou_threshold)
    for label, (recall, precision, _, positives) in enumerate(curves):
        if positives and eleven_point:
            ap[label] = average_precision_at(recall, precision, ELEVEN_RECALLS)
        elif positives:
            ap[label] = average_precision(recall, precision)
    return ap


def mean_ap(ap):
    """mAP: the mean over the classes that have truths, whose AP is not nan; nan if no class has any."""
    known = ap[~np.isnan(ap)]
    return float(known.mean()) if len(known) else float("nan")


def at_confidence(detections, truths, num_classes, confidence=0.5, iou_threshold=0.5):
    """
    Precision, recall and mAP when only detections that score at least this confidence are kept. This mAP is not
    comparable with a paper's. It counts a truth that only a detection of lower score finds as never found, so it is
    lower, and it depends on the chosen confidence as much as on the detector.

    returns  a dict. precision and recall are those of all classes together; precision is 0 if no detection is kept,
             recall nan if there is no truth. mAP is the every-point one.
    """
    detections = detections[detections[:, 2] >= confidence]
    true_positive, false_positive = match(detections, truths, iou_threshold)
    found, wrong, positives = true_positive.sum(), false_positive.sum(), (truths[:, 6] == 0).sum()
    return {"precision": float(found / max(found + wrong, 1)),
            "recall": float(found / positives) if positives else float("nan"),
            "mAP": mean_ap(voc_ap(detections, truths, num_classes, iou_threshold))}


# ---- COCO

def coco_match(detections, truths, truth_ignored, rank):
    """
    Decides for every detection what it takes, as average_precision.coco_match does. [pycocotools]

    All images and classes, the R = 4 ranges of area and the T = 10 IOU thresholds are done at once. The one loop is
    over the rank of the detections: first the best of every image and class, then the second of each, ...

    truth_ignored (R, M)     crowds, and truths whose area is outside the range
    rank          (N,)       a detection's place among those of its image and class; 0 has the best score
    returns       matched    (R, T, N) bool: has taken a truth
                  ignored    (R, T, N) bool: has taken an ignored one
    """
    crowd = truths[:, 6] > 0
    detection, truth, intersection = overlapping_pairs(detections, truths)
    own, other = area(detections[:, 3:7])[detection], area(truths[:, 2:6])[truth]
    iou = intersection / np.where(crowd[truth], own, own + other - intersection)         # (P,)
    order = np.lexsort((truth, iou, detection))                          # a detection's best pair is its last
    order = order[iou[order] >= COCO_IOUS[0]]                            # (P,)  fewer pairs from here on
    detection, truth, iou = detection[order], truth[order], iou[order]
    num_pairs = len(order)
    # The pair with the highest preference is taken. Every truth that counts is preferred to every ignored one.
    preference = np.where(truth_ignored[:, truth], 0, num_pairs) + np.arange(num_pairs)  # (R, P)

    matched = np.zeros((len(COCO_AREAS), len(COCO_IOUS), len(detections)), bool)         # (R, T, N)
    ignored = np.zeros_like(matched)                                     # (R, T, N)
    taken = np.zeros((*matched.shape[:2], len(truths)), bool)            # (R, T, M)
    for current in np.unique(rank[detection]):
        now = np.flatnonzero(rank[detection] == current)                 # (Q,)  the pairs of this turn
        possible = (iou[now] >= COCO_IOUS[:, None]) & ~taken[:, :, truth[now]]           # (R, T, Q)
        first = np.flatnonzero(np.diff(detection[now], prepend=-1))      # (D,)  where each detection's pairs begin
        best = np.maximum.reduceat(np.where(possible, preference[:, None, now], -1), first, axis=2)      # (R, T, D)
        r, t, d = np.nonzero(best >= 0)
        pair = best[r, t, d] % num_pairs
        matched[r, t, detection[pair]] = True
        ignored[r, t, detection[pair]] = truth_ignored[r, truth[pair]]
        taken[r, t, truth[pair]] = ~crowd[truth[pair]]                   # a crowd is never used up
    return matched, ignored


def coco_ap(detections, truths, num_classes, areas=None):
    """
    The six figures of COCO, each the mean over the classes that have truths, nan if none has. They are those of
    average_precision.coco_average_precision.

    areas    (M,) of the truths in pixels. COCO's own are those of the outlines. None means the areas of the boxes.
    returns  a dict: AP (the mean over ten IOU thresholds), AP50 and AP75 (at one threshold), AP_small, AP_medium and
             AP_large (the ten thresholds; areas up to 32 x 32, up to 96 x 96, and above)

    At most 100 detections per image and class are read. Detections of equal score are ordered by image, then by row.
    """
    detections, truths = np.asarray(detections, np.float64), np.asarray(truths, np.float64)
    detections = detections[np.lexsort((-detections[:, 2], detections[:, 1], detections[:, 0]))]
    group = detections[:, 0] * num_classes + detections[:, 1]            # (N,)  a number for image and class, ascending
    rank = np.arange(len(group)) - np.searchsorted(group, group)         # (N,)
    detections, rank = detections[rank < COCO_LIMIT], rank[rank < COCO_LIMIT]

    low, high = np.array(list(COCO_AREAS.values())).T[:, :, None]        # (R, 1) each
    truth_areas = area(truths[:, 2:6]) if areas is None else np.asarray(areas)           # (M,)
    truth_ignored = (truths[:, 6] > 0) | (truth_areas < low) | (truth_areas > high)      # (R, M)
    own = area(detections[:, 3:7])                                       # (N,)
    outside = (own < low) | (own > high)                                 # (R, N)
    matched, ignored = coco_match(detections, truths, truth_ignored, rank)
    true_positive = matched & ~ignored                                   # (R, T, N)
    false_positive = ~matched & ~outside[:, None]                        # (R, T, N)

    ap = np.full((len(COCO_AREAS), len(COCO_IOUS), num_classes), np.nan) # (R, T, C)
    for label in range(num_classes):
        rows = np.flatnonzero(detections[:, 1] == label)
        rows = rows[(-detections[rows, 2]).argsort(kind="stable")]
        positives = (~truth_ignored[:, truths[:, 1] == label]).sum(1)    # (R,)
        for r in np.flatnonzero(positives):
            for t in range(len(COCO_IOUS)):
                recall, precision = curve(true_positive[r, t, rows], false_positive[r, t, rows], positives[r])
                ap[r, t, label] = average_precision_at(recall, precision, COCO_RECALLS)
    return {"AP": mean_ap(ap[0]), "AP50": mean_ap(ap[0, 0]), "AP75": mean_ap(ap[0, 5]),
            "AP_small": mean_ap(ap[1]), "AP_medium": mean_ap(ap[2]), "AP_large": mean_ap(ap[3])}
