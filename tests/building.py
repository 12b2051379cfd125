"""Models and trainers from configurations whose model and likelihood are given."""

from vaelab.config import Config, ModelConfig, ResolvedModelConfig
from vaelab.data import Dataset
from vaelab.models import factory
from vaelab.models.base import Model
from vaelab.training import resolve
from vaelab.training.fit import make_trainer
from vaelab.training.trainer import Trainer


def resolve_model(config: ModelConfig, shape: tuple[int, ...]) -> ResolvedModelConfig:
    """`config` resolved for data of `shape`."""
    assert config.model not in (None, "all")
    assert config.likelihood is not None
    return resolve.resolve_model(config, config.model, config.likelihood, shape)


def build_model(config: ModelConfig, shape: tuple[int, ...], classes: int, *, seed: int = 0) -> Model:
    """The model of `config`."""
    return factory.build_model(resolve_model(config, shape), shape, classes, seed=seed)


def trainer_of(config: Config, dataset: Dataset) -> Trainer:
    """The trainer of `config` before its first step."""
    return make_trainer(resolve.resolve(config, dataset), dataset)
