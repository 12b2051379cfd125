"""Ask a model that `vaelab serve` serves, with the standard library only.

    vaelab serve runs/demo --port 8000
    python examples/client.py http://127.0.0.1:8000 sample --label 7 --label 3 --seed 1 --out sevens
    python examples/client.py http://127.0.0.1:8000 restyle seven.png --out every-digit
    python examples/client.py http://127.0.0.1:8000 score seven.png --label 7

`sample`, `reconstruct` and `restyle` write PNG files; `encode` and `score` print numbers. Images have the size of those that the
model was trained on. A server on another machine needs a token, in the environment variable VAELAB_SERVE_TOKEN.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRIES = 5


def ask(address: str, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Send a request and return the answer; a busy server is asked again after the time that it states."""
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("VAELAB_SERVE_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(f"{address.rstrip('/')}/v1/{name}", json.dumps(asked).encode(), headers)  # noqa: S310
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - the address that the user gave
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503 or not left:
                sys.exit(f"{error.code}: {json.load(error).get('detail', error.reason)}")
            time.sleep(float(error.headers.get("Retry-After", 1)))
        except OSError as error:
            sys.exit(f"{address}: {error}; is vaelab serve running?")
    raise AssertionError


def main(arguments: Sequence[str] | None = None) -> None:
    """Send one request, and print or write the answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="as vaelab serve prints it")
    parser.add_argument("name", choices=["sample", "encode", "reconstruct", "restyle", "score"])
    parser.add_argument("images", type=Path, nargs="*", help="PNG files")
    parser.add_argument("--label", action="append", help="class name of each image")
    parser.add_argument("--count", type=int, help="number of images to sample, for a model without labels")
    parser.add_argument("--seed", type=int, help="the same seed gives the same images")
    parser.add_argument("--out", type=Path, default=Path("images"), help="folder for PNG files")
    options = parser.parse_args(arguments)
    asked = {"labels": options.label, "count": options.count, "seed": options.seed}
    asked = {name: value for name, value in asked.items() if value is not None}
    if options.images:
        asked["images"] = [base64.b64encode(path.read_bytes()).decode() for path in options.images]
    answer = ask(options.address, options.name, asked)
    for row, found in enumerate(answer.pop("images", [])):
        for column, image in enumerate(found if isinstance(found, list) else [found]):
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / f"{row:03d}-{column:03d}.png").write_bytes(base64.b64decode(image))
    print(json.dumps(answer, ensure_ascii=False))


if __name__ == "__main__":
    main()
