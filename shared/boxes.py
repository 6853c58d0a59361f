"""Box arithmetic: centres and corners, intersection over union."""
import torch


def cxcywh_to_xyxy(boxes):
    """Centres to corners: (..., 4) centre x, centre y, width, height -> (..., 4) left, top, right, bottom."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def xyxy_to_cxcywh(boxes):
    """Corners to centres: (..., 4) left, top, right, bottom -> (..., 4) centre x, centre y, width, height."""
    left_top, right_bottom = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(left_top + right_bottom) / 2, right_bottom - left_top], -1)


def paired_iou(a, b):
    """Intersection over union (IOU) of corner boxes a (..., 4) and b (..., 4), pair by pair, broadcasting -> (...)."""
    left_top = torch.maximum(a[..., :2], b[..., :2])                        # (..., 2) corners of the intersection
    right_bottom = torch.minimum(a[..., 2:], b[..., 2:])                    # (..., 2)
    intersection = (right_bottom - left_top).clamp(min=0).prod(-1)          # (...)  0 for boxes that do not overlap
    area_a, area_b = ((box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b))
    return intersection / (area_a + area_b - intersection)


def shape_iou(a, b):
    """IOU of all shapes a (N, 2) with all shapes b (M, 2), width and height, as if all had one centre -> (N, M)."""
    intersection = torch.minimum(a[:, None], b).prod(-1)                    # (N, M)
    return intersection / (a.prod(-1)[:, None] + b.prod(-1) - intersection)
