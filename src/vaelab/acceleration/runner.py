"""How a step is taken: compiled or recorded where it can be, as it stands where not, and on fewer images at a time where memory
is short.
"""

from __future__ import annotations

import time

import torch

from vaelab.acceleration.cpu_parallel import Share, Shared, how_many
from vaelab.acceleration.cuda_graph import captured, plain_step
from vaelab.acceleration.graph import CompileKey, NotCompiledError, Step, compiled_by_torch, flat, load
from vaelab.acceleration.worker import CompileJob
from vaelab.config import Config
from vaelab.errors import TrainingError
from vaelab.memory import half, is_out_of_memory, release_cache
from vaelab.models.base import Model
from vaelab.optim.step import Batch, Found, Schedule, StepStats, TrainState, fused_adamw, look, look_in_parts, move


class Stepper:
    """Takes the steps of a training.

    Attributes
    ----------
    at_once
        Images that go through the model at a time, where memory is short; None where a batch goes through whole.
    remarks
        Lines that a person is to be told, once; whoever tells them takes them out.
    """

    def __init__(self, model: Model, moving: TrainState, tally: StepStats, config: Config, classes: int) -> None:
        self.model, self.moving, self.tally, self.config, self.classes = model, moving, tally, config, classes
        self.device = tally.bad.device
        self.at_once: int | None = None
        self.remarks: list[str] = []
        self._quick: Step | None = None  # compiled or recorded
        self._compiled = False
        self._scheduled = tuple(torch.zeros(2, device=self.device))

    def take(self, batch: Batch, schedule: Schedule) -> None:
        """One step on `batch`.

        Where the compiled or recorded step fails, steps are taken as they stand from then on; where memory runs out, on
        fewer images at a time, with the loss and the gradients of the whole batch. Either is said in `remarks`.

        Raises
        ------
        TrainingError
            If there is not enough memory for one image at a time.
        """
        usable = self._quick is not None and batch.noise.ndim == 2  # one of several draws is not what was compiled
        if not usable or not self._take_quick(batch, schedule):
            found = self._look(batch, schedule)
            move(self.moving, self.tally, found, schedule, self.config.train, fused_adamw)

    def _take_quick(self, batch: Batch, schedule: Schedule) -> bool:
        """The step as compiled or recorded; False where that could not be, and is not tried again."""
        assert self._quick is not None
        try:
            self._quick(self.model, self.moving, self.tally, batch, self._as_tensors(schedule), self.config.train)
        except Exception as error:  # a compiler's can be anything
            what = "compiled" if self._compiled else "recorded"
            self._quick, self._compiled = None, False
            short = isinstance(error, RuntimeError) and is_out_of_memory(error)
            said = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
            self.not_compiled("memory is short" if short else said, what)
        else:
            return True
        release_cache()  # not in the handler, where the error still holds on to what was made so far
        return False

    def _look(self, batch: Batch, schedule: Schedule) -> Found:
        """Loss and gradients of the batch, on as many images at a time as there is memory for."""
        while True:
            given = self.model, self.moving.weights, batch, schedule, self.config.train
            try:
                if self.at_once is None:
                    return look(*given)
                return look_in_parts(*given, self.at_once)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # not in the handler, where the error still holds on to what was made so far
            self._go_on_with_fewer(len(batch.images))

    def _go_on_with_fewer(self, images: int) -> None:
        release_cache()
        had = self.at_once or images
        if had == 1:
            raise TrainingError(
                f"got too little memory on {self.device} for a single image; expected enough for one: free some, or take "
                "smaller images (--size), a smaller network (--width) or another --device"
            )
        remark = "memory is short: batches of {} go through {} images at a time, for the same loss and gradients"
        if self.at_once is not None and self.remarks and self.remarks[-1] == remark.format(images, had):
            self.remarks.pop()  # half and half again in one step: the last of them is enough
        self.at_once = half(had)
        self.remarks.append(remark.format(images, self.at_once))

    def _as_tensors(self, schedule: Schedule) -> Schedule:
        if self.device.type == "cpu":
            return Schedule(*torch.tensor(schedule))
        for place, value in zip(self._scheduled, schedule, strict=True):
            place.fill_(value)  # a copy from the host would wait for all steps that are under way
        return Schedule(*self._scheduled)

    @property
    def compiled(self) -> bool:
        """Whether the step is compiled."""
        return self._compiled

    @property
    def shared(self) -> bool:
        """Whether each thread has images of its own."""
        return isinstance(self._quick, Shared)

    def record(self) -> None:
        """Have the step recorded on a CUDA device, as it stands, and replayed."""
        self._quick = captured(plain_step)

    def recipe(self, batch: Batch, schedule: Schedule) -> CompileKey:
        """What a compiled step on such batches is made from: the whole of it, or a look at one of its shares."""
        schedule = self._as_tensors(schedule)
        shares = how_many(self.config, len(batch.images), torch.get_num_threads())
        if shares > 1:
            part, beta = batch.parts(len(batch.images) // shares)[0], torch.as_tensor(schedule.beta)
            tensors = Share(self.model, self.moving.weights).tensors(part, beta)
        else:
            tensors = flat(self.model, self.moving, self.tally, batch, schedule)
        return CompileKey.of(self.config.model, self.config.train, self.model.shape, self.classes, tensors, shares)

    def load_compiled(self, recipe: CompileKey) -> bool:
        """Whether the compiled step is at hand; from now on it is taken."""
        if (made := load(recipe)) is not None:
            self._quick, self._compiled = made, True
        return self.compiled

    def compile(self, recipe: CompileKey | None = None) -> None:
        """Have the step compiled by `recipe`, and wait for that; without one by PyTorch alone, when the next is taken.

        Raises
        ------
        NotCompiledError
            If it cannot be.
        """
        if recipe is None:
            made = compiled_by_torch()
            self._quick, self._compiled = captured(made) if self.device.type == "cuda" else made, True
        elif not self.load_compiled(recipe):
            preparation = CompileJob(recipe)
            try:
                while not preparation.done():
                    time.sleep(0.05)
            finally:
                preparation.close()
            if not self.load_compiled(recipe):
                raise NotCompiledError("what was compiled cannot be loaded")

    def not_compiled(self, reason: str, what: str = "compiled") -> None:
        """Have it said that the step is not compiled, or not recorded."""
        self.remarks.append(f"the step is not {what}, and training goes on without: {reason}")
