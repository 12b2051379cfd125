"""Matrix products in bfloat16: the distributions stay float32, the step stays close, and what is reported is float32."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vaelab import precision
from vaelab.config import Config, ModelConfig, NetworkName, TrainConfig
from vaelab.data import Dataset
from vaelab.errors import ConfigError
from vaelab.optim.schedule import Schedule
from vaelab.optim.step import loss_and_grad
from vaelab.training.resolve import resolve
from vaelab.training.trainer import Trainer


def trainer(dataset: Dataset, network: NetworkName, precision: str, **train: object) -> Trainer:
    own = {"levels": "3,1", "patch": 4} if network == "ladder" else {"latent_dim": 4}
    model = ModelConfig(model="cvae", network=network, width=32, depth=1, **own)  # pyright: ignore[reportArgumentType]
    how = TrainConfig(epochs=1, batch_size=64, device="cpu", compile="no", precision=precision, **train)  # pyright: ignore[reportArgumentType]
    return Trainer(resolve(Config(model, how), dataset), dataset, torch.device("cpu"))


def found(made: Trainer, samples: int | None) -> tuple[float, Tensor]:
    for _ in range(20):  # away from the start, where most gradients are zero
        made.take_step(0.3)
    result = loss_and_grad(made.model, made.moving.weights, made._batch(samples), Schedule(1.0, 1e-3), made.config)
    assert all(gradient.dtype == torch.float32 for gradient in result.gradients)
    return result.loss.item(), torch.cat([gradient.flatten() for gradient in result.gradients])


@pytest.mark.parametrize("network", ["mlp", "conv", "ladder"])
@pytest.mark.parametrize("samples", [None, 3])
def test_the_step_is_nearly_that_of_float32(tiny: Dataset, network: NetworkName, samples: int | None) -> None:
    asked = {} if samples is None else {"iwae_samples": samples}
    (exact, gradient), (loss, rounded) = (
        found(trainer(tiny, network, precision, **asked), samples) for precision in ("float32", "bfloat16")
    )
    assert loss == pytest.approx(exact, rel=0.02)
    assert loss != exact
    assert torch.cosine_similarity(gradient, rounded, dim=0) > 0.95


@pytest.mark.parametrize("network", ["mlp", "ladder"])
def test_distributions_and_figures_are_float32(tiny: Dataset, network: NetworkName) -> None:
    made = trainer(tiny, network, "bfloat16")
    batch = made._batch().drawn("bernoulli")
    with torch.autocast("cpu", torch.bfloat16):
        inference = made.model(batch.images, batch.labels, batch.noise)
    kinds = {inference.latent.dtype, inference.rate.dtype, inference.likelihood.parameters.dtype}
    assert kinds == {torch.float32}
    averages = made.validate()
    exact = trainer(tiny, network, "float32").validate()
    assert averages == exact


def test_auto_is_bfloat16_on_images_where_the_processor_has_it(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, shape = torch.device("cpu"), (1, 28, 28)
    for has in (False, True):
        monkeypatch.setattr(precision, "_has_bfloat16", lambda has=has: has)
        expected = "bfloat16" if has else "float32"
        for network in ("mlp", "ladder"):
            assert trainer(tiny, network, "auto").config.precision == expected
            assert trainer(tiny, network, "float32").config.precision == "float32"
            assert precision.pays_in_bfloat16(ModelConfig(network=network), shape, cpu) == has
            assert not precision.pays_in_bfloat16(ModelConfig(network=network), (5,), cpu)
            assert not precision.pays_in_bfloat16(ModelConfig(network=network), shape, torch.device("mps"))
        assert trainer(tiny, "conv", "auto").config.precision == "float32"


def test_a_precision_that_there_is_not_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"--precision: got 'float16'; expected one of auto, float32, bfloat16"):
        replace(TrainConfig(), precision="float16")  # pyright: ignore[reportArgumentType]
