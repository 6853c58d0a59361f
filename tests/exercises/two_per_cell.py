"""
Exercise 1 of yolov1/README.md: the ceiling if a cell kept two objects instead of one.

One image of 100 x 100 pixels, 2 x 2 cells of 50 x 50. Each object is 20 x 20, at its centre is its letter:

    0               50             100
  0 +---------------+---------------+
    |  c            |               |      c  cow    (15, 15)
    |      d        |               |      d  dog    (25, 25)
    |           h   |               |      h  horse  (35, 35)
 50 +---------------+---------------+
    |               |           s   |      s  sheep  (85, 65)
    |               |               |
100 +---------------+---------------+

The upper left cell keeps the cow and the dog, the lower right one the sheep. The APs of cow, dog, horse and sheep are
1, 1, 0, 1, and their mean is 3/4. With one object per cell they are 1, 0, 0, 1: the mean is 1/2.
"""
import numpy as np
import pytest

from shared.voc import Annotation
from shared.voc import CLASSES
from yolov1.evaluate import ceiling, one_object_per_cell

CENTRES = np.array([[15.0, 15], [25, 25], [35, 35], [85, 65]])
LABELS = np.array([CLASSES.index(name) for name in ("cow", "dog", "horse", "sheep")])
IMAGE = Annotation("a.jpg", 100, 100, np.concatenate([CENTRES - 10, CENTRES + 10], 1), LABELS, np.zeros(4, bool))


def test_a_cell_keeps_its_first_two_objects():
    kept = [CLASSES[int(row[1])] for row in one_object_per_cell([IMAGE], grid=2)]
    assert sorted(kept) == ["cow", "dog", "sheep"], (f"the cells keep {kept}; wanted: cow and dog, and the sheep. "
                                                     "Change one_object_per_cell in yolov1/evaluate.py")


def test_the_ceiling():
    highest = ceiling([IMAGE], CLASSES, grid=2)
    assert highest == pytest.approx(3 / 4), (f"the ceiling is {highest:.2f}; wanted: (1 + 1 + 0 + 1) / 4. Change "
                                             "one_object_per_cell in yolov1/evaluate.py")
