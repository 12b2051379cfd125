"""Run folders that lie or are bombs: what each is, and what refusing it takes.

`python hostile_runs.py RUN FOLDER` makes each from a good run, in a folder, opens it, and prints JSON by case: the error, seconds
of CPU time, and bytes of memory at most in addition to those before.
"""

import contextlib
import hashlib
import json
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vaelab import runs
from vaelab.errors import VaelabError
from vaelab.evaluation.comparison import read_report
from vaelab.inference.trained import load
from vaelab.studio import bundle


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of `config.json`, such as `model__width`, and sign the weights for it, as anyone can."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    for name, value in changes.items():
        *parts, last = name.split("__")
        at = values
        for part in parts:
            at = at[part]
        at[last] = value
    path.write_text(json.dumps(values))
    sign(folder)


def sign(folder: Path) -> None:
    """Write the digest of `config.json` into the weights."""
    digest = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    edit_header(folder, lambda header: header["__metadata__"].update(config_sha256=digest))


def edit_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of the weights."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict) and "sha256" in metadata:
        others = {name: value for name, value in metadata.items() if name != "sha256"}
        metadata["sha256"] = hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def facts(folder: Path, text: str) -> None:
    """Replace the facts beside the weights, with their digest."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    edit_header(folder, lambda header: header["__metadata__"].update(facts=text, facts_sha256=digest))


def text(folder: Path, name: str, content: str) -> None:
    """Write a file of a run."""
    (folder / name).write_text(content)


def sparse(path: Path, start: bytes, size: int) -> None:
    """Write a file that claims a size and takes no place."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


