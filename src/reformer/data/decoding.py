"""Bytes of a file or stream in blocks, decompressed when they are compressed (told by magic bytes, not by name)."""

import bz2
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from reformer.data.corpus import BLOCK_BYTES
from reformer.data.errors import DataError, reason

_HEAD_BYTES = 16
_MAGIC = {
    "gzip": rb"\x1f\x8b\x08",
    "xz": rb"\xfd7zXZ\x00",
    # Or a skippable frame, with which a file may begin (pzstd writes one).
    "zstd": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
    "zip": rb"PK(\x03\x04|\x05\x06)",
    # "BZh1".."BZh9" and a block, or the end of an empty stream: "BZh" alone may well begin a text.
    "bzip2": rb"BZh.(1AY&SY|\x17rE8P\x90)",
}
_OPENERS: dict[str | None, Any] = {"gzip": gzip.open, "xz": lzma.open, "bzip2": bz2.open}
_SUFFIXES = {".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bzip2", ".zip": "zip"}
# zstd can expand 4 bytes to 128 KiB: small bites bound the memory that one of them takes.
_ZSTD_BITE_BYTES = 4096
_ZSTD_MAX_WINDOW = 1 << 31


def detect(head: bytes) -> str | None:
    """The compression that the first bytes of a file tell, None for plain bytes."""
    return next((kind for kind, magic in _MAGIC.items() if re.match(magic, head, re.DOTALL)), None)


def uncompressed_name(name: str) -> str:
    """The name of a file without what says that it is compressed."""
    for ending in _SUFFIXES:
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return name


def read_path(path: Path) -> Iterator[bytes]:
    """Decompressed blocks of a file.

    Raises DataError when it cannot be read, is damaged or truncated, or is not the compressed file its name claims.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error
    with file:
        yield from read_stream(file, str(path), claimed=_SUFFIXES.get(path.suffix.lower()))


def read_stream(stream: BinaryIO, label: str, claimed: str | None = None) -> Iterator[bytes]:
    """Decompressed blocks of an open binary stream; ``label`` names it in errors, ``claimed`` is what it should be."""
    try:
        head, stream = _peek(stream)
    except OSError as error:
        raise DataError(f"cannot read {label}: {reason(error)}") from error
    kind = detect(head)
    if kind is None and claimed is not None and head:
        raise DataError(f"{label} is named like a {claimed} file but does not begin like one; fetch or rename it")
    try:
        if kind == "zip":
            yield from _read_zip(stream, label)
        elif kind == "zstd":
            yield from _read_zstd(stream, label)
        else:
            # What is not compressed is closed by whoever opened it.
            with _OPENERS.get(kind, nullcontext)(stream) as file:
                yield from _blocks(file)
    except (DataError, MemoryError):
        raise
    # Each decoder has its own exceptions (zlib.error, LZMAError, BadZipFile, ZstdError, EOFError, bare OSError).
    except Exception as error:
        if kind is None or getattr(error, "errno", None) is not None:
            raise DataError(f"cannot read {label}: {reason(error)}") from error
        why = f"damaged or truncated {kind} data ({reason(error)})"
        raise DataError(f"{label}: {why}; fetch it again or give the decompressed file") from error


def _peek(stream: BinaryIO) -> tuple[bytes, BinaryIO]:
    start = stream.tell() if stream.seekable() else None
    head = b""
    while len(head) < _HEAD_BYTES and (more := stream.read(_HEAD_BYTES - len(head))):
        head += more
    if start is not None:
        stream.seek(start)
        return head, stream
    return head, io.BufferedReader(_Rejoined(head, stream), BLOCK_BYTES)


class _Rejoined(io.RawIOBase):
    """A stream that cannot seek, with the bytes already taken from it put back in front."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(block) :]
        buffer[: len(block)] = block
        return len(block)


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _read_zip(stream: BinaryIO, label: str) -> Iterator[bytes]:
    if not stream.seekable():
        raise DataError(f"{label}: a zip archive cannot be read from a pipe; give the path of the file instead")
    with zipfile.ZipFile(stream) as archive:
        members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
        if len(members) != 1:
            fix = "unpack it and give the folder"
            raise DataError(f"{label}: expected a zip archive with one file, found {len(members)}; {fix}")
        with archive.open(members[0]) as file:
            yield from _blocks(file)


def _read_zstd(stream: BinaryIO, label: str) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        fix = "pip install 'reformer-torch[train]'"
        raise DataError(f"{label} is zstd-compressed and the zstandard package is missing: {fix}") from error
    # Frame by frame with decompressobj: zstandard's stream_reader ends without a word on a truncated frame.
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
    frame = None
    while bite := stream.read(_ZSTD_BITE_BYTES):
        while bite:
            frame = frame or decompressor.decompressobj()
            if block := frame.decompress(bite):
                yield block
            bite = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("the last frame is cut short")
