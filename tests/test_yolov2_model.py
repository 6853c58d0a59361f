"""The network's shapes and published sizes; reorg and boxes by hand; encode, then decode, gives the boxes back."""
from math import log

import pytest
import torch
import torch.nn as nn

from shared.boxes import xyxy_to_cxcywh
from shared.layers import count_operations, fuse_batchnorm
from yolov2.loss import assign
from yolov2.model import ANCHORS, ANCHORS_2016, COCO_ANCHORS, COCO_ANCHORS_2016, ConvBlock, Reorg, YOLOv2, decode


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return YOLOv2(num_classes=20).eval()


@pytest.mark.parametrize("height, width", [(64, 64), (96, 160)])
def test_output_shapes(network, height, width):
    with torch.no_grad():
        head = network(torch.zeros(2, 3, height, width))
    assert tuple(head.shape) == (2, 5, height // 32, width // 32, 25)


def test_the_channels_of_a_head_are_anchor_by_anchor(network):
    # Darknet's order of the 125 channels: t_x t_y t_w t_h t_o and 20 scores of anchor 0, then of anchor 1 ...
    raw = []
    hook = network.detect32.register_forward_hook(lambda layer, inputs, output: raw.append(output))
    with torch.no_grad():
        head = network(torch.rand(1, 3, 64, 96))
    hook.remove()
    for anchor, k, row, col in [(0, 0, 0, 0), (1, 3, 1, 2), (4, 24, 0, 1)]:
        assert head[0, anchor, row, col, k] == raw[0][0, anchor * 25 + k, row, col]


def test_sides_not_divisible_by_32_are_refused(network):
    with pytest.raises(ValueError, match="divisible by 32"):
        network(torch.zeros(1, 3, 64, 100))


@pytest.mark.parametrize("classes, anchors, parameters, billions", [(80, COCO_ANCHORS, 50_962_889, 29.464),
                                                                    (20, ANCHORS, 50_655_389, 29.360)])
def test_parameters_and_operations_are_the_published_ones(classes, anchors, parameters, billions):
    rows = count_operations(YOLOv2(classes, anchors), 416, 416)
    assert sum(row[3] for row in rows) == parameters
    assert round(sum(row[4] for row in rows) / 1e9, 3) == billions


@pytest.fixture(scope="module")
def network_of_2016():
    torch.manual_seed(0)
    return YOLOv2(20, ANCHORS_2016, passthrough_channels=None).eval()


def test_parameters_and_operations_of_2016(network_of_2016):
    # [darknet] yolo-voc.2.0.cfg, the weights of its 22 convolutions, 3 x 3 and 1 x 1 in turn:
    #   stages 1 to 3  9*3*32 + 9*32*64 + 9*64*128 + 128*64 + 9*64*128           =    174,944
    #   stage 4        9*128*256 + 256*128 + 9*128*256                           =    622,592
    #   stage 5        3 * 9*256*512 + 2 * 512*256                               =  3,801,088
    #   stage 6        3 * 9*512*1024 + 2 * 1024*512                             = 15,204,352
    #   head           2 * 9*1024*1024 + 9*(4*512 + 1024)*1024 + 1024*125        = 47,313,920
    #   BatchNorm      2 for each filter: 2 * (416 + 640 + 2048 + 4096 + 3*1024) =     20,544
    #   biases         125
    # BatchNorm's mean and variance, 2 more for each filter, are no parameters, but they are in a .weights file.
    parts = [9*3*32 + 9*32*64 + 9*64*128 + 128*64 + 9*64*128, 9*128*256 + 256*128 + 9*128*256,
             3 * 9*256*512 + 2 * 512*256, 3 * 9*512*1024 + 2 * 1024*512,
             2 * 9*1024*1024 + 9*(4*512 + 1024)*1024 + 1024*125, 2 * (416 + 640 + 2048 + 4096 + 3*1024), 125]
    assert parts == [174_944, 622_592, 3_801_088, 15_204_352, 47_313_920, 20_544, 125]
    assert [32 + 64 + 128 + 64 + 128, 256 + 128 + 256, 3 * 512 + 2 * 256, 3 * 1024 + 2 * 512] == [416, 640, 2048, 4096]
    rows = count_operations(network_of_2016, 416, 416)
    assert sum(row[3] for row in rows) == sum(parts) == 67_137_565
    # The last 3 x 3 takes 2 * 13*13 * 9*3072*1024 = 9.569 billion operations, with 1280 channels 3.987. The 1 x 1 x 64
    # would take 2 * 26*26 * 512*64 = .044. So 29.360 + 9.569 - 3.987 - .044 = 34.898 instead of 29.360. The authors'
    # page has 34.90 for the YOLOv2 that reaches 76.8 mAP.
    terms = [2 * 13*13 * 9*3072*1024, 2 * 13*13 * 9*1280*1024, 2 * 26*26 * 512*64]
    assert [round(term / 1e9, 3) for term in terms] == [9.569, 3.987, 0.044]
    assert round(29.360 + 9.569 - 3.987 - 0.044, 3) == 34.898 == round(sum(row[4] for row in rows) / 1e9, 3)


def test_the_routes_of_2016(network_of_2016):
    # No 1 x 1: reorg takes the 512 channels as they are, and its 2048 come before the 1024.
    inputs = []
    hook = network_of_2016.detect32.register_forward_hook(lambda layer, received, output: inputs.append(received[0]))
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert network_of_2016(images).shape == (1, 5, 2, 3, 25)
        stride16, stride32 = network_of_2016.backbone(images)
        neck = network_of_2016.neck32(stride32)
    hook.remove()
    assert inputs[0].shape == (1, 3072, 2, 3)
    assert inputs[0][:, :2048].equal(Reorg()(stride16)) and inputs[0][:, 2048:].equal(neck)


def test_the_anchors_are_those_of_the_cfgs():
    # [darknet] yolov2-voc.cfg and yolov2.cfg, in cells; and yolo-voc.2.0.cfg and yolo.2.0.cfg, of 2016.
    assert ANCHORS_2016 == [(1.08, 1.19), (3.42, 4.41), (6.63, 11.38), (9.42, 5.11), (16.62, 10.52)]
    assert COCO_ANCHORS_2016 == [(0.738768, 0.874946), (2.42204, 2.65704), (4.30971, 7.04493), (10.246, 4.59428),
                                 (12.6868, 11.8741)]
    assert ANCHORS == [(1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892), (9.47112, 4.84053),
                       (11.2364, 10.0071)]
    assert COCO_ANCHORS == [(0.57273, 0.677385), (1.87446, 2.06253), (3.33843, 5.47434), (7.88282, 3.52778),
                            (9.77052, 9.16828)]


def test_the_layers_in_the_order_of_the_cfg(network):
    # [darknet] yolov2-voc.cfg: filters and sizes of its 23 convolutions. Backbone: each stage's 3 x 3, with 1 x 1 of
    # half as many between; then two of 1024, the passthrough's 1 x 1, one more of 1024, and the 1 x 1 that predicts.
    expected = [(32, 3), (64, 3)]
    for channels, pairs in [(128, 1), (256, 1), (512, 2), (1024, 2)]:
        expected += [(channels, 3)] + [(channels // 2, 1), (channels, 3)] * pairs
    expected += [(1024, 3), (1024, 3), (64, 1), (1024, 3), (125, 1)]
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.out_channels, layer.kernel_size[0]) for layer in convolutions] == expected
    assert [row[1] for row in count_operations(network, 64, 64) if isinstance(row[1], nn.Conv2d)] == convolutions
    assert [layer.bias is not None for layer in convolutions] == [layer.out_channels == 125 for layer in convolutions]


def test_the_routes_of_the_head(network):
    # The passthrough starts from the last 512 channels at stride 16, before the pooling, and comes first.
    seen = {}
    hooks = [getattr(network, name).register_forward_hook(lambda layer, inputs, output, name=name:
                                                          seen.update({name: (inputs[0], output)}))
             for name in ("neck32", "passthrough", "detect32", "backbone")]
    with torch.no_grad():
        network(torch.rand(1, 3, 64, 96))
    for hook in hooks:
        hook.remove()
    stride16, stride32 = seen["backbone"][1]
    assert stride16.shape == (1, 512, 4, 6) and stride32.shape == (1, 1024, 2, 3)
    assert seen["neck32"][0].equal(stride32) and seen["passthrough"][0].equal(stride16)
    assert seen["detect32"][0][:, :256].equal(seen["passthrough"][1])
    assert seen["detect32"][0][:, 256:].equal(seen["neck32"][1])


def test_reorg_worked_by_hand():
    # Four channels of 4 x 4, numbered through from 0 to 63. Darknet sees one channel of 8 x 8:
    #
    #      0  1  2  3  4  5  6  7        Each 2 x 2 square becomes a cell of four channels. All the upper left numbers,
    #      8  9 10 11 12 13 14 15        0 2 4 6 16 18 20 22 32 ..., come first, then the upper right, 1 3 5 7 17 ...,
    #     16 17 18 19 20 21 22 23        then the lower left, 8 10 12 14 24 ..., then the lower right, 9 11 13 ...
    #     24 25 ...                      These 64 numbers are then read as 16 channels of 2 x 2.
    #
    # The paper's stacking puts 0 2 / 8 10 into the first channel, from the map 0 1 2 3 / 4 5 6 7 / 8 9 10 11 / 12 ...
    x = torch.arange(64.0).view(1, 4, 4, 4)
    assert nn.functional.pixel_unshuffle(x, 2)[0, 0].tolist() == [[0, 2], [8, 10]]
    out = Reorg()(x)
    assert out.shape == (1, 16, 2, 2)
    assert out[0, [0, 1, 2, 4, 8, 12]].tolist() == [[[0, 2], [4, 6]], [[16, 18], [20, 22]], [[32, 34], [36, 38]],
                                                    [[1, 3], [5, 7]], [[8, 10], [12, 14]], [[9, 11], [13, 15]]]


def test_reorg_keeps_columns_and_mixes_rows():
    # Each number of a map is its own row, then its own column. A cell should get the two rows and columns 2i, 2i + 1.
    def origins(cells, row):
        """How many of its 256 numbers a cell gets from each row, counted from its own first one, and each column."""
        rows = torch.arange(2.0 * cells).view(1, 1, -1, 1).expand(1, 64, 2 * cells, 2 * cells)
        found = []
        for x, first in (rows, 2 * row), (rows.mT, 6):
            values, counts = (Reorg()(x)[0, :, row, 3] - first).int().unique(return_counts=True)
            found.append(dict(zip(values.tolist(), counts.tolist())))
        return found

    # 13 x 13 cells: half from its own rows, a quarter from the row above and a quarter from the row below. At the edges
    # of the map, rows 0 to 25, the other edge takes their place.
    columns = {0: 128, 1: 128}
    assert origins(13, 6) == [{-1: 64, 0: 64, 1: 64, 2: 64}, columns]
    assert origins(13, 0) == [{25: 64, 0: 64, 1: 64, 2: 64}, columns]
    assert origins(13, 12) == [{-1: 64, 0: 64, 1: 64, -24: 64}, columns]
    # 10 x 10 cells: half from its own rows and half from the row below, or, in every second row, from the row above.
    for row in range(0, 10, 2):
        assert origins(10, row) == [{0: 128, 2: 128}, columns]
        assert origins(10, row + 1) == [{-1: 128, 1: 128}, columns]


def test_reorg_follows_darknets_indices():
    # [darknet] reorg_cpu, number by number, on two images of 8 x 6 x 10.
    B, C, H, W = 2, 8, 6, 10
    x = torch.rand(B, C, H, W)
    numbers, expected = x.flatten(), torch.empty(B * C * H * W)
    for b in range(B):
        for k in range(C):
            for j in range(H):
                for i in range(W):
                    offset = k // (C // 4)
                    w2, h2 = i * 2 + offset % 2, j * 2 + offset // 2
                    source = w2 + W * 2 * (h2 + H * 2 * (k % (C // 4) + C // 4 * b))
                    expected[i + W * (j + H * (k + C * b))] = numbers[source]
    assert Reorg()(x).equal(expected.view(B, 4 * C, H // 2, W // 2))


def test_a_block_worked_by_hand():
    # 1 x 1 convolution with weight 2 on the inputs 3 and -3: 6 and -6. BatchNorm in evaluation, mean 1, variance 4 -
    # 1e-5, scale 3, shift 0.5: 3 * (6 - 1) / 2 + 0.5 = 8 and 3 * (-6 - 1) / 2 + 0.5 = -10. Leaky ReLU: 8 and .1 * -10
    # = -1. (With PyTorch's default slope of .01: -0.1.)
    block = ConvBlock(1, 1, 1).eval()
    block.load_state_dict({"conv.weight": torch.full((1, 1, 1, 1), 2.0), "bn.running_mean": torch.tensor([1.0]),
                           "bn.running_var": torch.tensor([4 - 1e-5]), "bn.weight": torch.tensor([3.0]),
                           "bn.bias": torch.tensor([0.5]), "bn.num_batches_tracked": torch.tensor(0)})
    x = torch.tensor([3.0, -3.0]).view(1, 1, 1, 2)
    assert block(x).flatten().tolist() == pytest.approx([8, -1], abs=1e-5)


def test_batchnorm_and_initialisation_are_darknets(network):
    # Running averages move by .01; eps 1e-5. A convolution of fan-in 9216 starts with a deviation of sqrt(2 / 9216) =
    # .0147.
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.01, 1e-5)}
    first = network.neck32[0].conv.weight
    assert first.std().item() == pytest.approx((2 / 9216) ** 0.5, rel=0.02)
    assert network.detect32[1].weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    assert network.detect32[1].bias.abs().sum() == 0


def test_decode_worked_by_hand():
    # Input of 2 columns and 3 rows. Anchor 0.5 x 1.5 cells, in row 2, column 1:
    # b_x = (sigmoid(log 3) + 1) / 2 = 1.75 / 2 = 0.875     b_w = 0.5 exp(log 2) / 2 = 0.5
    # b_y = (sigmoid(-log 3) + 2) / 3 = 2.25 / 3 = 0.75     b_h = 1.5 exp(0) / 3     = 0.5
    # left 0.625, top 0.5, right 1.125, bottom 1. Objectness sigmoid(log 4) = 0.8; softmax of the scores log 3 and 0:
    # 3/4 and 1/4. So 0.8 * 3/4 = 0.6 and 0.8 * 1/4 = 0.2. (Two sigmoids, 3/4 and 1/2, would give 0.6 and 0.4.)
    head = torch.full((1, 2, 3, 2, 7), -20.0)
    head[0, 1, 2, 1] = torch.tensor([log(3), -log(3), log(2), 0, log(4), log(3), 0])
    boxes, scores = decode(head, [(0.3, 0.3), (0.5, 1.5)])
    place = 1 * 6 + 2 * 2 + 1                                             # anchor, row, column
    assert boxes.shape == (1, 12, 4) and scores.shape == (1, 12, 2)
    assert boxes[0, place].tolist() == pytest.approx([0.625, 0.5, 1.125, 1.0])
    assert scores[0, place].tolist() == pytest.approx([0.6, 0.2])
    assert scores.sum().item() == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("cells, count", [(13, 845), (19, 1805)])
def test_boxes_count_anchor_by_anchor(cells, count):
    boxes, _ = decode(torch.zeros(1, 5, cells, cells, 6))
    assert boxes.shape == (1, count, 4)
    size = xyxy_to_cxcywh(boxes[0])[:, 2:] * cells
    for anchor, (w, h) in enumerate(ANCHORS):
        first, last = size[anchor * cells ** 2], size[(anchor + 1) * cells ** 2 - 1]
        assert first.tolist() == pytest.approx([w, h]) and last.tolist() == pytest.approx([w, h])


def test_encode_then_decode_gives_the_boxes_back():
    # Writes the targets of the loss into the head and reads them as boxes. 5 cells wide, 3 high.
    targets = torch.tensor([[0, 1, 0.31, 0.77, 0.5, 0.33], [1, 0, 0.9, 0.05, 0.06, 0.1], [0, 0, 0.5, 0.5, 0.2, 0.4]])
    head, grid = torch.full((2, 5, 3, 5, 7), -30.0), torch.tensor([5, 3])
    slots, objects, _, _ = assign(head, targets)
    image, anchor, row, col = slots.T
    target_xy = targets[objects, 2:4] * grid - torch.stack([col, row], 1)
    target_wh = (targets[objects, 4:6] * grid / torch.tensor(ANCHORS)[anchor]).log()
    t_o, classes = torch.full((len(objects), 1), 30.0), torch.eye(2)[targets[objects, 1].long()]
    head[image, anchor, row, col] = torch.cat([target_xy.logit(), target_wh, t_o, classes * 60 - 30], 1)
    boxes, scores = decode(head)
    found = (scores > 0.5).nonzero()                                      # image, place, label
    rows = torch.cat([found[:, [0, 2]], xyxy_to_cxcywh(boxes[found[:, 0], found[:, 1]])], 1)
    for target in targets:
        assert (rows - target).abs().amax(1).min() < 1e-5
    assert len(rows) == 3


def test_fusing_batchnorm_changes_nothing():
    torch.manual_seed(0)
    network = YOLOv2(num_classes=2)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    x = torch.rand(2, 3, 64, 64)
    network(x)                                                            # the running averages become this batch's
    with torch.no_grad():
        before = network.eval()(x)
        after = fuse_batchnorm(network)(x)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    torch.testing.assert_close(before, after, atol=2e-3, rtol=0)          # of outputs around 1
