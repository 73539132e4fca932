"""Language-model losses and logits of a head, from the trunk's hidden states."""

import torch.nn.functional as F
from torch import Tensor, nn

from reformer.hf.inputs import IGNORED
from reformer.models.head import TiedHead, linear_arguments
from reformer.ops import chunked_cross_entropy

Head = nn.Linear | TiedHead


def head_logits(head: Head, hidden: Tensor, embedding: Tensor) -> Tensor:
    """Logits [.., V]; a head of its own is called as a module, so that adapters and hooks on it work."""
    return F.linear(*linear_arguments(head, hidden, embedding)) if isinstance(head, TiedHead) else head(hidden)


def head_loss(
    head: Head,
    hidden: Tensor,
    embedding: Tensor,
    targets: Tensor,
    *,
    chunk_len: int | None,
    n_items: Tensor | int | None = None,
) -> Tensor:
    """Cross-entropy in nats over targets [B, L] that are not -100, the logits never whole.

    The mean over them, or their sum over ``n_items``: what the Trainer gives when it accumulates gradients.
    """
    loss = chunked_cross_entropy(
        *linear_arguments(head, hidden, embedding),
        targets,
        chunk_len=chunk_len,
        ignore_index=IGNORED,
        reduction="mean" if n_items is None else "sum",
    )
    return loss if n_items is None else loss / n_items
