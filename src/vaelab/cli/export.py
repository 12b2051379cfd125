"""`vaelab export`: a trained model as a file that needs neither PyTorch nor this package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vaelab.cli.app import app
from vaelab.errors import ConfigError


@app.command
def export(
    run: Path,
    source: str | None = None,
    /,
    *,
    out: Path,
    parts: Annotated[bool, Parameter(negative=())] = False,
    licence: str | None = None,
) -> None:
    """Write a model as ONNX, compared with PyTorch before it appears, or as a page to look at it with, in one file.

    ONNX needs: pip install "vaelab[export]"; a page: pip install "vaelab[studio]".

    Parameters
    ----------
    run
        A run folder.
    source
        For a page: where its images come from, as for `vaelab train`. Default: what the run was trained on, if its name leads
        there.
    out
        FILE.onnx, or FILE.html for the page of `vaelab studio`.
    parts
        Encoder and decoder apart: FILE-encoder.onnx and FILE-decoder.onnx.
    licence
        The terms of the weights, to be written into the ONNX file.
    """
    from vaelab.files import expect_suffix

    expect_suffix(out, ".onnx", ".html")
    if out.suffix.lower() == ".html":
        if parts or licence is not None:
            raise ConfigError(
                f"{'--parts' if parts else '--licence'}: got it with {out}; expected it with FILE.onnx alone"
            )
        _page(run, source, out)
        return
    if source is not None:
        raise ConfigError(f"got {source!r} beyond what {out} is made of; expected it left out: a page takes images")
    from vaelab.inference.onnx import LICENCE, OPSET, export_onnx
    from vaelab.progress import say

    for written in export_onnx(run, out, parts=parts, licence=LICENCE if licence is None else licence):
        found = ", ".join(f"{name} {difference:.1g}" for name, difference in written.differences.items())
        say(f"{written.path}: {written.size / 1e6:.2f} MB, opset {OPSET}; largest difference from PyTorch: {found}")


def _page(run: Path, source: str | None, out: Path) -> None:
    from vaelab.progress import say, work_bar
    from vaelab.studio.single import export_page

    with work_bar() as report:
        written = export_page(run, out, source=source, work=report)
    for note in written.notes:
        say(f"note: {note}")
    say(f"{written.path}: {written.size / 1e6:.2f} MB, one file: open it, send it, or put it on any host")
