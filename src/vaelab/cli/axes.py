"""Models whose latent axes are measured on a data source, for runs that have not measured them in training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vaelab.cli.app import SourceOptions, load_model
from vaelab.cli.images import read_images

if TYPE_CHECKING:
    import numpy as np

    from vaelab.inference.trained import TrainedModel

MAX_MEASURED = 10_000
"""Largest number of images to measure axes on."""


def load_measured(run: Path, source: str | None, options: SourceOptions | None, trust_code: bool) -> TrainedModel:
    """Load a model, with its axes measured on the source if one is given."""
    model = load_model(run, trust_code)
    if source is None:
        return model
    given = read_images(run, model, [source], options, split="all", count=MAX_MEASURED)
    return with_axes(model, given.images, given.labels)


def with_axes(model: TrainedModel, images: np.ndarray, labels: np.ndarray | None) -> TrainedModel:
    """Return the model with its axes measured on images."""
    from vaelab.inference.latents import measured
    from vaelab.progress import work_bar

    with work_bar(waiting="measuring the axes"):
        return measured(model, images, labels)
