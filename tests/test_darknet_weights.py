"""Files made byte by byte: headers of every kind, the order of the numbers, and files that are not what they say."""
import struct

import pytest
import torch
import torch.nn as nn

from shared.darknet_weights import fold_batchnorm, read_header, read_weights, write_weights
from shared.errors import InputError
from yolov3.model import ConvBlock, load_darknet_weights, save_darknet_weights

V1, V2 = struct.pack("<iiii", 0, 1, 0, 77), struct.pack("<iiiq", 0, 2, 0, 77)
OLD = struct.pack("<iiii", 1001, 0, 0, 77)


def numbers(*values):
    return struct.pack(f"<{len(values)}f", *values)


# ---- the header

@pytest.mark.parametrize("header, seen", [
    (V1, 77), (V2, 77), (struct.pack("<iiiq", 0, 2, 5, 2 ** 35), 2 ** 35), (OLD, 77),
    (struct.pack("<iiii", 0, 1001, 0, 77), 77), (struct.pack("<iiii", 0, 1, 0, 0), 0)])
def test_headers_of_every_kind(tmp_path, header, seen):
    # A header read four bytes short or long makes every number another layer's.
    path = tmp_path / "a.weights"
    path.write_bytes(header + numbers(1, 2, 3))
    windows, found = read_weights(path, [(2,), (1, 1, 1, 1)])
    assert [window.tolist() for window in windows] == [[1, 2], [[[[3]]]]] and found == seen


def test_matrices_of_old_files_stand_transposed(tmp_path):
    # Two outputs of three inputs: rows 1 2 3 and 4 5 6. An old file has 1 4 2 5 3 6. A convolution is no matrix.
    shapes = [(2,), (2, 3), (2, 1, 1, 2)]
    for header, order in [(V1, [1, 2, 3, 4, 5, 6]), (V2, [1, 2, 3, 4, 5, 6]), (OLD, [1, 4, 2, 5, 3, 6])]:
        (tmp_path / "a.weights").write_bytes(header + numbers(8, 9, *order, 1, 2, 3, 4))
        (biases, matrix, convolution), _ = read_weights(tmp_path / "a.weights", shapes)
        assert biases.tolist() == [8, 9] and matrix.tolist() == [[1, 2, 3], [4, 5, 6]]
        assert convolution.flatten().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("content, message", [
    (V2 + numbers(1, 2), r"not whole: 2 numbers after its header, expected 3 \(this network\)"),
    (V2 + numbers(1, 2, 3, 4), r"not whole: 4 numbers after its header, expected 3 \(this network\)"),
    (V1 + numbers(1, 2, 3, 4), "4 numbers after its header, expected 3"),
    (V2 + numbers(1, 2, 3) + b"1", "3 numbers and 1 bytes after its header, expected 3"),
    (OLD + numbers(1, 2), "2 numbers after its header, expected 3"),
    (V2[:12], "0 numbers after its header, expected 3"),
    (b"", "unknown version: 0.0.0 .* 0 numbers after its header, expected 3"),
    (struct.pack("<iiii", 7, 3, 1, 0) + numbers(1, 2, 3), "unknown version: 7.3.1 instead of 0.1 or 0.2; 3 numbers"),
    (struct.pack("<iiii", 1, 0, 0, 0) + numbers(1, 2, 3), "unknown version: 1.0.0"),
    (struct.pack("<iiii", -2, 2, 0, 0) + numbers(1, 2, 3), "unknown version: -2.2.0"),
    (b"\xff\xd8\xff\xe0" + bytes(40), "not a weights file"),
    (b"%PDF-1.7, not a weights file at all", "4 numbers and 3 bytes after its header, expected 3")])
def test_files_that_do_not_fit_are_refused_before_anything_is_changed(tmp_path, content, message):
    path = tmp_path / "a.weights"
    path.write_bytes(content)
    model = nn.Conv2d(2, 1, 1)                                            # one bias, two weights
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(InputError, match=f"a.weights: .*{message}") as error:
        load_darknet_weights(model, path)
    assert "\n" not in str(error.value)
    assert all(p.equal(old) for p, old in zip(model.parameters(), before))


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="a.weights: no such file"):
        read_weights(tmp_path / "a.weights", [(1,)])


def test_the_length_tells_which_network_it_is(tmp_path):
    (tmp_path / "a.weights").write_bytes(V2 + numbers(1, 2, 3))
    assert read_header(tmp_path / "a.weights", {"small": 2, "large": 3}) == ("large", 20, 77, False)
    with pytest.raises(InputError, match=r"3 numbers after its header, expected 2 \(small\) or 4 \(large\)"):
        read_header(tmp_path / "a.weights", {"small": 2, "large": 4})


# ---- the numbers

