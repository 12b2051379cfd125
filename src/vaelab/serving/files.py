"""The ONNX files to serve: those given, or those of a run, which are exported once and kept in `RUN/serve`."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from vaelab.checked_files import read_regular
from vaelab.errors import ExportError, RunError
from vaelab.progress import say
from vaelab.run_folder import CONFIG, expect_run
from vaelab.seal import sealed, unsealed
from vaelab.version import __version__

FOLDER, KEY = "serve", "key.json"
PARTS = ("encoder", "decoder")
WEIGHTS = "model.safetensors"


def onnx_files(path: Path, *, trust_code: bool = False) -> dict[str, Path]:
    """Return the file of each part, `encoder` and `decoder`, of a run folder or of an ONNX file.

    Parameters
    ----------
    path
        A run folder, `NAME.onnx`, or one of the two files of `vaelab export --parts`.
    trust_code
        Import the custom networks that a run names, to export it.

    Raises
    ------
    RunError
        If there is no such run or file.
    ExportError
        If the run cannot be exported.
    """
    if path.suffix.lower() != ".onnx":
        return _of_run(path, trust_code)
    names = {part: path.with_name(f"{path.stem}-{part}.onnx") for part in PARTS}
    for part in PARTS:
        if path.stem.endswith(f"-{part}"):
            names = {each: path.with_name(f"{path.stem.removesuffix(part)}{each}.onnx") for each in PARTS}
    if all(file.is_file() for file in names.values()):
        return names
    if not path.is_file():
        raise RunError(f"{path}: no such file; expected one of vaelab export")
    return dict.fromkeys(PARTS, path)


def _of_run(run: Path, trust_code: bool) -> dict[str, Path]:
    expect_run(run)
    if not (run / WEIGHTS).is_file():
        raise RunError(f"{run}: no weights yet; wait until its training has saved some, or train it")
    key = hashlib.sha256(f"{__version__} {_digest(run / CONFIG)} {_digest(run / WEIGHTS)}".encode()).hexdigest()
    folder = run / FOLDER
    if not _is_kept(folder, key):
        folder = _exported(run, folder, key, trust_code)
    return {part: folder / f"{part}.onnx" for part in PARTS}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_kept(folder: Path, key: str) -> bool:
    """Return whether the folder has undamaged files of the present weights, which this user has exported."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(unsealed(read_regular(folder / KEY, 10_000, follow_links=False)) or b"{}")
        files = {part: folder / f"{part}.onnx" for part in PARTS}
        links = any(path.is_symlink() for path in (folder, *files.values()))
        return not links and kept["key"] == key and all(_digest(files[part]) == kept[part] for part in PARTS)
    return False


def _exported(run: Path, folder: Path, key: str, trust_code: bool) -> Path:
    """Export a run in another process, which imports torch, and return the folder that has the files."""
    say(f"{run}: exporting the model to ONNX, once; kept in {folder}")
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{FOLDER}-", dir=run))
    except OSError:  # the run is not writable: export again at each start
        folder = temporary = Path(tempfile.mkdtemp(prefix="vaelab-serve-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        words = [sys.executable, "-m", "vaelab", "export", str(run), "--out", str(temporary / "model.onnx"), "--parts"]
        words += ["--trust-code"] if trust_code else []
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("vaelab: ")
            raise ExportError(reason)
        for part in PARTS:
            (temporary / f"model-{part}.onnx").rename(temporary / f"{part}.onnx")
        facts = {"key": key, **{part: _digest(temporary / f"{part}.onnx") for part in PARTS}}
        (temporary / KEY).write_bytes(sealed(json.dumps(facts).encode()))
        if folder != temporary:
            temporary.chmod(0o755)
            try:
                temporary.rename(folder)
            except OSError:  # of other weights or damaged, unless another process has just exported the same
                if not _is_kept(folder, key):
                    _remove(folder)
                    temporary.rename(folder)
        return folder
    finally:
        if folder != temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _remove(path: Path) -> None:
    """Remove a folder, or the link or file in its place."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
