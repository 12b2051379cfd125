"""`vaelab export`: write a trained model as a file that needs neither PyTorch nor vaelab."""

from __future__ import annotations

from pathlib import Path

from vaelab.cli.app import (
    Flag,
    Options,
    SourceOptions,
    TrustCode,
    app,
    expect_files,
    given_options,
    import_pytorch,
    source_arguments,
)
from vaelab.errors import ConfigError
from vaelab.spelling import with_options


@app.command
def export(
    run: Path,
    source: str | None = None,
    /,
    *,
    out: Path,
    parts: Flag = False,
    licence: str | None = None,
    options: Options = None,
    trust_code: TrustCode = False,
) -> None:
    """Write a model as ONNX, checked against PyTorch, or as an HTML page of `vaelab studio` in one file.

    ONNX needs: pip install "vaelab[export]"; the page: pip install "vaelab[studio]".

    Parameters
    ----------
    run
        Run folder.
    source
        Data source of the page, as for `vaelab train`. Default: the data of the run, if found by name.
    out
        FILE.onnx, or FILE.html for the page.
    parts
        Write two files: FILE-encoder.onnx and FILE-decoder.onnx.
    licence
        Licence of the weights, stored in the ONNX file.
    """
    from vaelab.files import expect_suffix

    expect_suffix(out, ".onnx", ".html")
    expect_files(run, source)
    if out.suffix.lower() == ".html":
        if parts or licence is not None:
            raise ConfigError(
                f"{'--parts' if parts else '--licence'}: not available for {out}; leave it out, or write FILE.onnx"
            )
        _page(run, source, options, out, trust_code)
        return
    if source is not None or given_options(options):
        given = [*([] if source is None else [repr(source)]), *source_arguments(options)]
        raise ConfigError(f"got {' '.join(given)} for {out}; leave it out: only a page needs images")
    from vaelab.progress import say, work_bar

    import_pytorch()
    with work_bar(waiting="exporting and checking the model"):
        from vaelab.inference.onnx import LICENCE, OPSET, export_onnx

        licence = LICENCE if licence is None else licence
        files = export_onnx(run, out, parts=parts, licence=licence, trust_code=trust_code)
    for written in files:
        differences = ", ".join(f"{name} {difference:.1g}" for name, difference in written.differences.items())
        say(
            f"{written.path}: {written.size / 1e6:.2f} MB, opset {OPSET}; largest difference from PyTorch: {differences}"
        )


def _page(run: Path, source: str | None, options: SourceOptions | None, out: Path, trust_code: bool) -> None:
    from vaelab.progress import say, work_bar

    import_pytorch()
    with work_bar(waiting="preparing the page") as report:
        from vaelab.studio.single import export_page

        given = given_options(options)
        written = export_page(run, out, source=source, options=given, trust_code=trust_code, work=report)
    for note in written.notes:
        say(f"note: {with_options(note)}")
    say(f"{written.path}: {written.size / 1e6:.2f} MB; open it in a browser, or put it on any web host")
