"""
Files of trained YOLOv2 detectors: every network's .weights file compared with bytes made by hand, files recognised by
their lengths, checkpoints, and trainings that start from a file.
"""
import filecmp
import math
import struct

import pytest
import torch
from PIL import Image

import yolov2.detect as detect
import yolov2.evaluate as evaluate
import yolov2.train as train
import yolov2.weights as weights
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.coco import CLASSES as COCO_CLASSES
from shared.errors import InputError
from shared.voc import CLASSES as VOC_CLASSES
from yolov2.darknet19.model import Darknet19
from yolov2.dataset import TEST
from yolov2.model import ANCHORS, ANCHORS_2016, COCO_ANCHORS, COCO_ANCHORS_2016, Backbone, YOLOv2
from yolov2.tiny.model import ANCHORS as TINY_ANCHORS
from yolov2.tiny.model import Backbone as TinyBackbone
from yolov2.tiny.model import YOLOv2Tiny
from yolov2.weights import darknet_order, load_darknet_weights, load_pretrained, save_darknet_weights

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


# cfg/darknet19.cfg; in cfg/yolov2-voc.cfg the head takes the place of the classifier. Index 0 of a stage is a pooling
DARKNET19 = [
    *layer("stage1.0", (32, 3, 3, 3)), *layer("stage2.1", (64, 32, 3, 3)),
    *layer("stage3.1", (128, 64, 3, 3)), *layer("stage3.2", (64, 128, 1, 1)), *layer("stage3.3", (128, 64, 3, 3)),
    *layer("stage4.1", (256, 128, 3, 3)), *layer("stage4.2", (128, 256, 1, 1)), *layer("stage4.3", (256, 128, 3, 3)),
    *layer("stage5.1", (512, 256, 3, 3)), *layer("stage5.2", (256, 512, 1, 1)), *layer("stage5.3", (512, 256, 3, 3)),
    *layer("stage5.4", (256, 512, 1, 1)), *layer("stage5.5", (512, 256, 3, 3)),
    *layer("stage6.1", (1024, 512, 3, 3)), *layer("stage6.2", (512, 1024, 1, 1)),
    *layer("stage6.3", (1024, 512, 3, 3)), *layer("stage6.4", (512, 1024, 1, 1)), *layer("stage6.5", (1024, 512, 3, 3)),
]
CLASSIFIER = layer("classify", (1000, 1024, 1, 1), normalized=False)
HEAD = [
    *layer("neck32.0", (1024, 1024, 3, 3)), *layer("neck32.1", (1024, 1024, 3, 3)),
    *layer("passthrough.0", (64, 512, 1, 1)),
    *layer("detect32.0", (1024, 1280, 3, 3)), *layer("detect32.1", (125, 1024, 1, 1), normalized=False),
]
# cfg/yolo-voc.2.0.cfg: no 1 x 1 x 64, so 4 * 512 + 1024 channels into the last 3 x 3
HEAD_OF_2016 = [
    *layer("neck32.0", (1024, 1024, 3, 3)), *layer("neck32.1", (1024, 1024, 3, 3)),
    *layer("detect32.0", (1024, 3072, 3, 3)), *layer("detect32.1", (125, 1024, 1, 1), normalized=False),
]
# cfg/yolov2-tiny-voc.cfg and, with 512 channels in the last 3 x 3, cfg/yolov2-tiny.cfg
TINY_BACKBONE = [
    *layer("stage32.0", (16, 3, 3, 3)), *layer("stage32.2", (32, 16, 3, 3)), *layer("stage32.4", (64, 32, 3, 3)),
    *layer("stage32.6", (128, 64, 3, 3)), *layer("stage32.8", (256, 128, 3, 3)), *layer("stage32.10", (512, 256, 3, 3)),
    *layer("stage32.13", (1024, 512, 3, 3)),
]
TINY_HEAD = [
    *layer("detect32.0", (1024, 1024, 3, 3)), *layer("detect32.1", (125, 1024, 1, 1), normalized=False),
]
TINY_COCO_HEAD = [
    *layer("detect32.0", (512, 1024, 3, 3)), *layer("detect32.1", (425, 512, 1, 1), normalized=False),
]


