"""The style that each latent axis carries: its correlation with slant and stroke width, measured on held-out images.

Only drawings are measured, as in the report's style section (`vaelab.evaluation.style`).
"""

from __future__ import annotations

import numpy as np

from vaelab.data.dataset import Split, default_likelihood
from vaelab.evaluation.style import MEASURES, dark_on_white, measured
from vaelab.studio.held_out import HeldOut, Work

MOST_IMAGES = 1000
"""Maximum number of images that are measured; the standard error of a correlation is then about 0.03."""

LEAST_IMAGES = 200
"""Minimum number of measured images in excess of the number of their labels."""


def measured_styles(held_out: HeldOut | None, work: Work) -> np.ndarray | None:
    """Return slant and stroke width of the first held-out images, float64 (n, 2).

    None if there are no images, if they are too few, or if they are not drawings.
    """
    if held_out is None or default_likelihood(Split(held_out.images)) != "bernoulli":
        return None
    images = held_out.images[:MOST_IMAGES]
    labels = 1 if held_out.labels is None else len(np.unique(held_out.labels[:MOST_IMAGES]))
    if len(images) - labels < LEAST_IMAGES:
        return None
    work("measuring slant and stroke width", 0, 1)
    values = measured(images[:, 0], inverted=dark_on_white(images))
    work("measuring slant and stroke width", 1, 1)
    return values


def axis_correlations(mean: np.ndarray, values: np.ndarray, labels: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return Pearson's correlation of each measure with the posterior mean of each axis, by the measure's name, each (d,).

    Deviations are from the mean over the images with the same label, so that a label with a typical slant does not count. An
    axis or a measure that does not vary has the correlation 0.

    Parameters
    ----------
    mean
        Posterior means of at least n images, (N, d).
    values
        Measures of the first n images, (n, 2).
    labels
        Labels of the images, (N,); None for unlabelled data.
    """
    count = len(values)
    _, groups = np.unique(np.zeros(count) if labels is None else labels[:count], return_inverse=True)
    z, style = _within(mean[:count], groups), _within(values, groups)
    products = style.T @ z
    scale = np.sqrt(np.outer((style**2).sum(0), (z**2).sum(0)))
    found = np.divide(products, scale, out=np.zeros_like(products), where=scale > 1e-9 * count)
    return {name: found[at] for at, (name, _) in enumerate(MEASURES.values())}


def _within(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Subtract from values (n, k) the mean of their group; `groups` is (n,), from 0."""
    sums = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return values - (sums / np.bincount(groups)[:, None])[groups]
