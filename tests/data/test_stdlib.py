import platform
import sysconfig
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reformer.data import SPLITS, Corpus, load_corpus
from reformer.data.stdlib import assign, prepare_stdlib

from .helpers import contents, entries, refuses, some_bytes, unhurried

ROOT = Path(sysconfig.get_paths()["stdlib"])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus("stdlib", tmp_path_factory.mktemp("cache"))


def test_sizes(corpus: Corpus):
    sizes = {name: corpus.split(name).size for name in SPLITS}
    total = sum(sizes.values())
    assert 4_000_000 < total < 50_000_000
    for name in ("validation", "test"):
        assert 0.05 * total <= sizes[name] <= 0.06 * total
        assert sizes[name] > 3 * 65_536


def test_card(corpus: Corpus):
    card = corpus.card
    assert card["python"] == {"version": platform.python_version(), "implementation": platform.python_implementation()}
    assert platform.python_version() in corpus.directory.name
    assert card["sha256"][:16] in corpus.directory.name
    for name in SPLITS:
        assert card["splits"][name]["sha256"] == sha256(corpus.split(name)).hexdigest()
        assert card["splits"][name]["files"] > 5


def test_every_split_is_whole_source_files(corpus: Corpus):
    # Files chosen without the code under test: each is a contiguous part of exactly one split.
    held = contents(corpus)
    for path in ("abc.py", "json/decoder.py", "asyncio/base_events.py", "argparse.py", "email/message.py"):
        assert sum((ROOT / path).read_bytes() in text for text in held.values()) == 1


def test_tests_and_generated_files_are_left_out(corpus: Corpus):
    everything = b"".join(contents(corpus).values())
    for path in (*ROOT.glob("_sysconfigdata*.py"), *ROOT.glob("test/test_a*.py"), *ROOT.glob("site-packages/*.py")):
        assert path.stat().st_size == 0 or path.read_bytes() not in everything
    assert corpus.card["files"] == sum(corpus.card["splits"][name]["files"] for name in SPLITS)


def make_library(root: Path) -> dict[str, bytes]:
    text = {f"package{i % 9}/module{i}.py": some_bytes(20_000 + 37 * i, seed=i) for i in range(250)}
    left_out = (
        "test/a.py",
        "package1/tests/a.py",
        "idlelib/idle_test/a.py",
        "site-packages/a.py",
        "dist-packages/a.py",
    )
    others = ("_sysconfigdata__linux.py", "config-3.11-x86/a.py", "sitecustomize.py", "package2/data.txt", ".x/a.py")
    for name in (*text, *left_out, *others, "__pycache__/a.py", "package3/__pycache__/a.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.get(name, b"LEFT OUT"))
    return text


def test_made_library_exactly(tmp_path: Path, cache: Path):
    text = make_library(tmp_path / "lib")
    corpus = prepare_stdlib(cache, tmp_path / "lib")
    assigned = assign({name: len(data) for name, data in text.items()})
    assert contents(corpus) == {name: b"".join(text[path] for path in sorted(assigned[name])) for name in SPLITS}
    assert {name: corpus.card["splits"][name]["files"] for name in SPLITS} == {k: len(v) for k, v in assigned.items()}
    assert prepare_stdlib(cache, tmp_path / "lib").directory == corpus.directory
    (tmp_path / "lib" / "package1" / "module1.py").write_bytes(b"#" * (20_000 + 37))
    changed = prepare_stdlib(cache, tmp_path / "lib")
    assert changed.directory != corpus.directory
    assert len(entries(cache)) == 2


@pytest.mark.parametrize("there", [True, False])
def test_library_without_source_is_refused(tmp_path: Path, cache: Path, there: bool):
    if there:
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "abc.py").write_bytes(b"x" * 1000)
    with refuses(str(tmp_path / "lib"), "1,000 bytes" if there else "0 bytes", "196,608", "give a file or folder"):
        prepare_stdlib(cache, tmp_path / "lib")


@unhurried
@given(st.integers(200, 400), st.integers(0, 50_000), st.integers(0, 1_000_000), st.integers(0, 99))
def test_split_sizes_are_bounded_whatever_the_files(n_files: int, largest: int, big: int, seed: int):
    sizes = np.random.default_rng(seed).integers(0, largest + 1, n_files).tolist()
    files = {f"{i}.py": size for i, size in enumerate([*sizes, big])}
    total, assigned = sum(files.values()), assign(files)
    assert sorted(path for paths in assigned.values() for path in paths) == sorted(files)
    for name in ("validation", "test"):
        assert sum(files[path] for path in assigned[name]) <= 0.06 * total
    small = sum(size for size in files.values() if size * 100 <= total)
    if small >= 0.12 * total:
        for name in ("validation", "test"):
            assert sum(files[path] for path in assigned[name]) >= 0.05 * total


def test_assignment_is_fixed():
    # Known answer: a changed rule would silently move test bytes into training.
    assigned = assign({f"{i}.py": 10 for i in range(200)})
    assert {name: len(paths) for name, paths in assigned.items()} == {"train": 180, "validation": 10, "test": 10}
    in_test = ["0", "100", "120", "140", "155", "159", "165", "196", "38", "89"]
    assert assigned["test"] == [f"{name}.py" for name in in_test]
