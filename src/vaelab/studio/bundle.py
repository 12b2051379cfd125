"""The files that the page needs for a run: `manifest.json` and the files that it names.

Those that take time are cached in the run folder, in `studio/`. Since a run may come from a stranger, nothing of this cache is
believed that this user has not written: `cache.sealed` is sealed with a secret of the user (`seal.py`) and holds a key, computed
from the weights, the configuration and the versions, and the SHA-256 of every file. If anything differs, all is made again.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vaelab import runs
from vaelab.checked_files import read_regular
from vaelab.data.dataset import Dataset
from vaelab.data.layout import as_shown, describe_shape
from vaelab.data.sources import found_again
from vaelab.errors import RunError
from vaelab.evaluation.diagnosis import diagnose_model
from vaelab.evaluation.results import REPORT
from vaelab.files import cannot_write
from vaelab.inference import latents
from vaelab.inference.onnx import export_onnx
from vaelab.inference.trained import TrainedModel, load
from vaelab.runs import Run
from vaelab.seal import sealed, unsealed
from vaelab.spelling import with_options
from vaelab.studio.axis_styles import measured_styles
from vaelab.studio.held_out import HeldOut, Work, data_of, held_out
from vaelab.studio.model_facts import model_facts, rounded
from vaelab.studio.records import curve_of, read_report
from vaelab.version import __version__

FORMAT = 3
"""Version of the bundle's format; must be the one that the page reads."""

FOLDER, MANIFEST, CURVE, KEY = "studio", "manifest.json", "curve.json", "cache.sealed"

CACHED = re.compile(r"(ae|vae|cvae)-(encoder\.onnx|decoder\.onnx|points\.bin)|(first|thumbs)\.png")
"""Names of the files in the cache."""

CONTENT_TYPES = {
    ".json": "application/json",
    ".onnx": "application/octet-stream",
    ".bin": "application/octet-stream",
    ".png": "image/png",
}
"""Content type of a file of a bundle by its suffix."""

MOST_BYTES, MOST_RECORD_BYTES = 2_000_000_000, 32_000_000
"""Largest file of the cache, and largest record of it."""

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
        Folder of the cached files.
    manifest
        Contents of `manifest.json`.
    runs
        Run folder of each model by kind, the run itself first.
    key
        Digest of everything that the files depend on.
    fresh
        Whether the cached files were created by this call.
    digests
        SHA-256 of each cached file by its name.
    texts
        Content of the other files by name: manifest, training curve, report.
    """

    folder: Path
    manifest: dict[str, Any]
    runs: dict[str, Path]
    key: str
    fresh: bool
    digests: dict[str, str]
    texts: dict[str, bytes]

    @property
    def notes(self) -> list[str]:
        """Notes for the user: what is missing, and why."""
        return self.manifest["notes"]

    @property
    def files(self) -> list[str]:
        """Names of all files, the manifest first."""
        return [*self.texts, *self.digests]

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none of that name, or it has changed since."""
        if name in self.texts:
            return self.texts[name]
        return _cached_file(self.folder / name, self.digests[name]) if name in self.digests else None


def open_bundle(
    folder: Path,
    *,
    source: str | None = None,
    options: Mapping[str, Any] | None = None,
    training: bool = False,
    trust_code: bool = False,
    work: Work = silent,
) -> Bundle:
    """Return the bundle of a run, from its cache if possible.

    Parameters
    ----------
    folder
        A run folder. Other kinds of models trained on the same data are in its subfolders `ae`, `vae` and `cvae`.
    source
        Source of the run's data. Default: the source with the recorded name, if it is built in or in the current folder.
    options
        Options of `load_dataset` that differ from those of the training.
    training
        Whether the run is being trained and may have no weights yet.
    trust_code
        Import the custom networks that the runs name.
    work
        Progress callback.

    Raises
    ------
    RunError
        If the run does not exist, has no weights, is a model of a table, or needs `trust_code`.
    ExportError
        If a model cannot be exported to ONNX.
    VaelabError
        If `source` is given and cannot be read, or its data are not those of the run.
    """
    run = runs.open_run(folder, trust_code=trust_code)
    runs.expect_trusted(run)
    if len(run.data.shape) != 3:
        raise RunError(f"{folder}: got a model of {describe_shape(run.data.shape)}; expected a model of images")
    members, notes = _members(run)
    if training and not has_weights(run):
        members = {}
    key = _key(members, source, options, run.data.source)
    cache = folder / FOLDER
    record = _cached(cache, key)
    fresh = record is None
    if record is None:
        with _replace_folder(cache) as (temporary, cache):
            parts = json.loads(json.dumps(_build_parts(run, members, (source, options), temporary, work)))
            digests = {path.name: _sha256(path.read_bytes()) for path in sorted(temporary.iterdir())}
            record = {"key": key, "parts": parts, "digests": digests}
            (temporary / KEY).write_bytes(sealed(json.dumps(record).encode()))
    texts, missing = _texts(run)
    manifest = _manifest(run, record["parts"], [*notes, *missing], texts) | commands(run, source)
    content = json.dumps(manifest).encode("ascii")
    folders = {kind: member.folder for kind, member in members.items()}
    return Bundle(cache, manifest, folders, key, fresh, record["digests"], {MANIFEST: content} | texts)


