"""A corpus from files: from one, from a stream that can be read only once, or from all files of a folder."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from reformer.data.corpus import CARD_FORMAT, SPLITS, Corpus
from reformer.data.decoding import read_path, read_stream, uncompressed_name
from reformer.data.errors import DataError, reason
from reformer.data.preparing import prepare, split_writers, splits_part, write_contiguous

FOLDER_RULE = (
    "whole files in order of their path: sha256(path) mod 100 below 5 validation, from 5 to 9 test, the rest train"
)
FALLBACK_RULE = "files joined in order of their path, then contiguous 90/5/5, as whole files would leave a split empty"


class Member(NamedTuple):
    """A file in a folder: its relative POSIX path, where it lies, and what changes when its content does: its size first."""

    relative: str
    path: Path
    stamp: tuple[int, int, int]


def prepare_file(path: Path, source: str, cache_dir: Path) -> Corpus:
    """Corpus of one file, split contiguously 90/5/5; re-used while path, size and times of the file are the same.

    Raises DataError for an unreadable, damaged or too short file, and for one that changes while it is read.
    """

    def fill(working: Path) -> dict[str, Any]:
        return write_contiguous(working, read_path(path), str(path))

    return prepare(
        cache_dir, uncompressed_name(path.name), lambda: path_key(path), source, fill, at_least=_stamp(path)[0]
    )


def prepare_stream(stream: BinaryIO, name: str, source: str, cache_dir: Path) -> Corpus:
    """Corpus of all that a stream gives, split contiguously 90/5/5; the same bytes give the same corpus again.

    Raises DataError for a damaged or too short stream.
    """
    label = "standard input" if source == "-" else source
    return prepare(cache_dir, name, None, source, lambda d: write_contiguous(d, read_stream(stream, label), label))


def prepare_folder(folder: Path, source: str, cache_dir: Path) -> Corpus:
    """Corpus of all visible files below ``folder``, compressed ones decompressed, nothing put between them.

    Hidden names, ``cache_dir`` itself, folders already visited through a link, and what is no regular file are left
    out. Re-used while the paths, sizes and times of the files are the same.
    Raises DataError for an empty folder, for an unreadable or damaged file in it, and if they change while they are read.
    """
    members = folder_members(folder, cache_dir)
    if not any(member.stamp[0] for member in members):
        what = f"{len(members)} files, all empty" if members else "no visible files"
        raise DataError(f"folder {folder} holds {what}: expected files with bytes in them; give another folder")

    def fill(working: Path) -> dict[str, Any]:
        now = folder_members(folder, cache_dir)
        if (part := _write_whole_files(working, now)) is None:
            joined = (block for member in now for block in read_path(member.path))
            part = {**write_contiguous(working, joined, str(folder)), "files": len(now), "rule": FALLBACK_RULE}
        return part

    size = sum(member.stamp[0] for member in members)
    return prepare(cache_dir, folder.resolve().name, lambda: path_key(folder, cache_dir), source, fill, at_least=size)


def split_of(relative: str) -> str:
    """The split of a file in a folder, from its relative POSIX path alone."""
    percent = int.from_bytes(hashlib.sha256(os.fsencode(relative)).digest()[:8], "big") % 100
    return "validation" if percent < 5 else "test" if percent < 10 else "train"


def find_source(source: str, kept_in: Path, endings: tuple[str, ...] = ("",)) -> Path:
    """The path that ``source`` is, or the name of, below ``kept_in``; if neither is there, the path as given."""
    path = Path(source).expanduser()
    kept = (kept_in / f"{source}{ending}" for ending in endings)
    return next((found for found in (path, *kept) if found.exists()), path)


def path_key(path: Path, cache_dir: Path | None = None) -> str:
    """Sixteen hex digits that stand for a file, or for the files of a folder, as they are now."""
    text = f"format {CARD_FORMAT}\0{path.resolve()}"
    if os.path.isdir(path):
        text += "".join(f"\0{member.relative}\0{member.stamp}" for member in folder_members(path, cache_dir))
    else:
        text += f"\0{_stamp(path)}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def folder_members(folder: Path, cache_dir: Path | None) -> list[Member]:
    """Visible files below ``folder`` in order of their path; see `prepare_folder` for what is left out."""
    paths = _visible_files(folder, cache_dir)
    return sorted(Member(path.relative_to(folder).as_posix(), path, _stamp(path)) for path in paths)


def _visible_files(folder: Path, cache_dir: Path | None) -> Iterator[Path]:
    # Each real folder once: a link to a parent would never end, and one to a neighbour would double its files.
    visited = {_identity(cache_dir)} if cache_dir is not None and os.path.isdir(cache_dir) else set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        if (identity := _identity(here)) in visited:
            continue
        visited.add(identity)
        try:
            names = sorted(name for name in os.listdir(here) if not name.startswith("."))
        except OSError as error:
            raise DataError(f"cannot read folder {here}: {reason(error)}") from error
        yield from (here / name for name in names if os.path.isfile(here / name))
        waiting.extend(here / name for name in reversed(names) if os.path.isdir(here / name))


def _stat(path: Path) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when the content of a file does: size, modification time and (harder to forge) change time."""
    found = _stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _identity(folder: Path) -> tuple[int, int]:
    found = _stat(folder)
    return found.st_dev, found.st_ino


def _write_whole_files(working: Path, members: list[Member]) -> dict[str, Any] | None:
    """The card part, or None when a split would be empty."""
    if {split_of(member.relative) for member in members if member.stamp[0]} != set(SPLITS):
        return None
    with split_writers(working, "files") as writers:
        for member in members:
            writer = writers[split_of(member.relative)]
            writer.facts["files"] += 1
            for block in read_path(member.path):
                writer.write(block)
    if not all(writer.bytes for writer in writers.values()):
        return None  # compressed files may hold nothing
    return {**splits_part(writers), "files": len(members), "rule": FOLDER_RULE}
