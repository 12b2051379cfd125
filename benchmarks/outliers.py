"""Detection of odd images, beside PCA and isolation forest: a digit left out of ten, and drawn and damaged images.

    python benchmarks/outliers.py                              # MNIST from VAELAB_DATA_DIR, or downloaded; about half an hour
    python benchmarks/outliers.py --source strokes --limit 10000 --epochs 10      # as the default score was chosen
    python benchmarks/outliers.py --left-out "" --model cvae                      # the drawn and damaged images only

A VAE of the default size is trained on images of nine digits, then again for each of the others, and on all ten for the drawn and
damaged images. Of the test images of the digits that it was trained on, a random half calibrates, and the other half measures the
rate of false alarms. PCA and isolation forest (scikit-learn) get the same training images, and their scores are calibrated in the
same way: by the squared error of the reconstruction, with as many components as the VAE has latents or with 95 % of the
variance, and by minus `score_samples`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from machine import machine
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

import vaelab
from vaelab.data.dataset import Split
from vaelab.evaluation.ood import auroc
from vaelab.inference.detection import conformal_p_values, flagged, score_images

RATES = (0.01, 0.05)
LETTERS = "AEFHKMNRTWX"
"""Letters that are no digits."""

GARMENTS = {
    "shirt": [
        (2, 6),
        (9, 3),
        (12, 5),
        (16, 5),
        (19, 3),
        (26, 6),
        (24, 12),
        (20, 10),
        (20, 25),
        (8, 25),
        (8, 10),
        (4, 12),
    ],
    "trousers": [(8, 2), (20, 2), (22, 26), (16, 26), (14, 10), (12, 26), (6, 26)],
    "dress": [(11, 2), (17, 2), (17, 10), (22, 26), (6, 26), (11, 10)],
    "boot": [(8, 3), (16, 3), (16, 15), (25, 19), (26, 25), (8, 25)],
    "bag": [(3, 11), (9, 11), (11, 5), (17, 5), (19, 11), (25, 11), (26, 25), (2, 25)],
}
"""Outlines of filled shapes, as points x, y of 28×28 pixels."""


def letters(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw letters of random size, position and slant, uint8 (N, 28, 28)."""
    images = []
    for letter in rng.choice(list(LETTERS), count):
        sheet = Image.new("L", (112, 112))
        font = ImageFont.load_default(size=float(rng.uniform(64, 90)))
        ImageDraw.Draw(sheet).text((56, 56), letter, 255, font, anchor="mm", stroke_width=int(rng.integers(1, 4)))
        slant, (right, down) = rng.uniform(-0.25, 0.25), rng.uniform(-8, 8, 2)
        moved = sheet.transform(sheet.size, Image.Transform.AFFINE, (1, slant, -slant * 56 - right, 0, 1, -down))
        images.append(np.asarray(moved.resize((28, 28), Image.Resampling.BOX)))
    return np.stack(images)


