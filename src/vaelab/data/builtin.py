"""Built-in data sources: published data sets, the 8×8 digits of scikit-learn, and synthetic strokes.

Digits: E. Alpaydin, C. Kaynak (UCI), as bundled with scikit-learn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vaelab.data.arrays import Part, assemble
from vaelab.data.dataset import Dataset
from vaelab.data.download import PUBLISHED, load_published
from vaelab.data.resize import Progress

BUILTIN = {
    "mnist": "70,000 handwritten digits, grey 28×28, ten classes; downloaded once (11 MB)",
    "digits": "1,797 handwritten digits, grey 8×8, ten classes; bundled with scikit-learn",
    "strokes": "synthetic handwritten digits, grey 28×28, with known factors of variation; no download",
    "fashion-mnist": "70,000 photographs of clothes, grey 28×28, ten classes; downloaded once (31 MB)",
    "kmnist": "70,000 Japanese cursive characters, grey 28×28, ten classes; downloaded once (21 MB)",
    "emnist-letters": "145,600 handwritten letters, grey 28×28, a to z; downloaded once (562 MB)",
}
"""Names of the built-in sources, each with a one-line description."""

DIGITS = tuple("0123456789")


def load_builtin(name: str, *, seed: int = 0, progress: Progress | None = None) -> Dataset:
    """Load the built-in dataset `name`, a key of `BUILTIN`."""
    if name in PUBLISHED:
        return load_published(name, seed=seed)
    if name == "digits":
        return load_digits(seed=seed)
    return _load_strokes(seed=seed, progress=progress)


def _load_strokes(*, seed: int, progress: Progress | None) -> Dataset:
    from vaelab.data.strokes import TEST, TRAIN, VALIDATION, load_strokes

    if progress is None:
        return load_strokes(seed=seed)
    drawn = 0

    def count(more: int) -> None:
        nonlocal drawn
        drawn += more
        progress("drawing strokes", drawn, TRAIN + VALIDATION + TEST)

    return load_strokes(seed=seed, progress=count)


def load_digits(*, seed: int = 0) -> Dataset:
    """Load the 8×8 digits of scikit-learn, with grey levels 0…16 scaled to 0…255."""
    import sklearn.datasets

    bunch: Any = sklearn.datasets.load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    notes = ["Scaled the 17 grey levels 0…16 to 0…255."]
    return assemble("digits", Part(images, bunch.target), classes=DIGITS, seed=seed, notes=notes)
