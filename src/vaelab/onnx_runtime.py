"""onnxruntime without telemetry: the only module that imports it.

From version 1.30 or so, onnxruntime writes a device identifier under the user's cache folder and reports to its maker when a
session is created, unless the variable is set before it is imported. The function is for a program that imported it earlier.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry disabled."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def open_session(model: Path | bytes, threads: int = 0) -> InferenceSession:
    """Return a session of an ONNX file, or of its content, on the CPU; what goes wrong is raised, not printed.

    `threads` is the number of threads of an operator; 0: onnxruntime's default.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads take no time of others
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
