"""
How good are the detections? The average precision of PASCAL VOC and of COCO.

    detections  (N, 7)  rows of image, label, score, left, top, right, bottom
    truths      (M, 7)  rows of image, label, left, top, right, bottom, ignore

Boxes are continuous corners in pixels of the original image. VOC's own corners are whole pixels counted from 1, the
last one included: with 1 taken off left and top, plain IOU is the devkit's IOU "+ 1". ignore is 1 for what VOC calls
difficult and COCO a crowd, else 0: finding it earns nothing and costs nothing. Equal scores keep the rows' order.

Sources  [devkit]       VOCdevkit/VOCcode/VOCevaldet.m and VOCap.m
         [pycocotools]  PythonAPI/pycocotools/cocoeval.py, for boxes

"AP50" without more means VOC's AP since 2010 at IOU .5: mean_ap(voc_ap(detections, truths, num_classes)). Darknet's
numbers on VOC were made with the devkit's Python port (reval_voc.py), which wants an IOU above .5; the devkit, and
this file, .5 or more. Evaluate all detections down to a score of .005 or less: a cut at .5 cuts the curve short.
"""
import numpy as np

ELEVEN_RECALLS = np.arange(11) / 10        # [devkit] 2007. np.linspace has .6000000000000001, and misses 3 of 5 found
COCO_RECALLS = np.linspace(0, 1, 101)      # [pycocotools]
COCO_IOUS = np.linspace(0.5, 0.95, 10)     # [pycocotools]
COCO_LIMIT = 100                           # [pycocotools] detections per image and class
COCO_AREAS = {"all": (0, 1e5 ** 2), "small": (0, 32 ** 2), "medium": (32 ** 2, 96 ** 2), "large": (96 ** 2, 1e5 ** 2)}


def area(boxes):
    """(..., 4) corners -> (...)"""
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)


def overlapping_pairs(detections, truths):
    """
    Every detection with every truth of its image and class that it overlaps.

    returns  detection (P,), truth (P,), intersection (P,): the rows of the two and the area they share, in the order
             of the detections, then of the truths
    """
    labels = max(detections[:, 1].max(initial=0), truths[:, 1].max(initial=0)) + 1
    wanted = detections[:, 0] * labels + detections[:, 1]                # (N,)  image and label in one number
    offered = truths[:, 0] * labels + truths[:, 1]                       # (M,)
    by_group = offered.argsort(kind="stable")
    first = np.searchsorted(offered[by_group], wanted, "left")           # (N,)
    count = np.searchsorted(offered[by_group], wanted, "right") - first  # (N,)  truths that a detection may have found
    detection = np.repeat(np.arange(len(detections)), count)             # (P,)
    nth = np.arange(len(detection)) - np.repeat(count.cumsum() - count, count)
    truth = by_group[np.repeat(first, count) + nth]                      # (P,)
    a, b = detections[detection, 3:7], truths[truth, 2:6]                # (P, 4)
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    overlap = (sides > 0).all(1)
    return detection[overlap], truth[overlap], sides[overlap].prod(1)


# ---- PASCAL VOC

def match(detections, truths, iou_threshold=0.5):
    """
    Each detection, best score first, is compared with the one truth of its image and class that it overlaps most (of
    equal ones the first). IOU below the threshold: a false positive. Ignored truth: neither. Truth already found: a
    false positive, however well it overlaps another one. Otherwise: a true positive. [devkit]

    returns  true_positive (N,), false_positive (N,): bool, in the order of the rows
    """
    detections, truths = np.asarray(detections, np.float64), np.asarray(truths, np.float64)
    detection, truth, intersection = overlapping_pairs(detections, truths)
    union = area(detections[:, 3:7])[detection] + area(truths[:, 2:6])[truth] - intersection
    iou = intersection / union                                           # (P,)
    best_first = np.lexsort((-iou, detection))
    detection, first = np.unique(detection[best_first], return_index=True)
    best = best_first[first]                                             # a detection's pair with its best truth
    enough = iou[best] >= iou_threshold
    detection, truth = detection[enough], truth[best[enough]]
    ignored = truths[truth, 6] > 0

    false_positive = np.ones(len(detections), bool)
    false_positive[detection[ignored]] = False
    detection, truth = detection[~ignored], truth[~ignored]
    by_score = (-detections[detection, 2]).argsort(kind="stable")
    _, first = np.unique(truth[by_score], return_index=True)             # who found each truth first
    true_positive = np.zeros(len(detections), bool)
    true_positive[detection[by_score[first]]] = True
    return true_positive, false_positive & ~true_positive


def curve(true_positive, false_positive, positives):
    """(K,) bool twice, best score first -> recall (K,), precision (K,) of the first 1, 2, .. K detections"""
    found, wrong = true_positive.cumsum(), false_positive.cumsum()
    return found / max(positives, 1), found / np.maximum(found + wrong, 1)


