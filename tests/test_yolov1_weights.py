"""The authors' files by their lengths; round trips; detectors from either kind of file; trainings from one."""
import struct

import pytest
import torch
from PIL import Image

import yolov1.detect as detect
import yolov1.evaluate as evaluate
import yolov1.train as train
import yolov1.weights as weights
from shared.checkpoint import load_checkpoint, save_checkpoint
from shared.errors import InputError
from shared.voc import CLASSES as VOC_CLASSES
from yolov1.dataset import TEST
from yolov1.model import YOLOv1, darknet_order, load_darknet_weights, save_darknet_weights
from yolov1.tiny.model import YOLOv1Tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """yolov1-tiny.weights, but with random numbers, positive as variances have to be; 64,000 images seen."""
    path = tmp_path_factory.mktemp("authors") / "yolov1-tiny.weights"
    count = sum(tensor.numel() for tensor in darknet_order(YOLOv1Tiny()))
    values = 0.05 * torch.rand(count, generator=torch.Generator().manual_seed(count))
    path.write_bytes(struct.pack("<iiii", 0, 1, 0, 64_000) + values.numpy().astype("<f4").tobytes())
    return path


def test_files_are_as_long_as_the_networks():
    # yolo.weights: 271,703,550 numbers, all parameters, without BatchNorm. yolov1-tiny.weights: two running averages
    # for each of its 2,288 channels beside the 27,095,374 parameters.
    with torch.device("meta"):
        counts = [sum(tensor.numel() for tensor in darknet_order(network))
                  for network in (YOLOv1(batch_norm=False), YOLOv1Tiny())]
    assert counts == [271_703_550, 27_095_374 + 2 * (16 + 32 + 64 + 128 + 256 + 512 + 1024 + 256)]


def test_a_round_trip_gives_the_same_numbers(tiny, tmp_path):
    network = YOLOv1Tiny().to(memory_format=torch.channels_last)
    seen = load_darknet_weights(network, tiny)
    save_darknet_weights(network, tmp_path / "again.weights", seen)
    assert seen == 64_000
    assert (tmp_path / "again.weights").read_bytes()[20:] == tiny.read_bytes()[16:]          # it was of version 0.1


def test_what_a_files_length_tells(tiny, tmp_path):
    network, state = weights.load_detector(tiny)
    assert type(network) is YOLOv1Tiny and not network.training
    assert state == {"network": "YOLOv1Tiny", "classes": VOC_CLASSES, "boxes": 2, "size": 448, "step": 1000}
    with open(tmp_path / "yolo.weights", "wb") as file:                   # a hole of zeros
        file.write(struct.pack("<iiii", 0, 1, 0, 640))
        file.truncate(16 + 4 * 271_703_550)
    network, state = weights.load_detector(tmp_path / "yolo.weights")
    assert type(network) is YOLOv1 and (state["network"], state["size"], state["step"]) == ("YOLOv1", 448, 10)
    (tmp_path / "short.weights").write_bytes(tiny.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"short.weights: .*27,099,949 numbers after its header, expected 271,703,550 "
                                         r"\(YOLOv1, 20 classes\) or 27,099,950 \(YOLOv1Tiny, 20 classes\)"):
        weights.load_detector(tmp_path / "short.weights")


def test_detect_takes_the_authors_file(tiny, tmp_path, monkeypatch):
    # A last layer of biases only: in all 49 cells 1 for the dog, and .9 as the confidence of each first box, the middle
    # .5 .5 and roots of .3 and .5: NMS leaves the boxes, .09 wide and .25 high, that overlap by .4 at most.
    network, _ = weights.load_detector(tiny)
    with torch.no_grad():
        network.detect[2].weight.zero_()
        bias = network.detect[2].bias.zero_()
        bias[:980].view(49, 20)[:, 11] = 1
        bias[980:1078].view(49, 2)[:, 0] = 0.9
        bias[1078:].view(49, 2, 4)[:, 0] = torch.tensor([0.5, 0.5, 0.3, 0.5])
    save_darknet_weights(network, tmp_path / "sure.weights")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    for name, value in [("CHECKPOINT", tmp_path / "sure.weights"), ("SOURCE", tmp_path / "a.jpg"), ("OUT", tmp_path)]:
        monkeypatch.setattr(detect, name, value)
    detect.main()
    lines = [line.split("\t") for line in (tmp_path / "detections.txt").read_text().splitlines()[1:]]
    assert lines and {tuple(line[1:3]) for line in lines} == {("dog", "0.9000")}
    left, top, right, bottom = map(float, lines[0][3:])
    assert right - left == pytest.approx(0.09 * 64, abs=0.1)


