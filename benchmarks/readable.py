"""Share of random points that decode to a readable digit, by number of latent dimensions.

    python benchmarks/readable.py                              # VAE and autoencoder of strokes, 10 epochs each, seeds 0 to 2
    python benchmarks/readable.py --dims 32 10 --epochs 30

A point is readable if a classifier trained on real images gives one label a probability above 0.9. Points are drawn from N(0, I)
(step 6 of the studio's story); for the autoencoder, which has no prior, also from a Gaussian with the mean and standard deviation
of its codes on each axis (the view Play). The budget is in epochs, so that the machine does not change the result; 10 epochs take
about 30 s on two cores.
"""

from __future__ import annotations

import argparse

import numpy as np
from machine import machine
from train_run import train_run

import vaelab
from vaelab import runs
from vaelab.evaluation.reference_classifier import ReferenceClassifier, reference_classifier_for
from vaelab.inference import latents

POINTS, CONFIDENT = 2000, 0.9


def readable(classifier: ReferenceClassifier, images: np.ndarray) -> float:
    """Return the share of images that the classifier reads with confidence."""
    return float((classifier.probabilities(images).amax(1) > CONFIDENT).double().mean())


def main() -> None:
    """Print a row per model, number of dimensions and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="strokes")
    parser.add_argument("--dims", type=int, nargs="+", default=[32, 16, 10, 7, 4])
    parser.add_argument("--kinds", nargs="+", default=["vae", "ae"], choices=("vae", "ae"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print(machine())
    dataset = vaelab.load_dataset(arguments.source)
    classifier = reference_classifier_for(dataset)
    share = readable(classifier, dataset.test.images)
    print(f"real test images read with confidence: {share:.1%}; n = {POINTS:,} points, {arguments.epochs} epochs")
    print("| model | d | seed | points of N(0, I) | points on the scale of the codes | validation, nats |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for kind in arguments.kinds:
        for d in arguments.dims:
            for seed in range(arguments.seeds):
                words = ["--model", kind, "--latent-dim", d, "--epochs", arguments.epochs, "--seed", seed]
                run = train_run(f"readable-{kind}-{d}-{seed}", arguments.source, *map(str, words))
                model = vaelab.load(run)
                z = model.latents(POINTS, seed=seed)
                middle, sigma = latents.scale(model)
                codes = "–" if kind == "vae" else f"{readable(classifier, model.decode(middle + sigma * z)):.1%}"
                facts = runs.weight_facts(runs.open_run(run))
                nats = facts["rate"] + facts["distortion"]
                prior = f"{readable(classifier, model.decode(z)):.1%}"
                print(f"| {kind} | {d} | {seed} | {prior} | {codes} | {nats:.1f} |", flush=True)


if __name__ == "__main__":
    main()
