"""Make the tour: train its models, draw its pictures and fill in its numbers.

    python examples/tour.py --epochs 1 --out my-tour     # a quick one, to try it
    python examples/tour.py                              # replaces docs/tour.md and docs/pictures/tour/; about six minutes
    python examples/tour.py --data mnist --out my-tour   # the same tour for other grey images with labels

The text is in `tour.template.md`; each number is a name in braces, filled in by a section below.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import tour_figures as draw
from PIL import Image

import vaelab
from vaelab import Config, Dataset, ModelConfig, TrainConfig, TrainedModel
from vaelab.evaluation.latent import active_units, aggregate_divergence, aggregate_log_prob, moment_divergence
from vaelab.evaluation.style import slant, stroke_width
from vaelab.figures.plots import label_rows, save_picture, sheet, tiles
from vaelab.inference.explore import manifold, restyle
from vaelab.inference.latents import latent_name
from vaelab.models.distributions import Gaussian

TEMPLATE = Path(__file__).parent / "tour.template.md"
BETAS = (0.1, 0.3, 1.0, 3.0, 10.0)
MODELS = 5 + len(BETAS) - 1
"""Models of the tour: autoencoders and VAEs of 2 and `CODES` dimensions, the conditional VAE, and one for each β but 1."""

CODES = 16
"""Latent dimensions of the models that are not drawn as maps, which have 2."""

CODE_WIDTH = 0.1
"""Standard deviation assigned to an autoencoder's codes, which are points, to compare their average with N(0, I)."""

SHOWN = 4000
"""Test images whose codes are drawn as points."""

Numbers = dict[str, str]


class Tour:
    """The data, the models trained so far and the folder of the pictures."""

    def __init__(self, source: str, epochs: int, pictures: Path, runs: Path) -> None:
        self.data: Dataset = vaelab.load_dataset(source)
        self.epochs, self.pictures = epochs, pictures
        self.test = self.data.test if len(self.data.test) else self.data.validation
        if self.test.labels is None:
            raise SystemExit(f"--data: {source} has no labels; give a labelled source")
        self.images, self.labels = self.test.images, self.test.labels
        self.runs = runs
        self.trained: dict[str, TrainedModel] = {}

    def model(
        self, kind: str, *, latent_dim: int | None = None, beta: float = 1.0, passes: float = 1.0
    ) -> TrainedModel:
        """Return a model of this kind, trained on first use for `passes` times the epochs of the tour."""
        name = f"{kind}-{latent_dim}-{beta:g}"
        if name not in self.trained:
            began = time.perf_counter()
            config = Config(
                ModelConfig(model=kind, latent_dim=latent_dim),  # pyright: ignore[reportArgumentType]
                TrainConfig(epochs=max(1, round(passes * self.epochs)), beta=beta),
            )
            for progress in vaelab.fit(config, self.data, out=self.runs / name):
                state = f"{progress.fraction:4.0%}, {progress.train.nats:.1f} nats per image"
                print(f"\rmodel {len(self.trained) + 1} of {MODELS}, {name}: {state} ", end="", flush=True)
            print(f"in {time.perf_counter() - began:.0f} s")
            self.trained[name] = vaelab.load(self.runs / name)
        return self.trained[name]

    def save(self, name: str, picture: Image.Image) -> None:
        """Save one picture of the tour."""
        save_picture(self.pictures / f"{name}.png", picture)

    def one_per_class(self, number: int = 0) -> np.ndarray:
        """Return the index of test image `number` of each class, shape (K,)."""
        return np.array([np.flatnonzero(self.labels == label)[number] for label in range(len(self.data.classes))])


