"""Likelihoods p(x|z) of 8-bit colour images whose channels depend on each other given z.

Symbols: r, g, b the channels of a pixel of x; c a centre. See `vaelab.models.distributions` for what all likelihoods share.

Sources: Salimans et al. 2017 (logistic distributions in 256 bins, dependent channels, mixtures of components that the channels
share).
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from vaelab.models.distributions import (
    LEAST_VARIANCE,
    Likelihood,
    bounded_log_scale,
    clipped_mean,
    level_log_prob,
    log_scale_of,
    logistic_noise,
    mass_inside,
    nearest_level,
)
from vaelab.models.moments import Moments


@final
class ColourLogistic(Likelihood):
    """Grey levels of red, green and blue, each with the bins of `DiscretisedLogistic`; later channels depend on earlier ones.

    With r, g, b the levels of a pixel, the centre of green is c_g + k₁ (r − c_r), and that of blue is c_b + k₂ (r − c_r) +
    k₃ (g − c_g). This is the scheme of Salimans et al. 2017, section 2.2, with residuals, so that the centres c are marginal
    ones. The decoder outputs c − ½, the logarithm of the scales, which a softplus bounds below, and k₁, k₂, k₃ as the channels
    of a third plane.
    """

    n_parameters = 3
    parameter_names = ("centre", "log_scale", "coupling")

    def _distribution(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return centres and log-scales, (..., batch, 3, H, W), and k₁, k₂ and k₃, (..., batch, H, W)."""
        return self.plane(0) + 0.5, bounded_log_scale(self.plane(1)), list(self.plane(2).unbind(-3))

    def log_prob(self, x: Tensor) -> Tensor:
        centre, log_scale, (green_red, blue_red, blue_green) = self._distribution()
        red, green, _ = (x - centre).unbind(-3)
        shift = torch.stack([torch.zeros_like(red), green_red * red, blue_red * red + blue_green * green], -3)
        return self._sum(level_log_prob(x, centre + shift, log_scale))

    def distribution_parameters(self) -> Tensor:
        centre, log_scale, _ = self._distribution()
        return torch.stack([centre, log_scale, self.plane(2)], -self.event_dims - 1)

    def mean(self) -> Tensor:
        # Each channel as a clipped logistic whose variance includes that of the channels it depends on, reduced by their
        # clipping: within a level of E[x|z].
        centre, log_scale, (green_red, blue_red, blue_green) = self._distribution()
        c_r, c_g, c_b = centre.unbind(-3)
        s_r, s_g, s_b = torch.exp(log_scale).unbind(-3)
        red, kept_r = clipped_mean(c_r, s_r), s_r * mass_inside(c_r, s_r)
        m_g = c_g + green_red * (red - c_r)
        total_g = (s_g.square() + (green_red * kept_r).square()).sqrt()
        green, inside_g = clipped_mean(m_g, total_g), mass_inside(m_g, total_g)
        from_red, from_green = (blue_red + blue_green * green_red * inside_g) * kept_r, blue_green * inside_g * s_g
        m_b = c_b + blue_red * (red - c_r) + blue_green * (green - c_g)
        blue = clipped_mean(m_b, (s_b.square() + from_red.square() + from_green.square()).sqrt())
        return torch.stack([red, green, blue], -3)

    def sample(self, generator: torch.Generator) -> Tensor:
        centre, log_scale, (green_red, blue_red, blue_green) = self._distribution()
        c_r, c_g, c_b = centre.unbind(-3)
        noise_r, noise_g, noise_b = (torch.exp(log_scale) * logistic_noise(centre, generator)).unbind(-3)
        red = nearest_level(c_r + noise_r)
        green = nearest_level(c_g + green_red * (red - c_r) + noise_g)
        blue = nearest_level(c_b + blue_red * (red - c_r) + blue_green * (green - c_g) + noise_b)
        return torch.stack([red, green, blue], -3)

    @staticmethod
    def initial(moments: Moments) -> Tensor:
        # Least squares: green on red, and blue on both. `left` is what red leaves of green.
        assert moments.covariance is not None, "colour images have red, green and blue"
        (red, green, blue), (red_green, red_blue, green_blue) = moments.variance, moments.covariance
        red = red.clamp_min(LEAST_VARIANCE)
        first = red_green / red
        left = (green - first * red_green).clamp_min(LEAST_VARIANCE)
        third = (green_blue - first * red_blue) / left
        second = (red_blue - third * red_green) / red
        rest = torch.stack([red, left, blue - second * red_blue - third * green_blue])
        return torch.stack([moments.mean - 0.5, log_scale_of(rest), torch.stack([first, second, third])])


@final
class TwoColour(Likelihood):
    """Pixels of one of two colours or of their blend: a mixture, in each of whose components the channels are independent.

    The centres of the three components are the colours c₁ and c₂, and (c₁ + c₂)/2; each channel has the bins of
    `DiscretisedLogistic`. The decoder outputs planes of three channels: the logits of the components; c₁ − ½; c₂ − ½; and the
    logarithm of the components' scales, each for all channels, which a softplus bounds below.
    """

    n_parameters = 4
    parameter_names = ("log_weight", "first", "second", "log_scale")

    def _components(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return log-weight, (..., batch, H, W), centre, (..., batch, 3, H, W), and log-scale, (..., batch, 1, H, W), of each."""
        weights, first, second, scales = self.distribution_parameters().unbind(-self.event_dims - 1)
        centres = (first, second, (first + second) / 2)
        return [
            (weight, centre, scale.unsqueeze(-3))
            for weight, centre, scale in zip(weights.unbind(-3), centres, scales.unbind(-3), strict=True)
        ]

    def log_prob(self, x: Tensor) -> Tensor:
        each = [weight + level_log_prob(x, centre, scale).sum(-3) for weight, centre, scale in self._components()]
        return torch.logsumexp(torch.stack(each), 0).flatten(-2).sum(-1)

    def distribution_parameters(self) -> Tensor:
        first, second = self.plane(1) + 0.5, self.plane(2) + 0.5
        planes = (self.plane(0).log_softmax(-3), first, second, bounded_log_scale(self.plane(3)))
        return torch.stack(planes, -self.event_dims - 1)

    def mean(self) -> Tensor:
        each = [
            torch.exp(weight).unsqueeze(-3) * clipped_mean(centre, torch.exp(scale))
            for weight, centre, scale in self._components()
        ]
        return torch.stack(each).sum(0)

    def sample(self, generator: torch.Generator) -> Tensor:
        (first, c_1, s_1), (second, c_2, s_2), (_, c_3, s_3) = self._components()
        drawn = torch.rand(first.shape, generator=generator, device=first.device)
        in_first, in_two = (
            (drawn < share).unsqueeze(-3) for share in (torch.exp(first), torch.exp(first) + torch.exp(second))
        )
        centre = torch.where(in_first, c_1, torch.where(in_two, c_2, c_3))
        log_scale = torch.where(in_first, s_1, torch.where(in_two, s_2, s_3))
        return nearest_level(centre + torch.exp(log_scale) * logistic_noise(centre, generator))

    @staticmethod
    def initial(moments: Moments) -> Tensor:
        # Colours at m ∓ a with a² = ¾ of the variance, which with equal weights leaves half of it to the components.
        away = (0.75 * moments.variance).sqrt()
        scale = log_scale_of(moments.variance.mean(0) / 2).expand_as(away)
        return torch.stack([torch.zeros_like(away), moments.mean - away - 0.5, moments.mean + away - 0.5, scale])
