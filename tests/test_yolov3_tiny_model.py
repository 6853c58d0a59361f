"""The tiny network's shapes and published sizes, its layers in the cfg's order, the pooling that keeps the size."""
from math import log

import pytest
import torch
import torch.nn as nn

from shared.layers import count_operations, fuse_batchnorm
from yolov3.loss import yolov3_loss
from yolov3.model import decode
from yolov3.tiny.model import ANCHORS, STRIDES, YOLOv3Tiny


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return YOLOv3Tiny(num_classes=20).eval()


@pytest.mark.parametrize("height, width", [(64, 64), (96, 160)])
def test_output_shapes(network, height, width):
    with torch.no_grad():
        heads = network(torch.zeros(2, 3, height, width))
    assert [tuple(head.shape) for head in heads] == [(2, 3, height // s, width // s, 25) for s in STRIDES]


def test_the_channels_of_a_head_are_anchor_by_anchor(network):
    raw = []
    hook = network.detect16.register_forward_hook(lambda layer, inputs, output: raw.append(output))
    with torch.no_grad():
        head = network(torch.rand(1, 3, 64, 96))[1]
    hook.remove()
    for anchor, k, row, col in [(0, 0, 0, 0), (1, 3, 3, 5), (2, 24, 0, 1)]:
        assert head[0, anchor, row, col, k] == raw[0][0, anchor * 25 + k, row, col]


def test_sides_not_divisible_by_32_are_refused(network):
    with pytest.raises(ValueError, match="divisible by 32"):
        network(torch.zeros(1, 3, 64, 100))


def test_parameters_and_operations_are_the_published_ones():
    rows = count_operations(YOLOv3Tiny(num_classes=80), 416, 416)
    assert sum(row[3] for row in rows) == 8_852_366
    assert round(sum(row[4] for row in rows) / 1e9, 3) == 5.565


def test_the_layers_in_the_order_of_the_cfg(network):
    # [darknet] yolov3-tiny.cfg: filters and sizes of its 13 convolutions, 75 where yolov3-tiny.cfg has 255.
    expected = [(16, 3), (32, 3), (64, 3), (128, 3), (256, 3), (512, 3), (1024, 3), (256, 1), (512, 3), (75, 1),
                (128, 1), (256, 3), (75, 1)]
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    assert [(layer.out_channels, layer.kernel_size[0]) for layer in layers.values()] == expected
    heights = {row[0]: row[2][2] for row in count_operations(network, 64, 64)}
    assert [heights[name] for name in layers] == [64, 32, 16, 8, 4, 2, 2, 2, 2, 2, 2, 4, 4]


def test_the_pooling_that_keeps_the_size(network):
    # Each place takes the largest of itself and its right, lower and lower right neighbours. All numbers are negative,
    # so a border of zeros would win. A border at the left and above would give -1 -1 / -1 -1 in the first case.
    pad, pool = network.backbone.stage32[2:4]
    assert pool(pad(torch.tensor([[[[-1.0, -2], [-3, -4]]]]))).tolist() == [[[[-1, -2], [-3, -4]]]]
    assert pool(pad(torch.tensor([[[[-4.0, -3], [-2, -1]]]]))).tolist() == [[[[-1, -1], [-1, -1]]]]


def test_the_routes_of_the_head(network):
    # The second scale starts from the 1 x 1 convolution, and the upsampled half of the concatenation comes first.
    seen = {}
    hooks = [getattr(network, name).register_forward_hook(lambda layer, inputs, output, name=name:
                                                          seen.update({name: (inputs[0], output)}))
             for name in ("neck32", "detect32", "up16", "detect16", "backbone")]
    with torch.no_grad():
        network(torch.rand(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    stride16, stride32 = seen["backbone"][1]
    assert seen["neck32"][0].equal(stride32)
    assert seen["detect32"][0].equal(seen["neck32"][1]) and seen["up16"][0].equal(seen["neck32"][1])
    assert seen["detect16"][0][:, :128].equal(seen["up16"][1]) and seen["detect16"][0][:, 128:].equal(stride16)


def test_anchors_and_decoding_of_two_scales():
    # Six anchors, the large three on the coarse scale ([darknet] mask 3,4,5 and 0,1,2). Zeros mean the centre of each
    # cell and the anchor itself: of an input of 64 x 64 pixels, 2 x 2 cells and 4 x 4 cells with 3 anchors each.
    assert [a for scale in ANCHORS[::-1] for a in scale] == [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169),
                                                             (344, 319)]
    boxes, scores = decode([torch.zeros(1, 3, 2, 2, 6), torch.zeros(1, 3, 4, 4, 6)], ANCHORS, STRIDES)
    assert boxes.shape == (1, 12 + 48, 4) and (scores == 0.25).all()
    centre, size = (boxes[0, 12, :2] + boxes[0, 12, 2:]) / 2, boxes[0, 12, 2:] - boxes[0, 12, :2]
    assert (centre * 64).tolist() == pytest.approx([8, 8]) and (size * 64).tolist() == pytest.approx([10, 14])


def test_the_loss_takes_two_scales():
    # The network predicts 0 and there is no object: log 2 for each of 3 (2 * 2 + 4 * 4) = 60 predictors.
    heads = [torch.zeros(1, 3, 2, 2, 6), torch.zeros(1, 3, 4, 4, 6)]
    loss = yolov3_loss(heads, torch.zeros(0, 6), ANCHORS)
    assert loss["total"].item() == pytest.approx(60 * log(2), rel=1e-5)
    # An object of exactly 23 x 27 pixels has the shape of the second anchor of the fine scale: t*_w = t*_h = 0.
    loss = yolov3_loss(heads, torch.tensor([[0, 0, 0.4, 0.6, 23 / 64, 27 / 64]]), ANCHORS)
    assert loss["wh"].item() == pytest.approx(0, abs=1e-9)
    assert loss["object"].item() == pytest.approx(log(2), rel=1e-5)


def test_fused_is_the_same():
    torch.manual_seed(1)
    other = YOLOv3Tiny(2)
    for layer in other.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = other.eval()(images)
        for a, b in zip(before, fuse_batchnorm(other)(images)):
            assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in other.modules())
