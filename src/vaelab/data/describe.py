"""Text descriptions of datasets, and warnings about data that a model cannot learn from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vaelab.data.dataset import (
    NEAR_BINARY_SHARE,
    Dataset,
    between_share,
    default_likelihood,
    judged,
    two_colour_share,
)
from vaelab.errors import counted, printable

MOST_CLASSES = 30


def doubts(dataset: Dataset, *, conditional: bool) -> Iterator[str]:
    """Yield warnings about training data that a model learns nothing useful from."""
    images = dataset.train.images
    noun = "image" if images.ndim == 4 else "row"
    if len(images) == 1:
        yield f"There is only 1 training {noun}: the model can learn only this {noun}."
    elif all(np.array_equal(image, images[0]) for image in images):
        yield f"All {len(images):,} training {noun}s are identical: the model can learn only this {noun}."
    labels = dataset.train.labels
    if conditional and labels is not None and (labels == labels[0]).all():
        yield (
            f"All training {noun}s have the label {dataset.classes[labels[0]]!r}: "
            "a conditional model learns no more than `model='vae'`."
        )
    if not conditional and len(dataset.classes) == 1 and len(images) > 1:
        yield f"All {noun}s are of the class {dataset.classes[0]!r}: the model is unconditional."


def describe_dataset(dataset: Dataset) -> Iterator[str]:
    """Yield lines of text: counts, size, channels, grey levels, default likelihood with its reason, counts per class."""
    counts = [f"{len(getattr(dataset, name)):,} {name}" for name in ("train", "validation", "test")]
    yield f"{printable(dataset.name)}: {', '.join(counts)} images"
    channels, height, width = dataset.shape
    _, shown = dataset.shown
    chunks = (shown.images[first : first + 1000].ravel() for first in range(0, len(shown), 1000))
    levels = np.count_nonzero(sum(np.bincount(chunk, minlength=256) for chunk in chunks))
    yield f"size: {height}×{width} pixels, {'grey' if channels == 1 else 'RGB'}, {levels} of 256 levels occur"
    if channels == 1:
        share = between_share(judged(shown.images))
        side = "≤" if share <= NEAR_BINARY_SHARE else ">"
        reason = f"{share:.1%} of the pixels lie between 10 % and 90 % of white, {side} {NEAR_BINARY_SHARE:.0%}"
    else:
        share = float(np.median(two_colour_share(judged(shown.images))))
        reason = f"RGB, two colours explain {share:.0%} of the variance of an image".replace("%", " %")
    yield f"likelihood: {default_likelihood(shown)} ({reason})"
    if not dataset.labelled:
        yield "labels: none, so the default model is a vae; for a cvae, put the images into one folder per class"
        return
    kind = "cvae" if len(dataset.classes) > 1 else "vae"
    labels = f"labels: {counted(len(dataset.classes), 'class')}, so the default model is a {kind}"
    yield f"{labels}; images per class (train + validation + test):"
    splits = (dataset.train, dataset.validation, dataset.test)
    per_split = [np.bincount(s.labels, minlength=len(dataset.classes)) for s in splits if s.labels is not None]
    for index, name in enumerate(dataset.classes[:MOST_CLASSES]):
        parts = [int(counts[index]) for counts in per_split]
        yield f"  {printable(name)}: {sum(parts):,} ({' + '.join(f'{part:,}' for part in parts)})"
    if len(dataset.classes) > MOST_CLASSES:
        yield f"  and {len(dataset.classes) - MOST_CLASSES} more"
