"""Matrix products: where bfloat16 pays, and float32 on the CPU by the faster of the two libraries that PyTorch brings.

PyTorch multiplies float32 matrices with MKL, which leaves half of the AVX-512 of AMD's processors unused; oneDNN uses it
all, but is asked only where products of lower precision are allowed. So they are allowed there if, and only if, this
processor's oneDNN goes on to multiply in float32 all the same, which a probe of exact products tells. Nothing is rounded
to bfloat16; where a processor would (those with AMX), MKL stays. So it does on Intel's own, where it is the quicker one, above
all for small products (`benchmarks/RESULTS.md`). Which library it is follows from the processor, not from a stopwatch: the two
round apart, and the same seed is to give the same weights.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from vaelab.config import ModelConfig


def pays_in_bfloat16(model: ModelConfig, shape: tuple[int, ...], device: torch.device) -> bool:
    """Whether a model trains faster with its products in bfloat16, and no worse (docs/decisions/bfloat16.md).

    On a GPU that has them, always; on a processor that has them, dense networks and ladders without convolutions, on images.
    Convolutions gain nothing there, and the reals of a table would be rounded.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    dense = model.network == "mlp" or (model.network == "ladder" and model.spatial_mixing != "conv")
    return device.type == "cpu" and dense and len(shape) > 1 and _has_bfloat16()


def _has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by itself: AVX-512 BF16 or AMX."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]


_PROBED = ((128, 784, 400), (400, 128, 784), (1000, 256, 784), (32, 40, 400), (8, 16, 8))
"""Sizes (n, k, m) of the products n×k by k×m that are probed: those of dense layers and their gradients."""


@contextmanager
def fast_products() -> Iterator[None]:
    """Within it, float32 matrix products on the CPU are as precise as ever, and quicker where oneDNN is.

    On a GPU, convolutions in float32 are so too: by themselves they would keep 10 bits of each factor (TF32).
    """
    settings, cudnn = _settings(), _cudnn()
    before, rounded = settings.fp32_precision, cudnn.is_available() and cudnn.allow_tf32
    if not _intel() and _onednn_keeps_float32():
        settings.fp32_precision = "bf16"
    if rounded:
        cudnn.allow_tf32 = False
    try:
        yield
    finally:
        settings.fp32_precision = before
        if rounded:
            cudnn.allow_tf32 = True


def _settings() -> Any:
    return torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue] - made at run time


def _cudnn() -> Any:
    return torch.backends.cudnn  # whose settings are made at run time too


@cache
def _intel() -> bool:
    """Whether this processor says that it is Intel's."""
    with suppress(OSError):
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return "GenuineIntel" in platform.processor()


@cache
def _onednn_keeps_float32() -> bool:
    """Whether oneDNN is to be had here and, allowed to round to bfloat16, does not."""
    if not torch.backends.mkldnn.is_available():
        return False
    settings = _settings()
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        return all(_exact(*size) for size in _PROBED)
    finally:
        settings.fp32_precision = before


def _exact(n: int, k: int, m: int) -> bool:
    """Whether (1 + 2⁻¹²)·1, summed k times, comes out as float32 has it; bfloat16 would round the 2⁻¹² away."""
    left, right = torch.full((n, k), 1 + 2.0**-12), torch.ones(k, m)
    exact = k * (1 + 2.0**-12)  # a multiple of 2⁻¹² below 2¹²: float32 holds every partial sum
    return all(
        bool((product == exact).all())
        for product in (
            left @ right,
            right.t() @ left.t(),
            torch.ones(m, k) @ left.t(),
            (left.t().contiguous()).t() @ right,
            torch.bmm(left[None], right[None])[0],
        )
    )
