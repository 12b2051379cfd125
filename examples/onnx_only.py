"""Use an exported model with NumPy, onnxruntime and Pillow only: every label in one handwriting.

    vaelab export runs/demo --out demo.onnx
    python examples/onnx_only.py demo.onnx --out grid.png
    python examples/onnx_only.py demo.onnx --image seven.png --label 7 --out mine.png

Neither PyTorch nor vaelab is needed: the file contains everything (`docs/export.md`). The grid has one row per label and one
latent point per column. With `--image`, white on black like the training images, the first column has the handwriting of that
image. A file written with `--parts` works for the part it contains.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import: else it reports to its maker

import onnxruntime


class Exported:
    """A model file: its metadata, encoder and decoder."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.shapes = {entry.name: entry.shape for entry in self.session.get_inputs()}
        metadata: dict[str, Any] = self.session.get_modelmeta().custom_metadata_map
        self.metadata = metadata | {
            key: json.loads(metadata[key]) for key in ("shape", "classes", "latent_dim", "axes")
        }
        self.labels = metadata["model"] == "cvae"

    def encode(self, images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Return the mean of q(z|x), float32 (N, d), of images (N, C, H, W) in [0, 1] with label weights (N, K)."""
        return self._run("mean", images=images, image_labels=labels)

    def decode(self, z: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        """Decode latents (N, d) with label weights (N, K) to images, float32 (N, C, H, W) in [0, 1]."""
        return self._run("decoded", z=z, labels=labels)

    def _run(self, output: str, **values: np.ndarray | None) -> np.ndarray:
        # Inputs of the other part are required too: one row of zeros.
        inputs = {name: np.zeros((1, *shape[1:]), np.float32) for name, shape in self.shapes.items()}
        inputs |= {name: array.astype(np.float32) for name, array in values.items() if array is not None}
        return np.asarray(self.session.run([output], inputs)[0])


def latents(model: Exported, count: int, seed: int) -> np.ndarray:
    """Draw latents with 0.8 times the standard deviation of N(0, I), or of the codes for an autoencoder."""
    z = 0.8 * np.random.default_rng(seed).standard_normal((count, model.metadata["latent_dim"]))
    axes = model.metadata["axes"]
    return z * axes["deviation"] + axes["mean"] if model.metadata["model"] == "ae" and axes else z


def read_image(path: Path, shape: Sequence[int]) -> np.ndarray:
    """Read an image file as an input of the model, (1, C, H, W) in [0, 1]."""
    channels, height, width = shape
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB").resize((width, height)))
    return pixels.reshape(1, height, width, channels).transpose(0, 3, 1, 2) / 255


def write_grid(path: Path, images: np.ndarray, columns: int, zoom: int = 2) -> None:
    """Write images (N, C, H, W) in [0, 1] as a PNG file with `columns` images per row."""
    rows = images.reshape(-1, columns, *images.shape[1:]).transpose(0, 3, 1, 4, 2)  # row, H, column, W, C
    sheet = rows.reshape(rows.shape[0] * rows.shape[1], -1, rows.shape[-1])
    levels = np.rint(255 * sheet.clip(0, 1)).astype(np.uint8).repeat(zoom, axis=0).repeat(zoom, axis=1)
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Describe the model file and draw the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="file written by `vaelab export`")
    parser.add_argument("--out", type=Path, default=Path("grid.png"), help="PNG file for the grid")
    parser.add_argument("--columns", type=int, default=12, help="number of latent points")
    parser.add_argument("--seed", type=int, default=0, help="seed of the latent points")
    parser.add_argument("--image", type=Path, help="image whose handwriting the first column takes")
    parser.add_argument("--label", help="class name of that image")
    options = parser.parse_args(arguments)
    model = Exported(options.model)
    shape, classes = model.metadata["shape"], model.metadata["classes"]
    print(
        f"{model.metadata['model']} of {'×'.join(map(str, shape))}, {model.metadata['likelihood']}: {sorted(model.shapes)}"
    )
    if len(shape) != 3:
        parser.error("got a model of a table; expected one of images, to look at")
    every = np.eye(len(classes))
    z = latents(model, options.columns, options.seed)
    if options.image is not None:
        if "images" not in model.shapes:
            parser.error("got a decoder alone; expected a file with an encoder in it, for --image")
        if model.labels and options.label not in classes:
            parser.error(f"--label: got {options.label}; expected what the image shows: {', '.join(classes)}")
        label = every[[classes.index(options.label)]] if model.labels else None
        z[:1] = model.encode(read_image(options.image, shape), label)
    if "z" not in model.shapes:
        parser.error("got an encoder alone; expected a file with a decoder in it")
    labels = every.repeat(len(z), axis=0) if model.labels else None
    images = model.decode(np.tile(z, (len(classes), 1)) if model.labels else z, labels)
    write_grid(options.out, images, columns=len(z))
    print(f"{options.out}: {'rows ' + ', '.join(classes) if model.labels else f'{len(z)} images'}")


if __name__ == "__main__":
    main()
