"""`vaelab traverse`, `interpolate`, `manifold`, `restyle` and `posterior`: looking at what a model has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vaelab.cli.app import Options, SourceOptions, SplitName, app, load_source, part_of
from vaelab.cli.generate import MOST_CELLS
from vaelab.cli.images import PartName, Reader, Seen
from vaelab.errors import ConfigError, LabelError, counted

if TYPE_CHECKING:
    import numpy as np

    from vaelab.figures.pictures import Pictures
    from vaelab.inference.latents import Placed
    from vaelab.inference.trained import TrainedModel

MOST_MEASURED = 10_000
"""Images that axes are measured on, where the run does not know them."""

STILL, MOVING = 11, 31
"""Steps of a sheet and of an animation, by default."""

MOST_SHEETS = 20

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
    prepare: Annotated[bool, Parameter(negative=())] = False,
    options: Options = None,
) -> None:
    """Follow each axis of the latent from −3σ to +3σ, the others held: a row per axis, its rate beside it.

    Parameters
    ----------
    run
        A run folder.
    source
        Images to measure the axes on, for a run that was trained without validation images.
    out
        FILE.png; or FILE.gif or FILE.webp, which move.
    label
        The label to draw, for a conditional model. Default: that of --image, else the first.
    image
        Hold the other axes where this image lies: a file, or a place in a source such as mnist:test:12.
    seed
        Hold them at the latent point of this seed. Default: in the middle.
    axes
        Which axes, in this order: numbers from 0 with commas between them. Default: by rate, the highest first.
    count
        How many axes at most, where --axes names none.
    steps
        Points on each axis. Default: 11, and 31 of an animation.
    fps
        Frames of an animation in a second, 1 to 50.
    prepare
        Read --image as MNIST was made: grey, light on black, thresholded, fitted and centred.
    """
    from vaelab.figures.pictures import ANIMATED
    from vaelab.files import expect_suffix
    from vaelab.inference import explore, latents

    expect_suffix(out, ".png", *ANIMATED)
    model = _measured(run, source, options)
    chosen = _axes(axes)
    if chosen is None and model.axes is not None:
        chosen = list(model.axes.order[: _at_least_one("--count", count)])
    z = None
    if image is not None and seed is not None:
        raise ConfigError("got both --image and --seed; expected one of them: leave the other out")
    if image is not None:
        seen = _reader(model, options, prepare).one(image)
        placed = latents.place(model, seen.image, [seen.label])
        _tell(model, [seen], placed)
        z = placed.z[0]
        label = label if label is not None or placed.labels is None else model.classes[placed.labels[0]]
    elif seed is not None:
        z = model.latents(1, seed=seed)[0]
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
    prepare: Annotated[bool, Parameter(negative=())] = False,
    options: Options = None,
) -> None:
    """Go from one image to another along the arc between them in the latent, under one label or from one to another.

    Parameters
    ----------
    run
        A run folder.
    images
        Two images, each a file or a place in a source such as mnist:test:12. Default: two latent points of the seed.
    out
        FILE.png; or FILE.gif or FILE.webp, which move.
    label
        The label to draw, for a conditional model; repeat it to go from the first to the second. Default: what the images
        show.
    seed
        Seed of the latent points, where no images are given.
    steps
        Points on the way. Default: 11, and 31 of an animation.
    fps
        Frames of an animation in a second, 1 to 50.
    prepare
        Read the images as MNIST was made: grey, light on black, thresholded, fitted and centred.
    """
    from vaelab.figures.pictures import ANIMATED
    from vaelab.files import expect_suffix
    from vaelab.inference import explore, latents
    from vaelab.inference.trained import load

    expect_suffix(out, ".png", *ANIMATED)
    if len(images) not in (0, 2):
        raise ConfigError(
            f"got {counted(len(images), 'image')} to interpolate between; expected two, or none to take two of --seed"
        )
    model = load(run)
    if not images:
        under = label if label or not model.conditional else [model.classes[0]]
        between = explore.interpolate(model, z=model.latents(2, seed=seed), under=under, steps=_steps(steps, out))
    else:
        reader = _reader(model, options, prepare)
        seen = [reader.one(text) for text in images]
        placed = latents.place(model, _stack(seen), [one.label for one in seen])
        _tell(model, seen, placed)
        between = explore.interpolate(model, _stack(seen), placed.labels, under=label, steps=_steps(steps, out))
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
) -> None:
    """Draw the sheet of decoded points in two axes of the latent, spaced by quantiles of N(0, 1); a sheet for each label.

    Parameters
    ----------
    run
        A run folder.
    source
        Images to measure the axes on, for a run that was trained without validation images.
    out
        FILE.png.
    label
        A label to draw, for a conditional model; repeat for more. Default: all of them, at most 20.
    axes
        The axis to the right and the one upwards, such as 0,3. Default: the two of highest rate.
    steps
        Points a side. Default: 20, and 10 of several sheets.
    """
    from vaelab.figures.pictures import beside
    from vaelab.figures.plots import save_picture
    from vaelab.files import expect_suffix
    from vaelab.inference import explore
    from vaelab.progress import say

    expect_suffix(out, ".png")
    model = _measured(run, source, options)
    labels = label or (model.classes[:MOST_SHEETS] if model.conditional else [None])
    side = steps or (20 if len(labels) == 1 else 10)
    _expect_cells(len(labels) * side * side)
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
    split: PartName = "test",
    prepare: Annotated[bool, Parameter(negative=())] = False,
    options: Options = None,
) -> None:
    """Draw every label in an image's own style: a row per image, the original first.

    Parameters
    ----------
    run
        A run folder of a conditional model.
    images
        Images, each a file or a place in a source such as mnist:test:12; or a whole source, of which --count are taken.
    out
        FILE.png.
    label
        What the images show: one label for all, or one for each. Default: what their source says, else what the model reads.
    count
        Images of a whole source, spread evenly over the split.
    split
        Which part of a whole source.
    prepare
        Read the images as MNIST was made: grey, light on black, thresholded, fitted and centred.
    """
    from vaelab.files import expect_suffix
    from vaelab.inference import explore, latents
    from vaelab.inference.trained import load
    from vaelab.progress import say

    expect_suffix(out, ".png")
    if not images:
        raise ConfigError("got no image to restyle; expected some: vaelab restyle RUN IMAGE --out FILE.png")
    model = load(run)
    latents.expect_conditional(model)
    reader = _reader(model, options, prepare)
    seen = [one for text in images for one in reader.several(text, split, _at_least_one("--count", count))]
    _expect_cells(len(seen) * (1 + len(model.classes)))
    if label and len(label) not in (1, len(seen)):
        raise LabelError(
            f"--label: got {counted(len(label), 'label')} for {counted(len(seen), 'image')}; expected one for all, or one for "
            "each"
        )
    own = [one.label for one in seen] if not label else label * len(seen) if len(label) == 1 else label
    restyled = explore.restyle(model, _stack(seen), own)
    for one, given, name in zip(seen, own, restyled.names, strict=True):
        if given is None:
            say(f"{one.name}: {name}; type --label to say otherwise")
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
    split: SplitName = "test",
    options: Options = None,
) -> None:
    """Draw where images lie in two axes of the latent: means and 1σ ellipses of their posteriors, over N(0, I).

    Parameters
    ----------
    run
        A run folder.
    source
        Where the images come from, as for `vaelab train`.
    out
        FILE.png, or FILE.npz (mean, log_variance, labels of these images in all axes).
    axes
        The axis to the right and the one upwards, such as 0,3. Default: the two of highest rate.
    count
        How many images, spread evenly over the split.
    split
        Which part of the source.
    """
    from vaelab.cli.outputs import spread, write_npz
    from vaelab.files import expect_suffix
    from vaelab.inference import explore
    from vaelab.inference.latents import measured
    from vaelab.inference.trained import load
    from vaelab.progress import say

    expect_suffix(out, ".png", ".npz")
    model, dataset = load(run), load_source(source, options)
    images, labels, own, _ = part_of(model, dataset, split)
    if model.axes is None and axes is None:
        some = spread(len(images), MOST_MEASURED)
        model = measured(model, images[some], None if labels is None else labels[some])
    shown = spread(len(images), _at_least_one("--count", count))
    own = None if own is None else own[shown]
    placed = explore.posterior(model, images[shown], own, classes=dataset.classes, axes=_axes(axes))
    if out.suffix.lower() == ".npz":
        labels = {} if own is None else {"labels": own}
        write_npz(out, mean=placed.mean, log_variance=placed.log_variance, **labels)
    else:
        placed.save(out)
    say(f"{len(shown):,} posteriors: {out}")


def _measured(run: Path, source: str | None, options: SourceOptions | None) -> TrainedModel:
    """The model, its axes measured on the source if one is given."""
    from vaelab.cli.outputs import spread
    from vaelab.inference.latents import measured
    from vaelab.inference.trained import load

    model = load(run)
    if source is None:
        return model
    images, labels, _, _ = part_of(model, load_source(source, options), "all")
    some = spread(len(images), MOST_MEASURED)
    return measured(model, images[some], None if labels is None else labels[some])


def _reader(model: TrainedModel, options: SourceOptions | None, prepare: bool) -> Reader:
    return Reader(model, options, prepare=prepare)


def _stack(seen: Sequence[Seen]) -> np.ndarray:
    import numpy as np

    return np.stack([one.image for one in seen])


def _tell(model: TrainedModel, seen: Sequence[Seen], placed: Placed) -> None:
    """Say what the model read in the images whose label was not given."""
    import numpy as np

    from vaelab.inference.explore import percent
    from vaelab.progress import say

    if placed.labels is None or placed.probabilities is None:
        return
    for one, label, probability in zip(seen, placed.labels, placed.probabilities, strict=True):
        if not np.isnan(probability):
            say(f"{one.name}: read as {model.classes[label]} ({percent(probability)})")


def _axes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--axes: got {text!r}; expected numbers with commas between them, such as 0,3") from None


def _steps(steps: int | None, out: Path) -> int:
    from vaelab.figures.pictures import ANIMATED

    return steps if steps is not None else MOVING if out.suffix.lower() in ANIMATED else STILL


def _at_least_one(option: str, got: int) -> int:
    if got < 1:
        raise ConfigError(f"{option}: got {got}; expected a whole number of at least 1")
    return got


def _expect_cells(cells: int) -> None:
    if cells > MOST_CELLS:
        raise ConfigError(f"got {cells:,} images for one picture; expected at most {MOST_CELLS:,}: ask for fewer")


def _save(pictures: Pictures, out: Path, fps: float = 10.0) -> None:
    from vaelab.progress import say

    pictures.save(out, fps=fps)
    rows, columns = pictures.images.shape[:2]
    say(f"{rows} × {columns} images: {out}")
