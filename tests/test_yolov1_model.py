"""The network's shapes and published sizes; Darknet's order of the outputs; boxes by hand; encode, then decode."""
from math import sqrt

import pytest
import torch
import torch.nn as nn

from shared.boxes import xyxy_to_cxcywh
from yolov1.loss import assign
from yolov1.model import ConvBlock, YOLOv1, decode


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return YOLOv1(num_classes=4, grid=1, num_boxes=3).eval()


def on_meta(**arguments):
    """A network whose tensors have shapes but no numbers: it costs neither time nor memory."""
    with torch.device("meta"):
        return YOLOv1(**arguments).eval()


@pytest.mark.parametrize("grid", [1, 2, 7])
def test_output_shapes(grid):
    output = on_meta(num_classes=4, grid=grid, num_boxes=3)(torch.zeros(2, 3, 64 * grid, 64 * grid, device="meta"))
    assert tuple(output.shape) == (2, grid, grid, 4 + 5 * 3)


def test_the_numbers_of_the_last_layer_are_in_darknets_order():
    # [darknet] detection_layer.c: the class scores of all cells, cell by cell, then their confidences, then their
    # boxes. Two images, 2 x 2 cells, 4 classes, 3 boxes: 16 scores, 12 confidences, 48 coordinates. Row 1, column 0 is
    # cell 2. The layers before are left out: what stands in the place of the last layer gives 0 1 2 ... 151.
    network = YOLOv1.__new__(YOLOv1)
    nn.Module.__init__(network)
    network.num_classes, network.grid, network.num_boxes = 4, 2, 3
    network.backbone = nn.Identity()
    raw = torch.arange(152.0).view(2, 76)
    network.detect = lambda x: raw
    output = network(torch.zeros(2, 3, 128, 128))
    assert output.shape == (2, 2, 2, 19)
    for image in (0, 1):
        assert output[image, 1, 0, 3] == raw[image, 2 * 4 + 3]                               # class 3
        assert output[image, 1, 0, 4 + 1] == raw[image, 16 + 2 * 3 + 1]                      # confidence of box 1
        assert output[image, 1, 0, 7 + 1 * 4 + 2] == raw[image, 28 + (2 * 3 + 1) * 4 + 2]    # r_w of box 1
        assert output[image, 0, 1, 0] == raw[image, 1 * 4]


def test_features_are_flattened_channel_by_channel(network):
    # Darknet's order: all places of channel 0, then of channel 1 ... also where memory has another order.
    features = torch.arange(16.0).view(1, 4, 2, 2).to(memory_format=torch.channels_last)
    assert network.detect[4](features)[0].tolist() == list(range(16))


@pytest.mark.parametrize("height, width", [(128, 128), (64, 128), (448, 448)])
def test_other_sizes_are_refused(network, height, width):
    with pytest.raises(ValueError, match="1 x 1 cells takes images of 64 x 64"):
        network(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize("batch_norm, parameters", [(False, 271_703_550), (True, 271_716_734)])
def test_parameters_are_the_published_ones(batch_norm, parameters):
    # BatchNorm has two numbers for each of the 13,184 channels instead of one bias.
    assert 271_716_734 - 271_703_550 == 13_184
    assert sum(p.numel() for p in on_meta(batch_norm=batch_norm).parameters()) == parameters


def test_operations_are_the_published_ones():
    # Two for each use of a weight. A convolution uses each weight once for each place of its output.
    network, operations = on_meta(), []

    def count(layer, inputs, output):
        places = output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
        operations.append(2 * layer.weight.numel() * places)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    network(torch.zeros(1, 3, 448, 448, device="meta"))
    assert round(sum(operations) / 1e9, 2) == 40.57


def test_the_layers_in_the_order_of_the_cfg():
    # Figure 3: filters, sizes and strides of the 24 convolutions, and what halves between them.
    expected = [(64, 7, 2), "pool", (192, 3, 1), "pool", (128, 1, 1), (256, 3, 1), (256, 1, 1), (512, 3, 1), "pool"]
    expected += [(256, 1, 1), (512, 3, 1)] * 4 + [(512, 1, 1), (1024, 3, 1), "pool"]
    expected += [(512, 1, 1), (1024, 3, 1)] * 2
    expected += [(1024, 3, 1), (1024, 3, 2), (1024, 3, 1), (1024, 3, 1)]
    network, layers = on_meta(grid=1), []
    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda layer, inputs, output: layers.append(layer))  # as they run
    network(torch.zeros(1, 3, 64, 64, device="meta"))
    assert ["pool" if isinstance(layer, nn.MaxPool2d) else (layer.out_channels, layer.kernel_size[0], layer.stride[0])
            for layer in layers if isinstance(layer, (nn.Conv2d, nn.MaxPool2d))] == expected
    connected, leaky, dropout, last = layers[-4:]
    assert (connected.in_features, connected.out_features) == (1024, 4096)
    assert (last.in_features, last.out_features) == (4096, 30)
    assert leaky.negative_slope == 0.1 and dropout.p == 0.5
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    assert all(layer.bias is not None for layer in layers if isinstance(layer, (nn.Conv2d, nn.Linear)))


