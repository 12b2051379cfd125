"""`vaelab sample`, `reconstruct`, `encode` and `score`: apply a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vaelab.cli import several
from vaelab.cli.app import (
    Options,
    SplitName,
    TrustCode,
    app,
    expect_files,
    load_model,
    nats_text,
)
from vaelab.cli.images import expect_images, is_single, open_images, read_images, say_inferred
from vaelab.cli.several import Processes
from vaelab.errors import ConfigError, counted

MAX_CELLS = 20_000
"""Largest number of images in one picture."""


def expect_count(count: int) -> None:
    """Refuse a --count below 1."""
    if count < 1:
        raise ConfigError(f"--count: got {count}; expected a whole number of at least 1")


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
    processes: Processes = None,
    trust_code: TrustCode = False,
) -> None:
    """Generate images of the labels you choose, from the same latent vectors for every label.

    Parameters
    ----------
    run
        Run folder.
    out
        FILE.png (a grid, one row per label), FILE.npz (images, labels, z), or a FOLDER (PNG files in class folders). For any
        number of images: FOLDER.pack (a data source), FILE.parquet (PNG, as Hugging Face's datasets reads it) or FILE.tar (PNG,
        for WebDataset); the same command continues one that was interrupted.
    label
        Label by name or index; repeat the option for several. Default: all labels.
    count
        Images per label.
    temperature
        Standard deviation of the latent vectors; 1 is the prior of the model.
    seed
        Seed of the latent vectors, and of the pixels with --decode sample.
    decode
        Mean of p(x|z), or a sample of it.
    """
    from vaelab.files import expect_suffix
    from vaelab.inference.tables import expect_pyarrow
    from vaelab.progress import say, work_bar

    several.start(processes)
    kind = out.suffix.lower()
    as_folder = (out.is_dir() and kind != ".pack") or not kind
    if not as_folder:
        expect_suffix(out, ".png", ".npz", ".pack", ".parquet", ".tar")
    expect_pyarrow(out)
    if kind == ".pack" and out.exists():
        raise ConfigError(f"--out: got {out}, which exists; expected the name of a new folder")
    expect_files(run)
    model = load_model(run, trust_code)
    if not as_folder and kind in (".pack", ".parquet", ".tar"):
        from vaelab.inference.volume import sample_to_file, sample_to_pack

        write = sample_to_pack if kind == ".pack" else sample_to_file
        with work_bar(waiting="generating images") as report:
            total = write(
                model, out, label, count=count, temperature=temperature, seed=seed, decode=decode, progress=report
            )
        say(f"{counted(total, 'image')}: {out}")
        return
    if not several.is_first():  # a picture, or what fits into memory, is made by the first process
        return
    from vaelab.cli.outputs import write_samples

    cells = count * len(label or model.classes or [""])
    if out.suffix.lower() == ".png" and cells > MAX_CELLS:
        raise ConfigError(
            f"--count: got {cells:,} images for one picture; expected at most {MAX_CELLS:,}: write FILE.npz"
        )
    with work_bar(waiting="generating images"):
        samples = model.grid(label, count=count, temperature=temperature, seed=seed, decode=decode)
        write_samples(out, as_folder, model, samples, count)
    say(f"{counted(len(samples.images), 'image')}: {out}")


ImageLabel = Annotated[list[str] | None, Parameter(negative_iterable=())]


@app.command
def reconstruct(
    run: Path,
    /,
    *images: str,
    out: Path,
    label: ImageLabel = None,
    count: int | None = None,
    split: SplitName | None = None,
    options: Options = None,
    seed: int = 0,
    trust_code: TrustCode = False,
) -> None:
    """Encode and decode images: originals above reconstructions, with the nats of each.

    Parameters
    ----------
    run
        Run folder.
    images
        Data source, as for `vaelab train`, or images: files, or images of a source such as mnist:test:12.
    out
        FILE.png; FILE.csv (path, label and nats of each image); or FILE.npz (originals and images too).
    label
        Label of the images, for a conditional model: one for all, or one for each. Default: that of their source, else the one
        the model infers.
    count
        Number of images of a source, spread evenly over the split. Default: 20 in a picture, else all.
    split
        Part of the source. Default: test, or all if the source has no test images.
    seed
        Seed of the latent samples.
    """
    from vaelab.files import expect_suffix
    from vaelab.progress import say, work_bar

    as_picture = out.suffix.lower() == ".png"
    expect_count(1 if count is None else count)
    expect_suffix(out, ".png", ".npz", ".csv")
    expect_given(run, images)
    model = load_model(run, trust_code)
    from vaelab.cli.outputs import nats_name
    from vaelab.figures.plots import reconstruction_sheet, save_picture
    from vaelab.inference.tables import write_table

    count = count or (20 if as_picture else None)
    given = read_images(run, model, images, options, split=split, label=label, count=count)
    with work_bar(waiting="reconstructing"):
        result = model.reconstruct(given.images, given.labels, seed=seed)
        if not as_picture:
            pictures = {} if out.suffix.lower() == ".csv" else {"originals": result.originals, "images": result.images}
            nats = {"distortion": result.distortion, "rate": result.rate}
            write_table(out, [given.facts | pictures | nats])
        else:
            title = f"{given.name}: nats per image ({nats_name(model)})"
            save_picture(out, reconstruction_sheet(result.originals, result.images, result.nats, title=title))
    text = nats_text(result.distortion.mean().item(), result.rate.mean().item(), model.kind == "ae")
    say(f"{counted(len(given.images), 'image')}, {text} per image: {out}")


@app.command
def encode(
    run: Path,
    /,
    *images: str,
    out: Path,
    label: ImageLabel = None,
    split: SplitName = "all",
    options: Options = None,
    processes: Processes = None,
    trust_code: TrustCode = False,
) -> None:
    """Write the posterior of every image: path, split, label, mean and log_variance (N×d).

    Parameters
    ----------
    run
        Run folder.
    images
        Data source, as for `vaelab train`, or images: files, or images of a source such as mnist:test:12.
    out
        FILE.parquet or FILE.csv, with the columns mean_0, … and log_variance_0, …, or FILE.npz. The same command continues one
        that was interrupted.
    label
        Label of the images, for a conditional model: one for all, or one for each. Default: that of their source, else the one
        the model infers.
    split
        Part of the source.
    """
    from vaelab.inference.tables import expect_table
    from vaelab.progress import say, work_bar

    several.start(processes)
    expect_table(out)
    expect_given(run, images)
    model = load_model(run, trust_code)
    from vaelab.inference.scoring import write_posteriors

    given = several.in_turn(lambda: open_images(run, model, images, options, split=split, label=label))
    with work_bar() as report:
        summary = write_posteriors(given, out, progress=report)
    if not several.is_first():
        return
    say_inferred(model, summary["inferred"])
    say(f"{counted(given.count, 'posterior')} of {model.model.latent_dim} dimensions: {out}")


@app.command
def score(
    run: Path,
    /,
    *images: str,
    out: Path,
    label: ImageLabel = None,
    split: SplitName = "all",
    options: Options = None,
    samples: int | None = None,
    seed: int = 0,
    processes: Processes = None,
    trust_code: TrustCode = False,
) -> None:
    """Write the nats of every image: path, split, label, distortion, rate and nats, their sum (−ELBO); lower is better.

    An autoencoder has a distortion only.

    Parameters
    ----------
    run
        Run folder.
    images
        Data source, as for `vaelab train`, or images: files, or images of a source such as mnist:test:12.
    out
        FILE.parquet, FILE.csv or FILE.npz. The same command continues one that was interrupted.
    label
        Label of the images, for a conditional model: one for all, or one for each. Default: that of their source, else the one
        the model infers.
    split
        Part of the source.
    samples
        Also write the importance-weighted bound on −log p with this number of latent samples per image, as the column bound.
    seed
        Seed of the latent samples.
    """
    from vaelab.inference.tables import expect_table
    from vaelab.progress import say, work_bar

    several.start(processes)
    expect_table(out)
    expect_given(run, images)
    model = load_model(run, trust_code)
    from vaelab.inference.scoring import write_scores

    given = several.in_turn(lambda: open_images(run, model, images, options, split=split, label=label))
    with work_bar() as report:
        summary = write_scores(given, out, samples=samples, seed=seed, progress=report)
    if not several.is_first():
        return
    say_inferred(model, summary["inferred"])
    text = nats_text(float(summary["distortion"]), float(summary.get("rate", 0)), model.kind == "ae")
    bound = f", bound {summary['bound']:.2f}" if samples else ""
    say(f"{counted(given.count, 'image')}, {text}{bound} per image: {out}")


def expect_given(run: Path, images: tuple[str, ...]) -> None:
    """Refuse a run, image files and sources that do not exist, before PyTorch is imported."""
    expect_files(run)
    if not images:
        raise ConfigError("got no images; expected a data source, or image files")
    for text in images:
        expect_images(text) if is_single(text) else expect_files(run, text)
