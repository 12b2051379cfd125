"""Export the studio as one HTML file with the page, the runtime and the models. It opens from disk or on any web server.

The script and the style are inline and allowed by their digests. All other files are in script elements that browsers do not run,
as gzip in base64, which the page unpacks. This includes the names of the classes, which therefore cannot be interpreted as HTML.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vaelab import runs
from vaelab.errors import RunError
from vaelab.files import atomic_write, expect_suffix
from vaelab.inference.trained import load
from vaelab.studio.bundle import MANIFEST, THUMB_COLUMNS, Bundle, commands, open_bundle, silent
from vaelab.studio.halved import halved_if_alike
from vaelab.studio.held_out import Work
from vaelab.studio.page import expect_packages, page_files

SUFFIX = ".html"

MOST_POINTS = 2000
"""Maximum number of held-out images on the map."""

MOST_PIXELS = 1_600_000
"""Maximum number of pixels of the sprite sheet: about 2,000 images of 28×28."""

POLICY = (
    "default-src 'none'; script-src '{script}' 'wasm-unsafe-eval'; worker-src blob:; style-src '{style}'; "
    "img-src data: blob:; connect-src 'none'; base-uri 'none'; form-action 'none'"
)
"""Content security policy: the page may only run its inline script, and cannot access the network."""


class Single(NamedTuple):
    """An exported page: its path, its size in bytes, and notes for the user."""

    path: Path
    size: int
    notes: list[str]


def export_page(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    source: str | None = None,
    options: Mapping[str, Any] | None = None,
    trust_code: bool = False,
    work: Work = silent,
) -> Single:
    """Export the studio of a run as one HTML file.

    Weights are stored as float16 if decoded pixels then stay within 1/255 of those of float32; the model casts them to float32
    before use.

    Parameters
    ----------
    run
        A run folder.
    out
        Path of the HTML file, `NAME.html`.
    source
        Source of its images. Default: the source with the recorded name, if it is built in or in the current folder.
    options
        Options of `load_dataset` that differ from those of the training.
    trust_code
        Import the custom networks that the run names, as for `load`.
    work
        Progress callback.

    Raises
    ------
    StudioError
        If the page is not built, or the extra `vaelab[studio]` is not installed.
    OutputError
        If `out` has another suffix or cannot be written.
    RunError, ExportError
        If the run does not exist, is a model of a table or needs `trust_code`, or if its models cannot be exported to ONNX.
    """
    path = Path(out)
    expect_suffix(path, SUFFIX)
    files = page_files()
    expect_packages()
    bundle = open_bundle(Path(run), source=source, options=options, trust_code=trust_code, work=work)
    work("packing the page", 0, 1)
    opened = runs.open_run(Path(run), trust_code=trust_code)
    shared = commands(opened, source and _shareable(source), _shareable(str(run)))
    blocks = _reduced_files(bundle, shared, trust_code)
    blocks |= {name: files[name].read_bytes() for name in ("worker.js", "ort.wasm", "licences.txt")}
    index, script, style = (files[name].read_text(encoding="utf-8") for name in ("index.html", "app.js", "app.css"))
    with atomic_write(path) as temporary:
        temporary.write_text(
            page_of(index, script, style, blocks), encoding="utf-8", errors="backslashreplace", newline="\n"
        )
    return Single(path, path.stat().st_size, bundle.notes)


def page_of(index: str, script: str, style: str, blocks: dict[str, bytes]) -> str:
    """Return the page: `index` with inline script and style, and the files as blocks by name."""
    # Neither may end its element or start a comment in it; inside a string of a script, the escape means the same.
    script = re.sub(r"<(?=/script|!--)", r"\\x3C", script.replace("\r", ""), flags=re.IGNORECASE)
    style = re.sub(r"</(?=style)", r"<\\/", style.replace("\r", ""), flags=re.IGNORECASE)
    policy = POLICY.format(script=_digest(script), style=_digest(style))
    packed = "\n".join(
        f'<script type="application/vaelab" data-name="{name}">{_packed(block)}</script>'
        for name, block in blocks.items()
    )
    for pattern, text in (
        (r"<head>", f'<head>\n<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        (r'<link rel="stylesheet" href="app\.css" ?/?>', f"<style>{style}</style>"),
        (r'<script defer src="app\.js"></script>', ""),
        (r"</body>", f"{packed}\n<script>{script}</script>\n</body>"),
    ):
        index, count = re.subn(pattern, lambda _, text=text: text, index)
        assert count == 1, pattern
    return index


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _packed(block: bytes) -> str:
    return base64.b64encode(gzip.compress(block, 9, mtime=0)).decode()


def _shareable(path: str) -> str:
    """Return only the name of an absolute path: the page must not show where its author's files are."""
    return Path(path).name if Path(path).is_absolute() else path


def _reduced_files(bundle: Bundle, shared: dict[str, str], trust_code: bool) -> dict[str, bytes]:
    """Return the files of a bundle by name, with fewer points, and float16 weights where the outputs stay within tolerance.

    `shared` are the commands of the manifest, without the folders of this machine.
    """
    manifest = json.loads(json.dumps(bundle.manifest)) | shared
    files = {name: content for name in bundle.files if name != MANIFEST and (content := bundle.read(name)) is not None}
    if len(files) < len(bundle.files) - 1:
        raise RunError(f"{bundle.folder}: a file has changed while it was read; try again")
    _, height, width = manifest["shape"]
    rows = max(1, min(MOST_POINTS, MOST_PIXELS // (height * width)) // THUMB_COLUMNS)
    for kind, model in manifest["models"].items():
        encoder, decoder = model["encoder"], model["decoder"]
        small = halved_if_alike(load(bundle.runs[kind], trust_code=trust_code), files[encoder], files[decoder])
        files[encoder], files[decoder] = small
        if (points := model["points"]) is not None:
            files[points["file"]] = _first_points(files[points["file"]], points)
            if points["thumbs"] is not None:
                points["thumbs_count"] = min(points["thumbs_count"], rows * THUMB_COLUMNS, points["count"])
    if "thumbs.png" in files:
        files["thumbs.png"] = _cropped(files["thumbs.png"], rows * height)
    return {MANIFEST: json.dumps(manifest).encode(), **files}


def _first_points(data: bytes, points: dict[str, Any]) -> bytes:
    """Return the first points of a points file, and update their number in `points`."""
    count, columns = points["count"], len(points["axes"]) + 2
    numbers = np.frombuffer(data, dtype="<u2")
    places, labels = numbers[: count * columns], numbers[count * columns :]
    points["count"] = first = min(count, MOST_POINTS)
    return places[: first * columns].tobytes() + labels[:first].tobytes()


def _cropped(data: bytes, height: int) -> bytes:
    """Crop a PNG to its top `height` rows."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        picture.crop((0, 0, picture.width, min(height, picture.height))).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
