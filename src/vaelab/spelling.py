"""Spelling of options: for the parameters that the library's messages name, and for options renamed since the last release.

The library names a parameter in backticks, alone or with a value: `count`, `model='vae'`, `resume=True`. The command line
prints --count, --model vae, --resume.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Sequence

ARGUMENTS = {"run": "RUN", "source": "SOURCE", "images": "IMAGES", "labels": "--label", "under": "--label"}
"""Parameters that the commands do not spell as --parameter; the same in every command."""

RENAMED = {
    "--rungs": "--levels",
    "--mixing": "--spatial-mixing",
    "--finish-samples": "--iwae-samples",
    "--finish": "--iwae-fraction",
}
"""Options of `vaelab train` by their names in 0.1; accepted until the next release."""

_PARAMETER = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")


def option(parameter: str) -> str:
    """Return the option of a parameter, such as --latent-dim for latent_dim."""
    return "--" + parameter.replace("_", "-")


def with_options(text: str) -> str:
    """Return a text of the library with the parameters in backticks spelled as options; commands in backticks stay."""
    return _PARAMETER.sub(lambda match: _spelled(match[1], match[2]), text)


def _spelled(parameter: str, value: str | None) -> str:
    spelling = ARGUMENTS.get(parameter, option(parameter))
    if value is None:
        return spelling
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        literal = value
    if literal is True:
        return spelling
    items = literal if isinstance(literal, list | tuple) else [literal if isinstance(literal, str) else value]
    if spelling == "--label":
        return " ".join(f"{spelling} {shlex.quote(str(item))}" for item in items)
    return f"{spelling} {('x' if parameter == 'size' else ',').join(map(str, items))}"


def with_current_names(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words of a command line with renamed options under their current names, and a notice for each option."""
    current, notices = [], {}
    for word in words:
        name, *value = word.split("=", 1)
        if name in RENAMED:
            notices[name] = f"{name} is now {RENAMED[name]}; the old name will be removed in the next release"
        current.append("=".join([RENAMED.get(name, name), *value]))
    return current, list(notices.values())