@pytest.mark.parametrize("network_class, tensors", [
    (YOLOv2, in_backbone(DARKNET19) + HEAD), (Backbone, DARKNET19), (Darknet19, DARKNET19 + CLASSIFIER),
    (lambda: YOLOv2(passthrough_channels=None), in_backbone(DARKNET19) + HEAD_OF_2016),
    (YOLOv2Tiny, in_backbone(TINY_BACKBONE) + TINY_HEAD), (TinyBackbone, TINY_BACKBONE),
    (lambda: YOLOv2Tiny(80, channels=512), in_backbone(TINY_BACKBONE) + TINY_COCO_HEAD)])
def test_every_network_is_read_and_written_in_darknets_order(tmp_path, network_class, tensors):
    network, marks = empty(network_class), write_marked(tmp_path / "a.weights", tensors)
    assert load_darknet_weights(network, tmp_path / "a.weights") == 6400
    check_marks(network, tensors, marks)
    save_darknet_weights(network, tmp_path / "b.weights", seen=6400)
    assert filecmp.cmp(tmp_path / "a.weights", tmp_path / "b.weights", shallow=False)


def test_a_backbone_takes_the_file_of_a_classifier(tmp_path):
    # darknet19.weights is darknet19.conv.23 and the 1000 + 1000 * 1024 numbers of the last layer.
    backbone, marks = empty(Backbone), write_marked(tmp_path / "darknet19.weights", DARKNET19 + CLASSIFIER)
    load_darknet_weights(backbone, tmp_path / "darknet19.weights")
    check_marks(backbone, DARKNET19, marks)
    with pytest.raises(InputError, match="darknet19.weights: not the weights of this network"):
        load_darknet_weights(TinyBackbone(), tmp_path / "darknet19.weights")


@pytest.mark.parametrize("network_class, length", [
    (lambda: YOLOv2(80), 203_934_244), (YOLOv2, 202_704_244), (Backbone, 79_327_104)])
def test_files_are_as_long_as_the_authors(network_class, length):
    # The bytes after the header of yolov2.weights, yolov2-voc.weights and darknet19_448.conv.23.
    with torch.device("meta"):
        assert 4 * sum(tensor.numel() for tensor in darknet_order(network_class())) == length
    assert 83_427_104 - 4 * 1_025_000 == 79_327_104                          # darknet19.weights without its last layer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """yolov2-tiny-voc.weights, but with random numbers, positive as variances have to be; 64,000 images seen."""
    path = tmp_path_factory.mktemp("authors") / "yolov2-tiny-voc.weights"
    write_random(path, YOLOv2Tiny, seen=64_000)
    return path


def write_random(path, network_class, seen=0):
    with torch.device("meta"):
        count = sum(tensor.numel() for tensor in darknet_order(network_class()))
    values = 0.05 * torch.rand(count, generator=torch.Generator().manual_seed(count))
    path.write_bytes(struct.pack("<iiiq", 0, 2, 0, seen) + values.numpy().astype("<f4").tobytes())


def test_a_network_in_channels_last_is_read_and_written_alike(tiny, tmp_path):
    network = YOLOv2Tiny().to(memory_format=torch.channels_last)
    save_darknet_weights(network, tmp_path / "again.weights", load_darknet_weights(network, tiny))
    assert filecmp.cmp(tiny, tmp_path / "again.weights", shallow=False)


def test_the_backbone_alone_leaves_the_rest_unchanged(tmp_path):
    # Darknet's `partial` writes the first layers of a file. They are the backbone.
    whole, network = YOLOv2Tiny(2), YOLOv2Tiny(2)
    before = [p.clone() for p in network.detect32.parameters()]
    save_darknet_weights(whole.backbone, tmp_path / "tiny.conv.13")
    save_darknet_weights(whole, tmp_path / "tiny.weights")
    part = (tmp_path / "tiny.conv.13").read_bytes()
    assert (tmp_path / "tiny.weights").read_bytes()[:len(part)] == part
    load_darknet_weights(network.backbone, tmp_path / "tiny.conv.13")
    assert all(p.equal(q) for p, q in zip(network.backbone.parameters(), whole.backbone.parameters()))
    assert all(p.equal(old) for p, old in zip(network.detect32.parameters(), before))
    with pytest.raises(InputError, match="tiny.conv.13: not the weights of this network"):
        load_darknet_weights(network, tmp_path / "tiny.conv.13")


