"""Damage the caches that vaelab believes: the studio's bundle in a run folder, and compiled training steps.

    python benchmarks/soak/damage_caches.py [--count 500]

Each damage is a truncation or one flipped bit at a random place. A damaged bundle must not be believed; a damaged compiled step
must not be found, and must be removed. With some damaged packages, a training in another process must succeed. Prints the
figures, and exits with 1 after a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Damage(NamedTuple):
    """A file that was damaged, and how."""

    path: Path
    kind: str


def damages(files: list[Path], count: int, seed: int = 0) -> Iterator[Damage]:
    """Yield `count` damages of `files`, each done when it is yielded and undone when the next is asked for."""
    rng = random.Random(seed)
    whole = {path: path.read_bytes() for path in files}
    for number in range(count):
        path = files[number % len(files)]
        content = whole[path]
        kind = rng.choice(("truncated", "flipped"))
        place = rng.randrange(len(content))
        if kind == "flipped":
            content = content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
        path.write_bytes(content[:place] if kind == "truncated" else content)
        path.chmod(0o600)
        yield Damage(path, kind)
        path.write_bytes(whole[path])
        path.chmod(0o600)


def damage_bundle(run: Path, count: int) -> tuple[Counter[str], list[Damage]]:
    """Damage the bundle of a run; return how often by kind, and the damages that were believed."""
    from vaelab.studio import bundle as bundles

    opened = bundles.open_bundle(run)
    believed, kinds = [], Counter()
    for damage in damages(sorted(opened.folder.iterdir()), count):
        kinds[f"bundle {damage.kind}"] += 1
        record = bundles._cached(opened.folder, opened.key)
        read = {name: opened.read(name) for name in opened.digests}
        if record is not None or (damage.path.name in read and read[damage.path.name] is not None):
            believed.append(damage)
    assert not bundles.open_bundle(run).fresh
    return kinds, believed


def damage_packages(count: int, *, every: int = 0, source: Path | None = None) -> tuple[Counter[str], list[Damage]]:
    """Damage the compiled step in the cache, from `source` or the one of `train`; with `every`, train with every such one."""
    from vaelab.acceleration import cache
    from vaelab.data.cache import cache_folder

    class Key:
        def to_json(self) -> str:
            return "soak"

    key, folder = Key(), cache_folder() / "compiled-steps"
    source = next(folder.glob("*.pt2")) if source is None else source
    with tempfile.TemporaryDirectory() as temporary:
        kept = Path(shutil.copy(source, temporary))
        cache.keep(kept, key)  # pyright: ignore[reportArgumentType] - only its JSON counts
        (path,) = folder.glob(f"{cache._place(key)[1]}-*.pt2")  # pyright: ignore[reportArgumentType]
        believed, kinds = [], Counter()
        for damage in damages([path], count):
            kinds[f"package {damage.kind}"] += 1
            content = path.read_bytes()
            if cache.find(key) is not None or path.exists():  # pyright: ignore[reportArgumentType]
                believed.append(damage)
            if every and kinds.total() % every == 0:
                source.write_bytes(content)
                source.chmod(0o600)
                status = train()
                kinds["trained with a damaged package"] += 1
                if status != 0:
                    believed.append(damage)
                shutil.copy(kept, source)
    return kinds, believed


def train() -> int:
    """Train a little with a compiled step, and return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "vaelab", "train", "digits", "--out", f"{folder}/run", "--epochs", "1"]
        command += ["--device", "cpu", "--compile", "yes", "--width", "16", "--depth", "1"]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def small_run(folder: Path) -> Path:
    """Train a small model of digits, and return its run folder."""
    from vaelab import Config, ModelConfig, TrainConfig, fit, load_dataset

    config = Config(
        ModelConfig("cvae", width=16, depth=1, latent_dim=2), TrainConfig(epochs=1, device="cpu", compile="no")
    )
    for _ in fit(config, load_dataset("digits"), out=folder / "run"):
        pass
    return folder / "run"


def main() -> None:
    """Run both, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="damages of each of the two caches")
    parser.add_argument("--every", type=int, default=100, help="train with every such damaged package; 0: with none")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VAELAB_CACHE_DIR"] = f"{folder}/cache"
        run = small_run(Path(folder))
        status = train()  # makes the package
        assert status == 0, status
        results = [damage_bundle(run, options.count), damage_packages(options.count, every=options.every)]
    kinds = sum((kinds for kinds, _ in results), Counter())
    believed = [f"{damage.path.name} {damage.kind}" for _, found in results for damage in found]
    print(
        json.dumps(
            {"damages": dict(kinds), "believed": believed, "seconds": round(time.perf_counter() - began)}, indent=2
        )
    )
    raise SystemExit(bool(believed))


if __name__ == "__main__":
    main()
