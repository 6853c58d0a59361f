"""The authors' files by their lengths; round trips; detectors from either kind of file; trainings from one."""
import struct

import pytest
import torch
import torch.nn as nn
from PIL import Image

import yolov3.detect as detect
import yolov3.evaluate as evaluate
import yolov3.train as train
import yolov3.weights as weights
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.coco import CLASSES as COCO_CLASSES
from shared.errors import InputError
from shared.voc import CLASSES as VOC_CLASSES
from yolov3.dataset import TEST
from yolov3.model import ANCHORS, YOLOv3, darknet_order, load_darknet_weights, save_darknet_weights
from yolov3.tiny.model import ANCHORS as TINY_ANCHORS
from yolov3.tiny.model import YOLOv3Tiny


def write_random(path, network, seen=0):
    """A .weights file for the network, with random numbers; they are positive, as variances have to be."""
    count = sum(tensor.numel() for tensor in darknet_order(network))
    values = 0.05 * torch.rand(count, generator=torch.Generator().manual_seed(count))
    path.write_bytes(struct.pack("<iiiq", 0, 2, 0, seen) + values.numpy().astype("<f4").tobytes())


def write_zeros(path, network):
    """The same, all zero."""
    with open(path, "wb") as file:
        file.write(struct.pack("<iiiq", 0, 2, 0, 0))
        file.truncate(20 + 4 * sum(tensor.numel() for tensor in darknet_order(network)))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """yolov3-tiny.weights, but with random numbers; 64,000 images seen."""
    path = tmp_path_factory.mktemp("authors") / "yolov3-tiny.weights"
    write_random(path, YOLOv3Tiny(80), seen=64_000)
    return path


# ---- the files

@pytest.mark.parametrize("make, length", [
    (lambda: YOLOv3(80), 248_007_028), (lambda: YOLOv3(20), 246_714_628), (lambda: YOLOv3().backbone, 162_482_560)])
def test_files_are_as_long_as_the_authors(make, length):
    # Bytes after the header of yolov3.weights, of yolov3-voc's, of darknet53.conv.74.
    with torch.device("meta"):
        assert 4 * sum(tensor.numel() for tensor in darknet_order(make())) == length


@pytest.mark.parametrize("make", [lambda: YOLOv3(1), lambda: YOLOv3Tiny(1)])
def test_the_numbers_in_the_order_of_the_layers_as_they_run(make):
    network, ran = make().eval(), []
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(lambda layer, *_: ran.append(layer.weight)) for layer in layers]
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    in_file = [tensor for tensor in darknet_order(network) if tensor.ndim == 4]
    assert len(in_file) == len(ran) and all(a is b for a, b in zip(in_file, ran))


def test_a_round_trip_gives_the_same_bytes(tiny, tmp_path):
    network = YOLOv3Tiny(80).to(memory_format=torch.channels_last)
    seen = load_darknet_weights(network, tiny)
    save_darknet_weights(network, tmp_path / "again.weights", seen)
    assert (tmp_path / "again.weights").read_bytes() == tiny.read_bytes()


def test_a_backbone_alone(tmp_path):
    # What Darknet's `partial` writes: the first layers of the whole file. The head stays as it was.
    whole, network = YOLOv3Tiny(2), YOLOv3Tiny(2)
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


# ---- detectors

def test_what_a_files_length_tells(tiny, tmp_path):
    network, state = weights.load_detector(tiny)
    assert type(network) is YOLOv3Tiny and state == {"network": "YOLOv3Tiny", "classes": COCO_CLASSES, "size": 416,
                                                     "anchors": TINY_ANCHORS, "step": 1000}
    write_zeros(tmp_path / "voc.weights", YOLOv3(20))
    network, state = weights.load_detector(str(tmp_path / "voc.weights"))
    assert type(network) is YOLOv3 and (state["network"], state["classes"]) == ("YOLOv3", VOC_CLASSES)
    assert state["anchors"] == ANCHORS
    (tmp_path / "short.weights").write_bytes(tiny.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"short.weights: .*8,858,733 numbers after its header, expected 62,001,757 "
                                         r"\(YOLOv3, 80 classes\) or .*8,858,734 \(YOLOv3Tiny, 80 classes\)"):
        weights.load_detector(tmp_path / "short.weights")


def test_detect_takes_the_authors_file(tiny, tmp_path, monkeypatch):
    # Heads of biases only: 8 for an object, a person and a dog, -8 for all else. A score: sigmoid(8)^2 = .99933.
    network, _ = weights.load_detector(tiny)
    with torch.no_grad():
        for layer in (network.detect32[1], network.detect16[1]):
            layer.weight.zero_()
            bias = layer.bias.view(3, 85)
            bias[:, 4:], bias[:, [4, 5, 5 + 16]] = -8, 8
    save_darknet_weights(network, tmp_path / "sure.weights")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    for name, value in [("CHECKPOINT", tmp_path / "sure.weights"), ("SOURCE", tmp_path / "a.jpg"), ("OUT", tmp_path)]:
        monkeypatch.setattr(detect, name, value)
    monkeypatch.setattr(weights, "SIZE", 64)
    detect.main()
    lines = (tmp_path / "detections.txt").read_text().splitlines()[1:]
    assert {tuple(line.split("\t")[1:3]) for line in lines} == {("person", "0.9993"), ("dog", "0.9993")}


