"""A corpus from a folder of files: whole files go to a split, by a hash of their path."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from reformer.data.corpus import CARD_FORMAT, SPLITS, Corpus
from reformer.data.decoding import read_path
from reformer.data.errors import DataError, reason
from reformer.data.files import stamp
from reformer.data.preparing import SplitWriter, prepare, write_contiguous

FOLDER_RULE = (
    "whole files in order of their path: sha256(path) mod 100 below 5 validation, from 5 to 9 test, the rest train"
)
FALLBACK_RULE = "files joined in order of their path, then contiguous 90/5/5, as whole files would leave a split empty"


@dataclass(frozen=True)
class Member:
    """A file in a folder: its relative POSIX path, where it lies, and what changes when its content does."""

    relative: str
    path: Path
    stamp: tuple[int, int, int]

    @property
    def size(self) -> int:
        return self.stamp[0]


def prepare_folder(folder: Path, source: str, cache_dir: Path) -> Corpus:
    """Corpus of all visible files below ``folder``, compressed ones decompressed, nothing put between them.

    Hidden names, ``cache_dir`` itself, folders already visited through a link, and what is no regular file are left
    out. Re-used while the paths, sizes and times of the files are the same.
    Raises DataError for an empty folder and for an unreadable or damaged file in it.
    """
    members = folder_members(folder, cache_dir)
    if not any(member.size for member in members):
        what = f"{len(members)} files, all empty" if members else "no visible files"
        raise DataError(f"folder {folder} holds {what}: expected files with bytes in them; give another folder")
    key = folder_key(folder, members)

    def fill(working: Path) -> dict:
        part = _write_whole_files(working, members) or _write_joined(working, members, str(folder))
        if folder_key(folder, folder_members(folder, cache_dir)) != key:
            raise DataError(f"folder {folder} changed while it was read; run again when nothing writes to it")
        return part

    name = folder.resolve().name
    return prepare(cache_dir, name, key, source, fill, at_least=sum(member.size for member in members))


def split_of(relative: str) -> str:
    """The split of a file in a folder, from its relative POSIX path alone."""
    percent = int.from_bytes(hashlib.sha256(os.fsencode(relative)).digest()[:8], "big") % 100
    return "validation" if percent < 5 else "test" if percent < 10 else "train"


def folder_members(folder: Path, cache_dir: Path | None) -> list[Member]:
    """Visible files below ``folder`` in order of their path; see `prepare_folder` for what is left out."""
    paths = _visible_files(folder, cache_dir)
    found = [Member(path.relative_to(folder).as_posix(), path, stamp(path)) for path in paths]
    return sorted(found, key=lambda member: member.relative)


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


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError as error:
        raise DataError(f"cannot read folder {folder}: {reason(error)}") from error
    return found.st_dev, found.st_ino


def folder_key(folder: Path, members: list[Member]) -> str:
    """Sixteen hex digits that stand for the files of a folder as they are now."""
    digest = hashlib.sha256(os.fsencode(f"format {CARD_FORMAT}\0{folder.resolve()}"))
    for member in members:
        digest.update(os.fsencode(f"\0{member.relative}\0{member.stamp}"))
    return digest.hexdigest()[:16]


def _write_whole_files(working: Path, members: list[Member]) -> dict | None:
    """The card part, or None when a split would be empty."""
    if {split_of(member.relative) for member in members if member.size} != set(SPLITS):
        return None
    files = dict.fromkeys(SPLITS, 0)
    with ExitStack() as stack:
        writers = {name: stack.enter_context(SplitWriter(working, name)) for name in SPLITS}
        for member in members:
            files[split_of(member.relative)] += 1
            for block in read_path(member.path):
                writers[split_of(member.relative)].write(block)
    if not all(writer.bytes for writer in writers.values()):
        return None  # compressed files may hold nothing
    splits = {name: {**writers[name].entry, "files": files[name]} for name in SPLITS}
    total = sum(writer.bytes for writer in writers.values())
    return {"bytes": total, "files": len(members), "rule": FOLDER_RULE, "splits": splits}


def _write_joined(working: Path, members: list[Member], label: str) -> dict:
    joined = (block for member in members for block in read_path(member.path))
    part = write_contiguous(working, joined, label)
    return {**part, "files": len(members), "rule": FALLBACK_RULE}
