"""Explore a trained model: latent traversals, interpolations, the latent manifold, restyling, posteriors.

Symbols: z is a latent of dimension d, N(0, I) under the prior; y is one of K labels. An axis is a latent dimension. σ is the
standard deviation of an axis: 1 under the prior; an autoencoder has no prior, so there it is that of the codes. Images have
any layout that `TrainedModel` accepts. Results are arrays that notebooks display as pictures.

Source: White 2016, Sampling Generative Networks (spherical interpolation).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from vaelab.errors import ConfigError, LabelError, counted
from vaelab.figures.pictures import Pictures, PosteriorMap
from vaelab.inference.class_names import indices_of_labels
from vaelab.inference.latents import (
    ImageLabels,
    as_batch,
    axis_name,
    chosen_axes,
    expect_conditional,
    expect_images,
    place,
    scale,
    starting_point,
    two_axes,
)
from vaelab.inference.trained import Labels, TrainedModel

REACH = 3.0
"""Range of a traversal on either side of the mean, in σ."""

MOST_AXES = 20
"""Axes of a traversal if none are given."""

MOST_STEPS = 200


def traverse(
    model: TrainedModel,
    label: str | int | None = None,
    *,
    image: np.ndarray | None = None,
    z: np.ndarray | None = None,
    axes: Sequence[int] | None = None,
    steps: int = 11,
) -> Pictures:
    """Vary one axis at a time from −3σ to +3σ and hold all others fixed.

    Each axis is one row, sorted by rate in descending order.

    Parameters
    ----------
    label
        Label to draw, and the label of `image`. Default: the label that the model infers from `image`, else the first.
    image
        Hold the other axes at the posterior mean of this image. Default: at the mean of the prior.
    z
        Hold the other axes at this latent, (d,).
    axes
        Axes to vary, in this order. Default: the 20 axes of highest rate.
    steps
        Points on each axis, 2…200.

    Returns
    -------
    Pictures
        (axes, steps, H, W[, 3])

    Raises
    ------
    ConfigError
        If an axis or `steps` is out of range, or the model's axes were not measured and none are given.
    LabelError
        If the label is unknown, or the model takes none.
    """
    expect_images(model)
    _expect_steps(steps)
    index, z = starting_point(model, label, image, z)
    chosen = chosen_axes(model, axes, most=MOST_AXES)
    middle, deviation = scale(model)
    values = np.linspace(-REACH, REACH, steps)
    latents = np.repeat((middle if z is None else z)[None], len(chosen) * steps, 0).reshape(len(chosen), steps, -1)
    for row, axis in enumerate(chosen):
        latents[row, :, axis] = middle[axis] + deviation[axis] * values
    others = "the others in the middle" if z is None else "the others held"
    return Pictures(
        _decoded(model, latents, index),
        names=tuple(axis_name(model, axis) for axis in chosen),
        captions=tuple(f"{_signed(value)}σ" for value in values),
        subject=_subject(model, index),
        title=f"each axis from −{REACH:g}σ to +{REACH:g}σ, {others}",
    )


def interpolate(
    model: TrainedModel,
    images: np.ndarray | None = None,
    labels: ImageLabels = None,
    *,
    z: np.ndarray | None = None,
    under: Labels | None = None,
    steps: int = 11,
) -> Pictures:
    """Interpolate between two images along the arc between their posterior means, and between their labels.

    Between two labels, the condition is a weighted mean of their one-hot vectors.

    Parameters
    ----------
    images
        The two images.
    labels
        Labels of the two images; a conditional model infers those that are None.
    z
        Two latents, (2, d), instead of images.
    under
        Label to draw: one for all steps, or two to interpolate between. Default: the labels of the images.
    steps
        Points on the path, both ends included, 2…200.

    Returns
    -------
    Pictures
        (1, steps, H, W[, 3])

    Raises
    ------
    ConfigError
        If there are not two ends, or `steps` is out of range.
    LabelError
        If a label is unknown or missing, or the model takes none.
    """
    expect_images(model)
    _expect_steps(steps)
    image_labels = originals = None
    if images is not None:
        placed = place(model, images, labels)
        z, image_labels, originals = placed.z, placed.labels, as_shown(model, as_batch(model, images))
    if z is None or np.shape(z) != (2, model.model.latent_dim):
        got = "nothing" if z is None else f"latents of shape {np.shape(z)}" if originals is None else f"{len(z)} images"
        raise ConfigError(f"got {got} to interpolate between; expected two images, or latents of shape (2, d)")
    start, end = np.asarray(z)
    ends = _two_labels(model, image_labels if under is None else under)
    fractions = np.linspace(0, 1, steps)
    if ends is None:
        weights, names = None, ()
    else:
        one_hot = np.eye(len(model.classes))
        weights = np.outer(1 - fractions, one_hot[ends[0]]) + np.outer(fractions, one_hot[ends[1]])
        names = (" → ".join(dict.fromkeys(model.classes[label] for label in ends)),)
    return Pictures(
        model.decode(slerp(start, end, fractions), weights)[None],
        names=names,
        captions=tuple(f"{100 * fraction:.0f} %" for fraction in fractions),
        title="from one latent to another along the arc between them",
        originals=None if originals is None else originals[:1],
        ends=None if originals is None else originals[1:],
    )


def manifold(
    model: TrainedModel,
    label: str | int | None = None,
    *,
    axes: Sequence[int] | None = None,
    z: np.ndarray | None = None,
    steps: int = 20,
) -> Pictures:
    """Decode a grid over two axes, spaced by quantiles of N(0, 1), so that all images represent the same prior mass.

    Parameters
    ----------
    label
        Label to draw, for a conditional model. Default: the first.
    axes
        The horizontal and the vertical axis. Default: the two of highest rate.
    z
        Latent that holds the values of the other axes, (d,). Default: the mean of the prior.
    steps
        Points per side, 2…200.

    Returns
    -------
    Pictures
        (steps, steps, H, W[, 3]); the vertical axis decreases from row to row.

    Raises
    ------
    ConfigError
        If an axis or `steps` is out of range, or the model's axes were not measured and none are given.
    LabelError
        If the label is unknown, or the model takes none.
    """
    expect_images(model)
    _expect_steps(steps)
    index, z = starting_point(model, label, None, z)
    across, up = two_axes(model, axes)
    middle, deviation = scale(model)
    values = np.array([NormalDist().inv_cdf((step + 0.5) / steps) for step in range(steps)])
    latents = np.tile(middle if z is None else z, (steps, steps, 1))
    latents[:, :, across] = middle[across] + deviation[across] * values
    latents[:, :, up] = (middle[up] + deviation[up] * values[::-1])[:, None]
    return Pictures(
        _decoded(model, latents, index),
        names=tuple(_signed(value) for value in values[::-1]),
        captions=tuple(_signed(value) for value in values),
        subject=_subject(model, index),
        title=f"→ {axis_name(model, across)}, ↑ {axis_name(model, up)}; at quantiles of N(0, 1)",
        seamless=True,
    )


def slerp(start: np.ndarray, end: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Interpolate spherically between two latents, float32 (N, d).

    slerp(t) = sin((1 − t)Ω)/sin Ω · start + sin(tΩ)/sin Ω · end, where Ω is the angle between the two latents. If both have the
    same norm, so do all points, and all are equally likely under N(0, I); a straight line would pass closer to the origin than
    samples of the prior do. If Ω is 0 or 180° the arc is undefined and the interpolation is linear.

    Parameters
    ----------
    start, end
        Latents, (d,).
    fractions
        Positions t between `start` (0) and `end` (1), (N,).
    """
    start, end, t = start.astype(np.float64), end.astype(np.float64), fractions[:, None]
    lengths = np.linalg.norm(start) * np.linalg.norm(end)
    angle = np.arccos(np.clip(start @ end / lengths, -1, 1)) if lengths > 0 else 0.0
    if np.sin(angle) < 1e-6:
        return ((1 - t) * start + t * end).astype(np.float32)
    return ((np.sin((1 - t) * angle) * start + np.sin(t * angle) * end) / np.sin(angle)).astype(np.float32)


