"""Where images lie in a latent, and its axes: what each holds, and how far it reaches.

Symbols: z a latent of dimension d, N(0, I) under the prior; σ = 1 is the prior's standard deviation, and of an autoencoder,
which has no prior, that of its codes; y a label of K. An axis is a dimension of the latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
import torch

from vaelab.data.layout import describe_shape
from vaelab.errors import ConfigError, DataError, LabelError, counted
from vaelab.inference.labels import label_nats
from vaelab.inference.trained import Labels, TrainedModel
from vaelab.models.distributions import Gaussian
from vaelab.objectives import elbo

OwnLabels: TypeAlias = Labels | Sequence[str | int | None] | str | int | np.integer | None
"""What images show: a label each, None where a conditional model is to read it; None for all of them; a label for one image."""


class Placed(NamedTuple):
    """Where images lie in the latent.

    Attributes
    ----------
    z
        The mean of each image's posterior, float32 (N, d).
    labels
        The label under which each was encoded, int64 (N,); None for an unconditional model.
    probabilities
        The probability that the model gives that label, 0…1, (N,): NaN where the label was given; None for an unconditional
        model.
    """

    z: np.ndarray
    labels: np.ndarray | None
    probabilities: np.ndarray | None


def place(model: TrainedModel, images: np.ndarray, labels: OwnLabels = None) -> Placed:
    """Where images lie in the latent, under their own labels; a conditional model reads those that are not given.

    Grey levels are seen as they are, so an image's place does not depend on the images beside it.

    Parameters
    ----------
    images
        One image, or several.
    labels
        One per image, each None to be read; or None for all of them.

    Raises
    ------
    LabelError
        If there are more or fewer labels than images, one is unknown, or the model takes none.
    """
    batch = as_batch(model, images)
    several = [labels] if isinstance(labels, str | int | np.integer) else labels
    given = [None] * len(batch) if several is None else list(several)
    if len(given) != len(batch):
        raise LabelError(
            f"got {counted(len(given), 'label')} for {counted(len(batch), 'image')}; expected one label per image"
        )
    if not model.conditional:
        for label in given:
            if label is not None:
                model.label_index(label)  # refuses it
        return Placed(model.encode(batch, binarised=False).mean, None, None)
    indices = np.array([-1 if label is None else model.label_index(label) for label in given], dtype=np.int64)
    probabilities = np.full(len(batch), np.nan)
    if (unread := np.flatnonzero(indices < 0)).size:
        every = label_probabilities(model, batch[unread])
        indices[unread], probabilities[unread] = every.argmax(1), every.max(1)
    return Placed(model.encode(batch, indices, binarised=False).mean, indices, probabilities)


def label_probabilities(model: TrainedModel, images: np.ndarray) -> np.ndarray:
    """The probability of each label given each image, by the model's own rule of Bayes, float64 (N, K), rows sum to 1.

    All labels count as equally frequent, and p(x|y) is taken for as large as the model's bound on it.

    Raises
    ------
    LabelError
        If the model takes no labels.
    """
    expect_conditional(model)
    levels = torch.cat([model.levels(image[None]) for image in as_batch(model, images)])  # each binarised by itself
    return torch.softmax(-label_nats(model.model, levels).double(), dim=1).numpy()


def measured(model: TrainedModel, images: np.ndarray, labels: Labels | None = None) -> TrainedModel:
    """The model with `axes` measured on these images: for a run that was trained without validation images."""
    encoded = model.encode(images, labels)
    mean = torch.from_numpy(encoded.mean)
    rate = Gaussian(mean, torch.from_numpy(encoded.log_variance)).rate() if model.model.stochastic else mean * 0
    return replace(model, axes=elbo.LatentStats.over(rate, mean))


def axis_name(model: TrainedModel, axis: int) -> str:
    """An axis and what it holds: its rate in nats, or the deviation of an autoencoder's codes; its number alone if unknown."""
    if model.axes is None:
        return f"axis {axis}"
    if not model.model.stochastic:
        return f"axis {axis}: codes ±{model.axes.deviation[axis]:.2g}"
    return f"axis {axis}: {model.axes.rate[axis]:.2f} nats"


def as_batch(model: TrainedModel, images: np.ndarray) -> np.ndarray:
    """Images, or rows of a table, with a first dimension that counts them, where a single one was given."""
    array, shape = np.asarray(images), model.model.shape
    alone = array.shape in (shape, (*shape[1:], shape[0])) or (array.ndim == 2 and len(shape) == 3)
    return array[None] if alone else array


def starting_point(
    model: TrainedModel, label: str | int | None, image: np.ndarray | None, z: np.ndarray | None
) -> tuple[int | None, np.ndarray | None]:
    """The label to draw, None for a model that takes none, and the latent to start from, None for the middle."""
    if label is not None:
        label = model.label_index(label)
    if image is not None:
        placed = place(model, image, None if label is None else [label])
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
    """Middle and σ of each axis, float32 (d,): the prior's, or, for an autoencoder, those of its codes."""
    if model.model.stochastic:
        return np.zeros(model.model.latent_dim, dtype=np.float32), np.ones(model.model.latent_dim, dtype=np.float32)
    if model.axes is None:
        raise _not_measured()
    return np.array(model.axes.mean, dtype=np.float32), np.array(model.axes.deviation, dtype=np.float32)


def chosen_axes(model: TrainedModel, axes: Sequence[int] | None, *, most: int) -> tuple[int, ...]:
    """The axes that are asked for; by default the `most` of highest rate, the highest first."""
    if axes is not None:
        chosen = tuple(int(axis) for axis in axes)
        if (
            not chosen
            or len(set(chosen)) < len(chosen)
            or not all(0 <= axis < model.model.latent_dim for axis in chosen)
        ):
            got = ",".join(map(str, chosen)) or "none"
            raise ConfigError(
                f"--axes: got {got}; expected some of 0 to {model.model.latent_dim - 1}, each at most once"
            )
        return chosen
    if model.axes is None:
        raise _not_measured()
    return model.axes.order[:most]


def two_axes(model: TrainedModel, axes: Sequence[int] | None) -> tuple[int, int]:
    """The two axes that are asked for; by default those of highest rate."""
    if model.model.latent_dim < 2:
        raise ConfigError("got a model of 1 latent dimension; expected at least 2: vaelab traverse shows it")
    chosen = chosen_axes(model, axes, most=2)
    if len(chosen) != 2:
        raise ConfigError(f"--axes: got {len(chosen)}; expected two, such as --axes 0,1")
    return chosen[0], chosen[1]


def _not_measured() -> ConfigError:
    return ConfigError(
        "got a model whose axes were not measured when it was trained; expected images to measure them on: name a SOURCE "
        "after the run, or in Python placing.measured(model, images, labels)"
    )


def expect_conditional(model: TrainedModel) -> None:
    """Refuse a model that takes no label."""
    if not model.conditional:
        raise LabelError(
            f"got a model ({model.kind}) that takes no label; expected a conditional one: vaelab train SOURCE --model cvae"
        )


def expect_images(model: TrainedModel) -> None:
    """Refuse a model of a table."""
    if len(model.model.shape) != 3:
        raise DataError(f"got a model of {describe_shape(model.model.shape)}; expected a model of images, to look at")
