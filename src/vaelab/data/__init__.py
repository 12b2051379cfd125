"""Data: a source becomes a `Dataset` (uint8 images, labels, three splits); a `Dataset` becomes batches."""

from vaelab.data.builtin import BUILTIN
from vaelab.data.dataset import Dataset, Split
from vaelab.data.sources import load_dataset

__all__ = ["BUILTIN", "Dataset", "Split", "load_dataset"]
