"""The step as one compiled graph: what it is made from, and the file that keeps it.

On the CPU a compiled step is a shared library, kept in the cache folder under a name that follows from all it depends on:
the network, what of the hyper-parameters is built in, the shapes, PyTorch, this package's code, the processor. It is loaded
in milliseconds without importing PyTorch's compiler, which takes seconds (`vaelab.acceleration.worker` makes it).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from vaelab.acceleration.cpu_parallel import Shared
from vaelab.config import ModelConfig, TrainConfig
from vaelab.data.cache import cache_folder
from vaelab.models.base import Model
from vaelab.optim.step import Batch, Schedule, StepStats, TrainState, descend, look, plain_adamw

Step = Callable[[Model, TrainState, StepStats, Batch, Schedule, TrainConfig], None]
"""One step; its schedule is of tensors."""

MOST_KEPT = 50
"""Compiled steps kept in the cache folder: the newest. Each is 1 to 2 MB."""

NOT_BUILT_IN = (
    "epochs",
    "seconds",
    "learning_rate",
    "warmup",
    "ema",
    "beta",
    "kl_warmup",
    "iwae_fraction",
    "iwae_samples",
    "seed",
    "device",
    "compile",
)
"""Fields of `TrainConfig` that a compiled step does not depend on: they reach it as tensors, or not at all."""


class NotCompiledError(Exception):
    """The step cannot be compiled; its text is why, in a line."""


@dataclass(frozen=True)
class CompileKey:
    """All that a compiled step is made from.

    Attributes
    ----------
    model, train
        The configuration.
    shape, classes
        Of an image, and K.
    tensors
        Shape, strides and type of each of the step's tensors, as `flat` lists them; of a share, as `Share.tensors` does.
    threads
        CPU threads that its work is cut for; it runs on as many as there are.
    shares
        How many equal parts a batch goes through the model in, each on threads of its own: see `cpu_parallel`. Where there are
        several, what is compiled looks at one of them, and does not move the weights.
    once
        Where it is of a network of one's own, whose code this package knows nothing of: something that never comes again.
    """

    model: ModelConfig
    train: TrainConfig
    shape: tuple[int, ...]
    classes: int
    tensors: tuple[tuple[tuple[int, ...], tuple[int, ...], str], ...]
    threads: int
    shares: int = 1
    once: str = ""

    @staticmethod
    def of(
        model: ModelConfig,
        train: TrainConfig,
        shape: tuple[int, ...],
        classes: int,
        tensors: Sequence[Tensor],
        shares: int = 1,
    ) -> CompileKey:
        """The recipe of a step on `tensors`, of all of them or of one of its shares."""
        default = TrainConfig()
        built_in = replace(train, **{name: getattr(default, name) for name in NOT_BUILT_IN})
        described = tuple((tuple(t.shape), tuple(t.stride()), str(t.dtype).removeprefix("torch.")) for t in tensors)
        once = uuid.uuid4().hex if model.encoder is not None or model.decoder is not None else ""
        return CompileKey(
            model, built_in, shape, classes, described, max(1, torch.get_num_threads() // shares), shares, once
        )

    def text(self) -> str:
        """One line of JSON, which `read` reads."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def read(text: str) -> CompileKey:
        """What `text` wrote."""
        values = json.loads(text)
        model, train = ModelConfig(**values.pop("model")), TrainConfig(**values.pop("train"))
        tensors = tuple((tuple(shape), tuple(stride), dtype) for shape, stride, dtype in values.pop("tensors"))
        return CompileKey(model, train, tuple(values.pop("shape")), tensors=tensors, **values)

    @property
    def path(self) -> Path:
        """Where it is kept."""
        whole = "\n".join((self.text(), torch.__version__, _code(), _processor()))
        return cache_folder() / "compiled" / f"{hashlib.sha256(whole.encode()).hexdigest()[:32]}.so"


def flat(model: Model, moving: TrainState, tally: StepStats, batch: Batch, schedule: Schedule) -> list[Tensor]:
    """All tensors that a step reads or changes, in the order that `as_function` takes them in."""
    return [*lasting(model, moving, tally), *passing(batch, schedule)]


def lasting(model: Model, moving: TrainState, tally: StepStats) -> list[Tensor]:
    """Those of all steps, which are changed in place."""
    moved = [*moving.weights, *moving.means, *moving.squares, moving.updates]
    return [*moved, tally.sums, tally.bad, tally.usual_norm, *model.buffers()]


def passing(batch: Batch, schedule: Schedule) -> list[Tensor]:
    """Those of one step, whose images are not binarised yet."""
    assert batch.key is not None
    labels = [] if batch.labels is None else [batch.labels]
    return [*(torch.as_tensor(value) for value in schedule), batch.images, batch.noise, batch.key, *labels]


