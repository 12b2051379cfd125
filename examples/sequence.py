"""Sequences, with custom networks: a conditional VAE with a recurrent encoder and decoder (`recurrent.py`).

    python examples/sequence.py --out sequences.png

The sequences are sine, triangle and sawtooth waves of random period, phase and amplitude, with a little noise. The picture
shows some of them beside generated ones with the same label. The default budget, 20 passes over 4,000 sequences, takes about
20 seconds and is sufficient; after much shorter trainings the three waves look alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from recurrent import Decoder, Encoder

from vaelab import ConditionalVAE, VaelabError

LENGTH = 32
WAVES = {
    "sine": lambda turn: np.sin(2 * np.pi * turn),
    "triangle": lambda turn: 4 * np.abs(turn % 1 - 0.5) - 1,
    "sawtooth": lambda turn: 2 * (turn % 1) - 1,
}


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` waves: float32 (count, LENGTH), and the name of each."""
    rng = np.random.default_rng(seed)
    names = rng.choice(list(WAVES), size=count)
    turns, phase, amplitude = rng.uniform(1, 2.5, count), rng.uniform(0, 1, count), rng.uniform(0.5, 1.5, count)
    turn = phase[:, None] + turns[:, None] * np.linspace(0, 1, LENGTH)
    waves = np.stack([WAVES[name](row) for name, row in zip(names, turn, strict=True)])
    return (amplitude[:, None] * waves + rng.normal(0, 0.03, waves.shape)).astype(np.float32), names


def picture(path: Path, drawn: dict[str, np.ndarray], generated: dict[str, np.ndarray]) -> None:
    """Plot one row per kind of wave: drawn waves on the left, generated waves on the right."""
    figure = Figure(figsize=(9, 5), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(drawn), 2, sharex=True, sharey=True)
    for (name, waves), row in zip(drawn.items(), panels, strict=True):
        for panel, rows, what in zip(row, (waves, generated[name]), ("drawn", "generated"), strict=True):
            panel.plot(rows.T, linewidth=1.2)
            panel.set_title(f"{name}, {what}", fontsize=9)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, draw the picture, and return −ELBO of held-out sequences, in nats per sequence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--epochs",
        type=int,
        default=20,
        help="passes over the sequences: 20 are enough to separate the waves, 5 are not",
    )
    parser.add_argument("--count", type=int, default=4000, help="number of training sequences")
    parser.add_argument("--out", type=Path, default=Path("sequences.png"), help="file for the picture")
    options = parser.parse_args(arguments)
    waves, names = draw(options.count, seed=0)
    model = ConditionalVAE(
        encoder=Encoder,
        decoder=Decoder,
        width=32,
        latent_dim=4,
        batch_size=64,
        learning_rate=0.012,
        kl_warmup=0.3,
        epochs=options.epochs,
    )
    model.fit(waves, names)
    held_out, held_out_names = draw(300, seed=1)
    score = model.score(held_out, held_out_names)
    print(f"−ELBO of held-out sequences: {-score:.1f} nats each (a density: may be negative; lower is better)")
    drawn = {name: held_out[held_out_names == name][:5] for name in WAVES}
    picture(options.out, drawn, {name: model.sample(labels=[name] * 5, seed=0) for name in WAVES})
    print(f"picture: {options.out}")
    return -score


if __name__ == "__main__":
    try:
        main()
    except VaelabError as error:
        raise SystemExit(f"sequence.py: {error}") from None
