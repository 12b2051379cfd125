"""Speed of the 784-400-20 model's step on a CUDA device, and its share of the device's peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from steps import DENSE, FLOPS, compile_step, drawings, speed, trainer_for
from turns import Scale, note, ratios, spread, table, take_turns

from vaelab.config import PrecisionName

SIDE = 8192
BATCHES = (128, 512, 4096)
PRECISIONS: dict[PrecisionName, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def cuda_step(scale: Scale) -> Iterator[str]:
    """Yield images/s, compiled and not, and FLOP/s as a share of a product of 8192³ in float32 and bfloat16."""
    if not torch.cuda.is_available():
        yield "Skipped: PyTorch finds no CUDA device."
        return
    yield f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    dataset = drawings(scale.images)
    contestants: dict[str, Callable[[], float]] = {
        precision: partial(product_flops, dtype) for precision, dtype in PRECISIONS.items()
    }
    for batch in BATCHES:
        for precision in PRECISIONS:
            note(f"compiling the step at batch {batch} in {precision}")
            plain, faster = (trainer_for(DENSE, dataset, batch, "cuda", precision) for _ in range(2))
            compile_step(faster)
            contestants |= {
                f"vaelab, {precision}, {batch}": partial(speed, plain, scale.seconds),
                f"vaelab, compiled, {precision}, {batch}": partial(speed, faster, scale.seconds),
            }
    speeds = take_turns(contestants, scale.rounds)
    rows = []
    for name, values in speeds.items():
        if name in PRECISIONS:
            continue
        what, precision, batch = name.rsplit(", ", 2)
        flops = [value * FLOPS for value in values]
        share = spread(ratios(flops, speeds[precision]), ".2%")
        rows.append([what, precision, batch, spread(values), spread([each / 1e12 for each in flops], ".2f"), share])
    yield table(["", "products", "batch", "images/s", "TFLOP/s", "share of the peak"], rows)
    for precision in PRECISIONS:
        peak = spread([value / 1e12 for value in speeds[precision]], ".1f")
        yield f"Peak, a product of {SIDE}³ in {precision}: {peak} TFLOP/s."


def product_flops(dtype: torch.dtype, times: int = 20) -> float:
    """Return the FLOP/s of `times` consecutive products of two square matrices."""
    left, right = (torch.randn(SIDE, SIDE, device="cuda", dtype=dtype) for _ in range(2))
    product = left @ right
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        torch.mm(left, right, out=product)
    torch.cuda.synchronize()
    return times * 2 * SIDE**3 / (time.perf_counter() - began)
