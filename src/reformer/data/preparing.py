"""Writing a corpus so that it is either wholly there or not there at all."""

import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reformer.data.corpus import BLOCK_BYTES, CARD_FORMAT, SPLITS, Corpus, open_corpus, sha256_of, split_path
from reformer.data.errors import DataError, reason

CONTIGUOUS_RULE = "contiguous: the first 90% of the bytes train, the next 5% validation, the last 5% test"
# The least that leaves a byte in each split: 20 x 5% = 1.
MIN_BYTES = 20
_WORKING_PREFIX = ".preparing-"
_ABANDONED_SECONDS = 24 * 3600
DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class SplitWriter:
    """The file of one split while it grows: counts, hashes and appends blocks; ``facts`` go to the card too."""

    def __init__(self, directory: Path, name: str) -> None:
        self._file = split_path(directory, name).open("wb", buffering=BLOCK_BYTES)
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def write(self, block: bytes) -> None:
        """Append a block."""
        self._file.write(block)
        self._digest.update(block)
        self.bytes += len(block)

    @property
    def entry(self) -> dict[str, Any]:
        """What the card says about the split."""
        return {"bytes": self.bytes, "sha256": self._digest.hexdigest(), **self.facts}


@contextmanager
def split_writers(directory: Path, *counts: str) -> Iterator[dict[str, SplitWriter]]:
    """The files of all splits, open at once, with facts of these names that count from 0."""
    with ExitStack() as stack:
        writers = {name: stack.enter_context(SplitWriter(directory, name)) for name in SPLITS}
        for writer in writers.values():
            writer.facts = dict.fromkeys(counts, 0)
        yield writers


def splits_part(writers: dict[str, SplitWriter]) -> dict[str, Any]:
    """What the card says about what they wrote."""
    total = sum(writer.bytes for writer in writers.values())
    return {"bytes": total, "splits": {name: writer.entry for name, writer in writers.items()}}


def write_contiguous(directory: Path, blocks: Iterable[bytes], label: str) -> dict[str, Any]:
    """Split a stream of unknown length 90/5/5 in order; returns its part of the card. Raises DataError if too short.

    Everything goes to the train file first and the tails are moved out of it: peak disk use is 1.05 times the corpus.
    """
    with SplitWriter(directory, "train") as whole:
        for block in blocks:
            whole.write(block)
    total = whole.bytes
    if total < MIN_BYTES:
        what = "is empty" if total == 0 else f"holds {total} bytes"
        raise DataError(f"{label} {what}: expected at least {MIN_BYTES} bytes to split 90/5/5; give more data")
    train_end, validation_end = total * 90 // 100, total * 90 // 100 + total * 5 // 100
    test = _move_tail(directory, "test", validation_end)
    validation = _move_tail(directory, "validation", train_end)
    train = {"bytes": train_end, "sha256": sha256_of(split_path(directory, "train"))}
    splits = dict(zip(SPLITS, (train, validation, test)))
    return {"bytes": total, "sha256": whole.entry["sha256"], "rule": CONTIGUOUS_RULE, "splits": splits}


def _move_tail(directory: Path, name: str, start: int) -> dict[str, Any]:
    with split_path(directory, "train").open("r+b") as file, SplitWriter(directory, name) as tail:
        file.seek(start)
        while block := file.read(BLOCK_BYTES):
            tail.write(block)
        file.truncate(start)
    return tail.entry


def prepare(
    cache_dir: Path,
    name: str,
    key: str | Callable[[], str] | None,
    source: str,
    fill: Callable[[Path], dict[str, Any]],
    at_least: int = 0,
) -> Corpus:
    """The corpus ``cache_dir/<name>-<key>``, re-used when it is there, else filled by ``fill`` and then put there.

    ``fill`` writes the splits into the empty folder it is given and returns its part of the card. A ``key`` that is a function
    stands for the source as it is when called; without a key the first 16 digits of the card's sha256 are it. ``at_least``
    is a lower bound of the bytes needed, for errors. A crash or kill leaves at most a hidden working folder, removed by a
    later preparation a day after. Raises DataError when the source changes meanwhile, the cache folder cannot be written or
    the disk is full.
    """
    cache_dir, name = Path(cache_dir), safe_name(name)
    known = key() if callable(key) else key
    if known is not None and os.path.exists(ready := cache_dir / f"{name}-{known}"):
        return open_corpus(ready)
    working = cache_dir / f"{_WORKING_PREFIX}{name}-{uuid.uuid4().hex[:12]}"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(cache_dir)
        working.mkdir()
        part = fill(working)
        if callable(key) and key() != known:
            raise DataError(f"{source} changed while it was read; run again when nothing writes to it")
        ready = cache_dir / f"{name}-{known or part['sha256'][:16]}"
        created = datetime.now(UTC).isoformat(timespec="seconds")
        _write_card(working, {"format": CARD_FORMAT, "name": name, "source": source, "created": created, **part})
        _publish(working, ready)
    # Sources turn their own trouble into DataError, so an OSError here is about writing.
    except OSError as error:
        raise DataError(write_failure(error, cache_dir, name, max(at_least, _bytes_in(working)))) from error
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return open_corpus(ready)


def safe_name(name: str) -> str:
    """A name fit for a folder on every system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:64] or "corpus"


def write_failure(error: OSError, folder: Path, what: str, at_least: int) -> str:
    """One line about a failed write: a full disk names the folder and the bytes needed."""
    if error.errno in DISK_FULL:
        need = f"at least {at_least:,} bytes are needed"
        return f"disk full while writing {what} to {folder}: {need}; free some space or choose another cache folder"
    return f"cannot write {what} to {folder}: {reason(error)}; choose another cache folder"


def _bytes_in(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*")) if directory.is_dir() else 0


def _write_card(directory: Path, card: dict[str, Any]) -> None:
    text = json.dumps(card, indent=2, ensure_ascii=True) + "\n"
    (directory / "card.json").write_text(text, encoding="utf-8")


def _publish(working: Path, ready: Path) -> None:
    for path in working.iterdir():
        sync(path)
    sync(working)
    try:
        working.rename(ready)
    except OSError:
        # Another process prepared the same corpus meanwhile: theirs is as good.
        if not os.path.exists(ready):
            raise
    sync(ready.parent)


def sync(path: Path) -> None:
    """Return once what a file or folder holds is on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(cache_dir: Path) -> None:
    for folder in cache_dir.glob(f"{_WORKING_PREFIX}*"):
        try:
            newest = max(path.stat().st_mtime for path in (folder, *folder.glob("*")))
        except FileNotFoundError:  # its owner has just finished
            continue
        if time.time() - newest > _ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
