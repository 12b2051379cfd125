"""Two processes that train one model together: how much faster than one, and whether a process that dies changes the result.

    python benchmarks/distributed.py efficiency        # about 6 min on two cores
    python benchmarks/distributed.py engines           # about 2 min
    python benchmarks/distributed.py links             # about 4 min, as root, on Linux
    python benchmarks/distributed.py model --step 5.04 --megabytes 19 --inside 3600 --gigabits 400
    python benchmarks/distributed.py restarts          # about 6 min

`efficiency` trains a ladder in turn with one process, with two that share each batch of the same size ("same batch"), with two
that have as many images each as the one had ("twice the batch"), and with two that train apart at the same time ("apart"), which
is what the machine can do at most: two cores share caches and memory. Each process has one thread. Efficiency is the images/s of
two processes over twice those of one. The share of communication is the time in the exchange of gradients, in which a process
also waits for the other one.

`engines` takes plain steps of the same ladder in turn with gradients that are summed as one tensor after the backward pass, as
vaelab does, and by DistributedDataParallel, which sums parts of them during that pass.

`links` trains the ladder on two machines of one core each, two network namespaces with a link whose rate is limited (`tc`), and
compares the time of a step with the model of docs/scaling.md. `model` prints that model for up to 64 processes.

`restarts` trains for 20 epochs under `torchrun --max-restarts 1`, kills one of the two processes (SIGKILL) at a random step, and
compares the weights with those of a training that was left alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from machine import machine
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel
from turns import note, ratios, spread, table, take_turns

from vaelab import distributed
from vaelab.acceleration.runner import AcceleratedRunner
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import load_dataset
from vaelab.models.base import Model
from vaelab.objectives.batch import Batch
from vaelab.objectives.elbo import Terms, elbo, loss
from vaelab.optim.schedule import Schedule
from vaelab.optim.state import LossAndGrad
from vaelab.optim.step import PlainRunner
from vaelab.precision import mixed_precision
from vaelab.training.fit import fit, make_trainer
from vaelab.training.resolve import resolve

BATCH = 512
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
SHORT = ("--limit", "6400", "--epochs", "20", "--batch-size", "64", "--seed", "3", "--checkpoint-every", "0.5")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("efficiency", "engines", "links", "model", "restarts"))
    parser.add_argument("--seconds", type=float, default=20, help="of each training")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each kind")
    parser.add_argument("--count", type=int, default=20, help="processes to kill")
    parser.add_argument("--batch", type=int, default=512, help="images of a step, for `efficiency`")
    parser.add_argument("--compile", choices=("yes", "no"), default="no")
    parser.add_argument("--step", type=float, help="milliseconds of a step without exchange, for `model`")
    parser.add_argument("--megabytes", type=float, help="of gradients, for `model`")
    parser.add_argument("--gigabits", type=float, help="per second, of the link between machines, for `model`")
    parser.add_argument("--inside", type=float, help="the same inside a machine of eight GPUs, for `model`")
    parser.add_argument("--latency", type=float, default=20, help="of the link in microseconds, for `model`")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker and arguments.what == "engines":
        compare_engines(arguments.rounds)
    elif arguments.worker:
        work(arguments.worker, arguments.seconds, arguments.compile)
    elif arguments.what == "efficiency":
        efficiency(arguments)
    elif arguments.what == "engines":
        note(machine())
        command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", __file__, "engines", "--worker=1"]
        rounds = f"--rounds={arguments.rounds}"
        subprocess.run([*command, rounds], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    elif arguments.what == "links":
        links(arguments)
    elif arguments.what == "model":
        print_model(arguments)
    else:
        restarts(arguments.count)


def efficiency(arguments: argparse.Namespace) -> None:
    """Compare one process and two."""
    note(machine())
    kinds = {
        "one process": (1, arguments.batch),
        "same batch": (2, arguments.batch),
        "twice the batch": (2, 2 * arguments.batch),
        "apart": (1, arguments.batch),
    }
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for kind, (count, batch) in kinds.items():
            options = [
                "efficiency",
                f"--worker={batch}",
                f"--seconds={arguments.seconds}",
                f"--compile={arguments.compile}",
            ]
            start = [*TORCHRUN, "--standalone", f"--nproc-per-node={count}"] if count > 1 else [sys.executable]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            runs = [
                subprocess.Popen([*start, __file__, *options], stdout=subprocess.PIPE, text=True, env=environment)
                for _ in range(2 if kind == "apart" else 1)
            ]
            results = [json.loads(run.communicate()[0].splitlines()[-1]) for run in runs]
            found[kind].append(results[0] | {"rate": sum(each["rate"] for each in results)})
            note(f"{kind}: {found[kind][-1]}")
    rows = []
    for kind, results in found.items():
        pairs = zip(results, found["one process"], strict=True)
        gain = spread([each["rate"] / one["rate"] / 2 for each, one in pairs], ".2f") if kind != "one process" else ""
        share = spread([100 * each["communication"] for each in results], ".1f") if kinds[kind][0] > 1 else ""
        rows.append(
            [
                kind,
                spread([each["rate"] for each in results]),
                spread([each["step"] for each in results], ".1f"),
                gain,
                share,
            ]
        )
    print(table(["", "images/s", "ms a step", "efficiency", "communication, %"], rows))


def work(batch: int, seconds: float, compiled: str) -> None:
    """Train a ladder on batches of `batch` in all, and print what the first process measured."""
    if "RANK" in os.environ:
        with distributed.joined():
            measure(batch, seconds, compiled)
    else:
        measure(batch, seconds, compiled)


def measure(batch: int, seconds: float, compiled: str) -> None:
    """Print images/s, milliseconds a step, and the share of communication, from the second second on."""
    exchanging, exchange = [0.0], distributed.all_reduce_sum

    def timed(tensors: list[torch.Tensor], weight: float) -> object:
        began = time.perf_counter()
        result = exchange(tensors, weight)
        exchanging[0] += time.perf_counter() - began
        return result

    distributed.all_reduce_sum = timed  # pyright: ignore[reportAttributeAccessIssue]
    model = ModelConfig(network="ladder", model="vae")
    config = Config(model, TrainConfig(seconds=seconds, batch_size=batch, compile=compiled))  # pyright: ignore[reportArgumentType]
    dataset = load_dataset("strokes")
    if compiled == "yes":
        runner = make_trainer(resolve(config, dataset), dataset).runner
        assert isinstance(runner, AcceleratedRunner)
        runner.compile()
    times: list[tuple[float, int, float]] = []
    training = fit(config, dataset)
    progress = next(training)
    for progress in training:
        if progress.fraction < 1:
            times += [(time.perf_counter(), progress.step, exchanging[0])]
    later = [each for each in times if each[0] >= times[0][0] + 1]
    (start, first, before), (end, last, after) = later[0], later[-1]
    weights = sum(weight.nbytes for weight in progress.model.parameters()) / 1e6
    facts = {
        "megabytes": weights,
        "rate": batch * (last - first) / (end - start),
        "step": 1000 * (end - start) / (last - first),
    }
    if distributed.is_first():
        print(json.dumps(facts | {"communication": (after - before) / (end - start)}), flush=True)


def summing(count: int, megabytes: float, gigabits: float, microseconds: float) -> float:
    """Return the milliseconds in which a ring of processes sums their gradients."""
    return 2 * (count - 1) / count * 8 * megabytes / gigabits + 2 * (count - 1) * microseconds / 1000


def print_model(given: argparse.Namespace) -> None:
    """Print the efficiency of up to 64 processes, if each keeps its images, and if they divide those of one."""
    rows = []
    for count in (1, 2, 4, 8, 16, 32, 64):
        exchange = summing(count, given.megabytes, given.inside if count <= 8 else given.gigabits, given.latency)
        each, whole = given.step / (given.step + exchange), given.step / (given.step + count * exchange)
        rows.append(
            [
                str(count),
                f"{exchange:.2f}",
                f"{each:.2f}",
                f"{count * each:.1f}",
                f"{whole:.2f}",
                f"{count * whole:.1f}",
            ]
        )
    header = ["processes", "exchange, ms", "efficiency", "times one", "efficiency, same batch", "times one, same batch"]
    print(table(header, rows))


def links(arguments: argparse.Namespace) -> None:
    """Compare steps over links of several rates with the model."""
    note(machine())
    rates = {"1000 Mbit/s": 1.0, "200 Mbit/s": 0.2, "50 Mbit/s": 0.05}
    with two_machines():
        found = {name: [over_link(None, arguments)] for name in ("no limit",)}
        for name, gigabits in rates.items():
            found[name] = [over_link(gigabits, arguments)]
        free = found["no limit"][0]
        rows = [["no limit", f"{free['step']:.1f}", "", f"{100 * free['communication']:.0f}"]]
        for name, gigabits in rates.items():
            each = found[name][0]
            expected = free["step"] + summing(2, free["megabytes"], gigabits, 0)
            rows.append([name, f"{each['step']:.1f}", f"{expected:.1f}", f"{100 * each['communication']:.0f}"])
    print(table([f"{free['megabytes']:.1f} MB of gradients", "ms a step", "by the model", "communication, %"], rows))


@contextmanager
def two_machines() -> Iterator[None]:
    """Make two network namespaces with a link between them."""
    commands = [
        *(f"netns add vaelab{i}" for i in range(2)),
        "link add veth0 netns vaelab0 type veth peer name veth1 netns vaelab1",
        *(f"-n vaelab{i} addr add 10.9.0.{i + 1}/24 dev veth{i}" for i in range(2)),
        *(f"-n vaelab{i} link set {name} up" for i in range(2) for name in (f"veth{i}", "lo")),
    ]
    try:
        for words in commands:
            subprocess.run(["ip", *words.split()], check=True)
        yield
    finally:
        for i in range(2):
            subprocess.run(["ip", "netns", "del", f"vaelab{i}"], check=True)


def over_link(gigabits: float | None, arguments: argparse.Namespace) -> dict[str, float]:
    """Train on both machines, over a link of this rate, and return what the first measured."""
    for i in range(2):
        inside = ["ip", "netns", "exec", f"vaelab{i}"]
        subprocess.run([*inside, "tc", "qdisc", "del", "dev", f"veth{i}", "root"], capture_output=True, check=False)
        if gigabits is not None:
            limit = f"tbf rate {1000 * gigabits:g}mbit burst 64kb latency 50ms".split()
            subprocess.run([*inside, "tc", "qdisc", "add", "dev", f"veth{i}", "root", *limit], check=True)
    runs = []
    for i in (1, 0):
        meeting = [
            "--nnodes=2",
            "--nproc-per-node=1",
            "--rdzv-backend=c10d",
            "--rdzv-endpoint=10.9.0.1:29400",
            "--rdzv-id=links",
        ]
        meeting += [f"--local-addr=10.9.0.{i + 1}", f"--rdzv-conf=is_host={1 - i}"]
        options = [
            "efficiency",
            f"--worker={BATCH}",
            f"--seconds={arguments.seconds}",
            f"--compile={arguments.compile}",
        ]
        words = ["ip", "netns", "exec", f"vaelab{i}", *TORCHRUN, *meeting, __file__, *options]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": f"veth{i}"}
        runs.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment))
    result = json.loads(runs[1].communicate()[0].splitlines()[-1])
    runs[0].wait()
    note(f"{gigabits} Gbit/s: {result}")
    return result


class Caller(torch.nn.Module):
    """Evaluates the ELBO in its forward pass, which DistributedDataParallel needs."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        terms = elbo(self.model, batch)
        return terms.distortion, terms.rate


