"""Matrix products in bfloat16: the distributions stay float32, the step stays close, and what is reported is float32."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from building import loss_and_grad, trainer_of
from torch import Tensor

from vaelab import precision
from vaelab.config import Budget, Config, ModelConfig, NetworkName, TrainConfig
from vaelab.data import Dataset
from vaelab.errors import ConfigError
from vaelab.objectives.elbo import elbo
from vaelab.objectives.importance import importance_weighted
from vaelab.optim.schedule import Schedule
from vaelab.runs import open_run
from vaelab.training.fit import fit
from vaelab.training.resolve import resolve, resolve_resumed
from vaelab.training.trainer import Trainer


def trainer(dataset: Dataset, network: NetworkName, precision: str, **train: object) -> Trainer:
    own = {"levels": "3,1", "patch": 4} if network == "ladder" else {"latent_dim": 4}
    model = ModelConfig(model="cvae", network=network, width=32, depth=1, **own)  # pyright: ignore[reportArgumentType]
    how = TrainConfig(epochs=1, batch_size=64, device="cpu", compile="no", precision=precision, **train)  # pyright: ignore[reportArgumentType]
    return trainer_of(Config(model, how), dataset)


def found(made: Trainer, samples: int | None) -> tuple[float, Tensor]:
    for _ in range(20):  # away from the start, where most gradients are zero
        made.take_step(0.3)
    objective = elbo if samples is None else importance_weighted
    batch = made.batches.at(made.step, samples)
    result = loss_and_grad(made, batch, Schedule(1.0, 1e-3), objective)
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
    batch = made.batches.at(made.step).prepared("bernoulli")
    with torch.autocast("cpu", torch.bfloat16):
        inference = made.model(batch.images, batch.labels, batch.noise)
    kinds = {inference.latent.dtype, inference.rate.dtype, inference.likelihood.parameters.dtype}
    assert kinds == {torch.float32}
    averages = made.validate(0.0)
    exact = trainer(tiny, network, "float32").validate(0.0)
    assert averages == exact


def test_auto_is_bfloat16_on_images_where_the_processor_has_it(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, shape = torch.device("cpu"), (1, 28, 28)
    for has in (False, True):
        monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda has=has: has)
        expected = "bfloat16" if has else "float32"
        for network in ("mlp", "ladder"):
            assert trainer(tiny, network, "auto").config.precision == expected
            assert trainer(tiny, network, "float32").config.precision == "float32"
            assert precision.default_precision(network, "relative", shape, cpu) == expected
            assert precision.default_precision(network, "relative", (5,), cpu) == "float32"
            assert precision.default_precision(network, "relative", shape, torch.device("mps")) == "float32"
        assert trainer(tiny, "conv", "auto").config.precision == "float32"


def test_a_precision_that_there_is_not_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"`precision`: got 'float16'; expected one of auto, float32, bfloat16"):
        replace(TrainConfig(), precision="float16")  # pyright: ignore[reportArgumentType]


def test_a_table_is_float32_on_a_gpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: whether a GPU has bfloat16 is asked of CUDA, and images get it there."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    gpu = torch.device("cuda")
    assert precision.default_precision("mlp", "free", (13,), gpu) == "float32"
    assert precision.default_precision("mlp", "free", (1, 28, 28), gpu) == "bfloat16"
    assert precision.default_precision("conv", "free", (3, 64, 64), gpu) == "bfloat16"


def test_the_precision_that_was_used_is_recorded_and_kept(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained where the processor has bfloat16, and resumed where it has not: the precision is that of the run."""
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    config = Config(ModelConfig(model="vae", network="mlp", latent_dim=2, width=8, depth=1), TrainConfig(epochs=1))
    for _ in fit(config, tiny, out=tmp_path / "run"):
        pass
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())["train"]
    assert (recorded["precision"], recorded["device"]) == ("bfloat16", "cpu")
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    assert resolve(config, tiny).train.precision == "float32"
    for _ in fit(Config(train=TrainConfig(epochs=2)), tiny, out=tmp_path / "run", resume=True):
        pass
    resumed = resolve_resumed(open_run(tmp_path / "run").config, Config(), Budget(2, "epochs"))
    assert resumed.train.precision == "bfloat16"
    with pytest.raises(ConfigError, match="`precision`: got 'float32', but the run was trained with 'bfloat16'"):
        next(fit(Config(train=TrainConfig(precision="float32")), tiny, out=tmp_path / "run", resume=True))
