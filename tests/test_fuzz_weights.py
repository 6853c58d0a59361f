"""
Reads 400 .weights files that are damaged at random, with a fixed seed. Every file is either read, and then all numbers
are those of the file, or refused with an InputError of one line that names it. There is no third outcome.
"""
import struct

import numpy as np
import pytest
import torch.nn as nn

import yolov1.weights
import yolov3.weights
from shared.darknet_weights import MAX_SEEN
from shared.detector_files import recognise
from shared.errors import InputError
from yolov1.locally_connected.model import LocallyConnected
from yolov1.model import ConvBlock
from yolov3.model import ConvBlock as ConvBlock3

FILES = 400
HEADERS = [struct.pack("<iiii", 0, 1, 0, 77), struct.pack("<iiiq", 0, 2, 0, 77),
           struct.pack("<fffi", 1e-4, 0.9, 5e-4, 77)]
INTEGERS = [struct.pack("<i", value) for value in (-1, 0, 1, 2, 3, 1000, 1001, 2 ** 31 - 1, -2 ** 31)]
FLOATS = [struct.pack("<f", value) for value in (float("nan"), float("inf"), -float("inf"), 3e38, -3e38, -1, 0)]
FOREIGN = [b"", b"\n", b"<", b"<!DOCTYPE html>\n<html></html>", b"PK\x03\x04", b"\x80\x02}q\x00.", bytes(16), bytes(20),
           b"\xff" * 72, b"version https://git-lfs.github.com/spec/v1\noid sha256:0"]


def plain():
    """Numbers of YOLOv3's kind: a convolution with BatchNorm, 4 * 2 + 2, and one with a bias, 1 + 2."""
    return yolov3.weights, nn.Sequential(ConvBlock3(1, 2, 1), nn.Conv2d(2, 1, 1)), [13]


def folding():
    """
    Of YOLOv1's kind: a convolution without BatchNorm, 2 + 2, or in the file with it, 4 * 2 + 2; a locally connected
    layer for 2 x 2 places, 4 + 4 * 18; a fully connected one, 2 + 2 * 4. Together 90 or 96.
    """
    layers = ConvBlock(1, 2, 1, batch_norm=False), LocallyConnected(2, 1, 2), nn.Linear(4, 2)
    return yolov1.weights, nn.Sequential(*layers), [90, 96]


def damage(content, random):
    """The bytes of a file, damaged in one of eight ways."""
    content, place = bytearray(content), int(random.integers(len(content)))
    kind = int(random.integers(8))
    if kind == 0:                                                            # cut off
        del content[place:]
    elif kind == 1:                                                          # too long
        content += random.bytes(int(random.integers(1, 40)))
    elif kind == 2:                                                          # up to eight bits are flipped
        for _ in range(random.integers(1, 9)):
            content[random.integers(len(content))] ^= 1 << int(random.integers(8))
    elif kind == 3:                                                          # a number of the header is another one
        place = 4 * int(random.integers(5))
        content[place:place + 4] = INTEGERS[random.integers(len(INTEGERS))]
    elif kind == 4:                                                          # a weight is another one
        place = len(content) - 4 * int(random.integers(1, (len(content) - 20) // 4))
        content[place:place + 4] = FLOATS[random.integers(len(FLOATS))]
    elif kind == 5:                                                          # some bytes are lost
        del content[place:place + int(random.integers(1, 9))]
    elif kind == 6:                                                          # some bytes are overwritten
        size = int(random.integers(1, 9))
        content[place:place + size] = random.bytes(len(content[place:place + size]))
    else:                                                                    # another file altogether
        content = bytearray(FOREIGN[random.integers(len(FOREIGN))])
    return bytes(content)


def parse(content, counts):
    """The numbers and the images seen of a file that has to be read, by the format's description; otherwise None."""
    if len(content) < 16:
        return None
    major, minor, _, seen = struct.unpack("<iiii", content[:16])
    start = 16
    if (major, minor) == (0, 2):
        if len(content) < 20:
            return None
        start, seen = 20, struct.unpack("<q", content[12:20])[0]
    elif (major, minor) != (0, 1) and major <= 1000 and minor <= 1000:
        return None
    if len(content) - start not in [4 * count for count in counts] or not 0 <= seen <= MAX_SEEN:
        return None
    numbers = np.frombuffer(content, "<f4", offset=start)
    return (numbers, seen) if np.isfinite(numbers).all() else None


@pytest.mark.parametrize("network", [plain, folding])
def test_a_damaged_file_is_read_or_refused_with_one_line(tmp_path, network):
    random = np.random.default_rng(14)
    module, model, counts = network()
    read = refused = 0
    for n in range(FILES):
        count = counts[n % len(counts)]
        content = HEADERS[n % 3] + random.uniform(0.5, 1.5, count).astype("<f4").tobytes()
        for _ in range(random.integers(3)):                                  # whole, damaged once or twice
            content = damage(content, random) if len(content) > 24 else content
        path = tmp_path / f"{n}.weights"
        path.write_bytes(content)

        expected = parse(content, counts)
        try:
            seen = module.load_darknet_weights(model, path)
        except InputError as error:
            folded = len(counts) == 2 and expected is not None and len(expected[0]) == 96
            assert expected is None or folded and "BatchNorm makes weights" in str(error), (n, str(error))
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            assert len(str(error)) < len(str(path)) + 300
            refused += 1
        else:
            assert expected is not None and seen == expected[1], n
            assert all(tensor.isfinite().all() for tensor in model.state_dict().values()), n
            if len(counts) == 1:
                numbers = np.concatenate([t.detach().numpy().ravel() for t in module.darknet_order(model)])
                assert np.array_equal(numbers, expected[0])
            read += 1
        try:
            assert recognise(path, [("Network", ["cat"])] * len(counts), counts) == ("Network", ["cat"])
        except InputError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert read > 100 and refused > 100, (read, refused)
