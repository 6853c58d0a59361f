"""
Files of trained YOLOv1 detectors: every network's .weights file compared with bytes made by hand, BatchNorm that is
folded while a file is read, files recognised by their lengths, checkpoints, and trainings that start from a file.
"""
import filecmp
import math
import struct
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn as nn
from PIL import Image

import yolov1.detect as detect
import yolov1.evaluate as evaluate
import yolov1.train as train
import yolov1.weights as weights
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.voc import CLASSES as VOC_CLASSES
from yolov1.dataset import TEST
from yolov1.extraction.model import Extraction
from yolov1.fast.model import FastYOLO
from yolov1.locally_connected.model import LocallyConnected, YOLOv1Local
from yolov1.model import Backbone, ConvBlock, YOLOv1
from yolov1.resnet.model import ResNetYOLOv1
from yolov1.tiny.model import Backbone as TinyBackbone
from yolov1.tiny.model import YOLOv1Tiny
from yolov1.weights import darknet_order, load_darknet_weights, load_pretrained, save_darknet_weights

# ---- the bytes of a .weights file

def layer(name, shape):
    """
    The tensors of a layer in the order of a .weights file: (name in the network's state_dict, shape). The biases come
    before the weights ([darknet] src/parser.c).
    """
    return [(f"{name}.bias", shape[:1]), (f"{name}.weight", shape)]


def normalized(tensors):
    """The same layers with BatchNorm, whose beta, gamma, mean and variance take the place of the biases."""
    result = []
    for name, shape in tensors:
        block, _, number = name.rpartition(".conv.")
        if number == "bias":
            result += [(f"{block}.bn.{number}", shape) for number in ("bias", "weight", "running_mean", "running_var")]
        else:
            result.append((name, shape))
    return result


def write_marked(path, tensors):
    """
    A .weights file of zeros, but for a few numbers of each tensor: the first, the last, and the next one along each
    axis. The marks are 1, 2, 3, ... in the order of the file, so each occurs once. A tensor that is read from a wrong
    place or with exchanged axes has other marks. Returns {name: {index in the flattened tensor: mark}}.
    """
    marks, mark, position = {}, 0, 20
    with open(path, "wb") as file:                                           # sparse: the zeros take no disk space
        file.write(struct.pack("<iiiq", 0, 2, 0, 6400))
        for name, shape in tensors:
            count, marks[name] = math.prod(shape), {}
            steps = {math.prod(shape[axis + 1:]) for axis in range(len(shape)) if shape[axis] > 1}
            for index in sorted({0, count - 1} | steps):
                mark += 1
                marks[name][index] = mark
                file.seek(position + 4 * index)
                file.write(struct.pack("<f", mark))
            position += 4 * count
        file.truncate(position)
    return marks


def empty(network_class):
    """A network whose numbers are undefined: initialising them would take most of this file's time."""
    with torch.device("meta"):
        network = network_class()
    return network.to_empty(device="cpu")


def check_marks(network, tensors, marks):
    state = network.state_dict()
    for name, shape in tensors:
        values = state[name].flatten()
        assert state[name].shape == shape
        assert {index: values[index].item() for index in marks[name]} == marks[name], name


def in_backbone(tensors):
    return [(f"backbone.{name}", shape) for name, shape in tensors]


