"""
What average precision (AP) is: the definitions of PASCAL VOC and of COCO, written with loops, to be read.

The scripts call shared/metrics.py, which computes the same numbers fast. tests/test_metrics.py checks that the two
agree.

A detection is a box with a class and a score. A truth is an object that was annotated in an image. Take the detections
of one class in all images, the best score first. A detection is a true positive if it finds a truth, that is if its IOU
with the truth reaches a threshold and no detection before it has found that truth. Otherwise it is a false positive.
After each detection there are two numbers:

    recall     is the share of the truths that have been found,       true positives / truths
    precision  is the share of the detections so far that are right,  true positives / (true + false positives)

One may stop after any detection. After a few of them precision tends to be high and recall low, after many of them it
is the other way round. Average precision is one number for all these choices: the mean precision over all recalls from
0 to 1, where the precision at a recall is the best one that is reached at that recall or at a higher one. At recalls
that are never reached it is 0. The mean of the APs of all classes is called mAP; COCO calls it AP, too.

An example with five truths and seven detections:

    score  outcome         recall  precision  best precision      precision
                                              from here on           1 |---+
     .9    true positive    1/5      1/1          1                3/4 |   +-------+
     .8    false positive   1/5      1/2          3/4              4/7 |           +---+
     .7    true positive    2/5      2/3          3/4                  |               |
     .6    true positive    3/5      3/4          3/4                  |               |
     .5    false positive   3/5      3/5          3/5                  |               |
     .4    false positive   3/5      3/6          4/7                0 +---+---+---+---+---+
     .3    true positive    4/5      4/7          4/7                  0  .2  .4  .6  .8   1  recall

    every point  (VOC since 2010)  the area: .2 (1 + 3/4 + 3/4 + 4/7)                              = 43/70   = .614
    11-point     (VOC 2007)        the mean at the recalls 0, .1, .. 1: (3 + 4 (3/4) + 2 (4/7)) / 11 = 50/77   = .649
    101-point    (COCO)            the mean at 0, .01, .. 1: (21 + 40 (3/4) + 20 (4/7)) / 101      = 437/707 = .618

VOC's IOU threshold is .5. COCO's AP is the mean over ten thresholds, .50, .55, .. .95, so boxes that fit well are
rewarded. "AP50" alone is the mean over the classes of VOC's every-point AP at IOU .5. Published results on VOC 2007 are
customarily 11-point APs. Compare a number only with one of the same definition.

Sources  [devkit]       VOCdevkit/VOCcode/VOCevaldet.m and VOCap.m
         [pycocotools]  PythonAPI/pycocotools/cocoeval.py, for boxes

The rows are lists or arrays, with corners in pixels:
    detections  (N, 7)  image, label, score, left, top, right, bottom
    truths      (M, 7)  image, label, left, top, right, bottom, difficult    for VOC
                (M, 8)  image, label, left, top, right, bottom, crowd, area  for COCO
"""
import math

import numpy as np

ELEVEN_RECALLS = np.arange(11) / 10        # [devkit] 2007. Not linspace(0, 1, 11): its .6000000000000001 is above 3/5
COCO_RECALLS = np.linspace(0, 1, 101)      # [pycocotools]
COCO_IOUS = np.linspace(0.5, 0.95, 10)     # [pycocotools]
COCO_LIMIT = 100                           # [pycocotools] detections per image and class
COCO_AREAS = {"all": (0, 1e5 ** 2), "small": (0, 32 ** 2), "medium": (32 ** 2, 96 ** 2), "large": (96 ** 2, 1e5 ** 2)}


def best_first(rows):
    """Detections of equal score keep their order."""
    return sorted(rows, key=lambda row: row[2], reverse=True)


def box_area(box):
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def iou(box, truth, crowd=False):
    """Intersection over union. If the truth is a crowd, COCO divides by the area of the detection instead."""
    width = min(box[2], truth[2]) - max(box[0], truth[0])
    height = min(box[3], truth[3]) - max(box[1], truth[1])
    if width <= 0 or height <= 0:
        return 0
    intersection = width * height
    if crowd:
        return intersection / box_area(box)
    return intersection / (box_area(box) + box_area(truth) - intersection)


def precision_recall(outcomes, positives):
    """
    outcomes   one for each detection, best score first: "true positive", "false positive" or "ignored"
    positives  the number of truths to be found
    returns    two lists: recall and precision after each detection that is not ignored
    """
    counted = [outcome for outcome in outcomes if outcome != "ignored"]
    recalls, precisions = [], []
    for n in range(1, len(counted) + 1):
        true_positives = counted[:n].count("true positive")
        recalls.append(true_positives / positives)
        precisions.append(true_positives / n)
    return recalls, precisions


def best_precision(recalls, precisions, wanted):
    """The best precision at the wanted recall or a higher one, 0 if that is never reached: the staircase above."""
    return max([precision for recall, precision in zip(recalls, precisions) if recall >= wanted], default=0)


