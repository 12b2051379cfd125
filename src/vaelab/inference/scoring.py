"""Nats and posteriors of all images of a data source, written as a table in constant memory.

The figures of an image are those of `TrainedModel.reconstruct`, `score_samples` and `encode`. They follow from the seed, the
weights, and the images of its part (`vaelab.parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from vaelab.data.layout import as_stored
from vaelab.data.resize import Progress
from vaelab.errors import ConfigError
from vaelab.inference.given import Given, GivenImages
from vaelab.inference.resumable import weights_of, write_in_parts
from vaelab.inference.tables import Columns, expect_table, write_table
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.bounds import held_out_terms, negative_bounds
from vaelab.random import latent_noise

Summary = dict[str, np.ndarray]
"""Means of the figures over all images, and as `inferred` the number of images of each label that was inferred, (K,).

Of several processes, only the first one has it.
"""


def write_scores(
    given: Given, out: Path, *, samples: int | None = None, seed: int = 0, progress: Progress | None = None
) -> Summary:
    """Write the nats of every image, lower is better: distortion, rate, and nats = distortion + rate = −ELBO.

    Parameters
    ----------
    given
        The images: see `vaelab.inference.given.given_source`.
    out
        FILE.parquet, FILE.csv or FILE.npz. The same call continues one that was interrupted.
    samples
        Also write `bound`: the importance-weighted bound with this number of draws of z per image, an upper bound on
        −log p(x|y) that is minus `TrainedModel.score_samples`.
    seed
        Seed of the draws of z: one for each image, and for `bound` the same for all images.
    progress
        Callback with a description, the number of images done, and the total.

    Raises
    ------
    ConfigError
        If `samples` is below 1, or given for an autoencoder, which has a distortion only.
    DataError
        If the images do not have the shape that the model was trained on.
    OutputError
        If other results were interrupted at `out`, or it cannot be written.
    """
    model = given.model
    if samples is not None and not model.model.stochastic:
        raise ConfigError(
            f"`samples`: got {samples} for an autoencoder, which has no posterior to draw from; leave it out"
        )
    if samples is not None and samples < 1:
        raise ConfigError(f"`samples`: got {samples}; expected a whole number of at least 1")

    def figures(images: GivenImages, number: int) -> Columns:
        levels = held_out_levels(as_stored(images.images, model.model.shape), model.likelihood, number)
        labels = None if images.labels is None else torch.from_numpy(images.labels)
        noise = latent_noise(len(levels), model.model.latent_dim, seed, number)
        terms = held_out_terms(model.model, levels, labels, noise)
        found = {"distortion": terms.distortion.numpy()}
        if model.model.stochastic:
            found |= {"rate": terms.rate.sum(-1).numpy(), "nats": terms.negative_elbo().numpy()}
        if samples is not None:
            bounds = negative_bounds(model.model, levels, labels, samples=[samples], seed=seed, shared=True)
            found["bound"] = bounds[:, 0].numpy()
        return found

    return _write(given, out, figures, ("scoring", samples, seed), progress)


def write_posteriors(given: Given, out: Path, *, progress: Progress | None = None) -> Summary:
    """Write mean and log-variance of the posterior of every image; parameters and errors are those of `write_scores`."""
    model = given.model

    def posteriors(images: GivenImages, number: int) -> Columns:
        levels = held_out_levels(as_stored(images.images, model.model.shape), model.likelihood, number)
        return model.encode(levels.numpy(), images.labels, binarised=False)._asdict()

    return _write(given, out, posteriors, ("encoding",), progress)


def _write(
    given: Given,
    out: Path,
    figures: Callable[[GivenImages, int], Columns],
    settings: tuple[object, ...],
    progress: Progress | None,
) -> Summary:
    """Write the facts of all images with their figures, which are a function of the images and the number of a part."""
    expect_table(out)
    sums: Summary = {"inferred": np.zeros(len(given.model.classes), dtype=np.int64)}

    def work(number: int, part: range) -> Columns:
        images = given.read(np.array(part))
        return images.facts | figures(images, number)

    def summed(parts: Iterator[Columns]) -> Iterator[Columns]:
        for part in parts:
            if "inferred" in part:
                sums["inferred"] += np.bincount(part["labels"][part["inferred"]], minlength=len(sums["inferred"]))
            for name, values in part.items():
                if values.dtype.kind == "f":
                    sums[name] = sums.get(name, 0) + values.sum(0, dtype=np.float64) / given.count
            yield part

    def identity() -> str:
        return f"{settings} {weights_of(given.model)} {given.identity()}"

    def write(path: Path, parts: Iterator[Columns]) -> None:
        write_table(path, summed(parts))

    write_in_parts(out, given.count, work, write, identity, progress, f"{settings[0]}")
    return sums
