"""Time and memory of a folder of a million images, and of a table of a million rows.

    python benchmarks/soak/many_images.py                  # a million files in /dev/shm (or --in FOLDER)
    python benchmarks/soak/many_images.py --count 100000

The files are hard links of one image of 4×4 pixels, in ten class folders. Measured are a process that lists the folder and one
that loads a table of as many rows, which name 1,000 of the files. The status is 1 if a table of a million rows takes longer than
20 s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

CLASSES = 10
MAX_SECONDS = 20
"""Longest time for a table of a million rows."""

PROGRAM = """
import json, sys, time
from pathlib import Path
from vaelab.data import load_dataset
from vaelab.data.folders import _list_splits, _Reader, _unwrapped
from vaelab.data.limits import Limits
from vaelab.data.links import Links
from vaelab.progress import work_bar
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000
before, began = peak(), time.perf_counter()
what, source = sys.argv[1:]
if what == "list":
    reader = _Reader(Links(source), Limits())
    count = len(_list_splits(_unwrapped(Path(source), reader), reader)["train"].paths)
else:
    with work_bar() as report:
        dataset = load_dataset(source, progress=report)
    count = sum(map(len, (dataset.train, dataset.validation, dataset.test)))
print(json.dumps([count, time.perf_counter() - began, peak() - before]))
"""


def measured(what: str, source: Path) -> tuple[int, float]:
    """Print what a process needs for it; return the number of images and the seconds."""
    command = [sys.executable, "-c", PROGRAM, what, str(source)]
    environment = {**os.environ, "VAELAB_CACHE_DIR": str(source.parent / "cache")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    count, seconds, megabytes = json.loads(done.stdout)
    print(f"{what}: {count:,} images in {seconds:.1f} s, {megabytes:,.0f} MB at the peak", flush=True)
    return count, seconds


def main() -> None:
    """Write the files, measure, and remove them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--in", dest="place", default="/dev/shm" if Path("/dev/shm").exists() else None)
    parser.add_argument("--load", action="store_true", help="also decode all files, which takes minutes")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.place))
    try:
        began = time.perf_counter()
        for label in range(CLASSES):
            (folder / "images" / str(label)).mkdir(parents=True)
        Image.new("L", (4, 4), 9).save(folder / "one.png")
        for i in range(arguments.count):
            os.link(folder / "one.png", f"{folder}/images/{i % CLASSES}/{i}.png")
        rows = (f"images/{i % CLASSES}/{i % 1000}.png,{i % CLASSES}" for i in range(arguments.count))
        (folder / "t.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
        print(f"{arguments.count:,} files written in {time.perf_counter() - began:.1f} s", flush=True)
        measured("list", folder / "images")
        count, seconds = measured("table", folder / "t.csv")
        if arguments.load:
            measured("folder", folder / "images")
    finally:
        shutil.rmtree(folder)
    raise SystemExit(seconds > MAX_SECONDS * max(1, count / 1_000_000))


if __name__ == "__main__":
    main()
