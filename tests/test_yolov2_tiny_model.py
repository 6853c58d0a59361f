"""The tiny network's shapes and published sizes, its layers in the cfg's order, the pooling that keeps the size."""
import pytest
import torch
import torch.nn as nn

from shared.layers import count_operations, fuse_batchnorm
from yolov2.loss import yolov2_loss
from yolov2.model import decode
from yolov2.tiny.model import ANCHORS, STRIDE, YOLOv2Tiny


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return YOLOv2Tiny(num_classes=20).eval()


@pytest.mark.parametrize("height, width", [(64, 64), (96, 160)])
def test_output_shapes(network, height, width):
    with torch.no_grad():
        assert network(torch.zeros(2, 3, height, width)).shape == (2, 5, height // STRIDE, width // STRIDE, 25)


def test_the_channels_of_a_head_are_anchor_by_anchor(network):
    raw = []
    hook = network.detect32.register_forward_hook(lambda layer, inputs, output: raw.append(output))
    with torch.no_grad():
        head = network(torch.rand(1, 3, 64, 96))
    hook.remove()
    for anchor, k, row, col in [(0, 0, 0, 0), (1, 3, 1, 2), (4, 24, 0, 1)]:
        assert head[0, anchor, row, col, k] == raw[0][0, anchor * 25 + k, row, col]


def test_sides_not_divisible_by_32_are_refused(network):
    with pytest.raises(ValueError, match="divisible by 32"):
        network(torch.zeros(1, 3, 64, 100))


@pytest.mark.parametrize("classes, channels, parameters, billions", [
    (20, 1024, 15_861_773, 6.971), (80, 512, 11_232_057, 5.406)])
def test_parameters_and_operations_are_the_published_ones(classes, channels, parameters, billions):
    rows = count_operations(YOLOv2Tiny(classes, channels=channels), 416, 416)
    assert sum(row[3] for row in rows) == parameters
    assert round(sum(row[4] for row in rows) / 1e9, 3) == billions


def test_the_layers_in_the_order_of_the_cfg(network):
    # [darknet] yolov2-tiny-voc.cfg: filters and sizes of its 9 convolutions.
    expected = [(16, 3), (32, 3), (64, 3), (128, 3), (256, 3), (512, 3), (1024, 3), (1024, 3), (125, 1)]
    rows = [row for row in count_operations(network, 64, 64) if isinstance(row[1], nn.Conv2d)]
    assert [(row[1].out_channels, row[1].kernel_size[0]) for row in rows] == expected
    assert [row[2][2] for row in rows] == [64, 32, 16, 8, 4, 2, 2, 2, 2]                     # their heights


def test_the_pooling_that_keeps_the_size(network):
    # Each place takes the largest of itself and of its right, lower and lower right neighbours. All values are
    # negative: a border of zeros would win. A border on the left and above would give -1 -1 / -1 -1 for the first map.
    pad, pool = network.backbone.stage32[11:13]
    assert pool(pad(torch.tensor([[[[-1.0, -2], [-3, -4]]]]))).tolist() == [[[[-1, -2], [-3, -4]]]]
    assert pool(pad(torch.tensor([[[[-4.0, -3], [-2, -1]]]]))).tolist() == [[[[-1, -1], [-1, -1]]]]


def test_anchors_and_decoding():
    # Zeros mean the centre of each cell and the shape of the anchor, 1.08 x 1.19 cells of 2 x 2. Box 1 is in row 0,
    # column 1: centre (1.5, 0.5) / 2. Its scores are sigmoid(0) = 1/2 times 1/2 for each of two classes.
    boxes, scores = decode(torch.zeros(1, 5, 2, 2, 7), ANCHORS)
    assert boxes.shape == (1, 20, 4) and (scores == 0.25).all()
    centre, size = (boxes[0, 1, :2] + boxes[0, 1, 2:]) / 2, boxes[0, 1, 2:] - boxes[0, 1, :2]
    assert centre.tolist() == pytest.approx([0.75, 0.25]) and (size * 2).tolist() == pytest.approx([1.08, 1.19])


def test_the_loss_takes_its_anchors():
    # An object of exactly 1.08 x 1.19 cells of 4 x 4 has the first anchor's shape: the targets of t_w, t_h are 0.
    head = torch.zeros(1, 5, 4, 4, 7)
    loss = yolov2_loss(head, torch.tensor([[0, 0, 0.4, 0.6, 1.08 / 4, 1.19 / 4]]), ANCHORS)
    assert loss["wh"].item() == pytest.approx(0, abs=1e-9)


def test_fused_is_the_same():
    torch.manual_seed(1)
    other = YOLOv2Tiny(2)
    for layer in other.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = other.eval()(images)
        assert torch.allclose(before, fuse_batchnorm(other)(images), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in other.modules())
