"""The line of a training on its best weights: when they were found, that they are saved, and whether it overfitted since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelab.runs import Run

ENOUGH, RISE = 3, 0.002
"""Validations after the best one, and the rise over them as a share of its value, from which overfitting is reported."""


def best_weights_lines(run: Run, resumed_at: int | None) -> Iterator[str]:
    """Yield when the saved weights were validated; nothing for a run without validation, or whose initial weights are the best.

    Parameters
    ----------
    run
        The run, with its weights.
    resumed_at
        Step from which this session has continued it, or None if it is new.
    """
    from vaelab import runs

    step, train = runs.weight_facts(run)["step"], run.config.train
    lines = [line for line in runs.read_metrics(run) if "validation" in line and "train" in line]
    at = next((index for index, line in enumerate(lines) if line["step"] == step), None)
    if at is None:
        return
    stale = resumed_at is not None and step <= resumed_at
    text = "no better weights since the training was resumed: " if stale else ""
    text += f"best at epoch {lines[at]['epoch']:.1f} of {lines[-1]['epoch']:.1f}; those weights are saved"
    if train.iwae_samples == 1 and (risen := overfitted(lines[at:], train.beta)):
        text += f"; since then, {risen}"
    yield text


def overfitted(lines: Sequence[dict[str, Any]], beta: float) -> str:
    """Describe the overfitting in the lines of `metrics.jsonl` from the best validation on; "" if there is none.

    The validation figure, distortion + β · rate, has risen and that of the training images has fallen.
    """
    checked, trained = ([_value(line[part], beta) for line in lines] for part in ("validation", "train"))
    last = checked[-ENOUGH:]
    if len(checked) <= ENOUGH or sum(last) / ENOUGH - checked[0] <= RISE * abs(checked[0]) or trained[-1] >= trained[0]:
        return ""
    return (
        f"the validation figure has risen from {checked[0]:,.1f} to {checked[-1]:,.1f} nats while that of the training images "
        "has fallen (overfitting): longer training does not help, more images do"
    )


def _value(nats: dict[str, float], beta: float) -> float:
    return nats["distortion"] + beta * nats["rate"]
