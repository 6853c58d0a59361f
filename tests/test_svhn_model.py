"""The network of smol.json layer by layer; its anchors; its routes; files that do not describe a network."""
import json

import pytest
import torch
import torch.nn as nn

import yolov3.smol_svhn.model as model
from shared.errors import InputError
from shared.layers import count_operations
from yolov3.loss import yolov3_loss
from yolov3.model import YOLOv3, decode
from yolov3.smol_svhn.model import CONFIG, SmolYOLOv3, read_config


@pytest.fixture
def config():
    return read_config(CONFIG)


@pytest.mark.parametrize("height, width", [(32, 32), (48, 64)])
def test_output_shapes(config, height, width):
    network = SmolYOLOv3(config).eval()
    with torch.no_grad():
        heads = network(torch.zeros(2, 3, height, width))
    assert [tuple(head.shape) for head in heads] == [(2, 1, height // s, width // s, 15) for s in (8, 4)]


@pytest.mark.parametrize("anchors", [[[0.15, 0.73], [0.1, 0.46]], [[0.1, 0.46], [0.15, 0.73]]])
def test_anchors_become_pixels_the_largest_first(config, tmp_path, anchors):
    # In pixels .15 * 32 = 4.8, .73 * 32 = 23.36; .1 * 32 = 3.2, .46 * 32 = 14.72. After three Downsamples the first
    # head has stride 8. It gets the larger anchor, whatever their order in the file is.
    (tmp_path / "smol.json").write_text(json.dumps({**config, "anchors": anchors}))
    network = SmolYOLOv3(read_config(tmp_path / "smol.json"))
    assert [len(a) for a in network.anchors] == [1, 1]
    assert network.anchors[0][0] == pytest.approx((4.8, 23.36)) and network.anchors[1][0] == pytest.approx((3.2, 14.72))
    assert network.strides == [8, 4]


def test_anchors_are_sorted_by_area(config):
    # Areas .09, .2, .08, .12. A wide anchor is not a large one.
    config.update(num_anchors_per_scale=2, anchors=[[0.9, 0.1], [0.4, 0.5], [0.2, 0.4], [0.4, 0.3]])
    expected = [[(12.8, 16), (12.8, 9.6)], [(28.8, 3.2), (6.4, 12.8)]]
    anchors = SmolYOLOv3(config).anchors
    assert [wh for head in anchors for wh in head] == [pytest.approx(wh) for head in expected for wh in head]
    assert [len(head) for head in anchors] == [2, 2]


def test_the_parameters_by_hand(config):
    # A ConvBlock of i to o channels, k x k, has i o k k + 2 o.
    def conv(i, o, k):
        return i * o * k * k + 2 * o
    residual = [conv(c, c // 2, 1) + conv(c // 2, c, 3) for c in (16, 32)]                       # 1,328  5,216
    backbone = conv(3, 16, 3) + 2 * residual[0] + conv(16, 32, 3) + 4 * residual[1] + conv(32, 64, 3)
    assert backbone == 464 + 2656 + 4672 + 20_864 + 18_560 == 47_216
    head8 = 3 * conv(64, 32, 1) + 2 * conv(32, 64, 3) + conv(32, 64, 3) + 64 * 15 + 15
    head4 = conv(32 + 16, 16, 1) + 2 * conv(32, 16, 1) + 2 * conv(16, 32, 3) + conv(16, 32, 3) + 32 * 15 + 15
    assert (head8, head4, conv(32, 16, 1)) == (62_991, 16_399, 544)
    parameters = sum(p.numel() for p in SmolYOLOv3(config).parameters())
    assert parameters == backbone + head8 + head4 + 544 == 127_150


def test_the_layers_in_the_order_of_the_file(config):
    expected = [(16, 3, 2), (8, 1, 1), (16, 3, 1), (8, 1, 1), (16, 3, 1),
                (32, 3, 2), *[(16, 1, 1), (32, 3, 1)] * 4, (64, 3, 2),
                (32, 1, 1), (64, 3, 1), (32, 1, 1), (64, 3, 1), (32, 1, 1), (64, 3, 1), (15, 1, 1),
                (16, 1, 1), (16, 1, 1), (32, 3, 1), (16, 1, 1), (32, 3, 1), (16, 1, 1), (32, 3, 1), (15, 1, 1)]
    layers = [row[1] for row in count_operations(SmolYOLOv3(config), 32, 32) if isinstance(row[1], nn.Conv2d)]
    assert [(layer.out_channels, layer.kernel_size[0], layer.stride[0]) for layer in layers] == expected


def test_with_darknet53s_channels_it_has_the_papers_pyramid(tmp_path):
    # All but the first convolution, of 32 channels. The second one, of 64, takes the image instead.
    layers, before = [], 3
    for channels, blocks in [(64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)]:
        layers += [{"type": "Downsample", "in_channels": before, "out_channels": channels},
                   {"type": "ResidualBlock", "num_blocks": blocks, "channels": channels}]
        before = channels
    path = tmp_path / "darknet53.json"
    path.write_text(json.dumps({"num_classes": 80, "image_size": 416, "backbone_layers": layers,
                                "anchors": [[0.9, 0.8 - n / 20] for n in range(9)], "num_anchors_per_scale": 3,
                                "num_detection_layers": 3}))
    with torch.device("meta"):                                               # shapes without numbers
        network, paper = SmolYOLOv3(read_config(path)), YOLOv3(80)
    shapes = [sorted(tuple(p.shape) for p in part.parameters()) for part in (network, paper)]
    stem = [(32, 3, 3, 3), (32,), (32,), (64, 32, 3, 3)]
    assert sorted(shapes[0] + stem) == sorted(shapes[1] + [(64, 3, 3, 3)])
    assert network.strides == [32, 16, 8] and [len(a) for a in network.anchors] == [3, 3, 3]
    assert network.anchors[1][0] == pytest.approx((0.9 * 416, 0.65 * 416))


def test_the_routes_of_the_head(config):
    network, seen = SmolYOLOv3(config).eval(), {}
    layers = {"stage4": network.backbone[1], "stage8": network.backbone[2], "neck8": network.necks[0],
              "up4": network.ups[0], "neck4": network.necks[1]}
    hooks = [layer.register_forward_hook(lambda layer, inputs, output, name=name:
                                         seen.update({name: (inputs[0], output)})) for name, layer in layers.items()]
    with torch.no_grad():
        network(torch.rand(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    assert seen["neck8"][0].equal(seen["stage8"][1]) and seen["up4"][0].equal(seen["neck8"][1])
    assert seen["neck4"][0][:, :16].equal(seen["up4"][1]) and seen["neck4"][0][:, 16:].equal(seen["stage4"][1])


def test_the_channels_of_a_head_are_anchor_by_anchor(config):
    config.update(num_anchors_per_scale=2, anchors=[[0.5, 0.5], [0.4, 0.4], [0.3, 0.3], [0.2, 0.2]])
    network, raw = SmolYOLOv3(config).eval(), []
    network.detects[0].register_forward_hook(lambda layer, inputs, output: raw.append(output))
    with torch.no_grad():
        head = network(torch.rand(1, 3, 32, 32))[0]
    assert head.shape == (1, 2, 4, 4, 15)
    for anchor, k, row, col in [(0, 0, 0, 0), (0, 14, 1, 2), (1, 3, 3, 1)]:
        assert head[0, anchor, row, col, k] == raw[0][0, anchor * 15 + k, row, col]


def test_yolov3s_loss_and_decode_take_its_anchors(config):
    # A digit of exactly the second anchor's size, .1 x .46, in the middle of row 2, column 5 of the 8 x 8 cells. A
    # network whose outputs are all 0 predicts the anchor in the middle of each cell. So the digit's predictor has the
    # digit's box, and the terms are xy (2 - .046) * 2 log 2, wh 0, object log 2, class 10 log 2.
    network = SmolYOLOv3(config)
    zeros = [torch.zeros(1, 1, 4, 4, 15), torch.zeros(1, 1, 8, 8, 15)]
    loss = yolov3_loss(zeros, torch.tensor([[0, 7, 5.5 / 8, 2.5 / 8, 0.1, 0.46]]), network.anchors, network.strides)
    log2 = torch.tensor(2.0).log().item()
    boxes, _ = decode(zeros, network.anchors, network.strides)
    assert boxes.shape == (1, 16 + 64, 4)
    box = [0.6875 - 0.05, 0.3125 - 0.23, 0.6875 + 0.05, 0.3125 + 0.23]
    assert boxes[0, 16 + 2 * 8 + 5].tolist() == pytest.approx(box)
    assert loss["xy"].item() == pytest.approx(1.954 * 2 * log2) and loss["wh"].item() == pytest.approx(0, abs=1e-10)
    assert loss["object"].item() == pytest.approx(log2) and loss["class"].item() == pytest.approx(10 * log2)
    # no_object is log 2 for each background predictor. Of the 4 x 4 + 8 x 8 = 80 predictors one is responsible, and its
    # upper and lower neighbours in the 8 x 8 cells are ignored: they are 1/8 of the image away and .46 high, so their
    # IOU is (.46 - .125) / (.46 + .125) = .57.
    assert loss["no_object"].item() == pytest.approx((80 - 1 - 2) * log2)


def nested(depth):
    """A list in a list in a list ..."""
    return [nested(depth - 1)] if depth else []


def change(config, path, value):
    """Sets config[a][b].. to the value; a value of None takes the key away."""
    *way, last = path
    for step in way:
        config = config[step]
    if value is None:
        del config[last]
    else:
        config[last] = value


@pytest.mark.parametrize("path, value, message", [
    (["num_classes"], None, "the file lacks num_classes"),
    (["anchors"], None, "the file lacks anchors"),
    (["achors"], [], "the file has an unknown key, 'achors'"),
    (["two\nlines"], [], "the file has an unknown key, 'two"),
    (["n" * 100_000], 1, "the file has an unknown key, 'n{12}\\.\\.\\.n{13}'$"),
    (["num_classes"], 10**9, "num_classes has to be a whole number from 1 to 10,000, not 1000000000"),
    (["num_classes"], 10.0, "num_classes has to be a whole number from 1 to 10,000, not 10.0"),
    (["num_anchors_per_scale"], [1], "num_anchors_per_scale has to be a whole number from 1 to 10,000, not \\[1\\]"),
    (["backbone_layers", 1, "num_blocks"], 10**30, "num_blocks has to be a whole number from 1 to 10,000, not 10"),
    (["backbone_layers", 3, "num_blocks"], 999,
     "backbone_layers\\[3\\] ResidualBlock: there are 1001 blocks up to here, more than 1000"),
    (["anchors", 0], nested(500), "anchors\\[0\\] has to be a width and a height above 0, at most 1, not \\[\\[\\["),
    (["anchors", 0], [float("nan"), 0.5], "anchors\\[0\\] has to be a width and a height above 0, at most 1"),
    (["anchors", 0], [0.5, float("inf")], "anchors\\[0\\] has to be a width and a height above 0, at most 1"),
    (["num_classes"], {"a": 1}, "num_classes has to be a whole number from 1 to 10,000, not {'a': 1}"),
    (["image_size"], "32", "image_size has to be a whole number from 1 to 10,000, not '32'"),
    (["num_classes"], True, "num_classes has to be a whole number from 1 to 10,000, not True"),
    (["image_size"], 36, "image_size 36 cannot be halved by 3 Downsamples"),
    (["num_detection_layers"], 4, "num_detection_layers 4 is more than the 3 Downsamples"),
    (["num_detection_layers"], 3, "num_anchors_per_scale x num_detection_layers = 3, not 2"),
    (["num_anchors_per_scale"], 2, "num_anchors_per_scale x num_detection_layers = 4, not 2"),
    (["anchors"], 5, "anchors has to be a list of num_anchors_per_scale x num_detection_layers = 2"),
    (["anchors", 1], [0.1], "anchors\\[1\\] has to be a width and a height above 0, at most 1"),
    (["anchors", 0], [15, 73], "anchors\\[0\\] has to be a width and a height above 0, at most 1"),
    (["backbone_layers"], {}, "backbone_layers has to be a list"),
    (["backbone_layers", 2, "in_channels"], 24,
     "backbone_layers\\[2\\] Downsample takes 24 channels, but the layer before it gives 16"),
    (["backbone_layers", 3, "channels"], 16, "backbone_layers\\[3\\] ResidualBlock takes 16 channels"),
    (["backbone_layers", 0, "in_channels"], 1, "takes 1 channels, but the layer before it gives 3"),
    (["backbone_layers", 4, "out_channels"], 66, "out_channels 66 cannot be halved twice"),
    (["backbone_layers", 1, "num_blocks"], None, "backbone_layers\\[1\\] ResidualBlock lacks num_blocks"),
    (["backbone_layers", 1, "num_blocks"], 0,
     "backbone_layers\\[1\\] ResidualBlock num_blocks has to be a whole number from 1 to 10,000, not 0"),
    (["backbone_layers", 1, "in_channels"], 16,
     "backbone_layers\\[1\\] ResidualBlock has an unknown key, 'in_channels'"),
    (["backbone_layers", 1, "type"], "Residual",
     'backbone_layers\\[1\\] has to be an object with "type": "Downsample" or "ResidualBlock"'),
    (["backbone_layers", 1, "type"], ["ResidualBlock"], "backbone_layers\\[1\\] has to be an object with"),
    (["backbone_layers", 1, "type"], None, "backbone_layers\\[1\\] has to be an object with"),
    (["backbone_layers", 1], "Downsample", "backbone_layers\\[1\\] has to be an object with"),
    (["backbone_layers", 1], {"ResidualBlock": {"num_blocks": 2, "channels": 16}}, "has to be an object with \"type\""),
    (["backbone_layers", 0], {"type": "ResidualBlock", "num_blocks": 1, "channels": 3},
     "backbone_layers\\[0\\] ResidualBlock comes before the first Downsample"),
])
def test_a_wrong_json_is_one_line(config, tmp_path, path, value, message):
    change(config, path, value)
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(config))
    with pytest.raises(InputError, match="wrong.json: .*" + message) as error:
        read_config(wrong)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_network_too_large_for_any_machine_is_one_line(config, tmp_path):
    # From 3 to 10,000 channels there are 3 * 10,000 * 9 = 270,000 weights. A block of 10,000 channels has
    # 10,000 * 5,000 + 5,000 * 10,000 * 9 = 500,000,000. The head has 15 * 10,000^2 = 1,500,000,000, and its last layer
    # 10,000 * (5 + 10) = 150,000.
    config.update(backbone_layers=[{"type": "Downsample", "in_channels": 3, "out_channels": 10_000},
                                   {"type": "ResidualBlock", "num_blocks": 2, "channels": 10_000}],
                  anchors=[[0.5, 0.5]], num_detection_layers=1)
    (tmp_path / "large.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="large.json: the network has about 2,500,420,000 weights, more than 1"):
        read_config(tmp_path / "large.json")
    # 10,000 classes and as many anchors for a stage of 16 channels: 16 (15 * 16 + 10,000 * 10,005) = 1,600,803,840
    # weights for the head and 3 * 16 * 9 = 432 for the Downsample.
    config.update(backbone_layers=[{"type": "Downsample", "in_channels": 3, "out_channels": 16}], num_classes=10_000,
                  num_anchors_per_scale=10_000, anchors=[[0.5, 0.5]] * 10_000)
    (tmp_path / "wide.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="wide.json: the network has about 1,600,804,272 weights"):
        read_config(tmp_path / "wide.json")


def test_the_estimate_of_the_weights_by_hand(monkeypatch):
    # Downsamples 9 (3 * 16 + 16 * 32 + 32 * 64) = 23,472, blocks 5 (2 * 16^2 + 4 * 32^2) = 23,040, heads
    # 64 (15 * 64 + 15) + 32 (15 * 32 + 15) = 78,240. In all 124,752, of the 127,150 parameters of the network.
    monkeypatch.setattr(model, "MAX_WEIGHTS", 124_752)
    read_config(CONFIG)
    monkeypatch.setattr(model, "MAX_WEIGHTS", 124_751)
    with pytest.raises(InputError, match="smol.json: the network has about 124,752 weights, more than 124,751"):
        read_config(CONFIG)


def test_no_json_is_one_line(tmp_path):
    with pytest.raises(InputError, match="none.json: no such file"):
        read_config(tmp_path / "none.json")
    for content in (b"{", b"[" * 100_000, b"", b"\xfc\xfc", b"1" * 5000):
        (tmp_path / "broken.json").write_bytes(content)
        with pytest.raises(InputError, match="broken.json: not JSON") as error:
            read_config(tmp_path / "broken.json")
        assert "\n" not in str(error.value)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="list.json: the file has to be an object with num_classes"):
        read_config(tmp_path / "list.json")


def test_the_table_is_printed(capsys):
    model.main()
    printed = capsys.readouterr().out
    assert "in all, at 32 x 32" in printed and "127,150" in printed
