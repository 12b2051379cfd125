"""Decode encoded images on all cores: in threads if there are few files, in worker processes if there are many.

Pillow holds the global interpreter lock for most of the time that it decodes a small image, so threads do not speed up small
images. A worker is this module run by a second interpreter. It reads jobs from standard input and writes the results to
standard output:

    job     one line of JSON: names and lengths of the images, size, fit, value of white, largest number of pixels; then the
            bytes of all images that are not files, concatenated
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from queue import SimpleQueue
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import Image

from vaelab.data.encoded import ImageFile, Loaded
from vaelab.data.formats import Decoded, content_limit, decode_image, pixel_limit
from vaelab.data.resize import Fit

MANY_FILES = 2000
"""Minimum number of files for worker processes, which take a few tenths of a second to start."""

JOB = 200
"""Number of images per job of a worker."""

JOB_BYTES = 4 << 20
"""Bytes of encoded images from which a job is complete; those of files are not counted, which the worker reads."""

AHEAD = 4
"""Number of jobs per core decoded ahead of the consumer; limits the memory."""

Job: TypeAlias = list[str | Loaded]
"""Images that are decoded together: paths, and the content of those that are not files."""


def decode_images(
    files: Sequence[ImageFile], size: tuple[int, int], fit: Fit | None, white: float | None = None
) -> Iterator[Decoded]:
    """Yield the images in order, decoded ahead on all cores. Images inside files are read in order, in the calling thread."""
    cores = _cores()
    if len(files) < MANY_FILES or cores == 1 or getattr(sys, "frozen", False):
        yield from _in_turn(lambda job: [decode_image(file, size, fit, white) for file in job], _jobs(files, 1), cores)
        return
    workers: SimpleQueue[_Worker] = SimpleQueue()
    started = [_Worker() for _ in range(cores)]
    for worker in started:
        workers.put(worker)

    def decode(job: Job) -> list[Decoded]:
        worker = workers.get()
        try:
            return worker.decode(job, size, fit, white)
        finally:
            workers.put(worker)

    try:
        yield from _in_turn(decode, _jobs(files, JOB), cores)
    finally:
        for worker in started:
            worker.stop()


def _cores() -> int:
    """Return the number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _jobs(files: Sequence[ImageFile], count: int) -> Iterator[Job]:
    """Yield jobs of at most `count` images, with the content of those that are not files."""
    most = content_limit() + 1
    job: Job = []
    size = 0
    for file in files:
        if not isinstance(file, str):
            file = Loaded(str(file), file.read(most))
            size += len(file.content)
        job.append(file)
        if len(job) == count or size >= JOB_BYTES:
            yield job
            job, size = [], 0
    if job:
        yield job


def _in_turn(decode: Callable[[Job], list[Decoded]], jobs: Iterable[Job], cores: int) -> Iterator[Decoded]:
    """Yield the results of the jobs in order, at most `AHEAD` jobs per core ahead of the consumer."""
    pool = ThreadPoolExecutor(cores)
    try:
        remaining = iter(jobs)
        pending = [pool.submit(decode, job) for job in islice(remaining, AHEAD * cores)]
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

    def decode(self, job: Job, size: tuple[int, int], fit: Fit | None, white: float | None) -> list[Decoded]:
        """Decode the images of a job, in the worker if possible."""
        if self.usable:
            try:
                return self._request(job, size, fit, white)
            except (OSError, ValueError):  # could not be started, was stopped, or sent no valid result
                self.usable = False
        return [decode_image(file, size, fit, white) for file in job]

    def _request(self, job: Job, size: tuple[int, int], fit: Fit | None, white: float | None) -> list[Decoded]:
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
        images = [(str(file), None if isinstance(file, str) else len(file.content)) for file in job]
        line = {"images": images, "size": size, "fit": fit, "white": white, "most": Image.MAX_IMAGE_PIXELS}
        sink.write(json.dumps(line).encode() + b"\n")
        for file in job:
            if not isinstance(file, str):
                sink.write(file.content)
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


def _run_job(line: bytes, source: IO[bytes], sink: IO[bytes]) -> None:
    """Decode the images of a job and write the result (in the worker)."""
    job = json.loads(line)
    size = tuple(job["size"])
    files = [name if length is None else Loaded(name, source.read(length)) for name, length in job["images"]]
    with pixel_limit(job["most"]):
        images = [decode_image(file, size, job["fit"], job["white"]) for file in files]
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
            _run_job(line, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
