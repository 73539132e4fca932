"""Language-model losses of a head, from the trunk's hidden states."""

from collections.abc import Callable

from torch import Tensor

from reformer.hf.inputs import IGNORED
from reformer.ops import chunked_loss


def head_loss(
    logits: Callable[[Tensor], Tensor],
    hidden: Tensor,
    targets: Tensor,
    *,
    chunk_len: int | None,
    n_items: Tensor | int | None = None,
) -> Tensor:
    """Cross-entropy in nats over targets [B, L] that are not -100, of the ``logits`` of hidden states, never whole.

    The mean over them, or their sum over ``n_items``: what the Trainer gives when it accumulates gradients.
    """
    reduction = "mean" if n_items is None else "sum"
    loss = chunked_loss(logits, hidden, targets, chunk_len=chunk_len, ignore_index=IGNORED, reduction=reduction)
    return loss if n_items is None else loss / n_items
