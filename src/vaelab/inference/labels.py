"""Label inference with a conditional model: the label under which an image has the lowest −ELBO.

Symbols: x is an image, y one of K labels, μ(x, y) the mean of the posterior q(z|x, y).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaelab.models.base import Model
from vaelab.objectives.bounds import held_out_terms


def likeliest_labels(model: Model, images: Tensor) -> Int[Tensor, " n"]:
    """Return the label of lowest `label_nats` for each image of (N, *shape).

    By Bayes' rule this is the most probable label if all labels are equally frequent and the bound is tight.
    """
    return label_nats(model, images).argmin(1)


def label_nats(model: Model, images: Tensor, labels: Iterable[int] | None = None) -> Float[Tensor, "n k"]:
    """Return distortion + rate of each image under each label, in nats, at z = μ(x, y), hence without noise.

    Takes a pass per label. By Bayes' rule, p(y|x) ∝ exp(−nats) if all labels are equally frequent and the bound is tight.

    Parameters
    ----------
    model
        Conditional model.
    images
        Levels as returned by `held_out_levels`, (N, *shape).
    labels
        Label of each column; by default all K.
    """
    noise = torch.zeros(len(images), model.latent_dim)
    columns = (torch.full((len(images),), label) for label in (range(model.classes) if labels is None else labels))
    return torch.stack([held_out_terms(model, images, each, noise).negative_elbo() for each in columns], dim=1)
