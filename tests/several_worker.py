"""Run by torchrun as two processes: trains in them what `test_several_processes` trains in one, and writes what it compares."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelab import distributed, evaluate, load, parts
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split, pack
from vaelab.errors import ConfigError
from vaelab.inference.given import given_source
from vaelab.inference.scoring import write_posteriors, write_scores
from vaelab.inference.volume import sample_to_file, sample_to_pack
from vaelab.training import fit as fitting
from vaelab.training.fit import fit

STEPS = 200
COUNT = 400
SECTIONS = ("likelihood", "latent", "bayes")
BLOCK_BYTES, PART = 64 * 300, 60  # small, so that there are several of each


def data(channels: int = 1) -> Dataset:
    """Blocks of a random grey or colour in one of two places, the label, and a little noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, COUNT)
    images = rng.integers(0, 40, (COUNT, channels, 8, 8), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 2:6, 1 + 3 * label : 4 + 3 * label] += rng.integers(60, 210, (channels, 1, 1), dtype=np.uint8)
    parts = [slice(0, 264), slice(264, 365), slice(365, COUNT)]
    return Dataset("blocks", *(Split(images[part], labels[part]) for part in parts), classes=("left", "right"))


def configs() -> Iterator[tuple[str, Config, Dataset]]:
    """Yield what is trained, by name: with batches of 33, of which one process has one image more than the other."""
    model = ModelConfig(model="cvae", network="mlp", width=32, depth=1, latent_dim=4)
    train = TrainConfig(epochs=25, batch_size=33, seed=5, precision="float32", compile="no", device="cpu")
    yield "plain", Config(model, train), data()
    yield "free bits", Config(model, replace(train, free_bits=0.3)), data()
    yield "iwae", Config(model, replace(train, iwae_samples=3, iwae_fraction=0.3)), data()
    yield (
        "mirrored colours",
        Config(replace(model, network=None, latent_dim=None), replace(train, flip="horizontal")),
        data(3),
    )
    ladder = ModelConfig(model="vae", network="ladder", width=16, depth=1, levels="4,1")
    yield "ladder", Config(ladder, train), data()


def trained(config: Config, dataset: Dataset) -> dict[str, Any]:
    """Train, and return the weights, the validation figures of the last ones, and the number of steps."""
    *_, last = fit(config, dataset)
    assert last.validation is not None
    assert last.axes is not None
    figures = [last.validation.distortion, last.validation.rate, last.train.distortion, *last.axes.rate]
    return {"weights": last.model.state_dict(), "figures": figures, "step": last.step}


def write_files(run: Path, folder: Path) -> None:
    """Write generated images and scores, in several parts each."""
    model = load(run)
    sample_to_pack(model, folder / "x.pack", count=1000)
    for suffix in ("tar", "parquet"):
        sample_to_file(model, folder / f"x.{suffix}", count=1200)
    given = given_source(model, data())
    write_scores(given, folder / "scores.csv", samples=3)
    write_posteriors(given, folder / "posteriors.csv")


def main(folder: Path) -> None:
    """Train everything, write files, measure, and try what must fail."""
    with distributed.joined():
        number = distributed.rank()
        for name, config, dataset in configs():
            found = trained(config, dataset)
            torch.save(found, folder / f"{name}-{number}.pt")
        _, config, dataset = next(configs())
        trainer = fitting.make_trainer(fitting.resolve(config, dataset), dataset)
        torch.save([trainer.batches.at(step) for step in range(20)], folder / f"batches-{number}.pt")
        other = replace(dataset, train=dataset.train[np.arange(264 - number)])
        messages = []
        for wrong, images in ((config, other), (replace(config, train=replace(config.train, batch_size=1)), dataset)):
            try:
                next(fit(wrong, images, out=folder / "run"))
            except ConfigError as error:
                messages.append(str(error))
        torch.save(messages, folder / f"messages-{number}.pt")
        for _ in fit(config, dataset, out=folder / "trained"):
            pass
        distributed.barrier()
        pack.BLOCK_BYTES, parts.PART = BLOCK_BYTES, PART
        (folder / "files").mkdir(exist_ok=True)
        write_files(folder / "trained", folder / "files")
        report = evaluate(load(folder / "trained"), dataset, sections=SECTIONS, importance_samples=20)
        torch.save(report.to_json()["sections"], folder / f"report-{number}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
