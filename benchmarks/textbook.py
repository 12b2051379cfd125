"""Images a second: vaelab's training against a textbook loop and against the machine's limit, in one run.

    python benchmarks/textbook.py

All are the same 784-400-20 model at batch 128, on 28×28 images (strokes), in float32 on all cores, and take turns. The loop is
that of `textbook_loop.py`, its evaluation left out; vaelab's step binarises, clips, averages weights and follows a schedule,
as it stands and compiled (`--compile yes`). The limit is the model's matrix products alone, forward and backward: no step of
that model, in float32 and with these libraries, can be faster. `throughput.py` has more contestants.
"""

from __future__ import annotations

import torch
from machine import machine
from steps import DENSE, FLOPS, compile_step, drawings, products_speed, speed, trainer_for
from textbook_loop import TextbookLoop, TextbookVAE
from turns import ratios, spread, table, take_turns

IMAGES, BATCH, ROUNDS, SECONDS = 20_000, 128, 7, 4.0


def main() -> None:
    """Print all speeds and their ratios."""
    torch.manual_seed(0)
    dataset = drawings(IMAGES)
    plain, faster = (trainer_for(DENSE, dataset, BATCH) for _ in range(2))
    loop = TextbookLoop(TextbookVAE(), dataset.train, dataset.test, BATCH)
    print(machine())
    print(f"compiled in {compile_step(faster)[1]:.1f} s")

    def textbook() -> float:
        epoch = loop.epoch()
        return epoch.images / epoch.training

    contestants = {
        "textbook loop": textbook,
        "vaelab": lambda: speed(plain, SECONDS),
        "vaelab, compiled": lambda: speed(faster, SECONDS),
        f"the products alone, {FLOPS / 1e6:.2f} MFLOP an image": lambda: products_speed(BATCH, SECONDS / 2),
    }
    take_turns(contestants, 1)  # to warm up
    given = take_turns(contestants, ROUNDS)
    loops, *_, most = given.values()
    rows = [
        [name, spread(values), spread(ratios(values, loops), ".2f"), spread(ratios(values, most), ".2f")]
        for name, values in given.items()
    ]
    print(table(["", f"images/s, median of {ROUNDS} (range)", "ratio to the loop", "share of the limit"], rows))


if __name__ == "__main__":
    main()