def test_a_checkpoint_becomes_a_weights_file_and_is_evaluated(tmp_path, monkeypatch, capsys):
    network = YOLOv1Tiny(20, grid=1)
    save_checkpoint(tmp_path / "last.pt", {"network": "YOLOv1Tiny", "classes": VOC_CLASSES, "boxes": 2, "size": 64,
                                           "step": 7, "batch_norm": False, "model": network.state_dict()})
    monkeypatch.setattr(weights, "CHECKPOINT", tmp_path / "last.pt")
    weights.main()
    again = YOLOv1Tiny(20, grid=1)
    assert load_darknet_weights(again, tmp_path / "last.weights") == 7 * 64
    assert all(a.equal(b) for a, b in zip(darknet_order(again), darknet_order(network)))

    for name, value in [("CHECKPOINT", tmp_path / "last.pt"), ("DATA", {"test": TEST}), ("NUM_WORKERS", 0)]:
        monkeypatch.setattr(evaluate, name, value)
    evaluate.main()
    assert "last.pt, YOLOv1Tiny, step 7, input 64 x 64" in capsys.readouterr().out


@pytest.mark.parametrize("classes, fresh", [
    (VOC_CLASSES, []), (VOC_CLASSES[::-1], ["detect.2"]), (["cat", "dog"], ["detect.2"])])
def test_all_but_the_last_layer_is_kept(tiny, classes, fresh):
    network, other = YOLOv1Tiny(len(classes)), weights.load_detector(tiny)[0].state_dict()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert weights.start_from(tiny, network, classes) == fresh
    for key, value in network.state_dict().items():
        assert value.equal(before[key] if key.rpartition(".")[0] in fresh else other[key]), key


def test_another_grid_keeps_the_convolutions_only(tiny):
    assert weights.start_from(tiny, YOLOv1Tiny(20, grid=3), VOC_CLASSES) == ["detect.2"]


def test_another_network_is_refused(tiny):
    with pytest.raises(InputError, match="yolov1-tiny.weights: holds YOLOv1Tiny, not YOLOv1"):
        weights.start_from(tiny, YOLOv1(20, grid=1), VOC_CLASSES)


def test_a_training_from_the_authors_weights(tiny, tmp_path, monkeypatch, capsys):
    still = dict(NETWORK="YOLOv1Tiny", MAX_STEPS=1, BATCH_SIZE=2, SIZE=64, NUM_WORKERS=0, EVALUATED=2, OPTIMIZER="sgd",
                 LEARNING_RATE=0, RUNS=tmp_path, START=tiny)              # one step that moves no weight
    for name, value in still.items():
        monkeypatch.setattr(train, name, value)
    train.main()
    assert f"{tiny}: all is kept, but these start fresh: detect.2\n" in capsys.readouterr().out      # another grid
    state, other = load_checkpoint(tmp_path / "yolov1" / "last.pt", "YOLOv1Tiny"), weights.load_detector(tiny)[0]
    for key, value in other.named_parameters():
        if not key.startswith("detect.2"):
            assert state["model"][key].equal(value)

    # The same command goes on, not from the beginning; with the other network it does not.
    monkeypatch.setattr(train, "MAX_STEPS", 2)
    train.main()
    assert "all is kept" not in capsys.readouterr().out
    monkeypatch.setattr(train, "NETWORK", "YOLOv1")
    with pytest.raises(InputError, match="last.pt: was trained with another NETWORK"):
        train.main()
    network, state = weights.load_detector(tmp_path / "yolov1" / "last.pt")
    assert type(network) is YOLOv1Tiny and state["step"] == 2


def test_a_backbone_of_darknet_with_batchnorm_is_folded(tmp_path, monkeypatch):
    # extraction.conv.weights has BatchNorm, the paper's network has not: the same features.
    torch.manual_seed(0)
    with_norm = YOLOv1(20, grid=1, batch_norm=True).backbone.eval()
    for tensor in with_norm.state_dict().values():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
    save_darknet_weights(with_norm, tmp_path / "extraction.conv.weights")
    for name, value in dict(MAX_STEPS=1, BATCH_SIZE=2, SIZE=64, NUM_WORKERS=0, EVALUATED=2, OPTIMIZER="sgd",
                            LEARNING_RATE=0, RUNS=tmp_path, BACKBONE=tmp_path / "extraction.conv.weights").items():
        monkeypatch.setattr(train, name, value)
    train.main()
    network, _ = weights.load_detector(tmp_path / "yolov1" / "last.pt")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = with_norm(images)
        assert torch.allclose(network.backbone(images), expected, atol=1e-4 * expected.abs().max())

    # extraction.weights, the whole classifier, has 1,025,000 numbers more.
    with open(tmp_path / "extraction.conv.weights", "ab") as file:
        file.write(bytes(4 * 1_025_000))
    again = YOLOv1(20, grid=1).backbone
    load_darknet_weights(again, tmp_path / "extraction.conv.weights")
    assert all(a.equal(b) for a, b in zip(again.parameters(), network.backbone.parameters()))
