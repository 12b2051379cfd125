"""All that the page needs of a run, as files in a folder: `manifest.json`, and what it names.

They are kept in the run folder, in `studio/`, under a key made of the weights, the configuration and the versions, so that a
second opening finds them there. What costs nothing (the report, the training curve) is written anew at each opening.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vaelab.data.layout import as_shown, describe_shape
from vaelab.data.sources import found_again
from vaelab.errors import RunError
from vaelab.evaluation.report import REPORT
from vaelab.files import atomic_write
from vaelab.inference import latents
from vaelab.inference.onnx import export_onnx
from vaelab.inference.trained import TrainedModel, load
from vaelab.studio.held_out import HeldOut, Work, held_out
from vaelab.studio.model_facts import model_facts, rounded
from vaelab.training import runs
from vaelab.training.runs import Run
from vaelab.version import __version__

FORMAT = 1
"""Of the bundle; the page reads this one."""

FOLDER, MANIFEST, CURVE, KEY = "studio", "manifest.json", "curve.json", "key.json"

KINDS = ("ae", "vae", "cvae")

MOST_POINTS = 10_000
"""Held-out images on the map."""

THUMB_COLUMNS = 100
"""Held-out images in a row of their sheet."""

MOST_PIXELS = 8_000_000
"""Of the sheet of held-out images, which a browser unpacks in memory."""

COLUMNS = 10
"""Latent points of the first picture."""

MOST_HEIGHT = 8192
"""Pixels of the first picture; where there are more labels, the first ones that fit."""

TEMPERATURE = 0.8
"""Of the first picture: a little nearer to the middle than the prior, whose rarest hands hide a label."""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Bundle:
    """The files of a run for the page.

    Attributes
    ----------
    folder
        Where they are.
    manifest
        What `manifest.json` says.
    runs
        The folder of each model's run, by its kind; the run itself first.
    key
        What they were made from: another key, other files.
    fresh
        Whether they were made now, and not found.
    """

    folder: Path
    manifest: dict[str, Any]
    runs: dict[str, Path]
    key: str
    fresh: bool

    @property
    def notes(self) -> list[str]:
        """What a person should know: what is missing, and why."""
        return self.manifest["notes"]

    @property
    def files(self) -> list[str]:
        """The names of all files of the page's, the manifest first."""
        first = self.manifest["first"]
        names = [MANIFEST, *([] if first is None else [first["file"]])]
        for model in self.manifest["models"].values():
            names += [model["encoder"], model["decoder"]]
            if (points := model["points"]) is not None:
                names += [points["file"], *([] if points["thumbs"] is None else [points["thumbs"]])]
        return list(dict.fromkeys(names + [name for part in ("report", "curve") if (name := self.manifest[part])]))


def open_bundle(folder: Path, *, source: str | None = None, training: bool = False, work: Work = silent) -> Bundle:
    """The bundle of a run folder: the one that is kept there, or a new one.

    Parameters
    ----------
    folder
        A run folder; siblings of the run, which were trained with it on the same data, are in folders `ae` and `vae` in it.
    source
        Where its data are. Default: where the name that the run remembers leads to.
    training
        Whether the run is being trained: then it may be without weights yet.
    work
        Told of progress.

    Raises
    ------
    RunError
        If there is no such run, it has no weights, or it is one of a table.
    ExportError
        If a model cannot be written as ONNX.
    VaelabError
        If `source` is named and its data are not those of the run.
    """
    run = runs.open_run(folder)
    if len(run.data.shape) != 3:
        raise RunError(f"{folder}: got a model of {describe_shape(run.data.shape)}; expected one of images, to look at")
    members, notes = _members(run)
    if training and not has_weights(run):
        members = {}
    key = _key(members, source, run.data.source)
    kept = folder / FOLDER
    parts = _kept(kept, key)
    fresh = parts is None
    if parts is None:
        with _new_folder(kept) as (made, place):
            parts = json.loads(json.dumps(_made(run, members, source, made, work)))
            (made / KEY).write_text(json.dumps({"key": key, "parts": parts}), encoding="utf-8")
        kept = place
    manifest = _manifest(run, parts, notes, kept)
    with atomic_write(kept / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    return Bundle(kept, manifest, {kind: member.folder for kind, member in members.items()}, key, fresh)


def has_weights(run: Run) -> bool:
    """Whether a run has weights that were learnt: those before the first step are not."""
    return (run.folder / runs.WEIGHTS).is_file() and runs.weight_facts(run).get("step", 0) > 0


def _members(run: Run) -> tuple[dict[str, Run], list[str]]:
    """The run and its siblings by kind, itself first, and what to say of those that are left out."""
    members, notes = {str(run.config.model.model): run}, []
    for kind in KINDS:
        if kind in members or not (run.folder / kind / runs.WEIGHTS).is_file():
            continue
        sibling = runs.open_run(run.folder / kind)
        if sibling.config.model.model != kind or sibling.data.fingerprint != run.data.fingerprint:
            notes.append(f"Left out {sibling.folder}: it is not a {kind} of the same data.")
        else:
            members[kind] = sibling
    return members, notes


def _key(members: dict[str, Run], source: str | None, name: str) -> str:
    """What the bundle hangs on: the weights and the configuration of each model, the versions, where the data are."""
    found = source or found_again(name)
    changed = Path(found).stat().st_mtime_ns if found is not None and Path(found).exists() else None
    digest = hashlib.sha256(repr((FORMAT, __version__, source, found, changed)).encode())
    for kind, run in members.items():
        digest.update(kind.encode())
        for part in (runs.CONFIG, runs.WEIGHTS):
            path = run.folder / part
            digest.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest())
    return digest.hexdigest()


