"""The line of a training with its validation figures, beside those of a model without latents and of uniform noise."""

from __future__ import annotations

import math
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


def validation_line(validation: Nats, model: Model, config: ResolvedConfig, dataset: Dataset) -> str:
    """Return the line of validation figures with the two baselines.

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
    from vaelab.evaluation.no_latents import nats_without_latents
    from vaelab.training.validation import validation_subset

    constant = nats_without_latents(model, dataset.train, validation_subset(dataset.validation, config).images)
    text = nats_text(validation.distortion, validation.rate, not model.stochastic) + " per image"
    if (noise := NOISE_BITS.get(model.likelihood_name)) is None:
        return f"validation: {text}; a model without latents {constant:.2f}"
    nats_per_bit = math.log(2) * math.prod(model.shape)
    return (
        f"validation: {text}, {validation.nats / nats_per_bit:.3f} bits per dimension; a model without latents "
        f"{constant:.2f} ({constant / nats_per_bit:.3f}), uniform noise {noise * nats_per_bit:.2f} ({noise:.3f})"
    )
