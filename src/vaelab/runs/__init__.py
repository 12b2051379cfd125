"""A run folder: configuration, weights in safetensors, and what resuming needs. Never pickle.

A run folder holds

- `config.json`: format version, hyper-parameters, facts of the data (shape, class names, fingerprint), versions (`run.py`);
- `model.safetensors`: the weights to use, with digests of themselves and of `config.json`, so that a changed file is detected
  (`weights.py`);
- `resume.safetensors`: the state of a training that can be resumed (`resume.py`);
- `previous/`: these two of the checkpoint before, for the case that the last is damaged;
- `metrics.jsonl`: one line of figures per validation (`metrics.py`);
- `figures/`: pictures.

Every file is written atomically, except `metrics.jsonl`, which grows.
"""

from vaelab.runs.figures import Averages, Sums
from vaelab.runs.metrics import append_metrics, keep_metrics, read_metrics
from vaelab.runs.recorder import Recorder
from vaelab.runs.resume import (
    NOTHING_DONE,
    expect_resumable,
    expect_unfinished,
    has_trained,
    last_budget,
    load_resume,
    resume_facts,
    save_resume,
    was_saved,
)
from vaelab.runs.run import (
    CONFIG,
    FIGURES,
    METRICS,
    PREVIOUS,
    RESUME,
    WEIGHTS,
    DataCard,
    Run,
    config_digest,
    create_run,
    expect_same_data,
    expect_trusted,
    open_run,
    read_budget,
    remove_temporaries,
    with_networks,
)
from vaelab.runs.weights import (
    Best,
    LatentStats,
    Origin,
    facts_of_weights,
    load_model,
    save_run,
    save_weights,
    saved_digest,
    weight_facts,
    weights_digest,
)

__all__ = [
    "CONFIG",
    "FIGURES",
    "METRICS",
    "NOTHING_DONE",
    "PREVIOUS",
    "RESUME",
    "WEIGHTS",
    "Averages",
    "Best",
    "DataCard",
    "LatentStats",
    "Origin",
    "Recorder",
    "Run",
    "Sums",
    "append_metrics",
    "config_digest",
    "create_run",
    "expect_resumable",
    "expect_same_data",
    "expect_trusted",
    "expect_unfinished",
    "facts_of_weights",
    "has_trained",
    "keep_metrics",
    "last_budget",
    "load_model",
    "load_resume",
    "open_run",
    "read_budget",
    "read_metrics",
    "remove_temporaries",
    "resume_facts",
    "save_resume",
    "save_run",
    "save_weights",
    "saved_digest",
    "was_saved",
    "weight_facts",
    "weights_digest",
    "with_networks",
]
