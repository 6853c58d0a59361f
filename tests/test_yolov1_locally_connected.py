"""
The network of the published yolov1.weights: a locally connected layer by hand and against loops as in Darknet, the
layers in the cfg's order, and their numbers.
"""
from math import sqrt

import pytest
import torch
import torch.nn as nn

import yolov1.locally_connected.model as room
import yolov1.train as train
from shared.layers import count_operations
from yolov1.locally_connected.model import LocallyConnected, YOLOv1Local


def on_meta(**arguments):
    """A network whose tensors have shapes but no numbers: it costs neither time nor memory."""
    with torch.device("meta"):
        return YOLOv1Local(**arguments).eval()


def locally_connected(image, weights, biases):
    """
    One image with loops, as [darknet] src/local_layer.c computes it.

    image    (in, S, S)
    weights  (S * S, out, in, 3, 3)
    biases   (out, S, S)
    returns  (out, S, S)
    """
    channels, S, _ = image.shape
    output = biases.clone()
    for row in range(S):
        for col in range(S):
            for o in range(len(biases)):
                for i in range(channels):
                    for dy in (-1, 0, 1):
                        for dx in (-1, 0, 1):
                            if 0 <= row + dy < S and 0 <= col + dx < S:
                                weight = weights[row * S + col, o, i, dy + 1, dx + 1]
                                output[o, row, col] += weight * image[i, row + dy, col + dx]
    return output


def test_a_locally_connected_layer_by_hand():
    # Two places across and down, one channel, one filter. Each place has nine weights: all 0 but two.
    #
    #     image  1 2    place 0  1 at the centre, 10 on the right          1 * 1 + 10 * 2           = 21
    #            3 4    place 1  1 at the centre, 10 on the right          1 * 2 + 10 * 0 (outside) = 2
    #                   place 2  1 above, 10 above on the right            1 * 1 + 10 * 2           = 21
    #                   place 3  1 at the centre, 10 above on the left     1 * 4 + 10 * 1           = 14
    #
    # The biases are 100, 200, 300, 400. A convolution has the same weights everywhere: those of place 0 would give
    # 1 + 20, 2 + 0, 3 + 40, 4 + 0.
    layer = LocallyConnected(1, 1, grid=2)
    weight = torch.zeros(4, 3, 3)
    weight[0, 1, 1], weight[0, 1, 2] = 1, 10
    weight[1, 1, 1], weight[1, 1, 2] = 1, 10
    weight[2, 0, 1], weight[2, 0, 2] = 1, 10
    weight[3, 1, 1], weight[3, 0, 0] = 1, 10
    layer.load_state_dict({"weight": weight.view(4, 1, 9), "bias": torch.tensor([100.0, 200, 300, 400])})
    image = torch.tensor([[1.0, 2], [3, 4]]).view(1, 1, 2, 2)
    assert layer(image).tolist() == [[121, 202, 321, 414]]
    convolution = nn.functional.conv2d(image, weight[:1, None], padding=1)
    assert convolution.flatten().tolist() == [21, 2, 43, 4]


def test_the_order_of_the_biases_and_of_the_output():
    # Two filters, 2 x 2 places. With weights of 0 the biases come out: all places of filter 0, then of filter 1.
    layer = LocallyConnected(1, 2, grid=2)
    layer.load_state_dict({"weight": torch.zeros(4, 2, 9), "bias": torch.arange(8.0)})
    assert layer(torch.ones(1, 1, 2, 2)).tolist() == [list(range(8))]
    # Filter 1 has the number of its place as its centre weight, filter 0 has zeros.
    weight = torch.zeros(4, 2, 9)
    weight[:, 1, 4] = torch.tensor([10.0, 20, 30, 40])
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(8)})
    assert layer(torch.ones(1, 1, 2, 2)).tolist() == [[0, 0, 0, 0, 10, 20, 30, 40]]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_layer_computes_what_loops_compute(memory_format):
    # Two images, 4 channels in, 3 filters, 3 x 3 places.
    torch.manual_seed(0)
    layer = LocallyConnected(4, 3, grid=3).to(memory_format=memory_format)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    images = torch.randn(2, 4, 3, 3)
    with torch.no_grad():
        output = layer(images.to(memory_format=memory_format)).view(2, 3, 3, 3)
        weights, biases = layer.weight.view(9, 3, 4, 3, 3), layer.bias.view(3, 3, 3)
        for image, found in zip(images, output):
            assert torch.allclose(found, locally_connected(image, weights, biases), atol=1e-5)


@pytest.mark.parametrize("grid, num_boxes", [(1, 2), (2, 3), (7, 2), (7, 3)])
def test_output_shapes(grid, num_boxes):
    network = on_meta(num_classes=4, grid=grid, num_boxes=num_boxes)
    output = network(torch.zeros(2, 3, 64 * grid, 64 * grid, device="meta"))
    assert tuple(output.shape) == (2, grid, grid, 4 + 5 * num_boxes)
    with pytest.raises(ValueError, match=f"{grid} x {grid} cells takes images of {64 * grid} x {64 * grid}"):
        network(torch.zeros(1, 3, 64 * grid, 32))


