"""The order in which a training sees its images. It depends on the seed alone, so a training can be interrupted."""
import signal
from functools import lru_cache

import numpy as np
from torch.utils.data import DataLoader

from shared.errors import InputError


def shuffled_batches(num_images, batch_size, steps, seed, subdivisions=1, rank=0, ranks=1):
    """
    Every epoch goes through the images in a new random order. The images are numbered n = 0, 1, 2, ... through all
    epochs, and step s takes the numbers from (s - 1) batch_size on, even where it was interrupted and started again,
    and however many processes share it.

    steps    the steps to be done, counted from 1: range(1, 301), or range(51, 301) after an interruption
    yields   (step, [(index of the image, seed for its augmentation), ...]), once for each of the subdivisions that a
             step's batch is divided into; of each, this process gets its share
    """
    if batch_size % (subdivisions * ranks):
        raise InputError(f"BATCH_SIZE {batch_size} cannot be divided by SUBDIVISIONS {subdivisions} x {ranks} "
                         "processes")

    @lru_cache(maxsize=2)                                    # a batch may begin in one epoch and end in the next
    def order_of(epoch):
        return np.random.default_rng((seed, epoch)).permutation(num_images)

    share = batch_size // (subdivisions * ranks)
    for step in steps:
        for subdivision in range(subdivisions):
            first = (step - 1) * batch_size + (subdivision * ranks + rank) * share
            yield step, [(order_of(n // num_images)[n % num_images], (seed, n)) for n in range(first, first + share)]


def load_batches(dataset, keys, collate, workers, device):
    """An iterator over collate([dataset[key], ...]) for each list of keys, loaded by `workers` processes."""
    return iter(DataLoader(dataset, batch_sampler=keys, num_workers=workers, collate_fn=collate,
                           pin_memory=device.type == "cuda", worker_init_fn=ignore_ctrl_c))


def ignore_ctrl_c(_):
    """Ctrl-C goes to the processes that load images, too. The process that started them ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
