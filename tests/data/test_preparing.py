import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reformer.data import load_corpus
from reformer.data.preparing import SplitWriter, prepare, safe_name, write_contiguous

from .helpers import entries, refuses, some_bytes, whole

DATA = some_bytes(3000)


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "text").write_bytes(DATA)
    return str(tmp_path / "text")


def fail_in(monkeypatch: pytest.MonkeyPatch, split: str, error: BaseException) -> None:
    """Half of the first block of ``split`` is written, then ``error`` comes."""
    plain_write, plain_init = SplitWriter.write, SplitWriter.__init__

    def init(self: SplitWriter, directory: Path, name: str) -> None:
        plain_init(self, directory, name)
        self.name = name

    def write(self: SplitWriter, block: bytes) -> None:
        plain_write(self, block[: len(block) // 2] if self.name == split else block)
        if self.name == split:
            raise error

    monkeypatch.setattr(SplitWriter, "__init__", init)
    monkeypatch.setattr(SplitWriter, "write", write)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("killed")])
def test_interruption_leaves_nothing_and_the_next_run_succeeds(source: str, cache: Path, split: str, error):
    with pytest.MonkeyPatch.context() as patch:
        fail_in(patch, split, error)
        with pytest.raises(type(error)):
            load_corpus(source, cache)
    assert entries(cache) == []
    assert whole(load_corpus(source, cache)) == DATA


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_names_the_folder_and_the_bytes(source: str, cache: Path, monkeypatch, split: str, code: int):
    fail_in(monkeypatch, split, OSError(code, os.strerror(code)))
    with refuses("disk full", str(cache), "at least 3,0", "bytes are needed", "free some space"):
        load_corpus(source, cache)
    assert entries(cache) == []


def test_full_disk_while_the_length_is_unknown(cache: Path, pipe_in, monkeypatch: pytest.MonkeyPatch):
    pipe_in(DATA)
    fail_in(monkeypatch, "test", OSError(errno.ENOSPC, "No space left on device"))
    with refuses("disk full", "at least 3,0"):
        load_corpus("-", cache)


def test_full_disk_while_syncing(source: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with refuses("disk full", str(cache)):
        load_corpus(source, cache)
    assert entries(cache) == []


def test_cache_that_cannot_be_written_is_refused(source: str, tmp_path: Path):
    (tmp_path / "occupied").write_text("a file")
    with refuses("cannot write text", "occupied", "choose another cache folder"):
        load_corpus(source, tmp_path / "occupied")
    with refuses("cannot write text", "occupied", "choose another cache folder"):
        load_corpus(source, tmp_path / "occupied" / "below")


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_kill_leaves_nothing_that_looks_prepared(source: str, cache: Path):
    code = f"""
import os, signal
from reformer.data import preparing, load_corpus
preparing._write_card = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
load_corpus({source!r}, {str(cache)!r})
"""
    killed = subprocess.run([sys.executable, "-c", code])
    assert killed.returncode == -signal.SIGKILL
    (left,) = entries(cache)
    assert left.startswith(".preparing-")
    assert whole(load_corpus(source, cache)) == DATA
    assert left in entries(cache)  # may belong to a run in progress
    two_days_ago = time.time() - 2 * 24 * 3600
    for path in (*(cache / left).iterdir(), cache / left):
        os.utime(path, (two_days_ago, two_days_ago))
    Path(source).write_bytes(DATA * 2)
    load_corpus(source, cache)
    assert left not in entries(cache)


def test_two_processes_preparing_the_same_agree(cache: Path):
    def fill(working: Path) -> dict:
        return write_contiguous(working, [DATA], "data")

    def overtaken(working: Path) -> dict:
        prepare(cache, "name", "key", "theirs", fill)
        return fill(working)

    corpus = prepare(cache, "name", "key", "ours", overtaken)
    assert corpus.card["source"] == "theirs"
    assert whole(corpus) == DATA
    assert entries(cache) == ["name-key"]


def test_everything_is_synced_before_the_rename(source: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    events: list[str] = []
    plain_sync, plain_rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("sync"), plain_sync(descriptor))[1])
    monkeypatch.setattr(Path, "rename", lambda *paths: (events.append("rename"), plain_rename(*paths))[1])
    load_corpus(source, cache)
    # three splits, the card and their folder; then the folder that has the new name
    assert events == ["sync"] * 5 + ["rename", "sync"] if os.name != "nt" else events.count("sync") == 4


def test_damaged_corpus_is_not_re_used(source: str, cache: Path):
    corpus = load_corpus(source, cache)
    (corpus.directory / "train.bin").write_bytes(b"")
    with refuses("train.bin", "expected 2700 bytes, found 0", "delete this folder"):
        load_corpus(source, cache)


@pytest.mark.parametrize(
    ("name", "safe"), [("a b/c", "a_b_c"), ("..", "corpus"), ("", "corpus"), ("x" * 99, "x" * 64), (".hid", "hid")]
)
def test_names_are_fit_for_folders(name: str, safe: str):
    assert safe_name(name) == safe
