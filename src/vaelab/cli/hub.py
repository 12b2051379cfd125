"""`vaelab push` and `pull`: a run on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from vaelab.cli.app import Flag, app, import_pytorch, show
from vaelab.run_folder import check_new, expect_run


@app.command
def push(run: Path, name: str, /, *, private: Flag = False, licence: str | None = None) -> None:
    """Send a run to the Hugging Face Hub, with a model card made from its report. Needs: pip install "vaelab[hub]".

    Sent are config.json, which has the names of the data and their classes, the weights, metrics.jsonl, report.json if there
    is one, and pictures of generated images. The token is that of HF_TOKEN or of hf auth login.

    Parameters
    ----------
    run
        Run folder.
    name
        Repository, OWNER/NAME; created if there is none.
    private
        Create it as private; refused if it is public already.
    licence
        Licence of the weights on the card, such as mit or cc-by-4.0. Default: none is stated.
    """
    from vaelab.progress import work_bar

    expect_run(run)
    import_pytorch()
    from vaelab.inference import hub

    with work_bar(waiting=f"sending {run}"):
        url = hub.push(run, name, private=private, licence=licence)
    show(url)


@app.command
def pull(name: str, /, *, out: Path) -> None:
    """Fetch a run from the Hugging Face Hub into a new folder, and check it. Needs: pip install "vaelab[hub]".

    Nothing of what is fetched is executed.

    Parameters
    ----------
    name
        Repository, OWNER/NAME.
    out
        Run folder to write.
    """
    from vaelab.progress import say, work_bar

    check_new(out)
    import_pytorch()
    from vaelab.inference import hub

    with work_bar(waiting=f"fetching {name}"):
        run = hub.pull(name, out)
    say(f"fetched: {out}, {run.config.model.model} of {run.data.source}")
    if run.custom:
        say(f"note: it names {' and '.join(run.custom)}, whose code runs when it is loaded, only with --trust-code")
