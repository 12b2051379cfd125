"""A report: every section of an evaluation, measured in turn, and its JSON.

What is done is kept: a section that was measured with the same model, data and settings is read back, not measured again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vaelab.data.dataset import Dataset, Split
from vaelab.errors import ConfigError, OutputError, did_you_mean
from vaelab.evaluation import results as parts
from vaelab.evaluation.agreement import agreement_section
from vaelab.evaluation.autoencoder import random_points_section
from vaelab.evaluation.bayes import bayes_section
from vaelab.evaluation.context import Settings, Subject, Work, silent
from vaelab.evaluation.latent_section import latent_section
from vaelab.evaluation.leakage import leakage_section
from vaelab.evaluation.likelihood import likelihood_section, protocol
from vaelab.evaluation.memorization import memory_section
from vaelab.evaluation.ood import outliers_section
from vaelab.evaluation.results import Section, Sheet
from vaelab.evaluation.samples import samples_section
from vaelab.evaluation.style_section import style_section
from vaelab.evaluation.train_on_synthetic import transfer_section
from vaelab.files import atomic_write
from vaelab.inference.trained import TrainedModel
from vaelab.version import __version__

SCHEMA = 1
"""Version of `report.json`: raised whenever a key changes its meaning or goes."""

REPORT = "report.json"
"""Its name in a run folder."""

SECTIONS: dict[str, Callable[[Subject], Section]] = {
    "likelihood": likelihood_section,
    "latent": latent_section,
    "agreement": agreement_section,
    "transfer": transfer_section,
    "leakage": leakage_section,
    "bayes": bayes_section,
    "samples": samples_section,
    "memory": memory_section,
    "style": style_section,
    "random_points": random_points_section,
    "outliers": outliers_section,
}
"""The sections of a report, in their order."""

OF_VERSUS = frozenset({"outliers"})
"""Those that measure on `versus` as well: the others stay as they are when it changes."""

FINISHED = "sections"
"""What `work` is told under this name is how many sections are finished."""


@dataclass(frozen=True)
class Report:
    """What was measured of a model.

    Attributes
    ----------
    facts
        What it was measured on and with: model, likelihood, data, split, fingerprint, settings, versions, date.
    sections
        The sections in their order; one that could not be measured says why.
    """

    facts: dict[str, Any]
    sections: tuple[Section, ...] = field(repr=False)

    def __getitem__(self, key: str) -> Section:
        """The section of that key; a KeyError where there is none."""
        return {section.key: section for section in self.sections}[key]

    @property
    def lines(self) -> tuple[str, ...]:
        """The report in a line or two for each section: what it says first, or why it was left out."""
        return tuple(f"{one.title}: {_first_words(one)}" for one in self.sections)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def to_json(self) -> dict[str, Any]:
        """The report as `report.json` holds it: see docs/report.md. Pictures are left to the page."""
        return {
            "schema": SCHEMA,
            **self.facts,
            "sections": {section.key: _section_json(section) for section in self.sections},
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` as a file, whole or not at all. The page to read is written by `vaelab.save_page`."""
        with atomic_write(Path(path)) as temporary:
            temporary.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def evaluate(
    model: TrainedModel,
    dataset: Dataset,
    *,
    importance_samples: int = 500,
    quick: bool = False,
    seed: int = 0,
    versus: Dataset | None = None,
    sections: Sequence[str] | None = None,
    cache: Path | None = None,
    work: Work = silent,
) -> Report:
    """Measure a model on the held-out images of a data set.

    Parameters
    ----------
    model
        As `vaelab.load` gives it.
    dataset
        Its test images are measured on, or, where it has none, its validation images; samples are compared with its training
        images, and the judge learns from those.
    importance_samples
        K of the importance-weighted bound.
    quick
        Fewer images and samples, for a first look in a minute.
    seed
        Of every draw.
    versus
        Other data of the same shape: how well the model tells their images, as outliers, from those of `dataset`.
    sections
        Keys of those to measure; default: all.
    cache
        A folder where finished sections are kept, so that an evaluation that was interrupted goes on.
    work
        Told of progress: what is done, how much of it, of how much; and of the sections that are finished.

    Raises
    ------
    DataError, LabelError
        If model and data do not fit, or there is nothing to measure on.
    ConfigError
        If `importance_samples` is below 1, `seed` below 0, or there is no section of a name asked for.
    """
    if importance_samples < 1:
        raise ConfigError(f"--importance-samples: got {importance_samples}; expected a whole number of at least 1")
    if seed < 0:
        raise ConfigError(f"--seed: got {seed}; expected 0 or more")
    chosen = list(SECTIONS) if sections is None else [key for key in SECTIONS if key in sections]
    if unknown := sorted(set(sections or ()) - set(SECTIONS)):
        raise ConfigError(
            f"got section {unknown[0]!r}; expected some of {', '.join(SECTIONS)}.{did_you_mean(unknown[0], SECTIONS)}"
        )
    subject = Subject(model, dataset, Settings(importance_samples, quick, seed), work, versus)
    facts = _facts(subject)
    done = []
    for key in chosen:
        work(FINISHED, len(done), len(chosen))
        done.append(_measured(key, SECTIONS[key], subject, None if cache is None else cache / f"{key}.npz", facts))
    work(FINISHED, len(done), len(chosen))
    return Report(facts | {"made": datetime.now(UTC).isoformat(timespec="seconds")}, tuple(done))


