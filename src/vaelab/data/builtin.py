"""The data sources that are known by name: MNIST, the small scanned digits, and drawn strokes.

MNIST: Y. LeCun, C. Cortes, C. Burges. Digits: E. Alpaydin, C. Kaynak (UCI), as bundled with scikit-learn.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vaelab.data.arrays import Part, assemble
from vaelab.data.dataset import Dataset, Split
from vaelab.data.idx import read_idx
from vaelab.data.resize import Progress
from vaelab.errors import DataError

BUILTIN = {
    "mnist": "70,000 handwritten digits, grey 28×28, ten classes; downloaded once (11 MB)",
    "digits": "1,797 handwritten digits, grey 8×8, ten classes; bundled with scikit-learn",
    "strokes": "handwriting drawn by formula, with known factors of variation; nothing is downloaded",
}
"""The names of the built-in sources, each with a line that says what it is."""

DIGITS = tuple("0123456789")
VALIDATION = 10_000
"""How many of MNIST's 60,000 training images, the last ones, are for validation."""

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


class MnistFile(NamedTuple):
    """One of MNIST's files.

    Its shape, the SHA-256 of the published .gz, and that of the values after the header, inflated.
    """

    shape: tuple[int, ...]
    gz_sha256: str
    values_sha256: str


MNIST_FILES = {
    "train-images-idx3-ubyte": MnistFile(
        (60_000, 28, 28),
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    ),
    "train-labels-idx1-ubyte": MnistFile(
        (60_000,),
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ),
    "t10k-images-idx3-ubyte": MnistFile(
        (10_000, 28, 28),
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    ),
    "t10k-labels-idx1-ubyte": MnistFile(
        (10_000,),
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
}


def load_builtin(name: str, *, seed: int = 0, progress: Progress | None = None) -> Dataset:
    """The dataset called `name`, one of `BUILTIN`."""
    if name == "mnist":
        return load_mnist()
    if name == "digits":
        return load_digits(seed=seed)
    return _load_strokes(seed=seed, progress=progress)


def _load_strokes(*, seed: int, progress: Progress | None) -> Dataset:
    from vaelab.data.strokes import TEST, TRAIN, VALIDATION, load_strokes

    if progress is None:
        return load_strokes(seed=seed)
    drawn = 0

    def count(more: int) -> None:
        nonlocal drawn
        drawn += more
        progress("drawing strokes", drawn, TRAIN + VALIDATION + TEST)

    return load_strokes(seed=seed, progress=count)


def load_digits(*, seed: int = 0) -> Dataset:
    """scikit-learn's 8×8 digits, their levels 0…16 scaled to 0…255."""
    import sklearn.datasets

    bunch: Any = sklearn.datasets.load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    notes = ["Scaled the 17 grey levels 0…16 to 0…255."]
    return assemble("digits", Part(images, bunch.target), classes=DIGITS, seed=seed, notes=notes)


def load_mnist() -> Dataset:
    """MNIST: 50,000 training, 10,000 validation (the last of the training files) and 10,000 test images.

    The files are looked for in `$VAELAB_DATA_DIR/mnist`, `$VAELAB_DATA_DIR` and the user's cache folder,
    gzipped or not, and only where none of these has all four are they downloaded to the cache. Raises
    `DataError` where that fails, or where the files are not MNIST's.
    """
    cache = _cache_folder()
    named = os.environ.get("VAELAB_DATA_DIR")
    folders = [*((Path(named) / "mnist", Path(named)) if named else ()), cache]
    notes = []
    for folder in folders:
        if files := _find_mnist(folder):
            break
    else:
        files = _download_mnist(cache, put_into=folders[0])
        notes.append(f"Downloaded the files to {cache}.")
    if named and cache in (path.parent for path in files.values()):
        notes.append(f"VAELAB_DATA_DIR ({named}) does not hold MNIST's four files; read them from {cache}.")
    arrays = {name: _read_verified(path, name) for name, path in files.items()}
    images, labels, test_images, test_labels = arrays.values()
    labels, test_labels = labels.astype(np.int64), test_labels.astype(np.int64)
    kept = len(images) - VALIDATION
    notes.append(
        f"Took the last {VALIDATION:,} training images for validation, and the "
        f"{len(test_images):,} test images for the test set."
    )
    return Dataset(
        "mnist",
        Split(images[:kept, None], labels[:kept]),
        Split(images[kept:, None], labels[kept:]),
        Split(test_images[:, None], test_labels),
        classes=DIGITS,
        notes=tuple(notes),
    )


def _cache_folder() -> Path:
    import pooch

    return Path(pooch.os_cache("vaelab")) / "mnist"


def _find_mnist(folder: Path) -> dict[str, Path] | None:
    """MNIST's four files in `folder`, each under any of its spellings, or None where one is missing."""
    found: dict[str, Path] = {}
    for name in MNIST_FILES:
        spellings = [name, name.replace("-idx", ".idx")]
        candidates = [folder / f"{spelling}{end}" for end in ("", ".gz") for spelling in spellings]
        present = [path for path in candidates if path.is_file()]
        if not present:
            return None
        found[name] = present[0]
    return found


def _read_verified(path: Path, name: str) -> np.ndarray:
    """The values of one of MNIST's files, and not of another data set's under the same name."""
    values = read_idx(path)
    expected = MNIST_FILES[name]
    if values.shape != expected.shape or hashlib.sha256(values.data).hexdigest() != expected.values_sha256:
        raise DataError(
            f"{path}: got values of shape {values.shape} that are not MNIST's {name}; expected the published "
            f"ones; remove the file, or give its folder as the source to load what it holds: {path.parent}"
        )
    return values


def _download_mnist(folder: Path, *, put_into: Path) -> dict[str, Path]:
    """MNIST's four files in `folder`, each from the first mirror that gives it with the right SHA-256."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the progress bar tells enough
    downloader: Any = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16)
    files: dict[str, Path] = {}
    for name, expected in MNIST_FILES.items():
        reasons = []
        for mirror in MIRRORS:
            try:
                path = pooch.retrieve(
                    f"{mirror}{name}.gz",
                    known_hash=f"sha256:{expected.gz_sha256}",
                    fname=f"{name}.gz",
                    path=folder,
                    downloader=downloader,
                )
            except (
                OSError,
                ValueError,
            ) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
                wrong = isinstance(error, ValueError) and "hash" in str(error)
                reasons.append("wrong SHA-256" if wrong else type(error).__name__)
            else:
                files[name] = Path(path)
                break
        else:
            names = ", ".join(f"{file}.gz" for file in MNIST_FILES)
            raise DataError(
                f"mnist: got {' and '.join(reasons)} when downloading {name}.gz; expected a network or the "
                f"four files; put {names} into {put_into}"
            )
    return files
