"""Hyper-parameters: what a user asks for, and what a run uses.

`Config` holds what was asked for: a field that is None was not given. `vaelab.training.resolve.resolve` fills in every
default for a data set and returns a `ResolvedConfig`, which has no None and is what `config.json` records. Command-line
options, estimator parameters and the JSON of a run are all made from these fields; the docstring of a field of `Config` is
its help text and states its unit, range and default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_args

from vaelab.errors import ConfigError, did_you_mean
from vaelab.import_paths import import_path

ModelName = Literal["ae", "vae", "cvae"]
ModelChoice = Literal["ae", "vae", "cvae", "all"]
NetworkName = Literal["mlp", "pca", "two-colour", "conv", "ladder"]
SpatialMixingName = Literal["free", "relative", "conv"]
CompileName = Literal["auto", "yes", "no"]
FlipName = Literal["no", "horizontal"]
PrecisionName = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]
BuiltInLikelihood = Literal[
    "bernoulli", "continuous-bernoulli", "logistic", "colour-logistic", "two-colour", "gaussian"
]
LikelihoodName = str
"""One of `BuiltInLikelihood`, or the import path of a custom likelihood, such as my_likelihoods:Laplace."""

if TYPE_CHECKING:
    NetworkClass = str | Callable[..., Any]
    Levels = str | Sequence[int | str]
else:
    # At run time, annotations are read for the command line, where both are text: an import path, and numbers with commas.
    NetworkClass = str
    Levels = str

MAX_DIMENSIONS = 65536  # of the latent, and units in a layer
DEFAULT_SECONDS = 90.0  # training time on images if neither `epochs` nor `seconds` is given


@dataclass(frozen=True)
class ModelConfig:
    """The model to train. A field that is None is chosen for the data by `resolve`."""

    model: ModelChoice | None = None
    """Model: autoencoder (ae), variational autoencoder (vae), conditional VAE (cvae), or all of them in turn, the first for
    half of `seconds`. Default: cvae for labelled data, else vae."""

    network: NetworkName | None = None
    """Encoder and decoder: dense (mlp), dense beside linear maps that start as probabilistic PCA (pca), dense for shapes in two
    colours (two-colour), convolutional (conv), or a hierarchical VAE (ladder). Default: mlp for tables and grey images up to
    32×32; for colour images up to 64×64 two-colour if they are of two colours each, else pca for vae and cvae; else conv."""

    latent_dim: int | None = None
    """Latent dimensions, at least 1. Default: 544 for pca; for two-colour, 11 for cvae and 22 for ae and vae, of which 6
    are the colours; else 7 for cvae (16 for colour images), 32 for ae and vae; at most the number of columns of a table."""

    likelihood: NetworkClass | None = None
    """Distribution p(x|z): bernoulli, continuous-bernoulli, logistic, colour-logistic, two-colour, gaussian, or the import path
    of a custom likelihood of images, such as my_likelihoods:Laplace. Default: bernoulli for near-binary grey images, logistic for
    other grey images, two-colour for the network of this name, colour-logistic for other colour images, gaussian for tables."""

    width: int | None = None
    """Units of a dense layer (default: 256), channels of the first convolution (default: 32) or of a ladder (default: 64)."""

    depth: int | None = None
    """Hidden layers of a dense encoder, and of a dense decoder (default: 3), or blocks of a ladder's encoder (default: 2). The
    depth of a convolutional network follows from the image size."""

    encoder: NetworkClass | None = None
    """Import path of a custom encoder, such as my_networks:Encoder. Default: the encoder of `network`."""

    decoder: NetworkClass | None = None
    """Import path of a custom decoder, such as my_networks:Decoder. Default: the decoder of `network`."""

    levels: Levels | None = None
    """Latent dimensions of each level of a ladder: for the whole image at the first level, per grid position at the others.
    4@8 means 4 dimensions per patch of 8 pixels. Default: 16,1,1. Determines `latent_dim`."""

    patch: int | None = None
    """Side in pixels of the patches that a ladder cuts images into; 0 makes one patch of the image. Default: the
    smallest patch in `levels`; without one, it depends on the image size (4 for 28×28)."""

    spatial_mixing: SpatialMixingName | None = None
    """Spatial mixing of a ladder: free (a learned N×N matrix), relative (weights depend on the offset only) or conv (3×3
    convolutions). Default: relative."""

    def __post_init__(self) -> None:
        _use_python_numbers(self)
        _check_choices(self)
        custom = ("encoder", "decoder", *(["likelihood"] if is_custom_likelihood(self.likelihood) else []))
        for name in custom:
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, import_path(name, value))
        if self.levels is not None:
            object.__setattr__(self, "levels", _levels(self.levels))
        _check_whole("patch", self.patch, least=0, most=1024)
        for name, most in (("latent_dim", MAX_DIMENSIONS), ("width", MAX_DIMENSIONS), ("depth", 1000)):
            _check_whole(name, getattr(self, name), most=most)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. A field that is None takes its default from `resolve`."""

    epochs: int | None = None
    """Passes over the training images; the weights then depend on the seed only. Excludes `seconds`. Default for tables: 20,
    or as many as are needed for 1,000 steps."""

    seconds: float | None = None
    """Training time in seconds, from the first step to the last, with validations and saves between them, but without loading
    and compiling ahead; summed over all sessions of a resumed run. Default for images: 90."""

    batch_size: int | None = None
    """Images per step. Default: 128, or 32 for fewer than 5,000 training images."""

    learning_rate: float | None = None
    """Peak learning rate of AdamW: linear warm-up, then cosine decay. Default: 0.001 for pca,
    0.004 for two-colour, else 0.003."""

    warmup: float | None = None
    """Fraction of the training in which the learning rate rises to its peak, 0…1. Default: 0.02."""

    weight_decay: float | None = None
    """Decoupled weight decay of AdamW, at least 0. Default: 0.0001."""

    ema: float | None = None
    """Decay per step of the moving average of the weights, which is evaluated and saved; 0 (off) to below 1. Default: 0.998."""

    gradient_clip: float | None = None
    """Largest gradient norm, as a multiple of its running average; larger gradients are scaled down. Default: 3."""

    beta: float | None = None
    """Weight β of the rate in the objective, at least 0; reported figures always use 1. Default: 1."""

    kl_warmup: float | None = None
    """Fraction of the training in which the weight of the rate rises from 0 to `beta`, 0…1. Default: 0.1, for pca 0."""

    free_bits: float | None = None
    """Nats per latent dimension, averaged over a batch, below which the rate is not minimised; a level of a ladder is
    treated as one group. Default: 0."""

    flip: FlipName | None = None
    """horizontal mirrors each training image left to right with probability ½, which helps long trainings on photographs; not for
    letters or digits. Default: no."""

    iwae_samples: int | None = None
    """Number of IWAE samples in the final phase of the training; 1 disables it. Default: 1."""

    iwae_fraction: float | None = None
    """Length of the final IWAE phase as a fraction of the training, 0…1; used if `iwae_samples` is above 1. This phase ignores
    `beta` and `free_bits` and is not compiled. Default: 0.1."""

    seed: int | None = None
    """Seed of the initial weights, the order of the images, the binarisation and the latent noise. Default: 0."""

    precision: PrecisionChoice | None = None
    """Precision of matrix products in training: float32, bfloat16, or auto (for images, bfloat16 on CUDA GPUs that support it,
    and on processors with AVX-512 BF16 or AMX for dense networks and ladders without convolutions). Default: auto."""

    device: str | None = None
    """Device to train on: auto, cpu, cuda, cuda:1, mps. auto is cuda if available, else cpu. Default: auto."""

    compile: CompileName | None = None
    """Compile the training step, up to twice as fast; needs a C++ compiler and 15 to 60 s of one core, then is cached. auto
    compiles if this saves time. Default: auto."""

    checkpoint_every: float | None = None
    """Seconds between two saves of a run in training, above 0: about the most that a killed process loses. Default: 20."""

    def __post_init__(self) -> None:
        _use_python_numbers(self)
        if isinstance(self.compile, bool):
            object.__setattr__(self, "compile", "yes" if self.compile else "no")
        _check_choices(self)
        _check_whole("epochs", self.epochs)
        _check_whole("batch_size", self.batch_size)
        _check_whole("iwae_samples", self.iwae_samples, most=1000)
        _check_whole("seed", self.seed, least=0, most=2**63 - 1)
        for name in ("seconds", "checkpoint_every", "learning_rate", "gradient_clip"):
            _check_real(name, getattr(self, name), above=0.0)
        for name in ("weight_decay", "beta", "free_bits"):
            _check_real(name, getattr(self, name), least=0.0)
        for name in ("warmup", "kl_warmup", "iwae_fraction"):
            _check_real(name, getattr(self, name), least=0.0, most=1.0)
        _check_real("ema", self.ema, least=0.0, below=1.0)
        if self.epochs is not None and self.seconds is not None:
            raise ConfigError("got both `epochs` and `seconds`; expected one of them: leave the other out")


