"""The network's shapes and published sizes; Darknet's order of the outputs; boxes by hand; encode, then decode."""
import struct
from math import sqrt

import pytest
import torch
import torch.nn as nn

from shared.boxes import xyxy_to_cxcywh
from shared.layers import count_operations
from yolov1.loss import assign
from yolov1.model import ConvBlock, YOLOv1, darknet_order, decode, load_darknet_weights, save_darknet_weights


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return YOLOv1(num_classes=4, grid=2, boxes=3).eval()


@pytest.mark.parametrize("height, width, grid", [(64, 64, 1), (128, 128, 2)])
def test_output_shapes(network, height, width, grid):
    sized = network if grid == 2 else YOLOv1(num_classes=4, grid=grid, boxes=3).eval()
    with torch.no_grad():
        output = sized(torch.zeros(2, 3, height, width))
    assert tuple(output.shape) == (2, grid, grid, 4 + 5 * 3)


def test_the_numbers_of_the_last_layer_are_in_darknets_order(network):
    # [darknet] detection_layer.c: the class scores of all cells, cell by cell, then their confidences, then their
    # boxes. 2 x 2 cells, 4 classes, 3 boxes: 16 scores, 12 confidences, 48 coordinates. Row 1, column 0 is cell 2.
    raw = []
    hook = network.detect.register_forward_hook(lambda layer, inputs, output: raw.append(output))
    with torch.no_grad():
        output = network(torch.rand(1, 3, 128, 128))
    hook.remove()
    assert raw[0].shape == (1, 76)
    assert output[0, 1, 0, 3] == raw[0][0, 2 * 4 + 3]                     # class 3
    assert output[0, 1, 0, 4 + 1] == raw[0][0, 16 + 2 * 3 + 1]            # confidence of box 1
    assert output[0, 1, 0, 7 + 1 * 4 + 2] == raw[0][0, 28 + (2 * 3 + 1) * 4 + 2]          # r_w of box 1
    assert output[0, 0, 1, 0] == raw[0][0, 1 * 4]


def test_features_are_flattened_channel_by_channel(network):
    # Darknet's order: all places of channel 0, then of channel 1 ... also where memory has another order.
    features = torch.arange(16.0).view(1, 4, 2, 2).to(memory_format=torch.channels_last)
    assert network.detect[4](features)[0].tolist() == list(range(16))