# ---- detectors from files

def test_a_file_is_recognised_by_its_length(tiny, tmp_path, monkeypatch):
    network, state = weights.load_detector(tiny)
    assert type(network) is YOLOv2Tiny
    assert state == {"network": "YOLOv2Tiny", "classes": VOC_CLASSES, "size": 416, "anchors": TINY_ANCHORS,
                     "stretch": False, "step": 1000}                         # 64,000 / 64
    for network_class, numbers in [(YOLOv2, 50_983_561), (YOLOv2Tiny, 11_237_145)]:
        with open(tmp_path / "coco.weights", "wb") as file:                  # of zeros
            file.write(struct.pack("<iiiq", 0, 2, 0, 0))
            file.truncate(20 + 4 * numbers)
        network, state = weights.load_detector(str(tmp_path / "coco.weights"))
        assert type(network) is network_class
        assert (state["anchors"], state["classes"], state["step"]) == (COCO_ANCHORS, COCO_CLASSES, 0)
    assert state["network"] == "YOLOv2Tiny for COCO" and network.detect32[1].weight.shape == (425, 512, 1, 1)
    (tmp_path / "short.weights").write_bytes(tiny.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"short.weights: .*15,867,884 numbers after its header, expected 50,676,061 "
                                         r"\(YOLOv2, 20 classes\) or .*15,867,885 \(YOLOv2Tiny, 20 classes\)"):
        weights.load_detector(tmp_path / "short.weights")
    monkeypatch.setattr(weights, "FILES", [("YOLOv2Tiny", ANCHORS, VOC_CLASSES[::-1]), *weights.FILES])
    state = weights.load_detector(tiny)[1]                                   # of rows with equal lengths the first
    assert (state["classes"], state["anchors"]) == (VOC_CLASSES[::-1], ANCHORS)


@pytest.mark.parametrize("length, classes, anchors", [(268_632_452, VOC_CLASSES, ANCHORS_2016),
                                                      (269_862_452, COCO_CLASSES, COCO_ANCHORS_2016)])
def test_a_file_of_2016_is_recognised(tmp_path, monkeypatch, length, classes, anchors):
    # The 67,137,565 parameters of the network for VOC (test_yolov2_model.py) and 10,272 means and 10,272 variances are
    # 67,158,109 numbers. 80 classes instead of 20 are 5 * 60 = 300 more outputs, each with 1024 weights and a bias:
    # 67,465,609. The header of version 0.1 has 16 bytes. 269,862,452 bytes is how long the authors' yolo.weights was
    # before March 2017 (issue 247 of thtrieu/darkflow).
    numbers = [67_137_565 + 2 * 10_272, 67_137_565 + 2 * 10_272 + 300 * 1025]
    assert numbers == [67_158_109, 67_465_609] and length in [16 + 4 * count for count in numbers]
    for name in ("kaiming_uniform_", "kaiming_normal_"):                     # would take most of this test's time
        monkeypatch.setattr(torch.nn.init, name, lambda *args, **keywords: None)
    monkeypatch.setattr(weights, "load_darknet_weights", lambda network, path: 6400)     # so would reading the zeros
    with open(tmp_path / "2016.weights", "wb") as file:                      # of zeros
        file.write(struct.pack("<iiii", 0, 1, 0, 0))
        file.truncate(length)
    network, state = weights.load_detector(tmp_path / "2016.weights")
    assert network.detect32[0].conv.weight.shape == (1024, 3072, 3, 3)
    assert state == {"network": "YOLOv2 of 2016", "classes": classes, "size": 416, "anchors": anchors, "stretch": True,
                     "step": 100}                                            # 6,400 / 64


