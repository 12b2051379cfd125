"""vaelab: autoencoders, variational autoencoders and conditional VAEs, with an honest evaluation.

Public names are imported when they are first used; importing vaelab does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vaelab.version import __version__

if TYPE_CHECKING:
    from vaelab.config import Config, ModelConfig, TrainConfig
    from vaelab.data import Dataset, Split, dataset_from, load_data_of_run, load_dataset
    from vaelab.data.photo import prepare
    from vaelab.errors import VaelabError
    from vaelab.estimators.estimator import VAE, Autoencoder, ConditionalVAE
    from vaelab.estimators.outlier_detector import OutlierDetector
    from vaelab.evaluation.augmentation import judge_augmentation
    from vaelab.evaluation.diagnosis import Diagnosis, diagnose
    from vaelab.evaluation.page import save_page
    from vaelab.evaluation.report import Report, evaluate
    from vaelab.inference.augmentation import augment
    from vaelab.inference.compared import PairedScores, compare_scores
    from vaelab.inference.detection import Detection, detect
    from vaelab.inference.explore import interpolate, manifold, posterior, restyle, traverse
    from vaelab.inference.onnx import export_onnx
    from vaelab.inference.trained import TrainedModel, load
    from vaelab.presets import with_preset
    from vaelab.training.fit import Progress, fit, new_model

_HOMES = {
    "Config": "config",
    "ModelConfig": "config",
    "TrainConfig": "config",
    "Dataset": "data",
    "Split": "data",
    "dataset_from": "data",
    "load_data_of_run": "data",
    "load_dataset": "data",
    "prepare": "data.photo",
    "VaelabError": "errors",
    "Autoencoder": "estimators.estimator",
    "ConditionalVAE": "estimators.estimator",
    "VAE": "estimators.estimator",
    "judge_augmentation": "evaluation.augmentation",
    "Diagnosis": "evaluation.diagnosis",
    "diagnose": "evaluation.diagnosis",
    "OutlierDetector": "estimators.outlier_detector",
    "Detection": "inference.detection",
    "detect": "inference.detection",
    "Report": "evaluation.report",
    "evaluate": "evaluation.report",
    "PairedScores": "inference.compared",
    "compare_scores": "inference.compared",
    "export_onnx": "inference.onnx",
    "augment": "inference.augmentation",
    "interpolate": "inference.explore",
    "manifold": "inference.explore",
    "posterior": "inference.explore",
    "restyle": "inference.explore",
    "traverse": "inference.explore",
    "TrainedModel": "inference.trained",
    "load": "inference.trained",
    "save_page": "evaluation.page",
    "Progress": "training.fit",
    "fit": "training.fit",
    "new_model": "training.fit",
    "with_preset": "presets",
}

__all__ = [
    "VAE",
    "Autoencoder",
    "ConditionalVAE",
    "Config",
    "Dataset",
    "Detection",
    "Diagnosis",
    "ModelConfig",
    "OutlierDetector",
    "PairedScores",
    "Progress",
    "Report",
    "Split",
    "TrainConfig",
    "TrainedModel",
    "VaelabError",
    "__version__",
    "augment",
    "compare_scores",
    "dataset_from",
    "detect",
    "diagnose",
    "evaluate",
    "export_onnx",
    "fit",
    "interpolate",
    "judge_augmentation",
    "load",
    "load_data_of_run",
    "load_dataset",
    "manifold",
    "new_model",
    "posterior",
    "prepare",
    "restyle",
    "save_page",
    "traverse",
    "with_preset",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"vaelab.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'vaelab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
