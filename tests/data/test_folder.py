import os
from pathlib import Path

import pytest

from reformer.data import SPLITS, load_corpus
from reformer.data.files import split_of

from .helpers import contents, entries, refuses, some_bytes, whole
from .test_decoding import COMPRESSIONS

NAMES = [f"part{i % 7}/file{i:03}.txt" for i in range(120)]


def expected(names: list[str], text: dict[str, bytes]) -> dict[str, bytes]:
    return {split: b"".join(text[n] for n in sorted(names) if split_of(n) == split) for split in SPLITS}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"<{name}>".encode())
    return tmp_path / "texts"


TEXT = {name: f"<{name}>".encode() for name in NAMES}


def test_whole_files_go_to_splits_by_path(folder: Path, cache: Path):
    corpus = load_corpus(str(folder), cache)
    assert contents(corpus) == expected(NAMES, TEXT)
    counts = {split: sum(split_of(n) == split for n in NAMES) for split in SPLITS}
    assert {split: corpus.card["splits"][split]["files"] for split in SPLITS} == counts
    assert corpus.card["files"] == 120
    assert corpus.card["bytes"] == sum(map(len, TEXT.values()))
    assert "sha256(path)" in corpus.card["rule"]


def test_split_rule_is_fixed_and_about_90_5_5():
    # Known answers: a changed rule would silently move test bytes into training.
    other = {i: split_of(f"file{i}.txt") for i in range(15) if split_of(f"file{i}.txt") != "train"}
    assert other == {1: "validation", 3: "test", 10: "test", 12: "test"}
    splits = [split_of(f"{i}.txt") for i in range(20_000)]
    assert 0.045 < splits.count("validation") / 20_000 < 0.055
    assert 0.045 < splits.count("test") / 20_000 < 0.055


def test_compressed_members_are_decompressed(folder: Path, cache: Path):
    names, text = list(NAMES), dict(TEXT)
    for suffix, pack in COMPRESSIONS.items():
        (folder / f"more{suffix}").write_bytes(pack(some_bytes(2000)))
        names.append(f"more{suffix}")
        text[f"more{suffix}"] = some_bytes(2000)
    assert contents(load_corpus(str(folder), cache)) == expected(names, text)


def test_hidden_files_loops_and_broken_links_are_left_out(folder: Path, cache: Path):
    (folder / ".hidden").write_bytes(b"hidden")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_bytes(b"hidden")
    (folder / "part0" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "self").symlink_to(folder / "self")
    (folder / "broken").symlink_to(folder / "nowhere")
    assert contents(load_corpus(str(folder), cache)) == expected(NAMES, TEXT)


def test_linked_folder_outside_is_followed(folder: Path, cache: Path, tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "linked.txt").write_bytes(b"linked")
    (folder / "link").symlink_to(tmp_path / "outside", target_is_directory=True)
    text = {**TEXT, "link/linked.txt": b"linked"}
    assert contents(load_corpus(str(folder), cache)) == expected([*NAMES, "link/linked.txt"], text)


def test_cache_inside_the_folder_is_left_out(folder: Path):
    first = load_corpus(str(folder), folder / "cache")
    again = load_corpus(str(folder), folder / "cache")
    assert again.directory == first.directory
    assert contents(again) == expected(NAMES, TEXT)


@pytest.mark.parametrize("n_files", [1, 3])
def test_few_files_are_joined_and_split_contiguously(tmp_path: Path, cache: Path, n_files: int):
    (tmp_path / "few").mkdir()
    for i in range(n_files):
        (tmp_path / "few" / f"f{n_files - i}").write_bytes(some_bytes(100, seed=n_files - i))
    corpus = load_corpus(str(tmp_path / "few"), cache)
    assert whole(corpus) == b"".join(some_bytes(100, seed=i + 1) for i in range(n_files))
    assert corpus.split("train").size == 90 * n_files
    assert "contiguous" in corpus.card["rule"]
    assert "empty" in corpus.card["rule"]
    assert corpus.card["files"] == n_files


def test_split_with_nothing_but_empty_members_is_joined_instead(folder: Path, cache: Path):
    for name in NAMES:
        if split_of(name) == "test":
            (folder / name).unlink()
            (folder / name).write_bytes(COMPRESSIONS[".xz"](b""))
    corpus = load_corpus(str(folder), cache)
    kept = [name for name in sorted(NAMES) if split_of(name) != "test"]
    assert whole(corpus) == b"".join(TEXT[name] for name in kept)
    assert "contiguous" in corpus.card["rule"]


def test_changes_are_prepared_anew(folder: Path, cache: Path):
    found = [load_corpus(str(folder), cache), load_corpus(str(folder), cache)]
    assert found[0].directory == found[1].directory
    (folder / "new.txt").write_bytes(b"new")
    found.append(load_corpus(str(folder), cache))
    (folder / "new.txt").rename(folder / "renamed.txt")
    found.append(load_corpus(str(folder), cache))
    (folder / "renamed.txt").write_bytes(b"newer")
    found.append(load_corpus(str(folder), cache))
    assert len({corpus.directory for corpus in found}) == 4
    assert contents(found[-1]) == expected([*NAMES, "renamed.txt"], {**TEXT, "renamed.txt": b"newer"})


def test_folder_with_nothing_to_read_is_refused(tmp_path: Path, cache: Path):
    (tmp_path / "empty" / "below").mkdir(parents=True)
    with refuses(str(tmp_path / "empty"), "no visible files"):
        load_corpus(str(tmp_path / "empty"), cache)
    (tmp_path / "empty" / "below" / "file").touch()
    with refuses("1 files, all empty"):
        load_corpus(str(tmp_path / "empty"), cache)
    assert entries(cache) == []


def test_damaged_member_is_named(folder: Path, cache: Path):
    (folder / "bad.gz").write_bytes(COMPRESSIONS[".gz"](some_bytes(1000))[:-20])
    with refuses(str(folder / "bad.gz"), "damaged or truncated"):
        load_corpus(str(folder), cache)
    assert entries(cache) == []


def test_unreadable_folder_is_named(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    plain = os.listdir

    def listdir(path: Path) -> list[str]:
        if Path(path).name == "part3":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(os, "listdir", listdir)
    with refuses(str(folder / "part3"), "Permission denied"):
        load_corpus(str(folder), cache)


def test_folder_with_a_line_break_in_its_name_still_gives_one_line(tmp_path: Path, cache: Path):
    (tmp_path / "two\nlines").mkdir()
    with refuses("two lines", "no visible files"):
        load_corpus(str(tmp_path / "two\nlines"), cache)
