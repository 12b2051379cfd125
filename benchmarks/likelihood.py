"""Held-out likelihood on binarised MNIST, by the published protocol.

    python benchmarks/likelihood.py              # trains a vae and an ae for 90 s each (VAELAB_DATA_DIR, or downloaded)

Training images are binarised afresh at each use; the 10,000 test images once (RandomState(777)), and nothing is tuned on
them. Prints −ELBO with one sample per image and the importance-weighted bound with K = 500 on the first 1,000 images.
"""

from __future__ import annotations

import argparse

import torch
from machine import machine
from train_run import train_run

import vaelab
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.bounds import held_out_terms, negative_bounds

SAMPLES, BOUND_IMAGES = 500, 1000


def main() -> None:
    """Train each model and print its likelihoods."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", default="mnist")
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--options", default="", help="further options for `vaelab train`, as one string")
    arguments = parser.parse_args()
    print(machine())
    dataset = vaelab.load_dataset(arguments.source)
    for kind in ("vae", "ae"):
        for seed in range(arguments.seeds):
            options = [
                "--model",
                kind,
                "--seconds",
                str(arguments.seconds),
                "--seed",
                str(seed),
                *arguments.options.split(),
            ]
            model = vaelab.load(train_run(f"likelihood-{arguments.source}-{kind}-{seed}", arguments.source, *options))
            images = held_out_levels(dataset.test.images, model.likelihood)
            result = model.reconstruct(dataset.test.images)
            distortion, rate = result.distortion.mean(), result.rate.mean()
            if kind == "ae":
                print(
                    f"ae  seed {seed}: test distortion {distortion:.2f} nats per image (n = {len(images):,})",
                    flush=True,
                )
                continue
            elbo = held_out_terms(model.model, images).negative_elbo()
            bound = negative_bounds(model.model, images[:BOUND_IMAGES], samples=[SAMPLES])[:, 0]
            print(
                f"vae seed {seed}: test −ELBO {elbo.mean():.2f} ± {_error(elbo):.2f} nats per image (n = {len(images):,}; "
                f"distortion {distortion:.2f} + rate {rate:.2f}); bound K = {SAMPLES}: {bound.mean():.2f} ± "
                f"{_error(bound):.2f} (n = {len(bound):,})",
                flush=True,
            )


def _error(values: torch.Tensor) -> float:
    return values.std().item() / len(values) ** 0.5


if __name__ == "__main__":
    main()
