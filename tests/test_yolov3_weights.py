"""
Files of trained YOLOv3 detectors: every network's .weights file compared with bytes made by hand, files recognised by
their lengths, checkpoints, and trainings that start from a file.
"""
import filecmp
import math
import struct

import pytest
import torch
from PIL import Image

import yolov3.detect as detect
import yolov3.evaluate as evaluate
import yolov3.train as train
import yolov3.weights as weights
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.coco import CLASSES as COCO_CLASSES
from shared.errors import InputError
from shared.voc import CLASSES as VOC_CLASSES
from yolov3.darknet53.model import Darknet53
from yolov3.dataset import TEST
from yolov3.model import ANCHORS, Backbone, YOLOv3
from yolov3.tiny.model import ANCHORS as TINY_ANCHORS
from yolov3.tiny.model import Backbone as TinyBackbone
from yolov3.tiny.model import YOLOv3Tiny
from yolov3.weights import darknet_order, load_darknet_weights, load_pretrained, save_darknet_weights

# ---- the bytes of a .weights file

def layer(name, shape, normalized=True):
    """
    The tensors of a layer in the order of a .weights file: (name in the network's state_dict, shape). BatchNorm's beta,
    gamma, mean and variance, or the biases, come before the weights ([darknet] src/parser.c).
    """
    out = shape[:1]
    if normalized:                                                           # a convolution with BatchNorm
        numbers = ["bn.bias", "bn.weight", "bn.running_mean", "bn.running_var"]
        return [(f"{name}.{number}", out) for number in numbers] + [(f"{name}.conv.weight", shape)]
    return [(f"{name}.bias", out), (f"{name}.weight", shape)]


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


