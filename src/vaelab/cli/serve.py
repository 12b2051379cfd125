"""`vaelab serve`: a model over HTTP."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vaelab.cli.app import Flag, TrustCode, app
from vaelab.errors import ConfigError, StudioError
from vaelab.serving.limits import Limits

TOKEN = "VAELAB_SERVE_TOKEN"  # noqa: S105 - the name of a variable


@app.command
def serve(
    run: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token_file: Path | None = None,
    insecure: Flag = False,
    threads: int = 1,
    trust_code: TrustCode = False,
    limits: Annotated[Limits | None, Parameter(name="*")] = None,
) -> None:
    """Serve a model over HTTP, until Ctrl-C or SIGTERM. Needs: pip install "vaelab[serve]".

    Paths: POST /v1/sample, /v1/encode, /v1/reconstruct, /v1/restyle, /v1/score; GET /v1/model, /openapi.json, /healthz,
    /readyz, /metrics. A run is exported to ONNX once; the files are stored in RUN/serve.

    Parameters
    ----------
    run
        Run folder, or FILE.onnx of vaelab export.
    host
        Address to listen on. Other machines can reach any but 127.0.0.1 and ::1, and need a token.
    port
        Port. Default: a free one.
    token_file
        File with the token that requests must bear. Default: the environment variable VAELAB_SERVE_TOKEN, if it is set.
    insecure
        Serve other machines without a token.
    threads
        Number of threads for the model.
    """
    missing = [name for name in ("fastapi", "uvicorn", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise StudioError(
            f'{" and ".join(missing)} not installed; install what is needed with pip install "vaelab[serve]"'
        )
    from vaelab.serving.serve import serve as serve_model

    serve_model(
        run,
        host=host,
        port=port,
        token=os.environ.get(TOKEN) or None if token_file is None else _read_token(token_file),
        insecure=insecure,
        trust_code=trust_code,
        limits=limits,
        threads=threads,
        on_ready=lambda address: print(address, flush=True),
    )


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--token-file: {path} cannot be read ({error}); expected a file with one word") from error
