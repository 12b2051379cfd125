"""The report: measures all sections of an evaluation and writes them as JSON.

With a cache folder, a section that this user has measured before with the same model, data, settings and version is read back,
not recomputed. A section of somebody else is not believed (`vaelab.seal`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from vaelab import distributed
from vaelab.checked_files import read_regular
from vaelab.data.dataset import Dataset, Split
from vaelab.errors import ConfigError, OutputError, did_you_mean, printable
from vaelab.evaluation import results
from vaelab.evaluation.agreement import agreement_section
from vaelab.evaluation.autoencoder import random_points_section
from vaelab.evaluation.bayes import bayes_section
from vaelab.evaluation.context import EvaluationContext, Settings
from vaelab.evaluation.diagnosis import diagnosis_section
from vaelab.evaluation.image_network import FORMAT
from vaelab.evaluation.latent_section import latent_section
from vaelab.evaluation.leakage import leakage_section
from vaelab.evaluation.likelihood import likelihood_section, protocol
from vaelab.evaluation.memorization import memorization_section
from vaelab.evaluation.ood import ood_section
from vaelab.evaluation.results import SCHEMA, Section, Sheet
from vaelab.evaluation.samples import samples_section
from vaelab.evaluation.style_section import style_section
from vaelab.evaluation.train_on_synthetic import train_on_synthetic_section
from vaelab.evaluation.work import Work, silent
from vaelab.files import atomic_write
from vaelab.inference.trained import TrainedModel
from vaelab.runs import config_digest, open_run, read_metrics, weights_digest
from vaelab.seal import sealed, unsealed
from vaelab.version import __version__

SECTIONS: dict[str, Callable[[EvaluationContext], Section]] = {
    "diagnosis": diagnosis_section,
    "likelihood": likelihood_section,
    "latent": latent_section,
    "agreement": agreement_section,
    "transfer": train_on_synthetic_section,
    "leakage": leakage_section,
    "bayes": bayes_section,
    "samples": samples_section,
    "memory": memorization_section,
    "style": style_section,
    "random_points": random_points_section,
    "outliers": ood_section,
}
"""The sections of a report, in order."""

SAMPLES, QUICK_SAMPLES = 500, 50
"""K of the importance-weighted bound, and in quick mode."""

SHARED = frozenset({"likelihood", "bayes", "outliers"})
"""Sections that several processes measure together, each with its share of the images; the first measures the others alone."""

OF_VERSUS = frozenset({"outliers"})
"""Sections that also use `versus`; cached results of the others stay valid when it changes."""

MAX_SECTION_BYTES = 1_000_000_000
"""Largest section that is read from the cache."""

FINISHED = "sections"
"""Task name under which the progress callback receives the number of finished sections."""


@dataclass(frozen=True)
class Report:
    """The results of an evaluation.

    Attributes
    ----------
    facts
        Model, likelihood, data, split, fingerprint, settings, version and date.
    sections
        The sections in order; a section that could not be measured gives the reason in `left_out`.
    """

    facts: dict[str, Any]
    sections: tuple[Section, ...] = field(repr=False)

    def __getitem__(self, key: str) -> Section:
        """Return the section with the given key; raise KeyError if there is none."""
        return {section.key: section for section in self.sections}[key]

    @property
    def lines(self) -> tuple[str, ...]:
        """One line per section: its title and first sentence, or the reason it was left out."""
        return tuple(printable(f"{section.title}: {_first_sentence(section)}") for section in self.sections)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def to_json(self) -> dict[str, Any]:
        """Return the contents of `report.json` (see docs/report.md). Image sheets are only on the HTML page."""
        return {
            "schema": SCHEMA,
            **self.facts,
            "sections": {section.key: _section_json(section) for section in self.sections},
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to a file, atomically. `vaelab.save_page` writes the HTML page."""
        with atomic_write(Path(path)) as temporary:
            text = json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of undecodable bytes


def evaluate(
    model: TrainedModel,
    dataset: Dataset,
    *,
    importance_samples: int | None = None,
    quick: bool = False,
    seed: int = 0,
    versus: Dataset | None = None,
    run: str | os.PathLike[str] | None = None,
    sections: Sequence[str] | None = None,
    cache: Path | None = None,
    work: Work = silent,
) -> Report:
    """Evaluate a model on the held-out images of a dataset.

    Parameters
    ----------
    model
        A trained model, as returned by `vaelab.load`.
    dataset
        The model is measured on its test images, or on its validation images if it has no test images. The training images
        train the reference classifier and are compared with generated images.
    importance_samples
        K of the importance-weighted bound. Default: 500, in quick mode 50.
    quick
        Use fewer images and samples, for a first result in one to three minutes.
    seed
        Seed of all random draws.
    versus
        Data of the same shape from another source, to measure how well the model detects them as outliers.
    run
        Run folder of the model, from which the diagnosis takes the settings and the validation figures of the training.
    sections
        Keys of the sections to measure; default: all.
    cache
        Folder for finished sections, from which an interrupted evaluation resumes; default: none.
    work
        Progress callback: task, steps done, total. It also receives the number of finished sections, as task `FINISHED`.

    Raises
    ------
    DataError, LabelError
        If the data do not fit the model, or have no held-out images.
    ConfigError
        If `importance_samples` is below 1, `seed` is below 0, or `sections` has an unknown name.
    """
    if importance_samples is None:
        importance_samples = QUICK_SAMPLES if quick else SAMPLES
    if importance_samples < 1:
        raise ConfigError(f"`importance_samples`: got {importance_samples}; expected a whole number of at least 1")
    if seed < 0:
        raise ConfigError(f"`seed`: got {seed}; expected a whole number of at least 0")
    chosen = list(SECTIONS) if sections is None else [key for key in SECTIONS if key in sections]
    if unknown := sorted(set(sections or ()) - set(SECTIONS)):
        raise ConfigError(
            f"`sections`: got {unknown[0]!r}; expected any of {', '.join(SECTIONS)}.{did_you_mean(unknown[0], SECTIONS)}"
        )
    context = EvaluationContext(
        model,
        dataset,
        Settings(importance_samples, quick, seed),
        work,
        versus,
        None if run is None else open_run(Path(run)),
    )
    facts = _facts(context)
    done = []
    for key in chosen:
        work(FINISHED, len(done), len(chosen))
        done.append(_measure(key, context, None if cache is None else cache / f"{key}.section", facts))
    work(FINISHED, len(done), len(chosen))
    return Report(facts | {"made": datetime.now(UTC).isoformat(timespec="seconds")}, tuple(done))


