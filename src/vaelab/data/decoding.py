"""Decode image files on all cores: in threads if there are few files, in worker processes if there are many.

Pillow holds the global interpreter lock for most of the time that it decodes a small image, so threads do not speed up small
images. A worker is this module run by a second interpreter. It reads jobs from standard input and writes the results to
standard output:

    job     one line of JSON: paths, size, fit, value of white, largest number of pixels
    result  one line of JSON: shape and properties of each image; then the pixels of all images, concatenated

This needs no `if __name__ == "__main__"` in the caller's script, no shared memory and no copy of the caller's data. If a worker
cannot be started or fails, the calling thread decodes the files of its job.
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

from vaelab.data.formats import Decoded, decode_image, pixel_limit
from vaelab.data.resize import Fit

MANY_FILES = 2000
"""Minimum number of files for worker processes, which take a few tenths of a second to start."""

JOB = 200
"""Number of files per job of a worker."""

AHEAD = 4
"""Number of jobs per core decoded ahead of the consumer; limits the memory."""


def decode_images(
    paths: Sequence[str], size: tuple[int, int], fit: Fit | None, white: float | None = None
) -> Iterator[Decoded]:
    """Yield the images in order, decoded ahead on all cores."""
    cores = _cores()
    if len(paths) < MANY_FILES or cores == 1 or getattr(sys, "frozen", False):
        jobs = [paths[first : first + 1] for first in range(len(paths))]
        yield from _in_turn(lambda job: [decode_image(path, size, fit, white) for path in job], jobs, cores)
        return
    workers: SimpleQueue[_Worker] = SimpleQueue()
    started = [_Worker() for _ in range(cores)]
    for worker in started:
        workers.put(worker)

    def decode(job: Sequence[str]) -> list[Decoded]:
        worker = workers.get()
        try:
            return worker.decode(job, size, fit, white)
        finally:
            workers.put(worker)

    jobs = [paths[first : first + JOB] for first in range(0, len(paths), JOB)]
    try:
        yield from _in_turn(decode, jobs, cores)
    finally:
        for worker in started:
            worker.stop()


def _cores() -> int:
    """Return the number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_turn(
    decode: Callable[[Sequence[str]], list[Decoded]], jobs: Sequence[Sequence[str]], cores: int
) -> Iterator[Decoded]:
    """Yield the results of the jobs in order, at most `AHEAD` jobs per core ahead of the consumer."""
    pool = ThreadPoolExecutor(cores)
    try:
        pending = [pool.submit(decode, job) for job in jobs[: AHEAD * cores]]
        remaining = iter(jobs[AHEAD * cores :])
        while pending:
            yield from pending.pop(0).result()
            if (job := next(remaining, None)) is not None:
                pending.append(pool.submit(decode, job))
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker:
    """A second interpreter that decodes images; started at its first job."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.usable = True

    def decode(
        self, paths: Sequence[str], size: tuple[int, int], fit: Fit | None, white: float | None
    ) -> list[Decoded]:
        """Decode the images of a job, in the worker if possible."""
        if self.usable:
            try:
                return self._request(paths, size, fit, white)
            except (OSError, ValueError):  # could not be started, was stopped, or sent no valid result
                self.usable = False
        return [decode_image(path, size, fit, white) for path in paths]

    def _request(
        self, paths: Sequence[str], size: tuple[int, int], fit: Fit | None, white: float | None
    ) -> list[Decoded]:
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
        job = {"paths": paths, "size": size, "fit": fit, "white": white, "most": Image.MAX_IMAGE_PIXELS}
        sink.write(json.dumps(job).encode() + b"\n")
        sink.flush()
        return [_read_image(header, size, source) for header in json.loads(source.readline())]

    def stop(self) -> None:
        """End the process by closing its streams."""
        if self.process is None:
            return
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                assert stream is not None
                stream.close()
        self.process.wait()


def _read_image(header: list[Any], size: tuple[int, int], source: IO[bytes]) -> Decoded:
    """Read one image of a result."""
    channels, (height, width), *facts = header
    pixels = None
    if channels:
        content = source.read(channels * size[0] * size[1])
        # Raises ValueError if the result is cut off.
        pixels = np.frombuffer(content, dtype=np.uint8).reshape(channels, *size)
    return Decoded(pixels, (height, width), *facts)


def _run_job(line: bytes, sink: IO[bytes]) -> None:
    """Decode the images of a job and write the result (in the worker)."""
    job = json.loads(line)
    size = tuple(job["size"])
    with pixel_limit(job["most"]):
        images = [decode_image(path, size, job["fit"], job["white"]) for path in job["paths"]]
    headers = [(0 if image.pixels is None else len(image.pixels), *image[1:]) for image in images]
    sink.write(json.dumps(headers).encode() + b"\n")
    for image in images:
        if image.pixels is not None:
            sink.write(np.ascontiguousarray(image.pixels).data)
    sink.flush()


def main() -> None:
    """Run a worker: process jobs from standard input until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller handles Ctrl-C, and then closes our standard input
    with suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            _run_job(line, sys.stdout.buffer)


if __name__ == "__main__":
    main()
