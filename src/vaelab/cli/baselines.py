"""The last line of a training: its validation figures, beside those of a model without latents and of uniform noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vaelab.cli.app import nats_text

if TYPE_CHECKING:
    from vaelab.config import LikelihoodName, ResolvedConfig
    from vaelab.data import Dataset
    from vaelab.models.base import Model
    from vaelab.progress import Nats

NOISE_BITS: dict[LikelihoodName, float] = {
    "logistic": 8.0,
    "colour-logistic": 8.0,
    "two-colour": 8.0,
    "bernoulli": 1.0,
    "continuous-bernoulli": 0.0,
}
"""Bits per dimension of uniform noise: over 256 levels, over 0 and 1, and on the unit interval. A table has none."""


def validation_lines(validation: Nats, model: Model, config: ResolvedConfig, dataset: Dataset) -> Iterator[str]:
    """Yield the line of validation figures with the two baselines, and a warning if the model is worse than one of them.

    Parameters
    ----------
    validation
        Figures of the trained model, nats per image.
    model
        The trained model, on the CPU.
    config
        Its configuration, which determines the validation images.
    dataset
        The data that it was trained on.
    """
    constant = constant_nats(model, config, dataset)
    text = nats_text(validation.distortion, validation.rate, not model.stochastic) + " per image"
    baselines = {"a model without latents": constant}
    if (noise := NOISE_BITS.get(model.likelihood_name)) is None:
        yield f"validation: {text}; a model without latents {constant:.2f}"
    else:
        nats_per_bit = math.log(2) * math.prod(model.shape)
        baselines["uniform noise"] = noise * nats_per_bit
        yield (
            f"validation: {text}, {validation.nats / nats_per_bit:.3f} bits per dimension; a model without latents "
            f"{constant:.2f} ({constant / nats_per_bit:.3f}), uniform noise {noise * nats_per_bit:.2f} ({noise:.3f})"
        )
    if worse := [name for name, nats in baselines.items() if not validation.nats < nats]:
        yield (
            f"warning: the model is no better than {' and '.join(worse)}; train longer (`seconds`, `epochs`), or use a smaller "
            "`learning_rate` or `beta`, and look at the data with vaelab data"
        )


def constant_nats(model: Model, config: ResolvedConfig, dataset: Dataset) -> float:
    """Return the nats per validation image under the constant decoder output that fits mean and variance of the training data."""
    from vaelab.models.moments import Moments
    from vaelab.objectives.batch import held_out_levels, to_unit
    from vaelab.objectives.bounds import images_at_once
    from vaelab.training.fit import moments_of
    from vaelab.training.validation import validation_subset

    moments = moments_of(dataset.train)
    if len(model.shape) == 1:  # the parameters of a table are in standardised units
        deviation = moments.variance.sqrt() / model.scale
        moments = Moments((moments.mean - model.location) / model.scale, deviation.square())
    parameters = model.likelihood_type.initial(moments)
    total, images = 0.0, validation_subset(dataset.validation, config).images
    for part in held_out_levels(images, model.likelihood_name).split(images_at_once(model.shape)):
        likelihood = model.likelihood_of(parameters.expand(len(part), *parameters.shape))
        total -= likelihood.log_prob(to_unit(part)).double().sum().item()
    return total / len(images)
