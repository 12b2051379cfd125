"""An exported model with NumPy and onnxruntime alone, and Pillow for the files: every label in one handwriting.

    vaelab export runs/demo --out demo.onnx
    python examples/onnx_only.py demo.onnx --out grid.png
    python examples/onnx_only.py demo.onnx --image seven.png --label 7 --out mine.png

Neither PyTorch nor vaelab is needed here: what there is to know stands in the file (`docs/export.md`). The grid has a row for
each label, and down each column one latent point. With an image of yours, white on black as the training images are, the first
column is in its handwriting. Files of `--parts` do as well, for what they hold.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image


class Exported:
    """A model file: what it says of itself, and its two directions."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.shapes = {each.name: each.shape for each in self.session.get_inputs()}
        facts: dict[str, Any] = self.session.get_modelmeta().custom_metadata_map
        self.facts = facts | {key: json.loads(facts[key]) for key in ("shape", "classes", "latent_dim", "axes")}
        self.labels = facts["model"] == "cvae"

    def encode(self, images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """The mean of q(z|x) of images (N, C, H, W), 0…1, under weights of the labels (N, K): float32 (N, d)."""
        return self._run("mean", images=images, image_labels=labels)

    def decode(self, z: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Images of latents (N, d) under weights of the labels (N, K): float32 (N, C, H, W), 0…1."""
        return self._run("decoded", z=z, labels=labels)

    def _run(self, output: str, **given: np.ndarray | None) -> np.ndarray:
        inputs = {
            name: np.zeros((1, *shape[1:]), np.float32) for name, shape in self.shapes.items()
        }  # not wanted: one row
        inputs |= {name: array.astype(np.float32) for name, array in given.items() if array is not None}
        return np.asarray(self.session.run([output], inputs)[0])


def latents(model: Exported, count: int, seed: int) -> np.ndarray:
    """Draws a little nearer to the middle than N(0, I); of an autoencoder, which has no prior, than its codes."""
    z = 0.8 * np.random.default_rng(seed).standard_normal((count, model.facts["latent_dim"]))
    axes = model.facts["axes"]
    return z * axes["deviation"] + axes["mean"] if model.facts["model"] == "ae" and axes else z


def read_image(path: Path, shape: Sequence[int]) -> np.ndarray:
    """An image file as the model takes it, (1, C, H, W), 0…1."""
    channels, height, width = shape
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB").resize((width, height)))
    return pixels.reshape(1, height, width, channels).transpose(0, 3, 1, 2) / 255


def write_grid(path: Path, images: np.ndarray, columns: int, zoom: int = 2) -> None:
    """Images (N, C, H, W), 0…1, as a PNG, `columns` in a row."""
    rows = images.reshape(-1, columns, *images.shape[1:]).transpose(0, 3, 1, 4, 2)  # row, H, column, W, C
    sheet = rows.reshape(rows.shape[0] * rows.shape[1], -1, rows.shape[-1])
    levels = np.rint(255 * sheet.clip(0, 1)).astype(np.uint8).repeat(zoom, axis=0).repeat(zoom, axis=1)
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the grid, and say what the file is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="what `vaelab export` wrote")
    parser.add_argument("--out", type=Path, default=Path("grid.png"), help="where the grid goes, a .png")
    parser.add_argument("--columns", type=int, default=12, help="latent points")
    parser.add_argument("--seed", type=int, default=0, help="of the latent points")
    parser.add_argument("--image", type=Path, help="an image whose handwriting the first column takes")
    parser.add_argument("--label", help="what it shows, by class name")
    options = parser.parse_args(arguments)
    model = Exported(options.model)
    shape, classes = model.facts["shape"], model.facts["classes"]
    print(f"{model.facts['model']} of {'×'.join(map(str, shape))}, {model.facts['likelihood']}: {sorted(model.shapes)}")
    if len(shape) != 3:
        parser.error("got a model of a table; expected one of images, to look at")
    every = np.eye(len(classes))
    z = latents(model, options.columns, options.seed)
    if options.image is not None:
        if "images" not in model.shapes:
            parser.error("got a decoder alone; expected a file with an encoder in it, for --image")
        if model.labels and options.label not in classes:
            parser.error(f"--label: got {options.label}; expected what the image shows: {', '.join(classes)}")
        own = every[[classes.index(options.label)]] if model.labels else None
        z[:1] = model.encode(read_image(options.image, shape), own)
    if "z" not in model.shapes:
        parser.error("got an encoder alone; expected a file with a decoder in it")
    labels = every.repeat(len(z), axis=0) if model.labels else None
    images = model.decode(np.tile(z, (len(classes), 1)) if model.labels else z, labels)
    write_grid(options.out, images, columns=len(z))
    print(f"{options.out}: {'rows ' + ', '.join(classes) if model.labels else f'{len(z)} images'}")


if __name__ == "__main__":
    main()
