"""The share of intermediate grey levels and the default likelihood of a dataset, computed in little memory."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from vaelab.data import Dataset, dataset_from
from vaelab.data.dataset import Split, between_share, default_likelihood
from vaelab.errors import DataError


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


TABLE = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(1e30, np.float32), (-1e20, np.float32), (np.nan, np.float32), (np.inf, np.float32), (1e300, float)],
)
def test_a_value_of_a_table_that_cannot_be_used_is_named_with_its_column(value: float, dtype: Any) -> None:
    test = TABLE[:10].astype(dtype)
    test[7, 2] = value
    with pytest.raises(DataError, match=r"in column 2 \(row 7\b"):
        dataset_from({"train": TABLE, "test": test})


def test_columns_of_any_unit_are_used() -> None:
    units = np.array([1e-30, 1, 1e30, 0], np.float32)
    dataset = dataset_from({"train": TABLE[:30] * units, "test": TABLE[30:] * units})
    assert len(dataset.test) == 10
    extreme = TABLE.copy()
    extreme[3, 2] = 1e30  # within the training set: the unit of its column follows
    assert isinstance(dataset_from({"train": extreme, "test": TABLE}), Dataset)
