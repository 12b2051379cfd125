"""The files that the page needs for a run: `manifest.json` and the files that it names.

They are cached in the run folder, in `studio/`, under a key computed from the weights, the configuration and the versions. The
report and the training curve, which cost nothing, are written again each time.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vaelab import runs
from vaelab.data.layout import as_shown, describe_shape
from vaelab.data.sources import found_again
from vaelab.errors import RunError
from vaelab.evaluation.results import REPORT
from vaelab.files import atomic_write
from vaelab.inference import latents
from vaelab.inference.onnx import export_onnx
from vaelab.inference.trained import TrainedModel, load
from vaelab.runs import Run
from vaelab.studio.axis_styles import measured_styles
from vaelab.studio.held_out import HeldOut, Work, held_out
from vaelab.studio.model_facts import model_facts, rounded
from vaelab.version import __version__

FORMAT = 2
"""Version of the bundle's format; must be the one that the page reads."""

FOLDER, MANIFEST, CURVE, KEY = "studio", "manifest.json", "curve.json", "key.json"

KINDS = ("ae", "vae", "cvae")

MOST_POINTS = 10_000
"""Maximum number of held-out images on the map."""

THUMB_COLUMNS = 100
"""Held-out images per row of the sprite sheet."""

MOST_PIXELS = 8_000_000
"""Maximum number of pixels of the sprite sheet, which the browser decompresses in memory."""

COLUMNS = 10
"""Number of latent points in the precomputed picture."""

MOST_HEIGHT = 8192
"""Maximum height of the precomputed picture in pixels; labels that do not fit are omitted."""

TEMPERATURE = 0.8
"""Temperature of the precomputed picture: slightly below 1, since rare styles make labels hard to recognise."""


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Bundle:
    """The page's files for a run.

    Attributes
    ----------
    folder
        Folder with the files.
    manifest
        Contents of `manifest.json`.
    runs
        Run folder of each model by kind, the run itself first.
    key
        Digest of everything that the files depend on.
    fresh
        Whether the files were created by this call rather than found in the cache.
    """

    folder: Path
    manifest: dict[str, Any]
    runs: dict[str, Path]
    key: str
    fresh: bool

    @property
    def notes(self) -> list[str]:
        """Notes for the user: what is missing, and why."""
        return self.manifest["notes"]

    @property
    def files(self) -> list[str]:
        """Names of all files, the manifest first."""
        first = self.manifest["first"]
        names = [MANIFEST, *([] if first is None else [first["file"]])]
        for model in self.manifest["models"].values():
            names += [model["encoder"], model["decoder"]]
            if (points := model["points"]) is not None:
                names += [points["file"], *([] if points["thumbs"] is None else [points["thumbs"]])]
        return list(dict.fromkeys(names + [name for part in ("report", "curve") if (name := self.manifest[part])]))


def open_bundle(folder: Path, *, source: str | None = None, training: bool = False, work: Work = silent) -> Bundle:
    """Return the bundle of a run, from its cache if possible.

    Parameters
    ----------
    folder
        A run folder. Other kinds of models trained on the same data are in its subfolders `ae`, `vae` and `cvae`.
    source
        Source of the run's data. Default: the source with the recorded name, if it is built in or in the current folder.
    training
        Whether the run is being trained and may have no weights yet.
    work
        Progress callback.

    Raises
    ------
    RunError
        If the run does not exist, has no weights, or is a model of a table.
    ExportError
        If a model cannot be exported to ONNX.
    VaelabError
        If `source` is given and cannot be read, or its data are not those of the run.
    """
    run = runs.open_run(folder)
    if len(run.data.shape) != 3:
        raise RunError(f"{folder}: got a model of {describe_shape(run.data.shape)}; expected a model of images")
    members, notes = _members(run)
    if training and not has_weights(run):
        members = {}
    key = _key(members, source, run.data.source)
    cache = folder / FOLDER
    parts = _cached_parts(cache, key)
    fresh = parts is None
    if parts is None:
        with _replace_folder(cache) as (temporary, cache):
            parts = json.loads(json.dumps(_build_parts(run, members, source, temporary, work)))
            (temporary / KEY).write_text(json.dumps({"key": key, "parts": parts}), encoding="utf-8")
    manifest = _manifest(run, parts, notes, cache) | commands(folder, source, run.data.source)
    with atomic_write(cache / MANIFEST) as path:
        path.write_text(json.dumps(manifest), encoding="ascii")
    return Bundle(cache, manifest, {kind: member.folder for kind, member in members.items()}, key, fresh)


def commands(folder: Path, source: str | None, name: str) -> dict[str, str]:
    """Return the commands that evaluate a run and that train the missing kinds of models, for a shell.

    `source` is the given source of its data, `name` the recorded one.
    """
    evaluate = ["vaelab", "evaluate", str(folder), *([] if source is None else [source])]
    train = ["vaelab", "train", source or found_again(name) or name, "--model", "all", "--out", str(folder), "--resume"]
    return {"evaluate": shlex.join(evaluate), "train": shlex.join(train)}


def has_weights(run: Run) -> bool:
    """Return whether a run has weights after at least one training step."""
    return (run.folder / runs.WEIGHTS).is_file() and runs.weight_facts(run).get("step", 0) > 0


def _members(run: Run) -> tuple[dict[str, Run], list[str]]:
    """Return the run and the other kinds of models in it, by kind, the run first; and notes on those that are left out."""
    members, notes = {str(run.config.model.model): run}, []
    for kind in KINDS:
        if kind in members or not (run.folder / kind / runs.WEIGHTS).is_file():
            continue
        sibling = runs.open_run(run.folder / kind)
        if sibling.config.model.model != kind or sibling.data.fingerprint != run.data.fingerprint:
            notes.append(f"Left out {sibling.folder}: its model is not of kind {kind!r}, or was trained on other data.")
        else:
            members[kind] = sibling
    return members, notes


