"""A trained model: sample, decode, reconstruct, encode and score NumPy arrays.

Symbols: z is a latent, (N, d), N(0, I) under the prior. Images are uint8, (N, H, W) for grey and (N, H, W, 3) for RGB, or rows
of a table, (N, D). A label is a class name or, if no class has that name, an index 0…K−1; an array of integers holds indices.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from vaelab import runs
from vaelab.config import LikelihoodName, ModelName
from vaelab.data.dataset import Dataset
from vaelab.data.layout import as_shown, as_stored
from vaelab.errors import ConfigError, DataError, LabelError, counted, expect_list
from vaelab.inference.class_names import index_of_label, indices_of_labels, indices_or_weights, labels_by_name
from vaelab.inference.labels import likeliest_labels
from vaelab.inference.outcomes import Encoded, Reconstructions, Samples
from vaelab.inference.own_loop import expect_saveable, origin_of
from vaelab.models.base import Model
from vaelab.models.distributions import Likelihood
from vaelab.objectives import elbo
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.bounds import Infer, images_at_once, map_held_out, negative_bounds
from vaelab.random import generator_for, latent_noise

Decode = Literal["mean", "sample"]
Labels: TypeAlias = Sequence[str | int] | np.ndarray
Network: TypeAlias = str | Callable[..., Any] | None


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with its class names and latent statistics.

    Attributes
    ----------
    model
        The PyTorch module, in evaluation mode.
    kind
        ae, vae or cvae.
    likelihood
        Name of the distribution p(x|z).
    classes
        Class names in label order; empty if the model was trained without labels.
    axes
        Statistics of each latent dimension, if measured during training.
    origin
        Its configuration and data, which `save` records; None if they are unknown.
    """

    model: Model
    kind: ModelName
    likelihood: LikelihoodName
    classes: tuple[str, ...]
    axes: runs.LatentStats | None = None
    origin: runs.Origin | None = None

    @staticmethod
    def from_parts(model: Model, dataset: Dataset, *, seed: int = 0) -> TrainedModel:
        """Return a model that was trained in a loop outside vaelab, as a copy on the CPU.

        Parameters
        ----------
        model
            A model of `vaelab.new_model` with its trained weights, on any device.
        dataset
            The data that it was trained on, whose validation images are measured with the draws of z of `seed`.

        Raises
        ------
        ConfigError
            If `vaelab.new_model` has not made it, its layers were replaced, it is not finite, or it does not fit the data.
        """
        copied, origin = origin_of(model, dataset, seed)
        axes = runs.LatentStats.from_json(origin.facts.get("axes"))
        config = origin.config.model
        return TrainedModel(copied, config.model, config.likelihood, dataset.classes, axes, origin)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a run folder, which `vaelab.load`, `evaluate` and the command line accept, without the state of a training.

        `config.json` has null as `train` if the model was trained in a loop outside vaelab (`from_parts`).

        Raises
        ------
        ConfigError
            If configuration and data of the model are unknown.
        RunError
            If the folder is not empty.
        OutputError
            If it cannot be written.
        """
        runs.save_run(Path(folder), self.model.state_dict(), expect_saveable(self.origin))

    @property
    def conditional(self) -> bool:
        """Whether the model is conditional on labels."""
        return self.kind == "cvae"

    def label_index(self, label: str | int | np.integer) -> int:
        """Return the index, 0…K−1, of a label given by class name or, if no class has that name, by index.

        Raises
        ------
        LabelError
            If the model takes no labels, or the label is unknown.
        """
        if not self.conditional:
            raise self._takes_no_labels(label)
        return index_of_label(label, self.classes)

    def latents(self, count: int, *, temperature: float = 1.0, seed: int = 0) -> np.ndarray:
        """Draw z ~ N(0, temperature² I), float32 (count, d). The first n draws are the same for any `count` ≥ n.

        Raises
        ------
        ConfigError
            If `count` is below 1, or `temperature` is negative or not finite.
        """
        if count < 1:
            raise ConfigError(f"`count`: got {count}; expected a whole number of at least 1")
        if not 0 <= temperature < float("inf"):
            raise ConfigError(f"`temperature`: got {temperature}; expected a finite number of at least 0")
        generator = generator_for("latent", seed, 0)
        rows = [torch.randn(self.model.latent_dim, generator=generator) for _ in range(count)]
        return (temperature * torch.stack(rows)).numpy()

    def sample(
        self,
        labels: Labels | None = None,
        *,
        count: int | None = None,
        temperature: float = 1.0,
        seed: int = 0,
        decode: Decode = "mean",
    ) -> np.ndarray:
        """Generate images from independent latents: one per entry of `labels`, or `count` for an unconditional model.

        Returns
        -------
        uint8 (N, H, W[, 3])

        Raises
        ------
        LabelError
            If labels are missing, unknown, or given to a model that takes none.
        """
        expect_list(labels, conditional=self.conditional)
        if self.conditional:
            if labels is None:
                raise LabelError(
                    f"got no labels; expected some of {', '.join(self.classes[:20])}: sample(labels=[...])"
                )
            if count not in (None, len(labels)):
                raise ConfigError(
                    f"got {counted(len(labels), 'label')} and `count={count}`; expected one label per image: leave `count` out"
                )
            indices = indices_of_labels(labels, self.classes)
            z = self.latents(len(indices), temperature=temperature, seed=seed)
            return self.decode(z, indices, decode=decode, seed=seed)
        if labels is not None and len(labels):
            raise self._takes_no_labels(labels[0])
        z = self.latents(1 if count is None else count, temperature=temperature, seed=seed)
        return self.decode(z, decode=decode, seed=seed)

    def grid(
        self,
        labels: Labels | None = None,
        *,
        count: int = 10,
        temperature: float = 1.0,
        seed: int = 0,
        decode: Decode = "mean",
    ) -> Samples:
        """Generate `count` images of every label (default: all labels), label by label, from the same latents.

        An unconditional model generates `count` images.
        """
        z = self.latents(count, temperature=temperature, seed=seed)
        if not self.conditional:
            if labels is not None and len(labels):
                raise self._takes_no_labels(labels[0])
            return Samples(self.decode(z, decode=decode, seed=seed), None, z)
        chosen = np.arange(len(self.classes)) if labels is None else indices_of_labels(labels, self.classes)
        indices, tiled = np.repeat(chosen, count), np.tile(z, (len(chosen), 1))
        return Samples(self.decode(tiled, indices, decode=decode, seed=seed), indices, tiled)

    @torch.inference_mode()
    def decode(
        self,
        z: np.ndarray,
        labels: Labels | None = None,
        *,
        decode: Decode = "mean",
        seed: int = 0,
    ) -> np.ndarray:
        """Decode latents `z`, float (N, d), to the mean of p(x|z) or, with `decode="sample"`, to a sample of it.

        `labels` holds one label per latent, or weights of the K labels, float (N, K), to interpolate between labels.
        """
        if decode not in get_args(Decode):
            raise ConfigError(f"`decode`: got {decode!r}; expected mean or sample")
        latent = torch.from_numpy(np.ascontiguousarray(z, dtype=np.float32))
        if latent.ndim != 2 or latent.shape[1] != self.model.latent_dim:
            raise DataError(f"got latents of shape {tuple(latent.shape)}; expected (N, {self.model.latent_dim})")
        indices = self._label_tensor(labels, len(latent))
        generator = generator_for("decode", seed, 0)
        parts = []
        for part in self._chunks(len(latent)):
            likelihood = self.model.decode(latent[part], None if indices is None else indices[part])
            parts.append(self._to_images(likelihood, generator if decode == "sample" else None))
        return np.concatenate(parts)

    @torch.inference_mode()
    def reconstruct(self, images: np.ndarray, labels: Labels | None = None, *, seed: int = 0) -> Reconstructions:
        """Encode images, draw one z each and decode it to the mean of p(x|z); also return distortion and rate.

        Parameters
        ----------
        images
            uint8 (N, H, W), (N, H, W, 3) or (N, C, H, W). For a Bernoulli model they are binarised by one seeded draw over the
            whole sequence, as in the published protocol, so the pixels of an image depend on its position.
        labels
            One per image, for a conditional model. Default: `inferred_labels`.
        seed
            Seed of the latent noise.
        """
        raw = self.levels(images)
        indices = self._label_tensor(labels, len(raw), images)
        noise = latent_noise(len(raw), self.model.latent_dim, seed)

        def decode_part(part: slice, x: Tensor, infer: Infer) -> tuple[np.ndarray, Tensor, Tensor]:
            inference = infer(noise[part])
            terms = elbo.terms_of(inference, x)
            return self._to_images(inference.likelihood), terms.distortion, terms.rate.sum(-1)

        decoded, distortion, rate = zip(*map_held_out(self.model, raw, indices, decode_part), strict=True)
        nats = (torch.cat(part).numpy() for part in (distortion, rate))
        return Reconstructions(as_shown(raw.numpy()), np.concatenate(decoded), *nats)

    def score_samples(
        self,
        images: np.ndarray,
        labels: Labels | None = None,
        *,
        samples: int = 100,
        seed: int = 0,
    ) -> np.ndarray:
        """Return the importance-weighted bound on log p(x), or on log p(x|y), of each image, nats, float64 (N,).

        Higher is better. All images use the same noise samples. Without labels, a conditional model uses p(x) = Σ p(x|y)/K, with
        equally likely labels. The bound alone is a poor detector of outliers: simple images score high (Nalisnick et al. 2019).

        Parameters
        ----------
        images, labels, seed
            As for `reconstruct`.
        samples
            Number of samples of z per image. The bound increases with it towards log p (Burda et al. 2016, eq. 8).

        Raises
        ------
        ConfigError
            If the model is an autoencoder, or `samples` is below 1.
        """
        if self.conditional and labels is None:
            under = [np.full(len(images), label) for label in range(len(self.classes))]
            each = [self.score_samples(images, y, samples=samples, seed=seed) for y in under]
            return np.logaddexp.reduce(each, axis=0) - np.log(len(each))
        raw = self.levels(images)
        indices = self._label_tensor(labels, len(raw))
        nats = negative_bounds(self.model, raw, indices, samples=[samples], seed=seed, shared=True)
        return -nats[:, 0].numpy()

    @torch.inference_mode()
    def encode(
        self,
        images: np.ndarray,
        labels: Labels | None = None,
        *,
        binarised: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Encoded:
        """Return the posterior of every image; `images` and `labels` are as for `reconstruct`.

        Parameters
        ----------
        binarised
            Whether images are binarised for a Bernoulli model. If False, it receives grey levels, and the posterior of an image
            does not depend on its position.
        progress
            Called as `progress(done, total)` after each chunk.
        """
        raw = self.levels(images, binarised=binarised)
        indices = self._label_tensor(labels, len(raw), images)

        def posterior(part: slice, x: Tensor, _: Infer) -> tuple[Tensor, Tensor]:
            found = self.model.posterior(x, None if indices is None else indices[part])
            return found.mean, found.log_variance

        parts = map_held_out(self.model, raw, indices, posterior, progress=progress)
        means, log_variances = (torch.cat(part) for part in zip(*parts, strict=True))
        return Encoded(means.numpy(), log_variances.numpy())

    def inferred_labels(self, images: np.ndarray) -> np.ndarray:
        """Return the most probable label of each image under a conditional model, int64 (N,), independent of other images."""
        each = [self.levels(image[None]) for image in as_stored(images, self.model.shape)]
        return likeliest_labels(self.model, torch.cat(each)).numpy()

    def matched_labels(self, labels: np.ndarray | None, classes: Sequence[str]) -> np.ndarray | None:
        """Map the labels of a dataset to those of this model by class name only; None for an unconditional model.

        Parameters
        ----------
        labels
            (N,), indices into `classes`; None if the dataset has no labels.
        classes
            Class names of the dataset.

        Raises
        ------
        LabelError
            If the model needs labels and the dataset has none, or has a class that the model does not know.
        """
        if not self.conditional:
            return None
        if labels is None:
            raise LabelError(
                "got images without labels, but the model is a cvae; expected one folder per class, or an unconditional model"
            )
        return labels_by_name(labels, classes, self.classes)

    def _takes_no_labels(self, label: object) -> LabelError:
        given = repr(label) if isinstance(label, str) else label
        return LabelError(f"got label {given}, but this model ({self.kind}) takes none; expected none: leave it out")

    def _label_tensor(self, labels: Labels | None, count: int, images: np.ndarray | None = None) -> Tensor | None:
        """Return labels as indices or weights; those of `images` are inferred if None are given."""
        if not self.conditional:
            if labels is not None and len(labels):
                raise self._takes_no_labels(labels[0])
            return None
        if labels is None and images is not None:
            return torch.from_numpy(self.inferred_labels(images))
        if labels is None or len(labels) == 0:
            raise LabelError(f"got no labels; expected one of {', '.join(self.classes[:20])} for every image")
        return torch.from_numpy(indices_or_weights(labels, count, self.classes))

    def levels(self, images: np.ndarray, *, binarised: bool = True) -> Tensor:
        """Convert images of any accepted layout to the targets of the likelihood: uint8 levels, or reals, (N, *shape).

        Raises
        ------
        DataError
            If the images do not have the shape or type that the model was trained on.
        """
        stored = as_stored(images, self.model.shape)
        return held_out_levels(stored, self.likelihood) if binarised else torch.from_numpy(stored)

    def _chunks(self, count: int) -> Iterator[slice]:
        at_once = images_at_once(self.model.shape)
        for first in range(0, count, at_once):
            yield slice(first, min(first + at_once, count))

    def _to_images(self, likelihood: Likelihood, generator: torch.Generator | None = None) -> np.ndarray:
        values = likelihood.mean() if generator is None else likelihood.sample(generator)
        if len(self.model.shape) == 1:
            return values.numpy()
        return as_shown(values.clamp(0, 1).mul_(255).round_().to(torch.uint8).numpy())


def load(
    folder: str | os.PathLike[str], *, trust_code: bool = False, encoder: Network = None, decoder: Network = None
) -> TrainedModel:
    """Load the trained model of a run folder.

    A run with custom networks names the modules that define them. They are imported, which runs their code, only with consent:
    `trust_code`, or the networks as `encoder` and `decoder` (classes or import paths), which replace those that it names.

    Raises
    ------
    RunError
        If the run is missing, incomplete, altered, or written by a newer version, or names custom networks without consent.
    ConfigError
        If a custom network cannot be imported, or is given for a built-in one.
    """
    run = runs.with_networks(runs.open_run(Path(folder), trust_code=trust_code), encoder=encoder, decoder=decoder)
    config = run.config.model
    origin = runs.Origin(run.config, run.data, runs.weight_facts(run))
    axes = runs.LatentStats.from_json(origin.facts.get("axes"))
    return TrainedModel(runs.load_model(run), config.model, config.likelihood, run.data.classes, axes, origin)
