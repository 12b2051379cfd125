"""Posterior means of images, inferred labels, and the latent axes: their rates, means and standard deviations.

Symbols: z is a latent of dimension d, N(0, I) under the prior; y is one of K labels. An axis is a latent dimension. σ is the
standard deviation of an axis: 1 under the prior; an autoencoder has no prior, so there it is that of the codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
import torch

from vaelab import runs
from vaelab.data.layout import describe_shape
from vaelab.errors import ConfigError, DataError, LabelError, counted
from vaelab.inference.class_names import indices_of_labels
from vaelab.inference.labels import label_nats
from vaelab.inference.trained import Labels, TrainedModel
from vaelab.models.distributions import Gaussian

ImageLabels: TypeAlias = Labels | Sequence[str | int | None] | str | int | np.integer | None
"""Labels of images: one each, or a single label for a single image. A conditional model infers those that are None; None
instead of a sequence infers all."""


class Placed(NamedTuple):
    """Posterior means of images, with given or inferred labels.

    Attributes
    ----------
    z
        Mean of the posterior of each image, float32 (N, d).
    labels
        Label index under which each image was encoded, int64 (N,); None for an unconditional model.
    probabilities
        Probability of each inferred label, 0…1, (N,); NaN where the label was given; None for an unconditional model.
    """

    z: np.ndarray
    labels: np.ndarray | None
    probabilities: np.ndarray | None


def place(model: TrainedModel, images: np.ndarray, labels: ImageLabels = None) -> Placed:
    """Encode images to their posterior means; a conditional model infers the labels that are not given.

    Grey levels are not binarised, so the result for an image does not depend on the other images.

    Parameters
    ----------
    images
        One or several images.
    labels
        One label per image, None for those to infer; or None to infer all.

    Raises
    ------
    LabelError
        If the numbers of labels and images differ, a label is unknown, or the model takes none.
    """
    batch = as_batch(model, images)
    indices, probabilities = image_labels(model, batch, labels)
    return Placed(model.encode(batch, indices, binarised=False).mean, indices, probabilities)


def image_labels(
    model: TrainedModel, batch: np.ndarray, labels: ImageLabels = None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return labels and probabilities of several images as in `Placed`; parameters and errors are those of `place`."""
    sequence = [labels] if isinstance(labels, str | int | np.integer) else labels
    image_labels = [None] * len(batch) if sequence is None else sequence
    if len(image_labels) != len(batch):
        raise LabelError(
            f"got {counted(len(image_labels), 'label')} for {counted(len(batch), 'image')}; expected one label per image"
        )
    if not model.conditional:
        for label in image_labels:
            if label is not None:
                model.label_index(label)  # raises LabelError
        return None, None
    missing = np.array([label is None for label in image_labels], dtype=bool)
    given = [label for label in image_labels if label is not None] if missing.any() else image_labels
    indices, probabilities = np.zeros(len(batch), dtype=np.int64), np.full(len(batch), np.nan)
    indices[~missing] = indices_of_labels(given, model.classes)
    if missing.any():
        inferred = label_probabilities(model, batch[missing])
        indices[missing], probabilities[missing] = inferred.argmax(1), inferred.max(1)
    return indices, probabilities


def label_probabilities(model: TrainedModel, images: np.ndarray) -> np.ndarray:
    """Return p(y|x) by Bayes' rule under the model, float64 (N, K); rows sum to 1.

    Assumes that all labels are equally frequent, and approximates log p(x|y) by the ELBO at the posterior mean.

    Raises
    ------
    LabelError
        If the model takes no labels.
    """
    expect_conditional(model)
    levels = torch.cat([model.levels(image[None]) for image in as_batch(model, images)])  # binarised independently
    return torch.softmax(-label_nats(model.model, levels).double(), dim=1).numpy()


def measured(model: TrainedModel, images: np.ndarray, labels: Labels | None = None) -> TrainedModel:
    """Return the model with `axes` measured on these images, for a run trained without validation images."""
    encoded = model.encode(images, labels)
    mean = torch.from_numpy(encoded.mean)
    rate = Gaussian(mean, torch.from_numpy(encoded.log_variance)).rate() if model.model.stochastic else mean * 0
    return replace(model, axes=runs.LatentStats.over(rate, mean))


