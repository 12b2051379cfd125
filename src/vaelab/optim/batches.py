"""Which images a step sees, and how raw pixels become the model's input: functions of (seed, step) alone.

The order is one endless stream, one permutation of the images after another, cut into batches of equal size. So every
image is seen equally often whether or not the batch size divides their number, and step t can be had without the steps
before it.
"""

from __future__ import annotations

import hashlib
import math
import struct

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int32, UInt8
from torch import Tensor

from vaelab.config import LikelihoodName

PUBLISHED_BINARISATION_SEED = 777
"""numpy.random.RandomState of the once-binarised validation and test images."""

MOST_AHEAD, MOST_BYTES_AHEAD = 16, 2**22
"""Steps whose batches are drawn together, at the most, and bytes of their images."""

_ROUNDS = tuple(
    (factor - 2**32 if factor >= 2**31 else factor, shift)
    for factor, shift in ((0x9E3779B1, 16), (0x21F0AAAD, 15), (0x735A2D97, 15), (0x9E3779B1, 16))
)
"""By what a counter is multiplied, as a 32-bit integer, and how far it is shifted then.

The factors are odd: 2³² over the golden ratio, and two found by search to scramble well (Wellons, hash-prospector).
"""

_SECOND_HALF = 2
"""The round before which the second half of the key is put in."""


