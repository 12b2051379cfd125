"""Draw the pictures of the README and docs/learn.md from three runs. They contain generated images only.

vaelab train mnist --out runs/mnist-cvae
vaelab train mnist --model vae --out runs/mnist-vae
vaelab train mnist --model ae --out runs/mnist-ae
python docs/pictures.py runs/mnist-cvae runs/mnist-vae runs/mnist-ae
"""

from __future__ import annotations

import sys
from pathlib import Path

from vaelab import load
from vaelab.figures.plots import label_rows, save_picture, tiles

PICTURES = Path(__file__).parent / "pictures"
ROWS, COLUMNS = 8, 16


def main(cvae: str, vae: str, ae: str) -> None:
    """Write grid.png, vae-random-points.png and ae-random-points.png."""
    conditional = load(cvae)
    save_picture(PICTURES / "grid.png", label_rows(conditional.grid(count=14, seed=4).images, conditional.classes))
    for name, run in (("vae", vae), ("ae", ae)):
        samples = load(run).sample(count=ROWS * COLUMNS, seed=0)
        save_picture(PICTURES / f"{name}-random-points.png", tiles(samples, COLUMNS))


if __name__ == "__main__":
    main(*sys.argv[1:4])
