"""`vaelab sample`, `reconstruct` and `encode`: apply a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vaelab.cli.app import (
    Options,
    SplitName,
    TrustCode,
    app,
    expect_files,
    images_of_split,
    load_for_run,
    load_model,
    nats_text,
)
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
    trust_code: TrustCode = False,
) -> None:
    """Generate images of the labels you choose, from the same latent vectors for every label.

    Parameters
    ----------
    run
        Run folder.
    out
        FILE.png (a grid, one row per label), FILE.npz (images, labels, z), or a FOLDER (PNG files in class folders).
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
    from vaelab.progress import say, work_bar

    as_folder = out.is_dir() or not out.suffix
    if not as_folder:
        expect_suffix(out, ".png", ".npz")
    expect_files(run)
    model = load_model(run, trust_code)
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


@app.command
def reconstruct(
    run: Path,
    source: str,
    /,
    *,
    out: Path,
    count: int = 20,
    split: SplitName = "test",
    options: Options = None,
    seed: int = 0,
    trust_code: TrustCode = False,
) -> None:
    """Encode and decode images: originals above reconstructions, with the nats of each.

    Parameters
    ----------
    run
        Run folder.
    source
        Data source, as for `vaelab train`.
    out
        FILE.png, or FILE.npz (originals, images, distortion, rate, labels).
    count
        Number of images, spread evenly over the split.
    split
        Part of the source.
    seed
        Seed of the latent samples.
    """
    from vaelab.files import expect_suffix
    from vaelab.progress import say, work_bar

    expect_count(count)
    expect_suffix(out, ".png", ".npz")
    expect_files(run, source)
    model = load_model(run, trust_code)
    from vaelab.cli.outputs import nats_name, spread, write_npz
    from vaelab.figures.plots import reconstruction_sheet, save_picture

    images, labels, data_labels, _ = images_of_split(model, load_for_run(run, source, options), split)
    shown = spread(len(images), count)
    images, labels = images[shown], None if labels is None else labels[shown]
    with work_bar(waiting="reconstructing"):
        result = model.reconstruct(images, labels, seed=seed)
        if out.suffix.lower() == ".npz":
            write_npz(out, **result._asdict(), **({} if data_labels is None else {"labels": data_labels[shown]}))
        else:
            title = f"{Path(source).name}, {split}: nats per image ({nats_name(model)})"
            save_picture(out, reconstruction_sheet(result.originals, result.images, result.nats, title=title))
    text = nats_text(result.distortion.mean().item(), result.rate.mean().item(), model.kind == "ae")
    say(f"{counted(len(images), 'image')}, {text} per image: {out}")


@app.command
def encode(
    run: Path,
    source: str,
    /,
    *,
    out: Path,
    split: SplitName = "all",
    options: Options = None,
    trust_code: TrustCode = False,
) -> None:
    """Write the posterior of every image: mean and log_variance (N×d), labels and split.

    Parameters
    ----------
    run
        Run folder.
    source
        Data source, as for `vaelab train`.
    out
        FILE.npz.
    split
        Part of the source.
    """
    from vaelab.files import expect_suffix
    from vaelab.progress import say, work_bar

    expect_suffix(out, ".npz")
    expect_files(run, source)
    model = load_model(run, trust_code)
    from vaelab.cli.outputs import write_npz

    dataset = load_for_run(run, source, options)
    images, labels, data_labels, splits = images_of_split(model, dataset, split)
    with work_bar() as report:
        encoded = model.encode(images, labels, progress=lambda done, total: report("encoding", done, total))
    write_npz(out, **encoded._asdict(), split=splits, **({} if data_labels is None else {"labels": data_labels}))
    say(f"{len(images):,} posteriors of {encoded.mean.shape[1]} dimensions: {out}")
