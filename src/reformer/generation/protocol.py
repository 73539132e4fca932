"""What generation needs of a model: whatever decodes like this can be sampled and searched.

B batch, T new tokens, V vocabulary.
"""

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