def test_evaluate_takes_a_weights_file_of_ones_own(tmp_path, monkeypatch, capsys):
    write_random(tmp_path / "own.weights", YOLOv3Tiny(20), seen=640)
    monkeypatch.setattr(weights, "FILES", [("YOLOv3Tiny", TINY_ANCHORS, VOC_CLASSES)])
    monkeypatch.setattr(weights, "SIZE", 64)
    for name, value in [("CHECKPOINT", tmp_path / "own.weights"), ("DATA", {"test": TEST}), ("NUM_WORKERS", 0)]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    assert "own.weights, YOLOv3Tiny, step 10, input 64 x 64" in capsys.readouterr().out
    assert (tmp_path / "evaluation" / "test" / "detections.json").exists()


def test_a_checkpoint_becomes_a_weights_file(tmp_path, monkeypatch):
    network = YOLOv3Tiny(20)
    save_checkpoint(tmp_path / "last.pt", {"network": "YOLOv3Tiny", "classes": VOC_CLASSES, "anchors": TINY_ANCHORS,
                                           "size": 64, "step": 7, "model": network.state_dict()})
    monkeypatch.setattr(weights, "CHECKPOINT", tmp_path / "last.pt")
    weights.main()
    again = YOLOv3Tiny(20)
    assert load_darknet_weights(again, tmp_path / "last.weights") == 7 * 64
    assert all(a.equal(b) for a, b in zip(darknet_order(again), darknet_order(network)))


# ---- trainings that begin with one

@pytest.mark.parametrize("classes, anchors, fresh", [
    (COCO_CLASSES, TINY_ANCHORS, []),
    (COCO_CLASSES[::-1], TINY_ANCHORS, ["detect32.1", "detect16.1"]),     # as many, but others
    (["cat", "dog"], TINY_ANCHORS, ["detect32.1", "detect16.1"]),
    (COCO_CLASSES, TINY_ANCHORS[::-1], ["detect32.1", "detect16.1"])])
def test_all_but_the_last_layers_is_kept(tiny, classes, anchors, fresh):
    network, other = YOLOv3Tiny(len(classes), anchors), weights.load_detector(tiny)[0].state_dict()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert weights.start_from(tiny, network, anchors, classes) == fresh
    for key, value in network.state_dict().items():
        assert value.equal(before[key] if key.rpartition(".")[0] in fresh else other[key]), key


def test_another_network_is_refused(tiny):
    with pytest.raises(InputError, match="yolov3-tiny.weights: holds YOLOv3Tiny, not YOLOv3"):
        weights.start_from(tiny, YOLOv3(20), ANCHORS, VOC_CLASSES)


STILL = dict(NETWORK="YOLOv3Tiny", MAX_STEPS=1, BATCH_SIZE=2, SIZES=[64], SIZE=64, NUM_WORKERS=0, EVALUATED=2,
             OPTIMIZER="sgd", LEARNING_RATE=0)                            # one step that moves no weight


def test_a_training_from_the_authors_weights(tiny, tmp_path, monkeypatch, capsys):
    for name, value in {**STILL, "RUNS": tmp_path, "START": tiny}.items():
        monkeypatch.setattr(train, name, value)
    loss, detect_all, anchors = train.yolov3_loss, train.detect_all, []
    monkeypatch.setattr(train, "yolov3_loss", lambda *given: anchors.append(given[2]) or loss(*given))
    monkeypatch.setattr(train, "detect_all", lambda *given: anchors.append(given[3]) or detect_all(*given))
    train.main()
    assert anchors == [TINY_ANCHORS] * 3                                  # one step, then TRAIN and TEST evaluated
    assert f"{tiny}: all is kept, but these start fresh: detect32.1, detect16.1\n" in capsys.readouterr().out
    state, other = load_checkpoint(tmp_path / "yolov3" / "last.pt", "YOLOv3Tiny"), weights.load_detector(tiny)[0]
    for key, value in other.named_parameters():
        if not key.startswith(("detect32.1", "detect16.1")):
            assert state["model"][key].equal(value)
    assert (state["network"], state["classes"], state["anchors"]) == ("YOLOv3Tiny", VOC_CLASSES, TINY_ANCHORS)
    assert state["model"]["detect32.1.bias"].shape == (75,)

    # The same command goes on, not from the beginning; with the other network it does not.
    monkeypatch.setattr(train, "MAX_STEPS", 2)
    train.main()
    assert "all is kept" not in capsys.readouterr().out
    monkeypatch.setattr(train, "NETWORK", "YOLOv3")
    with pytest.raises(InputError, match="last.pt: was trained with another NETWORK"):
        train.main()

    # What it left can be detected with, and be started from: nothing is fresh then.
    network, state = weights.load_detector(tmp_path / "yolov3" / "last.pt")
    assert type(network) is YOLOv3Tiny and state["step"] == 2
    assert weights.start_from(tmp_path / "yolov3" / "last.pt", YOLOv3Tiny(20), TINY_ANCHORS, VOC_CLASSES) == []


def test_a_backbone_of_darknet(tmp_path, monkeypatch):
    backbone = YOLOv3Tiny().backbone
    save_darknet_weights(backbone, tmp_path / "tiny.conv.13")
    for name, value in {**STILL, "RUNS": tmp_path, "BACKBONE": tmp_path / "tiny.conv.13"}.items():
        monkeypatch.setattr(train, name, value)
    train.main()
    trained = load_checkpoint(tmp_path / "yolov3" / "last.pt", "YOLOv3Tiny")["model"]
    assert all(trained[f"backbone.{key}"].equal(value) for key, value in backbone.named_parameters())
