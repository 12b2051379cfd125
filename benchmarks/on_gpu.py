"""Table of the 784-400-20 model's step on a CUDA device, beside the device's own peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from steps import DENSE, FLOPS, compile_step, drawings, speed, trainer_for
from turns import Scale, note, ratios, spread, table, take_turns

SIDE = 8192
BATCHES = (128, 512, 4096)


def cuda_step(scale: Scale) -> Iterator[str]:
    """Images/s as it stands and compiled; their FLOP/s as shares of a product of 8192³ in float32 and in bfloat16."""
    if not torch.cuda.is_available():
        yield "Left out: there is no GPU here that PyTorch can use."
        return
    yield f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    dataset = drawings(scale.images)
    contestants: dict[str, Callable[[], float]] = {
        f"product of {SIDE}³, {str(dtype).removeprefix('torch.')}": partial(product_flops, dtype)
        for dtype in (torch.float32, torch.bfloat16)
    }
    peaks = list(contestants)
    for batch in BATCHES:
        note(f"compiling the step at batch {batch}")
        plain, faster = (trainer_for(DENSE, dataset, batch, "cuda") for _ in range(2))
        compile_step(faster)
        contestants |= {
            f"vaelab, {batch}": partial(speed, plain, scale.seconds),
            f"vaelab, compiled, {batch}": partial(speed, faster, scale.seconds),
        }
    given = take_turns(contestants, scale.rounds)
    rows = []
    for name, values in given.items():
        if name in peaks:
            continue
        what, _, batch = name.rpartition(", ")
        flops = [value * FLOPS for value in values]
        shares = [spread(ratios(flops, given[peak]), ".2%") for peak in peaks]
        rows.append([what, batch, spread(values), spread([each / 1e12 for each in flops], ".2f"), *shares])
    yield table(["", "batch", "images/s", "TFLOP/s", *(f"share of the {peak}" for peak in peaks)], rows)
    for peak in peaks:
        yield f"{peak[0].upper()}{peak[1:]}: {spread([value / 1e12 for value in given[peak]], '.1f')} TFLOP/s."


def product_flops(dtype: torch.dtype, times: int = 20) -> float:
    """FLOP/s of `times` products of two square matrices, one after the other."""
    left, right = (torch.randn(SIDE, SIDE, device="cuda", dtype=dtype) for _ in range(2))
    product = left @ right
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        torch.mm(left, right, out=product)
    torch.cuda.synchronize()
    return times * 2 * SIDE**3 / (time.perf_counter() - began)
