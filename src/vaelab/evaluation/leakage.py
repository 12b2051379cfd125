"""The leakage section: information about the label in the latent of a conditional model.

The decoder of a conditional model receives the label, so the latent need not encode it.

Symbols: z the latent of a held-out image, y its label, r(y|z) a probe: a classifier that predicts y from z.

A probe bounds the mutual information from below, I(z; y) ≥ H(y) + E log r(y|z) (Barber & Agakov 2003, eq. 3), if the
expectation is over images that it was not trained on. Here the images are split into five folds; each fold is predicted by
a probe trained on the other four.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.formatting import rounded
from vaelab.evaluation.results import Estimate, Quantity, Section
from vaelab.objectives.bounds import map_held_out
from vaelab.random import generator_for

FOLDS = 5
"""Number of cross-validation folds of the held-out images."""

HIDDEN, EPOCHS, BATCH, RATE, DECAY = (128, 128), 20, 200, 2e-3, 0.1
"""Hidden layers and training of the MLP probe, chosen to overfit little; smaller batches are used for few images."""

IMAGES, QUICK_IMAGES = 10_000, 5_000

WIDE, ENOUGH = 0.2, 400
"""Width of a confidence interval of an accuracy beyond which it is not printed, and the number of images for one of 0.1."""


class Probe(NamedTuple):
    """Cross-validated results of a probe.

    Attributes
    ----------
    accuracy
        Accuracy, 0…1.
    interval
        95 % confidence interval of the accuracy (Wilson's score interval).
    information
        The lower bound on I(z; y) in nats; a negative value means no more than 0 does.
    """

    accuracy: Estimate
    interval: tuple[float, float]
    information: Estimate


def wilson_interval(hits: int, count: int, deviations: float = 1.96) -> tuple[float, float]:
    """Return Wilson's score interval of a share, 0…1 (Wilson 1927); 95 % for 1.96 standard deviations."""
    square = deviations**2
    centre = (hits + square / 2) / (count + square)
    half = deviations / (count + square) * math.sqrt(hits * (count - hits) / count + square / 4)
    return centre - half, centre + half


def label_entropy(labels: Int[np.ndarray, " n"]) -> float:
    """Return H(y) of the label frequencies, in nats: ln K if all K labels are equally frequent."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(shares * np.log(shares)).sum())


def information_bound(
    probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return the terms whose mean is H(y) + E log r(y|z), nats per image: log r(y|z) − log of the frequency of y.

    Parameters
    ----------
    probabilities
        r(y|z) for every label; each row sums to 1.
    labels
        Column index of the true label.
    """
    frequency = np.bincount(labels, minlength=probabilities.shape[1]) / len(labels)
    true_probability = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return np.log(np.maximum(true_probability, np.finfo(np.float64).tiny)) - np.log(frequency[labels])


def probe(latents: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], *, dense: bool, seed: int = 0) -> Probe:
    """Predict the labels from the latents with logistic regression, or with an MLP of two hidden layers of 128 (`dense`).

    Parameters
    ----------
    latents
        One per image, finite; each column is scaled to variance 1.
    labels
        At least two different labels, with at least `FOLDS` images each.
    seed
        Seed of the folds, the initial weights and the order.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    batch = max(8, min(BATCH, len(latents) // 50))
    classifier: Any = (
        MLPClassifier(
            HIDDEN,
            batch_size=batch,  # pyright: ignore[reportArgumentType] - its stub knows only "auto"
            alpha=DECAY,
            learning_rate_init=RATE,
            max_iter=EPOCHS,
            random_state=seed,
        )
        if dense
        else LogisticRegression(max_iter=1000)
    )
    columns = np.unique(labels, return_inverse=True)[1]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    # The matrix products are small: two threads mostly wait for each other, up to ten times as long on a busy machine.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed on purpose
        predicted: Any = cross_val_predict(
            make_pipeline(StandardScaler(), classifier), latents, columns, cv=folds, method="predict_proba"
        )
    hits = int((predicted.argmax(1) == columns).sum())
    information = Estimate.of(information_bound(np.asarray(predicted, dtype=np.float64), columns))
    return Probe(Estimate.of_share(hits, len(labels)), wilson_interval(hits, len(labels)), information)


def leakage_section(context: EvaluationContext) -> Section:
    """Probe the latents of held-out images for the label, with a linear model and an MLP."""
    key, title = "leakage", "Label information in the latent"
    if not context.model.conditional:
        reason = f"This model ({context.model.kind}) is not given the label, so its latent is meant to encode it."
        return Section(key, title, left_out=reason)
    labels = context.held_out.labels
    assert labels is not None
    classes, counts = np.unique(labels, return_counts=True)
    used = np.flatnonzero(np.isin(labels, classes[counts >= FOLDS]))
    used = _first(used, labels, QUICK_IMAGES if context.settings.quick else IMAGES)
    if len(np.unique(labels[used])) < 2:
        reason = (
            f"The probes need at least two classes with at least {FOLDS} {context.split} images each; the classes have "
            f"{_sizes(counts)} image{'s' * (counts.tolist() != [1])}."
        )
        return Section(key, title, left_out=reason)
    encoded = context.model.encode(
        context.held_out.images, context.labels.numpy() if context.labels is not None else None
    )
    draws, means = (latents[used].astype(np.float64) for latents in (_draws(context), encoded.mean))
    seed = context.settings.seed
    found: dict[str, Probe] = {}
    for done, (name, latents, dense) in enumerate(
        (("linear_probe", draws, False), ("dense_probe", draws, True), ("dense_probe_of_means", means, True))
    ):
        if context.settings.quick and latents is means:
            continue
        context.work("probing the latents", done, 3)
        found[name] = probe(latents, labels[used], dense=dense, seed=seed)
    context.work("probing the latents", 3, 3)
    return Section(key, title, _words(found, labels[used], len(labels)), _quantities(found, labels[used]))


def _first(used: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the first `count` indices, without classes that have fewer than `FOLDS` images among them."""
    first = used[:count]
    classes, counts = np.unique(labels[first], return_counts=True)
    return first[np.isin(labels[first], classes[counts >= FOLDS])]


