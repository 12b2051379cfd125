"""The report as an HTML page: one file that needs no script, no network and no other file."""

from __future__ import annotations

import os
from pathlib import Path

from vaelab.evaluation.page.document import page_html
from vaelab.evaluation.report import Report
from vaelab.files import atomic_write

__all__ = ["page_html", "save_page"]


def save_page(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a report as one HTML file, atomically.

    Parameters
    ----------
    report
        A report, as returned by `vaelab.evaluate`.
    path
        Path of the .html file.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with atomic_write(Path(path)) as temporary:
        temporary.write_text(page_html(report), encoding="utf-8", errors="backslashreplace")
