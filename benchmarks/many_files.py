"""Loading time of a folder of 100,000 small PNGs, the first time and again.

    python benchmarks/many_files.py         # writes 100,000 files (400 MB on most disks) into a temporary folder, two minutes

The drawings of `strokes`, 28×28, in ten class folders. Each start is a separate process that measures `load_dataset`: with an
empty cache, twice more, and once more after a file has changed. Then the same files are decoded three times by one thread, by one
thread per core and by one worker process per core.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from machine import machine
from PIL import Image

from vaelab.data.decoding import JOB, decode_images
from vaelab.data.formats import decode_image
from vaelab.data.strokes import draw_strokes

COUNT = 100_000
SIZE = (28, 28)
START = """
import sys, time
from vaelab.data import load_dataset
began = time.perf_counter()
dataset = load_dataset(sys.argv[1])
print(f"{time.perf_counter() - began:.2f} s, {dataset.fingerprint[:12]}, {dataset.notes[0]}")
"""


def write_files(folder: Path) -> list[str]:
    """Write the PNGs and return their paths."""
    drawn = draw_strokes(COUNT, seed=0)
    assert drawn.labels is not None
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
    paths = [f"{folder}/{label}/{i:06d}.png" for i, label in enumerate(drawn.labels)]
    for path, pixels in zip(paths, drawn.images[:, 0], strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def start(folder: Path, cache: Path) -> str:
    """Return the output of a process that loads the folder."""
    environment = {**os.environ, "VAELAB_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", START, str(folder)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def one_by_one(paths: list[str]) -> None:
    """Decode in the current thread."""
    for path in paths:
        decode_image(path, SIZE, None)


def by_threads(paths: list[str]) -> None:
    """Decode in one thread per core, `JOB` files at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one_by_one, [paths[first : first + JOB] for first in range(0, len(paths), JOB)]))


def by_workers(paths: list[str]) -> None:
    """Decode in worker processes, as `load_dataset` does."""
    for _ in decode_images(paths, SIZE, None):
        pass


def main() -> None:
    """Print the seconds of each start and of each way of decoding."""
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "drawings", Path(name) / "cache"
        paths = write_files(folder)
        for what in ("first", "second", "third"):
            print(f"{what} start: {start(folder, cache)}", flush=True)
        Path(paths[0]).touch()
        print(f"a file has changed: {start(folder, cache)}", flush=True)
        for _ in range(3):
            for what, way in (
                ("one thread", one_by_one),
                ("one thread per core", by_threads),
                ("one worker per core", by_workers),
            ):
                began = time.perf_counter()
                way(paths)
                print(f"decoded by {what}: {time.perf_counter() - began:.2f} s", flush=True)


if __name__ == "__main__":
    main()
