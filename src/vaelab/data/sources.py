"""Load any data source: a built-in name, a folder of images or IDX files, an .npz file, or a table of paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from vaelab.data.builtin import BUILTIN, load_builtin
from vaelab.data.dataset import Dataset
from vaelab.data.folders import load_image_folder
from vaelab.data.idx import is_idx_name, load_idx_folder
from vaelab.data.npz import load_npz
from vaelab.data.resize import Fit, Progress, parse_size, resize_dataset
from vaelab.data.select import parse_selection, select_from
from vaelab.data.table import SUFFIXES, load_path_table
from vaelab.errors import ConfigError, DataError, did_you_mean

EXPECTED = (
    f"expected a built-in name ({', '.join(BUILTIN)}), a folder, an .npz file or a table of paths (.csv, .parquet)"
)


def load_dataset(
    source: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | str | None = None,
    fit: Fit = "crop",
    seed: int = 0,
    skip_broken: bool = False,
    limit: int | None = None,
    classes: str | Sequence[str | int] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load a dataset.

    Parameters
    ----------
    source
        A built-in name (see `BUILTIN`); a folder of images (PNG, JPEG, WebP, BMP, TIFF, GIF), with or without class
        folders; a folder of IDX files; an .npz file; or a table of paths and labels, .csv or .parquet. A string equal to a
        built-in name always selects the built-in source; use "./mnist" or a `Path` for a folder of that name.
    size
        Side of a square in pixels, (H, W), or text such as "32x48". Images of another size are scaled and then cropped or
        padded, as recorded in `notes`. Without it, all images must have the same size.
    fit
        How images of another aspect ratio are fitted: "crop" cuts off the excess, "pad" adds borders of the median colour of
        the image's border.
    seed
        Seed of random splits (if the source has none), of the images selected by `limit`, and of synthetic data.
    skip_broken
        Skip image files that cannot be read; `notes` counts them and names the first ones. By default, the first such file
        raises an error. Has no effect on sources other than image files.
    limit
        Maximum number of training images, selected at random with the class proportions kept. Does not change the validation
        and test images.
    classes
        Classes to keep, as names or as text with commas between them; their labels become 0, 1, … in this order. Does not
        change the split of an image.
    progress
        Callback with a description, the number of items done, and the total.

    Raises
    ------
    DataError
        If the source is missing, broken or of an unknown kind.
    ConfigError
        If `size`, `fit`, `seed` or `limit` is out of range, or the source does not have all of `classes`.
    """
    target_size = parse_size(size)
    if fit not in get_args(Fit):
        raise ConfigError(
            f"`fit`: got {fit!r}; expected {' or '.join(get_args(Fit))}.{did_you_mean(fit, get_args(Fit))}"
        )
    if seed < 0:
        raise ConfigError(f"`seed`: got {seed}; expected a whole number of at least 0")
    selection = parse_selection(classes, limit)

    if isinstance(source, str) and source in BUILTIN:
        dataset = load_builtin(source, seed=seed, progress=progress)
    elif not os.fspath(source) or not os.path.lexists(path := _with_home(Path(source))):
        raise DataError(f"no data source {os.fspath(source)!r}: {EXPECTED}.{did_you_mean(str(source), BUILTIN)}")
    else:
        try:
            files: dict[str, Any] = {"size": target_size, "fit": fit, "seed": seed, "skip_broken": skip_broken}
            if path.is_dir() and not any(map(is_idx_name, os.listdir(path))):  # noqa: PTH208 - faster for many files
                return load_image_folder(path, **files, selection=selection, progress=progress)
            if path.suffix.lower() in SUFFIXES and not path.is_dir():
                return load_path_table(path, **files, selection=selection, progress=progress)
            dataset = _load_arrays(path, seed)
        except OSError as error:
            raise DataError(
                f"{error.filename or path}: cannot be read ({error.strerror or error}); expected a readable file or "
                "folder; check its name and permissions"
            ) from None
    dataset = select_from(dataset, selection, seed)
    return dataset if target_size is None else resize_dataset(dataset, target_size, fit, progress)


def found_again(name: str) -> str | None:
    """Find the source of a dataset by its name: a built-in one, or a file or folder in the current folder; else None."""
    candidates = (f"{name}{suffix}" for suffix in ("", ".npz", *SUFFIXES))
    return next((source for source in candidates if source in BUILTIN or Path(source).exists()), None)


def _load_arrays(path: Path, seed: int) -> Dataset:
    """Load a folder of IDX files or an .npz file."""
    if path.is_dir():
        return load_idx_folder(path, seed=seed)
    if path.suffix.lower() == ".npz":
        return load_npz(path, seed=seed)
    hint = f"; pass its folder, {path.parent}" if is_idx_name(path.name) else ""
    raise DataError(f"{path}: got a file of kind {path.suffix or '(none)'}; {EXPECTED}{hint}")


def _with_home(path: Path) -> Path:
    """Replace a leading ~ by the user's home folder; shells do not do so after an equals sign."""
    return path.expanduser() if path.parts[:1] == ("~",) else path
