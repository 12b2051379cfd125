"""ONNX: a file does what the model does, says what it is, and appears whole, compared, or not at all."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import draw_tiny, flat, generator
from torch import Tensor, nn

import vaelab
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.errors import ExportError, OutputError, RunError
from vaelab.inference import onnx as export
from vaelab.inference.onnx import OPSET, export_onnx
from vaelab.inference.onnx_graphs import WHOLE
from vaelab.inference.trained import TrainedModel
from vaelab.models.likelihoods import LIKELIHOODS
from vaelab.models.networks import with_labels
from vaelab.runs import open_run
from vaelab.training.fit import fit

OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1


class _Body(nn.Module):
    """What the decoders of one's own here share: one layer, and a `finish`."""

    def __init__(self, *, shape: tuple[int, ...], planes: int, latent_dim: int, classes: int) -> None:
        super().__init__()
        self.shape = (planes, *shape)
        self.output = nn.Linear(latent_dim + classes, torch.Size(self.shape).numel())

    def forward(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        return self.finish(self.output(with_labels(latent, labels))).unflatten(1, self.shape)

    def finish(self, values: Tensor) -> Tensor:
        return values


class Own(_Body):
    """Its steps are called what our outputs are called."""

    def finish(self, values: Tensor) -> Tensor:
        mean = values.mean(1, keepdim=True)
        return values - mean


class Counting(_Body):
    def finish(self, values: Tensor) -> Tensor:
        return values.view(len(values), -1)


class Choosing(_Body):
    def finish(self, values: Tensor) -> Tensor:
        return values if values.sum() > 0 else 2 * values


class Unknown(_Body):
    def finish(self, values: Tensor) -> Tensor:
        return values + torch.linalg.slogdet(values[:, None, :2] * torch.eye(2)).logabsdet[:, None] * 0


@dataclass(frozen=True)
class Case:
    """A run, and its file."""

    run: Path
    file: Path
    exported: export.Exported
    trained: TrainedModel


def inputs(trained_model: TrainedModel, encoded: int, decoded: int) -> dict[str, Tensor]:
    """Images of the model's own, latents, and weights of the labels between them."""
    model, source = trained_model.model, generator(3)
    labels = [torch.softmax(3 * torch.randn(n, model.classes, generator=source), 1) for n in (encoded, decoded)]
    image_labels = labels[0] if model.classes else None
    images = model.decode(torch.randn(encoded, model.latent_dim, generator=source), image_labels).sample(source)
    given = {"images": images.detach(), "z": torch.randn(decoded, model.latent_dim, generator=source)}
    return given | ({"image_labels": labels[0], "labels": labels[1]} if model.classes else {})


def colour(count: int, seed: int) -> Split:
    """The tiny images as 9×10 in RGB."""
    drawn = draw_tiny(count, seed)
    padded = np.pad(drawn.images, ((0, 0), (0, 0), (1, 0), (1, 1)))
    return Split(np.concatenate([padded, padded // 2, 255 - padded], axis=1), drawn.labels)


def table(count: int, seed: int) -> Split:
    """Rows of three columns of very different units, and labels."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(count, 1))
    rows = np.concatenate([1e4 + 50 * common, 1e-3 * common, rng.normal(size=(count, 1))], axis=1)
    return Split(rows.astype(np.float32), rng.integers(0, 3, count))


DRAWN = {"tiny": draw_tiny, "colour": colour, "table": table}
ROWS = {
    "ae mlp bernoulli": ("tiny", {"model": "ae", "network": "mlp", "likelihood": "bernoulli"}),
    "cvae conv bernoulli": ("tiny", {"model": "cvae", "network": "conv", "likelihood": "bernoulli"}),
    "cvae mlp continuous-bernoulli": (
        "tiny",
        {"model": "cvae", "network": "mlp", "likelihood": "continuous-bernoulli"},
    ),
    "vae conv logistic": ("colour", {"model": "vae", "network": "conv", "likelihood": "logistic"}),
    "vae mlp colour-logistic": ("colour", {"model": "vae", "network": "mlp", "likelihood": "colour-logistic"}),
    "cvae pca colour-logistic": (
        "colour",
        {"model": "cvae", "network": "pca", "likelihood": "colour-logistic", "latent_dim": 12},
    ),
    "cvae two-colour": (
        "colour",
        {"model": "cvae", "network": "two-colour", "likelihood": "two-colour", "latent_dim": 9},
    ),
    "vae mlp gaussian": ("table", {"model": "vae", "network": "mlp", "likelihood": "gaussian"}),
    "vae ladder of two grids": (
        "tiny",
        {
            "model": "vae",
            "network": "ladder",
            "levels": "2,1@4,1@2",
            "spatial_mixing": "conv",
            "depth": 1,
            "latent_dim": None,
        },
    ),
    "cvae ladder bernoulli": (
        "tiny",
        {"model": "cvae", "network": "ladder", "levels": "2,1", "patch": 4, "depth": 1, "latent_dim": None},
    ),
    "cvae own gaussian": (
        "table",
        {"model": "cvae", "network": "mlp", "likelihood": "gaussian", "decoder": f"{__name__}:Own"},
    ),
}


def trained(folder: Path, source: str, **model: Any) -> Path:
    """A run of a few passes over few images."""
    draw = DRAWN[source]
    dataset = Dataset(source, draw(60, 0), draw(30, 1), draw(6, 2), classes=("across", "down", "5 × “frame”"))
    model = {"latent_dim": 2, "width": 8, "depth": 2} | model
    config = Config(ModelConfig(**model), TrainConfig(epochs=10, batch_size=16))
    for _ in fit(config, dataset, out=folder):
        pass
    return folder


@pytest.fixture(scope="module", params=list(ROWS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("export")
    source, model = ROWS[request.param]
    run, file = trained(folder / "run", source, **model), folder / "files" / "model.onnx"
    (exported,) = export_onnx(run, file, trust_code=True)
    return Case(run, file, exported, vaelab.load(run, trust_code=True))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional model."""
    return trained(tmp_path_factory.mktemp("export") / "run", "tiny", model="cvae", network="mlp")


@pytest.fixture(scope="module")
def files(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """That run as one file, and as two, by the names of the parts."""
    folder = tmp_path_factory.mktemp("files")
    (whole,) = export_onnx(run, folder / "model.onnx")
    model = replace(vaelab.load(run), axes=None)
    encoder, decoder = export_onnx(model, folder / "model.onnx", parts=True, licence="CC0-1.0")
    return {"whole": whole.path, "encoder": encoder.path, "decoder": decoder.path}


@pytest.fixture
def spoil(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[onnx.ModelProto], None]], None]:
    """Has those files written again, each spoilt by a function."""

    def by(change: Callable[[onnx.ModelProto], None]) -> None:
        def written(_: object, part: Any, __: object) -> onnx.ModelProto:
            proto = onnx.load(files[part.name])
            del proto.metadata_props[:]
            change(proto)
            return proto

        monkeypatch.setattr(export, "_as_onnx", written)

    return by


def move_bias(by: float) -> Callable[[onnx.ModelProto], None]:
    """Moves the bias of the decoder's last layer, where there is one."""

    def change(proto: onnx.ModelProto) -> None:
        for tensor in proto.graph.initializer:
            if tensor.name.endswith("decoder.output.bias"):
                moved = onnx.numpy_helper.to_array(tensor) + np.float32(by)
                tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))

    return change


def session_of(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, OPTIONS, providers=["CPUExecutionProvider"])


def results_of(file: Path, given: dict[str, Tensor]) -> dict[str, np.ndarray]:
    session = session_of(file)
    names = [output.name for output in session.get_outputs()]
    inputs = {each.name: given[each.name].numpy() for each in session.get_inputs()}
    return dict(zip(names, map(np.asarray, session.run(names, inputs)), strict=True))


def metadata_of(file: Path) -> dict[str, str]:
    return session_of(file).get_modelmeta().custom_metadata_map


def with_own(trained_model: TrainedModel, decoder: type[_Body]) -> TrainedModel:
    """The model with another decoder, of a Bernoulli's one plane, under a likelihood of one plane."""
    model = trained_model.model
    body = decoder(shape=model.shape, planes=1, latent_dim=model.latent_dim, classes=model.classes)
    flat(model).decoder = body
    return trained_model


@pytest.mark.parametrize(("encoded", "decoded"), [(1, 1), (5, 3), (40, 70)])
def test_the_file_does_what_the_model_does(case: Case, encoded: int, decoded: int) -> None:
    given, model = inputs(case.trained, encoded, decoded), case.trained.model
    got = results_of(case.file, given)
    with torch.no_grad():
        posterior = model.posterior(given["images"], given.get("image_labels"))
        likelihood = model.decode(given["z"], given.get("labels"))
    assert np.abs((got["decoded"] - likelihood.mean().numpy()) / model.scale.numpy()).max() < 1e-4
    assert np.allclose(got["mean"], posterior.mean.numpy(), atol=1e-4)
    assert np.allclose(got["log_variance"], posterior.log_variance.numpy(), atol=1e-4)
    assert np.isneginf(got["log_variance"]).all() == (case.trained.kind == "ae")
    assert got["parameters"].shape == (decoded, len(type(likelihood).parameter_names), *model.shape)


def test_it_draws_the_images_that_python_draws(case: Case) -> None:
    z = case.trained.latents(6, seed=1)
    labels = np.arange(6) % 3 if case.trained.conditional else None
    expected = case.trained.decode(z, labels)
    given = inputs(case.trained, 1, 6) | {"z": torch.from_numpy(z)}
    if labels is not None:
        given["labels"] = torch.eye(3)[torch.from_numpy(labels)]
    decoded = results_of(case.file, given)["decoded"]
    if decoded.ndim == 2:
        assert np.allclose(decoded, expected, rtol=1e-4)
        return
    levels = np.rint(255 * decoded).astype(int).transpose(0, 2, 3, 1).reshape(expected.shape)
    assert np.abs(levels - expected).max() <= 1
    assert len(np.unique(expected)) > 2


def test_the_direction_that_is_not_wanted_may_be_empty(case: Case) -> None:
    given = inputs(case.trained, 4, 4)
    both = results_of(case.file, given)
    for left_out, wanted in ((("z", "labels"), ("mean", "log_variance")), (("images", "image_labels"), ("decoded",))):
        for rows in (0, 1):
            blank = {name: torch.zeros(rows, *given[name].shape[1:]) for name in left_out if name in given}
            got = results_of(case.file, given | blank)
            assert all(np.array_equal(got[name], both[name]) for name in wanted)


def nats(likelihood: str, parameters: np.ndarray, x: np.ndarray, *, summed: bool = True) -> np.ndarray:
    """−log p(x|z) from a file's `parameters`, as `docs/export.md` has it."""
    if likelihood == "two-colour":
        weights, first, second, scales = (parameters[:, plane] for plane in range(4))
        with np.errstate(divide="ignore"):  # a component that is too far has a probability of 0
            channels = [
                nats("logistic", np.stack([centre, np.repeat(scales[:, k, None], 3, 1)], 1), x, summed=False)
                for k, centre in enumerate((first, second, (first + second) / 2))
            ]
        each = [weights[:, k] - of_channels.sum(1) for k, of_channels in enumerate(channels)]
        return -np.logaddexp.reduce(each).reshape(len(x), -1).sum(1)
    first, second = (
        parameters[:, 0].astype(np.float64),
        parameters[:, min(1, parameters.shape[1] - 1)].astype(np.float64),
    )
    if likelihood == "colour-logistic":
        coupling, red, green = parameters[:, 2], x[:, 0] - first[:, 0], x[:, 1] - first[:, 1]
        first[:, 1] += coupling[:, 0] * red
        first[:, 2] += coupling[:, 1] * red + coupling[:, 2] * green
    if likelihood == "bernoulli":
        values = np.logaddexp(0, first) - x * first
    elif likelihood == "continuous-bernoulli":
        half = np.abs(first) / 2
        values = np.log(np.sinh(half) / half) - first * (x - 0.5)
    elif likelihood == "gaussian":
        values = 0.5 * ((x - first) ** 2 / np.exp(second) + second + np.log(2 * np.pi))
    else:

        def below(value: np.ndarray) -> np.ndarray:
            return 1 / (1 + np.exp(-(value - first) / np.exp(second)))

        upper = np.where(x > 1 - 0.5 / 255, 1, below(x + 0.5 / 255))
        values = -np.log(upper - np.where(x < 0.5 / 255, 0, below(x - 0.5 / 255)))
    return values.reshape(len(values), -1).sum(1) if summed else values


def test_nats_can_be_computed_from_the_parameters(case: Case) -> None:
    given = inputs(case.trained, 8, 8)
    parameters = results_of(case.file, given)["parameters"]
    with torch.no_grad():
        expected = -case.trained.model.decode(given["z"], given.get("labels")).log_prob(given["images"]).numpy()
    got = nats(case.trained.likelihood, parameters, given["images"].numpy().astype(np.float64))
    assert np.allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_one_whole_file_of_a_stated_opset(case: Case) -> None:
    assert list(case.file.parent.iterdir()) == [case.file]
    assert case.exported.path == case.file
    assert case.exported.size == case.file.stat().st_size
    assert list(case.exported.differences) == ["mean", "log_variance", "decoded", "parameters"]
    assert 0 < case.exported.differences["decoded"] < 1e-4
    proto = onnx.load(case.file)
    onnx.checker.check_model(proto, full_check=True)
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", OPSET)]
    assert not [tensor.name for tensor in proto.graph.initializer if tensor.external_data]
    first = {value.name: value.type.tensor_type.shape.dim[0].dim_param for value in proto.graph.input}
    labels = {"image_labels": "encoded", "labels": "decoded"} if case.trained.conditional else {}
    assert first == {"images": "encoded", "z": "decoded"} | labels
    assert all(value.doc_string for value in (*proto.graph.input, *proto.graph.output))


def test_it_says_what_it_is_and_nothing_of_the_machine(case: Case) -> None:
    facts, data = metadata_of(case.file), open_run(case.run).data
    assert facts["vaelab"] == vaelab.__version__
    assert facts["format"] == "1"
    assert facts["part"] == "whole"
    assert (facts["model"], facts["likelihood"]) == (case.trained.kind, case.trained.likelihood)
    assert json.loads(facts["parameters"]) == list(LIKELIHOODS[case.trained.likelihood].parameter_names)
    assert tuple(json.loads(facts["shape"])) == case.trained.model.shape
    assert json.loads(facts["classes"]) == ["across", "down", "5 × “frame”"]
    assert json.loads(facts["latent_dim"]) == case.trained.model.latent_dim
    assert case.trained.axes is not None
    assert json.loads(facts["axes"]) == {
        name: list(getattr(case.trained.axes, name)) for name in ("rate", "mean", "deviation")
    }
    source = {"source": data.source, "fingerprint": data.fingerprint, "train_count": 60}
    assert json.loads(facts["data"]) == source
    assert "MIT" in facts["licence"]
    content = case.file.read_bytes()
    for trace in (
        b".py",
        str(Path(__file__).parent).encode(),
        str(case.run).encode(),
        str(Path.home()).encode() + b"/",
    ):
        assert trace not in content


def test_the_same_model_is_the_same_file(run: Path, files: dict[str, Path], tmp_path: Path) -> None:
    (again,) = export_onnx(run, tmp_path / "again.onnx")
    assert again.path.read_bytes() == files["whole"].read_bytes()


def test_the_parts_do_what_the_whole_does(run: Path, files: dict[str, Path]) -> None:
    assert {path.name for path in files["whole"].parent.iterdir()} == {
        "model.onnx",
        "model-encoder.onnx",
        "model-decoder.onnx",
    }
    sizes = {name: path.stat().st_size for name, path in files.items()}
    assert sizes["encoder"] + sizes["decoder"] == pytest.approx(sizes["whole"], rel=0.1)
    given = inputs(vaelab.load(run), 3, 4)
    expected = results_of(files["whole"], given)
    got = results_of(files["encoder"], given) | results_of(files["decoder"], given)
    assert got.keys() == expected.keys()
    assert all(np.allclose(got[name], expected[name], atol=1e-5) for name in expected)
    for part in ("encoder", "decoder"):
        facts = metadata_of(files[part])
        assert (facts["part"], facts["licence"]) == (part, "CC0-1.0")
        assert facts["data"] == facts["axes"] == "null"


def test_it_is_public_and_needs_no_extra_to_be_imported() -> None:
    assert vaelab.export_onnx is export_onnx
    code = "import sys; sys.modules.update(dict.fromkeys(('onnx', 'onnxscript', 'onnxruntime', 'onnx_ir'))); "
    code += "import vaelab.inference.onnx"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_extra_is_said(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r'no onnxscript\b.*pip install "vaelab\[export\]"$'):
        export_onnx(run, tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"no onnx and no onnxscript\b"):
        export_onnx(run, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.pt", "model", "model.onnx.gz"])
def test_another_suffix_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=rf"{name}.*\.onnx$"):
        export_onnx(run, tmp_path / name)


def test_a_missing_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere: .*run folder"):
        export_onnx(tmp_path / "nowhere", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_said(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file/model\.onnx"):
        export_onnx(run, tmp_path / "file" / "model.onnx")
    (tmp_path / "model-decoder.onnx").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*model-decoder\.onnx.* folder"):
        export_onnx(run, tmp_path / "model.onnx", parts=True)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "model-decoder.onnx"}  # no encoder either


def test_a_file_that_differs_does_not_appear(
    run: Path, tmp_path: Path, spoil: Callable[[Callable[[onnx.ModelProto], None]], None]
) -> None:
    (tmp_path / "model.onnx").write_text("old")
    spoil(move_bias(0.01))
    message = r"model\.onnx: decoded of a batch of 7 differs .* 0\.00\d+; .* 0\.0001; .*pip install --upgrade"
    with pytest.raises(ExportError, match=message):
        export_onnx(run, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "old"
    with pytest.raises(ExportError, match=r"model-decoder\.onnx: decoded .*differs"):
        export_onnx(run, tmp_path / "model.onnx", parts=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    spoil(move_bias(1e-4))  # a fourth of it at most in a pixel
    (exported,) = export_onnx(run, tmp_path / "model.onnx")
    assert 1e-5 < exported.differences["decoded"] < 1e-4


def test_nan_is_a_difference(
    run: Path, tmp_path: Path, spoil: Callable[[Callable[[onnx.ModelProto], None]], None]
) -> None:
    spoil(move_bias(np.nan))
    with pytest.raises(ExportError, match=r"differs .* nan;"):
        export_onnx(run, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_run_does_not_appear(
    run: Path, tmp_path: Path, spoil: Callable[[Callable[[onnx.ModelProto], None]], None]
) -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.node[0].op_type = "Never"

    spoil(change)
    with pytest.raises(ExportError, match=r"model\.onnx: onnxruntime .*Never.*pip install --upgrade"):
        export_onnx(run, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (Counting, r"model\.onnx: .*ONNX \(.*decoded.*\); .* x\.shape\[0\]"),
        (Choosing, r"model\.onnx: .*ONNX \(.*data-dependent.*\); .* values$"),
        (Unknown, r"model\.onnx: .*ONNX \(.*slogdet.*\); expected"),
    ],
)
def test_a_network_of_ones_own_that_cannot_be_written(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], decoder: type[_Body], message: str
) -> None:
    with pytest.raises(ExportError, match=message) as raised:
        export_onnx(with_own(vaelab.load(run), decoder), tmp_path / "model.onnx")
    assert len(str(raised.value).splitlines()) == 1
    assert not re.search(r"[^\x20-\x7e]", str(raised.value)), "no colours of a terminal"
    assert capfd.readouterr() == ("", ""), "PyTorch prints its graph"
    assert not list(tmp_path.iterdir())


def test_an_autoencoder_without_measured_axes_is_compared_on_what_it_has(tmp_path: Path) -> None:
    model = vaelab.load(trained(tmp_path / "run", "tiny", model="ae", network="mlp"))
    assert model.axes is not None
    for axes, expected in ((model.axes, model.axes.deviation[0]), (None, 1.0)):
        drawn = export._inputs(replace(model, axes=axes), WHOLE, encoded=1, decoded=500)
        assert float(drawn["z"][:, 0].std()) == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
def test_recurrent_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    bodies = {"encoder": "recurrent:Encoder", "decoder": "recurrent:Decoder"}
    folder = trained(tmp_path / "run", "table", model="cvae", likelihood="gaussian", **bodies)
    (exported,) = export_onnx(folder, tmp_path / "model.onnx", trust_code=True)
    assert exported.differences["decoded"] < 1e-4
