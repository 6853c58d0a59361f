"""
The bytes of Darknet's .weights files: a header, then nothing but float32, little endian, layer after layer as in the
cfg file. The file does not say which network it is for: that only its length tells.

Source  src/parser.c of pjreddie/darknet at f6afaab: load_weights_upto, save_weights_upto and what they call.

    header                     major, minor, revision: int32; then the number of images that the network has seen:
                               8 bytes from version 0.2 on, 4 before, as in files whose matrices stand transposed
                               (a major or minor above 1000)
    convolution with BN        beta, gamma, mean, variance (out,) each; weights (out, in, k, k)
    convolution without        biases (out,); weights
    fully connected layer      biases (out,); weights (out, in), or (in, out) in files with transposed matrices

Which layers these are says each model.py. Files are mapped into memory, not read: of the numbers there is only the copy
in the network.
"""
import math
import struct
from pathlib import Path

import numpy as np
import torch

from shared.errors import InputError
from shared.paths import atomic_write


def read_header(path, expected):
    """
    expected  {what: the count of its numbers}: what the file may hold
    returns   what it holds, its header's length in bytes, the number of images seen, whether matrices stand transposed
    raises    InputError: no such file, an unknown version, or a count that nothing expected has
    """
    try:
        with open(path, "rb") as file:
            start = file.read(20).ljust(20, b"\0")
        size = Path(path).stat().st_size
    except OSError:
        raise InputError(f"{path}: no such file") from None
    major, minor, revision, seen = struct.unpack("<iiii", start[:16])
    transposed, length = major > 1000 or minor > 1000, 16
    if (major, minor) == (0, 2):
        length, (seen,) = 20, struct.unpack("<q", start[12:])
    left = max(size - length, 0)
    found = f"{left // 4:,} numbers" + f" and {left % 4} bytes" * (left % 4 > 0) + " after its header"
    counts = " or ".join(f"{count:,} ({what})" for what, count in expected.items())
    if (major, minor) not in [(0, 1), (0, 2)] and not transposed:
        raise InputError(f"{path}: not a weights file, or of an unknown version: {major}.{minor}.{revision} instead of "
                         f"0.1 or 0.2; {found}, expected {counts}")
    for what, count in expected.items():
        if left == 4 * count and size >= length:
            return what, length, seen, transposed
    raise InputError(f"{path}: not the weights of this network, or not whole: {found}, expected {counts}")


def read_weights(path, shapes, behind=0):
    """
    shapes   of the tensors that the file has to hold, in its order; those of two dimensions are matrices (out, in)
    behind   so many numbers may follow that are not asked for: of a classifier's last layer, where the rest is wanted
    returns  the tensors: windows on the file, to be copied from; and the number of images seen
    raises   InputError as read_header
    """
    counts = [math.prod(shape) for shape in shapes]
    whole = {"this network": sum(counts), "this network and a classifier": sum(counts) + behind}
    _, length, seen, transposed = read_header(path, whole if behind else {"this network": sum(counts)})
    numbers = torch.from_numpy(np.memmap(path, "<f4", mode="c", offset=length, shape=sum(counts)))
    windows = [window.view(shape[::-1]).T if transposed and len(shape) == 2 else window.view(shape)
               for window, shape in zip(numbers.split(counts), shapes)]
    return windows, seen


def write_weights(path, tensors, seen=0):
    """Writes the tensors in their order, as version 0.2.0: whole or not at all. seen: the images trained on."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<iiiq", 0, 2, 0, seen))
        for tensor in tensors:
            file.write(tensor.detach().cpu().contiguous().numpy().astype("<f4", copy=False).data)


def fold_batchnorm(beta, gamma, mean, variance, weight):
    """
    -> biases (out,) and weights (out, in, k, k) of the convolution alone that does what the one with BatchNorm does,
    for weights with BatchNorm in a network without it:

        gamma (w x - mean) / sqrt(variance + eps) + beta,  eps = 1e-5 (on Darknet's CPU 1e-6, outside of the root)
    """
    scale = gamma / (variance + 1e-5).sqrt()                                 # (out,)
    return beta - mean * scale, weight * scale.view(-1, 1, 1, 1)
