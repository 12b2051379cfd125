"""Fuzz the readers of data with atheris, guided by coverage: `pip install atheris`, which the project itself does not need.

    python benchmarks/soak/fuzz.py --seconds 600              # each reader in turn
    python benchmarks/soak/fuzz.py --seconds 600 npz image    # these

Any content must be read or be refused with an error of vaelab, in at most 5 seconds. Content that is not is kept as a file, whose
name is printed; it belongs into `CORNERS` in tests/test_hostile_data.py. The status is 1 if any was found.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

READERS = ("idx", "npz", "image", "table", "names")
MAX_SECONDS = 5
"""Longest time for one content, after which the fuzzer counts it as a fault."""

MAX_BYTES = 2000


def fuzz(reader: str, seconds: int, corpus: Path) -> None:
    """Fuzz one reader in this process, which ends with it."""
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["vaelab.data", "PIL", "zipfile", "numpy.lib"]):
        cases = import_module("hostile_data")
    warnings.simplefilter("ignore")
    for i, seed in enumerate(cases.SEEDS[reader]()):
        (corpus / f"seed{i}").write_bytes(seed)
    folder = corpus.with_name(f"{reader}-corpus-now")
    folder.mkdir()
    limits = [f"-max_total_time={seconds}", f"-timeout={MAX_SECONDS}", f"-max_len={MAX_BYTES}", "-rss_limit_mb=2000"]
    options = [sys.argv[0], *limits, f"-artifact_prefix={corpus.parent}/{reader}-", "-print_final_stats=1", str(corpus)]
    atheris.Setup(options, lambda content: cases.read_any(reader, content, folder))
    atheris.Fuzz()


def main() -> None:
    """Fuzz each reader in a process of its own, and print how many contents it got and what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", default=READERS, help=", ".join(READERS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.corpus is not None:
        fuzz(arguments.readers[0], arguments.seconds, arguments.corpus)
        return
    kept = Path(tempfile.mkdtemp(prefix="vaelab-fuzz-"))
    found = 0
    for reader in arguments.readers:
        corpus = kept / f"{reader}-corpus"
        corpus.mkdir()
        began = time.perf_counter()
        command = [sys.executable, __file__, reader, "--seconds", str(arguments.seconds), "--corpus", str(corpus)]
        done = subprocess.run(command, capture_output=True, text=True)
        log = done.stdout + done.stderr
        runs = next((line.split()[-1] for line in log.splitlines() if "number_of_executed_units" in line), "?")
        faults = sorted(kept.glob(f"{reader}-[!c]*"))
        found += bool(faults) or done.returncode != 0
        print(f"{reader}: {runs} contents in {time.perf_counter() - began:.0f} s, {len(faults)} faults", flush=True)
        for fault in faults:
            print(f"  {fault}")
        if done.returncode:
            print(log[-3000:])
    raise SystemExit(found > 0)


if __name__ == "__main__":
    main()
