"""Every hyper-parameter, once: the command line's options, the estimators' parameters and the JSON of a run are these fields.

A field's docstring is its help text and states its unit. A value that cannot be is refused here, before anything starts.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from vaelab.errors import ConfigError, did_you_mean

ModelName = Literal["ae", "vae", "cvae"]
ModelChoice = Literal["ae", "vae", "cvae", "all"]
NetworkName = Literal["mlp", "conv", "ladder"]
MixingName = Literal["free", "relative", "conv"]
CompileName = Literal["auto", "yes", "no"]
PrecisionName = Literal["auto", "float32", "bfloat16"]
LikelihoodName = Literal["bernoulli", "continuous-bernoulli", "logistic", "gaussian"]

if TYPE_CHECKING:
    OwnBody = str | Callable[..., Any]
    Levels = str | Sequence[int | str]
else:
    OwnBody = str  # what the command line reads and a run keeps; a class becomes its import path
    Levels = str  # and a sequence becomes its numbers, with commas

MOST_DIMENSIONS = 65536
"""Latent dimensions, and units of a layer, that are taken."""

DEFAULT_SECONDS = 90.0
"""Training time where neither epochs nor seconds are given: about a minute and a half."""


@dataclass(frozen=True)
class ModelConfig:
    """What is trained. A field left at None is chosen for the data when training starts, and the choice is recorded."""

    model: ModelChoice | None = None
    """Autoencoder, variational autoencoder or conditional VAE; all: each in turn, for an equal share of the seconds. Default:
    cvae if the data are labelled, else vae."""

    network: NetworkName | None = None
    """Dense or strided convolutional encoder and decoder, or a ladder, which has a hierarchy of latents. Default: mlp for grey
    images up to 32×32 and tables, else conv."""

    latent_dim: int | None = None
    """Dimensions of the latent, 1 or more. Default: 7 for cvae (16 in colour), 32 for ae and vae; at most a table's columns."""

    likelihood: LikelihoodName | None = None
    """Distribution p(x|z) of an image. Default: bernoulli for near-binary grey images, else logistic; gaussian for tables."""

    width: int | None = None
    """Units of a dense hidden layer (default 256), channels of the first convolution (default 32) or of a ladder (default 64)."""

    depth: int | None = None
    """Hidden layers of a dense encoder, and of its decoder (default 3); blocks of a ladder's encoder (default 2). A convolutional
    network is as deep as the image's size asks."""

    encoder: OwnBody | None = None
    """An encoder of your own by its import path, such as my_networks:Encoder, in place of that of --network."""

    decoder: OwnBody | None = None
    """A decoder of your own by its import path, such as my_networks:Decoder, in place of that of --network."""

    levels: Levels | None = None
    """Latent dimensions of a ladder's rungs, such as 16,1,1: of the whole image for the first, at each position for the others.
    They stand in place of --latent-dim. With @, a rung has positions of its own: 16,4@8,2@4,1@2 has patches of 8, 4 and 2 pixels
    a side, 4×4, 7×7 and 14×14 positions of a 28×28 image. Default: 16,1,1."""

    patch: int | None = None
    """Pixels per side of the patches that a ladder cuts images into, and of a rung's positions where --levels does not say; 0
    makes one position of all, as a table is. Default: the finest that --levels says, else 4 for 28×28, so 7×7."""

    spatial_mixing: MixingName | None = None
    """How a ladder's positions hear of one another: by free matrices over positions; by relative ones, whose entries hang on how
    two positions lie to each other alone, as in a convolution as large as the grid; or by 3×3 convolutions. Default: relative."""

    def __post_init__(self) -> None:
        _check_choices(self)
        for name in ("encoder", "decoder"):
            if (got := getattr(self, name)) is not None:
                object.__setattr__(self, name, import_path(name, got))
        if self.levels is not None:
            object.__setattr__(self, "levels", _levels(self.levels))
        _check_whole("patch", self.patch, least=0, most=1024)
        for name, most in (("latent_dim", MOST_DIMENSIONS), ("width", MOST_DIMENSIONS), ("depth", 1000)):
            _check_whole(name, getattr(self, name), most=most)


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained."""

    epochs: int | None = None
    """Passes over the training images. Weights then follow from the seed alone. Excludes --seconds. Default for tables: 20, or
    the more that make 1,000 steps."""

    seconds: float | None = None
    """Wall time from the command to the saved weights, in seconds; with --resume, of all sittings together. Default: 90."""

    batch_size: int | None = None
    """Images per step. Default: 128, or 32 for fewer than 5,000 training images, which so get more steps."""

    learning_rate: float = 3e-3
    """Peak step size of AdamW; it warms up, then falls along a cosine."""

    warmup: float = 0.02
    """Share of the training over which the learning rate rises to its peak, 0…1."""

    weight_decay: float = 1e-4
    """Decoupled weight decay of AdamW, per step and unit of learning rate."""

    ema: float = 0.998
    """Decay per step of the moving average of the weights that is evaluated and saved, 0 (off) … <1."""

    gradient_clip: float = 3.0
    """Largest norm of a step's gradient, as a multiple of the norm's running average; a larger one is scaled down to it."""

    beta: float = 1.0
    """Weight of the rate in the objective; reported figures always weigh it 1."""

    kl_warmup: float = 0.1
    """Share of the training over which the rate's weight rises from 0 to beta, 0…1."""

    free_bits: float = 0.0
    """Nats per latent dimension below which the rate is not pressed down (averaged over a batch); the dimensions of a ladder's
    rung are taken together."""

    iwae_samples: int = 1
    """Draws of z per image in a finish that minimises the importance-weighted bound in place of −ELBO; 1: no such finish."""

    iwae_fraction: float = 0.1
    """Share of the training, at its end, that the finish of --iwae-samples takes, 0…1. It knows no beta and no free bits, and
    its steps are not compiled."""

    seed: int = 0
    """Seed of the initial weights, the order of the images, the binarisation and the latent noise."""

    precision: PrecisionName = "auto"
    """Matrix products of the step: float32, or bfloat16 beside float32 weights and distributions. auto: bfloat16 on a GPU, and
    for a dense network or a ladder on images where the processor has it (AVX-512 BF16 or AMX)."""

    device: str = "auto"
    """Where to train: auto, cpu, cuda, cuda:1. auto is cuda if there is such a GPU, else cpu."""

    compile: CompileName = "auto"
    """Compile the step, for up to twice the speed, with a C++ compiler: 15 to 60 s of one core, then kept for the next time.
    auto does it beside trainings of 1 to 2 minutes or more, before those of 20,000 steps or more in epochs, and never for
    networks of your own. On a GPU the step is recorded as a CUDA graph as well, but for networks of your own; no leaves that
    out."""

    def __post_init__(self) -> None:
        if isinstance(self.compile, bool):  # as runs of vaelab 0.1.0 have it
            object.__setattr__(self, "compile", "yes" if self.compile else "no")
        _check_choices(self)
        _check_whole("epochs", self.epochs)
        _check_whole("batch_size", self.batch_size)
        _check_whole("iwae_samples", self.iwae_samples, most=1000)
        _check_whole("seed", self.seed, least=0, most=2**63 - 1)
        _check_real("seconds", self.seconds, above=0.0)
        _check_real("learning_rate", self.learning_rate, above=0.0)
        _check_real("gradient_clip", self.gradient_clip, above=0.0)
        for name in ("weight_decay", "beta", "free_bits"):
            _check_real(name, getattr(self, name), least=0.0)
        for name in ("warmup", "kl_warmup", "iwae_fraction"):
            _check_real(name, getattr(self, name), least=0.0, most=1.0)
        _check_real("ema", self.ema, least=0.0, below=1.0)
        if self.epochs is not None and self.seconds is not None:
            raise ConfigError("got both --epochs and --seconds; expected one of them: leave the other out")


