"""The cache of the studio in a run folder of a stranger: nothing of it is believed, embedded or served."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import httpx
import pytest

from vaelab import runs, seal
from vaelab.evaluation.report import _read_cache, _write_cache
from vaelab.evaluation.results import Section
from vaelab.studio import bundle as bundles
from vaelab.studio.bundle import Bundle, open_bundle
from vaelab.studio.following import Following
from vaelab.studio.server import Site, studio_app
from vaelab.studio.single import export_page

SECRET = "a secret of the user"


@pytest.fixture
def run(studio_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a bundle that this user has made, beside a file that nobody should get. ONNX files are stand-ins."""

    def written(folder: Path, out: Path, *, parts: bool, trust_code: bool) -> None:
        assert parts
        assert not trust_code
        for part in ("encoder", "decoder"):
            out.with_stem(f"{out.stem}-{part}").write_bytes(folder.name.encode())

    monkeypatch.setattr(bundles, "export_onnx", written)
    monkeypatch.setattr("vaelab.studio.single.halved_if_alike", lambda _, *files: files)
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "cache"))
    shutil.copytree(studio_run, tmp_path / "run", ignore=shutil.ignore_patterns("ae", "vae", "studio", "figures"))
    shutil.copy(studio_run.parent / "tiny.npz", tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("secret.txt").write_text(SECRET)
    open_bundle(Path("run"))
    return Path("run")


def record_of(run: Path) -> dict[str, object]:
    content = (run / "studio" / bundles.KEY).read_bytes()
    return json.loads(content.partition(b"\n")[2])


def served(bundle: Bundle, run: Path, path: str) -> bytes:
    opened = runs.open_run(run)
    app = studio_app(Site(opened, bundle, Following(opened, lambda: None)), ["testserver"])

    async def asked() -> bytes:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return (await client.get(path)).content

    return asyncio.run(asked())


def test_the_cache_is_used_by_the_user_who_made_it(run: Path) -> None:
    assert not open_bundle(run).fresh


@pytest.mark.parametrize(
    "name", ["../../secret.txt", "../config.json", "evil.js", "{secret}", "first.png/../../../secret.txt"]
)
@pytest.mark.parametrize("signed", [False, True])
def test_a_forged_record_is_made_again(
    run: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch, name: str, signed: bool
) -> None:
    """Also if the names were signed, they are not among those that are allowed."""
    assert stand_in.is_dir()
    name = name.format(secret=Path("secret.txt").resolve())
    record = record_of(run)
    (run / "studio" / "evil.js").write_text(SECRET)
    digests = record["digests"]
    assert isinstance(digests, dict)
    digests[name] = bundles._sha256(SECRET.encode())
    content = json.dumps(record).encode()
    key = run / "studio" / bundles.KEY
    if signed:
        key.write_bytes(seal.sealed(content))
    else:  # with the secret of the stranger
        with monkeypatch.context() as patch:
            patch.setenv("VAELAB_CACHE_DIR", str(run.parent.resolve() / "theirs"))
            key.write_bytes(seal.sealed(content))
    bundle = open_bundle(run)
    assert bundle.fresh
    assert name not in bundle.files
    assert bundle.read(name) is None
    assert SECRET.encode() not in served(bundle, run, f"/bundle/{name}")
    page = export_page(run, "page.html").path.read_text(encoding="utf-8")
    assert SECRET not in page
    assert name not in page


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links: run it on Linux or macOS")
@pytest.mark.parametrize("name", ["first.png", "cvae-decoder.onnx", bundles.KEY])
def test_a_link_is_not_followed(run: Path, name: str) -> None:
    """Not even to the same content: the file could change after it was checked."""
    path = run / "studio" / name
    path.rename("kept")
    path.symlink_to(Path("kept").resolve())
    bundle = open_bundle(run)
    assert bundle.fresh
    assert not path.is_symlink()
    Path("kept").write_text(SECRET)
    assert not open_bundle(run).fresh


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links: run it on Linux or macOS")
def test_a_folder_that_is_a_link_is_replaced_and_what_it_leads_to_is_left(run: Path) -> None:
    (run / "studio").rename("kept")
    (run / "studio").symlink_to(Path("kept").resolve())
    before = sorted(path.name for path in Path("kept").iterdir())
    assert open_bundle(run).fresh
    assert not (run / "studio").is_symlink()
    assert sorted(path.name for path in Path("kept").iterdir()) == before


@pytest.mark.parametrize("change", ["cut", "one bit", "empty", "gone"])
@pytest.mark.parametrize("name", ["cvae-decoder.onnx", "cvae-points.bin", "first.png", bundles.KEY])
def test_a_damaged_file_is_made_again(run: Path, name: str, change: str) -> None:
    path, first = run / "studio" / name, open_bundle(run)
    content = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"cut": content[:-1], "one bit": content[:-1] + bytes([content[-1] ^ 1]), "empty": b""}[change]
        )
    again = open_bundle(run)
    assert again.fresh
    assert {file: again.read(file) for file in again.files} == {file: first.read(file) for file in again.files}