def compare_engines(rounds: int) -> None:
    """Print milliseconds a step with both ways to sum gradients."""
    with distributed.joined():
        dataset = load_dataset("strokes")
        config = Config(
            ModelConfig(network="ladder", model="vae"), TrainConfig(batch_size=BATCH, compile="no", epochs=1)
        )
        trainer = make_trainer(resolve(config, dataset), dataset)
        runner, schedule = trainer.runner, Schedule(1.0, 1e-3)
        assert isinstance(runner, PlainRunner)
        caller = DistributedDataParallel(Caller(runner.model), gradient_as_bucket_view=True)

        def as_one() -> None:
            runner.step(trainer.batches.at(0), schedule, elbo)

        def overlapped() -> None:
            for weight in runner.state.weights:
                if weight.grad is not None:
                    weight.grad.zero_()
            batch = trainer.batches.at(0).prepared(runner.model.likelihood_name)
            with mixed_precision(torch.device("cpu"), runner.train_step.config.precision):
                distortion, rate = caller(batch)
            value = loss(Terms(distortion, rate))
            value.backward()
            gradients = [weight.grad for weight in runner.state.weights if weight.grad is not None]
            found = LossAndGrad(distortion.mean().detach(), rate.sum(-1).mean().detach(), value.detach(), gradients)
            runner.train_step.apply_update(runner.state, runner.stats, found, schedule)

        def milliseconds(step: Callable[[], None]) -> float:
            began = time.perf_counter()
            for _ in range(20):
                step()
            return 1000 * (time.perf_counter() - began) / 20

        as_one()
        overlapped()
        found = take_turns(
            {"one tensor": lambda: milliseconds(as_one), "DistributedDataParallel": lambda: milliseconds(overlapped)},
            3 * rounds,
        )
        if distributed.is_first():
            megabytes = sum(weight.nbytes for weight in runner.state.weights) / 1e6
            rows = [
                [name, spread(times, ".1f"), spread(ratios(times, found["one tensor"]), ".2f")]
                for name, times in found.items()
            ]
            print(table([f"{megabytes:.1f} MB of gradients", "ms a step", "of the first"], rows))


