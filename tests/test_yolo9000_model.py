"""The networks of YOLO9000, decoding by hand, and yolo9000.weights compared with bytes made by hand."""
import math
import struct
from math import log

import pytest
import torch
from pytest import approx

import yolov2.yolo9000.weights as weights
from shared.checkpoint import save_checkpoint
from shared.errors import InputError
from yolov2.weights import darknet_order, load_darknet_weights
from yolov2.yolo9000.model import ANCHORS, CLASSIFIERS, YOLO9000, YOLO9000Tiny, decode
from yolov2.yolo9000.wordtree import make_tree

TREE = make_tree("animal vehicle dog cat terrier retriever car bus".split(), [-1, -1, 0, 0, 2, 2, 1, 1])

# [darknet] cfg/yolo9000.cfg: the layers with weights, in order: our name, filters, input channels, kernel
LAYERS = [("stage1.0", 32, 3, 3), ("stage2.1", 64, 32, 3),
          ("stage3.1", 128, 64, 3), ("stage3.2", 64, 128, 1), ("stage3.3", 128, 64, 3),
          ("stage4.1", 256, 128, 3), ("stage4.2", 128, 256, 1), ("stage4.3", 256, 128, 3),
          ("stage5.1", 512, 256, 3), ("stage5.2", 256, 512, 1), ("stage5.3", 512, 256, 3), ("stage5.4", 256, 512, 1),
          ("stage5.5", 512, 256, 3),
          ("stage6.1", 1024, 512, 3), ("stage6.2", 512, 1024, 1), ("stage6.3", 1024, 512, 3),
          ("stage6.4", 512, 1024, 1), ("stage6.5", 1024, 512, 3)]


def tensors_of_the_file(outputs=28269):
    """(name in the state_dict, shape) of each tensor of yolo9000.weights"""
    tensors = []
    for name, out, inputs, kernel in LAYERS:
        tensors += [(f"backbone.{name}.bn.{part}", (out,)) for part in ("bias", "weight", "running_mean",
                                                                       "running_var")]
        tensors.append((f"backbone.{name}.conv.weight", (out, inputs, kernel, kernel)))
    return tensors + [("detect32.bias", (outputs,)), ("detect32.weight", (outputs, 1024, 1, 1))]


def test_the_numbers_of_yolo9000():
    # The backbone's 18 convolutions: 19,802,976 weights; 7,200 filters with 4 numbers each; 28,269 outputs with 1024
    # weights and a bias each.
    assert sum(out * inputs * kernel ** 2 for _, out, inputs, kernel in LAYERS) == 19_802_976
    assert sum(out for _, out, _, _ in LAYERS) == 7_200 and 3 * (9418 + 5) == 28_269
    assert 19_802_976 + 4 * 7_200 + 28_269 * 1025 == 48_807_501
    assert 16 + 4 * 48_807_501 == 195_230_020                        # bytes of yolo9000.weights
    with torch.device("meta"):
        network = YOLO9000()
    assert sum(tensor.numel() for tensor in darknet_order(network)) == 48_807_501
    assert sum(parameter.numel() for parameter in network.parameters()) == 48_807_501 - 2 * 7_200 == 48_793_101
    assert ANCHORS == [(0.77871, 1.14074), (3.00525, 4.31277), (9.22725, 9.61974)]


def test_yolo9000_weights_with_marks(tmp_path):
    # A file of zeros but for the first and the last number of each tensor, which count 1, 2, 3, ...
    path, marks, mark, position = tmp_path / "yolo9000.weights", {}, 0, 16
    with open(path, "wb") as file:                                   # sparse: the zeros take no disk space
        file.write(struct.pack("<iiii", 0, 1, 0, 64 * 7))
        for name, shape in tensors_of_the_file():
            count = math.prod(shape)
            for index in (0, count - 1):
                mark += 1
                marks[name, index] = mark
                file.seek(position + 4 * index)
                file.write(struct.pack("<f", mark))
            position += 4 * count
        file.truncate(position)
    assert path.stat().st_size == 195_230_020
    with torch.device("meta"):
        network = YOLO9000()
    network = network.to_empty(device="cpu")
    assert load_darknet_weights(network, path) == 448
    state = network.state_dict()
    for (name, index), value in marks.items():
        assert state[name].flatten()[index] == value, name


def small_file(path, nodes):
    """A .weights file whose numbers count 0, 1e-6, 2e-6, ... for YOLO9000(nodes)."""
    count = sum(math.prod(shape) for _, shape in tensors_of_the_file(3 * (5 + nodes)))
    with open(path, "wb") as file:
        file.write(struct.pack("<iiii", 0, 1, 0, 64 * 7))
        file.truncate(16 + 4 * count)


