"""Output heads: what turns hidden states into logits, with weights of its own or the embeddings'. V vocabulary."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reformer.models.config import ReformerConfig


class TiedHead(nn.Module):
    """A head whose weights are the token embeddings E: logits E·x + b. Its one parameter is the bias b [V].

    Of hidden states of ``streams=2`` streams side by side, [n1; n2], it reads the sum x = n1 + n2.
    """

    def __init__(self, vocab_size: int, *, streams: int) -> None:
        super().__init__()
        self.streams = streams
        self.bias = nn.Parameter(torch.empty(vocab_size, dtype=torch.get_default_dtype()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zeros: at the start the embeddings alone decide."""
        nn.init.zeros_(self.bias)

    def forward(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Logits [.., V] of hidden states [.., streams·d_model]; ``rows`` [V, d_model] are the embeddings of all tokens."""
        if self.streams == 2:
            first, second = hidden.chunk(2, dim=-1)
            hidden = first + second
        return F.linear(hidden, rows, self.bias)


def make_head(config: ReformerConfig, *, streams: int = 2) -> nn.Linear | TiedHead:
    """The output head of ``config``, over hidden states of so many streams side by side."""
    if config.tie_embeddings:
        return TiedHead(config.vocab_size, streams=streams)
    return nn.Linear(streams * config.d_model, config.vocab_size)


def logits_function(
    config: ReformerConfig, head: nn.Module, embedding: nn.Module, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """The head of ``config`` as a function of hidden states; a tied one gets its rows from the embedding, by calling it."""
    if not config.tie_embeddings:
        return head
    rows = embedding(torch.arange(config.vocab_size, dtype=torch.int64, device=device))
    return lambda hidden: head(hidden, rows)
