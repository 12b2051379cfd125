"""The likelihoods by their names in the configuration."""

from __future__ import annotations

from vaelab.config import LikelihoodName
from vaelab.models.colour import ColourLogistic, TwoColour
from vaelab.models.distributions import (
    Bernoulli,
    ContinuousBernoulli,
    DiscretisedLogistic,
    GaussianLikelihood,
    Likelihood,
)

LIKELIHOODS: dict[LikelihoodName, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous-bernoulli": ContinuousBernoulli,
    "logistic": DiscretisedLogistic,
    "colour-logistic": ColourLogistic,
    "two-colour": TwoColour,
    "gaussian": GaussianLikelihood,
}
