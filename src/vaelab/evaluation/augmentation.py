"""Does generating more help: classifiers trained on real, oversampled, and real and generated images, tested on real ones.

Symbols: S seeds, K classes, N test images. A class's recall is the share of its test images that are classified correctly, the
balanced accuracy is the mean of the recalls. Differences are in percentage points, paired by seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import stdtrit

from vaelab.data.dataset import Dataset, Split
from vaelab.errors import ConfigError, DataError, counted
from vaelab.evaluation.image_network import steps_for
from vaelab.evaluation.reference_classifier import train_classifier
from vaelab.evaluation.work import Work, silent
from vaelab.inference.augmentation import To, generated_parts, missing_images
from vaelab.inference.trained import Decode, TrainedModel

SEEDS = 5
CONFIDENCE = 0.95
BEYOND = 2.0
"""Standard errors over the test images that a difference must exceed."""

LEAST_PER_CLASS = 10
"""Smallest number of test images of a class: with fewer, one image changes its recall by more than 10 points."""

TRAINED_ON = ("real", "oversampled", "generated")
"""What the classifiers are trained on: real images, real images with those of small classes repeated, real and generated ones."""

RULE = (
    "helps: both differences, to real and to oversampled images, are above 0; hurts: one of them is below 0; does not help: "
    f"otherwise. A difference is above or below 0 if its {100 * CONFIDENCE:g} % t-interval over the seeds is, and it exceeds "
    f"{BEYOND:g} standard errors over the test images."
)

Verdict = Literal["helps", "does not help", "hurts"]


class Interval(NamedTuple):
    """Mean and confidence interval of the mean."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """Difference in balanced accuracy, percentage points: its interval over seeds, and its standard error over test images."""

    over_seeds: Interval
    error: float

    @property
    def sign(self) -> int:
        """1 if the difference is above 0 by `RULE`, −1 if below, else 0."""
        mean, low, high = self.over_seeds
        if abs(mean) <= BEYOND * self.error:
            return 0
        return int(low > 0) - int(high < 0)


@dataclass(frozen=True)
class Judgement:
    """Result of `judge_augmentation`.

    Attributes
    ----------
    correct
        Whether each test image was classified correctly, bool (3, S, N), in the order of `TRAINED_ON`.
    labels
        Labels of the test images, int64 (N,), each of the K classes among them.
    classes
        The K class names.
    images
        Number of training images of each kind of classifier, in the order of `TRAINED_ON`.
    steps
        Number of training steps of every classifier.
    seed
        The first of the S seeds.
    """

    correct: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    images: tuple[int, int, int]
    steps: int
    seed: int = 0

    @property
    def recall(self) -> np.ndarray:
        """Share of the test images of each class that were classified correctly, 0…1, float64 (3, S, K)."""
        return np.stack([self.correct[..., self.labels == k].mean(-1) for k in range(len(self.classes))], axis=-1)

    @property
    def balanced_accuracy(self) -> np.ndarray:
        """Mean of the recalls, %, float64 (3, S)."""
        return 100 * self.recall.mean(-1)

    @property
    def accuracies(self) -> dict[str, Interval]:
        """Balanced accuracy by what the classifier was trained on, %."""
        return dict(zip(TRAINED_ON, map(t_interval, self.balanced_accuracy), strict=True))

    @property
    def differences(self) -> dict[str, Difference]:
        """Balanced accuracy with generated images minus that with "real" and with "oversampled" images, percentage points."""
        accuracy = self.balanced_accuracy
        return {
            name: Difference(t_interval(accuracy[2] - accuracy[k]), self._error(self.correct[2].mean(0), k))
            for k, name in enumerate(TRAINED_ON[:2])
        }

    @property
    def verdict(self) -> Verdict:
        """Whether generating helps, by `RULE`."""
        return verdict_of(self.differences)

    @property
    def sentence(self) -> str:
        """The verdict with the figures that it depends on."""
        difference = {
            name: f"{mean:+.2f} points ({low:+.2f} to {high:+.2f})"
            for name, ((mean, low, high), _) in self.differences.items()
        }
        return (
            f"Generating {self.verdict}: trained on real and generated images, a classifier has a balanced accuracy of "
            f"{self.accuracies['generated'].mean:.2f} % on {counted(len(self.labels), 'real test image')}; compared with real "
            f"images alone {difference['real']}, with oversampled ones {difference['oversampled']} "
            f"({100 * CONFIDENCE:g} % intervals over {self.correct.shape[1]} seeds)."
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything but the answers to single images, for a JSON file."""
        recall = self.recall
        trained_on = {
            name: {
                "images": self.images[k],
                "balanced_accuracy": self.accuracies[name]._asdict() | {"each": self.balanced_accuracy[k].tolist()},
                "recall": {label: recall[k, :, i].tolist() for i, label in enumerate(self.classes)},
            }
            for k, name in enumerate(TRAINED_ON)
        }
        differences = {
            name: each.over_seeds._asdict() | {"error_over_test_images": each.error}
            for name, each in self.differences.items()
        }
        counts = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "rule": RULE,
            "units": "balanced accuracy in %, differences in percentage points, recall 0…1",
            "confidence": CONFIDENCE,
            "seeds": [self.seed + number for number in range(self.correct.shape[1])],
            "steps": self.steps,
            "test_images": dict(zip(self.classes, counts, strict=True)),
            "trained_on": trained_on,
            "difference_of_generated_to": differences,
        }

    def _error(self, share: np.ndarray, k: int) -> float:
        """Return the standard error over test images of the difference to kind k, given the `share` of seeds that are correct."""
        difference = share - self.correct[k].mean(0)
        of_classes = [difference[self.labels == label] for label in range(len(self.classes))]
        return 100 * math.sqrt(sum(each.var(ddof=1) / len(each) for each in of_classes)) / len(of_classes)


