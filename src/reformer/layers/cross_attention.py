"""Cross-attention: a decoder's tokens read an encoder's output. B batch, T target, S source length."""

from torch import Tensor, nn

from reformer.layers.attention import split_width
from reformer.layers.passes import DecodingStep, ParallelPass, resolve_seed
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
        how: ParallelPass | DecodingStep | Tensor,
        *,
        segment_ids: Tensor | None = None,
        memory_segment_ids: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Tensor:
        """By itself, ``how`` is the memory; in a stack it says all there is to say.

        ``segment_ids`` [B, T], ``memory_segment_ids`` [B, S]: a token reads the memory of its own id, as in the op.
        ``seed`` decides dropout, as in ``SelfAttention.forward``.
        """
        if isinstance(how, Tensor):
            how = ParallelPass(
                seed=resolve_seed(seed, self.training),
                segment_ids=segment_ids,
                memory=how,
                memory_segment_ids=memory_segment_ids,
            )
        return how.through(self, x)

    def run(self, x: Tensor, parallel: ParallelPass) -> Tensor:
        """See ``Branch.run``."""
        assert parallel.memory is not None
        keys, values = self._read(parallel.memory)
        drop = self.dropout if self.training else 0.0
        seed = derive_seed(parallel.seed, _ATTENTION_DROPOUT) if drop > 0.0 else None
        return self._attend(x, keys, values, parallel.segment_ids, parallel.memory_segment_ids, drop, seed)

    def step(self, x: Tensor, decoding: DecodingStep) -> Tensor:
        """See ``Branch.step``. Keys and values of the memory are computed once, in the first step of a generation."""
        cache = decoding.memory
        assert cache is not None
        if cache.keys_values is None:
            assert cache.memory is not None
            cache.keys_values, cache.memory = self._read(cache.memory), None
        return self._attend(x, *cache.keys_values, None, cache.segment_ids, 0.0, None)

    def _read(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        return self._heads(self.to_k(memory)), self._heads(self.to_v(memory))

    def _attend(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        segment_ids: Tensor | None,
        memory_segment_ids: Tensor | None,
        dropout_p: float,
        dropout_seed: Tensor | None,
    ) -> Tensor:
        out = cross_attention(
            self._heads(self.to_q(x)),
            keys,
            values,
            query_segment_ids=segment_ids,
            key_segment_ids=memory_segment_ids,
            dropout_p=dropout_p,
            dropout_seed=dropout_seed,
            impl=self.impl,
        )
        return self.to_out(out.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, self.head_dim)).transpose(1, 2)
