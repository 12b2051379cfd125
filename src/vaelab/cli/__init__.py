"""Command line: options, calls of the library, and what is printed. No mathematics.

A command imports torch only when it runs, so that --help is fast. A user's mistake is printed as one line, with status 2.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from vaelab.cli.app import INTERRUPTED, app  # isort: skip - first: the total time starts with its clock

from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError

from vaelab.cli import (
    augment,
    data,
    detect,
    diagnose,
    evaluate,
    explore,
    export,
    generate,
    hub,
    serve,
    several,
    studio,
    train,
)
from vaelab.errors import RunWarning, TrainingError, VaelabError, did_you_mean, printable, shortened
from vaelab.spelling import with_current_names, with_options

ORDER = (
    *("train", "sample", "reconstruct", "encode", "score", "evaluate", "diagnose", "compare", "detect", "augment"),
    *("traverse", "interpolate", "manifold", "restyle", "posterior", "studio", "serve"),
    *("export", "push", "pull", "data"),
)
"""The commands in the order of use, in which the help lists them."""

for rank, name in enumerate(ORDER):
    app[name].sort_key = rank

__all__ = [
    "app",
    "augment",
    "data",
    "detect",
    "diagnose",
    "evaluate",
    "explore",
    "export",
    "generate",
    "hub",
    "main",
    "serve",
    "studio",
    "train",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: `arguments`, or those of the process.

    Raises
    ------
    SystemExit
        With status 0; 1 if training failed; 2 after a user's mistake, printed as one line; 130 after Ctrl-C.
    """
    words, notices = with_current_names(sys.argv[1:] if arguments is None else arguments)
    _set_wait_policy(trains=words[:1] == ["train"])
    for notice in notices if several.is_first() else ():
        print(f"vaelab: {notice}", file=sys.stderr)
    several.words = words
    if several.is_one_of_several():
        status = several.run_together(lambda: _run(words))
    else:
        status, message = _run(words)
        if message:
            print(shortened(f"vaelab: {message}"), file=sys.stderr)
    if status:
        raise SystemExit(status)


def _run(words: Sequence[str]) -> tuple[int, str]:
    """Run a command and return its exit status, and the message if it failed."""
    try:
        several.expect_one_process()
        with _notes():
            app(words, exit_on_error=False, print_error=False)
    except (CycloptsError, VaelabError) as error:
        status = 1 if isinstance(error, TrainingError) else 2
        return status, printable(_one_line(error))
    except KeyboardInterrupt:
        return INTERRUPTED, "interrupted" if several.is_first() else ""
    return 0, ""


@contextmanager
def _notes() -> Iterator[None]:
    """Within it, a RunWarning is printed as a note, once."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", RunWarning)
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if not several.is_first():
                return
            if issubclass(category, RunWarning):
                print(f"note: {printable(with_options(str(message)))}", file=sys.stderr)
            else:
                show(message, category, *rest)

        warnings.showwarning = note
        yield


def _set_wait_policy(*, trains: bool) -> None:
    """Set how OpenMP's threads wait, before PyTorch is imported, unless the user has or acceleration is not installed."""
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        return
    with suppress(ModuleNotFoundError):
        from vaelab.acceleration.openmp import wait_policy

        os.environ.update(wait_policy(trains=trains))


def _one_line(error: Exception) -> str:
    if isinstance(error, CycloptsError):
        command = " ".join(["vaelab", *(error.command_chain or ())])
        if isinstance(error, MissingArgumentError) and error.argument is not None:
            name = error.argument.name
            for word in error.unused_tokens or ():
                if word != name and (hint := did_you_mean(word, [name])):
                    return f"got {word!r}, which is not an option of {command}.{hint}"
            return f"{name}: got nothing; expected a value: see {command} --help"
        if isinstance(error, UnusedCliTokensError):
            words = " ".join(error.unused_tokens or ())
            return f"got {words!r}, which {command} does not take; leave it out: see {command} --help"
        return " ".join(str(error).split())
    return with_options(str(error))
