"""What the page is told of a model: where the held-out images lie in its latent, what its axes hold, how surprising images are.

Symbols: z a latent of dimension d; μ, σ² mean and variance of the posterior q(z|x) of an image x; nats per image. Points are
encoded as grey levels, as `placing.place` does it, so that where one lies depends on itself alone; surprise is −ELBO at z = μ of
images that are binarised where the model counts nats of 0/1 pixels, as `inference.labels.label_nats` has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vaelab.inference import latents
from vaelab.inference.trained import Encoded, TrainedModel
from vaelab.models.distributions import LIKELIHOODS
from vaelab.objectives import bounds, elbo
from vaelab.objectives.batch import held_out_levels, to_unit
from vaelab.objectives.bounds import images_at_once
from vaelab.studio.held_out import HeldOut, Work
from vaelab.training import runs
from vaelab.training.runs import Run

MOST_AXES = 12
"""Axes whose coordinates the map has, by rate."""

STEP = 1 / 2048
"""A coordinate is kept as a whole number of these, or, where one lies beyond ±16, of twice as much, and so on."""

MOST_SURPRISE = 2000
"""Images that the quantiles of surprise are taken over, at most."""

MOST_COVARIED = 2000
"""Axes that the principal plane is found in, at most: those of greatest deviation."""

NO_LABEL = 65535

NAMES = {"continuous-bernoulli": "continuous_bernoulli", "logistic": "discretised_logistic"}
"""What the page calls a likelihood, where that is not its option."""


class Plane(NamedTuple):
    """The principal plane of points: its middle (d,), two directions (2, d) of length 1, and the share of variance along each."""

    mean: np.ndarray
    components: np.ndarray
    explained: np.ndarray


def model_facts(run: Run, trained: TrainedModel, held_out: HeldOut | None, folder: Path, work: Work) -> dict[str, Any]:
    """An entry of the manifest's `models`; the points are written into `folder`."""
    encoded = None if held_out is None else _encoded(trained, held_out, work)
    if encoded is not None and held_out is not None and trained.axes is None:
        trained = latents.measured(trained, held_out.images, _own(trained, held_out.labels))
    d, axes = trained.model.latent_dim, trained.axes
    if axes is None:  # neither measured when it was trained nor now
        axes = elbo.LatentStats((0.0,) * d, (0.0,) * d, (1.0,) * d)
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
        "likelihood": NAMES.get(trained.likelihood, trained.likelihood),
        "stated_as": LIKELIHOODS[trained.likelihood].parameter_names,
        "binarised": trained.likelihood == "bernoulli",
        "axes": {"rate": axes.rate, "mean": axes.mean, "deviation": axes.deviation},
        "order": order,
        "principal": {name: rounded(values) for name, values in plane._asdict().items()},
        "points": points,
        "surprise": None if held_out is None else {"quantiles": rounded(surprise(trained, held_out, work))},
        "figures": _figures(run),
        "spread": _spread(encoded, axes),
    }


def _encoded(trained: TrainedModel, held_out: HeldOut, work: Work) -> Encoded:
    what = f"encoding ({trained.kind})"
    return trained.encode(
        held_out.images,
        _own(trained, held_out.labels),
        binarised=False,
        progress=lambda done, total: work(what, done, total),
    )


def _own(trained: TrainedModel, labels: np.ndarray | None) -> np.ndarray | None:
    """Labels for a model that takes them."""
    return labels if trained.conditional else None


def _plane(mean: np.ndarray) -> Plane:
    """The principal plane of posterior means (n, d). The sign of a direction is such that its largest part is positive."""
    middle, d = mean.mean(0), mean.shape[1]
    kept = np.sort(np.argsort(-mean.var(0), kind="stable")[:MOST_COVARIED])
    centred = (mean - middle)[:, kept].astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(mean))
    components, explained = np.zeros((2, d)), np.zeros(2)
    for place, at in enumerate(np.argsort(-values)[:2]):
        direction = vectors[:, at]
        components[place, kept] = direction * np.sign(direction[np.abs(direction).argmax()])
        explained[place] = max(0.0, values[at]) / max(mean.astype(np.float64).var(0).sum(), 1e-12)
    return Plane(middle, components, explained)


def _two_axes(order: tuple[int, ...], d: int) -> Plane:
    """Where there are no points: the plane of the first two axes."""
    components = np.zeros((2, d))
    for row, axis in zip(components, order, strict=False):
        row[axis] = 1
    return Plane(np.zeros(d), components, np.zeros(2))


def step_of(places: np.ndarray) -> float:
    """`STEP`, or the least double of it, and so on, with which all `places` are in reach of 16 bits."""
    step = STEP
    while np.abs(places).max() > 32767 * step:
        step *= 2
    return step


def points_bytes(places: np.ndarray, step: float, labels: np.ndarray | None) -> bytes:
    """Points as the page reads them: `places` (n, columns), row by row, as int16 counts of `step`; then their labels, uint16, all
    little-endian.
    """
    numbers = np.full(len(places), NO_LABEL) if labels is None else np.minimum(labels, NO_LABEL)
    return np.rint(places / step).astype("<i2").tobytes() + numbers.astype("<u2").tobytes()


@torch.no_grad()
def surprise(trained: TrainedModel, held_out: HeldOut, work: Work) -> np.ndarray:
    """The 101 quantiles of −ELBO at z = μ, nats, over the first held-out images, each under its own label; ascending."""
    model = trained.model
    levels = held_out_levels(held_out.images[:MOST_SURPRISE], trained.likelihood)
    labels = None if not trained.conditional else torch.from_numpy(np.asarray(held_out.labels))
    at_once, nats = images_at_once(model.shape), []
    for first in range(0, len(levels), at_once):
        part = slice(first, first + at_once)
        x = to_unit(levels[part])
        noise = torch.zeros(len(x), model.latent_dim)
        terms = bounds.held_out_terms(model, x, None if labels is None else labels[part], noise)
        nats.append(terms.negative_elbo())
        work(f"measuring surprise ({trained.kind})", min(first + at_once, len(levels)), len(levels))
    return np.quantile(torch.cat(nats).numpy(), np.linspace(0, 1, 101))


def _figures(run: Run) -> dict[str, float] | None:
    """Nats of the validation images, as they stand beside the weights; None where there were none."""
    facts = runs.weight_facts(run)
    if "rate" not in facts or "distortion" not in facts:
        return None
    rate, distortion = facts["rate"], facts["distortion"]
    return {"nats": rate + distortion, "rate": rate, "distortion": distortion}


def _spread(encoded: Encoded | None, axes: elbo.LatentStats) -> dict[str, list[float]]:
    """Mean and standard deviation of the aggregate posterior along each axis; without points, of its means alone."""
    if encoded is None:
        return {"mean": list(axes.mean), "deviation": list(axes.deviation)}
    variance = encoded.mean.var(0) + np.exp(encoded.log_variance).mean(0)
    return {"mean": rounded(encoded.mean.mean(0)), "deviation": rounded(np.sqrt(variance))}


def rounded(values: np.ndarray) -> Any:
    """Nested lists of numbers of six digits, enough for a page."""
    return np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[float])(values).tolist()
