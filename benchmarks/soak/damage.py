"""Damage the files of a run by truncations and flipped bits, and open it: nothing may be loaded in silence, nothing may crash.

    python benchmarks/soak/damage.py [--count 1000]

A case is one truncation or flipped bit of a file, half of them in its first 2,048 bytes: `config.json`, the weights and the state
of the training, those of the checkpoint before, and the log. A process of its own then opens the run, its weights, its state and
its log. Each is refused with an error of vaelab, used with a notice (an older checkpoint, or the other lines), or unchanged: the
same as without damage, as the checkpoint before is read only if the last is damaged. A third of the cases of that have no last.

Needs `fork`; exits with status 1 if one is loaded in silence with other content, fails in another way, or ends its process.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from kills import CONFIG, training_data

from vaelab import runs
from vaelab.errors import RunWarning, VaelabError
from vaelab.runs import tensors
from vaelab.training import loop
from vaelab.training.fit import fit

HEAD = 2048
FILES = (
    "config.json",
    runs.WEIGHTS,
    runs.RESUME,
    f"{runs.PREVIOUS}/{runs.WEIGHTS}",
    f"{runs.PREVIOUS}/{runs.RESUME}",
    runs.METRICS,
)


def read_state(folder: Path) -> object:
    """Return digest and facts of the state of a training."""
    state, facts = runs.load_resume(runs.open_run(folder))
    return tensors.digest_of(state), facts


def read_config(folder: Path) -> object:
    """Return the configuration of a run, as it is used: once its digest in another file has been compared."""
    run = runs.open_run(folder)
    runs.load_model(run)
    return run.config, run.data


READERS: dict[str, Callable[[Path], object]] = {
    "config": read_config,
    "weights": lambda folder: tensors.digest_of(runs.load_model(runs.open_run(folder)).state_dict()),
    "facts": lambda folder: runs.weight_facts(runs.open_run(folder)),
    "state": read_state,
    "log": lambda folder: runs.read_metrics(runs.open_run(folder)),
}


def make_run(folder: Path) -> None:
    """Train a run that has a checkpoint before the last, a log of several lines, and an end."""
    torch.set_num_threads(1)
    loop.PROGRESS_EVERY = 0.0
    for _ in fit(replace(CONFIG, train=replace(CONFIG.train, epochs=4)), training_data(), out=folder):
        pass


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file, and return how."""
    content = bytearray(path.read_bytes())
    most = len(content) if rng.random() < 0.5 else min(HEAD, len(content))
    at = rng.randrange(most)
    if rng.random() < 0.5:
        path.write_bytes(content[:at])
        return f"cut to {at} bytes"
    bit = rng.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {at} flipped"


def outcome(read: Callable[[], object], expected: object) -> str:
    """Return `refused`, `noticed`, `unchanged` or `SILENT`, or the name of an error that is not vaelab's."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = read()
        except VaelabError as error:
            return "refused" if "\n" not in str(error) else "several lines"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    if any(issubclass(each.category, RunWarning) for each in caught):
        return "noticed"
    return "unchanged" if found == expected else "SILENT"


def in_process(work: Callable[[], str]) -> str:
    """Return what `work` returns, in a child process, or how that ended."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        text = work()
        os.write(writing, text.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return text if status == 0 else f"process ended with status {status}"


def soak(count: int) -> bool:
    """Damage a run `count` times, print the figures, and return whether nothing was loaded in silence and nothing crashed."""
    rng = random.Random(0)
    found: dict[str, Counter[str]] = {name: Counter() for name in FILES}
    failed = []
    with tempfile.TemporaryDirectory() as name:
        whole, folder = Path(name) / "whole", Path(name) / "damaged"
        make_run(whole)
        expected: dict[str, Any] = {part: read(whole) for part, read in READERS.items()}
        for case in range(count):
            shutil.copytree(whole, folder)
            file = FILES[case % len(FILES)]
            how = damage(folder / file, rng)
            if file.startswith(runs.PREVIOUS) and rng.random() < 1 / 3:
                (folder / Path(file).name).unlink()
                how += ", and no last"

            def read_all() -> str:
                return "\n".join(
                    outcome(lambda read=read: read(folder), expected[part]) for part, read in READERS.items()
                )

            outcomes = in_process(read_all).splitlines()
            worst = next((each for each in outcomes if each not in ("refused", "noticed", "unchanged")), None)
            if worst is not None:
                failed.append(f"case {case}, {file} {how}: {worst}")
            found[file][worst or min(outcomes, key=["refused", "noticed", "unchanged"].index)] += 1
            shutil.rmtree(folder)
    for name, counts in found.items():
        print(f"{name:<28} " + ", ".join(f"{number} {what}" for what, number in sorted(counts.items())))
    print(f"loaded in silence, failed otherwise or crashed: {len(failed)} of {count}")
    print(*failed, sep="\n", end="\n" if failed else "")
    return not failed


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="cases (default: 1000)")
    raise SystemExit(not soak(parser.parse_args().count))


if __name__ == "__main__":
    main()
