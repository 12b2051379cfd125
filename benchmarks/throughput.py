"""Work per second: training against its peers and against the machine's limit, generation, start-up, and how cost grows.

    python benchmarks/throughput.py                          # all of it: about a quarter of an hour on two cores
    python benchmarks/throughput.py --only step scaling      # some tables
    python benchmarks/throughput.py --quick                  # does it all run? Its figures are of no worth

Figures are medians with their range. What is compared takes turns, and ratios are those of single rounds, so that they hold on a
machine whose speed wanders. All images are drawings (`strokes`, 28×28, grey), but where mnist is named.
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
    """Print the tables, each as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=TABLES, default=list(TABLES), metavar="NAME", help=", ".join(TABLES)
    )
    parser.add_argument("--quick", action="store_true", help="tiny rounds, to see whether everything runs")
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
