"""`vaelab studio`: a page on one's own model, in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vaelab.cli.app import app


@app.command
def studio(
    run: Path,
    source: str | None = None,
    /,
    *,
    port: int | None = None,
    no_browser: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Open a page on a model: its latent space to see and touch. Needs: pip install "vaelab[studio]". Ctrl-C ends it.

    While the run is being trained, the page follows it. The files that it needs are kept in RUN/studio.

    Parameters
    ----------
    run
        A run folder. Siblings that `vaelab train --model all` made in it are on the page too.
    source
        Where its images come from, as for `vaelab train`. Default: what the run was trained on, if its name leads there.
    port
        Of 127.0.0.1. Default: a free one.
    no_browser
        Print the address and open nothing.
    """
    from vaelab.studio.page import expect_packages

    expect_packages("fastapi", "uvicorn")
    from vaelab.progress import say, work_bar
    from vaelab.studio.server import open_site, serve

    with work_bar() as report:
        site = open_site(run, source=source, work=report)
    for note in site.bundle.notes:
        say(f"note: {note}")
    serve(site, port=port, browser=not no_browser, on_ready=lambda address: print(address, flush=True))
