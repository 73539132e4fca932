"""What several tests of this room share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from reformer.data import SPLITS, Corpus, DataError

# Other work on the same machine must not fail a property by its time.
unhurried = settings(deadline=None)


@contextmanager
def refuses(*facts: str) -> Iterator[None]:
    """The block raises DataError with one line that holds each of the facts."""
    with pytest.raises(DataError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert "Errno" not in message
    for fact in facts:
        assert fact in message, f"{fact!r} is not in: {message}"


def some_bytes(n: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, n, dtype=np.uint8).tobytes()


def contents(corpus: Corpus) -> dict[str, bytes]:
    return {name: corpus.split(name).tobytes() for name in SPLITS}


def whole(corpus: Corpus) -> bytes:
    return b"".join(contents(corpus).values())


def entries(folder: Path) -> list[str]:
    """All names in a cache folder, hidden working folders included."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
