"""How the project is built and released: the page's build script, the metadata of a citation, and the workflows."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from vaelab.version import __version__

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture
def script() -> ModuleType:
    """The module hatch_build.py, loaded anew."""
    spec = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def studio(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for a project in `tmp_path` whose npm writes what it is called with to `calls` and builds a page."""
    source, page = tmp_path / "studio", tmp_path / "dist"
    (source / "src").mkdir(parents=True)
    (source / "package-lock.json").write_text("{}")
    (source / "src" / "main.ts").write_text("1")

    def npm(*words: str, **_: Any) -> SimpleNamespace:
        with (tmp_path / "calls").open("a") as calls:
            print(*words[:1], *words[-1:] if words[0] == "run" else (), file=calls)
        if words[0] == "ci":
            (source / "node_modules").mkdir(exist_ok=True)
            (source / "node_modules" / ".package-lock.json").write_text("{}")
        elif words[-1] == "build":
            page.mkdir(exist_ok=True)
            (page / "index.html").write_text("page")
        return SimpleNamespace(returncode=0, stderr="")

    for name, value in {"ROOT": tmp_path, "SOURCE": source, "PAGE": page, "npm": npm}.items():
        monkeypatch.setattr(script, name, value)
    return script


def calls(tmp_path: Path) -> list[str]:
    """What npm was called with since the last call of this."""
    path = tmp_path / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def hook(script: ModuleType) -> Any:
    """The build hook, whose application writes to a list of lines and exits as hatchling's does."""
    shown: list[str] = []
    kind = script.get_build_hook()

    def abort(line: str) -> None:
        shown.append(line)
        sys.exit(1)

    kind.app = SimpleNamespace(abort=abort, display_warning=shown.append, shown=shown)
    return object.__new__(kind)


def test_the_page_is_built_once_for_each_state_of_its_source(studio: ModuleType, tmp_path: Path) -> None:
    studio.build()
    assert calls(tmp_path) == ["ci", "run build"]
    (tmp_path / "studio" / "src" / ".main.ts.swp").write_text("an editor's")
    studio.build()
    assert calls(tmp_path) == []
    (tmp_path / "studio" / "src" / "main.ts").write_text("2")
    assert not studio.is_current()
    studio.build()
    assert calls(tmp_path) == ["run build"]
    (tmp_path / "studio" / "src" / "main.ts").rename(tmp_path / "studio" / "src" / "other.ts")
    assert not studio.is_current()


def test_a_new_lock_file_installs_packages_again(studio: ModuleType, tmp_path: Path) -> None:
    studio.build()
    lock = tmp_path / "studio" / "package-lock.json"
    lock.write_text('{"changed": 1}')
    later = (tmp_path / "studio" / "node_modules" / ".package-lock.json").stat().st_mtime + 10
    os.utime(lock, (later, later))
    calls(tmp_path)
    studio.main(["check", "test"])
    assert calls(tmp_path) == ["ci", "run check", "run test"]


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("v18.19.0", False),
        ("v20.18.3", False),
        ("v20.19.0", True),
        ("v21.7.3", False),
        ("v22.11.0", False),
        ("v22.12.0", True),
        ("v26.1.0", True),
        ("", False),
    ],
)
def test_the_systems_node_is_used_if_vite_supports_it(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, version: str, fits: bool
) -> None:
    monkeypatch.setattr(script.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(script.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=f"{version}\n"))
    assert script.system_npm() == ("/bin/npm" if fits else None)
    monkeypatch.setattr(script, "is_current", lambda: False)
    assert script.requires() == ([] if fits else [script.NODE])
    monkeypatch.setattr(script, "is_current", lambda: True)
    assert script.requires() == []
    monkeypatch.setattr(script.shutil, "which", lambda name: None if name == "npm" else f"/bin/{name}")
    assert script.system_npm() is None


def test_without_node_there_is_one_line(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "system_npm", lambda: None)
    monkeypatch.setattr(script, "is_current", lambda: False)
    monkeypatch.setattr(script, "find_spec", lambda name: None)
    monkeypatch.setattr(script, "install_modules", lambda: script.npm("ci"))
    with pytest.raises(SystemExit) as ended:
        script.main([])
    line = str(ended.value)
    assert "Node 20.19" in line
    assert f'pip install "{script.NODE}"' in line
    assert "\n" not in line
    script.main(["--requires"])
    assert capsys.readouterr().out == f"{script.NODE}\n"


NPM_ERRORS = """npm error code ENOTFOUND
npm error syscall getaddrinfo
npm error errno ENOTFOUND
npm error network request to https://registry.invalid/vite failed, reason: getaddrinfo ENOTFOUND registry.invalid
npm error network This is a problem related to network connectivity.
"""


