"""Extraction's sizes with and without BatchNorm, its layers in the order of Figure 3, and what comes out of them."""
import pytest
import torch
import torch.nn as nn

from shared.errors import InputError
from shared.layers import count_operations
from yolov1.extraction.model import ConvBlock, Extraction
from yolov1.weights import darknet_order, load_darknet_weights, save_darknet_weights


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Extraction(num_classes=7).eval()


@pytest.mark.parametrize("height, width", [(64, 64), (96, 160)])
def test_output_shapes(network, height, width):
    with torch.no_grad():
        assert network(torch.zeros(2, 3, height, width)).shape == (2, 7)


@pytest.mark.parametrize("batch_norm, parameters", [(False, 23_428_136), (True, 23_437_224)])
def test_parameters_and_operations_are_the_published_ones(batch_norm, parameters):
    # YOLOv2's paper has 8.52 billion. On the device "meta" nothing is computed but shapes.
    for size, billions in [(224, 8.519), (448, 34.075)]:
        with torch.device("meta"):
            rows = count_operations(Extraction(batch_norm=batch_norm), size, size)
        assert sum(row[3] for row in rows) == parameters
        assert round(sum(row[4] for row in rows) / 1e9, 3) == billions


def test_the_layers_in_the_order_of_figure_3():
    # For each convolution its filters and size, for each pooling "max" and its size; then the side of its output, if
    # the input is 224 x 224.
    expected = [(64, 7, 112), ("max", 2, 56), (192, 3, 56), ("max", 2, 28), (128, 1, 28), (256, 3, 28), (256, 1, 28),
                (512, 3, 28), ("max", 2, 14), *[(256, 1, 14), (512, 3, 14)] * 4, (512, 1, 14), (1024, 3, 14),
                ("max", 2, 7), *[(512, 1, 7), (1024, 3, 7)] * 2, (7, 1, 7)]
    with torch.device("meta"):
        rows = count_operations(Extraction(7), 224, 224)
    found = [(layer.out_channels, layer.kernel_size[0], shape[2]) if isinstance(layer, nn.Conv2d) else
             ("max", layer.kernel_size, shape[2]) for _, layer, shape, *_ in rows]
    assert found == expected


@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_convolution_has_a_bias_or_batchnorm(batch_norm):
    network = Extraction(7, batch_norm)
    blocks = [layer for layer in network.modules() if isinstance(layer, ConvBlock)]
    assert len(blocks) == 20 and all((block.conv.bias is None) == batch_norm for block in blocks)
    normalizations = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(normalizations) == 20 * batch_norm
    assert all((layer.momentum, layer.eps) == (0.01, 1e-5) for layer in normalizations)
    assert network.classify.bias is not None


def test_the_paper_has_no_batchnorm():
    for network in (Extraction(), ConvBlock(1, 1, 1)):
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def test_the_logits_are_the_average_of_leaky_maps(network):
    maps = []
    hook = network.classify.register_forward_hook(lambda layer, inputs, output: maps.append(output))
    with torch.no_grad():
        logits = network(torch.rand(2, 3, 64, 96))
    hook.remove()
    assert maps[0].shape == (2, 7, 2, 3) and (maps[0] < 0).any() and (maps[0] > 0).any()
    for image, label in [(0, 0), (1, 6)]:
        values = [v if v > 0 else 0.1 * v for v in maps[0][image, label].flatten().tolist()]
        assert logits[image, label].item() == pytest.approx(sum(values) / 6, abs=1e-5)


def test_a_block_worked_by_hand():
    # The weight 2 and the bias 1 turn the inputs 3 and -3 into 7 and -5. The leaky ReLU leaves 7 and makes -.5 of -5;
    # with PyTorch's default slope .01 it would be -.05.
    x = torch.tensor([3.0, -3.0]).view(1, 1, 1, 2)
    block = ConvBlock(1, 1, 1)
    block.load_state_dict({"conv.weight": torch.full((1, 1, 1, 1), 2.0), "conv.bias": torch.tensor([1.0])})
    assert block(x).flatten().tolist() == pytest.approx([7, -0.5])
    # With BatchNorm there is no bias: 6 and -6. Running mean 1, running variance 4 - 1e-5 (4 with eps, so the deviation
    # is 2), scale 3, shift .5: 3 (6 - 1) / 2 + .5 = 8 and 3 (-6 - 1) / 2 + .5 = -10, after the leaky ReLU 8 and -1.
    block = ConvBlock(1, 1, 1, batch_norm=True).eval()
    block.load_state_dict({"conv.weight": torch.full((1, 1, 1, 1), 2.0), "bn.running_mean": torch.tensor([1.0]),
                           "bn.running_var": torch.tensor([4 - 1e-5]), "bn.weight": torch.tensor([3.0]),
                           "bn.bias": torch.tensor([0.5]), "bn.num_batches_tracked": torch.tensor(0)})
    assert block(x).flatten().tolist() == pytest.approx([8, -1], abs=1e-5)


