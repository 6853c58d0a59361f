"""
Reads and writes the bytes of Darknet's .weights files.

A file is a header and then the numbers of the layers as little-endian float32, in the order of the cfg file. The file
does not name its network. Only its length tells which network it fits.

Source  src/parser.c of pjreddie/darknet at f6afaab: load_weights_upto, save_weights_upto and the functions they call.

    part of the file           what it holds
    header, since 2016         major, minor, revision: int32 each; then the number of images that the network has seen,
                               8 bytes in version 0.2, 4 bytes in version 0.1
    header, in 2015            learning rate, momentum, decay: float32 each; then the images seen, 4 bytes
    convolution with BN        beta, gamma, mean, variance: (out,) each; weights (out, in, k, k)
    convolution without BN     biases (out,); weights (out, in, k, k)
    locally connected layer    biases (out, places); weights (places, out, in, k, k)
    fully connected layer      biases (out,); weights (out, in), in 2015 (in, out)

Darknet reads every header as if it were of 2016. If major or minor is above 1000, it takes the matrices to be stored
(in, out). This is also right for files of 2015, because the bits of a learning rate of 1e-4 read as int32 are
953,267,991.

The order of the layers is in the weights.py of each version. The files are memory-mapped: the numbers are in memory
once, in the network that they are copied to.
"""
import math
import struct
from pathlib import Path

import numpy as np
import torch

from shared.errors import InputError
from shared.files import check_file, reason
from shared.paths import atomic_write

MAX_SEEN = 10 ** 12  # images: a header that says more is damaged. Darknet's longest schedule has 205 million


def read_header(path, expected):
    """
    expected  a dict of what the file may hold: {count of its numbers: name}
    returns   the count that fits, the length of the header in bytes, the number of images seen, and whether the fully
              connected layers are transposed, as they are in files of 2015
    raises    InputError if the file cannot be read, is a web page or of an unknown version, if no expected count fits,
              or if the number of images seen is impossible
    """
    check_file(path)
    try:
        with open(path, "rb") as file:
            start = file.read(20).ljust(20, b"\0")
        size = Path(path).stat().st_size
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    major, minor, revision, seen = struct.unpack("<iiii", start[:16])
    length = 16
    if (major, minor) == (0, 2):
        length = 20
        seen, = struct.unpack("<q", start[12:])
    transposed = major > 1000 or minor > 1000
    known = (major, minor) in [(0, 1), (0, 2)] or transposed

    remaining = max(size - length, 0)                # bytes after the header
    for count in expected:
        if known and remaining == 4 * count:
            if not 0 <= seen <= MAX_SEEN:
                raise InputError(f"{path}: damaged: its header says that the network has seen {seen:,} images")
            return count, length, seen, transposed

    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):                # after a byte order mark or blanks
        raise InputError(f"{path}: a web page, not a weights file; the address that it was downloaded from no longer "
                         "has the weights")
    found = f"{remaining // 4:,} numbers"
    if remaining % 4:
        found += f" and {remaining % 4} bytes"
    counts = " or ".join(f"{count:,} ({name})" for count, name in expected.items())
    difference = f"{found} after its header, expected {counts}"
    if not known:
        raise InputError(f"{path}: not a weights file, or of an unknown version: {major}.{minor}.{revision} instead of "
                         f"0.1 or 0.2; {difference}")
    raise InputError(f"{path}: not the weights of this network, or not whole: {difference}")


def read_weights(path, shapes, optional_tail=0):
    """
    shapes         the shapes of the tensors in the file, in its order; two dimensions mean a matrix (out, in)
    optional_tail  the count of further numbers that the file may end with and that are not read. Example: the file of
                   a backbone may also hold the last layer of the ImageNet classifier
    returns        the tensors, as views of the memory-mapped file; the number of images seen
    raises         InputError as read_header, or if a number is NaN or infinite
    """
    counts = [math.prod(shape) for shape in shapes]
    expected = {sum(counts): "this network"}
    if optional_tail:
        expected[sum(counts) + optional_tail] = "this network and a classifier"
    _, length, seen, transposed = read_header(path, expected)
    mapped = np.memmap(path, "<f4", mode="c", offset=length, shape=sum(counts))                  # c: copy on write
    tensors, start = [], 0
    for numbers, shape in zip(torch.from_numpy(mapped).split(counts), shapes):
        if not torch.stack(numbers.aminmax()).isfinite().all():                                  # NaN wins in aminmax
            first = int((~numbers.isfinite()).nonzero()[0])
            raise InputError(f"{path}: damaged: number {start + first + 1:,} of {sum(counts):,} is {numbers[first]}")
        start += len(numbers)
        if transposed and len(shape) == 2:
            out_features, in_features = shape
            tensors.append(numbers.view(in_features, out_features).T)                            # (out, in)
        else:
            tensors.append(numbers.view(shape))
    return tensors, seen


def write_weights(path, tensors, seen=0):
    """
    Writes the tensors in their order as a file of version 0.2.0. The write is atomic.

    seen  the number of images that the network was trained on
    """
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<iiiq", 0, 2, 0, seen))
        for tensor in tensors:
            file.write(tensor.detach().cpu().contiguous().numpy().astype("<f4", copy=False).data)


def fold_batchnorm(beta, gamma, mean, variance, weight):
    """
    Folds the numbers of a BatchNorm into those of its convolution, for a network without BatchNorm. The convolution
    alone then computes

        gamma (w x - mean) / sqrt(variance + eps) + beta,   eps = 1e-5

    [darknet] has this eps on the GPU; its CPU code divides by sqrt(variance) + 1e-6.

    beta, gamma, mean, variance  (out,)
    weight                       (out, in, k, k)
    returns                      biases (out,), weights (out, in, k, k)
    """
    scale = gamma / (variance + 1e-5).sqrt()                                 # (out,)
    return beta - mean * scale, weight * scale.view(-1, 1, 1, 1)
