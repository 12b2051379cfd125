"""`vaelab detect`: which images are odd, at a stated rate of false alarms."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from vaelab.cli.app import (
    Flag,
    Options,
    SourceOptions,
    SplitName,
    TrustCode,
    app,
    data_of_run,
    expect_files,
    load_data_of_run,
    load_model,
    show,
)
from vaelab.cli.generate import expect_given
from vaelab.cli.images import open_images
from vaelab.errors import ConfigError, DataError, counted

if TYPE_CHECKING:
    import numpy as np

    from vaelab.inference.given import Given
    from vaelab.inference.trained import TrainedModel
    from vaelab.progress import Report
    from vaelab.runs import Run

LISTED, DRAWN = 10, 20
"""Largest number of odd images that are printed, and of the oddest ones that are drawn."""


@app.command
def detect(
    run: Path,
    /,
    *images: str,
    out: Path | None = None,
    sheet: Path | None = None,
    false_alarms: str = "1%",
    fail_on_odd: Flag = False,
    calibration: str | None = None,
    score: Literal["likelihood", "corrected", "reconstruction"] | None = None,
    samples: int = 20,
    split: SplitName = "all",
    options: Options = None,
    seed: int = 0,
    trust_code: TrustCode = False,
) -> None:
    """Find the images that are unlike the data of a run, at a stated rate of false alarms.

    The p-value of an image is the share of held-out images of the run's data that score at least as high; the image is odd if
    it is at most --false-alarms. Labels are not used: a conditional model scores an image under its most probable label.

    Parameters
    ----------
    run
        Run folder.
    images
        Data source, as for `vaelab train`, or images: files, or images of a source such as mnist:test:12.
    out
        FILE.csv, FILE.parquet or FILE.npz: path, split, label, scores in nats, p_value, and odd (0 or 1) of every image.
    sheet
        FILE.png: the oddest images, their reconstructions, and the nats of each pixel.
    false_alarms
        Share of images like the held-out ones that may be called odd: 1% or 0.01. With n held-out images, 1/(n + 1) or more.
    fail_on_odd
        Exit with status 1 if an image is odd.
    calibration
        Data source to compare with: images as they should be that the model was not trained on. Default: the test images of
        the run's data, or the validation images if there are none.
    score
        likelihood: −log p. corrected: the same minus the length of the image's PNG, for images that are simpler than those of the
        run. reconstruction: −log p(x|z). Default: likelihood; reconstruction for an autoencoder, which has no other.
    samples
        Latent samples per image of the importance-weighted bound on −log p.
    split
        Part of the source.
    seed
        Seed of the latent samples.
    """
    from vaelab.files import expect_suffix
    from vaelab.inference.tables import expect_table
    from vaelab.progress import say, work_bar

    rate = parse_share(false_alarms)
    if out is not None:
        expect_table(out)
    if sheet is not None:
        expect_suffix(sheet, ".png", parameter="sheet")
    expect_given(run, images)
    expect_files(run, calibration)
    model = load_model(run, trust_code)
    import numpy as np

    from vaelab import runs
    from vaelab.inference.detection import (
        chosen_score,
        detect_given,
        expect_supported,
        flagged_by_chance,
        score_images,
    )
    from vaelab.inference.latents import expect_images
    from vaelab.inference.tables import write_table
    from vaelab.parts import parts_of

    expect_images(model)  # a table is no source of the command line
    name = chosen_score(model.kind, model.model.shape, score)
    held_out = _held_out(runs.open_run(run), calibration, options)
    _expect_shape(held_out.parts[0], held_out.name, model)
    expect_supported(rate, held_out.size)
    given = open_images(run, model, images, options, split=split, any_label=True)
    _expect_shape(given.take(np.array([0]))[0], given.name, model)
    with work_bar() as report:
        reference = []
        for part in held_out.parts:
            for rows in parts_of(len(part)):
                scores = score_images(
                    model,
                    part[rows.start : rows.stop],
                    samples=samples,
                    seed=seed,
                    progress=_after(sum(map(len, reference)), held_out.size, report),
                )
                reference.append(scores[name])
        parts = detect_given(
            given,
            np.concatenate(reference),
            name,
            false_alarms=rate,
            samples=samples,
            seed=seed,
            progress=lambda done, total: report("scoring", done, total),
        )
    scores, p_values, odd, paths = (
        np.concatenate([part[column] for part in parts]) for column in (name, "p_value", "odd", "paths")
    )
    order = np.argsort(-scores, kind="stable")
    if out is not None:
        write_table(out, parts)
    if sheet is not None:
        _draw(sheet, given, order[:DRAWN], scores, p_values, f"oddest images by {name}", seed)
    for i in order[: min(LISTED, int(odd.sum()))]:
        show(f"{paths[i]}: {scores[i]:.1f} nats, p = {p_values[i]:.3g}")
    found, count = int(odd.sum()), given.count
    verb = "is" if count == 1 else "are"
    mean, low, high = flagged_by_chance(rate, held_out.size, count)
    show(
        f"{found:,} of {counted(count, 'image')} {verb} odd by {name} at {100 * rate:g} % false alarms; if all were like the "
        f"held-out images, {mean:.3g} would be ({low:,} to {high:,} in 95 % of cases)"
    )
    say(f"compared with {held_out.name}: {counted(held_out.size, 'image')}")
    for file in filter(None, (out, sheet)):
        say(f"written: {file}")
    if fail_on_odd and found:
        raise SystemExit(1)


def _after(before: int, total: int, report: Report) -> Callable[[int, int], None]:
    """Return a progress callback for a part of the held-out images that comes after `before` others."""
    return lambda done, _: report("scoring held-out images", before + done, total)


def _expect_shape(images: np.ndarray, name: str, model: TrainedModel) -> None:
    """Raise a DataError that names the images if they do not have the shape of the model's."""
    from vaelab.data.layout import as_stored

    try:
        as_stored(images[:1], model.model.shape)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def parse_share(text: str) -> float:
    """Return a share such as `1%` or `0.01` as a number above 0 and below 1."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ConfigError(
            f"--false-alarms: got {text}; expected a share above 0 and below 1 (100%), such as 1% or 0.01"
        )
    return value


class _HeldOut(NamedTuple):
    """Images that a model was not trained on, in parts, each uint8 (n, C, H, W), and which they are."""

    parts: list[np.ndarray]
    name: str

    @property
    def size(self) -> int:
        """Number of images."""
        return sum(map(len, self.parts))


def _held_out(run: Run, source: str | None, options: SourceOptions | None) -> _HeldOut:
    """Return the images to compare with: held-out images of the run's data, or of `source`."""
    from vaelab.data.of_run import not_trained_on

    limits = options and SourceOptions(
        follow_links=options.follow_links,
        max_pixels=options.max_pixels,
        max_bytes=options.max_bytes,
        max_classes=options.max_classes,
    )
    command = f"vaelab detect {shlex.quote(str(run.folder))} … --calibration SOURCE"
    dataset = data_of_run(run, limits, command) if source is None else load_data_of_run(run.folder, source, limits)
    if dataset.fingerprint != run.data.fingerprint:
        parts = not_trained_on(dataset, run.data.fingerprint)
        return _HeldOut(parts, f"{dataset.name} (not the data of the run; the model must not have seen them)")
    if len(dataset.test):
        return _HeldOut([dataset.test.images], f"the test images of {dataset.name}")
    if len(dataset.validation):
        chosen = "the validation images, which selected the weights and may score a little lower than new images"
        return _HeldOut([dataset.validation.images], f"{chosen}, of {dataset.name}")
    raise DataError(
        f"{dataset.name}: got no test and no validation images; expected some to compare with: give others: {command}"
    )


def _draw(
    path: Path, given: Given, order: np.ndarray, scores: np.ndarray, p_values: np.ndarray, title: str, seed: int
) -> None:
    """Draw images at `order` with their reconstructions and nats per pixel."""
    import numpy as np

    from vaelab.data.layout import as_shown, as_stored
    from vaelab.figures.plots import oddest_sheet, save_picture
    from vaelab.inference.detection import nats_per_pixel

    ascending = np.sort(order)
    images = as_stored(given.take(ascending)[0], given.model.model.shape)[np.searchsorted(ascending, order)]
    decoded, nats = nats_per_pixel(given.model, images, seed=seed)
    captions = [f"p {p_values[i]:.2g}" for i in order]
    save_picture(path, oddest_sheet(as_shown(images), decoded, nats, captions, title=title))
