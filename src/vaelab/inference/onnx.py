"""A trained model as ONNX, which runs without PyTorch and without this package: one file, or encoder and decoder apart.

Symbols: x an image of shape (C, H, W), levels 0…1, or a row of a table, (D,), in its own units; y weights of the K labels that
sum to one (one-hot for a label, a half and a half for what lies between two); z a latent of dimension d. All are float32.

    images (encoded, *shape)[, image_labels (encoded, K)]  →  mean, log_variance (encoded, d) of q(z|x[, y])
    z (decoded, d)[, labels (decoded, K)]  →  decoded (decoded, *shape), the mean of p(x|z[, y]) on x's scale,
                                              parameters (decoded, planes, *shape) of p(x|z[, y]), to compute nats with

A decoder with a custom likelihood has one more input and output, because nobody else knows its formula:

    scored (decoded, *shape)                    →  nats (decoded,), −log p(scored|z[, y])

One file has both directions side by side in its graph, each with a batch of its own: of the direction that is not wanted, one
row of zeros is given. With `parts` each is a file; names are the same. Only a conditional model has the labels. What the planes
of `parameters` are is in the metadata (`Likelihood.parameter_names`). No file is written that differs from PyTorch.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import asdict
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaelab import runs
from vaelab.errors import ExportError
from vaelab.files import atomic_write, expect_suffix
from vaelab.inference import latents
from vaelab.inference.onnx_graphs import PARTS, SCORING_PARTS, SCORING_WHOLE, WHOLE, Part
from vaelab.inference.trained import TrainedModel, load
from vaelab.models.likelihoods import LIKELIHOODS
from vaelab.onnx_runtime import open_session
from vaelab.runs import DataCard
from vaelab.version import __version__

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

OPSET = 18
"""Version of ONNX's operators: the one that PyTorch's exporter is written in, so that nothing is translated twice."""

FORMAT = "1"
"""Of the metadata and of the names of inputs and outputs."""

BATCHES = (1, 7, 64)
"""The sizes of batch on which a file is compared with PyTorch."""

TOLERANCES = {"mean": 1e-3, "log_variance": 1e-3, "decoded": 1e-4, "parameters": 1e-3, "nats": 1e-3}
"""Largest difference from PyTorch of each output; of a table in units of each column's standard deviation. A value above 100 is
measured in hundredths of itself: float32 resolves no more."""

LICENCE = "of the weights: not stated; of vaelab, which wrote this file: MIT"

PACKAGES = ("onnx", "onnxscript", "onnxruntime")

DESCRIPTIONS = {
    "images": "x, levels 0 to 1, or rows of a table in their own units",
    "image_labels": "weights of the K labels of each image, which sum to 1: one-hot for a label",
    "z": "latents, N(0, I) under the prior",
    "labels": "weights of the K labels to decode each latent under",
    "mean": "mean of q(z|x)",
    "log_variance": "log-variance of q(z|x); -inf for an autoencoder, whose q is a point",
    "decoded": "mean of p(x|z), on the scale of x",
    "parameters": "parameters of p(x|z), named by the metadata",
    "scored": "x whose nats are wanted, levels 0 to 1",
    "nats": "-log p(scored|z) in nats",
}


class Exported(NamedTuple):
    """A file that was written.

    Attributes
    ----------
    path
        Where it is.
    size
        Bytes.
    differences
        The largest difference from PyTorch that was found in each of its outputs, in the units of `TOLERANCES`.
    """

    path: Path
    size: int
    differences: dict[str, float]


def export_onnx(
    model: TrainedModel | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    parts: bool = False,
    licence: str = LICENCE,
    trust_code: bool = False,
) -> tuple[Exported, ...]:
    """Write a trained model as ONNX, compared with PyTorch on batches of 1, 7 and 64 before it appears under its name.

    Parameters
    ----------
    model
        A run folder, or a `TrainedModel`, of which the file cannot say what data it was trained on.
    out
        `NAME.onnx`.
    parts
        Write `NAME-encoder.onnx` and `NAME-decoder.onnx` in its place.
    licence
        The terms of the weights, for the metadata.
    trust_code
        Import the custom networks that a run folder names, as for `load`.

    Returns
    -------
    What was written: one file, or encoder and decoder.

    Raises
    ------
    ExportError
        If the extra `vaelab[export]` is not installed, PyTorch cannot write the networks as ONNX, or what onnxruntime makes of
        the file is not what PyTorch does.
    OutputError
        If `out` is not so named or cannot be written. What was there before is left as it was.
    RunError
        As `load`, if `model` is a run folder.
    """
    path = Path(out)
    expect_suffix(path, ".onnx")
    _expect_packages()
    if isinstance(model, TrainedModel):
        trained, data = model, None
    else:
        trained, data = load(model, trust_code=trust_code), runs.open_run(Path(model)).data
    custom = trained.likelihood not in LIKELIHOODS
    apart, whole = (SCORING_PARTS, SCORING_WHOLE) if custom else (PARTS, WHOLE)
    files = {path.with_stem(f"{path.stem}-{part.name}"): part for part in apart} if parts else {path: whole}
    written = []
    with ExitStack() as stack:  # all appear, or none
        places = {file: stack.enter_context(atomic_write(file)) for file in files}
        for file, part in files.items():
            proto = _as_onnx(trained, part, file)
            proto.metadata_props.extend(_entries(_metadata(trained, data, part, licence)))
            places[file].write_bytes(proto.SerializeToString())
            written.append(Exported(file, places[file].stat().st_size, _compared(places[file], trained, part, file)))
    return tuple(written)


def _expect_packages() -> None:
    """Refuse to begin without the extra."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"got no {' and no '.join(missing)}; expected what ONNX files are written and compared with: "
            'type pip install "vaelab[export]"'
        )


