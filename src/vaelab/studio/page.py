"""The built page: its files in `dist/`, which `hatch_build.py` builds from the project's `studio/`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from vaelab.errors import StudioError
from vaelab.inference.onnx import PACKAGES

DIST = Path(__file__).parent / "dist"

CONTENT_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "worker.js": "text/javascript; charset=utf-8",
    "ort.wasm": "application/wasm",
    "licences.txt": "text/plain; charset=utf-8",
}
"""Content type of each file of the page."""


def page_files() -> dict[str, Path]:
    """Return the paths of the page's files by name.

    Raises
    ------
    StudioError
        If the page is not built or incomplete.
    """
    files = {name: DIST / name for name in CONTENT_TYPES}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        problem = "the page is not built" if len(missing) == len(files) else f"{' and '.join(missing)} missing"
        raise StudioError(
            f"{DIST}: {problem}; build the page with make studio in the project, or install a package that contains it: "
            "pip install --upgrade vaelab"
        )
    return files


def expect_packages(*more: str) -> None:
    """Check that the packages for ONNX export and the packages `more` are installed; the extra `vaelab[studio]` has all.

    Raises
    ------
    StudioError
        If one is not installed.
    """
    names = (*more, *PACKAGES)
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise StudioError(
            f'{" and ".join(missing)} not installed; install what the studio needs with pip install "vaelab[studio]"'
        )