def commands(run: Run, source: str | None, folder: str | None = None) -> dict[str, str]:
    """Return the commands that evaluate a run and that train the missing kinds of models, for a shell.

    `source` is the given source of its data, and SOURCE replaces an unknown one; `folder` replaces the path of the run.
    """
    out, found = folder or str(run.folder), source or found_again(run.data.source)
    trust = ["--trust-code"] if run.custom else []
    data = "SOURCE" if found is None else found
    evaluate = ["vaelab", "evaluate", out, *([] if source is None and found else [data]), *trust]
    train = ["vaelab", "train", data, "--model", "all", "--out", out, "--resume", *trust]
    return {"evaluate": shlex.join(evaluate), "train": shlex.join(train)}


def has_weights(run: Run) -> bool:
    """Return whether a run has weights after at least one training step, or of a loop outside vaelab, which counts no steps."""
    return (run.folder / runs.WEIGHTS).is_file() and runs.weight_facts(run).get("step") != 0


def _members(run: Run) -> tuple[dict[str, Run], list[str]]:
    """Return the run and the other kinds of models in it, by kind, the run first; and notes on those that are left out."""
    members, notes = {str(run.config.model.model): run}, []
    for kind in KINDS:
        if kind in members or not (run.folder / kind / runs.WEIGHTS).is_file():
            continue
        sibling = runs.open_run(run.folder / kind, trust_code=run.trusted)
        if sibling.config.model.model != kind or sibling.data.fingerprint != run.data.fingerprint:
            notes.append(f"Left out {sibling.folder}: its model is not of kind {kind!r}, or was trained on other data.")
        else:
            members[kind] = sibling
    return members, notes


def _key(members: dict[str, Run], source: str | None, options: Mapping[str, Any] | None, name: str) -> str:
    """Digest of what the bundle depends on: weights and configuration of each model, versions, and location of the data."""
    found = source or found_again(name)
    changed = Path(found).stat().st_mtime_ns if found is not None and Path(found).exists() else None
    digest = hashlib.sha256(repr((FORMAT, __version__, source, options or {}, found, changed)).encode())
    for kind, run in members.items():
        digest.update(kind.encode())
        for part in (runs.CONFIG, runs.WEIGHTS):
            path = run.folder / part
            if path.is_file():
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _cached(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the record of the cache, its parts and digests; None unless this user wrote it, for this key, and all is whole."""
    content = None
    with suppress(OSError):
        if not folder.is_symlink():
            content = unsealed(read_regular(folder / KEY, MOST_RECORD_BYTES, follow_links=False))
    if content is None or (record := json.loads(content))["key"] != key:
        return None
    whole = (CACHED.fullmatch(name) and _cached_file(folder / name, sha) for name, sha in record["digests"].items())
    return record if all(file is not None for file in whole) else None


def _cached_file(path: Path, digest: str) -> bytes | None:
    """Return the content of a file of the cache; None if it has another digest, or is no regular file."""
    with suppress(OSError):
        content = read_regular(path, MOST_BYTES, follow_links=False)
        if _sha256(content) == digest:
            return content
    return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


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
        try:
            if folder.is_symlink() or folder.is_file():
                folder.unlink()
            shutil.rmtree(folder, ignore_errors=True)
            temporary.replace(folder)
        except OSError as error:
            raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _build_parts(
    run: Run, members: dict[str, Run], data: tuple[str | None, Mapping[str, Any] | None], folder: Path, work: Work
) -> dict[str, Any]:
    """Write the files that are cached, and return the parts of the manifest that describe them."""
    if not members:
        return {"models": {}, "first": None, "notes": []}
    trust_code = run.trusted
    models = {kind: load(member.folder, trust_code=trust_code) for kind, member in members.items()}
    dataset, missing = data_of(run, *data, work)
    images = None if dataset is None else held_out(dataset, MOST_POINTS)
    notes = [] if missing is None else [missing]
    styles = measured_styles(images, work)
    facts = {}
    for kind, trained in models.items():
        work(f"exporting the model ({kind})", 0, 1)
        export_onnx(members[kind].folder, folder / f"{kind}.onnx", parts=True, trust_code=trust_code)
        facts[kind] = model_facts(members[kind], trained, images, folder, work, styles)
        facts[kind]["diagnosis"] = _diagnosis(members[kind], trained, dataset, work)
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
    return {"models": facts, "first": first, "notes": notes}


def _diagnosis(run: Run, trained: TrainedModel, dataset: Dataset | None, work: Work) -> list[str] | None:
    """Return the diagnosis of a model in lines; None if there are no training and validation images to look for faults on."""
    if dataset is None or not len(dataset.train) or not len(dataset.validation):
        return None
    found = diagnose_model(trained, dataset, dataset.validation, run, work)
    return [with_options(sentence) for sentence in found.sentences()]


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


def _texts(run: Run) -> tuple[dict[str, bytes], list[str]]:
    """Return the training curve and the report, if they exist, and a note on a report that is left out."""
    texts, notes = {}, []
    try:
        if (report := read_report(run)) is not None:
            texts[REPORT] = report
    except (OSError, ValueError) as error:
        notes.append(f"Left out {run.folder / REPORT}: it is damaged ({str(error)[:200]}); evaluate the run again.")
    if lines := curve_of(run):
        texts[CURVE] = json.dumps(lines).encode()
    return texts, notes


def _manifest(run: Run, parts: dict[str, Any], notes: list[str], texts: dict[str, bytes]) -> dict[str, Any]:
    """Return the manifest."""
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
        "report": REPORT if REPORT in texts else None,
        "curve": CURVE if CURVE in texts else None,
        "notes": [*notes, *parts["notes"]],
    }
