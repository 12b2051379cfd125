"""Facts on a model for the manifest: encoded held-out images, statistics of its latent axes, and surprise of images.

Symbols: z is a latent of dimension d; μ and σ² are the mean and variance of the posterior q(z|x) of an image x; nats are per
image. Points are encoded from grey levels, as in `latents.place`, so that each depends only on its image. Surprise is the −ELBO
at z = μ, for binarised images if the likelihood is Bernoulli, as in `inference.labels.label_nats`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vaelab import runs
from vaelab.inference import latents
from vaelab.inference.trained import Encoded, TrainedModel
from vaelab.models.likelihoods import LIKELIHOODS
from vaelab.objectives import bounds, elbo
from vaelab.objectives.batch import held_out_levels
from vaelab.runs import Run
from vaelab.studio.axis_styles import axis_correlations
from vaelab.studio.held_out import HeldOut, Work

MOST_AXES = 32
"""Maximum number of axes with coordinates on the map, by descending rate."""

STEP = 1 / 2048
"""Smallest quantisation step of coordinates; doubled until all fit into 16 bits (a step of 1/2048 covers ±16)."""

MOST_SURPRISE = 2000
"""Maximum number of images for the quantiles of surprise."""

MOST_COVARIED = 2000
"""Maximum number of axes for the principal plane: those with the largest standard deviation."""

NO_LABEL = 65535


class Plane(NamedTuple):
    """The principal plane of points: mean (d,), two unit directions (2, d), and the fraction of variance along each."""

    mean: np.ndarray
    components: np.ndarray
    explained: np.ndarray


def model_facts(
    run: Run,
    trained: TrainedModel,
    held_out: HeldOut | None,
    folder: Path,
    work: Work,
    styles: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return an entry of the manifest's `models`, and write the points into `folder`.

    `styles` are the measures of the first held-out images that `measured_styles` returns.
    """
    encoded = None if held_out is None else _encoded(trained, held_out, work)
    if encoded is not None and held_out is not None and trained.axes is None:
        trained = latents.measured(trained, held_out.images, _labels_for(trained, held_out.labels))
    d, axes = trained.model.latent_dim, trained.axes
    if axes is None:  # measured neither in training nor now
        axes = runs.LatentStats((0.0,) * d, (0.0,) * d, (1.0,) * d)
    order = axes.order
    plane = _plane(encoded.mean) if encoded is not None else _two_axes(order, d)
    points = None
    if held_out is not None and encoded is not None:
        chosen = order[:MOST_AXES]
        name = f"{trained.kind}-points.bin"
        places = np.concatenate(
            [encoded.mean[:, list(chosen)], (encoded.mean - plane.mean) @ plane.components.T], axis=1
        )
        step = step_of(places)
        (folder / name).write_bytes(points_bytes(places, step, held_out.labels))
        points = {"file": name, "count": len(places), "axes": chosen, "scale": step, "split": held_out.split}
    return {
        "kind": trained.kind,
        "network": run.config.model.network,
        "conditional": trained.conditional,
        "stochastic": trained.model.stochastic,
        "encoder": f"{trained.kind}-encoder.onnx",
        "decoder": f"{trained.kind}-decoder.onnx",
        "latent_dim": d,
        "likelihood": trained.likelihood,
        "custom_likelihood": trained.likelihood not in LIKELIHOODS,
        "stated_as": trained.model.likelihood_type.parameter_names,
        "binarised": trained.likelihood == "bernoulli",
        "axes": {"rate": axes.rate, "mean": axes.mean, "deviation": axes.deviation},
        "order": order,
        "principal": {name: rounded(values) for name, values in plane._asdict().items()},
        "points": points,
        "surprise": None if held_out is None else {"quantiles": rounded(surprise(trained, held_out, work))},
        "figures": _figures(run),
        "spread": _spread(encoded, axes),
        "styles": _styles(encoded, styles, held_out),
    }


def _encoded(trained: TrainedModel, held_out: HeldOut, work: Work) -> Encoded:
    """Encode the held-out images from their grey levels."""
    what = f"encoding ({trained.kind})"
    return trained.encode(
        held_out.images,
        _labels_for(trained, held_out.labels),
        binarised=False,
        progress=lambda done, total: work(what, done, total),
    )


