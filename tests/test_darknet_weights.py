"""
Reads and writes .weights files that are made byte by byte: every kind of header, the order of the numbers, and files
that do not fit the network.
"""
import struct

import pytest
import torch
import torch.nn as nn

from shared.darknet_weights import fold_batchnorm, read_header, read_weights, write_weights
from shared.errors import InputError
from yolov3.model import ConvBlock
from yolov3.weights import load_darknet_weights, save_darknet_weights

# The headers of version 0.1, of version 0.2, of a transposed file and of 2015, for a network that has seen 77 images.
# In 2015 the learning rate, the momentum and the weight decay stood in the place of the version.
V1, V2 = struct.pack("<iiii", 0, 1, 0, 77), struct.pack("<iiiq", 0, 2, 0, 77)
TRANSPOSED = struct.pack("<iiii", 1001, 0, 0, 77)
OF_2015 = struct.pack("<fffi", 1e-4, 0.9, 5e-4, 77)


def numbers(*values):
    """The values as the bytes of little-endian float32."""
    return struct.pack(f"<{len(values)}f", *values)


# ---- the header

@pytest.mark.parametrize("header, seen", [
    (V1, 77), (V2, 77), (struct.pack("<iiiq", 0, 2, 5, 2 ** 35), 2 ** 35), (TRANSPOSED, 77), (OF_2015, 77),
    (struct.pack("<iiii", 0, 1001, 0, 77), 77), (struct.pack("<iiii", 0, 1, 0, 0), 0)])
def test_headers_of_every_kind(tmp_path, header, seen):
    # If a header is read four bytes too short or too long, every number goes to a wrong place.
    path = tmp_path / "a.weights"
    path.write_bytes(header + numbers(1, 2, 3))
    windows, found = read_weights(path, [(2,), (1, 1, 1, 1)])
    assert [window.tolist() for window in windows] == [[1, 2], [[[[3]]]]] and found == seen


def test_matrices_of_old_files_are_transposed(tmp_path):
    # The matrix of two outputs and three inputs has the rows 1 2 3 and 4 5 6. A transposed file stores its columns:
    # 1 4, 2 5, 3 6. A convolution has four dimensions and is never transposed.
    shapes = [(2,), (2, 3), (2, 1, 1, 2)]
    for header, order in [(V1, [1, 2, 3, 4, 5, 6]), (V2, [1, 2, 3, 4, 5, 6]), (TRANSPOSED, [1, 4, 2, 5, 3, 6]),
                          (OF_2015, [1, 4, 2, 5, 3, 6])]:
        (tmp_path / "a.weights").write_bytes(header + numbers(8, 9, *order, 1, 2, 3, 4))
        (biases, matrix, convolution), _ = read_weights(tmp_path / "a.weights", shapes)
        assert biases.tolist() == [8, 9] and matrix.tolist() == [[1, 2, 3], [4, 5, 6]]
        assert convolution.flatten().tolist() == [1, 2, 3, 4]


def test_a_header_of_2015_is_read_as_a_version():
    # The bits of the learning rate 1e-4 make a major version above 1000, so the matrices count as transposed.
    major, minor, revision, seen = struct.unpack("<iiii", OF_2015)
    assert (major, seen) == (953_267_991, 77) and minor > 1000


@pytest.mark.parametrize("content, message", [
    (V2 + numbers(1, 2), r"not whole: 2 numbers after its header, expected 3 \(this network\)"),
    (V2 + numbers(1, 2, 3, 4), r"not whole: 4 numbers after its header, expected 3 \(this network\)"),
    (V1 + numbers(1, 2, 3, 4), "4 numbers after its header, expected 3"),
    (V2 + numbers(1, 2, 3) + b"1", "3 numbers and 1 bytes after its header, expected 3"),
    (TRANSPOSED + numbers(1, 2), "2 numbers after its header, expected 3"),
    (V2[:12], "0 numbers after its header, expected 3"),
    (b"", "unknown version: 0.0.0 .* 0 numbers after its header, expected 3"),
    (struct.pack("<iiii", 7, 3, 1, 0) + numbers(1, 2, 3), "unknown version: 7.3.1 instead of 0.1 or 0.2; 3 numbers"),
    (struct.pack("<iiii", 1, 0, 0, 0) + numbers(1, 2, 3), "unknown version: 1.0.0"),
    (struct.pack("<iiii", -2, 2, 0, 0) + numbers(1, 2, 3), "unknown version: -2.2.0"),
    (b"\xff\xd8\xff\xe0" + bytes(40), "not a weights file"),
    (b"%PDF-1.7, not a weights file at all", "4 numbers and 3 bytes after its header, expected 3"),
    (b"<!DOCTYPE html><html><title>404</title></html>", "a web page, not a weights file; the address"),
    (b"\xef\xbb\xbf\r\n <html></html>", "a web page, not a weights file"),
    (V2 + numbers(1, float("nan"), 3), "damaged: number 2 of 3 is nan$"),
    (V1 + numbers(1, 2, float("inf")), "damaged: number 3 of 3 is inf$"),
    (V1 + numbers(float("-inf"), 2, float("nan")), "damaged: number 1 of 3 is -inf$"),
    (struct.pack("<iiiq", 0, 2, 0, -1) + numbers(1, 2, 3), "damaged: its header says .* has seen -1 images"),
    (struct.pack("<iiiQ", 0, 2, 0, 2 ** 63) + numbers(1, 2, 3), "has seen -9,223,372,036,854,775,808 images"),
    (struct.pack("<iiiq", 0, 2, 0, 10 ** 12 + 1) + numbers(1, 2, 3), "has seen 1,000,000,000,001 images"),
    (struct.pack("<iiii", 0, 1, 0, -7) + numbers(1, 2, 3), "has seen -7 images")])
