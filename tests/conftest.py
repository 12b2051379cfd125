"""What several test files use: checked shapes, a tiny data set, and a model whose exact figures are known."""

import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

# The shapes in the signatures of the numerical modules are checked while testing. The other modules are left alone: their
# tests hand them wrong types on purpose, to see the error that the user sees.
install_import_hook(
    [
        "vaelab.random",
        "vaelab.optim.batches",
        "vaelab.models.vae",
        "vaelab.models.distributions",
        "vaelab.evaluation",
        "vaelab.models.base",
        "vaelab.models.networks",
        "vaelab.objectives",
        "vaelab.training.trainer",
    ],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",  # an int will do for a float
)

from vaelab.config import Config, ModelConfig, TrainConfig  # noqa: E402 - after the hook
from vaelab.data import Dataset, Split, load_dataset  # noqa: E402
from vaelab.models.base import MAX_LOG_VARIANCE, MIN_LOG_VARIANCE, Model  # noqa: E402
from vaelab.models.moments import Moments  # noqa: E402
from vaelab.models.networks import with_labels  # noqa: E402
from vaelab.models.vae import SingleLatentVAE  # noqa: E402
from vaelab.training.fit import fit  # noqa: E402

# The tests' tensors are small: several threads only wait for one another, for minutes where other work shares the cores.
torch.set_num_threads(1)

# A shell starts a background job with Ctrl-C ignored, and nohup a program with SIGHUP ignored; the tests send both.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

pytest_plugins = ("browsing", "served_model", "studio_model", "studio_page")

