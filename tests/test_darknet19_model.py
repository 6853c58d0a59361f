"""Darknet-19's published sizes, its layers in the order of Table 6, and what comes out of them."""
import pytest
import torch
import torch.nn as nn

from shared.layers import count_operations
from yolov2.darknet19.model import ConvBlock, Darknet19
from yolov2.weights import darknet_order, load_darknet_weights, save_darknet_weights


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Darknet19(num_classes=7).eval()


@pytest.mark.parametrize("height, width", [(64, 64), (96, 160)])
def test_output_shapes(network, height, width):
    with torch.no_grad():
        assert network(torch.zeros(2, 3, height, width)).shape == (2, 7)


@pytest.mark.parametrize("size, billions", [(224, 5.582), (256, 7.291), (448, 22.328)])
def test_parameters_and_operations_are_the_published_ones(size, billions):
    # The papers have 5.58 and 7.29 billion, the authors' page 22.33. On the device "meta" nothing is computed but
    # shapes.
    with torch.device("meta"):
        rows = count_operations(Darknet19(), size, size)
    assert sum(row[3] for row in rows) == 20_842_376
    assert round(sum(row[4] for row in rows) / 1e9, 3) == billions


def test_the_layers_in_the_order_of_table_6():
    # For each convolution its filters and size, for each pooling "max" and its size; then the side of its output, if
    # the input is 224 x 224.
    expected = [(32, 3, 224), ("max", 2, 112), (64, 3, 112), ("max", 2, 56), (128, 3, 56), (64, 1, 56), (128, 3, 56),
                ("max", 2, 28), (256, 3, 28), (128, 1, 28), (256, 3, 28),
                ("max", 2, 14), (512, 3, 14), (256, 1, 14), (512, 3, 14), (256, 1, 14), (512, 3, 14),
                ("max", 2, 7), (1024, 3, 7), (512, 1, 7), (1024, 3, 7), (512, 1, 7), (1024, 3, 7), (7, 1, 7)]
    with torch.device("meta"):
        rows = [(layer, shape) for _, layer, shape, *_ in count_operations(Darknet19(7), 224, 224)]
    found = [(layer.out_channels, layer.kernel_size[0], shape[2]) if isinstance(layer, nn.Conv2d) else
             ("max", layer.kernel_size, shape[2]) for layer, shape in rows if not isinstance(layer, nn.BatchNorm2d)]
    assert found == expected


def test_every_convolution_but_the_last_has_batchnorm_and_no_bias(network):
    blocks = [layer for layer in network.modules() if isinstance(layer, ConvBlock)]
    assert len(blocks) == 18 and all(block.conv.bias is None for block in blocks)
    assert network.classify.bias is not None
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == 18


def test_the_logits_are_the_average_over_the_image(network):
    maps = []
    hook = network.classify.register_forward_hook(lambda layer, inputs, output: maps.append(output))
    with torch.no_grad():
        logits = network(torch.rand(2, 3, 64, 96))
    hook.remove()
    assert maps[0].shape == (2, 7, 2, 3) and maps[0].std() > 0
    for image, label in [(0, 0), (1, 6)]:
        assert logits[image, label].item() == pytest.approx(sum(maps[0][image, label].flatten().tolist()) / 6, abs=1e-5)


def test_a_block_worked_by_hand():
    # The weight 2 turns the inputs 3 and -3 into 6 and -6. BatchNorm has running mean 1, running variance 4 - 1e-5 (4
    # with eps, so the deviation is 2), scale 3 and shift .5: 3 (6 - 1) / 2 + .5 = 8 and 3 (-6 - 1) / 2 + .5 = -10. The
    # leaky ReLU leaves 8 and makes -1 of -10; with PyTorch's default slope .01 it would be -.1.
    block = ConvBlock(1, 1, 1).eval()
    block.load_state_dict({"conv.weight": torch.full((1, 1, 1, 1), 2.0), "bn.running_mean": torch.tensor([1.0]),
                           "bn.running_var": torch.tensor([4 - 1e-5]), "bn.weight": torch.tensor([3.0]),
                           "bn.bias": torch.tensor([0.5]), "bn.num_batches_tracked": torch.tensor(0)})
    x = torch.tensor([3.0, -3.0]).view(1, 1, 1, 2)
    assert block(x).flatten().tolist() == pytest.approx([8, -1], abs=1e-5)


def test_batchnorm_and_initialisation_are_darknets():
    # A 3 x 3 convolution of 512 channels has a fan-in of 9 * 512 = 4608, so a deviation of sqrt(2 / 4608); the last
    # layer's fan-in is 1024.
    network = Darknet19()
    normalizations = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.momentum, layer.eps) for layer in normalizations} == {(0.01, 1e-5)}
    assert network.stage6[1].conv.weight.std().item() == pytest.approx((2 / 4608) ** 0.5, rel=0.02)
    assert network.classify.weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    assert network.classify.bias.abs().sum() == 0


def test_the_names_of_the_stages_are_the_detectors(network):
    # Backbone in yolov2/model.py has stage1 to stage6, too. Each but the first begins with its pooling.
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if key.endswith("weight")}
    assert [name for name, _ in network.named_children()] == [f"stage{n}" for n in range(1, 7)] + ["classify"]
    for key, shape in [("stage1.0.conv.weight", (32, 3, 3, 3)), ("stage2.1.conv.weight", (64, 32, 3, 3)),
                       ("stage3.2.conv.weight", (64, 128, 1, 1)), ("stage5.5.conv.weight", (512, 256, 3, 3)),
                       ("stage6.4.bn.weight", (512,)), ("stage6.5.conv.weight", (1024, 512, 3, 3))]:
        assert shapes[key] == shape


def test_the_authors_file(tmp_path):
    # darknet19.weights has 83,427,104 bytes after its header. A file that is read and written again is unchanged. The
    # convolutions are in the order in which they run.
    with torch.device("meta"):
        assert 4 * sum(tensor.numel() for tensor in darknet_order(Darknet19())) == 83_427_104
    network, again = Darknet19(num_classes=2), Darknet19(num_classes=2)
    save_darknet_weights(network, tmp_path / "a.weights", seen=3)
    assert load_darknet_weights(again, tmp_path / "a.weights") == 3
    assert all(a.equal(b) for a, b in zip(again.state_dict().values(), network.state_dict().values()))
    save_darknet_weights(again, tmp_path / "b.weights", seen=3)
    assert (tmp_path / "a.weights").read_bytes() == (tmp_path / "b.weights").read_bytes()
    ran = [row[1].weight for row in count_operations(network, 64, 64) if isinstance(row[1], nn.Conv2d)]
    assert all(a is b for a, b in zip(ran, (t for t in darknet_order(network) if t.ndim == 4), strict=True))
