"""Output heads: what turns the trunk's [.., 2·d_model] into logits, with weights of its own or the embeddings'.

Both are one linear map, so that logits and chunked loss are computed in one place each. V vocabulary.
"""

import torch
from torch import Tensor, nn

from reformer.models.config import ReformerConfig


class TiedHead(nn.Module):
    """The bias [V] of a head whose weights are the token embeddings; it has no other parameter."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(vocab_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zeros: at the start the embeddings alone decide."""
        nn.init.zeros_(self.bias)


def make_head(config: ReformerConfig) -> nn.Linear | TiedHead:
    """The output head of ``config``."""
    return TiedHead(config.vocab_size) if config.tie_embeddings else nn.Linear(2 * config.d_model, config.vocab_size)


def linear_arguments(head: nn.Linear | TiedHead, hidden: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(x, weight, bias) with logits = x · weightᵀ + bias, of ``hidden`` [.., 2·d_model] = [n1; n2].

    A head of its own reads [n1; n2]; a tied one reads n1 + n2, its weights the first V rows of ``embedding``.
    """
    if isinstance(head, TiedHead):
        first, second = hidden.chunk(2, dim=-1)
        return first + second, embedding[: head.bias.shape[0]], head.bias
    return hidden, head.weight, head.bias
