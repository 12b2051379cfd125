"""Similarity of two sets of images in features of a network: FID, KID, precision, recall, density, coverage, diversity.

Symbols: `real` (N, F) and `generated` (M, F), features of images.

Sources: Heusel et al. 2017 (FID); Bińkowski et al. 2018 (KID); Kynkäänniemi et al. 2019 (precision, recall); Naeem et al.
2020 (density, coverage). FID and KID use torchmetrics, with these features instead of Inception's. Values are comparable only
for the same network.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from vaelab.evaluation.results import Estimate

NEIGHBOURS = 5
"""k of precision, recall, density and coverage."""

KID_BLOCK = 1000
"""Number of images of each set in a block; KID is the mean over blocks."""

MOST_BLOCKS = 10
"""Maximum number of blocks over which FID is averaged."""


class Manifold(NamedTuple):
    """Precision, recall, density and coverage; shares 0…1, except density, which can exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


ALONE: dict[str, Any] = {"sync_on_compute": False}
"""Options of a metric that the first of several processes computes alone."""


class _Identity(nn.Module):
    """Returns features unchanged, where torchmetrics expects a feature extractor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Float[Tensor, "n f"], generated: Float[Tensor, "m f"]) -> float:
    """Return FID: ‖μ − μ'‖² + tr(S + S' − 2 (S S')^½), the squared Fréchet distance of Gaussians with the sets' moments.

    It is biased upwards by about 1/N (Chong & Forsyth 2020), so compare only sets of the same size. At least 2 images each.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Identity(real.shape[1]), **ALONE)
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    return float(metric.compute())


def kernel_distance(real: Float[Tensor, "n f"], generated: Float[Tensor, "m f"], block: int = KID_BLOCK) -> Estimate:
    """Return KID: the squared maximum mean discrepancy with kernel (x·y/F + 1)³, unbiased, so it can be negative.

    Parameters
    ----------
    real, generated
        At least 2 images each; the order should be random.
    block
        Number of images of each set in a block. The value is the mean over disjoint blocks; the error follows from their
        differences (NaN for a single block).
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(block, len(real), len(generated))
    values = []
    for a, b in zip(_blocks(real, size), _blocks(generated, size), strict=False):
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
            metric = KernelInceptionDistance(feature=_Identity(real.shape[1]), subsets=1, subset_size=size, **ALONE)
            metric.update(a.double(), real=True)
            metric.update(b.double(), real=False)
            values.append(float(metric.compute()[0]))
    return Estimate.of(np.array(values))


def frechet_curve(
    real: Float[Tensor, "n f"], generated: Float[Tensor, "n f"], sizes: tuple[int, ...]
) -> list[Estimate]:
    """Return FID for each set size in `sizes`, the mean over disjoint blocks if several fit."""
    curve = []
    for size in sizes:
        pairs = list(zip(_blocks(real, size), _blocks(generated, size), strict=False))[:MOST_BLOCKS]
        curve.append(Estimate.of(np.array([frechet_distance(a, b) for a, b in pairs])))
    return curve


def manifold(real: Float[Tensor, "n f"], generated: Float[Tensor, "m f"], k: int = NEIGHBOURS) -> Manifold:
    """Return precision, recall, density and coverage, from balls around each image up to its k-th neighbour in its own set.

    Precision is the share of generated images inside a ball of a real one, recall the share of real images inside a ball of a
    generated one (Kynkäänniemi et al. 2019). Density is 1/k times the mean number of real balls that contain a generated image,
    coverage the share of real balls that contain a generated image (Naeem et al. 2020). For two sets of the same distribution
    they are about 1 and 1 − 2^−k.

    Parameters
    ----------
    real, generated
        More than k images each.
    """
    real, generated = real.double(), generated.double()
    reach, generated_reach = _reach(real, k), _reach(generated, k)
    inside = torch.zeros(len(generated), dtype=torch.float64)
    covered, recalled = [], []
    for part, radius in zip(real.split(1000), reach.split(1000), strict=True):
        distance = torch.cdist(part, generated)
        within = distance <= radius[:, None]
        inside += within.sum(0)
        covered.append(within.any(1))
        recalled.append((distance <= generated_reach).any(1))
    return Manifold(
        precision=float((inside > 0).double().mean()),
        recall=float(torch.cat(recalled).double().mean()),
        density=float(inside.mean() / k),
        coverage=float(torch.cat(covered).double().mean()),
    )


def class_variances(
    values: Num[np.ndarray, "n f"], labels: Int[np.ndarray, " n"], classes: Int[np.ndarray, " k"]
) -> np.ndarray:
    """Return the variance within each of `classes`, summed over columns, (K,): half the mean squared distance of two images.

    NaN for a class of fewer than 2 images.
    """
    variances = np.full(len(classes), np.nan)
    for index, label in enumerate(classes):
        members = values[labels == label]
        if len(members) > 1:
            variances[index] = members.astype(np.float64).var(0, ddof=1).sum()
    return variances


def _reach(features: Tensor, k: int) -> Tensor:
    """Return the distance of each image to its k-th neighbour in the set, itself not counted."""
    parts = [torch.cdist(part, features).kthvalue(k + 1, dim=1).values for part in features.split(1000)]
    return torch.cat(parts)


def _blocks(features: Tensor, size: int) -> tuple[Tensor, ...]:
    """Split into parts of `size`, dropping the remainder."""
    return features[: len(features) // size * size].split(size)
