"""Load on `vaelab serve`: many clients, overload, half-open connections, and requests that schemathesis makes up.

    python benchmarks/soak/serve.py RUN                         # 64 clients for 10 minutes, 10,000 cases; needs the package index
    python benchmarks/soak/serve.py RUN --seconds 60 --cases 0  # one minute, without schemathesis

Everything stays on 127.0.0.1. The clients run in this process, on the machine of the server. Status 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

SCHEMATHESIS = "schemathesis==4.*"
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
QUEUE = 64
"""Requests that the server takes at a time in the test of overload."""

P99, P99_HALF_OPEN, REFUSED_WITHIN, RECOVERED_WITHIN = 0.150, 0.250, 1.0, 5.0
"""Limits in seconds."""

MEMORY = 1.05
"""Most memory at the end relative to that after the first third."""


class Server(NamedTuple):
    """A server in another process."""

    port: int
    process: psutil.Process


class Answer(NamedTuple):
    """Status of an answer, 0 if the connection failed, and its time in seconds."""

    status: int
    seconds: float


@contextmanager
def serving(path: Path, *options: str) -> Iterator[Server]:
    """Serve a run or an ONNX file; stops the server with SIGTERM, and expects status 0."""
    words = [sys.executable, "-W", "error", "-m", "vaelab", "serve", str(path), *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        address = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\n", process.stdout.readline())
        assert address, "the server did not start"
        yield Server(int(address[1]), psutil.Process(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def request_for(port: int, path: str, body: object = None) -> bytes:
    """Return a request in HTTP: POST if there is a body."""
    content = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def answers_of(port: int, request: bytes, until: float, pause: float = 0.0) -> list[Answer]:
    """Send a request again and again on one connection until a time, and return the answers."""
    answers: list[Answer] = []
    reader, writer = asyncio.StreamReader(), None
    while time.perf_counter() < until:
        started = time.perf_counter()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length
            await reader.readexactly(int(length[1]))
            answers.append(Answer(int(head[9:12]), time.perf_counter() - started))
        except (OSError, asyncio.IncompleteReadError):
            answers.append(Answer(0, time.perf_counter() - started))
            writer = None
        await asyncio.sleep(pause)
    if writer is not None:
        writer.close()
    return answers


async def load(port: int, requests: Sequence[bytes], seconds: float, pause: float = 0.0) -> list[Answer]:
    """Return the answers that clients get, one client per request, each as fast as it is answered."""
    until = time.perf_counter() + seconds
    clients = await asyncio.gather(*(answers_of(port, request, until, pause) for request in requests))
    return [answer for client in clients for answer in client]


def percentile(answers: Sequence[Answer], share: float) -> float:
    """Return the time in seconds within which this share of the answers came."""
    times = sorted(answer.seconds for answer in answers)
    return times[min(len(times) - 1, int(share * len(times)))]


def summary(answers: Sequence[Answer]) -> str:
    """Return number, status and times of answers as text."""
    times = ", ".join(f"p{100 * share:g} {1000 * percentile(answers, share):.0f} ms" for share in (0.5, 0.99, 1))
    return f"{len(answers):,} answers {dict(Counter(answer.status for answer in answers))}, {times}"


async def half_open(port: int, count: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open connections that send half a request: half of them half a header, the others half a body."""
    connections = []
    for number in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        whole = request_for(port, "/v1/sample", {"labels": []})
        writer.write(whole[: 20 if number % 2 else -4])
        connections.append((reader, writer))
    return connections