@dataclass(frozen=True)
class Config:
    """A model and its training as asked for."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class Budget:
    """How long to train: a number of epochs or of seconds."""

    amount: float
    unit: Literal["epochs", "seconds"]


@dataclass(frozen=True)
class ResolvedModelConfig:
    """`ModelConfig` with every field filled in. Fields of a ladder are empty, 0 or "free" for other networks; `depth` of a
    convolutional network reaches custom networks only.
    """

    model: ModelName
    network: NetworkName
    latent_dim: int
    likelihood: LikelihoodName
    width: int
    depth: int
    encoder: str = ""
    decoder: str = ""
    levels: str = ""
    patch: int = 0
    spatial_mixing: SpatialMixingName = "free"


@dataclass(frozen=True)
class ResolvedTrainConfig:
    """`TrainConfig` with every field filled in. The defaults here are the defaults of vaelab."""

    budget: Budget
    batch_size: int
    precision: PrecisionName
    device: str
    learning_rate: float = 3e-3
    warmup: float = 0.02
    weight_decay: float = 1e-4
    ema: float = 0.998
    gradient_clip: float = 3.0
    beta: float = 1.0
    kl_warmup: float = 0.1
    free_bits: float = 0.0
    flip: FlipName = "no"
    iwae_samples: int = 1
    iwae_fraction: float = 0.1
    seed: int = 0
    compile: CompileName = "auto"
    checkpoint_every: float = 20.0
    objective: str = ""
    optimizer: str = ""
    schedule: str = ""
    """Names of functions of the caller of `fit`, import paths if they have one; empty for the built-in ones."""


@dataclass(frozen=True)
class ResolvedConfig:
    """A model and its training with every value filled in: what `config.json` of a run records."""

    model: ResolvedModelConfig
    train: ResolvedTrainConfig
    own_loop: bool = False
    """Whether the model was trained in a loop outside vaelab. How is unknown: `config.json` then has null as `train`, and the
    `train` here is a placeholder.
    """

    @staticmethod
    def of_own_loop(model: ResolvedModelConfig, seed: int = 0) -> ResolvedConfig:
        """Return the configuration of a model that was trained in a loop outside vaelab."""
        return ResolvedConfig(model, ResolvedTrainConfig(Budget(0, "epochs"), 1, "float32", "cpu", seed=seed), True)

    def as_config(self) -> Config:
        """Return the same settings as a `Config`, to be resolved for other data or changed."""
        model = {name: value for name, value in vars(self.model).items() if value != ""}
        if self.model.network != "ladder":
            model = {name: value for name, value in model.items() if name not in LADDER_FIELDS}
        elif "levels" in model:
            del model["latent_dim"]
        if self.own_loop:
            return Config(ModelConfig(**model))
        train = {name: value for name, value in vars(self.train).items() if name not in OWN_FUNCTIONS}
        budget = train.pop("budget")
        train[budget.unit] = int(budget.amount) if budget.unit == "epochs" else budget.amount
        return Config(ModelConfig(**model), TrainConfig(**train))


OWN_LOOP = "a loop outside vaelab"
"""What a report states as the budget of a model that was trained there."""

LADDER_FIELDS = ("levels", "patch", "spatial_mixing")
"""Fields of `ModelConfig` that only a ladder has."""

OWN_FUNCTIONS = ("objective", "optimizer", "schedule")
"""Fields of `ResolvedTrainConfig` that only `fit` sets."""

TRAIN_DEFAULTS: dict[str, Any] = {
    field.name: field.default
    for field in fields(ResolvedTrainConfig)
    if field.default is not MISSING and field.name not in OWN_FUNCTIONS
}
"""Defaults of `TrainConfig` that do not depend on the data."""


def is_custom_likelihood(likelihood: object) -> bool:
    """Return whether a likelihood is a class or import path of the user, rather than the name of a built-in one."""
    return likelihood is not None and (not isinstance(likelihood, str) or ":" in likelihood)


def level_parts(levels: Levels) -> list[tuple[int, int | None]]:
    """Return the latent dimensions of each level, and its patch side in pixels where `levels` states it (4@8), else None."""
    parts = (part.partition("@") for part in _levels(levels).split(","))
    return [(int(dims), int(patch) if patch else None) for dims, _, patch in parts]


def _levels(levels: object) -> str:
    """Return `levels` as numbers separated by commas; a ConfigError if it is not such a text or a sequence of numbers."""
    parts = levels.split(",") if isinstance(levels, str) else list(levels) if isinstance(levels, Sequence) else [levels]
    texts = [str(part).strip() for part in parts]
    if not texts or not all(re.fullmatch(r"[1-9]\d{0,3}(@[1-9]\d{0,3})?", text) for text in texts) or "@" in texts[0]:
        raise ConfigError(
            f"`levels`: got {levels if isinstance(levels, str) else parts!r}; expected whole numbers of at least 1 "
            "with commas, such as 16,1,1 or 16,4@8,2@4"
        )
    return ",".join(texts)


def _use_python_numbers(config: ModelConfig | TrainConfig) -> None:
    """Replace numbers of other types, such as NumPy's, by int and float."""
    for name, value in vars(config).items():
        if isinstance(value, Real) and not isinstance(value, bool) and type(value) not in (int, float):
            object.__setattr__(config, name, int(value) if isinstance(value, Integral) else float(value))


