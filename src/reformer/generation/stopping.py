"""Strings that end a text, wherever the borders of the tokens are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


def one_byte(token: int) -> bytes:
    """What a token of a model of bytes stands for."""
    return bytes([token])


@dataclass(frozen=True)
class Stopping:
    """A text is over when one of ``strings`` stands in it; ``to_bytes`` says what a token stands for.

    Whoever generates carries a ``tail``, the last bytes of its text, which is empty at the start.
    """

    strings: tuple[bytes, ...] = ()
    to_bytes: Callable[[int], bytes] = one_byte

    def __post_init__(self) -> None:
        if b"" in self.strings:
            raise ValueError("a stop string must hold at least one byte, got an empty one")

    def follow(self, tail: bytes, token: int) -> tuple[bytes, bool]:
        """The tail with ``token`` after it, and whether the text is then over."""
        if not self.strings:
            return tail, False
        # What the tail already held would have ended the text before.
        text = tail + self.to_bytes(token)
        kept = max(map(len, self.strings)) - 1
        return text[len(text) - min(kept, len(text)) :], any(string in text for string in self.strings)


def as_stopping(strings: Sequence[bytes]) -> Stopping:
    """Stop strings of a model of bytes."""
    return Stopping(tuple(strings))
