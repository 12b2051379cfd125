"""Colour images at equal training time: the textbook convolutional VAE, pythae, and vaelab from the command line.

    python benchmarks/colour.py --source FOLDER                                # 90 s each: about 10 min on two cores
    python benchmarks/colour.py --source FOLDER --only vaelab --options "" --options "--latent-dim 64"

- textbook: `textbook_conv.py`, latent 128, batches of 128; the last weights.
- pythae: its VAE with its own convolutional networks for CIFAR, latent 128, its squared error, the same optimiser and batches;
  see `pythae_colour_worker.py`. Only for images of 32×32.
- vaelab: `vaelab train FOLDER --seconds N` with each `--options`; the best weights. The compile cache is as it was before.

Everything runs on the CPU. Seconds are of training alone, from the first step: vaelab's include validation and end in time to
save the weights, the others' end with the step under way. PSNR is of reconstructions of 1,000 random test images from posterior
means, from the mean squared error of all of them. Bits per dimension are −ELBO with one draw of z of the same images; a squared
error is no likelihood of 8-bit levels. FID is of generated against as many test images, in the features of the reference
classifier; means and samples are of p(x|z), z from the prior. A conditional vaelab model gets the labels of the test images,
and generates with labels drawn from them. All images are rounded to 8 bits. 64 generated images of each model are saved in
`runs/colour`.

FLOP are of a plain float32 step, forward and backward, as `FlopCounterMode` counts them. The machine's product rate is that of
bfloat16 products of 2048×2048 matrices on two threads; the last column is images/s · FLOP / product rate.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from machine import machine
from pythae_peer import PeerError, environment, last_line
from textbook_conv import BATCH, LATENT_DIM, TextbookConvVAE, train_for
from torch.utils.flop_counter import FlopCounterMode
from train_run import train_run
from turns import note, table

import vaelab
from vaelab import runs
from vaelab.data.dataset import Split
from vaelab.data.layout import as_shown, as_stored
from vaelab.evaluation.fidelity import frechet_distance
from vaelab.evaluation.reference_classifier import ReferenceClassifier, reference_classifier_for
from vaelab.figures.plots import save_picture, sheet
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.bounds import held_out_terms
from vaelab.training.fit import make_trainer

RECONSTRUCTED, SHOWN, SIDE = 1000, 64, 2048
"""Test images to reconstruct, generated images in a picture, and rows of the matrices of the product rate."""

PICTURES = Path("runs/colour")

NOT_OF_LEVELS = ("bernoulli", "continuous-bernoulli", "gaussian")
"""Likelihoods that are not of 8-bit levels."""

HEADER = (
    *("", "seconds", "images/s", "PSNR, dB", "bits per dimension", "FID of means", "FID of samples"),
    *("MFLOP per image", "fraction of the product rate"),
)


@dataclass(frozen=True)
class Task:
    """Data, training seconds, test images in random order, and the number of images to generate."""

    source: str
    dataset: vaelab.Dataset
    seconds: float
    test: Split
    generated: int

    @property
    def reconstructed(self) -> Split:
        """The test images to reconstruct."""
        return self.test[:RECONSTRUCTED]


@dataclass(frozen=True)
class Outcome:
    """A trained model's speed and images, uint8 (N, C, H, W).

    Attributes
    ----------
    images, seconds
        Images that it was trained on, with repetitions, and training time.
    flops
        Floating-point operations per image of a step.
    reconstructions
        Of `Task.reconstructed`.
    means, samples
        Generated images; samples are None without a likelihood.
    bits
        −ELBO in bits per dimension; NaN without a likelihood of 8-bit levels.
    """

    images: float
    seconds: float
    flops: float
    reconstructions: np.ndarray
    means: np.ndarray
    samples: np.ndarray | None = None
    bits: float = math.nan


def textbook(task: Task) -> Outcome:
    """Train and apply the textbook model."""
    torch.manual_seed(0)
    splits = (task.dataset.train, task.reconstructed)
    images, few = (torch.from_numpy(split.images).float().div(255) for split in splits)
    model = TextbookConvVAE(task.dataset.shape)
    flops = flops_of(lambda: model.loss(images[:BATCH]).backward(), BATCH)
    done, seconds = train_for(task.seconds, model, images)
    made = (model.reconstruct(few), model.generate(task.generated))
    reconstructions, means = (each.mul(255).round().to(torch.uint8).numpy() for each in made)
    return Outcome(done, seconds, flops, reconstructions, means)


def pythae(task: Task) -> Outcome:
    """Train and apply pythae's model in its environment; a PeerError if that is not possible."""
    if task.dataset.shape != (3, 32, 32):
        raise PeerError(f"images of shape {task.dataset.shape}; its networks are for (3, 32, 32)")
    python, worker = environment(), Path(__file__).with_name("pythae_colour_worker.py")
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "train.npy", task.dataset.train.images)
        np.save(Path(folder) / "test.npy", task.reconstructed.images)
        words = [folder, LATENT_DIM, BATCH, task.seconds, task.generated]
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(python), "-W", "ignore", str(worker), *map(str, words)]
        result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if result.returncode:
            raise PeerError(last_line(result.stderr, "its process ended"))
        facts = json.loads(last_line(result.stdout, "{}"))
        reconstructions, means = (np.load(Path(folder) / f"{name}.npy") for name in ("reconstructions", "means"))
    return Outcome(facts["images"], facts["seconds"], facts["flops"], reconstructions, means)