def _kept(folder: Path, key: str) -> dict[str, Any] | None:
    """What was kept in a folder under this key, if all of it is still there."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads((folder / KEY).read_text(encoding="utf-8"))
        if found["key"] == key and all((folder / name).is_file() for name in found["parts"]["files"]):
            return found["parts"]
    return None


@contextmanager
def _new_folder(place: Path) -> Iterator[tuple[Path, Path]]:
    """A folder to write into, and the one whose place it takes when the block ends without an error.

    Where the run cannot be written to, the place is in the folder of temporary files, until this program ends.
    """
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    except OSError:
        above = Path(tempfile.mkdtemp(prefix="vaelab-studio-"))
        atexit.register(shutil.rmtree, above, ignore_errors=True)
        place, made = above / place.name, above / "new"
        made.mkdir()
    try:
        made.chmod(0o755)
        yield made, place
        shutil.rmtree(place, ignore_errors=True)
        made.replace(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _made(run: Run, members: dict[str, Run], source: str | None, folder: Path, work: Work) -> dict[str, Any]:
    """Write what takes time, and give the parts of the manifest that tell of it."""
    if not members:
        return {"models": {}, "first": None, "notes": [], "files": []}
    models = {kind: load(member.folder) for kind, member in members.items()}
    images, missing = held_out(run, source, MOST_POINTS, work)
    notes = [] if missing is None else [missing]
    facts = {}
    for at, (kind, trained) in enumerate(models.items()):
        work("exporting", at, len(models))
        export_onnx(members[kind].folder, folder / f"{kind}.onnx", parts=True)
        work("exporting", at + 1, len(models))
        facts[kind] = model_facts(members[kind], trained, images, folder, work)
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
    """Write the first held-out images as one sheet, `THUMB_COLUMNS` a row, without gaps; how many they are."""
    _, channels, height, width = images.images.shape
    count = min(len(images.images), max(THUMB_COLUMNS, MOST_PIXELS // (height * width)))
    rows = -(-count // THUMB_COLUMNS)
    cells = np.zeros((rows * THUMB_COLUMNS, channels, height, width), dtype=np.uint8)
    cells[:count] = images.images[:count]
    sheet_of(as_shown(cells), THUMB_COLUMNS).save(path, optimize=False)
    return count


def first_picture(trained: TrainedModel) -> tuple[Image.Image, np.ndarray]:
    """A row for each label, and the latents (columns, d) of its columns: the same points, whatever the weights."""
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
    """Images (N, H, W[, 3]) side by side without gaps, N a multiple of `columns`."""
    rows = images.reshape(-1, columns, *images.shape[1:])
    joined = rows.swapaxes(1, 2).reshape(rows.shape[0] * rows.shape[2], columns * rows.shape[3], *rows.shape[4:])
    return Image.fromarray(joined)


def _manifest(run: Run, parts: dict[str, Any], notes: list[str], folder: Path) -> dict[str, Any]:
    """The manifest; the report and the curve are written beside it, if there are any."""
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