def _metadata(trained: TrainedModel, data: DataCard | None, part: Part, licence: str) -> dict[str, str]:
    """What the file says of itself: plain text, and JSON where it is a number, a list or an object."""
    axes = None if trained.axes is None else asdict(trained.axes)
    source = None if data is None else {name: getattr(data, name) for name in ("source", "fingerprint", "train_count")}
    return {
        "vaelab": __version__,
        "format": FORMAT,
        "part": part.name,
        "model": trained.kind,
        "likelihood": trained.likelihood,
        "parameters": json.dumps(trained.model.likelihood_type.parameter_names),
        "shape": json.dumps(trained.model.shape),
        "classes": json.dumps(trained.classes),
        "latent_dim": json.dumps(trained.model.latent_dim),
        "axes": json.dumps(axes),
        "data": json.dumps(source),
        "licence": licence,
    }


def _entries(metadata: dict[str, str]) -> Iterator[onnx.StringStringEntryProto]:
    import onnx

    for key, value in metadata.items():
        yield onnx.StringStringEntryProto(key=key, value=value)


def _as_onnx(trained: TrainedModel, part: Part, file: Path) -> onnx.ModelProto:
    """The graph of a part, weights inside, with nothing in it of the machine that it was made on."""
    given = _inputs(trained, part, encoded=2, decoded=3)
    encoded, decoded = (torch.export.Dim(name) for name in ("encoded", "decoded"))
    shapes = {name: {0: encoded if name in ("images", "image_labels") else decoded} for name in given}
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(
                part.graph(trained.model).eval(), tuple(given.values()), dynamic_shapes=shapes, strict=False
            )
            made = torch.onnx.export(
                program,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=list(given),
                output_names=list(part.outputs),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise ExportError(
            f"{file}: got networks that PyTorch cannot write as ONNX ({_said(error)}); expected some whose every step is a "
            "function of tensors, for a batch of any size: write x.shape[0] for len(x), and no choice that depends on values"
        ) from error
    assert made is not None
    _tidy(made.model)
    proto = made.model_proto
    del proto.graph.value_info[:]  # what a runtime works out by itself
    return proto


def _tidy(model: ir.Model) -> None:
    """Name what is inside by numbers, so that it cannot clash with our names, and drop what tells of the code and its folders."""
    ours = {*model.graph.inputs, *model.graph.outputs}
    for index, node in enumerate(model.graph.all_nodes()):
        node.name, node.doc_string = f"{node.op_type}_{index}", None
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in ours:
                value.name = f"value_{index}_{value.index()}"
    for value in ours:
        value.metadata_props.clear()
        value.doc_string = DESCRIPTIONS[str(value.name)]
    model.graph.metadata_props.clear()
    model.producer_name, model.producer_version = "vaelab", __version__


def _compared(path: Path, trained: TrainedModel, part: Part, file: Path) -> dict[str, float]:
    """The largest difference, in each output, between what onnxruntime makes of the file at `path` and what PyTorch does.

    Raises
    ------
    ExportError
        If it cannot be run, or one differs by more than `TOLERANCES`.
    """
    graph, largest = part.graph(trained.model).eval(), dict.fromkeys(part.outputs, 0.0)
    for encoded, decoded in zip(BATCHES, BATCHES[1:] + BATCHES[:1], strict=True):
        given = _inputs(trained, part, encoded=encoded, decoded=decoded)
        with torch.inference_mode():
            expected = graph(*given.values())
        try:
            got = _run(path, part.outputs, given)
        except Exception as error:
            raise ExportError(
                f"{file}: onnxruntime cannot run it ({_said(error)}); expected it to; nothing was written. Try other versions: "
                'pip install --upgrade "vaelab[export]"'
            ) from error
        for name, one, other in zip(part.outputs, got, expected, strict=True):
            difference = _difference(one, other.numpy(), _units(trained).get(name, 1.0))
            if not difference <= TOLERANCES[name]:  # nor NaN
                raise ExportError(
                    f"{file}: {name} of a batch of {len(other)} differs from PyTorch's by {difference:.2g}; expected at most "
                    f"{TOLERANCES[name]:g}; nothing was written. A network of one's own must give the same for the same; else "
                    'try other versions: pip install --upgrade "vaelab[export]"'
                )
            largest[name] = max(largest[name], difference)
    return largest


def _run(path: Path, outputs: Sequence[str], given: dict[str, Tensor]) -> list[np.ndarray]:
    """What onnxruntime makes of a file."""
    session = open_session(path, torch.get_num_threads())
    return [np.asarray(got) for got in session.run(outputs, {name: tensor.numpy() for name, tensor in given.items()})]


def _difference(got: np.ndarray, expected: np.ndarray, units: np.ndarray | float) -> float:
    """The largest difference between two arrays, in the units of `TOLERANCES`; NaN where one is NaN or either infinite alone."""
    with np.errstate(invalid="ignore"):  # −∞ − −∞
        off = np.abs(got - expected) / np.maximum(units, np.abs(expected) / 100)
    return float(np.where(got == expected, 0.0, off).max())


def _units(trained: TrainedModel) -> dict[str, np.ndarray]:
    """What counts as one of an output, where that is not 1: the standard deviation of a table's columns."""
    scale = trained.model.scale.numpy()
    planes = [
        scale if name == "mean" else np.ones_like(scale) for name in trained.model.likelihood_type.parameter_names
    ]
    return {"decoded": scale, "parameters": np.stack(planes)}


@torch.inference_mode()
def _inputs(trained: TrainedModel, part: Part, *, encoded: int, decoded: int) -> dict[str, Tensor]:
    """Inputs of a part by name, in their order: images that the model itself draws, latents where it has them, any labels."""
    model, source = trained.model, torch.Generator().manual_seed(encoded)
    measured = model.stochastic or trained.axes is not None
    middle, sigma = map(torch.from_numpy, latents.scale(trained)) if measured else (0.0, 1.0)

    def labels(count: int) -> Tensor | None:
        if not trained.conditional:
            return None
        return torch.softmax(4 * torch.randn(count, len(trained.classes), generator=source), dim=1)

    def draw(count: int) -> Tensor:
        return middle + sigma * torch.randn(count, model.latent_dim, generator=source)

    image_labels = labels(encoded)
    images = model.decode(draw(encoded), image_labels).sample(source)
    every = {"images": images, "image_labels": image_labels, "z": draw(decoded), "labels": labels(decoded)}
    every["scored"] = images[torch.arange(decoded) % encoded]
    return {name: tensor.clone() for name in part.inputs if (tensor := every[name]) is not None}


@contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch's exporter speaks of itself (deprecations, its graph when it fails); what counts is that its file is right."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.fx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _said(error: Exception) -> str:
    """What an exception says, or what caused it, in one line that is not too long."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:300]
