"""The label that a conditional model itself reads off an image: the one under which it finds the image least surprising.

Symbols: x an image, y a label of K, μ(x, y) the mean of the posterior q(z|x, y).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaelab.memory import map_batches
from vaelab.models.base import Model
from vaelab.objectives import elbo
from vaelab.optim.batches import images_at_once, to_unit
from vaelab.precision import fast_products


def likeliest_labels(model: Model, images: Tensor) -> Int[Tensor, " n"]:
    """The y of least `label_nats` for each image of (N, *shape).

    By Bayes' rule it is the likeliest label where all are equally frequent, as far as the bound is tight.
    """
    return label_nats(model, images).argmin(1)


@fast_products()
@torch.no_grad()
def label_nats(model: Model, images: Tensor) -> Float[Tensor, "n k"]:
    """Distortion + rate of each image under each label, in nats, with z = μ(x, y): no noise, so it is a function of x.

    It takes K passes. By Bayes' rule, where all labels are equally frequent, p(y|x) ∝ exp(−nats), as far as the bound is tight.

    Parameters
    ----------
    model
        A conditional model.
    images
        As `held_out_levels` gives them, (N, *shape).
    """

    def nats_of(part: slice) -> Tensor:
        x = to_unit(images[part])
        noise, labels = torch.zeros(len(x), model.latent_dim), [torch.full((len(x),), y) for y in range(model.classes)]
        nats = [elbo.held_out_terms(model, x, y, noise).negative_elbo() for y in labels]
        return torch.stack(nats, dim=1)

    return torch.cat(map_batches(len(images), images_at_once(model.shape), nats_of))
