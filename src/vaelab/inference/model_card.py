"""The model card of a run on the Hugging Face Hub: README.md, with a header in YAML, made from the run and its report.

Source: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from vaelab import runs
from vaelab.checked_files import read_json
from vaelab.config import ModelName
from vaelab.errors import printable

REPORT = "report.json"
"""Name of the report in a run folder (docs/report.md)."""

KINDS: dict[ModelName, str] = {
    "ae": "autoencoder",
    "vae": "variational autoencoder",
    "cvae": "conditional variational autoencoder",
}


def model_card(run: runs.Run, name: str, files: tuple[str, ...], *, licence: str | None = None) -> str:
    """Return the card of a run in the repository `name`.

    The figures are those of `report.json` if it is of these weights, else those of the validation during training.

    Parameters
    ----------
    files
        Files that are sent with the card; pictures among them are shown.
    licence
        Identifier of the licence of the weights, such as mit; without it, none is stated.

    Raises
    ------
    RunError
        If the run has no weights, or they were changed.
    """
    rows, origin = (_measured(run) if REPORT in files else None) or _validated(run)
    kind, images = KINDS[run.config.model.model], len(run.data.shape) == 3
    source = printable(run.data.source)
    header: dict[str, Any] = {"library_name": "vaelab", "tags": ["vaelab", kind.replace(" ", "-")]}
    if licence is not None:
        header["license"] = licence
    if images:
        header["pipeline_tag"] = "unconditional-image-generation"
    metrics = [
        {"type": key, "name": ", ".join(filter(None, (row[0], row[3]))), "value": row[1]}
        for key, row in rows.items()
        if key in HEADLINES
    ]
    results = {"task": {"type": "generation"}, "dataset": {"name": source, "type": source}, "metrics": metrics}
    header["model-index"] = [{"name": name, "results": [results]}] if metrics else []
    yaml = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items() if value]  # JSON is YAML

    what = "×".join(map(str, run.data.shape)) + (" images" if images else " columns")
    model = run.config.model
    parts = [f"{model.latent_dim} latent dimensions", f"likelihood {model.likelihood}", f"network {model.network}"]
    about = [
        f"A {kind} trained with [vaelab](https://pypi.org/project/vaelab/) {run.versions['vaelab']} on {_text(source)}: "
        f"{run.data.train_count:,} training {'images' if images else 'rows'} ({what}). {'; '.join(parts)}."
    ]
    if classes := run.data.classes:
        shown = ", ".join(map(_text, classes[:20])) + (", …" if len(classes) > 20 else "")
        about.append(f"{len(classes):,} classes: {shown}.")
    pictures = [f"![{Path(file).stem}]({file})" for file in files if file.endswith(".png")]
    return "\n\n".join(
        [
            "\n".join(["---", *yaml, "---"]),
            f"# {_text(name)}",
            *about,
            "## Use",
            _use(run, name),
            "## Figures",
            origin,
            _table(rows),
            *pictures,
        ]
    ) + "\n"  # fmt: skip


Rows = dict[str, tuple[str, float, float | None, str]]
"""Name, value, standard error and unit of figures, by key."""

HEADLINES = ("negative_elbo", "bound", "distortion", "agreement", "fid")
"""The figures that the header has too, for the Hub's own tables."""


def _measured(run: runs.Run) -> tuple[Rows, str] | None:
    """Return the figures of `report.json` of which lower or higher is better, and their origin.

    None if there is no report, it is damaged, or it is of other weights.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        report = read_json(run.folder / REPORT, follow_links=False)
        if report["model"]["weights_sha256"] != runs.saved_digest(run):
            return None
        rows: Rows = {
            key: (value["name"], float(value["value"]), value["error"] and float(value["error"]), value["unit"])
            for section in report["sections"].values()
            for key, value in section["quantities"].items()
            if value["better"] and value["value"] is not None
        }
        data = report["data"]
        return (
            rows,
            f"Measured by `vaelab evaluate` on {data['images']:,} {data['split']} images of {_text(data['name'])}.",
        )
    return None


def _validated(run: runs.Run) -> tuple[Rows, str]:
    facts, unit = runs.weight_facts(run), "nats per image"
    if "distortion" not in facts:
        return {}, "None were measured."
    rows: Rows = {"distortion": ("distortion", facts["distortion"], None, unit)}
    if run.config.model.model != "ae":
        rows |= {
            "rate": ("rate", facts["rate"], None, unit),
            "negative_elbo": ("−ELBO", facts["distortion"] + facts["rate"], None, unit),
        }
    return rows, "Measured on the validation images during training, which also selected the weights."


def _use(run: runs.Run, name: str) -> str:
    """Return how to load and use the model."""
    given = ", trust_code=True" if run.custom else ""
    sample = f"labels=[{run.data.classes[0]!r}] * 16" if run.config.model.model == "cvae" else "count=16"
    lines = ["```sh", 'pip install "vaelab[hub]"', f"vaelab pull {name} --out model", "```", "", "```python"]
    lines += ["import vaelab", "", f'model = vaelab.load("model"{given})', f"generated = model.sample({sample})", "```"]
    if run.custom:
        lines += ["", f"Loading it imports {' and '.join(map(_text, run.custom))}, which are not in this repository."]
    return "\n".join(lines)


def _table(rows: Rows) -> str:
    lines = ["| figure | value | unit |", "| --- | --- | --- |"]
    for name, value, error, unit in rows.values():
        lines.append(f"| {_text(name)} | {value:.4g}{'' if error is None else f' ± {error:.2g}'} | {_text(unit)} |")
    return "\n".join(lines) if rows else ""


def _text(text: str) -> str:
    """Return a text of others as Markdown that shows it as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#!&])", r"\\\1", printable(text))
