"""
Non-maximum suppression: of several boxes around the same object, keep the one with the highest score.

Section 2.3 of the first paper reports that it adds 2 to 3 % mAP. It is applied to each class separately, on score =
objectness x class probability: the same box can survive for one class and be suppressed for another
([darknet] do_nms_sort in src/box.c).
"""
import torch
import torchvision

from shared.boxes import paired_iou


def greedy_nms(boxes, scores, iou_threshold):
    """
    The algorithm itself, to be read. The scripts use torchvision's, which gives the same answer faster.

    boxes (L, 4) corners, scores (L,) -> (D,) the indices of the boxes that are kept, best score first
    """
    remaining = scores.argsort(descending=True, stable=True)        # (L,) indices, best score first
    keep = []
    while len(remaining):
        best, remaining = remaining[0], remaining[1:]
        keep.append(best)                                           # no remaining box has a higher score
        remaining = remaining[paired_iou(boxes[best], boxes[remaining]) <= iou_threshold]
    return torch.stack(keep) if keep else remaining


def nms_per_class(boxes, scores, score_threshold, iou_threshold):
    """
    boxes   (L, 4)  corners, in any unit
    scores  (L, C)  objectness x class probability
    returns (D, 6)  rows of label, score, left, top, right, bottom, best score first. There is one for each box and
                    class whose score is above score_threshold, unless a kept box of that class with a higher score
                    overlaps it with an IOU above iou_threshold.
    """
    boxes, scores = boxes.float(), scores.float()
    rows = [boxes.new_zeros(0, 6)]
    for label in (scores > score_threshold).any(0).nonzero()[:, 0]:
        candidate = (scores[:, label] > score_threshold).nonzero()[:, 0]
        keep = candidate[torchvision.ops.nms(boxes[candidate], scores[candidate, label], iou_threshold)]
        rows.append(torch.cat([label.expand(len(keep), 1), scores[keep, label, None], boxes[keep]], 1))
    rows = torch.cat(rows)                                          # (D, 6)
    return rows[rows[:, 1].argsort(descending=True, stable=True)]
