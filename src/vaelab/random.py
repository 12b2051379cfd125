"""Seeded generators, counter-based random bits with the binarisation made from them, and permutations computed per index.

Every generator is a function of (purpose, seed, index) alone, so step t needs none of the steps before it.

Sources: Salmon et al. 2011 (counter-based random numbers); Wellons, hash-prospector (the multipliers); Black & Rogaway 2002,
section 4 (permutations of any number of elements by a generalised Feistel network, with cycle walking).
"""

from __future__ import annotations

import hashlib
import math
import struct

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64, UInt8
from torch import Tensor

from vaelab import parts

ROUNDS = tuple(
    (factor - 2**32 if factor >= 2**31 else factor, shift)
    for factor, shift in ((0x9E3779B1, 16), (0x21F0AAAD, 15), (0x735A2D97, 15), (0x9E3779B1, 16))
)
"""Multiplier, as a signed 32-bit integer, and right shift of each round that scrambles a counter.

The multipliers are odd: 2³² over the golden ratio, and two found by search to scramble well.
"""

SECOND_KEY_ROUND = 2
"""The round before which the second half of the key is mixed in."""


FEISTEL_ROUNDS = 8
"""Rounds of a permutation: twice the four after which a Feistel network of random functions passes for random."""


def shuffled(index: Int64[np.ndarray, " n"], count: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    """Return the elements at `index` of the permutation of 0…count−1 that (seed, epoch) determines, without the others.

    With a·b ≥ count, x = b·l + r is a pair of l < a and r < b, to each of which a function of the other is added in turn. This is
    a permutation of 0…ab−1; a result beyond the last element is permuted again.
    """
    columns = max(1, math.isqrt(count - 1) + 1)
    sizes = -(-count // columns), columns
    keys = (
        torch.randint(2**32, (FEISTEL_ROUNDS,), generator=generator_for("order", seed, epoch)).numpy().astype(np.uint32)
    )
    found = index.copy()
    outside = np.ones(len(index), bool)
    while outside.any():
        pair = list(np.divmod(found[outside], columns))
        for number, key in enumerate(keys):
            side = number % 2
            pair[side] = (pair[side] + _scrambled(pair[1 - side].astype(np.uint32), key)) % sizes[side]
        found[outside] = columns * pair[0] + pair[1]
        outside = found >= count
    return found


def _scrambled(value: np.ndarray, key: np.uint32) -> np.ndarray:
    """Return 32 bits, as int64, that a value and a key determine, by the rounds of `random_bits`."""
    mixed = value + key
    for factor, shift in ROUNDS:
        mixed = mixed * np.uint32(factor % 2**32)
        mixed ^= mixed >> np.uint32(shift)
    return mixed.astype(np.int64)


def generator_for(purpose: str, seed: int, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded by (purpose, seed, index), independent of that of any other such triple."""
    digest = hashlib.blake2b(f"{purpose} {seed} {index}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)


def latent_noise(count: int, latent_dim: int, seed: int, number: int = 0) -> Float[Tensor, "n d"]:
    """Return ε ~ N(0, I) for `count` held-out images, one draw each, float32 on the CPU; the same at every call.

    `number` is that of the part (`vaelab.parts`) with which the images begin.
    """
    numbered = enumerate(parts.parts_of(count), number)
    draws = [torch.randn(len(part), latent_dim, generator=generator_for("held-out", seed, k)) for k, part in numbered]
    return torch.cat(draws) if draws else torch.empty(0, latent_dim)


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