class _Whole(torch.nn.Module):
    """Lets a function of a model run with other tensors in place of its parameters and buffers."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[Model], None]) -> None:
        work(self.model)


def as_function(model: Model, config: TrainConfig) -> Callable[..., tuple[()]]:
    """The step as a function of the tensors of `flat` and of nothing else, which it changes in place."""
    names = [f"model.{name}" for name, _ in model.named_parameters()]
    buffers = [f"model.{name}" for name, _ in model.named_buffers()]
    whole = _Whole(model)

    def step(*tensors: Tensor) -> tuple[()]:
        rest = list(tensors)

        def take(count: int) -> list[Tensor]:
            taken = rest[:count]
            del rest[:count]
            return taken

        weights, means, squares = (take(len(names)) for _ in range(3))
        weights = [weight.detach().requires_grad_() for weight in weights]
        moving, tally = TrainState(weights, [], means, squares, *take(1)), StepStats(*take(3))
        given = dict(zip([*names, *buffers], [*weights, *take(len(buffers))], strict=True))
        schedule, (images, noise, key, *labels) = Schedule(*take(2)), rest
        batch = Batch(images, labels[0] if labels else None, noise, key)

        def work(model: Model) -> None:
            descend(model, moving, tally, batch, schedule, config, plain_adamw)

        torch.func.functional_call(whole, given, (work,))
        return ()

    return step


def as_look(model: Model, config: TrainConfig) -> Callable[..., tuple[()]]:
    """A look at a share of a batch as a function of `Share.tensors`, which gradients and figures are written to."""
    names = [f"model.{name}" for name, _ in [*model.named_parameters(), *model.named_buffers()]]
    count, whole = len(list(model.parameters())), _Whole(model)

    def look_at(*tensors: Tensor) -> tuple[()]:
        weights = [weight.detach().requires_grad_() for weight in tensors[:count]]
        given = dict(zip(names, [*weights, *tensors[count : len(names)]], strict=True))
        gradients, rest = tensors[len(names) : len(names) + count], tensors[len(names) + count :]
        figures, beta, images, noise, key, *labels = rest
        batch = Batch(images, labels[0] if labels else None, noise, key)

        def work(model: Model) -> None:
            found = look(model, weights, batch, Schedule(beta, 0.0), config)
            for kept, gradient in zip(gradients, found.gradients, strict=True):
                kept.copy_(gradient)
            figures.copy_(torch.stack([found.distortion, found.rate, found.loss]))

        torch.func.functional_call(whole, given, (work,))
        return ()

    return look_at


def load(recipe: CompileKey) -> Step | None:
    """The compiled step that is kept for `recipe`, for one model's use; None where there is none, or it cannot be loaded."""
    path = recipe.path
    if not path.is_file():
        return None
    try:
        step = Shared(str(path), recipe.shares, recipe.threads) if recipe.shares > 1 else _whole_step(str(path))
    except (RuntimeError, OSError):
        return None
    with suppress(OSError):  # a cache may be for reading only
        path.unlink() if recipe.once else os.utime(path)
    return step


def _whole_step(path: str) -> Step:
    """The step that is compiled as a whole."""
    run, kept = open_library(path), list[Tensor]()

    def step(
        model: Model, moving: TrainState, tally: StepStats, batch: Batch, schedule: Schedule, _: TrainConfig
    ) -> None:
        if not kept:
            kept.extend(lasting(model, moving, tally))
        run([*kept, *passing(batch, schedule)])

    return step


def open_library(path: str) -> Callable[[list[Tensor]], object]:
    """What runs a library that PyTorch's compiler made, on the tensors of `flat`."""
    return torch._C._aoti.AOTIModelContainerRunnerCpu(path, 1).run  # pyright: ignore[reportAttributeAccessIssue]


def keep(made: Path, path: Path) -> None:
    """Put the library that was `made` where `load` looks for it, and drop the oldest of many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        shutil.copyfile(made, whole)
        whole.chmod(0o700)
        whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)
    with suppress(OSError):  # another training may be doing the same
        for old in sorted(path.parent.glob("[!.]*.so"), key=lambda each: each.stat().st_mtime)[:-MOST_KEPT]:
            old.unlink(missing_ok=True)


def compiled_by_torch() -> Step:
    """`descend` compiled by `torch.compile` when it is first called: for devices where no library is kept."""
    compiled = torch.compile(descend, fullgraph=True, dynamic=False)
    fresh = True

    def step(
        model: Model, moving: TrainState, tally: StepStats, batch: Batch, schedule: Schedule, config: TrainConfig
    ) -> None:
        nonlocal fresh
        if not fresh:
            compiled(model, moving, tally, batch, schedule, config, plain_adamw)
            return
        from torch._dynamo import config as tracing

        with _muted(), tracing.patch(trace_autograd_ops=True):
            compiled(model, moving, tally, batch, schedule, config, plain_adamw)
        fresh = False

    return step


@contextmanager
def _muted() -> Iterator[None]:
    """Within it PyTorch's compiler keeps its warnings to itself."""
    loggers = [logging.getLogger(name) for name in ("torch._dynamo", "torch._inductor")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def missing_compiler() -> str | None:
    """What to say where PyTorch's compiler finds no C++ compiler; None where it does."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX") or usual
    if shutil.which(compiler) is not None:
        return None
    return f"got no {compiler} on this machine; expected a C++ compiler: on Debian apt-get install g++, or name another in CXX"


@cache
def _code() -> str:
    """A digest of this package's own code."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _processor() -> str:
    """The processor, as a compiler that compiles for it alone sees it."""
    found = {platform.system(), platform.machine(), torch.backends.cpu.get_cpu_capability()}
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found |= {line for line in lines if line.startswith(("flags", "Features", "model name", "CPU part"))}
    return "\n".join(sorted(found | {platform.processor()}))