def test_batchnorms_numbers_in_their_order_and_a_small_network_by_hand(tmp_path):
    # A 1 x 1 convolution of one channel into two, with BatchNorm, then one of two into one, without. In the file: beta
    # 1, 2; gamma 3, 4; mean 5, 6; variance 4, 9 (less 1e-5); weights 7, 8; then the bias 0.5 and the weights 1, 10.
    # Of a pixel 1:   3 (7 - 5) / 2 + 1 = 4       4 (8 - 6) / 3 + 2 = 14/3       .5 + 4 + 140/3 = 307/6
    # Of a pixel 0:   3 (0 - 5) / 2 + 1 = -6.5    4 (0 - 6) / 3 + 2 = -6         leaky: .5 - .65 - 6 = -6.15
    # Gamma before beta would give 1 (7 - 5) / 2 + 3 = 4 in the first channel too, but 2 (8 - 6) / 3 + 4 in the second.
    model = nn.Sequential(ConvBlock(1, 2, 1), nn.Conv2d(2, 1, 1)).eval()
    content = V2 + numbers(1, 2, 3, 4, 5, 6, 4 - 1e-5, 9 - 1e-5, 7, 8, 0.5, 1, 10)
    (tmp_path / "a.weights").write_bytes(content)
    assert load_darknet_weights(model, tmp_path / "a.weights") == 77
    bn = model[0].bn
    assert (bn.bias.tolist(), bn.weight.tolist(), bn.running_mean.tolist()) == ([1, 2], [3, 4], [5, 6])
    assert model[0].bn.running_var.tolist() == pytest.approx([4, 9], abs=1e-4)
    with torch.no_grad():
        output = model(torch.tensor([1.0, 0]).view(1, 1, 1, 2))
    assert output.flatten().tolist() == pytest.approx([307 / 6, -6.15], abs=1e-4)

    save_darknet_weights(model, tmp_path / "b.weights", seen=77)
    assert (tmp_path / "b.weights").read_bytes() == content


def test_a_kernels_numbers_stand_row_by_row(tmp_path):
    # Weights 1 to 18 of a 3 x 3 convolution of two channels: channel, row, column. Over a single 1 in channel 1 at row
    # 0, column 0 of a 2 x 2 image the four outputs are its centre, left, upper and upper left weight.
    model = nn.Conv2d(2, 1, 3, padding=1)
    (tmp_path / "a.weights").write_bytes(V1 + numbers(100, *range(1, 19)))
    load_darknet_weights(model, tmp_path / "a.weights")
    image = torch.zeros(1, 2, 2, 2)
    image[0, 1, 0, 0] = 1
    with torch.no_grad():
        assert model(image).flatten().tolist() == [100 + w for w in (14, 13, 11, 10)]


def test_batchnorm_folded_by_hand():
    # 3 (w x - 5) / 2 + 1 with w = 7: 10.5 x - 6.5.  4 (w x - 6) / 3 + 2 with w = 8: 32/3 x - 6.
    beta, gamma, mean, variance = (torch.tensor(pair) for pair in ([1.0, 2], [3.0, 4], [5.0, 6], [4 - 1e-5, 9 - 1e-5]))
    biases, weights = fold_batchnorm(beta, gamma, mean, variance, torch.tensor([7.0, 8]).view(2, 1, 1, 1))
    assert biases.tolist() == pytest.approx([-6.5, -6]) and weights.shape == (2, 1, 1, 1)
    assert weights.flatten().tolist() == pytest.approx([10.5, 32 / 3])
    # Where the variance is 0, eps alone is under the root: 1 / sqrt(1e-5) = 316.2.
    biases, weights = fold_batchnorm(*(torch.tensor([x]) for x in (0.0, 1, 0, 0)), torch.ones(1, 1, 1, 1))
    assert weights.item() == pytest.approx(1e5 ** 0.5, rel=1e-5)


# ---- writing

def test_what_is_written(tmp_path):
    tensors = [torch.tensor([1.0, 2]), torch.arange(4.0).view(1, 2, 1, 2).to(memory_format=torch.channels_last)]
    write_weights(tmp_path / "a.weights", tensors)
    assert (tmp_path / "a.weights").read_bytes() == struct.pack("<iiiq", 0, 2, 0, 0) + numbers(1, 2, 0, 1, 2, 3)


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    def half():
        yield torch.ones(3)
        raise KeyboardInterrupt
    write_weights(tmp_path / "a.weights", [torch.ones(1)])
    with pytest.raises(KeyboardInterrupt):
        write_weights(tmp_path / "a.weights", half())
    assert [path.name for path in tmp_path.iterdir()] == ["a.weights"]
    assert (tmp_path / "a.weights").stat().st_size == 24


def test_what_is_read_is_a_window_on_the_file(tmp_path):
    # One mapping for all, and what is written into a window does not reach the file.
    write_weights(tmp_path / "a.weights", [torch.arange(6.0)])
    before = (tmp_path / "a.weights").read_bytes()
    (first, second), _ = read_weights(tmp_path / "a.weights", [(2,), (4,)])
    assert second.data_ptr() == first.data_ptr() + 8
    second.zero_()
    assert (tmp_path / "a.weights").read_bytes() == before
