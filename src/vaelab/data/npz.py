"""NumPy archives of `images` and optionally `labels`, and of the same for validation and test: `test_images`, `test_labels`.

The spellings of other libraries are read as well, such as `X` and `y`, or `x_train` and `y_test`. Pickled objects are not loaded.
"""

from __future__ import annotations

import zipfile
import zlib
from itertools import product
from pathlib import Path

import numpy as np

from vaelab.data.arrays import Part, assemble, channels_first
from vaelab.data.dataset import Dataset
from vaelab.data.depth import scaled_levels
from vaelab.data.layout import as_levels
from vaelab.data.names import SPLITS, canonical, renamed_notes
from vaelab.errors import DataError

HOW_TO_SAVE = "save it with np.savez(path, images=images, labels=labels)"
ROLES = {"images": ("images", "image", "imgs", "x"), "labels": ("labels", "label", "targets", "target", "y")}


def _spellings() -> dict[str, list[str]]:
    """Return the known names of arrays, each with other spellings."""
    known = {}
    for split, (role, names) in product(SPLITS, ROLES.items()):
        both = product(SPLITS[split], names)
        spellings = [spelling for word, name in both for spelling in (f"{word}_{name}", f"{name}_{word}")]
        known[role if split == "train" else f"{split}_{role}"] = [*spellings, *(names if split == "train" else ())]
    return known


SPELLINGS = _spellings()


def load_npz(path: Path, *, seed: int = 0, white: float | None = None) -> Dataset:
    """Load an archive.

    Images are uint8, or floats in [0, 1], which are scaled to 0…255 and rounded, or of any type with the value of `white`; the
    shape is (N, H, W), (N, H, W, C) or (N, C, H, W). Labels are integers or text, shape (N,); the classes are the sorted distinct
    labels. An archive with test images only has no training images. Raises `DataError` for a broken archive, pickled objects,
    wrong types, shapes or ranges, labels that do not match the images, and several arrays of the same meaning.
    """
    arrays, meant, ignored = _read_arrays(path)
    if "images" not in arrays and ("labels" in arrays or not any(key.endswith("images") for key in arrays)):
        got = ", ".join([*arrays, *ignored]) or "no array"
        raise DataError(f"{path}: got {got}; expected an array named 'images'; {HOW_TO_SAVE}")
    notes = list(renamed_notes(meant, "array"))
    if ignored:
        notes.append(
            f"Ignored the arrays {', '.join(ignored)}; only images, labels, test_images and the like are read."
        )
    if white is None and any(key.endswith("images") and array.dtype.kind == "f" for key, array in arrays.items()):
        notes.append("Scaled floating-point images from [0, 1] to 0…255 and rounded them.")
    parts = {}
    for split in SPLITS:
        prefix = "" if split == "train" else f"{split}_"
        images, labels = arrays.get(f"{prefix}images"), arrays.get(f"{prefix}labels")
        if images is not None:
            pixels = _pixels(images, f"{path}: {prefix}images", white)
            parts[split] = Part(pixels, _label_values(labels, f"{prefix}labels", path))
        elif labels is not None:
            raise DataError(f"{path}: got {prefix}labels without {prefix}images; expected both; {HOW_TO_SAVE}")
    train = parts.get("train")
    for split, part in parts.items():
        if train is not None and part.images.shape[1:] != train.images.shape[1:]:
            raise DataError(
                f"{path}: got {split}_images of shape {part.images.shape[1:]} each; expected the shape of images, "
                f"{train.images.shape[1:]}"
            )
    kinds = {part.labels.dtype.kind == "U" for part in parts.values() if part.labels is not None}
    if len(kinds) > 1:
        raise DataError(f"{path}: got text labels and integer labels; expected the same type in labels and test_labels")
    train, validation, test = (parts.get(split) for split in SPLITS)
    return assemble(path.absolute().stem, train, validation=validation, test=test, seed=seed, notes=notes)


def _read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    """Read the arrays of an archive, by known name; also return their own names, by known name, and those of other arrays."""
    try:
        with path.open("rb") as file:  # opened here, because NumPy does not close it after an error
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DataError(f"{path}: got a single .npy array; expected an .npz archive; {HOW_TO_SAVE}")
            with archive:
                meant = canonical(archive.files, SPELLINGS, str(path), "array")
                arrays = {key: archive[name] for key, name in meant.items()}
                return arrays, meant, sorted(set(archive.files) - set(meant.values()))
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


def _pixels(images: np.ndarray, where: str, white: float | None) -> np.ndarray:
    """Convert images to uint8 (N, C, H, W)."""
    images = channels_first(images, where)
    return as_levels(images, f"{where}: ") if white is None else scaled_levels(images, white, where)


def _label_values(labels: np.ndarray | None, key: str, path: Path) -> np.ndarray | None:
    """Return labels as integers or text of shape (N,), or None."""
    if labels is None:
        return None
    if labels.dtype.kind == "S":
        try:
            labels = np.char.decode(labels, "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{path}: {key}: got bytes that are not UTF-8; expected integers or text") from None
    if labels.dtype.kind not in "iuU":
        raise DataError(
            f"{path}: {key}: got type {labels.dtype}; expected integers or text; convert with {key}.astype(int) or "
            f"{key}.astype(str)"
        )
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64)
