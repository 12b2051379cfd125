"""The training step as a compiled graph: what it depends on, how it is traced, and how it is compiled.

A step is traced to one graph of all its tensors, exported, and compiled ahead of time by PyTorch (AOTInductor) to a package
of its own (docs/decisions/acceleration.md).
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vaelab.acceleration.policy import is_custom
from vaelab.config import Budget, ResolvedConfig, ResolvedModelConfig, ResolvedTrainConfig
from vaelab.models.base import Model
from vaelab.models.factory import build_model
from vaelab.objectives.batch import Batch
from vaelab.objectives.elbo import elbo
from vaelab.optim.adamw import plain_adamw
from vaelab.optim.schedule import Schedule
from vaelab.optim.state import StepStats, TrainState
from vaelab.optim.step import TrainStep, call_with_weights

BUILT_IN = ("gradient_clip", "weight_decay", "free_bits")
"""Fields of the training that are constants of a compiled step; the others reach it as tensors, or not at all."""

# Largest relative difference between a compiled and a plain step, in float32 and in bfloat16: AdamW's first update of a weight
# depends on little more than the sign of its gradient, which rounding to bfloat16 changes for some weights in a hundred.
TOLERANCE, COARSE_TOLERANCE = 0.01, 0.25


class NotCompiledError(Exception):
    """The step cannot be compiled; the text says why, in one line."""


@dataclass(frozen=True)
class CompileKey:
    """All that a compiled step depends on.

    `tensors` are shape, strides and type of each input; `threads` the CPU threads for which its work is divided; `parts` the
    number of micro-batches processed in parallel (`cpu_parallel`); `whole` whether the step is compiled as a whole, and not only
    loss and gradients of one of several parts. `unique` is a new random text for a custom network, whose code is not part of the
    key.
    """

    model: ResolvedModelConfig
    train: ResolvedTrainConfig
    shape: tuple[int, ...]
    classes: int
    tensors: tuple[tuple[tuple[int, ...], tuple[int, ...], str], ...]
    threads: int
    parts: int = 1
    unique: str = ""
    whole: bool = True

    @staticmethod
    def of(
        config: ResolvedConfig,
        shape: tuple[int, ...],
        classes: int,
        tensors: Sequence[Tensor],
        parts: int,
        whole: bool,
    ) -> CompileKey:
        """Return the key of a step on such tensors."""
        default = ResolvedTrainConfig(Budget(0, "epochs"), config.train.batch_size, config.train.precision, "cpu")
        fixed = replace(default, **{name: getattr(config.train, name) for name in BUILT_IN})
        described = tuple((tuple(t.shape), tuple(t.stride()), str(t.dtype).removeprefix("torch.")) for t in tensors)
        unique = uuid.uuid4().hex if is_custom(config) else ""
        threads = max(1, torch.get_num_threads() // parts)
        return CompileKey(config.model, fixed, shape, classes, described, threads, parts, unique, whole)

    def to_json(self) -> str:
        """Return the key as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> CompileKey:
        """Return the key that `to_json` wrote."""
        values = json.loads(text)
        train = values.pop("train")
        train["budget"] = Budget(**train["budget"])
        tensors = tuple((tuple(shape), tuple(stride), dtype) for shape, stride, dtype in values.pop("tensors"))
        model = ResolvedModelConfig(**values.pop("model"))
        return CompileKey(model, ResolvedTrainConfig(**train), tuple(values.pop("shape")), tensors=tensors, **values)


def lasting_inputs(model: Model, state: TrainState, stats: StepStats) -> list[Tensor]:
    """Return the inputs of a step that are the same tensors at every step and change in place."""
    updated = [*state.weights, *state.means, *state.squares, state.updates]
    return [*updated, stats.sums, stats.bad, stats.usual_norm, *model.buffers()]


def passing_inputs(batch: Batch, schedule: Schedule) -> list[Tensor]:
    """Return the inputs of one step: schedule and batch, whose images are not binarised yet."""
    assert batch.key is not None
    labels = [] if batch.labels is None else [batch.labels]
    return [*(torch.as_tensor(value) for value in schedule), batch.images, batch.noise, batch.key, *labels]


def step_inputs(model: Model, state: TrainState, stats: StepStats, batch: Batch, schedule: Schedule) -> list[Tensor]:
    """Return all inputs of a step, in the order that `as_step` takes them in."""
    return [*lasting_inputs(model, state, stats), *passing_inputs(batch, schedule)]


def gradient_inputs(
    model: Model, weights: list[Tensor], gradients: list[Tensor], figures: Tensor, batch: Batch, beta: Tensor
) -> list[Tensor]:
    """Return all inputs of loss and gradients of a part of a batch, in the order that `as_gradients` takes them in."""
    return [*weights, *model.buffers(), *gradients, figures, *passing_inputs(batch, Schedule(beta, 0.0))]


def as_step(model: Model, config: ResolvedTrainConfig) -> Callable[..., tuple[()]]:
    """Return the training step as a function of `step_inputs` alone, which it changes in place."""
    names, buffers = [name for name, _ in model.named_parameters()], [name for name, _ in model.named_buffers()]
    count = len(names)

    def step(*tensors: Tensor) -> tuple[()]:
        weights = [weight.detach().requires_grad_() for weight in tensors[:count]]
        means, squares, rest = (
            list(tensors[count : 2 * count]),
            list(tensors[2 * count : 3 * count]),
            tensors[3 * count :],
        )
        (updates, sums, bad, norm), own, passing = rest[:4], rest[4 : 4 + len(buffers)], rest[4 + len(buffers) :]
        state, stats = TrainState(weights, [], means, squares, updates), StepStats(sums, bad, norm)
        schedule, batch = Schedule(*passing[:2]), _batch(passing[2:])

        def work(model: Model) -> None:
            TrainStep(model, config, plain_adamw)(state, stats, batch, schedule, elbo)

        call_with_weights(model, dict(zip([*names, *buffers], [*weights, *own], strict=True)), work)
        return ()

    return step


