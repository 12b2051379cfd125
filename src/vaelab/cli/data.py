"""`vaelab data` and `vaelab data pack`: describe a data source, or write it as files that training maps into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from vaelab.cli.app import GROUPS, Options, app, given_options, import_pytorch, load_source, show
from vaelab.errors import ConfigError

data_app = App(name="data")
app.command(data_app)


@data_app.default
def data(source: str | None = None, /, *, options: Options = None, out: Path | None = None) -> None:
    """List the built-in data sets, or describe a data source and draw a contact sheet of it.

    Parameters
    ----------
    source
        A built-in name, a folder of images (one folder per class, or flat), a folder of IDX files, an .npz file, a table of
        paths and labels (.csv, .parquet), images in .parquet or .tar files (one, or a folder of them), a folder written by
        save_to_disk of Hugging Face, or a pack, whose checksums are then compared.
    out
        File of the contact sheet, FILE.png. Default: NAME-sheet.png in the current folder.
    """
    from vaelab.data import BUILTIN

    if source is None:
        width = max(map(len, BUILTIN))
        for name, line in BUILTIN.items():
            print(f"{name:<{width}}  {line}")
        print(
            "or a folder of images (one folder per class, or flat), a folder of IDX files, an .npz file, "
            "a table with the columns path and label (.csv, .parquet), images in .parquet or .tar files (one, or a folder of "
            "them), a folder written by save_to_disk of Hugging Face, or a pack"
        )
        return
    from vaelab.data.describe import describe_dataset
    from vaelab.data.pack import check_pack, is_pack
    from vaelab.figures.plots import contact_sheet, save_picture
    from vaelab.files import expect_suffix
    from vaelab.progress import work_bar

    if out is not None:
        expect_suffix(out, ".png")
    if source not in BUILTIN and is_pack(Path(source)):
        with work_bar() as report:
            check_pack(Path(source), report)
        show("checksums: all blocks are as they were packed")
    dataset = load_source(source, options)
    with work_bar(waiting="describing the images"):
        lines = list(describe_dataset(dataset))
    for line in lines:
        show(line)
    path = out or Path(f"{dataset.name}-sheet.png")
    with work_bar(waiting="drawing the contact sheet"):
        save_picture(path, contact_sheet(dataset))
    show(f"contact sheet: {path}")


@data_app.command
def pack(
    source: str,
    /,
    *,
    options: Options = None,
    count: Annotated[int | None, Parameter(group=GROUPS["Data"])] = None,
    out: Path,
) -> None:
    """Write a data source as a pack: a folder of files that training maps into memory, for data larger than memory.

    Encoded images are decoded block by block. Ctrl-C or a crash loses at most a block: the same command continues.

    Parameters
    ----------
    source
        A data source, as for vaelab data.
    count
        Number of training images of strokes. Default: 50,000.
    out
        Folder of the pack, which does not exist yet; then a data source like any other.
    """
    from vaelab.data.packing import pack_source
    from vaelab.data.sources import expect_source
    from vaelab.progress import work_bar

    expect_source(source)
    if out.exists():
        raise ConfigError(f"--out: got {out}, which exists; expected the name of a new folder")
    import_pytorch("vaelab.training.fit")
    from vaelab.training.fit import PackedMoments

    with work_bar(waiting=f"listing {source}") as report:
        pack_source(source, out, PackedMoments, count=count, progress=report, **given_options(options))
    show(f"pack: {out}")
