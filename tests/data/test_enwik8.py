from hashlib import sha256
from pathlib import Path

import pytest

from reformer.data import open_corpus, prepare_enwik8
from reformer.data.enwik8 import ENWIK8, Known, open_enwik8
from reformer.data.preparing import SplitWriter

from .helpers import contents, entries, refuses, some_bytes, whole
from .server import Site, serve
from .test_decoding import COMPRESSIONS, zipped

# The real code on a file a hundredth of a thousandth of the size.
DATA = some_bytes(100_000)
SMALL = Known("enwik8", len(DATA), sha256(DATA).hexdigest())
NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_published_facts():
    assert ENWIK8.n_bytes == 100_000_000
    assert ENWIK8.sha256 == "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8"
    total = ENWIK8.n_bytes
    assert (total * 90 // 100, total * 5 // 100) == (90_000_000, 5_000_000)


@pytest.mark.parametrize("suffix", ["", *COMPRESSIONS])
def test_from_a_file(tmp_path: Path, cache: Path, suffix: str):
    path = tmp_path / f"enwik8{suffix}"
    path.write_bytes(COMPRESSIONS[suffix](DATA) if suffix else DATA)
    corpus = prepare_enwik8(cache, path, NOWHERE, known=SMALL)
    assert contents(corpus) == {"train": DATA[:90_000], "validation": DATA[90_000:95_000], "test": DATA[95_000:]}
    assert corpus.card["source"] == str(path)
    assert open_enwik8(cache, SMALL) == corpus
    open_corpus(corpus.directory, verify=True)


def test_from_the_network_once(cache: Path):
    with serve(Site(zipped(DATA, "enwik8"))) as site:
        corpus = prepare_enwik8(cache, None, site.url, known=SMALL)
        again = prepare_enwik8(cache, None, site.url, known=SMALL)
    assert whole(corpus) == DATA
    assert again == corpus
    assert corpus.card["source"] == site.url
    assert len(site.ranges) == 1
    assert entries(cache) == [corpus.directory.name]


def test_cut_download_is_resumed_by_the_next_call(cache: Path):
    packed = zipped(DATA, "enwik8")
    with (
        serve(Site(packed, cut_after=[40_000, 0])) as site,
        refuses("40,000 bytes are kept", "`reformer data enwik8 --file PATH`"),
    ):
        prepare_enwik8(cache, None, site.url, known=SMALL)
    assert entries(cache) == ["enwik8.download.part"]
    with serve(Site(packed)) as site:
        corpus = prepare_enwik8(cache, None, site.url, known=SMALL)
    assert site.ranges == ["bytes=40000-"]
    assert whole(corpus) == DATA
    assert entries(cache) == [corpus.directory.name]


@pytest.mark.parametrize(
    ("wrong", "fact"),
    [
        (zipped(DATA[:-1]), "found 99,999 bytes"),
        (zipped(DATA + b"!"), "found more than 100,000 bytes"),
        (zipped(DATA[:-1] + bytes([DATA[-1] ^ 1])), "found sha256"),
        (zipped(DATA)[:-30], "damaged or truncated zip"),
        (b"<html>moved</html>", "found 18 bytes"),
        (b"", "found 0 bytes"),
    ],
)
def test_wrong_bytes_are_refused_and_not_kept(tmp_path: Path, cache: Path, wrong: bytes, fact: str):
    with serve(Site(wrong)) as site, refuses(site.url, "enwik8", fact):
        prepare_enwik8(cache, None, site.url, known=SMALL)
    assert entries(cache) == []
    (tmp_path / "given").write_bytes(wrong)
    with refuses("given", "enwik8", fact):
        prepare_enwik8(cache, tmp_path / "given", NOWHERE, known=SMALL)
    assert entries(cache) == []
    assert (tmp_path / "given").read_bytes() == wrong


def test_full_disk_keeps_the_download(cache: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: SplitWriter, block: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SplitWriter, "write", full)
    packed = zipped(DATA)
    with serve(Site(packed)) as site, refuses("disk full", str(cache), "at least 100,000 bytes"):
        prepare_enwik8(cache, None, site.url, known=SMALL)
    assert (cache / "enwik8.download.part").read_bytes() == packed


def test_real_entry_point_checks_the_real_size(tmp_path: Path, cache: Path):
    (tmp_path / "small").write_bytes(DATA)
    with refuses("expected 100,000,000 bytes", ENWIK8.sha256, "found 100,000 bytes"):
        prepare_enwik8(cache, tmp_path / "small")


def test_missing_file_is_told(tmp_path: Path, cache: Path):
    with refuses("nowhere.zip", "No such file"):
        prepare_enwik8(cache, tmp_path / "nowhere.zip")


def test_unwritable_cache_is_told(tmp_path: Path):
    (tmp_path / "occupied").touch()
    with refuses("cannot write enwik8", "occupied"):
        prepare_enwik8(tmp_path / "occupied" / "cache", url=NOWHERE)
