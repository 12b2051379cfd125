"""A classifier of the tiny data that needs no training, and evaluation contexts of untrained models."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from building import build_model
from torch import nn

from vaelab.config import ModelConfig
from vaelab.data import Dataset, Split
from vaelab.evaluation.context import EvaluationContext, Settings
from vaelab.evaluation.image_network import FEATURES
from vaelab.evaluation.reference_classifier import ReferenceClassifier
from vaelab.inference.trained import TrainedModel


def tiny_classifier(dataset: Dataset) -> ReferenceClassifier:
    """Random features of the pixels, with a ridge regression of the training labels on them."""
    generator = torch.Generator().manual_seed(0)
    pixels = dataset.train.images[0].size
    into = nn.Linear(pixels, FEATURES)
    into.weight.data = torch.randn(FEATURES, pixels, generator=generator) / pixels**0.5
    into.bias.data = 0.3 * torch.randn(FEATURES, generator=generator)
    body = nn.Sequential(nn.Flatten(), into, nn.ReLU())
    head = nn.Linear(FEATURES, len(dataset.classes))
    labels = torch.from_numpy(dataset.train.labels)  # type: ignore[arg-type]
    with torch.no_grad():
        features = body(torch.from_numpy(dataset.train.images).float() / 255)
        wide = torch.cat([features, torch.ones(len(features), 1)], 1).double()
        wanted = 20 * (torch.eye(len(dataset.classes), dtype=torch.float64)[labels] - 0.5)
        solved = torch.linalg.solve(wide.T @ wide + 0.1 * torch.eye(FEATURES + 1), wide.T @ wanted).T.float()
        head.weight.data, head.bias.data = solved[:, :-1].contiguous(), solved[:, -1].contiguous()
    nn.Sequential(body, head).requires_grad_(False)
    classifier = ReferenceClassifier(body, head, dataset.shape, 0.5, len(dataset.test))
    real = dataset.test if len(dataset.test) else dataset.validation
    return replace(classifier, accuracy=float((classifier.read(real.images) == real.labels).mean()))


def context_of(
    dataset: Dataset, kind: str = "cvae", *, classifier: bool = True, classes=None, **settings: Any
) -> EvaluationContext:
    """A context with an untrained model of the data's shape and classes, or with the given `classes`."""
    names = dataset.classes if classes is None else classes
    likelihood = "gaussian" if len(dataset.shape) == 1 else "bernoulli"
    config = ModelConfig(model=kind, network="mlp", latent_dim=2, likelihood=likelihood, width=16, depth=1)  # type: ignore[arg-type]
    model = build_model(config, dataset.shape, len(names)).eval()
    trained = TrainedModel(model, kind, likelihood, tuple(names) if kind == "cvae" else ())  # type: ignore[arg-type]
    context = EvaluationContext(trained, dataset, Settings(**settings))
    if classifier:
        context.__dict__["classifier"] = tiny_classifier(dataset)
    return context


def unlabelled(dataset: Dataset) -> Dataset:
    """The dataset without labels."""
    bare = [Split(split.images) for split in (dataset.train, dataset.validation, dataset.test)]
    return Dataset(dataset.name, bare[0], bare[1], bare[2])


def one_class(dataset: Dataset, name: str) -> Dataset:
    """The dataset with one label for all images."""
    train, validation, test = (
        Split(part.images, np.zeros(len(part), dtype=np.int64))
        for part in (dataset.train, dataset.validation, dataset.test)
    )
    return Dataset("one", train, validation, test, (name,))


def table(count: int = 60, labelled: bool = True) -> Dataset:
    """A table of three real columns and two classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    rows = Split((rng.standard_normal((count, 3)) + labels[:, None]).astype(np.float32), labels if labelled else None)
    third = count // 3
    classes = ("low", "high") if labelled else ()
    return Dataset("table", rows[:third], rows[third : 2 * third], rows[2 * third :], classes)


def channels_last(images: np.ndarray) -> np.ndarray:
    """Grey images (N, 1, H, W) in the layout of generated images, (N, H, W)."""
    return images[:, 0]
