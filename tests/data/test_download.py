import errno
import os
import socket
from pathlib import Path

import pytest

from reformer.data import download as download_module
from reformer.data.download import download

from .helpers import refuses, some_bytes
from .server import Site, serve

DATA = some_bytes(300_000)
FIX = "give --file PATH"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "file.part"


def test_whole_download_with_progress(part: Path):
    seen: list[tuple[int, int | None]] = []
    with serve(Site(DATA)) as site:
        download(site.url, part, FIX, lambda done, total: seen.append((done, total)))
    assert part.read_bytes() == DATA
    assert site.ranges == [None]
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (len(DATA), len(DATA))


def test_goes_on_from_the_part(part: Path):
    part.write_bytes(DATA[:123_456])
    seen: list[tuple[int, int | None]] = []
    with serve(Site(DATA)) as site:
        download(site.url, part, FIX, lambda done, total: seen.append((done, total)))
    assert part.read_bytes() == DATA
    assert site.ranges == ["bytes=123456-"]
    assert seen[0][0] > 123_456
    assert seen[-1] == (len(DATA), len(DATA))


def test_cut_connection_is_resumed_at_once(part: Path):
    with serve(Site(DATA, cut_after=[100_000, 50_000])) as site:
        download(site.url, part, FIX)
    assert part.read_bytes() == DATA
    assert site.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_dead_server_keeps_the_part_for_the_next_call(part: Path):
    with (
        serve(Site(DATA, cut_after=[100_000, 0])) as site,
        refuses(site.url, "cut at 100,000 of 300,000 bytes", "100,000 bytes are kept", str(part), FIX),
    ):
        download(site.url, part, FIX)
    assert part.read_bytes() == DATA[:100_000]
    with serve(Site(DATA)) as site:
        download(site.url, part, FIX)
    assert part.read_bytes() == DATA
    assert site.ranges == ["bytes=100000-"]


def test_server_that_ignores_ranges_starts_over(part: Path):
    part.write_bytes(b"x" * 1000)
    with serve(Site(DATA, ranges_supported=False)) as site:
        download(site.url, part, FIX)
    assert part.read_bytes() == DATA
    assert site.ranges == ["bytes=1000-"]


def test_complete_part_needs_no_more_bytes(part: Path):
    part.write_bytes(DATA)
    with serve(Site(DATA)) as site:
        download(site.url, part, FIX)
    assert part.read_bytes() == DATA
    assert site.ranges == ["bytes=300000-"]


def test_part_longer_than_the_file_starts_over(part: Path):
    part.write_bytes(DATA + b"more")
    with serve(Site(DATA)) as site:
        download(site.url, part, FIX)
    assert part.read_bytes() == DATA
    assert site.ranges == ["bytes=300004-", None]


def test_wrong_range_starts_over(part: Path):
    part.write_bytes(DATA[:1000])
    with serve(Site(DATA, shift=7)) as site:
        download(site.url, part, FIX)
    assert part.read_bytes() == DATA
    assert site.ranges == ["bytes=1000-", None]


def test_server_that_does_not_say_the_length(part: Path):
    seen: list[tuple[int, int | None]] = []
    with serve(Site(DATA, says_length=False)) as site:
        download(site.url, part, FIX, lambda done, total: seen.append((done, total)))
    assert part.read_bytes() == DATA
    assert seen[-1] == (len(DATA), None)


def test_endless_cutting_stops(part: Path):
    with serve(Site(DATA, cut_after=[10] * 99)) as site, refuses("cut at 100 of 300,000", FIX):
        download(site.url, part, FIX)
    assert len(site.ranges) == 10


@pytest.mark.parametrize("status", [404, 503])
def test_refusal_is_told(part: Path, status: int):
    with serve(Site(DATA, status=status)) as site, refuses(site.url, f"answered {status}", "run again or", FIX):
        download(site.url, part, FIX)


def test_no_connection_is_told(part: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with refuses(f"http://127.0.0.1:{port}/", "Connection refused", FIX):
        download(f"http://127.0.0.1:{port}/", part, FIX)


def test_silent_server_is_told(part: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download_module, "TIMEOUT_SECONDS", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with refuses(url, "timed out", FIX):
            download(url, part, FIX)


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://host/file", "enwik8.zip"])
def test_only_http(part: Path, url: str):
    with refuses(url, "http or https", FIX):
        download(url, part, FIX)


def test_full_disk_is_told_and_keeps_the_part(part: Path, monkeypatch: pytest.MonkeyPatch):
    class Full:
        def __init__(self, file) -> None:
            self.file, self.calls = file, 0

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *exc: object) -> None:
            self.file.close()

        def write(self, block: memoryview) -> int:
            self.calls += 1
            if self.calls > 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(block[:1000])

    plain = Path.open
    with monkeypatch.context() as patch, serve(Site(DATA)) as site:
        patch.setattr(Path, "open", lambda path, *args, **kwargs: Full(plain(path, *args, **kwargs)))
        with refuses("disk full", str(part.parent), "at least 300,000 bytes"):
            download(site.url, part, FIX)
    assert part.read_bytes() == DATA[:2000]
    assert len(site.ranges) == 1
