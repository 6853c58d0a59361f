"""
What kinds of errors does a detector make? The error analysis of the first paper, section 4.2 and Figure 4.

Take the N detections of a class that score highest. N is the number of its objects, without the difficult ones. Each
detection is of one of five kinds, the first in this list that fits:

    correct       an IOU of at least .5 with an object of the class that no better detection has found
    localization  an IOU of at least .1 with an object of the class: the box is poor, or it is a duplicate
    similar       an IOU of at least .1 with an object of another class, which is similar
    other         an IOU of at least .1 with an object of another class, which is not similar
    background    all others

The share of a kind is its count divided by N. Figure 4 shows the means over the classes.

Source  The paper uses the method and the tool of Hoiem, Chodpathumwan and Dai, "Diagnosing Error in Object Detectors",
        2012. [tool] is its analyzeFalsePositives.m, with matchDetectionsWithGroundTruth.m and setDatasetParameters.m.

The paper describes the kinds in five lines. What they leave open is decided as in [tool]:
- An IOU of exactly .5 or .1 suffices. The paper writes "> .5" and "> .1".
- The order of the list decides. A detection that overlaps objects of its own and of another class is correct or a
  localization error.
- An object is found once. A further detection of it is a duplicate, and counts as a localization error even if its
  box is perfect. If several objects are left to be found, the detection finds the one that it overlaps most. VOC's AP
  looks at one object only, the one with the highest IOU, found or not (shared/metrics.py). A few detections are
  therefore correct here and false positives there.
- A difficult object does not count in N. In all else it is an object like any other: the first detection that finds
  it is correct. VOC's AP leaves this detection out. COCO's crowds are treated in the same way.
- Among the objects of other classes, the one with the highest IOU decides between similar and other. Of equal ones,
  the class that comes first decides.

In two cases we differ from [tool]:
- In [tool] an object of another class can be matched by one detection only, and the matched objects decide between
  similar and other. Here all objects that the detection overlaps decide. This changes similar and other rarely, and
  nothing else.
- The tool needs N detections of each class. We take those that there are, so the five shares may add up to less than 1.

Detections and truths are rows as in shared/metrics.py. Their corners are continuous, so the plain IOU is that of VOC's
devkit.
"""
from collections import defaultdict

import numpy as np

from shared import coco, voc
from shared.average_precision import iou
from shared.errors import InputError, one_line
from shared.metrics import mean_ap

KINDS = ["correct", "localization", "similar", "other", "background"]
CORRECT_IOU, OVERLAP_IOU = 0.5, 0.1       # [tool] the lowest IOU that counts as finding an object, as overlapping one

# Two classes are similar if a group has both.
VOC_GROUPS = [  # [tool]
    {"aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"},
    {"bird", "cat", "cow", "dog", "horse", "person", "sheep"},
    {"chair", "diningtable", "sofa"},
    {"aeroplane", "bird"}]
SUPERCATEGORIES = {  # of COCO: the first and the last category id
    "person": (1, 1), "vehicle": (2, 9), "outdoor": (10, 15), "animal": (16, 25), "accessory": (26, 33),
    "sports": (34, 43), "kitchen": (44, 51), "food": (52, 61), "furniture": (62, 71), "electronic": (72, 77),
    "appliance": (78, 83), "indoor": (84, 90)}
COCO_GROUPS = [{name for number, name in coco.CATEGORIES.items() if first <= number <= last}
               for first, last in SUPERCATEGORIES.values()]


def groups_of(classes, similar=None):
    """
    similar  the user's own groups, a list of sets of class names, or None
    returns  the groups of similar classes: the user's; else VOC's or COCO's if all names are theirs; else none
    raises   InputError if the user's groups are not such a list, or name something that is not a class
    """
    if similar is not None:
        if not isinstance(similar, list) or not all(isinstance(group, (set, list)) for group in similar):
            raise InputError(f"SIMILAR has to be None or a list of sets of class names, not {one_line(repr(similar))}")
        for name in [name for group in similar for name in group]:
            if name not in classes:
                raise InputError(f"SIMILAR names {name!r}, which is not one of the classes ({', '.join(classes)})")
        return similar
    if set(classes) <= set(voc.CLASSES):
        return VOC_GROUPS
    if set(classes) <= set(coco.CLASSES):
        return COCO_GROUPS
    return []


def error_shares(detections, truths, classes, groups):
    """
    detections, truths  rows as in shared/metrics.py. Detections of equal score keep their order
    classes             the class names, in the order of their labels
    groups              of similar classes, as groups_of returns them
    returns             (C, 5) the share of each of KINDS; nan for a class that has no objects, or difficult ones only
    """
    objects_in = defaultdict(list)                                       # image: its objects, in the order of labels
    for row in truths[truths[:, 1].argsort(kind="stable")].tolist():
        objects_in[row[0]].append(row)

    shares = np.full((len(classes), len(KINDS)), np.nan)
    for label, name in enumerate(classes):
        N = np.count_nonzero((truths[:, 1] == label) & (truths[:, 6] == 0))
        if N == 0:
            continue
        top = detections[detections[:, 1] == label]
        top = top[(-top[:, 2]).argsort(kind="stable")[:N]]               # (N, 7), or fewer

        counts = dict.fromkeys(KINDS, 0)
        found = defaultdict(set)                                         # image: the objects of the class found so far
        for image, _, _, *box in top.tolist():
            objects = objects_in[image]
            overlap = [iou(box, row[2:6]) for row in objects]
            own = [n for n, row in enumerate(objects) if row[1] == label and overlap[n] >= OVERLAP_IOU]
            others = [n for n, row in enumerate(objects) if row[1] != label and overlap[n] >= OVERLAP_IOU]
            not_found = [n for n in own if overlap[n] >= CORRECT_IOU and n not in found[image]]
            if not_found:
                found[image].add(max(not_found, key=lambda n: overlap[n]))   # max: of equal ones the first
                counts["correct"] += 1
            elif own:
                counts["localization"] += 1
            elif others:
                best = objects[max(others, key=lambda n: overlap[n])]
                other_name = classes[int(best[1])]
                if any(name in group and other_name in group for group in groups):
                    counts["similar"] += 1
                else:
                    counts["other"] += 1
            else:
                counts["background"] += 1
        shares[label] = [counts[kind] / N for kind in KINDS]
    return shares


def mean_shares(shares):
    """(C, 5) -> {kind: share} the means over the classes that are not nan; nan if all are"""
    return {kind: mean_ap(shares[:, k]) for k, kind in enumerate(KINDS)}