def test_the_backbone_is_the_first_20_convolutions(network):
    # At a stride of 32. Its keys are the classifier's. With BatchNorm or without it, the convolutions have the same.
    convolutions = [layer for layer in network.backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 20
    with torch.no_grad():
        assert network.backbone(torch.zeros(1, 3, 64, 64)).shape == (1, 1024, 2, 2)
    keys = list(network.backbone.state_dict())
    assert keys[:2] == ["stage1.0.conv.weight", "stage1.0.conv.bias"] and len(keys) == 40
    keys = list(on_meta(grid=1, batch_norm=True).backbone.state_dict())
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


def test_initialisation_is_darknets(network):
    # A convolution of fan-in 9216 starts with a deviation of sqrt(2 / 9216) = 0.0147; a fully connected layer uniformly
    # within sqrt(2 / inputs), 0.0221 for 4096, which is a deviation of 0.0221 / sqrt(3) = 0.0128. Biases are 0.
    assert [sqrt(2 / 9216), sqrt(2 / 4096), sqrt(2 / 4096 / 3)] == pytest.approx([0.0147, 0.0221, 0.0128], abs=5e-5)
    assert network.detect[0].conv.weight.std().item() == pytest.approx(sqrt(2 / 9216), rel=0.02)
    for layer, inputs in [(network.detect[5], 1024), (network.detect[8], 4096)]:
        limit = sqrt(2 / inputs)
        assert 0.999 * limit < layer.weight.abs().max().item() <= limit
        assert layer.weight.std().item() == pytest.approx(limit / sqrt(3), rel=0.02)
    assert all(p.abs().sum() == 0 for name, p in network.named_parameters() if name.endswith("bias"))


def test_decode_worked_by_hand():
    # 3 x 3 cells, two boxes, two classes. Row 2, column 1, box 1: x 0.5, y 0.25, r_w 0.5, r_h -0.4:
    # b_x = (0.5 + 1) / 3 = 0.5       b_w = 0.25
    # b_y = (0.25 + 2) / 3 = 0.75     b_h = 0.16, as of +0.4
    # left 0.375, top 0.67, right 0.625, bottom 0.83. Confidence 0.8; classes 0.75 and 0.5: scores 0.6 and 0.4. The
    # other box of the cell has a confidence of 0.1 and the same classes: 0.075 and 0.05.
    output = torch.zeros(1, 3, 3, 12)
    output[0, 2, 1] = torch.tensor([0.75, 0.5, 0.1, 0.8, 0, 0, 0, 0, 0.5, 0.25, 0.5, -0.4])
    boxes, scores = decode(output)
    place = (2 * 3 + 1) * 2 + 1                                           # row, column, box
    assert boxes.shape == (1, 18, 4) and scores.shape == (1, 18, 2)
    assert boxes[0, place].tolist() == pytest.approx([0.375, 0.67, 0.625, 0.83])
    assert scores[0, place].tolist() == pytest.approx([0.6, 0.4])
    assert scores[0, place - 1].tolist() == pytest.approx([0.075, 0.05])
    assert scores.sum().item() == pytest.approx(0.6 + 0.4 + 0.075 + 0.05)


@pytest.mark.parametrize("cells, num_boxes, count", [(7, 2, 98), (7, 3, 147), (4, 1, 16)])
def test_boxes_count_cell_by_cell(cells, num_boxes, count):
    # The roots say which box it is: 0.1 for box 0, 0.2 for box 1 ...; offsets 0: the cells' upper left corners.
    output = torch.zeros(1, cells, cells, 20 + 5 * num_boxes)
    output[..., 20 + num_boxes:].unflatten(3, (num_boxes, 4))[..., 2:] = torch.arange(1, num_boxes + 1)[:, None] / 10
    found = xyxy_to_cxcywh(decode(output, num_boxes)[0])[0]
    assert found.shape == (count, 4)
    for i in (0, 1, num_boxes, count // 2, count - 1):
        cell, box = divmod(i, num_boxes)
        expected = [cell % cells / cells, cell // cells / cells] + [((box + 1) / 10) ** 2] * 2
        assert found[i].tolist() == pytest.approx(expected, abs=1e-6)


def test_encode_then_decode_gives_the_boxes_back():
    # Writes the targets that the loss asks for into the output and reads them as boxes.
    targets = torch.tensor([[0, 1, 0.31, 0.77, 0.5, 0.33], [1, 0, 0.9, 0.05, 0.06, 0.1], [0, 0, 0.5, 0.5, 0.2, 0.4]])
    output = torch.zeros(2, 5, 5, 12)
    slots, objects, _, _ = assign(output, targets)
    for (image, row, col, box), n in zip(slots.tolist(), objects.tolist()):
        _, label, x, y, w, h = targets[n].tolist()
        output[image, row, col, int(label)] = 1
        output[image, row, col, 2 + box] = 1
        output[image, row, col, 4 + 4 * box:][:4] = torch.tensor([x * 5 - col, y * 5 - row, sqrt(w), sqrt(h)])
    boxes, scores = decode(output)
    found = (scores > 0.5).nonzero()                                      # image, place, label
    rows = torch.cat([found[:, [0, 2]], xyxy_to_cxcywh(boxes[found[:, 0], found[:, 1]])], 1)
    for target in targets:
        assert (rows - target).abs().amax(1).min() < 1e-5
    assert len(rows) == 3