# cfg/extraction.cfg without its BatchNorm; in cfg/yolo.cfg of 2015 four convolutions and two fully connected layers
# take the place of the classifier. Index 0 of stages 2 to 5 is a pooling
EXTRACTION = [
    *layer("stage1.0.conv", (64, 3, 7, 7)), *layer("stage2.1.conv", (192, 64, 3, 3)),
    *layer("stage3.1.conv", (128, 192, 1, 1)), *layer("stage3.2.conv", (256, 128, 3, 3)),
    *layer("stage3.3.conv", (256, 256, 1, 1)), *layer("stage3.4.conv", (512, 256, 3, 3)),
    *layer("stage4.1.conv", (256, 512, 1, 1)), *layer("stage4.2.conv", (512, 256, 3, 3)),
    *layer("stage4.3.conv", (256, 512, 1, 1)), *layer("stage4.4.conv", (512, 256, 3, 3)),
    *layer("stage4.5.conv", (256, 512, 1, 1)), *layer("stage4.6.conv", (512, 256, 3, 3)),
    *layer("stage4.7.conv", (256, 512, 1, 1)), *layer("stage4.8.conv", (512, 256, 3, 3)),
    *layer("stage4.9.conv", (512, 512, 1, 1)), *layer("stage4.10.conv", (1024, 512, 3, 3)),
    *layer("stage5.1.conv", (512, 1024, 1, 1)), *layer("stage5.2.conv", (1024, 512, 3, 3)),
    *layer("stage5.3.conv", (512, 1024, 1, 1)), *layer("stage5.4.conv", (1024, 512, 3, 3)),
]
CLASSIFIER = layer("classify", (1000, 1024, 1, 1))
HEAD = [           # for one cell instead of 7 x 7, so that the first matrix has 4 million numbers and not 206 million
    *layer("detect.0.conv", (1024, 1024, 3, 3)), *layer("detect.1.conv", (1024, 1024, 3, 3)),
    *layer("detect.2.conv", (1024, 1024, 3, 3)), *layer("detect.3.conv", (1024, 1024, 3, 3)),
    *layer("detect.5", (4096, 1024)), *layer("detect.8", (30, 4096)),
]
# cfg/yolov1-tiny.cfg, with its 7 x 7 cells
TINY_BACKBONE = normalized([
    *layer("stage64.0.conv", (16, 3, 3, 3)), *layer("stage64.2.conv", (32, 16, 3, 3)),
    *layer("stage64.4.conv", (64, 32, 3, 3)), *layer("stage64.6.conv", (128, 64, 3, 3)),
    *layer("stage64.8.conv", (256, 128, 3, 3)), *layer("stage64.10.conv", (512, 256, 3, 3)),
    *layer("stage64.12.conv", (1024, 512, 3, 3)),
])
TINY_HEAD = normalized([*layer("detect.0.conv", (256, 1024, 3, 3)), *layer("detect.2", (1470, 256 * 49))])
# cfg/yolov1.cfg, for 2 x 2 cells: a locally connected layer takes the place of the layer of 4096. It has biases for 256
# filters x 4 places and weights for 4 places x 256 filters x 1024 * 9 inputs
LOCAL_HEAD = normalized(HEAD[:8]) + [("detect.4.bias", (1024,)), ("detect.4.weight", (4, 256, 9216)),
                                     *layer("detect.7", (120, 1024))]
# cfg/yolo-tiny.cfg of 2015, for one cell
FAST_BACKBONE = [
    *layer("stage64.0.conv", (16, 3, 3, 3)), *layer("stage64.2.conv", (32, 16, 3, 3)),
    *layer("stage64.4.conv", (64, 32, 3, 3)), *layer("stage64.6.conv", (128, 64, 3, 3)),
    *layer("stage64.8.conv", (256, 128, 3, 3)), *layer("stage64.10.conv", (512, 256, 3, 3)),
    *layer("stage64.12.conv", (1024, 512, 3, 3)),
]
FAST_HEAD = [*layer("detect.0.conv", (1024, 1024, 3, 3)), *layer("detect.1.conv", (1024, 1024, 3, 3)),
             *layer("detect.3", (256, 1024)), *layer("detect.4", (4096, 256)), *layer("detect.7", (30, 4096))]


@pytest.mark.parametrize("network_class, tensors", [
    (lambda: YOLOv1(20, grid=1, batch_norm=False), in_backbone(EXTRACTION) + HEAD),
    (lambda: YOLOv1(20, grid=1, batch_norm=True), in_backbone(normalized(EXTRACTION)) + normalized(HEAD)),
    (lambda: Backbone(batch_norm=False), EXTRACTION),
    (lambda: Backbone(batch_norm=True), normalized(EXTRACTION)),
    (lambda: Extraction(batch_norm=False), EXTRACTION + CLASSIFIER),
    (lambda: Extraction(batch_norm=True), normalized(EXTRACTION) + CLASSIFIER),
    (YOLOv1Tiny, in_backbone(TINY_BACKBONE) + TINY_HEAD),
    (TinyBackbone, TINY_BACKBONE),
    (lambda: YOLOv1Local(20, grid=2), in_backbone(normalized(EXTRACTION)) + LOCAL_HEAD),
    (lambda: FastYOLO(20, grid=1), in_backbone(FAST_BACKBONE) + FAST_HEAD)])
