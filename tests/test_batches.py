"""Each epoch has each image once, however often a training is interrupted and however many processes share it."""
import numpy as np
import pytest
import torch

from shared.batches import load_batches, shuffled_batches
from shared.errors import InputError


def images_of(batches):
    """The indices of the images in the order in which they are loaded."""
    return [index for _, batch in batches for index, _ in batch]


def test_every_epoch_has_every_image_once():
    # 10 images and 5 steps of 4 images: two epochs. Step 3 takes the last two images of the first epoch and the first
    # two of the second.
    batches = list(shuffled_batches(10, 4, range(1, 6), seed=0))
    assert [(step, len(batch)) for step, batch in batches] == [(1, 4), (2, 4), (3, 4), (4, 4), (5, 4)]
    images = images_of(batches)
    assert sorted(images[:10]) == sorted(images[10:]) == list(range(10))
    assert images[:10] != images[10:]


def test_the_order_depends_on_the_seed_and_the_epoch_alone():
    images = images_of(shuffled_batches(10, 5, range(1, 5), seed=7))
    assert images == [*np.random.default_rng((7, 0)).permutation(10), *np.random.default_rng((7, 1)).permutation(10)]
    assert images != images_of(shuffled_batches(10, 5, range(1, 5), seed=8))


def test_every_image_that_is_loaded_has_its_own_seed():
    seeds = [seed for _, batch in shuffled_batches(3, 4, range(1, 4), seed=7) for _, seed in batch]
    assert seeds == [(7, n) for n in range(12)]


def test_an_interrupted_training_continues_with_the_same_images():
    whole = list(shuffled_batches(10, 8, range(1, 6), 0, subdivisions=2))
    assert [step for step, _ in whole] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5] and {len(batch) for _, batch in whole} == {4}
    assert list(shuffled_batches(10, 8, range(3, 6), 0, subdivisions=2)) == whole[4:]        # steps 1 and 2 are done


def test_processes_share_each_subdivision():
    whole = list(shuffled_batches(10, 8, range(1, 6), 0, subdivisions=2))
    first, second = [list(shuffled_batches(10, 8, range(1, 6), 0, 2, rank, ranks=2)) for rank in range(2)]
    assert [(step, a + b) for (step, a), (_, b) in zip(first, second)] == whole
    # Subdivisions do not change what a step sees, either.
    assert images_of(whole) == images_of(shuffled_batches(10, 8, range(1, 6), 0))


def test_fewer_images_than_a_batch():
    # 3 images, 3 steps of 8: eight epochs of 3.
    images = images_of(shuffled_batches(3, 8, range(1, 4), seed=0))
    assert len(images) == 24
    assert all(sorted(images[i:i + 3]) == [0, 1, 2] for i in range(0, 24, 3))


@pytest.mark.parametrize("batch, subdivisions, ranks, message", [
    (8, 3, 1, "BATCH_SIZE 8 cannot be divided by SUBDIVISIONS 3 x 1 processes"),
    (8, 2, 8, "BATCH_SIZE 8 cannot be divided by SUBDIVISIONS 2 x 8 processes")])
def test_a_batch_that_cannot_be_divided_is_refused(batch, subdivisions, ranks, message):
    with pytest.raises(InputError, match=message):
        next(shuffled_batches(10, batch, range(1, 2), 0, subdivisions, 0, ranks))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_loaded_in_their_order(workers):
    squares = [n * n for n in range(10)]
    loader = load_batches(squares, iter([[3, 1], [9, 0]]), sum, workers, torch.device("cpu"))
    assert list(loader) == [9 + 1, 81 + 0]