def by_vaelab(task: Task, name: str, options: str) -> Outcome:
    """Train with these options of `vaelab train` into `runs/colour/NAME`, and apply the model."""
    budget = ("--seconds", str(task.seconds), "--device", "cpu")
    folder = train_run(f"colour/{name}", task.source, *budget, *shlex.split(options), count_loading=False)
    run, model = runs.open_run(folder, trust_code=True), vaelab.load(folder, trust_code=True)
    last, shape, few = runs.read_metrics(run)[-1], task.dataset.shape, task.reconstructed
    labels = model.matched_labels(few.labels, task.dataset.classes)
    assert task.test.labels is not None, "the reference classifier needs them"
    drawn = model.matched_labels(
        np.random.default_rng(0).choice(task.test.labels, task.generated), task.dataset.classes
    )
    z = model.latents(task.generated)
    means, samples = (as_stored(model.decode(z, drawn, decode=decode), shape) for decode in ("mean", "sample"))
    bits = math.nan
    if model.likelihood not in NOT_OF_LEVELS and model.model.stochastic:
        y = None if labels is None else torch.from_numpy(labels)
        nats = held_out_terms(model.model, held_out_levels(few.images, model.likelihood), y).negative_elbo()
        bits = nats.double().mean().item() / math.log(2) / math.prod(shape)
    plain = replace(run.config.train, compile="no", precision="float32", device="cpu")
    trainer = make_trainer(replace(run.config, train=plain), task.dataset)
    return Outcome(
        last["step"] * plain.batch_size,
        last["seconds"],
        flops_of(lambda: trainer.take_step(0.5), plain.batch_size),
        as_stored(model.decode(model.encode(few.images, labels).mean, labels), shape),
        means,
        samples,
        bits,
    )


def flops_of(step: Callable[[], object], batch: int) -> float:
    """Return the floating-point operations per image of the second call of `step`; the first may run probes."""
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / batch


def product_rate(times: int = 20) -> float:
    """Return the FLOP/s of bfloat16 matrix products on two threads, the best of `times`."""
    threads, seconds = torch.get_num_threads(), list[float]()
    torch.set_num_threads(2)
    left, right = (torch.randn(SIDE, SIDE).bfloat16() for _ in range(2))
    product = left @ right
    for _ in range(times):
        began = time.perf_counter()
        torch.mm(left, right, out=product)
        seconds.append(time.perf_counter() - began)
    torch.set_num_threads(threads)
    return 2 * SIDE**3 / min(seconds)


