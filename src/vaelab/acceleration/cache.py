"""The cache of compiled steps: packages in a folder that only the user can write to."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from vaelab.acceleration.graph import CompileKey
from vaelab.data.cache import cache_folder

MAX_PACKAGES = 50
"""Packages kept in the cache: the newest. Each is 1 to 2 MB."""


def package_path(key: CompileKey) -> Path:
    """Return where the package of a key is kept: a name made of all that it depends on."""
    whole = "\n".join((key.to_json(), torch.__version__, _code(), _processor()))
    return cache_folder() / "compiled-steps" / f"{hashlib.sha256(whole.encode()).hexdigest()[:32]}.pt2"


def find(key: CompileKey) -> Path | None:
    """Return the package of a key if it is in the cache and safe to load, else None."""
    path = package_path(key)
    if not path.is_file() or not (is_private(path.parent) and is_private(path)):
        return None
    with suppress(OSError):  # the cache may be read-only
        os.utime(path)
    return path


def is_private(path: Path) -> bool:
    """Return whether this user owns a path and nobody else can write to it: loading a package runs its code."""
    if not hasattr(os, "getuid"):
        return True
    with suppress(OSError):
        status = path.stat()
        return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return False


def keep(package: Path, key: CompileKey) -> None:
    """Copy a package into the cache, atomically, and remove the oldest of many."""
    path = package_path(key)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        shutil.copyfile(package, temporary)
        temporary.chmod(0o600)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # another process may be doing the same
        for old in sorted(path.parent.glob("[!.]*.pt2"), key=lambda each: each.stat().st_mtime)[:-MAX_PACKAGES]:
            old.unlink(missing_ok=True)


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
