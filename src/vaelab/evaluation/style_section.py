"""The style section: whether a latent gives the same style under every label, and how much of the style it encodes.

Style is slant and stroke width, as measured on the pixels by `vaelab.evaluation.style`. For data with known true factors,
these are measured as well (`vaelab.evaluation.disentanglement`).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vaelab.data.dataset import default_likelihood
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.disentanglement import Readout, boosted_readout, held_out_r2, information_gaps
from vaelab.evaluation.results import Bars, Matrix, Plot, Quantity, Section, Sheet, joined
from vaelab.evaluation.style import MEASURES, dark_on_white, measured
from vaelab.inference.latents import latent_name

IMAGES, QUICK_IMAGES = 10_000, 1_000
"""Maximum number of held-out images."""

LATENTS, QUICK_LATENTS = 1_000, 200
"""Number of points drawn from the prior and decoded under every label."""

BOOSTED, QUICK_BOOSTED = 4_000, 1_000
"""Maximum number of images for the boosted trees of DCI."""

INFORMATIVE = 0.1
"""R² above which a factor counts as encoded in z."""

MOST_LABELS = 20
"""Maximum number of labels under which a point is decoded, spread evenly over all."""

LEAST_IMAGES = 50
"""Minimum number of images for a regression; at least twice the number of its coefficients is needed as well."""

NO_FACTORS = frozenset({"variant"})
"""Entries of `factors` that are not numeric: which skeleton was drawn."""

RESAMPLED = 200
"""Number of bootstrap samples."""

STEPS = np.linspace(-2.4, 2.4, 9)
"""Positions, in σ, of the images decoded along a direction."""


def correlation_across(values: Float[np.ndarray, "n k"]) -> float:
    """Return the mean Pearson correlation over all pairs of columns; NaN if fewer than two columns vary.

    Parameters
    ----------
    values
        A measure of N latents, each decoded under K labels.
    """
    varying = values[:, values.std(0) > 0]
    if varying.shape[1] < 2 or len(varying) < 3:
        return float("nan")
    return float(np.corrcoef(varying.T)[np.triu_indices(varying.shape[1], 1)].mean())


def growing_direction(z: Float[np.ndarray, "n d"], values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " d"]:
    """Return the unit vector along which `values` increase fastest, by least squares over z; 0 if they do not vary."""
    slope = np.linalg.lstsq(z - z.mean(0), values - values.mean(), rcond=None)[0]
    return slope / max(float(np.linalg.norm(slope)), np.finfo(np.float64).tiny)


def style_section(context: EvaluationContext) -> Section:
    """Measure the style across labels and in the latent, and the true factors if they are known."""
    key, title = "style", "Style"
    if len(context.dataset.shape) != 3 or default_likelihood(context.held_out) != "bernoulli":
        reason = (
            "Slant and stroke width are measured on drawings, grey images that are nearly everywhere black or white; "
            f"{context.dataset.name} has other data."
        )
        return Section(key, title, left_out=reason)
    return joined(key, title, [_generated(context), *_held_out(context)])


def _part(words: list[str], quantities: list[Quantity], plots: tuple[Plot, ...] = ()) -> Section:
    """Return a part of the section, to be joined with the others."""
    return Section("style", "", tuple(words), tuple(quantities), plots)


def _generated(context: EvaluationContext) -> Section:
    """Style of generated images: the correlation across labels, and the direction in z along which each measure increases."""
    model, settings = context.model, context.settings
    count = QUICK_LATENTS if settings.quick else LATENTS
    z = model.latents(count, seed=settings.seed)
    labels = _spread(len(model.classes), MOST_LABELS) if model.conditional else [None]
    inverted, measures = dark_on_white(context.held_out.images), []
    for done, label in enumerate(labels):
        context.work("measuring style", done, len(labels))
        images = model.decode(z, None if label is None else np.full(count, label))
        measures.append(measured(images, inverted=inverted))
    context.work("measuring style", len(labels), len(labels))
    values = np.stack(measures, axis=1)  # (count, labels, measures)
    words, quantities = _across(values, settings.seed) if len(labels) > 1 else ([], [])
    style = (values - values.mean(0)).mean(1)  # averaged over labels
    plots: list[Plot] = []
    directions = []
    for column, (key, (name, _)) in enumerate(MEASURES.items()):
        direction = growing_direction(z.astype(np.float64), style[:, column])
        axis = int(np.abs(direction).argmax())
        directions.append(
            f"{name} along {'−' if direction[axis] < 0 else ''}{latent_name(axis)} ({abs(direction[axis]):.2f})"
        )
        axes = tuple(map(latent_name, range(len(direction))))
        title = f"Direction of increasing {name} (unit vector)"
        plots.append(Bars(f"{key}_direction", title, "latent dimension", "component", axes, direction.tolist()))
        plots.append(_walk(context, key, name, direction, labels))
    words.append(
        f"Dimension with the largest component in the direction of fastest increase: {' and '.join(directions)}; 1 means that "
        "the direction is that dimension alone."
    )
    return _part(words, quantities, tuple(plots))


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers 0…count − 1, spread evenly."""
    return np.linspace(0, count - 1, min(count, most)).astype(int).tolist()


