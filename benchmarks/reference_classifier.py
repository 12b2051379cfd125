"""Training time and accuracy of the reference classifier, and of the network of the label-free features, on MNIST.

    python benchmarks/reference_classifier.py             # MNIST from VAELAB_DATA_DIR, or downloaded; three seeds
    python benchmarks/reference_classifier.py --label-free

Nothing is read from the cache or written to it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from machine import machine

import vaelab
from vaelab.evaluation import reference_classifier
from vaelab.evaluation.label_free import label_free_network_for
from vaelab.progress import work_bar


def main() -> None:
    """Print seconds and accuracy for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="mnist")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--label-free", action="store_true", help="the network of the label-free features instead")
    arguments = parser.parse_args()
    print(machine())
    dataset = vaelab.load_dataset(arguments.source)
    train = label_free_network_for if arguments.label_free else reference_classifier.reference_classifier_for
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder, work_bar() as work:
            reference_classifier.cache_folder = lambda folder=folder: Path(folder)
            began, processor = time.perf_counter(), time.process_time()
            network = train(dataset, seed=seed, work=work)
            seconds, processor = time.perf_counter() - began, time.process_time() - processor
        print(
            f"{dataset.name}, seed {seed}: {seconds:.1f} s ({processor:.1f} s of processor time), "
            f"{network.accuracy:.2%} of {network.held_out:,} held-out images",
            flush=True,
        )


if __name__ == "__main__":
    main()
