"""How odd an image is for a model: three scores in nats per image, of which outliers should have the higher ones.

Symbols: x an image, L(x) the length of its PNG in bits. The scores are −log p(x), by the importance-weighted bound;
−log p(x) − ln 2 · L(x), which corrects for simple images having a high likelihood whatever they show; and the distortion
−log p(x|z) for one draw from q(z|x).

Sources: Nalisnick et al. 2019 (the raw likelihood fails); Serrà et al. 2020, eq. 1 (the correction).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vaelab.inference.labels import likeliest_labels
from vaelab.inference.trained import TrainedModel
from vaelab.objectives.bounds import held_out_terms, negative_bounds
from vaelab.random import latent_noise

ScoreName = Literal["likelihood", "corrected", "reconstruction"]

Scores = dict[ScoreName, np.ndarray]
"""Scores of N images by name, float64 (N,), in nats; higher is odder."""


def outlier_scores(
    model: TrainedModel,
    levels: Tensor,
    *,
    samples: int,
    seed: int = 0,
    shared: bool = False,
    most_at_once: int = 500,
    progress: Callable[[int, int], None] | None = None,
    together: bool = False,
) -> Scores:
    """Return the scores that the model and its data allow: an autoencoder has `reconstruction` only, a table no `corrected`.

    A conditional model scores each image under the label that it finds most probable itself: outliers have no label, and other
    images must not have an advantage.

    Parameters
    ----------
    model
        The model.
    levels
        Images as `held_out_levels` returns them, (N, *shape).
    samples
        K of the importance-weighted bound.
    seed
        Seed of the draws of z.
    shared
        Whether all images use the same draws, so that a score is a function of its image alone.
    most_at_once, progress, together
        As for `negative_bounds`.
    """
    network = model.model
    labels = likeliest_labels(network, levels) if model.conditional else None
    noise = latent_noise(1 if shared else len(levels), network.latent_dim, seed).expand(len(levels), -1)
    distortion = held_out_terms(network, levels, labels, noise, together=together).distortion.double().numpy()
    if not network.stochastic:
        return {"reconstruction": distortion}
    raw = negative_bounds(
        network,
        levels,
        labels,
        samples=[samples],
        seed=seed,
        shared=shared,
        most_at_once=most_at_once,
        progress=progress,
        together=together,
    )[:, 0].numpy()
    binary = model.likelihood == "bernoulli"
    bits = png_bits(levels.numpy(), binary=binary) if levels.ndim == 4 else None
    corrected: Scores = {"corrected": raw - math.log(2) * bits} if bits is not None else {}
    return {"likelihood": raw, **corrected, "reconstruction": distortion}


def png_bits(levels: np.ndarray, *, binary: bool) -> Float[np.ndarray, " n"]:
    """Return the length of each image's PNG in bits.

    Parameters
    ----------
    levels
        uint8 (N, C, H, W), with C = 1 or 3.
    binary
        Whether to store grey images with 1 bit per pixel, for levels that are all 0 or 255; else 8 per value.
    """
    lengths = []
    for image in levels:
        pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
        file = io.BytesIO()
        Image.fromarray(pixels > 0 if binary and pixels.ndim == 2 else np.ascontiguousarray(pixels)).save(
            file, "PNG", optimize=True
        )
        lengths.append(8 * file.tell())
    return np.array(lengths, dtype=np.float64)
