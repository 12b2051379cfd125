"""Sequences, with networks of one's own: a conditional VAE whose encoder and decoder are recurrent (`recurrent.py`).

    python examples/sequence.py --out sequences.png

The sequences are drawn here: sine, triangle and sawtooth waves of any period, phase and height, and a little noise. The
picture shows some of them beside what the model writes for the same name. It works at the default budget, 20 passes over
4,000 sequences, some 20 seconds; much shorter ones learn only that the waves go up and down.
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
    """`count` waves, float32 (count, LENGTH), and the name of each."""
    rng = np.random.default_rng(seed)
    names = rng.choice(list(WAVES), size=count)
    turns, phase, height = rng.uniform(1, 2.5, count), rng.uniform(0, 1, count), rng.uniform(0.5, 1.5, count)
    turn = phase[:, None] + turns[:, None] * np.linspace(0, 1, LENGTH)
    waves = np.stack([WAVES[name](row) for name, row in zip(names, turn, strict=True)])
    return (height[:, None] * waves + rng.normal(0, 0.03, waves.shape)).astype(np.float32), names


def picture(path: Path, drawn: dict[str, np.ndarray], written: dict[str, np.ndarray]) -> None:
    """A row of panels per wave: drawn ones on the left, generated ones on the right."""
    figure = Figure(figsize=(9, 5), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(drawn), 2, sharex=True, sharey=True)
    for (name, waves), row in zip(drawn.items(), panels, strict=True):
        for panel, rows, what in zip(row, (waves, written[name]), ("drawn", "generated"), strict=True):
            panel.plot(rows.T, linewidth=1.2)
            panel.set_title(f"{name}, {what}", fontsize=9)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, draw the picture; print, and return, the nats per sequence of held-out ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--epochs", type=int, default=20, help="passes over the sequences: 20 tell the waves apart, 5 do not"
    )
    parser.add_argument("--count", type=int, default=4000, help="sequences to learn from")
    parser.add_argument("--out", type=Path, default=Path("sequences.png"), help="the picture")
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
    unseen, unseen_names = draw(300, seed=1)
    score = model.score(unseen, unseen_names)
    print(f"−ELBO of unseen sequences: {-score:.1f} nats each (a density: it may be negative; lower is better)")
    drawn = {name: unseen[unseen_names == name][:5] for name in WAVES}
    picture(options.out, drawn, {name: model.sample(labels=[name] * 5, seed=0) for name in WAVES})
    print(f"picture: {options.out}")
    return -score


if __name__ == "__main__":
    try:
        main()
    except VaelabError as error:
        raise SystemExit(f"sequence.py: {error}") from None
