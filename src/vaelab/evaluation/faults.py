"""Known faults of VAEs and of their data, each with its evidence and a remedy, as functions of symptoms.

The limits are constants; docs/decisions/evaluation.md has the figures of healthy and faulty models from which they were chosen. A
training that is too short explains other faults, so if it is found, faults of the model are not looked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vaelab.config import Config, ModelConfig, ResolvedConfig
from vaelab.data.dataset import NEAR_BINARY_SHARE, TWO_COLOUR_SHARE, Dataset, default_likelihood
from vaelab.errors import counted
from vaelab.evaluation.symptoms import Symptoms
from vaelab.training.resolve import resolve

USED_RATE = 0.1
"""Rate of a latent dimension in nats above which it is used."""

RATE_FACTOR = 1.5
"""Rate of held-out images, as a multiple of that of training images, from which it is too high."""

GAP = 0.25
"""Nats of held-out images above those of training images, as a share of what the latent saves on these: overfitting."""

CLEAR = 3.0
"""Standard errors that this difference must exceed: where the latent saves nothing, any difference is a large share of it."""

STILL_FALLING = 0.05
"""Fall of the validation figure in the second half of the training, as a share of what the latent saves: too short."""

FEW_STEPS = 500
"""Number of steps below which a training is too short, whatever its figures."""

SATURATED_RATE, UNEXPLAINED = 2.5, 0.35
"""The latent is too small if each dimension has at least this rate, and this share of the variance is not explained."""

FEW_USED, LARGE_LATENT = 0.15, 16
"""The latent is too large if 95 % of the rate is in this share of its dimensions, from so many dimensions on."""

LABEL_IGNORED, LABEL_IN_LATENT = 0.25, 0.3
"""Shares of the maximal label gain, and of the entropy of the label, below and above which they are faults."""

COPIES = 0.1
"""Share of held-out images with a copy among the training images."""

FEW_IMAGES = 30
"""Training images of a class below which a conditional model cannot learn it."""


@dataclass(frozen=True)
class Finding:
    """A fault.

    Attributes
    ----------
    key
        Its name in lower case, words joined by underscores.
    name
        Its name.
    evidence
        The measured figures that show it, in a sentence.
    remedy
        What to do about it, in a sentence; parameters are in backticks.
    change
        Fields of `ModelConfig` and `TrainConfig`, and options of `load_dataset`, with the values of the remedy; empty if it is
        not a matter of options.
    """

    key: str
    name: str
    evidence: str
    remedy: str
    change: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name[0].upper()}{self.name[1:]}. {self.evidence} {self.remedy}"


def findings(symptoms: Symptoms, config: ResolvedConfig, dataset: Dataset) -> Iterator[Finding]:
    """Yield the faults that the symptoms show: of the data, of the length of the training, then of the model."""
    yield from _of_data(symptoms, config, dataset)
    short = list(_of_budget(symptoms, config))
    yield from short or _of_model(symptoms, config, dataset)


def _default_latent(config: ResolvedConfig, dataset: Dataset) -> int:
    """Return the default number of latent dimensions for the same kind of model and the same network."""
    chosen = ModelConfig(model=config.model.model, network=config.model.network, likelihood=config.model.likelihood)
    return resolve(Config(chosen), dataset).model.latent_dim


def _of_data(symptoms: Symptoms, config: ResolvedConfig, dataset: Dataset) -> Iterator[Finding]:
    noun = "image" if len(dataset.shape) == 3 else "row"
    if symptoms.constant or len(dataset.train) == 1:
        yield Finding(
            "constant_data",
            "constant data",
            f"All {counted(len(dataset.train), f'training {noun}')} are the same.",
            f"Use different {noun}s: `vaelab data` shows what was read.",
        )
    elif symptoms.copies > COPIES:
        yield Finding(
            "copies",
            "near-duplicate data",
            f"{_percent(symptoms.copies)} of the held-out {noun}s are nearly the same as a training {noun}, so figures on them "
            f"do not tell how the model does on new {noun}s.",
            f"Keep one {noun} of each group of copies before the data are split, such as `np.unique(images, axis=0)`.",
        )
    if config.model.model == "cvae" and len(few := np.flatnonzero(symptoms.counts < FEW_IMAGES)):
        kept = [name for index, name in enumerate(dataset.classes) if symptoms.counts[index] >= FEW_IMAGES]
        simple = kept and all(re.fullmatch(r"[\w-]+", name) for name in kept)  # names that can be typed between commas
        change = {"classes": ",".join(kept)} if simple else {}
        named = [f"{dataset.classes[index]!r} ({symptoms.counts[index]:,})" for index in few]
        yield Finding(
            "small_class",
            "class with too few images",
            f"Fewer than {FEW_IMAGES} training {noun}s of {_listed(named)}.",
            "Add images of these classes" + (f", or leave them out: {_typed(change)}." if change else "."),
            change,
        )
    yield from _of_likelihood(config, dataset)


def _of_likelihood(config: ResolvedConfig, dataset: Dataset) -> Iterator[Finding]:
    used, fitting = config.model.likelihood, default_likelihood(dataset.train)
    evidence = {
        "bernoulli": f"More than {_percent(NEAR_BINARY_SHARE)} of the pixels are grey, and the bernoulli likelihood makes each "
        "of them black or white at random.",
        "two-colour": f"Two colours explain less than {_percent(TWO_COLOUR_SHARE)} of the variance of most images.",
    }
    if used != fitting and used in evidence:
        change: dict[str, Any] = {"likelihood": fitting} | ({"network": "pca"} if used == "two-colour" else {})
        yield Finding(
            "unfit_likelihood",
            "likelihood unfit for the data",
            evidence[used],
            f"Train with {_typed(change)}.",
            change,
        )


def _of_budget(symptoms: Symptoms, config: ResolvedConfig) -> Iterator[Finding]:
    if not symptoms.curve:
        return
    steps, values = np.array([step for step, _ in symptoms.curve]), np.array([value for _, value in symptoms.curve])
    half = int(np.abs(steps - steps[-1] / 2).argmin())
    fallen, saved = values[half] - values[-1], symptoms.without_latents - values[-1]
    few = steps[-1] < FEW_STEPS
    falling = len(steps) >= 4 and fallen > STILL_FALLING * abs(saved)
    if few or (falling and (config.model.model == "ae" or symptoms.rates.max() > USED_RATE)):  # else it has collapsed
        budget = config.train.budget
        change: dict[str, Any] = {budget.unit: type(budget.amount)(4 * budget.amount)}
        yield Finding(
            "short_training",
            "training too short",
            f"The weights were updated {steps[-1]:,} times only."
            if few
            else f"The validation figure was still falling: from {values[half]:,.1f} to {values[-1]:,.1f} nats in the second "
            "half of the training.",
            f"Continue it with `resume=True` and {_typed(change)}.",
            change,
        )


def _of_model(symptoms: Symptoms, config: ResolvedConfig, dataset: Dataset) -> Iterator[Finding]:
    if config.model.model != "ae":
        yield from _of_rate(symptoms, config)
        yield from _of_size(symptoms, config, dataset)
    train, held_out = (each.distortion + config.train.beta * each.rate for each in (symptoms.train, symptoms.held_out))
    least = max(GAP * abs(symptoms.without_latents - train), CLEAR * symptoms.gap_error)
    if held_out - train > least:
        yield Finding(
            "overfitting",
            "overfitting",
            f"Held-out images cost {held_out:,.1f} nats, training images {train:,.1f}; a model without latents has "
            f"{symptoms.without_latents:,.1f}.",
            f"Train on more images than these {len(dataset.train):,}; if there are none, a larger `weight_decay`, such as 3, "
            "or a smaller `width` reduces it.",
        )
    yield from _of_labels(symptoms, config, dataset)


def _of_rate(symptoms: Symptoms, config: ResolvedConfig) -> Iterator[Finding]:
    unused = np.flatnonzero(symptoms.rates <= USED_RATE)
    beta, count = config.train.beta, len(symptoms.rates)
    if len(unused) == count or (beta > 1 and len(unused) >= count / 2):
        change: dict[str, Any] = {"beta": 1.0} if beta > 1 else {"kl_warmup": 0.5, "free_bits": 0.1}
        which = "all" if len(unused) == count else f"{len(unused)} of {count}"
        places = "" if len(unused) == count else f" ({_listed([str(place) for place in unused])}, counted from 0)"
        yield Finding(
            "collapse",
            "posterior collapse",
            f"{which.capitalize()} latent dimensions{places} carry at most {USED_RATE:g} nats: the decoder does not use them"
            + (f" (`beta={beta:g}`)." if beta > 1 else "."),
            f"Train with {_typed(change)}.",
            change,
        )
    if symptoms.held_out.nats >= symptoms.without_latents and len(unused) < count:
        change = {"beta": 1.0} if beta < 1 else {"learning_rate": config.train.learning_rate / 3}
        yield Finding(
            "no_gain",
            "no better than a model without latents",
            f"−ELBO is {symptoms.held_out.nats:,.1f} nats per image, {symptoms.without_latents:,.1f} without latents"
            + (
                f": the rate of {symptoms.held_out.rate:,.1f} nats is hardly penalised (`beta={beta:g}`)."
                if beta < 1
                else "."
            ),
            f"Train with {_typed(change)}.",
            change,
        )
    train, held_out = symptoms.train.rate, symptoms.held_out.rate
    if held_out > RATE_FACTOR * train + 1:
        yield Finding(
            "held_out_rate",
            "rate too high on held-out images",
            f"The encoder places held-out images far from the prior: a rate of {held_out:,.1f} nats, where training images have "
            f"{train:,.1f}.",
            "The two sets differ, or the encoder has learned its images by heart: split all images at random, or train on more.",
        )


def _of_size(symptoms: Symptoms, config: ResolvedConfig, dataset: Dataset) -> Iterator[Finding]:
    rates, count = symptoms.rates, len(symptoms.rates)
    if config.model.network in ("ladder", "pca"):  # their latents are many by design
        return
    if rates.min() > SATURATED_RATE and 1 - symptoms.explained > UNEXPLAINED:
        change = {"latent_dim": max(2 * count, _default_latent(config, dataset))}
        yield Finding(
            "small_latent",
            "latent too small",
            f"Each of the {counted(count, 'latent dimension')} carries {rates.min():.1f} nats or more, and reconstructions miss "
            f"{_percent(1 - symptoms.explained)} of the variance.",
            f"Train with {_typed(change)}.",
            change,
        )
    needed = int(np.searchsorted(np.cumsum(-np.sort(-rates)), 0.95 * rates.sum())) + 1
    if count >= LARGE_LATENT and rates.sum() > count * USED_RATE / 10 and needed < FEW_USED * count:
        change = {"latent_dim": math.ceil(1.5 * needed)}
        yield Finding(
            "large_latent",
            "latent too large",
            f"{needed} of the {count} latent dimensions carry 95 % of the rate.",
            f"Train with {_typed(change)}, which is faster and generates better.",
            change,
        )


def _of_labels(symptoms: Symptoms, config: ResolvedConfig, dataset: Dataset) -> Iterator[Finding]:
    gain, inside = symptoms.label_gain, symptoms.label_in_latent
    smaller: dict[str, Any] = {"latent_dim": min(_default_latent(config, dataset), max(1, len(symptoms.rates) // 2))}
    if config.train.beta < 1:
        smaller = {"beta": 1.0} | smaller
    if gain is not None and gain < LABEL_IGNORED:
        informative = inside is not None and inside > LABEL_IN_LATENT
        change = smaller if informative else {"model": "vae"}
        yield Finding(
            "label_ignored",
            "label ignored",
            f"Their own label explains images hardly better than another: {_percent(max(gain, 0))} of the possible gain.",
            f"The latent says it all: train with {_typed(change)}."
            if informative
            else f"The labels say nothing about the images: check them, or train with {_typed(change)}.",
            change,
        )
    elif inside is not None and inside > LABEL_IN_LATENT:
        yield Finding(
            "label_in_latent",
            "label leaking into the latent",
            f"The latent tells {_percent(inside)} of the label, which the decoder is given anyway, so a random latent does not "
            "suit every label.",
            f"Train with {_typed(smaller)}.",
            smaller,
        )


def _typed(change: Mapping[str, Any]) -> str:
    """Return the options of a remedy as messages name them."""
    return " and ".join(f"`{name}={value!r}`" for name, value in change.items())


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
