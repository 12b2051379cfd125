"""Speed of a trained model: images/s of `sample` and `encode`, importance samples/s of `score_samples`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from steps import DENSE, drawings
from turns import Scale, spread, table, take_turns

import vaelab
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.inference.trained import TrainedModel

MANY, SAMPLES, SCORED = 10_000, 500, 100
"""Images sampled and encoded per call; K, and the number of images scored."""


def run_of(folder: Path, model: ModelConfig) -> TrainedModel:
    """Train a few steps into `folder` and load the model; its speed does not depend on the weights."""
    for _ in vaelab.fit(Config(model, TrainConfig(epochs=1)), drawings(1_200), out=folder):
        pass
    return vaelab.load(folder)


def generation(scale: Scale) -> Iterator[str]:
    """Yield the table; wall time includes labels and conversion to uint8."""
    drawn = drawings(6 * MANY).test
    assert drawn.labels is not None
    rows = []
    for name, config in (("784-400-20", DENSE), ("the default", ModelConfig())):
        with tempfile.TemporaryDirectory() as folder:
            model = run_of(Path(folder) / "run", config)
        labels = drawn.labels[:MANY] if model.conditional else None
        few = None if labels is None else labels[:SCORED]
        one = None if labels is None else labels[:1]
        count = MANY if labels is None else None
        calls: dict[str, tuple[int, Callable[[], object]]] = {
            "sample: images/s, 1 at a time": (1, partial(model.sample, one)),
            f"sample: images/s, {MANY:,} at a time": (MANY, partial(model.sample, labels, count=count)),
            f"encode: images/s, {MANY:,} at a time": (MANY, partial(model.encode, drawn.images[:MANY], labels)),
            f"importance samples/s, K = {SAMPLES} on {SCORED} images": (
                SAMPLES * SCORED,
                partial(model.score_samples, drawn.images[:SCORED], few, samples=SAMPLES),
            ),
        }
        turns = {what: partial(_rate, *call, scale.seconds / 2) for what, call in calls.items()}
        take_turns(turns, 1)  # warm-up
        rates = take_turns(turns, scale.rounds)
        rows.append([f"{name} ({model.kind})", *map(spread, rates.values())])
    whats = list(calls)
    yield table(
        ["", *(row[0] for row in rows)],
        [[what, *(row[place] for row in rows)] for place, what in enumerate(whats, start=1)],
    )


def _rate(each: int, call: Callable[[], object], seconds: float) -> float:
    """Return items per second, where one call makes `each` items."""
    made, began = 0, time.perf_counter()
    while not made or time.perf_counter() - began < seconds:
        call()
        made += each
    return made / (time.perf_counter() - began)