_CHOICES: dict[str, Any] = {
    "model": ModelName,
    "network": NetworkName,
    "likelihood": BuiltInLikelihood,
    "spatial_mixing": SpatialMixingName,
    "compile": CompileName,
    "precision": PrecisionChoice,
}


def _check_choices(config: ModelConfig | TrainConfig) -> None:
    for name, literal in _CHOICES.items():
        value = getattr(config, name, None)
        if name == "likelihood" and is_custom_likelihood(value):
            continue
        if value is not None and value not in get_args(literal) and (name, value) != ("model", "all"):
            choices = get_args(literal)
            raise ConfigError(
                f"`{name}`: got {value!r}; expected one of {', '.join(choices)}.{did_you_mean(str(value), choices)}"
            )


def _check_whole(name: str, value: object, *, least: int = 1, most: float = math.inf) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        limit = f" and at most {most:,}" if isinstance(value, int) and value > most else ""
        raise ConfigError(f"`{name}`: got {value!r}; expected a whole number of at least {least}{limit}")


def _check_real(
    name: str,
    value: object,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    if value is None:
        return
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and above < number < below and least <= number <= most:
            return
    bounds = [
        text
        for limit, text in (
            (above, f"above {above:g}"),
            (least, f"of at least {least:g}"),
            (below, f"below {below:g}"),
            (most, f"of at most {most:g}"),
        )
        if math.isfinite(limit)
    ]
    raise ConfigError(f"`{name}`: got {value!r}; expected a finite number {' and '.join(bounds)}")