def styles(model: TrainedModel, images: np.ndarray, labels: ImageLabels = None) -> np.ndarray:
    """Decode the posterior mean of each image under all K labels, (N, K, H, W[, 3]) or (N, K, D).

    Parameters and errors are those of `restyle`; rows of a table are accepted too.
    """
    expect_conditional(model)
    return _styles(model, place(model, images, labels).z)


def restyle(model: TrainedModel, images: np.ndarray, labels: ImageLabels = None) -> Pictures:
    """Decode the style (posterior mean) of each image under every label: one row per image, the original first.

    Parameters
    ----------
    images
        One or several images.
    labels
        One label per image; the model infers those that are None, and the name of the row says so.

    Returns
    -------
    Pictures
        (N, K, H, W[, 3])

    Raises
    ------
    LabelError
        If the model takes no labels, or a label is unknown.
    """
    expect_images(model)
    expect_conditional(model)
    batch = as_batch(model, images)
    placed = place(model, batch, labels)
    assert placed.labels is not None
    names = [model.classes[label] for label in placed.labels]
    assert placed.probabilities is not None
    names = [name if np.isnan(p) else f"read as {name}" for name, p in zip(names, placed.probabilities, strict=True)]
    return Pictures(
        _styles(model, placed.z),
        names=tuple(names),
        captions=model.classes,
        title="the style of an image under every label",
        originals=as_shown(model, batch),
    )


