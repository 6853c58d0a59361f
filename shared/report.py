"""What evaluate.py prints and writes about a detector, from its detections and the annotations of the images."""
import json
import shutil

import numpy as np

from shared.detections import write_coco, write_padilla
from shared.draw import draw_boxes, write_errors, write_precision_recall
from shared.error_analysis import error_shares, mean_shares
from shared.images import read_image
from shared.metrics import area, at_confidence, coco_ap, mean_ap, voc_ap, voc_curves
from shared.paths import atomic_write


def truths_of(annotations):
    """-> (M, 7)  image, label, left, top, right, bottom in pixels, 1 if difficult: see shared/metrics.py"""
    return np.concatenate([np.column_stack([np.full(len(a.boxes), n), a.labels, a.boxes, a.difficult])
                           for n, a in enumerate(annotations)])


def draw_detections(detections, annotations, classes, confidence):
    """
    detections   (D, 7)  image, label, score, left, top, right, bottom in pixels
    annotations  of the images to be drawn, the first ones
    returns      a list of pictures (H, W, 3) uint8 with the detections that score at least `confidence`
    """
    pictures = []
    for n, annotation in enumerate(annotations):
        found = detections[(detections[:, 0] == n) & (detections[:, 2] >= confidence), 1:]
        pictures.append(draw_boxes(read_image(annotation.image), found, classes))
    return pictures


def report(detections, accuracies, annotations, classes, confidence, folder, groups=()):
    """
    Prints the average precision by every definition, precision and recall of the detections that score at least
    `confidence`, the accuracies, and the kinds of errors. Writes the same to figures.json, the precision-recall curves,
    the errors by class, and the files for other people's tools.

    groups  of similar classes, as shared/error_analysis.py's groups_of returns them
    """
    truths = truths_of(annotations)
    every_point = voc_ap(detections, truths, len(classes))                                                   # (C,)
    eleven_point = voc_ap(detections, truths, len(classes), eleven_point=True)                               # (C,)
    areas = np.concatenate([area(a.boxes) if a.areas is None else a.areas for a in annotations])             # (M,)
    coco = coco_ap(detections, truths, len(classes), areas)
    fixed = at_confidence(detections, truths, len(classes), confidence)
    found = at_confidence(detections, truths, len(classes), 0)["recall"]
    counts = np.bincount(truths[truths[:, 6] == 0, 1].astype(int), minlength=len(classes))

    table = [f"{'VOC':<20} {'truths':>6} {'AP50':>7} {'11-point':>9}"]
    for label in counts.nonzero()[0]:
        table += [f"{classes[label]:<20} {counts[label]:>6} {every_point[label]:>7.4f} {eleven_point[label]:>9.4f}"]
    table += [f"{'mean':<20} {counts.sum():>6} {mean_ap(every_point):>7.4f} {mean_ap(eleven_point):>9.4f}"]
    coco_line = ["COCO                 " + "  ".join(f"{name} {value:.4f}" for name, value in coco.items())]
    on_coco = all(a.number is not None for a in annotations)                 # then COCO's figures come first
    print("\n".join(coco_line + table if on_coco else table + coco_line))
    print(f"at confidence {confidence:<6} " + "  ".join(f"{name} {value:.4f}" for name, value in fixed.items()))
    print(f"all detections       recall {found:.4f}")
    print("accuracies           " + "  ".join(f"{name} {value:.4f}" for name, value in accuracies.items()))
    shares = error_shares(detections, truths, classes, groups)                                               # (C, 5)
    errors = mean_shares(shares)
    print("best N detections    " + "  ".join(f"{kind} {100 * share:.1f} %" for kind, share in errors.items()))

    figures = {"VOC AP50": mean_ap(every_point), "VOC AP50, 11-point": mean_ap(eleven_point), "COCO": coco,
               f"at confidence {confidence}": fixed, "recall of all detections": found, "accuracies": accuracies,
               "errors": errors}
    with atomic_write(folder / "figures.json") as temporary:
        temporary.write_text(json.dumps(figures, indent=1))
    images = [a.image.name for a in annotations]
    sizes = [(a.width, a.height) for a in annotations]
    curves = voc_curves(detections, truths, len(classes))
    write_precision_recall(folder / "precision_recall.png", curves, every_point, classes)
    of_classes = {classes[label]: shares[label] for label in counts.nonzero()[0]}
    write_errors(folder / "errors.png", {"mean of the classes": [*errors.values()]} | of_classes)
    image_ids = [a.number for a in annotations] if on_coco else None
    category_ids = annotations[0].category_ids if on_coco else None
    write_coco(folder, detections, truths, images, sizes, classes, areas, image_ids, category_ids)
    shutil.rmtree(folder / "padilla", ignore_errors=True)                    # the toolkit counts every file it finds
    write_padilla(folder / "padilla", detections, truths, images, classes)
    print(f"curves, text files and JSON in {folder}")
