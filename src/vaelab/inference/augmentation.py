"""Fill classes with generated images: how many each class needs, and the images.

Symbols: K classes, n_k training images of class k; a class is filled up to max n_k, or to a given number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch

from vaelab.data.dataset import Dataset, Split
from vaelab.data.layout import as_stored, describe_shape
from vaelab.errors import ConfigError, DataError, LabelError, counted
from vaelab.inference.trained import Decode, TrainedModel
from vaelab.random import generator_for

To = int | Literal["balance"]

ROWS = 1000
"""Number of latents drawn, and images decoded, together."""


def augment(
    model: TrainedModel,
    dataset: Dataset,
    *,
    to: To = "balance",
    temperature: float = 1.0,
    seed: int = 0,
    decode: Decode = "mean",
) -> Split:
    """Generate the images that fill each class of the training images up to the same number.

    Parameters
    ----------
    model
        A conditional model of images, trained on the training images of `dataset`.
    dataset
        Labelled images. Only the training images count; no validation or test image is used.
    to
        "balance" for the size of the largest class, or a number of images per class.
    temperature
        Standard deviation of the latent vectors; 1 is the prior of the model.
    seed
        Seed of the latent vectors, and of the pixels with `decode="sample"`. The latents of an image depend on the seed, its
        class and its number within the class.
    decode
        Mean of p(x|z), or a sample of it.

    Returns
    -------
    generated
        The generated images alone, uint8 (N, C, H, W), class by class, with labels in the order of `dataset.classes`, int64 (N,).

    Raises
    ------
    ConfigError
        If the model is not conditional, `to` is below the size of the largest class, or no class needs an image.
    LabelError
        If the data have no labels, or a class that the model does not know.
    DataError
        If the data are rows of a table or images of another shape, or a class has no training images.
    """
    missing = missing_images(model, dataset, to)
    parts = list(generated_parts(model, dataset, missing, temperature=temperature, seed=seed, decode=decode))
    labels = np.repeat(np.arange(len(missing)), missing)
    return Split(np.concatenate([images for _, images in parts]), labels)


def missing_images(model: TrainedModel, dataset: Dataset, to: To) -> np.ndarray:
    """Return the number of images to generate for each class, int64 (K,); parameters and errors as for `augment`."""
    if not model.conditional:
        raise ConfigError(
            f"`model`: got one of kind {model.kind}, which takes no labels; expected a conditional one: train it with "
            "`model='cvae'`"
        )
    if dataset.shape != model.model.shape:
        raise DataError(
            f"{dataset.name}: got {describe_shape(dataset.shape)} for a model of {describe_shape(model.model.shape)}; expected "
            "the same; give the data that the model was trained on"
        )
    if len(dataset.shape) != 3:
        raise DataError(f"{dataset.name}: got a table; expected images; rows can be generated with `vaelab sample`")
    if dataset.train.labels is None:
        raise LabelError(f"{dataset.name}: got images without labels; expected one class folder or label per class")
    model.matched_labels(np.arange(len(dataset.classes)), dataset.classes)  # raises for an unknown class
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    if not counts.all():
        name = dataset.classes[int(counts.argmin())]
        raise DataError(
            f"{dataset.name}: got no training images of the class {name!r}; expected some of each; select others with `classes`"
        )
    largest = int(counts.max())
    if to != "balance" and (isinstance(to, bool) or not isinstance(to, int | np.integer) or to < largest):
        name = dataset.classes[int(counts.argmax())]
        raise ConfigError(
            f"`to`: got {to}; expected balance, or at least {largest:,}, the number of training images of the class {name!r}"
        )
    missing = (largest if to == "balance" else to) - counts
    if not missing.any():
        raise ConfigError(
            f"`to`: got {to}, but all {len(counts)} classes have {counted(largest, 'training image')}; expected a larger number"
        )
    return missing


def generated_parts(
    model: TrainedModel,
    dataset: Dataset,
    missing: np.ndarray,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    decode: Decode = "mean",
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield at most `ROWS` generated images at a time, uint8 (n, C, H, W), after the index of their class in `dataset.classes`.

    `missing` is the number of images of each class, (K,); the other parameters are as for `augment`.
    """
    model.latents(1, temperature=temperature)  # checks it
    if decode not in get_args(Decode):
        raise ConfigError(f"`decode`: got {decode!r}; expected mean or sample")
    known = model.matched_labels(np.arange(len(missing)), dataset.classes)
    assert known is not None
    for k, count in enumerate(missing.tolist()):
        for first in range(0, count, ROWS):
            generator = generator_for(f"augmentation {k}", seed, first // ROWS)
            noise = temperature * torch.randn(ROWS, model.model.latent_dim, generator=generator)
            z = noise[: count - first].numpy()
            images = model.decode(z, np.full(len(z), known[k]), decode=decode, seed=generator.initial_seed())
            yield k, as_stored(images, dataset.shape)
