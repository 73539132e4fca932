import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class OnePass(io.RawIOBase):
    """A pipe: gives few bytes at a time and cannot seek."""

    def __init__(self, data: bytes, at_once: int = 700) -> None:
        self._inner, self._at_once = io.BytesIO(data), at_once

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._inner.readinto(memoryview(buffer)[: self._at_once])


@pytest.fixture
def pipe_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Puts bytes on a standard input that cannot seek."""

    def set_bytes(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(OnePass(data))))

    return set_bytes