def test_initialisation_is_darknets(network):
    # A 3 x 3 convolution of 512 channels has a fan-in of 9 * 512 = 4608, so a deviation of sqrt(2 / 4608). The fan-in
    # of the first layer, a 7 x 7 of 3 channels, is 49 * 3 = 147.
    assert network.stage5[2].conv.weight.std().item() == pytest.approx((2 / 4608) ** 0.5, rel=0.02)
    assert network.stage1[0].conv.weight.std().item() == pytest.approx((2 / 147) ** 0.5, rel=0.03)
    assert sum(layer.bias.abs().sum() for layer in network.modules() if isinstance(layer, nn.Conv2d)) == 0


def test_the_names_of_the_stages_are_the_detectors(network):
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if key.endswith("weight")}
    assert [name for name, _ in network.named_children()] == [f"stage{n}" for n in range(1, 6)] + ["classify"]
    for key, shape in [("stage1.0.conv.weight", (64, 3, 7, 7)), ("stage2.1.conv.weight", (192, 64, 3, 3)),
                       ("stage3.4.conv.weight", (512, 256, 3, 3)), ("stage4.9.conv.weight", (512, 512, 1, 1)),
                       ("stage4.10.conv.weight", (1024, 512, 3, 3)), ("stage5.4.conv.weight", (1024, 512, 3, 3))]:
        assert shapes[key] == shape


def write_file_with_batchnorm(path):
    """Writes the .weights file of a network whose BatchNorm is not the identity. Returns the network."""
    torch.manual_seed(1)
    network = Extraction(num_classes=2, batch_norm=True).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    save_darknet_weights(network, path, seen=3)
    return network


def test_the_authors_file(tmp_path):
    # extraction.weights has 93,821,600 bytes after its header. A file that is read and written again is unchanged. The
    # convolutions are in the order in which they run.
    with torch.device("meta"):
        assert 4 * sum(tensor.numel() for tensor in darknet_order(Extraction(batch_norm=True))) == 93_821_600
    network, again = write_file_with_batchnorm(tmp_path / "a.weights"), Extraction(num_classes=2, batch_norm=True)
    assert load_darknet_weights(again, tmp_path / "a.weights") == 3
    assert all(a.equal(b) for a, b in zip(again.state_dict().values(), network.state_dict().values()))
    save_darknet_weights(again, tmp_path / "b.weights", seen=3)
    assert (tmp_path / "a.weights").read_bytes() == (tmp_path / "b.weights").read_bytes()
    ran = [row[1].weight for row in count_operations(network, 64, 64) if isinstance(row[1], nn.Conv2d)]
    assert all(a is b for a, b in zip(ran, (t for t in darknet_order(network) if t.ndim == 4), strict=True))


def test_batchnorm_is_folded_into_the_papers_network(tmp_path):
    network, paper = write_file_with_batchnorm(tmp_path / "a.weights"), Extraction(2, batch_norm=False).eval()
    assert load_darknet_weights(paper, tmp_path / "a.weights") == 3
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(paper(images), network(images), rtol=1e-4)
    # Where neither the file nor the network has BatchNorm, the numbers are copied as they are.
    save_darknet_weights(paper, tmp_path / "b.weights")
    again = Extraction(2, batch_norm=False)
    load_darknet_weights(again, tmp_path / "b.weights")
    assert all(a.equal(b) for a, b in zip(again.parameters(), paper.parameters()))
    with pytest.raises(InputError, match=r"b.weights: .* expected .* \(this network\)"):
        load_darknet_weights(Extraction(2, batch_norm=True), tmp_path / "b.weights")
