"""`vaelab train`: train a model on a data source."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vaelab.cli import loggers, several
from vaelab.cli.app import (
    GROUPS,
    Flag,
    Options,
    TrustCode,
    app,
    import_pytorch,
    load_data_of_run,
    load_source,
    source_arguments,
)
from vaelab.cli.loggers import LoggerName
from vaelab.cli.several import Processes
from vaelab.cli.train_options import TrainOptions, as_config
from vaelab.cli.train_run import new_folder, total_time, train_one
from vaelab.config import Config, is_custom_likelihood
from vaelab.errors import ConfigError
from vaelab.interruption import open_signals
from vaelab.presets import PRESETS, PresetName, with_preset
from vaelab.run_folder import check_new, expect_run
from vaelab.run_lock import expect_free


def _budget(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"


RUN = GROUPS["Run"]

PRESET_HELP = (
    "Settings for a time budget: "
    + ", ".join(f"{name} ({_budget(preset.train['seconds'])})" for name, preset in PRESETS.items())
    + ". Explicit options override the preset."
)


@app.command
def train(
    source: str,
    /,
    *,
    settings: Annotated[TrainOptions | None, Parameter(name="*")] = None,
    options: Options = None,
    preset: Annotated[PresetName | None, Parameter(group=RUN, help=PRESET_HELP)] = None,
    out: Annotated[Path | None, Parameter(group=RUN)] = None,
    resume: Annotated[Flag, Parameter(group=RUN)] = False,
    log: Annotated[list[LoggerName] | None, Parameter(group=RUN, negative_iterable=())] = None,
    processes: Processes = None,
    trust_code: Annotated[TrustCode, Parameter(group=RUN)] = False,
) -> None:
    """Train a model and write a run folder: weights, metrics, pictures. Ctrl-C stops and saves; --resume continues.

    Parameters
    ----------
    source
        Data source: a built-in name, a folder of images, a folder of IDX files, an .npz file, a table of paths and
        labels (.csv, .parquet), images in .parquet or .tar files, or a pack; see vaelab data.
    out
        Run folder. Default: a new one, runs/NAME-MODEL.
    resume
        Continue the run in --out: to the end of its budget, or of a new one given by --epochs or --seconds.
    log
        Also log the figures to tensorboard, mlflow or trackio; repeat the option for several. They
        write to local files. Needs: pip install "vaelab[tensorboard]", "vaelab[mlflow]" or trackio.
    """
    from vaelab.progress import say

    names = list(dict.fromkeys(log or ()))
    loggers.expect_installed(names)
    several.start(processes)
    config = as_config(settings)
    if not resume and several.is_restarted(out):  # the run has the budget, which may be used up
        resume, preset = True, None
        config = replace(config, train=replace(config.train, epochs=None, seconds=None))
    if preset is not None and resume:
        raise ConfigError(f"--preset: got {preset} with --resume; leave it out: a run continues with its own settings")
    if resume and out is None:
        raise ConfigError("--resume: got no run; expected the run folder to continue: give --out")
    custom = _check_before_loading(source, config, out, resume, trust_code)
    with open_signals():  # also while loading and drawing, SIGTERM and SIGHUP leave nothing half-written
        dataset = several.in_turn(
            lambda: (
                load_data_of_run(out, source, options) if resume and out is not None else load_source(source, options)
            )
        )
        if preset is not None:
            from vaelab.data.dataset import default_likelihood

            config = with_preset(preset, config, likelihood=default_likelihood(dataset.train))
        trust = ["--trust-code"] if custom else []
        command = ["vaelab", "train", source, *source_arguments(options), *trust]
        command += [word for name in names for word in ("--log", name)]
        if config.model.model == "all":
            from vaelab.cli.train_all import train_all

            folder = several.broadcast(out or new_folder(f"{dataset.name}-all"))
            train_all(config, dataset, folder, resume, [*command, "--model", "all"], trust_code, names)
            return
        import_pytorch()
        from vaelab.training.resolve import resolve

        folder = several.broadcast(out or new_folder(f"{dataset.name}-{resolve(config, dataset).model.model}"))
        resume_command = [*command, "--out", str(folder), "--resume"]
        train_one(config, dataset, folder, resume, resume_command=resume_command, trust_code=trust_code, log=names)
        say(total_time())
        say(f"next: {shlex.join(['vaelab', 'sample', str(folder), *trust, '--out', 'samples.png'])}")


def _check_before_loading(source: str, config: Config, out: Path | None, resume: bool, trust_code: bool) -> bool:
    """Check what can be checked before the data are loaded, which may take long: first what needs no PyTorch.

    Returns whether the model has custom networks, to which the user has consented.
    """
    likelihood = config.model.likelihood if is_custom_likelihood(config.model.likelihood) else None
    given = (config.model.encoder, config.model.decoder, likelihood)
    custom = any(given)
    from vaelab.data.sources import expect_source

    expect_source(source)
    if out is not None:
        if several.is_first():
            expect_free(out)
        expect_run(out) if resume else check_new(out)
    device = config.train.device
    if resume and out is not None:
        import_pytorch()
        from vaelab import runs

        run = runs.open_run(out, trust_code=trust_code)
        if config.model.model != "all":
            runs.expect_resumable(run)
        runs.expect_trusted(run, given)
        custom = bool(run.custom)
        facts = runs.resume_facts(run)
        if facts is not None and config.model.model != "all":  # of all, some runs may be complete and others not
            runs.expect_unfinished(run, facts, config.train)
        device = device or run.config.train.device
    if device is not None:
        import_pytorch()
        from vaelab.precision import pick_device

        pick_device(device)
    return custom