# cfg/darknet53.cfg; in cfg/yolov3.cfg the heads take the place of the classifier
DARKNET53 = layer("stem", (32, 3, 3, 3))
for stage, channels, blocks in [(1, 64, 1), (2, 128, 2), (3, 256, 8), (4, 512, 8), (5, 1024, 4)]:
    DARKNET53 += layer(f"stage{stage}.0", (channels, channels // 2, 3, 3))
    for block in range(1, blocks + 1):
        DARKNET53 += layer(f"stage{stage}.{block}.reduce", (channels // 2, channels, 1, 1))
        DARKNET53 += layer(f"stage{stage}.{block}.expand", (channels, channels // 2, 3, 3))
CLASSIFIER = layer("classify", (1000, 1024, 1, 1), normalized=False)
HEADS = [
    *layer("neck32.0", (512, 1024, 1, 1)), *layer("neck32.1", (1024, 512, 3, 3)), *layer("neck32.2", (512, 1024, 1, 1)),
    *layer("neck32.3", (1024, 512, 3, 3)), *layer("neck32.4", (512, 1024, 1, 1)),
    *layer("detect32.0", (1024, 512, 3, 3)), *layer("detect32.1", (255, 1024, 1, 1), normalized=False),
    *layer("up16.0", (256, 512, 1, 1)),
    *layer("neck16.0", (256, 768, 1, 1)), *layer("neck16.1", (512, 256, 3, 3)), *layer("neck16.2", (256, 512, 1, 1)),
    *layer("neck16.3", (512, 256, 3, 3)), *layer("neck16.4", (256, 512, 1, 1)),
    *layer("detect16.0", (512, 256, 3, 3)), *layer("detect16.1", (255, 512, 1, 1), normalized=False),
    *layer("up8.0", (128, 256, 1, 1)),
    *layer("neck8.0", (128, 384, 1, 1)), *layer("neck8.1", (256, 128, 3, 3)), *layer("neck8.2", (128, 256, 1, 1)),
    *layer("neck8.3", (256, 128, 3, 3)), *layer("neck8.4", (128, 256, 1, 1)),
    *layer("detect8.0", (256, 128, 3, 3)), *layer("detect8.1", (255, 256, 1, 1), normalized=False),
]
# cfg/yolov3-tiny.cfg. The missing indices are poolings and a padding, which have no numbers
TINY_BACKBONE = [
    *layer("stage16.0", (16, 3, 3, 3)), *layer("stage16.2", (32, 16, 3, 3)), *layer("stage16.4", (64, 32, 3, 3)),
    *layer("stage16.6", (128, 64, 3, 3)), *layer("stage16.8", (256, 128, 3, 3)),
    *layer("stage32.1", (512, 256, 3, 3)), *layer("stage32.4", (1024, 512, 3, 3)),
]
TINY_HEADS = [
    *layer("neck32", (256, 1024, 1, 1)),
    *layer("detect32.0", (512, 256, 3, 3)), *layer("detect32.1", (255, 512, 1, 1), normalized=False),
    *layer("up16.0", (128, 256, 1, 1)),
    *layer("detect16.0", (256, 384, 3, 3)), *layer("detect16.1", (255, 256, 1, 1), normalized=False),
]


@pytest.mark.parametrize("network_class, tensors", [
    (YOLOv3, in_backbone(DARKNET53) + HEADS), (Backbone, DARKNET53), (Darknet53, DARKNET53 + CLASSIFIER),
    (YOLOv3Tiny, in_backbone(TINY_BACKBONE) + TINY_HEADS), (TinyBackbone, TINY_BACKBONE)])
def test_every_network_is_read_and_written_in_darknets_order(tmp_path, network_class, tensors):
    network, marks = empty(network_class), write_marked(tmp_path / "a.weights", tensors)
    assert load_darknet_weights(network, tmp_path / "a.weights") == 6400
    check_marks(network, tensors, marks)
    save_darknet_weights(network, tmp_path / "b.weights", seen=6400)
    assert filecmp.cmp(tmp_path / "a.weights", tmp_path / "b.weights", shallow=False)


def test_a_backbone_takes_the_file_of_a_classifier(tmp_path):
    # darknet53.weights is darknet53.conv.74 and the 1000 + 1000 * 1024 numbers of the last layer.
    backbone, marks = empty(Backbone), write_marked(tmp_path / "darknet53.weights", DARKNET53 + CLASSIFIER)
    load_darknet_weights(backbone, tmp_path / "darknet53.weights")
    check_marks(backbone, DARKNET53, marks)
    with pytest.raises(InputError, match="darknet53.weights: not the weights of this network"):
        load_darknet_weights(TinyBackbone(), tmp_path / "darknet53.weights")


@pytest.mark.parametrize("network_class, length", [
    (YOLOv3, 248_007_028), (lambda: YOLOv3(20), 246_714_628), (Backbone, 162_482_560)])
def test_files_are_as_long_as_the_authors(network_class, length):
    # The bytes after the header of yolov3.weights, of a file trained with yolov3-voc.cfg, and of darknet53.conv.74.
    with torch.device("meta"):
        assert 4 * sum(tensor.numel() for tensor in darknet_order(network_class())) == length


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """yolov3-tiny.weights, but with random numbers, positive as variances have to be; 64,000 images seen."""
    path = tmp_path_factory.mktemp("authors") / "yolov3-tiny.weights"
    write_random(path, YOLOv3Tiny, seen=64_000)
    return path


def write_random(path, network_class, seen=0):
    with torch.device("meta"):
        count = sum(tensor.numel() for tensor in darknet_order(network_class()))
    values = 0.05 * torch.rand(count, generator=torch.Generator().manual_seed(count))
    path.write_bytes(struct.pack("<iiiq", 0, 2, 0, seen) + values.numpy().astype("<f4").tobytes())


def test_a_network_in_channels_last_is_read_and_written_alike(tiny, tmp_path):
    network = YOLOv3Tiny().to(memory_format=torch.channels_last)
    save_darknet_weights(network, tmp_path / "again.weights", load_darknet_weights(network, tiny))
    assert filecmp.cmp(tiny, tmp_path / "again.weights", shallow=False)


def test_the_backbone_alone_leaves_the_rest_unchanged(tmp_path):
    # Darknet's `partial` writes the first layers of a file. They are the backbone.
    whole, network = YOLOv3Tiny(2), YOLOv3Tiny(2)
    before = [p.clone() for p in network.detect32.parameters()]
    save_darknet_weights(whole.backbone, tmp_path / "tiny.conv.15")
    save_darknet_weights(whole, tmp_path / "tiny.weights")
    part = (tmp_path / "tiny.conv.15").read_bytes()
    assert (tmp_path / "tiny.weights").read_bytes()[:len(part)] == part
    load_darknet_weights(network.backbone, tmp_path / "tiny.conv.15")
    assert all(p.equal(q) for p, q in zip(network.backbone.parameters(), whole.backbone.parameters()))
    assert all(p.equal(old) for p, old in zip(network.detect32.parameters(), before))
    with pytest.raises(InputError, match="tiny.conv.15: not the weights of this network"):
        load_darknet_weights(network, tmp_path / "tiny.conv.15")


# ---- detectors from files

def test_a_file_is_recognised_by_its_length(tiny, tmp_path, monkeypatch):
    network, state = weights.load_detector(tiny)
    assert type(network) is YOLOv3Tiny
    assert state == {"network": "YOLOv3Tiny", "classes": COCO_CLASSES, "size": 416, "anchors": TINY_ANCHORS,
                     "step": 1000}                                           # 64,000 / 64
    with open(tmp_path / "voc.weights", "wb") as file:                       # of zeros
        file.write(struct.pack("<iiiq", 0, 2, 0, 0))
        file.truncate(20 + 246_714_628)
    network, state = weights.load_detector(str(tmp_path / "voc.weights"))
    assert type(network) is YOLOv3
    assert (state["network"], state["classes"], state["anchors"]) == ("YOLOv3", VOC_CLASSES, ANCHORS)
    (tmp_path / "short.weights").write_bytes(tiny.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"short.weights: .*8,858,733 numbers after its header, expected 62,001,757 "
                                         r"\(YOLOv3, 80 classes\) or .*8,858,734 \(YOLOv3Tiny, 80 classes\)"):
        weights.load_detector(tmp_path / "short.weights")
    monkeypatch.setattr(weights, "FILES", [("YOLOv3Tiny", ANCHORS[1:], VOC_CLASSES[:10] * 8), *weights.FILES])
    state = weights.load_detector(tiny)[1]                                   # of rows with equal lengths the first
    assert (state["classes"], state["anchors"]) == (VOC_CLASSES[:10] * 8, ANCHORS[1:])


def test_detect_takes_the_authors_file(tiny, tmp_path, monkeypatch):
    # The heads have biases only: 8 for an object, a person and a dog, -8 for the rest. sigmoid(8)^2 = .99933.
    network, _ = weights.load_detector(tiny)
    with torch.no_grad():
        for layer in (network.detect32[1], network.detect16[1]):
            layer.weight.zero_()
            bias = layer.bias.view(3, 85)
            bias[:, 4:], bias[:, [4, 5, 5 + 16]] = -8, 8
    save_darknet_weights(network, tmp_path / "sure.weights")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    for name, value in [("CHECKPOINT", tmp_path / "sure.weights"), ("SOURCE", tmp_path / "a.jpg"),
                        ("OUT", tmp_path / "out")]:
        monkeypatch.setattr(detect, name, value)
    monkeypatch.setattr(weights, "SIZE", 64)
    detect.main()
    lines = (tmp_path / "out" / "detections.txt").read_text().splitlines()[1:]
    assert {tuple(line.split("\t")[1:3]) for line in lines} == {("person", "0.9993"), ("dog", "0.9993")}


def test_evaluate_takes_a_weights_file_of_your_own(tmp_path, monkeypatch, capsys):
    write_random(tmp_path / "own.weights", lambda: YOLOv3Tiny(20), seen=640)
    monkeypatch.setattr(weights, "FILES", [("YOLOv3Tiny", TINY_ANCHORS, VOC_CLASSES)])
    monkeypatch.setattr(weights, "SIZE", 64)
    for name, value in [("CHECKPOINT", tmp_path / "own.weights"), ("DATA", {"test": TEST}), ("NUM_WORKERS", 0)]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    assert "own.weights, YOLOv3Tiny, step 10, input 64 x 64" in capsys.readouterr().out
    assert (tmp_path / "evaluation" / "test" / "detections.json").exists()


def test_a_checkpoint_becomes_a_weights_file(tmp_path, monkeypatch, capsys):
    network, path = YOLOv3Tiny(20), tmp_path / "last.pt"
    state = {"network": "YOLOv3Tiny", "classes": VOC_CLASSES, "anchors": TINY_ANCHORS, "size": 64, "step": 7,
             "model": network.state_dict()}
    save_checkpoint(path, state)
    monkeypatch.setattr(weights, "CHECKPOINT", path)
    weights.main()
    assert f"{tmp_path / 'last.weights'}: YOLOv3Tiny, 20 classes, " in capsys.readouterr().out
    again = YOLOv3Tiny(20)
    assert load_darknet_weights(again, tmp_path / "last.weights") == 7 * 64
    assert all(a.equal(b) for a, b in zip(darknet_order(again), darknet_order(network)))

    resnext = weights.ResNeXtYOLOv3(20)
    save_checkpoint(path, {**state, "network": "ResNeXtYOLOv3", "anchors": ANCHORS, "model": resnext.state_dict()})
    assert type(weights.load_detector(path)[0]) is weights.ResNeXtYOLOv3
    with pytest.raises(InputError, match="last.pt: holds ResNeXtYOLOv3, which Darknet does not know"):
        weights.main()


# ---- trainings that start from a file

@pytest.mark.parametrize("classes, anchors, fresh", [
    (COCO_CLASSES, TINY_ANCHORS, []),
    (COCO_CLASSES[::-1], TINY_ANCHORS, ["detect32.1", "detect16.1"]),        # equally many classes, but others
    (["cat", "dog"], TINY_ANCHORS, ["detect32.1", "detect16.1"]),
    (COCO_CLASSES, TINY_ANCHORS[::-1], ["detect32.1", "detect16.1"])])
def test_all_layers_but_those_that_predict_are_copied(tiny, classes, anchors, fresh, capsys):
    network, other = YOLOv3Tiny(len(classes), anchors), weights.load_detector(tiny)[0].state_dict()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert load_pretrained(network, anchors, classes, None, tiny) == fresh
    for key, value in network.state_dict().items():
        assert value.equal(before[key] if key.rpartition(".")[0] in fresh else other[key]), key
    line = f"{tiny}: all weights are copied"
    if fresh:
        line += ", except those of these layers, which start fresh: detect32.1, detect16.1"
    assert capsys.readouterr().out == line + "\n"


def test_another_network_is_refused(tiny):
    with pytest.raises(InputError, match="yolov3-tiny.weights: holds YOLOv3Tiny, not YOLOv3$"):
        load_pretrained(empty(YOLOv3), ANCHORS, COCO_CLASSES, None, tiny)


def test_a_backbone_from_either_kind_of_file(tmp_path):
    first, second, random = YOLOv3Tiny(2), YOLOv3Tiny(2), YOLOv3Tiny(2)
    save_darknet_weights(first.backbone, tmp_path / "tiny.conv.15")
    save_checkpoint(tmp_path / "backbone.pt", {"model": first.backbone.state_dict()})
    for file in ("tiny.conv.15", "backbone.pt"):
        second.load_state_dict(random.state_dict())
        assert load_pretrained(second, TINY_ANCHORS, ["cat", "dog"], tmp_path / file, None) == []
        assert all(p.equal(q) for p, q in zip(second.backbone.parameters(), first.backbone.parameters()))
        assert second.detect32[1].weight.equal(random.detect32[1].weight)


@pytest.mark.slow
def test_a_training_from_the_authors_weights(tiny, tmp_path, monkeypatch, capsys):
    # One step with a learning rate of 0, which changes no weight. The backbone's file is read first, so START wins.
    save_darknet_weights(YOLOv3Tiny().backbone, tmp_path / "tiny.conv.15")
    constants = dict(RUN="yolov3", NETWORK="YOLOv3Tiny", MAX_STEPS=1, BATCH_SIZE=2, TRAIN_SIZES=[64], TEST_SIZE=64,
                     NUM_WORKERS=0,
                     OPTIMIZER="sgd", LEARNING_RATE=0, RUNS=tmp_path, START=tiny, BACKBONE=tmp_path / "tiny.conv.15")
    for name, value in constants.items():
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(evaluate, "MAX_TRAIN_EVALUATED", 2)
    loss, detect_all, anchors = train.yolov3_loss, evaluate.detect_all, []
    monkeypatch.setattr(train, "yolov3_loss", lambda *given: anchors.append(given[2]) or loss(*given))
    monkeypatch.setattr(evaluate, "detect_all", lambda *given: anchors.append(given[3]) or detect_all(*given))
    train.main()
    assert anchors == [TINY_ANCHORS] * 3                                     # one step; TRAIN and TEST evaluated
    assert "start fresh: detect32.1, detect16.1\n" in capsys.readouterr().out
    path, other = tmp_path / "yolov3" / "last.pt", weights.load_detector(tiny)[0]
    state = load_checkpoint(path, "YOLOv3Tiny")
    for key, value in other.named_parameters():
        if not key.startswith(("detect32.1", "detect16.1")):
            assert state["model"][key].equal(value), key
    assert (state["network"], state["classes"], state["anchors"]) == ("YOLOv3Tiny", VOC_CLASSES, TINY_ANCHORS)
    assert state["model"]["detect32.1.bias"].shape == (75,)

    # The same command continues from last.pt and does not start again. With another network it is refused.
    monkeypatch.setattr(train, "MAX_STEPS", 2)
    train.main()
    assert "start fresh" not in capsys.readouterr().out
    monkeypatch.setattr(train, "NETWORK", "YOLOv3")
    with pytest.raises(InputError, match="last.pt: was trained with another NETWORK"):
        train.main()

    # Its checkpoint can be opened and started from. Then no layer starts fresh.
    network, state = weights.load_detector(path)
    assert type(network) is YOLOv3Tiny and state["step"] == 2
    assert load_pretrained(YOLOv3Tiny(20), TINY_ANCHORS, VOC_CLASSES, None, path) == []