def voc_curves(detections, truths, num_classes, iou_threshold=0.5):
    """
    returns  for each class (recall (K,), precision (K,), score (K,), positives). A point is what one gets by keeping
             the detections down to that one; those that are neither right nor wrong are left out. positives is the
             number of truths to be found; where it is 0 the curve means nothing.
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
    """(K,) -> (K,) the best precision from here on, that is at this recall or a higher one"""
    return np.maximum.accumulate(precision[::-1])[::-1]


def average_precision(recall, precision):
    """VOC since 2010: the area under the envelope, each step of recall times the precision at its end."""
    return float((np.diff(recall, prepend=0) * envelope(precision)).sum())


def average_precision_at(recall, precision, points):
    """VOC 2007 and COCO: the mean of the envelope at 11 or 101 recalls, 0 for those never reached."""
    return float(np.append(envelope(precision), 0)[np.searchsorted(recall, points)].mean())


def voc_ap(detections, truths, num_classes, iou_threshold=0.5, eleven_point=False):
    """-> (C,) each class's AP, nan for a class without truths (ignored ones do not count)"""
    ap = np.full(num_classes, np.nan)
    curves = voc_curves(detections, truths, num_classes, iou_threshold)
    for label, (recall, precision, _, positives) in enumerate(curves):
        if positives and eleven_point:
            ap[label] = average_precision_at(recall, precision, ELEVEN_RECALLS)
        elif positives:
            ap[label] = average_precision(recall, precision)
    return ap


def mean_ap(ap):
    """The mean of all that is not nan, that is over the classes with truths; nan if there are none."""
    known = ap[~np.isnan(ap)]
    return float(known.mean()) if len(known) else float("nan")


def at_confidence(detections, truths, num_classes, confidence=0.5, iou_threshold=0.5):
    """
    What is left when only detections of this score or better are kept. Its mAP is not comparable with a paper's: the
    curve ends where the scores end, and a truth that only a less certain detection finds counts as never found. So it
    is lower, and says as much about the chosen confidence as about the detector.

    returns  a dict: precision (0 if nothing is left) and recall (nan if there is no truth), both of all classes
             together, and mAP, the every-point one
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
    Each detection, best score first, takes the truth of its image and class that it overlaps most among those still
    free (of equal ones the last), an ignored one only if no other will do. A crowd is never taken away, and the IOU
    with it is the share of the detection that lies inside. [pycocotools]

    All images and classes, the R = 4 ranges of area and the T = 10 IOU thresholds are done at once. The one loop is
    over the detections of an image and class: the best of each, then the second of each, ...

    truth_ignored (R, M)     crowds, and truths outside the range
    rank          (N,)       a detection's place in its image and class, 0 is the best score
    returns       matched    (R, T, N) bool: has taken a truth
                  ignored    (R, T, N) bool: has taken an ignored one
    """
    crowd = truths[:, 6] > 0
    detection, truth, intersection = overlapping_pairs(detections, truths)
    own, other = area(detections[:, 3:7])[detection], area(truths[:, 2:6])[truth]
    iou = intersection / np.where(crowd[truth], own, own + other - intersection)         # (P,)
    order = np.lexsort((truth, iou, detection))                          # the best pair of a detection comes last
    order = order[iou[order] >= COCO_IOUS[0]]
    detection, truth, iou = detection[order], truth[order], iou[order]
    pairs = len(order)
    preference = np.arange(pairs) + pairs * ~truth_ignored[:, truth]     # (R, P)  ignored truths after all others

    matched = np.zeros((len(COCO_AREAS), len(COCO_IOUS), len(detections)), bool)
    ignored, busy = np.zeros_like(matched), np.zeros((*matched.shape[:2], len(truths)), bool)
    for place in np.unique(rank[detection]):
        now = np.flatnonzero(rank[detection] == place)                   # (Q,)  the pairs of this turn
        possible = (iou[now] >= COCO_IOUS[:, None]) & ~busy[:, :, truth[now]]            # (R, T, Q)
        first = np.flatnonzero(np.diff(detection[now], prepend=-1))      # where each detection's pairs begin
        best = np.maximum.reduceat(np.where(possible, preference[:, None, now], -1), first, axis=2)
        r, t, d = np.nonzero(best >= 0)
        pair = best[r, t, d] % pairs
        matched[r, t, detection[pair]] = True
        ignored[r, t, detection[pair]] = truth_ignored[r, truth[pair]]
        busy[r, t, truth[pair]] = ~crowd[truth[pair]]
    return matched, ignored


def coco_ap(detections, truths, num_classes, areas=None):
    """
    areas    (M,) of the truths in pixels; COCO's are those of the outlines. None: the boxes'
    returns  a dict of AP (the mean over ten IOU thresholds), AP50, AP75, AP_small, AP_medium, AP_large, each the mean
             over the classes with truths, nan if there are none

    Small is up to 32^2, medium up to 96^2. Truths outside a range are ignored, and so are detections outside it that
    find nothing. At most 100 detections per image and class. Equal scores keep the order of the images, then of the
    rows.
    """
    detections, truths = np.asarray(detections, np.float64), np.asarray(truths, np.float64)
    detections = detections[np.lexsort((-detections[:, 2], detections[:, 1], detections[:, 0]))]
    group = detections[:, 0] * num_classes + detections[:, 1]            # (N,)  ascending
    rank = np.arange(len(group)) - np.searchsorted(group, group)
    detections, rank = detections[rank < COCO_LIMIT], rank[rank < COCO_LIMIT]

    low, high = np.array(list(COCO_AREAS.values())).T[:, :, None]        # (R, 1) each
    areas, own = area(truths[:, 2:6]) if areas is None else np.asarray(areas), area(detections[:, 3:7])
    truth_ignored = (truths[:, 6] > 0) | (areas < low) | (areas > high)  # (R, M)
    outside = (own < low) | (own > high)                                 # (R, N)
    matched, ignored = coco_match(detections, truths, truth_ignored, rank)
    true_positive, false_positive = matched & ~ignored, ~matched & ~outside[:, None]     # (R, T, N)

    ap = np.full((len(COCO_AREAS), len(COCO_IOUS), num_classes), np.nan)
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
