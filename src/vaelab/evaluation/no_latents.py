"""The baseline of every likelihood: a decoder output that is the same for all images."""

from __future__ import annotations

import numpy as np

from vaelab.data.dataset import Split
from vaelab.models.base import Model
from vaelab.models.moments import Moments
from vaelab.objectives.batch import held_out_levels, to_unit
from vaelab.objectives.bounds import images_at_once
from vaelab.training.fit import moments_of


def nats_without_latents(model: Model, train: Split, images: np.ndarray) -> float:
    """Return the nats per image under the constant decoder output that fits mean and variance of the training data.

    Parameters
    ----------
    model
        Its likelihood is used, not its weights.
    train
        Training data.
    images
        Held-out data as a `Split` has them, (N, *shape).
    """
    moments = moments_of(train)
    if len(model.shape) == 1:  # the parameters of a table are in standardised units
        deviation = moments.variance.sqrt() / model.scale
        moments = Moments((moments.mean - model.location) / model.scale, deviation.square())
    parameters = model.likelihood_type.initial(moments)
    total = 0.0
    for part in held_out_levels(images, model.likelihood_name).split(images_at_once(model.shape)):
        likelihood = model.likelihood_of(parameters.expand(len(part), *parameters.shape))
        total -= likelihood.log_prob(to_unit(part)).double().sum().item()
    return total / len(images)
