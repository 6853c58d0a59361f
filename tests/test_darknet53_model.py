"""Darknet-53's published sizes, its layers in the order of Table 1, and what comes out of them."""
import pytest
import torch
import torch.nn as nn

from shared.layers import count_operations
from yolov3.darknet53.model import ConvBlock, Darknet53, ResidualBlock
from yolov3.weights import darknet_order, load_darknet_weights, save_darknet_weights


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Darknet53(num_classes=7).eval()


@pytest.mark.parametrize("height, width", [(64, 64), (96, 160)])
def test_output_shapes(network, height, width):
    with torch.no_grad():
        assert network(torch.zeros(2, 3, height, width)).shape == (2, 7)


def test_parameters_and_operations_are_the_published_ones():
    # The paper's 18.7 billion are for a last layer at each of 8 x 8 places instead of once: 63 times 2 * 1024 * 1000
    # more. On the device "meta" nothing is computed but shapes.
    for size, billions in [(224, 14.218), (256, 18.57), (448, 56.867)]:
        with torch.device("meta"):
            rows = count_operations(Darknet53(), size, size)
        assert sum(row[3] for row in rows) == 41_609_928
        assert round(sum(row[4] for row in rows) / 1e9, 3) == billions
    assert round(18.570 + 63 * 2 * 1024 * 1000 / 1e9, 1) == 18.7


def test_the_layers_in_the_order_of_table_1():
    # For each convolution its filters, size and stride, and the side of its output, if the input is 256 x 256.
    expected = [(32, 3, 1, 256)]
    for blocks, filters, side in [(1, 64, 128), (2, 128, 64), (8, 256, 32), (8, 512, 16), (4, 1024, 8)]:
        expected += [(filters, 3, 2, side)] + [(filters // 2, 1, 1, side), (filters, 3, 1, side)] * blocks
    with torch.device("meta"):
        rows = count_operations(Darknet53(7), 256, 256)
    found = [(layer.out_channels, layer.kernel_size[0], layer.stride[0], shape[2])
             for _, layer, shape, *_ in rows if isinstance(layer, nn.Conv2d)]
    assert found == expected + [(7, 1, 1, 1)] and len(found) == 53


def test_every_convolution_but_the_last_has_batchnorm_and_no_bias(network):
    blocks = [layer for layer in network.modules() if isinstance(layer, ConvBlock)]
    assert len(blocks) == 52 and all(block.conv.bias is None for block in blocks)
    assert network.classify.bias is not None
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == 52


def test_the_logits_are_those_of_the_average_over_the_image():
    # The last layer's weight from channel 5 to class 3 is 1, all others are 0. So the logit of class 3 is its bias plus
    # the mean of channel 5 over 2 x 3 places, and the other logits are their biases. No activation follows, so -9 stays
    # -9.
    network = Darknet53(num_classes=4).eval()
    maps = []
    network.stage5.register_forward_hook(lambda layer, inputs, output: maps.append(output))
    nn.init.zeros_(network.classify.weight)
    network.classify.weight.data[3, 5] = 1
    network.classify.bias.data[:] = torch.tensor([-9, 0, 1, 2.0])
    with torch.no_grad():
        logits = network(torch.rand(2, 3, 64, 96))
    assert maps[0].shape == (2, 1024, 2, 3) and maps[0][:, 5].std() > 0
    for image in range(2):
        mean = sum(maps[0][image, 5].flatten().tolist()) / 6
        assert logits[image].tolist() == pytest.approx([-9, 0, 1, 2 + mean], rel=1e-5)


def test_a_residual_block_worked_by_hand():
    # One pixel with two channels, 1 and -3. A new BatchNorm in evaluation mode passes its input on. The 1 x 1
    # convolution gives (2)(1) + (-1)(-3) = 5. The 3 x 3 multiplies 5 by its middle weights -2 and 4: -10 and 20, after
    # the leaky ReLU -1 and 20. With the shortcut: 1 - 1 = 0 and -3 + 20 = 17.
    block = ResidualBlock(2).eval()
    block.reduce.conv.weight.data[:] = torch.tensor([2.0, -1]).view(1, 2, 1, 1)
    block.expand.conv.weight.data[:] = 0
    block.expand.conv.weight.data[:, 0, 1, 1] = torch.tensor([-2.0, 4])
    with torch.no_grad():
        assert block(torch.tensor([1.0, -3]).view(1, 2, 1, 1)).flatten().tolist() == pytest.approx([0, 17], abs=1e-3)
        # .5 and -3: (2)(.5) + (-1)(-3) = 4; then -8 and 16, after the leaky ReLU -.8 and 16; with the shortcut -.3 and
        # 13. A leaky ReLU after the shortcut would make -.03 of -.3.
        assert block(torch.tensor([0.5, -3]).view(1, 2, 1, 1)).flatten().tolist() == pytest.approx([-0.3, 13], abs=1e-3)


def test_batchnorm_and_initialisation_are_darknets(network):
    normalizations = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.momentum, layer.eps) for layer in normalizations} == {(0.01, 1e-5)}
    assert network.stage5[4].expand.conv.weight.std().item() == pytest.approx((2 / 4608) ** 0.5, rel=0.02)
    assert network.classify.weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.05)
    assert network.classify.bias.abs().sum() == 0


def test_the_names_of_the_stages_are_the_detectors(network):
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if key.endswith("weight")}
    assert [name for name, _ in network.named_children()] == ["stem", *(f"stage{n}" for n in range(1, 6)), "classify"]
    for key, shape in [("stem.conv.weight", (32, 3, 3, 3)), ("stage1.0.conv.weight", (64, 32, 3, 3)),
                       ("stage1.1.reduce.conv.weight", (32, 64, 1, 1)), ("stage4.8.expand.bn.weight", (512,)),
                       ("stage5.4.expand.conv.weight", (1024, 512, 3, 3))]:
        assert shapes[key] == shape


def test_the_authors_file(tmp_path):
    # darknet53.weights has 166,582,560 bytes after its header. A file that is read and written again is unchanged. The
    # convolutions are in the order in which they run.
    with torch.device("meta"):
        assert 4 * sum(tensor.numel() for tensor in darknet_order(Darknet53())) == 166_582_560
    network, again = Darknet53(num_classes=2), Darknet53(num_classes=2)
    save_darknet_weights(network, tmp_path / "a.weights", seen=3)
    assert load_darknet_weights(again, tmp_path / "a.weights") == 3
    assert all(a.equal(b) for a, b in zip(again.state_dict().values(), network.state_dict().values()))
    save_darknet_weights(again, tmp_path / "b.weights", seen=3)
    assert (tmp_path / "a.weights").read_bytes() == (tmp_path / "b.weights").read_bytes()
    ran = [row[1].weight for row in count_operations(network, 64, 64) if isinstance(row[1], nn.Conv2d)]
    assert all(a is b for a, b in zip(ran, (t for t in darknet_order(network) if t.ndim == 4), strict=True))
