"""
The kinds of errors by the rules of Hoiem's toolbox (analyzeFalsePositives.m and matchDetectionsWithGroundTruth.m of
2012), step by step: it matches the N best detections of a class with the objects of every class, anew each time, first
"strongly" at an IOU of .5, then "weakly" at .1. tests/test_error_analysis.py compares shared/error_analysis.py with it.

A box is VOC's: xmin, ymin, xmax, ymax are pixels, counted from 1, and xmax and ymax belong to the box.
"""
from collections import namedtuple

Object = namedtuple("Object", "image label box difficult")
Detection = namedtuple("Detection", "image label score box")
Match = namedtuple("Match", "outcome overlap")      # outcome: "true", "difficult", "duplicate" or "false"


def overlap(a, b):
    """Intersection over union; 1 is added to every width and height."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def match(detections, objects, threshold):
    """
    Matches detections, best first, with the objects of one class. Each takes the object that it overlaps most of those
    that are free. If it overlaps none of these enough, but one that is taken, it is a duplicate.
    """
    taken, matches = set(), []
    for detection in detections:
        overlaps = {n: overlap(detection.box, thing.box) for n, thing in enumerate(objects)
                    if thing.image == detection.image}
        free = {n: value for n, value in overlaps.items() if n not in taken}
        if max(free.values(), default=0) >= threshold:
            best = max(free, key=free.get)
            taken.add(best)
            matches.append(Match("difficult" if objects[best].difficult else "true", free[best]))
        else:
            most = max(overlaps.values(), default=0)
            matches.append(Match("duplicate" if most >= threshold else "false", most))
    return matches


def count_kinds(detections, objects, label, num_classes, are_similar, taken_count=False):
    """
    The counts of correct, localization, similar, other, background for one class, and N.

    are_similar  a function of two labels
    taken_count  False: as the toolbox. True: an object of another class counts with its overlap even if a better
                 detection has taken it, as in shared/error_analysis.py
    """
    of_class = {k: [thing for thing in objects if thing.label == k] for k in range(num_classes)}
    N = sum(not thing.difficult for thing in of_class[label])
    best_first = sorted((d for d in detections if d.label == label), key=lambda d: -d.score)
    top = best_first[:N]

    strong = match(top, of_class[label], 0.5)
    weak = {k: match(top, of_class[k], 0.1) for k in range(num_classes)}
    counts = [0, 0, 0, 0, 0]
    for n, detection in enumerate(top):
        others = {}                                                          # class: overlap
        for k in range(num_classes):
            if k != label and weak[k][n].outcome != "false":
                others[k] = weak[k][n].overlap
                if taken_count:
                    others[k] = max(overlap(detection.box, thing.box) for thing in of_class[k]
                                    if thing.image == detection.image)
        if strong[n].outcome in ("true", "difficult"):                       # the toolbox: label >= 0
            counts[0] += 1
        elif weak[label][n].outcome in ("true", "difficult", "duplicate"):   # the toolbox: weak label >= 0
            counts[1] += 1
        elif others:
            counts[2 if are_similar(label, max(others, key=others.get)) else 3] += 1
        else:
            counts[4] += 1
    return counts, N
