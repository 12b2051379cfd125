"""The loop, left in ways that a `for` loop over it is not."""

import subprocess
import sys
from pathlib import Path

from vaelab import runs


def test_a_program_that_ends_in_the_middle_saves_and_ends_well(tmp_path: Path) -> None:
    """The iterator, left in a global, is closed while the interpreter ends, when tensors are out of reach."""
    program = f"""
import numpy as np, vaelab
from vaelab.config import Config, ModelConfig, TrainConfig
images = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
data = vaelab.Dataset("noise", *(vaelab.Split(part, None) for part in np.split(images, 3)), ())
config = Config(ModelConfig(width=8, depth=1, latent_dim=2), TrainConfig(seconds=60, device="cpu", compile="no"))
training = vaelab.fit(config, data, out={str(tmp_path / "run")!r})
print(next(training).step, (last := next(training)).step)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    _, facts = runs.load_resume(runs.open_run(tmp_path / "run"))
    assert facts["step"] >= int(ended.stdout.split()[1])
