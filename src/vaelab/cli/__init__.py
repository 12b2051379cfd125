"""The command line: reads options, calls the package, says what came of it. No mathematics here.

A command imports torch only when it runs, so that `--help` is instant. A user's mistake ends with status 2 and one line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from vaelab.cli.app import INTERRUPTED, app  # isort: skip - first: its clock is where a budget in seconds begins

from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError

from vaelab.acceleration.openmp import wait_policy
from vaelab.cli import evaluate, explore, export, generate, studio, train
from vaelab.errors import TrainingError, VaelabError, did_you_mean

__all__ = ["app", "evaluate", "explore", "export", "generate", "main", "studio", "train"]


def _one_line(error: Exception) -> str:
    if isinstance(error, CycloptsError):
        command = " ".join(["vaelab", *(error.command_chain or ())])
        if isinstance(error, MissingArgumentError) and error.argument is not None:
            name = error.argument.name
            for word in error.unused_tokens or ():
                if word != name and (near := did_you_mean(word, [name])):
                    return f"got {word!r}, which {command} does not take; expected an option of its own.{near}"
            return f"{name}: got nothing; expected a value: see {command} --help"
        if isinstance(error, UnusedCliTokensError):
            words = " ".join(error.unused_tokens or ())
            return f"got {words!r} beyond what {command} takes; expected it left out: see {command} --help"
    return " ".join(str(error).split())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line and status 2."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        command = (sys.argv[1:] if arguments is None else arguments)[:1]
        os.environ.update(wait_policy(trains=list(command) == ["train"]))
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except (CycloptsError, VaelabError) as error:
        print(f"vaelab: {_one_line(error)}", file=sys.stderr)
        raise SystemExit(1 if isinstance(error, TrainingError) else 2) from None
    except KeyboardInterrupt:
        print("vaelab: interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
