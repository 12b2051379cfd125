"""Answers of a served model: generated images, posteriors, reconstructions, restyled images and scores.

Symbols as in `model.py`. An answer depends on its request and seed alone, not on the requests that are computed at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, final

import numpy as np

from vaelab.data.binarization import binarise_once
from vaelab.data.layout import describe_shape
from vaelab.errors import ConfigError, DataError, LabelError, counted
from vaelab.serving.batching import Batcher
from vaelab.serving.limits import Limits
from vaelab.serving.model import OnnxModel, rate
from vaelab.serving.pictures import from_png, to_png

JOIN_SECONDS = 0.002
"""How long rows wait for those of other requests."""

Result = TypeVar("Result")


@final
class Service:
    """Computes the answers. Labels are class names; a conditional model infers those that are missing."""

    def __init__(self, model: OnnxModel, limits: Limits) -> None:
        self.model, self.limits, self.facts = model, limits, model.facts
        pool = ThreadPoolExecutor(1, "onnxruntime")
        self.encoder, self.decoder, self.scorer = (
            Batcher(part, model.at_once, JOIN_SECONDS, pool) for part in (model.encode, model.decode, model.nats)
        )

    async def sample(
        self, labels: list[str] | None, count: int | None, temperature: float, seed: int
    ) -> dict[str, Any]:
        """Decode latents of N(0, temperature² I), one per label, or `count`."""
        if self.facts.conditional:
            if not labels or count not in (None, len(labels)):
                raise LabelError(f"`labels`: got {counted(len(labels or ()), 'label')}; expected one per image")
        elif labels:
            self.model.label_index(labels[0])  # raises LabelError
        count = len(labels) if labels else 1 if count is None else count
        self._expect(count, count)
        y = np.array([self.model.label_index(label) for label in labels]) if labels else None
        z = temperature * np.random.default_rng(seed).standard_normal((count, self.facts.latent_dim), np.float32)
        return {"images": await self._decoded(z, y), "labels": labels, "seed": seed}

    async def encode(self, images: Sequence[Any], labels: Sequence[str | None] | None) -> dict[str, Any]:
        """Return the posterior of each image, from its grey levels."""
        y, mean, log_variance = await self._placed(await self._read(images), labels)
        spread = None if self.facts.kind == "ae" else log_variance.tolist()
        return {"mean": mean.tolist(), "log_variance": spread, "labels": self._names(y)}

    async def reconstruct(
        self, images: Sequence[Any], labels: Sequence[str | None] | None, draw: bool, seed: int
    ) -> dict[str, Any]:
        """Encode and decode images, at the mean of their posterior or, with `draw`, at a draw from it."""
        y, z, log_variance = await self._placed(await self._read(images), labels)
        if draw:
            z = z + np.exp(log_variance / 2) * np.random.default_rng(seed).standard_normal(z.shape, np.float32)
        return {"images": await self._decoded(z, y), "labels": self._names(y)}

    async def restyle(
        self, images: Sequence[Any], labels: Sequence[str | None] | None, targets: list[str] | None
    ) -> dict[str, Any]:
        """Decode the posterior mean of each image under other labels."""
        if not self.facts.conditional:
            raise LabelError(f"got a model ({self.facts.kind}) that takes no labels; expected a conditional one (cvae)")
        targets = list(self.facts.classes) if targets is None else targets
        self._expect(len(images), len(images) * len(targets))
        wanted = np.array([self.model.label_index(target) for target in targets])
        y, z, _ = await self._placed(await self._read(images), labels)
        flat = await self._decoded(np.repeat(z, len(targets), 0), np.tile(wanted, len(z)))
        rows = [flat[first : first + len(targets)] for first in range(0, len(flat), len(targets))]
        return {"images": rows, "labels": self._names(y), "targets": targets}

    async def score(
        self, images: Sequence[Any], labels: Sequence[str | None] | None, draws: int, seed: int
    ) -> dict[str, Any]:
        """Return the ELBO of each image in nats, with its parts: the distortion is a mean over `draws`, the rate is exact.

        For a Bernoulli model, each image is binarised by itself. All images use the same draws.
        """
        if self.facts.kind == "ae":
            raise ConfigError("got an autoencoder, which has no posterior to draw from; expected a vae or a cvae")
        self._expect(len(images), len(images) * draws)
        x = self._targets(await self._read(images))
        y = await self._labels(x, labels)
        mean, log_variance = await self.encoder(_unit(x), y)
        noise = np.random.default_rng(seed).standard_normal((draws, self.facts.latent_dim), np.float32)
        parts = []
        for rows in self._pieces(len(x) * draws):
            image, draw = rows // draws, rows % draws
            z = mean[image] + np.exp(log_variance[image] / 2) * noise[draw]
            parts.append(await self._distortion(z, x[image], None if y is None else y[image]))
        distortion, kl = np.concatenate(parts).reshape(len(x), draws), rate(mean, log_variance)
        error = distortion.std(1, ddof=1) / np.sqrt(draws) if draws > 1 else None
        return {
            "elbo": _finite(-distortion.mean(1) - kl).tolist(),
            "standard_error": None if error is None else error.tolist(),
            "distortion": distortion.mean(1).tolist(),
            "rate": kl.tolist(),
            "draws": draws,
            "labels": self._names(y),
            "seed": seed,
        }

    def _expect(self, images: int, rows: int) -> None:
        """Refuse a request for more images or more computation than the limits allow."""
        if not 1 <= images <= self.limits.max_images:
            raise ConfigError(f"`images`: got {images:,}; expected 1 to {self.limits.max_images:,} in a request")
        most = max(1, self.limits.max_pixels // self.facts.size)
        if rows > most:
            raise ConfigError(
                f"got {rows:,} times {describe_shape(self.facts.shape)} to compute; expected at most {most:,} in a request: "
                "give fewer images, labels or draws"
            )

    async def _read(self, images: Sequence[Any]) -> np.ndarray:
        """Return the images of a request as uint8 levels, or rows of a table as float32, (n, *shape)."""
        self._expect(len(images), len(images))
        shape = self.facts.shape
        if self.facts.of_images:
            if not all(isinstance(image, str) for image in images):
                raise DataError("`images`: got numbers; expected a PNG file in base64 for each image")
            return np.stack([await self._apart(from_png, image, shape) for image in images])
        if not all(isinstance(row, list) and len(row) == shape[0] for row in images):
            raise DataError(f"`images`: expected {describe_shape(shape)}, each as a list of numbers")
        with np.errstate(over="ignore"):
            return _finite(np.array(images, np.float32))

    def _targets(self, x: np.ndarray) -> np.ndarray:
        """Return levels as the likelihood takes them."""
        return np.concatenate([binarise_once(each[None]) for each in x]) if self.facts.likelihood == "bernoulli" else x

    async def _placed(
        self, x: np.ndarray, labels: Sequence[str | None] | None
    ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """Return labels, given or inferred, and posterior mean and log-variance."""
        y = await self._labels(self._targets(x) if self.facts.conditional else x, labels)
        mean, log_variance = await self.encoder(_unit(x), y)
        return y, _finite(mean), log_variance

    async def _labels(self, x: np.ndarray, labels: Sequence[str | None] | None) -> np.ndarray | None:
        """Return label indices; those not given are the labels of lowest −ELBO at z = μ, for targets `x`."""
        given = [None] * len(x) if labels is None else labels
        if len(given) != len(x):
            raise LabelError(
                f"`labels`: got {counted(len(given), 'label')} for {counted(len(x), 'image')}; expected one each"
            )
        indices = [None if label is None else self.model.label_index(label) for label in given]
        if not self.facts.conditional:
            return None
        unknown = np.array([at for at, index in enumerate(indices) if index is None], dtype=np.int64)
        if len(unknown):
            count = len(self.facts.classes)
            self._expect(len(x), len(unknown) * count)
            nats = []
            for rows in self._pieces(len(unknown) * count):
                images, y = x[unknown[rows // count]], rows % count
                mean, log_variance = await self.encoder(_unit(images), y)
                nats.append(await self._distortion(mean, images, y) + rate(mean, log_variance))
            inferred = np.concatenate(nats).reshape(len(unknown), count).argmin(1)
            for at, index in zip(unknown, inferred, strict=True):
                indices[at] = index
        return np.array(indices, dtype=np.int64)

    def _pieces(self, count: int) -> Iterator[np.ndarray]:
        """Yield 0…count − 1 in pieces of a batch."""
        for first in range(0, count, self.model.at_once):
            yield np.arange(first, min(first + self.model.at_once, count))

    async def _distortion(self, z: np.ndarray, x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
        if self.facts.custom:
            (nats,) = await self.scorer(np.concatenate([z, _unit(x).reshape(len(x), -1)], 1), y)
            return nats
        _, parameters = await self.decoder(z, y)
        return await self._apart(self.model.distortion, parameters, _unit(x))

    async def _decoded(self, z: np.ndarray, y: np.ndarray | None) -> list[Any]:
        """Return decoded images as PNG files in base64, or rows of a table as lists."""
        found: list[Any] = []
        for rows in self._pieces(len(z)):
            decoded = _finite((await self.decoder(z[rows], None if y is None else y[rows]))[0])
            found += [await self._apart(to_png, each) for each in decoded] if self.facts.of_images else decoded.tolist()
        return found

    async def _apart(self, function: Callable[..., Result], *given: Any) -> Result:
        """Call a function, in a thread if images are large, so that other requests go on."""
        if self.facts.size < 2**14:
            return function(*given)
        return await asyncio.to_thread(function, *given)

    def _names(self, y: np.ndarray | None) -> list[str] | None:
        return None if y is None else [self.facts.classes[index] for index in y]


def _unit(x: np.ndarray) -> np.ndarray:
    """Return uint8 levels in [0, 1], and other values unchanged, float32."""
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x


def _finite(values: np.ndarray) -> np.ndarray:
    """Return values if all are finite; a DataError otherwise."""
    if not np.isfinite(values).all():
        raise DataError("got values for which the model's result is not finite; expected ones like the training data")
    return values