def _across(values: np.ndarray, seed: int) -> tuple[list[str], list[Quantity]]:
    """Correlation of each measure across labels, with a bootstrap standard error over z."""
    rng = np.random.default_rng(seed)
    count, labels, _ = values.shape
    quantities, parts = [], []
    for column, (key, (name, _)) in enumerate(MEASURES.items()):
        measure = values[..., column]
        value = correlation_across(measure)
        error = float(np.std([correlation_across(measure[rng.integers(0, count, count)]) for _ in range(RESAMPLED)]))
        definition = ACROSS.format(name=name, labels=labels)
        quantities.append(
            Quantity(f"{key}_correlation", f"{name} across labels", value, "", definition, error, count, "higher")
        )
        parts.append(f"{value:.3f} ± {error:.3f} for {name}")
    words = (
        f"For the same z decoded under {labels} labels, the correlation of style across labels is {' and '.join(parts)} "
        "(1 is perfect)."
    )
    return [words], quantities


def _walk(
    context: EvaluationContext, key: str, name: str, direction: np.ndarray, labels: list[int] | list[None]
) -> Sheet:
    """Decode points along a direction, one row per label, for at most five labels."""
    points = np.outer(STEPS, direction).astype(np.float32)
    chosen = [labels[i] for i in _spread(len(labels), 5)]
    rows = [context.model.decode(points, None if label is None else np.full(len(points), label)) for label in chosen]
    names = tuple("" if label is None else context.model.classes[label] for label in chosen)
    captions = tuple(f"{step:+.1f}".replace("-", "−") if abs(step) > 1e-9 else "0" for step in STEPS)
    title = f"Decoded images along the direction of increasing {name}"
    return Sheet(f"{key}_walk", title, tuple(rows), names, (captions,) * len(rows))


def _held_out(context: EvaluationContext) -> list[Section]:
    """Linear regression of slant, width and the true factors of held-out images on z."""
    settings, split, width = context.settings, context.held_out, context.model.model.latent_dim
    most = QUICK_IMAGES if settings.quick else IMAGES
    chosen = np.random.default_rng(settings.seed).permutation(len(split))[:most]
    least = max(LEAST_IMAGES, 2 * (width + len(context.dataset.classes)))
    if len(chosen) < least:
        few = f"Style in z was not measured: {len(chosen)} {context.split} images are fewer than {least}."
        return [_part([few], [])]
    context.work("predicting style from z", 0, 1)
    encoded = context.model.encode(split.images, None if context.labels is None else context.labels.numpy())
    codes = encoded.mean[chosen].astype(np.float64)
    labels = None if split.labels is None else np.eye(len(context.dataset.classes))[split.labels[chosen]]
    found = [_readout(context, codes, labels, split.images[chosen, 0])]
    factors = {name: values[chosen] for name, values in split.factors.items() if name not in NO_FACTORS}
    if factors:
        found.append(_factors(context, codes, labels, factors))
    context.work("predicting style from z", 1, 1)
    return found


def _readout(context: EvaluationContext, codes: np.ndarray, labels: np.ndarray | None, images: np.ndarray) -> Section:
    """R² of slant and width of held-out images, from z alone and from z with the label."""
    measures = measured(images, inverted=dark_on_white(context.held_out.images))
    alone, with_label = _with_labels(codes, labels, measures, context.settings.seed)
    quantities, parts = [], []
    for column, (key, (name, _)) in enumerate(MEASURES.items()):
        more = () if with_label is None else ((WITH_LABEL, float(with_label[column])),)
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
        parts.append(f"{_percent(float(alone[column]))} of the variance of {name}")
    words = f"On held-out images, a linear regression on z explains {' and '.join(parts)}"
    if with_label is not None:
        words += f"; with the label added to z, {' and '.join(_percent(float(share)) for share in with_label)}"
    return _part([words + "."], quantities)


