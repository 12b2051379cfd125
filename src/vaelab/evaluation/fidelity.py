"""How alike two sets of images are, by a judge's features of them: FID, KID, precision, recall, density, coverage, diversity.

Symbols: `real` (N, F) and `generated` (M, F), features of images.

Sources: Heusel et al. 2017 (FID); Bińkowski et al. 2018 (KID); Kynkäänniemi et al. 2019 (precision, recall); Naeem et al.
2020 (density, coverage). FID and KID are torchmetrics', given the features in place of Inception's. Figures in one
judge's features are comparable with each other, and with no others.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from vaelab.evaluation.results import Estimate

NEIGHBOURS = 5
"""k of precision, recall, density and coverage."""

KID_BLOCK = 1000
"""Images of either set in a block, of which KID is the mean."""


class Manifold(NamedTuple):
    """Precision, recall, density and coverage, each of which is a share but for the density, which may pass 1."""

    precision: float
    recall: float
    density: float
    coverage: float


class _Given(nn.Module):
    """Passes features on, where torchmetrics expects a network that makes them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Float[Tensor, "n f"], generated: Float[Tensor, "m f"]) -> float:
    """FID: ‖μ − μ'‖² + tr(S + S' − 2 (S S')^½), the squared Fréchet distance of the Gaussians with the sets' moments.

    It is biased up by about 1/N (Chong & Forsyth 2020), so that only sets of the same size compare. At least 2 images each.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Given(real.shape[1]))
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    return float(metric.compute())


def kernel_distance(real: Float[Tensor, "n f"], generated: Float[Tensor, "m f"], block: int = KID_BLOCK) -> Estimate:
    """KID: the squared maximum mean discrepancy under the kernel (x·y/F + 1)³, unbiased: about 0, of either sign, for equals.

    Parameters
    ----------
    real, generated
        At least 2 images each; the order should be random.
    block
        Images of either set in a block: the figure is the mean over blocks that share no image, the error follows from their
        differences (NaN for a single block).
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(block, len(real), len(generated))
    figures = []
    for a, b in zip(_blocks(real, size), _blocks(generated, size), strict=False):
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
            metric = KernelInceptionDistance(feature=_Given(real.shape[1]), subsets=1, subset_size=size)
            metric.update(a.double(), real=True)
            metric.update(b.double(), real=False)
            figures.append(float(metric.compute()[0]))
    return Estimate.of(np.array(figures))


def frechet_curve(
    real: Float[Tensor, "n f"], generated: Float[Tensor, "n f"], sizes: tuple[int, ...], most_blocks: int = 10
) -> list[Estimate]:
    """FID of so many images of either set, for each of `sizes`: the mean over blocks that share no image, where several fit."""
    curve = []
    for size in sizes:
        pairs = list(zip(_blocks(real, size), _blocks(generated, size), strict=False))[:most_blocks]
        curve.append(Estimate.of(np.array([frechet_distance(a, b) for a, b in pairs])))
    return curve


def manifold(real: Float[Tensor, "n f"], generated: Float[Tensor, "m f"], k: int = NEIGHBOURS) -> Manifold:
    """Precision, recall, density and coverage by balls that reach from each image to its k-th neighbour in its own set.

    Precision is the share of generated images in a ball of the real, recall that of real ones in a ball of the generated
    (Kynkäänniemi et al. 2019). Density is 1/k of the number of real balls that a generated image lies in, coverage the share of
    real balls that hold a generated image (Naeem et al. 2020): for two sets of one distribution about 1 and 1 − 2^−k.

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


def spread(values: Num[np.ndarray, "n f"], labels: Int[np.ndarray, " n"], classes: Int[np.ndarray, " k"]) -> np.ndarray:
    """Variance within each of `classes`, summed over the columns, (K,): half the mean squared distance of two images of it.

    NaN for a class of fewer than 2 images.
    """
    found = np.full(len(classes), np.nan)
    for place, label in enumerate(classes):
        chosen = values[labels == label]
        if len(chosen) > 1:
            found[place] = chosen.astype(np.float64).var(0, ddof=1).sum()
    return found


def _reach(features: Tensor, k: int) -> Tensor:
    """Distance of each to its k-th neighbour in the set, itself not counted."""
    parts = [torch.cdist(part, features).kthvalue(k + 1, dim=1).values for part in features.split(1000)]
    return torch.cat(parts)


def _blocks(features: Tensor, size: int) -> tuple[Tensor, ...]:
    """Parts of `size` each, the rest left out."""
    return features[: len(features) // size * size].split(size)
