"""Two processes that train together take the steps that one takes alone, to rounding."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import several_worker
import torch

import vaelab
from vaelab import parts
from vaelab.data import pack
from vaelab.training import fit as fitting

WORKER = Path(several_worker.__file__)
NAMES = [name for name, _, _ in several_worker.configs()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what two processes have written."""
    folder = tmp_path_factory.mktemp("several")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(WORKER),
        str(folder),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def read(folder: Path, name: str) -> list[Any]:
    """What the two processes have written under a name."""
    return [torch.load(folder / f"{name}-{number}.pt", weights_only=False) for number in range(2)]


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_as_one_does(folder: Path, name: str) -> None:
    _, config, dataset = next(each for each in several_worker.configs() if each[0] == name)
    alone = several_worker.trained(config, dataset)
    first, second = read(folder, name)
    assert first["step"] == alone["step"] == several_worker.STEPS
    for key, weight in alone["weights"].items():
        assert torch.equal(first["weights"][key], second["weights"][key])
        if weight.is_floating_point():
            assert (first["weights"][key] - weight).norm() <= 1e-5 * weight.norm(), key
    assert first["figures"] == second["figures"] == pytest.approx(alone["figures"], rel=1e-5, abs=1e-6)


def test_the_shares_of_a_batch_are_its_images_noise_and_random_bits(folder: Path) -> None:
    _, config, dataset = next(several_worker.configs())
    whole = fitting.make_trainer(fitting.resolve(config, dataset), dataset).batches
    for step, shares in enumerate(zip(*read(folder, "batches"), strict=True)):
        batch = whole.at(step)
        assert [len(share.images) for share in shares] == [16, 17]
        for name in ("images", "labels", "noise"):
            assert torch.equal(torch.cat([getattr(share, name) for share in shares]), getattr(batch, name))
        binary = torch.cat([share.prepared("bernoulli").images for share in shares])
        assert torch.equal(binary, batch.prepared("bernoulli").images)


def test_other_images_and_too_small_batches_are_refused_by_all(folder: Path) -> None:
    first, second = read(folder, "messages")
    assert first == second
    data, batch = first
    assert "`processes`" in data
    assert "data blocks" in data
    assert "`batch_size`: got 1 for 2 processes" in batch
    assert not (folder / "run").exists()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "BLOCK_BYTES", several_worker.BLOCK_BYTES)
    monkeypatch.setattr(parts, "PART", several_worker.PART)


def test_files_that_two_processes_write_are_those_of_one(folder: Path, tmp_path: Path, small_parts: None) -> None:
    several_worker.write_files(folder / "trained", tmp_path)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(folder / "files") for path in (folder / "files").rglob("*") if path.is_file()
    )
    assert len(files) == 4 + 4
    for file in files:
        assert (folder / "files" / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_two_processes_measure_what_one_measures(folder: Path, small_parts: None) -> None:
    _, _, dataset = next(several_worker.configs())
    model = vaelab.load(folder / "trained")
    alone = vaelab.evaluate(model, dataset, sections=several_worker.SECTIONS, importance_samples=20).to_json()[
        "sections"
    ]
    for found in read(folder, "report"):
        for key, section in alone.items():
            for name, quantity in section["quantities"].items():
                other = found[key]["quantities"][name]
                assert other["value"] == pytest.approx(quantity["value"], rel=1e-6, abs=1e-9, nan_ok=True), (key, name)
