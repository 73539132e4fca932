"""From what the user names to a prepared corpus."""

import difflib
import os
import stat
import sys
from pathlib import Path

from reformer.data.corpus import Corpus, is_prepared, open_corpus
from reformer.data.enwik8 import open_enwik8
from reformer.data.errors import DataError, reason
from reformer.data.files import prepare_file, prepare_folder, prepare_stream
from reformer.data.stdlib import prepare_stdlib

_EXPECTED = "expected stdlib, enwik8, - (standard input) or the path of a file or folder"


def load_corpus(source: str, cache_dir: Path) -> Corpus:
    """The corpus that ``source`` names, prepared below ``cache_dir`` the first time and re-used while it is unchanged.

    ``source`` is ``stdlib``, ``enwik8`` (prepared before by `prepare_enwik8`), ``-`` for standard input, or the path
    of a file (plain, gzip, xz, zstd, bzip2, or zip with one file: told by its bytes, from a pipe too), of a folder,
    or of a prepared corpus. ``./stdlib`` is a path. Memory stays small whatever the size.
    Raises DataError, one line, for whatever cannot be read, decoded, split or written.
    """
    cache_dir = Path(cache_dir)
    if source == "stdlib":
        return prepare_stdlib(cache_dir)
    if source == "enwik8":
        return open_enwik8(cache_dir)
    if source == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise DataError("standard input is closed: expected bytes on it; pipe some in or give a path")
        return prepare_stream(sys.stdin.buffer, "stdin", "-", cache_dir)
    path = Path(source).expanduser()
    mode = _mode(path, source)
    if stat.S_ISREG(mode):
        return prepare_file(path, source, cache_dir)
    if stat.S_ISDIR(mode):
        return open_corpus(path) if is_prepared(path) else prepare_folder(path, source, cache_dir)
    if stat.S_ISFIFO(mode):
        with path.open("rb") as stream:
            return prepare_stream(stream, "pipe", source, cache_dir)
    raise DataError(f"{source} is a device or socket: {_EXPECTED}")


def _mode(path: Path, source: str) -> int:
    if not source.strip():
        raise DataError(f"the source is an empty name: {_EXPECTED}")
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"no file or folder {source}{_suggestion(path)}; {_EXPECTED}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {source!r}: {reason(error)}") from error


def _suggestion(path: Path) -> str:
    folder = path.parent
    if not os.path.isdir(folder):
        return f" (there is no folder {folder} either)"
    try:
        names = os.listdir(folder)
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, [*names, "stdlib", "enwik8"], n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
