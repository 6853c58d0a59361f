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
    # Box a is 4 x 2.
    #     b                           intersection   union        IOU
    #     3 x 3, overlaps a corner    2 x 1          8 + 9 - 2    2/15
    #     4 x 2, apart in y only      0                            0
    #     2 x 2, touches a's side     0                            0
    #     the same box                4 x 2          8             1
    a = torch.tensor([0.0, 0.0, 4.0, 2.0])
    b = torch.tensor([[2.0, 1.0, 5.0, 4.0], [0.0, 3.0, 4.0, 5.0], [4.0, 0.0, 6.0, 2.0], [0.0, 0.0, 4.0, 2.0]])
    assert paired_iou(a, b).tolist() == pytest.approx([2 / 15, 0, 0, 1])


def test_iou_against_torchvision():
    a, b = random_boxes(50, 1), random_boxes(60, 2)
    torch.testing.assert_close(paired_iou(a[:, None], b), torchvision.ops.box_iou(a, b))


def test_shape_iou_by_hand():
    # 4 x 2 and 2 x 3 with one centre share 2 x 2: 4 / (8 + 6 - 4) = 0.4. 4 x 2 and itself: 1.
    a, b = torch.tensor([[4.0, 2.0]]), torch.tensor([[2.0, 3.0], [4.0, 2.0]])
    assert shape_iou(a, b).tolist() == [pytest.approx([0.4, 1])]


def test_nms_by_hand():
    # Four boxes, 4 wide and 1 high:
    #
    #     x =       0   1   2   3   4   5   6   7        IOU with box 1
    #     box 0     |----- .6 ------|                     3/5 = .6
    #     box 1         |----- .9 ------|
    #     box 2             |----- .8 ------|             3/5 = .6
    #     box 3                 |----- .7 ------|         2/6 = .33     and with box 2: .6
    #
    # At .5: box 1 is the best and removes boxes 0 and 2. Only box 2 overlaps box 3 enough, but it is gone: 3 is kept.
    # At .3: box 1 removes all others.
    # At .6: nothing is removed, because an IOU of exactly the threshold is not above it.
    boxes = torch.tensor([[0.0, 0, 4, 1], [1, 0, 5, 1], [2, 0, 6, 1], [3, 0, 7, 1]])
    scores = torch.tensor([0.6, 0.9, 0.8, 0.7])
    assert paired_iou(boxes[1], boxes).tolist() == pytest.approx([3 / 5, 1, 3 / 5, 2 / 6])
    assert paired_iou(boxes[2], boxes[3]).item() == pytest.approx(.6)
    assert greedy_nms(boxes, scores, 0.5).tolist() == [1, 3]
    assert greedy_nms(boxes, scores, 0.3).tolist() == [1]
    assert greedy_nms(boxes, scores, 0.6).tolist() == [1, 2, 3, 0]
    assert greedy_nms(boxes[:0], scores[:0], 0.5).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_greedy_nms_against_torchvision(seed):
    boxes = random_boxes(200, seed)
    scores = torch.rand(200, generator=torch.Generator().manual_seed(seed))
    assert greedy_nms(boxes, scores, 0.45).tolist() == torchvision.ops.nms(boxes, scores, 0.45).tolist()


def test_nms_is_class_by_class():
    # One box twice, with these scores:
    #              class 0   class 1
    #     first      .9        .3      .3 is not above the score threshold
    #     second     .8        .5      .8 is suppressed by .9, but .5 survives
    # Two rows. Without NMS there would be three, with NMS across classes one.
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]])
    scores = torch.tensor([[0.9, 0.3], [0.8, 0.5]])
    assert (scores > 0.3).sum() == 3 and greedy_nms(boxes, scores.amax(1), 0.45).tolist() == [0]
    assert nms_per_class(boxes, scores, 0.3, 0.45).tolist() == [pytest.approx([0, 0.9, 0, 0, 1, 1]),
                                                                pytest.approx([1, 0.5, 0, 0, 1, 1])]


def test_a_class_goes_by_its_own_scores():
    # One box twice, with these scores:
    #              class 0   class 1
    #     first      .4        .9      survives for class 1, is suppressed for class 0, although .9 is its best score
    #     second     .6         0      survives for class 0
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]])
    scores = torch.tensor([[0.4, 0.9], [0.6, 0.0]])
    assert nms_per_class(boxes, scores, 0.3, 0.45).tolist() == [pytest.approx([1, 0.9, 0, 0, 1, 1]),
                                                                pytest.approx([0, 0.6, 0, 0, 1, 1])]


def test_rows_are_sorted_by_score_across_classes():
    # Two boxes apart. Box 0 is of class 0 with .4 and class 2 with .6, box 1 of class 1 with .9. Sorted by class the
    # scores would be .4, .9, .6.
    boxes = torch.tensor([[0.0, 0, 1, 2], [3, 0, 4, 2]])
    scores = torch.tensor([[0.4, 0.0, 0.6], [0.0, 0.9, 0.0]])
    assert nms_per_class(boxes, scores, 0.1, 0.45).tolist() == [pytest.approx([1, 0.9, 3, 0, 4, 2]),
                                                                pytest.approx([2, 0.6, 0, 0, 1, 2]),
                                                                pytest.approx([0, 0.4, 0, 0, 1, 2])]


def test_a_score_of_exactly_the_threshold_is_not_above_it():
    boxes = torch.tensor([[0.0, 0, 1, 1], [2, 0, 3, 1]])
    scores = torch.tensor([[0.75, 0.5], [0.5, 0.25]])
    assert nms_per_class(boxes, scores, 0.5, 0.45).tolist() == [[0, 0.75, 0, 0, 1, 1]]


def test_nothing_above_the_threshold():
    assert nms_per_class(torch.rand(5, 4), torch.zeros(5, 3), 0.1, 0.45).shape == (0, 6)
