"""Training on a pack that is larger than the memory it may use, beside training on images in memory.

    python benchmarks/streaming.py --folder /tmp/packs             # two packs of 12 GB: 24 GB of disk, about 15 min
    python benchmarks/streaming.py --folder /tmp/packs --only 784-400-20 --gigabytes 4

Each model trains for `--seconds` in a process of its own, plain steps, in turn and several times, on

- memory: as many images of the pack as `--resident` gigabytes hold, read into memory;
- warm: the pack, mapped, after all of it was read once, so that the operating system has it in its cache;
- cold: the pack, mapped, after its pages were dropped from the cache (`posix_fadvise`).

With `--limit GIGABYTES`, and a writable memory controller (cgroup version 1, as root), the two mapped trainings run in a control
group with that limit, to which the pages count that it reads itself; those that are warm were read outside of it. The images are
random levels, which are as fast to train on as any. Resident memory is the highest of anonymous pages (RssAnon) in /proc; pages
of files, which the system drops when memory is short, are not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from machine import machine
from turns import note, ratios, spread, table

from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data.dataset import Dataset, Split
from vaelab.data.pack import Source, load_pack
from vaelab.data.pack_writing import write_pack
from vaelab.training.fit import PackedMoments, fit

HELD_OUT = 1000  # images for validation
GROUP = Path("/sys/fs/cgroup/memory/vaelab-streaming")
MODELS: dict[str, tuple[tuple[int, int, int], ModelConfig]] = {
    "784-400-20": (
        (1, 28, 28),
        ModelConfig(model="vae", network="mlp", latent_dim=20, width=400, depth=1, likelihood="bernoulli"),
    ),
    "conv 64×64": ((3, 64, 64), ModelConfig(model="vae", network="conv", latent_dim=16, likelihood="colour-logistic")),
}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the packs are written, or found")
    parser.add_argument("--gigabytes", type=float, default=12, help="size of each pack")
    parser.add_argument("--resident", type=float, default=4, help="gigabytes of images in memory")
    parser.add_argument("--limit", type=float, help="memory in gigabytes of the mapped trainings")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each kind")
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, pack, kind = arguments.worker
        print(json.dumps(trained(name, pack, kind, arguments.seconds, arguments.resident)))
        return
    note(f"{machine()}; seconds={arguments.seconds:g}, limit={arguments.limit} GB")
    rows = []
    for name in [arguments.only] if arguments.only else MODELS:
        pack = packed(name, arguments.folder, arguments.gigabytes)
        kinds: dict[str, list[dict[str, float]]] = {"memory": [], "warm": [], "cold": []}
        for _ in range(arguments.rounds):
            for kind, found in kinds.items():
                prepare(pack, kind)
                found.append(worker(name, pack, kind, arguments, limited=kind != "memory"))
                note(f"{name} {kind}: {found[-1]}")
        for kind, found in kinds.items():
            rates, memory = ([each["rate"] for each in kinds[one]] for one in (kind, "memory"))
            first, most = (max(each[key] for each in found) for key in ("first", "anonymous"))
            ratio = spread(ratios(rates, memory), ".2f")
            rows.append([name, kind, spread(rates), ratio, f"{first:.1f}", f"{most / 2**30:.2f}"])
    print(table(["model", "images", "images/s", "of memory's", "first step after, s", "anonymous memory, GiB"], rows))


def packed(name: str, folder: Path, gigabytes: float) -> Path:
    """Return the pack of random images for a model, written if it does not exist."""
    shape, _ = MODELS[name]
    out = folder / f"{'x'.join(map(str, shape))}-{gigabytes:g}GB"
    if not out.exists():
        folder.mkdir(parents=True, exist_ok=True)
        count = int(gigabytes * 1e9 / np.prod(shape))

        def read(first: int, last: int) -> tuple[np.ndarray, None]:
            return np.random.default_rng(first).integers(0, 256, (last - first, *shape), dtype=np.uint8), None

        counts = {"train": count, "validation": HELD_OUT, "test": 0}
        began = time.perf_counter()
        write_pack(Source("random", shape, (), counts, dict.fromkeys(counts, read)), out, PackedMoments)
        note(f"packed {count:,} images in {time.perf_counter() - began:.0f} s")
    return out


def prepare(pack: Path, kind: str) -> None:
    """Bring the pages of a pack into the cache of the operating system, or drop them from it."""
    for path in pack.glob("*.npy"):
        with path.open("rb") as file:
            if kind == "warm":
                while file.read(1 << 24):
                    pass
            else:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def worker(name: str, pack: Path, kind: str, arguments: argparse.Namespace, *, limited: bool) -> dict[str, float]:
    """Train in another process, within the limit."""

    def enter() -> None:
        if limited and arguments.limit:
            (GROUP / "cgroup.procs").write_text(str(os.getpid()))

    if limited and arguments.limit:
        GROUP.mkdir(exist_ok=True)
        (GROUP / "memory.limit_in_bytes").write_text(str(int(arguments.limit * 1e9)))
    options = [
        "--seconds",
        str(arguments.seconds),
        "--resident",
        str(arguments.resident),
        "--folder",
        str(arguments.folder),
    ]
    command = [sys.executable, __file__, "--worker", name, str(pack), kind, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=enter)
    return json.loads(done.stdout.splitlines()[-1])


def trained(name: str, pack: str, kind: str, seconds: float, resident: float) -> dict[str, float]:
    """Train one model; return images/s after the first second, seconds from loading to the first step, and memory in bytes."""
    began = time.perf_counter()
    dataset = load_pack(Path(pack))
    _, model = MODELS[name]
    if kind == "memory":
        count = int(resident * 1e9 / dataset.train.images[0].size)
        train = Split(np.array(dataset.train.images[:count]), known=dataset.train.known)
        dataset = Dataset(dataset.name, train, dataset.validation, dataset.test)
        began = time.perf_counter()
    highest, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            status = Path("/proc/self/status").read_text()
            highest.append(1024 * int(status.split("RssAnon:")[1].split()[0]))

    threading.Thread(target=watch, daemon=True).start()
    config = Config(model, TrainConfig(seconds=seconds, batch_size=128, compile="no"))
    times: list[tuple[float, int]] = []
    first = 0.0
    for progress in fit(config, dataset):
        now = time.perf_counter()
        if progress.step and not first:
            first = now - began
        times.append((now, progress.step))
    over.set()
    later = [each for each in times if each[0] >= times[0][0] + 1]
    (start, before), (end, after) = later[0], later[-1]
    return {"rate": 128 * (after - before) / (end - start), "first": first, "anonymous": float(max(highest))}


if __name__ == "__main__":
    main()
