"""`vaelab diagnose`: known faults of a trained model, with evidence and remedies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab.cli.app import Options, TrustCode, app, expect_files, import_pytorch, load_data_of_run, show
from vaelab.spelling import with_options

if TYPE_CHECKING:
    from vaelab.evaluation.diagnosis import Diagnosis


@app.command
def diagnose(
    run: Path,
    source: str | None = None,
    /,
    *,
    options: Options = None,
    trust_code: TrustCode = False,
) -> None:
    """Look for faults of a model: collapse, overfitting, a training too short, an ignored label, unfit data, and others.

    Each fault is printed with evidence and a remedy. `vaelab train` prints the same at its end.

    Parameters
    ----------
    run
        Run folder.
    source
        Data source, as for `vaelab train`. Default: the data of the run.
    """
    from vaelab.progress import work_bar

    expect_files(run, source)
    import_pytorch("vaelab.evaluation.diagnosis")
    from vaelab import runs
    from vaelab.data import of_run
    from vaelab.evaluation.diagnosis import diagnose as examine

    runs.expect_trusted(runs.open_run(run, trust_code=trust_code))
    dataset = load_data_of_run(run, source or of_run.source_of(run), options)
    with work_bar() as report:
        found = examine(run, dataset, trust_code=trust_code, work=report)
    for line in diagnosis_lines(found):
        show(line)


def diagnosis_lines(found: Diagnosis) -> Iterator[str]:
    """Yield a line for each fault, or one that says that there is none, and for what was not judged."""
    yield from (with_options(f"diagnosis: {sentence}") for sentence in found.sentences())
