"""Batches: which images each step sees, and the noise that belongs to it, as functions of seed and step.

The order is one endless stream, one permutation of the images after another, cut into batches of equal size. So every image is
seen equally often whether or not the batch size divides their number, and step t needs none of the steps before it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from vaelab.objectives.batch import Batch
from vaelab.random import binarisation_key, generator_for, shuffled

# Maximum number of steps whose batches are drawn together, and of bytes of their images. Drawing them one at a time makes a small
# model's step 6 % slower. A block of steps shares one generator: changing these numbers changes the noise of a seed.
MAX_AHEAD, MAX_BYTES_AHEAD = 16, 2**22


class ShuffledOrder:
    """The order in which `count` images are seen: the indices (batch_size,) of any step, int64 on `device`."""

    def __init__(self, count: int, batch_size: int, seed: int, device: torch.device | str = "cpu") -> None:
        self.count, self.batch_size, self.seed, self.device = count, batch_size, seed, device

    def at(self, step: int, steps: int = 1) -> Int[Tensor, " batch"]:
        """Return the indices of a step, counted from 0, or of `steps` consecutive ones, one after another."""
        first, last = step * self.batch_size, (step + steps) * self.batch_size
        pieces = []
        while first < last:
            epoch, offset = divmod(first, self.count)
            taken = min(last - first, self.count - offset)
            pieces.append(shuffled(np.arange(offset, offset + taken), self.count, self.seed, epoch))
            first += taken
        return torch.from_numpy(np.concatenate(pieces)).to(self.device, non_blocking=True)


Block = tuple[Tensor, Tensor | None, Float[Tensor, "steps batch d"], Int32[Tensor, "steps 2"]]
"""Images, labels, noise and keys of consecutive steps, a row per step."""


class BatchStream:
    """Raw images, labels and noise of every step; `ahead` steps are drawn together."""

    def __init__(
        self,
        images: Tensor,
        labels: Int[Tensor, " n"] | None,
        batch_size: int,
        latent_dim: int,
        seed: int,
        *,
        flip: bool = False,
        share: slice | None = None,
        device: torch.device | None = None,
        prefetch: bool = False,
        announce: Callable[[np.ndarray], None] | None = None,
    ) -> None:
        """Batches of `batch_size` of `images` (n, *shape) and `labels`, with noise of dimension `latent_dim`.

        If `flip`, each image is mirrored left to right with probability ½. Only the images in `share` of a batch are given, with
        the noise that they have in the whole batch. `announce` is called with the indices of the images of the steps after those
        that are drawn, so that they can be read meanwhile. Batches are on `device`, by default that of the images. With
        `prefetch`, a thread draws the next steps meanwhile.
        """
        self.images, self.labels, self.latent_dim, self.seed, self.flip = images, labels, latent_dim, seed, flip
        self.announce, self.share = announce, share or slice(0, batch_size)
        # With its number: the current GPU of another thread may be another one.
        self.device = torch.empty(0, device=images.device if device is None else device).device
        self._thread = ThreadPoolExecutor(1, "batches") if prefetch else None
        self._coming: tuple[int, Future[Block]] | None = None
        self.order = ShuffledOrder(len(images), batch_size, seed, images.device)
        self.ahead = max(1, min(MAX_AHEAD, MAX_BYTES_AHEAD // max(1, batch_size * images[:1].nbytes)))
        self._first = self._announced = -1
        self._block: Block

    def at(self, step: int, samples: int | None = None) -> Batch:
        """Return the batch of a step; with `samples`, its noise holds that many draws of z per image."""
        index = step % self.ahead
        if step - index != self._first:
            self._first = step - index
            self._block = self._next(self._first)
        images, labels, noise, keys = self._block
        batch = Batch(images[index], None if labels is None else labels[index], noise[index], keys[index])
        if samples is None:
            return batch
        generator = generator_for("draws", self.seed, step, self.device)
        whole = (samples, self.order.batch_size, self.latent_dim)
        noise = torch.randn(whole, generator=generator, device=self.device)[:, self.share]
        return Batch(batch.images, batch.labels, noise, batch.key)

    def _next(self, first: int) -> Block:
        """Return what `_draw` returns, and let the thread, if there is one, draw what follows."""
        if self._thread is None:
            return self._draw(first)
        expected = self._coming is not None and self._coming[0] == first
        block = self._coming[1].result() if self._coming is not None and expected else self._draw(first)
        self._coming = first + self.ahead, self._thread.submit(self._draw, first + self.ahead)
        return block

    def _draw(self, first: int) -> Block:
        """Return images, labels, noise and keys of the `ahead` steps from `first` on, a row per step."""
        index, device = self._indices(first), self.device
        if self.announce is not None:
            later = first + self.ahead
            for start in (later,) if first == self._announced else (first, later):
                self.announce(self._indices(start).flatten().numpy())
            self._announced = later
        labels = None if self.labels is None else self.labels[index.to(self.labels.device)]
        generator = generator_for("step", self.seed, first, device)
        whole = (self.ahead, self.order.batch_size)
        noise = torch.randn((*whole, self.latent_dim), generator=generator, device=device)[:, self.share]
        keys = torch.stack([binarisation_key(self.seed, step) for step in range(first, first + self.ahead)])
        keys[:, 0] += self.share.start * self.images[:1].numel()  # of the first pixel of the share
        images = self.images.index_select(0, index.flatten()).unflatten(0, index.shape)
        if device != images.device:
            images = images.pin_memory().to(device, non_blocking=True)
        if self.flip:
            generator = generator_for("flip", self.seed, first, device)
            mirrored = torch.rand(whole, generator=generator, device=device)[:, self.share] < 0.5
            images = torch.where(mirrored[..., None, None, None], images.flip(-1), images)
        return images, labels, noise, keys.to(device, non_blocking=True)

    def _indices(self, first: int) -> Int[Tensor, "steps share"]:
        """Return the indices of the images of the `ahead` steps from `first` on."""
        return self.order.at(first, self.ahead).view(self.ahead, -1)[:, self.share]