def test_every_network_is_read_and_written_in_darknets_order(tmp_path, network_class, tensors):
    network, marks = empty(network_class), write_marked(tmp_path / "a.weights", tensors)
    assert load_darknet_weights(network, tmp_path / "a.weights") == 6400
    check_marks(network, tensors, marks)
    save_darknet_weights(network, tmp_path / "b.weights", seen=6400)
    assert filecmp.cmp(tmp_path / "a.weights", tmp_path / "b.weights", shallow=False)


@pytest.mark.parametrize("batch_norm, tensors", [(False, EXTRACTION), (True, normalized(EXTRACTION))])
def test_a_backbone_takes_the_file_of_a_classifier(tmp_path, batch_norm, tensors):
    # extraction.weights is extraction.conv.weights and the 1000 + 1000 * 1024 numbers of the last layer.
    backbone, marks = empty(lambda: Backbone(batch_norm)), write_marked(tmp_path / "a.weights", tensors + CLASSIFIER)
    load_darknet_weights(backbone, tmp_path / "a.weights")
    check_marks(backbone, tensors, marks)


def write_layers(path, tensors):
    """
    A .weights file in which the n-th layer, counted from 1, has only equal numbers in each of its tensors. With
    BatchNorm: beta n, gamma 2n, mean 3, variance 4 - eps, weights 1/8. Without: biases 5 n, weights 7 n.
    """
    n = 0
    with open(path, "wb") as file:
        file.write(struct.pack("<iiiq", 0, 2, 0, 6400))
        for name, shape in tensors:
            kind = name.rpartition(".")[2]                                   # bias, weight, running_mean, running_var
            n += kind == "bias"
            if ".bn." in name:
                value = {"bias": n, "weight": 2 * n, "running_mean": 3, "running_var": 4 - 1e-5}[kind]
            elif ".conv." in name:
                value = 1 / 8
            else:
                value = {"bias": 5 * n, "weight": 7 * n}[kind]
            file.write(np.full(math.prod(shape), value, "<f4").tobytes())


@pytest.mark.parametrize("network_class, tensors, more", [
    (lambda: Backbone(batch_norm=False), EXTRACTION, []),                    # from extraction.conv.weights
    (lambda: Backbone(batch_norm=False), EXTRACTION, CLASSIFIER),            # from extraction.weights
    (lambda: Extraction(batch_norm=False), EXTRACTION + CLASSIFIER, []),     # from extraction.weights
    (lambda: YOLOv1(20, grid=1, batch_norm=False), in_backbone(EXTRACTION) + HEAD, [])])
def test_batchnorm_of_the_file_is_folded_into_a_network_without_it(tmp_path, network_class, tensors, more):
    # Layer n computes 2 n (x / 8 - 3) / 2 + n = (n / 8) x - 2 n. Folded it has the biases -2 n and the weights n / 8.
    # Layers without BatchNorm in the file keep their numbers. If beta and gamma were exchanged, the result would be
    # n (x / 8 - 3) / 2 + 2 n = (n / 16) x + n / 2, with other biases and weights.
    write_layers(tmp_path / "a.weights", normalized(tensors) + more)
    network = empty(network_class)
    assert load_darknet_weights(network, tmp_path / "a.weights") == 6400
    state = network.state_dict()
    for index, (name, shape) in enumerate(tensors):
        n = index // 2 + 1
        expected = -2 * n if name.endswith("bias") else n / 8
        if ".conv." not in name:
            expected = 5 * n if name.endswith("bias") else 7 * n
        values = state[name]
        assert values.shape == shape
        assert values.min().item() == pytest.approx(expected) == values.max().item(), name


@pytest.mark.parametrize("gamma, variance", [(1, -1), (3e38, 0)])
def test_batchnorm_that_cannot_be_folded_is_refused(tmp_path, gamma, variance):
    # The root of a variance of -1 is nan. 3e38 / sqrt(0 + 1e-5) is more than float32 can hold.
    block = nn.Sequential(ConvBlock(1, 1, 1, batch_norm=False))
    values = struct.pack("<5f", 1, gamma, 1, variance, 1)                    # beta, gamma, mean, variance, weight
    (tmp_path / "a.weights").write_bytes(struct.pack("<iiii", 0, 1, 0, 640) + values)
    with pytest.raises(InputError, match="a.weights: damaged: its BatchNorm makes weights that are NaN or infinite"):
        load_darknet_weights(block, tmp_path / "a.weights")


