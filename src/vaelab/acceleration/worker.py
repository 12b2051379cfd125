"""Making a compiled step in a process of its own, while a training goes on in the one that asks for it.

`CompileJob` starts `python -m vaelab.acceleration.worker`, which reads a `CompileKey` from standard input, and ends at once when
that closes, since what asked for it is gone then. A failure is one line on standard error, and status 1.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from vaelab.acceleration.graph import CompileKey, NotCompiledError, as_function, as_look, keep, open_library
from vaelab.models.factory import build_model

NICENESS = 5
"""How far the training goes before it."""

TOLERANCE, COARSE_TOLERANCE = 0.01, 0.25
"""Relative difference of a compiled step from one as it stands, beyond which it is not used: in float32, and in bfloat16.

AdamW's first move of a weight hangs on little more than the sign of its gradient; what is rounded to bfloat16 in another
order has the other sign for some weights in a hundred, and for one of a few now and then.
"""

MUCH_WIDER = 8
"""A product's right factor has at least so many times as many columns as its left one has rows."""


class CompileJob:
    """A process that makes a compiled step and keeps it; it ends with this one, or when it is closed."""

    def __init__(self, recipe: CompileKey) -> None:
        if getattr(sys, "frozen", False) or not Path(sys.executable or "").name.startswith(("python", "pypy")):
            raise NotCompiledError("this is no Python that another process of it could be started of")
        self._folder = tempfile.TemporaryDirectory(prefix="vaelab-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "log"
        environment = (
            os.environ
            | {
                "PYTHONPATH": os.pathsep.join(place or str(Path.cwd()) for place in sys.path),
                "TORCHINDUCTOR_CACHE_DIR": self._folder.name,
                "TORCHINDUCTOR_COMPILE_THREADS": "1",
                "TORCHINDUCTOR_VEC_ISA_OK": "1",  # a C++ compiler of our days knows the processor's vectors: no trials of 3 s
            }
        )
        try:
            with self._log.open("w") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-W", "ignore", "-m", "vaelab.acceleration.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for this process to hear
                    text=True,
                )
            assert self._process.stdin is not None
            self._process.stdin.write(recipe.text() + "\n")
            self._process.stdin.flush()  # and is left open: the process ends when it closes, however this one ends
        except OSError as error:
            self._folder.cleanup()
            raise NotCompiledError(str(error)) from error

    def done(self) -> bool:
        """Whether it has made the step.

        Raises
        ------
        NotCompiledError
            If it could not.
        """
        status = self._process.poll()
        if status is None:
            return False
        if status == 0:
            return True
        with suppress(OSError):
            lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
            raise NotCompiledError(lines[-1].strip() if lines else f"the compiler ended with status {status}")
        raise NotCompiledError(f"the compiler ended with status {status}")

    def close(self) -> None:
        """End it, and what it has started, if it still runs; take away its files."""
        if self._process.poll() is None:
            with suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._folder.cleanup()


def main() -> int:
    """Make what standard input asks for."""
    recipe = CompileKey.read(sys.stdin.readline())
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    torch.set_num_threads(recipe.threads)  # what is worth sharing out hangs on it
    try:
        keep(make(recipe), recipe.path)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        print(f"{type(error).__name__}: {lines[0]}", file=sys.stderr)  # noqa: T201 - for the process that asked
        return 1
    return 0


def make(recipe: CompileKey) -> Path:
    """The library of a compiled step; it was compared with the step as it stands.

    Raises
    ------
    Exception
        Whatever PyTorch and the C++ compiler have to say.
    """
    from torch._inductor import aot_compile
    from torch.fx.experimental.proxy_tensor import make_fx

    model = build_model(recipe.model, recipe.shape, recipe.classes).train()
    as_written = as_function if recipe.shares == 1 else as_look
    step, tensors = as_written(model, recipe.train), _examples(recipe, model)
    graph = make_fx(step, tracing_mode="fake", decomposition_table=_INSTEAD)(*tensors)
    options = dict.fromkeys(("enable_line_tables", "enable_frame_pointer", "precompile_headers"), False)
    # What lies around the kernels is compiled in half the time, and runs no slower, as it stands.
    options = {f"aot_inductor.{name}": value for name, value in {**options, "compile_wrapper_opt_level": "O0"}.items()}
    options["cpp.dynamic_threads"] = True  # it goes by the number of threads that there are when it runs
    options["pattern_matcher"] = False  # it would put `_apart` together again
    options["realize_cpu_opcount_threshold"] = 30  # as on GPUs: binarised images are kept, not made again at each use
    made = str(aot_compile(graph, tuple(tensors), options=options))
    compare(open_library(made), step, tensors, coarse=recipe.train.precision == "bfloat16")
    return Path(made)