@dataclass(frozen=True)
class Config:
    """A model and its training, together: what `config.json` of a run holds."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def option(field_name: str) -> str:
    """The command line's spelling of a field, such as `--latent-dim`."""
    return "--" + field_name.replace("_", "-")


def import_path(name: str, got: object) -> str:
    """Where a network of one's own is imported from, `package.module:Name`: what a run keeps of it beside its weights.

    Parameters
    ----------
    name
        The field it is given for, `encoder` or `decoder`.
    got
        Such a path, or the class (or a function that makes the network) itself.

    Raises
    ------
    ConfigError
        If it is neither, or cannot be imported again by that path, as what is defined in a function or a script cannot.
    """
    if isinstance(got, str):
        if re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", got) is None:
            raise ConfigError(
                f"{option(name)}: got {got!r}; expected an import path, such as my_networks:{name.title()}"
            )
        module, qualified = got.split(":")
        if module.endswith(".py"):
            right = f"{module.removesuffix('.py')}:{qualified}"
            raise ConfigError(f"{option(name)}: got {got!r}; expected an import path, without .py: {right}")
    else:
        module, qualified = getattr(got, "__module__", None), getattr(got, "__qualname__", None)
        if not callable(got) or module is None or qualified is None:
            body = name.title()
            raise ConfigError(
                f"{option(name)}: got an object of type {type(got).__name__}; expected the class itself ({name}={body}, not "
                f"{name}={body}()) or its import path, such as my_networks:{body}"
            )
    if module == "__main__" or "<" in qualified:
        place = "a function" if "<" in qualified else "the script or notebook itself"
        raise ConfigError(
            f"{option(name)}: got {qualified}, which is defined in {place}, where no one can import it from again; "
            f"expected a class at the top of a module: put it into my_networks.py and type from my_networks import "
            f"{qualified.rpartition('.')[2].strip('<>')}"
        )
    if not isinstance(got, str) and _imported(module, qualified) is not got:
        raise ConfigError(
            f"{option(name)}: got an object that calls itself {module}:{qualified}, but that is something else now; "
            "expected a class at the top of a module, under its own name"
        )
    return f"{module}:{qualified}"


