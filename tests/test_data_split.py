"""The hold-out is disjoint, complete, stratified and a function of labels and seed alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vaelab.data.split import hold_out

labels_of_any_kind = st.lists(st.sampled_from(["ant", "bee", "cat", "10", "2"]), max_size=300).map(
    lambda values: np.array(values, dtype=np.str_)
)
seeds = st.integers(0, 2**32 - 1)
shares = st.sampled_from([0.05, 0.1, 0.25, 0.5])


@given(labels_of_any_kind, seeds, shares)
def test_parts_are_disjoint_complete_and_in_order(labels: np.ndarray, seed: int, share: float) -> None:
    kept, held = hold_out(labels, seed=seed, share=share)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(labels)))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()


@given(labels_of_any_kind, seeds, shares)
def test_each_class_is_thinned_alike_and_keeps_an_image(labels: np.ndarray, seed: int, share: float) -> None:
    kept, held = hold_out(labels, seed=seed, share=share)
    for name, count in zip(*np.unique(labels, return_counts=True), strict=True):
        held_count = (labels[held] == name).sum()
        assert abs(held_count - share * count) < 1 + 1e-9
        assert (labels[kept] == name).sum() >= 1


@given(labels_of_any_kind, seeds)
def test_the_same_seed_gives_the_same_parts(labels: np.ndarray, seed: int) -> None:
    for first, second in zip(hold_out(labels, seed=seed), hold_out(labels, seed=seed), strict=True):
        assert np.array_equal(first, second)


def test_another_seed_gives_other_parts() -> None:
    labels = np.arange(1000) % 10
    assert not np.array_equal(hold_out(labels, seed=0)[1], hold_out(labels, seed=1)[1])


def test_the_whole_is_a_tenth_even_of_many_small_classes() -> None:
    _, held = hold_out(np.repeat(np.arange(20), 4), seed=0)
    assert len(held) == 8


def test_unlabelled_images_are_parted_by_their_number() -> None:
    assert [len(part) for part in hold_out(100, seed=3)] == [90, 10]


def test_a_handful_is_not_parted() -> None:
    assert [len(part) for part in hold_out(4, seed=0)] == [4, 0]
    assert [len(part) for part in hold_out(np.arange(30), seed=0)] == [30, 0]
    assert [len(part) for part in hold_out(0, seed=0)] == [0, 0]
