"""Many image files decoded on all cores: by threads where they are few, by processes of our own where they are many.

Pillow holds Python's lock for most of the time that a small image takes, so that threads do not decode small images any
faster. A worker is this module run by a second interpreter. It reads one job after the other from its standard input and
answers on its standard output:

    job     a line of JSON: paths, size, fit, the most pixels that are safe
    answer  a line of JSON: shape and remarks of each image; then the pixels of all of them, one after the other

So workers need no guard in the caller's script, no shared memory and no copy of what the caller has loaded. Where one
cannot be started or falls silent, its job is done by the thread that asked for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import IO, Any

import numpy as np
from PIL import Image

from vaelab.data.formats import Decoded, decode_image, only_bombs_warn
from vaelab.data.resize import Fit

MANY_FILES = 2000
"""From so many files on, workers are started (it takes some tenths of a second)."""

JOB = 200
"""Files in one job of a worker."""

AHEAD = 4
"""Jobs for each core that are decoded ahead of the one that is asked for, which bounds the memory."""


def decode_images(paths: Sequence[str], size: tuple[int, int], fit: Fit | None) -> Iterator[Decoded]:
    """Each image in turn, decoded ahead on all cores."""
    cores = _cores()
    if len(paths) < MANY_FILES or cores == 1 or getattr(sys, "frozen", False):
        jobs = [paths[first : first + 1] for first in range(len(paths))]
        yield from _in_turn(lambda job: [decode_image(path, size, fit) for path in job], jobs, cores)
        return
    workers: SimpleQueue[_Worker] = SimpleQueue()
    started = [_Worker() for _ in range(cores)]
    for worker in started:
        workers.put(worker)

    def decode(job: Sequence[str]) -> list[Decoded]:
        worker = workers.get()
        try:
            return worker.decode(job, size, fit)
        finally:
            workers.put(worker)

    jobs = [paths[first : first + JOB] for first in range(0, len(paths), JOB)]
    try:
        yield from _in_turn(decode, jobs, cores)
    finally:
        for worker in started:
            worker.stop()


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_turn(
    decode: Callable[[Sequence[str]], list[Decoded]], jobs: Sequence[Sequence[str]], cores: int
) -> Iterator[Decoded]:
    """What `decode` makes of each job, in order, with no more than `AHEAD` jobs a core waiting to be fetched."""
    pool = ThreadPoolExecutor(cores)
    try:
        waiting = [pool.submit(decode, job) for job in jobs[: AHEAD * cores]]
        following = iter(jobs[AHEAD * cores :])
        while waiting:
            yield from waiting.pop(0).result()
            if (job := next(following, None)) is not None:
                waiting.append(pool.submit(decode, job))
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker:
    """A second interpreter that decodes; started with its first job."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.works = True

    def decode(self, paths: Sequence[str], size: tuple[int, int], fit: Fit | None) -> list[Decoded]:
        """The images of a job."""
        if self.works:
            try:
                return self._ask(paths, size, fit)
            except (OSError, ValueError):  # not to be started, stopped, or not understood
                self.works = False
        return [decode_image(path, size, fit) for path in paths]

    def _ask(self, paths: Sequence[str], size: tuple[int, int], fit: Fit | None) -> list[Decoded]:
        if self.process is None:
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
        source, sink = self.process.stdout, self.process.stdin
        assert source is not None
        assert sink is not None
        job = {"paths": paths, "size": size, "fit": fit, "most": Image.MAX_IMAGE_PIXELS}
        sink.write(json.dumps(job).encode() + b"\n")
        sink.flush()
        return [_received(remarks, size, source) for remarks in json.loads(source.readline())]

    def stop(self) -> None:
        """Let the process end."""
        if self.process is None:
            return
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                assert stream is not None
                stream.close()
        self.process.wait()


def _received(remarks: list[Any], size: tuple[int, int], source: IO[bytes]) -> Decoded:
    """One image of an answer."""
    channels, height, width, transparent, several, error = remarks
    pixels = None
    if channels:
        content = source.read(channels * size[0] * size[1])
        pixels = np.frombuffer(content, dtype=np.uint8).reshape(channels, *size)  # a ValueError where it is cut off
    return Decoded(pixels, (height, width), transparent, several, error)


def _answer(line: bytes, sink: IO[bytes]) -> None:
    """Do one job."""
    job = json.loads(line)
    Image.MAX_IMAGE_PIXELS = job["most"]
    size = tuple(job["size"])
    images = [decode_image(path, size, job["fit"]) for path in job["paths"]]
    remarks = [
        (0 if image.pixels is None else len(image.pixels), *image.size, image.transparent, image.several, image.error)
        for image in images
    ]
    sink.write(json.dumps(remarks).encode() + b"\n")
    for image in images:
        if image.pixels is not None:
            sink.write(np.ascontiguousarray(image.pixels).data)
    sink.flush()


def main() -> None:
    """A worker: jobs from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who then closes our input
    with only_bombs_warn(), suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            _answer(line, sys.stdout.buffer)


if __name__ == "__main__":
    main()
