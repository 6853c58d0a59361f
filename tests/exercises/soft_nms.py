"""
Exercise 3 of yolov2/README.md: soft-NMS (Bodla et al., "Improving Object Detection With One Line of Code",
arXiv:1704.04503), its linear form. A box that overlaps a better one by an IOU above iou_threshold is not removed: its
score is multiplied by 1 - IOU. It goes only when its score is not above score_threshold any more.

Four boxes, all with one corner at (0, 0), and two classes:

         class  width x height  score
    a    0      10 x 10         .9
    b    0       8 x 10         .8     IOU with a: 80 / 100 = .8, more than .45: the score becomes .8 (1 - .8) = .16
    c    0      10 x  4         .5     IOU with a: 40 / 100 = .4: unchanged
    d    1      10 x 10         .3     of another class: unchanged

After a comes c (.5), whose IOU with b is (8)(4) / (80 + 40 - 32) = 32 / 88 = .36: b keeps its .16 and comes last.
"""
import torch

from shared.nms import nms_per_class

BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 8, 10], [0, 0, 10, 4], [0, 0, 10, 10]])
SCORES = torch.tensor([[0.9, 0], [0.8, 0], [0.5, 0], [0, 0.3]])
WHERE = "Change nms_per_class in shared/nms.py"


def test_an_overlapping_box_gets_a_lower_score():
    rows = nms_per_class(BOXES, SCORES, score_threshold=0.005, iou_threshold=0.45)
    found = [round(score, 4) for score in rows[:, 1].tolist()]
    wanted = "0.9, 0.5, 0.3, and .8 (1 - .8) = 0.16"
    assert found == [0.9, 0.5, 0.3, 0.16], f"the scores are {found}; wanted: {wanted}. {WHERE}"
    found = rows[:, 0].tolist(), rows[3, 2:].tolist()
    wanted = [0, 0, 1, 0], [0, 0, 8, 10]
    assert found == wanted, (f"the classes and the last box are {found}; wanted: b last, and d with its class 1, "
                             f"{wanted}. {WHERE}")


def test_it_goes_at_the_score_threshold():
    rows = nms_per_class(BOXES, SCORES, score_threshold=0.2, iou_threshold=0.45)
    found = [round(score, 4) for score in rows[:, 1].tolist()]
    assert found == [0.9, 0.5, 0.3], f"the scores are {found}; wanted: 0.9, 0.5, 0.3; .16 is not above .2. {WHERE}"


def test_three_boxes():
    # Three equal boxes, and a threshold of .5. The second is multiplied by 1 - 1 = 0 and goes, and so does the third.
    rows = nms_per_class(BOXES[[0, 0, 0]], torch.tensor([[0.9], [0.8], [0.7]]), 0.005, 0.5)
    found = [round(score, 4) for score in rows[:, 1].tolist()]
    wanted = "only 0.9; a box equal to a kept one gets .8 (1 - 1) = 0"
    assert found == [0.9], f"the scores are {found}; wanted: {wanted}. {WHERE}"