def test_a_detector_of_darknet_needs_its_tree(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "TREE", tmp_path / "9k.tree")
    monkeypatch.setattr(weights, "NAMES", tmp_path / "9k.names")
    small_file(tmp_path / "yolo9000.weights", nodes=2)
    with pytest.raises(InputError, match="9k.tree: no such file"):
        weights.load_detector(tmp_path / "yolo9000.weights")
    (tmp_path / "9k.tree").write_text("n1 -1\nn2 0\n")
    network, state = weights.load_detector(tmp_path / "yolo9000.weights")
    assert state["tree"].names == ["n1", "n2"] and state["anchors"] == ANCHORS and state["step"] == 7
    assert state["size"] == 544 and network.detect32.weight.shape == (21, 1024, 1, 1)
    (tmp_path / "9k.names").write_text("living thing\nhot dog\n")
    assert weights.load_detector(tmp_path / "yolo9000.weights")[1]["tree"].names == ["living thing", "hot dog"]
    (tmp_path / "9k.names").write_text("living thing\n")
    with pytest.raises(InputError, match="9k.names: has 1 lines, .*9k.tree has 2"):
        weights.load_detector(tmp_path / "yolo9000.weights")
    (tmp_path / "9k.names").unlink()
    (tmp_path / "9k.tree").write_text("n1 -1\nn2 0\nn3 0\n")
    with pytest.raises(InputError, match="yolo9000.weights: not the weights of this network"):
        weights.load_detector(tmp_path / "yolo9000.weights")


def test_a_checkpoint_holds_its_tree(tmp_path):
    network, anchors = YOLO9000Tiny(8, [(1.0, 2.0)]), [(1.0, 2.0)]
    state = {"network": "YOLO9000Tiny", "tree": [TREE.names, TREE.parent], "anchors": anchors, "size": 96, "step": 3}
    save_checkpoint(tmp_path / "last.pt", {**state, "model": network.state_dict()})
    loaded, found = weights.load_detector(tmp_path / "last.pt")
    assert found["tree"] == TREE and loaded.detect32.weight.equal(network.detect32.weight)
    save_checkpoint(tmp_path / "last.pt", {**state, "tree": [["a", "b"], [1, 0]], "model": network.state_dict()})
    with pytest.raises(InputError, match="last.pt: line 1: the parent of a is 1"):
        weights.load_detector(tmp_path / "last.pt")


def test_decoding():
    # 1 x 2 cells, one anchor of 1 x .5 cells; the right cell predicts a box twice as wide, at its middle, with
    # objectness .2: centre (1.5, .5) of 2 x 1 cells, size 2 x .5.
    head = torch.zeros(1, 1, 1, 2, 13)
    head[0, 0, 0, 1, :5] = torch.tensor([0, 0, log(2), 0, -log(4)])
    head[0, 0, 0, 1, 5:] = torch.tensor([3, 1, 4, 1, 9, 1, 1, 1.0]).log()
    boxes, objectness, p = decode(head, TREE, [(1, 0.5)])
    assert boxes[0].tolist() == [approx([0, 0.25, 0.5, 0.75]), approx([0.25, 0.25, 1.25, 0.75])]
    assert objectness[0].tolist() == approx([0.5, 0.2])
    assert p[0, 1].tolist() == approx([0.75, 0.25, 0.6, 0.15, 0.54, 0.06, 0.125, 0.125])
    assert p[0, 0].tolist() == approx([0.5, 0.5] + [0.25] * 2 + [0.125] * 2 + [0.25] * 2)


@pytest.mark.parametrize("network_class", [YOLO9000, YOLO9000Tiny])
def test_the_shape_of_the_head(network_class):
    network = network_class(8).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 64, 96)).shape == (2, 3, 2, 3, 13)
    with pytest.raises(ValueError, match="divisible by 32"):
        network(torch.zeros(1, 3, 64, 50))


def test_the_channels_of_the_head():
    # Channel a (5 + n) + k is number k of anchor a [darknet: entry_index]. With all weights 0 the head is the bias.
    network = YOLO9000Tiny(2, [(1, 1), (2, 2)]).eval()
    torch.nn.init.zeros_(network.detect32.weight)
    network.detect32.bias.data = torch.arange(14.0)
    with torch.inference_mode():
        head = network(torch.zeros(1, 3, 32, 32))
    assert head[0, :, 0, 0].tolist() == [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12, 13]]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_classifiers(name):
    with torch.inference_mode():
        assert CLASSIFIERS[name](8).eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 8)
