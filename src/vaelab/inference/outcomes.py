"""What the methods of `TrainedModel` return."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Samples(NamedTuple):
    """Generated images with their label indices and latents; labels are None for an unconditional model."""

    images: np.ndarray
    labels: np.ndarray | None
    z: np.ndarray


class Reconstructions(NamedTuple):
    """Original images, their reconstructions, and the distortion and rate of each in nats, float32 (N,)."""

    originals: np.ndarray
    images: np.ndarray
    distortion: np.ndarray
    rate: np.ndarray

    @property
    def nats(self) -> np.ndarray:
        """Distortion + rate = −ELBO, in nats, float32 (N,); for an autoencoder, the distortion alone."""
        return self.distortion + self.rate


class Encoded(NamedTuple):
    """Posterior means and log-variances, float32 (N, d). For an autoencoder, whose posterior is a point, the latter are −∞."""

    mean: np.ndarray
    log_variance: np.ndarray
