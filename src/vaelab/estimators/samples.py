"""Images and rows as the users of scikit-learn pass them, and as the models take them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from vaelab.data.arrays import channels_first, listed
from vaelab.data.dataset import Dataset, Split
from vaelab.data.layout import as_levels, describe_shape
from vaelab.errors import DataError


def as_samples(estimator: Any, X: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return X as images, uint8 (N, C, H, W), or rows, float32 (N, D).

    Parameters
    ----------
    estimator
        Its attributes `n_features_in_` and `feature_names_in_` are set if there is no `shape`, else compared with X.
    X
        Images in any layout, or rows.
    shape
        Shape of an image or row that the estimator was fitted to; None in `fit`.

    Raises
    ------
    DataError
        If X is of another shape.
    """
    X = as_array(X)
    if getattr(X, "ndim", 2) > 2:
        images = as_levels(channels_first(np.asarray(X), "X"), "X: ")
        if shape is None:
            estimator.n_features_in_ = math.prod(images.shape[1:])
    else:
        images = np.asarray(validate_data(estimator, X, dtype=np.float32, reset=shape is None))
    if shape is not None and images.shape[1:] != shape:
        got, expected = describe_shape(images.shape[1:]), describe_shape(shape)
        raise DataError(f"X: got {got}; expected {expected}, as the model was trained on")
    return images


def as_array(X: Any) -> Any:
    """Return a list of images or rows as one array, and anything else that scikit-learn may take as it is.

    Raises
    ------
    DataError
        If images or rows differ in shape, or for a `Dataset`, whose splits the estimators do not use.
    """
    if isinstance(X, Dataset | Split):
        part = "X.train" if isinstance(X, Dataset) else "X"
        raise DataError(
            f"X: got a {type(X).__name__}; expected images or rows: pass {part}.images, and {part}.labels as `y`, or train on it "
            "with vaelab.fit"
        )
    if not isinstance(X, list | tuple):
        return X
    try:
        return np.asarray(X)
    except ValueError:
        shapes = list(dict.fromkeys(str(np.shape(item)) for item in X))
        raise DataError(
            f"X: got items of the shapes {listed(shapes, 3)}; expected one shape: resize the images first, or all to grey or RGB"
        ) from None
