"""Plots of the tour: maps, ellipses, averages and curves. Every picture is readable without colour."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse
from PIL import Image

from vaelab.evaluation.latent import aggregate_log_prob
from vaelab.models.distributions import Gaussian, standard_normal_log_prob

BLUE, BROWN, GREEN, GREY = "#0b6fa4", "#b5651d", "#3a7d44", "#888888"
COLOURS = ["#0b6fa4", "#b5651d", "#3a7d44", "#8e3b8a", "#c0392b", "#5d6d7e", "#b7950b", "#148f77", "#6c3483", "#a04000"]
EDGE = 4.0
"""Maps show −4…4 on both axes; N(0, I) has almost no mass beyond 4 standard deviations."""


def three_maps(
    normal: np.ndarray, ae: np.ndarray, vae: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> Image.Image:
    """Draw points of N(0, I) and the codes of images, by label, of an autoencoder and a VAE, each of shape (N, 2)."""
    figure, panels = _figure(3, (13, 4.6))
    panels[0].plot(*normal.T, ".", ms=2, color=GREY)
    panels[0].set_title("what we want: N(0, I)")
    for axes, codes, title in ((panels[1], ae, "the autoencoder's codes"), (panels[2], vae, "the VAE's codes")):
        for label, name in enumerate(classes):
            of = codes[labels == label]
            axes.plot(*of.T, ".", ms=2, color=COLOURS[label % len(COLOURS)], alpha=0.5)
            _label(axes, np.median(of[:, 0]), np.median(of[:, 1]), name, label)
        axes.set_title(title)
    for axes in (panels[0], panels[2]):
        _plane(axes)
    panels[1].set_aspect("equal", adjustable="datalim")
    panels[1].add_patch(Circle((0, 0), 2, fill=False, color="black", lw=2, zorder=5))
    for axes in panels:
        axes.set_xlabel("z₀")
        axes.set_ylabel("z₁")
    return _to_image(figure)


def ellipses(
    mean: np.ndarray, log_variance: np.ndarray, labels: np.ndarray, chosen: np.ndarray, classes: Sequence[str]
) -> Image.Image:
    """Draw the posteriors of the `chosen` images as ellipses of two standard deviations, over the means of all images."""
    figure, (axes,) = _figure(1, (6.4, 6))
    axes.plot(*mean.T, ".", ms=1.5, color="#cccccc")
    for index in chosen:
        colour = COLOURS[labels[index] % len(COLOURS)]
        reach = 2 * np.exp(0.5 * log_variance[index])
        axes.add_patch(Ellipse(tuple(mean[index]), *(2 * reach), color=colour, alpha=0.45))
        axes.add_patch(Ellipse(tuple(mean[index]), *(2 * reach), color=colour, fill=False, lw=1.3))
        axes.annotate(
            classes[int(labels[index])], tuple((mean[index] + reach).tolist()), fontsize=10, weight="bold", color=colour
        )
    _plane(axes)
    axes.set_xlabel("z₀")
    axes.set_ylabel("z₁")
    return _to_image(figure)


def averages(ae: Gaussian, vae: Gaussian) -> Image.Image:
    """Draw three densities: the average of the autoencoder's codes, of the VAE's posteriors, and N(0, I)."""
    figure, panels = _figure(3, (13, 4.5))
    points, side = _grid()
    densities = [
        aggregate_log_prob(points, ae).exp(),
        aggregate_log_prob(points, vae).exp(),
        standard_normal_log_prob(points).exp(),
    ]
    titles = ("average of the autoencoder's codes", "average of the VAE's posteriors", "N(0, I)")
    for axes, density, title in zip(panels, densities, titles, strict=True):
        image = density.reshape(side, side).numpy()
        axes.imshow(image, origin="lower", extent=(-EDGE, EDGE, -EDGE, EDGE), cmap="Blues", vmin=0, vmax=0.25)
        _plane(axes)
        axes.set_title(title)
    return _to_image(figure)


def gradients(estimates: Sequence[np.ndarray]) -> Image.Image:
    """Draw single estimates of one component of the gradient and their running averages, for two estimators."""
    figure, (single, running) = _figure(2, (12, 4.2))
    names = ("reparameterised", "score function")
    for row, (values, name, colour) in enumerate(zip(estimates, names, (BLUE, BROWN), strict=True)):
        shown = values[:400]
        jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(shown))
        single.plot(shown, row + jitter, ".", ms=3, color=colour)
        averages = np.cumsum(values) / np.arange(1, len(values) + 1)
        running.plot(averages, color=colour, lw=1.4, ls="-" if row == 0 else "--", label=name)
    single.set_yticks([0, 1], names)
    single.set_xlabel("one draw's estimate of the gradient")
    running.set_xscale("log")
    running.set_xlabel("draws averaged")
    running.set_ylabel("estimate")
    settled = estimates[0].mean()
    reach = 3 * estimates[1].std() / np.sqrt(30)
    running.set_ylim(settled - reach, settled + reach)
    running.legend(frameon=False)
    for axes in (single, running):
        axes.grid(alpha=0.25)
    return _to_image(figure)


def rate_distortion(betas: Sequence[float], points: Sequence[tuple[float, float]]) -> Image.Image:
    """Draw rate (x) against distortion (y), in nats per image, for each β."""
    figure, (axes,) = _figure(1, (7, 4.8))
    rates, distortions = np.array(points).T
    axes.plot(rates, distortions, "o-", color=BLUE)
    for beta, rate, distortion in zip(betas, rates, distortions, strict=True):
        axes.annotate(f"β = {beta:g}", (rate, distortion), (6, 6), textcoords="offset points")
    best = min(sum(point) for point in points)
    axes.margins(x=0.12)
    low = np.linspace(*axes.get_xlim(), 2)
    axes.plot(low, best - low, ":", color=GREY, label=f"rate + distortion = {best:.1f}")
    axes.set_ylim(min(distortions) - 12, max(distortions) + 12)
    axes.set_xlabel("rate, nats per image: what the code costs")
    axes.set_ylabel("distortion, nats per image: what is lost")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return _to_image(figure)


def collapse(rates: Sequence[np.ndarray], titles: Sequence[str]) -> Image.Image:
    """Draw the rate of every latent axis in nats, highest first, of two models."""
    figure, panels = _figure(2, (11, 3.4))
    top = max(float(rate.max()) for rate in rates) * 1.1
    for axes, rate, title in zip(panels, rates, titles, strict=True):
        ordered = np.sort(rate)[::-1]
        axes.bar(np.arange(1, len(ordered) + 1), ordered, color=BLUE)
        for place, value in enumerate(ordered, 1):
            if value < 0.01:
                axes.annotate("×", (place, 0.02 * top), ha="center", color=BROWN, fontsize=12)
        axes.set_ylim(0, top)
        axes.set_title(title)
        axes.set_xlabel("latent axis, by rate (× = collapsed)")
        axes.set_ylabel("nats per image")
    return _to_image(figure)


def holes(posteriors: Gaussian, empty: torch.Tensor, full: torch.Tensor) -> Image.Image:
    """Draw the log-ratio of the average posterior to N(0, I), with its emptiest and fullest points."""
    figure, (axes,) = _figure(1, (6.4, 6))
    points, side = _grid()
    ratio = (aggregate_log_prob(points, posteriors) - standard_normal_log_prob(points)).reshape(side, side).numpy()
    extent = (-EDGE, EDGE, -EDGE, EDGE)
    shades = axes.imshow(ratio, origin="lower", extent=extent, cmap="BrBG", vmin=-3, vmax=3)
    bar = figure.colorbar(shades, ax=axes, shrink=0.8)
    bar.set_label("nats above or below N(0, I)")
    for part, marker, colour in ((empty, "x", "black"), (full, "o", "black")):
        for number, point in enumerate(part, 1):
            axes.plot(*point, marker, color=colour, mfc="none", ms=8, mew=1.8)
            axes.annotate(
                str(number), tuple(point.tolist()), (6, 4), textcoords="offset points", color=colour, fontsize=9
            )
    _plane(axes)
    return _to_image(figure)


def _figure(columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained", dpi=90)
    FigureCanvasAgg(figure)
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def _plane(axes: Axes) -> None:
    """Set equal axes from −4 to 4, with rings at 1, 2 and 3 standard deviations of N(0, I)."""
    for radius in (1, 2, 3):
        axes.add_patch(Circle((0, 0), radius, fill=False, color="black", lw=0.9, ls="--", zorder=4))
    axes.set_xlim(-EDGE, EDGE)
    axes.set_ylim(-EDGE, EDGE)
    axes.set_aspect("equal")


def _label(axes: Axes, x: float, y: float, name: str, label: int) -> None:
    box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": COLOURS[label % len(COLOURS)], "alpha": 0.85}
    axes.annotate(name, (x, y), ha="center", va="center", fontsize=10, weight="bold", bbox=box)


def _grid(side: int = 161) -> tuple[torch.Tensor, int]:
    line = torch.linspace(-EDGE, EDGE, side)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).reshape(-1, 2), side


def _to_image(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")
