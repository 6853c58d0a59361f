"""Folds BatchNorm into a convolution and counts its operations, with numbers worked out by hand."""
import pytest
import torch
import torch.nn as nn

from shared.layers import count_operations, fuse_batchnorm


class Block(nn.Module):
    """A 1 x 1 convolution of one channel into two, with or without BatchNorm, and ReLU."""

    def __init__(self, batch_norm):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=not batch_norm)
        self.bn = nn.BatchNorm2d(2, eps=1e-5) if batch_norm else None

    def forward(self, x):
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return x.relu()


@pytest.fixture
def block():
    """
    channel     weight   mean   variance + eps   gamma   beta
          0          7      5                4       3      1
          1          8      6                9       4      2
    """
    block = Block(batch_norm=True)
    with torch.no_grad():
        block.conv.weight.copy_(torch.tensor([7.0, 8]).view(2, 1, 1, 1))
        block.bn.running_mean.copy_(torch.tensor([5.0, 6]))
        block.bn.running_var.copy_(torch.tensor([4 - 1e-5, 9 - 1e-5]))
        block.bn.weight.copy_(torch.tensor([3.0, 4]))
        block.bn.bias.copy_(torch.tensor([1.0, 2]))
    return block


def test_a_fused_block_by_hand(block):
    # gamma (w x - mean) / sqrt(variance + eps) + beta
    #     channel 0    3 (7 x - 5) / 2 + 1 = 10.5 x - 6.5    x = 1: 4       x = 2: 14.5
    #     channel 1    4 (8 x - 6) / 3 + 2 = 32/3 x - 6      x = 1: 14/3    x = 2: 46/3
    images = torch.tensor([1.0, 2]).view(1, 1, 1, 2)                         # (1, 1, 1, 2)
    expected = [4, 14.5, 14 / 3, 46 / 3]
    network = nn.Sequential(block)
    with torch.no_grad():
        before = network.eval()(images)
        fused = fuse_batchnorm(network.train())
        after = fused(images)
    assert fused is network and not network.training
    assert before.flatten().tolist() == pytest.approx(expected, abs=1e-4)
    assert after.flatten().tolist() == pytest.approx(expected, abs=1e-4)
    assert block.conv.weight.flatten().tolist() == pytest.approx([10.5, 32 / 3], abs=1e-4)
    assert block.conv.bias.tolist() == pytest.approx([-6.5, -6], abs=1e-4)
    assert isinstance(block.bn, nn.Identity)


def test_what_has_no_batchnorm_in_its_block_is_left_as_it_is(block):
    # YOLOv1's blocks may have no BatchNorm (bn is None). The BatchNorm of another kind of module is not touched.
    plain, alone = Block(batch_norm=False), nn.BatchNorm2d(2)
    network = nn.Sequential(plain, alone)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fuse_batchnorm(network)
    assert plain.bn is None and network[1] is alone
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_fusing_twice_changes_nothing_more(block):
    fuse_batchnorm(block)
    conv = block.conv
    fuse_batchnorm(block)
    assert block.conv is conv


def test_operations_by_hand():
    # Input 3 x 4 x 6. A 3 x 3 convolution into 2 channels with padding 1 and stride 2 gives 2 x 2 x 3: each of these
    # 12 numbers uses 3 x 3 x 3 = 27 weights, a multiplication and an addition for each: 2 x 27 x 12 = 648 operations.
    # It has 2 x 27 weights and 2 biases: 56 parameters. A fully connected layer of 12 into 5: 2 x 12 x 5 = 120
    # operations and 12 x 5 + 5 = 65 parameters.
    network = nn.Sequential(nn.Conv2d(3, 2, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5))
    rows = count_operations(network, height=4, width=6)
    assert [(name, shape, parameters, operations) for name, _, shape, parameters, operations in rows] == [
        ("0", (1, 2, 2, 3), 56, 648), ("1", (1, 2, 2, 3), 0, 0), ("2", (1, 12), 0, 0), ("3", (1, 5), 65, 120)]
    assert [layer for _, layer, *_ in rows] == list(network) and network.training