def test_files_that_do_not_fit_are_refused_before_anything_is_changed(tmp_path, content, message):
    path = tmp_path / "a.weights"
    path.write_bytes(content)
    model = nn.Conv2d(2, 1, 1)                                            # one bias, two weights
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(InputError, match=f"a.weights: .*{message}") as error:
        load_darknet_weights(model, path)
    assert "\n" not in str(error.value)
    assert all(p.equal(old) for p, old in zip(model.parameters(), before))


def test_numbers_that_begin_like_a_web_page_are_read(tmp_path):
    # The first byte of the header of 2015 with this learning rate is a "<".
    rate, = struct.unpack("<f", b"<\x00\x80:")
    (tmp_path / "a.weights").write_bytes(struct.pack("<fffi", rate, 0.9, 5e-4, 77) + numbers(1, 2, 3))
    assert rate == pytest.approx(9.77e-4, rel=1e-3)
    assert read_weights(tmp_path / "a.weights", [(3,)])[0][0].tolist() == [1, 2, 3]


def test_the_largest_and_the_smallest_numbers_are_read(tmp_path):
    extremes = [3.4028234663852886e38, -3.4028234663852886e38, 1e-45, 0.0]
    (tmp_path / "a.weights").write_bytes(V2 + numbers(*extremes))
    assert read_weights(tmp_path / "a.weights", [(4,)])[0][0].tolist() == pytest.approx(extremes)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(InputError, match="a.weights: no such file"):
        read_weights(tmp_path / "a.weights", [(1,)])
    with pytest.raises(InputError, match=f"{tmp_path}: is a folder, not a file"):
        read_weights(tmp_path, [(1,)])


def test_the_count_of_the_numbers_tells_which_network_it_is(tmp_path):
    (tmp_path / "a.weights").write_bytes(V2 + numbers(1, 2, 3))
    assert read_header(tmp_path / "a.weights", {2: "small", 3: "large"}) == (3, 20, 77, False)
    with pytest.raises(InputError, match=r"3 numbers after its header, expected 2 \(small\) or 4 \(large\)"):
        read_header(tmp_path / "a.weights", {2: "small", 4: "large"})


def test_an_optional_tail_is_not_read(tmp_path):
    # The network has 3 numbers. Its file may hold 2 more, which are not read.
    for tail in [(), (4, 5)]:
        (tmp_path / "a.weights").write_bytes(V2 + numbers(1, 2, 3, *tail))
        (first, second), seen = read_weights(tmp_path / "a.weights", [(2,), (1,)], 2)
        assert (first.tolist(), second.tolist(), seen) == ([1, 2], [3], 77)
    with pytest.raises(InputError, match=r"5 numbers after its header, expected 3 \(this network\)$"):
        read_weights(tmp_path / "a.weights", [(2,), (1,)])
    (tmp_path / "a.weights").write_bytes(V2 + numbers(1, 2, 3, 4))
    with pytest.raises(InputError, match=r"expected 3 \(this network\) or 5 \(this network and a classifier\)$"):
        read_weights(tmp_path / "a.weights", [(2,), (1,)], 2)


# ---- the numbers

