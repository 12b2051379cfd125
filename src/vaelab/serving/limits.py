"""Limits on the requests to a served model."""

from __future__ import annotations

from dataclasses import dataclass

from vaelab.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Limits of a server."""

    max_images: int = 64
    """Maximum number of images per request, given or asked for."""

    max_pixels: int = 2**24
    """Maximum number of values that the model computes for a request: images × labels or draws × pixels × channels."""

    max_body: int = 2**23
    """Maximum size of a request in bytes."""

    queue: int = 256
    """Maximum number of requests at the same time; more are refused with status 503."""

    timeout: float = 30.0
    """Maximum time for an answer in seconds. Requests that are open when the server is stopped have as much."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 1 <= value < 2**40:
                raise ConfigError(f"`{name}`: got {value}; expected a number of at least 1")