def _measure(key: str, context: EvaluationContext, cached: Path | None, facts: dict[str, Any]) -> Section:
    """Read a section from the file `cached` if it is up to date; else measure it and write the file."""
    relevant = facts if key in OF_VERSUS else facts | {"versus": None}
    if key == "diagnosis" and context.run is not None:
        relevant |= {"config": config_digest(context.run), "validations": len(read_metrics(context.run))}
    stamp = hashlib.sha256(json.dumps([SCHEMA, FORMAT, key, relevant], sort_keys=True).encode()).hexdigest()
    first = distributed.is_first()
    found = None if cached is None or not first else _read_cache(cached, stamp)
    if (section := distributed.broadcast(found)) is not None:
        return section
    began = time.perf_counter()
    section = SECTIONS[key](context) if first or key in SHARED else None
    if section is None or key not in SHARED:
        section = distributed.broadcast(section)
    assert section is not None
    section = dataclasses.replace(section, seconds=time.perf_counter() - began)
    if cached is not None and first:
        _write_cache(cached, section, stamp)
    return section


def _first_sentence(section: Section) -> str:
    return f"left out: {section.left_out}" if section.left_out else (*section.words, "measured.")[0]


def _facts(context: EvaluationContext) -> dict[str, Any]:
    model, data, versus = context.model, context.dataset, context.versus
    return {
        "vaelab": __version__,
        "model": {
            "kind": model.kind,
            "likelihood": model.likelihood,
            "latent_dim": model.model.latent_dim,
            "weights": sum(weight.numel() for weight in model.model.parameters()),
            "shape": list(model.model.shape),
            "classes": list(model.classes),
            "weights_sha256": weights_digest(model.model.state_dict()),
        },
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "split": context.split,
            "images": len(context.held_out),
            "images_sha256": _digest_of(context.held_out),
            "protocol": protocol(context),
        },
        "versus": None if versus is None else {"name": versus.name, "fingerprint": versus.fingerprint},
        "settings": dataclasses.asdict(context.settings),
    }


def _digest_of(split: Split) -> str:
    """Return the SHA-256 of the images and labels of a split, in hexadecimal."""
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
    """Convert to JSON types: arrays become lists; NaN and infinity, which JSON lacks, become null."""
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


def _write_cache(path: Path, section: Section, stamp: str) -> None:
    """Write a section as .npz after a seal: its arrays, and JSON for the rest. Do nothing if the file cannot be written."""
    arrays: dict[str, np.ndarray] = {}

    def encoded(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[f"array{len(arrays)}"] = value
            return {"$array": f"array{len(arrays) - 1}"}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {one.name: encoded(getattr(value, one.name)) for one in dataclasses.fields(value)}
            return {"$class": type(value).__name__, **fields}
        if isinstance(value, frozenset):
            return {"$set": sorted(value)}
        if isinstance(value, list | tuple):
            return [encoded(item) for item in value]
        return value.item() if isinstance(value, np.generic) else value

    text = json.dumps({"stamp": stamp, "section": encoded(section)})
    content = BytesIO()
    np.savez_compressed(content, allow_pickle=False, note=np.array(text), **arrays)
    with suppress(OutputError), atomic_write(path) as temporary:
        temporary.write_bytes(sealed(content.getvalue()))


def _read_cache(path: Path, stamp: str) -> Section | None:
    """Read a section written by `_write_cache` of this user; None if it is missing, damaged or has another stamp."""
    try:
        content = unsealed(read_regular(path, MAX_SECTION_BYTES, follow_links=False))
        if content is None:
            return None
        with np.load(BytesIO(content), allow_pickle=False) as file:
            note = json.loads(str(file["note"]))
            if note["stamp"] != stamp:
                return None
            arrays = {name: file[name] for name in file.files if name != "note"}

        def decoded(value: Any) -> Any:
            if isinstance(value, list):
                return tuple(decoded(item) for item in value)
            if not isinstance(value, dict):
                return value
            if "$array" in value:
                return arrays[value["$array"]]
            if "$set" in value:
                return frozenset(value["$set"])
            fields = {name: decoded(item) for name, item in value.items() if name != "$class"}
            return getattr(results, value["$class"])(**fields)

        return decoded(note["section"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None
