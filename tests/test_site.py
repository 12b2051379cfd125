"""The documentation website: where its pages go, what is refused, and that it loads nothing from another host."""

import html
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import vaelab

ROOT = Path(__file__).parent.parent


def load_assemble() -> ModuleType:
    spec = importlib.util.spec_from_file_location("assemble", ROOT / "docs" / "assemble.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


site = load_assemble()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project: a README, a page two folders down, a picture, an example and a notebook."""
    root = tmp_path / "project"
    for folder in ("docs/why", "docs/pictures", "examples"):
        (root / folder).mkdir(parents=True)
    (root / "docs/pictures/a.png").write_bytes(b"not looked at")
    (root / "docs/why/first.md").write_text("# The first\n\n[back](../../README.md#top), [why](../why)\n")
    (root / "examples/one.py").write_text('"""An example with ``` in it."""\nprint(1)\n')
    cells = [
        {"cell_type": "markdown", "source": ["# Steps\n", "\n", "[up](../README.md)"]},
        {"cell_type": "code", "source": ["x = f[1](y)"], "outputs": ["never shown"]},
    ]
    (root / "examples/steps.ipynb").write_text(json.dumps({"cells": cells}))
    return root


def assembled(root: Path, readme: str) -> dict[str, str]:
    (root / "README.md").write_text(readme, encoding="utf-8")
    target = root / "build" / "pages"
    names = site.assemble(target, root)
    assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*.*")) == names
    return {name: (target / name).read_text(encoding="utf-8") for name in names if name.endswith(".md")}


def test_links_lead_where_the_pages_went(project: Path) -> None:
    readme = '[first](docs/why/first.md#x) ![a](docs/pictures/a.png) <img src="docs/pictures/a.png"> [out](https://x.org/a.md)'
    pages = assembled(project, readme)
    expected = '[first](why/first.md#x) ![a](pictures/a.png) <img src="pictures/a.png"> [out](https://x.org/a.md)'
    assert pages["index.md"] == expected
    assert pages["why/first.md"] == "# The first\n\n[back](../index.md#top), [why](index.md)\n"
    assert pages["why/index.md"] == "# Why\n\n- [The first](first.md)\n"
    assert (project / "build/pages/pictures/a.png").read_bytes() == b"not looked at"


def test_code_is_left_as_it_is(project: Path) -> None:
    readme = "`[a](b)`\n\n```md\n[a](b)\n```\n\n[a](docs/why/first.md)\n\n~~~~\n[a](b)\n~~~~\n"
    assert assembled(project, readme)["index.md"] == readme.replace("docs/why", "why")


def test_an_example_becomes_a_listing_and_a_notebook_its_cells(project: Path) -> None:
    pages = assembled(project, "[one](examples/one.py) [steps](examples/steps.ipynb)")
    assert pages["index.md"] == "[one](examples/one.py.md) [steps](examples/steps.ipynb.md)"
    listing = '# examples/one.py\n\n````python\n"""An example with ``` in it."""\nprint(1)\n````\n'
    assert pages["examples/one.py.md"] == listing
    steps = pages["examples/steps.ipynb.md"]
    assert steps.startswith("# Steps\n\n[up](../index.md)\n\n```python\nx = f[1](y)\n```\n")
    assert "never shown" not in steps


@pytest.mark.parametrize("target", ["docs/nothing.md", "docs/pictures/b.png", "../outside.md"])
def test_a_link_to_what_is_not_there_is_refused(project: Path, target: str) -> None:
    (project.parent / "outside.md").write_text("# Outside\n")
    with pytest.raises(SystemExit, match=rf"^README\.md: .*{re.escape(target)}.* project"):
        assembled(project, f"[a]({target})")


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    for name in set(vaelab.__all__) - {"__version__"}:
        module = getattr(vaelab, name).__module__
        assert {module, f"{module}.{name}"} & documented, f"{module}.{name} is on no page of docs/reference"
        assert f"`{name}`" in (ROOT / "docs/reference/index.md").read_text(encoding="utf-8"), name


def test_every_page_can_be_reached_from_the_menu() -> None:
    menu = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    pages = {
        site.destination_of(page) for page in [*(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.ipynb")]
    }
    assert pages - set(menu) == set(), "add them to the nav of mkdocs.yml"
    linked = (ROOT / "docs/reference/index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in linked, page.name


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    site.assemble()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    pages = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")]
    assert len(pages) > 15
    for text in pages:
        loads = re.findall(r"<(?:script|img|iframe|source|video|link)\b[^>]*?\b(?:src|href)=[\"']?([^\"' >]+)", text)
        assert len(loads) > 3
        assert not [load for load in loads if re.match(r"(https?:)?//", load)]
        assert 'class="mermaid"' not in text, "the theme would fetch mermaid from another host"
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet
    front = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'src="pictures/grid.png"' in front
    assert (tmp_path / "pictures" / "grid.png").exists()
    assert "normalised likelihood" in front
    reference = (tmp_path / "reference" / "estimators" / "index.html").read_text(encoding="utf-8")
    assert 'id="vaelab.estimators.estimator.VAE.fit_steps"' in reference
    summary = (inspect.getdoc(vaelab.VAE.fit_steps) or "").splitlines()[0].replace("`", "")
    words = html.unescape(re.sub(r"<[^>]+>", "", reference))
    assert summary in " ".join(words.split()), "the docstring is missing"
