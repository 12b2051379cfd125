"""The graphs of an ONNX file: encoder and decoder apart, or both in one, with the names of their inputs and outputs.

The symbols are those of `vaelab.inference.onnx`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from vaelab.models.base import Model


@final
class _Encoder(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, image_labels: Tensor | None = None) -> tuple[Tensor, ...]:
        posterior = self.model.posterior(images, image_labels)
        return posterior.mean, posterior.log_variance


@final
class _Decoder(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        likelihood = self.model.decode(z, labels)
        return likelihood.mean(), likelihood.distribution_parameters()


@final
class _ScoringDecoder(nn.Module):
    """For a custom likelihood, whose formula only its class knows."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, scored: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        likelihood = self.model.decode(z, labels)
        return likelihood.mean(), likelihood.distribution_parameters(), -likelihood.log_prob(scored)


@final
class _Whole(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.encoder, self.decoder = _Encoder(model), _Decoder(model)

    def forward(
        self, images: Tensor, z: Tensor, image_labels: Tensor | None = None, labels: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        return *self.encoder(images, image_labels), *self.decoder(z, labels)


@final
class _ScoringWhole(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.encoder, self.decoder = _Encoder(model), _ScoringDecoder(model)

    def forward(
        self,
        images: Tensor,
        z: Tensor,
        scored: Tensor,
        image_labels: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        return *self.encoder(images, image_labels), *self.decoder(z, scored, labels)


@dataclass(frozen=True)
class Part:
    """What one file holds; the inputs in the order of `forward`, labels last."""

    name: str
    graph: Callable[[Model], nn.Module]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


WHOLE = Part(
    "whole",
    _Whole,
    ("images", "z", "image_labels", "labels"),
    ("mean", "log_variance", "decoded", "parameters"),
)
PARTS = (
    Part("encoder", _Encoder, ("images", "image_labels"), ("mean", "log_variance")),
    Part("decoder", _Decoder, ("z", "labels"), ("decoded", "parameters")),
)
SCORING_WHOLE = Part(
    "whole",
    _ScoringWhole,
    ("images", "z", "scored", "image_labels", "labels"),
    ("mean", "log_variance", "decoded", "parameters", "nats"),
)
SCORING_PARTS = (
    PARTS[0],
    Part("decoder", _ScoringDecoder, ("z", "scored", "labels"), ("decoded", "parameters", "nats")),
)
