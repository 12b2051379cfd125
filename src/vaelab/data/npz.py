"""NumPy archives of `images` and optionally `labels`, `test_images`, `test_labels`; or of the last two only.

Pickled objects are not loaded.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from vaelab.data.arrays import Part, assemble, channels_first
from vaelab.data.dataset import Dataset
from vaelab.errors import DataError

KEYS = ("images", "labels", "test_images", "test_labels")
HOW_TO_SAVE = "save it with np.savez(path, images=images, labels=labels)"


def load_npz(path: Path, *, seed: int = 0) -> Dataset:
    """Load an archive.

    Images are uint8, or floats in [0, 1], which are scaled to 0…255 and rounded; the shape is (N, H, W), (N, H, W, C) or
    (N, C, H, W). Labels are integers or text, shape (N,); the classes are the sorted distinct labels. An archive with test
    images only has no training images. Raises `DataError` for a broken archive, pickled objects, wrong types, shapes or
    ranges, and labels that do not match the images.
    """
    arrays = _read_arrays(path)
    if "images" not in arrays and ("test_images" not in arrays or "labels" in arrays):
        got = ", ".join(arrays) or "no array"
        raise DataError(f"{path}: got {got}; expected an array named 'images'; {HOW_TO_SAVE}")
    if "test_labels" in arrays and "test_images" not in arrays:
        raise DataError(f"{path}: got test_labels without test_images; expected both; {HOW_TO_SAVE}")
    notes = []
    if ignored := sorted(arrays.keys() - set(KEYS)):
        notes.append(f"Ignored the arrays {', '.join(ignored)}; only {', '.join(KEYS)} are read.")
    if any(key in arrays and arrays[key].dtype.kind == "f" for key in ("images", "test_images")):
        notes.append("Scaled floating-point images from [0, 1] to 0…255 and rounded them.")

    train = test = None
    if "images" in arrays:
        train = Part(_pixels(arrays["images"], f"{path}: images"), _label_values(arrays, "labels", path))
    if "test_images" in arrays:
        test = Part(_pixels(arrays["test_images"], f"{path}: test_images"), _label_values(arrays, "test_labels", path))
    if train is not None and test is not None:
        if test.images.shape[1:] != train.images.shape[1:]:
            raise DataError(
                f"{path}: got test_images of shape {test.images.shape[1:]} each; expected the shape of images, "
                f"{train.images.shape[1:]}"
            )
        kinds = [part.labels.dtype.kind == "U" for part in (train, test) if part.labels is not None]
        if len(set(kinds)) > 1:
            raise DataError(
                f"{path}: got text labels and integer labels; expected the same type in labels and test_labels"
            )
    return assemble(path.absolute().stem, train, test=test, seed=seed, notes=notes)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an archive by name; arrays not in `KEYS` are not loaded, but replaced by empty ones."""
    try:
        with path.open("rb") as file:  # opened here, because NumPy does not close it after an error
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DataError(f"{path}: got a single .npy array; expected an .npz archive; {HOW_TO_SAVE}")
            with archive:
                return {key: archive[key] if key in KEYS else np.empty(0) for key in archive.files}
    except DataError:
        raise
    # Errors that zipfile, zlib and NumPy's header parser raise on broken archives.
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        if str(error).startswith("Object arrays"):
            raise DataError(
                f"{path}: got pickled Python objects, which can execute code; expected plain arrays of uint8 "
                f"images and integer or text labels; {HOW_TO_SAVE}"
            ) from None
        # NumPy assumes that a file which is neither .npz nor .npy is a pickle.
        reason = "not a zip archive" if "pickle" in str(error) else str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason}); expected a complete .npz archive; {HOW_TO_SAVE}") from None


def _pixels(images: np.ndarray, where: str) -> np.ndarray:
    """Convert images to uint8 (N, C, H, W)."""
    images = channels_first(images, where)
    if images.dtype.kind == "f":
        low, high = float(images.min()), float(images.max())  # NaN if any value is NaN
        if not 0 <= low <= high <= 1:
            got = "NaN" if np.isnan(low) else f"floats from {low:g} to {high:g}"
            raise DataError(f"{where}: got {got}; expected uint8 in 0…255 or floats in [0, 1]")
        return np.rint(images * images.dtype.type(255)).astype(np.uint8)
    if images.dtype != np.uint8:
        raise DataError(
            f"{where}: got type {images.dtype}; expected uint8 in 0…255 or floats in [0, 1]; "
            "if the values are in 0…255, convert with images.astype(np.uint8)"
        )
    return images


def _label_values(arrays: dict[str, np.ndarray], key: str, path: Path) -> np.ndarray | None:
    """Return the labels of the archive, integers or text of shape (N,), or None."""
    labels = arrays.get(key)
    if labels is None:
        return None
    if labels.dtype.kind not in "iuU":
        raise DataError(
            f"{path}: {key}: got type {labels.dtype}; expected integers or text; convert with {key}.astype(int) or "
            f"{key}.astype(str)"
        )
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64)
