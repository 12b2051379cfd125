"""Held-out images binarised once, by the published protocol for binarised MNIST, so that likelihoods can be compared."""

from __future__ import annotations

import numpy as np

from vaelab import parts

PUBLISHED_SEED = 777
"""Seed of the `numpy.random.RandomState` that binarises validation and test images."""


def binarise_once(images: np.ndarray, number: int = 0) -> np.ndarray:
    """Return uint8 `images` (N, …) binarised to 0 or 255, the same at every call.

    One `binomial(1, level/255)` draw per pixel, over the images in their order, from `numpy.random.RandomState(777)`; those of
    later parts (`vaelab.parts`) from 778 and so on. `number` is that of the part with which the images begin.
    """
    levels = np.empty_like(images)
    for seed, part in enumerate(parts.parts_of(len(images)), PUBLISHED_SEED + number):
        source = np.random.RandomState(seed)
        for first in range(part.start, part.stop, 1000):  # the draws take 8 bytes per pixel; the stream is the same
            some = slice(first, min(first + 1000, part.stop))
            levels[some] = 255 * source.binomial(1, images[some] / 255.0)
    return levels
