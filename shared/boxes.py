"""Box arithmetic. Nothing in this file depends on which YOLO is using it."""
import torch


def cxcywh_to_xyxy(boxes):
    """(..., 4) centre x, centre y, width, height -> (..., 4) left, top, right, bottom."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def xyxy_to_cxcywh(boxes):
    """(..., 4) left, top, right, bottom -> (..., 4) centre x, centre y, width, height."""
    left_top, right_bottom = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(left_top + right_bottom) / 2, right_bottom - left_top], -1)


def paired_iou(a, b):
    """IOU of corner boxes a (..., 4) with corner boxes b (..., 4), pair by pair (shapes broadcast) -> (...)."""
    left_top = torch.maximum(a[..., :2], b[..., :2])
    right_bottom = torch.minimum(a[..., 2:], b[..., 2:])
    intersection = (right_bottom - left_top).clamp(min=0).prod(-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b))
    return intersection / (area_a + area_b - intersection)


def shape_iou(a, b):
    """IOU of every width, height in a (N, 2) with every one in b (M, 2), all centred on one point -> (N, M)."""
    intersection = torch.minimum(a[:, None], b).prod(-1)
    return intersection / (a.prod(-1)[:, None] + b.prod(-1) - intersection)
