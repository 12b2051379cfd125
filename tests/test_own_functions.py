"""`fit` with an objective, an optimiser and a schedule of the caller: trained, resumed and recorded; what is refused."""

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vaelab
from vaelab.config import Config
from vaelab.data import Dataset
from vaelab.errors import ConfigError
from vaelab.objectives.own import Pass, elbo
from vaelab.training.fit import Progress


def info_vae(found: Pass) -> Tensor:
    """Distortion + 10 · MMD² (Zhao et al. 2019) of a batch, with a kernel of the width √d."""
    prior = found.prior.sample(torch.randn_like(found.z))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-(a[:, None] - b).square().mean(-1)).mean()

    mmd = kernel(found.z, found.z) + kernel(prior, prior) - 2 * kernel(found.z, prior)
    return found.distortion.mean() + 10 * mmd


def last(training: Generator[Progress]) -> Progress:
    *_, progress = training
    return progress


def weights(progress: Progress) -> list[Tensor]:
    return [weight.clone() for weight in progress.model.state_dict().values()]


def same(first: Progress, second: Progress) -> bool:
    return all(map(torch.equal, weights(first), weights(second)))


def stopped(training: Generator[Progress], after: int) -> None:
    """Take at least `after` steps, and stop."""
    for progress in training:
        if progress.step >= after:
            break
    training.close()


def changed(config: Config, **train: Any) -> Config:
    return replace(config, train=replace(config.train, **train))


def momentum(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3, amsgrad=True)


def linear(fraction: float) -> float:
    return 1 - fraction


def test_the_elbo_as_a_function_gives_the_built_in_weights_to_the_bit(tiny: Dataset, tiny_config: Config) -> None:
    config = changed(tiny_config, beta=2.0)
    assert same(last(vaelab.fit(config, tiny)), last(vaelab.fit(config, tiny, objective=elbo)))


