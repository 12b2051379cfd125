"""Published data sets of four IDX files each, like MNIST: read from a local folder, or downloaded once and verified.

MNIST: Y. LeCun, C. Cortes, C. Burges. Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747. KMNIST: T. Clanuwat
et al., arXiv:1812.01718. EMNIST: G. Cohen, S. Afshar, J. Tapson, A. van Schaik, arXiv:1702.05373. The SHA-256
hashes are those published by TensorFlow Datasets.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import string
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vaelab.data.arrays import Part, assemble
from vaelab.data.cache import cache_folder
from vaelab.data.dataset import Dataset, Split
from vaelab.data.idx import read_idx
from vaelab.errors import DataError
from vaelab.files import atomic_write


class PublishedFile(NamedTuple):
    """A file of a data set.

    Shape of the values, SHA-256 of the published .gz file, and SHA-256 of the decompressed values after the header; None for
    hashes that are not published.
    """

    shape: tuple[int, ...]
    gz_sha256: str | None = None
    values_sha256: str | None = None


class Archive(NamedTuple):
    """A zip archive that contains the files: its name, its SHA-256, and the folder of the files inside it."""

    name: str
    sha256: str
    inside: str


@dataclass(frozen=True)
class Published:
    """A published data set: files of training images, training labels, test images and test labels, in this order.

    Attributes
    ----------
    title
        Name given by its publishers.
    files
        The four files by name, without .gz.
    mirrors
        URLs of folders that contain the files or the archive.
    classes
        Class names in the order of the labels.
    validation
        Number of training images used for validation, taken from the end; None to hold out a random share.
    archive
        Archive of the files, if they are not published separately.
    first_label
        Label of the first class.
    transposed
        Whether the files store the images with rows and columns exchanged.
    """

    title: str
    files: Mapping[str, PublishedFile]
    mirrors: tuple[str, ...]
    classes: tuple[str, ...]
    validation: int | None = 10_000
    archive: Archive | None = None
    first_label: int = 0
    transposed: bool = False


PUBLISHED = {
    "mnist": Published(
        "MNIST",
        {
            "train-images-idx3-ubyte": PublishedFile(
                (60_000, 28, 28),
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
            ),
            "train-labels-idx1-ubyte": PublishedFile(
                (60_000,),
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
            ),
            "t10k-images-idx3-ubyte": PublishedFile(
                (10_000, 28, 28),
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
            ),
            "t10k-labels-idx1-ubyte": PublishedFile(
                (10_000,),
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
            ),
        },
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        tuple(string.digits),
    ),
    "fashion-mnist": Published(
        "Fashion-MNIST",
        {
            "train-images-idx3-ubyte": PublishedFile(
                (60_000, 28, 28), "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
            ),
            "train-labels-idx1-ubyte": PublishedFile(
                (60_000,), "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
            ),
            "t10k-images-idx3-ubyte": PublishedFile(
                (10_000, 28, 28), "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
            ),
            "t10k-labels-idx1-ubyte": PublishedFile(
                (10_000,), "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
            ),
        },
        (
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": Published(
        "KMNIST",
        {
            "train-images-idx3-ubyte": PublishedFile(
                (60_000, 28, 28), "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"
            ),
            "train-labels-idx1-ubyte": PublishedFile(
                (60_000,), "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"
            ),
            "t10k-images-idx3-ubyte": PublishedFile(
                (10_000, 28, 28), "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"
            ),
            "t10k-labels-idx1-ubyte": PublishedFile(
                (10_000,), "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"
            ),
        },
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
    "emnist-letters": Published(
        "EMNIST",
        {  # no hashes of these are published, only that of their archive
            "emnist-letters-train-images-idx3-ubyte": PublishedFile((124_800, 28, 28)),
            "emnist-letters-train-labels-idx1-ubyte": PublishedFile((124_800,)),
            "emnist-letters-test-images-idx3-ubyte": PublishedFile((20_800, 28, 28)),
            "emnist-letters-test-labels-idx1-ubyte": PublishedFile((20_800,)),
        },
        (
            "https://biometrics.nist.gov/cs_links/EMNIST/",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
        ),
        tuple(string.ascii_lowercase),
        validation=None,
        archive=Archive("gzip.zip", "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e", "gzip/"),
        first_label=1,
        transposed=True,
    ),
}
"""Published data sets by the name of the source."""


def load_published(name: str, *, seed: int = 0) -> Dataset:
    """Load a published data set; `seed` determines the validation set if it is drawn at random.

    The files, gzipped or not, are searched for in `$VAELAB_DATA_DIR/NAME`, for MNIST also in `$VAELAB_DATA_DIR`, and in the
    cache folder. If none of these contains all four, they are downloaded to the cache. Raises `DataError` if the download
    fails, or if the files are not the published ones.
    """
    published = PUBLISHED[name]
    cache = cache_folder() / name
    data_dir = os.environ.get("VAELAB_DATA_DIR")
    folders = [Path(data_dir) / name] if data_dir else []
    if data_dir and name == "mnist":
        folders.append(Path(data_dir))
    folders.append(cache)
    notes = []
    for folder in folders:
        if files := _find(published, folder):
            break
    else:
        files = _download(name, published, cache, put_into=folders[0])
        notes.append(f"Downloaded the files to {cache}.")
    if data_dir and cache in (path.parent for path in files.values()):
        notes.append(
            f"VAELAB_DATA_DIR ({data_dir}) does not contain all files of {published.title}; read them from {cache}."
        )
    images, labels, test_images, test_labels = (_read_verified(published, path, file) for file, path in files.items())
    train, test = _part(published, images, labels), _part(published, test_images, test_labels)
    if published.validation is None:
        return assemble(name, train, test=test, classes=published.classes, seed=seed, notes=notes)
    remaining = len(images) - published.validation
    notes.append(
        f"Used the last {published.validation:,} training images for validation, and the "
        f"{len(test_images):,} test images as the test set."
    )
    splits = (train.at(np.s_[:remaining]), train.at(np.s_[remaining:]), test)
    return Dataset(name, *(Split(*part) for part in splits), classes=published.classes, notes=tuple(notes))


def _part(published: Published, images: np.ndarray, labels: np.ndarray) -> Part:
    ordered = images.transpose(0, 2, 1) if published.transposed else images
    return Part(ordered[:, None], labels.astype(np.int64) - published.first_label)


def _find(published: Published, folder: Path) -> dict[str, Path] | None:
    """Find the four files in a folder, under any of their spellings; return None if one is missing."""
    found: dict[str, Path] = {}
    for name in published.files:
        spellings = [name, name.replace("-idx", ".idx")]
        candidates = [folder / f"{spelling}{end}" for end in ("", ".gz") for spelling in spellings]
        present = [path for path in candidates if path.is_file()]
        if not present:
            return None
        found[name] = present[0]
    return found


def _read_verified(published: Published, path: Path, name: str) -> np.ndarray:
    """Read the values of a file, and verify that they are those of this data set, not of another with the same file names."""
    values = read_idx(path)
    expected = published.files[name]
    valid = values.shape == expected.shape
    if valid and expected.values_sha256:
        valid = hashlib.sha256(values.data).hexdigest() == expected.values_sha256
    elif valid and expected.gz_sha256 and path.suffix == ".gz":
        valid = hashlib.sha256(path.read_bytes()).hexdigest() == expected.gz_sha256
    if valid and values.ndim == 1:
        first = published.first_label
        valid = first <= values.min() <= values.max() < first + len(published.classes)
    if not valid:
        raise DataError(
            f"{path}: got values of shape {values.shape} that are not those of {name} of {published.title}; remove the file, "
            f"or load its folder as it is: pass {path.parent} as `source`"
        )
    return values


def _download(name: str, published: Published, folder: Path, *, put_into: Path) -> dict[str, Path]:
    """Download the four files to a folder, each from the first mirror that serves it with the expected SHA-256."""
    if published.archive is None:
        for file, expected in published.files.items():
            _fetch(name, published, f"{file}.gz", expected.gz_sha256, folder, put_into)
    else:
        archive, sha256, inside = published.archive
        folder.mkdir(parents=True, exist_ok=True)
        # Removed in the end, because its other members are many times larger. Another process may do the same.
        with (
            tempfile.TemporaryDirectory(dir=folder) as own,
            zipfile.ZipFile(_fetch(name, published, archive, sha256, Path(own), put_into)) as members,
        ):
            for file in published.files:
                with atomic_write(folder / f"{file}.gz") as temporary, temporary.open("wb") as sink:
                    shutil.copyfileobj(members.open(f"{inside}{file}.gz"), sink)
    return {file: folder / f"{file}.gz" for file in published.files}


def _fetch(name: str, published: Published, file: str, sha256: str | None, folder: Path, put_into: Path) -> Path:
    """Download one file from the first mirror that serves it with the expected SHA-256."""
    import pooch

    assert sha256
    pooch.get_logger().setLevel("WARNING")  # the progress bar is enough
    downloader: Any = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16)
    reasons = []
    for mirror in published.mirrors:
        try:
            known_hash = f"sha256:{sha256}"
            return Path(pooch.retrieve(f"{mirror}{file}", known_hash, fname=file, path=folder, downloader=downloader))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
            mismatch = isinstance(error, ValueError) and "hash" in str(error)
            reasons.append("wrong SHA-256" if mismatch else type(error).__name__)
    names = ", ".join(f"{each}.gz" for each in published.files)
    origin = f" (they are in {published.mirrors[0]}{file})" if published.archive else ""
    raise DataError(
        f"{name}: {file} could not be downloaded ({', '.join(reasons)}); connect to the internet, or put {names} "
        f"into {put_into}{origin}"
    )
