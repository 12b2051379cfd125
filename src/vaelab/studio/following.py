"""Follow a training in another process through the files of its run: metrics, generated images, and its end."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, final

from vaelab import runs
from vaelab.errors import RunError, VaelabError
from vaelab.inference.trained import load
from vaelab.runs import Run
from vaelab.studio.bundle import first_picture, has_weights
from vaelab.studio.records import curve_of

LOOK_EVERY = 0.5
"""Seconds between two polls."""

STALE = 120.0
"""Seconds without a changed file after which an unfinished training counts as stopped."""

MAX_PICTURES = 20
"""Number of pictures kept in memory."""


class Event(NamedTuple):
    """An event, named `metrics`, `samples`, `done` or `problem`, and its data for JSON."""

    name: str
    data: dict[str, Any]


def is_training(run: Run) -> bool:
    """Return whether a run is being trained: its budget is not used up, and one of its files has changed recently."""
    facts = _resume_facts(run)
    fraction = facts.get("fraction") if facts else 0.0
    if not isinstance(fraction, int | float) or fraction >= 1.0:
        return False
    names = (runs.CONFIG, runs.WEIGHTS, runs.RESUME, runs.METRICS)
    changed = [path.stat().st_mtime for name in names if (path := run.folder / name).exists()]
    return time.time() - max(changed, default=0.0) < STALE


def seconds_left(run: Run, line: dict[str, Any]) -> float | None:
    """Remaining time of a training when it wrote this line of metrics; None if it is unknown before the first epoch."""
    facts = _resume_facts(run)
    budget = runs.read_budget(facts["budget"]) if "budget" in facts else run.config.train.budget
    if budget.unit == "seconds":
        return max(0.0, budget.amount - line["seconds"])
    return line["seconds"] * max(0.0, budget.amount / line["epoch"] - 1) if line["epoch"] else None


def _resume_facts(run: Run) -> dict[str, Any]:
    """Return the numbers in `resume.safetensors`, or none if it is missing, incomplete or damaged."""
    with suppress(VaelabError, OSError, ValueError, LookupError, TypeError, RecursionError):
        facts = runs.resume_facts(run)
        return facts if isinstance(facts, dict) else {}
    return {}


@final
class Following:
    """Polls a run and records events.

    Attributes
    ----------
    training
        Whether the run was being trained at the last poll.
    events
        All events in order.
    pictures
        The last pictures as PNG, by number of their event.
    problem
        Why the run could not be read at the last poll, such as a folder that was deleted; None if it could.
    """

    def __init__(self, run: Run, finished: Callable[[], None]) -> None:
        self.run, self.finished = run, finished
        self.training = is_training(run)
        self.events: list[Event] = []
        self.pictures: dict[int, bytes] = {}
        self.problem: str | None = None
        self._lines = max(0, len(curve_of(run)) - 1)  # start with the last line, for pages that open now
        self._weights, self._step = 0.0, -1
        self._closed = threading.Event()

    def look(self) -> None:
        """Record new events, and `problem` if the run cannot be read, or can be read again."""
        problem = None
        try:
            if not (self.run.folder / runs.CONFIG).is_file():
                raise RunError(f"{self.run.folder}: the run was moved or deleted; restore it, or stop vaelab studio")
            self._look()
        except (VaelabError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:  # damaged files
            problem = str(error)
        if problem != self.problem:
            self.problem = problem
            self.events.append(Event("problem", {"message": problem}))

    def _look(self) -> None:
        """Record new events. `done` is recorded after `finished` has returned."""
        if not (was := self.training) and not is_training(self.run):
            return
        lines = curve_of(self.run)
        for line in lines[self._lines :]:
            self.events.append(Event("metrics", line | {"seconds_left": seconds_left(self.run, line)}))
        self._lines = len(lines)
        self.training = is_training(self.run)
        if self.training:
            self._draw()
        elif was:
            try:
                self.finished()
                self.events.append(Event("done", {}))
            except VaelabError as error:
                self.events.append(Event("done", {"error": str(error)}))

    def _draw(self) -> None:
        """Record an image of the fixed points, if the weights have changed."""
        path = self.run.folder / runs.WEIGHTS
        changed = path.stat().st_mtime if path.exists() else 0.0
        if changed == self._weights or not has_weights(self.run):
            return
        self._weights = changed
        try:
            step = runs.weight_facts(self.run)["step"]
            if step == self._step:  # saved again, but the best weights are the same
                return
            picture, _ = first_picture(load(self.run.folder, trust_code=self.run.trusted))
        except RunError:  # replaced during reading: try again at the next poll
            self._weights = 0.0
            return
        self._step = step
        buffer, number = io.BytesIO(), len(self.events)
        picture.save(buffer, format="PNG")
        self.pictures[number] = buffer.getvalue()
        self.pictures.pop(next(iter(self.pictures)) if len(self.pictures) > MAX_PICTURES else -1, None)
        self.events.append(Event("samples", {"url": f"live/{number}.png", "step": step}))

    def begin(self) -> None:
        """Poll every `LOOK_EVERY` seconds in a separate thread."""

        def poll() -> None:
            while not self._closed.wait(LOOK_EVERY):
                self.look()

        threading.Thread(target=poll, name="following", daemon=True).start()

    def end(self) -> None:
        """Stop polling."""
        self._closed.set()

    def first_to_send(self) -> list[int]:
        """Numbers of the events for a page that opens now: a problem; the last metrics and picture during a training."""
        last = {event.name: number for number, event in enumerate(self.events)}
        current = {"metrics": self.training, "samples": self.training, "problem": self.problem is not None}
        return sorted(number for name, number in last.items() if current.get(name, False))


def as_text(number: int, event: Event) -> str:
    """Format an event for the event stream."""
    return f"id: {number}\nevent: {event.name}\ndata: {json.dumps(event.data)}\n\n"
