"""`vaelab studio`: an interactive page about a trained model, in the browser."""

from __future__ import annotations

from pathlib import Path

from vaelab.cli.app import Flag, Options, TrustCode, app, expect_files, given_options, import_pytorch
from vaelab.spelling import with_options


@app.command
def studio(
    run: Path,
    source: str | None = None,
    /,
    *,
    port: int | None = None,
    no_browser: Flag = False,
    options: Options = None,
    trust_code: TrustCode = False,
) -> None:
    """Open an interactive page about a model in the browser, until Ctrl-C. Needs: pip install "vaelab[studio]".

    The page follows a run that is still being trained. The page's files are stored in RUN/studio.

    Parameters
    ----------
    run
        Run folder. The page includes the other models of `vaelab train --model all`.
    source
        Data source, as for `vaelab train`. Default: the data of the run, if found by name.
    port
        Port on 127.0.0.1. Default: a free one.
    no_browser
        Print the address without opening a browser.
    """
    from vaelab.progress import say, work_bar

    expect_files(run, source)
    import_pytorch("vaelab.studio.page")
    from vaelab.studio.page import expect_packages

    expect_packages("fastapi", "uvicorn")
    with work_bar(waiting="preparing the page") as report:
        from vaelab.studio.server import open_site, serve

        given = given_options(options)
        site = open_site(run, source=source, options=given, trust_code=trust_code, work=report)
    for note in site.bundle.notes:
        say(f"note: {with_options(note)}")
    serve(site, port=port, browser=not no_browser, on_ready=lambda address: print(address, flush=True))
