"""The studio as one file: its contents, its security policy, and that float16 weights give the same images."""

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from vaelab.cli import main
from vaelab.errors import OutputError
from vaelab.inference.trained import load
from vaelab.studio import halved, single
from vaelab.studio.bundle import open_bundle
from vaelab.studio.halved import halved_if_alike
from vaelab.studio.single import export_page, page_of


class Elements(HTMLParser):
    """The script and style elements of a page with their attributes and text, and its security policy."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.open, self.policy = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self.open = tag
            self.found.append((tag, dict(attrs), ""))
        if tag == "meta":
            self.policy = dict(attrs)["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open:
            tag, attributes, text = self.found.pop()
            self.found.append((tag, attributes, text + data))


@pytest.fixture(scope="module")
def source(studio_run: Path) -> str:
    return str(studio_run.parent / "tiny.npz")


@pytest.fixture
def elements(studio_run: Path, source: str, stand_in: Path, tmp_path: Path) -> Elements:
    assert stand_in.is_dir()
    written = export_page(studio_run, tmp_path / "new" / "page.html", source=source)
    assert written.size == written.path.stat().st_size
    text = written.path.read_text(encoding="utf-8")
    assert "<img" not in text  # the name of a class
    return Elements(text)


def blocks_of(elements: Elements) -> dict[str, bytes]:
    packed = {attributes["data-name"]: text for _, attributes, text in elements.found if "data-name" in attributes}
    return {str(name): gzip.decompress(base64.b64decode(text)) for name, text in packed.items()}


def test_the_file_contains_everything(elements: Elements, studio_run: Path, source: str, stand_in: Path) -> None:
    blocks, bundle = blocks_of(elements), open_bundle(studio_run, source=source)
    assert sorted(blocks) == sorted([*bundle.files, "worker.js", "ort.wasm", "licences.txt"])
    for name in ("worker.js", "ort.wasm"):
        assert blocks[name] == (stand_in / name).read_bytes()
    manifest = json.loads(blocks["manifest.json"])
    assert manifest["classes"][0] == "<img src=x onerror=alert(1)>"
    # 30 points are few. The command has only the names of absolute paths.
    shared = {
        "evaluate": "vaelab evaluate run tiny.npz",
        "train": "vaelab train tiny.npz --model all --out run --resume",
    }
    assert manifest == bundle.manifest | shared
    assert blocks["cvae-points.bin"] == (bundle.folder / "cvae-points.bin").read_bytes()


def test_the_policy_allows_only_the_contents(elements: Elements) -> None:
    style, *_, script = elements.found
    digests = re.findall(r"'sha256-([^']+)'", elements.policy)
    texts = [script[2], style[2]]
    assert digests == [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    assert "connect-src 'none'" in elements.policy
    assert "unsafe-inline" not in elements.policy
    assert "'self'" not in elements.policy
    assert "http" not in elements.policy


def test_scripts_cannot_end_their_element(elements: Elements) -> None:
    """A string that contains the end of an element keeps its value and stays inside the element."""
    style, *_, script = elements.found
    assert script[2] == 'const text = "\\x3C/script>\\x3C!-- no comment";\nconst price = "\\1 $&";'
    assert style[2] == 'a::before { content: "<\\/style>"; }'
    with pytest.raises(AssertionError):
        page_of("<html></html>", "", "", {})


def test_points_and_images_are_reduced_together(
    studio_run: Path, source: str, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stand_in.is_dir()
    monkeypatch.setattr(single, "MOST_POINTS", 7)
    written = export_page(studio_run, tmp_path / "page.html", source=source)
    blocks = blocks_of(Elements(written.path.read_text(encoding="utf-8")))
    bundle = open_bundle(studio_run, source=source)
    for kind, model in json.loads(blocks["manifest.json"])["models"].items():
        points = model["points"]
        assert (points["count"], points["thumbs_count"]) == (7, 7)
        whole = (bundle.folder / points["file"]).read_bytes()
        columns = len(points["axes"]) + 2
        assert blocks[f"{kind}-points.bin"] == whole[: 7 * 2 * columns] + whole[30 * 2 * columns :][: 7 * 2]


def decoded(model: bytes) -> np.ndarray:
    z, labels = np.random.default_rng(0).standard_normal((9, 2)), np.eye(3)[np.arange(9) % 3]
    given = {"z": z.astype(np.float32), "labels": labels.astype(np.float32)}
    return np.asarray(onnxruntime.InferenceSession(model).run(["decoded"], given)[0])


def test_float16_weights_give_the_same_images(studio_run: Path, source: str) -> None:
    bundle, model = open_bundle(studio_run, source=source), load(studio_run)
    whole = [(bundle.folder / f"cvae-{part}.onnx").read_bytes() for part in ("encoder", "decoder")]
    encoder, decoder = halved_if_alike(model, *whole)
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(decoder).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds.values()
    assert len(encoder) < 0.75 * len(whole[0])  # small layers, which stay float32, are a large part
    assert 0 < np.abs(decoded(decoder) - decoded(whole[1])).max() <= halved.MOST_PIXEL


def test_weights_stay_float32_beyond_the_tolerance(
    studio_run: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, model = open_bundle(studio_run, source=source), load(studio_run)
    encoder, decoder = ((bundle.folder / f"cvae-{part}.onnx").read_bytes() for part in ("encoder", "decoder"))
    monkeypatch.setattr(halved, "MOST_LATENT", 1e-9)  # then only tensors of 65,536 elements would be converted: none
    assert [len(file) for file in halved_if_alike(model, encoder, decoder)] == [
        len(halved.halved(encoder, 10**9)),
        len(halved.halved(decoder)),
    ]
    monkeypatch.setattr(halved, "MOST_PIXEL", -1.0)
    assert halved_if_alike(model, encoder, decoder)[1] == decoder
    monkeypatch.setattr(halved, "MOST_PIXEL", 1e-9)
    assert np.array_equal(decoded(halved_if_alike(model, encoder, decoder)[1]), decoded(decoder))


def test_values_too_large_for_float16_stay_float32(tmp_path: Path) -> None:
    values = np.full(300, 1e6, np.float32)
    tensor = onnx.numpy_helper.from_array(values, "w")
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [300])
    node = onnx.helper.make_node("Identity", ["w"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [out], [tensor]))
    assert halved.halved(model.SerializeToString()) == model.SerializeToString()


def error_output(capsys: pytest.CaptureFixture[str], *arguments: object, status: int) -> list[str]:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == status
    return capsys.readouterr().err.splitlines()


def test_the_command_writes_the_file_and_prints_its_size(
    studio_run: Path, source: str, stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.HTML"
    (line,) = error_output(capsys, "export", studio_run, source, "--out", out, status=0)
    size = f"{out.stat().st_size / 1e6:.2f} MB"
    assert line.startswith(f"{out}: {size}")
    assert stand_in.is_dir()


def test_mistakes_are_one_line(
    studio_run: Path,
    stand_in: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "page.html"
    for words, parts in {
        ("--out", "page.htm"): ("--out", "page.htm", ".onnx", ".html"),
        ("--out", out, "--parts"): ("--parts", str(out), ".onnx"),
        ("--out", out, "--licence", "MIT"): ("--licence", str(out), ".onnx"),
        ("digits", "--out", "m.onnx"): ("'digits'", "m.onnx", "images"),
    }.items():
        (line,) = error_output(capsys, "export", studio_run, *words, status=2)
        assert line.startswith("vaelab: ")
        assert [part for part in parts if part not in line] == []
    (stand_in / "index.html").unlink()
    (line,) = error_output(capsys, "export", studio_run, "--out", out, status=2)
    assert line.startswith(f"vaelab: {stand_in}: index.html missing; ")
    (stand_in / "index.html").write_text("")
    monkeypatch.setattr("vaelab.studio.page.find_spec", lambda _: None)
    (line,) = error_output(capsys, "export", studio_run, "--out", out, status=2)
    assert line.endswith('pip install "vaelab[studio]"')
    with pytest.raises(OutputError, match=r"out.*page\.onnx.*\.html"):
        export_page(studio_run, "page.onnx")
    assert not out.exists()