def test_folding_keeps_the_features(tmp_path):
    # Each channel has its own numbers here. The same images give the same features with BatchNorm and folded.
    torch.manual_seed(0)
    with_norm, without = Backbone(batch_norm=True).eval(), Backbone(batch_norm=False)
    for tensor in with_norm.state_dict().values():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
    save_darknet_weights(with_norm, tmp_path / "extraction.conv.weights")
    load_darknet_weights(without, tmp_path / "extraction.conv.weights")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = with_norm(images)
        assert torch.allclose(without(images), expected, atol=1e-4 * expected.abs().max())


def test_the_matrices_of_2015_are_transposed(tmp_path):
    # In files of 2015 a matrix is stored as (in, out). Biases and convolutions are not transposed. Mark the second
    # number of the last matrix, which is row 1, column 0 of the network's (out, in).
    tensors = in_backbone(TINY_BACKBONE) + TINY_HEAD
    count = sum(math.prod(shape) for _, shape in tensors)
    with open(tmp_path / "a.weights", "wb") as file:
        file.write(struct.pack("<iiii", 1001, 0, 0, 640))
        file.seek(16 + 4 * (count - 1470 * 256 * 49 + 1))
        file.write(struct.pack("<f", 3))
        file.truncate(16 + 4 * count)
    network = empty(YOLOv1Tiny)
    assert load_darknet_weights(network, tmp_path / "a.weights") == 640
    assert network.detect[2].weight[1, 0] == 3 and network.detect[2].weight[0, 1] == 0


def test_a_locally_connected_layer_from_bytes(tmp_path):
    # 2 x 2 places, one channel, two filters. The file: 8 biases, filter 0's first; then the 2 * 9 weights of place 0,
    # of place 1 and so on. All weights are 0 but the centre's (the fifth of nine): 1 to 8. The image has ones only.
    #
    #     place            0     1     2     3
    #     filter 0    10 + 1  20 + 3  30 + 5  40 + 7
    #     filter 1    50 + 2  60 + 4  70 + 6  80 + 8
    #
    # Biases place by place instead would give 10 + 1, 30 + 3, 50 + 5, 70 + 7 for filter 0.
    weights_ = [value if i == 4 else 0 for value in range(1, 9) for i in range(9)]
    header = struct.pack("<iiii", 0, 1, 0, 640)
    (tmp_path / "a.weights").write_bytes(header + struct.pack("<80f", *range(10, 90, 10), *weights_))
    layer = LocallyConnected(1, 2, grid=2)
    assert load_darknet_weights(nn.Sequential(layer), tmp_path / "a.weights") == 640
    assert layer(torch.ones(1, 1, 2, 2)).tolist() == [[11, 23, 35, 47, 52, 64, 76, 88]]
    save_darknet_weights(nn.Sequential(layer), tmp_path / "b.weights", 640)
    assert (tmp_path / "b.weights").read_bytes()[20:] == (tmp_path / "a.weights").read_bytes()[16:]


def test_a_file_of_2015(tmp_path):
    # The learning rate, the momentum and the decay stand in the header, and matrices are stored (in, out). The network
    # is a 1 x 1 convolution of one channel, then 2 inputs and 3 outputs: w00 w10 w20 and w01 w11 w21 in the file.
    content = struct.pack("<fffi", 1e-4, 0.9, 5e-4, 640) + struct.pack("<11f", 5, 6, 7, 8, 9, 0, 10, 20, 1, 11, 21)
    (tmp_path / "a.weights").write_bytes(content)
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(2, 3))
    assert load_darknet_weights(network, tmp_path / "a.weights") == 640
    assert (network[0].bias.item(), network[0].weight.item(), network[1].bias.tolist()) == (5, 6, [7, 8, 9])
    assert network[1].weight.tolist() == [[0, 1], [10, 11], [20, 21]]


