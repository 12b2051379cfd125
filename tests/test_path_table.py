"""Tables of paths and labels, CSV or Parquet: columns, splits, skipped files, and errors that name the row."""

import builtins
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from vaelab.cli import main
from vaelab.data import Dataset, load_dataset
from vaelab.errors import DataError

FORMATS = ["csv", "parquet"]


def write(at: Path, kind: str, **columns: list[Any]) -> Path:
    """A table of 40 images, whose columns can be given."""
    for i in range(40):
        path = at / "images" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (5, 4), i).save(path)
    path = at / f"labels.{kind}"
    if kind == "csv":
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join(f'"{value}"' for value in row) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        parquet.write_table(pyarrow.table(columns), path)
    return path


PATHS = [f"images/{i}.png" for i in range(40)]


def levels(dataset: Dataset, split: str) -> list[int]:
    return getattr(dataset, split).images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("kind", FORMATS)
def test_paths_and_labels(tmp_path: Path, kind: str) -> None:
    labels = ["10" if i % 2 else "9" for i in range(40)]
    for dataset in (
        load_dataset(write(tmp_path, kind, path=PATHS, label=labels)),
        load_dataset(write(tmp_path, kind, label=[int(label) for label in labels], path=PATHS)),
    ):
        assert dataset.name == "labels"
        assert dataset.classes == ("9", "10")
        assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (32, 4, 4)
        assert dataset.train.labels is not None
        assert [level % 2 for level in levels(dataset, "train")] == dataset.train.labels.tolist()
        assert sorted(levels(dataset, "train") + levels(dataset, "validation") + levels(dataset, "test")) == list(
            range(40)
        )


@pytest.mark.parametrize("kind", FORMATS)
def test_paths_alone_are_unlabelled(tmp_path: Path, kind: str) -> None:
    dataset = load_dataset(write(tmp_path, kind, path=PATHS))
    assert dataset.classes == ()
    assert len(dataset.train) == 32


@pytest.mark.parametrize("kind", FORMATS)
def test_splits_are_honoured_and_missing_ones_held_out(tmp_path: Path, kind: str) -> None:
    split = ["train"] * 20 + ["val", "validation"] * 5 + ["test"] * 10
    dataset = load_dataset(write(tmp_path, kind, path=PATHS, split=split))
    assert levels(dataset, "train") == list(range(20))
    assert levels(dataset, "validation") == list(range(20, 30))
    assert levels(dataset, "test") == list(range(30, 40))
    dataset = load_dataset(write(tmp_path, kind, path=PATHS, split=["train"] * 30 + ["test"] * 10))
    assert len(dataset.validation) == 3
    assert levels(dataset, "test") == list(range(30, 40))
    dataset = load_dataset(write(tmp_path, kind, path=PATHS, split=["validation"] * 40))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (0, 40, 0)


@pytest.mark.parametrize(
    ("path", "label", "split"),
    [
        ("path", "Label", "Split"),
        ("path ", "Label ", "SPLIT "),
        ("filename", "labels", "subset"),
        ("file", "class", "splits"),
        ("Image", "category", "split"),
        ("image_path", "class_name", "split"),
    ],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_other_names_of_columns_are_known(tmp_path: Path, kind: str, path: str, label: str, split: str) -> None:
    splits = ["Training"] * 30 + ["TEST", "eval"] * 3 + ["dev", "Valid"] * 2
    columns = {path: PATHS, label: ["a", "b"] * 20, split: splits}
    dataset = load_dataset(write(tmp_path, kind, **columns))
    assert dataset.classes == ("a", "b")
    assert levels(dataset, "test") == list(range(30, 36))
    assert levels(dataset, "validation") == list(range(36, 40))
    (note,) = (note for note in dataset.notes if "column" in note)
    assert re.fullmatch(r"Read the columns? .*\.", note)
    assert all(
        f"{name!r} as {key}" in note
        for key, name in zip(("path", "label", "split"), columns, strict=True)
        if name != key
    )


def test_the_name_itself_counts_first(tmp_path: Path) -> None:
    columns = {"image": PATHS, "path": PATHS, "class": ["x"] * 40, "label": ["a"] * 40}
    dataset = load_dataset(write(tmp_path, "csv", **columns))
    assert dataset.classes == ("a",)
    assert "Ignored the columns 'image', 'class'." in dataset.notes


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Label", "labels"], "columns 'Label', 'labels'; expected one, 'label'; rename"),
        (["class", "category"], "columns 'class', 'category'; expected one, 'label'; rename"),
        (["spilt"], r"column 'spilt'; did you mean 'split'\?"),
        (["lable"], r"column 'lable'; did you mean 'label'\?"),
    ],
)
def test_unclear_columns_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=rf"labels\.csv: got the {message}"):
        load_dataset(write(tmp_path, "csv", path=PATHS, **{name: ["train"] * 40 for name in names}))


