"""Output files: arrays as .npz, generated images as a grid, an .npz file or class folders, and the pictures of a run."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vaelab import runs
from vaelab.data.dataset import Dataset
from vaelab.data.folders import SYSTEM_NAMES
from vaelab.errors import OutputError
from vaelab.figures.plots import label_rows, reconstruction_sheet, save_picture, tiles, training_curve
from vaelab.files import expect_suffix, new_folder
from vaelab.inference.tables import write_npz
from vaelab.inference.trained import Samples, TrainedModel, load

SHEET_COLUMNS = 16
GRID_TEMPERATURE = 0.8
"""Temperature of the grid of labels: below 1, because rare latent vectors can hide the label."""


def write_samples(out: Path, as_folder: bool, model: TrainedModel, samples: Samples, count: int) -> None:
    """Write generated images as a grid (.png), as arrays (.npz), or as PNG files in a new folder.

    Parameters
    ----------
    out
        File or folder to write.
    as_folder
        Whether `out` is a folder.
    model
        The model that generated the images.
    samples
        The images, `count` per label.
    count
        Number of images per label.

    Raises
    ------
    OutputError
        If `out` has another suffix, or cannot be written.
    """
    if samples.images.ndim == 2 and (as_folder or out.suffix.lower() != ".npz"):
        raise OutputError(f"--out: got {out} for a model of a table, which generates no images; expected FILE.npz")
    names = [] if samples.labels is None else [model.classes[label] for label in samples.labels[::count]]
    if as_folder:
        _write_folder(out, samples, names, count)
        return
    expect_suffix(out, ".png", ".npz")
    if out.suffix.lower() == ".npz":
        labels = {} if samples.labels is None else {"labels": samples.labels}
        write_npz(out, images=samples.images, z=samples.z, **labels)
    elif samples.labels is None:
        save_picture(out, tiles(samples.images, min(count, SHEET_COLUMNS)))
    else:
        save_picture(out, label_rows(samples.images, names))


def run_pictures(run: runs.Run, dataset: Dataset) -> list[Path]:
    """Draw the pictures of a finished run into its folder `figures`: training curve, reconstructions, samples, grid of labels.

    Returns
    -------
    paths
        The files written.
    """
    folder = run.folder / runs.FIGURES
    model = load(run.folder, trust_code=True)  # the training has imported its networks already
    splits = {"test": dataset.test, "validation": dataset.validation, "training": dataset.train}
    shown, split = next((name, split) for name, split in splits.items() if len(split))
    part = split[spread(len(split), 2 * SHEET_COLUMNS)]
    pictures = {}
    if lines := runs.read_metrics(run):
        title = f"{model.kind} on {run.data.source}: {nats_name(model)}"
        pictures["training.png"] = training_curve(lines, title, stochastic=model.model.stochastic)
    result = model.reconstruct(part.images, model.matched_labels(part.labels, dataset.classes))
    pictures["reconstructions.png"] = reconstruction_sheet(
        result.originals,
        result.images,
        result.nats,
        columns=SHEET_COLUMNS,
        title=f"{shown} images, with the nats of each ({nats_name(model)})",
    )
    if model.conditional:
        grid = model.grid(count=12, temperature=GRID_TEMPERATURE)
        title = f"one latent vector per column (temperature {GRID_TEMPERATURE})"
        pictures["grid.png"] = label_rows(grid.images, model.classes, title=title)
        rng = np.random.default_rng(0)
        labels = rng.integers(0, len(model.classes), size=8 * SHEET_COLUMNS)
        samples = model.sample(labels, seed=1)
        title = "samples: random labels and latent vectors"
    else:
        samples = model.sample(count=8 * SHEET_COLUMNS, seed=1)
        title = "samples: decoded latent vectors from N(0, I)"
    pictures["samples.png"] = tiles(samples, SHEET_COLUMNS, title=title)
    for name, picture in pictures.items():
        save_picture(folder / name, picture)
    return [folder / name for name in pictures]


def spread(length: int, count: int) -> np.ndarray:
    """Return `count` indices spread evenly over 0…length − 1, or all of them: data of folders are sorted by class."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(np.int64))


def nats_name(model: TrainedModel) -> str:
    """Return the name of a model's nats per image: −ELBO, or the distortion of an autoencoder."""
    return "distortion" if model.kind == "ae" else "−ELBO = distortion + rate"


def _write_folder(out: Path, samples: Samples, names: Sequence[str], count: int) -> None:
    with new_folder(out) as temporary:
        folders = folder_names(names)
        written = Counter[str]()
        for index, image in enumerate(samples.images):
            name = folders[names[index // count]] if names else "."
            (temporary / name).mkdir(exist_ok=True)
            Image.fromarray(image).save(temporary / name / f"{written[name]:05d}.png")
            written[name] += 1


def folder_names(classes: Sequence[str]) -> dict[str, str]:
    """Return a unique folder name for each class name, which a data source reads as a class.

    Characters that are special in paths become underscores, and a leading dot, which hides a folder. Names of folders that belong
    to operating systems get one appended.
    """
    folders: dict[str, str] = {}
    for name in dict.fromkeys(classes):
        plain = re.sub(r'[\x00-\x1f/\\:*?"<>|]|^\.+$|^\.', "_", name) or "_"
        plain += "_" * (plain.casefold() in SYSTEM_NAMES)
        taken = {folder.casefold() for folder in folders.values()}
        numbered = (plain if number == 1 else f"{plain}_{number}" for number in itertools.count(1))
        folders[name] = next(folder for folder in numbered if folder.casefold() not in taken)
    return folders
