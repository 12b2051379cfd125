"""Tables of the training step: the 784-400-20 model against other libraries and the limit, and the convolutional model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from compile_time import compile_times
from pythae_peer import PeerError, Pythae, environment
from recorded import Recorded
from steps import CONV, DENSE, FLOPS, compile_step, drawings, products_speed, speed, trainer_for
from textbook_loop import SameNetworks, TextbookLoop, TextbookVAE
from turns import Scale, note, ratios, spread, table, take_turns

from vaelab.config import PrecisionName
from vaelab.precision import cpu_has_bfloat16

BATCH, LARGE = 128, 512
LIMIT = "the limit: its matrix products"
PRECISIONS: tuple[PrecisionName, ...] = ("float32", "bfloat16")
BFLOAT16 = PRECISIONS[1]


def dense_step(scale: Scale) -> Iterator[str]:
    """Yield images/s, ratios and shares of the limit for 784-400-20 on all cores, then the time to compile.

    In float32; if bfloat16 is the default on this processor, vaelab and its limit are also measured in bfloat16.
    """
    torch.manual_seed(0)
    dataset = drawings(scale.images)
    loop = _Loop(TextbookLoop(TextbookVAE(), dataset.train, dataset.test, BATCH))
    with ExitStack() as stack:
        peers: dict[str, Callable[[], float]] = {}
        try:
            pythae = stack.enter_context(Pythae(environment(), dataset.train.images[:, 0], BATCH))
            peers[f"{pythae.name}, no evaluation"] = pythae.speed
        except PeerError as error:
            yield f"pythae was skipped: {error}"
        contestants = {f"textbook loop, {BATCH}": loop.speed}
        contestants |= {f"{name}, {BATCH}": peer for name, peer in peers.items()}
        precisions = PRECISIONS[: 1 + cpu_has_bfloat16()]
        for batch in (BATCH, LARGE):
            contestants[f"vaelab, {batch}"] = partial(speed, trainer_for(DENSE, dataset, batch), scale.seconds)
            for precision in precisions:
                note(f"compiling the step at batch {batch} in {precision}")
                faster = trainer_for(DENSE, dataset, batch, precision=precision)
                compile_step(faster)
                limit = partial(products_speed, batch, scale.seconds / 2, getattr(torch, precision))
                contestants |= {
                    _named("vaelab, compiled", precision, batch): partial(speed, faster, scale.seconds),
                    _named(f"{LIMIT} alone", precision, batch): limit,
                }
        for batch in (BATCH, LARGE):  # warm-up
            products_speed(batch, 0.1)
        given = take_turns(contestants, scale.rounds)
    yield _table(given, f"textbook loop, {BATCH}", [f"{name}, {BATCH}" for name in peers])
    for batch in (BATCH, LARGE):
        rates = [value * FLOPS / 1e9 for value in given[f"{LIMIT} alone, {batch}"]]
        yield f"The limit at batch {batch}: {FLOPS / 1e6:.3f} MFLOP an image, {spread(rates)} GFLOP/s."
    yield (
        f"The loop without its evaluation of {len(dataset.test):,} images after each epoch of {len(dataset.train):,}: "
        f"{spread(loop.training)} images/s; vaelab, compiled, at batch {BATCH}: "
        + ", ".join(
            f"{spread(ratios(given[_named('vaelab, compiled', precision, BATCH)], loop.training), '.2f')} times that "
            f"in {precision}"
            for precision in precisions
        )
        + "."
    )
    yield compile_times(scale)


def conv_step(scale: Scale) -> Iterator[str]:
    """Yield the same for the default convolutional network; the limit includes its convolutions."""
    torch.manual_seed(0)
    dataset = drawings(scale.conv_images)
    plain, faster, other = (trainer_for(CONV, dataset, BATCH) for _ in range(3))
    limit = Recorded(plain)
    note("compiling the convolutional step")
    compile_step(faster)
    loop = _Loop(TextbookLoop(SameNetworks(other.model), dataset.train, dataset.test, BATCH))
    weights = sum(weight.numel() for weight in plain.model.parameters())
    contestants = {
        f"textbook loop, {BATCH}": loop.speed,
        f"vaelab, {BATCH}": partial(speed, plain, scale.seconds),
        f"vaelab, compiled, {BATCH}": partial(speed, faster, scale.seconds),
        f"{LIMIT} and convolutions alone, {BATCH}": partial(limit.speed, scale.seconds),
    }
    given = take_turns(contestants, scale.rounds)
    yield (
        f"{weights:,} weights, {plain.model.latent_dim} latent dimensions, {limit.flops / 1e6:.1f} MFLOP an image. The "
        "limit is that of eager PyTorch convolutions; a compiled step may choose another memory layout and exceed it."
    )
    yield _table(given, f"textbook loop, {BATCH}", [])


def _named(what: str, precision: PrecisionName, batch: int) -> str:
    """Return the name of a contestant; it names bfloat16 but not float32."""
    return ", ".join([what, *([BFLOAT16] if precision == BFLOAT16 else []), str(batch)])


class _Loop:
    """Speed of the textbook loop with its evaluation; `training` collects the speeds without it."""

    def __init__(self, loop: TextbookLoop) -> None:
        self.loop = loop
        self.training: list[float] = []

    def speed(self) -> float:
        """Return training images per second of an epoch, with the evaluation after it."""
        epoch = self.loop.epoch()
        self.training.append(epoch.images / epoch.training)
        return epoch.images / (epoch.training + epoch.evaluation)


def _table(given: Mapping[str, Sequence[float]], loop: str, peers: Sequence[str]) -> str:
    """Return a table with a row per contestant; ratios compare equal batch sizes."""
    header = [
        "",
        "batch",
        "images/s",
        "× textbook loop",
        *(f"× {peer.split(',')[0]}" for peer in peers),
        "share of the limit",
    ]
    limits = {name.partition(" alone")[2]: values for name, values in given.items() if name.startswith(LIMIT)}
    rows = []
    for name, values in given.items():
        what, _, batch = name.rpartition(", ")
        against = [
            spread(ratios(values, given[other]), ".2f") if batch == str(BATCH) else "" for other in (loop, *peers)
        ]
        own = f", {BFLOAT16}" if what.endswith(BFLOAT16) else ""
        share = spread(ratios(values, limits[f"{own}, {batch}"]), ".0%")
        rows.append([what, batch, spread(values), *against, share])
    return table(header, rows)
