"""The authors' files by their lengths; round trips; detectors from either kind of file; trainings from one."""
import struct

import pytest
import torch
import torch.nn as nn
from PIL import Image

import yolov2.darknet19.model as darknet19_model
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
from yolov2.model import ANCHORS, COCO_ANCHORS, YOLOv2, darknet_order, load_darknet_weights, save_darknet_weights
from yolov2.tiny.model import ANCHORS as TINY_ANCHORS
from yolov2.tiny.model import YOLOv2Tiny


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
    """yolov2-tiny-voc.weights, but with random numbers; 64,000 images seen."""
    path = tmp_path_factory.mktemp("authors") / "yolov2-tiny-voc.weights"
    write_random(path, YOLOv2Tiny(20), seen=64_000)
    return path


# ---- the files

@pytest.mark.parametrize("make, length", [
    (lambda: YOLOv2(80), 203_934_244), (lambda: YOLOv2(20), 202_704_244), (lambda: YOLOv2().backbone, 79_327_104)])
def test_files_are_as_long_as_the_authors(make, length):
    # Bytes after the header of yolov2.weights, of yolov2-voc's, of darknet19_448.conv.23: darknet19's 83,427,104 less
    # the 1,025,000 numbers of its last convolution.
    with torch.device("meta"):
        assert 4 * sum(tensor.numel() for tensor in darknet_order(make())) == length


@pytest.mark.parametrize("make", [lambda: YOLOv2(1), lambda: YOLOv2Tiny(1)])
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
    network = YOLOv2Tiny(20).to(memory_format=torch.channels_last)
    seen = load_darknet_weights(network, tiny)
    save_darknet_weights(network, tmp_path / "again.weights", seen)
    assert (tmp_path / "again.weights").read_bytes() == tiny.read_bytes()


def test_a_backbone_alone(tmp_path):
    # What Darknet's `partial` writes: the first layers of the whole file. The head stays as it was.
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


def test_a_backbone_out_of_a_whole_classifier(tmp_path):
    # darknet19.weights is darknet19_448.conv.23 and 1,025,000 numbers more.
    classifier, network = Darknet19(1000), YOLOv2(2)
    darknet19_model.save_darknet_weights(classifier, tmp_path / "darknet19.weights")
    load_darknet_weights(network.backbone, tmp_path / "darknet19.weights")
    for key, value in network.backbone.state_dict().items():
        assert value.equal(classifier.state_dict()[key]), key
    with pytest.raises(InputError, match="darknet19.weights: not the weights of this network"):
        load_darknet_weights(network, tmp_path / "darknet19.weights")


# ---- detectors

def test_what_a_files_length_tells(tiny, tmp_path):
    network, state = weights.load_detector(tiny)
    assert type(network) is YOLOv2Tiny and state == {"network": "YOLOv2Tiny", "classes": VOC_CLASSES, "size": 416,
                                                     "anchors": TINY_ANCHORS, "step": 1000}
    with torch.device("meta"):
        others = [YOLOv2(80), YOLOv2Tiny(80, channels=512)]
    for other in others:
        write_zeros(tmp_path / "coco.weights", other)
        network, state = weights.load_detector(str(tmp_path / "coco.weights"))
        assert type(network) is type(other)
        assert (state["anchors"], state["classes"], state["step"]) == (COCO_ANCHORS, COCO_CLASSES, 0)
    (tmp_path / "short.weights").write_bytes(tiny.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"short.weights: .*15,867,884 numbers after its header, expected 50,676,061 "
                                         r"\(YOLOv2, 20 classes\) or .*15,867,885 \(YOLOv2Tiny, 20 classes\)"):
        weights.load_detector(tmp_path / "short.weights")


def test_detect_takes_the_authors_file(tiny, tmp_path, monkeypatch):
    # A head of biases only: 8 for an object and a dog, -8 for all else. sigmoid(8) = .99966, the softmax 1 - 2e-6.
    network, _ = weights.load_detector(tiny)
    with torch.no_grad():
        network.detect32[1].weight.zero_()
        bias = network.detect32[1].bias.view(5, 25)
        bias[:, 4:], bias[:, [4, 5 + 11]] = -8, 8
    save_darknet_weights(network, tmp_path / "sure.weights")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    for name, value in [("CHECKPOINT", tmp_path / "sure.weights"), ("SOURCE", tmp_path / "a.jpg"), ("OUT", tmp_path)]:
        monkeypatch.setattr(detect, name, value)
    monkeypatch.setattr(weights, "SIZE", 64)
    detect.main()
    lines = (tmp_path / "detections.txt").read_text().splitlines()[1:]
    assert {tuple(line.split("\t")[1:3]) for line in lines} == {("dog", "0.9997")}


def test_evaluate_takes_a_weights_file_of_ones_own(tmp_path, monkeypatch, capsys):
    write_random(tmp_path / "own.weights", YOLOv2Tiny(20), seen=640)
    monkeypatch.setattr(weights, "FILES", [("YOLOv2Tiny", TINY_ANCHORS, VOC_CLASSES)])
    monkeypatch.setattr(weights, "SIZE", 64)
    for name, value in [("CHECKPOINT", tmp_path / "own.weights"), ("DATA", {"test": TEST}), ("NUM_WORKERS", 0)]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    assert "own.weights, YOLOv2Tiny, step 10, input 64 x 64" in capsys.readouterr().out
    assert (tmp_path / "evaluation" / "test" / "detections.json").exists()


