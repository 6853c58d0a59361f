"""The tiny network's shapes and published sizes, its layers in the cfg's order, Darknet's order of its numbers."""
import pytest
import torch
import torch.nn as nn

from shared.layers import count_operations
from yolov1.tiny.model import STRIDE, YOLOv1Tiny


@pytest.mark.parametrize("grid", [1, 2])
def test_output_shapes(grid):
    network = YOLOv1Tiny(num_classes=4, grid=grid, num_boxes=3).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, grid * STRIDE, grid * STRIDE)).shape == (2, grid, grid, 4 + 5 * 3)


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="2 x 2 cells takes images of 128 x 128"):
        YOLOv1Tiny(20, grid=2)(torch.zeros(1, 3, 192, 192))


def test_parameters_and_operations_are_the_published_ones():
    rows = count_operations(YOLOv1Tiny(20), 448, 448)
    assert sum(row[3] for row in rows) == 27_095_374
    assert round(sum(row[4] for row in rows) / 1e9, 3) == 3.216


def test_the_layers_in_the_order_of_the_cfg():
    # [darknet] yolov1-tiny.cfg: the filters of its 8 convolutions, all 3 x 3, a pooling behind each of the first six.
    rows = [row for row in count_operations(YOLOv1Tiny(20, grid=2), 128, 128) if isinstance(row[1], nn.Conv2d)]
    assert [row[1].out_channels for row in rows] == [16, 32, 64, 128, 256, 512, 1024, 256]
    assert {row[1].kernel_size for row in rows} == {(3, 3)}
    assert [row[2][2] for row in rows] == [128, 64, 32, 16, 8, 4, 2, 2]                      # their heights


def test_darknets_order_of_the_numbers():
    # 2 x 2 cells, 3 classes, 2 boxes: 12 class numbers, 8 confidences, 32 of boxes. With weights of 0 the biases, 0 to
    # 51, come out. The cell in row 1 and column 0 is the third: classes 6 7 8, confidences 12 + 4, 12 + 5, boxes from
    # 20 + 16 on.
    network = YOLOv1Tiny(3, grid=2).eval()
    last = network.detect[2]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.arange(52))
        output = network(torch.zeros(1, 3, 128, 128))
    assert output[0, 1, 0].tolist() == [6, 7, 8, 16, 17, *range(36, 44)]
