"""Data sources: one call for a built-in name, a folder of images or IDX files, an .npz file, or a table of paths."""

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
    """The dataset that `source` names.

    Parameters
    ----------
    source
        A built-in name (see `BUILTIN`); a folder of images (PNG, JPEG, WebP, BMP, TIFF, GIF), with or without class
        folders; a folder of IDX files; an .npz file; or a table of paths and labels, .csv or .parquet. Text that is a
        built-in name always means that: "./mnist" names a folder, and so does a `Path`.
    size
        One side in pixels, or (H, W), or text such as "32x48". Images of another size are scaled and then
        cropped or padded, which `notes` states. Without it, all images must have one size.
    fit
        "crop" cuts off what stands over, "pad" fills with the median colour of the image's border.
    seed
        Of the split, where the source brings none, of what a limit chooses, and of drawn data.
    skip_broken
        Leave out image files that cannot be read; `notes` counts them and names the first. Without it the first one is an
        error. The other kinds of source are one file, which is read whole or not at all.
    limit
        Keep at most so many training images, drawn with the seed, each class thinned alike. Validation and test images
        stay as they are, and are the same without a limit.
    classes
        Keep only these classes, which get the labels 0, 1, … in this order: names, or text with commas between them. An
        image is in the same split as without it.
    progress
        Called with what is being done, how much of it is done, and how much there is in all.

    Raises
    ------
    DataError
        The source is missing, broken or of no known kind.
    ConfigError
        `size`, `fit`, `seed` or `limit` is out of range, or the source has not the `classes`.
    """
    target = parse_size(size)
    if fit not in get_args(Fit):
        raise ConfigError(f"fit: got {fit!r}; expected {' or '.join(get_args(Fit))}.{did_you_mean(fit, get_args(Fit))}")
    if seed < 0:
        raise ConfigError(f"seed: got {seed}; expected 0 or more")
    selection = parse_selection(classes, limit)

    if isinstance(source, str) and source in BUILTIN:
        dataset = load_builtin(source, seed=seed, progress=progress)
    elif not os.fspath(source) or not os.path.lexists(path := _at_home(Path(source))):
        raise DataError(f"no data source {os.fspath(source)!r}: {EXPECTED}.{did_you_mean(str(source), BUILTIN)}")
    else:
        try:
            files: dict[str, Any] = {"size": target, "fit": fit, "seed": seed, "skip_broken": skip_broken}
            if path.is_dir() and not any(map(is_idx_name, os.listdir(path))):  # noqa: PTH208 - quick where there are many
                return load_image_folder(path, **files, selection=selection, progress=progress)
            if path.suffix.lower() in SUFFIXES and not path.is_dir():
                return load_path_table(path, **files, selection=selection, progress=progress)
            dataset = _load_arrays(path, seed)
        except OSError as error:
            raise DataError(
                f"{error.filename or path}: cannot be read ({error.strerror or error}); expected a file or folder "
                "that you may read; check its name and permissions"
            ) from None
    dataset = select_from(dataset, selection, seed)
    return dataset if target is None else resize_dataset(dataset, target, fit, progress)


def found_again(name: str) -> str | None:
    """The source that a data set of this `name` came from, if it is a built-in one, or a file or folder here; else None."""
    here = (f"{name}{suffix}" for suffix in ("", ".npz", *SUFFIXES))
    return next((source for source in here if source in BUILTIN or Path(source).exists()), None)


def _load_arrays(path: Path, seed: int) -> Dataset:
    """The dataset of a folder of IDX files or of an .npz file."""
    if path.is_dir():
        return load_idx_folder(path, seed=seed)
    if path.suffix.lower() == ".npz":
        return load_npz(path, seed=seed)
    hint = f"; type its folder, {path.parent}" if is_idx_name(path.name) else ""
    raise DataError(f"{path}: got a file of kind {path.suffix or '(none)'}; {EXPECTED}{hint}")


def _at_home(path: Path) -> Path:
    """`path` with a leading ~ as the user's home, which the shell leaves as it is after an equals sign."""
    return path.expanduser() if path.parts[:1] == ("~",) else path
