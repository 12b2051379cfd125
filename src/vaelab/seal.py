"""A seal on what this user has written into a folder that others may have written to as well.

The seal is an HMAC-SHA256 of the content with a secret of the user: 32 random bytes in the cache folder that others cannot read.
Without a cache folder that can be written to, a secret lasts as long as the program.
"""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from vaelab.checked_files import is_private, read_regular
from vaelab.data.cache import cache_folder

LENGTH = 32  # bytes of a secret
SECRET = "seal.key"  # noqa: S105 - the name of its file

_temporary = secrets.token_bytes(LENGTH)


def sealed(content: bytes) -> bytes:
    """Return a content after its seal, in one line."""
    return _seal(content) + b"\n" + content


def unsealed(text: bytes) -> bytes | None:
    """Return the content that this user has sealed; None if the seal is not right."""
    seal, _, content = text.partition(b"\n")
    return content if hmac.compare_digest(seal, _seal(content)) else None


def _seal(content: bytes) -> bytes:
    return hmac.new(_secret(), content, "sha256").hexdigest().encode()


def _secret() -> bytes:
    """Return the secret of this user, made at the first call."""
    path = cache_folder() / SECRET
    with suppress(OSError):
        if is_private(path) and len(secret := read_regular(path, LENGTH, follow_links=False)) == LENGTH:
            return secret
    with suppress(OSError):
        return _made(path)
    return _temporary


def _made(path: Path) -> bytes:
    """Write a new secret, atomically; if another process is doing the same, the last one counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = secrets.token_bytes(LENGTH)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # readable by the user only
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secret)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    return secret
