"""The tour: its page is the template with numbers filled in, its pictures exist, and it can be regenerated."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
TEMPLATE = (ROOT / "examples" / "tour.template.md").read_text(encoding="utf-8")


def pattern() -> str:
    """Return the template as a pattern in which each placeholder matches any number."""
    parts = re.split(r"\{(\w+)\}", TEMPLATE)
    return "".join(re.escape(part) if index % 2 == 0 else r"(\S[^\n]*|\|[^*]*\|)" for index, part in enumerate(parts))


def test_the_page_is_its_template_filled_in() -> None:
    """After a change of the template, the page must be regenerated."""
    page = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    assert re.fullmatch(pattern(), page) is not None
    assert not re.search(r"\{\w+\}|\bnan\b|\binf\b", page)


def test_every_picture_of_the_page_is_there_and_no_other() -> None:
    named = re.findall(r"\]\((pictures/tour/\S+\.png)\)", TEMPLATE)
    assert len(named) == len(set(named))
    there = {f"pictures/tour/{path.name}" for path in (ROOT / "docs" / "pictures" / "tour").iterdir()}
    assert there == set(named)
    assert all(f"![]({name})" not in TEMPLATE for name in named), "a picture needs an alternative text"


@pytest.mark.slow
def test_the_tour_can_be_made_anew(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        str(ROOT / "examples" / "tour.py"),
        "--epochs",
        "1",
        "--out",
        str(tmp_path),
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "tour.md").read_text(encoding="utf-8")
    assert re.fullmatch(pattern(), page) is not None
    numbers = dict(zip(re.findall(r"\{(\w+)\}", TEMPLATE), re.fullmatch(pattern(), page).groups(), strict=True))  # type: ignore[union-attr]
    assert float(numbers["ae_distortion"]) < float(numbers["vae_distortion"])
    assert float(numbers["vae_divergence"]) < float(numbers["ae_divergence"])
    assert float(numbers["variance_ratio"].replace(",", "")) > 10
    assert float(numbers["slant_strength"]) > 0.5
    for name in re.findall(r"\]\((pictures/tour/\S+\.png)\)", page):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 50
