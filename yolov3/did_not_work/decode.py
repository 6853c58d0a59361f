"""
From the numbers of the heads to boxes, for the experiments of section 4.

Paper   "YOLOv3: An Incremental Improvement", section 4, "Things We Tried That Didn't Work" (arXiv:1804.02767).
Source  The paper describes each experiment in two or three sentences. "Faster R-CNN" is arXiv:1506.01497, equation (2).

For a cell in column c_x and row c_y of s x s pixels, and an anchor of p_w x p_h pixels, the centre of the box is, in
cells (b_y with y, h instead of x, w):

    baseline            b_x = sigmoid(t_x) + c_x          always in its own cell
    linear xy           b_x = t_x + c_x                   t_x is the offset itself, and may leave 0..1
    anchor offsets      b_x = t_x p_w / s + c_x + 1/2     t_x = 1 moves the box by the width of its anchor

In "anchor offsets" the anchor's own centre is the middle of the cell, as in Faster R-CNN. Width, height, objectness and
classes mean in all experiments what they mean in yolov3/model.py. "focal loss" and "dual thresholds" decode as the
baseline does.

What changed from yolov3/model.py: the argument `experiment` and the lines that read it, in decode_head.
"""
import torch

from shared.boxes import cxcywh_to_xyxy

EXPERIMENTS = ["baseline", "anchor offsets", "linear xy", "focal loss", "dual thresholds"]


def decode(heads, anchors, strides, experiment):
    """
    Turns the numbers of the heads into boxes and scores.

    heads    one (B, A, H, W, 5 + C) per scale, as YOLOv3Tiny returns them
    returns  boxes (B, L, 4)   left, top, right, bottom as fractions of the network's input
             scores (B, L, C)  Pr(object) Pr(class | object)
             The L boxes are in the order of head, anchor, row, column.
    """
    decoded = [decode_head(*args, experiment) for args in zip(heads, anchors, strides)]
    boxes, scores = zip(*decoded)
    return torch.cat(boxes, 1), torch.cat(scores, 1)


def decode_head(head, anchors, stride, experiment):
    """The same for one of the heads (B, A, H, W, 5 + C), with its A anchors and its stride."""
    head = head.float()                                             # exp needs full precision
    B, A, H, W = head.shape[:4]
    p_wh = head.new_tensor(anchors).view(A, 1, 1, 2)
    c_x, c_y = torch.arange(W, device=head.device), torch.arange(H, device=head.device)
    c_xy = torch.stack(torch.meshgrid(c_x, c_y, indexing="xy"), -1)                          # (H, W, 2)
    cells = head.new_tensor([W, H])
    if experiment == "anchor offsets":
        b_xy = head[..., 0:2] * p_wh / stride + c_xy + 0.5          # (B, A, H, W, 2)  in cells
    elif experiment == "linear xy":
        b_xy = head[..., 0:2] + c_xy                                # (B, A, H, W, 2)  in cells
    else:
        b_xy = head[..., 0:2].sigmoid() + c_xy                      # (B, A, H, W, 2)  in cells
    b_wh = p_wh * head[..., 2:4].exp()                              # (B, A, H, W, 2)  in pixels
    boxes = torch.cat([b_xy / cells, b_wh / (cells * stride)], -1)  # (B, A, H, W, 4)  as fractions of the input
    boxes = cxcywh_to_xyxy(boxes).flatten(1, 3)                     # (B, A H W, 4)
    scores = (head[..., 4:5].sigmoid() * head[..., 5:].sigmoid()).flatten(1, 3)              # (B, A H W, C)
    return boxes, scores
