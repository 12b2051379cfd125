"""Seeded generators, counter-based random bits, and the binarisation made from them.

Every generator is a function of (purpose, seed, index) alone, so step t needs none of the steps before it.

Sources: Salmon et al. 2011 (counter-based random numbers); Wellons, hash-prospector (the multipliers).
"""

from __future__ import annotations

import hashlib
import math
import struct

import torch
from jaxtyping import Bool, Float, Int32, UInt8
from torch import Tensor

ROUNDS = tuple(
    (factor - 2**32 if factor >= 2**31 else factor, shift)
    for factor, shift in ((0x9E3779B1, 16), (0x21F0AAAD, 15), (0x735A2D97, 15), (0x9E3779B1, 16))
)
"""Multiplier, as a signed 32-bit integer, and right shift of each round that scrambles a counter.

The multipliers are odd: 2³² over the golden ratio, and two found by search to scramble well.
"""

SECOND_KEY_ROUND = 2
"""The round before which the second half of the key is mixed in."""


def generator_for(purpose: str, seed: int, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded by (purpose, seed, index), independent of that of any other such triple."""
    digest = hashlib.blake2b(f"{purpose} {seed} {index}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)


def latent_noise(count: int, latent_dim: int, seed: int) -> Float[Tensor, "n d"]:
    """Return ε ~ N(0, I) for `count` held-out images, one draw each, float32 on the CPU; the same at every call."""
    return torch.randn(count, latent_dim, generator=generator_for("held-out", seed, 0))


def binarisation_key(seed: int, step: int) -> Int32[Tensor, "2"]:
    """Return the 64 bits that determine the binarisation of a step."""
    digest = hashlib.blake2b(f"binarisation {seed} {step}".encode(), digest_size=8).digest()
    return torch.tensor(struct.unpack("<2i", digest), dtype=torch.int32)


def random_bits(shape: tuple[int, ...], key: Int32[Tensor, "2"]) -> Int32[Tensor, "*shape"]:
    """Return 16 random bits, 0…65535, for every position of `shape`, as a function of position and `key` alone.

    A counter is scrambled by multiplications and shifts. One half of the key is added before the first round, the other between
    rounds, so that two keys never give the same bits a few positions apart. There is no state, so a compiled step computes the
    bits where they are needed, on all cores.
    """
    mixed = torch.arange(math.prod(shape), dtype=torch.int32, device=key.device).view(shape).add_(key[0])
    for number, (factor, shift) in enumerate(ROUNDS):
        if number == SECOND_KEY_ROUND:
            mixed ^= key[1]
        mixed *= factor
        mixed ^= (mixed >> shift).bitwise_and_(2 ** (32 - shift) - 1)  # a logical shift: the sign bits are masked
    return (mixed >> 16).bitwise_and_(0xFFFF)


def offset_key(key: Int32[Tensor, "2"], positions: int) -> Int32[Tensor, "2"]:
    """Return the key whose random bits are those of `key` from this position on."""
    return key + torch.tensor([positions, 0], dtype=key.dtype, device=key.device)


def binarise(levels: UInt8[Tensor, "*shape"], key: Int32[Tensor, "2"]) -> Bool[Tensor, "*shape"]:
    """Return True for each pixel with probability level/255, to within 1e-5; level 0 never, level 255 always."""
    wide = levels.to(torch.int32)
    return random_bits(tuple(levels.shape), key) < (wide * 257).add_(wide >> 7)  # 0 for black, 65536 for white