def test_detect_takes_the_authors_file(tiny, tmp_path, monkeypatch):
    # The head has biases only: 8 for an object and a dog, -8 for the rest. sigmoid(8) = .99966, and the softmax gives
    # the dog 1 / (1 + 19 exp(-16)) = .999998. The score is .99966.
    network, _ = weights.load_detector(tiny)
    with torch.no_grad():
        network.detect32[1].weight.zero_()
        bias = network.detect32[1].bias.view(5, 25)
        bias[:, 4:], bias[:, [4, 5 + 11]] = -8, 8
    save_darknet_weights(network, tmp_path / "sure.weights")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    for name, value in [("CHECKPOINT", tmp_path / "sure.weights"), ("SOURCE", tmp_path / "a.jpg"),
                        ("OUT", tmp_path / "out")]:
        monkeypatch.setattr(detect, name, value)
    monkeypatch.setattr(weights, "SIZE", 64)
    detect.main()
    lines = (tmp_path / "out" / "detections.txt").read_text().splitlines()[1:]
    assert {tuple(line.split("\t")[1:3]) for line in lines} == {("dog", "0.9997")}
    assert 1 / (1 + math.exp(-8)) / (1 + 19 * math.exp(-16)) == pytest.approx(0.99966, abs=1e-5)


def test_evaluate_takes_a_weights_file_of_your_own(tmp_path, monkeypatch, capsys):
    write_random(tmp_path / "own.weights", lambda: YOLOv2Tiny(20), seen=640)
    monkeypatch.setattr(weights, "FILES", [("YOLOv2Tiny", TINY_ANCHORS, VOC_CLASSES)])
    monkeypatch.setattr(weights, "SIZE", 64)
    for name, value in [("CHECKPOINT", tmp_path / "own.weights"), ("DATA", {"test": TEST}), ("NUM_WORKERS", 0)]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    assert "own.weights, YOLOv2Tiny, step 10, input 64 x 64" in capsys.readouterr().out
    assert (tmp_path / "evaluation" / "test" / "detections.json").exists()


def test_a_checkpoint_becomes_a_weights_file(tmp_path, monkeypatch, capsys):
    network, path = YOLOv2Tiny(20), tmp_path / "last.pt"
    state = {"network": "YOLOv2Tiny", "classes": VOC_CLASSES, "anchors": TINY_ANCHORS, "size": 64, "step": 7,
             "model": network.state_dict()}
    save_checkpoint(path, state)
    monkeypatch.setattr(weights, "CHECKPOINT", path)
    weights.main()
    assert f"{tmp_path / 'last.weights'}: YOLOv2Tiny, 20 classes, " in capsys.readouterr().out
    again = YOLOv2Tiny(20)
    assert load_darknet_weights(again, tmp_path / "last.weights") == 7 * 64
    assert all(a.equal(b) for a, b in zip(darknet_order(again), darknet_order(network)))


# ---- trainings that start from a file

@pytest.mark.parametrize("classes, anchors, fresh", [
    (VOC_CLASSES, TINY_ANCHORS, []),
    (VOC_CLASSES[::-1], TINY_ANCHORS, ["detect32.1"]),                       # equally many classes, but others
    (["cat", "dog"], TINY_ANCHORS, ["detect32.1"]),
    (VOC_CLASSES, TINY_ANCHORS[::-1], ["detect32.1"])])
def test_all_layers_but_the_last_are_copied(tiny, classes, anchors, fresh, capsys):
    network, other = YOLOv2Tiny(len(classes), anchors), weights.load_detector(tiny)[0].state_dict()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert load_pretrained(network, anchors, classes, None, tiny) == fresh
    for key, value in network.state_dict().items():
        assert value.equal(before[key] if key.rpartition(".")[0] in fresh else other[key]), key
    line = f"{tiny}: all weights are copied"
    if fresh:
        line += ", except those of these layers, which start fresh: detect32.1"
    assert capsys.readouterr().out == line + "\n"