def raw_config(old: str, new: str) -> Callable[[Path], None]:
    """Replace a text in `config.json` as it is written."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))
        sign(folder)

    return change


def many_tensors(folder: Path) -> None:
    one = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({"__metadata__": {"facts": "{}"}} | {f"t{index}": one for index in range(10**6)}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def many_small(folder: Path) -> None:
    header = json.dumps({"__metadata__": {"facts": "{}"}} | {f"{index:x}": 0 for index in range(600_000)}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def terabyte(folder: Path) -> None:
    size = 2**40
    header = {"__metadata__": {}, "head.bias": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    edit_header(folder, lambda old: header["__metadata__"].update(old["__metadata__"]))
    content = json.dumps(header).encode()
    sparse(folder / "model.safetensors", struct.pack("<Q", len(content)) + content, 8 + len(content) + size)


NAMES = [f"c{index}" for index in range(10**6)]

CASES: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "config: a million classes": (lambda run: edit(run, data__classes=NAMES), load),
    "config: 10,001 classes": (lambda run: edit(run, data__classes=NAMES[:10_001]), load),
    "config: 10,000 classes of few weights": (lambda run: edit(run, data__classes=NAMES[:10_000]), load),
    "config: brackets without end": (lambda run: text(run, "config.json", "[" * 10**6), load),
    "config: nested deeply": (lambda run: text(run, "config.json", '{"format":' * 50_000), load),
    "config: nested within a field": (raw_config('"format": 2', '"format": ' + "[" * 900 + "]" * 900), load),
    "config: a gigabyte": (lambda run: sparse(run / "config.json", b"{", 10**9), load),
    "config: a million empty lists": (lambda run: text(run, "config.json", "[" + "[]," * 10**6 + "0]"), load),
    "config: a number of 5,000 digits": (raw_config('"format": 2', '"format": ' + "9" * 5000), load),
    "config: a number of 4,000 digits": (raw_config('"epochs"', '"epochs", "x": ' + "9" * 4000), load),
    "config: a number beyond float": (lambda run: edit(run, train__beta=10**400), load),
    "config: infinity": (raw_config('"beta": 1.0', '"beta": 1e999'), load),
    "config: NaN": (raw_config('"beta": 1.0', '"beta": NaN'), load),
    "config: images of 10^18 pixels": (lambda run: edit(run, data__shape=[1, 10**9, 10**9]), load),
    "config: images of 64 million pixels": (lambda run: edit(run, data__shape=[1, 8000, 8000]), load),
    "config: a row of -1 values": (lambda run: edit(run, data__shape=[-1]), load),
    "config: wide": (lambda run: edit(run, model__width=65536), load),
    "config: wider than allowed": (lambda run: edit(run, model__width=10**9), load),
    "config: deep": (lambda run: edit(run, model__depth=1000, model__width=65536), load),
    "config: many latents": (lambda run: edit(run, model__latent_dim=65536), load),
    "config: a ladder of a million levels": (
        lambda run: edit(run, model__network="ladder", model__levels="1" + ",1" * 10**6, model__patch=1),
        load,
    ),
    "config: a long ladder": (
        lambda run: edit(run, model__network="ladder", model__levels="1" + ",1" * 1999, model__patch=1),
        load,
    ),
    "config: a device of 100 kB": (lambda run: edit(run, train__device="x" * 10**5), load),
    "config: an unknown key of 1 MB": (lambda run: edit(run, **{"x" * 10**6: 1}), load),
    "weights: a header of 2^63 bytes": (
        lambda run: (run / "model.safetensors").write_bytes(struct.pack("<Q", 2**63 - 1) + b"{}"),
        load,
    ),
    "weights: a header of a gigabyte": (
        lambda run: sparse(run / "model.safetensors", struct.pack("<Q", 10**9), 2 * 10**9),
        load,
    ),
    "weights: a million tensors": (many_tensors, load),
    "weights: 600,000 small entries": (many_small, load),
    "weights: a terabyte": (terabyte, load),
    "weights: statistics of a million latents": (
        lambda run: facts(run, json.dumps({"step": 1, "axes": {"rate": [0.5] * 10**6}})),
        load,
    ),
    "weights: facts nested deeply": (lambda run: facts(run, "[" * 100_000), load),
    "weights: a step of 4,000 digits": (lambda run: facts(run, '{"step": ' + "9" * 4000 + "}"), load),
    "report: a gigabyte": (lambda run: sparse(run / "report.json", b"{", 10**9), read_report),
    "report: nested deeply": (lambda run: text(run, "report.json", '{"schema":' * 50_000), read_report),
    "report: a million values": (lambda run: text(run, "report.json", "[" + "0," * 10**6 + "0]"), read_report),
}


def cached(run: Path) -> None:
    """Raise an error if the bundle's cache is not believed."""
    if bundle._cached(run / bundle.FOLDER, "key") is None:
        raise VaelabError("not believed")


def record(run: Path, start: bytes, size: int) -> None:
    (run / bundle.FOLDER).mkdir()
    sparse(run / bundle.FOLDER / bundle.KEY, start, size)


CASES |= {
    "bundle: a record of a gigabyte": (lambda run: record(run, b"{", 10**9), cached),
    "bundle: a record nested deeply": (lambda run: record(run, b"0" * 64 + b"\n" + b"[" * 10**6, 10**6), cached),
}


def memory(name: str) -> int:
    """A value of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def refused(case: str, run: Path, folder: Path) -> dict[str, Any]:
    """Make a case from a good run, and open it."""
    make, opened = CASES[case]
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    make(folder)
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before, began, error = memory("VmRSS"), time.process_time(), ""
    try:
        opened(folder)
    except VaelabError as caught:
        error = str(caught)
    except Exception as caught:
        error = f"!{type(caught).__name__}: {caught}"
    return {"error": error, "seconds": time.process_time() - began, "bytes": memory("VmHWM") - before}


def main() -> None:
    run, folder = map(Path, sys.argv[1:])
    load(run)  # what is imported and compiled once does not count
    runs.resume_facts(runs.open_run(run))
    with contextlib.suppress(VaelabError):
        shutil.copytree(run, folder)
        edit(folder, model__network="ladder", model__levels="1,1", model__patch=4)
        load(folder)
    print(json.dumps({case: refused(case, run, folder) for case in CASES}))
    shutil.rmtree(folder)


if __name__ == "__main__":
    os.environ.pop("VAELAB_MAX_CLASSES", None)
    main()
