"""Cross-attention: a decoder's tokens read an encoder's output. B batch, T target, S source length."""

from torch import Tensor, nn

from reformer.layers.attention import resolve_seed, split_width
from reformer.ops import cross_attention, derive_seed

_ATTENTION_DROPOUT = 1


class CrossAttention(nn.Module):
    """Projections and heads around ``reformer.ops.cross_attention``; keys of their own, logits times head_dim^-0.5.

    ``forward(x [B, T, d_model], memory [B, S, d_model])`` returns [B, T, d_model].
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        head_dim: int | None = None,
        d_attn: int | None = None,
        dropout: float = 0.0,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        self.n_heads, self.dropout, self.impl = n_heads, dropout, impl
        self.head_dim, width = split_width(d_model, n_heads, head_dim, d_attn)
        self.to_q = nn.Linear(d_model, width, bias=False)
        self.to_k = nn.Linear(d_model, width, bias=False)
        self.to_v = nn.Linear(d_model, width, bias=False)
        self.to_out = nn.Linear(width, d_model, bias=False)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        *,
        segment_ids: Tensor | None = None,
        memory_segment_ids: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Tensor:
        """``segment_ids`` [B, T], ``memory_segment_ids`` [B, S]: a token reads the memory of its own id, as in the op.

        ``seed`` decides dropout, as in ``SelfAttention.forward``.
        """
        seed = resolve_seed(seed, self.training)
        return self.attend(x, *self.read(memory), segment_ids, memory_segment_ids, seed, self.training)

    def read(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, S, D] of the encoder's output, which in decoding are computed once."""
        return self._heads(self.to_k(memory)), self._heads(self.to_v(memory))

    def attend(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        segment_ids: Tensor | None,
        memory_segment_ids: Tensor | None,
        seed: Tensor,
        training: bool,
    ) -> Tensor:
        """[B, T, d_model]: a pure function of its arguments."""
        dropout_p = self.dropout if training else 0.0
        out = cross_attention(
            self._heads(self.to_q(x)),
            keys,
            values,
            query_segment_ids=segment_ids,
            key_segment_ids=memory_segment_ids,
            dropout_p=dropout_p,
            dropout_seed=derive_seed(seed, _ATTENTION_DROPOUT) if dropout_p > 0.0 else None,
            impl=self.impl,
        )
        return self.to_out(out.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, self.head_dim)).transpose(1, 2)