def test_the_tiny_network_for_coco_differs_in_another_layer(tmp_path):
    # Its last 3 x 3 convolution has 512 channels instead of 1024. That layer starts fresh as well as the last one.
    save_darknet_weights(YOLOv2Tiny(80, COCO_ANCHORS, channels=512), tmp_path / "yolov2-tiny.weights")
    fresh = load_pretrained(YOLOv2Tiny(20), TINY_ANCHORS, VOC_CLASSES, None, tmp_path / "yolov2-tiny.weights")
    assert fresh == ["detect32.0.conv", "detect32.0.bn", "detect32.1"]


def test_another_network_is_refused(tiny):
    with pytest.raises(InputError, match="yolov2-tiny-voc.weights: holds YOLOv2Tiny, not YOLOv2$"):
        load_pretrained(empty(YOLOv2), ANCHORS, VOC_CLASSES, None, tiny)


def test_a_backbone_from_either_kind_of_file(tmp_path):
    first, second, random = YOLOv2Tiny(2), YOLOv2Tiny(2), YOLOv2Tiny(2)
    save_darknet_weights(first.backbone, tmp_path / "tiny.conv.13")
    save_checkpoint(tmp_path / "backbone.pt", {"model": first.backbone.state_dict()})
    for file in ("tiny.conv.13", "backbone.pt"):
        second.load_state_dict(random.state_dict())
        assert load_pretrained(second, TINY_ANCHORS, ["cat", "dog"], tmp_path / file, None) == []
        assert all(p.equal(q) for p, q in zip(second.backbone.parameters(), first.backbone.parameters()))
        assert second.detect32[1].weight.equal(random.detect32[1].weight)


@pytest.mark.slow
def test_a_training_from_the_authors_weights(tiny, tmp_path, monkeypatch, capsys):
    # One step with a learning rate of 0, which changes no weight. The backbone's file is read first, so START wins.
    save_darknet_weights(YOLOv2Tiny().backbone, tmp_path / "tiny.conv.13")
    constants = dict(RUN="yolov2", NETWORK="YOLOv2Tiny", MAX_STEPS=1, BATCH_SIZE=2, TRAIN_SIZES=[64], TEST_SIZE=64,
                     NUM_WORKERS=0,
                     OPTIMIZER="sgd", LEARNING_RATE=0, RUNS=tmp_path, START=tiny, BACKBONE=tmp_path / "tiny.conv.13",
                     CLASSES=VOC_CLASSES[::-1])
    for name, value in constants.items():
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(evaluate, "MAX_TRAIN_EVALUATED", 2)
    loss, detect_all, anchors = train.yolov2_loss, evaluate.detect_all, []
    monkeypatch.setattr(train, "yolov2_loss", lambda *given, **seen: anchors.append(given[2]) or loss(*given, **seen))
    monkeypatch.setattr(evaluate, "detect_all", lambda *given: anchors.append(given[3]) or detect_all(*given))
    train.main()
    assert anchors == [TINY_ANCHORS] * 3                                     # one step; TRAIN and TEST evaluated
    assert "start fresh: detect32.1\n" in capsys.readouterr().out
    path, other = tmp_path / "yolov2" / "last.pt", weights.load_detector(tiny)[0]
    state = load_checkpoint(path, "YOLOv2Tiny")
    for key, value in other.named_parameters():
        if not key.startswith("detect32.1"):
            assert state["model"][key].equal(value), key
    assert (state["network"], state["classes"], state["anchors"]) == ("YOLOv2Tiny", VOC_CLASSES[::-1], TINY_ANCHORS)

    # The same command continues from last.pt and does not start again. With another network it is refused.
    monkeypatch.setattr(train, "MAX_STEPS", 2)
    train.main()
    assert "start fresh" not in capsys.readouterr().out
    monkeypatch.setattr(train, "NETWORK", "YOLOv2")
    with pytest.raises(InputError, match="last.pt: was trained with another NETWORK"):
        train.main()

    # Its checkpoint can be opened and started from. Then no layer starts fresh.
    network, state = weights.load_detector(path)
    assert type(network) is YOLOv2Tiny and state["step"] == 2
    assert load_pretrained(YOLOv2Tiny(20), TINY_ANCHORS, VOC_CLASSES[::-1], None, path) == []
