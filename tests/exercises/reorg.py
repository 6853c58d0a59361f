"""
Exercise 2 of yolov2/README.md: the passthrough as the paper describes it, "stacking adjacent features into different
channels".

A map of 4 channels of 4 x 4. The value at channel, row, column is 16 channel + 4 row + column. This is channel 0:

     0  1 |  2  3
     4  5 |  6  7
    ------+------
     8  9 | 10 11
    12 13 | 14 15

The upper left cell gets 0 1 4 5 of channel 0, and the same plus 16, 32 and 48 of the other three channels: its own
2 x 2 square in each channel, 16 values. The lower right cell gets 10 11 14 15, and so on. The order is free.
"""
import torch

from yolov2.model import Reorg


def check_cell(row, col, square):
    stacked = Reorg()(torch.arange(64.0).view(1, 4, 4, 4))
    assert stacked.shape == (1, 16, 2, 2), (f"the shape is {tuple(stacked.shape)}; wanted: (1, 16, 2, 2). "
                                             "Change Reorg in yolov2/model.py")
    found = sorted(int(value) for value in stacked[0, :, row, col])
    wanted = [16 * channel + value for channel in range(4) for value in square]
    assert found == wanted, (f"the cell in row {row}, column {col} has {found}; wanted: {wanted}. "
                             "Change Reorg in yolov2/model.py")


def test_the_upper_left_cell():
    check_cell(0, 0, [0, 1, 4, 5])


def test_the_lower_right_cell():
    check_cell(1, 1, [10, 11, 14, 15])
