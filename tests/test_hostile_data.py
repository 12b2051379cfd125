"""Data made to do harm are refused at once, with little memory, in one line; the readers read any bytes or refuse them."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_data import CASES, SEEDS, SMALL, Outcome, npy, read_any, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MAX_SECONDS, MAX_MEGABYTES, MAX_LENGTH = 1.0, 64.0, 500


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """How each of the sources ended, each loaded in its own process."""
    folder = tmp_path_factory.mktemp("hostile")
    cases = {}
    for i, (name, write) in enumerate(CASES.items()):
        (folder / str(i)).mkdir()
        cases[name] = write(folder / str(i))
    (folder / "cases.json").write_text(json.dumps(cases))
    program = Path(__file__).with_name("hostile_data.py")
    done = subprocess.run([sys.executable, program, folder / "cases.json"], capture_output=True, text=True, check=True)
    return {name: Outcome(*values) for name, values in map(json.loads, done.stdout.splitlines())}


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="reads the peak of memory from /proc: run it on Linux"
)
@pytest.mark.parametrize("name", CASES)
def test_what_would_do_harm_is_refused(ended: dict[str, Outcome], name: str) -> None:
    outcome = ended[name]
    assert outcome.error == "DataError", outcome
    assert outcome.seconds <= MAX_SECONDS, outcome
    assert outcome.megabytes <= MAX_MEGABYTES, outcome
    assert len(outcome.message) <= MAX_LENGTH
    assert outcome.message.isprintable()


def edits(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with a few bytes replaced, removed or added."""
    places = st.integers(0, max(0, len(content) - 1))
    few = st.lists(st.tuples(places, st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4)

    def edited(changes: list[tuple[int, int, bytes]]) -> bytes:
        changed = content
        for place, removed, added in changes:
            changed = changed[:place] + added + changed[place + removed :]
        return changed

    return few.map(edited)


def any_content(reader: str) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=200) | st.sampled_from(SEEDS[reader]()).flatmap(edits)


@pytest.mark.parametrize("reader", SEEDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_read_or_refused(reader: str, data: st.DataObject, tmp_path: Path) -> None:
    read_any(reader, data.draw(any_content(reader)), tmp_path)


CORNERS: dict[str, tuple[str, bytes]] = {
    "gzip that ends after its mark": ("idx", b"\x1f\x8b"),
    "gzip within gzip": ("idx", gzip.compress(gzip.compress(b"\0\0\x08\x01"))),
    "an archive in a way of compression that Python lacks": (
        "npz",
        zipped({"images.npy": b""}).replace(b"\x08\0", b"\x61\0"),
    ),
    "an array of NumPy's third version": ("npz", zipped({"images.npy": npy(SMALL, 3)})),
    "an array of records": ("npz", zipped({"images.npy": npy(SMALL.replace("'|u1'", "[('a', '|u1')]")) + bytes(16)})),
    "a header of an array that is no literal": ("npz", zipped({"images.npy": npy("{'descr': open('x')}")})),
    "a byte order mark alone": ("table", b"\xef\xbb\xbf"),
    "half a character": ("table", b"path\n\xc3"),
    "a path with a zero": ("table", b"path\na\0b\n"),
    "a path of one half of a pair": ("table", b'path\n"\xed\xa0\x80"\n'),
    "columns of the same name": ("table", b"path,path\na.png,b.png\n"),
    "names of any bytes": ("names", bytes(range(256))),
}
"""Content at the corners of the formats, by what it is, with its reader; what `benchmarks/soak/fuzz.py` finds belongs here."""


@pytest.mark.parametrize("name", CORNERS)
def test_corners_are_read_or_refused(name: str, tmp_path: Path) -> None:
    read_any(*CORNERS[name], tmp_path)


@pytest.mark.parametrize("write", [CASES["a name of a million characters"]])
def test_errors_are_printed_in_a_short_line(
    write: Callable[[Path], tuple[str, object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vaelab.cli import main

    for arguments in (
        ["data", write(tmp_path)[0]],
        ["data", "digits", *["surplus"] * 1000],
        ["data", "--si" + "z" * 10_000],
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code == 2
        assert line.startswith("vaelab: ")
        assert len(line) <= MAX_LENGTH