def test_the_order_of_batchnorms_numbers_and_a_small_network_by_hand(tmp_path):
    # The network: a 1 x 1 convolution of one channel into two, with BatchNorm and leaky ReLU; then a 1 x 1 convolution
    # of these two into one, without BatchNorm.
    # The file: beta 1, 2; gamma 3, 4; mean 5, 6; variance 4, 9 (each less eps = 1e-5); weights 7, 8;
    #           then the bias .5 and the weights 1, 10.
    #
    #             gamma (w x - mean) / sd + beta                       leaky ReLU      .5 + first + 10 second
    # pixel x = 1   3 (7 - 5) / 2 + 1 = 4,     4 (8 - 6) / 3 + 2 = 14/3  4, 14/3       .5 + 4 + 140/3 = 307/6
    # pixel x = 0   3 (0 - 5) / 2 + 1 = -6.5,  4 (0 - 6) / 3 + 2 = -6    -.65, -.6     .5 - .65 - 6   = -6.15
    #
    # If gamma were read before beta, x = 1 would give 1 (7 - 5) / 2 + 3 = 4 and 2 (8 - 6) / 3 + 4 = 16/3, so the output
    # would be .5 + 4 + 160/3 = 347/6.
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
    exchanged = V2 + numbers(3, 4, 1, 2, 5, 6, 4 - 1e-5, 9 - 1e-5, 7, 8, 0.5, 1, 10)
    (tmp_path / "c.weights").write_bytes(exchanged)
    load_darknet_weights(model, tmp_path / "c.weights")
    with torch.no_grad():
        assert model(torch.ones(1, 1, 1, 1)).item() == pytest.approx(347 / 6, abs=1e-4)
    load_darknet_weights(model, tmp_path / "a.weights")

    save_darknet_weights(model, tmp_path / "b.weights", seen=77)
    assert (tmp_path / "b.weights").read_bytes() == content


def test_the_numbers_of_a_kernel_are_stored_row_by_row(tmp_path):
    # A 3 x 3 convolution of two channels has the weights 1 to 18, in the order channel, row, column:
    #
    #     channel 0    1  2  3        channel 1   10 11 12
    #                  4  5  6                    13 14 15
    #                  7  8  9                    16 17 18
    #
    # The image is 2 x 2 and 0, but for a 1 in channel 1 at row 0, column 0. The four outputs see this 1 at the centre
    # (14), on the left (13), above (11) and above on the left (10). The bias is 100.
    model = nn.Conv2d(2, 1, 3, padding=1)
    (tmp_path / "a.weights").write_bytes(V1 + numbers(100, *range(1, 19)))
    load_darknet_weights(model, tmp_path / "a.weights")
    image = torch.zeros(1, 2, 2, 2)
    image[0, 1, 0, 0] = 1
    with torch.no_grad():
        assert model(image).flatten().tolist() == [100 + w for w in (14, 13, 11, 10)]


def test_batchnorm_folded_by_hand():
    # gamma (w x - mean) / sd + beta
    #     3 (7 x - 5) / 2 + 1 = 10.5 x - 6.5
    #     4 (8 x - 6) / 3 + 2 = 32/3 x - 6
    beta, gamma, mean, variance = (torch.tensor(pair) for pair in ([1.0, 2], [3.0, 4], [5.0, 6], [4 - 1e-5, 9 - 1e-5]))
    biases, weights = fold_batchnorm(beta, gamma, mean, variance, torch.tensor([7.0, 8]).view(2, 1, 1, 1))
    assert biases.tolist() == pytest.approx([-6.5, -6]) and weights.shape == (2, 1, 1, 1)
    assert weights.flatten().tolist() == pytest.approx([10.5, 32 / 3])
    # If the variance is 0, only eps is under the root: 1 / sqrt(1e-5) = 316.2.
    biases, weights = fold_batchnorm(*(torch.tensor([x]) for x in (0.0, 1, 0, 0)), torch.ones(1, 1, 1, 1))
    assert weights.item() == pytest.approx(316.2, abs=0.1)


# ---- writing

def test_the_bytes_of_a_written_file(tmp_path):
    tensors = [torch.tensor([1.0, 2]), torch.arange(4.0).view(1, 2, 1, 2).to(memory_format=torch.channels_last)]
    write_weights(tmp_path / "a.weights", tensors)
    assert (tmp_path / "a.weights").read_bytes() == struct.pack("<iiiq", 0, 2, 0, 0) + numbers(1, 2, 0, 1, 2, 3)


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    def interrupted():
        yield torch.ones(3)
        raise KeyboardInterrupt

    write_weights(tmp_path / "a.weights", [torch.ones(1)])
    with pytest.raises(KeyboardInterrupt):
        write_weights(tmp_path / "a.weights", interrupted())
    assert [path.name for path in tmp_path.iterdir()] == ["a.weights"]
    assert (tmp_path / "a.weights").stat().st_size == 24                  # the header of 20 bytes and one float32


def test_the_tensors_read_are_views_of_one_memory_map(tmp_path):
    # The second tensor begins two float32 (8 bytes) after the first. Writing to it does not change the file.
    write_weights(tmp_path / "a.weights", [torch.arange(6.0)])
    before = (tmp_path / "a.weights").read_bytes()
    (first, second), _ = read_weights(tmp_path / "a.weights", [(2,), (4,)])
    assert second.data_ptr() == first.data_ptr() + 8
    second.zero_()
    assert (tmp_path / "a.weights").read_bytes() == before
