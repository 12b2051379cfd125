"""Create the test data of prepare.ts: drawings, and the results of src/vaelab/data/photo.py for them.

    python studio/scripts/vectors.py --count 40 --clean --out studio/src/lib/prepare/vectors.json.gz    # the committed set
    python studio/scripts/vectors.py --count 1000 --out /tmp/vectors.json.gz
    cd studio && VECTORS=/tmp/vectors.json.gz npm test -- prepare

A drawing consists of strokes of a round pen on a canvas, with smooth edges, dark on light or light on dark, shifted and scaled.
Some are on shaded paper or contain noise, and some are only a dot. The file is a JSON list of cases, whose images are grey levels
in base64, compressed with gzip.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vaelab.data.photo import read_drawing
from vaelab.errors import DataError

FINER = 4
"""Supersampling factor, for smooth edges."""

SMALL = (28, 28), (32, 32), (24, 40)


def strokes(source: np.random.Generator, side: int) -> np.ndarray:
    """Return one to three strokes as ink 0…1, (side, side)."""
    image = Image.new("L", (side * FINER, side * FINER))
    pen, radius = ImageDraw.Draw(image), source.uniform(8, 12) * side / 280 * FINER
    middle, size = source.uniform(0.35, 0.65, 2) * side, source.uniform(0.1, 0.38) * side
    dots = source.random() < 0.08
    for _ in range(source.integers(1, 4)):
        corners = source.uniform(-1, 1, (4, 2)) * (0 if dots else size) + middle
        at = np.linspace(0, 1, 60)[:, None]
        weights = np.hstack([(1 - at) ** 3, 3 * at * (1 - at) ** 2, 3 * at**2 * (1 - at), at**3])  # a Bézier curve's
        curve = weights @ corners
        line = [tuple(point) for point in curve * FINER]
        pen.line(line, fill=255, width=round(2 * radius), joint="curve")
        for x, y in line:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image.reduce(FINER), dtype=np.float64) / 255


def drawing(number: int, *, clean: bool = False) -> np.ndarray:
    """Return the grey levels of drawing `number`, uint8; `clean`: without noise, which would make the file large."""
    source = np.random.default_rng(number)
    side = int(source.choice([280, 280, 280, 200, 560]))
    dark, light = source.uniform(0, 90), source.uniform(150, 255)
    polarity, ink = source.random(), strokes(source, side)
    paper, pen = (light, dark) if polarity < 0.5 else (dark, light)
    if polarity > 0.9:
        paper, pen = 0.0, 255.0
    levels = paper + (pen - paper) * ink
    y, x = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side), indexing="ij")
    if source.random() < 0.25:
        slope = source.uniform(-0.25, 0.25, 3)
        levels = levels * (1 + slope[0] * x + slope[1] * y - abs(slope[2]) * (x * x + y * y) / 2)
    if source.random() < 0.1 and not clean:
        levels = levels + source.normal(0, 4, levels.shape)
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def case(number: int, *, clean: bool) -> dict[str, object]:
    """Return a drawing and its expected result."""
    canvas, size = drawing(number, clean=clean), SMALL[number % len(SMALL)] if number % 7 == 0 else SMALL[0]
    return {
        "width": canvas.shape[1],
        "height": canvas.shape[0],
        "size": size,
        "grey": _text(canvas),
        "expected": _read(canvas, size),
    }


def _read(canvas: np.ndarray, size: tuple[int, int]) -> dict[str, object] | None:
    try:
        found = read_drawing(canvas, size)
    except DataError:
        return None
    return {"levels": _text(found.levels), "inverted": found.inverted, "shading": found.shading}


def _text(levels: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(levels).tobytes()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Create the test data of prepare.ts: drawings and the results of Python for them."
    )
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--clean", action="store_true", help="no noise, for a smaller file")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    cases = [case(number, clean=args.clean) for number in range(args.count)]
    args.out.write_bytes(gzip.compress(json.dumps(cases).encode(), compresslevel=9, mtime=0))
    print(f"{args.out}: {len(cases)} drawings, {args.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