def level_parts(rungs: Levels) -> list[tuple[int, int | None]]:
    """The numbers of `ModelConfig.rungs`: latent dimensions, and pixels a side of a position where it says so."""
    parts = (part.partition("@") for part in _levels(rungs).split(","))
    return [(int(dims), int(patch) if patch else None) for dims, _, patch in parts]


def _levels(got: object) -> str:
    """Numbers with commas, from such a text or from a sequence of numbers.

    Raises
    ------
    ConfigError
        If it is neither, or a number is below 1, or the first rung has positions.
    """
    parts = got.split(",") if isinstance(got, str) else list(got) if isinstance(got, Sequence) else [got]
    texts = [str(part).strip() for part in parts]
    if not texts or not all(re.fullmatch(r"[1-9]\d{0,3}(@[1-9]\d{0,3})?", text) for text in texts) or "@" in texts[0]:
        raise ConfigError(
            f"--levels: got {got if isinstance(got, str) else parts!r}; expected whole numbers of at least 1 with commas, such "
            "as 16,1,1 or 16,4@8,2@4"
        )
    return ",".join(texts)


def _imported(module: str, qualified: str) -> object:
    found: object = sys.modules.get(module)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found


def _check_choices(config: ModelConfig | TrainConfig) -> None:
    choices = {"model": ModelName, "network": NetworkName, "likelihood": LikelihoodName, "spatial_mixing": MixingName}
    choices |= {"compile": CompileName, "precision": PrecisionName}
    for name, literal in choices.items():
        got = getattr(config, name, None)
        if got is not None and got not in get_args(literal) and (name, got) != ("model", "all"):
            expected = ", ".join(get_args(literal))
            raise ConfigError(
                f"{option(name)}: got {got!r}; expected one of {expected}.{did_you_mean(str(got), get_args(literal))}"
            )


def _check_whole(name: str, got: object, *, least: int = 1, most: float = math.inf) -> None:
    if got is None:
        return
    if not isinstance(got, int) or isinstance(got, bool) or not least <= got <= most:
        limit = f" and at most {most:,}" if isinstance(got, int) and got > most else ""
        raise ConfigError(f"{option(name)}: got {got!r}; expected a whole number of at least {least}{limit}")


def _check_real(
    name: str,
    got: object,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    if got is None:
        return
    if isinstance(got, int | float) and not isinstance(got, bool):
        value = float(got)
        if math.isfinite(value) and above < value < below and least <= value <= most:
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
    raise ConfigError(f"{option(name)}: got {got!r}; expected a finite number {' and '.join(bounds)}")