def _key(members: dict[str, Run], source: str | None, name: str) -> str:
    """Digest of what the bundle depends on: weights and configuration of each model, versions, and location of the data."""
    found = source or found_again(name)
    changed = Path(found).stat().st_mtime_ns if found is not None and Path(found).exists() else None
    digest = hashlib.sha256(repr((FORMAT, __version__, source, found, changed)).encode())
    for kind, run in members.items():
        digest.update(kind.encode())
        for part in (runs.CONFIG, runs.WEIGHTS):
            path = run.folder / part
            digest.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest())
    return digest.hexdigest()


def _cached_parts(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the manifest's parts from the cache; None if the key differs or a file is missing."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads((folder / KEY).read_text(encoding="utf-8"))
        if found["key"] == key and all((folder / name).is_file() for name in found["parts"]["files"]):
            return found["parts"]
    return None


@contextmanager
def _replace_folder(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a temporary folder and the folder that it replaces when the block ends without an error.

    If the run folder is not writable, both are in the system's temporary folder until this program ends.
    """
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError:
        parent = Path(tempfile.mkdtemp(prefix="vaelab-studio-"))
        atexit.register(shutil.rmtree, parent, ignore_errors=True)
        folder, temporary = parent / folder.name, parent / "new"
        temporary.mkdir()
    try:
        temporary.chmod(0o755)
        yield temporary, folder
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _build_parts(run: Run, members: dict[str, Run], source: str | None, folder: Path, work: Work) -> dict[str, Any]:
    """Write the files that are cached, and return the parts of the manifest that describe them."""
    if not members:
        return {"models": {}, "first": None, "notes": [], "files": []}
    models = {kind: load(member.folder) for kind, member in members.items()}
    images, missing = held_out(run, source, MOST_POINTS, work)
    notes = [] if missing is None else [missing]
    styles = measured_styles(images, work)
    facts = {}
    for kind, trained in models.items():
        work(f"exporting the model ({kind})", 0, 1)
        export_onnx(members[kind].folder, folder / f"{kind}.onnx", parts=True)
        facts[kind] = model_facts(members[kind], trained, images, folder, work, styles)
    work("drawing the pictures", 0, 1)
    if images is not None:
        count = write_thumbs(folder / "thumbs.png", images)
        shown = {"thumbs": "thumbs.png", "thumbs_columns": THUMB_COLUMNS, "thumbs_count": count}
        for model in facts.values():
            model["points"] |= shown
    main = models[str(run.config.model.model)]
    picture, z = first_picture(main)
    picture.save(folder / "first.png")
    rows = picture.height // run.data.shape[1]
    first = {"file": "first.png", "rows": rows, "columns": COLUMNS, "z": rounded(z)}
    files = sorted(path.name for path in folder.iterdir())
    return {"models": facts, "first": first, "notes": notes, "files": files}


def write_thumbs(path: Path, images: HeldOut) -> int:
    """Write the first held-out images as a sprite sheet, `THUMB_COLUMNS` per row without gaps; return their number."""
    _, channels, height, width = images.images.shape
    count = min(len(images.images), max(THUMB_COLUMNS, MOST_PIXELS // (height * width)))
    rows = -(-count // THUMB_COLUMNS)
    cells = np.zeros((rows * THUMB_COLUMNS, channels, height, width), dtype=np.uint8)
    cells[:count] = images.images[:count]
    sheet_of(as_shown(cells), THUMB_COLUMNS).save(path, optimize=False)
    return count


def first_picture(trained: TrainedModel) -> tuple[Image.Image, np.ndarray]:
    """Return an image with a row per label, and the latents (columns, d) of its columns, which do not depend on the weights."""
    z = trained.latents(COLUMNS, temperature=TEMPERATURE)
    if trained.axes is not None:
        middle, sigma = latents.scale(trained)
        z = middle + sigma * z
    if not trained.conditional:
        return sheet_of(trained.decode(z), COLUMNS), z
    rows = max(1, min(len(trained.classes), MOST_HEIGHT // trained.model.shape[1]))
    labels = np.repeat(np.arange(rows), COLUMNS)
    return sheet_of(trained.decode(np.tile(z, (rows, 1)), labels), COLUMNS), z


def sheet_of(images: np.ndarray, columns: int) -> Image.Image:
    """Arrange images (N, H, W[, 3]) in rows without gaps; N must be a multiple of `columns`."""
    rows = images.reshape(-1, columns, *images.shape[1:])
    joined = rows.swapaxes(1, 2).reshape(rows.shape[0] * rows.shape[2], columns * rows.shape[3], *rows.shape[4:])
    return Image.fromarray(joined)


def _manifest(run: Run, parts: dict[str, Any], notes: list[str], folder: Path) -> dict[str, Any]:
    """Return the manifest; write the report and the training curve to `folder`, if they exist."""
    report, lines = run.folder / REPORT, runs.read_metrics(run)
    if report.is_file():
        shutil.copyfile(report, folder / REPORT)
    if lines:
        with atomic_write(folder / CURVE) as temporary:
            temporary.write_text(json.dumps(lines), encoding="utf-8")
    return {
        "format": FORMAT,
        "vaelab": __version__,
        "name": run.folder.resolve().name,
        "main": run.config.model.model,
        "classes": list(run.data.classes),
        "shape": list(run.data.shape),
        "source": run.data.source,
        "training": False,
        "models": parts["models"],
        "first": parts["first"],
        "report": REPORT if report.is_file() else None,
        "curve": CURVE if lines else None,
        "notes": [*notes, *parts["notes"]],
    }
