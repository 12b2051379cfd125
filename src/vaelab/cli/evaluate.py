"""`vaelab evaluate` and `compare`: measure a trained model, and compare several."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vaelab.cli import several
from vaelab.cli.app import (
    INTERRUPTED,
    Flag,
    Options,
    SourceOptions,
    TrustCode,
    app,
    data_of_run,
    expect_files,
    import_pytorch,
    load_for_run,
    load_model,
    show,
    source_arguments,
)
from vaelab.cli.several import Processes
from vaelab.config import OWN_LOOP
from vaelab.errors import RunError, counted, printable
from vaelab.spelling import option, with_options

if TYPE_CHECKING:
    from vaelab.data import Dataset
    from vaelab.evaluation.comparison import Comparison
    from vaelab.runs import Run

PAGE, SECTIONS = "report.html", "evaluation"
"""Names in a run folder: the page, and the folder of finished sections."""


@app.command
def evaluate(
    run: Path,
    source: str | None = None,
    /,
    *,
    importance_samples: int | None = None,
    quick: Flag = False,
    versus: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    options: Options = None,
    processes: Processes = None,
    trust_code: TrustCode = False,
) -> None:
    """Evaluate a model on held-out images, and write a report: report.html to read, report.json for programs.

    Ctrl-C stops and keeps the finished sections; the same command continues from there.

    Parameters
    ----------
    run
        Run folder.
    source
        Data source, as for `vaelab train`. Default: the data of the run.
    importance_samples
        Number K of samples per image of the importance-weighted bound. Default: 500, or 50 with --quick.
    quick
        Use fewer images and samples, for a preliminary report in one to three minutes.
    versus
        Another data source, to measure how well the model detects its images as outliers.
    seed
        Seed of all random numbers.
    out
        Folder for report.html and report.json. Default: the run folder.
    """
    from vaelab.progress import console, say, work_bar

    several.start(processes)
    for each in (source, versus):
        expect_files(run, each)
    import_pytorch("vaelab.evaluation.report")
    model = load_model(run, trust_code)
    from vaelab import distributed, runs
    from vaelab.evaluation.page import save_page
    from vaelab.evaluation.report import FINISHED
    from vaelab.evaluation.report import evaluate as measure
    from vaelab.evaluation.results import REPORT
    from vaelab.inference.resumable import weights_of

    record = runs.open_run(run)
    folder = out or run
    _expect_writable(folder)
    dataset = several.in_turn(
        lambda: (
            data_of_run(record, options, f"vaelab evaluate {shlex.quote(str(run))} SOURCE")
            if source is None
            else load_for_run(run, source, options)
        )
    )
    outliers = None if versus is None else several.in_turn(lambda: _outliers(run, versus, options))
    distributed.expect_same(data=f"{dataset.name} {dataset.fingerprint[:12]}", model=weights_of(model)[:12])
    if outliers is not None:
        from vaelab.data.of_run import not_trained_on

        used = counted(sum(map(len, not_trained_on(outliers, dataset.fingerprint))), "image")
        say(f"outliers: {used} of {outliers.name}")
    same_data = dataset.fingerprint == record.data.fingerprint
    if not same_data:
        say(
            f"note: {dataset.name} is not the data that {run} was trained on ({record.data.source}); the report notes it"
        )
    finished = 0
    with work_bar(over=FINISHED, waiting="preparing the images") as bar:

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
                versus=outliers,
                run=run,
                cache=folder / SECTIONS,
                work=work,
            )
        except KeyboardInterrupt:
            report = None
    if not several.is_first():
        return
    if report is None:
        values = {"importance_samples": (importance_samples, None), "versus": (versus, None), "seed": (seed, 0)}
        values["out"] = (out, None)
        changed = [
            word for name, (value, usual) in values.items() if value != usual for word in (option(name), str(value))
        ]
        words = ["vaelab", "evaluate", str(run), *([] if source is None else [source]), *changed]
        words += ["--trust-code"] if trust_code else []
        command = shlex.join([*words, *(["--quick"] if quick else []), *source_arguments(options)])
        say(f"stopped; {finished} finished sections are kept in {folder / SECTIONS}; to continue: {command}")
        raise SystemExit(INTERRUPTED)
    report = replace(report, facts=report.facts | {"run": _run_facts(record, same_data)})
    with work_bar(waiting="writing the report"):
        report.save(folder / REPORT)
        save_page(report, folder / PAGE)
    for line in report.lines:
        show(with_options(line))
    say(f"report: {folder / PAGE}, numbers: {folder / REPORT}")


@app.command
def compare(runs: Annotated[list[Path], Parameter(negative_iterable=())], /) -> None:
    """Compare the reports of several runs in a table, or explain why they are not comparable.

    Parameters
    ----------
    runs
        Two or more run folders with a report of `vaelab evaluate`, or report.json files.
    """
    from vaelab.evaluation.comparison import compare_reports, read_report

    if len(runs) < 2:
        raise RunError(f"got {counted(len(runs), 'run')}; expected two or more to compare: vaelab compare RUN RUN")
    reports = {name: read_report(path) for name, path in zip(_names(runs), runs, strict=True)}
    _print_table(compare_reports(reports))


def _outliers(run: Path, source: str, options: SourceOptions | None) -> Dataset:
    """Load the source of outliers, scaled like the data; --limit and --classes do not apply to it."""
    return load_for_run(run, source, replace(options or SourceOptions(), limit=None, classes=None), any_class=True)


def _run_facts(run: Run, same_data: bool) -> dict[str, Any]:
    """Return what the report records about the run."""
    train, budget, own_loop = run.config.train, run.config.train.budget, run.config.own_loop
    unit = "s" if budget.unit == "seconds" else "epoch" if budget.amount == 1 else "epochs"
    return {
        "name": run.folder.resolve().name,
        "source": run.data.source,
        "same_data": same_data,
        "trained_for": OWN_LOOP if own_loop else f"{budget.amount:g} {unit}",
        "network": run.config.model.network,
        "config": {"model": asdict(run.config.model), "train": None if own_loop else asdict(train)},
    }


def _expect_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to before the evaluation starts."""
    import tempfile

    from vaelab.files import cannot_write

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from error


