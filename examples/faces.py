"""Colour faces at 64×64: a conditional VAE of a folder of faces, or of cartoon faces drawn here.

    python examples/faces.py --out faces                  # draws faces/data, one folder per label, and trains on it
    python examples/faces.py --source FOLDER --out faces  # your own photographs, one folder per label

The drawn faces vary in skin, hair, eyes, mouth and direction of view. Their labels say whether they wear glasses and whether
they smile. Three pictures are written: a grid with one label per row and one latent point per column, reconstructions, and one
face under every label.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vaelab import ConditionalVAE, VaelabError, load_dataset
from vaelab.figures.plots import label_rows, reconstruction_sheet, save_picture

SIDE, SCALE = 64, 4
"""Side of a face in pixels, and the factor by which it is drawn larger, to be downsampled with antialiasing."""

LABELS = {"plain": (False, False), "smile": (False, True), "glasses": (True, False), "both": (True, True)}
SKINS = ((250, 218, 190), (232, 184, 140), (198, 140, 96), (141, 90, 60), (92, 58, 40))
HAIRS = ((30, 24, 20), (90, 56, 30), (196, 150, 70), (160, 60, 30), (150, 150, 155))


def face(rng: np.random.Generator, glasses: bool, smiling: bool) -> Image.Image:
    """Draw one cartoon face, RGB, SIDE×SIDE pixels."""
    background, hair = rng.normal((196, 208, 222), 8), np.array(HAIRS[rng.integers(len(HAIRS))])
    skin = np.clip(np.array(SKINS[rng.integers(len(SKINS))]) + rng.normal(0, 6, 3), 0, 255)
    picture = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), _colour(background))
    draw = ImageDraw.Draw(picture)

    def oval(x: float, y: float, w: float, h: float, **style: Any) -> None:
        corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        draw.ellipse([SCALE * value for value in corners], **style)

    x, y = 32 + rng.normal(0, 1), 35 + rng.normal(0, 1)
    width, height = rng.uniform(30, 38), rng.uniform(38, 46)
    gaze, long = rng.normal(0, 1.2), rng.uniform(0, 1)
    oval(x, y - 5 + 7 * long, width + 10, height + 4 + 12 * long, fill=_colour(hair))
    oval(x, y + 2, width, height - 4, fill=_colour(skin))
    distance, eyes, iris = rng.uniform(13, 16), y - 2, rng.integers(20, 150, 3)
    for side in (-1, 1):
        eye = x + gaze + side * distance / 2
        oval(eye, eyes, 7, 4.5, fill="white")
        oval(eye + 0.4 * gaze, eyes, 3.6, 3.6, fill=_colour(iris))
        if glasses:
            oval(eye, eyes, 12, 11, outline=(25, 25, 30), width=int(1.5 * SCALE))
    if glasses:
        bridge = [x + gaze - 2, eyes - 1, x + gaze + 2, eyes - 1]
        draw.line([SCALE * value for value in bridge], fill=(25, 25, 30), width=int(1.5 * SCALE))
    oval(x + 1.2 * gaze, y + 6, 4, 5, fill=_colour(0.85 * skin))
    mouth, lips = y + 13, _colour(0.5 * skin + (90, 10, 20))
    if smiling:
        corners = [x + gaze - 9, mouth - 9, x + gaze + 9, mouth + 4]
        draw.chord([SCALE * value for value in corners], 10, 170, fill=lips)
    else:
        oval(x + gaze, mouth, 8, 2, fill=lips)
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def _colour(values: np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def draw_folder(folder: Path, count: int) -> None:
    """Write `count` faces as PNG files, one folder per label."""
    rng = np.random.default_rng(0)
    for name, looks in LABELS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count // len(LABELS)):
            face(rng, *looks).save(folder / name / f"{index:04d}.png")


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, write the pictures, and return the validation loss in nats per image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of faces, one folder per label; default: drawn faces")
    parser.add_argument("--count", type=int, default=1600, help="number of faces to draw")
    parser.add_argument("--seconds", type=float, default=30, help="training time")
    parser.add_argument("--out", type=Path, default=Path("faces"), help="folder for the pictures")
    options = parser.parse_args(arguments)
    source = options.source or options.out / "data"
    if options.source is None:
        draw_folder(source, options.count)
    data = load_dataset(source, size=SIDE)
    assert data.train.labels is not None
    names = np.array(data.classes)
    # In so little training the default likelihood, which also learns a scale per pixel, has twice the squared error on the
    # drawn faces.
    model = ConditionalVAE(
        likelihood="continuous-bernoulli",
        width=16,
        latent_dim=16,
        batch_size=16,
        learning_rate=0.004,
        kl_warmup=0.5,
        seconds=options.seconds,
    )
    model.fit(data.train.images, names[data.train.labels])

    trained = model.trained_
    grid = trained.grid(count=12, temperature=0.8)
    held_out = data.test[np.linspace(0, len(data.test) - 1, 12).round().astype(int)]
    assert held_out.labels is not None
    pairs = trained.reconstruct(held_out.images, trained.matched_labels(held_out.labels, data.classes))
    pictures = {
        "grid.png": label_rows(grid.images, trained.classes, title="one latent point per column"),
        "reconstructions.png": reconstruction_sheet(pairs.originals, pairs.images, pairs.nats, columns=12),
        "restyled.png": model.restyle(held_out.images[0], data.classes[held_out.labels[0]]).sheet(),
    }
    for name, picture in pictures.items():
        save_picture(options.out / name, picture)
        print(f"picture: {options.out / name}")
    assert model.validation_ is not None
    nats = f"{model.validation_.nats:.0f} nats per image (a density: may be negative; lower is better)"
    print(f"−ELBO of held-out faces: {nats}, after {model.n_steps_} steps")
    return model.validation_.nats


if __name__ == "__main__":
    try:
        main()
    except VaelabError as error:
        raise SystemExit(f"faces.py: {error}") from None
