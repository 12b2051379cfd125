"""Import paths of custom networks, by which a run names them."""

from __future__ import annotations

import re
import sys

from vaelab.errors import ConfigError


def import_path(name: str, network: object) -> str:
    """Return the import path `package.module:Name` of a custom network, which a run stores beside its weights.

    Parameters
    ----------
    name
        The parameter it was given for, `encoder` or `decoder`.
    network
        An import path, or a class or function that makes the network.

    Raises
    ------
    ConfigError
        If it is neither, or cannot be imported again by that path, such as a class defined in a function or a script.
    """
    if isinstance(network, str):
        if re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", network) is None:
            raise ConfigError(f"`{name}`: got {network!r}; expected an import path, such as my_networks:{name.title()}")
        module, qualified = network.split(":")
        if module.endswith(".py"):
            path = f"{module.removesuffix('.py')}:{qualified}"
            raise ConfigError(f"`{name}`: got {network!r}; expected an import path, without .py: {path}")
    else:
        module, qualified = getattr(network, "__module__", None), getattr(network, "__qualname__", None)
        if not callable(network) or module is None or qualified is None:
            example = name.title()
            raise ConfigError(
                f"`{name}`: got an object of type {type(network).__name__}; expected a class ({name}={example}, not "
                f"{name}={example}()) or its import path, such as my_networks:{example}"
            )
    if module == "__main__" or "<" in qualified:
        place = "a function" if "<" in qualified else "a script or notebook"
        raise ConfigError(
            f"`{name}`: got {qualified}, which is defined in {place} and cannot be imported again; expected a class at "
            "the top level of a module: put it into my_networks.py and write from my_networks import "
            f"{qualified.rpartition('.')[2].strip('<>')}"
        )
    if not isinstance(network, str) and _imported(module, qualified) is not network:
        raise ConfigError(
            f"`{name}`: got an object named {module}:{qualified}, but that name refers to something else; expected a "
            "class at the top level of a module, under its own name"
        )
    return f"{module}:{qualified}"


def _imported(module: str, qualified: str) -> object:
    found: object = sys.modules.get(module)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found
