"""Hyper-parameters out of range are refused with the option, what was got and what was expected."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from vaelab.config import ModelConfig, TrainConfig
from vaelab.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"latent_dim": 0}, "`latent_dim`: got 0; expected a whole number of at least 1"),
        ({"latent_dim": -8}, "`latent_dim`: got -8; expected a whole number of at least 1"),
        ({"latent_dim": 2.0}, "`latent_dim`: got 2.0; expected a whole number of at least 1"),
        (
            {"latent_dim": 10**9},
            "`latent_dim`: got 1000000000; expected a whole number of at least 1 and at most 65,536",
        ),
        ({"depth": True}, "`depth`: got True; expected a whole number of at least 1"),
        ({"width": 0}, "`width`: got 0; expected a whole number of at least 1"),
        ({"model": "cave"}, "`model`: got 'cave'; expected one of ae, vae, cvae. Did you mean 'cvae'?"),
        ({"network": "lstm"}, "`network`: got 'lstm'; expected one of mlp, pca, two-colour, conv, ladder."),
        (
            {"likelihood": "bernouli"},
            "`likelihood`: got 'bernouli'; expected one of bernoulli, continuous-bernoulli, logistic, colour-logistic, "
            "two-colour, gaussian. Did you mean 'bernoulli'?",
        ),
    ],
)
def test_a_model_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig(**values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "`epochs`: got 0; expected a whole number of at least 1"),
        ({"seconds": 0}, "`seconds`: got 0; expected a finite number above 0"),
        ({"seconds": math.inf}, "`seconds`: got inf; expected a finite number above 0"),
        ({"batch_size": -1}, "`batch_size`: got -1; expected a whole number of at least 1"),
        ({"learning_rate": math.nan}, "`learning_rate`: got nan; expected a finite number above 0"),
        ({"learning_rate": "fast"}, "`learning_rate`: got 'fast'; expected a finite number above 0"),
        ({"beta": -0.1}, "`beta`: got -0.1; expected a finite number of at least 0"),
        ({"free_bits": -1}, "`free_bits`: got -1; expected a finite number of at least 0"),
        ({"warmup": 1.5}, "`warmup`: got 1.5; expected a finite number of at least 0 and of at most 1"),
        ({"ema": 1.0}, "`ema`: got 1.0; expected a finite number of at least 0 and below 1"),
        ({"seed": -1}, "`seed`: got -1; expected a whole number of at least 0"),
        ({"seed": 2**63}, f"`seed`: got {2**63}; expected a whole number of at least 0 and at most {2**63 - 1:,}"),
        ({"epochs": 3, "seconds": 4}, "got both `epochs` and `seconds`; expected one of them: leave the other out"),
    ],
)
def test_a_training_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**values)
    assert str(caught.value) == message


def test_numbers_of_numpy_become_those_of_python() -> None:
    model = ModelConfig(latent_dim=np.int64(3))  # type: ignore[arg-type]
    train = TrainConfig(epochs=np.uint8(2), learning_rate=np.float32(0.5), beta=np.float64(2.0))  # type: ignore[arg-type]
    values = [model.latent_dim, train.epochs, train.learning_rate, train.beta]
    assert values == [3, 2, 0.5, 2.0]
    assert [type(value) for value in values] == [int, int, float, float]
    with pytest.raises(ConfigError, match="`latent_dim`: got 0"):
        ModelConfig(latent_dim=np.int64(0))  # type: ignore[arg-type]


def test_every_field_has_a_help_text() -> None:
    from vaelab.cli import app

    reference = app.generate_docs(output_format="markdown")
    for line in reference.splitlines():
        if line.startswith("* `--"):
            assert ": " in line, line
            assert len(line.split(": ", 1)[1].split("*[")[0].strip()) > 3, line


@pytest.mark.parametrize("code", ["import vaelab", "import vaelab.cli", "import vaelab.data"])
def test_importing_needs_no_torch_and_no_matplotlib(code: str) -> None:
    check = f"{code}; import sys; print([m for m in ('torch', 'matplotlib', 'sklearn', 'pooch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-W", "error", "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
