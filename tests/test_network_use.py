"""vaelab contacts nobody by itself: no telemetry of onnxruntime, and no socket to any address but loopback."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vaelab.data import Dataset

SOURCE = Path(__file__).parents[1] / "src" / "vaelab"

SESSION = """
import sys
from pathlib import Path
from onnx import TensorProto, helper
from vaelab.onnx_runtime import open_session
value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
open_session(model.SerializeToString())
"""


def test_one_module_imports_onnxruntime() -> None:
    found = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(r"(import|from) onnxruntime|import_module\(.onnxruntime", path.read_text(encoding="utf-8"))
    ]
    assert found == ["onnx_runtime.py"]


def test_onnxruntime_leaves_no_device_identifier(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    environment |= {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    subprocess.run([sys.executable, "-c", SESSION], check=True, env=environment)
    assert list(tmp_path.rglob("*")) == []


def addresses(trace: str) -> list[str]:
    """The calls of a trace that name an address, or open a socket, of another kind than these.

    - AF_UNIX: pairs of sockets within a process (asyncio, subprocesses), and the system's cache of users and names (nscd);
    - AF_NETLINK: to the kernel, which tells the network interfaces of this machine;
    - AF_INET and AF_INET6: loopback only.
    """
    found = []
    for call in re.findall(r"(?:socket|socketpair|connect|bind|sendto|sendmsg|sendmmsg)\(.*", trace):
        if re.match(r"socket(pair)?\(AF_(UNIX|LOCAL|NETLINK|INET6?)\b", call):
            continue
        if "sa_family=AF_INET" in call:
            if not re.search(r'inet_addr\("127\.|inet_pton\(AF_INET6, "::1"', call):
                found.append(call)
        elif re.match(r"socket", call):
            found.append(call)
    return found


def test_the_trace_is_read() -> None:
    lines = [
        "socket(AF_INET, SOCK_DGRAM, 0) = 3",
        'connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("9.9.9.9")}, 16) = 0',
        'connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0',
        'sendto(3, "x", 1, 0, {sa_family=AF_INET6, inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)}, 28) = 1',
        'bind(3, {sa_family=AF_INET6, inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = 0',
        "socket(AF_PACKET, SOCK_RAW, 0) = 3",
        'connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1',
    ]
    assert [call.split("(")[0] for call in addresses("\n".join(lines))] == ["connect", "sendto", "socket"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: on Debian apt-get install strace")
def test_no_command_contacts_anybody(tiny: Dataset, tmp_path: Path) -> None:
    """Training (compiled, if there is a compiler), evaluation, both exports, and the studio, traced with their children."""
    assert tiny.train.labels is not None
    assert tiny.test.labels is not None
    names = np.array(tiny.classes)
    train, test = tiny.train, tiny.test
    np.savez(
        tmp_path / "tiny.npz",
        images=train.images,
        labels=names[train.labels],
        test_images=test.images,
        test_labels=names[test.labels],
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path / "home"), "VAELAB_CACHE_DIR": str(tmp_path / "cache")}
    built = (SOURCE / "studio" / "dist" / "index.html").is_file()
    commands = [
        ["train", "tiny.npz", "--out", "run", "--epochs", "2", "--compile", "yes", "--device", "cpu"],
        ["evaluate", "run", "--quick"],
        ["export", "run", "--out", "run.onnx"],
        *([["export", "run", "--out", "run.html"], ["studio", "run", "--no-browser"]] if built else []),
    ]
    for command in commands:
        trace = tmp_path / "trace"
        program = [
            "strace",
            "-f",
            "-qq",
            "-e",
            "trace=network",
            "-o",
            str(trace),
            sys.executable,
            "-m",
            "vaelab",
            *command,
        ]
        process = subprocess.Popen(
            program, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if command[0] == "studio":
            assert process.stdout is not None
            line = next(line for line in process.stdout if "http://" in line)
            assert "http://127.0.0.1:" in line
            time.sleep(3)  # telemetry is sent by a thread
            (traced,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(traced), signal.SIGINT)
        said, _ = process.communicate(timeout=300)
        assert process.returncode in (0, 130, -signal.SIGINT), said
        assert addresses(trace.read_text()) == [], command
    assert not (tmp_path / "home" / ".cache" / "Microsoft").exists()
