"""A step recorded once as a CUDA graph, and replayed: its kernels follow one another with nothing of Python in between.

What lasts stays where it is and is changed there; what a step sees is copied to where the recorded one looks for it. Nothing
waits for the device. The kernels are those of the step that is recorded, and so are the figures.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaelab.acceleration.graph import Step, passing
from vaelab.config import TrainConfig
from vaelab.models.base import Model
from vaelab.optim.step import Batch, Schedule, StepStats, TrainState, descend, fused_adamw

WARM_UP = 3
"""Steps that are taken as they stand before one is recorded: in them libraries choose their ways and take their memory."""

Work = Callable[[], object]


def plain_step(
    model: Model, moving: TrainState, tally: StepStats, batch: Batch, schedule: Schedule, config: TrainConfig
) -> None:
    """The step as it stands."""
    descend(model, moving, tally, batch, schedule, config, fused_adamw)


def captured(step: Step, record: Callable[[Work], Work] | None = None) -> Step:
    """`step`, for one model's use: the first `WARM_UP` are taken, the next is recorded, and replayed from then on.

    Parameters
    ----------
    step
        It may change what lasts (`compiled.lasting`) in place, and nothing else.
    record
        How to record a step without taking it: by CUDA, if None.
    """
    record = record or _by_cuda
    taken, held, replay = 0, list[Tensor](), None

    def replayed(
        model: Model, moving: TrainState, tally: StepStats, batch: Batch, schedule: Schedule, config: TrainConfig
    ) -> None:
        nonlocal taken, held, replay
        given = passing(batch, schedule)
        if taken == 0:
            held = [tensor.clone() for tensor in given]
        else:
            torch._foreach_copy_(held, given)  # pyright: ignore[reportPrivateImportUsage]
        taken += 1
        beta, rate, images, noise, key, *labels = held
        seen = Batch(images, labels[0] if labels else None, noise, key)

        def take() -> None:
            step(model, moving, tally, seen, Schedule(beta, rate), config)

        if taken <= WARM_UP:
            take()
            return
        replay = replay or record(take)
        replay()

    return replayed


def _by_cuda(work: Work) -> Work:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay
