"""`vaelab traverse`, `interpolate`, `manifold`, `restyle` and `posterior`: pictures of what a model has learnt."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vaelab.cli.app import (
    Flag,
    Options,
    SplitName,
    TrustCode,
    app,
    expect_files,
    load_model,
)
from vaelab.cli.axes import load_measured, with_axes
from vaelab.cli.generate import MAX_CELLS, expect_count
from vaelab.cli.images import Reader, each_label, expect_images, read_images, report_inferred, stack
from vaelab.errors import ConfigError, counted

if TYPE_CHECKING:
    from vaelab.figures.pictures import Pictures

SHEET_STEPS, ANIMATION_STEPS = 11, 31
"""Default number of steps of a sheet and of an animation."""

MAX_SHEETS = 20
"""Largest number of labels whose sheets are drawn by default."""

ManyLabels = Annotated[list[str] | None, Parameter(negative_iterable=())]


@app.command
def traverse(
    run: Path,
    source: str | None = None,
    /,
    *,
    out: Path,
    label: str | None = None,
    image: str | None = None,
    seed: int | None = None,
    axes: str | None = None,
    count: int = 20,
    steps: int | None = None,
    fps: float = 10.0,
    prepare: Flag = False,
    options: Options = None,
    trust_code: TrustCode = False,
) -> None:
    """Vary one latent axis at a time from −3σ to +3σ: one row per axis, with its rate.

    Parameters
    ----------
    run
        Run folder.
    source
        Data source to measure the axes on, for a run without validation images.
    out
        FILE.png, or an animation: FILE.gif or FILE.webp.
    label
        Label to draw, for a conditional model. Default: that of --image, else the first.
    image
        Fix the other axes at the mean of this image: a file, or an image of a source such as mnist:test:12.
    seed
        Fix the other axes at a latent vector drawn with this seed. Default: 0.
    axes
        Axes in this order: numbers from 0, separated by commas. Default: by rate, the highest first.
    count
        Maximum number of axes if --axes is not given.
    steps
        Number of points on each axis. Default: 11, or 31 for an animation.
    fps
        Frames per second of an animation, 1 to 50.
    prepare
        Convert --image to the format of MNIST: grey, light on black, thresholded, scaled and centred.
    """
    from vaelab.figures.pictures import ANIMATED
    from vaelab.files import expect_suffix

    expect_suffix(out, ".png", *ANIMATED)
    expect_count(count)
    if image is not None and seed is not None:
        raise ConfigError("got both --image and --seed; expected one of them: leave the other out")
    expect_files(run, source)
    expect_images(image)
    model = load_measured(run, source, options, trust_code)
    from vaelab.inference import explore, latents

    chosen = _axes(axes)
    if chosen is None and model.axes is not None:
        chosen = list(model.axes.order[:count])
    z = None
    if image is not None:
        read = Reader(run, model, options, prepare=prepare).one(image)
        placed = latents.place(model, read.image, [read.label])
        report_inferred(model, [read], placed)
        z = placed.z[0]
        label = label if label is not None or placed.labels is None else model.classes[placed.labels[0]]
    elif seed is not None:
        z = model.latents(1, seed=seed)[0]
    with _drawing():
        _save(explore.traverse(model, label, z=z, axes=chosen, steps=_steps(steps, out)), out, fps)


@app.command
def interpolate(
    run: Path,
    /,
    *images: str,
    out: Path,
    label: ManyLabels = None,
    seed: int = 0,
    steps: int | None = None,
    fps: float = 10.0,
    prepare: Flag = False,
    options: Options = None,
    trust_code: TrustCode = False,
) -> None:
    """Interpolate between two images along an arc in latent space, with one label or from one label to another.

    Parameters
    ----------
    run
        Run folder.
    images
        Two images: files, or images of a source such as mnist:test:12. Default: two latent vectors drawn with --seed.
    out
        FILE.png, or an animation: FILE.gif or FILE.webp.
    label
        Label to draw, for a conditional model; give two to go from the first to the second. Default: those of the images.
    seed
        Seed of the latent vectors, if no images are given.
    steps
        Number of points on the arc. Default: 11, or 31 for an animation.
    fps
        Frames per second of an animation, 1 to 50.
    prepare
        Convert the images to the format of MNIST: grey, light on black, thresholded, scaled and centred.
    """
    from vaelab.figures.pictures import ANIMATED
    from vaelab.files import expect_suffix

    expect_suffix(out, ".png", *ANIMATED)
    if len(images) not in (0, 2):
        raise ConfigError(
            f"got {counted(len(images), 'image')} to interpolate between; expected two, or none to draw both with --seed"
        )
    expect_files(run)
    expect_images(*images)
    model = load_model(run, trust_code)
    from vaelab.inference import explore, latents

    if not images:
        under = label if label or not model.conditional else [model.classes[0]]
        with _drawing():
            between = explore.interpolate(model, z=model.latents(2, seed=seed), under=under, steps=_steps(steps, out))
            _save(between, out, fps)
        return
    reader = Reader(run, model, options, prepare=prepare)
    read = [reader.one(text) for text in images]
    with _drawing():
        placed = latents.place(model, stack(read), [image.label for image in read])
        report_inferred(model, read, placed)
        between = explore.interpolate(model, stack(read), placed.labels, under=label, steps=_steps(steps, out))
        _save(between, out, fps)


@app.command
def manifold(
    run: Path,
    source: str | None = None,
    /,
    *,
    out: Path,
    label: ManyLabels = None,
    axes: str | None = None,
    steps: int | None = None,
    options: Options = None,
    trust_code: TrustCode = False,
) -> None:
    """Draw a sheet of images decoded over two latent axes, at quantiles of N(0, 1); one sheet per label.

    Parameters
    ----------
    run
        Run folder.
    source
        Data source to measure the axes on, for a run without validation images.
    out
        FILE.png.
    label
        Label to draw, for a conditional model; repeat the option for several. Default: all labels, at most 20.
    axes
        The horizontal and the vertical axis, such as 0,3. Default: the two of highest rate.
    steps
        Number of points per side. Default: 20, or 10 for several sheets.
    """
    from vaelab.figures.pictures import beside
    from vaelab.figures.plots import save_picture
    from vaelab.files import expect_suffix
    from vaelab.progress import say

    expect_suffix(out, ".png")
    expect_files(run, source)
    model = load_measured(run, source, options, trust_code)
    from vaelab.inference import explore

    labels = label or (model.classes[:MAX_SHEETS] if model.conditional else [None])
    side = steps if steps is not None else 20 if len(labels) == 1 else 10
    _expect_cells(len(labels) * side * side)
    with _drawing():
        sheets = [explore.manifold(model, one, axes=_axes(axes), steps=side) for one in labels]
        if len(sheets) == 1:
            _save(sheets[0], out)
            return
        save_picture(out, beside(sheets))
    say(f"{len(sheets)} sheets of {side}×{side} images: {out}")


@app.command
def restyle(
    run: Path,
    /,
    *images: str,
    out: Path,
    label: ManyLabels = None,
    count: int = 10,
    split: SplitName | None = None,
    prepare: Flag = False,
    options: Options = None,
    trust_code: TrustCode = False,
) -> None:
    """Draw every label in the style of an image: one row per image, the original first.

    Parameters
    ----------
    run
        Run folder of a conditional model.
    images
        Images: files, images of a source such as mnist:test:12, or a whole source, of which --count images are taken.
    out
        FILE.png.
    label
        Label of the images: one for all, or one for each. Default: that of their source, else the one the model infers.
    count
        Number of images of a whole source, spread evenly over the split.
    split
        Part of a whole source. Default: test, or all if the source has no test images.
    prepare
        Convert the images to the format of MNIST: grey, light on black, thresholded, scaled and centred.
    """
    from vaelab.files import expect_suffix
    from vaelab.progress import say

    expect_suffix(out, ".png")
    expect_count(count)
    if not images:
        raise ConfigError("got no image to restyle; expected some: vaelab restyle RUN IMAGE --out FILE.png")
    expect_files(run)
    expect_images(*images)
    model = load_model(run, trust_code)
    from vaelab.inference import explore, latents

    latents.expect_conditional(model)
    reader = Reader(run, model, options, prepare=prepare, labels_given=bool(label))
    read = [image for text in images for image in reader.several(text, split, count)]
    _expect_cells(len(read) * (1 + len(model.classes)))
    labels = each_label(label, len(read)) if label else [image.label for image in read]
    with _drawing():
        restyled = explore.restyle(model, stack(read), labels)
        for image, known, name in zip(read, labels, restyled.names, strict=True):
            if known is None:
                say(f"{image.name}: {name}; use --label to set it")
        _save(restyled, out)


@app.command
def posterior(
    run: Path,
    source: str,
    /,
    *,
    out: Path,
    axes: str | None = None,
    count: int = 200,
    split: SplitName | None = None,
    options: Options = None,
    trust_code: TrustCode = False,
) -> None:
    """Draw the posteriors of images over two latent axes: means and 1σ ellipses, with the prior N(0, I).

    Parameters
    ----------
    run
        Run folder.
    source
        Data source, as for `vaelab train`.
    out
        FILE.png, or FILE.npz or FILE.csv (path, label, mean and log_variance of these images, all axes).
    axes
        The horizontal and the vertical axis, such as 0,3. Default: the two of highest rate.
    count
        Number of images, spread evenly over the split.
    split
        Part of the source. Default: test, or all if the source has no test images.
    """
    from vaelab.files import expect_suffix
    from vaelab.progress import say

    expect_suffix(out, ".png", ".npz", ".csv")
    expect_count(count)
    expect_files(run, source)
    model = load_model(run, trust_code)
    from vaelab.cli.outputs import spread
    from vaelab.inference import explore
    from vaelab.inference.tables import write_table

    unmeasured = model.axes is None and axes is None
    given = read_images(run, model, [source], options, split=split, count=None if unmeasured else count)
    if unmeasured:
        model = with_axes(model, given.images, given.labels)
        given = given.at(spread(len(given.images), count))
    labels, classes = given.facts.get("labels"), tuple(map(str, given.facts.get("classes", ())))
    with _drawing():
        placed = explore.posterior(model, given.images, labels, classes=classes, axes=_axes(axes))
        if out.suffix.lower() != ".png":
            write_table(out, [given.facts | {"mean": placed.mean, "log_variance": placed.log_variance}])
        else:
            placed.save(out)
    say(f"{counted(len(placed.mean), 'posterior')}: {out}")


def _drawing() -> AbstractContextManager[object]:
    """Return the context in which pictures are made, with progress."""
    from vaelab.progress import work_bar

    return work_bar(waiting="drawing")


def _axes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--axes: got {text!r}; expected numbers with commas between them, such as 0,3") from None


def _steps(steps: int | None, out: Path) -> int:
    from vaelab.figures.pictures import ANIMATED

    return steps if steps is not None else ANIMATION_STEPS if out.suffix.lower() in ANIMATED else SHEET_STEPS


def _expect_cells(cells: int) -> None:
    if cells > MAX_CELLS:
        raise ConfigError(f"got {cells:,} images for one picture; expected at most {MAX_CELLS:,}")


def _save(pictures: Pictures, out: Path, fps: float = 10.0) -> None:
    from vaelab.progress import say

    pictures.save(out, fps=fps)
    rows, columns = pictures.images.shape[:2]
    say(f"{rows} × {columns} images: {out}")
