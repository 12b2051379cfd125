"""`fit`: from a configuration and a data set to trained weights; builds every part, yields progress, and prints nothing."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaelab import distributed, runs
from vaelab.config import Config, ModelConfig, ResolvedConfig
from vaelab.data.dataset import Dataset, Split
from vaelab.errors import ConfigError
from vaelab.memory import is_out_of_memory
from vaelab.models.base import Model
from vaelab.models.factory import build_model, start_from_images
from vaelab.models.moments import Moments, MomentSums
from vaelab.objectives.elbo import elbo
from vaelab.objectives.importance import importance_weighted
from vaelab.objectives.own import OwnFunction, OwnObjective, expect_trainable
from vaelab.optim.batches import BatchStream
from vaelab.optim.own import MakeOptimizer, OwnOptimizer
from vaelab.optim.state import StepStats, TrainState
from vaelab.optim.step import PlainRunner, StepRunner
from vaelab.run_folder import check_new, expect_run
from vaelab.run_lock import expect_free, locked
from vaelab.training.loop import Loop, Progress, steps_in
from vaelab.training.own import BUILT_IN, Own, factor_at
from vaelab.training.resolve import resolve, resolve_resumed
from vaelab.training.trainer import Trainer
from vaelab.training.validation import Validator

__all__ = ["Progress", "fit", "make_trainer", "new_model"]


def fit(
    config: Config,
    dataset: Dataset,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    trust_code: bool = False,
    objective: OwnFunction | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: Callable[[float], float] | None = None,
    started: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Generator[Progress]:
    """Train, yielding progress a few times a second; the last one is `finished`, and its model holds the best weights.

    Closing the iterator (leaving the `for` loop) or Ctrl-C stops after a step and saves what `resume` needs.

    Parameters
    ----------
    config
        Hyper-parameters; fields that are None are chosen for the data.
    dataset
        Images to learn from, and others to validate on.
    out
        Run folder to write; without it nothing is written.
    resume
        Continue the run in `out` with its own configuration; `config` may change the budget, the device and `compile` only.
    trust_code
        With `resume`, import the custom networks that the run names; not needed if `config` names them again.
    objective
        `objective(found: Pass) -> Tensor` instead of the ELBO: one number, or one per image, (batch,), in nats; the mean is
        minimised. `vaelab.objectives.own.Pass` has images, labels, posterior, z, prior, likelihood, distortion and rate. Random
        numbers that it draws from PyTorch follow from the seed. The weights are selected by its value on validation images, in
        batches of `batch_size`, at the full β; reported figures remain those of the ELBO.
    optimizer
        `optimizer(parameters) -> torch.optim.Optimizer` instead of AdamW, such as `torch.optim.SGD`. The schedule multiplies its
        learning rates; gradients are clipped before, and bad steps skipped. Its state is saved for `resume`.
    schedule
        `schedule(fraction) -> factor`: the learning rate relative to its peak after this fraction of the training, 0…1.

        With an objective or optimiser of the caller, steps are not compiled, and a single process trains. `config.json` records
        the import paths or names of these three, and `resume` needs the same again. Of functions that cannot be imported, such
        as a lambda, only the names are compared.
    started
        Value of `clock` (wall time in seconds) from which a budget in seconds counts; by default the first step.

    Raises
    ------
    ConfigError, LabelError, DataError
        If the configuration does not suit the data, an objective returns NaN or another shape, or an optimiser does not hold
        the model's parameters; with `resume`, if the run has used up the new budget, or was trained with other functions.
    RunError
        If `out` holds a run already; with `resume`, if it holds none, its data differ, or it needs `trust_code`.
    TrainingError
        If the loss is NaN or infinite even after two recoveries; good weights are kept, else no new run is left behind.
    """
    folder, own = None if out is None else Path(out), Own(objective, optimizer, schedule)
    own.expect_usable(config)
    if resume:
        if folder is None:
            raise ConfigError("`resume`: got no run; expected the run folder to continue in `out`")
        expect_run(folder)
        with locked(folder) if distributed.is_first() else nullcontext():
            yield from _resumed(config, dataset, folder, trust_code, own, started, clock)
        return
    resolved = distributed.broadcast(own.recorded(resolve(config, dataset)))
    loop = Loop(resolved.train, make_trainer(resolved, dataset, own=own), started, clock)
    if folder is None or not distributed.is_first():
        yield from loop.run_to_end(None)
        return
    expect_free(folder)
    check_new(folder)
    with locked(folder):
        run = runs.create_run(folder, resolved, runs.DataCard.of(dataset))
        yield from loop.run_to_end(runs.Recorder(run))


def _resumed(
    config: Config,
    dataset: Dataset,
    folder: Path,
    trust_code: bool,
    own: Own,
    started: float | None,
    clock: Callable[[], float],
) -> Generator[Progress]:
    """Continue a run from its last checkpoint, or if it was stopped before the first, from step 0."""
    run = runs.open_run(folder, trust_code=trust_code)
    runs.expect_resumable(run)
    runs.expect_trusted(run, (config.model.encoder, config.model.decoder, config.model.likelihood))
    runs.expect_same_data(run, dataset)
    own.expect_same(run)
    tensors, facts = runs.load_resume(run) if runs.was_saved(run) else ({}, runs.NOTHING_DONE)
    runs.expect_unfinished(run, facts, config.train)
    resolved = distributed.broadcast(resolve_resumed(run.config, config, runs.last_budget(run, facts)))
    loop = Loop(resolved.train, make_trainer(resolved, dataset, restored=bool(tensors), own=own), started, clock)
    if tensors:
        loop.trainer.restore(tensors, facts)
        loop.continue_from(facts)
    if not distributed.is_first():
        yield from loop.run_to_end(None)
        return
    runs.remove_temporaries(run)
    yield from loop.run_to_end(runs.Recorder(run, runs.keep_metrics(run, facts)))


def make_trainer(config: ResolvedConfig, dataset: Dataset, *, restored: bool = False, own: Own = BUILT_IN) -> Trainer:
    """Return the trainer of `config` before its first step, with all its parts on the training device.

    If it is to be `restored`, nothing is computed from the images, which takes seconds. `own` are functions of the caller.
    A ConfigError if there is not enough memory for images and model, or a custom network does not fit.
    """
    train, split, device = config.train, dataset.train, torch.device(config.train.device)
    _expect_alike(config, dataset)
    try:
        images = torch.from_numpy(split.images)
        labels = None if split.labels is None else torch.from_numpy(split.labels).to(device)
        model = build_model(config.model, dataset.shape, len(dataset.classes), seed=train.seed)
        if not restored:
            start_from_images(model, images, moments_of(split))
        model.to(device).train()
        distributed.broadcast_tensors([*model.parameters(), *model.buffers()])
        averaged = copy.deepcopy(model).eval().requires_grad_(False)
        state = TrainState.of(list(model.parameters()), list(averaged.parameters()))
        images, remark = placed(images, device)
        batches = BatchStream(
            images,
            labels,
            train.batch_size,
            model.latent_dim,
            train.seed,
            flip=train.flip != "no",
            share=distributed.share(train.batch_size),
            device=device,
            prefetch=images.device.type != device.type,
            announce=split.known.announce if split.known is not None and images.device.type == "cpu" else None,
        )
        validator = Validator(dataset.validation, config, device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(
            f"`device`: {device} has too little memory for {len(split):,} images and the model; free some, or use fewer "
            "images (`limit`), smaller ones (`size`) or another `device`"
        ) from error
    optimizer = None if own.optimizer is None else OwnOptimizer(own.optimizer, model, train.learning_rate)
    objective = elbo if own.objective is None else OwnObjective(own.objective, beta=train.beta)
    if isinstance(objective, OwnObjective):
        expect_trainable(objective, model, batches.at(0).prepared(model.likelihood_name))
    plain = PlainRunner(model, state, StepStats.zeros(device), train, optimizer)
    plain.remarks += remark
    built_in = own.objective is None and own.optimizer is None
    runner = accelerated(plain, config, batches) if built_in else plain
    factor = None if own.schedule is None else partial(factor_at, own.schedule)
    return Trainer(
        averaged,
        batches,
        objective,
        importance_weighted,
        validator,
        runner,
        train,
        optimizer=optimizer,
        factor=factor,
    )


def new_model(config: ModelConfig, dataset: Dataset, *, seed: int = 0) -> Model:
    """Return an untrained model for a data set, for a training loop outside vaelab, on the CPU and in training mode.

    `model(x, y, noise)` returns an `Inference`: posterior, sample, rate of each latent dimension and likelihood. x is float32
    (batch, *shape), grey levels 0…1 (for a Bernoulli likelihood binarised); y are label indices (batch,), or None unless the
    model is a cvae; noise is N(0, I), (batch, latent_dim). `TrainedModel.from_parts` takes the model after its training.

    Parameters
    ----------
    config
        The model; fields that are None are chosen for the data.
    dataset
        Images whose mean and variance initialise the model.
    seed
        Seed of the initial weights.

    Raises
    ------
    ConfigError, LabelError, DataError
        If the configuration does not suit the data, or a custom network does not fit.
    """
    resolved = resolve(Config(config), dataset).model
    model = build_model(resolved, dataset.shape, len(dataset.classes), seed=seed)
    start_from_images(model, torch.from_numpy(dataset.train.images), moments_of(dataset.train))
    return model.train()


def placed(images: Tensor, device: torch.device) -> tuple[Tensor, list[str]]:
    """Return the images on the training device, or as they are if they are too large for it, and a remark if that is a GPU."""
    if device.type != "cuda":
        return images.to(device), []
    free, _ = torch.cuda.mem_get_info(device)
    size, fits = images.nbytes, images.nbytes <= free / 2  # the other half is for the model
    where = f"are on {device}" if fits else f"are sent to {device} batch by batch"
    remark = f"the images ({size / 2**30:.2f} GiB) {where}, which has {free / 2**30:.1f} GiB free"
    return images.to(device) if fits else images, [remark]


def _expect_alike(config: ResolvedConfig, dataset: Dataset) -> None:
    """Raise a ConfigError unless all processes train on the same images with the same code, and each has some of a batch."""
    count = distributed.world_size()
    if config.train.batch_size < count:
        raise ConfigError(
            f"`batch_size`: got {config.train.batch_size} for {count} processes; expected at least one image for each"
        )
    if count == 1:
        return
    if torch.device(config.train.device).index is not None:
        raise ConfigError(
            f"`device`: got {config.train.device} for {count} processes; expected cuda or auto: each has a GPU of its own"
        )
    held_out = len(dataset.validation)
    distributed.expect_same(data=f"{dataset.name} {dataset.fingerprint[:12]}, {held_out:,} images to validate")


def moments_of(split: Split) -> Moments:
    """Return the moments of a split, computed unless they are known."""
    if split.known is None or split.known.moments is None:
        return Moments.of(torch.from_numpy(split.images))
    return Moments.of_planes(torch.from_numpy(split.known.moments), split.images.shape[1])


class PackedMoments:
    """The moments of uint8 images (N, C, H, W) that are added part by part, as a pack has them."""

    def __init__(self) -> None:
        self.sums = MomentSums()

    def add(self, images: np.ndarray) -> None:
        """Add images."""
        self.sums.add(torch.from_numpy(images))

    def planes(self) -> np.ndarray:
        """Return the moments of all images, float64 (planes, H, W)."""
        return self.sums.moments().planes().numpy()


def accelerated(plain: PlainRunner, config: ResolvedConfig, batches: BatchStream) -> StepRunner:
    """Return a runner that takes the same steps faster, or `plain` if that is switched off, not installed or fails to start.

    The last is possible with a version of PyTorch that acceleration was not tested with; a remark says so.
    """
    if config.train.compile == "no":
        return plain
    try:
        from vaelab.acceleration.runner import AcceleratedRunner

        return AcceleratedRunner(plain, config, batches, steps_in(config.train, batches.order))
    except (ImportError, AttributeError) as error:
        if not (isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("vaelab.acceleration")):
            plain.remarks.append(
                f"training is not accelerated with PyTorch {torch.__version__}, and continues without: "
                f"{type(error).__name__}: {error}"
            )
        return plain