def garments(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw filled shapes of clothes of random grey, texture, size and position, uint8 (N, 28, 28)."""
    images = []
    for name in rng.choice(list(GARMENTS), count):
        scale, shift = rng.uniform(0.75, 1.05), rng.uniform(-1.5, 1.5, 2)
        points = [
            (4 * (14 + scale * (x - 14) + shift[0]), 4 * (14 + scale * (y - 14) + shift[1])) for x, y in GARMENTS[name]
        ]
        sheet = Image.new("L", (112, 112))
        ImageDraw.Draw(sheet).polygon(points, fill=int(rng.integers(120, 256)))
        texture = ndimage.gaussian_filter(rng.normal(0, 1, (28, 28)), 1.5)
        image = np.asarray(sheet.resize((28, 28), Image.Resampling.BOX), np.float64) * (1 + rng.uniform(0, 1) * texture)
        images.append(image.clip(0, 255).round().astype(np.uint8))
    return np.stack(images)


def with_patches(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put a square of 5×5 random black and white pixels at a random place on each image."""
    changed = images.copy()
    for image, (top, left) in zip(changed, rng.integers(0, 24, (len(images), 2)), strict=True):
        image[top : top + 5, left : left + 5] = 255 * rng.integers(0, 2, (5, 5))
    return changed


def with_stains(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add a round stain with soft edges, of a standard deviation of 1 to 2 pixels, at a random place on each image."""
    y, x = np.mgrid[:28, :28]
    changed = []
    for image, (row, column) in zip(images, rng.uniform(3, 25, (len(images), 2)), strict=True):
        stain = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * rng.uniform(1, 2) ** 2))
        changed.append((image + 255 * rng.uniform(0.5, 1) * stain).clip(0, 255).round().astype(np.uint8))
    return np.stack(changed)


def with_holes(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a square of 6×6 pixels black, centred on a random bright pixel of each image."""
    changed = images.copy()
    for image in changed:
        row, column = rng.choice(np.argwhere(image > 127))
        image[max(0, row - 3) : row + 3, max(0, column - 3) : column + 3] = 0
    return changed


Scorers = dict[str, Callable[[np.ndarray], np.ndarray]]
"""Functions that return scores of images, uint8 (N, 28, 28), higher for odder ones."""


def rivals(train: np.ndarray, latent_dim: int) -> Scorers:
    """Fit PCA and isolation forest to training images, uint8 (N, 28, 28)."""

    def rows(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / 255

    def error_of(pca: PCA) -> Callable[[np.ndarray], np.ndarray]:
        return lambda images: np.square(rows(images) - pca.inverse_transform(pca.transform(rows(images)))).sum(1)

    forest = IsolationForest(random_state=0).fit(rows(train))
    few, most = (PCA(count, random_state=0).fit(rows(train)) for count in (latent_dim, 0.95))
    return {
        f"PCA, {latent_dim} components": error_of(few),
        "PCA, 95 % of variance": error_of(most),
        "isolation forest": lambda images: -forest.score_samples(rows(images)),
    }


def main() -> None:
    """Print a row for each outlier set and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="mnist", help="mnist or strokes")
    parser.add_argument("--model", default="vae", choices=("vae", "cvae"))
    parser.add_argument("--left-out", default="0123456789", help="digits to leave out in turn")
    parser.add_argument("--no-damage", action="store_true", help="without drawn and damaged images")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, help="maximum number of training images")
    parser.add_argument("--samples", type=int, default=20, help="K of the importance-weighted bound")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    dataset = vaelab.load_dataset(arguments.source, limit=arguments.limit)
    print("| outliers | score | AUROC | false alarms at 1 % | detected | false alarms at 5 % | detected |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for digit in [*arguments.left_out, *([] if arguments.no_damage else [None])]:
        started, rng = time.perf_counter(), np.random.default_rng(arguments.seed)
        train, test = (_without(split, digit) for split in (dataset.train, dataset.test))
        assert train.labels is not None
        kind = {"vae": vaelab.VAE, "cvae": vaelab.ConditionalVAE}[arguments.model]
        trained = kind(epochs=arguments.epochs, seed=arguments.seed).fit(train.images[:, 0], train.labels).trained_
        order = rng.permutation(len(test))
        calibration, good = (test.images[part, 0] for part in np.array_split(order, 2))
        if digit is None:
            spare, good = np.split(good, [len(good) // 2])
            sets = {"letters": letters(2000, rng), "garments": garments(2000, rng), "patches": with_patches(spare, rng)}
            sets |= {"stains": with_stains(spare, rng), "holes": with_holes(spare, rng)}
        else:
            assert dataset.test.labels is not None
            sets = {f"digit {digit}": dataset.test.images[dataset.test.labels == int(digit), 0]}
        every = [calibration, good, *sets.values()]
        found = [score_images(trained, images, samples=arguments.samples) for images in every]
        others = rivals(train.images[:, 0], trained.model.latent_dim)
        scores = {str(name): [each[name] for each in found] for name in found[0]}
        scores |= {name: [scorer(images) for images in every] for name, scorer in others.items()}
        for number, name in enumerate(sets, 2):
            for score, values in scores.items():
                print(f"| {name} | {score} | {' | '.join(_cells(values[0], values[1], values[number]))} |", flush=True)
        print(f"{time.perf_counter() - started:.0f} s, {len(calibration)} + {len(good)} images", flush=True)


def _without(split: Split, digit: str | None) -> Split:
    """Return the images of a split that do not show a digit."""
    assert split.labels is not None
    return split if digit is None else split[split.labels != int(digit)]


def _cells(calibration: np.ndarray, good: np.ndarray, odd: np.ndarray) -> list[str]:
    """Return AUROC with its standard error, and the shares of good and of odd images that are flagged at each rate."""
    area = auroc(good.astype(np.float64), odd.astype(np.float64))
    cells = [f"{area.value:.3f} ± {area.error:.3f}"]
    p_good, p_odd = (conformal_p_values(calibration, scores) for scores in (good, odd))
    for rate in RATES:
        cells += [f"{100 * flagged(p, rate).mean():.1f} %" for p in (p_good, p_odd)]
    return cells


if __name__ == "__main__":
    main()
