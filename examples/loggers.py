"""Follow a training in TensorBoard, MLflow, Weights & Biases or trackio: each reads the progress of `vaelab.fit`.

    python examples/loggers.py tensorboard --source strokes --epochs 20

`vaelab train --log` does the same for the first, second and fourth. All write to local files here. Look at them with
`tensorboard --logdir logs`, `mlflow ui` (of the package mlflow) and `trackio show`; `wandb sync` sends a run to the server.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import vaelab

Records = Iterator[tuple[int, dict[str, float]]]
"""A step of the training, and figures by name."""


def records(training: Generator[vaelab.Progress]) -> Records:
    """Yield the figures of each validation, in nats per image, and at the end those of the best weights, which are kept."""
    validation = None
    for progress in training:
        if progress.validation is None or (progress.validation is validation and not progress.finished):
            continue
        validation, kind = progress.validation, "best" if progress.finished else "validation"
        figures = {f"train/{name}": getattr(progress.train, name) for name in ("nats", "distortion", "rate")}
        figures |= {f"{kind}/{name}": getattr(validation, name) for name in ("nats", "distortion", "rate")}
        yield progress.step, figures | {"learning_rate": progress.learning_rate, "seconds": progress.seconds}


def tensorboard(found: Records, parameters: dict[str, Any]) -> None:
    """Write events to the folder `logs`."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter("logs") as writer:
        writer.add_text("config", str(parameters))
        for step, figures in found:
            for name, value in figures.items():
                writer.add_scalar(name, value, step)


def mlflow(found: Records, parameters: dict[str, Any]) -> None:
    """Write a run to the server that MLFLOW_TRACKING_URI names, by default to mlflow.db."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before it is imported
    import mlflow

    mlflow.set_experiment("vaelab")
    with mlflow.start_run():
        mlflow.log_params(parameters)
        for step, figures in found:
            mlflow.log_metrics(figures, step=step)


def wandb(found: Records, parameters: dict[str, Any]) -> None:
    """Write a run to the folder `wandb`, or with WANDB_MODE=online to the server."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # before it is imported: it is sent even offline
    import wandb

    with wandb.init(project="vaelab", config=parameters, mode=os.environ.get("WANDB_MODE", "offline")) as run:  # pyright: ignore[reportArgumentType]
        for step, figures in found:
            run.log(figures, step=step)


def trackio(found: Records, parameters: dict[str, Any]) -> None:
    """Write a run to trackio's folder in the cache of the user."""
    import trackio  # pyright: ignore[reportMissingImports] - installed apart

    trackio.init(project="vaelab", config=parameters, embed=False)
    for step, figures in found:
        trackio.log(figures, step=step)
    trackio.finish()


LOGGERS = {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb, "trackio": trackio}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on a source, and log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logger", choices=LOGGERS)
    parser.add_argument("--source", default="digits", help="source of images, as for vaelab train")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)
    config = vaelab.Config(train=vaelab.TrainConfig(epochs=options.epochs))
    parameters = {name: value for name, value in asdict(config.train).items() if value is not None}
    training = vaelab.fit(config, vaelab.load_dataset(options.source))
    LOGGERS[options.logger](records(training), {"source": options.source, **parameters})


if __name__ == "__main__":
    try:
        main()
    except vaelab.VaelabError as error:
        raise SystemExit(f"loggers.py: {error}") from None