def main() -> None:
    """Make the tour in the folder that the options name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="strokes", help="a labelled source of grey images")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training images per model")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent.parent / "docs",
        help="folder of tour.md, which is replaced; default: docs",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tour-") as runs:
        try:
            page = write_page(
                Tour(options.data, options.epochs, options.out / "pictures" / "tour", Path(runs)), options.out
            )
        except KeyboardInterrupt:
            raise SystemExit("\ninterrupted; no page was written") from None
    print(f"the tour: {page}")


def write_page(tour: Tour, folder: Path) -> Path:
    """Train the models, draw the pictures, and write the page to `folder`; return its path."""
    numbers: Numbers = {"data": tour.data.name, "epochs": str(tour.epochs), "train": f"{len(tour.data.train):,}"}
    for section in (
        autoencoder_and_its_failure,
        what_we_want,
        the_encoder_as_a_distribution,
        the_sheet,
        the_reparameterisation,
        rate_and_distortion,
        the_label,
        the_same_point,
        restyled,
        what_goes_wrong,
    ):
        numbers |= section(tour)
    page = folder / "tour.md"
    page.write_text(TEMPLATE.read_text(encoding="utf-8").format_map(numbers), encoding="utf-8")
    return page


def autoencoder_and_its_failure(tour: Tour) -> Numbers:
    """Section 1: both models reconstruct; only the VAE decodes random points."""
    ae, vae = tour.model("ae", latent_dim=CODES), tour.model("vae", latent_dim=CODES)
    chosen = tour.one_per_class()
    pairs = [model.reconstruct(tour.images[chosen]) for model in (ae, vae)]
    rows = [pairs[0].originals, pairs[0].images, pairs[1].images]
    tour.save("reconstructions", sheet(rows, names=["original", "autoencoder", "VAE"]))
    for name, model in (("ae", ae), ("vae", vae)):
        tour.save(f"{name}-random-points", tiles(model.sample(count=60, seed=0), 10))
    errors = [model.reconstruct(tour.images).distortion.mean() for model in (ae, vae)]
    return {"codes": str(CODES), "ae_distortion": f"{errors[0]:.1f}", "vae_distortion": f"{errors[1]:.1f}"}


def what_we_want(tour: Tour) -> Numbers:
    """Section 2: a standard normal, and the codes of images."""
    ae, vae = tour.model("ae", latent_dim=2), tour.model("vae", latent_dim=2)
    ae_codes, vae_codes = (model.encode(tour.images).mean for model in (ae, vae))
    normal = vae.latents(SHOWN, seed=0)
    maps = draw.three_maps(normal, ae_codes[:SHOWN], vae_codes[:SHOWN], tour.labels[:SHOWN], tour.data.classes)
    tour.save("map", maps)
    farthest = np.abs(ae_codes).max()
    return {
        "ae_spread": f"{ae_codes.std():.1f}",
        "ae_farthest": f"{farthest:.0f}",
        "vae_spread": f"{vae_codes.std():.2f}",
        "shown": f"{min(SHOWN, len(tour.images)):,}",
    }


def the_encoder_as_a_distribution(tour: Tour) -> Numbers:
    """Section 3: posteriors as ellipses, and their average compared with N(0, I)."""
    ae, vae = tour.model("ae", latent_dim=2), tour.model("vae", latent_dim=2)
    encoded = vae.encode(tour.images)
    chosen = np.concatenate([tour.one_per_class(0), tour.one_per_class(1)])
    picture = draw.ellipses(encoded.mean, encoded.log_variance, tour.labels, chosen, tour.data.classes)
    tour.save("ellipses", picture)
    posteriors = Gaussian(torch.from_numpy(encoded.mean), torch.from_numpy(encoded.log_variance))
    codes = torch.from_numpy(ae.encode(tour.images).mean)
    points = Gaussian(codes, torch.full_like(codes, 2 * float(np.log(CODE_WIDTH))))
    tour.save("average", draw.averages(points, posteriors))
    rate = posteriors.rate().sum(-1).mean().item()
    divergence = aggregate_divergence(posteriors)
    return {
        "code_width": f"{CODE_WIDTH:g}",
        "averaged": f"{len(tour.images):,}",
        "ae_divergence": f"{aggregate_divergence(points).nats:.1f}",
        "ae_moments": f"{moment_divergence(points):.1f}",
        "vae_divergence": f"{divergence.nats:.2f}",
        "vae_divergence_error": f"{divergence.error:.2f}",
        "vae_moments": f"{moment_divergence(posteriors):.2f}",
        "map_rate": f"{rate:.2f}",
        "map_information": f"{rate - divergence.nats:.2f}",
        "ellipse_sigma": f"{np.exp(0.5 * encoded.log_variance).mean():.2f}",
    }


def the_sheet(tour: Tour) -> Numbers:
    """Section 4: the plane of two latent dimensions, decoded."""
    tour.save("sheet", manifold(tour.model("vae", latent_dim=2), steps=20).sheet())
    return {}


def the_reparameterisation(tour: Tour) -> Numbers:
    """Section 5: two unbiased estimates of the gradient of E[distortion] with respect to μ, and their variance."""
    draws, model = 4000, tour.model("vae", latent_dim=CODES).model
    x = torch.from_numpy(np.where(tour.images[:1] > 127, 1.0, 0.0).astype(np.float32))
    with torch.no_grad():
        posterior = model.posterior(x)
    noise = torch.randn(draws, 1, CODES, generator=torch.Generator().manual_seed(0))
    z = posterior.sample(noise).requires_grad_()
    distortion = -model.decode(z).log_prob(x)
    (pathwise,) = torch.autograd.grad(distortion.sum(), z)  # dz/dμ is 1
    score = distortion.detach()[..., None] * (z.detach() - posterior.mean) * torch.exp(-posterior.log_variance)
    baseline = (distortion - distortion.mean()).detach()[..., None] * noise * torch.exp(-0.5 * posterior.log_variance)
    estimates = [estimate[:, 0].double().numpy() for estimate in (pathwise, score, baseline)]
    variances = [estimate.var(0, ddof=1).sum() for estimate in estimates]
    axis = int(np.abs(estimates[0].mean(0)).argmax())
    tour.save("gradient", draw.gradients([estimate[:, axis] for estimate in estimates[:2]]))
    means = [(part[:, axis].mean(), part[:, axis].std(ddof=1) / np.sqrt(draws)) for part in estimates]
    return {
        "draws": f"{draws:,}",
        "pathwise_mean": f"{means[0][0]:.2f} ± {means[0][1]:.2f}",
        "score_mean": f"{means[1][0]:.1f} ± {means[1][1]:.1f}",
        "pathwise_variance": f"{variances[0]:,.0f}",
        "score_variance": f"{variances[1]:,.0f}",
        "baseline_variance": f"{variances[2]:,.0f}",
        "variance_ratio": f"{variances[1] / variances[0]:,.0f}",
        "baseline_ratio": f"{variances[2] / variances[0]:,.0f}",
    }


def rate_and_distortion(tour: Tour) -> Numbers:
    """Section 6: the rate-distortion curve, and reconstructions and samples at each of its points."""
    points, rows, numbers = [], [], {}
    chosen = tour.one_per_class()
    for beta in BETAS:
        model = tour.model("vae", latent_dim=CODES, beta=beta)
        result = model.reconstruct(tour.images)
        points.append((float(result.rate.mean()), float(result.distortion.mean())))
        rows += [model.reconstruct(tour.images[chosen]).images, model.sample(count=len(chosen), seed=3)]
        numbers[f"row_{beta:g}".replace(".", "_")] = (
            f"| {beta:g} | {points[-1][0]:.1f} | {points[-1][1]:.1f} | {sum(points[-1]):.1f} |"
        )
    tour.save("rate-distortion", draw.rate_distortion(BETAS, points))
    names = [name for beta in BETAS for name in (f"β = {beta:g}, rebuilt", "random points")]
    tour.save("betas", sheet(rows, names=names))
    return {"betas": "\n".join(numbers.values())}


def the_label(tour: Tour) -> Numbers:
    """Section 7: one row for each requested label."""
    model = tour.model("cvae", passes=3)
    tour.save("grid", label_rows(model.grid(count=14, temperature=0.9, seed=1).images, model.classes))
    return {"cvae_codes": str(model.model.latent_dim), "classes": str(len(model.classes))}


def the_same_point(tour: Tour) -> Numbers:
    """Section 8: the axes that encode slant and stroke width, found by measuring generated images."""
    model = tour.model("cvae", passes=3)
    count = 100
    made = model.grid(count=count, seed=2)
    numbers = {}
    used = -1
    for name, measure in (("slant", slant), ("width", stroke_width)):
        values = measure(made.images).reshape(len(model.classes), count)
        across = np.corrcoef(values)[np.triu_indices(len(values), 1)].mean()
        each = (values - values.mean(1, keepdims=True)).mean(0)  # per latent point, minus the mean of each label
        z = made.z[:count]
        strength = np.array([np.corrcoef(z[:, axis], each)[0, 1] for axis in range(z.shape[1])])
        strength[used] = 0 if used >= 0 else strength[used]
        used = axis = int(np.abs(strength).argmax())
        points = np.zeros((13, z.shape[1]), dtype=np.float32)
        points[:, axis] = np.linspace(-2.4, 2.4, 13) * np.sign(strength[axis])
        labels = np.repeat(np.arange(len(model.classes)), len(points))
        images = model.decode(np.tile(points, (len(model.classes), 1)), labels)
        tour.save(f"{name}-axis", label_rows(images, model.classes))
        numbers |= {
            f"{name}_axis": latent_name(axis),
            f"{name}_strength": f"{abs(strength[axis]):.2f}",
            f"{name}_across": f"{across:.2f}",
        }
    return numbers


def restyled(tour: Tour) -> Numbers:
    """Section 9: one drawing, and all labels in its style."""
    model = tour.model("cvae", passes=3)
    chosen = tour.one_per_class(2)[[7 % len(model.classes), 2 % len(model.classes), 4 % len(model.classes)]]
    tour.save("restyle", restyle(model, tour.images[chosen], tour.labels[chosen]).sheet())
    return {}


def what_goes_wrong(tour: Tour) -> Numbers:
    """Section 10: collapse, blur and holes."""
    healthy = tour.model("vae", latent_dim=CODES)
    collapsed = tour.model("vae", latent_dim=CODES, beta=BETAS[-1])
    encoded = [model.encode(tour.images) for model in (healthy, collapsed)]
    rates = [
        Gaussian(torch.from_numpy(e.mean), torch.from_numpy(e.log_variance)).rate().mean(0).numpy() for e in encoded
    ]
    tour.save("collapse", draw.collapse(rates, ("β = 1", f"β = {BETAS[-1]:g}")))
    z = healthy.latents(10, seed=5)
    tour.save(
        "blur",
        sheet(
            [healthy.decode(z), healthy.decode(z, decode="sample")], names=["the mean of p(x|z)", "a draw from p(x|z)"]
        ),
    )
    flat = tour.model("vae", latent_dim=2)
    e = flat.encode(tour.images)
    posteriors = Gaussian(torch.from_numpy(e.mean), torch.from_numpy(e.log_variance))
    side = torch.linspace(-2.2, 2.2, 45)
    points = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1).reshape(-1, 2)
    points = points[points.norm(dim=1) < 2.2]
    emptiness = -aggregate_log_prob(points, posteriors) - 0.5 * points.square().sum(-1)
    order = emptiness.argsort(descending=True)
    empty = _apart(points[order], 8)
    full = _apart(points[order.flip(0)], 8)
    tour.save("holes", draw.holes(posteriors, empty, full))
    tour.save(
        "hole-images", sheet([flat.decode(part.numpy()) for part in (empty, full)], names=["from holes", "from crowds"])
    )
    return {
        "alive_healthy": str(active_units(torch.from_numpy(encoded[0].mean))),
        "alive_collapsed": str(active_units(torch.from_numpy(encoded[1].mean))),
        "largest_beta": f"{BETAS[-1]:g}",
    }


def _apart(points: torch.Tensor, count: int, distance: float = 0.35) -> torch.Tensor:
    """Return the first `count` points at least `distance` from all points returned before them."""
    chosen: list[torch.Tensor] = []
    for point in points:
        if all((point - other).norm() >= distance for other in chosen):
            chosen.append(point)
        if len(chosen) == count:
            break
    return torch.stack(chosen)


if __name__ == "__main__":
    main()
