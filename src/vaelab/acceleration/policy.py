"""When a training has its step compiled: at once, beside its first steps, before them, or not at all.

On a CUDA device a step is recorded as a graph from the start, compiled or not, unless compiling is switched off or a network is
one's own.

Compiling takes half a minute of one core, once for a network and a batch size; what was made is kept, and loaded in
milliseconds from then on. So a training that counts seconds starts without, and goes over when the step is made; it
leaves that out where too little time would be left to win it back. Compiled and plain steps round differently, so a
training that counts epochs, whose weights follow from its seed, has all of its steps compiled or none.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from typing import Literal

import torch

from vaelab.acceleration.graph import NotCompiledError, missing_compiler
from vaelab.acceleration.threads import Team
from vaelab.acceleration.worker import CompileJob
from vaelab.config import Config
from vaelab.training.trainer import Trainer

WORTH_SECONDS = {"mlp": 60.0, "conv": 120.0, "ladder": 120.0}
"""Seconds that must be left of a training for `auto` to compile beside it, by network: what that costs is won back by then.

Compiling takes some 15 s (mlp) and 20 s (conv) of one core of a quick machine, 29 s (mlp) and 60 s (a ladder's share) of a slow
one. Steps are then 1.5, 1.15 and 1.25 times as fast; a ladder's more than that, whose shares do not wait for one another.
"""

WORTH_SECONDS_HERE = {"mlp": 300.0, "conv": 300.0, "ladder": math.inf}
"""The same where the training itself must wait for the compiler, as on a GPU.

A ladder's step is some 1,200 operations there, which it takes minutes to compile; recorded, they follow one another anyway.
"""

WORTH_STEPS = 20_000
"""Steps that a training in epochs must have, in all, for `auto` to compile before the first: about two minutes' worth."""

LOOK_EVERY = 0.1
"""Seconds between two looks at a compiler that is waited for."""

Plan = Literal["never", "before", "beside"]


def plan(config: Config, steps: int | None) -> Plan:
    """When to compile; `steps` is how many there will be in all, None where seconds are counted.

    A network of one's own is compiled only if asked for: it is traced once, and may do other things the next time.
    """
    wish = config.train.compile
    if wish == "no" or (wish == "auto" and _own(config)):
        return "never"
    if steps is None:
        return "beside"
    return "before" if steps and (wish == "yes" or steps >= WORTH_STEPS) else "never"


def _own(config: Config) -> bool:
    return config.model.encoder is not None or config.model.decoder is not None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Compiling:
    """Has the step of a training compiled when that pays; `close` ends it wherever it is."""

    def __init__(self, trainer: Trainer, config: Config, steps: int | None, team: Team) -> None:
        self.stepper, self.config, self.team = trainer.stepper, config, team
        self.plan = plan(config, steps)
        self.asked = config.train.compile == "yes"
        self.on_cpu = trainer.device.type == "cpu"
        self._preparation: CompileJob | None = None
        if config.train.compile == "auto" and trainer.device.type not in ("cpu", "cuda"):
            self.plan = "never"
        self.records = trainer.device.type == "cuda" and config.train.compile != "no" and not _own(config)
        self._recipe = trainer.recipe() if self.plan != "never" and self.on_cpu else None

    def begin(self) -> Iterator[None]:
        """Before the first step: yields while that has to wait."""
        if self.records:
            self.stepper.record()
        if self.plan == "never" or self._load():
            return
        if self.plan == "before":
            self._start()
            while self._preparation is not None:
                yield
                time.sleep(LOOK_EVERY)
                self._look()

    def tend(self, seconds_left: float) -> None:
        """From time to time, with so many seconds of the training left."""
        if self.stepper.at_once is not None:  # what is compiled takes a batch whole
            self.close()
        elif self._preparation is not None:
            self._look()
        elif self.plan == "beside" and seconds_left >= (0.0 if self.asked else self._worth):
            self._start()

    def close(self) -> None:
        """End a compiler that still runs; none is started from now on."""
        self.plan = "never"
        if self._preparation is not None:
            self._preparation.close()
            self._preparation = None
            self.team.limit_to(self.team.most)

    @property
    def _worth(self) -> float:
        assert self.config.model.network is not None
        return (WORTH_SECONDS if self.on_cpu else WORTH_SECONDS_HERE)[self.config.model.network]

    def _start(self) -> None:
        if any(isinstance(part, torch.nn.RNNBase) for part in self.stepper.model.modules()):
            self._give_up("a recurrent network is nothing for PyTorch's compiler")
            return
        try:
            if self._recipe is None:
                self.stepper.compile()
                self.close()
            elif (missing := missing_compiler()) is not None:
                self._give_up(missing)
            else:
                self._preparation = CompileJob(self._recipe)
                self._make_room()
        except NotCompiledError as error:
            self._give_up(str(error))

    def _make_room(self) -> None:
        """Leave a core to the compiler: threads that wait for one that has none make a thirtieth of the steps, measured."""
        if self.team.most >= cores():
            self.team.limit_to(self.team.most - 1)

    def _look(self) -> None:
        assert self._preparation is not None
        try:
            if self._preparation.done() and not self._load():
                self._give_up("what was compiled cannot be loaded")
        except NotCompiledError as error:
            self._give_up(str(error))

    def _load(self) -> bool:
        """Whether the compiled step is at hand, and taken from now on."""
        if self._recipe is None or not self.stepper.load_compiled(self._recipe):
            return False
        self.close()
        if self.stepper.shared:
            self.team.settle()
        return True

    def _give_up(self, reason: str) -> None:
        self.close()
        self.stepper.not_compiled(reason)