# ---- PASCAL VOC

def voc_match(detections, truths, iou_threshold=0.5):
    """
    Decides for each detection of one class, best score first, whether it is right. [devkit]

    It is compared with one truth only, the one of its image with the highest IOU (of several equal ones, the first).
    - The IOU is below the threshold: the detection is a false positive.
    - The truth is difficult: it need not be found. The detection is ignored, that is neither right nor wrong.
    - The truth has been found before: the detection is a duplicate and a false positive.
    - Otherwise the detection finds the truth and is a true positive.

    returns  a list of outcomes, best score first
    """
    outcomes, found = [], set()
    for image, _, _, *box in best_first(detections):
        best, best_iou = None, 0
        for t, (truth_image, _, *truth_box, _) in enumerate(truths):
            if truth_image == image and iou(box, truth_box) > best_iou:
                best, best_iou = t, iou(box, truth_box)
        if best_iou < iou_threshold:
            outcomes.append("false positive")
        elif truths[best][6]:
            outcomes.append("ignored")
        elif best in found:
            outcomes.append("false positive")
        else:
            outcomes.append("true positive")
            found.add(best)
    return outcomes


def voc_average_precision(detections, truths, label, iou_threshold=0.5, eleven_point=False):
    """AP of one class, every-point (VOC since 2010) or 11-point (VOC 2007); nan if there is nothing to be found."""
    detections = [row for row in detections if row[1] == label]
    truths = [row for row in truths if row[1] == label]
    positives = sum(1 for *_, difficult in truths if not difficult)
    if positives == 0:
        return math.nan
    recalls, precisions = precision_recall(voc_match(detections, truths, iou_threshold), positives)
    if eleven_point:
        return sum(best_precision(recalls, precisions, wanted) for wanted in ELEVEN_RECALLS) / 11
    area = 0                                                             # under the staircase
    for previous, recall in zip([0] + recalls, recalls):
        area += (recall - previous) * best_precision(recalls, precisions, recall)
    return area


# ---- COCO

def coco_match(detections, truths, iou_threshold, low, high):
    """
    Decides for each detection of one class in one image whether it is right. [pycocotools]

    A truth is ignored if it is a crowd (many objects in one box) or if its area is not between low and high. Of the
    truths that no detection has taken before, a detection takes the one with the highest IOU (of several equal ones,
    the last) if that reaches the threshold. It takes an ignored truth only if it can take no other. Any number of
    detections can take the same crowd.
    - The detection takes nothing: it is a false positive, or ignored if its own area is not between low and high.
    - It takes an ignored truth: it is ignored.
    - It takes another truth: it is a true positive.

    returns  a list of (score, outcome), best score first
    """
    ignored = [crowd or not low <= area <= high for *_, crowd, area in truths]
    ignored_last = sorted(range(len(truths)), key=lambda t: ignored[t])
    outcomes, taken = [], set()
    for _, _, score, *box in best_first(detections)[:COCO_LIMIT]:
        best, best_iou = None, iou_threshold
        for t in ignored_last:
            _, _, *truth_box, crowd, _ = truths[t]
            if t in taken and not crowd:
                continue
            if best is not None and ignored[t] and not ignored[best]:
                break                                                    # only ignored truths are left
            if iou(box, truth_box, crowd) >= best_iou:
                best, best_iou = t, iou(box, truth_box, crowd)
        if best is None:
            outcomes.append((score, "false positive" if low <= box_area(box) <= high else "ignored"))
        else:
            taken.add(best)
            outcomes.append((score, "ignored" if ignored[best] else "true positive"))
    return outcomes


def coco_average_precision(detections, truths, label, area_range="all", iou_thresholds=COCO_IOUS):
    """
    AP of one class, the mean over 101 recalls and ten IOU thresholds; nan if there is nothing to be found.
    COCO's AP50 has iou_thresholds=[0.5], its AP75 [0.75]. AP_small, AP_medium and AP_large have those area ranges.
    """
    low, high = COCO_AREAS[area_range]
    detections = [row for row in detections if row[1] == label]
    truths = [row for row in truths if row[1] == label]
    positives = sum(1 for *_, crowd, area in truths if not crowd and low <= area <= high)
    if positives == 0:
        return math.nan
    total = 0
    for iou_threshold in iou_thresholds:
        outcomes = []
        for image in sorted({row[0] for row in detections}):
            detected = [row for row in detections if row[0] == image]
            annotated = [row for row in truths if row[0] == image]
            outcomes += coco_match(detected, annotated, iou_threshold, low, high)
        outcomes.sort(key=lambda outcome: outcome[0], reverse=True)      # best score first, now of all images
        recalls, precisions = precision_recall([outcome for _, outcome in outcomes], positives)
        total += sum(best_precision(recalls, precisions, wanted) for wanted in COCO_RECALLS)
    return total / (len(iou_thresholds) * len(COCO_RECALLS))
