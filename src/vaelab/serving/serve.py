"""Serve a model on an address until Ctrl-C or SIGTERM."""

from __future__ import annotations

import gc
import ipaddress
from collections.abc import Callable
from pathlib import Path

from vaelab.errors import ConfigError
from vaelab.serving.api import serving_app
from vaelab.serving.files import onnx_files
from vaelab.serving.limits import Limits
from vaelab.serving.listening import HOST, listen, local_hosts, run, server_of
from vaelab.serving.model import OnnxModel


def serve(
    path: Path,
    *,
    host: str = HOST,
    port: int | None = None,
    token: str | None = None,
    insecure: bool = False,
    trust_code: bool = False,
    limits: Limits | None = None,
    threads: int = 1,
    on_ready: Callable[[str], None],
) -> None:
    """Serve a model until Ctrl-C or SIGTERM; open requests are answered first.

    Parameters
    ----------
    path
        Run folder, or ONNX file of `vaelab export`.
    host
        Address to listen on.
    port
        Port; None: a free one.
    token
        Token that requests must bear; None: none.
    insecure
        Whether to serve without a token on an address that other machines can reach.
    trust_code
        Import the custom networks that a run names, to export it.
    limits
        Limits on requests.
    threads
        Number of threads of onnxruntime.
    on_ready
        Called with the URL when requests are answered.

    Raises
    ------
    ConfigError
        If a parameter is invalid, the port is not available, or a token is missing.
    VaelabError
        As `onnx_files` and `OnnxModel` raise.
    """
    limits = Limits() if limits is None else limits
    if not 1 <= threads <= 1024:
        raise ConfigError(f"`threads`: got {threads}; expected 1 to 1024")
    if token is not None and not (token.isascii() and token.isprintable() and token and " " not in token):
        raise ConfigError(
            "`token_file`: got a token with other characters than printable ASCII ones; expected one word"
        )
    with listen(port, host) as listening:
        address, number, *_ = listening.getsockname()
        local = ipaddress.ip_address(address).is_loopback
        if not local and token is None and not insecure:
            raise ConfigError(
                f"`host`: got {host}, which other machines can reach, and no token; give `token_file`, or `insecure=True` to "
                "serve everyone"
            )
        model = OnnxModel(onnx_files(path, trust_code=trust_code), threads)
        hosts = local_hosts(number) if local else None
        app = serving_app(model, limits, hosts=hosts, token=token, stopping=lambda: server.should_exit)
        server = server_of(app, drain=limits.timeout)
        gc.freeze()  # what lives until the end is not searched for garbage again, which takes a tenth of a second
        on_ready(f"http://{f'[{address}]' if ':' in address else address}:{number}/")
        run(server, listening)
