"""A model that was trained in a loop outside vaelab: checked against its data, and measured on their validation images."""

from __future__ import annotations

import math

import torch

from vaelab import runs
from vaelab.config import ResolvedConfig
from vaelab.data.dataset import Dataset
from vaelab.data.layout import describe_shape
from vaelab.errors import ConfigError
from vaelab.models.base import Model
from vaelab.models.factory import build_model
from vaelab.training.validation import Validator


def origin_of(model: Model, dataset: Dataset, seed: int) -> tuple[Model, runs.Origin]:
    """Return a copy of a model on the CPU, and what a run records of it; see `TrainedModel.from_parts`.

    Raises
    ------
    ConfigError
        If the model was not made by `new_model`, was changed since, has weights or figures that are not finite, or does not fit
        the data.
    """
    if not isinstance(model, Model) or model.config is None:
        raise ConfigError(
            f"`model`: got an object of type {type(model).__name__} that vaelab has not built, so that a run cannot name its "
            "parts; expected a model of `vaelab.new_model`, which takes custom networks as `encoder` and `decoder`"
        )
    if model.shape != dataset.shape:
        raise ConfigError(
            f"`model`: got a model of {describe_shape(model.shape)} for data of {describe_shape(dataset.shape)} "
            f"({dataset.name}); expected the data that it was trained on"
        )
    if model.classes not in (0, len(dataset.classes)):
        raise ConfigError(
            f"`model`: got a model of {model.classes} classes for {dataset.name}, which has {len(dataset.classes)}; expected "
            "the data that it was trained on"
        )
    if len(dataset.train) == 0:
        raise ConfigError(
            f"`dataset`: got {dataset.name}, which has no training images; expected those of the training"
        )
    config = ResolvedConfig.of_own_loop(model.config, seed)
    copied = build_model(model.config, dataset.shape, len(dataset.classes)).requires_grad_(False).eval()
    try:
        copied.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            "`model`: got a model whose layers were replaced after it was built, so that it cannot be built again; expected "
            "them as custom networks: `encoder`, `decoder`"
        ) from error
    for name, weight in copied.state_dict().items():
        if not weight.isfinite().all():
            raise ConfigError(
                f"`model`: got NaN or infinity in weight {name}; expected finite weights: the training diverged"
            )
    if len(dataset.validation) == 0:
        return copied, runs.Origin(config, runs.DataCard.of(dataset), {})
    averages, axes = Validator(dataset.validation, config, torch.device("cpu")).measure(copied)
    if not math.isfinite(averages.nats):
        raise ConfigError(
            f"`model`: its validation figures are {averages.nats} nats; expected a finite number: check its weights and the data"
        )
    return copied, runs.Origin(config, runs.DataCard.of(dataset), runs.facts_of_weights(averages, axes))


def expect_saveable(origin: runs.Origin | None) -> runs.Origin:
    """Return the origin of a model; a ConfigError if it is unknown."""
    if origin is None:
        raise ConfigError(
            "`save`: got a model whose data and configuration are unknown; expected one of `vaelab.load`, of an estimator or of "
            "`TrainedModel.from_parts`"
        )
    return origin
