"""Outlier detection as a scikit-learn estimator, with a stated rate of false alarms.

The conventions are those of `vaelab.estimators.estimator` and of scikit-learn's outlier detectors: higher scores are more
normal, and `decision_function` is negative for outliers.
"""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from vaelab.errors import ConfigError, counted
from vaelab.estimators.estimator import VAE, _Estimator
from vaelab.estimators.samples import as_samples
from vaelab.inference.detection import (
    SAMPLES,
    chosen_score,
    conformal_p_values,
    expect_rate,
    expect_samples,
    expect_supported,
    rank_of,
    score_images,
)
from vaelab.inference.outlier_scores import ScoreName


@final
class OutlierDetector(OutlierMixin, BaseEstimator):
    """Detector of images or rows that are unlike those it was fitted to, by conformal p-values (`vaelab.detect`).

    `fit` trains a model on a part of X and keeps the scores of the other part. Of new images like those in X, a share of at most
    `false_alarms` is predicted to be outliers, on average over random parts.

    Parameters
    ----------
    estimator : VAE, Autoencoder or ConditionalVAE, default=None
        The model, which is cloned and fitted. None: `VAE()`. A ConditionalVAE needs y in `fit`; it scores each image under the
        label that it finds most probable.
    false_alarms : float, default=0.01
        Rate of false alarms, above 0 and below 1. It needs 1/false_alarms − 1 held-out images or more.
    held_out : float, default=0.2
        Share of X that is not trained on, with which new images are compared.
    score_name : {"likelihood", "corrected", "reconstruction"}, default=None
        The `score` of `vaelab.detect`.
    samples : int, default=20
        Draws of z per image for the importance-weighted bound.
    seed : int, default=0
        Seed of the split of X, and of these draws.

    Attributes
    ----------
    estimator_ : VAE, Autoencoder or ConditionalVAE
        The fitted model.
    calibration_ : ndarray of shape (n,)
        Scores of the held-out images or rows, in nats; higher is odder.
    offset_ : float
        Minus the score above which an image is an outlier: `decision_function` is `score_samples` − `offset_`.
    n_features_in_, feature_names_in_
        As in scikit-learn; for images, the number of values per image.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import VAE, OutlierDetector
    >>> rows = np.random.default_rng(0).normal(size=(600, 3))
    >>> detector = OutlierDetector(VAE(latent_dim=1, epochs=2)).fit(rows)
    >>> detector.predict([[0, 0, 0], [50, 50, 50]])
    array([ 1, -1])
    """

    estimator_: _Estimator
    calibration_: np.ndarray
    offset_: float
    n_features_in_: int
    feature_names_in_: np.ndarray

    def __init__(
        self,
        estimator: _Estimator | None = None,
        *,
        false_alarms: float = 0.01,
        held_out: float = 0.2,
        score_name: ScoreName | None = None,
        samples: int = SAMPLES,
        seed: int = 0,
    ) -> None:
        self.estimator = estimator
        self.false_alarms = false_alarms
        self.held_out = held_out
        self.score_name = score_name
        self.samples = samples
        self.seed = seed

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on a part of images or rows that are as they should be, and keep the scores of the others.

        Parameters
        ----------
        X
            uint8 images, (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, or reals, (N, D).
        y
            Labels, for a `ConditionalVAE`; ignored by the other estimators.

        Raises
        ------
        ConfigError
            If a parameter is invalid, or too few images are held out for the rate.
        DataError, LabelError, TrainingError
            As for `VAE.fit`.
        """
        if not 0 < self.held_out < 1:
            raise ConfigError(f"`held_out`: got {self.held_out}; expected a share above 0 and below 1, such as 0.2")
        expect_rate(self.false_alarms)
        images = as_samples(self, X)
        count = len(images)
        held = round(self.held_out * count)
        if count > 0 and not 0 < held < count:
            raise ConfigError(
                f"`held_out`: got {self.held_out} of {counted(count, 'sample')}; expected at least 1 to hold out and to train on"
            )
        expect_supported(self.false_alarms, held, "hold out at least {}: more samples, or a larger `held_out`")
        expect_samples(self.samples)
        estimator: Any = VAE() if self.estimator is None else clone(self.estimator)
        chosen_score(estimator.kind, images.shape[1:], self.score_name, "score_name")
        both = [images] if y is None else [images, y]
        training, calibration, *labels = train_test_split(*both, test_size=held, random_state=self.seed)
        self.estimator_ = estimator.fit(training, *labels[:1])
        self.calibration_ = -self.score_samples(calibration)
        self.offset_ = -float(np.sort(self.calibration_)[-rank_of(self.false_alarms, held)])
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Return minus the score of each image or row, in nats, float64 (N,); lower is odder."""
        check_is_fitted(self, "estimator_")
        model = self.estimator_.trained_
        images = as_samples(self, X, self.estimator_.data_.shape)
        scores = score_images(model, images, samples=self.samples, seed=self.seed)
        return -scores[chosen_score(model.kind, images.shape[1:], self.score_name, "score_name")]

    def decision_function(self, X: Any) -> np.ndarray:
        """Return `score_samples(X) − offset_`, float64 (N,); negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Return −1 for outliers and 1 for the other images or rows, int64 (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> np.ndarray:
        """Return the conformal p-value of each image or row, float64 (N,): see `vaelab.Detection`."""
        return conformal_p_values(self.calibration_, -self.score_samples(X))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        inner = (VAE() if self.estimator is None else self.estimator).__sklearn_tags__()
        tags.input_tags, tags.target_tags = inner.input_tags, inner.target_tags
        return tags
