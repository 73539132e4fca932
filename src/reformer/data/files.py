"""A corpus from one file, or from a stream that can be read only once."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from reformer.data.corpus import CARD_FORMAT, Corpus
from reformer.data.decoding import read_path, read_stream
from reformer.data.errors import DataError, reason
from reformer.data.preparing import prepare, write_contiguous


def prepare_file(path: Path, source: str, cache_dir: Path) -> Corpus:
    """Corpus of one file, split contiguously 90/5/5; re-used while path, size and times of the file are the same.

    Raises DataError for an unreadable, damaged or too short file, and for one that changes while it is read.
    """
    key = file_key(path)

    def fill(working: Path) -> dict:
        part = write_contiguous(working, read_path(path), str(path))
        if file_key(path) != key:
            raise DataError(f"{path} changed while it was read; run again when nothing writes to it")
        return part

    return prepare(cache_dir, _stem(path), key, source, fill, at_least=stamp(path)[0])


def prepare_stream(stream: BinaryIO, name: str, source: str, cache_dir: Path) -> Corpus:
    """Corpus of all that a stream gives, split contiguously 90/5/5; the same bytes give the same corpus again.

    Raises DataError for a damaged or too short stream.
    """
    label = "standard input" if source == "-" else source
    return prepare(cache_dir, name, None, source, lambda d: write_contiguous(d, read_stream(stream, label), label))


def stamp(path: Path) -> tuple[int, int, int]:
    """What changes when the content of a file does: size, modification time and (harder to forge) change time."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def file_key(path: Path) -> str:
    """Sixteen hex digits that stand for a file as it is now."""
    text = f"format {CARD_FORMAT}\0{path.resolve()}\0{stamp(path)}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".gz", ".xz", ".zst", ".bz2", ".zip"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return name
