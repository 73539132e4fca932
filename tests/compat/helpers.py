"""What several tests of the drop-in layers share."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refuses(error: type[Exception], *facts: str) -> Iterator[None]:
    """The block raises exactly this error, in one line that holds each of the facts."""
    with pytest.raises(error) as caught:
        yield
    assert caught.type is error
    message = str(caught.value)
    assert "\n" not in message
    for fact in facts:
        assert fact in message, f"{fact!r} is not in: {message}"
