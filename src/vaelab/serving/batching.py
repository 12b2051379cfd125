"""Join the rows of several requests into batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import final

import numpy as np

Compute = Callable[[np.ndarray, np.ndarray | None], tuple[np.ndarray, ...]]
"""Computes rows and their label indices, or None, to several outputs with as many rows."""


@final
class Batcher:
    """Computes rows of several callers at the same time.

    Parameters
    ----------
    compute
        Called with the joined rows in a thread of `pool`.
    most
        Rows per call of `compute`; a piece that a caller hands over must not have more.
    wait
        Seconds to wait for the rows of others.

    Attributes
    ----------
    batches, rows
        Number of calls of `compute`, and rows in them.
    """

    def __init__(self, compute: Compute, most: int, wait: float, pool: Executor) -> None:
        self.compute, self.most, self.wait, self.pool = compute, most, wait, pool
        self.pieces: deque[tuple[np.ndarray, np.ndarray | None, asyncio.Future]] = deque()
        self.batches = self.rows = 0
        self._worker: asyncio.Task | None = None

    async def __call__(self, rows: np.ndarray, labels: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """Return the outputs for these rows; a long array is handed over piece by piece, so that others are not held up."""
        parts = []
        for first in range(0, len(rows), self.most):
            part = slice(first, first + self.most)
            future = asyncio.get_running_loop().create_future()
            self.pieces.append((rows[part], None if labels is None else labels[part], future))
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._work())
            parts.append(await future)
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    async def _work(self) -> None:
        """Compute batches until no pieces are left."""
        loop = asyncio.get_running_loop()
        while self.pieces:
            if sum(len(rows) for rows, _, _ in self.pieces) < self.most:
                await asyncio.sleep(self.wait)
            taken, count = [], 0
            while self.pieces and count + len(self.pieces[0][0]) <= self.most:
                piece = self.pieces.popleft()
                if not piece[2].done():  # its request has not been cancelled
                    taken.append(piece)
                    count += len(piece[0])
            if not taken:
                continue
            rows = np.concatenate([piece[0] for piece in taken])
            labels = None if taken[0][1] is None else np.concatenate([piece[1] for piece in taken])
            self.batches, self.rows = self.batches + 1, self.rows + count
            try:
                outputs = await loop.run_in_executor(self.pool, self.compute, rows, labels)
            except Exception as error:  # of onnxruntime; each request reports it
                for *_, future in taken:
                    if not future.done():
                        future.set_exception(error)
                continue
            first = 0
            for piece, _, future in taken:
                part = slice(first, first := first + len(piece))
                if not future.done():
                    future.set_result([output[part] for output in outputs])
