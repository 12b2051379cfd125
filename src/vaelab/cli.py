"""The command line: reads options, calls the package, says what came of it. No mathematics here.

A command imports torch only when it runs, so that `--help` is instant. A user's mistake ends with status 2 and one line.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # a budget in seconds counts from the command, imports included

import shlex  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Annotated, Literal  # noqa: E402

from cyclopts import App, CycloptsError, Parameter  # noqa: E402

from vaelab.config import Config, ModelConfig, TrainConfig  # noqa: E402
from vaelab.errors import ConfigError, DataError, TrainingError, VaelabError  # noqa: E402
from vaelab.version import __version__  # noqa: E402

if TYPE_CHECKING:
    import numpy as np

    from vaelab.checkpoint import Run
    from vaelab.data import Dataset
    from vaelab.generation import TrainedModel

INTERRUPTED = 130
MOST_CELLS = 20_000
"""Images on one picture: a sheet of more is no longer one to look at."""

Fit = Literal["crop", "pad"]
SplitName = Literal["train", "validation", "test", "all"]

app = App(
    name="vaelab",
    version=__version__,
    help="Train autoencoders, VAEs and conditional VAEs on images, and generate the label you ask for.",
)


@app.command
def data(source: str | None = None, /, *, size: str | None = None, fit: Fit = "crop", out: Path | None = None) -> None:
    """List the built-in data, or describe what a source loads as and draw a contact sheet of it.

    Parameters
    ----------
    source
        A built-in name, a folder of images (one folder per class, or flat), a folder of IDX files, or an .npz file.
    size
        Bring every image to this size in pixels: 32, or 32x48 for height 32 and width 48.
    fit
        How another aspect is brought to the size: crop cuts, pad fills.
    out
        The contact sheet, a PNG. Default: NAME-sheet.png in this folder.
    """
    from vaelab.data import BUILTIN

    if source is None:
        width = max(map(len, BUILTIN))
        for name, line in BUILTIN.items():
            print(f"{name:<{width}}  {line}")
        print("or a folder of images (one folder per class, or flat), a folder of IDX files, an .npz file")
        return
    from vaelab.data.describe import describe_dataset
    from vaelab.figures import contact_sheet, save_picture
    from vaelab.writing import expect_suffix

    if out is not None:
        expect_suffix(out, ".png")
    dataset = _load(source, size, fit)
    for line in describe_dataset(dataset):
        print(line)
    path = out or Path(f"{dataset.name}-sheet.png")
    save_picture(path, contact_sheet(dataset))
    print(f"contact sheet: {path}")


@app.command
def train(
    source: str,
    /,
    *,
    model_config: Annotated[ModelConfig | None, Parameter(name="*")] = None,
    train_config: Annotated[TrainConfig | None, Parameter(name="*")] = None,
    size: str | None = None,
    fit: Fit = "crop",
    out: Path | None = None,
    resume: bool = False,
) -> None:
    """Train a model and write a run folder: weights, figures, pictures. Ctrl-C stops and saves; --resume goes on.

    Parameters
    ----------
    source
        What to learn from: a built-in name, a folder of images, a folder of IDX files, or an .npz file.
    size
        Bring every image to this size in pixels: 32, or 32x48 for height 32 and width 48.
    fit
        How another aspect is brought to the size: crop cuts, pad fills.
    out
        The run folder. Default: a new one, runs/NAME-MODEL.
    resume
        Go on with the run in --out, to its own budget or to a new one given here.
    """
    from vaelab.terminal import TrainingDisplay, say

    config = Config(model_config or ModelConfig(), train_config or TrainConfig())
    from vaelab import checkpoint

    if out is not None:  # before the data are read, which may take long
        checkpoint.open_run(out) if resume else checkpoint.check_new(out)
    dataset = _load(source, size, fit)
    from vaelab.training import complete
    from vaelab.training import fit as fit_model
    from vaelab.writing import run_pictures

    folder = out if resume else out or _new_folder(f"{dataset.name}-{complete(config, dataset).model.model}")
    training = fit_model(config, dataset, out=folder, resume=resume, started=STARTED)
    with TrainingDisplay() as display, _interruption() as interrupted:
        state = next(training)  # what cannot be is refused here, before anything is said
        assert folder is not None
        run = checkpoint.open_run(folder)
        say(_introduction(run, dataset))
        while not (state.finished or interrupted):
            display.show(state)
            state = next(training)
        display.show(state)
        training.close()
    if not state.finished:
        sizes = [*(("--size", size) if size else ()), *(("--fit", fit) if fit != "crop" else ())]
        again = shlex.join(["vaelab", "train", source, *sizes, "--out", str(folder), "--resume"])
        say(f"stopped at step {state.step:,} and saved; to go on: {again}")
        raise SystemExit(INTERRUPTED)
    say(f"weights saved after {state.seconds:.1f} s: {folder / checkpoint.WEIGHTS}")
    if state.validation is not None:
        autoencoder = run.config.model.model == "ae"
        say(f"validation: {_nats(state.validation.distortion, state.validation.rate, autoencoder)} per image")
    for path in run_pictures(run, dataset):
        say(f"picture: {path}")
    say(f"next: vaelab sample {shlex.quote(str(folder))} --out samples.png")


@app.command
def sample(
    run: Path,
    /,
    *,
    out: Path,
    label: Annotated[list[str] | None, Parameter(negative_iterable=())] = None,
    count: int = 10,
    temperature: float = 1.0,
    seed: int = 0,
    decode: Literal["mean", "sample"] = "mean",
) -> None:
    """Generate images: the labels that you ask for, the same latent points under each of them.

    Parameters
    ----------
    run
        A run folder.
    out
        FILE.png (a grid, a row per label), FILE.npz (images, labels, z), or a FOLDER (a PNG each, in class folders).
    label
        A label by name or index; repeat for more. Default: all of them.
    count
        Images per label.
    temperature
        Standard deviation of the latent points; 1 is the model's own prior.
    seed
        Seed of the latent points, and of the pixels with --decode sample.
    decode
        The mean of p(x|z), or a draw from it.
    """
    from vaelab.generation import load
    from vaelab.terminal import say
    from vaelab.writing import expect_suffix, write_samples

    as_folder = out.is_dir() or not out.suffix
    if not as_folder:
        expect_suffix(out, ".png", ".npz")
    model = load(run)
    cells = count * len(label or model.classes or [""])
    if out.suffix.lower() == ".png" and cells > MOST_CELLS:
        raise ConfigError(
            f"--count: got {cells:,} images for one picture; expected at most {MOST_CELLS:,}: give FILE.npz"
        )
    samples = model.grid(label, count=count, temperature=temperature, seed=seed, decode=decode)
    write_samples(out, as_folder, model, samples, count)
    say(f"{len(samples.images):,} images: {out}")


@app.command
def reconstruct(
    run: Path,
    source: str,
    /,
    *,
    out: Path,
    count: int = 20,
    split: SplitName = "test",
    size: str | None = None,
    fit: Fit = "crop",
    seed: int = 0,
) -> None:
    """Encode images and decode them again: originals above reconstructions, the nats of each below.

    Parameters
    ----------
    run
        A run folder.
    source
        Where the images come from, as for `vaelab train`.
    out
        FILE.png, or FILE.npz (originals, images, distortion, rate, labels).
    count
        How many images, spread evenly over the split.
    split
        Which part of the source.
    size
        Bring every image to this size in pixels, as in training.
    fit
        How another aspect is brought to the size: crop cuts, pad fills.
    seed
        Seed of the latent draws.
    """
    from vaelab.figures import reconstruction_sheet, save_picture
    from vaelab.generation import load
    from vaelab.terminal import say
    from vaelab.writing import expect_suffix, nats_name, spread, write_npz

    if count < 1:
        raise ConfigError(f"--count: got {count}; expected a whole number of at least 1")
    expect_suffix(out, ".png", ".npz")
    model = load(run)
    images, labels, own, _ = _part(model, _load(source, size, fit), split)
    shown = spread(len(images), count)
    images, labels = images[shown], None if labels is None else labels[shown]
    result = model.reconstruct(images, labels, seed=seed)
    if out.suffix.lower() == ".npz":
        write_npz(out, **result._asdict(), **({} if own is None else {"labels": own[shown]}))
    else:
        title = f"{Path(source).name}, {split}: nats per image ({nats_name(model)})"
        save_picture(out, reconstruction_sheet(result.originals, result.images, result.nats, title=title))
    text = _nats(result.distortion.mean().item(), result.rate.mean().item(), model.kind == "ae")
    say(f"{len(images)} images, {text} per image: {out}")


@app.command
def encode(
    run: Path,
    source: str,
    /,
    *,
    out: Path,
    split: SplitName = "all",
    size: str | None = None,
    fit: Fit = "crop",
) -> None:
    """Write the posterior of every image: `mean` and `log_variance` (N×d), `labels`, and which `split` each is of.

    Parameters
    ----------
    run
        A run folder.
    source
        Where the images come from, as for `vaelab train`.
    out
        FILE.npz.
    split
        Which part of the source.
    size
        Bring every image to this size in pixels, as in training.
    fit
        How another aspect is brought to the size: crop cuts, pad fills.
    """
    from vaelab.generation import load
    from vaelab.terminal import say, work_bar
    from vaelab.writing import expect_suffix, write_npz

    expect_suffix(out, ".npz")
    model = load(run)
    dataset = _load(source, size, fit)
    images, labels, own, splits = _part(model, dataset, split)
    with work_bar() as report:
        encoded = model.encode(images, labels, progress=lambda done, total: report("encoding", done, total))
    write_npz(out, **encoded._asdict(), split=splits, **({} if own is None else {"labels": own}))
    say(f"{len(images):,} posteriors of {encoded.mean.shape[1]} dimensions: {out}")


@contextmanager
def _interruption() -> Iterator[list[int]]:
    """A list that a first Ctrl-C (or termination) adds to; a second one interrupts at once."""
    seen: list[int] = []

    def note(number: int, _: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _introduction(run: Run, dataset: Dataset) -> str:
    from vaelab.trainer import validation_part

    model = run.config.model
    validated = len(validation_part(dataset.validation, model, run.config.train.seed))
    return (
        f"{model.model} ({model.network}, {model.latent_dim} latent dimensions, {model.likelihood}) on {dataset.name}: "
        f"{len(dataset.train):,} images to learn from, {validated:,} to validate → {run.folder}"
    )


def _load(source: str, size: str | None, fit: Fit) -> Dataset:
    from vaelab.data import load_dataset
    from vaelab.terminal import say, work_bar

    with work_bar() as report:
        dataset = load_dataset(source, size=size, fit=fit, progress=report)
    for note in dataset.notes:
        say(note)
    return dataset


def _part(
    model: TrainedModel, dataset: Dataset, split: SplitName
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray]:
    """Images of a split, their labels as the model counts them and as the data do, and the name of the split of each."""
    import numpy as np

    names = ("train", "validation", "test") if split == "all" else (split,)
    parts = {name: getattr(dataset, name) for name in names}
    if not any(map(len, parts.values())):
        raise DataError(f"{dataset.name}: got no {split} images; expected some: give --split all")
    images = np.concatenate([part.images for part in parts.values()])
    own = np.concatenate([part.labels for part in parts.values()]) if dataset.labelled else None
    labels = model.matched_labels(own, dataset.classes)
    return images, labels, own, np.concatenate([np.full(len(part), name) for name, part in parts.items()])


def _new_folder(name: str) -> Path:
    """runs/NAME, or runs/NAME-2 and so on where that is taken."""
    folder, number = Path("runs") / name, 2
    while folder.exists():
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder


def _nats(distortion: float, rate: float, autoencoder: bool) -> str:
    if autoencoder:
        return f"{distortion:.2f} nats of distortion"
    return f"−ELBO {distortion + rate:.2f} nats (distortion {distortion:.2f} + rate {rate:.2f})"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line and status 2."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except (CycloptsError, VaelabError) as error:
        print(f"vaelab: {_one_line(error)}", file=sys.stderr)
        raise SystemExit(1 if isinstance(error, TrainingError) else 2) from None
    except KeyboardInterrupt:
        print("vaelab: interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
