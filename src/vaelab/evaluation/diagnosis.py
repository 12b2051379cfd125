"""Diagnosis of a trained model: its symptoms, and the known faults that they show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vaelab import runs
from vaelab.config import Config, ModelConfig, ResolvedConfig
from vaelab.data import load_data_of_run
from vaelab.data.dataset import Dataset, Split
from vaelab.errors import DataError
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.faults import Finding, findings
from vaelab.evaluation.results import Section
from vaelab.evaluation.symptoms import Symptoms, measure
from vaelab.evaluation.work import Work, silent
from vaelab.inference.trained import TrainedModel, load
from vaelab.runs import Run
from vaelab.training.resolve import resolve

UNJUDGED = (
    "Whether the training was long enough was not judged: the run has no validation figures of what it minimised."
)


@dataclass(frozen=True)
class Diagnosis:
    """The faults that were found, and the symptoms that they were found from."""

    findings: tuple[Finding, ...]
    symptoms: Symptoms

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def sentences(self) -> list[str]:
        """Return the faults, or that there is none, and what was not judged."""
        unjudged = [] if self.symptoms.curve else [UNJUDGED]
        return [*(map(str, self.findings) if self.findings else ["No fault found."]), *unjudged]

    def __contains__(self, key: str) -> bool:
        return any(finding.key == key for finding in self.findings)


def diagnose(
    run: str | os.PathLike[str], dataset: Dataset | None = None, *, trust_code: bool = False, work: Work = silent
) -> Diagnosis:
    """Look for faults of a run: measure it on training and validation images, and name what is wrong with what to do.

    Parameters
    ----------
    run
        Run folder.
    dataset
        The data that it was trained on. Default: loaded from the source with the recorded name, if it is built in or in the
        current folder.
    trust_code
        Import the custom networks that the run names.
    work
        Progress callback.

    Raises
    ------
    RunError
        If there is no run, it is damaged, has other data, or needs `trust_code`.
    DataError
        If the data cannot be loaded, or have no validation images.
    """
    record = runs.open_run(Path(run), trust_code=trust_code)
    model = load(run, trust_code=trust_code)
    dataset = load_data_of_run(run) if dataset is None else dataset
    runs.expect_same_data(record, dataset)
    if not len(dataset.validation):
        raise DataError(f"{dataset.name}: got no validation images; expected some to compare with the training images")
    return diagnose_model(model, dataset, dataset.validation, record, work)


def diagnose_model(
    model: TrainedModel, dataset: Dataset, held_out: Split, run: Run | None = None, work: Work = silent
) -> Diagnosis:
    """Look for faults of a model, on held-out images of the data that it was trained on.

    Without its `run`, the length of the training is not judged, and remedies assume default settings.
    """
    symptoms = measure(model, dataset, held_out, work)
    if run is not None:
        symptoms = replace(symptoms, curve=tuple(_curve(run)))
    config = _last_config(run) if run is not None else resolve(Config(ModelConfig(model=model.kind)), dataset)
    return Diagnosis(tuple(findings(symptoms, config, dataset)), symptoms)


def diagnosis_section(context: EvaluationContext) -> Section:
    """Look for faults of the model on its training images and the held-out images of the report."""
    key, title, dataset, run = "diagnosis", "Diagnosis", context.dataset, context.run
    if not len(dataset.train):
        return Section(key, title, left_out="There are no training images.")
    if run is not None and dataset.fingerprint != run.data.fingerprint:
        return Section(key, title, left_out=f"{dataset.name} is not the data that the model was trained on.")
    found = diagnose_model(context.model, dataset, context.held_out, run, context.work)
    return Section(key, title, tuple(found.sentences()))


def _last_config(run: Run) -> ResolvedConfig:
    """Return the configuration of a run, with the budget of its last session."""
    if run.config.own_loop:
        return run.config
    budget = runs.last_budget(run, runs.resume_facts(run) or {})
    return replace(run.config, train=replace(run.config.train, budget=budget))


def _curve(run: Run) -> Iterator[tuple[int, float]]:
    """Yield step and distortion + β · rate of each validation; nothing if the training minimised another figure."""
    if run.config.own_loop or run.config.train.iwae_samples > 1 or run.config.train.objective:
        return
    for line in runs.read_metrics(run):
        if (figures := line.get("validation")) is not None:
            yield line["step"], figures["distortion"] + run.config.train.beta * figures["rate"]