def test_a_file_that_changes_while_it_is_served_is_not_there(run: Path, stand_in: Path) -> None:
    assert stand_in.is_dir()
    bundle = open_bundle(run)
    assert served(bundle, run, "/bundle/first.png").startswith(b"\x89PNG")
    (run / "studio" / "first.png").write_text(SECRET)
    assert bundle.read("first.png") is None
    assert SECRET.encode() not in served(bundle, run, "/bundle/first.png")


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links: run it on Linux or macOS")
@pytest.mark.parametrize("what", ["link", "text", "pipe", "folder"])
def test_a_report_that_is_none_is_left_out_with_a_note(run: Path, stand_in: Path, what: str) -> None:
    assert stand_in.is_dir()
    Path("secret.json").write_text(json.dumps({"secret": SECRET}))
    report = run / "report.json"
    if what == "link":
        report.symlink_to(Path("secret.json").resolve())
    elif what == "text":
        report.write_text(SECRET)
    else:
        os.mkfifo(report) if what == "pipe" else report.mkdir()
    bundle = open_bundle(run)
    assert bundle.manifest["report"] is None
    assert any("Left out run/report.json" in note for note in bundle.notes)
    assert SECRET.encode() not in served(bundle, run, "/bundle/report.json")
    assert SECRET not in export_page(run, "page.html").path.read_text(encoding="utf-8")


def test_the_secret_is_read_by_the_user_only_and_made_again_if_it_is_not(run: Path) -> None:
    path = Path("cache") / seal.SECRET
    assert path.stat().st_mode & 0o777 == 0o600
    assert not open_bundle(run).fresh
    path.write_bytes(b"known")
    assert open_bundle(run).fresh
    if os.name != "nt":
        path.chmod(0o666)
        assert open_bundle(run).fresh
        assert path.stat().st_mode & 0o777 == 0o600


def test_without_a_cache_folder_a_bundle_is_believed_as_long_as_the_program_runs(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in-the-way").write_text("")
    monkeypatch.setenv("VAELAB_CACHE_DIR", "in-the-way")
    assert [open_bundle(run).fresh for _ in range(2)] == [True, False]
    monkeypatch.setattr(seal, "_temporary", b"another program")
    assert open_bundle(run).fresh


def test_a_section_of_a_report_that_somebody_else_has_measured_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "mine"))
    path, section = tmp_path / "likelihood.section", Section("likelihood", "Likelihood", ("measured",))
    _write_cache(path, section, "stamp")
    assert _read_cache(path, "stamp") == section
    assert _read_cache(path, "another") is None
    with monkeypatch.context() as patch:
        patch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "theirs"))
        assert _read_cache(path, "stamp") is None
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        assert _read_cache(path, "stamp") is None