def row(name: str, slug: str, outcome: Outcome, task: Task, classifier: ReferenceClassifier, rate: float) -> list[str]:
    """Save pictures of an outcome, and return its line of the table."""
    real, fids = classifier.features(task.test.images[: task.generated]), []
    for what, images in (("", outcome.means), ("-samples", outcome.samples)):
        if images is None:
            fids.append("no likelihood")
            continue
        fids.append(f"{frechet_distance(real, classifier.features(images)):.1f}")
        few = as_shown(images[:SHOWN])
        save_picture(PICTURES / f"{slug}{what}.png", sheet(list(few.reshape(8, 8, *few.shape[1:]))))
    error = np.square((outcome.reconstructions.astype(np.float64) - task.reconstructed.images) / 255).mean()
    speed = outcome.images / outcome.seconds
    return [
        *(name, f"{outcome.seconds:.1f}", f"{speed:,.1f}", f"{-10 * math.log10(error):.2f}"),
        *("no likelihood" if math.isnan(outcome.bits) else f"{outcome.bits:.3f}", *fids),
        *(f"{outcome.flops / 1e6:,.1f}", f"{speed * outcome.flops / rate:.1%}"),
    ]


def main() -> None:
    """Train and measure each contestant, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="colour images with labels and a test split")
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--options", action="append", help="options of `vaelab train`, as one string; may be repeated")
    names = ["textbook", "pythae", "vaelab"]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--generated", type=int, default=5000, help="images to generate")
    arguments = parser.parse_args()
    dataset = vaelab.load_dataset(arguments.source)
    if len(dataset.shape) != 3 or dataset.shape[0] != 3 or dataset.shape[1] % 16 or dataset.shape[2] % 16:
        parser.error(f"--source: got data of shape {dataset.shape}; expected RGB images with sides that 16 divides")
    if not SHOWN <= arguments.generated <= len(dataset.test):
        parser.error(f"--generated: got {arguments.generated}; expected {SHOWN} to {len(dataset.test)} (test images)")
    test = dataset.test[np.random.default_rng(0).permutation(len(dataset.test))]
    task = Task(arguments.source, dataset, arguments.seconds, test, arguments.generated)
    contestants: dict[str, tuple[str, Callable[[], Outcome]]] = {}
    for name, train in (("textbook", textbook), ("pythae", pythae)):
        if name in arguments.only:
            contestants[name] = (name, partial(train, task))
    for options in (arguments.options or [""]) if "vaelab" in arguments.only else []:
        slug = "-".join(["vaelab", *re.findall(r"\w+", options)])
        contestants[slug] = (f"vaelab {options}".strip(), partial(by_vaelab, task, slug, options))
    note("the reference classifier: a few minutes, unless it is cached")
    PICTURES.mkdir(parents=True, exist_ok=True)
    classifier, rate, count = reference_classifier_for(dataset), product_rate(), arguments.generated
    print(machine())
    print(
        f"\n{dataset.name}: {len(dataset.train):,} training images, {arguments.seconds:g} s each; FID of {count:,} images, "
        f"classifier of {classifier.accuracy:.1%} accuracy; product rate {rate / 1e9:,.0f} GFLOP/s.",
    )
    if 2 * count <= len(test):
        parts = (classifier.features(test.images[first : first + count]) for first in (0, count))
        print(f"FID of other test images: {frechet_distance(*parts):.1f}.")
    print(f"\n{table(HEADER, [])}", flush=True)
    for slug, (name, train) in contestants.items():
        note(f"training {name}")
        try:
            cells = row(name, slug, train(), task, classifier, rate)
        except PeerError as error:
            cells = [name, f"skipped: {error}", *[""] * (len(HEADER) - 2)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