@pytest.mark.parametrize("height, width", [(64, 64), (128, 64), (448, 448)])
def test_other_sizes_are_refused(network, height, width):
    with pytest.raises(ValueError, match="2 x 2 cells takes images of 128 x 128"):
        network(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize("batch_norm, parameters", [(False, 271_703_550), (True, 271_716_734)])
def test_parameters_and_operations_are_the_published_ones(batch_norm, parameters):
    # BatchNorm has two numbers for each of the 13,184 channels instead of one bias.
    rows = count_operations(YOLOv1(batch_norm=batch_norm), 448, 448)
    assert sum(row[3] for row in rows) == parameters
    assert round(sum(row[4] for row in rows) / 1e9, 2) == 40.57


def test_the_layers_in_the_order_of_the_cfg():
    # Figure 3: filters, sizes and strides of the 24 convolutions, and what halves between them.
    expected = [(64, 7, 2), "pool", (192, 3, 1), "pool", (128, 1, 1), (256, 3, 1), (256, 1, 1), (512, 3, 1), "pool"]
    expected += [(256, 1, 1), (512, 3, 1)] * 4 + [(512, 1, 1), (1024, 3, 1), "pool"]
    expected += [(512, 1, 1), (1024, 3, 1)] * 2
    expected += [(1024, 3, 1), (1024, 3, 2), (1024, 3, 1), (1024, 3, 1)]
    network = YOLOv1(grid=1)
    layers = [row[1] for row in count_operations(network, 64, 64)]
    assert ["pool" if isinstance(layer, nn.MaxPool2d) else (layer.out_channels, layer.kernel_size[0], layer.stride[0])
            for layer in layers if isinstance(layer, (nn.Conv2d, nn.MaxPool2d))] == expected
    connected, leaky, dropout, last = layers[-4:]
    assert (connected.in_features, connected.out_features) == (1024, 4096)
    assert (last.in_features, last.out_features) == (4096, 30)
    assert leaky.negative_slope == 0.1 and dropout.p == 0.5
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    assert all(layer.bias is not None for layer in layers if isinstance(layer, (nn.Conv2d, nn.Linear)))


def test_the_backbone_is_the_first_20_convolutions(network):
    # At a stride of 32; the keys are the classifier's: a BatchNorm more or less is no other name.
    convolutions = [layer for layer in network.backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 20
    with torch.no_grad():
        assert network.backbone(torch.zeros(1, 3, 128, 128)).shape == (1, 1024, 4, 4)
    keys = list(network.backbone.state_dict())
    assert keys[:2] == ["stage1.0.conv.weight", "stage1.0.conv.bias"] and len(keys) == 40
    keys = list(YOLOv1(grid=1, batch_norm=True).backbone.state_dict())
    assert keys[:3] == ["stage1.0.conv.weight", "stage1.0.bn.weight", "stage1.0.bn.bias"] and len(keys) == 120


def test_a_block_worked_by_hand():
    # 1 x 1 convolution with weight 2 and bias 1 on the inputs 3 and -3: 7 and -5. Leaky: 7 and -0.5 (PyTorch's .01:
    # -0.05).
    block = ConvBlock(1, 1, 1, batch_norm=False)
    block.load_state_dict({"conv.weight": torch.full((1, 1, 1, 1), 2.0), "conv.bias": torch.tensor([1.0])})
    x = torch.tensor([3.0, -3.0]).view(1, 1, 1, 2)
    assert block(x).flatten().tolist() == pytest.approx([7, -0.5])
    # BatchNorm in place of the bias, in evaluation, mean 1, variance 4 - 1e-5, scale 3, shift 0.5: 3 (6 - 1) / 2 + 0.5
    # = 8 and 3 (-6 - 1) / 2 + 0.5 = -10. Leaky: 8 and -1.
    block = ConvBlock(1, 1, 1, batch_norm=True).eval()
    block.load_state_dict({"conv.weight": torch.full((1, 1, 1, 1), 2.0), "bn.running_mean": torch.tensor([1.0]),
                           "bn.running_var": torch.tensor([4 - 1e-5]), "bn.weight": torch.tensor([3.0]),
                           "bn.bias": torch.tensor([0.5]), "bn.num_batches_tracked": torch.tensor(0)})
    assert block(x).flatten().tolist() == pytest.approx([8, -1], abs=1e-5)
    assert (block.bn.momentum, block.bn.eps) == (0.01, 1e-5)


def test_initialisation_is_darknets():
    # A convolution of fan-in 9216 starts with a deviation of sqrt(2 / 9216) = .0147; a fully connected layer uniformly
    # within sqrt(2 / inputs), 4096: .0221, which is a deviation of .0221 / sqrt(3) = .0128. Biases with 0.
    network = YOLOv1(grid=1)
    assert network.detect[0].conv.weight.std().item() == pytest.approx((2 / 9216) ** 0.5, rel=0.02)
    for layer, inputs in [(network.detect[5], 1024), (network.detect[8], 4096)]:
        limit = (2 / inputs) ** 0.5
        assert 0.999 * limit < layer.weight.abs().max().item() <= limit
        assert layer.weight.std().item() == pytest.approx(limit / sqrt(3), rel=0.02)
    assert all(p.abs().sum() == 0 for name, p in network.named_parameters() if name.endswith("bias"))


def test_decode_worked_by_hand():
    # 3 x 3 cells, two boxes, two classes. Row 2, column 1, box 1: x .5, y .25, r_w .5, r_h -.4:
    # b_x = (0.5 + 1) / 3 = 0.5       b_w = 0.25
    # b_y = (0.25 + 2) / 3 = 0.75     b_h = 0.16, as of +.4
    # left 0.375, top 0.67, right 0.625, bottom 0.83. Confidence .8; classes .75 and .5: scores .6 and .4. Its sister,
    # box 0, has a confidence of .1 and the same classes: .075 and .05.
    output = torch.zeros(1, 3, 3, 12)
    output[0, 2, 1] = torch.tensor([0.75, 0.5, 0.1, 0.8, 0, 0, 0, 0, 0.5, 0.25, 0.5, -0.4])
    boxes, scores = decode(output)
    place = (2 * 3 + 1) * 2 + 1                                           # row, column, box
    assert boxes.shape == (1, 18, 4) and scores.shape == (1, 18, 2)
    assert boxes[0, place].tolist() == pytest.approx([0.375, 0.67, 0.625, 0.83])
    assert scores[0, place].tolist() == pytest.approx([0.6, 0.4])
    assert scores[0, place - 1].tolist() == pytest.approx([0.075, 0.05])
    assert scores.sum().item() == pytest.approx(1.125)


@pytest.mark.parametrize("cells, boxes, count", [(7, 2, 98), (7, 3, 147), (4, 1, 16)])
def test_boxes_count_cell_by_cell(cells, boxes, count):
    # Roots that say which box it is: .1 for box 0, .2 for box 1 ...; offsets 0: the cells' upper left corners.
    output = torch.zeros(1, cells, cells, 20 + 5 * boxes)
    output[..., 20 + boxes:].unflatten(3, (boxes, 4))[..., 2:] = torch.arange(1, boxes + 1)[:, None] / 10
    found = xyxy_to_cxcywh(decode(output, boxes)[0])[0]
    assert found.shape == (count, 4)
    for i in (0, 1, boxes, count // 2, count - 1):
        cell, box = divmod(i, boxes)
        expected = [cell % cells / cells, cell // cells / cells] + [((box + 1) / 10) ** 2] * 2
        assert found[i].tolist() == pytest.approx(expected, abs=1e-6)


def test_encode_then_decode_gives_the_boxes_back():
    # Writes the targets that the loss asks for into the output and reads them as boxes.
    targets = torch.tensor([[0, 1, 0.31, 0.77, 0.5, 0.33], [1, 0, 0.9, 0.05, 0.06, 0.1], [0, 0, 0.5, 0.5, 0.2, 0.4]])
    output = torch.zeros(2, 5, 5, 12)
    (*cell, box), owner, _, _ = assign(output, targets)
    output[*cell] = torch.cat([torch.eye(2)[targets[owner, 1].long()], torch.zeros(3, 10)], 1)
    output[..., 2:4][*cell, box] = 1
    offset = targets[owner, 2:4] * 5 - torch.stack([cell[2], cell[1]], -1)
    output[..., 4:].unflatten(3, (2, 4))[*cell, box] = torch.cat([offset, targets[owner, 4:6].sqrt()], 1)
    boxes, scores = decode(output)
    found = (scores > 0.5).nonzero()                                      # image, place, label
    rows = torch.cat([found[:, [0, 2]], xyxy_to_cxcywh(boxes[found[:, 0], found[:, 1]])], 1)
    for target in targets:
        assert (rows - target).abs().amax(1).min() < 1e-5
    assert len(rows) == 3


def test_the_authors_file(tmp_path):
    # The numbers after the header are the network's 271,703,550 parameters. Of a smaller one (1 x 1 cells) the 24
    # convolutions and 2 matrices come as they run; what is read from a file and written again is the same.
    with torch.device("meta"):
        assert sum(tensor.numel() for tensor in darknet_order(YOLOv1(20))) == 271_703_550
    network, again = YOLOv1(2, grid=1), YOLOv1(2, grid=1)
    save_darknet_weights(network, tmp_path / "a.weights", seen=3)
    assert load_darknet_weights(again, tmp_path / "a.weights") == 3
    assert all(a.equal(b) for a, b in zip(again.parameters(), network.parameters()))
    save_darknet_weights(again, tmp_path / "b.weights", seen=3)
    assert (tmp_path / "a.weights").read_bytes() == (tmp_path / "b.weights").read_bytes()
    ran = [row[1].weight for row in count_operations(network, 64, 64) if isinstance(row[1], (nn.Conv2d, nn.Linear))]
    assert all(a is b for a, b in zip(ran, (t for t in darknet_order(network) if t.ndim > 1), strict=True))


def test_batchnorm_of_a_backbones_file_is_folded(tmp_path):
    # One channel into two. In the file: beta 1, 2; gamma 3, 4; mean 5, 6; variance 4, 9 (less 1e-5); weights 7, 8; then
    # a convolution without BatchNorm: 9, 10. 3 (7 x - 5) / 2 + 1 = 10.5 x - 6.5; 4 (8 x - 6) / 3 + 2 = 32/3 x - 6.
    numbers = [1, 2, 3, 4, 5, 6, 4 - 1e-5, 9 - 1e-5, 7, 8, 9, 10, 11]
    (tmp_path / "a.weights").write_bytes(struct.pack("<iiii13f", 0, 1, 0, 77, *numbers))
    model = nn.Sequential(ConvBlock(1, 2, 1, batch_norm=False), nn.Conv2d(2, 1, 1))
    assert load_darknet_weights(model, tmp_path / "a.weights") == 77
    assert model[0].conv.bias.tolist() == pytest.approx([-6.5, -6])
    assert model[0].conv.weight.flatten().tolist() == pytest.approx([10.5, 32 / 3])
    assert model[1].bias.tolist() == [9] and model[1].weight.flatten().tolist() == [10, 11]
