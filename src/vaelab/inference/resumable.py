"""Files that are made part by part: the same call continues one that was interrupted, with the same content.

Finished parts are files in FILE.partial, beside a text that tells one piece of work from another.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from vaelab import distributed
from vaelab.data.resize import Progress
from vaelab.errors import OutputError
from vaelab.files import atomic_write, cannot_write, sweep
from vaelab.inference.tables import Columns
from vaelab.inference.trained import TrainedModel
from vaelab.parts import in_parts, parts_of
from vaelab.run_lock import holder, locked_by
from vaelab.version import __version__

PLAN = "plan.txt"


def write_in_parts(
    out: Path,
    count: int,
    work: Callable[[int, range], Columns],
    write: Callable[[Path, Iterator[Columns]], None],
    identity: Callable[[], str],
    progress: Progress | None = None,
    what: str = "writing",
    size: int | None = None,
) -> None:
    """Write a file from the results of `work` on parts of `count` images, in constant memory; a single part stays in memory.

    Of several processes, each works on some of the parts, and the first writes.

    Parameters
    ----------
    out
        The file.
    count
        Number of images.
    work
        Computes the results of a part from its number and those of its images: the same ones at each call.
    write
        Writes the file from the results of all parts, atomically.
    identity
        Computes a text that differs for other images, options or weights.
    progress
        Callback with a description, here `what`, the number of images done, and the total.
    size
        Images of a part. Default: `vaelab.parts.PART`.

    Raises
    ------
    OutputError
        If another process is writing it, other results were interrupted there, or the disk is full or cannot be written.
    """
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; expected the name of a file; give another `out`")
    parts = parts_of(count, size)
    folder = out.with_name(f"{out.name}.partial")

    def file(number: int) -> Path:
        return folder / f"{number:06}.npz"

    def keep(number: int, columns: Columns) -> None:
        with atomic_write(file(number)) as temporary:
            np.savez(temporary, allow_pickle=False, **columns)
        report(number)

    def report(number: int) -> None:
        if progress:
            progress(what, parts[number].stop, count)

    if distributed.world_size() > 1:
        distributed.expect_same(
            images=count, work=hashlib.sha256(identity().encode("utf-8", "replace")).hexdigest()[:12]
        )
    first = distributed.is_first()
    if len(parts) == 1 and not distributed.broadcast(folder.exists()):
        if first:
            columns = work(0, parts[0])
            report(0)
            write(out, iter([columns]))
        return
    lock = out.with_name(f"{folder.name}.lock")

    def in_use() -> OutputError:
        return OutputError(f"{out}: {holder(lock)} is writing it; wait for its end, or give another `out`")

    with locked_by(lock, in_use) if first else nullcontext():
        try:
            if first:
                _begin(folder, f"{__version__} {len(parts[0])} {count} {identity()}")
            missing = distributed.broadcast([number for number in range(len(parts)) if not file(number).exists()])
            if first and 0 < len(missing) < len(parts):
                report(missing[0] - 1)
            in_parts(lambda number: work(number, parts[number]), missing, keep, together=True)
            if first:
                write(folder / out.name, map(_columns, map(file, range(len(parts)))))
                (folder / out.name).replace(out)
                shutil.rmtree(folder)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise cannot_write(out, error) from error


def weights_of(model: TrainedModel) -> str:
    """Return SHA-256 of the weights, and of what they are the weights of, in hexadecimal."""
    digest = hashlib.sha256(repr((model.kind, model.likelihood, model.classes)).encode("utf-8", "surrogateescape"))
    for name, tensor in model.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _begin(folder: Path, identity: str) -> None:
    """Create the folder, without files of a killed process; an OutputError if something else was begun there."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder, "*")
    plan = folder / PLAN
    if not plan.exists():
        for part in folder.iterdir():  # of a folder that was being deleted
            part.unlink()
        with atomic_write(plan) as temporary:
            temporary.write_text(identity, "utf-8", "surrogateescape")
    elif plan.read_text("utf-8", "surrogateescape") != identity:
        raise OutputError(
            f"{folder}: holds the beginning of another file, of other images, weights or options; delete it, or give "
            "another `out`"
        )


def _columns(file: Path) -> Columns:
    with np.load(file, allow_pickle=False) as columns:
        return dict(columns)
