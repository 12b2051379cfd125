"""Held-out images binarised once, by the published protocol for binarised MNIST, so that likelihoods can be compared."""

from __future__ import annotations

import numpy as np

PUBLISHED_SEED = 777
"""Seed of the `numpy.random.RandomState` that binarises validation and test images."""


def binarise_once(images: np.ndarray) -> np.ndarray:
    """Return uint8 `images` (N, …) binarised to 0 or 255, the same at every call.

    One `binomial(1, level/255)` draw per pixel, over the images in their order, from `numpy.random.RandomState(777)`.
    """
    source = np.random.RandomState(PUBLISHED_SEED)
    levels = np.empty_like(images)
    for first in range(0, len(images), 1000):  # the draws take 8 bytes per pixel; the random stream is the same
        levels[first : first + 1000] = 255 * source.binomial(1, images[first : first + 1000] / 255.0)
    return levels