# The 24 convolutions: channels in, filters, size. 13,184 filters in all.
CONVOLUTIONS = [(3, 64, 7), (64, 192, 3), (192, 128, 1), (128, 256, 3), (256, 256, 1), (256, 512, 3)]
CONVOLUTIONS += [(512, 256, 1), (256, 512, 3)] * 4 + [(512, 512, 1), (512, 1024, 3)]
CONVOLUTIONS += [(1024, 512, 1), (512, 1024, 3)] * 2 + [(1024, 1024, 3)] * 4


@pytest.mark.parametrize("num_boxes, outputs, parameters, operations", [
    (2, 1470, 194_228_350, 40.415), (3, 1715, 197_301_875, 40.421)])
def test_parameters_and_operations(num_boxes, outputs, parameters, operations):
    # A convolution has a scale and a bias per filter. Then the locally connected layer: 49 places, 256 filters of
    # 1024 * 9 weights, and a bias for each of its 12,544 outputs. Then the last layer.
    local = 49 * 256 * 1024 * 9
    expected = sum(i * o * k * k + 2 * o for i, o, k in CONVOLUTIONS) + local + 12_544 + (12_544 + 1) * outputs
    assert (local, 49 * 256, 49 * (20 + 5 * num_boxes)) == (115_605_504, 12_544, outputs)
    with torch.device("meta"):
        rows = count_operations(YOLOv1Local(20, num_boxes=num_boxes), 448, 448)
    assert sum(row[3] for row in rows) == expected == parameters
    # Each weight of the locally connected layer is used once. Darknet's count leaves them out: 40.19 with 3 boxes.
    counted = sum(row[4] for row in rows)
    assert round((counted + 2 * local) / 1e9, 3) == operations
    if num_boxes == 3:
        assert round(counted / 1e9, 2) == 40.19


def test_the_layers_in_the_order_of_the_cfg():
    # [darknet] cfg/yolov1.cfg: the 24 convolutions with BatchNorm; local, leaky; dropout; connected, linear.
    network = on_meta()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convolutions] == CONVOLUTIONS
    assert [i for i, c in enumerate(convolutions) if c.stride == (2, 2)] == [0, 21]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == 24
    local, leaky, dropout, last = network.detect[4:]
    assert isinstance(local, LocallyConnected) and leaky.negative_slope == 0.1 and dropout.p == 0.5
    assert (last.in_features, last.out_features) == (12_544, 1470)


def test_darknets_order_of_the_numbers():
    # 2 x 2 cells, 3 classes, 2 boxes: 12 class numbers, 8 confidences, 32 of boxes. The layers are left out: what
    # stands in their place gives 0 to 51. The cell in row 1 and column 0 is the third: classes 6 7 8, confidences
    # 12 + 4, 12 + 5, boxes from 20 + 16 on.
    network = on_meta(num_classes=3, grid=2)
    network.backbone, network.detect = nn.Identity(), nn.Identity()
    network.detect.register_forward_hook(lambda layer, inputs, output: torch.arange(52.0).view(1, 52))
    output = network(torch.zeros(1, 3, 128, 128))
    assert output[0, 1, 0].tolist() == [6, 7, 8, 16, 17, *range(36, 44)]


def test_initialisation_and_decay(monkeypatch):
    # A place's fan-in is 1024 * 9 = 9216: uniform between +-sqrt(2 / 9216) = .0147, a deviation of .0147 / sqrt(3) =
    # .0085, at each place. The convolutions are left out, because they would take most of this file's time.
    assert [sqrt(2 / 9216), sqrt(2 / 9216 / 3)] == pytest.approx([0.0147, 0.0085], abs=5e-5)
    monkeypatch.setattr(room, "Backbone", lambda batch_norm: nn.Identity())
    monkeypatch.setattr(room, "ConvBlock", lambda *_, **__: nn.Identity())
    network = YOLOv1Local(num_classes=4, grid=2)
    layer = network.detect[4]
    assert layer.weight.shape == (4, 256, 9216) and layer.bias.shape == (1024,)
    for place in layer.weight:
        assert 0.999 * sqrt(2 / 9216) < place.abs().max().item() <= sqrt(2 / 9216)
        assert place.std().item() == pytest.approx(sqrt(2 / 9216 / 3), rel=0.01)
    assert all(p.abs().sum() == 0 for name, p in network.named_parameters() if name.endswith("bias"))

    # The biases of all places are one row of numbers, because parameters of more dimensions decay.
    decaying, others = train.make_optimizer(layer).param_groups
    assert [p.shape for p in decaying["params"]] == [layer.weight.shape] and decaying["weight_decay"] > 0
    assert [p.shape for p in others["params"]] == [layer.bias.shape] and others["weight_decay"] == 0