def restarts(count: int) -> None:
    """Kill a process at a random step of each of `count` trainings."""
    note(machine())
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        expected = trained(Path(folder) / "whole", None)
        took = time.perf_counter() - begun
        same, steps = 0, []
        generator = random.Random(0)
        for number in range(count):
            out = Path(folder) / str(number)
            at = generator.uniform(0.05, 0.95)
            found = trained(out, at)
            equal = all(torch.equal(found[name], value) for name, value in expected.items())
            same, steps = same + equal, [*steps, at]
            note(f"killed at {at:.0%} of the training: {'same' if equal else 'other'} weights")
        print(f"{same} of {count} trainings with a killed process end with the weights of one without ({took:.0f} s)")


def trained(out: Path, kill_at: float | None) -> dict[str, torch.Tensor]:
    """Train with two processes, kill the second one at this fraction of the training, and return the weights."""
    options = ["--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    command = [*TORCHRUN, *options, "-m", "vaelab", "train", "strokes", *SHORT, "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}) as run:
        if kill_at is not None:
            wait_for_step(out, kill_at)
            os.kill(process_of_rank(1, out), signal.SIGKILL)
        assert run.stderr is not None
        messages = run.stderr.read()
    if run.returncode:
        sys.exit(messages)
    return load_file(out / "model.safetensors")


def wait_for_step(out: Path, fraction: float) -> None:
    """Wait until a training has come this far: its log has a line per epoch, and between two the time is estimated."""
    lines: list[float] = []
    while len(lines) <= int(20 * fraction):
        time.sleep(0.005)
        log = out / "metrics.jsonl"
        if log.exists() and len(log.read_text().splitlines()) > len(lines):
            lines.append(time.perf_counter())
    time.sleep((20 * fraction) % 1 * (lines[-1] - lines[-2] if len(lines) > 1 else 0.1))


def process_of_rank(rank: int, out: Path) -> int:
    """Return the number of the process of this rank that trains into `out`."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words, facts = (folder / "cmdline").read_text(), (folder / "environ").read_text()
            except OSError:
                continue
            if str(out) in words and f"\0RANK={rank}\0" in facts:
                return int(folder.name)
    raise ProcessLookupError(rank)


if __name__ == "__main__":
    main()
