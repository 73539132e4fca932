import os
import sys
from pathlib import Path

import pytest

from reformer.data import load_corpus

from .helpers import entries, refuses, some_bytes, whole


def test_missing_file_suggests_close_names(tmp_path: Path, cache: Path):
    (tmp_path / "corpus.txt").write_bytes(some_bytes(100))
    with refuses("no file or folder", "corpsu.txt", "did you mean corpus.txt?", "stdlib, enwik8"):
        load_corpus(str(tmp_path / "corpsu.txt"), cache)
    assert not cache.exists()


def test_misspelled_builtin_is_suggested(cache: Path):
    with refuses("did you mean enwik8?"):
        load_corpus("enwiki8", cache)


def test_missing_folder_is_said(tmp_path: Path, cache: Path):
    with refuses("no file or folder", f"there is no folder {tmp_path / 'nowhere'} either"):
        load_corpus(str(tmp_path / "nowhere" / "text"), cache)


def test_file_taken_for_a_folder(tmp_path: Path, cache: Path):
    (tmp_path / "text").write_bytes(some_bytes(100))
    with refuses("no file or folder"):
        load_corpus(str(tmp_path / "text" / "below"), cache)


@pytest.mark.parametrize("source", ["", " "])
def test_empty_name_is_not_the_current_folder(source: str, cache: Path):
    with refuses("empty name", "stdlib, enwik8"):
        load_corpus(source, cache)


def test_name_with_a_null_byte(cache: Path):
    with refuses("cannot read 'a\\x00b'"):
        load_corpus("a\0b", cache)


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no device files here")
def test_device_is_refused(cache: Path):
    with refuses("/dev/null", "device"):
        load_corpus("/dev/null", cache)


def test_enwik8_must_be_prepared_first(cache: Path):
    with refuses(str(cache), "run `reformer data enwik8` first"):
        load_corpus("enwik8", cache)


def test_closed_standard_input(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", None)
    with refuses("standard input is closed"):
        load_corpus("-", cache)


def test_prepared_corpus_is_opened_as_it_is(tmp_path: Path, cache: Path):
    (tmp_path / "text").write_bytes(some_bytes(100))
    corpus = load_corpus(str(tmp_path / "text"), cache)
    again = load_corpus(str(corpus.directory), cache)
    assert again == corpus
    assert whole(again) == some_bytes(100)
    assert entries(cache) == [corpus.directory.name]


def test_path_named_like_a_builtin(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "stdlib").write_bytes(some_bytes(100))
    monkeypatch.chdir(tmp_path)
    assert whole(load_corpus("./stdlib", cache)) == some_bytes(100)