def _names(paths: list[Path]) -> list[str]:
    """Return a unique name for each path: the name of its folder, or the path if several folders have that name."""
    short = [(path.parent if path.suffix == ".json" else path).resolve().name for path in paths]
    counts = Counter(short)
    names = [name if counts[name] == 1 else str(path) for name, path in zip(short, paths, strict=True)]
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{name} ({number})" for number, name in enumerate(names, start=1)]


def _print_table(comparison: Comparison) -> None:
    """Print the figures as a table, one column per report; * marks a significantly best one."""
    import math
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vaelab.evaluation.formatting import rounded

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("figure")
    for name in comparison.names:
        table.add_column(Text(printable(name)), justify="right", overflow="fold")
    section = ""
    for row in comparison.rows:
        if row.section != section:
            section = row.section
            table.add_row(*([""] if table.row_count else []))
            table.add_row(Text(printable(section), style="bold"))
        cells = [
            Text(f"{rounded(cell.value, cell.error)} {'*' if cell.best else ' '}", style="bold" if cell.best else "")
            if math.isfinite(cell.value)
            else Text("–  ")
            for cell in row.cells
        ]
        table.add_row(Text(printable(f"  {row.name}" + (f", {row.unit}" if row.unit else ""))), *cells)
    width = None if sys.stdout.isatty() else 48 + 24 * len(comparison.names)
    console = Console(width=width, highlight=False, emoji=False)
    console.print(table)
    console.print()
    for note in comparison.notes:
        console.print(Text(printable(with_options(note))), soft_wrap=True)
    mark = "* best by more than two standard errors of the difference; figures without ± are never marked"
    console.print(Text(mark), soft_wrap=True)
