"""Small versions of the soaks in `benchmarks/soak`: killed trainings, and damaged runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: run it on Linux or macOS")


def soaked(name: str, count: int) -> str:
    """What a soak prints; in a process of its own, as it forks others."""
    words = [sys.executable, str(SOAK / f"{name}.py"), "--count", str(count)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_killed_trainings_are_resumed_to_the_bit() -> None:
    told = soaked("kills", 8)
    assert "killed at 8: 2 in first save, 4 in a save, 2 in a step" in told
    assert "resumed to the bit, with the same log: 8 of 8" in told


def test_no_damage_is_loaded_in_silence() -> None:
    told = soaked("damage", 60)
    assert told.count("refused") + told.count("noticed") >= 4
    assert "loaded in silence, failed otherwise or crashed: 0 of 60" in told
