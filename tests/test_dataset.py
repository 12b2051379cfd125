"""The share of intermediate grey levels and the default likelihood of a dataset, computed in little memory."""

import tracemalloc

import numpy as np

from vaelab.data.dataset import Split, between_share, default_likelihood


def test_the_share_of_values_in_between_is_that_of_all_of_them() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2500, 1, 8, 8), dtype=np.uint8)
    assert between_share(images) == ((images > 25) & (images < 230)).mean()
    edges = np.array([25, 26, 229, 230], np.uint8).reshape(1, 1, 2, 2)
    assert between_share(edges) == 0.5


def test_choosing_a_likelihood_holds_no_second_set_of_images() -> None:
    split = Split(np.zeros((20_000, 1, 28, 28), np.uint8))
    tracemalloc.start()
    try:
        assert default_likelihood(split) == "bernoulli"
        assert tracemalloc.get_traced_memory()[1] < 0.2 * split.images.nbytes
    finally:
        tracemalloc.stop()
