"""The network's shapes and published sizes; boxes worked by hand; encode, then decode, gives the boxes back."""
from math import log

import pytest
import torch
import torch.nn as nn

from shared.boxes import xyxy_to_cxcywh
from shared.layers import count_operations, fuse_batchnorm
from yolov3.loss import assign
from yolov3.model import ANCHORS, STRIDES, ConvBlock, ResidualBlock, YOLOv3, decode


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return YOLOv3(num_classes=20).eval()


@pytest.mark.parametrize("height, width", [(64, 64), (96, 160)])
def test_output_shapes(network, height, width):
    with torch.no_grad():
        heads = network(torch.zeros(2, 3, height, width))
    assert [tuple(head.shape) for head in heads] == [(2, 3, height // s, width // s, 25) for s in (32, 16, 8)]


def test_the_channels_of_a_head_are_anchor_by_anchor(network):
    # Darknet's order of the 75 channels: t_x t_y t_w t_h t_o and 20 scores of anchor 0, then of anchor 1 ...
    raw = []
    hook = network.detect32.register_forward_hook(lambda layer, inputs, output: raw.append(output))
    with torch.no_grad():
        head = network(torch.rand(1, 3, 64, 96))[0]
    hook.remove()
    for anchor, k, row, col in [(0, 0, 0, 0), (1, 3, 1, 2), (2, 24, 0, 1)]:
        assert head[0, anchor, row, col, k] == raw[0][0, anchor * 25 + k, row, col]


def test_sides_not_divisible_by_32_are_refused(network):
    with pytest.raises(ValueError, match="divisible by 32"):
        network(torch.zeros(1, 3, 64, 100))


@pytest.mark.parametrize("classes, parameters, billions", [(80, 61_949_149, 65.864), (20, 61_626_049, 65.428)])
def test_parameters_and_operations_are_the_published_ones(classes, parameters, billions):
    with torch.device("meta"):                                            # shapes without numbers
        rows = count_operations(YOLOv3(num_classes=classes), 416, 416)
    assert sum(row[3] for row in rows) == parameters
    assert round(sum(row[4] for row in rows) / 1e9, 3) == billions


def test_the_layers_in_the_order_of_the_cfg():
    # [darknet] yolov3.cfg: filters and sizes of its 75 convolutions. Backbone: 32, then each stage's 64 .. 1024 with
    # 1, 2, 8, 8, 4 pairs of (1 x 1 half, 3 x 3 whole). Heads: three pairs, the 1 x 1 that predicts, the branch's 1 x 1.
    expected = [(32, 3)]
    for channels, blocks in [(64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)]:
        expected += [(channels, 3)] + [(channels // 2, 1), (channels, 3)] * blocks
    for channels, branch in [(512, 256), (256, 128), (128, None)]:
        expected += [(channels, 1), (channels * 2, 3)] * 3 + [(255, 1)] + ([(branch, 1)] if branch else [])
    with torch.device("meta"):                                            # shapes without numbers
        network = YOLOv3(num_classes=80)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.out_channels, layer.kernel_size[0]) for layer in convolutions] == expected
    ran = [row[1] for row in count_operations(network, 64, 64) if isinstance(row[1], nn.Conv2d)]
    assert len(ran) == len(convolutions) and set(ran) == set(convolutions)                   # each of them once
    assert [layer.bias is not None for layer in convolutions] == [layer.out_channels == 255 for layer in convolutions]


def test_the_routes_of_the_head(network):
    # The next scale starts from the fifth convolution of a set, and the upsampled half of a concatenation comes first.
    seen = {}
    hooks = [getattr(network, name).register_forward_hook(lambda layer, inputs, output, name=name:
                                                          seen.update({name: (inputs[0], output)}))
             for name in ("neck32", "up16", "neck16", "up8", "neck8", "backbone")]
    with torch.no_grad():
        network(torch.rand(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    stride8, stride16, stride32 = seen["backbone"][1]
    assert seen["neck32"][0].equal(stride32)
    assert seen["up16"][0].equal(seen["neck32"][1]) and seen["up8"][0].equal(seen["neck16"][1])
    assert seen["neck16"][0][:, :256].equal(seen["up16"][1]) and seen["neck16"][0][:, 256:].equal(stride16)
    assert seen["neck8"][0][:, :128].equal(seen["up8"][1]) and seen["neck8"][0][:, 128:].equal(stride8)
    assert len(network.neck32) == 5
    for name in ("up16", "up8"):                                          # each pixel four times: nearest neighbour
        upsampled = seen[name][1]
        assert upsampled[..., ::2, ::2].equal(upsampled[..., 1::2, 1::2])


def test_a_block_worked_by_hand():
    # A 1 x 1 convolution with weight 2 turns the inputs 3 and -3 into 6 and -6. BatchNorm in evaluation, with mean 1,
    # variance 4 - 1e-5, scale 3, shift 0.5: 3 (6 - 1) / 2 + 0.5 = 8 and 3 (-6 - 1) / 2 + 0.5 = -10. Leaky ReLU with a
    # slope of .1: 8 and -1. PyTorch's slope of .01 would give -0.1.
    block = ConvBlock(1, 1, 1).eval()
    block.load_state_dict({"conv.weight": torch.full((1, 1, 1, 1), 2.0), "bn.running_mean": torch.tensor([1.0]),
                           "bn.running_var": torch.tensor([4 - 1e-5]), "bn.weight": torch.tensor([3.0]),
                           "bn.bias": torch.tensor([0.5]), "bn.num_batches_tracked": torch.tensor(0)})
    x = torch.tensor([3.0, -3.0]).view(1, 1, 1, 2)
    assert block(x).flatten().tolist() == pytest.approx([8, -1], abs=1e-5)


def test_batchnorm_and_initialisation_are_darknets(network):
    # The running averages move by .01, and eps is 1e-5. The weights of a convolution of fan-in 1024 start with a
    # standard deviation of sqrt(2 / 1024) = .0442.
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.01, 1e-5)}
    first = network.neck32[0].conv.weight
    assert first.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    assert network.detect32[1].weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    assert network.detect32[1].bias.abs().sum() == 0


def test_a_residual_block_worked_by_hand():
    # Two channels, (3, 1). Each BatchNorm does nothing (mean 0, variance 1 - 1e-5). The 1 x 1 halves the channels:
    # 2 * 3 - 1 * 1 = 5. The middle of the 3 x 3 gives 4 * 5 = 20 and -6 * 5 = -30, leaky: 20 and -3. With the shortcut:
    # 3 + 20 = 23 and 1 - 3 = -2. Without it: 20 and -3. With the activation after the sum: 23 and 1 - 30 = -29 -> -2.9.
    block = ResidualBlock(2).eval()
    for part in (block.reduce, block.expand):
        part.bn.running_var.fill_(1 - 1e-5)
    with torch.no_grad():
        block.reduce.conv.weight.copy_(torch.tensor([2.0, -1]).view(1, 2, 1, 1))
        block.expand.conv.weight.zero_()[:, 0, 1, 1] = torch.tensor([4.0, -6])
        out = block(torch.tensor([3.0, 1]).view(1, 2, 1, 1))
    assert out.flatten().tolist() == pytest.approx([23, -2], abs=1e-5)


def test_fusing_batchnorm_changes_nothing():
    torch.manual_seed(0)
    network = YOLOv3(num_classes=2)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    x = torch.rand(2, 3, 64, 64)
    network(x)                                                            # the running averages become this batch's
    with torch.no_grad():
        before = network.eval()(x)
        after = fuse_batchnorm(network)(x)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    for a, b in zip(before, after):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)          # of outputs around 1


def test_decode_worked_by_hand():
    # Input 64 wide, 96 high, stride 32: 2 columns, 3 rows. Anchor 16 x 48, in row 2, column 1:
    # b_x = (sigmoid(log 3) + 1) / 2 = 1.75 / 2 = 0.875     b_w = 16 exp(log 2) / 64 = 0.5
    # b_y = (sigmoid(-log 3) + 2) / 3 = 2.25 / 3 = 0.75     b_h = 48 exp(0) / 96     = 0.5
    # So left 0.625, top 0.5, right 1.125, bottom 1. The scores are sigmoid(0) sigmoid(log 4) = (1/2) (4/5) = 0.4 and
    # sigmoid(0) sigmoid(-log 4) = (1/2) (1/5) = 0.1.
    head = torch.full((1, 2, 3, 2, 7), -20.0)
    head[0, 1, 2, 1] = torch.tensor([log(3), -log(3), log(2), 0, 0, log(4), -log(4)])
    boxes, scores = decode([head], [[(10, 10), (16, 48)]], [32])
    place = 1 * 6 + 2 * 2 + 1                                             # anchor, row, column
    assert boxes.shape == (1, 12, 4) and scores.shape == (1, 12, 2)
    assert boxes[0, place].tolist() == pytest.approx([0.625, 0.5, 1.125, 1.0])
    assert scores[0, place].tolist() == pytest.approx([0.4, 0.1])
    assert scores.sum().item() == pytest.approx(0.5, abs=1e-6)


def test_boxes_count_head_by_head():
    heads = [torch.zeros(1, 3, 416 // s, 416 // s, 6) for s in STRIDES]
    boxes, _ = decode(heads)
    assert boxes.shape == (1, 10647, 4)
    size = xyxy_to_cxcywh(boxes[0])[:, 2:] * 416
    assert size[[0, 169, 338, 507, 10646]].round().tolist() == [[116, 90], [156, 198], [373, 326], [30, 61], [33, 23]]


def test_encode_then_decode_gives_the_boxes_back():
    # Writes the targets that the loss asks for into the heads and reads them as boxes. 160 wide, 96 high.
    targets = torch.tensor([[0, 1, 0.31, 0.77, 0.5, 0.33], [1, 0, 0.9, 0.05, 0.06, 0.1], [0, 0, 0.5, 0.5, 0.2, 0.4]])
    heads = [torch.full((2, 3, 96 // s, 160 // s, 7), -30.0) for s in STRIDES]
    for head, anchors, stride, (slots, objects, classes, _) in zip(heads, ANCHORS, STRIDES, assign(heads, targets)):
        image, anchor, row, col = slots.T
        cells = torch.tensor([160 / stride, 96 / stride])
        offset = targets[objects, 2:4] * cells - torch.stack([col, row], -1)                 # x*, y*
        stretch = (targets[objects, 4:6] * cells * stride / torch.tensor(anchors)[anchor]).log()     # t*_w, t*_h
        sure = torch.full((len(objects), 1), 30.0)
        head[image, anchor, row, col] = torch.cat([offset.logit(), stretch, sure, classes * 60 - 30], 1)
    boxes, scores = decode(heads)
    found = (scores > 0.5).nonzero()                                      # image, place, label
    rows = torch.cat([found[:, [0, 2]], xyxy_to_cxcywh(boxes[found[:, 0], found[:, 1]])], 1)
    for target in targets:
        assert (rows - target).abs().amax(1).min() < 1e-5
    assert len(rows) == 3


def test_half_precision_does_not_overflow():
    # exp(12) = 162,755 is more than the largest number of half precision, 65,504.
    head = torch.zeros(1, 1, 1, 1, 6)
    head[..., 2:4] = 12
    boxes, _ = decode([head.half()], [[(32, 32)]], [32])
    assert boxes.dtype == torch.float32 and (boxes[0, 0, 2] - boxes[0, 0, 0]).item() == pytest.approx(162_755, rel=1e-4)
