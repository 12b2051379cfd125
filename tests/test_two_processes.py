"""Two processes that start at once on one empty cache: both get the data, and one entry is kept."""

import hashlib
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_data import idx, small_png

WAIT = """
import sys, json
import numpy as np
{prepare}
print("ready", flush=True)
sys.stdin.readline()
dataset = {load}
print(dataset.fingerprint)
"""


def both(tmp_path: Path, prepare: str, load: str, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], list[Path]]:
    """Load in two processes that wait for each other; return the fingerprints and the files in the cache."""
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("VAELAB_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    command = [sys.executable, "-W", "error", "-c", WAIT.format(prepare=prepare, load=load)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    files = sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    return {out.strip() for out, _ in ends}, files


def test_strokes_are_drawn_by_both_and_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = "from vaelab.data import strokes\nstrokes.TRAIN, strokes.VALIDATION, strokes.TEST = 500, 250, 250"
    seen, files = both(tmp_path, prepare, "strokes.load_strokes()", monkeypatch)
    assert len(seen) == len(files) == 1
    again, kept = both(tmp_path, prepare, "strokes.load_strokes()", monkeypatch)
    assert (again, kept) == (seen, files)


def test_decoded_images_are_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(40):
        small_png(tmp_path / "images" / "ab"[i % 2] / f"{i}.png", 4)
    prepare = "from vaelab.data import image_files, load_dataset\nimage_files.MANY_FILES = 10"
    seen, files = both(tmp_path, prepare, f"load_dataset({str(tmp_path / 'images')!r})", monkeypatch)
    assert len(seen) == len(files) == 1


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A server on the loopback of the folder `published`."""
    (tmp_path / "published").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "published"))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["mnist", "emnist-letters"])
def test_files_are_downloaded_by_both_and_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: str, name: str
) -> None:
    """EMNIST comes in an archive, which each process removes."""
    import gzip

    from vaelab.data.download import PUBLISHED

    shapes = [(30, 28, 28), (30,), (5, 28, 28), (5,)]
    files, facts = {}, {}
    for file, shape in zip(PUBLISHED[name].files, shapes, strict=True):
        values = np.random.default_rng(len(shape)).integers(1, 10, shape, dtype=np.uint8)
        files[f"{file}.gz"] = gzip.compress(idx(*shape) + values.tobytes(), mtime=0)
        facts[file] = [shape, hashlib.sha256(files[f"{file}.gz"]).hexdigest() if name == "mnist" else None]
    archive = None
    if name == "mnist":
        for file, content in files.items():
            (tmp_path / "published" / file).write_bytes(content)
    else:
        packed = tmp_path / "published" / "gzip.zip"
        with zipfile.ZipFile(packed, "w") as sink:
            for file, content in files.items():
                sink.writestr(f"gzip/{file}", content)
        archive = ["gzip.zip", hashlib.sha256(packed.read_bytes()).hexdigest(), "gzip/"]
    changes = json.dumps({"files": facts, "archive": archive})
    prepare = f"""
from dataclasses import replace
from vaelab.data.download import PUBLISHED, Archive, PublishedFile, load_published
changes = json.loads({changes!r})
files = {{file: PublishedFile(tuple(shape), sha256) for file, (shape, sha256) in changes["files"].items()}}
archive = changes["archive"] and Archive(*changes["archive"])
PUBLISHED[{name!r}] = replace(
    PUBLISHED[{name!r}], files=files, archive=archive, mirrors=({mirror!r},), validation={(name == "mnist" and 10) or None}
)
"""
    seen, kept = both(tmp_path, prepare, f"load_published({name!r})", monkeypatch)
    assert len(seen) == 1
    assert [path.name for path in kept] == sorted(files)
