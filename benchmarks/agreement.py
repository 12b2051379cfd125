"""Label agreement: how often a generated digit is the requested one.

    python benchmarks/agreement.py            # MNIST (from VAELAB_DATA_DIR, or downloaded) and strokes, seed 0
    python benchmarks/agreement.py mnist --seeds 3

Trains the default conditional model from the command line with its default budget (90 s), generates 1,000 images per
label at temperature 1 (the decoder's mean) and classifies them with a network trained on real training images only.
"""

from __future__ import annotations

import argparse

import numpy as np
from machine import machine
from train_run import train_run

import vaelab
from vaelab.evaluation.reference_classifier import reference_classifier_for
from vaelab.progress import work_bar

PER_LABEL = 1000


def main() -> None:
    """Print the agreement, overall and per label, and the reference classifier's accuracy on real images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", default=["mnist", "strokes"])
    parser.add_argument("--seeds", type=int, default=1, help="models to train per source")
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--options", default="", help="further options for `vaelab train`, as one string")
    arguments = parser.parse_args()
    print(machine())
    for source in arguments.sources:
        dataset = vaelab.load_dataset(source)
        with work_bar() as work:
            classifier = reference_classifier_for(dataset, work=work)
        assert dataset.test.labels is not None
        print(
            f"{source}: the reference classifier reads {classifier.accuracy:.2%} of the {len(dataset.test):,} real test images "
            "correctly"
        )
        for seed in range(arguments.seeds):
            options = [
                "--model",
                "cvae",
                "--seconds",
                str(arguments.seconds),
                "--seed",
                str(seed),
                *arguments.options.split(),
            ]
            model = vaelab.load(train_run(f"agreement-{source}-{seed}", source, *options))
            samples = model.grid(count=PER_LABEL, seed=seed)
            right = classifier.read(samples.images) == samples.labels
            each = right.reshape(len(dataset.classes), PER_LABEL).mean(1)
            text = "  ".join(f"{name} {share:.1%}" for name, share in zip(dataset.classes, each, strict=True))
            n, share = right.size, float(np.mean(right))
            error = (share * (1 - share) / n) ** 0.5
            print(f"{source} seed {seed}: agreement {share:.2%} ± {error:.2%} (n = {n:,})   {text}", flush=True)


if __name__ == "__main__":
    main()