TINY_SIDE = 8


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npz` file, which is closed at once."""
    with np.load(path) as file:
        return dict(file)


def draw_tiny(count: int, seed: int) -> Split:
    """Bars across, bars down and frames, two pixels thick, white on black with a little grey noise; a label each."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 3)
    images = np.zeros((count, 1, TINY_SIDE, TINY_SIDE), dtype=np.uint8)
    for image, label in zip(images[:, 0], labels, strict=True):
        at = rng.integers(0, TINY_SIDE - 1)
        if label == 0:
            image[at : at + 2, 1:-1] = 255
        elif label == 1:
            image[1:-1, at : at + 2] = 255
        else:
            inset = at % 2
            image[inset : TINY_SIDE - inset, inset : TINY_SIDE - inset] = 255
            image[inset + 2 : TINY_SIDE - inset - 2, inset + 2 : TINY_SIDE - inset - 2] = 0
    noise = rng.integers(0, 16, images.shape, dtype=np.uint8)
    return Split(np.where(images == 255, images - noise, noise), labels)


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """Grey 8×8 images that are near-binary, of 3 labelled classes: 120 to train on, 30 to validate, 30 to test."""
    drawn = draw_tiny(180, seed=0)
    return Dataset("tiny", drawn[:120], drawn[120:150], drawn[150:], classes=("across", "down", "frame"))


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """A conditional model of `tiny` that trains in well under a second, in the same precision everywhere."""
    model = ModelConfig(model="cvae", network="mlp", latent_dim=2, likelihood="bernoulli", width=32, depth=1)
    return Config(model, TrainConfig(epochs=3, batch_size=32, device="cpu", compile="no", precision="float32"))


@pytest.fixture(scope="session")
def studio_run(tiny: Dataset, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `tiny`, one of whose classes has a name that is HTML, with an ae and a vae in it, and beside it its tiny.npz."""
    above = tmp_path_factory.mktemp("studio")
    names = np.array(["<img src=x onerror=alert(1)>", "down", "frame"])
    train, test = tiny.train, tiny.test
    np.savez(
        above / "tiny.npz",
        images=train.images,
        labels=names[train.labels],
        test_images=test.images,
        test_labels=names[test.labels],
    )
    dataset = load_dataset(above / "tiny.npz")
    for kind, place in (("cvae", "run"), ("ae", "run/ae"), ("vae", "run/vae")):
        config = replace(tiny_config, model=replace(tiny_config.model, model=kind))
        for _ in fit(config, dataset, out=above / place):
            pass
    return above / "run"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands in for the page as it is built, so that it need not be."""
    from vaelab.studio import page

    folder = tmp_path / "dist"
    folder.mkdir()
    files = {
        "index.html": '<!doctype html><html><head>\n<link rel="stylesheet" href="app.css" />\n'
        '<script defer src="app.js"></script>\n</head><body></body></html>',
        "app.js": 'const text = "</script><!-- no comment";\r\nconst price = "\\1 $&";',
        "app.css": 'a::before { content: "</style>"; }',
        "worker.js": "self.onmessage = null;",
        "ort.wasm": "wasm",
        "licences.txt": "MIT",
    }
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    monkeypatch.setattr(page, "DIST", folder)
    return folder


def flat(model: Model) -> SingleLatentVAE:
    """The model, known to be a flat one, whose encoder, head and decoder a test looks at."""
    assert isinstance(model, SingleLatentVAE)
    return model


class _Inputs(nn.Module):
    """An encoder body that passes on what it is given."""

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return with_labels(images.flatten(1), labels)


class _LinearDecoder(nn.Module):
    """Mean W z + b + B y and a constant log-variance."""

    def __init__(self, weight: Tensor, bias: Tensor, label_weight: Tensor, raw_log_variance: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.label_weight, self.raw_log_variance = nn.Parameter(label_weight), nn.Parameter(raw_log_variance)

    def forward(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        mean = latent @ self.weight.T + self.bias
        if labels is not None:
            mean = mean + labels @ self.label_weight.T
        return torch.stack([mean, self.raw_log_variance.expand_as(mean)], dim=1)


class LinearGaussian:
    """x = W z + b + B y + noise of variance ψ, z ~ N(0, I): a model in float64 whose log p(x|y) and posterior are exact.

    W has columns that are orthogonal in the metric of 1/ψ, so that the posterior is diagonal, as the model's is:
    with W = √ψ Q diag(a), QᵀQ = I, it has variance 1/(1 + a²) and mean diag(a/(1 + a²)) Qᵀ(x − b − B y)/√ψ.
    """

    rows, latent_dim = 5, 2

    def __init__(self, classes: int = 0) -> None:
        d, n = self.latent_dim, self.rows
        draws: dict[str, Any] = {"generator": generator(5), "dtype": torch.float64}
        self.classes = classes
        self.noise_variance = torch.exp(0.5 * torch.randn(n, **draws))
        orthonormal = torch.linalg.qr(torch.randn(n, d, **draws)).Q
        strength = torch.tensor([1.5, 0.6], dtype=torch.float64)
        self.weight = self.noise_variance.sqrt()[:, None] * orthonormal * strength
        self.bias = torch.randn(n, **draws)
        self.label_weight = 2 * torch.randn(n, classes, **draws)
        self.posterior_variance = 1 / (1 + strength.square())
        self.gain = self.posterior_variance[:, None] * self.weight.T / self.noise_variance
        location, variance = torch.randn(n, **draws), torch.exp(torch.randn(n, **draws))

        # The decoder gives x in units of √variance about the location, and its log-variance as softplus(raw + 10) − 10.
        unit = variance.sqrt()
        raw = torch.log(torch.expm1((self.noise_variance / variance).log() + 10)) - 10
        self.model = SingleLatentVAE(
            _Inputs(),
            _LinearDecoder(
                self.weight / unit[:, None], (self.bias - location) / unit, self.label_weight / unit[:, None], raw
            ),
            head=nn.Linear(n + classes, 2 * d),
            latent_dim=d,
            likelihood="gaussian",
            shape=(n,),
            classes=classes,
            stochastic=True,
        ).double()
        self.model.initialise_from_data(Moments(location, variance))  # the encoder sees (x − location) / √variance
        with torch.no_grad():
            self.model.head.weight.zero_()
            self.model.head.weight[:d, :n] = self.gain * unit
            self.model.head.weight[:d, n:] = -self.gain @ self.label_weight
            self.model.head.bias[:d] = self.gain @ (location - self.bias)
            self.model.head.bias[d:] = raw_log_variance(self.posterior_variance.log())

    def draw(self, count: int, seed: int = 0) -> tuple[Tensor, Tensor | None]:
        """`count` rows of the model itself, and their labels."""
        source = generator(seed)
        labels = torch.randint(self.classes, (count,), generator=source) if self.classes else None
        latent = torch.randn(count, self.latent_dim, generator=source, dtype=torch.float64)
        noise = torch.randn(count, self.rows, generator=source, dtype=torch.float64)
        return self.mean(labels) + latent @ self.weight.T + self.noise_variance.sqrt() * noise, labels

    def mean(self, labels: Tensor | None) -> Tensor:
        """E[x|y], (batch, rows) or (rows,)."""
        return self.bias if labels is None else self.bias + self.label_weight.T[labels]

    def posterior_mean(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """E[z|x, y], (batch, latent_dim)."""
        return (x - self.mean(labels)) @ self.gain.T

    def log_evidence(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Log p(x|y) in nats, (batch,)."""
        covariance = self.weight @ self.weight.T + self.noise_variance.diag()
        return MultivariateNormal(self.mean(labels), covariance).log_prob(x)

    def spoil(self, shift: float, log_variance_shift: float) -> float:
        """Move the model's posterior off the true one; its KL from it in nats, the same for every x."""
        d = self.latent_dim
        with torch.no_grad():
            self.model.head.bias[:d] += shift
            self.model.head.bias[d:] = raw_log_variance(self.posterior_variance.log() + log_variance_shift)
        per_dimension = shift**2 / self.posterior_variance + math.exp(log_variance_shift) - log_variance_shift - 1
        return 0.5 * per_dimension.sum().item()


def raw_log_variance(log_variance: Tensor) -> Tensor:
    """The output of the encoder's head that stands for this log-variance."""
    bound = torch.where(log_variance > 0, MAX_LOG_VARIANCE, -MIN_LOG_VARIANCE)
    return bound * torch.atanh(log_variance / bound)


def posterior_grid(nodes: int, latent_dim: int) -> tuple[Tensor, Tensor]:
    """Gauss–Hermite noise (nodes^d, d) and weights: their sum of f(noise) is E f(ε) for polynomials below 2 · nodes."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    one = [torch.from_numpy(points)] * latent_dim
    noise = torch.cartesian_prod(*one).reshape(-1, latent_dim)
    product = torch.cartesian_prod(*[torch.from_numpy(weights / weights.sum())] * latent_dim).reshape(-1, latent_dim)
    return noise, product.prod(-1)


@pytest.fixture
def linear_gaussian() -> LinearGaussian:
    return LinearGaussian()


@pytest.fixture
def labelled_linear_gaussian() -> LinearGaussian:
    return LinearGaussian(classes=3)