def test_a_checkpoint_becomes_a_weights_file(tmp_path, monkeypatch):
    network = YOLOv2Tiny(20)
    save_checkpoint(tmp_path / "last.pt", {"network": "YOLOv2Tiny", "classes": VOC_CLASSES, "anchors": TINY_ANCHORS,
                                           "size": 64, "step": 7, "model": network.state_dict()})
    monkeypatch.setattr(weights, "CHECKPOINT", tmp_path / "last.pt")
    weights.main()
    again = YOLOv2Tiny(20)
    assert load_darknet_weights(again, tmp_path / "last.weights") == 7 * 64
    assert all(a.equal(b) for a, b in zip(darknet_order(again), darknet_order(network)))


# ---- trainings that begin with one

@pytest.mark.parametrize("classes, anchors, fresh", [
    (VOC_CLASSES, TINY_ANCHORS, []),
    (VOC_CLASSES[::-1], TINY_ANCHORS, ["detect32.1"]),     # as many, but others
    (["cat", "dog"], TINY_ANCHORS, ["detect32.1"]),
    (VOC_CLASSES, TINY_ANCHORS[::-1], ["detect32.1"])])
def test_all_but_the_last_layers_is_kept(tiny, classes, anchors, fresh):
    network, other = YOLOv2Tiny(len(classes), anchors), weights.load_detector(tiny)[0].state_dict()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert weights.start_from(tiny, network, anchors, classes) == fresh
    for key, value in network.state_dict().items():
        assert value.equal(before[key] if key.rpartition(".")[0] in fresh else other[key]), key


def test_another_network_is_refused(tiny):
    with pytest.raises(InputError, match="yolov2-tiny-voc.weights: holds YOLOv2Tiny, not YOLOv2"):
        weights.start_from(tiny, YOLOv2(20), ANCHORS, VOC_CLASSES)


STILL = dict(NETWORK="YOLOv2Tiny", MAX_STEPS=1, BATCH_SIZE=2, SIZES=[64], SIZE=64, NUM_WORKERS=0, EVALUATED=2,
             OPTIMIZER="sgd", LEARNING_RATE=0)                            # one step that moves no weight


def test_a_training_from_the_authors_weights(tiny, tmp_path, monkeypatch, capsys):
    for name, value in {**STILL, "RUNS": tmp_path, "START": tiny, "CLASSES": VOC_CLASSES[::-1]}.items():
        monkeypatch.setattr(train, name, value)
    loss, detect_all, anchors = train.yolov2_loss, train.detect_all, []
    monkeypatch.setattr(train, "yolov2_loss", lambda *given, **seen: anchors.append(given[2]) or loss(*given, **seen))
    monkeypatch.setattr(train, "detect_all", lambda *given: anchors.append(given[3]) or detect_all(*given))
    train.main()
    assert anchors == [TINY_ANCHORS] * 3                                  # one step, then TRAIN and TEST evaluated
    assert f"{tiny}: all is kept, but these start fresh: detect32.1\n" in capsys.readouterr().out
    state, other = load_checkpoint(tmp_path / "yolov2" / "last.pt", "YOLOv2Tiny"), weights.load_detector(tiny)[0]
    for key, value in other.named_parameters():
        if not key.startswith("detect32.1"):
            assert state["model"][key].equal(value)
    assert (state["network"], state["classes"], state["anchors"]) == ("YOLOv2Tiny", VOC_CLASSES[::-1], TINY_ANCHORS)
    assert state["model"]["detect32.1.bias"].shape == (125,)

    # The same command goes on, not from the beginning; with the other network it does not.
    monkeypatch.setattr(train, "MAX_STEPS", 2)
    train.main()
    assert "all is kept" not in capsys.readouterr().out
    monkeypatch.setattr(train, "NETWORK", "YOLOv2")
    with pytest.raises(InputError, match="last.pt: was trained with another NETWORK"):
        train.main()

    # What it left can be detected with, and be started from: nothing is fresh then.
    network, state = weights.load_detector(tmp_path / "yolov2" / "last.pt")
    assert type(network) is YOLOv2Tiny and state["step"] == 2
    assert weights.start_from(tmp_path / "yolov2" / "last.pt", YOLOv2Tiny(20), TINY_ANCHORS, VOC_CLASSES[::-1]) == []


def test_a_backbone_of_darknet(tmp_path, monkeypatch):
    backbone = YOLOv2Tiny().backbone
    save_darknet_weights(backbone, tmp_path / "tiny.conv.13")
    for name, value in {**STILL, "RUNS": tmp_path, "BACKBONE": tmp_path / "tiny.conv.13"}.items():
        monkeypatch.setattr(train, name, value)
    train.main()
    trained = load_checkpoint(tmp_path / "yolov2" / "last.pt", "YOLOv2Tiny")["model"]
    assert all(trained[f"backbone.{key}"].equal(value) for key, value in backbone.named_parameters())


def test_the_tiny_network_for_coco_has_another_layer_too(tmp_path):
    # Its last 3 x 3 convolution has 512 channels, not 1024: this starts fresh with the one behind it.
    save_darknet_weights(YOLOv2Tiny(80, COCO_ANCHORS, channels=512), tmp_path / "yolov2-tiny.weights")
    fresh = weights.start_from(tmp_path / "yolov2-tiny.weights", YOLOv2Tiny(20), TINY_ANCHORS, VOC_CLASSES)
    assert fresh == ["detect32.0.conv", "detect32.0.bn", "detect32.1"]