def test_spaces_after_commas_are_no_part_of_a_value(tmp_path: Path) -> None:
    table = write(tmp_path, "csv", path=PATHS)
    table.write_text("label, path, split\n" + "".join(f"a, {path}, test\n" for path in PATHS))
    dataset = load_dataset(table)
    assert (dataset.classes, len(dataset.test)) == (("a",), 40)


@pytest.mark.parametrize("labels", [[1.0, 2.0] * 20, [b"1", b"2"] * 20, ["1", "2"] * 20, [1, 2] * 20])
def test_labels_of_other_types_have_the_right_names(tmp_path: Path, labels: list[Any]) -> None:
    assert load_dataset(write(tmp_path, "parquet", path=PATHS, label=labels)).classes == ("1", "2")


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_file_names_are_compared_in_composed_form(tmp_path: Path, listed: Any, stored: Any) -> None:
    table = write(tmp_path, "csv", path=PATHS)
    image = tmp_path / "images" / "7.png"
    image.rename(image.with_name(unicodedata.normalize(stored, "été.png")))
    name = unicodedata.normalize(listed, "été")
    table.write_text(
        f"path,label\nimages/{name}.png,{name}\nimages/1.png,{unicodedata.normalize('NFC', name)}\n", "utf-8"
    )
    dataset = load_dataset(table)
    assert levels(dataset, "train") == [7, 1]
    assert dataset.classes == (unicodedata.normalize("NFC", name),)


def test_other_columns_are_ignored_and_noted(tmp_path: Path) -> None:
    dataset = load_dataset(write(tmp_path, "csv", id=list(range(40)), path=PATHS, who=["x"] * 40))
    assert any(re.match("Ignored .*'id', 'who'", note) for note in dataset.notes)


def test_absolute_paths_a_byte_order_mark_empty_lines_and_quotes_are_read(tmp_path: Path) -> None:
    write(tmp_path, "csv", path=PATHS)
    (tmp_path / "images" / "a, b.png").write_bytes((tmp_path / "images" / "7.png").read_bytes())
    table = tmp_path / "elsewhere" / "TABLE.CSV"
    table.parent.mkdir()
    table.write_text(
        f'path,label\r\n"{tmp_path}/images/3.png","with ""quotes"", and comma"\r\n\r\n"../images/a, b.png",b\r\n',
        encoding="utf-8-sig",
    )
    dataset = load_dataset(table)
    assert levels(dataset, "train") == [3, 7]
    assert dataset.classes == ("b", 'with "quotes", and comma')


def test_missing_and_broken_files_can_be_skipped(tmp_path: Path) -> None:
    table = write(tmp_path, "csv", path=[*PATHS, "images/40.png"], label=["a"] * 41)
    (tmp_path / "images" / "0.png").write_text("no image")
    dataset = load_dataset(table, skip_broken=True)
    assert "Skipped 2 broken files: images/0.png, images/40.png." in dataset.notes
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 39