def test_the_papers_network_maps_the_images_for_a_file_of_2015(tmp_path):
    # Such a file expects 2 x - 1, so .75 becomes .5. Other files expect the images as they are. A 1 x 1 convolution of
    # red and one fully connected layer stand in the place of the layers. Output 0 is the first pixel.
    network = YOLOv1.__new__(YOLOv1)
    nn.Module.__init__(network)
    network.num_classes, network.grid, network.num_boxes = 20, 1, 2
    network.backbone = nn.Conv2d(3, 1, 1)
    network.detect = nn.Sequential(nn.Flatten(), nn.Linear(64 * 64, 30))
    values = [0, 1, 0, 0, *[0] * 30, 1, *[0] * (64 * 64 * 30 - 1)]
    images = torch.full((1, 3, 64, 64), 0.75)
    for header, mapped in [(struct.pack("<fffi", 1e-3, 0.9, 5e-4, 640), 0.5),
                           (struct.pack("<iiii", 0, 1, 0, 640), 0.75)]:
        (tmp_path / "a.weights").write_bytes(header + struct.pack(f"<{len(values)}f", *values))
        assert load_darknet_weights(network, tmp_path / "a.weights") == 640
        with torch.no_grad():
            assert network(images)[0, 0, 0, 0] == mapped
        assert (images == 0.75).all()


