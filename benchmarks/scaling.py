"""Cost of training against the number of images: images/s and peak memory.

Each training is a separate process: the default model on drawings (`strokes`), with 5,000 more for validation. "Data" are the
pixels, labels and order of the images; "model" is five times the weights (current, averaged, best, and Adam's two moments).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
from turns import Scale, note, spread, table, take_turns

import vaelab
from vaelab.config import Config, TrainConfig
from vaelab.data.dataset import Split
from vaelab.data.strokes import draw_strokes

HELD_OUT, PIXELS = 5_000, (1, 28, 28)
MIB = 2**20


class Cost(TypedDict):
    """Images/s of one training, and bytes of data, model and peak memory."""

    speed: float
    data: int
    model: int
    peak: int


def scaling(scale: Scale) -> Iterator[str]:
    """Yield a row per number of images, and the difference between the slowest and the fastest."""
    costs: dict[int, list[Cost]] = {count: [] for count in scale.counts}
    with tempfile.TemporaryDirectory() as name:
        note(f"drawing {scale.counts[-1]:,} strokes")
        drawn = draw_strokes(scale.counts[-1] + HELD_OUT, seed=0)
        assert drawn.labels is not None
        drawn.images.tofile(Path(name) / "images")
        drawn.labels.tofile(Path(name) / "labels")
        del drawn

        def train(count: int) -> float:
            seconds = str(2 * scale.seconds)
            command = [sys.executable, __file__, name, str(count), seconds]
            costs[count].append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
            return costs[count][-1]["speed"]

        rounds = max(1, round(0.6 * scale.rounds))
        given = take_turns({f"{count:,}": partial(train, count) for count in scale.counts}, rounds)
    rows = []
    for count, speeds in given.items():
        of_count = costs[int(count.replace(",", ""))]
        sizes = {what: statistics.median(cost[what] / MIB for cost in of_count) for what in ("data", "model", "peak")}
        constant = sizes["peak"] - sizes["data"] - sizes["model"]
        rows.append([count, spread(speeds), *(f"{size:,.1f}" for size in sizes.values()), f"{constant:,.1f}"])
    yield table(["images", "images/s", "data, MiB", "model, MiB", "peak, MiB", "peak − data − model, MiB"], rows)
    medians = [statistics.median(speeds) for speeds in given.values()]
    yield f"Slowest against fastest: {min(medians) / max(medians) - 1:+.0%} (goal: within 15 %)."


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    try:  # getrusage never reports less than the parent process held
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _train(folder: Path, count: int, seconds: float) -> Cost:
    """Train on the first `count` drawings, with HELD_OUT others for validation."""
    images = np.fromfile(folder / "images", np.uint8, (count + HELD_OUT) * int(np.prod(PIXELS)))
    drawn = Split(images.reshape(-1, *PIXELS), np.fromfile(folder / "labels", np.int64, count + HELD_OUT))
    held_out = drawn[count:]
    dataset = vaelab.Dataset("strokes", drawn[:count], held_out, held_out[:0], tuple("0123456789"))
    speeds, weights = [], 0
    for progress in vaelab.fit(Config(train=TrainConfig(seconds=seconds, device="cpu")), dataset):
        weights = sum(weight.numel() * weight.element_size() for weight in progress.model.parameters())
        speeds.append(progress.images_per_second)
    speed = statistics.median(speeds[1:] or speeds)
    data = images.nbytes + 8 * (len(drawn) + count)
    return {"speed": speed, "data": data, "model": 5 * weights, "peak": peak_memory()}


if __name__ == "__main__":
    print(json.dumps(_train(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
