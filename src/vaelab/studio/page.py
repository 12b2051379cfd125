"""The page as it was built: its files in `dist/`, which `make studio` makes of the project's `studio/`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from vaelab.errors import StudioError
from vaelab.inference.onnx import PACKAGES

DIST = Path(__file__).parent / "dist"

KINDS = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "worker.js": "text/javascript; charset=utf-8",
    "ort.wasm": "application/wasm",
    "licences.txt": "text/plain; charset=utf-8",
}
"""The files of the page, and what each is."""


def page_files() -> dict[str, Path]:
    """The files of the page by name.

    Raises
    ------
    StudioError
        If it is not built, or not whole.
    """
    files = {name: DIST / name for name in KINDS}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        got = "no built page" if len(missing) == len(files) else f"a page without {', '.join(missing)}"
        raise StudioError(
            f"got {got} in {DIST}; expected what is built from the project's studio/: type make studio there (it needs "
            "Node 20 or newer), or install a built vaelab: pip install --upgrade vaelab"
        )
    return files


def expect_packages(*more: str) -> None:
    """Refuse to begin without what models are written with, and without `more`; all are in the extra `vaelab[studio]`.

    Raises
    ------
    StudioError
        If one is not installed.
    """
    names = (*more, *PACKAGES)
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise StudioError(
            f"got no {' and no '.join(missing)}; expected what the page is served and its models are written with: "
            'type pip install "vaelab[studio]"'
        )