def t_interval(values: np.ndarray) -> Interval:
    """Return the mean of independent values, (S,), S ≥ 2, and Student's interval for it: mean ± t s/√S."""
    mean, half = values.mean(), stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / len(values) ** 0.5
    return Interval(float(mean), float(mean - half), float(mean + half))


def verdict_of(differences: Mapping[str, Difference]) -> Verdict:
    """Return the verdict by `RULE`."""
    signs = {each.sign for each in differences.values()}
    return "hurts" if -1 in signs else "helps" if signs == {1} else "does not help"


def expect_test_images(dataset: Dataset) -> None:
    """Raise a DataError or ConfigError if there are too few classes or test images to judge with."""
    if len(dataset.classes) < 2:
        raise DataError(f"{dataset.name}: got one class; expected at least two to judge a classifier")
    labels = dataset.test.labels
    counts = np.bincount(labels, minlength=len(dataset.classes)) if labels is not None else np.zeros(1, dtype=np.int64)
    if counts.min() < LEAST_PER_CLASS:
        name = dataset.classes[int(counts.argmin())]
        raise DataError(
            f"{dataset.name}: got {counted(int(counts.min()), 'test image')} of the class {name!r}; `judge` needs at least "
            f"{LEAST_PER_CLASS} of each class; add some in a folder test/, or leave `judge` out"
        )


def judge_augmentation(
    model: TrainedModel,
    dataset: Dataset,
    *,
    to: To = "balance",
    temperature: float = 1.0,
    seed: int = 0,
    decode: Decode = "mean",
    seeds: int = SEEDS,
    steps: int | None = None,
    work: Work = silent,
) -> Judgement:
    """Measure whether generated images help a classifier.

    For every seed, three classifiers (`vaelab.evaluation.reference_classifier`) are trained with the same number of steps: on the
    real training images, on these with images of small classes repeated until all classes have the same size, and on these with
    generated images instead. Each classifies the real test images. The classifier rotates, scales, shears and shifts all
    training images at random.

    The training images are copied into memory.

    Parameters
    ----------
    model
        Conditional model that was trained on `dataset`. If it has seen other images, the result is not about generating; if it
        has seen the test images, it is wrong.
    dataset
        Labelled images, with at least `LEAST_PER_CLASS` test images of each class.
    to, temperature, decode
        As for `vaelab.augment`.
    seed
        First seed. Classifiers, repeated images and generated images are drawn with seed, seed + 1, …
    seeds
        S, the number of seeds, at least 2.
    steps
        Number of training steps of every classifier. Default: that of the reference classifier for so many images.
    work
        Progress callback.

    Raises
    ------
    ConfigError, LabelError, DataError
        As for `vaelab.augment`; if there are too few test images or classes; if `seeds` is below 2 or `steps`
        below 1.
    """
    missing = missing_images(model, dataset, to)
    expect_test_images(dataset)
    if seeds < 2:
        raise ConfigError(f"`seeds`: got {seeds}; expected at least 2, for an interval")
    if steps is not None and steps < 1:
        raise ConfigError(f"`steps`: got {steps}; expected a whole number of at least 1")
    real, test = dataset.train, dataset.test
    assert real.labels is not None
    assert test.labels is not None
    pool = np.empty((len(real) + int(missing.sum()), *dataset.shape), np.uint8)
    pool[: len(real)] = real.images
    filled = Split(pool, np.concatenate([real.labels, np.repeat(np.arange(len(missing)), missing)]))
    steps = steps or steps_for(len(filled))
    correct = np.empty((len(TRAINED_ON), seeds, len(test)), bool)
    for s in range(seeds):
        first = len(real)
        for _, images in generated_parts(
            model, dataset, missing, temperature=temperature, seed=seed + s, decode=decode
        ):
            filled.images[first : first + len(images)] = images
            first += len(images)
        repeated = repeated_images(real.labels, missing, seed + s)
        for k, split in enumerate((real, filled[repeated], filled)):
            done = (s * len(TRAINED_ON) + k) * steps

            def report(_: str, step: int, __: int, done: int = done) -> None:
                work(f"training {seeds * len(TRAINED_ON)} classifiers", done + step, seeds * len(TRAINED_ON) * steps)

            classifier = train_classifier(
                split, len(missing), test[:0], steps=steps, seed=seed + s, work=report
            )  # measured below, per image
            correct[k, s] = classifier.read(test.images) == test.labels
    return Judgement(correct, test.labels, dataset.classes, (len(real), len(filled), len(filled)), steps, seed)


def repeated_images(labels: np.ndarray, missing: np.ndarray, seed: int) -> np.ndarray:
    """Return indices of all images with these labels, (N,), and of `missing` repetitions of each class, (K,).

    Every image of a class is repeated equally often, except for a random part that is repeated once more.
    """
    rng = np.random.default_rng(seed)
    indices = [np.arange(len(labels))]
    for k, count in enumerate(missing.tolist()):
        of_class = np.flatnonzero(labels == k)
        times, rest = divmod(count, len(of_class))
        indices += [np.tile(of_class, times), rng.permutation(of_class)[:rest]]
    return np.concatenate(indices)
