"""Two processes that train together take the steps that one takes alone, to rounding."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import several_worker
import torch

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
