"""A model in ONNX files, used with NumPy: posteriors, decoded images and nats. Does not import torch.

Symbols: x an image, (C, H, W) in [0, 1], or a row of a table, (D,); y an index of K labels; z a latent of dimension d; n rows.
The files are those of `vaelab export`; formulas of the nats are in `docs/export.md`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from unicodedata import normalize

import numpy as np

from vaelab.data.layout import describe_shape
from vaelab.errors import DataError, LabelError, RunError, unknown_label
from vaelab.onnx_runtime import open_session

FORMAT = "1"
"""Version of the files that this module reads."""

OUTPUTS = {"encoder": ("mean", "log_variance"), "decoder": ("decoded", "parameters")}
"""Outputs of each part."""

HALF_BIN = 0.5 / 255
"""Half the width of a grey level."""


@dataclass(frozen=True)
class Facts:
    """What the files state about the model; see the table of the metadata in `docs/export.md`."""

    kind: str
    likelihood: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    latent_dim: int
    data: Mapping[str, Any] | None
    licence: str
    vaelab: str

    @property
    def conditional(self) -> bool:
        """Whether encoder and decoder take labels."""
        return self.kind == "cvae"

    @property
    def of_images(self) -> bool:
        """Whether the model is one of images rather than of a table."""
        return len(self.shape) == 3

    @property
    def custom(self) -> bool:
        """Whether the likelihood is a custom one, whose nats the decoder computes: its formula is known to its class alone."""
        return ":" in self.likelihood

    @property
    def size(self) -> int:
        """Number of values of one x."""
        return math.prod(self.shape)


@final
class OnnxModel:
    """Encoder and decoder in onnxruntime.

    Parameters
    ----------
    files
        Path of the file of each part, `encoder` and `decoder`; the same path for a file with both.
    threads
        Number of threads of onnxruntime.

    Raises
    ------
    RunError
        If a file is not one of `vaelab export`, or the two are not parts of the same model.
    """

    def __init__(self, files: Mapping[str, Path], threads: int) -> None:
        opened = {path: _open(path, threads) for path in dict.fromkeys(files.values())}
        self.sessions = {part: opened[path] for part, path in files.items()}
        found = [_facts(path, session) for path, session in opened.items()]
        if found.count(found[0]) != len(found):
            raise RunError(f"{' and '.join(map(str, opened))}: parts of different models; expected those of one export")
        self.facts = found[0]
        self.blanks = {
            part: {each.name: np.zeros((1, *each.shape[1:]), np.float32) for each in session.get_inputs()}
            for part, session in self.sessions.items()
        }
        for part, path in files.items():
            expected = {*OUTPUTS[part]} | ({"nats"} if part == "decoder" and self.facts.custom else set())
            missing = expected - {each.name for each in self.sessions[part].get_outputs()}
            if missing:
                raise RunError(f"{path}: no {part} in it; expected a file of vaelab export, or both files of --parts")
        self.indices = {normalize("NFC", name): index for index, name in enumerate(self.facts.classes)}
        self.at_once = self._largest_batch()

    def _largest_batch(self) -> int:
        """Return how many rows to compute at a time: one if the result for a row depends on its batch."""
        z = np.random.default_rng(0).standard_normal((16, self.facts.latent_dim), dtype=np.float32)
        y = np.arange(16) % len(self.facts.classes) if self.facts.conditional else None
        x = self.decode(z, y)[0]
        parts = [(self.decode, z), (self.encode, x)]
        if self.facts.custom:
            parts.append((self.nats, np.concatenate([z, x.reshape(len(x), -1)], 1)))
        for part, rows in parts:
            whole = part(rows, y)
            each = [part(rows[row : row + 1], None if y is None else y[row : row + 1]) for row in range(len(rows))]
            alone = [np.concatenate(outputs) for outputs in zip(*each, strict=True)]
            if not all(map(np.array_equal, whole, alone)):
                return 1
        return max(1, min(64, 2**20 // self.facts.size))

    def encode(self, x: np.ndarray, y: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """Return mean and log-variance of q(z|x[, y]), float32 (n, d); the latter is −∞ for an autoencoder."""
        return self._run("encoder", OUTPUTS["encoder"], images=x, image_labels=y)

    def decode(self, z: np.ndarray, y: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """Return the mean of p(x|z[, y]), float32 (n, *shape), and its parameters, (n, planes, *shape)."""
        scored = np.zeros((len(z), *self.facts.shape)) if self.facts.custom else None
        return self._run("decoder", OUTPUTS["decoder"], z=z, labels=y, scored=scored)

    def nats(self, rows: np.ndarray, y: np.ndarray | None) -> tuple[np.ndarray]:
        """Return −log p(x|z[, y]) of a custom likelihood in nats, float64 (n,); a row is z, followed by the values of x."""
        z, x = np.split(rows, [self.facts.latent_dim], axis=1)
        (nats,) = self._run("decoder", ("nats",), z=z, labels=y, scored=x.reshape(len(x), *self.facts.shape))
        return (nats.astype(np.float64),)

    def _run(self, part: str, outputs: tuple[str, ...], **rows: np.ndarray | None) -> tuple[np.ndarray, ...]:
        given = self.blanks[part].copy()  # a file with both parts needs a row for the other, too
        for name, values in rows.items():
            if values is not None:
                is_label = values.dtype.kind == "i"
                given[name] = one_hot(values, len(self.facts.classes)) if is_label else values.astype(np.float32)
        return tuple(map(np.asarray, self.sessions[part].run(outputs, given)))

    def label_index(self, label: str) -> int:
        """Return the index of a class name.

        Raises
        ------
        LabelError
            If the model takes no labels or has no such class.
        """
        if not self.facts.conditional:
            raise LabelError(f"`labels`: got some, but this model ({self.facts.kind}) takes none; leave them out")
        index = self.indices.get(normalize("NFC", label))
        if index is None:
            raise unknown_label(label[:100], self.facts.classes, indices=False)
        return index

    def distortion(self, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return −log p(x|z) of a built-in likelihood in nats, float64 (n,), from `parameters` (n, planes, *shape)."""
        planes = np.moveaxis(parameters.astype(np.float64), 1, 0)
        nats = NATS[self.facts.likelihood](x.reshape(planes.shape[1:]).astype(np.float64), *planes)
        return nats.reshape(len(x), -1).sum(1)


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return labels as weights, float32 (n, K)."""
    weights = np.zeros((len(labels), classes), np.float32)
    weights[np.arange(len(labels)), labels] = 1
    return weights


def rate(mean: np.ndarray, log_variance: np.ndarray) -> np.ndarray:
    """Return KL(q(z|x) ‖ N(0, I)) in nats, float64 (n,)."""
    mean, log_variance = mean.astype(np.float64), log_variance.astype(np.float64)
    return 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).sum(1)


def _bernoulli(x: np.ndarray, logit: np.ndarray) -> np.ndarray:
    return _softplus(logit) - x * logit


def _continuous_bernoulli(x: np.ndarray, logit: np.ndarray) -> np.ndarray:
    size = np.maximum(np.abs(logit), 0.5)
    far = size / 2 + np.log1p(-np.exp(-size)) - np.log(size)
    near = logit**2 / 24 - logit**4 / 2880
    return np.where(np.abs(logit) < 0.5, near, far) - logit * (x - 0.5)


def _logistic(x: np.ndarray, centre: np.ndarray, log_scale: np.ndarray) -> np.ndarray:
    inverse_scale = np.exp(-log_scale)
    upper, lower = (x + HALF_BIN - centre) * inverse_scale, (x - HALF_BIN - centre) * inverse_scale
    below_upper, above_lower = _softplus(-upper), _softplus(lower)
    inside = below_upper + above_lower - np.log(-np.expm1(-2 * HALF_BIN * inverse_scale))
    return np.where(x < HALF_BIN, below_upper, np.where(x > 1 - HALF_BIN, above_lower, inside))


def _colour_logistic(x: np.ndarray, centre: np.ndarray, log_scale: np.ndarray, coupling: np.ndarray) -> np.ndarray:
    red, green = (x - centre)[:, 0], (x - centre)[:, 1]
    shift = np.stack([0 * red, coupling[:, 0] * red, coupling[:, 1] * red + coupling[:, 2] * green], 1)
    return _logistic(x, centre + shift, log_scale)


def _two_colour(
    x: np.ndarray, log_weight: np.ndarray, first: np.ndarray, second: np.ndarray, log_scale: np.ndarray
) -> np.ndarray:
    """Return nats per pixel, (n, H, W): the channels of a pixel share its component."""
    each = [
        log_weight[:, k] - _logistic(x, centre, log_scale[:, k, None]).sum(1)
        for k, centre in enumerate((first, second, (first + second) / 2))
    ]
    return -np.logaddexp.reduce(each)


def _gaussian(x: np.ndarray, mean: np.ndarray, log_variance: np.ndarray) -> np.ndarray:
    return 0.5 * ((x - mean) ** 2 * np.exp(-log_variance) + log_variance + math.log(2 * math.pi))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


NATS = {
    "bernoulli": _bernoulli,
    "continuous-bernoulli": _continuous_bernoulli,
    "logistic": _logistic,
    "colour-logistic": _colour_logistic,
    "two-colour": _two_colour,
    "gaussian": _gaussian,
}
"""−log p(x|z) of each value, or of each pixel, in nats, from x (n, *shape) and the planes of `parameters`, by likelihood."""


def _open(path: Path, threads: int) -> Any:
    """Return an onnxruntime session; a RunError if the file cannot be read."""
    try:
        return open_session(path, threads)
    except Exception as error:  # onnxruntime has a class for each kind, without a common base
        raise RunError(
            f"{path}: onnxruntime cannot read it; expected a file of vaelab export: {error}"[:400]
        ) from error


def _facts(path: Path, session: Any) -> Facts:
    """Return what the metadata of a file state; a RunError if it is not one of `vaelab export`."""
    entries = session.get_modelmeta().custom_metadata_map
    try:
        if entries["format"] != FORMAT:
            raise RunError(
                f"{path}: got format {entries['format'][:20]!r}; this vaelab reads {FORMAT}; export it again"
            )
        loaded = {name: json.loads(entries[name]) for name in ("shape", "classes", "latent_dim", "data")}
        facts = Facts(
            kind=entries["model"],
            likelihood=entries["likelihood"],
            shape=tuple(loaded["shape"]),
            classes=tuple(loaded["classes"]),
            latent_dim=loaded["latent_dim"],
            data=loaded["data"],
            licence=entries["licence"],
            vaelab=entries["vaelab"],
        )
        if not (facts.custom or facts.likelihood in NATS) or not all(isinstance(name, str) for name in facts.classes):
            raise ValueError("unknown likelihood or class name")
        described = describe_shape(facts.shape)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{path}: not written by vaelab export ({error!r}); expected one of its files"[:400]) from error
    if not (facts.of_images and facts.shape[0] in (1, 3)) and len(facts.shape) != 1:
        raise DataError(f"{path}: got a model of {described}; expected one of grey or RGB images, or of a table")
    return facts
