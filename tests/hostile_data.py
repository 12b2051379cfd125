"""Files made to take much memory or time or to say what is not so, a process that measures how they are refused, and fuzzing.

python tests/hostile_data.py CASES.json    # {name: [source, options]} → one line of JSON for each: how it ended and what it took
"""

import gzip
import io
import json
import os
import resource
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vaelab.data import load_dataset
from vaelab.data.names import canonical, class_name, split_folders
from vaelab.errors import VaelabError

MILLION = 1_000_000


def zeros_deflated(millions: int, before: bytes = b"", wbits: int = -15) -> bytes:
    """A Deflate stream of `before` and of many millions of zeros, made of one block that repeats."""
    stream = zlib.compressobj(9, wbits=wbits)
    start = stream.compress(before) + stream.flush(zlib.Z_FULL_FLUSH)
    block = stream.compress(bytes(MILLION)) + stream.flush(zlib.Z_FULL_FLUSH)
    return start + block * millions + b"\3\0"


def gz(raw: bytes) -> bytes:
    return b"\x1f\x8b\x08\0\0\0\0\0\0\3" + raw + bytes(8)


def idx(*shape: int, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)


def npy(header: str, version: int = 1) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


def described(shape: str, descr: str = "|u1") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"


def zipped(members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", how, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


def zip_of_deflated(name: str, raw: bytes, size: int, times: int = 1) -> bytes:
    """An archive of one member that is compressed already, listed `times` times in the directory."""
    common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(raw), min(size, 2**32 - 1), len(name), 0)
    local = b"PK\3\4" + common + name.encode() + raw
    names = [name] if times == 1 else [f"{i:06d}" for i in range(times)]
    entries = b"".join(
        b"PK\1\2\x14\0" + common[:-4] + struct.pack("<HHHHHII", len(each), 0, 0, 0, 0, 0, 0) + each.encode()
        for each in names
    )
    count = min(times, 2**16 - 1)
    return local + entries + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(entries), len(local), 0)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes, pixels: bytes = b"", colour: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(*entries: tuple[int, int, int, int], after: int = 0) -> bytes:
    table = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + struct.pack("<I", after) + bytes(64)


TIFF = ((258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200), (277, 3, 1, 1), (279, 4, 1, 16))
GIF_FRAME = b"\0\2\2\x4c\1\0\0"


def gif(width: int, height: int, frame: tuple[int, int]) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0, 0, 0)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHH", 0, 0, *frame) + GIF_FRAME + b";"


def webp(side: int) -> bytes:
    """A lossless WebP that states a square."""
    bits = (side - 1) | (side - 1) << 14
    content = b"\x2f" + struct.pack("<I", bits) + bytes(20)
    body = b"WEBPVP8L" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg(width: int, height: int) -> bytes:
    content = bytearray(_saved(lambda sink: Image.new("L", (8, 8)).save(sink, "JPEG")))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


class Case(NamedTuple):
    """A source to load with options."""

    source: str
    options: dict[str, Any] = {}  # noqa: RUF012 - read only


