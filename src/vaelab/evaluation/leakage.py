"""Leakage: what the latent of a conditional model still says of the label, which it is given and need not keep.

Symbols: z the latent of a held-out image, y its label, r(y|z) a probe: a classifier that reads y from z.

Any probe bounds the mutual information from below, I(z; y) ≥ H(y) + E log r(y|z) (Barber & Agakov 2003, eq. 3), if it is
asked about images that it did not learn from. Here every image is asked about once, by a probe that learnt from the other
four fifths.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from vaelab.evaluation.context import Subject
from vaelab.evaluation.results import Estimate, Quantity, Section
from vaelab.memory import map_batches
from vaelab.objectives.batch import to_unit
from vaelab.objectives.bounds import images_at_once
from vaelab.random import generator_for

FOLDS = 5
"""Parts of the held-out images: a probe learns from all but one, and is asked about that one."""

HIDDEN, EPOCHS, BATCH, RATE, DECAY = (128, 128), 20, 200, 2e-3, 0.1
"""The dense probe: its layers, and a training that few images do not overfit much (smaller batches for fewer)."""

IMAGES, QUICK_IMAGES = 10_000, 5_000


class Probe(NamedTuple):
    """What a probe read, on images that it did not learn from.

    Attributes
    ----------
    accuracy
        Share that it read right, 0…1.
    interval
        95 % interval of the accuracy, by Wilson's score.
    information
        The lower bound on I(z; y) in nats; below 0 it says no more than 0 does.
    """

    accuracy: Estimate
    interval: tuple[float, float]
    information: Estimate


def wilson_interval(hits: int, count: int, deviations: float = 1.96) -> tuple[float, float]:
    """Interval of a share, 0…1, by Wilson's score (Wilson 1927): 95 % for 1.96 standard deviations."""
    square = deviations**2
    centre = (hits + square / 2) / (count + square)
    half = deviations / (count + square) * math.sqrt(hits * (count - hits) / count + square / 4)
    return centre - half, centre + half


def label_entropy(labels: Int[np.ndarray, " n"]) -> float:
    """H(y) of the labels' own frequencies, in nats: ln K if all are equally frequent."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(shares * np.log(shares)).sum())


def information_bound(
    probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The terms whose mean is H(y) + E log r(y|z), nats, one per image: log r(y|z) − log of the frequency of y.

    Parameters
    ----------
    probabilities
        r(y|z) of every label, each row sums to 1.
    labels
        Columns of the true ones.
    """
    frequency = np.bincount(labels, minlength=probabilities.shape[1]) / len(labels)
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return np.log(np.maximum(given, np.finfo(np.float64).tiny)) - np.log(frequency[labels])


def probe(latents: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], *, dense: bool, seed: int = 0) -> Probe:
    """A probe of the labels from the latents: logistic regression, or a network of two hidden layers of 128.

    Parameters
    ----------
    latents
        One per image, finite; every column is scaled to variance 1.
    labels
        At least `FOLDS` of each that occurs, and at least two that occur.
    seed
        Of the parting, the initial weights and the order.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    batch = max(8, min(BATCH, len(latents) // 50))
    reader: Any = (
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
    # Its products are small: on two threads they only wait for each other, for ten times as long where other work runs.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the passes are fixed on purpose
        read: Any = cross_val_predict(
            make_pipeline(StandardScaler(), reader), latents, columns, cv=folds, method="predict_proba"
        )
    hits = int((read.argmax(1) == columns).sum())
    information = Estimate.of(information_bound(np.asarray(read, dtype=np.float64), columns))
    return Probe(Estimate.of_share(hits, len(labels)), wilson_interval(hits, len(labels)), information)


def leakage_section(subject: Subject) -> Section:
    """A linear and a dense probe of the label from the latents of held-out images, and the information that they find."""
    key, title = "leakage", "What the latent says of the label"
    if not subject.model.conditional:
        reason = f"This model ({subject.model.kind}) is given no label: its latent has to hold it, and it is no leak."
        return Section(key, title, left_out=reason)
    labels = subject.held_out.labels
    assert labels is not None
    classes, counts = np.unique(labels, return_counts=True)
    used = np.flatnonzero(np.isin(labels, classes[counts >= FOLDS]))
    used = _first(used, labels, QUICK_IMAGES if subject.settings.quick else IMAGES)
    if len(np.unique(labels[used])) < 2:
        reason = (
            f"A probe needs two classes of at least {FOLDS} {subject.split} images each; these have {_sizes(counts)}."
        )
        return Section(key, title, left_out=reason)
    encoded = subject.model.encode(
        subject.held_out.images, subject.labels.numpy() if subject.labels is not None else None
    )
    draws, means = (latents[used].astype(np.float64) for latents in (_draws(subject), encoded.mean))
    seed = subject.settings.seed
    found: dict[str, Probe] = {}
    for done, (name, latents, dense) in enumerate(
        (("linear_probe", draws, False), ("dense_probe", draws, True), ("dense_probe_of_means", means, True))
    ):
        if subject.settings.quick and latents is means:
            continue
        subject.work("probing the latents", done, 3)
        found[name] = probe(latents, labels[used], dense=dense, seed=seed)
    subject.work("probing the latents", 3, 3)
    return Section(key, title, _words(found, labels[used], len(labels)), _quantities(found, labels[used]))


def _first(used: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The first so many images, but of classes that are frequent enough among them alone."""
    first = used[:count]
    classes, counts = np.unique(labels[first], return_counts=True)
    return first[np.isin(labels[first], classes[counts >= FOLDS])]


