import bz2
import gzip
import io
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reformer.data.decoding import detect, read_path, read_stream

from .conftest import OnePass
from .helpers import refuses, some_bytes

# Incompressible, then very compressible; longer than a block of 1 MiB.
DATA = some_bytes(200_000) + b"abcd" * 250_000


def zipped(data: bytes, *names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("data.txt",):
            archive.writestr(name, data)
    return buffer.getvalue()


def zstandard_compressed(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    return zstandard.ZstdCompressor(level=1).compress(data)


def quick_xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


def quick_gzip(data: bytes) -> bytes:
    return gzip.compress(data, 1)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": quick_gzip,
    ".xz": quick_xz,
    ".bz2": bz2.compress,
    ".zip": zipped,
    ".zst": zstandard_compressed,
}
STREAMED = [suffix for suffix in COMPRESSIONS if suffix != ".zip"]


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_round_trip(tmp_path: Path, suffix: str, named: bool):
    path = tmp_path / (f"data{suffix}" if named else "data")
    path.write_bytes(COMPRESSIONS[suffix](DATA))
    blocks = list(read_path(path))
    assert b"".join(blocks) == DATA
    # zstd blocks are bounded by what its smallest bite can expand to.
    assert max(map(len, blocks)) <= (1 << 27 if suffix == ".zst" else 1 << 20)


def test_plain_round_trip(tmp_path: Path):
    (tmp_path / "data").write_bytes(DATA)
    assert b"".join(read_path(tmp_path / "data")) == DATA


@pytest.mark.parametrize("suffix", STREAMED)
def test_round_trip_from_a_pipe(suffix: str):
    assert b"".join(read_stream(OnePass(COMPRESSIONS[suffix](DATA)), "pipe")) == DATA


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 5000])
def test_plain_bytes_from_a_pipe(n: int):
    assert b"".join(read_stream(OnePass(DATA[:n], at_once=3), "pipe")) == DATA[:n]


def test_reads_from_where_a_seekable_stream_stands():
    stream = io.BytesIO(b"skipped" + DATA[:1000])
    stream.seek(7)
    assert b"".join(read_stream(stream, "stream")) == DATA[:1000]


@pytest.mark.parametrize("suffix", STREAMED)
def test_joined_files_give_joined_content(tmp_path: Path, suffix: str):
    pack = COMPRESSIONS[suffix]
    (tmp_path / "data").write_bytes(pack(b"first ") + pack(b"second"))
    assert b"".join(read_path(tmp_path / "data")) == b"first second"


def test_skippable_zstd_frames_are_skipped(tmp_path: Path):
    frame = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"note"
    (tmp_path / "data.zst").write_bytes(frame + zstandard_compressed(b"content") + frame)
    assert b"".join(read_path(tmp_path / "data.zst")) == b"content"


@pytest.mark.parametrize("suffix", COMPRESSIONS)
@pytest.mark.parametrize("kept", [0.3, 0.9, -1])
def test_truncated_file_is_refused(tmp_path: Path, suffix: str, kept: float):
    packed = COMPRESSIONS[suffix](DATA)
    path = tmp_path / f"data{suffix}"
    path.write_bytes(packed[: int(len(packed) * kept) if kept > 0 else kept])
    with refuses(str(path), "damaged or truncated", "fetch it again"):
        list(read_path(path))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zip"])
def test_flipped_bit_is_refused(tmp_path: Path, suffix: str):
    packed = bytearray(COMPRESSIONS[suffix](DATA))
    packed[len(packed) // 2] ^= 8
    path = tmp_path / "data"
    path.write_bytes(packed)
    with refuses(str(path), "damaged or truncated"):
        list(read_path(path))


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_name_that_promises_compression_must_keep_it(tmp_path: Path, suffix: str):
    path = tmp_path / f"page{suffix}"
    path.write_bytes(b"<html>not found</html>")
    with refuses(str(path), "does not begin like one"):
        list(read_path(path))


@pytest.mark.parametrize("names", [("a", "b"), ("folder/",)])
def test_zip_must_hold_one_file(tmp_path: Path, names: tuple[str, ...]):
    path = tmp_path / "data.zip"
    path.write_bytes(zipped(b"x" if len(names) > 1 else b"", *names))
    with refuses("one file", f"found {len(names) if len(names) > 1 else 0}", "unpack it"):
        list(read_path(path))


def test_zip_may_hold_a_folder_and_finder_droppings(tmp_path: Path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("folder/", b"")
        archive.writestr("folder/data.txt", b"content")
        archive.writestr("__MACOSX/folder/._data.txt", b"junk")
    (tmp_path / "data.zip").write_bytes(buffer.getvalue())
    assert b"".join(read_path(tmp_path / "data.zip")) == b"content"


def test_zip_from_a_pipe_is_refused():
    with refuses("pipe", "path of the file"):
        list(read_stream(OnePass(zipped(b"x" * 100)), "pipe"))


@pytest.mark.parametrize("text", [b"BZh is how it begins", b"BZh91AYxxxxxxxxxx", b"PK is a shop", b"\x1f\x8bx", b""])
def test_text_is_not_taken_for_compression(text: bytes):
    assert detect(text) is None


def test_missing_zstandard_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "data").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with refuses("zstd-compressed", "pip install 'reformer-torch[train]'"):
        list(read_path(tmp_path / "data"))


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def denied(self: Path, *args: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    with refuses("data", "Permission denied"):
        list(read_path(tmp_path / "data"))


def test_trouble_while_reading_is_not_called_damage():
    class Failing(OnePass):
        def readinto(self, buffer) -> int:
            raise OSError(5, "Input/output error")

    with refuses("cannot read disk", "Input/output error"):
        list(read_stream(Failing(b""), "disk"))
