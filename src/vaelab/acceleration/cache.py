"""The cache of compiled steps: packages in a folder that only the user can write to.

Loading a package runs its code: its SHA-256, a part of its name, is checked before. A damaged one, or a link, is removed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from vaelab.acceleration.graph import CompileKey
from vaelab.checked_files import is_private
from vaelab.data.cache import cache_folder

MAX_PACKAGES = 50  # the newest are kept; each is 1 to 2 MB


def find(key: CompileKey) -> Path | None:
    """Return the package of a key if it is in the cache and whole, else None."""
    folder, name = _place(key)
    for path in sorted(folder.glob(f"{name}-*.pt2")) if is_private(folder) else ():
        with suppress(OSError):  # another process may have removed it
            if is_private(path) and path.stem == f"{name}-{_digest(path)}":
                with suppress(OSError):  # the cache may be read-only
                    os.utime(path)
                return path
            path.unlink()
    return None


def keep(package: Path, key: CompileKey) -> None:
    """Copy a package into the cache, atomically, unless there is one, and remove the oldest of many."""
    folder, name = _place(key)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not is_private(folder):
        raise OSError(f"{folder} is a link, or others can write to it; remove it")
    if find(key) is None:  # else another process has made it meanwhile
        path = folder / f"{name}-{_digest(package)}.pt2"
        temporary = Path(shutil.copyfile(package, folder / f".{os.getpid()}-{path.name}"))
        temporary.chmod(0o600)
        temporary.replace(path)
    with suppress(OSError):  # another process may be doing the same
        surplus = sorted(folder.glob("*.pt2"), key=lambda each: each.stat().st_mtime)[:-MAX_PACKAGES]
        for old in [*surplus, *sorted(folder.glob(f"{name}-*.pt2"))[1:]]:
            old.unlink(missing_ok=True)


def _place(key: CompileKey) -> tuple[Path, str]:
    """Return the folder of packages, and the first part of the name of one, made of all that it depends on."""
    whole = "\n".join((key.to_json(), torch.__version__, _code(), _processor()))
    return cache_folder() / "compiled-steps", hashlib.sha256(whole.encode()).hexdigest()[:32]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _code() -> str:
    """Return a digest of the package's code that a step is traced from."""
    root = Path(__file__).parents[1]
    folders = ("models", "objectives", "optim", "acceleration")
    files = [file for name in folders for file in (root / name).glob("*.py")]
    digest = hashlib.sha256()
    for path in sorted([*files, root / "random.py", root / "precision.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _processor() -> str:
    """Return the processor and its instruction sets, which code is compiled for."""
    facts = {name: value for name, value in torch.cpu.get_capabilities().items() if not name.startswith("num_")}
    return f"{platform.system()} {platform.machine()} {sorted(facts.items())}"
