"""A table of real numbers: a VAE before a classifier in a `Pipeline`, compared with PCA.

    python examples/table.py

The table contains 30 measurements, in different units, of 569 tumours (scikit-learn's `breast_cancer`); the task is to
predict which are benign. A logistic regression receives all 30 columns, or a few numbers computed from them by PCA or a VAE,
both fitted without the labels. The VAE standardises the columns itself. The results are cross-validated accuracies, with the
standard error over the folds; differences below two standard errors are not significant.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from vaelab import VAE, VaelabError


def pipelines(latent_dim: int, epochs: int) -> dict[str, Pipeline]:
    """Return the pipelines to compare, by name; all end in the same classifier."""
    classifier = LogisticRegression(max_iter=1000)
    vae = VAE(latent_dim=latent_dim, epochs=epochs, kl_warmup=0.5)
    return {
        "all 30 columns": make_pipeline(StandardScaler(), classifier),
        f"PCA, {latent_dim} numbers": make_pipeline(StandardScaler(), PCA(latent_dim), classifier),
        f"VAE, {latent_dim} numbers": make_pipeline(vae, StandardScaler(), classifier),
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Print and return the accuracy of each pipeline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--latent-dim", type=int, default=3, help="number of latent dimensions, or of principal components"
    )
    parser.add_argument("--epochs", type=int, default=60, help="passes of the VAE over the training rows")
    parser.add_argument("--repeats", type=int, default=2, help="repetitions of the five-fold cross-validation")
    options = parser.parse_args(arguments)
    table, benign = load_breast_cancer(return_X_y=True)
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=options.repeats, random_state=0)
    accuracy = {}
    for name, pipeline in pipelines(options.latent_dim, options.epochs).items():
        scores = cross_val_score(pipeline, table, benign, cv=folds, error_score="raise")  # pyright: ignore[reportArgumentType]
        accuracy[name] = float(scores.mean())
        print(f"{name:<16} {scores.mean():6.1%} ± {scores.std(ddof=1) / np.sqrt(len(scores)):.1%}")
    return accuracy


if __name__ == "__main__":
    try:
        main()
    except VaelabError as error:
        raise SystemExit(f"table.py: {error}") from None
