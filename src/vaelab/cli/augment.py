"""`vaelab augment`: fill small classes with generated images, and measure whether that helps a classifier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vaelab.cli.app import (
    Flag,
    Options,
    TrustCode,
    app,
    expect_files,
    import_pytorch,
    load_data_of_run,
    load_model,
    show,
)
from vaelab.errors import DataError, RunError, counted

if TYPE_CHECKING:
    import numpy as np

    from vaelab.data import Dataset
    from vaelab.evaluation.augmentation import Judgement
    from vaelab.inference.tables import Columns
    from vaelab.progress import Report

TABLE, JUDGEMENT = "images.csv", "judge.json"
"""Names in the folder that is written: the list of all images, and the result of --judge."""

ROWS = 1000
"""Number of real images that are written together."""

FILE_BYTES = 4096
"""Least space of a file on a disk."""


@app.command
def augment(
    run: Path,
    source: str,
    /,
    *,
    out: Path,
    to: int | Literal["balance"] = "balance",
    temperature: float = 1.0,
    seed: int = 0,
    decode: Literal["mean", "sample"] = "mean",
    judge: Flag = False,
    options: Options = None,
    trust_code: TrustCode = False,
) -> None:
    """Fill small classes of the training images with generated ones, and write all images as a data source.

    The validation and test images are written as they are, so the split is that of the source and no generated image is in them.

    Parameters
    ----------
    run
        Run folder of a conditional model, trained on the source.
    source
        Labelled data source, as for `vaelab train`.
    out
        New folder: train/, validation/ and test/, each with PNG files in class folders, and images.csv with the columns path,
        label, split, generated (0 or 1), and original (path of a real image, if it has one). Generated files are called
        generated-00000.png and so on.
    to
        Size of every class: balance for the size of the largest class, or a number.
    temperature
        Standard deviation of the latent vectors; 1 is the prior of the model.
    seed
        Seed of the latent vectors, and of the pixels with --decode sample.
    decode
        Mean of p(x|z), or a sample of it.
    judge
        Measure whether the generated images help: the balanced accuracy on the real test images of classifiers trained on real,
        oversampled, and real and generated images, five seeds each. Prints a table and writes judge.json into the folder.
    """
    import json

    from vaelab.progress import say, work_bar

    expect_files(run, source)
    import_pytorch("vaelab.evaluation.augmentation")
    from vaelab import runs
    from vaelab.evaluation.augmentation import expect_test_images, judge_augmentation
    from vaelab.files import atomic_write, expect_new_folder, expect_room, new_folder
    from vaelab.inference.augmentation import generated_parts, missing_images
    from vaelab.inference.tables import write_table

    expect_new_folder(out)
    model = load_model(run, trust_code)
    dataset = load_data_of_run(run, source, options)
    missing = missing_images(model, dataset, to)
    _expect_held_out(dataset)
    count = dataset.count("all") + int(missing.sum())
    expect_room(out, count * FILE_BYTES, counted(count, "image"))
    if judge:
        expect_test_images(dataset)
    record = runs.open_run(run)
    if dataset.fingerprint != record.data.fingerprint:
        seen = f"{run} was not trained on the training images of {dataset.name}, but on others ({record.data.source})"
        if judge:
            raise RunError(
                f"{seen}; `judge` would not tell the effect of generated images from that of other images, which may be the test "
                f"images; train a run on {source}"
            )
        say(f"note: {seen}; a test on {dataset.name} is not fair if these contain its test images")
    settings = {"temperature": temperature, "seed": seed, "decode": decode}
    judgement = None
    with new_folder(out) as folder:
        with work_bar(waiting="generating images") as report:
            parts = generated_parts(model, dataset, missing, **settings)
            write_table(folder / TABLE, _written(folder, dataset, missing, parts, report))
        if judge:
            with work_bar(waiting="judging") as report:
                judgement = judge_augmentation(model, dataset, to=to, work=report, **settings)
            with atomic_write(folder / JUDGEMENT) as path:
                values = judgement.to_json() | {"settings": {"to": to, **settings}}
                path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    say(
        f"{counted(len(dataset.train), 'real training image')} and {int(missing.sum()):,} generated ones of "
        f"{counted(len(missing), 'class')}; {len(dataset.validation):,} validation and {len(dataset.test):,} test images as they "
        f"are: {out}"
    )
    if judgement is not None:
        _print_judgement(judgement)


def _expect_held_out(dataset: Dataset) -> None:
    """Refuse a source without validation or test images: of its augmented images, generated ones would be held out."""
    for split in ("validation", "test"):
        if not dataset.count(split):
            raise DataError(
                f"{dataset.name}: got no {split} images; expected some, because generated ones must not be held out; add them in "
                f"a folder {split}/"
            )


def _written(
    folder: Path, dataset: Dataset, missing: np.ndarray, parts: Iterator[tuple[int, np.ndarray]], report: Report
) -> Iterator[Columns]:
    """Write the real images and the generated `parts` into class folders, and yield the rows of the table of each part."""
    import numpy as np
    from PIL import Image

    from vaelab.cli.outputs import folder_names
    from vaelab.data.layout import as_shown

    names, classes = list(folder_names(dataset.classes).values()), np.array(dataset.classes)
    total, done = dataset.count("all") + int(missing.sum()), 0

    def write(split: str, images: np.ndarray, labels: np.ndarray, first: int, original: np.ndarray | None) -> Columns:
        """Write images, numbered from `first`; those without `original` paths are generated."""
        nonlocal done
        form = "generated-{:05d}.png" if original is None else "{:06d}.png"
        paths = [f"{split}/{names[k]}/{form.format(first + i)}" for i, k in enumerate(labels)]
        for path, image in zip(paths, as_shown(images), strict=True):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / path)
        done += len(images)
        report("writing images", done, total)
        return {
            "paths": np.array(paths),
            "labels": labels,
            "classes": classes,
            "split": np.full(len(labels), split),
            "generated": np.full(len(labels), int(original is None)),
            "original": np.full(len(labels), "") if original is None else original,
        }

    for split in ("train", "validation", "test"):
        part = dataset.part(split)
        assert part.labels is not None
        paths = np.full(len(part), "") if part.paths is None else part.paths
        for first in range(0, len(part), ROWS):
            rows = slice(first, first + ROWS)
            yield write(split, part.images[rows], part.labels[rows], first, paths[rows])
    written = np.zeros(len(missing), dtype=np.int64)
    for k, images in parts:
        yield write("train", images, np.full(len(images), k), int(written[k]), None)
        written[k] += len(images)


def _print_judgement(judgement: Judgement) -> None:
    """Print balanced accuracies and differences as a table, and the verdict."""
    from rich.console import Console
    from rich.table import Table

    names = {"real": "real", "oversampled": "real, oversampled", "generated": "real and generated"}
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("trained on")
    for heading in ("images", "balanced accuracy, %", "with generated, points", "± test images"):
        table.add_column(heading, justify="right")
    for count, (key, (mean, low, high)) in zip(judgement.images, judgement.accuracies.items(), strict=True):
        cells = [names[key], f"{count:,}", f"{mean:.2f} ({low:.2f} to {high:.2f})"]
        if each := judgement.differences.get(key):
            mean, low, high = each.over_seeds
            cells += [f"{mean:+.2f} ({low:+.2f} to {high:+.2f})", f"{each.error:.2f}"]
        table.add_row(*cells)
    Console(width=100, highlight=False, emoji=False).print(table)
    show(judgement.sentence)
