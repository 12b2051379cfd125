"""What a training writes into its run folder: a line per validation, checkpoints, and what is left after a failure."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaelab.runs.figures import Averages, Sums
from vaelab.runs.metrics import append_metrics
from vaelab.runs.resume import save_resume
from vaelab.runs.run import Run, discard
from vaelab.runs.weights import save_weights

State = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and facts about them."""


@final
class Recorder:
    """Writes the files of `run`, whose log has `lines` lines."""

    def __init__(self, run: Run, lines: int = 0) -> None:
        self.run, self.lines = run, lines
        self._saved = False  # whether the last checkpoint is of this session, and so known to be whole, and of a step

    def log(self, facts: dict[str, Any], train: Sums, validation: Averages | None) -> None:
        """Append a line to the log: `facts`, and the figures of the steps since the last line and of the validation."""
        line = dict(facts)
        if train.steps:
            line["train"] = _figures(train.averages())
        if validation is not None:
            line["validation"] = _figures(validation)
        append_metrics(self.run, line, self.lines + 1)
        self.lines += 1

    def save(self, weights: State | None, state: State) -> None:
        """Save a checkpoint: the weights to use, if there are any, and what resuming needs; the one before is kept."""
        tensors, facts = state
        if weights is not None:
            save_weights(self.run, *weights, keep=self._saved)
        save_resume(self.run, tensors, facts | {"lines": self.lines}, keep=self._saved)
        self._saved = facts["step"] > 0

    def rescue(self, weights: State | None, fresh: bool) -> str:
        """Save the weights from before the loss diverged, and return what became of the run; a `fresh` one may be removed."""
        if weights is not None and weights[1]["step"] > 0:
            save_weights(self.run, *weights)
            return f"; the last good weights are saved in {self.run.folder}"
        if fresh:
            discard(self.run)
        return f"; nothing was learned, and {self.run.folder} is {'removed' if fresh else 'unchanged'}"


def _figures(averages: Averages) -> dict[str, float]:
    return {"nats": averages.nats, "distortion": averages.distortion, "rate": averages.rate}
