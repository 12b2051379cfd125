"""Collect the source of the website in `build/pages`: the README as front page, `docs/`, and every project file they link to.

Links in the pages are relative to their files in the project; they are rewritten for the layout of the website. A linked file
that is neither Markdown nor a picture (an example, the licence) becomes a page with its listing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "build" / "pages"
FRONT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "benchmarks/RESULTS.md": "measurements.md",
}
"""Destination of the pages outside `docs/`, by path from the root."""

PICTURES = {".png", ".gif", ".webp", ".svg", ".jpg"}
LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "sh", ".ts": "ts"}
CODE = re.compile(r"(^(?P<fence>```+|~~~+).*?^(?P=fence)[ \t]*$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r'(?P<before>\]\(|\b(?:src|href)=")(?P<target>[^)#"\s]+)')


def assemble(target: Path = TARGET, root: Path = ROOT) -> list[str]:
    """Write all pages to `target`, which is emptied first, and return their paths relative to it.

    Raises
    ------
    SystemExit
        If a page links to a file that is not in the project.
    """
    shutil.rmtree(target, ignore_errors=True)
    pages = [path for path in sorted((root / "docs").rglob("*.md")) if "overrides" not in path.parts]
    queue = [root / name for name in FRONT if (root / name).exists()] + pages
    written: dict[str, str] = {}
    while queue:
        path = queue.pop()
        name = path.relative_to(root).as_posix()
        if name in written:
            continue
        written[name] = destination_of(path, root)
        destination = target / written[name]
        destination.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in PICTURES:
            shutil.copyfile(path, destination)
        else:
            destination.write_text(
                with_links_rewritten(as_markdown(path, root), path, root, queue.append), encoding="utf-8"
            )
    return sorted(written.values())


def destination_of(path: Path, root: Path = ROOT) -> str:
    """Return the path of a file or folder of the project in the source of the website."""
    name = path.relative_to(root).as_posix()
    if name in FRONT:
        return FRONT[name]
    if path.is_dir():
        return f"{name.removeprefix('docs/')}/index.md"
    name = name.removeprefix("docs/")
    return name if path.suffix in {".md", *PICTURES} else f"{name}.md"


def as_markdown(path: Path, root: Path = ROOT) -> str:
    """Return a file as Markdown: its text, the cells of a notebook, a list of the pages in a folder, or a listing."""
    name = path.relative_to(root).as_posix()
    if path.is_dir():
        return f"# {path.name.capitalize()}\n\n" + "".join(
            f"- [{title(page)}]({page.name})\n" for page in sorted(path.glob("*.md"))
        )
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    if path.suffix == ".ipynb":
        cells = [
            "".join(cell["source"]) if cell["cell_type"] == "markdown" else fenced("".join(cell["source"]), "python")
            for cell in json.loads(text)["cells"]
        ]
        return "\n\n".join([*cells, f"*This page shows `{name}` without its output; run the notebook to see it.*\n"])
    return f"# {name}\n\n{fenced(text, LANGUAGES.get(path.suffix, 'text'))}\n"


def title(page: Path) -> str:
    """Return the first heading of a Markdown file."""
    return next(line[2:] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("# "))


def fenced(text: str, language: str) -> str:
    """Return `text` as a code block, with a fence longer than any fence in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def with_links_rewritten(text: str, path: Path, root: Path, found: Callable[[Path], None]) -> str:
    """Rewrite the links to project files outside code, and call `found` with each linked file."""
    start = Path(destination_of(path, root)).parent
    folder = path if path.is_dir() else path.parent

    def rewritten(match: re.Match[str]) -> str:
        target = match["target"]
        if re.match(r"[a-z]+:", target):
            return match[0]
        linked = (folder / target).resolve()
        if not linked.exists() or not linked.is_relative_to(root.resolve()):
            raise SystemExit(f"{path.relative_to(root)}: got a link to {target}; expected a file of the project")
        linked = root / linked.relative_to(root.resolve())
        found(linked)
        return match["before"] + Path(os.path.relpath(destination_of(linked, root), start)).as_posix()

    parts = CODE.split(text)
    # CODE has two groups, so `split` returns text, code and fence in turn.
    return "".join(
        LINK.sub(rewritten, part) if index % 3 == 0 else part for index, part in enumerate(parts) if index % 3 < 2
    )


if __name__ == "__main__":
    print(f"{len(assemble())} files in {TARGET.relative_to(ROOT)}", file=sys.stderr)
