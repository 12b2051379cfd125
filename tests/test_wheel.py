"""The wheel and the source distribution: the same bytes when built twice, no Node needed, and the wheel in a bare environment.

Building needs PyPI and, unless the page is up to date, the npm registry.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_page import Page

from vaelab.studio.page import CONTENT_TYPES
from vaelab.version import __version__

ROOT = Path(__file__).parent.parent
PREFIX = "vaelab/studio/dist/"
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
WHEEL, SDIST = f"vaelab-{__version__}-py3-none-any.whl", f"vaelab-{__version__}.tar.gz"

pytestmark = pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command without the tests' own Python path; its output is in the message if it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VAELAB_DATA_DIR")}
    done = subprocess.run(
        [str(word) for word in command],
        env=environment | options.pop("env", {}),
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done


def made(folder: Path) -> dict[str, bytes]:
    """Build the distributions by `make dist` into a folder; return the wheel's files of the page."""
    words = (
        "make",
        "dist",
        f"DIST={folder}",
        f"BIN={Path(sys.executable).parent}",
        "--old-file",
        ".venv/installed-dev",
    )
    run(*words, cwd=ROOT)
    assert sorted(path.name for path in folder.iterdir()) == [WHEEL, SDIST]
    return page_in(folder / WHEEL)


def page_in(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(PREFIX)]
        return {name.removeprefix(PREFIX): archive.read(name) for name in names}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and source distribution."""
    folder = tmp_path_factory.mktemp("made") / "dist"
    first = made(folder)
    assert set(CONTENT_TYPES) <= set(first)
    assert len(first["ort.wasm"]) > 1_000_000
    assert b"onnxruntime-web" in first["licences.txt"]
    assert made(folder) == first
    return folder


@pytest.mark.slow
def test_builds_in_two_folders_are_identical(tmp_path: Path) -> None:
    """Wheel and source distribution, with the page built anew in each."""
    pytest.importorskip("hatchling")
    ignored = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", "__pycache__", "node_modules", "dist", "site", "runs", "build"
    )
    made = []
    for name, mask in (("first", 0o022), ("in another place", 0o077)):
        place = tmp_path / name
        old = os.umask(mask)
        try:
            shutil.copytree(ROOT, place, ignore=ignored)
            if (ROOT / "studio" / "node_modules").is_dir():
                (place / "studio" / "node_modules").symlink_to(ROOT / "studio" / "node_modules")
            run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "made", cwd=place, env={"TZ": name[0]})
        finally:
            os.umask(old)
        assert sorted(path.name for path in (place / "made").iterdir()) == [WHEEL, SDIST]
        made.append({file: (place / "made" / file).read_bytes() for file in (WHEEL, SDIST)})
    assert made[0] == made[1]


@pytest.mark.slow
def test_a_wheel_from_the_source_distribution_needs_no_node(dist: Path, tmp_path: Path) -> None:
    with tarfile.open(dist / SDIST) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    for path in (folder / "studio").rglob("*"):
        os.utime(path)  # later than the page: times do not matter
    empty = tmp_path / "empty"
    empty.mkdir()
    command = "from hatchling import build as b; print(b.get_requires_for_build_wheel(), b.build_wheel('made'))"
    told = run(sys.executable, "-c", command, cwd=folder, env={"PATH": str(empty)}).stdout
    assert told.split() == ["[]", WHEEL]
    assert page_in(folder / "made" / WHEEL) == page_in(dist / WHEEL)
    assert not (folder / "studio" / "node_modules").exists()


def interpreters(version: str) -> Iterator[str]:
    """Python interpreters of a version: this one, on the path, and those of uv and pyenv."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        yield sys.executable
    name = f"python{version}"
    yield from filter(None, [shutil.which(name)])
    for pattern in (
        f".local/share/uv/python/cpython-{version}.*/bin/{name}",
        f".pyenv/versions/{version}.*/bin/{name}",
    ):
        yield from map(str, sorted(Path.home().glob(pattern)))


def bare_environment(version: str, folder: Path) -> Path:
    """A new environment of a Python version that has only the PyTorch that the tests run on; skips if it cannot be made."""
    for found in interpreters(version):
        if subprocess.run([found, "-m", "venv", folder], capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip(f"no Python {version} on this machine: install it")
    python = folder / "bin" / "python"
    pinned = f"torch=={importlib.metadata.version('torch')}"  # with its `+cpu`, if it is a CPU build
    pip = (python, "-m", "pip", "install", "--quiet", "--no-deps", pinned)
    for more in ((), ("--retries", "0", "--timeout", "10", "--index-url", CPU_BUILDS)):
        if subprocess.run([*pip, *more], capture_output=True, check=False).returncode == 0:
            return python
    assert found != sys.executable, f"{pinned} cannot be installed again"
    pytest.skip(f"{pinned} for Python {version} cannot be installed from here: run it where the package index has it")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_the_wheel_trains_and_exports_a_page_in_a_bare_environment(
    dist: Path, tmp_path: Path, version: str, request: pytest.FixtureRequest
) -> None:
    python = bare_environment(version, tmp_path / "venv")
    extra = f"{dist / WHEEL}[studio]"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", extra)
    vaelab = python.with_name("vaelab")
    assert "train" in run(vaelab, "--help", cwd=tmp_path).stdout
    trained = ("train", "digits", "--epochs", "2", "--width", "16", "--out", "run")
    assert "weights saved" in run(vaelab, *trained, cwd=tmp_path).stderr
    run(vaelab, "export", "run", "--out", "page.html", cwd=tmp_path)
    page = Page(request.getfixturevalue("browser"), (tmp_path / "page.html").as_uri()).ready()
    assert page.grey().std() > 0
    page.close()
