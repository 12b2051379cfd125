"""A seeded, stratified hold-out: which images leave training, so that every class is thinned alike.

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
    values = np.zeros(labels, np.int64) if isinstance(labels, int) else labels
    N = len(values)
    generator = np.random.default_rng(seed)
    _, classes, counts = np.unique(values, return_inverse=True, return_counts=True)

    wanted = share * counts
    quota = np.floor(wanted).astype(np.int64)
    rounded_up = max(0, int(share * N + 0.5) - int(quota.sum()))
    ties = generator.permutation(len(counts))
    quota[np.lexsort((ties, quota - wanted))[:rounded_up]] += 1
    quota = np.minimum(quota, counts - 1)

    order = generator.permutation(N)
    by_class = order[np.argsort(classes[order], kind="stable")]
    rank = np.arange(N) - np.repeat(np.cumsum(counts) - counts, counts)
    held = np.zeros(N, dtype=bool)
    held[by_class[rank < np.repeat(quota, counts)]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
