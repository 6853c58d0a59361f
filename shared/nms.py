"""
Non-maximum suppression: of the boxes that mean the same object, keep the one with the highest score.

Section 2.3 of the first paper reports that it adds 2 to 3 % mAP. It runs class by class, on score = objectness x class:
a box may live on as a dog and die as a cat ([darknet] do_nms_sort in src/box.c).
"""
import torch
import torchvision

from shared.boxes import paired_iou


def greedy_nms(boxes, scores, iou_threshold):
    """
    The algorithm itself, to be read. The scripts use torchvision's, which gives the same answer faster.

    boxes (N, 4) corners, scores (N,) -> the indices that stay, best score first
    """
    left = scores.argsort(descending=True, stable=True)             # everyone who is still in the game
    keep = []
    while len(left):
        best, left = left[0], left[1:]
        keep.append(best)                                           # nobody who is left scores higher
        left = left[paired_iou(boxes[best], boxes[left]) <= iou_threshold]
    return torch.stack(keep) if keep else left


def nms_per_class(boxes, scores, score_threshold, iou_threshold):
    """
    boxes   (L, 4)  corners, in any unit
    scores  (L, C)  objectness x class probability
    returns (D, 6)  label, score, left, top, right, bottom: every (box, class) that scores above score_threshold and
                    overlaps no better one of its class by more than iou_threshold; best score first
    """
    boxes, scores = boxes.float(), scores.float()
    rows = [boxes.new_zeros(0, 6)]
    for label in (scores > score_threshold).any(0).nonzero()[:, 0]:
        candidate = (scores[:, label] > score_threshold).nonzero()[:, 0]
        keep = candidate[torchvision.ops.nms(boxes[candidate], scores[candidate, label], iou_threshold)]
        rows.append(torch.cat([label.expand(len(keep), 1), scores[keep, label, None], boxes[keep]], 1))
    rows = torch.cat(rows)                                          # (D, 6)
    return rows[rows[:, 1].argsort(descending=True, stable=True)]
