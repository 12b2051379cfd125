"""Truncations and flipped bits in the caches: none is believed (the full program is `benchmarks/soak/damage_caches.py`)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "soak"))

from damage_caches import damage_bundle, damage_packages, small_run  # pyright: ignore[reportMissingImports]


def test_a_damaged_bundle_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "cache"))
    kinds, believed = damage_bundle(small_run(tmp_path), 60)
    assert kinds.total() == 60
    assert believed == []


def test_a_damaged_package_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "step.pt2").write_bytes(bytes(range(256)) * 100)
    kinds, believed = damage_packages(100, source=tmp_path / "step.pt2")
    assert kinds.total() == 100
    assert believed == []