def _labels_for(trained: TrainedModel, labels: np.ndarray | None) -> np.ndarray | None:
    """Return the labels for a conditional model, None for another."""
    return labels if trained.conditional else None


def _plane(mean: np.ndarray) -> Plane:
    """Principal plane of posterior means (n, d). The largest component of each direction is positive."""
    middle, d = mean.mean(0), mean.shape[1]
    chosen = np.sort(np.argsort(-mean.var(0), kind="stable")[:MOST_COVARIED])
    centred = (mean - middle)[:, chosen].astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(mean))
    components, explained = np.zeros((2, d)), np.zeros(2)
    for place, at in enumerate(np.argsort(-values)[:2]):
        direction = vectors[:, at]
        components[place, chosen] = direction * np.sign(direction[np.abs(direction).argmax()])
        explained[place] = max(0.0, values[at]) / max(mean.astype(np.float64).var(0).sum(), 1e-12)
    return Plane(middle, components, explained)


def _two_axes(order: tuple[int, ...], d: int) -> Plane:
    """Plane of the first two axes, used if there are no points."""
    components = np.zeros((2, d))
    for row, axis in zip(components, order, strict=False):
        row[axis] = 1
    return Plane(np.zeros(d), components, np.zeros(2))


def step_of(places: np.ndarray) -> float:
    """Return the smallest of `STEP`, 2·`STEP`, 4·`STEP`, … with which all `places` fit into 16 bits."""
    step = STEP
    while np.abs(places).max() > 32767 * step:
        step *= 2
    return step


def points_bytes(places: np.ndarray, step: float, labels: np.ndarray | None) -> bytes:
    """Encode points for the page: `places` (n, columns) row by row as int16 multiples of `step`, then labels as uint16.

    All numbers are little-endian.
    """
    numbers = np.full(len(places), NO_LABEL) if labels is None else np.minimum(labels, NO_LABEL)
    return np.rint(places / step).astype("<i2").tobytes() + numbers.astype("<u2").tobytes()


@torch.no_grad()
def surprise(trained: TrainedModel, held_out: HeldOut, work: Work) -> np.ndarray:
    """Return 101 ascending quantiles of the −ELBO at z = μ in nats, over the first held-out images, given their labels."""
    model = trained.model
    levels = held_out_levels(held_out.images[:MOST_SURPRISE], trained.likelihood)
    labels = None if not trained.conditional else torch.from_numpy(np.asarray(held_out.labels))
    parts = bounds.map_held_out(
        model,
        levels,
        labels,
        lambda _, x, infer: elbo.terms_of(infer(torch.zeros(len(x), model.latent_dim)), x).negative_elbo(),
        progress=partial(work, f"measuring surprise ({trained.kind})"),
    )
    return np.quantile(torch.cat(parts).numpy(), np.linspace(0, 1, 101))


def _figures(run: Run) -> dict[str, float] | None:
    """Nats of the validation images, recorded with the weights; None if there were none."""
    facts = runs.weight_facts(run)
    if "rate" not in facts or "distortion" not in facts:
        return None
    rate, distortion = facts["rate"], facts["distortion"]
    return {"nats": rate + distortion, "rate": rate, "distortion": distortion}


def _spread(encoded: Encoded | None, axes: runs.LatentStats) -> dict[str, list[float]]:
    """Mean and standard deviation of the aggregate posterior on each axis; without points, those of the posterior means."""
    if encoded is None:
        return {"mean": list(axes.mean), "deviation": list(axes.deviation)}
    variance = encoded.mean.var(0) + np.exp(encoded.log_variance).mean(0)
    return {"mean": rounded(encoded.mean.mean(0)), "deviation": rounded(np.sqrt(variance))}


def _styles(
    encoded: Encoded | None, styles: np.ndarray | None, held_out: HeldOut | None
) -> dict[str, list[float]] | None:
    """Correlation of each axis with each measure of style, by the measure's name; None if the images were not measured."""
    if encoded is None or styles is None or held_out is None:
        return None
    found = axis_correlations(encoded.mean, styles, held_out.labels)
    return {name: rounded(correlations) for name, correlations in found.items()}


def rounded(values: np.ndarray) -> Any:
    """Return nested lists of numbers rounded to six significant digits."""
    return np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[float])(values).tolist()