def latent_name(axis: int) -> str:
    """Return the name of an axis, such as z₁₂; axes are counted from 0, as in Python."""
    return "z" + str(axis).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def axis_name(model: TrainedModel, axis: int) -> str:
    """Return the name of an axis and, if measured, its rate in nats or the standard deviation of the codes."""
    if model.axes is None:
        return latent_name(axis)
    if not model.model.stochastic:
        return f"{latent_name(axis)}: codes ±{model.axes.deviation[axis]:.2g}"
    return f"{latent_name(axis)}: {model.axes.rate[axis]:.2f} nats"


def as_batch(model: TrainedModel, images: np.ndarray) -> np.ndarray:
    """Add a batch dimension to a single image or row of a table; leave batches as they are."""
    array, shape = np.asarray(images), model.model.shape
    single = array.shape in (shape, (*shape[1:], shape[0])) or (array.ndim == 2 and len(shape) == 3)
    if array.ndim == 3 and len(shape) == 3 and not single:  # (H, W, C) of another size, or grey images (N, H, W)
        single = array.shape[2] in (1, 3) and array.shape[1:] != shape[1:]
    return array[None] if single else array


def starting_point(
    model: TrainedModel, label: str | int | None, image: np.ndarray | None, z: np.ndarray | None
) -> tuple[int | None, np.ndarray | None]:
    """Return the label index to draw (None for an unconditional model) and the latent to start from (None for the mean)."""
    if label is not None:
        label = model.label_index(label)
    if image is not None:
        placed = place(model, image, None if label is None else np.array([label]))
        if len(placed.z) != 1:
            raise ConfigError(f"got {len(placed.z)} images to start from; expected one")
        z = placed.z[0]
        label = label if placed.labels is None else int(placed.labels[0])
    if z is not None and np.shape(z) != (model.model.latent_dim,):
        raise DataError(f"got a latent of shape {np.shape(z)}; expected ({model.model.latent_dim},)")
    if model.conditional and label is None:
        label = 0
    return label, z if z is None else np.asarray(z, dtype=np.float32)


def scale(model: TrainedModel) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and σ of each axis, float32 (d,): of the prior or, for an autoencoder, of its codes."""
    if model.model.stochastic:
        return np.zeros(model.model.latent_dim, dtype=np.float32), np.ones(model.model.latent_dim, dtype=np.float32)
    if model.axes is None:
        raise _not_measured()
    return np.array(model.axes.mean, dtype=np.float32), np.array(model.axes.deviation, dtype=np.float32)


def chosen_axes(model: TrainedModel, axes: Sequence[int] | None, *, most: int) -> tuple[int, ...]:
    """Validate the given axes; by default return the `most` axes of highest rate, in descending order."""
    if axes is not None:
        chosen = tuple(int(axis) for axis in axes)
        if (
            not chosen
            or len(set(chosen)) < len(chosen)
            or not all(0 <= axis < model.model.latent_dim for axis in chosen)
        ):
            got = ",".join(map(str, chosen)) or "none"
            raise ConfigError(
                f"`axes`: got {got}; expected some of 0 to {model.model.latent_dim - 1}, each at most once"
            )
        return chosen
    if model.axes is None:
        raise _not_measured()
    return model.axes.order[:most]


def two_axes(model: TrainedModel, axes: Sequence[int] | None) -> tuple[int, int]:
    """Validate the two given axes; by default return those of highest rate."""
    if model.model.latent_dim < 2:
        raise ConfigError("got a model with 1 latent dimension; expected at least 2: use traverse instead")
    chosen = chosen_axes(model, axes, most=2)
    if len(chosen) != 2:
        raise ConfigError(f"`axes`: got {len(chosen)}; expected two, such as 0,1")
    return chosen[0], chosen[1]


def _not_measured() -> ConfigError:
    return ConfigError(
        "got a model whose axes were not measured during training; expected images to measure them on: "
        "call vaelab.inference.latents.measured(model, images, labels), or give a SOURCE on the command line"
    )


def expect_conditional(model: TrainedModel) -> None:
    """Raise LabelError if the model is unconditional."""
    if not model.conditional:
        raise LabelError(
            f"got a model ({model.kind}) that takes no labels; expected a conditional one: train with `model='cvae'`"
        )


def expect_images(model: TrainedModel) -> None:
    """Raise DataError if the model was trained on a table."""
    if len(model.model.shape) != 3:
        raise DataError(f"got a model of {describe_shape(model.model.shape)}; expected a model of images")
