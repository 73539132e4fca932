import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reformer.data import files as files_module
from reformer.data import load_corpus
from reformer.data.preparing import SplitWriter, write_contiguous

from .helpers import contents, entries, refuses, some_bytes, unhurried, whole
from .test_decoding import COMPRESSIONS, DATA, STREAMED

CUTS = (len(DATA) * 90 // 100, len(DATA) * 90 // 100 + len(DATA) * 5 // 100)


@pytest.mark.parametrize("suffix", ["", *COMPRESSIONS])
def test_every_compression_gives_the_same_splits(tmp_path: Path, cache: Path, suffix: str):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(COMPRESSIONS[suffix](DATA) if suffix else DATA)
    corpus = load_corpus(str(path), cache)
    first, second = CUTS
    assert contents(corpus) == {"train": DATA[:first], "validation": DATA[first:second], "test": DATA[second:]}
    assert corpus.name == "data"
    assert entries(cache) == [corpus.directory.name]


@unhurried
@given(n=st.integers(20, 5000), block=st.integers(1, 999))
def test_contiguous_boundaries(tmp_path_factory: pytest.TempPathFactory, n: int, block: int):
    data, folder = some_bytes(n), tmp_path_factory.mktemp("splits")
    part = write_contiguous(folder, (data[i : i + block] for i in range(0, n, block)), "data")
    sizes = [part["splits"][name]["bytes"] for name in ("train", "validation", "test")]
    assert sizes == [n * 90 // 100, n * 5 // 100, n - n * 90 // 100 - n * 5 // 100]
    assert min(sizes) > 0
    assert b"".join((folder / f"{name}.bin").read_bytes() for name in ("train", "validation", "test")) == data


def count_fills(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    def counting(folder: Path, blocks, label: str) -> dict:
        calls.append(label)
        return write_contiguous(folder, blocks, label)

    monkeypatch.setattr(files_module, "write_contiguous", counting)
    return calls


def test_unchanged_file_is_prepared_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    calls = count_fills(monkeypatch)
    path = tmp_path / "text"
    path.write_bytes(some_bytes(500))
    first = load_corpus(str(path), cache)
    monkeypatch.chdir(tmp_path)
    second = load_corpus("text", cache)
    assert (len(calls), second.directory) == (1, first.directory)


def test_changed_file_is_prepared_anew(tmp_path: Path, cache: Path):
    path = tmp_path / "text"
    path.write_bytes(some_bytes(500))
    before = load_corpus(str(path), cache)
    path.write_bytes(some_bytes(501, seed=1))
    after = load_corpus(str(path), cache)
    assert whole(after) == path.read_bytes()
    assert before.directory != after.directory
    assert whole(before) == some_bytes(500)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no change time")
def test_change_that_keeps_size_and_modification_time_is_seen(tmp_path: Path, cache: Path):
    path = tmp_path / "text"
    path.write_bytes(some_bytes(500))
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    load_corpus(str(path), cache)
    changed = threading.Event()
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:  # the clock of the file system ticks every few milliseconds
        path.write_bytes(some_bytes(500, seed=1))
        changed.wait(0.002)
    os.utime(path, ns=times)
    assert whole(load_corpus(str(path), cache)) == some_bytes(500, seed=1)


def test_same_name_elsewhere_is_another_corpus(tmp_path: Path, cache: Path):
    for i, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "text").write_bytes(some_bytes(500, seed=i))
    corpora = [load_corpus(str(tmp_path / folder / "text"), cache) for folder in ("a", "b")]
    assert [whole(corpus) for corpus in corpora] == [some_bytes(500, seed=i) for i in (0, 1)]


def test_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "log"
    path.write_bytes(some_bytes(500))
    plain_write = SplitWriter.write

    def growing(self: SplitWriter, block: bytes) -> None:
        plain_write(self, block)
        if path.stat().st_size == 500:
            path.write_bytes(some_bytes(500) + b"one line more")

    monkeypatch.setattr(SplitWriter, "write", growing)
    with refuses(str(path), "changed while it was read"):
        load_corpus(str(path), cache)
    assert entries(cache) == []


@pytest.mark.parametrize(("n", "fact"), [(0, "is empty"), (1, "holds 1 bytes"), (19, "holds 19 bytes")])
def test_too_short_file_is_refused(tmp_path: Path, cache: Path, n: int, fact: str):
    (tmp_path / "text").write_bytes(some_bytes(n))
    with refuses("text", fact, "at least 20 bytes"):
        load_corpus(str(tmp_path / "text"), cache)
    assert entries(cache) == []


def test_damaged_file_leaves_nothing(tmp_path: Path, cache: Path):
    path = tmp_path / "data.xz"
    path.write_bytes(COMPRESSIONS[".xz"](DATA)[:-100])
    with refuses(str(path), "damaged or truncated"):
        load_corpus(str(path), cache)
    assert entries(cache) == []


@pytest.mark.parametrize("suffix", ["", *STREAMED])
def test_standard_input(cache: Path, pipe_in, suffix: str):
    pipe_in(COMPRESSIONS[suffix](DATA) if suffix else DATA)
    corpus = load_corpus("-", cache)
    assert whole(corpus) == DATA
    assert (corpus.name, corpus.card["source"]) == ("stdin", "-")
    assert corpus.split("train").size == CUTS[0]


def test_standard_input_is_kept_by_content(cache: Path, pipe_in):
    found = []
    for seed in (0, 1, 0):
        pipe_in(some_bytes(300, seed))
        found.append(load_corpus("-", cache))
    assert found[0].directory == found[2].directory != found[1].directory
    assert found[0].card == found[2].card
    assert len(entries(cache)) == 2


def test_empty_standard_input_is_refused(cache: Path, pipe_in):
    pipe_in(b"")
    with refuses("standard input is empty"):
        load_corpus("-", cache)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipe(tmp_path: Path, cache: Path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(some_bytes(5000),))
    writer.start()
    corpus = load_corpus(str(tmp_path / "pipe"), cache)
    writer.join()
    assert whole(corpus) == some_bytes(5000)
