"""The accelerated runner: takes the steps of a `PlainRunner` faster, compiled or recorded where possible.

It falls back to the plain runner if anything fails, for the phases that are not compiled, and where memory is short.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from vaelab import distributed
from vaelab.acceleration import cache, policy
from vaelab.acceleration.cpu_parallel import ParallelStep, part_count
from vaelab.acceleration.cuda_graph import Step, Work, recorded
from vaelab.acceleration.graph import (
    CompileKey,
    NotCompiledError,
    gradient_inputs,
    lasting_inputs,
    passing_inputs,
    step_inputs,
)
from vaelab.acceleration.worker import CompileJob
from vaelab.config import ResolvedConfig
from vaelab.memory import is_out_of_memory, release_cache
from vaelab.objectives.batch import Batch
from vaelab.objectives.elbo import Objective, elbo
from vaelab.optim.adamw import AdamW, plain_adamw
from vaelab.optim.batches import BatchStream
from vaelab.optim.schedule import Schedule
from vaelab.optim.state import LossAndGrad
from vaelab.optim.step import PlainRunner, StepRunner

LOOK_EVERY = 0.1  # seconds between two looks at a compiler that is waited for


class AcceleratedRunner(StepRunner):
    """Takes the steps of `plain` faster; see `vaelab.optim.step.StepRunner`. `compiled` tells whether the step is compiled."""

    def __init__(self, plain: PlainRunner, config: ResolvedConfig, batches: BatchStream, steps: int | None) -> None:
        """Accelerate `plain`, for `steps` steps in all, or None if the budget counts seconds."""
        self.plain, self.config, self.batches = plain, config, batches
        self.model, self.state, self.stats = plain.model, plain.state, plain.stats
        self.on_cpu, self.remarks, self.changing = plain.device.type == "cpu", plain.remarks, plain.changing
        if steps is not None and config.train.iwae_samples > 1:
            steps = int(steps * (1 - config.train.iwae_fraction))
        self.plan = policy.plan(config, steps)
        if distributed.world_size() > 1 and config.train.compile == "yes" and self.plan == "never":
            self._remark("compiled", "with several processes it is not on GPUs, nor with free bits")
        self.compiled = False
        self.threads = torch.get_num_threads()
        self._fast: Step | None = None
        self._job: CompileJob | None = None
        self._schedule = tuple(torch.zeros(2, device=plain.device))
        self._key = self.key() if self.plan != "never" and self.on_cpu else None

    def step(self, batch: Batch, schedule: Schedule, objective: Objective) -> None:
        """Take one step, accelerated if it minimises the ELBO and a fast step is ready; if that fails, plainly from then on."""
        if self._fast is None or objective is not elbo or not self._take_fast(batch, schedule):
            self.plain.step(batch, schedule, objective)

    def _take_fast(self, batch: Batch, schedule: Schedule) -> bool:
        assert self._fast is not None
        if distributed.world_size() == 1:  # else `PlainRunner.update` sets it, after the exchange
            self.changing.set()
        try:
            self._fast(batch, self._as_tensors(schedule))
            return True
        except Exception as error:  # a compiler's can be anything
            if distributed.world_size() > 1 and self.changing.is_set():  # the others have gone on
                raise
            what = "compiled" if self.compiled else "recorded"
            self._fast, self.compiled = None, False
            short = isinstance(error, RuntimeError) and is_out_of_memory(error)
            self._remark(what, "memory is short" if short else _one_line(error))
        release_cache()  # outside the handler, because the error holds references to tensors
        return False

    def prepare(self) -> Iterator[None]:
        """Record or load the step, or wait for the compiler if steps must all be compiled."""
        if self.plain.device.type == "cuda" and not policy.is_custom(self.config):
            if distributed.world_size() == 1:
                self._fast = recorded(self._plain_step(self.plain.train_step.adamw))
            elif self.config.train.free_bits == 0:
                self._fast = self._shared_step()
        try:
            if self.plan == "never" or self._load():
                return
        except NotCompiledError as error:
            self._give_up(str(error))
        if self.plan == "before":
            self._start()
            while self._job is not None:
                yield
                time.sleep(LOOK_EVERY)
                self._look()

    def tend(self, seconds_left: float) -> None:
        """Start or look at the compiler."""
        if self.plain.at_once is not None:  # a compiled step needs memory for the whole batch
            self.close()
        elif self._job is not None:
            self._look(seconds_left)
        elif self.plan == "beside" and seconds_left >= policy.worth_seconds(self.config):
            self._start()

    def close(self) -> None:
        """End a compiler that still runs, and start none from now on."""
        self.plan = "never"
        if self._job is not None:
            self._job.close()
            self._job = None
            torch.set_num_threads(self.threads)

    def compile(self) -> None:
        """Compile the step and wait for it (on a GPU at the next step); a NotCompiledError if it cannot be compiled."""
        self.plan = "before"
        self._key = self.key() if self.on_cpu else None
        for _ in self.prepare():
            pass
        if not self.compiled:
            raise NotCompiledError(self.remarks.pop())

    def key(self) -> CompileKey:
        """Return the key of the compiled step of this training."""
        plain, batch = self.plain, self.batches.at(0)
        model, weights, schedule = plain.model, plain.state.weights, self._as_tensors(Schedule(1.0, 1e-3))
        parts = part_count(self.config, len(batch.images), torch.get_num_threads())
        whole = parts == 1 and distributed.world_size() == 1
        if not whole:
            part = batch.split(len(batch.images) // parts)[0]
            tensors = gradient_inputs(model, weights, weights, torch.zeros(3), part, torch.as_tensor(schedule.beta))
        else:
            tensors = step_inputs(model, plain.state, plain.stats, batch, schedule)
        return CompileKey.of(self.config, model.shape, model.classes, tensors, parts, whole)

    def _plain_step(self, adamw: AdamW) -> Step:
        train_step, state, stats = replace(self.plain.train_step, adamw=adamw), self.plain.state, self.plain.stats
        return lambda batch, schedule: train_step(state, stats, batch, schedule, elbo)

    def _shared_step(self, record: Callable[[Work], Work] | None = None) -> Step:
        """Return the step of one of several processes: loss and gradients of its images are recorded, their exchange is not."""
        plain, weights = self.plain, self.state.weights
        gradients, figures = [torch.zeros_like(weight) for weight in weights], torch.zeros(3, device=plain.device)

        def compute(batch: Batch, schedule: Schedule) -> None:
            found = plain.train_step.loss_and_grad(weights, batch, schedule, elbo)
            torch._foreach_copy_(gradients, list(found.gradients))  # pyright: ignore[reportPrivateImportUsage]
            figures.copy_(torch.stack([found.distortion, found.rate, found.loss]))

        take = recorded(compute, record)

        def step(batch: Batch, schedule: Schedule) -> None:
            take(batch, schedule)
            plain.update(LossAndGrad(figures[0], figures[1], figures[2], gradients), schedule, len(batch.images))

        return step

    def _as_tensors(self, schedule: Schedule) -> Schedule:
        if self.on_cpu:
            return Schedule(*torch.tensor(schedule))
        for target, value in zip(self._schedule, schedule, strict=True):
            target.fill_(value)  # a copy from the host would wait for the steps in flight
        return Schedule(*self._schedule)

    def _start(self) -> None:
        if any(isinstance(part, torch.nn.RNNBase) for part in self.plain.model.modules()):
            self._give_up("PyTorch cannot compile recurrent networks")
            return
        try:
            if self._key is None:
                step = compiled_by_torch(self._plain_step(plain_adamw))
                self._fast, self.compiled = recorded(step) if self.plain.device.type == "cuda" else step, True
                self.close()
            else:
                self._job = CompileJob(self._key)
                if self.threads >= policy.cores() > 1:  # leave a core to the compiler: waiting threads stall a step
                    torch.set_num_threads(self.threads - 1)
        except NotCompiledError as error:
            self._give_up(str(error))

    def _look(self, seconds_left: float = 0.0) -> None:
        assert self._job is not None
        try:
            beside = self.plan == "beside"  # before it is closed
            if self._job.done():
                if not self._load():
                    self._give_up("the compiled step is not in the cache")
                elif beside and seconds_left > 0.1 * self.config.train.budget.amount:  # near the end it would puzzle
                    self.remarks.append("compiled step in use: training is faster from here on")
        except NotCompiledError as error:
            self._give_up(str(error))

    def _load(self) -> bool:
        """Return whether the compiled step is in the cache; it is used from now on. A NotCompiledError if it cannot be."""
        key, package = self._key, None
        try:
            if key is None or (package := cache.find(key)) is None:
                return False
            self.close()
            if not key.whole:
                self._fast = ParallelStep(package, self.plain, key.parts, key.threads)
            else:
                self._fast = _load_step(package, self.plain)
            if key.unique:  # a custom network's step is not used again
                package.unlink(missing_ok=True)
        except Exception as error:  # a damaged file, or names inside PyTorch that another version does not have
            if package is not None:
                package.unlink(missing_ok=True)
            raise NotCompiledError(f"the compiled step cannot be loaded: {_one_line(error)}") from error
        self.compiled = True
        return True

    def _give_up(self, reason: str) -> None:
        self.close()
        self._remark("compiled", reason)

    def _remark(self, what: str, reason: str) -> None:
        self.remarks.append(f"the training step is not {what}, and training continues without: {reason}")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"


def _load_step(package: Path, plain: PlainRunner) -> Step:
    """Return the compiled step of a package, as a whole."""
    from torch._inductor import aoti_load_package, config

    with config.patch({"cpp.vec_isa_ok": True}):  # else loading runs the C++ compiler: pytorch/pytorch#191715
        run = aoti_load_package(str(package))
    lasting = lasting_inputs(plain.model, plain.state, plain.stats)

    def step(batch: Batch, schedule: Schedule) -> None:
        run(*lasting, *passing_inputs(batch, schedule))

    return step


def compiled_by_torch(step: Step) -> Step:
    """Return `step` compiled by `torch.compile` at its first call, for devices without a cache of packages."""
    compiled = torch.compile(step, fullgraph=True, dynamic=False)
    first = True

    def take(batch: Batch, schedule: Schedule) -> None:
        nonlocal first
        if not first:
            compiled(batch, schedule)
            return
        from torch._dynamo import config as tracing

        logging.disable()
        try:
            with warnings.catch_warnings(), tracing.patch(trace_autograd_ops=True):
                warnings.simplefilter("ignore")
                compiled(batch, schedule)
        finally:
            logging.disable(logging.NOTSET)
        first = False

    return take
