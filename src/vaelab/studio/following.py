"""A training in another process, followed through the files of its run: its figures, pictures, and when it has ended."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, final

from vaelab.errors import RunError, VaelabError
from vaelab.inference.trained import load
from vaelab.studio.bundle import first_picture, has_weights
from vaelab.training import runs
from vaelab.training.runs import Run

LOOK_EVERY = 0.5
"""Seconds between two looks."""

STALE = 120.0
"""Seconds without a new file after which a training that has not ended counts as stopped."""

KEPT = 20
"""Pictures that are kept."""


class Event(NamedTuple):
    """What has happened: `metrics`, `samples` or `done`, and what there is to say of it, for JSON."""

    name: str
    data: dict[str, Any]


def is_training(run: Run) -> bool:
    """Whether a run is being trained, as far as its files tell: its budget is not used up, and one of them is new."""
    facts = runs.resume_facts(run)
    if facts is not None and facts.get("fraction", 1.0) >= 1.0:
        return False
    names = (runs.CONFIG, runs.WEIGHTS, runs.RESUME, runs.METRICS)
    changed = [path.stat().st_mtime for name in names if (path := run.folder / name).exists()]
    return time.time() - max(changed, default=0.0) < STALE


def seconds_left(run: Run, line: dict[str, Any]) -> float | None:
    """Of a training, when it wrote this line of figures: by its budget, or by how long its epochs took; None before the first."""
    facts = runs.resume_facts(run) or {}
    budget = runs.read_budget(facts["budget"]) if "budget" in facts else run.config.train.budget
    if budget.unit == "seconds":
        return max(0.0, budget.amount - line["seconds"])
    return line["seconds"] * max(0.0, budget.amount / line["epoch"] - 1) if line["epoch"] else None


@final
class Following:
    """Looks at a run now and then, and keeps what has happened.

    Attributes
    ----------
    training
        Whether it was being trained at the last look.
    events
        What has happened, in order.
    pictures
        The last pictures, PNG, by number.
    """

    def __init__(self, run: Run, finished: Callable[[], None]) -> None:
        self.run, self.finished = run, finished
        self.training = is_training(run)
        self.events: list[Event] = []
        self.pictures: dict[int, bytes] = {}
        self._lines = max(0, len(runs.read_metrics(run)) - 1)  # the last one is for pages that open now
        self._weights, self._step = 0.0, -1
        self._closed = threading.Event()

    def look(self) -> None:
        """Note what is new. A training that has ended is told of after `finished` has returned."""
        if not (was := self.training) and not is_training(self.run):
            return
        lines = runs.read_metrics(self.run)
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
        """A picture of the fixed points, if the weights are others than at the last."""
        path = self.run.folder / runs.WEIGHTS
        changed = path.stat().st_mtime if path.exists() else 0.0
        if changed == self._weights or not has_weights(self.run):
            return
        self._weights = changed
        try:
            step = runs.weight_facts(self.run)["step"]
            if step == self._step:  # saved again, but none better were found
                return
            picture, _ = first_picture(load(self.run.folder))
        except RunError:  # written anew between two readings: the next look sees it
            self._weights = 0.0
            return
        self._step = step
        buffer, number = io.BytesIO(), len(self.events)
        picture.save(buffer, format="PNG")
        self.pictures[number] = buffer.getvalue()
        self.pictures.pop(next(iter(self.pictures)) if len(self.pictures) > KEPT else -1, None)
        self.events.append(Event("samples", {"url": f"live/{number}.png", "step": step}))

    def begin(self) -> None:
        """Look every `LOOK_EVERY` seconds, in a thread of its own."""

        def go_on() -> None:
            while not self._closed.wait(LOOK_EVERY):
                with suppress(VaelabError, OSError):  # a run that is moved or taken away: there is nothing to look at
                    self.look()

        threading.Thread(target=go_on, name="following", daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._closed.set()

    def first_to_send(self) -> list[int]:
        """Of the events so far, the numbers of those that a page that opens now should have: the last figures and picture."""
        last = {event.name: number for number, event in enumerate(self.events)}
        return sorted(number for name, number in last.items() if name != "done" and self.training)


def as_text(number: int, event: Event) -> str:
    """An event as it is sent."""
    return f"id: {number}\nevent: {event.name}\ndata: {json.dumps(event.data)}\n\n"
