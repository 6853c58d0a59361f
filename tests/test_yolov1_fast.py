"""The paper's Fast YOLO: its layers in the cfg's order, their numbers, and the range of the images."""
import pytest
import torch
import torch.nn as nn

from shared.layers import count_operations
from yolov1.fast.model import FastYOLO


def on_meta(**arguments):
    """A network whose tensors have shapes but no numbers: it costs neither time nor memory."""
    with torch.device("meta"):
        return FastYOLO(**arguments).eval()


@pytest.mark.parametrize("grid", [1, 2, 7])
def test_output_shapes(grid):
    network = on_meta(num_classes=4, grid=grid, num_boxes=3)
    output = network(torch.zeros(2, 3, 64 * grid, 64 * grid, device="meta"))
    assert tuple(output.shape) == (2, grid, grid, 4 + 5 * 3)
    with pytest.raises(ValueError, match=f"{grid} x {grid} cells takes images of {64 * grid} x {64 * grid}"):
        network(torch.zeros(1, 3, 64 * grid, 32))


def test_parameters_and_operations():
    # Nine convolutions of 3 x 3 with a bias per filter, then three fully connected layers:
    #     3 * 16 * 9 + 16 =         448      128 * 256 * 9 + 256 =    295,168     7 * 7 * 1024 * 256 + 256 = 12,845,312
    #    16 * 32 * 9 + 32 =       4,640      256 * 512 * 9 + 512 =  1,180,160            256 * 4096 + 4096 =  1,052,672
    #    32 * 64 * 9 + 64 =      18,496    512 * 1024 * 9 + 1024 =  4,719,616           4096 * 1470 + 1470 =  6,022,590
    #   64 * 128 * 9 + 128 =     73,856   1024 * 1024 * 9 + 1024 =  9,438,208  twice
    convolutions = [448, 4_640, 18_496, 73_856, 295_168, 1_180_160, 4_719_616, 9_438_208, 9_438_208]
    connected = [12_845_312, 1_052_672, 6_022_590]
    with torch.device("meta"):
        rows = count_operations(FastYOLO(20), 448, 448)
    assert [row[3] for row in rows if row[3]] == convolutions + connected
    assert (sum(connected), sum(convolutions + connected)) == (19_920_574, 45_089_374)
    # A convolution uses each weight at each place of its output, a fully connected layer once.
    sides, channels = [448, 224, 112, 56, 28, 14, 7, 7, 7], [3, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]
    expected = sum(2 * 9 * i * o * side ** 2 for i, o, side in zip(channels, channels[1:], sides))
    expected += 2 * (7 * 7 * 1024 * 256 + 256 * 4096 + 4096 * 1470)
    assert sum(row[4] for row in rows) == expected and round(expected / 1e9, 3) == 4.837


def test_the_layers_in_the_order_of_the_cfg():
    # [darknet] cfg/yolo-tiny.cfg at eaf033c0: filters of the nine convolutions, all 3 x 3 and leaky, a pooling behind
    # each of the first six; connected 256 (linear) and 4096 (leaky); dropout; connected 1470 (linear).
    with torch.device("meta"):
        rows = count_operations(FastYOLO(20), 448, 448)
    convolutions = [row for row in rows if isinstance(row[1], nn.Conv2d)]
    assert [row[1].out_channels for row in convolutions] == [16, 32, 64, 128, 256, 512, 1024, 1024, 1024]
    assert {row[1].kernel_size for row in convolutions} == {(3, 3)}
    assert [row[2][2] for row in convolutions] == [448, 224, 112, 56, 28, 14, 7, 7, 7]       # their heights
    flatten, first, second, leaky, dropout, last = [row[1] for row in rows[-6:]]
    assert isinstance(flatten, nn.Flatten) and leaky.negative_slope == 0.1 and dropout.p == 0.5
    assert [first.out_features, second.out_features, last.out_features] == [256, 4096, 1470]
    assert not any(isinstance(row[1], nn.BatchNorm2d) for row in rows)


def test_images_are_mapped_to_minus_one_to_one():
    # [darknet] The [crop] layer gives 2 x - 1: black -1, white 1, and .75 becomes .5.
    network, seen = on_meta(grid=1), []
    network.backbone.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    network.backbone.stage64, network.detect = nn.Identity(), nn.Identity()
    network.detect.register_forward_hook(lambda layer, inputs, output: torch.zeros(1, 30))
    images = torch.zeros(1, 3, 64, 64)
    images[0, 0], images[0, 1, 0, 0] = 1, 0.75
    network(images)
    mapped, = seen
    assert mapped[0, 0].unique().tolist() == [1] and mapped[0, 2].unique().tolist() == [-1]
    assert mapped[0, 1].flatten().tolist() == [0.5] + [-1] * 4095
    assert images.unique().tolist() == [0, 0.75, 1]


def test_darknets_order_of_the_numbers():
    # 2 x 2 cells, 3 classes, 2 boxes: 12 class numbers, 8 confidences, 32 of boxes. The layers are left out: what
    # stands in their place gives 0 to 51. The cell in row 1 and column 0 is the third: classes 6 7 8, confidences
    # 12 + 4, 12 + 5, boxes from 20 + 16 on.
    network = on_meta(num_classes=3, grid=2)
    network.backbone, network.detect = nn.Identity(), nn.Identity()
    network.detect.register_forward_hook(lambda layer, inputs, output: torch.arange(52.0).view(1, 52))
    output = network(torch.zeros(1, 3, 128, 128))
    assert output[0, 1, 0].tolist() == [6, 7, 8, 16, 17, *range(36, 44)]