def test_a_wheel_is_refused_without_the_registry_and_an_editable_install_goes_on(
    studio: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hatchling")
    monkeypatch.setattr(studio, "npm", lambda *_, **__: SimpleNamespace(returncode=1, stderr=NPM_ERRORS))
    made = hook(studio)
    with pytest.raises(SystemExit):
        made.initialize("standard", {})
    made.initialize("editable", {})
    stopped, skipped = made.app.shown
    assert "reason: getaddrinfo ENOTFOUND registry.invalid" in stopped
    assert "npm registry" in stopped
    assert "\n" not in stopped
    assert skipped == f"skipped: {stopped}"


def test_a_failed_build_is_not_taken_for_a_page(studio: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    studio.build()
    (studio.SOURCE / "src" / "main.ts").write_text("a mistake")
    monkeypatch.setattr(studio, "npm", lambda *_, **__: SimpleNamespace(returncode=1, stderr=""))
    with pytest.raises(studio.PageError, match="npm run build failed"):
        studio.build()
    assert not studio.is_current()


def test_the_citation_agrees_with_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "version", "license", "type"} <= set(citation)
    assert citation["version"] == __version__
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (author,) = citation["authors"]
    assert f'authors = [{{ name = "{author["name"]}" }}]' in project
    assert f'license = "{citation["license"]}"' in project


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked() -> list[Requirement]:
    """The requirements of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_pytorch_is_bounded_for_development_alone() -> None:
    (torch,) = (Requirement(text) for text in PROJECT["project"]["dependencies"] if text.startswith("torch>"))
    assert [one.operator for one in torch.specifier] == [">="]
    assert [text.rstrip("0123456789.") for text in PROJECT["tool"]["uv"]["constraint-dependencies"]] == ["torch<"]


def test_every_package_is_locked_to_one_version_per_environment() -> None:
    for one in locked():
        (pin,) = one.specifier
        assert pin.operator == "==", one
    for version in ("3.11.9", "3.12.9", "3.13.5"):
        for system, machine in (("linux", "x86_64"), ("darwin", "arm64")):
            place = {"python_full_version": version, "python_version": version[:4], "sys_platform": system}
            place["platform_machine"] = machine
            pins = [one.name for one in locked() if one.marker is None or one.marker.evaluate(place)]
            assert len(pins) == len(set(pins))


def test_the_locked_versions_are_those_that_the_project_asks_for() -> None:
    """If not: make lock."""
    project = PROJECT["project"]
    asked = [*project["dependencies"], *PROJECT["build-system"]["requires"], *PROJECT["tool"]["uv"].popitem()[1]]
    for texts in project["optional-dependencies"].values():
        asked += texts
    pins = {one.name: next(iter(one.specifier)).version for one in locked()}
    for wanted in map(Requirement, asked):
        if wanted.name != "vaelab":
            assert wanted.specifier.contains(pins[wanted.name]), wanted


def test_make_installs_locked_versions_only() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    uses = [line for line in text.splitlines() if re.search(r"\bpip\b.* install|\(PIP\) install|-m build", line)]
    assert len(uses) == 6
    unlocked = [line for line in uses if "$(PIP)" not in line and "$(LOCKED)" not in line]
    tools = (
        " install uv",
        "pip-audit; }",
        " install trackio==0.43.0",
    )  # of lock and audit, and an environment of its own
    assert all(line.endswith(tools) for line in unlocked), unlocked
    assert "PIP := $(LOCKED) " in text


def test_npm_packages_are_locked_with_their_digests() -> None:
    packages = json.loads((ROOT / "studio" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    del packages[""]  # the page itself
    assert all("integrity" in one for one in packages.values() if "resolved" in one)


def test_an_audit_has_the_status_of_npm(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def npm(*words: str) -> SimpleNamespace:
        asked.append(words)
        return SimpleNamespace(returncode=len(asked) - 1)

    monkeypatch.setattr(script, "npm", npm)
    for status in (0, 1):
        with pytest.raises(SystemExit) as ended:
            script.main(["--audit"])
        assert ended.value.code == status
    assert asked == [("audit", "--package-lock-only")] * 2


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_use_targets_of_the_makefile_and_major_versions(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert workflow[True]  # `on`, which is a boolean in YAML 1.1
    assert workflow["permissions"] == {"contents": "read"}
    commands = []
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        assert set(job.get("needs", [])) <= set(workflow["jobs"])
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w./-]+@(release/)?v\d+", step["uses"])
            else:
                commands.append(step["run"])
    made = [command.split() for command in commands if command.startswith("make ")]
    assert made
    for _, target, *values in made:
        assert target in targets
        for value in values:
            assert (ROOT / value.removeprefix("FILES=")).is_file()


def test_there_is_a_workflow_for_tests_wheel_and_documentation() -> None:
    assert [path.stem for path in WORKFLOWS] == ["docs", "tests", "wheel"]
    versions = re.findall(r'python: "([\d.]+)"', (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    assert {"3.11", "3.13"} <= set(versions)


def test_the_command_runs_without_hatchling() -> None:
    command = [sys.executable, "-S", str(ROOT / "hatch_build.py"), "--requires"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
