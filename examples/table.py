"""A table of mixed reals: a VAE in a `Pipeline` before a classifier, against PCA.

    python examples/table.py

The table is of 569 tumours, 30 measures of each in units of their own (scikit-learn's `breast_cancer`): are they benign? A
logistic regression sees all 30 columns, or only a few numbers that PCA or a VAE makes of them, both fitted without the
answers. The VAE standardises the columns itself. Figures are shares of rows read rightly, each by models that have not
seen the row, with the standard error over the folds: differences below two of those mean nothing.
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


def contestants(latent_dim: int, epochs: int) -> dict[str, Pipeline]:
    """Pipelines that end in the same classifier, by name."""
    classifier = LogisticRegression(max_iter=1000)
    vae = VAE(latent_dim=latent_dim, epochs=epochs, kl_warmup=0.5)
    return {
        "all 30 columns": make_pipeline(StandardScaler(), classifier),
        f"PCA, {latent_dim} numbers": make_pipeline(StandardScaler(), PCA(latent_dim), classifier),
        f"VAE, {latent_dim} numbers": make_pipeline(vae, StandardScaler(), classifier),
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Print, and return, the accuracy of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latent-dim", type=int, default=3, help="numbers that stand for the 30 columns")
    parser.add_argument("--epochs", type=int, default=60, help="passes of the VAE over its rows")
    parser.add_argument("--repeats", type=int, default=2, help="times that the rows are parted in five")
    options = parser.parse_args(arguments)
    table, benign = load_breast_cancer(return_X_y=True)
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=options.repeats, random_state=0)
    accuracy = {}
    for name, pipeline in contestants(options.latent_dim, options.epochs).items():
        scores = cross_val_score(pipeline, table, benign, cv=folds, error_score="raise")  # pyright: ignore[reportArgumentType]
        accuracy[name] = float(scores.mean())
        print(f"{name:<16} {scores.mean():6.1%} ± {scores.std(ddof=1) / np.sqrt(len(scores)):.1%}")
    return accuracy


if __name__ == "__main__":
    try:
        main()
    except VaelabError as error:
        raise SystemExit(f"table.py: {error}") from None
