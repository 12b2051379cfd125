"""Models and trainers from configurations whose model and likelihood are given, and figures of held-out images."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab.config import Config, LikelihoodName, ModelConfig, ResolvedModelConfig
from vaelab.data import Dataset
from vaelab.models import factory
from vaelab.models.base import Model
from vaelab.objectives.batch import Batch, held_out_levels, to_unit
from vaelab.objectives.bounds import held_out_terms, negative_bounds
from vaelab.objectives.elbo import Objective
from vaelab.optim.adamw import plain_adamw
from vaelab.optim.schedule import Schedule
from vaelab.optim.state import LossAndGrad
from vaelab.optim.step import TrainStep
from vaelab.random import latent_noise
from vaelab.training import resolve
from vaelab.training.fit import make_trainer
from vaelab.training.trainer import Trainer


def resolve_model(config: ModelConfig, shape: tuple[int, ...]) -> ResolvedModelConfig:
    """`config` resolved for data of `shape`."""
    assert config.model not in (None, "all")
    assert isinstance(config.likelihood, str)
    return resolve.resolve_model(config, config.model, config.likelihood, shape)


def build_model(config: ModelConfig, shape: tuple[int, ...], classes: int, *, seed: int = 0) -> Model:
    """The model of `config`."""
    return factory.build_model(resolve_model(config, shape), shape, classes, seed=seed)


def with_output_weights(model: Model, seed: int = 0) -> Model:
    """`model` with random weights in its last layer, which start at zero, so that its output depends on the latent."""
    output = model.get_submodule("output" if hasattr(model, "output") else "decoder.output").get_parameter("weight")
    with torch.no_grad():
        output.normal_(std=0.1, generator=torch.Generator().manual_seed(seed))
    return model


def trainer_of(config: Config, dataset: Dataset) -> Trainer:
    """The trainer of `config` before its first step."""
    return make_trainer(resolve.resolve(config, dataset), dataset)


def loss_and_grad(
    trainer: Trainer, batch: Batch, schedule: Schedule, objective: Objective, at_once: int | None = None
) -> LossAndGrad:
    """Loss and gradients of a batch, by the step of a trainer as it is written."""
    step = TrainStep(trainer.model, trainer.config, plain_adamw)
    return step.loss_and_grad(trainer.state.weights, batch, schedule, objective, at_once)


def held_out_input(images: np.ndarray, likelihood: LikelihoodName) -> Tensor:
    """Held-out images as the model receives them."""
    return to_unit(held_out_levels(images, likelihood))


def negative_elbo(model: Model, images: Tensor, labels: Tensor | None = None, *, seed: int = 0) -> Tensor:
    """−ELBO of each image in nats, with one draw of z."""
    return held_out_terms(model, images, labels, latent_noise(len(images), model.latent_dim, seed)).negative_elbo()


def negative_importance_bound(
    model: Model, images: Tensor, labels: Tensor | None = None, *, samples: int, **options: Any
) -> Tensor:
    """Minus the importance-weighted bound of each image in nats, with K = `samples`."""
    return negative_bounds(model, images, labels, samples=[samples], **options)[:, 0]