@torch.inference_mode()
def _draws(context: EvaluationContext) -> np.ndarray:
    """Draw z once from the posterior of every held-out image, float32 (N, d); level by level in a hierarchical model."""
    model, levels, labels = context.model.model, context.levels, context.labels
    noise = torch.randn(len(levels), model.latent_dim, generator=generator_for("leakage", context.settings.seed, 0))

    parts = map_held_out(model, levels, labels, lambda part, _, infer: infer(noise[part]).latent)
    return torch.cat(parts).numpy()


def _sizes(counts: np.ndarray) -> str:
    return ", ".join(str(count) for count in counts[:5]) + (", …" if len(counts) > 5 else "")


def _quantities(found: dict[str, Probe], labels: np.ndarray) -> tuple[Quantity, ...]:
    chance = 100 * float(np.unique(labels, return_counts=True)[1].max() / len(labels))
    entropy = label_entropy(labels)
    shown = []
    for key, one in found.items():
        name, what = NAMES[key]
        low, high = one.interval
        beside = (
            ("chance: always predict the most frequent label", chance),
            ("95 % interval, lower end", 100 * low),
            ("95 % interval, upper end", 100 * high),
        )
        accuracy = one.accuracy
        shown.append(
            Quantity(
                key,
                name,
                100 * accuracy.value,
                "%",
                f"{PROBED} {what} The interval is Wilson's score interval.",
                100 * accuracy.error,
                accuracy.count,
                "lower",
                beside,
            )
        )
    information = found["dense_probe"].information
    beside = (
        ("H(y), the maximum", entropy),
        ("by the linear probe", found["linear_probe"].information.value),
    )
    shown.append(
        Quantity(
            "label_information",
            "label information in the latent, lower bound",
            information.value,
            "nats per image",
            INFORMATION,
            information.error,
            information.count,
            "lower",
            beside,
        )
    )
    return tuple(shown)


def _words(found: dict[str, Probe], labels: np.ndarray, count: int) -> tuple[str, ...]:
    linear, dense = found["linear_probe"], found["dense_probe"]
    chance = 100 * float(np.unique(labels, return_counts=True)[1].max() / len(labels))
    low, high = (100 * end for end in dense.interval)
    nats = dense.information
    certainty = f"95 % interval {low:.1f} to {high:.1f} %"
    if high - low > 100 * WIDE:
        certainty = f"uncertain: {len(labels)} images are too few, about {ENOUGH} give it within ±5 percentage points"
    words = [
        f"From z alone, an MLP probe predicts {100 * dense.accuracy.value:.1f} % of the labels correctly ({certainty}), a linear "
        f"probe {100 * linear.accuracy.value:.1f} %; chance is {chance:.1f} %.",
    ]
    if nats.value > 2 * nats.error:
        words.append(
            f"So z contains at least {nats.value:.2f} ± {nats.error:.2f} of the {label_entropy(labels):.2f} nats of the label. "
            "The latent and the label are then not independent: a z drawn from the prior may suit some labels better than "
            "others."
        )
    elif low > chance:
        words.append(
            f"The accuracy is above chance (95 % interval {low:.1f} to {high:.1f} %), so z contains information about the label. "
            f"Its amount in nats cannot be told: the lower bound is {rounded(nats.value, nats.error)}."
        )
    else:
        words.append(
            "The probes find no label information in z. This does not prove that there is none: the estimate is a lower bound."
        )
    if len(labels) < count:
        words.append(f"{len(labels):,} of {count:,} held-out images were used.")
    return tuple(words)


PROBED = (
    f"Accuracy of a probe that predicts the label from the latent of held-out images, by {FOLDS}-fold cross-validation. "
    "Chance level is the goal."
)

NAMES = {
    "linear_probe": (
        "linear probe",
        "Logistic regression on one draw of z from q(z|x, y), the decoder's input.",
    ),
    "dense_probe": (
        "MLP probe",
        "An MLP with two hidden layers of 128 on one draw of z from q(z|x, y), the decoder's input.",
    ),
    "dense_probe_of_means": (
        "MLP probe of the posterior mean",
        "The same MLP on the mean of q(z|x, y), as returned by `transform`; without the sampling noise it contains slightly "
        "more information.",
    ),
}

INFORMATION = (
    "Lower bound on the mutual information of z and the label: H(y) minus the cross-entropy of the MLP probe on images that "
    "it was not trained on (Barber & Agakov 2003). 0 is the goal; a negative value means no more than 0 does."
)
