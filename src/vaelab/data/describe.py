"""What a source loads as, in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vaelab.data.dataset import NEAR_BINARY_SHARE, Dataset, between_share, default_likelihood

MOST_CLASSES = 30


def doubts(dataset: Dataset, *, conditional: bool) -> Iterator[str]:
    """Sentences on data that a model can be trained on, but learns nothing from."""
    images = dataset.train.images
    what = "image" if images.ndim == 4 else "row"
    if len(images) == 1:
        yield f"There is 1 {what} to learn from: the model can only learn that one."
    elif all(np.array_equal(image, images[0]) for image in images):
        yield f"All {len(images):,} {what}s to learn from are alike: the model can only learn that one."
    labels = dataset.train.labels
    if conditional and labels is not None and (labels == labels[0]).all():
        yield (
            f"All {what}s to learn from have the label {dataset.classes[labels[0]]!r}: there is no other to tell it from; "
            "--model vae would learn as much."
        )


def describe_dataset(dataset: Dataset) -> Iterator[str]:
    """Lines: counts, size, channels, grey levels, the likelihood it would get and why, counts per class."""
    counts = [f"{len(getattr(dataset, name)):,} {name}" for name in ("train", "validation", "test")]
    yield f"{dataset.name}: {', '.join(counts)} images"
    channels, height, width = dataset.shape
    _, shown = dataset.shown
    levels = len(np.unique(shown.images))
    yield f"size: {height}×{width} pixels, {'grey' if channels == 1 else 'RGB'}, {levels} different levels of 256"
    share = between_share(shown.images)
    if channels == 1:
        side = "≤" if share <= NEAR_BINARY_SHARE else ">"
        why = f"{share:.1%} of the pixels lie between 10 % and 90 % of white, {side} {NEAR_BINARY_SHARE:.0%}"
    else:
        why = "RGB"
    yield f"likelihood: {default_likelihood(shown)} ({why})"
    if not dataset.labelled:
        yield "labels: none, so a vae would be trained; put the images into one folder per class for a cvae"
        return
    yield f"labels: {len(dataset.classes)} classes, so a cvae would be trained; images of each (train + validation + test):"
    splits = (dataset.train, dataset.validation, dataset.test)
    per_split = [np.bincount(s.labels, minlength=len(dataset.classes)) for s in splits if s.labels is not None]
    for index, name in enumerate(dataset.classes[:MOST_CLASSES]):
        parts = [int(counts[index]) for counts in per_split]
        yield f"  {name}: {sum(parts):,} ({' + '.join(f'{part:,}' for part in parts)})"
    if len(dataset.classes) > MOST_CLASSES:
        yield f"  and {len(dataset.classes) - MOST_CLASSES} more"
