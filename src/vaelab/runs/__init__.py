"""A run folder: configuration, weights in safetensors, and what resuming needs. Never pickle.

A run folder holds

- `config.json`: format version, hyper-parameters, facts of the data (shape, class names, fingerprint), versions (`run.py`);
- `model.safetensors`: the weights to use, with digests of themselves and of `config.json`, so that a changed file is detected
  (`weights.py`);
- `resume.safetensors`: the state of a training that can be resumed (`resume.py`);
- `metrics.jsonl`: one line of figures per validation (`metrics.py`);
- `figures/`: pictures.

Every file is written atomically, except `metrics.jsonl`, which grows.
"""

from vaelab.runs.metrics import append_metrics, drop_metrics_after, read_metrics
from vaelab.runs.resume import expect_unfinished, has_trained, last_budget, load_resume, resume_facts, save_resume
from vaelab.runs.run import (
    CONFIG,
    FIGURES,
    METRICS,
    RESUME,
    WEIGHTS,
    DataCard,
    Run,
    create_run,
    discard,
    expect_same_data,
    expect_trusted,
    open_run,
    read_budget,
    with_networks,
)
from vaelab.runs.weights import LatentStats, load_model, save_weights, weight_facts

__all__ = [
    "CONFIG",
    "FIGURES",
    "METRICS",
    "RESUME",
    "WEIGHTS",
    "DataCard",
    "LatentStats",
    "Run",
    "append_metrics",
    "create_run",
    "discard",
    "drop_metrics_after",
    "expect_same_data",
    "expect_trusted",
    "expect_unfinished",
    "has_trained",
    "last_budget",
    "load_model",
    "load_resume",
    "open_run",
    "read_budget",
    "read_metrics",
    "resume_facts",
    "save_resume",
    "save_weights",
    "weight_facts",
    "with_networks",
]
