"""Boxes, IOU and NMS by hand and against torchvision."""
import pytest
import torch
import torchvision

from shared.boxes import cxcywh_to_xyxy, paired_iou, shape_iou, xyxy_to_cxcywh
from shared.nms import greedy_nms, nms_per_class


def random_boxes(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left_top = torch.rand(n, 2, generator=generator)
    return torch.cat([left_top, left_top + 0.05 + 0.4 * torch.rand(n, 2, generator=generator)], 1)


def test_corners_and_centres():
    assert cxcywh_to_xyxy(torch.tensor([0.5, 0.4, 0.2, 0.6])).tolist() == pytest.approx([0.4, 0.1, 0.6, 0.7])
    assert xyxy_to_cxcywh(torch.tensor([0.4, 0.1, 0.6, 0.7])).tolist() == pytest.approx([0.5, 0.4, 0.2, 0.6])


def test_iou_by_hand():
    # 4 x 2 and 3 x 3, sharing 2 x 1: 2 / (8 + 9 - 2). Apart in y only: 0. Touching: 0. The same: 1.
    a = torch.tensor([0.0, 0.0, 4.0, 2.0])
    b = torch.tensor([[2.0, 1.0, 5.0, 4.0], [0.0, 3.0, 4.0, 5.0], [4.0, 0.0, 6.0, 2.0], [0.0, 0.0, 4.0, 2.0]])
    assert paired_iou(a, b).tolist() == pytest.approx([2 / 15, 0, 0, 1])


def test_iou_against_torchvision():
    a, b = random_boxes(50, 1), random_boxes(60, 2)
    torch.testing.assert_close(paired_iou(a[:, None], b), torchvision.ops.box_iou(a, b))


def test_shape_iou_by_hand():
    # 4 x 2 on 2 x 3, both at the origin, share 2 x 2: 4 / (8 + 6 - 4) = 0.4.
    a, b = torch.tensor([[4.0, 2.0]]), torch.tensor([[2.0, 3.0], [4.0, 2.0]])
    assert shape_iou(a, b).tolist() == [pytest.approx([0.4, 1])]


def test_nms_by_hand():
    # Four boxes in a row, each 4 wide, shifted by 1: neighbours overlap by 3 / 5 = .6, next but one by 2 / 6 = .33.
    # Best is the second: it removes the first and the third at .5; the fourth overlaps only the third, which is gone.
    boxes = torch.tensor([[0.0, 0, 4, 1], [1, 0, 5, 1], [2, 0, 6, 1], [3, 0, 7, 1]])
    scores = torch.tensor([0.6, 0.9, 0.8, 0.7])
    assert greedy_nms(boxes, scores, 0.5).tolist() == [1, 3]
    assert greedy_nms(boxes, scores, 0.3).tolist() == [1]
    assert greedy_nms(boxes, scores, 0.6).tolist() == [1, 2, 3, 0]           # exactly the threshold is not more than it
    assert greedy_nms(boxes[:0], scores[:0], 0.5).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_ours_against_torchvision(seed):
    boxes = random_boxes(200, seed)
    scores = torch.rand(200, generator=torch.Generator().manual_seed(seed))
    assert greedy_nms(boxes, scores, 0.45).tolist() == torchvision.ops.nms(boxes, scores, 0.45).tolist()


def test_nms_is_class_by_class():
    # Twice the same box. As class 0 the better one stays; as class 1 only the second scores above .3. Three rows would
    # be wrong (no NMS), and so would one row (NMS across classes).
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]])
    scores = torch.tensor([[0.9, 0.3], [0.8, 0.5]])
    assert nms_per_class(boxes, scores, 0.3, 0.45).tolist() == [pytest.approx([0, 0.9, 0, 0, 1, 1]),
                                                                pytest.approx([1, 0.5, 0, 0, 1, 1])]


def test_a_score_of_exactly_the_threshold_is_not_above_it():
    boxes = torch.tensor([[0.0, 0, 1, 1], [2, 0, 3, 1]])
    scores = torch.tensor([[0.75, 0.5], [0.5, 0.25]])
    assert nms_per_class(boxes, scores, 0.5, 0.45).tolist() == [[0, 0.75, 0, 0, 1, 1]]


def test_nothing_above_the_threshold():
    assert nms_per_class(torch.rand(5, 4), torch.zeros(5, 3), 0.1, 0.45).shape == (0, 6)
