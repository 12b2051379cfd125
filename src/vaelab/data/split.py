"""Seeded draws that thin every class alike: what is held out of training, and what a limit leaves of it.

Symbols: N images, K classes, n_k images of class k.
"""

from __future__ import annotations

import numpy as np

HELD_OUT_SHARE = 0.1
"""Share of the images, 0…1, that is held out where a source brings no such part itself."""


def hold_out(labels: np.ndarray | int, *, seed: int, share: float = HELD_OUT_SHARE) -> tuple[np.ndarray, np.ndarray]:
    """Part the images in two; each part keeps the order of the source.

    Of each class, `share` · n_k images are held out, rounded up or down so that the whole comes nearest to
    `share` · N (the largest remainders are rounded up, ties are drawn). At least one image of each class is
    kept.

    Parameters
    ----------
    labels
        Of shape (N,), of any type that sorts; or the number N of unlabelled images.
    seed
        The parts follow from the labels and the seed alone.

    Returns
    -------
    kept, held_out
        Indices, ascending: disjoint, and together 0…N−1.
    """
    classes, counts = _counted(labels)
    generator = np.random.default_rng(seed)
    quota = _rounded(share * counts, int(share * len(classes) + 0.5), generator)
    held = _drawn(classes, counts, np.minimum(quota, counts - 1), generator)
    return np.flatnonzero(~held), np.flatnonzero(held)


def choose(labels: np.ndarray | int, count: int, *, seed: int) -> np.ndarray:
    """At most `count` of the images, as indices in ascending order, with the classes in the proportions of the source.

    The largest remainders are rounded up (ties are drawn). Where `count` ≥ K every class keeps an image, and those with a
    share of less than one are left out of the proportion. Parameters as for `hold_out`.
    """
    classes, counts = _counted(labels)
    N, K = len(classes), len(counts)
    if count >= N:
        return np.arange(N)
    generator = np.random.default_rng(seed)
    small = np.zeros(K, dtype=bool)
    wanted = count * counts / N
    while count >= K and (wanted < 1).any():
        small |= wanted < 1
        wanted = np.where(small, 1, (count - small.sum()) * counts / counts[~small].sum())
    return np.flatnonzero(_drawn(classes, counts, _rounded(wanted, count, generator), generator))


def _counted(labels: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """The class of each image, 0…K−1, and n_k."""
    values = np.zeros(labels, np.int64) if isinstance(labels, int) else labels
    _, classes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return classes, counts


def _rounded(wanted: np.ndarray, total: int, generator: np.random.Generator) -> np.ndarray:
    """`wanted` as integers of sum `total`, or of a larger one where the floors alone exceed it."""
    quota = np.floor(wanted).astype(np.int64)
    rounded_up = max(0, total - int(quota.sum()))
    ties = generator.permutation(len(wanted))
    quota[np.lexsort((ties, quota - wanted))[:rounded_up]] += 1
    return quota


def _drawn(classes: np.ndarray, counts: np.ndarray, quota: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Whether each image is among the `quota` that are drawn of its class."""
    N = len(classes)
    order = generator.permutation(N)
    by_class = order[np.argsort(classes[order], kind="stable")]
    rank = np.arange(N) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = np.zeros(N, dtype=bool)
    drawn[by_class[rank < np.repeat(quota, counts)]] = True
    return drawn
