"""The position-wise feed-forward layer, chunked over the sequence."""

import torch
from torch import Tensor, nn

from reformer.ops import chunked_feed_forward, derive_seed
from reformer.ops.checks import require_choice
from reformer.ops.chunking import ACTIVATIONS


class FeedForward(nn.Module):
    """x [B, L, d_model] → activation → [B, L, d_model] (paper, section 3 "Chunking"): relu, gelu, gelu_tanh or swiglu.

    ``chunk_len`` positions at a time (None: all), which changes memory, not the result. ``dropout`` is that of the hidden
    units.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        activation: str = "relu",
        chunk_len: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_choice("activation", activation, ACTIVATIONS)
        self.activation, self.chunk_len, self.dropout = activation, chunk_len, dropout
        hidden = 2 * d_ff if activation == "swiglu" else d_ff
        self.w_in = nn.Parameter(torch.empty(hidden, d_model))
        self.b_in = nn.Parameter(torch.empty(hidden))
        self.w_out = nn.Parameter(torch.empty(d_model, d_ff))
        self.b_out = nn.Parameter(torch.empty(d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier weights, zero biases."""
        nn.init.xavier_uniform_(self.w_in)
        nn.init.xavier_uniform_(self.w_out)
        nn.init.zeros_(self.b_in)
        nn.init.zeros_(self.b_out)

    def forward(self, x: Tensor, *, seed: Tensor | None = None, training: bool | None = None) -> Tensor:
        """The layer's output; ``training=None`` means ``self.training``."""
        training = self.training if training is None else training
        dropout_p = self.dropout if training else 0.0
        if dropout_p > 0.0 and seed is None:
            seed = torch.randint(0, 2**62, ())
        return chunked_feed_forward(
            x,
            self.w_in,
            self.b_in,
            self.w_out,
            self.b_out,
            activation=self.activation,
            chunk_len=self.chunk_len,
            dropout_p=dropout_p,
            dropout_seed=derive_seed(seed, 0) if seed is not None and dropout_p > 0.0 else None,
        )