COLUMNS = "expected a column 'path'.*'label'.*'split'"
CSV = {
    "nothing": (b"", f"empty table; {COLUMNS}"),
    "a header alone": (b"path,label\n", "no rows; expected one"),
    "no path": (b"name,label\n1.png,a\n", f"columns 'name', 'label'; {COLUMNS}"),
    "no header": (b"1.png,a\n2.png,b\n", rf"columns '1\.png', 'a'; {COLUMNS}"),
    "two columns of a name": (b"path,path\n1.png,a\n", f"columns 'path', 'path'; {COLUMNS}"),
    "semicolons": (b"path;label\n1.png;a\n", f"columns 'path;label'; {COLUMNS}.*commas between"),
    "too many values": (b"path,label\n1.png,a\n2.png,a,b\n", "3 values in line 3; expected 2, .*quotes"),
    "too few values": (b"path,label\n1.png\n", "1 values in line 2; expected 2, .*quotes"),
    "no label": (b"path,label\n1.png,\n", "no label in line 2; expected"),
    "an empty path": (b"path,label\n1.png,a\n,b\n", "no path in line 3; expected"),
    "another encoding": ("path\nété.png\n".encode("latin-1"), r"cannot be read \(not UTF-8\); expected CSV in UTF-8"),
    "an open quote": (b'path\n"1.png\n', r"cannot be read \(unexpected end of data\); expected CSV in UTF-8"),
    "an unknown split": (
        b"path,split\n1.png,trian\n",
        r"split 'trian' in line 2; expected train, validation or test\. Did you mean 'train'\?",
    ),
    "missing files": (
        b"path\nimages/1.png\nx.png\ny.png\nimages\n",
        r"'x\.png' \(line 3\) and 2 more .*{folder}; .*`skip_broken=True`",
    ),
}


@pytest.mark.parametrize("case", CSV)
def test_bad_tables_are_refused_alike_in_python_and_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    content, hint = CSV[case]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").touch()
    if case == "an unknown split":
        (tmp_path / "1.png").touch()
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    message = f"{re.escape(str(path))}: .*{hint.replace('{folder}', re.escape(str(tmp_path)))}"
    with pytest.raises(DataError, match=f"^{message}"):
        load_dataset(path)
    with pytest.raises(SystemExit) as stopped:
        main(["data", str(path)])
    assert stopped.value.code == 2
    message = message.replace("`skip_broken=True`", "--skip-broken")
    assert re.fullmatch(f"vaelab: {message}.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": PATHS}, "got the columns 'name'; expected a column 'path'"),
        ({"path": [*PATHS[:39], None]}, "got no path in row 40; expected"),
        ({"path": PATHS, "label": ["a"] * 5 + [None] * 35}, "got no label in row 6; expected"),
        ({"path": [*PATHS[:39], "x.png"]}, r".*'x\.png' \(row 40\) .*expected paths relative to"),
        ({"path": []}, "got no rows; expected one"),
        ({"path": PATHS, "label": [1.0] * 39 + [float("nan")]}, "got no label in row 40; expected"),
        ({"path": PATHS, "label": [0.5] * 40}, r"row 1: got the label 0\.5; expected text or integers"),
        ({"path": PATHS, "label": [b"\xff"] * 40}, r"row 1: got the label .*not UTF-8; expected text"),
        ({"path": PATHS, "label": [["a"]] * 40}, "row 1: got a label of type list; expected text"),
        ({"path": PATHS, "label": [{"a": 1}] * 40}, "row 1: got a label of type dict; expected text"),
        ({"path": PATHS, "label": ["a" * 300] * 40}, "row 1: got a label of 300 characters, .* at most 255"),
        ({"path": PATHS, "split": [1] * 40}, "row 1: got a value of type int; expected text"),
    ],
)
def test_bad_parquet_is_refused(tmp_path: Path, columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=rf"labels\.parquet: {message}"):
        load_dataset(write(tmp_path, "parquet", **columns))


def test_broken_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    path.write_bytes(b"no Parquet")
    with pytest.raises(DataError, match=r"labels\.parquet: cannot be read \(.*\); expected a valid Parquet file"):
        load_dataset(path)


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write(tmp_path, "parquet", path=PATHS)
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "pyarrow":
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"labels\.parquet: .*pyarrow; .*pip install 'vaelab\[parquet\]'.*CSV"):
        load_dataset(table)


def test_a_table_trains_as_any_source_does(tmp_path: Path) -> None:
    labels = ["dark" if i < 20 else "light" for i in range(40)]
    table = write(tmp_path, "csv", path=PATHS, label=labels)
    sheet = tmp_path / "sheet.png"
    with pytest.raises(SystemExit) as stopped:
        main(["data", str(table), "--out", str(sheet)])
    assert stopped.value.code == 0
    with Image.open(sheet) as picture:
        assert np.asarray(picture).any()
