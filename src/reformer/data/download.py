"""A download over HTTP that goes on where it stopped."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reformer.data.errors import DataError, reason
from reformer.data.preparing import write_failure

Progress = Callable[[int, int | None], None]
TIMEOUT_SECONDS = 30
_MAX_ATTEMPTS = 10
_BLOCK_BYTES = 1 << 16


def download(url: str, part: Path, fix: str, progress: Progress | None = None) -> None:
    """Fetch ``url`` into ``part``, going on from the bytes already there, until it is complete.

    A connection cut midway is resumed at once as long as attempts bring bytes. ``progress(done, total)`` is called
    with bytes (total None when the server does not say).
    Raises DataError, with ``fix`` as the way out; what has come stays in ``part`` for the next call.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise DataError(f"cannot download {url}: expected an http or https address; {fix}")
    for _ in range(_MAX_ATTEMPTS):
        before = _size(part)
        trouble = _attempt(url, part, progress)
        if trouble is None:
            return
        if _size(part) == before:
            break
    kept = f"; {_size(part):,} bytes are kept in {part} to resume from" if _size(part) else ""
    raise DataError(f"cannot download {url}: {trouble}{kept}; run again or {fix}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _attempt(url: str, part: Path, progress: Progress | None) -> str | None:
    """One request; None when the file is complete, else what went wrong."""
    import http.client
    import urllib.error
    import urllib.request

    start = _size(part)
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS) as reply:
            return _receive(reply, part, start, progress)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error, part, start)
    except urllib.error.URLError as error:
        return reason(error.reason) if isinstance(error.reason, BaseException) else str(error.reason)
    except DataError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:
        return reason(error)


def _refused(error: Any, part: Path, start: int) -> str | None:
    if error.code == 416 and start:
        _, total = _range(error.headers)
        if total == start:
            return None
        part.unlink()  # longer than the file on the server, so not a part of it
        return f"the server has {total} bytes, fewer than were kept"
    return f"the server answered {error.code} {error.reason}"


def _receive(reply: Any, part: Path, start: int, progress: Progress | None) -> str | None:
    resumed = reply.status == 206 and _range(reply.headers)[0] == start
    if reply.status == 206 and not resumed:
        part.unlink(missing_ok=True)
        return "the server sent another range than was asked for"
    done = start if resumed else 0
    length = reply.headers.get("Content-Length")
    total = done + int(length) if length is not None else None
    with _writing(part, 0):
        opened = part.open("ab" if resumed else "wb", buffering=0)
    with opened as file:
        while block := reply.read(_BLOCK_BYTES):
            view = memoryview(block)
            with _writing(part, total or done + len(block)):
                while view:
                    view = view[file.write(view) :]
            done += len(block)
            if progress is not None:
                progress(done, total)
    # http.client ends a cut reply like a complete one when it is read in blocks.
    return None if total is None or done == total else f"the connection was cut at {done:,} of {total:,} bytes"


@contextmanager
def _writing(part: Path, needed: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(write_failure(error, part.parent, part.name, needed)) from error


def _range(headers: Any) -> tuple[int, int]:
    """(the first byte that comes, the bytes of the whole file); -1 for what the server does not say."""
    found = re.match(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)$", headers.get("Content-Range") or "")
    return (int(found[1] or -1), int(found[2] or -1)) if found else (-1, -1)
