"""The likelihoods by their names in the configuration, and custom ones by import path.

A custom likelihood is a subclass of `vaelab.models.distributions.Likelihood` at the top level of an importable module. It is of
images, whose levels it receives as level/255, 0…1, float32. As with custom networks, a run stores its import path, not its code.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vaelab.config import LikelihoodName
from vaelab.models.colour import ColourLogistic, TwoColour
from vaelab.models.custom import CustomNetwork, one_line
from vaelab.models.distributions import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretisedLogistic,
    GaussianLikelihood,
    Likelihood,
)
from vaelab.models.moments import Moments

LIKELIHOODS: dict[LikelihoodName, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous-bernoulli": ContinuousBernoulli,
    "logistic": DiscretisedLogistic,
    "colour-logistic": ColourLogistic,
    "two-colour": TwoColour,
    "gaussian": GaussianLikelihood,
}
"""The built-in ones."""


def likelihood_class(name: LikelihoodName) -> type[Likelihood]:
    """Return the likelihood of this name or import path; a ConfigError if it cannot be imported or is no `Likelihood`."""
    if name in LIKELIHOODS:
        return LIKELIHOODS[name]
    custom = CustomNetwork("likelihood", name)
    found: Any = custom.imported()
    if not (isinstance(found, type) and issubclass(found, Likelihood)):
        raise custom.error(
            f"got an object of type {type(found).__name__}; expected a subclass of vaelab.models.distributions.Likelihood"
        )
    missing = sorted({*found.__abstractmethods__, *({"n_parameters", "parameter_names"} - {*dir(found)})})
    if missing:
        raise custom.error(
            f"it has no {' and no '.join(missing)}; expected it to define them, as {Likelihood.__name__} says"
        )
    return found


def expect_likelihood(name: LikelihoodName, shape: tuple[int, ...]) -> None:
    """Raise a ConfigError unless a custom likelihood accepts images (C, H, W), and returns what it must for them."""
    custom, found, count = CustomNetwork("likelihood", name), likelihood_class(name), 2
    values = torch.linspace(0, 1, math.prod(shape)).round(decimals=2).view(1, *shape).expand(count, *shape)
    steps = {
        "initial": lambda: found.initial(Moments.of((values * 255).to(torch.uint8))),
        "log_prob": lambda: made().log_prob(values),
        "mean": lambda: made().mean(),
        "sample": lambda: made().sample(torch.Generator().manual_seed(0)),
    }
    shapes = {"initial": (found.n_parameters, *shape), "log_prob": (count,)}

    def made() -> Likelihood:
        parameters = found.initial(Moments.of((values * 255).to(torch.uint8)))
        return found(parameters.expand(count, *parameters.shape), len(shape))

    for method, step in steps.items():
        try:
            with torch.no_grad():
                output = step()
        except Exception as error:
            raise custom.error(
                f"{method} failed for images {(count, *shape)} ({one_line(error)}); correct it"
            ) from error
        expected = shapes.get(method, (count, *shape))
        if not isinstance(output, Tensor) or output.shape != expected:
            got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise custom.error(f"{method} returned {got} for images {(count, *shape)}; expected {expected}")
        if not output.isfinite().all():
            raise custom.error(f"{method} returned NaN or infinity for levels from 0 to 1; expected finite numbers")
