"""`vaelab evaluate` and `compare`: what a trained model is worth, and which of several is worth more."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vaelab.cli.app import INTERRUPTED, Options, SourceOptions, app, load_source, source_arguments
from vaelab.errors import DataError, RunError

if TYPE_CHECKING:
    from vaelab.data import Dataset
    from vaelab.evaluation.comparison import Comparison
    from vaelab.training.runs import Run

PAGE, KEPT = "report.html", "evaluation"
"""In a run folder: the page, and the finished sections of an evaluation."""


@app.command
def evaluate(
    run: Path,
    source: str | None = None,
    /,
    *,
    importance_samples: int = 500,
    quick: Annotated[bool, Parameter(negative=())] = False,
    versus: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    options: Options = None,
) -> None:
    """Measure a trained model on held-out images: report.html to read and report.json to compute with.

    Ctrl-C stops; the sections that are finished are kept, and the same command goes on from there.

    Parameters
    ----------
    run
        A run folder.
    source
        Where the images come from, as for `vaelab train`. Default: what the run was trained on.
    importance_samples
        K of the importance-weighted bound: draws per image.
    quick
        Fewer images and samples, for a first look in a minute.
    versus
        Another source, whose images are outliers: how well does the model tell them from its own?
    seed
        Seed of every draw.
    out
        The folder for report.html and report.json. Default: the run folder.
    """
    from vaelab.evaluation.page import save_page
    from vaelab.evaluation.report import FINISHED, REPORT
    from vaelab.evaluation.report import evaluate as measure
    from vaelab.inference.trained import load
    from vaelab.progress import console, say, work_bar
    from vaelab.training import runs

    opened, model = runs.open_run(run), load(run)
    folder = out or run
    _expect_writable(folder)
    dataset = load_source(source, options) if source is not None else _own_data(opened, options)
    others = None if versus is None else _outliers(versus, options)
    same = dataset.fingerprint == opened.data.fingerprint
    if not same:
        say(f"{dataset.name} is not the data that {run} was trained on ({opened.data.source}); the report says so")
    finished = 0
    with work_bar(over=FINISHED) as bar:

        def work(what: str, done: int, total: int) -> None:
            nonlocal finished
            bar(what, done, total)
            if what == FINISHED:
                finished = done
                if done and not console.is_terminal:
                    say(f"{done} of {total} sections")

        try:
            report = measure(
                model,
                dataset,
                importance_samples=importance_samples,
                quick=quick,
                seed=seed,
                versus=others,
                cache=folder / KEPT,
                work=work,
            )
        except KeyboardInterrupt:
            report = None
    if report is None:
        given = {"--importance-samples": (importance_samples, 500), "--versus": (versus, None), "--seed": (seed, 0)}
        given["--out"] = (out, None)
        changed = [word for name, (value, usual) in given.items() if value != usual for word in (name, str(value))]
        words = ["vaelab", "evaluate", str(run), *([] if source is None else [source]), *changed]
        again = shlex.join([*words, *(["--quick"] if quick else []), *source_arguments(options)])
        say(f"stopped; finished sections: {finished}, kept in {folder / KEPT}; to go on: {again}")
        raise SystemExit(INTERRUPTED)
    report = replace(report, facts=report.facts | {"run": _run_facts(opened, same)})
    report.save(folder / REPORT)
    save_page(report, folder / PAGE)
    for line in report.lines:
        print(line)
    say(f"report: {folder / PAGE}, and its figures as {folder / REPORT}")


@app.command
def compare(runs: Annotated[list[Path], Parameter(negative_iterable=())], /) -> None:
    """Put the reports of several runs side by side, or say why their figures cannot be compared.

    Parameters
    ----------
    runs
        Run folders that `vaelab evaluate` has been at, or report.json files; two or more.
    """
    from vaelab.evaluation.comparison import compare_reports, read_report

    if len(runs) < 2:
        raise RunError(f"got {len(runs)} run; expected two or more to compare: type vaelab compare RUN RUN")
    reports = {name: read_report(path) for name, path in zip(_names(runs), runs, strict=True)}
    _print_table(compare_reports(reports))


def _own_data(run: Run, options: SourceOptions | None) -> Dataset:
    """What a run was trained on, found by the name that it remembers: a built-in one, or that of a file or folder here."""
    from vaelab.data.sources import found_again

    name = run.data.source
    ask = f"type vaelab evaluate {shlex.quote(str(run.folder))} SOURCE"
    found = found_again(name)
    if found is None:
        raise DataError(
            f"{run.folder}: it was trained on {name!r}, which is no built-in name and not in this folder; expected its "
            f"source: {ask}"
        )
    dataset = load_source(found, options)
    if dataset.fingerprint != run.data.fingerprint:
        raise DataError(
            f"{run.folder}: it was trained on {name!r} of fingerprint {run.data.fingerprint[:8]}…, but got "
            f"{dataset.fingerprint[:8]}… from {found!r}; expected the same data: {ask}, with the options (--size, --limit, "
            "--classes) that it was trained with"
        )
    return dataset


def _outliers(source: str, options: SourceOptions | None) -> Dataset:
    """Another source, its images brought to the same size; what chooses among images is not meant for it."""
    kept = options or SourceOptions()
    return load_source(source, SourceOptions(size=kept.size, fit=kept.fit, skip_broken=kept.skip_broken))


def _run_facts(run: Run, same_data: bool) -> dict[str, Any]:
    """What the report says of the run itself."""
    train = run.config.train
    budget = train.budget
    for_how_long = f"{budget.amount:g} {'epochs' if budget.unit == 'epochs' else 's'}"
    return {
        "name": run.folder.resolve().name,
        "source": run.data.source,
        "same_data": same_data,
        "trained_for": for_how_long,
        "network": run.config.model.network,
        "config": {"model": asdict(run.config.model), "train": asdict(train)},
    }


def _expect_writable(folder: Path) -> None:
    """Refuse a folder that the report could not be written to, before the time is spent."""
    import tempfile

    from vaelab.files import cannot_write

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from error


def _names(paths: list[Path]) -> list[str]:
    """A short name for each: that of its folder, or the whole path where that is not its own."""
    short = [(path.parent if path.suffix == ".json" else path).resolve().name for path in paths]
    counts = Counter(short)
    names = [name if counts[name] == 1 else str(path) for name, path in zip(short, paths, strict=True)]
    again = Counter(names)
    return [name if again[name] == 1 else f"{name} ({at + 1})" for at, name in enumerate(names)]


def _print_table(comparison: Comparison) -> None:
    """The figures as a table, a column for each report; * marks the best where that is beyond doubt."""
    import math
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vaelab.evaluation.formatting import rounded

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("figure")
    for name in comparison.names:
        table.add_column(Text(name), justify="right", overflow="fold")
    section = ""
    for row in comparison.rows:
        if row.section != section:
            section = row.section
            table.add_row(*([""] if table.row_count else []))
            table.add_row(Text(section, style="bold"))
        cells = [
            Text(f"{rounded(cell.value, cell.error)} {'*' if cell.best else ' '}", style="bold" if cell.best else "")
            if math.isfinite(cell.value)
            else Text("–  ")
            for cell in row.cells
        ]
        table.add_row(Text(f"  {row.name}" + (f", {row.unit}" if row.unit else "")), *cells)
    width = None if sys.stdout.isatty() else 48 + 24 * len(comparison.names)
    console = Console(width=width, highlight=False)
    console.print(table)
    console.print()
    for note in comparison.notes:
        console.print(Text(note), soft_wrap=True)
    mark = "* the best, by more than twice the standard error of the difference; a figure without ± is never marked"
    console.print(Text(mark), soft_wrap=True)