def _measured(
    key: str, measure: Callable[[Subject], Section], subject: Subject, kept: Path | None, facts: dict[str, Any]
) -> Section:
    asked = facts if key in OF_VERSUS else facts | {"versus": None}
    stamp = hashlib.sha256(json.dumps([SCHEMA, key, asked], sort_keys=True).encode()).hexdigest()
    if kept is not None and (found := _read(kept, stamp)) is not None:
        return found
    began = time.perf_counter()
    section = dataclasses.replace(measure(subject), seconds=time.perf_counter() - began)
    if kept is not None:
        _keep(kept, section, stamp)
    return section


def _first_words(section: Section) -> str:
    return f"left out: {section.left_out}" if section.left_out else (*section.words, "measured.")[0]


def _facts(subject: Subject) -> dict[str, Any]:
    model, data, versus = subject.model, subject.dataset, subject.versus
    digest = hashlib.sha256()
    for name, tensor in sorted(model.model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return {
        "vaelab": __version__,
        "model": {
            "kind": model.kind,
            "likelihood": model.likelihood,
            "latent_dim": model.model.latent_dim,
            "weights": sum(weight.numel() for weight in model.model.parameters()),
            "shape": list(model.model.shape),
            "classes": list(model.classes),
            "weights_sha256": digest.hexdigest(),
        },
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "split": subject.split,
            "images": len(subject.held_out),
            "images_sha256": _digest_of(subject.held_out),
            "protocol": protocol(subject),
        },
        "versus": None if versus is None else {"name": versus.name, "fingerprint": versus.fingerprint},
        "settings": dataclasses.asdict(subject.settings),
    }


def _digest_of(split: Split) -> str:
    """SHA-256 over images and labels of a split, in hexadecimal."""
    digest = hashlib.sha256(repr((split.images.shape, split.images.dtype.str)).encode())
    digest.update(split.images.data)
    if split.labels is not None:
        digest.update(split.labels.data)
    return digest.hexdigest()


def _section_json(section: Section) -> dict[str, Any]:
    plots = [plot for plot in section.plots if not isinstance(plot, Sheet)]
    return {
        "title": section.title,
        "words": list(section.words),
        "left_out": section.left_out,
        "seconds": round(section.seconds, 2),
        "quantities": {one.key: _plain(dataclasses.asdict(one)) for one in section.quantities},
        "plots": {plot.key: {"kind": type(plot).__name__} | _plain(dataclasses.asdict(plot)) for plot in plots},
    }


def _plain(value: Any) -> Any:
    """As JSON has it: NaN and infinity, which it does not know, become null; arrays become lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _keep(path: Path, section: Section, stamp: str) -> None:
    """A section as an .npz: its arrays, and a JSON of all else that names them. Where it cannot be written, it is not kept."""
    arrays: dict[str, np.ndarray] = {}

    def frozen(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[f"array{len(arrays)}"] = value
            return {"$array": f"array{len(arrays) - 1}"}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            own = {one.name: frozen(getattr(value, one.name)) for one in dataclasses.fields(value)}
            return {"$class": type(value).__name__, **own}
        if isinstance(value, frozenset):
            return {"$set": sorted(value)}
        if isinstance(value, list | tuple):
            return [frozen(item) for item in value]
        return value.item() if isinstance(value, np.generic) else value

    text = json.dumps({"stamp": stamp, "section": frozen(section)})
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, note=np.array(text), **arrays)
    except OutputError:
        return


def _read(path: Path, stamp: str) -> Section | None:
    """What `_keep` kept, if it is there, whole, and of the same stamp."""
    try:
        with np.load(path, allow_pickle=False) as file:
            note = json.loads(str(file["note"]))
            if note["stamp"] != stamp:
                return None
            arrays = {name: file[name] for name in file.files if name != "note"}

        def thawed(value: Any) -> Any:
            if isinstance(value, list):
                return tuple(thawed(item) for item in value)
            if not isinstance(value, dict):
                return value
            if "$array" in value:
                return arrays[value["$array"]]
            if "$set" in value:
                return frozenset(value["$set"])
            own = {name: thawed(item) for name, item in value.items() if name != "$class"}
            return getattr(parts, value["$class"])(**own)

        return thawed(note["section"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None
