"""How far each true factor of variation has a latent dimension of its own, where the factors are known.

Symbols: z a code of d dimensions, v a factor of K, N images; I mutual information, H entropy, both in nats.

Sources: Chen et al. 2018, section 4 (mutual information gap); Eastwood & Williams 2018 (disentanglement, completeness,
informativeness). A perfect code, each factor in a dimension of its own, scores 1; a code that spreads every factor evenly over
all dimensions scores 0 but for informativeness.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 20
"""Of equally many images each, that codes and factors are counted in."""

FOLDS = 5
"""Parts of the images: a readout learns from all but one, and is asked about that one."""


def held_out_r2(
    codes: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "n k"], *, seed: int = 0
) -> Float[np.ndarray, " k"]:
    """Share of the variance of each target that a linear readout of the codes explains, R² ≤ 1.

    Every image is asked about once, by a readout that learnt from the others' parts: a code that knows nothing is at 0 or just
    below it. A target that is the same for all images is NaN.

    Parameters
    ----------
    codes, targets
        At least `FOLDS` images.
    seed
        Of the parting.
    """
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    read = cross_val_predict(LinearRegression(), codes.astype(np.float64), targets, cv=folds)
    return explained(targets, np.asarray(read))


def explained(targets: Float[np.ndarray, "n k"], read: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """R² of each column: 1 − the squared error's share of the variance; NaN where there is no variance."""
    error, spread = ((targets - read) ** 2).sum(0), ((targets - targets.mean(0)) ** 2).sum(0)
    return 1 - np.divide(error, spread, out=np.full(len(spread), np.nan), where=spread > 0)


def binned(values: Float[np.ndarray, "n k"], bins: int = BINS) -> Int[np.ndarray, "n k"]:
    """Each column counted in bins of equally many images, 0…bins − 1; equal values share one."""
    edges = np.quantile(values, np.arange(1, bins) / bins, axis=0)
    return np.stack(
        [np.searchsorted(edge, column, side="right") for edge, column in zip(edges.T, values.T, strict=True)], 1
    )


def mutual_information(
    one: Int[np.ndarray, "n d"], other: Int[np.ndarray, "n k"], bins: int = BINS
) -> Float[np.ndarray, "d k"]:
    """I of every column of one with every column of the other, whole numbers 0…bins − 1, in nats: H + H − H of both, by counting.

    Each entropy has Miller's correction, (occupied bins − 1)/2N: without it 20 bins of 1,000 images that know nothing of each
    other would seem to share 0.18 nats.
    """
    return np.array(
        [[_entropy(a) + _entropy(b) - _entropy(a * bins + b) for b in other.T] for a in one.T], dtype=np.float64
    )


def _entropy(counted: Int[np.ndarray, " n"]) -> float:
    counts = np.unique(counted, return_counts=True)[1]
    shares = counts / len(counted)
    return float(-(shares * np.log(shares)).sum() + (len(counts) - 1) / (2 * len(counted)))


def information_gaps(
    codes: Float[np.ndarray, "n d"], factors: Float[np.ndarray, "n k"], *, bins: int = BINS
) -> Float[np.ndarray, " k"]:
    """For each factor, how much more the best dimension tells of it than the second best, as a share of its entropy, 0…1.

    (I(z₁; v) − I(z₂; v)) / H(v) over bins; their mean is the mutual information gap (Chen et al. 2018, eq. 6). NaN for a
    factor that is the same for all images. Where there is but one dimension, the second tells nothing.
    """
    counted = binned(factors, bins)
    information = np.sort(mutual_information(binned(codes, bins), counted, bins), axis=0)
    entropy = np.array([_entropy(column) for column in counted.T])
    second = information[-2] if len(information) > 1 else np.zeros_like(entropy)
    return np.divide(information[-1] - second, entropy, out=np.full(len(entropy), np.nan), where=entropy > 0)


class Readout(NamedTuple):
    """What gradient-boosted trees that predict each factor from the code say of both.

    Attributes
    ----------
    importance
        Of dimension i for factor j, (d, K); every column sums to 1, or to 0 where no tree was split.
    informativeness
        Share of each factor's variance that the trees explain in images that they did not learn from, R² ≤ 1, (K,).
    """

    importance: Float[np.ndarray, "d k"]
    informativeness: Float[np.ndarray, " k"]

    def over(self, told: Bool[np.ndarray, " k"]) -> Readout:
        """The same of some of the factors."""
        return Readout(self.importance[:, told], self.informativeness[told])

    @property
    def disentanglement(self) -> float:
        """Whether each dimension tells of one factor alone, 0…1; dimensions count by their importance."""
        weight = self.importance.sum(1) / max(self.importance.sum(), np.finfo(np.float64).tiny)
        return float(weight @ _concentration(self.importance.T))

    @property
    def completeness(self) -> float:
        """Whether each factor is told by one dimension alone, 0…1, averaged over factors."""
        return float(_concentration(self.importance).mean())


def boosted_readout(
    codes: Float[np.ndarray, "n d"],
    factors: Float[np.ndarray, "n k"],
    *,
    trees: int = 100,
    seed: int = 0,
) -> Readout:
    """The importances of DCI (Eastwood & Williams 2018), by gradient-boosted trees.

    Two thirds of the images are learnt from, the rest are asked about; they should come in no order.

    Parameters
    ----------
    codes, factors
        Of N ≥ 6 images.
    trees
        For each factor, of depth 3.
    seed
        Of the trees.
    """
    from sklearn.ensemble import GradientBoostingRegressor

    learnt = 2 * len(codes) // 3
    importance = np.empty((codes.shape[1], factors.shape[1]))
    read = np.empty((len(codes) - learnt, factors.shape[1]))
    for j, factor in enumerate(factors.T):
        model = GradientBoostingRegressor(n_estimators=trees, subsample=0.5, random_state=seed)
        model.fit(codes[:learnt], factor[:learnt])
        importance[:, j], read[:, j] = model.feature_importances_, model.predict(codes[learnt:])
    return Readout(importance, explained(factors[learnt:], read))


def _concentration(importance: Float[np.ndarray, "a b"]) -> Float[np.ndarray, " b"]:
    """1 − the entropy of each column's shares, in units of that of even shares: 1 for a single entry, 0 for even ones."""
    if len(importance) == 1:
        return np.ones(importance.shape[1])
    shares = importance / np.maximum(importance.sum(0), np.finfo(np.float64).tiny)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    empty = importance.sum(0) == 0
    return np.where(empty, 0, 1 + (shares * logs).sum(0) / np.log(len(importance)))
