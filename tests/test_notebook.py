"""The notebook is stored without outputs, and runs from end to end in an empty folder."""

import base64
import io
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
from nbformat import NotebookNode
from PIL import Image

NOTEBOOK = Path(__file__).parent.parent / "examples" / "first-steps.ipynb"


def read() -> NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_it_is_stored_without_outputs() -> None:
    for cell in read().cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None), cell.id


@pytest.mark.slow
def test_it_runs_and_shows_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = read()
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    assert not [output for cell in outputs.values() for output in cell if output.output_type == "error"]
    assert not [output.text for cell in outputs.values() for output in cell if output.get("name") == "stderr"]

    lines = "".join(output.text for output in outputs["train"]).splitlines()
    nats = [float(line.split()[1]) for line in lines if "nats per image =" in line]
    assert len(nats) >= 5, "progress is shown during training"
    assert nats[-1] < 0.7 * nats[0]
    assert lines[-2].startswith("100%")
    assert lines[-1].startswith("test images")

    pictures = ["load", "grid", "sevens", "restyle", "axes", "map", "posterior"]
    for name in pictures:
        (png,) = [output.data["image/png"] for output in outputs[name] if "image/png" in output.get("data", {})]
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L"))
        assert min(picture.shape) > 50, name
        assert picture.std() > 20, f"{name} is blank"
