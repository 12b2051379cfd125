"""What commands leave behind: arrays as .npz, generated images as a grid, an archive or class folders, pictures of a run."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vaelab import checkpoint
from vaelab.data.dataset import Dataset
from vaelab.errors import OutputError
from vaelab.figures import label_rows, reconstruction_sheet, save_picture, tiles, training_curve
from vaelab.generation import Samples, TrainedModel, load
from vaelab.output import cannot_write, written_whole

SHEET_COLUMNS = 16


def expect_suffix(path: Path, *suffixes: str) -> None:
    """Refuse an output that is not named as one of the kinds that a command writes.

    Raises
    ------
    OutputError
        If the name of `path` ends in none of `suffixes`.
    """
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"--out: got {path}; expected a name that ends in {' or '.join(suffixes)}")


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Arrays by name as a compressed .npz, whole or not at all."""
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def write_samples(out: Path, as_folder: bool, model: TrainedModel, samples: Samples, count: int) -> None:
    """Generated images as a grid (.png), as arrays (.npz), or one PNG each in a new folder.

    Parameters
    ----------
    out
        Where to.
    as_folder
        Whether `out` is a folder.
    model, samples, count
        Who made what, `count` images per label.

    Raises
    ------
    OutputError
        If the name is of no such kind, or it cannot be written.
    """
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


def run_pictures(run: checkpoint.Run, dataset: Dataset) -> list[Path]:
    """Draw a finished run's pictures into its `figures/`: training curve, reconstructions, samples, and the grid of labels."""
    folder = run.folder / checkpoint.FIGURES
    model = load(run.folder)
    held_out = next(
        (s for s in (dataset.test, dataset.validation, dataset.train) if len(s) >= SHEET_COLUMNS),
        dataset.train,
    )
    part = held_out[slice(0, 2 * SHEET_COLUMNS)]
    pictures = {}
    if lines := checkpoint.read_metrics(run):
        pictures["training.png"] = training_curve(lines, f"{model.kind} on {run.data.source}: {nats_name(model)}")
    result = model.reconstruct(part.images, model.matched_labels(part.labels, dataset.classes))
    pictures["reconstructions.png"] = reconstruction_sheet(
        result.originals,
        result.images,
        result.distortion + result.rate,
        columns=SHEET_COLUMNS,
        title=f"held-out images, and the nats of each ({nats_name(model)})",
    )
    if model.conditional:
        grid = model.grid(count=12)
        pictures["grid.png"] = label_rows(grid.images, model.classes, title="one latent point down each column")
        rng = np.random.default_rng(0)
        labels = rng.integers(0, len(model.classes), size=8 * SHEET_COLUMNS)
        samples = model.sample(labels, seed=1)
        title = "samples: random labels and latents"
    else:
        samples = model.sample(count=8 * SHEET_COLUMNS, seed=1)
        title = "random latents, N(0, I), decoded"
    pictures["samples.png"] = tiles(samples, SHEET_COLUMNS, title=title)
    for name, picture in pictures.items():
        save_picture(folder / name, picture)
    return [folder / name for name in pictures]


def nats_name(model: TrainedModel) -> str:
    """What a model's nats are: −ELBO, or the distortion alone of an autoencoder."""
    return "distortion" if model.kind == "ae" else "−ELBO = distortion + rate"


def _write_folder(out: Path, samples: Samples, names: Sequence[str], count: int) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"--out: {out} exists and is not an empty folder; expected a new one: give another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        for index, image in enumerate(samples.images):
            folder = temporary / _folder_name(names[index // count]) if names else temporary
            folder.mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / f"{index % count:05d}.png")
        temporary.chmod(0o755)
        if out.is_dir():
            out.rmdir()
        temporary.replace(out)
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _folder_name(class_name: str) -> str:
    """A class name as the name of a folder: what a path would read otherwise becomes an underscore."""
    return re.sub(r'[\x00-\x1f/\\:*?"<>|]|^\.+$', "_", class_name) or "_"
