"""Work per second: training against other libraries and the machine's limit, generation, start-up, cost per image.

    python benchmarks/throughput.py                          # all tables, about a quarter of an hour on two cores
    python benchmarks/throughput.py --only step scaling      # some tables
    python benchmarks/throughput.py --quick                  # check that everything runs; the figures are meaningless

Figures are medians with their range. Contestants take turns and ratios are computed round by round, so they are valid on a
machine whose speed varies. All images are drawings (`strokes`, 28×28, grey) unless mnist is named.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

from generating import generation
from machine import machine
from on_gpu import cuda_step
from scaling import scaling
from start_up import start_up
from step_tables import conv_step, dense_step
from turns import QUICK, Scale, note

TABLES: dict[str, tuple[str, Callable[[Scale], Iterator[str]]]] = {
    "step": ("Training, 784-400-20, all cores", dense_step),
    "conv": ("Training, the default convolutional network", conv_step),
    "generation": ("Generation", generation),
    "start-up": ("Start-up", start_up),
    "scaling": ("Cost against the number of images", scaling),
    "cuda": ("Training on a GPU, 784-400-20", cuda_step),
}


def main() -> None:
    """Print each table as soon as it is finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=TABLES, default=list(TABLES), metavar="NAME", help=", ".join(TABLES)
    )
    parser.add_argument("--quick", action="store_true", help="tiny rounds, to check that everything runs")
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else Scale()
    print(machine())
    for name in arguments.only:
        title, tabulate = TABLES[name]
        began = time.perf_counter()
        print(f"\n### {title}", flush=True)
        for part in tabulate(scale):
            print(f"\n{part}", flush=True)
        note(f"{name} took {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