@torch.inference_mode()
def _draws(subject: Subject) -> np.ndarray:
    """One draw of z of every held-out image as the decoder sees it, float32 (N, d): of a ladder, rung by rung."""
    model, levels, labels = subject.model.model, subject.levels, subject.labels
    noise = torch.randn(len(levels), model.latent_dim, generator=generator_for("leakage", subject.settings.seed, 0))

    def drawn(part: slice) -> torch.Tensor:
        return model(to_unit(levels[part]), None if labels is None else labels[part], noise[part]).latent

    return torch.cat(map_batches(len(noise), images_at_once(model.shape), drawn)).numpy()


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
            ("chance: always the most frequent label", chance),
            ("95 % interval, from", 100 * low),
            ("95 % interval, to", 100 * high),
        )
        accuracy = one.accuracy
        shown.append(
            Quantity(
                key,
                name,
                100 * accuracy.value,
                "%",
                f"{PROBED} {what} The interval is Wilson's.",
                100 * accuracy.error,
                accuracy.count,
                "lower",
                beside,
            )
        )
    best = found["dense_probe"].information
    beside = (
        ("H(y), all there is to know", entropy),
        ("by the linear probe", found["linear_probe"].information.value),
    )
    shown.append(
        Quantity(
            "label_information",
            "information on the label in the latent, at least",
            best.value,
            "nats per image",
            INFORMATION,
            best.error,
            best.count,
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
    words = [
        f"From z alone a dense probe reads {100 * dense.accuracy.value:.1f} % of the labels right (95 % interval {low:.1f} to "
        f"{high:.1f} %), a linear one {100 * linear.accuracy.value:.1f} %; guessing reads {chance:.1f} %.",
    ]
    if nats.value > 2 * nats.error:
        words.append(
            f"So z holds at least {nats.value:.2f} ± {nats.error:.2f} of the {label_entropy(labels):.2f} nats of the label: "
            "where it leaks, a style drawn from the prior may suit some labels better than others."
        )
    else:
        words.append(
            "It finds no information on the label in z. That is no proof that there is none: the bound is from below."
        )
    if len(labels) < count:
        words.append(f"{len(labels):,} of {count:,} held-out images were used.")
    return tuple(words)


PROBED = (
    f"Accuracy of a probe that reads the label from the latent of held-out images, in {FOLDS} parts, each read by a probe that "
    "learnt from the others. Chance is the goal."
)

NAMES = {
    "linear_probe": (
        "linear probe",
        "Logistic regression on one draw of z from q(z|x, y), as the decoder sees it.",
    ),
    "dense_probe": (
        "dense probe",
        "A network of two hidden layers of 128 on one draw of z from q(z|x, y), as the decoder sees it.",
    ),
    "dense_probe_of_means": (
        "dense probe of the posterior's mean",
        "The same network on the mean of q(z|x, y), as `transform` gives it: without the noise it says a little more.",
    ),
}

INFORMATION = (
    "A lower bound on the mutual information of z and the label: H(y) less the cross-entropy of the dense probe on images that "
    "it did not learn from (Barber & Agakov 2003). 0 is the goal; a figure below 0 says no more than 0 does."
)
