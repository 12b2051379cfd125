"""`vaelab export`: a trained model as a file that needs neither PyTorch nor this package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vaelab.cli.app import app


@app.command
def export(
    run: Path,
    /,
    *,
    out: Path,
    parts: Annotated[bool, Parameter(negative=())] = False,
    licence: str | None = None,
) -> None:
    """Write a model as ONNX, compared with PyTorch before it appears. Needs: pip install "vaelab[export]".

    Parameters
    ----------
    run
        A run folder.
    out
        FILE.onnx.
    parts
        Encoder and decoder apart: FILE-encoder.onnx and FILE-decoder.onnx.
    licence
        The terms of the weights, to be written into the file.
    """
    from vaelab.export import LICENCE, OPSET, export_onnx
    from vaelab.terminal import say

    for written in export_onnx(run, out, parts=parts, licence=LICENCE if licence is None else licence):
        found = ", ".join(f"{name} {difference:.1g}" for name, difference in written.differences.items())
        say(f"{written.path}: {written.size / 1e6:.2f} MB, opset {OPSET}; largest difference from PyTorch: {found}")
