"""Does generating more help: thinned MNIST and `strokes`, three rare classes of 50 images beside seven of 1,000.

    python benchmarks/augmentation.py mnist            # MNIST from VAELAB_DATA_DIR, or downloaded
    python benchmarks/augmentation.py strokes
    python benchmarks/augmentation.py mnist --again --try-settings     # temperature and --decode, on validation images

Training and validation images are thinned alike (validation: 5 and 100 of a class); the test images are not. The default
conditional model is trained on the thinned data by the command line for a fixed number of epochs and judged with five seeds
(`vaelab.judge_augmentation`). Settings are tried on the validation images that were left out when thinning: they neither selected
the weights of the model nor trained anything.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from sklearn.metrics import balanced_accuracy_score
from train_run import train_run

import vaelab
from vaelab.data import Dataset, Split
from vaelab.evaluation.augmentation import SEEDS, TRAINED_ON, repeated_images, t_interval
from vaelab.evaluation.image_network import steps_for
from vaelab.evaluation.reference_classifier import train_classifier
from vaelab.inference.augmentation import missing_images
from vaelab.progress import work_bar

RARE, RARE_COUNT, COUNT = (3, 5, 8), 50, 1000
"""Classes that look alike (3, 5 and 8), training images of each, and of each of the other classes."""

VALIDATION_SHARE = 0.1

SETTINGS: tuple[dict[str, Any], ...] = ({}, {"temperature": 0.7}, {"temperature": 0.5}, {"decode": "sample"})
"""Options of `vaelab.augment` that are tried."""


def thinned(split: Split, share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the images that are kept, the first of each class, and of the others."""
    assert split.labels is not None
    rank = np.empty(len(split), np.int64)
    for label in np.unique(split.labels):
        of_class = split.labels == label
        rank[of_class] = np.arange(of_class.sum())
    kept = rank < share * np.where(np.isin(split.labels, RARE), RARE_COUNT, COUNT)
    return np.flatnonzero(kept), np.flatnonzero(~kept)


def write_thinned(name: str) -> tuple[Path, Split]:
    """Write `runs/thinned-NAME.npz`; return its path and the validation images that were left out."""
    full = vaelab.load_dataset(name)
    train, (kept, others) = full.train[thinned(full.train)[0]], thinned(full.validation, VALIDATION_SHARE)
    splits = {"": train, "validation_": full.validation[kept], "test_": full.test}
    path = Path("runs") / f"thinned-{name}.npz"
    path.parent.mkdir(exist_ok=True)
    arrays = {f"{key}images": split.images for key, split in splits.items()}
    arrays |= {f"{key}labels": np.array(full.classes)[split.labels] for key, split in splits.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)
    return path, full.validation[others]


def try_settings(model: vaelab.TrainedModel, dataset: Dataset, left_out: Split) -> None:
    """Print the balanced accuracy on `left_out` of classifiers trained as the judge does, for every one of `SETTINGS`."""
    real, labels = dataset.train, dataset.train.labels
    assert labels is not None
    missing = missing_images(model, dataset, "balance")

    def training_images(setting: dict[str, Any] | None, seed: int) -> Split:
        if setting is None:
            return real[repeated_images(labels, missing, seed)]
        more = vaelab.augment(model, dataset, seed=seed, **setting)
        assert more.labels is not None
        return Split(np.concatenate([real.images, more.images]), np.concatenate([labels, more.labels]))

    for setting in (None, *SETTINGS):
        accuracy = []
        for seed in range(SEEDS):
            split = training_images(setting, seed)
            classifier = train_classifier(split, 10, left_out[:0], steps=steps_for(len(split)), seed=seed)
            accuracy.append(100 * balanced_accuracy_score(left_out.labels, classifier.read(left_out.images)))
        mean, low, high = t_interval(np.array(accuracy))
        each = ", ".join(f"{value:.2f}" for value in accuracy)
        print(
            f"{'oversampled' if setting is None else setting}: {mean:.2f} % ({low:.2f} to {high:.2f}): {each}",
            flush=True,
        )


def main() -> None:
    """Print the table of the judgement, the recall of the rare classes, the verdict, and the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=("mnist", "strokes"))
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--again", action="store_true", help="judge the run that is there instead of training one")
    parser.add_argument(
        "--try-settings", action="store_true", help="try settings on validation images that were left out"
    )
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--decode", choices=("mean", "sample"), default="mean")
    arguments = parser.parse_args()
    print(machine())
    path, left_out = write_thinned(arguments.source)
    run = Path("runs") / f"augmentation-{arguments.source}"
    if not arguments.again:
        train_run(run.name, str(path), "--epochs", str(arguments.epochs), "--compile", "no")
    dataset, model = vaelab.load_data_of_run(run, path), vaelab.load(run)
    if arguments.try_settings:
        try_settings(model, dataset, left_out)
        return
    settings = {"temperature": arguments.temperature, "decode": arguments.decode}
    began = time.perf_counter()
    with work_bar() as work:
        judgement = vaelab.judge_augmentation(model, dataset, work=work, **settings)
    seconds = time.perf_counter() - began
    print(f"{dataset!r}, {settings}, {judgement.steps} steps each")
    for k, kind in enumerate(TRAINED_ON):
        mean, low, high = judgement.accuracies[kind]
        recall = judgement.recall[k].mean(0)
        each = "  ".join(f"{dataset.classes[label]} {recall[label]:.1%}" for label in RARE)
        print(f"{kind}: {judgement.images[k]:,} images, {mean:.2f} % ({low:.2f} to {high:.2f}); recall of {each}")
    for kind, ((mean, low, high), error) in judgement.differences.items():
        print(f"generated − {kind}: {mean:+.2f} points ({low:+.2f} to {high:+.2f}), ± {error:.2f} over test images")
    print(f"{judgement.sentence}\n{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