def test_files_are_as_long_as_the_authors():
    # yolo.weights and yolo-tiny.weights of 2015: the 271,703,550 and 45,089,374 parameters, because the networks have
    # no BatchNorm. yolov1.weights: the parameters, and two running averages for each of the 13,184 channels of the 24
    # convolutions. tiny-yolov1.weights: the same for 2,288 channels. extraction.weights: 93,821,600 bytes after the
    # header.
    assert 16 + 32 + 64 + 128 + 256 + 512 + 1024 + 256 == 2288
    for network_class, numbers in [(partial(YOLOv1, batch_norm=False), 271_703_550),
                                   (FastYOLO, 45_089_374),
                                   (partial(YOLOv1Local, num_boxes=2), 194_228_350 + 2 * 13_184),
                                   (partial(YOLOv1Local, num_boxes=3), 197_301_875 + 2 * 13_184),
                                   (YOLOv1Tiny, 27_095_374 + 2 * 2288),
                                   (partial(Extraction, batch_norm=True), 93_821_600 // 4)]:
        with torch.device("meta"):
            assert sum(tensor.numel() for tensor in darknet_order(network_class())) == numbers
    # With a header of 16 bytes these are the lengths that are known.
    assert [16 + 4 * numbers for numbers in (194_254_718, 197_328_243, 27_099_950, 45_089_374)] == [
        777_018_888, 789_312_988, 108_399_816, 180_357_512]
    assert (194_228_350 + 2 * 13_184, 197_301_875 + 2 * 13_184, 27_095_374 + 2 * 2288) == (
        194_254_718, 197_328_243, 27_099_950)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """tiny-yolov1.weights, but with random numbers, positive as variances have to be; 64,000 images seen."""
    path, count = tmp_path_factory.mktemp("authors") / "tiny-yolov1.weights", 27_099_950
    values = 0.05 * torch.rand(count, generator=torch.Generator().manual_seed(count))
    path.write_bytes(struct.pack("<iiii", 0, 1, 0, 64_000) + values.numpy().astype("<f4").tobytes())
    return path


def test_a_network_in_channels_last_is_read_and_written_alike(tiny, tmp_path):
    network = empty(YOLOv1Tiny).to(memory_format=torch.channels_last)
    save_darknet_weights(network, tmp_path / "again.weights", load_darknet_weights(network, tiny))
    again = (tmp_path / "again.weights").read_bytes()
    assert again[:20] == struct.pack("<iiiq", 0, 2, 0, 64_000)               # of version 0.2; the other is of 0.1
    assert again[20:] == tiny.read_bytes()[16:]


# ---- detectors from files

def test_a_file_is_recognised_by_its_length(tiny, tmp_path, monkeypatch):
    network, state = weights.load_detector(tiny)
    assert type(network) is YOLOv1Tiny and not network.training
    assert state == {"network": "YOLOv1Tiny", "classes": VOC_CLASSES, "boxes": 2, "size": 448, "step": 1000}
    (tmp_path / "short.weights").write_bytes(tiny.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"short.weights: .*27,099,949 numbers after its header, expected 197,328,243 "
                                         r"\(YOLOv1Local, 20 classes\) or 194,254,718 \(YOLOv1Local, 20 classes\) or "
                                         r"27,099,950 \(YOLOv1Tiny, 20 classes\) or 271,703,550 \(YOLOv1, 20 classes\) "
                                         r"or 45,089,374 \(FastYOLO, 20 classes\)"):
        weights.load_detector(tmp_path / "short.weights")


@pytest.mark.parametrize("name, boxes, tensors", [
    ("YOLOv1", 2, in_backbone(EXTRACTION) + HEAD),
    ("YOLOv1Local", 2, in_backbone(normalized(EXTRACTION)) + LOCAL_HEAD),
    ("YOLOv1Local", 3, in_backbone(normalized(EXTRACTION)) + LOCAL_HEAD),
    ("FastYOLO", 2, in_backbone(FAST_BACKBONE) + FAST_HEAD)])
def test_the_large_files_are_recognised_by_their_lengths(tmp_path, monkeypatch, name, boxes, tensors):
    # For one cell, because the files of the networks for 7 x 7 cells have up to 1.1 GB. The locally connected layer
    # then has 256 biases and 256 * 9216 weights, and the last layer 256 inputs and 20 + 5 * boxes outputs.
    if name == "YOLOv1Local":
        tensors = tensors[:-4] + [("detect.4.bias", (256,)), ("detect.4.weight", (1, 256, 9216)),
                                  *layer("detect.7", (20 + 5 * boxes, 256))]
    monkeypatch.setattr(weights, "GRID", 1)
    for function in ("kaiming_normal_", "kaiming_uniform_", "uniform_"):     # random weights would take seconds
        monkeypatch.setattr(nn.init, function, lambda tensor, *_, **__: tensor)
    with open(tmp_path / "a.weights", "wb") as file:                         # of zeros
        file.write(struct.pack("<iiii", 0, 1, 0, 640))
        file.truncate(16 + 4 * sum(math.prod(shape) for _, shape in tensors))
    network, state = weights.load_detector(tmp_path / "a.weights")
    assert type(network).__name__ == name and not network.training
    assert all(tensor.sum() == 0 for tensor in darknet_order(network))
    assert state == {"network": name, "classes": VOC_CLASSES, "boxes": boxes, "size": 64, "step": 10}
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == (name == "YOLOv1Local")


def test_detect_takes_the_authors_file(tiny, tmp_path, monkeypatch):
    # The last layer has biases only. In each of the 49 cells they are 1 for the dog, .9 for the confidence of the first
    # box, and .5 .5 .3 .5 for its x y r_w r_h. So every first box is .3^2 = .09 wide and .5^2 = .25 high, and it scores
    # .9. NMS leaves those that overlap by at most .4.
    network, _ = weights.load_detector(tiny)
    with torch.no_grad():
        network.detect[2].weight.zero_()
        bias = network.detect[2].bias.zero_()
        bias[:980].view(49, 20)[:, 11] = 1
        bias[980:1078].view(49, 2)[:, 0] = 0.9
        bias[1078:].view(49, 2, 4)[:, 0] = torch.tensor([0.5, 0.5, 0.3, 0.5])
    save_darknet_weights(network, tmp_path / "sure.weights")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    constants = dict(CHECKPOINT=tmp_path / "sure.weights", SOURCE=tmp_path / "a.jpg", OUT=tmp_path / "out")
    for name, value in constants.items():
        monkeypatch.setattr(detect, name, value)
    detect.main()
    lines = [line.split("\t") for line in (tmp_path / "out" / "detections.txt").read_text().splitlines()[1:]]
    assert lines and {tuple(line[1:3]) for line in lines} == {("dog", "0.9000")}
    left, top, right, bottom = map(float, lines[0][3:])
    assert right - left == pytest.approx(0.09 * 64, abs=0.1)


def test_checkpoints_of_every_network_are_opened(tmp_path):
    common = {"classes": ["cat", "dog"], "boxes": 2, "size": 64, "step": 7, "batch_norm": True, "depth": 18}
    for network in (YOLOv1(2, 1, 2, True), YOLOv1Tiny(2, 1, 2), ResNetYOLOv1(2, 18, 2)):
        name = type(network).__name__
        save_checkpoint(tmp_path / "last.pt", {**common, "network": name, "model": network.state_dict()})
        opened, state = weights.load_detector(tmp_path / "last.pt")
        assert type(opened) is type(network) and not opened.training and state["step"] == 7
        assert all(a.equal(b) for a, b in zip(opened.state_dict().values(), network.state_dict().values(), strict=True))


@pytest.mark.parametrize("name, network_class", [("YOLOv1Local", YOLOv1Local), ("FastYOLO", FastYOLO)])
def test_checkpoints_of_the_other_networks_are_opened(tmp_path, monkeypatch, name, network_class):
    # Networks of 60 million weights would take this test's time, so a network of two stands in their place.
    assert weights.NETWORKS[name] is network_class
    built = []

    class Small(nn.Linear):
        def __init__(self, *arguments):
            super().__init__(1, 1)
            built.append(arguments)
    monkeypatch.setitem(weights.NETWORKS, name, Small)
    save_checkpoint(tmp_path / "last.pt", {
        "network": name, "classes": ["cat", "dog"], "boxes": 3, "size": 128, "step": 7, "batch_norm": False,
        "model": {"weight": torch.tensor([[5.0]]), "bias": torch.tensor([6.0])}})
    network, state = weights.load_detector(tmp_path / "last.pt")
    assert built == [(2, 2, 3)] and not network.training and state["step"] == 7              # classes, cells, boxes
    assert (network.weight.item(), network.bias.item()) == (5, 6)


def test_a_checkpoint_becomes_a_weights_file_and_is_evaluated(tmp_path, monkeypatch, capsys):
    network, path = YOLOv1Tiny(20, grid=1), tmp_path / "last.pt"
    state = {"network": "YOLOv1Tiny", "classes": VOC_CLASSES, "boxes": 2, "size": 64, "step": 7, "batch_norm": False,
             "model": network.state_dict()}
    save_checkpoint(path, state)
    monkeypatch.setattr(weights, "CHECKPOINT", path)
    weights.main()
    assert f"{tmp_path / 'last.weights'}: YOLOv1Tiny, 20 classes, " in capsys.readouterr().out
    again = YOLOv1Tiny(20, grid=1)
    assert load_darknet_weights(again, tmp_path / "last.weights") == 7 * 64
    assert all(a.equal(b) for a, b in zip(darknet_order(again), darknet_order(network)))

    for name, value in [("CHECKPOINT", path), ("DATA", {"test": TEST}), ("NUM_WORKERS", 0)]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    assert "last.pt, YOLOv1Tiny, step 7, input 64 x 64" in capsys.readouterr().out

    resnet = ResNetYOLOv1(20)
    save_checkpoint(path, {**state, "network": "ResNetYOLOv1", "depth": 18, "model": resnet.state_dict()})
    with pytest.raises(InputError, match="last.pt: holds ResNetYOLOv1, which Darknet does not know"):
        weights.main()


# ---- trainings that start from a file

@pytest.mark.parametrize("classes, fresh", [
    (VOC_CLASSES, []),
    (VOC_CLASSES[::-1], ["detect.2"]),                                       # equally many classes, but others
    (["cat", "dog"], ["detect.2"])])
def test_all_layers_but_the_last_are_copied(tiny, classes, fresh, capsys):
    network, other = YOLOv1Tiny(len(classes)), weights.load_detector(tiny)[0].state_dict()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert load_pretrained(network, classes, None, tiny) == fresh
    for key, value in network.state_dict().items():
        assert value.equal(before[key] if key.rpartition(".")[0] in fresh else other[key]), key
    line = f"{tiny}: all weights are copied"
    if fresh:
        line += ", except those of these layers, which start fresh: detect.2"
    assert capsys.readouterr().out == line + "\n"


def test_another_grid_needs_another_fully_connected_layer(tiny):
    assert load_pretrained(YOLOv1Tiny(20, grid=3), VOC_CLASSES, None, tiny) == ["detect.2"]


def test_another_network_is_refused(tiny):
    with pytest.raises(InputError, match="tiny-yolov1.weights: holds YOLOv1Tiny, not YOLOv1$"):
        load_pretrained(empty(lambda: YOLOv1(20, grid=1)), VOC_CLASSES, None, tiny)


def test_only_the_last_of_the_fully_connected_layers_names_the_classes(tmp_path):
    network = empty(lambda: YOLOv1(2, grid=1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    save_checkpoint(tmp_path / "last.pt", {"network": "YOLOv1", "classes": ["cat", "dog"], "boxes": 2, "size": 64,
                                           "step": 7, "batch_norm": False, "model": network.state_dict()})
    assert load_pretrained(network, ["dog", "cat"], None, tmp_path / "last.pt") == ["detect.8"]


def test_a_backbone_from_either_kind_of_file(tmp_path):
    first, second, random = YOLOv1Tiny(2, 1), YOLOv1Tiny(2, 1), YOLOv1Tiny(2, 1)
    save_darknet_weights(first.backbone, tmp_path / "tiny.conv.13")
    save_checkpoint(tmp_path / "backbone.pt", {"model": first.backbone.state_dict()})
    for file in ("tiny.conv.13", "backbone.pt"):
        second.load_state_dict(random.state_dict())
        assert load_pretrained(second, ["cat", "dog"], tmp_path / file, None) == []
        assert all(p.equal(q) for p, q in zip(second.backbone.parameters(), first.backbone.parameters()))
        assert second.detect[2].weight.equal(random.detect[2].weight)


def test_a_backbone_that_does_not_fit_asks_for_batch_norm_only_where_that_can_help(tmp_path):
    save_checkpoint(tmp_path / "other.pt", {"model": {}})
    without, with_norm, tiny = (empty(network_class) for network_class in (
        lambda: YOLOv1(2, 1, batch_norm=False), lambda: YOLOv1(2, 1, batch_norm=True), lambda: YOLOv1Tiny(2, 1)))
    for network, name, question in [(without, "other.pt", "; was it trained with another BATCH_NORM than False?"),
                                    (with_norm, "other.pt", "; was it trained with another BATCH_NORM than True?"),
                                    (without, "none.pt", None), (tiny, "other.pt", None)]:
        with pytest.raises(InputError, match=name) as error:
            load_pretrained(network, ["cat", "dog"], tmp_path / name, None)
        assert str(error.value).endswith(question) if question else "BATCH_NORM" not in str(error.value)


def test_a_training_from_the_authors_weights(tiny, tmp_path, monkeypatch, capsys):
    # One step with a learning rate of 0, which changes no weight. The backbone's file is read first, so START wins.
    save_darknet_weights(YOLOv1Tiny(2, 1).backbone, tmp_path / "tiny.conv.13")
    constants = dict(NETWORK="YOLOv1Tiny", MAX_STEPS=1, BATCH_SIZE=2, SIZE=64, NUM_WORKERS=0, OPTIMIZER="sgd",
                     LEARNING_RATE=0, RUNS=tmp_path, RUN="yolov1", START=tiny, BACKBONE=tmp_path / "tiny.conv.13")
    for name, value in constants.items():
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(evaluate, "MAX_TRAIN_EVALUATED", 2)
    train.main()
    assert "start fresh: detect.2\n" in capsys.readouterr().out              # because the grid is another
    path, other = tmp_path / "yolov1" / "last.pt", weights.load_detector(tiny)[0]
    state = load_checkpoint(path, "YOLOv1Tiny")
    for key, value in other.named_parameters():
        if not key.startswith("detect.2"):
            assert state["model"][key].equal(value), key

    # The same command continues from last.pt and does not start again. With another network it is refused.
    monkeypatch.setattr(train, "MAX_STEPS", 2)
    train.main()
    assert "start fresh" not in capsys.readouterr().out
    monkeypatch.setattr(train, "NETWORK", "YOLOv1")
    with pytest.raises(InputError, match="last.pt: was trained with another NETWORK"):
        train.main()

    # Its checkpoint can be opened and started from. Then no layer starts fresh.
    network, state = weights.load_detector(path)
    assert type(network) is YOLOv1Tiny and state["step"] == 2
    assert load_pretrained(YOLOv1Tiny(20, grid=1), VOC_CLASSES, None, path) == []
