"""Data sources, loaded as a `Dataset`: uint8 images, labels and three splits."""

from vaelab.data.builtin import BUILTIN
from vaelab.data.dataset import Dataset, Split
from vaelab.data.objects import dataset_from
from vaelab.data.of_run import load_data_of_run
from vaelab.data.sources import load_dataset

__all__ = ["BUILTIN", "Dataset", "Split", "dataset_from", "load_data_of_run", "load_dataset"]
