"""Lay out the site's source in `build/pages`: the README as its front page, `docs/`, and every file of ours that these link to.

Each page stays a file of the project whose links work where it lies; here they are rewritten to where it goes. A file that
is linked to and is neither Markdown nor a picture (an example, the licence) becomes a page that shows it.
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
"""Where the pages that lie outside `docs/` go; by their paths from the root."""

PICTURES = {".png", ".gif", ".webp", ".svg", ".jpg"}
LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "sh", ".ts": "ts"}
CODE = re.compile(r"(^(?P<fence>```+|~~~+).*?^(?P=fence)[ \t]*$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r'(?P<before>\]\(|\b(?:src|href)=")(?P<target>[^)#"\s]+)')


def assemble(target: Path = TARGET, root: Path = ROOT) -> list[str]:
    """Write all pages into `target`, emptied first; the paths of what was written, from there.

    Raises
    ------
    SystemExit
        If a page links to what is not in the project.
    """
    shutil.rmtree(target, ignore_errors=True)
    pages = [path for path in sorted((root / "docs").rglob("*.md")) if "overrides" not in path.parts]
    waiting = [root / name for name in FRONT if (root / name).exists()] + pages
    placed: dict[str, str] = {}
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix()
        if name in placed:
            continue
        placed[name] = place(path, root)
        destination = target / placed[name]
        destination.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in PICTURES:
            shutil.copyfile(path, destination)
        else:
            destination.write_text(relinked(shown(path, root), path, root, waiting.append), encoding="utf-8")
    return sorted(placed.values())


def place(path: Path, root: Path = ROOT) -> str:
    """Where a file or folder of the project stands in the site's source, as a path from its root."""
    name = path.relative_to(root).as_posix()
    if name in FRONT:
        return FRONT[name]
    if path.is_dir():
        return f"{name.removeprefix('docs/')}/index.md"
    name = name.removeprefix("docs/")
    return name if path.suffix in {".md", *PICTURES} else f"{name}.md"


def shown(path: Path, root: Path = ROOT) -> str:
    """A file as Markdown: itself, the cells of a notebook, the pages of a folder, or a listing."""
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
        return "\n\n".join([*cells, f"*This page is `{name}`, without what it prints and draws: run it to see.*\n"])
    return f"# {name}\n\n{fenced(text, LANGUAGES.get(path.suffix, 'text'))}\n"


def title(page: Path) -> str:
    """The first heading of a Markdown file."""
    return next(line[2:] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("# "))


def fenced(text: str, language: str) -> str:
    """A block of code; its fence is longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def relinked(text: str, path: Path, root: Path, found: Callable[[Path], None]) -> str:
    """Markdown with its links to files of the project rewritten, outside code; `found` is told of each file."""
    start = Path(place(path, root)).parent
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
        return match["before"] + Path(os.path.relpath(place(linked, root), start)).as_posix()

    parts = CODE.split(text)
    # CODE has two groups, so that text, code and fence follow one another.
    return "".join(
        LINK.sub(rewritten, part) if index % 3 == 0 else part for index, part in enumerate(parts) if index % 3 < 2
    )


if __name__ == "__main__":
    print(f"{len(assemble())} files in {TARGET.relative_to(ROOT)}", file=sys.stderr)
