"""A step recorded once as a CUDA graph and replayed: its kernels run back to back, without Python in between.

What lasts stays where it is and changes in place; the inputs of a step are copied to where the recorded one reads them.
Nothing waits for the device. The kernels are those of the recorded step, and so are the results.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaelab.acceleration.graph import passing_inputs
from vaelab.objectives.batch import Batch
from vaelab.optim.schedule import Schedule

WARM_UP = 3
"""Steps taken plainly before one is recorded: in them libraries choose algorithms and allocate memory."""

Step = Callable[[Batch, Schedule], None]
"""One step; its schedule is of tensors."""

Work = Callable[[], object]


def recorded(step: Step, record: Callable[[Work], Work] | None = None) -> Step:
    """Return `step` such that the first `WARM_UP` calls take it, the next records it, and all later ones replay it.

    `step` may change only `graph.lasting_inputs`, in place. `record` records work without doing it; by default by CUDA.
    """
    record = record or _by_cuda
    taken, inputs, replay = 0, list[Tensor](), None

    def replayed(batch: Batch, schedule: Schedule) -> None:
        nonlocal taken, inputs, replay
        given = passing_inputs(batch, schedule)
        if taken == 0:
            inputs = [tensor.clone() for tensor in given]
        else:
            torch._foreach_copy_(inputs, given)  # pyright: ignore[reportPrivateImportUsage]
        taken += 1
        beta, rate, images, noise, key, *labels = inputs
        static = Batch(images, labels[0] if labels else None, noise, key)

        def take() -> None:
            step(static, Schedule(beta, rate))

        if taken <= WARM_UP:
            take()
            return
        replay = replay or record(take)
        replay()

    return replayed


def _by_cuda(work: Work) -> Work:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread may draw the next batches
        work()
    return graph.replay
