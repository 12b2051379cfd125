"""The style section: whether one latent is one hand under every label, and what of a hand the latent holds.

Style is what `vaelab.evaluation.style` measures on the pixels, slant and stroke width; on drawn data whose true factors are
known, those as well (`vaelab.evaluation.disentanglement`).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vaelab.data.dataset import default_likelihood
from vaelab.evaluation.context import Subject
from vaelab.evaluation.disentanglement import Readout, boosted_readout, held_out_r2, information_gaps
from vaelab.evaluation.results import Bars, Matrix, Plot, Quantity, Section, Sheet
from vaelab.evaluation.style import slant, stroke_width

MEASURES = {"slant": ("slant", slant), "width": ("stroke width", stroke_width)}

IMAGES, QUICK_IMAGES = 10_000, 1_000
"""Held-out images that are measured and read out, at the most."""

LATENTS, QUICK_LATENTS = 1_000, 200
"""Points of the prior that are decoded under every label."""

BOOSTED, QUICK_BOOSTED = 4_000, 1_000
"""Images for the boosted trees of DCI, at the most."""

TOLD = 0.1
"""R² from which a factor counts as one that z tells of."""

MOST_LABELS = 20
"""Labels that a point is decoded under, at the most, spread evenly over all."""

LEAST_IMAGES = 50
"""For a readout; and twice as many as it has weights."""

NO_FACTORS = frozenset({"variant"})
"""What is drawn with the data but is no quantity: which skeleton it was."""

RESAMPLED = 200
STEPS = np.linspace(-2.4, 2.4, 9)


def correlation_across(values: Float[np.ndarray, "n k"]) -> float:
    """Mean of Pearson's correlations between all pairs of columns, over rows; NaN where no two columns vary.

    Parameters
    ----------
    values
        What was measured of N latents, each decoded under K labels.
    """
    varying = values[:, values.std(0) > 0]
    if varying.shape[1] < 2 or len(varying) < 3:
        return float("nan")
    return float(np.corrcoef(varying.T)[np.triu_indices(varying.shape[1], 1)].mean())


def growing_direction(z: Float[np.ndarray, "n d"], values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " d"]:
    """The unit vector along which `values` grow fastest, by least squares over draws of N(0, I); 0 where they do not vary."""
    slope = np.linalg.lstsq(z - z.mean(0), values - values.mean(), rcond=None)[0]
    return slope / max(float(np.linalg.norm(slope)), np.finfo(np.float64).tiny)


def style_section(subject: Subject) -> Section:
    """Style across labels, in the latent, and the true factors where they are known."""
    key, title = "style", "Style"
    if len(subject.dataset.shape) != 3 or default_likelihood(subject.held_out) != "bernoulli":
        reason = (
            "slant and stroke width are measured on drawings: grey images that are black and white nearly everywhere"
        )
        return Section(key, title, left_out=f"{reason}; {subject.dataset.name} has other data")
    found = [_generated(subject), *_held_out(subject)]
    return Section(
        key,
        title,
        tuple(word for part in found for word in part.words),
        tuple(quantity for part in found for quantity in part.quantities),
        tuple(plot for part in found for plot in part.plots),
    )


def _part(words: list[str], quantities: list[Quantity], plots: tuple[Plot, ...] = ()) -> Section:
    """A part of the section, to be joined with the others."""
    return Section("style", "", tuple(words), tuple(quantities), plots)


def _measured(subject: Subject, images: np.ndarray) -> Float[np.ndarray, "n 2"]:
    """Slant and width of images (N, H, W), turned to light on black where the data are dark on white."""
    white = np.median(subject.held_out.images) > 127
    return np.stack([measure(255 - images if white else images) for _, measure in MEASURES.values()], axis=1)


def _generated(subject: Subject) -> Section:
    """What changes with z alone: the correlation across labels, and the direction along which each measure grows."""
    model, settings = subject.model, subject.settings
    count = QUICK_LATENTS if settings.quick else LATENTS
    z = model.latents(count, seed=settings.seed)
    labels = _labels(len(model.classes)) if model.conditional else [None]
    under = []
    for done, label in enumerate(labels):
        subject.work("measuring style", done, len(labels))
        images = model.decode(z, None if label is None else np.full(count, label))
        under.append(_measured(subject, images))
    subject.work("measuring style", len(labels), len(labels))
    values = np.stack(under, axis=1)  # (count, labels, measures)
    words, quantities = _across(values, settings.seed) if model.conditional else ([], [])
    of_hand = (values - values.mean(0)).mean(1)
    plots: list[Plot] = []
    grown = []
    for column, (key, (name, _)) in enumerate(MEASURES.items()):
        direction = growing_direction(z.astype(np.float64), of_hand[:, column])
        axis = int(np.abs(direction).argmax())
        grown.append(f"{name} along {'−' if direction[axis] < 0 else ''}z{axis} ({abs(direction[axis]):.2f})")
        axes = tuple(f"z{i}" for i in range(len(direction)))
        title = f"The direction in which {name} grows (a unit vector)"
        plots.append(
            Bars(f"{key}_direction", title, "latent dimension", "its part in the direction", axes, direction.tolist())
        )
        plots.append(_walk(subject, key, name, direction, labels))
    words.append(f"By dimension, {' and '.join(grown)} grow fastest; 1 would be along that dimension alone.")
    return _part(words, quantities, tuple(plots))


def _labels(classes: int) -> list[int]:
    return sorted(set(np.linspace(0, classes - 1, min(classes, MOST_LABELS)).astype(int).tolist()))


def _across(values: np.ndarray, seed: int) -> tuple[list[str], list[Quantity]]:
    """The correlation across labels of each measure, with the standard error of a bootstrap over z."""
    rng = np.random.default_rng(seed)
    count, labels, _ = values.shape
    shown, said = [], []
    for column, (key, (name, _)) in enumerate(MEASURES.items()):
        here = values[..., column]
        value = correlation_across(here)
        error = float(np.std([correlation_across(here[rng.integers(0, count, count)]) for _ in range(RESAMPLED)]))
        definition = ACROSS.format(name=name, labels=labels)
        shown.append(
            Quantity(f"{key}_correlation", f"{name} across labels", value, "", definition, error, count, "higher")
        )
        said.append(f"{name} at {value:.3f} ± {error:.3f}")
    words = (
        f"One z decoded under {labels} labels is one hand: across labels correlate {' and '.join(said)} (1 is perfect)."
    )
    return [words], shown


def _walk(subject: Subject, key: str, name: str, direction: np.ndarray, labels: list[int] | list[None]) -> Sheet:
    """Images along a direction, a row for each of a few labels."""
    points = np.outer(STEPS, direction).astype(np.float32)
    chosen = [labels[i] for i in sorted({*np.linspace(0, len(labels) - 1, min(5, len(labels))).astype(int).tolist()})]
    rows = [subject.model.decode(points, None if label is None else np.full(len(points), label)) for label in chosen]
    names = tuple("" if label is None else subject.model.classes[label] for label in chosen)
    captions = tuple(f"{step:+.1f}".replace("-", "−") if abs(step) > 1e-9 else "0" for step in STEPS)
    title = f"Along the direction in which {name} grows"
    return Sheet(f"{key}_walk", title, tuple(rows), names, (captions,) * len(rows))


def _held_out(subject: Subject) -> list[Section]:
    """What a linear readout of z finds in held-out images: slant and width, and the true factors."""
    settings, split, width = subject.settings, subject.held_out, subject.model.model.latent_dim
    most = QUICK_IMAGES if settings.quick else IMAGES
    chosen = np.random.default_rng(settings.seed).permutation(len(split))[:most]
    least = max(LEAST_IMAGES, 2 * (width + len(subject.dataset.classes)))
    if len(chosen) < least:
        few = f"What z holds of style was not read out: {len(chosen)} {subject.split} images are fewer than {least}."
        return [_part([few], [])]
    subject.work("reading style out", 0, 1)
    encoded = subject.model.encode(split.images, None if subject.labels is None else subject.labels.numpy())
    codes = encoded.mean[chosen].astype(np.float64)
    labels = None if split.labels is None else np.eye(len(subject.dataset.classes))[split.labels[chosen]]
    found = [_readout(subject, codes, labels, split.images[chosen, 0])]
    factors = {name: values[chosen] for name, values in split.factors.items() if name not in NO_FACTORS}
    if factors:
        found.append(_factors(subject, codes, labels, factors))
    subject.work("reading style out", 1, 1)
    return found


def _readout(subject: Subject, codes: np.ndarray, labels: np.ndarray | None, images: np.ndarray) -> Section:
    """R² of slant and width of held-out images, from z alone and with the label."""
    measured = _measured(subject, images)
    alone, beside = _with_labels(codes, labels, measured, subject.settings.seed)
    quantities, said = [], []
    for column, (key, (name, _)) in enumerate(MEASURES.items()):
        more = () if beside is None else ((WITH_LABEL, float(beside[column])),)
        quantities.append(
            Quantity(
                f"{key}_readout",
                f"{name} in z, R²",
                float(alone[column]),
                "",
                READ_OUT.format(name=name),
                None,
                len(codes),
                "higher",
                more,
            )
        )
        said.append(f"{_percent(float(alone[column]))} of the {name}")
    words = f"A linear readout of z explains {' and '.join(said)} of held-out images"
    if beside is not None:
        words += f"; with the label beside z {' and '.join(_percent(float(share)) for share in beside)}"
    return _part([words + "."], quantities)


def _with_labels(
    codes: np.ndarray, labels: np.ndarray | None, targets: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """R² of each target from the codes, and from codes and labels (one-hot) together where there are labels."""
    alone = held_out_r2(codes, targets, seed=seed)
    return alone, None if labels is None else held_out_r2(np.concatenate([codes, labels], axis=1), targets, seed=seed)


def _factors(subject: Subject, codes: np.ndarray, labels: np.ndarray | None, factors: dict[str, np.ndarray]) -> Section:
    """The true factors: R² of each, the mutual information gap, and DCI."""
    settings, names = subject.settings, tuple(factors)
    values = np.stack(list(factors.values()), axis=1).astype(np.float64)
    alone, beside = _with_labels(codes, labels, values, settings.seed)
    gaps = information_gaps(codes, values)
    boosted = QUICK_BOOSTED if settings.quick else BOOSTED
    trees = boosted_readout(codes[:boosted], values[:boosted], seed=settings.seed)
    scores = _scores(trees, gaps)
    told = trees.informativeness >= TOLD
    least = _scores(trees.over(told), gaps[told]) if told.any() else None
    count = min(boosted, len(codes))
    quantities = [
        Quantity(
            f"factor_{name}",
            f"true {name} in z, R²",
            float(alone[i]),
            "",
            READ_OUT.format(name=f"true {name}"),
            None,
            len(codes),
            "higher",
            (
                *(() if beside is None else ((WITH_LABEL, float(beside[i])),)),
                ("by boosted trees of z", float(trees.informativeness[i])),
            ),
        )
        for i, name in enumerate(names)
    ]
    of_told = f"over the {told.sum()} factors that z tells to {100 * TOLD:.0f} % or more"
    quantities += [
        Quantity(
            key,
            name,
            scores[key],
            "",
            definition,
            None,
            len(codes) if key == "mutual_information_gap" else count,
            "higher",
            () if least is None else ((of_told, least[key]),),
        )
        for key, (name, definition) in SCORES.items()
    ]
    said = [f"{names[i]} {_percent(float(alone[i]))}" for i in np.argsort(-alone)]
    words = [
        f"Of the {len(names)} factors that the drawings were made with, a linear readout of z explains: {', '.join(said[:4])}; "
        f"least {said[-1]}.",
        "That a factor has a dimension of its own is rare without being asked for: mutual information gap "
        f"{scores['mutual_information_gap']:.2f}, disentanglement {scores['disentanglement']:.2f}, completeness "
        f"{scores['completeness']:.2f}; 1 is perfect.",
    ]
    axes = tuple(f"z{axis}" for axis in range(codes.shape[1]))
    shares = np.maximum(alone, 0).tolist()
    plots = (
        Bars("factor_readout", "True factors in z, by a linear readout", "factor", "R²", names, shares),
        Bars("information_gaps", "Mutual information gap", "factor", "share of its entropy", names, gaps.tolist()),
        Matrix(
            "factor_importance",
            "Importance of each latent dimension for each factor",
            "factor",
            "latent dimension",
            names,
            trees.importance.T,
            axes,
        ),
    )
    return _part(words, quantities, plots)


def _scores(trees: Readout, gaps: np.ndarray) -> dict[str, float]:
    """The figures of `SCORES` over the factors of `trees`; one that is the same for all images is passed over."""
    return {
        "mutual_information_gap": float(gaps[np.isfinite(gaps)].mean()),
        "disentanglement": trees.disentanglement,
        "completeness": trees.completeness,
        "informativeness": float(trees.informativeness[np.isfinite(trees.informativeness)].mean()),
    }


def _percent(share: float) -> str:
    return f"{100 * max(0.0, share):.0f} %"


WITH_LABEL = "of z and the label"
ACROSS = (
    "{name} of the images decoded from one z under {labels} labels: the mean of Pearson's correlations between all pairs of "
    "labels, over draws of z from N(0, I). Measured on the decoder's mean. The error is a bootstrap's over z."
)
READ_OUT = (
    "Share of the variance of the {name} of held-out images that a linear readout of z explains (z: the posterior's mean), each "
    "image asked about by a readout that learnt from four fifths of the others."
)
SCORES = {
    "mutual_information_gap": (
        "mutual information gap",
        "How much more the best latent dimension tells of a factor than the second best, as a share of the factor's entropy, "
        "averaged over factors (Chen et al. 2018, eq. 6): posterior means and factors in 20 bins of equally many images.",
    ),
    "disentanglement": (
        "DCI: disentanglement",
        "Whether each latent dimension tells of one factor alone, 0 to 1, by the importances of gradient-boosted trees "
        "(Eastwood & Williams 2018). Factors that z does not tell of count as spread over all dimensions.",
    ),
    "completeness": (
        "DCI: completeness",
        "Whether each factor is told by one latent dimension alone, 0 to 1, by the same trees, averaged over factors.",
    ),
    "informativeness": (
        "DCI: informativeness",
        "Share of the factors' variance that the same trees explain in images that they did not learn from, R², averaged.",
    ),
}