def sparse(path: Path, size: int, start: bytes = b"", end: bytes = b"") -> None:
    """A file of `size` bytes that takes no room on the disk."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size - len(end))
        file.seek(0, os.SEEK_END)
        file.write(end)


def small_png(path: Path, side: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (side, side)).save(path)


def _one_file(name: str, content: Callable[[], bytes], **options: Any) -> Callable[[Path], Case]:
    """A source that is a file, or a folder of a file whose name has a slash before it."""

    def write(folder: Path) -> Case:
        path = folder / name.removeprefix("/")
        path.write_bytes(content())
        return Case(str(folder if name.startswith("/") else path), options)

    return write


IMAGES = "/train-images-idx3-ubyte"
RATIO = 4500
GOOD_IDX = idx(10, 4, 4) + bytes(160)


def _labels(folder: Path) -> Case:
    (folder / "train-images-idx3-ubyte").write_bytes(GOOD_IDX)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gz(zeros_deflated(60, idx(60 * MILLION))))
    return Case(str(folder))


def _sparse_idx(folder: Path) -> Case:
    sparse(folder / "train-images-idx3-ubyte", 16 + 100 * 2**30, idx(100, 2**15, 2**15))
    return Case(str(folder))


def _pipe(name: str) -> Callable[[Path], Case]:
    def write(folder: Path) -> Case:
        path = folder / name.removeprefix("/")
        os.mkfifo(path)
        return Case(str(folder if name.startswith("/") else path))

    return write


def _device(name: str) -> Callable[[Path], Case]:
    def write(folder: Path) -> Case:
        (folder / name).symlink_to("/dev/zero")
        return Case(str(folder / name))

    return write


def _sparse_file(name: str, start: bytes) -> Callable[[Path], Case]:
    def write(folder: Path) -> Case:
        sparse(folder / name.removeprefix("/"), 20 * 2**30, start)
        return Case(str(folder if name.startswith("/") else folder / name))

    return write


def _rows_of_one_image(folder: Path) -> Case:
    small_png(folder / "a.png", 3000)
    (folder / "t.csv").write_text("path\n" + "a.png\n" * 2000)
    return Case(str(folder / "t.csv"))


def _many_classes(folder: Path) -> Case:
    small_png(folder / "a.png")
    (folder / "t.csv").write_text("path,label\n" + "".join(f"a.png,{i}\n" for i in range(100_000)))
    return Case(str(folder / "t.csv"))


def _many_folders(folder: Path) -> Case:
    for i in range(10_001):
        (folder / str(i)).mkdir()
    return Case(str(folder))


def _many_labels(folder: Path) -> Case:
    np.savez(folder / "x.npz", images=np.zeros((200_000, 1, 1), np.uint8), labels=np.arange(200_000))
    return Case(str(folder / "x.npz"))


def _deep(folder: Path) -> Case:
    small_png(folder / "a" / "/".join("d" * 200) / "x.png")
    small_png(folder / "b" / "x.png")
    return Case(str(folder))


def _link_out(folder: Path) -> Case:
    small_png(folder / "out" / "x.png")
    small_png(folder / "in" / "a" / "x.png")
    (folder / "in" / "a" / "y.png").symlink_to("../../out/x.png")
    return Case(str(folder / "in"))


def _parquet(columns: Callable[[], Any], **options: Any) -> Callable[[Path], Case]:
    def write(folder: Path) -> Case:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(columns()), folder / "t.parquet", **options)
        return Case(str(folder / "t.parquet"))

    return write


def _repeated(count: int, value: str | bytes = "a.png") -> Any:
    import pyarrow

    return pyarrow.DictionaryArray.from_arrays(np.zeros(count, np.int32), [value])


def _arrow(folder: Path) -> Case:
    """A folder as of `save_to_disk`, compressed."""
    import pyarrow

    table = pyarrow.table({"image": [bytes(100 * MILLION)]})
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    with pyarrow.ipc.new_stream(folder / "data.arrow", table.schema, options=options) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text('{"_data_files": ["data.arrow"]}')
    (folder / "dataset_info.json").write_text("{}")
    return Case(str(folder))


def tar_header(kind: bytes, size: int = 1 << 40) -> bytes:
    """A header of a tar that states a member of this type and size, and a block of its content."""
    member = tarfile.TarInfo("0.png")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(512)


def _archive(
    images: str, content: bytes = b"", *, version: int = 1, labels: str = "", how: int = 8
) -> Callable[[Path], Case]:
    """An archive of arrays with these headers and this content of the images."""
    members = {"images.npy": npy(images, version) + content} | ({"labels.npy": npy(labels)} if labels else {})
    return _one_file("x.npz", lambda: zipped(members, how))


SMALL = described("(1, 4, 4)")

CASES: dict[str, Callable[[Path], Case]] = {
    "gzip of 4.5 GB": _one_file(IMAGES + ".gz", lambda: gz(zeros_deflated(RATIO, idx(RATIO, 1000, 1000)))),
    "gzip of more than its header says": _one_file(IMAGES + ".gz", lambda: gz(zeros_deflated(500, idx(10, 4, 4)))),
    "gzip with a name of 20 MB": _one_file(
        IMAGES + ".gz", lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\3" + b"n" * 20 * MILLION
    ),
    "gzip of a million streams of nothing": _one_file(IMAGES + ".gz", lambda: gzip.compress(b"", mtime=0) * MILLION),
    "gzip padded with 20 MB": _one_file(IMAGES + ".gz", lambda: gzip.compress(idx(10, 4, 4)) + bytes(20 * MILLION)),
    "IDX header of 10^27 bytes": _one_file(IMAGES, lambda: idx(2**31, 2**31, 2**31) + bytes(100)),
    "IDX of 255 dimensions": _one_file(IMAGES, lambda: idx(*[2] * 255) + bytes(1000)),
    "IDX that is a hole of 100 GB": _sparse_idx,
    "IDX labels of 60 million for 10 images": _labels,
    "npz of 5 GB": _one_file(
        "x.npz",
        lambda: zip_of_deflated(
            "images.npy", zeros_deflated(5000, npy(described("(5000, 1000, 1000)"))), 5 * 10**9 + 128
        ),
    ),
    "npz header of 10^15 bytes": _archive(described("(100000, 100000, 100000)")),
    "npz shape that overflows": _archive(described("(4294967296, 4294967296)")),
    "npz of negative shape": _archive(described("(-4, -4, 9)")),
    "npz text of 4 GB a label": _archive(SMALL, bytes(16), labels=described("(1,)", "<U1000000000")),
    "npz of 10^18 labels of no bytes": _archive(SMALL, bytes(16), labels=described(f"({10**18},)", "|S0")),
    "npz of 10^18 images of no bytes": _archive(described(f"({10**18}, 4, 4)", "|V0")),
    "npz of 300,000 members": _one_file("x.npz", lambda: zip_of_deflated("images.npy", b"\3\0", 0, 300_000)),
    "npz of 5,000 members": _one_file("x.npz", lambda: zip_of_deflated("images.npy", b"\3\0", 0, 5000)),
    "npz member that is no array": _one_file(
        "x.npz", lambda: zip_of_deflated("images", zeros_deflated(2000), 2 * 10**9)
    ),
    "npz in bzip2": _archive(described("(100, 1000, 1000)"), bytes(100 * MILLION), how=zipfile.ZIP_BZIP2),
    "npz in LZMA": _archive(described("(20, 1000, 1000)"), bytes(20 * MILLION), how=zipfile.ZIP_LZMA),
    "npz header of 50 MB": _archive(" " * 50 * MILLION, version=2),
    "npz header of nested brackets": _archive(described("(" * 4000 + ")" * 4000)),
    "npz of pickles": _archive(described("(4,)", "|O"), b"cos\nsystem\n(S'true'\ntR."),
    "npz of 200,000 classes": _many_labels,
    "PNG of 81 million pixels in 80 kB": _one_file(
        "/a.png", lambda: png(9000, 9000, pixels=zeros_deflated(81, wbits=15) + bytes(4))
    ),
    "PNG of 2^62 pixels": _one_file("/a.png", lambda: png(2**31 - 1, 2**31 - 1)),
    "PNG of one row of 60 million pixels": _one_file(
        "/a.png", lambda: png(60 * MILLION, 1, pixels=zlib.compress(bytes(60 * MILLION + 1), 1)), size=64, fit="pad"
    ),
    "PNG with a colour profile of 500 MB": _one_file(
        "/a.png", lambda: png(4, 4, chunk(b"iCCP", b"p\0\0" + zeros_deflated(500, wbits=15)), pixels=b"x")
    ),
    "PNG with texts of 500 MB": _one_file(
        "/a.png", lambda: png(4, 4, *[chunk(b"zTXt", b"k\0\0" + zeros_deflated(50, wbits=15))] * 10, pixels=b"x")
    ),
    "PNG of 2^31 frames": _one_file(
        "/a.png", lambda: png(4, 4, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), pixels=b"x")
    ),
    "PNG that is a hole of 20 GB": _sparse_file("/a.png", png(4, 4)[:33] + struct.pack(">I", 2**31 - 1) + b"iCCP"),
    "GIF of 4 billion pixels": _one_file("/a.gif", lambda: gif(65535, 65535, (1, 1))),
    "GIF whose frame is larger than it": _one_file("/a.gif", lambda: gif(4, 4, (65535, 65535))),
    "BMP of 2^60 pixels": _one_file(
        "/a.bmp", lambda: b"BM" + struct.pack("<IIIIiiHHIIiiII", 80, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0)
    ),
    "TIFF of 2^60 pixels": _one_file("/a.tif", lambda: tiff(*TIFF, (256, 4, 1, 2**30), (257, 4, 1, 2**30))),
    "TIFF with 2^32 strips": _one_file(
        "/a.tif", lambda: tiff(*TIFF[:3], (273, 4, 2**32 - 1, 8), *TIFF[4:], (256, 4, 1, 4), (257, 4, 1, 4))
    ),
    "TIFF whose pages are a circle": _one_file(
        "/a.tif", lambda: tiff(*TIFF, (256, 4, 1, 4), (257, 4, 1, 4), after=8)[:-70]
    ),
    "WebP of 268 million pixels": _one_file("/a.webp", lambda: webp(2**14)),
    "WebP that is a hole of 20 GB": _sparse_file("/a.webp", webp(4)),
    "JPEG of 4 billion pixels": _one_file("/a.jpg", lambda: jpeg(65500, 65500)),
    "table of one line of 100 MB": _one_file("t.csv", lambda: b"path," * 20 * MILLION),
    "table that is a hole of 20 GB": _sparse_file("t.csv", b"path\n"),
    "table of 100,000 columns": _one_file("t.csv", lambda: ",".join(f"c{i}" for i in range(100_000)).encode()),
    "table with a value of 10 MB": _one_file("t.csv", lambda: b'path\n"' + b"a" * 10 * MILLION + b'"\n'),
    "table of 100,000 classes": _many_classes,
    "table of 2,000 rows of one large image": _rows_of_one_image,
    "Parquet of 5 million rows in 1 kB": _parquet(lambda: {"path": _repeated(5 * MILLION)}),
    "Parquet with a value of 80 MB": _parquet(lambda: {"path": ["a" * 80 * MILLION]}, compression="zstd"),
    "Parquet of an image of 100 MB of zeros": _parquet(lambda: {"image": [bytes(100 * MILLION)]}, compression="zstd"),
    "Parquet of 2 million rows of one image": _parquet(lambda: {"image": _repeated(2 * MILLION, b"a")}),
    "Arrow of an image of 100 MB of zeros": _arrow,
    "tar of a member of 1 TB": _one_file("t.tar", lambda: tar_header(b"0")),
    "tar of a name of 1 TB": _one_file("t.tar", lambda: tar_header(b"L")),
    "tar of 2,000 headers that follow one another": _one_file("t.tar", lambda: tar_header(b"L", 1) * 2000),
    "10,001 folders": _many_folders,
    "200 folders inside one another": _deep,
    "a link that leaves the folder": _link_out,
    "a pipe for an archive": _pipe("x.npz"),
    "a pipe for a table": _pipe("t.csv"),
    "a pipe for a Parquet table": _pipe("t.parquet"),
    "a pipe for a tar": _pipe("x.tar"),
    "a pipe for an IDX file": _pipe(IMAGES),
    "a pipe for an image": _pipe("/a.png"),
    "a device for a table": _device("t.csv"),
    "a device for an archive": _device("x.npz"),
    "a name of a million characters": lambda _: Case("x\x1b" * 500_000),
}
"""Sources that are refused, each by a function that writes it into a folder."""


class Outcome(NamedTuple):
    """How loading a source ended: the kind of error, its message, processor seconds, and more memory at the peak in MB."""

    error: str
    message: str
    seconds: float
    megabytes: float


def _peak() -> float:
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1000


def _measured(case: Case) -> Outcome:
    """Load a source in this process, whose peak of memory begins here."""
    Path("/proc/self/clear_refs").write_text("5")
    peak, start, error = _peak(), time.process_time(), None
    try:
        load_dataset(case.source, **case.options)
    except Exception as raised:
        error = raised
    kind = "" if error is None else type(error).__name__
    return Outcome(kind, str(error or ""), time.process_time() - start, _peak() - peak)


def outcomes(cases: dict[str, Case]) -> Iterator[tuple[str, Outcome]]:
    """Load each source in a fork of this process, which has imported everything; one that takes 20 s is ended."""
    import pyarrow.parquet  # noqa: F401

    for name, case in cases.items():
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
            resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
            try:
                os.write(sink, json.dumps(_measured(case)).encode())
            finally:
                os._exit(0)
        os.close(sink)
        with os.fdopen(source, "rb") as report:
            text = report.read()
        os.waitpid(child, 0)
        yield name, Outcome(*json.loads(text)) if text else Outcome("killed", "", 20, 4000)


PICTURES = ("L PNG", "RGBA PNG", "P GIF", "RGB JPEG", "RGB BMP", "RGB WEBP", "L TIFF", "I;16 TIFF")
"""Modes and formats of valid images."""


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    sink = io.BytesIO()
    save(sink)
    return sink.getvalue()


def _picture(mode: str, kind: str) -> bytes:
    levels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    image = (
        Image.fromarray(levels[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(levels).convert(mode)
    )
    return _saved(lambda sink: image.save(sink, kind))


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "idx": lambda: [
        idx(5, 4, 4) + bytes(80),
        gzip.compress(idx(5, 4, 4) + bytes(80), mtime=0),
        idx(5, kind=0x0C) + bytes(20),
    ],
    "npz": lambda: [
        _saved(lambda sink: np.savez(sink, images=np.zeros((5, 4, 4), np.uint8), labels=np.arange(5) % 2)),
        _saved(lambda sink: np.savez_compressed(sink, X=np.zeros((3, 2, 2)), y=np.array(["a", "b", "c"]))),
    ],
    "image": lambda: [_picture(*each.split()) for each in PICTURES],
    "table": lambda: [b"path,label,split\na.png,x,train\nb.png,y,test\n", b'path\n"a.png"\nc.png\n'],
    "names": lambda: [b"train\ntest\nLABELS\n seg_train\nseg_test", b"\xff\xfe\0a\nvalid\ndev"],
}
"""Valid content for each reader, from which fuzzing starts."""

PLACES = {
    "idx": ("train-images-idx3-ubyte", ""),
    "npz": ("x.npz", "x.npz"),
    "image": ("x.png", ""),
    "table": ("t.csv", "t.csv"),
}
"""The file that a reader gets, and the source in its folder."""


def read_any(reader: str, content: bytes, folder: Path) -> None:
    """Give any content to a reader. Whatever it does other than to read it or to raise an error of vaelab is a fault."""
    try:
        if reader == "names":
            names = content.decode("utf-8", "surrogateescape").split("\n")
            split_folders(names)
            class_name(content, "x")
            canonical(names, {"path": ("file",), "label": ("labels", "y")}, "x", "column")
            return
        name, source = PLACES[reader]
        (folder / name).write_bytes(content)
        if reader == "table" and not (folder / "a.png").exists():
            small_png(folder / "a.png")
            small_png(folder / "b.png")
        load_dataset(folder / source, max_bytes=1 << 24, max_pixels=1 << 20)
    except VaelabError:
        pass


if __name__ == "__main__":
    given = {name: Case(*case) for name, case in json.loads(Path(sys.argv[1]).read_text()).items()}
    for name, outcome in outcomes(given):
        print(json.dumps([name, outcome]), flush=True)