def test_adamw_of_pytorch_and_a_schedule_train(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    done = last(
        vaelab.fit(
            changed(tiny_config, epochs=20), tiny, optimizer=torch.optim.AdamW, schedule=linear, out=tmp_path / "run"
        )
    )
    before = last(vaelab.fit(changed(tiny_config, learning_rate=1e-12), tiny))
    assert done.validation is not None
    assert before.validation is not None
    assert done.validation.nats < before.validation.nats - 1
    train = json.loads((tmp_path / "run" / "config.json").read_text())["train"]
    assert train["optimizer"] == "torch.optim.adamw:AdamW"
    assert train["schedule"].endswith("test_own_functions:linear")
    assert train["objective"] == ""


def test_an_objective_per_image_is_averaged_and_selects_the_weights(tiny: Dataset, tiny_config: Config) -> None:
    def per_image(found: Pass) -> Tensor:
        return found.distortion

    mean = last(vaelab.fit(tiny_config, tiny, objective=lambda found: found.distortion.mean()))
    each = last(vaelab.fit(tiny_config, tiny, objective=per_image))
    assert same(mean, each)
    built_in = last(vaelab.fit(tiny_config, tiny))
    assert each.validation is not None
    assert built_in.validation is not None
    assert each.validation.distortion < built_in.validation.distortion
    assert each.validation.rate > built_in.validation.rate


def test_mmd_with_an_own_optimiser_goes_on_where_it_was_stopped(
    tiny: Dataset, tiny_config: Config, tmp_path: Path
) -> None:
    functions: dict[str, Any] = {"objective": info_vae, "optimizer": momentum, "schedule": linear}
    config = changed(tiny_config, epochs=4)
    whole = last(vaelab.fit(config, tiny, **functions))
    stopped(vaelab.fit(config, tiny, out=tmp_path / "run", **functions), after=2)
    torch.manual_seed(3)
    resumed = last(vaelab.fit(Config(), tiny, out=tmp_path / "run", resume=True, **functions))
    assert same(whole, resumed)
    assert vaelab.load(tmp_path / "run").sample(["down"]).shape == (1, 8, 8)


def test_resuming_needs_the_same_functions(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    place = tmp_path / "run"
    stopped(vaelab.fit(tiny_config, tiny, out=place, objective=lambda found: found.distortion), after=1)
    assert "<lambda> (cannot be imported)" in (place / "config.json").read_text()
    with pytest.raises(ConfigError, match="got none as objective; expected that of its training"):
        next(vaelab.fit(Config(), tiny, out=place, resume=True))
    with pytest.raises(ConfigError, match=r"got .*info_vae as objective"):
        next(vaelab.fit(Config(), tiny, out=place, resume=True, objective=info_vae))
    with pytest.raises(ConfigError, match="as schedule; expected that of its training: pass no schedule"):
        next(vaelab.fit(Config(), tiny, out=place, resume=True, objective=lambda found: found.z, schedule=linear))


def half_of(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters[::2], lr=0.1)


@pytest.mark.parametrize(
    ("functions", "train", "words"),
    [
        (
            {"objective": lambda found: found.rate},
            {},
            r"`objective`: returned a tensor of shape \(32, 2\) for 32 images",
        ),
        ({"objective": lambda found: found.distortion.mean().item()}, {}, "`objective`: returned float"),
        ({"objective": lambda found: found.distortion.detach()}, {}, "`objective`: returned a tensor without gradient"),
        (
            {"objective": lambda found: found.distortion.mean() * float("nan")},
            {},
            "`objective`: returned NaN or infinity",
        ),
        ({"objective": "elbo"}, {}, "`objective`: got an object of type str; expected a function"),
        ({"objective": elbo}, {"iwae_samples": 5}, "`iwae_samples`: got 5 with `objective`"),
        ({"objective": elbo}, {"free_bits": 0.1}, "`free_bits`: got 0.1 with `objective`"),
        ({"objective": elbo}, {"compile": "yes"}, "`compile`: got yes with `objective`"),
        ({"optimizer": half_of}, {}, "`optimizer`: holds 4 parameters, and 4 of"),
        ({"optimizer": lambda _: None}, {}, "`optimizer`: returned an object of type NoneType"),
        ({"optimizer": torch.optim.LBFGS}, {}, "`optimizer`: LBFGS computes the loss several times"),
        ({"optimizer": momentum}, {"learning_rate": 0.1}, "`learning_rate`: got 0.1 with `optimizer`"),
        ({"schedule": 0.5}, {}, "`schedule`: got an object of type float"),
        ({"schedule": lambda _: None}, {}, "`schedule`: returned None after 0%"),
        ({"schedule": lambda fraction: float("nan")}, {}, "`schedule`: returned nan"),
    ],
)
def test_what_cannot_train_is_refused_in_one_line_and_leaves_no_run(
    functions: dict[str, Any], train: dict[str, Any], words: str, tiny: Dataset, tiny_config: Config, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        next(vaelab.fit(changed(tiny_config, **train), tiny, out=tmp_path / "run", **functions))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_objective_may_compute_gradients(tiny: Dataset, tiny_config: Config) -> None:
    def with_penalty(found: Pass) -> Tensor:
        decoded = found.model.decode(found.z, found.labels).mean().sum()
        (gradient,) = torch.autograd.grad(decoded, found.z, create_graph=True)
        return elbo(found) + 1e-3 * gradient.square().mean()

    done = last(vaelab.fit(tiny_config, tiny, objective=with_penalty))
    assert done.finished
    assert not any(weight.requires_grad for weight in done.model.parameters())


def test_a_first_value_that_is_nan_does_not_keep_the_untrained_weights(tiny: Dataset, tiny_config: Config) -> None:
    calls = []

    def late(found: Pass) -> Tensor:
        training = found.model.training
        calls.extend([] if training else [1])
        return elbo(found) * (float("nan") if len(calls) == 1 and not training else 1)

    done = last(vaelab.fit(changed(tiny_config, epochs=6), tiny, objective=late))
    untrained = next(iter(vaelab.fit(changed(tiny_config, epochs=6), tiny)))
    assert len(calls) > 1
    assert not same(done, untrained)


class Counting(torch.optim.SGD):
    """Counts its steps in its group, as some optimisers do."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        super().__init__(parameters, lr=1e-3, momentum=0.9)
        self.param_groups[0]["steps"] = 0

    def step(self, closure: Any = None) -> None:
        self.param_groups[0]["steps"] += 1
        super().step(closure)


def test_what_an_optimiser_counts_in_its_groups_is_continued(
    tiny: Dataset, tiny_config: Config, tmp_path: Path
) -> None:
    made = []

    def counting(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        made.append(Counting(parameters))
        return made[-1]

    config = changed(tiny_config, epochs=4)
    stopped(vaelab.fit(config, tiny, optimizer=counting, out=tmp_path / "run"), 3)
    done = last(vaelab.fit(Config(), tiny, optimizer=counting, out=tmp_path / "run", resume=True))
    assert made[-1].param_groups[0]["steps"] == done.step