def _with_labels(
    codes: np.ndarray, labels: np.ndarray | None, targets: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """R² of each target from the codes, and from codes and one-hot labels together if there are labels."""
    alone = held_out_r2(codes, targets, seed=seed)
    return alone, None if labels is None else held_out_r2(np.concatenate([codes, labels], axis=1), targets, seed=seed)


def _factors(
    context: EvaluationContext, codes: np.ndarray, labels: np.ndarray | None, factors: dict[str, np.ndarray]
) -> Section:
    """True factors: R² of each, the mutual information gap, and DCI."""
    settings, names = context.settings, tuple(factors)
    values = np.stack(list(factors.values()), axis=1).astype(np.float64)
    alone, with_label = _with_labels(codes, labels, values, settings.seed)
    gaps = information_gaps(codes, values)
    boosted = QUICK_BOOSTED if settings.quick else BOOSTED
    trees = boosted_readout(codes[:boosted], values[:boosted], seed=settings.seed)
    scores = _scores(trees, gaps)
    encoded = trees.informativeness >= INFORMATIVE
    subset = _scores(trees.over(encoded), gaps[encoded]) if encoded.any() else None
    count = min(boosted, len(codes))
    quantities = [
        Quantity(
            f"factor_{name}",
            f"true {name} from z, R²",
            float(alone[i]),
            "",
            READ_OUT.format(name=f"true {name}"),
            None,
            len(codes),
            "higher",
            (
                *(() if with_label is None else ((WITH_LABEL, float(with_label[i])),)),
                ("by boosted trees on z", float(trees.informativeness[i])),
            ),
        )
        for i, name in enumerate(names)
    ]
    of_subset = f"over the {encoded.sum()} factors with R² of at least {INFORMATIVE:g}"
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
            () if subset is None else ((of_subset, subset[key]),),
        )
        for key, (name, definition) in SCORES.items()
    ]
    parts = [f"{names[i]} {_percent(float(alone[i]))}" for i in np.argsort(-alone)]
    words = [
        f"Of the variance of the {len(names)} true factors of the drawings, a linear regression on z explains: "
        f"{', '.join(parts[:4])}; the lowest is {parts[-1]}.",
        f"Disentanglement (1 is perfect): mutual information gap {scores['mutual_information_gap']:.2f}, disentanglement "
        f"{scores['disentanglement']:.2f}, completeness {scores['completeness']:.2f}. Without an objective for it, factors "
        "rarely have their own dimension.",
    ]
    axes = tuple(map(latent_name, range(codes.shape[1])))
    shares = np.maximum(alone, 0).tolist()
    plots = (
        Bars("factor_readout", "Linear regression of the true factors on z", "factor", "R²", names, shares),
        Bars(
            "information_gaps",
            "Mutual information gap",
            "factor",
            "share of the factor's entropy",
            names,
            gaps.tolist(),
        ),
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
    """Return the values of `SCORES` over the factors of `trees`; constant factors are skipped."""
    return {
        "mutual_information_gap": float(gaps[np.isfinite(gaps)].mean()),
        "disentanglement": trees.disentanglement,
        "completeness": trees.completeness,
        "informativeness": float(trees.informativeness[np.isfinite(trees.informativeness)].mean()),
    }


def _percent(share: float) -> str:
    return f"{100 * max(0.0, share):.0f} %"


WITH_LABEL = "from z and the label"
ACROSS = (
    "Correlation of {name} across labels: each z from N(0, I) is decoded under {labels} labels, {name} is measured on the "
    "decoder's mean, and Pearson's correlation over z is averaged over all pairs of labels. The error is a bootstrap over z."
)
READ_OUT = (
    "Share of the variance of the {name} of held-out images explained by a linear regression on z (the posterior mean), by "
    "5-fold cross-validation."
)
SCORES = {
    "mutual_information_gap": (
        "mutual information gap",
        "Difference in mutual information with a factor between the best and the second-best latent dimension, divided by the "
        "factor's entropy and averaged over factors (Chen et al. 2018, eq. 6). Posterior means and factors are discretised into "
        "20 bins of equally many images.",
    ),
    "disentanglement": (
        "DCI: disentanglement",
        "Whether each latent dimension encodes a single factor, 0 to 1, by the feature importances of gradient-boosted trees "
        "(Eastwood & Williams 2018). A factor that z does not encode counts as spread over all dimensions.",
    ),
    "completeness": (
        "DCI: completeness",
        "Whether each factor is encoded by a single latent dimension, 0 to 1, by the same trees, averaged over factors.",
    ),
    "informativeness": (
        "DCI: informativeness",
        "R² of the factors by the same trees, on images that they were not trained on, averaged over factors.",
    ),
}
