"""The plain path: with `vaelab.acceleration` deleted, models train, generate and resume; and who may import that package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "vaelab"

PROGRAM = """
import sys
from pathlib import Path
import vaelab
from vaelab import Config, ModelConfig, TrainConfig
assert Path(vaelab.__file__).is_relative_to(sys.argv[1]), vaelab.__file__
data = vaelab.load_dataset("digits")
model = ModelConfig(latent_dim=2, width=8, depth=1)
out = Path(sys.argv[1]) / "run"
for network in ("mlp", "ladder"):
    if network == "ladder":
        model = ModelConfig(network="ladder", width=8, depth=1, levels="3,1")
    folder = out / network
    *_, last = vaelab.fit(Config(model, TrainConfig(epochs=1, compile="yes")), data, out=folder)
    *_, again = vaelab.fit(Config(train=TrainConfig(epochs=2)), data, out=folder, resume=True)
    assert last.finished and again.step > last.step
    assert vaelab.load(folder).sample(["3"] * 4).shape == (4, 8, 8)
assert not [name for name in sys.modules if name.startswith("vaelab.acceleration")]
from vaelab.cli import main
try:
    main(["train", "digits", "--epochs", "1", "--width", "8", "--out", str(out / "command")])
except SystemExit as ended:
    assert not ended.code, ended.code
"""


def test_without_the_package_models_train_generate_and_resume(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "vaelab", ignore=shutil.ignore_patterns("acceleration", "dist", "__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "weights saved" in done.stderr


def test_only_fit_and_the_command_line_import_it() -> None:
    importers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if path.parent.name != "acceleration" and re.search(r"(from|import) vaelab\.acceleration", path.read_text())
    }
    assert importers == {"training/fit.py", "cli/__init__.py"}


def test_private_names_of_pytorch_stay_in_it() -> None:
    """Except the documented `torch._foreach_*` operations."""
    private = re.compile(r"torch\._(?!foreach_)[a-z]|ctypes|mallopt")
    found = [
        f"{path.relative_to(SOURCE)}: {line.strip()}"
        for path in SOURCE.rglob("*.py")
        if path.parent.name != "acceleration"
        for line in path.read_text().splitlines()
        if private.search(line)
    ]
    assert found == []
