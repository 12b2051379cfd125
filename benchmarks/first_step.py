"""Run a command and exit after its first training step, to measure the time to that step.

python benchmarks/first_step.py step train mnist --out FOLDER               # `compiled`: after the first compiled step
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any


class EndAfter(MetaPathFinder):
    """Import hook for `vaelab.training.trainer`: exits the process after its first step, or first compiled step."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of the module with a wrapped `take_step`."""
        if fullname != "vaelab.training.trainer":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_wrap(module: ModuleType) -> None:
            execute(module)
            module.Trainer.take_step = self._ending(module.Trainer.take_step)

        spec.loader.exec_module = execute_and_wrap
        return spec

    def _ending(self, take_step: Any) -> Any:
        def step(trainer: Any, fraction: float) -> None:
            last = self.kind == "step" or trainer.compiled
            take_step(trainer, fraction)
            if last:
                trainer.take_sums()  # waits for the device
                os._exit(0)

        return step


def main() -> None:
    """Run the command in `sys.argv` after its first word."""
    sys.meta_path.insert(0, EndAfter(sys.argv.pop(1)))
    from vaelab.cli import main as command_line

    try:
        command_line()
    finally:
        sys.stderr.flush()
        os._exit(1)  # the command ended without such a step


if __name__ == "__main__":
    main()