def as_gradients(model: Model, config: ResolvedTrainConfig) -> Callable[..., tuple[()]]:
    """Return loss and gradients of a part of a batch as a function of `gradient_inputs`, which it writes its results to."""
    names = [name for name, _ in [*model.named_parameters(), *model.named_buffers()]]
    count = len(list(model.parameters()))

    def compute(*tensors: Tensor) -> tuple[()]:
        weights = [weight.detach().requires_grad_() for weight in tensors[:count]]
        inputs = dict(zip(names, [*weights, *tensors[count : len(names)]], strict=True))
        gradients, rest = tensors[len(names) : len(names) + count], tensors[len(names) + count :]
        figures, beta, _, *passing = rest

        def work(model: Model) -> None:
            step = TrainStep(model, config, plain_adamw)
            found = step.loss_and_grad(weights, _batch(passing), Schedule(beta, 0.0), elbo)
            for target, gradient in zip(gradients, found.gradients, strict=True):
                target.copy_(gradient)
            figures.copy_(torch.stack([found.distortion, found.rate, found.loss]))

        call_with_weights(model, inputs, work)
        return ()

    return compute


def _batch(passing: Sequence[Tensor]) -> Batch:
    images, noise, key, *labels = passing
    return Batch(images, labels[0] if labels else None, noise, key)


def compile_to(package: Path, key: CompileKey) -> None:
    """Compile the step of `key` to a package, and compare it with the plain step; raises whatever the compiler raises."""
    from torch._inductor import aoti_compile_and_package, aoti_load_package
    from torch.fx.experimental.proxy_tensor import make_fx

    model = build_model(key.model, key.shape, key.classes).train()
    function = (as_step if key.whole else as_gradients)(model, key.train)
    examples = example_inputs(key, model)
    traced = make_fx(function, tracing_mode="fake", decomposition_table={torch.ops.aten.clone.default: _copied_once})
    exported = torch.export.export(traced(*examples), tuple(examples))
    # Without debug information and optimisation of the code around the kernels, compiling takes half the time.
    off = ("enable_line_tables", "enable_frame_pointer", "precompile_headers")
    options: dict[str, object] = {f"aot_inductor.{name}": False for name in off}
    options["aot_inductor.compile_wrapper_opt_level"] = "O0"
    options["cpp.dynamic_threads"] = True  # use the number of threads at run time
    options["realize_cpu_opcount_threshold"] = 30  # as on GPUs: binarised images are stored, not recomputed at each use
    aoti_compile_and_package(exported, package_path=str(package), inductor_configs=options)
    expect_same(aoti_load_package(str(package)), function, examples, coarse=key.train.precision == "bfloat16")


def _copied_once(values: Tensor, *, memory_format: torch.memory_format | None = None) -> Tensor:
    """Copy to another memory layout in a kernel of its own; fused into its readers, it would run value by value."""
    if memory_format is not torch.contiguous_format or values.is_contiguous():
        return NotImplemented
    from torch._inductor import inductor_prims

    return inductor_prims.force_stride_order(values, values.new_empty(values.shape).stride())


def example_inputs(key: CompileKey, model: torch.nn.Module) -> list[Tensor]:
    """Return inputs such as the step will get: initial weights, zero moments, random images and noise."""
    weights, buffers = list(model.parameters()), list(model.buffers())
    schedule = [torch.tensor(1.0), torch.tensor(1e-3)]
    others = [None] * (2 * len(weights) + 4) if key.whole else [None] * (len(weights) + 1)
    known = [*weights, *others, *buffers, *schedule] if key.whole else [*weights, *buffers, *others, *schedule]
    generator = torch.Generator().manual_seed(0)
    examples = []
    for index, (shape, stride, dtype) in enumerate(key.tensors):
        example = torch.empty_strided(shape, stride, dtype=getattr(torch, dtype)).zero_()
        if index < len(known):
            if (value := known[index]) is not None:
                example.copy_(value.detach())
        elif example.is_floating_point():
            example.copy_(torch.randn(shape, generator=generator))
        elif example.dtype == torch.uint8:  # images
            example.random_(0, 256, generator=generator)
        examples.append(example)
    return examples


def expect_same(
    compiled: Callable[..., object], plain: Callable[..., object], examples: list[Tensor], *, coarse: bool
) -> None:
    """Raise an ArithmeticError unless a compiled step changes `examples` as the plain one does; coarsely for bfloat16."""
    found, expected = ([example.clone() for example in examples] for _ in range(2))
    compiled(*found)
    plain(*expected)
    for index, (before, one, other) in enumerate(zip(examples, found, expected, strict=True)):
        change, difference = (other - before).float().norm().item(), (one - other).float().norm().item()
        # one of n weights that moves the other way is 2/√n of the whole change
        tolerance = COARSE_TOLERANCE + 2 / math.sqrt(max(one.numel(), 1)) if coarse else TOLERANCE
        if not difference <= tolerance * change:
            raise ArithmeticError(
                f"the compiled step differs by {difference:g} in tensor {index}, which changes by {change:g}"
            )
