"""Models whose latent axes are measured on a data source, for runs that have not measured them in training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vaelab.cli.app import SourceOptions, images_of_split, load_for_run, load_model

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
    images, labels, _, _ = images_of_split(model, load_for_run(run, source, options), "all")
    return with_axes(model, images, labels)


def with_axes(model: TrainedModel, images: np.ndarray, labels: np.ndarray | None) -> TrainedModel:
    """Return the model with its axes measured on images, at most `MAX_MEASURED`."""
    from vaelab.cli.outputs import spread
    from vaelab.inference.latents import measured
    from vaelab.progress import work_bar

    some = spread(len(images), MAX_MEASURED)
    with work_bar(waiting="measuring the axes"):
        return measured(model, images[some], None if labels is None else labels[some])