def is_dropped(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bool:
    """Return whether the server has ended a connection."""
    reader, writer = connection
    return reader.at_eof() or reader.exception() is not None or writer.is_closing()


def image_requests(port: int, clients: int) -> list[bytes]:
    """Return a request for one image for each client, with different labels and seeds."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/model") as answer:
        model = json.load(answer)
    return [
        request_for(
            port,
            "/v1/sample",
            {
                "seed": number,
                **({"labels": [model["classes"][number % len(model["classes"])]]} if model["model"] == "cvae" else {}),
            },
        )
        for number in range(clients)
    ]


def steady(path: Path, *, clients: int, seconds: float, pause: float) -> dict[str, bool]:
    """Measure clients that ask for one image each, and the memory of the server."""
    with serving(path) as server:
        requests = image_requests(server.port, clients)
        answers, memory = [], []
        for _ in range(3):
            answers += asyncio.run(load(server.port, requests, seconds / 3, pause))
            memory.append(server.process.memory_info().rss)
        print(f"{clients} clients for {seconds:g} s, {1000 * pause:g} ms between requests: {summary(answers)};")
        print(
            f"  {len(answers) / seconds:.0f} answers/s; memory {', '.join(f'{each / 1e6:.1f}' for each in memory)} MB"
        )
        return {
            "no error": all(answer.status == 200 for answer in answers),
            f"p99 <= {1000 * P99:g} ms": percentile(answers, 0.99) <= P99,
            "memory flat": memory[-1] <= MEMORY * memory[0],
        }


def overload(path: Path, *, seconds: float) -> dict[str, bool]:
    """Measure four times as many clients as the server takes requests, and the first answers afterwards."""
    with serving(path, "--queue", str(QUEUE)) as server:
        requests = image_requests(server.port, 4 * QUEUE)
        answers = asyncio.run(load(server.port, requests, seconds))
        refused = [answer for answer in answers if answer.status == 503]
        started = time.perf_counter()
        after = asyncio.run(load(server.port, requests[:1], 1.0))
        recovered = time.perf_counter() - started - 1.0 + after[0].seconds
        print(f"{4 * QUEUE} clients for {seconds:g} s, of which the server takes {QUEUE}: {summary(answers)};")
        print(f"  503 within {max((each.seconds for each in refused), default=0):.2f} s; afterwards {summary(after)}")
        return {
            "only 200 and 503": {answer.status for answer in answers} <= {200, 503},
            "some 200": any(answer.status == 200 for answer in answers),
            "some 503": bool(refused),
            f"503 within {REFUSED_WITHIN:g} s": all(each.seconds <= REFUSED_WITHIN for each in refused),
            f"recovered within {RECOVERED_WITHIN:g} s": after[0].status == 200 and recovered <= RECOVERED_WITHIN,
        }


def stuck(path: Path, *, count: int, clients: int, seconds: float, pause: float) -> dict[str, bool]:
    """Measure healthy clients beside half-open connections, which are opened again when they are dropped."""

    async def both(port: int) -> tuple[list[Answer], int]:
        until, dropped = time.perf_counter() + seconds, 0
        healthy = asyncio.create_task(load(port, image_requests(port, clients), seconds, pause))
        connections = await half_open(port, count)
        while time.perf_counter() < until:
            await asyncio.sleep(0.5)
            ended = [each for each in connections if is_dropped(each)]
            dropped += len(ended)
            for _, writer in ended:
                writer.close()
            connections = [each for each in connections if each not in ended] + await half_open(port, len(ended))
        for _, writer in connections:
            writer.transport.abort()
        return await healthy, dropped

    with serving(path) as server:
        answers, dropped = asyncio.run(both(server.port))
        print(
            f"{count} half-open connections beside {clients} clients for {seconds:g} s: {summary(answers)}; {dropped} dropped"
        )
        return {
            "no error": all(answer.status == 200 for answer in answers),
            f"p99 <= {1000 * P99_HALF_OPEN:g} ms": percentile(answers, 0.99) <= P99_HALF_OPEN,
            "half-open connections dropped": dropped >= count or seconds < 12,
        }


@contextmanager
def schemathesis(program: Path | None) -> Iterator[Path]:
    """Yield the path of schemathesis' program `st`: the one given, or one installed in a temporary environment."""
    if program is not None:
        yield program
        return
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin")
        subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", SCHEMATHESIS], check=True)
        yield programs / "st"


def made_up(path: Path, *, cases: int, program: Path | None) -> dict[str, bool]:
    """Run schemathesis until it has sent at least this number of requests."""
    with schemathesis(program) as st, serving(path) as server:
        url, done, failed, seed = f"http://127.0.0.1:{server.port}/openapi.json", 0, False, 0
        while done < cases and not failed:
            words = ["run", url, "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--no-color"]
            words += ["--seed", str(seed), "--max-examples", str(max(100, (cases - done) // 5))]
            run = subprocess.run([st, *words], capture_output=True, text=True, check=False)
            found = re.search(r"([\d,]+) generated", run.stdout)
            done, failed, seed = done + (int(found[1].replace(",", "")) if found else 0), run.returncode != 0, seed + 1
            if failed or not found:
                print(run.stdout[-6000:], run.stderr[-2000:])
                break
        print(f"schemathesis: {done:,} cases, {'failures' if failed else 'no 5xx, no answer other than described'}")
        return {f"{cases:,} cases": done >= cases, "no violation": not failed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder or ONNX file")
    parser.add_argument("--seconds", type=float, default=600, help="duration of the steady load")
    parser.add_argument("--clients", type=int, default=64, help="clients of the steady load")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two requests of a client")
    parser.add_argument("--cases", type=int, default=10_000, help="requests of schemathesis; 0: leave it out")
    parser.add_argument("--st", type=Path, help="schemathesis' program; default: installed in a temporary environment")
    options = parser.parse_args(arguments)
    short = min(20.0, options.seconds)
    parts = {
        "steady": steady(options.run, clients=options.clients, seconds=options.seconds, pause=options.pause),
        "overload": overload(options.run, seconds=short / 2),
        "half-open": stuck(options.run, count=200, clients=8, seconds=short, pause=options.pause),
    }
    if options.cases:
        parts["schemathesis"] = made_up(options.run, cases=options.cases, program=options.st)
    failed = [f"{name}: {limit}" for name, limits in parts.items() for limit, kept in limits.items() if not kept]
    print("missed: " + "; ".join(failed) if failed else "all limits kept")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
