"""enwik8: the first 100,000,000 bytes of the English Wikipedia dump of March 2006, split 90M/5M/5M as is usual."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer.data.corpus import Corpus, open_corpus
from reformer.data.decoding import read_path
from reformer.data.download import Progress, download
from reformer.data.errors import DataError, reason
from reformer.data.preparing import prepare, write_contiguous, write_failure

ENWIK8_URL = "http://mattmahoney.net/dc/enwik8.zip"


@dataclass(frozen=True)
class Known:
    """A published file: its name, size and checksum after decompression."""

    name: str
    n_bytes: int
    sha256: str

    @property
    def folder(self) -> str:
        """What its prepared folder is called."""
        return f"{self.name}-{self.sha256[:16]}"


ENWIK8 = Known("enwik8", 100_000_000, "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8")


class _WrongContent(DataError):
    """The bytes are readable, but they are not the published ones."""


def prepare_enwik8(
    cache_dir: Path,
    file: Path | None = None,
    url: str = ENWIK8_URL,
    progress: Progress | None = None,
    known: Known = ENWIK8,
) -> Corpus:
    """enwik8 from the official address, or from ``file`` (raw, zip, xz, gzip, bzip2 or zstd); checked, split 90M/5M/5M.

    Prepared once: later calls return it. A download cut short is kept below ``cache_dir`` and resumed by the next call.
    ``progress(done_bytes, total_bytes or None)`` follows the download.
    Raises DataError when it cannot be had, or is not the file with the published size and sha256.
    """
    cache_dir = Path(cache_dir)
    if (cache_dir / known.folder).exists():
        return open_enwik8(cache_dir, known)
    if file is not None:
        return _from_file(known, cache_dir, Path(file), str(file))
    part = cache_dir / f"{known.name}.download.part"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(write_failure(error, cache_dir, known.name, known.n_bytes)) from error
    download(url, part, f"give the file with `reformer data {known.name} --file PATH`", progress)
    # Complete but wrong bytes cannot be resumed from; kept, they would make every later call fail. A full disk,
    # on the other hand, is no reason to fetch them again.
    try:
        corpus = _from_file(known, cache_dir, part, url)
    except _WrongContent:
        part.unlink()
        raise
    part.unlink()
    return corpus


def open_enwik8(cache_dir: Path, known: Known = ENWIK8) -> Corpus:
    """enwik8 as prepared before. Raises DataError, with the command to run, when it was not."""
    if not (cache_dir / known.folder).exists():
        raise DataError(f"{known.name} is not in {cache_dir} yet: run `reformer data {known.name}` first")
    return open_corpus(cache_dir / known.folder)


def _from_file(known: Known, cache_dir: Path, path: Path, source: str) -> Corpus:
    def fill(working: Path) -> dict[str, Any]:
        part = write_contiguous(working, _checked(known, path, source), source)
        if part["sha256"] != known.sha256:
            raise _WrongContent(_mismatch(known, source, f"sha256 {part['sha256']}"))
        return part

    return prepare(cache_dir, known.name, known.sha256[:16], source, fill, at_least=known.n_bytes)


def _checked(known: Known, path: Path, label: str) -> Iterator[bytes]:
    """The blocks of the file; stops at the first byte too many, so that a wrong file cannot fill the disk."""
    n_bytes = 0
    try:
        for block in read_path(path):
            n_bytes += len(block)
            if n_bytes > known.n_bytes:
                raise _WrongContent(_mismatch(known, label, f"more than {known.n_bytes:,} bytes"))
            yield block
    except _WrongContent:
        raise
    except DataError as error:
        raise _WrongContent(f"cannot use {label} as {known.name}: {reason(error)}") from error
    if n_bytes != known.n_bytes:
        raise _WrongContent(_mismatch(known, label, f"{n_bytes:,} bytes"))


def _mismatch(known: Known, label: str, found: str) -> str:
    expected = f"{known.n_bytes:,} bytes with sha256 {known.sha256}"
    return f"{label} is not {known.name}: expected {expected}, found {found}; fetch it again from {ENWIK8_URL}"