def _apart(bias: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """A dense layer as a product and a sum, which goes into the kernel that comes next and so costs nothing."""
    return left @ right + bias


def _log_odds(logits: Tensor, x: Tensor, *_: object) -> Tensor:
    """Minus the Bernoulli's log-probability: a logarithm in place of `log1p`, twice as quick and within 1e-7 nats of it."""
    return logits.clamp_min(0) - x * logits + torch.log(1 + torch.exp(-logits.abs()))


def _norm(values: Tensor, order: float = 2, dims: list[int] | None = None, *_: object, **__: object) -> Tensor:
    """A matrix's norm by the sums of its rows: the compiler's one sum over all of it is several times as slow."""
    return values.square().sum(-1).sum().sqrt() if order == 2 and dims is None else NotImplemented


def _laid_out(values: Tensor, *, memory_format: torch.memory_format | None = None) -> Tensor:
    """What is laid out in another order is so once, by itself: worked into what reads it, that would run value by value."""
    if memory_format is not torch.contiguous_format or values.is_contiguous():
        return NotImplemented
    from torch._inductor import inductor_prims

    return inductor_prims.force_stride_order(values, values.new_empty(values.shape).stride())


def _factor_by_row(left: Tensor, right: Tensor) -> Tensor:
    """In bfloat16, a small left factor by row: by column the product takes a third longer than with the copy."""
    by_column = left.stride(0) == 1 != left.stride(1)
    if left.dtype != torch.bfloat16 or not by_column or MUCH_WIDER * left.shape[0] > right.shape[1]:
        return NotImplemented
    return left.contiguous() @ right


_INSTEAD = {
    torch.ops.aten.clone.default: _laid_out,
    torch.ops.aten.mm.default: _factor_by_row,
    torch.ops.aten.linalg_vector_norm.default: _norm,
    torch.ops.aten.addmm.default: _apart,
    torch.ops.aten.binary_cross_entropy_with_logits.default: _log_odds,
}
"""What the compiler is shown in place of operations that it has a slower way with."""


def _examples(recipe: CompileKey, model: torch.nn.Module) -> list[Tensor]:
    """Tensors as the step will see them: the initial weights, nothing moved yet, images and noise drawn."""
    weights, buffers = list(model.parameters()), list(model.buffers())
    beta, rate = torch.tensor(1.0), torch.tensor(1e-3)
    moments_and_tally, gradients_and_figures = [None] * (2 * len(weights) + 4), [None] * (len(weights) + 1)
    known = (
        [*weights, *moments_and_tally, *buffers, beta, rate]
        if recipe.shares == 1
        else [*weights, *buffers, *gradients_and_figures, beta]
    )
    generator = torch.Generator().manual_seed(0)
    examples = []
    for place, (shape, stride, dtype) in enumerate(recipe.tensors):
        example = torch.empty_strided(shape, stride, dtype=getattr(torch, dtype)).zero_()
        if place < len(known):
            if (value := known[place]) is not None:
                example.copy_(value.detach())
        elif example.is_floating_point():
            example.copy_(torch.randn(shape, generator=generator))
        elif example.dtype == torch.uint8:  # the images
            example.random_(0, 256, generator=generator)
        examples.append(example)
    return examples


def compare(
    compiled: Callable[[list[Tensor]], object], step: Callable[..., object], examples: list[Tensor], *, coarse: bool
) -> None:
    """See that a compiled step does to `examples` what the `step` that it was made from does; a `coarse` one nearly so.

    Raises
    ------
    ArithmeticError
        If it does not.
    """
    mine, plain = ([example.clone() for example in examples] for _ in range(2))
    compiled(mine)
    step(*plain)
    for place, (before, one, other) in enumerate(zip(examples, mine, plain, strict=True)):
        moved, apart = ((other - before).float().norm().item(), (one - other).float().norm().item())
        # a weight of n that goes the other way is 2/√n of the whole move apart
        tolerance = COARSE_TOLERANCE + 2 / math.sqrt(max(one.numel(), 1)) if coarse else TOLERANCE
        if not apart <= tolerance * moved:
            raise ArithmeticError(f"compiled, the step moves tensor {place} by {apart:g} beside its {moved:g}")


def _end_with_standard_input() -> None:
    with suppress(ValueError, OSError):
        while sys.stdin.read(1):
            pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # the C++ compiler with it
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
