"""Disentanglement: whether each true factor of variation has its own latent dimension. For data with known factors.

Symbols: z a code of d dimensions, v a factor of K, N images; I mutual information, H entropy, both in nats.

Sources: Chen et al. 2018, section 4 (mutual information gap); Eastwood & Williams 2018 (disentanglement, completeness,
informativeness). A perfect code, with one dimension per factor, scores 1. A code that spreads every factor evenly over all
dimensions scores 0, except for informativeness.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 20
"""Number of bins, with equally many images each, into which codes and factors are discretised."""

FOLDS = 5
"""Number of cross-validation folds."""


def held_out_r2(
    codes: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "n k"], *, seed: int = 0
) -> Float[np.ndarray, " k"]:
    """Return the cross-validated R² of a linear regression of each target on the codes, R² ≤ 1.

    Codes without information give 0 or slightly less. A target that is constant over all images gives NaN.

    Parameters
    ----------
    codes, targets
        At least `FOLDS` images.
    seed
        Seed of the folds.
    """
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(LinearRegression(), codes.astype(np.float64), targets, cv=folds)
    return explained(targets, np.asarray(predicted))


def explained(targets: Float[np.ndarray, "n k"], read: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """Return R² of each column: 1 − squared error / variance; NaN if the variance is 0."""
    error, spread = ((targets - read) ** 2).sum(0), ((targets - targets.mean(0)) ** 2).sum(0)
    return 1 - np.divide(error, spread, out=np.full(len(spread), np.nan), where=spread > 0)


def binned(values: Float[np.ndarray, "n k"], bins: int = BINS) -> Int[np.ndarray, "n k"]:
    """Discretise each column into bins of equally many images, 0…bins − 1; equal values share a bin."""
    edges = np.quantile(values, np.arange(1, bins) / bins, axis=0)
    return np.stack(
        [np.searchsorted(edge, column, side="right") for edge, column in zip(edges.T, values.T, strict=True)], 1
    )


def mutual_information(
    one: Int[np.ndarray, "n d"], other: Int[np.ndarray, "n k"], bins: int = BINS
) -> Float[np.ndarray, "d k"]:
    """Return I between every column of `one` and every column of `other`, integers 0…bins − 1, in nats: H + H − joint H.

    Each entropy has Miller's correction, (occupied bins − 1)/2N. Without it, 20 bins of 1,000 independent images would appear
    to share 0.18 nats.
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
    """Return the mutual information gap of each factor, 0…1: (I(z₁; v) − I(z₂; v)) / H(v).

    z₁ and z₂ are the dimensions with the highest and second-highest mutual information with v; values are binned. The mean
    over factors is the mutual information gap of Chen et al. 2018, eq. 6. NaN for a constant factor. With a single dimension,
    I(z₂; v) counts as 0.
    """
    counted = binned(factors, bins)
    information = np.sort(mutual_information(binned(codes, bins), counted, bins), axis=0)
    entropy = np.array([_entropy(column) for column in counted.T])
    second = information[-2] if len(information) > 1 else np.zeros_like(entropy)
    return np.divide(information[-1] - second, entropy, out=np.full(len(entropy), np.nan), where=entropy > 0)


class Readout(NamedTuple):
    """Feature importances and accuracy of gradient-boosted trees that predict each factor from the code.

    Attributes
    ----------
    importance
        Importance of dimension i for factor j, (d, K); every column sums to 1, or to 0 if no tree has a split.
    informativeness
        R² ≤ 1 of each factor on images that the trees were not trained on, (K,).
    """

    importance: Float[np.ndarray, "d k"]
    informativeness: Float[np.ndarray, " k"]

    def over(self, chosen: Bool[np.ndarray, " k"]) -> Readout:
        """Return the same for the chosen factors only."""
        return Readout(self.importance[:, chosen], self.informativeness[chosen])

    @property
    def disentanglement(self) -> float:
        """Whether each dimension encodes a single factor, 0…1; averaged with the dimensions' importances as weights."""
        weight = self.importance.sum(1) / max(self.importance.sum(), np.finfo(np.float64).tiny)
        return float(weight @ _concentration(self.importance.T))

    @property
    def completeness(self) -> float:
        """Whether each factor is encoded by a single dimension, 0…1, averaged over factors."""
        return float(_concentration(self.importance).mean())


def boosted_readout(
    codes: Float[np.ndarray, "n d"],
    factors: Float[np.ndarray, "n k"],
    *,
    trees: int = 100,
    seed: int = 0,
) -> Readout:
    """Fit the gradient-boosted trees of DCI (Eastwood & Williams 2018).

    The first two thirds of the images are for training, the rest for testing, so their order should be random.

    Parameters
    ----------
    codes, factors
        N ≥ 6 images.
    trees
        Number of trees per factor, of depth 3.
    seed
        Seed of the trees.
    """
    from sklearn.ensemble import GradientBoostingRegressor

    train = 2 * len(codes) // 3
    importance = np.empty((codes.shape[1], factors.shape[1]))
    predicted = np.empty((len(codes) - train, factors.shape[1]))
    for j, factor in enumerate(factors.T):
        model = GradientBoostingRegressor(n_estimators=trees, subsample=0.5, random_state=seed)
        model.fit(codes[:train], factor[:train])
        importance[:, j], predicted[:, j] = model.feature_importances_, model.predict(codes[train:])
    return Readout(importance, explained(factors[train:], predicted))


def _concentration(importance: Float[np.ndarray, "a b"]) -> Float[np.ndarray, " b"]:
    """Return 1 − normalised entropy of each column: 1 for a single non-zero entry, 0 for equal entries."""
    if len(importance) == 1:
        return np.ones(importance.shape[1])
    shares = importance / np.maximum(importance.sum(0), np.finfo(np.float64).tiny)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    empty = importance.sum(0) == 0
    return np.where(empty, 0, 1 + (shares * logs).sum(0) / np.log(len(importance)))
