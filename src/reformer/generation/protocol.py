"""What generation needs: a model that decodes, whose texts can then be sampled and searched, and when a text is over.

B batch, T new tokens, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


class State(Protocol):
    """A generation so far, of B rows."""

    def reorder(self, rows: Tensor) -> None:
        """Row b becomes what row ``rows[b]`` was; there may be more or fewer rows than before."""


class Decoder(Protocol):
    """A model that continues sequences. What it reads beside them (an encoder's output) is in the state."""

    def decode(
        self, tokens: Tensor, state: Any, segment_ids: Tensor | None = None, *, last_only: bool = False
    ) -> Tensor:
        """Logits [B, T, V] of the next tokens [B, T], or of the last alone [B, 1, V]; ``state`` then holds them too.

        ``segment_ids`` [B, T]: negative is padding.
        """


@dataclass(frozen=True)
class Stopping:
    """A text is over when one of ``strings`` stands in it, wherever the borders of its tokens are.

    ``to_bytes`` says what a token stands for (default: the byte of its number). Whoever generates carries a ``tail``, the
    last bytes of its text, which is empty at the start.
    """

    strings: tuple[bytes, ...] = ()
    to_bytes: Callable[[int], bytes] = lambda token: bytes([token])

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
