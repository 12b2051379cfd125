"""Drawing speed of `strokes`, and how well it replaces MNIST.

    python benchmarks/strokes.py            # MNIST from VAELAB_DATA_DIR, or downloaded; five minutes on two cores

The same small network (`vaelab.evaluation.reference_classifier`, with its light augmentation) is trained
twice, on drawings only and on MNIST only; both classify the test images of both.
"""

from __future__ import annotations

import time

import numpy as np
from machine import machine

import vaelab
from vaelab.data.dataset import Dataset, between_share
from vaelab.data.strokes import draw_strokes
from vaelab.evaluation.reference_classifier import ReferenceClassifier, reference_classifier_for
from vaelab.progress import work_bar

COUNT = 60_000


def report(classifier: ReferenceClassifier, trained_on: str, dataset: Dataset) -> None:
    """Print the reference classifier's accuracy on the test images of a data set, overall and per class."""
    right = classifier.read(dataset.test.images) == dataset.test.labels
    assert dataset.test.labels is not None
    each = [f"{name} {right[dataset.test.labels == k].mean():.1%}" for k, name in enumerate(dataset.classes)]
    print(f"trained on {trained_on}, reading {dataset.name}: {np.mean(right):.2%}   {'  '.join(each)}", flush=True)


def main() -> None:
    """Print the drawing speed, the share of grey pixels, and the accuracies."""
    print(machine())
    began = time.perf_counter()
    draw_strokes(COUNT, seed=0)
    print(f"{COUNT:,} drawings in {time.perf_counter() - began:.1f} s")
    sets = {name: vaelab.load_dataset(name) for name in ("strokes", "mnist")}
    for name, dataset in sets.items():
        print(f"{name}: {between_share(dataset.train.images):.2%} of the pixels between 10 % and 90 % of white")
    for trained_on in sets:
        with work_bar() as work:
            classifier = reference_classifier_for(sets[trained_on], work=work)
        for dataset in sets.values():
            report(classifier, trained_on, dataset)


if __name__ == "__main__":
    main()