def generator_for(purpose: str, seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose draws follow from (purpose, seed, step) alone, independent between any two of these."""
    digest = hashlib.blake2b(f"{purpose} {seed} {step}".encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)


class ShuffledOrder:
    """The order in which `count` images are seen: index (batch_size,) for any step, int64 on `device`."""

    def __init__(self, count: int, batch_size: int, seed: int, device: torch.device | str = "cpu") -> None:
        self.count, self.batch_size, self.seed, self.device = count, batch_size, seed, device
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def permutation(self, epoch: int) -> Int[Tensor, " count"]:
        """The order of one pass over the images."""
        if epoch != self._epoch:
            generator = generator_for("order", self.seed, epoch)
            self._permutation = torch.randperm(self.count, generator=generator).to(self.device)
            self._epoch = epoch
        return self._permutation

    def at(self, step: int, steps: int = 1) -> Int[Tensor, " batch"]:
        """The images of a step, counted from 0; or of so many `steps` from there on, one after another."""
        first, last = step * self.batch_size, (step + steps) * self.batch_size
        pieces = []
        while first < last:
            epoch, offset = divmod(first, self.count)
            taken = min(last - first, self.count - offset)
            pieces.append(self.permutation(epoch)[offset : offset + taken])
            first += taken
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


class BatchStream:
    """What the steps of a training see, drawn for several of them at a time: one by one it takes a small model's step 6 % more.

    Attributes
    ----------
    ahead
        Steps drawn together, the first of them a multiple of this.
    """

    def __init__(
        self, images: Tensor, labels: Int[Tensor, " n"] | None, batch_size: int, latent_dim: int, seed: int
    ) -> None:
        """Batches of `batch_size` of `images` (n, *shape) and `labels`, with noise of dimension `latent_dim`."""
        self.images, self.labels, self.latent_dim, self.seed = images, labels, latent_dim, seed
        self.order = ShuffledOrder(len(images), batch_size, seed, images.device)
        a_batch = max(1, batch_size * images[:1].nbytes)
        self.ahead = max(1, min(MOST_AHEAD, MOST_BYTES_AHEAD // a_batch))
        self._first = -1
        self._drawn: tuple[Tensor, Tensor | None, Tensor, Tensor]

    def at(
        self, step: int
    ) -> tuple[Tensor, Int[Tensor, " batch"] | None, Float[Tensor, "batch d"], Int32[Tensor, "2"]]:
        """Images as they are kept, labels, latent noise ε and the key of `binarise`: functions of (seed, step)."""
        place = step % self.ahead
        if step - place != self._first:
            self._first = step - place
            self._drawn = self._draw(self._first)
        images, labels, noise, keys = self._drawn
        return images[place], None if labels is None else labels[place], noise[place], keys[place]

    def _draw(self, first: int) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        index, device = self.order.at(first, self.ahead), self.images.device
        each = (self.ahead, self.order.batch_size)
        labels = None if self.labels is None else self.labels.index_select(0, index).unflatten(0, each)
        generator = generator_for("step", self.seed, first, device)
        noise = torch.randn((*each, self.latent_dim), generator=generator, device=device)
        keys = torch.stack([binarisation_key(self.seed, step) for step in range(first, first + self.ahead)])
        images = self.images.index_select(0, index).unflatten(0, each)
        return images, labels, noise, keys.to(device, non_blocking=True)


def to_unit(values: Tensor) -> Tensor:
    """Raw data as a likelihood takes them: uint8 levels become level/255, float32; reals stay as they are."""
    return values.to(torch.float32) / 255 if values.dtype == torch.uint8 else values


def training_input(raw: Tensor, likelihood: LikelihoodName, key: Int32[Tensor, "2"]) -> Tensor:
    """Raw data as the likelihood takes it, drawn afresh: float32 of the same shape.

    Parameters
    ----------
    raw
        uint8 images (batch, C, H, W), or float32 rows of a table (batch, D), which pass unchanged.
    likelihood
        `bernoulli` binarises (see `binarise`); the others take level/255.
    key
        From `binarisation_key`; of no account where nothing is binarised.
    """
    return binarise(raw, key).to(torch.float32) if binarised(raw, likelihood) else to_unit(raw)


def binarised(raw: Tensor, likelihood: LikelihoodName) -> bool:
    """Whether `likelihood` has such data binarised."""
    return likelihood == "bernoulli" and raw.dtype == torch.uint8


def binarisation_key(seed: int, step: int) -> Int32[Tensor, "2"]:
    """What the binarisation of a step follows from: 64 bits of (seed, step)."""
    digest = hashlib.blake2b(f"binarisation {seed} {step}".encode(), digest_size=8).digest()
    return torch.tensor(struct.unpack("<2i", digest), dtype=torch.int32)


def random_bits(shape: tuple[int, ...], key: Int32[Tensor, "2"]) -> Int32[Tensor, "*shape"]:
    """Sixteen random bits, 0…65535, for every place of `shape`: a function of place and `key` alone.

    A counter is scrambled by multiplications and shifts (a random number for a counter: Salmon et al. 2011), with one half
    of the key put in before the first round and the other between the rounds, lest two keys give the same bits a few places
    apart. There is no state, so a compiled step makes them where they are needed, on all cores.
    """
    mixed = torch.arange(math.prod(shape), dtype=torch.int32, device=key.device).view(shape).add_(key[0])
    for number, (factor, shift) in enumerate(_ROUNDS):
        if number == _SECOND_HALF:
            mixed ^= key[1]
        mixed *= factor
        mixed ^= (mixed >> shift).bitwise_and_(2 ** (32 - shift) - 1)  # the sign, which is shifted in, taken off
    return (mixed >> 16).bitwise_and_(0xFFFF)


def key_further_on(key: Int32[Tensor, "2"], places: int) -> Int32[Tensor, "2"]:
    """The key whose random bits are those of `key`, from the place of this number on."""
    return key + torch.tensor([places, 0], dtype=key.dtype, device=key.device)


def binarise(levels: UInt8[Tensor, "*shape"], key: Int32[Tensor, "2"]) -> Bool[Tensor, "*shape"]:
    """Each pixel True with probability level/255, to within 1 part in 100,000; level 0 never, level 255 always."""
    wide = levels.to(torch.int32)
    return random_bits(tuple(levels.shape), key) < (wide * 257).add_(wide >> 7)  # 0 for black, 65536 for white


def held_out_levels(images: np.ndarray, likelihood: LikelihoodName) -> Tensor:
    """Raw held-out data as they are compared with, the same at every call, and as small as they came.

    `bernoulli` binarises uint8 images once by the published protocol: one `binomial(1, level/255)` draw over the images in
    their order from `numpy.random.RandomState(777)`; the result is 0 or 255. All else is passed on.
    """
    if images.dtype != np.uint8 or likelihood != "bernoulli":
        return torch.from_numpy(images)
    source = np.random.RandomState(PUBLISHED_BINARISATION_SEED)
    levels = np.empty_like(images)
    for first in range(0, len(images), 1000):  # in parts, since the draws take 8 bytes a pixel; the stream is the same
        levels[first : first + 1000] = 255 * source.binomial(1, images[first : first + 1000] / 255.0)
    return torch.from_numpy(levels)


def held_out_input(images: np.ndarray, likelihood: LikelihoodName) -> Tensor:
    """`held_out_levels` as the likelihood takes them: float32 of the same shape."""
    return to_unit(held_out_levels(images, likelihood))


def images_at_once(shape: tuple[int, ...]) -> int:
    """Held-out images, each of `shape`, to evaluate at a time: at most 1,000, and fewer if they are large.

    It bounds the memory, and changes nothing else.
    """
    return max(1, min(1000, 2**20 // math.prod(shape)))


def latent_noise(count: int, latent_dim: int, seed: int) -> Float[Tensor, "n d"]:
    """ε ~ N(0, I) for each of `count` held-out images, one draw each, the same at every call, float32 on the CPU."""
    return torch.randn(count, latent_dim, generator=generator_for("held-out", seed, 0))


def mean_and_variance(images: Tensor, chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """Mean and variance of every pixel (in units of 0…1) or column over the images, float32, each of an image's shape."""
    total = torch.zeros(images.shape[1:], dtype=torch.float64, device=images.device)
    squares = torch.zeros_like(total)
    for part in images.split(chunk or max(1, 2**22 // math.prod(images.shape[1:]))):
        values = part.to(torch.float64) / (255 if images.dtype == torch.uint8 else 1)
        total += values.sum(0)
        squares += values.square().sum(0)
    mean = total / len(images)
    return mean.float(), (squares / len(images) - mean.square()).clamp_min(0).float()
