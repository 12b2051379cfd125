"""Numeric precision: bfloat16 matrix products in training, exact float32 convolutions elsewhere.

Weights, optimiser state and distributions are always float32 (docs/decisions/bfloat16.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from vaelab.config import NetworkName, PrecisionName, SpatialMixingName
from vaelab.errors import ConfigError


def default_precision(
    network: NetworkName, spatial_mixing: SpatialMixingName, shape: tuple[int, ...], device: torch.device
) -> PrecisionName:
    """Return the precision in which a model trains fastest without loss, for data of `shape` on this device.

    bfloat16 on GPUs that support it, and on processors that support it for dense networks and ladders without convolutions.
    float32 for tables, whose values bfloat16 would round, and for convolutions on a processor, which gain nothing.
    """
    if len(shape) == 1:
        return "float32"
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    dense = network in ("mlp", "pca", "two-colour") or (network == "ladder" and spatial_mixing != "conv")
    return "bfloat16" if device.type == "cpu" and dense and cpu_has_bfloat16() else "float32"


def cpu_has_bfloat16() -> bool:
    """Return whether this processor has bfloat16 matrix instructions: AVX-512 BF16 or AMX."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def pick_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is CUDA if available, else the CPU.

    Raises
    ------
    ConfigError
        If it is not available on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"`device`: {name!r} is not available on this machine; expected auto, cpu or the name of a GPU, such as cuda"
        ) from error
    return device


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Within it, float32 convolutions on a GPU are exact; by default cuDNN rounds their factors to 10 bits (TF32)."""
    cudnn: Any = torch.backends.cudnn
    rounded = cudnn.is_available() and cudnn.allow_tf32
    if rounded:
        cudnn.allow_tf32 = False
    try:
        yield
    finally:
        if rounded:
            cudnn.allow_tf32 = True


def mixed_precision(device: torch.device, precision: PrecisionName) -> torch.autocast:
    """Return a context in which matrix products are computed in `precision`, with float32 weights."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def rounded_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of dense layers and convolutions by name, in bfloat16; gradients flow back in float32."""
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    ids = {id(w) for module in model.modules() if isinstance(module, layers) for w in module.parameters(recurse=False)}
    found = {
        name: weight for name, weight in model.named_parameters() if id(weight) in ids
    }  # once, if two names share it
    return dict(zip(found, cast(tuple[Tensor, ...], _Rounded.apply(*found.values())), strict=True))


class _Rounded(torch.autograd.Function):
    """Casts float32 to bfloat16, and gradients back."""

    @staticmethod
    def forward(ctx: object, *weights: Tensor) -> tuple[Tensor, ...]:
        return _cast(weights, torch.bfloat16)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, ...]:
        return _cast(gradients, torch.float32)


def _cast(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    made = [torch.empty_like(each, dtype=dtype) for each in tensors]
    torch._foreach_copy_(made, list(tensors))  # pyright: ignore[reportPrivateImportUsage]
    return tuple(made)
