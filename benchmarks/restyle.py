"""Restyling: how often a restyled digit is the requested one, and how well it keeps the style of the original.

    python benchmarks/restyle.py              # MNIST (from VAELAB_DATA_DIR, or downloaded)
    python benchmarks/restyle.py strokes

Trains the default conditional model from the command line with its default budget (90 s). Every test image is encoded under
its own label, and the posterior mean is decoded under each of the other labels. A classifier trained on real training images only
reads the result; slant and stroke width are measured on the pixels (`vaelab.evaluation.style`) and correlated with those of the
original. Pooled: Pearson's correlation over all pairs of an original and a generated image. By pair of labels: the mean of the
correlations within each pair of an original and a generated label, which removes differences between digits (a 1 is thinner than
an 8).
"""

from __future__ import annotations

import argparse

import numpy as np
from machine import machine
from train_run import train_run

import vaelab
from vaelab.evaluation.reference_classifier import reference_classifier_for
from vaelab.evaluation.style import slant, stroke_width
from vaelab.inference.explore import styles
from vaelab.progress import work_bar

MEASURES = {"slant": slant, "stroke width": stroke_width}


def main() -> None:
    """Print the share read as the requested label, and the correlations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", default="mnist")
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", help="run folder to measure instead of training one")
    parser.add_argument("--count", type=int, help="number of test images; default: all")
    arguments = parser.parse_args()
    print(machine())
    dataset = vaelab.load_dataset(arguments.source)
    with work_bar() as work:
        classifier = reference_classifier_for(dataset, work=work)
    options = ["--model", "cvae", "--seconds", str(arguments.seconds), "--seed", str(arguments.seed)]
    run = arguments.run or train_run(f"restyle-{arguments.source}-{arguments.seed}", arguments.source, *options)
    model = vaelab.load(run)
    test = dataset.test[: arguments.count]
    assert test.labels is not None
    originals, labels, K = test.images[:, 0], test.labels, len(dataset.classes)
    print(
        f"{dataset.name}: the reference classifier reads {classifier.accuracy:.2%} of the {classifier.held_out:,} real test "
        "images correctly",
        flush=True,
    )

    restyled = styles(model, originals, labels)
    other = np.arange(K) != labels[:, None]  # (N, K)
    flat = restyled.reshape(-1, *originals.shape[1:])
    as_requested = classifier.read(flat).reshape(-1, K) == np.arange(K)
    right = as_requested[other]
    error = (right.mean() * (1 - right.mean()) / right.size) ** 0.5
    each = [as_requested[other[:, k], k].mean() for k in range(K)]
    print(f"read as the requested label: {right.mean():.2%} ± {error:.2%} (n = {right.size:,})", flush=True)
    print(
        "by requested label:",
        "  ".join(f"{name} {share:.1%}" for name, share in zip(dataset.classes, each, strict=True)),
    )

    for name, measure in MEASURES.items():
        before, after = measure(originals), measure(flat).reshape(-1, K)
        pooled = correlation(np.repeat(before[:, None], K, 1)[other], after[other])
        pairs = [correlation(before[labels == a], after[labels == a, b]) for a in range(K) for b in range(K) if a != b]
        print(
            f"{name}: correlation with the original, pooled {pooled:.3f} (n = {other.sum():,}), by pair of labels "
            f"{np.mean(pairs):.3f} (lowest {min(pairs):.3f}); mean {before.mean():.2f} → {after[other].mean():.2f}",
            flush=True,
        )


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation."""
    return float(np.corrcoef(a, b)[0, 1])


if __name__ == "__main__":
    main()
