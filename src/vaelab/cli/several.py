"""Commands that several processes run together: starting them on this machine, and one message for all of them.

The processes are started by torchrun: here for `--processes N`, or by the user for several machines.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

from cyclopts import Parameter

from vaelab.cli.app import GROUPS, import_pytorch
from vaelab.errors import ConfigError, VaelabError, shortened
from vaelab.files import atomic_write
from vaelab.run_folder import PRIVATE
from vaelab.spelling import with_options

if TYPE_CHECKING:
    from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

COMMANDS = ("train", "evaluate", "sample", "encode", "score")
"""Commands that several processes run together."""

JOB = f"{PRIVATE}job"
"""Name of a file in a run folder: the call of torchrun that trains the run."""

PATIENCE = timedelta(seconds=5)  # for a message of a process that has ended
FIRST_SPEAKS = 0.5  # seconds that the others leave to the first process for a message that all of them have

Processes = Annotated[
    int | None,
    Parameter(
        group=GROUPS["Hardware"],
        help="Number of processes on this machine that share the work, at most one per GPU. Without GPUs, one process uses all "
        "cores. For several machines, start the command by torchrun instead.",
    ),
]

Value = TypeVar("Value")

Outcome = tuple[int, str]
"""Exit status of a command, and its message if it failed."""

words: Sequence[str] = ()
"""The words of the command line that is run."""


def is_one_of_several() -> bool:
    """Return whether torchrun started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1"


def expect_one_process() -> None:
    """Raise a ConfigError if several processes run a command that only one can run."""
    if is_one_of_several() and words[:1] and words[0] not in COMMANDS and not words[0].startswith("-"):
        raise ConfigError(
            f"{words[0]}: got started by torchrun in several processes; expected one: start it without torchrun"
        )


def run_together(run: Callable[[], Outcome]) -> int:
    """Run a command as one of several processes and return its exit status; one of them prints the message, if they failed."""
    from vaelab import distributed

    try:
        with distributed.joined() as store:
            return _run_joined(run, store)
    except VaelabError as error:  # too few GPUs, or a process that has not started
        print(shortened(f"vaelab: {with_options(str(error))}"), file=sys.stderr)
        return 2


def _run_joined(run: Callable[[], Outcome], store: Store) -> int:
    from torch import distributed as dist

    from vaelab import distributed, progress

    rank = distributed.rank()
    progress.console.quiet = rank > 0
    try:
        status, message = run()
    except distributed.Disconnected as lost:
        status, message = 1, f"another process has ended without a message ({lost.__cause__})"
        with suppress(dist.DistStoreError):
            store.wait(["message"], PATIENCE)
    if message:
        if rank > 0:
            time.sleep(FIRST_SPEAKS)
            message = f"process {rank}: {message}"
        if store.compare_set("message", "", message).decode() == message:
            print(shortened(f"vaelab: {message}"), file=sys.stderr, flush=True)
            store.set("printed", "")
        with suppress(dist.DistStoreError):
            store.wait(["printed"], PATIENCE)  # before torchrun ends the others
    return status


def in_turn(work: Callable[[], Value]) -> Value:
    """Return `work()`; of several processes on a machine, one does it before the others, which find what it left in a cache."""
    if not is_one_of_several():
        return work()
    from vaelab import distributed

    return distributed.in_turn(work)


def broadcast(value: Value) -> Value:
    """Return the value of the first process."""
    if not is_one_of_several():
        return value
    from vaelab import distributed

    return distributed.broadcast(value)


def is_first() -> bool:
    """Return whether this is the process that writes and prints."""
    return not is_one_of_several() or os.environ["RANK"] == "0"


def is_restarted(out: Path | None) -> bool:
    """Return whether torchrun has started this training again after a process had failed, and it has begun to write a run.

    The first process notes in the run which call of torchrun it belongs to: the count of restarts differs between machines.

    Raises
    ------
    ConfigError
        If torchrun may do so, and `out` is not given: another folder would be chosen then.
    """
    if not is_one_of_several() or os.environ["TORCHELASTIC_MAX_RESTARTS"] == "0":
        return False
    if out is None:
        raise ConfigError("`out`: got nothing with --max-restarts of torchrun; expected the run folder to continue in")
    job = os.environ["TORCHELASTIC_RUN_ID"]
    found = ""
    with suppress(OSError):
        found = (out / JOB).read_text("utf-8")
    named = job != "none" or int(os.environ["TORCHELASTIC_RESTART_COUNT"]) > 0  # "none" without --rdzv-id
    return broadcast(found == job and named)


def note_job(out: Path) -> None:
    """Note in a run which call of torchrun trains it."""
    if is_one_of_several():
        with atomic_write(out / JOB) as temporary:
            temporary.write_text(os.environ["TORCHELASTIC_RUN_ID"], "utf-8")


def start(count: int | None) -> None:
    """Run this command in `count` processes, by torchrun, and exit with their status; return if `count` is None.

    Raises
    ------
    ConfigError
        If there are fewer cores or GPUs, or this is one of several processes already.
    """
    if count is None:
        return
    if is_one_of_several():
        raise ConfigError(f"`processes`: got {count} in a process of torchrun; leave it out: torchrun starts them")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not 1 <= count <= cores:
        raise ConfigError(f"`processes`: got {count}; expected 1 to {cores}, the number of cores")
    import_pytorch("torch.distributed.run")
    import torch

    from vaelab.progress import say

    gpus = torch.cuda.device_count()
    if gpus and count > gpus:
        raise ConfigError(f"`processes`: got {count}; expected 1 to {gpus}, the number of GPUs")
    if count > 1 and not gpus:
        say("note: without GPUs, one process uses all cores; several are for GPUs and for several machines")
    _run_torchrun(count, cores)


def _run_torchrun(count: int, cores: int) -> NoReturn:
    import logging

    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.ERROR)  # the processes print what went wrong
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // count)))
    arguments = ["--standalone", f"--nproc-per-node={count}", "-m", "vaelab", *_without_processes(words)]
    status = 0
    try:
        torchrun.run(torchrun.parse_args(arguments))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        status = failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as error:
        status = 128 + error.sigval
    raise SystemExit(status)


def _without_processes(words: Sequence[str]) -> list[str]:
    kept, after = [], False
    for word in words:
        if not after and word.split("=")[0] != "--processes":
            kept.append(word)
        after = word == "--processes"
    return kept
