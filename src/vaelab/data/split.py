"""Stratified random sampling: images held out of training, and subsets of the training images.

Symbols: N images, K classes, n_k images of class k.
"""

from __future__ import annotations

import numpy as np

HELD_OUT_SHARE = 0.1
"""Share of the images, 0…1, held out for a split that the source does not have."""


def hold_out(labels: np.ndarray | int, *, seed: int, share: float = HELD_OUT_SHARE) -> tuple[np.ndarray, np.ndarray]:
    """Split the images in two, stratified by class; both parts keep the order of the source.

    Of each class, `share` · n_k images are held out, rounded up or down so that the total is as close as possible to
    `share` · N (largest remainders are rounded up, ties are broken at random). At least one image of each class is kept.

    Parameters
    ----------
    labels
        Shape (N,), any sortable type; or the number N of unlabelled images.
    seed
        The result depends on the labels and the seed only.

    Returns
    -------
    kept, held_out
        Ascending indices; disjoint, with union 0…N−1.
    """
    classes, counts = _counted(labels)
    generator = np.random.default_rng(seed)
    quota = _rounded(share * counts, int(share * len(classes) + 0.5), generator)
    held = _drawn(classes, counts, np.minimum(quota, counts - 1), generator)
    return np.flatnonzero(~held), np.flatnonzero(held)


def choose(labels: np.ndarray | int, count: int, *, seed: int) -> np.ndarray:
    """Select at most `count` images with the class proportions of the source; return ascending indices.

    Largest remainders are rounded up (ties are broken at random). If `count` ≥ K, every class keeps at least one image;
    classes with a quota below one get one, and the rest is divided among the others. Parameters as for `hold_out`.
    """
    classes, counts = _counted(labels)
    N, K = len(classes), len(counts)
    if count >= N:
        return np.arange(N)
    generator = np.random.default_rng(seed)
    small = np.zeros(K, dtype=bool)
    quota = count * counts / N
    while count >= K and (quota < 1).any():
        small |= quota < 1
        quota = np.where(small, 1, (count - small.sum()) * counts / counts[~small].sum())
    return np.flatnonzero(_drawn(classes, counts, _rounded(quota, count, generator), generator))


def _counted(labels: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """Return the class index of each image, 0…K−1, and the counts n_k."""
    values = np.zeros(labels, np.int64) if isinstance(labels, int) else labels
    _, classes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return classes, counts


def _rounded(quota: np.ndarray, total: int, generator: np.random.Generator) -> np.ndarray:
    """Round to integers with sum `total`; the sum is larger if that of the floors already is."""
    rounded = np.floor(quota).astype(np.int64)
    rounded_up = max(0, total - int(rounded.sum()))
    ties = generator.permutation(len(quota))
    rounded[np.lexsort((ties, rounded - quota))[:rounded_up]] += 1
    return rounded


def _drawn(classes: np.ndarray, counts: np.ndarray, quota: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw `quota` images of each class at random; return a mask over the images."""
    N = len(classes)
    order = generator.permutation(N)
    by_class = order[np.argsort(classes[order], kind="stable")]
    rank = np.arange(N) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = np.zeros(N, dtype=bool)
    drawn[by_class[rank < np.repeat(quota, counts)]] = True
    return drawn
