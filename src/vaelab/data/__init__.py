"""Data sources, loaded as a `Dataset`: uint8 images, labels and three splits."""

from vaelab.data.builtin import BUILTIN
from vaelab.data.dataset import Dataset, Split
from vaelab.data.sources import load_dataset

__all__ = ["BUILTIN", "Dataset", "Split", "load_dataset"]
