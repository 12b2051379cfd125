"""Likelihood on binarised MNIST for a budget of time, one preset per budget.

    python benchmarks/records.py                       # the three budgets for two cores: 60 s, 10 min and 60 min
    python benchmarks/records.py quick                 # one of them
    python benchmarks/records.py gpu                   # 10 min on a large GPU
    python benchmarks/records.py quick --seeds 5       # spread over seeds
    python benchmarks/records.py quick --cold          # also with an empty compile cache
    python benchmarks/records.py best --again          # measure the existing run

The protocol is the published one: training on the first 50,000 training images, binarised afresh at each use; a seeded 1,337 of
the other 10,000 select the weights; the 10,000 test images binarised once (RandomState(777)); no augmentation, no autoregression.
The budget is wall time from the command to the saved weights, loading included (see `train_run`). The compiled step is in the
cache: an epoch trained before puts it there. On a GPU nothing is cached, because a ladder's step is recorded, not compiled.

−ELBO is of all test images, one sample of z each. The importance-weighted bound (K = 5,000, Burda et al. 2016) is of every tenth
test image; all 10,000 would take an hour. −ELBO of all images minus the mean gap (−ELBO minus bound) on every tenth image
estimates the bound of all, with the errors of both. Both are computed in float32, on the GPU if there is one. With `--model cvae`
the model receives the label of each image.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from machine import machine
from train_run import train_run

import vaelab
from vaelab import runs
from vaelab.data.cache import cache_folder
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.bounds import held_out_terms, negative_bounds
from vaelab.precision import pick_device
from vaelab.presets import PRESETS

SAMPLES, EVERY = 5000, 10
ON_CPU, ON_GPU = [name for name in PRESETS if name != "gpu"], ["gpu"]


def main() -> None:
    """Train and measure; print a row per run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "presets", nargs="*", default=ON_CPU, help="quick, standard, best or gpu; default: the first three"
    )
    parser.add_argument("--model", default="vae", choices=("vae", "cvae"))
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--from-seed", type=int, default=0, help="first seed")
    parser.add_argument("--seconds", type=float, help="training budget instead of the preset's")
    parser.add_argument("--cold", action="store_true", help="also with an empty compile cache")
    parser.add_argument("--again", action="store_true", help="measure existing runs without training")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="K of the importance-weighted bound")
    parser.add_argument("--every", type=int, default=EVERY, help="compute the bound of every n-th test image")
    parser.add_argument("--options", default="", help="further options for `vaelab train`, as one string")
    arguments = parser.parse_args()
    print(machine())
    k = f"{arguments.samples:,}"
    print(
        f"| preset | cache | seed | seconds | epochs | −ELBO (n = 10,000) | bound, K = {k}, by the gap "
        f"| K = {k}, one image of {arguments.every} |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    dataset = vaelab.load_dataset("mnist")
    for name in arguments.presets:
        budget = [] if arguments.seconds is None else ["--seconds", str(arguments.seconds)]
        for seed in range(arguments.from_seed, arguments.from_seed + arguments.seeds):
            options = ["--model", arguments.model, "--preset", name, "--seed", str(seed), *arguments.options.split()]
            if seed == arguments.from_seed and not arguments.again and name not in ON_GPU:
                _warm(options)
            for cache in ("warm", "cold") if arguments.cold else ("warm",):
                folder = Path("runs") / f"records-{arguments.model}-{name}-{cache}-{seed}"
                with _cold() if cache == "cold" else nullcontext():
                    if not arguments.again:
                        train_run(folder.name, "mnist", *options, *budget)
                cells = (name, cache, str(seed), *_measured(folder, dataset, arguments.samples, arguments.every))
                print(f"| {' | '.join(cells)} |", flush=True)


@contextmanager
def _cold() -> Iterator[None]:
    """Use an empty compile cache; the rest of the cache folder is linked."""
    with tempfile.TemporaryDirectory() as folder:
        cache = cache_folder()
        for entry in cache.iterdir() if cache.is_dir() else ():
            if entry.name != "compiled":
                (Path(folder) / entry.name).symlink_to(entry.resolve())
        before = os.environ.get("VAELAB_CACHE_DIR")
        os.environ["VAELAB_CACHE_DIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["VAELAB_CACHE_DIR"]
            else:
                os.environ["VAELAB_CACHE_DIR"] = before


def _warm(options: list[str]) -> None:
    """Fill the compile cache with one epoch of the same training, compiled before its first step."""
    train_run("records-warm", "mnist", *options, "--epochs", "1", "--compile", "yes")


def _measured(folder: Path, dataset: vaelab.Dataset, samples: int, every: int) -> tuple[str, ...]:
    """Return a run's seconds, epochs, −ELBO and bounds as table cells."""
    device = pick_device("auto")
    trained, last = vaelab.load(folder), runs.read_metrics(runs.open_run(folder))[-1]
    seconds = (folder.with_suffix(".seconds")).read_text(encoding="utf-8")
    model, levels, labels = trained.model.to(device), held_out_levels(dataset.test.images, trained.likelihood), None
    levels = levels.to(device)
    if trained.conditional and dataset.test.labels is not None:
        labels = torch.from_numpy(dataset.test.labels).to(device)
    elbo = held_out_terms(model, levels, labels).negative_elbo().double().cpu().numpy()
    subset = slice(None, None, every)
    y = None if labels is None else labels[subset]
    at_once = 500 if device.type == "cpu" else 5000
    bound = negative_bounds(model, levels[subset], y, samples=[samples], most_at_once=at_once)[:, 0].cpu().numpy()
    gap = elbo[subset] - bound
    error = math.hypot(_error(elbo), _error(gap))
    return (
        seconds,
        f"{last['epoch']:.1f}",
        f"{elbo.mean():.2f} ± {_error(elbo):.2f}",
        f"{elbo.mean() - gap.mean():.2f} ± {error:.2f}",
        f"{bound.mean():.2f} ± {_error(bound):.2f}",
    )


def _error(values: np.ndarray) -> float:
    """Return the standard error of the mean over images."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


if __name__ == "__main__":
    main()