def posterior(
    model: TrainedModel,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    classes: Sequence[str] | None = None,
    axes: Sequence[int] | None = None,
) -> PosteriorMap:
    """Map the posteriors of images on two axes: means and 1σ ellipses, over N(0, I).

    Parameters
    ----------
    images
        Images, or rows of a table.
    labels
        (N,), indices into `classes`. A conditional model infers them if they are None; others use them for the colours only.
    classes
        Names of the labels. Default: the class names of the model.
    axes
        The horizontal and the vertical axis. Default: the two of highest rate.

    Raises
    ------
    ConfigError
        If an axis is out of range, or the model's axes were not measured and none are given.
    LabelError
        If a label is missing or unknown.
    """
    names = tuple(model.classes if classes is None else classes)
    matched = None if labels is None else model.matched_labels(labels, names)
    across, up = two_axes(model, axes)
    encoded = model.encode(images, matched, binarised=False)
    return PosteriorMap(
        encoded.mean,
        encoded.log_variance,
        labels,
        () if labels is None else names,
        (across, up),
        (axis_name(model, across), axis_name(model, up)),
        f"{counted(len(encoded.mean), 'posterior')}: means and 1σ; the rings are N(0, I)",
    )


def _two_labels(model: TrainedModel, labels: Labels | None) -> tuple[int, int] | None:
    """Return the indices of the first and the last label; None for an unconditional model."""
    if labels is None and not model.conditional:
        return None
    if labels is None or len(labels) not in (1, 2):
        got = 0 if labels is None else len(labels)
        raise LabelError(f"got {got} labels to draw; expected one, or two to interpolate between")
    if not model.conditional:
        model.label_index(labels[0])  # raises LabelError
    indices = indices_of_labels(labels, model.classes).tolist()
    return indices[0], indices[-1]


def _styles(model: TrainedModel, z: np.ndarray) -> np.ndarray:
    count, names = len(z), np.arange(len(model.classes))
    decoded = model.decode(np.repeat(z, len(names), 0), np.tile(names, count))
    return decoded.reshape(count, len(names), *decoded.shape[1:])


def _decoded(model: TrainedModel, latents: np.ndarray, label: int | None) -> np.ndarray:
    """Decode latents (rows, columns, d) under one label: (rows, columns, H, W[, 3])."""
    flat = latents.reshape(-1, latents.shape[-1])
    images = model.decode(flat, None if label is None else np.full(len(flat), label))
    return images.reshape(*latents.shape[:2], *images.shape[1:])


def _expect_steps(steps: int) -> None:
    if not 2 <= steps <= MOST_STEPS:
        raise ConfigError(f"`steps`: got {steps}; expected a whole number of 2 to {MOST_STEPS}")


def as_shown(model: TrainedModel, images: np.ndarray) -> np.ndarray:
    """Return images in display layout, uint8 (N, H, W) or (N, H, W, 3)."""
    levels = model.levels(images, binarised=False).numpy()
    return levels[:, 0] if levels.shape[1] == 1 else np.moveaxis(levels, 1, -1)


def _subject(model: TrainedModel, label: int | None) -> str:
    return "" if label is None else model.classes[label]


def _signed(value: float) -> str:
    return "0" if abs(value) < 0.05 else f"{value:+.1f}".replace("-", "−")
