"""A run with all kinds of models of `strokes` and a report, trained once for all tests of the page."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from report_maker import made_up

import vaelab
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, load_dataset
from vaelab.evaluation.reference_classifier import ReferenceClassifier, train_classifier
from vaelab.inference.trained import TrainedModel, load
from vaelab.studio.page import DIST
from vaelab.training.fit import fit

if TYPE_CHECKING:
    from vaelab.studio.server import Site

LIMIT = 20_000
"""Training images: enough for several styles of each digit."""

EPOCHS = {"cvae": 20, "vae": 3, "ae": 3}
"""Epochs rather than seconds, so that slow machines train the same models."""

STEPS = 120
"""Training steps of the classifier that recognises generated digits."""


@cache
def strokes() -> Dataset:
    """Load the data once."""
    return load_dataset("strokes", limit=LIMIT)


def train_strokes(folder: Path) -> None:
    """Train a cvae in the folder, and a vae and an ae in subfolders of these names; save an invented report."""
    for kind, epochs in EPOCHS.items():
        config = Config(ModelConfig(model=kind), TrainConfig(epochs=epochs, device="cpu", compile="no"))  # type: ignore[arg-type]
        for _ in fit(config, strokes(), out=folder if kind == "cvae" else folder / kind):
            pass
    made_up().save(folder / "report.json")


def built() -> None:
    """Skip the test if the page is not built."""
    if not (DIST / "index.html").is_file():
        pytest.skip("the page is not built: make studio")


def what_trains() -> str:
    """Digest of everything the trained models depend on: the package, this file and PyTorch."""
    here = Path(__file__)
    files = [here, here.with_name("report_maker.py"), *sorted(Path(vaelab.__file__).parent.rglob("*.py"))]
    return hashlib.sha256(b"\0".join([torch.__version__.encode(), *(file.read_bytes() for file in files)])).hexdigest()


def copy_of_strokes(kept: Path, folder: Path) -> None:
    """Copy the run from the cache `kept` to `folder`; the first process trains it while the others wait."""
    with FileLock(kept / "lock"):
        run = kept / what_trains()
        if not run.is_dir():
            for old in kept.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            making = kept / "making"
            train_strokes(making)
            making.rename(run)
        shutil.copytree(run, folder)


@pytest.fixture(scope="session")
def strokes_run(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of this process; the trained models stay in pytest's cache until the package changes."""
    built()
    folder = tmp_path_factory.mktemp("studio") / "strokes"
    cache = pytestconfig.cache
    assert cache is not None
    copy_of_strokes(cache.mkdir("studio"), folder)
    return folder


@pytest.fixture(scope="session")
def models(strokes_run: Path) -> dict[str, TrainedModel]:
    """The models in Python, by kind."""
    return {kind: load(strokes_run if kind == "cvae" else strokes_run / kind) for kind in EPOCHS}


@cache
def trained_reader() -> ReferenceClassifier:
    """Train a classifier that recognises generated digits; it must be accurate on real ones."""
    data = strokes()
    reader = train_classifier(data.train, len(data.classes), data.test[:2000], steps=STEPS, seed=1)
    assert reader.accuracy >= 0.97, reader.accuracy
    return reader


@pytest.fixture(scope="session")
def reader() -> ReferenceClassifier:
    """The classifier."""
    return trained_reader()


@pytest.fixture(scope="session")
def served(strokes_run: Path) -> Iterator[str]:
    """The URL of the page, served by the command line."""
    words = [sys.executable, "-c", "from vaelab.cli import main; main()", "studio", str(strokes_run), "--no-browser"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address), address
        yield address
        process.terminate()


@pytest.fixture(scope="session")
def one_file(served: str, strokes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page exported as one file, from the bundle that the server created."""
    from vaelab.studio.single import export_page

    assert served
    return export_page(strokes_run, tmp_path_factory.mktemp("file") / "page.html").path


@contextmanager
def serving(run: Path, source: str | None = None, *, trust_code: bool = False) -> Iterator[tuple[str, "Site"]]:
    """Serve the page of another run from a thread; yields its URL and the site."""
    import socket

    from vaelab.serving.listening import HOST, server_of
    from vaelab.studio.server import open_site, studio_app

    built()
    site = open_site(run, source=source, trust_code=trust_code, work=lambda *_: None)
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        host = f"{HOST}:{listening.getsockname()[1]}"
        server: Any = None
        app = studio_app(site, [host], ended=lambda: server.should_exit)
        server = server_of(app, drain=2)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        site.following.begin()
        while not server.started:
            time.sleep(0.01)
        yield f"http://{host}/", site
        site.following.end()
        server.should_exit = True
        thread.join(10)


def save_data(path: Path, images: np.ndarray, names: list[str]) -> str:
    """Save images, uint8 (N, ...), as an .npz with the names as cyclic labels; return it as a source."""
    labels = np.array(names)[np.arange(len(images)) % len(names)]
    np.savez(path, images=images, labels=labels, test_images=images[:60], test_labels=labels[:60])
    return str(path)


def train_small(folder: Path, source: str, kind: str = "cvae", **changed: Any) -> None:
    """Train a small model of a small source in about a second."""
    config = Config(
        ModelConfig(model=kind, width=32, depth=1, **{"network": "mlp", "latent_dim": 2, **changed}),  # type: ignore[arg-type]
        TrainConfig(epochs=2, batch_size=32, device="cpu", compile="no"),
    )
    with torch.random.fork_rng(devices=[]):
        for _ in fit(config, load_dataset(source), out=folder):
            pass
