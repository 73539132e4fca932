"""Self-attention layers: LSH, local and full, which differ in nothing but whom a token attends to.

With shared QK (the paper's) all three have the same parameters under the same names, so one state_dict fits any of them.
B batch, L length, H heads, D head size.
"""

from typing import Any

import torch
from torch import Tensor, nn

from reformer.layers.passes import DecodingStep, ParallelPass, resolve_seed
from reformer.layers.positions import rotate
from reformer.ops import (
    derive_seed,
    full_attention,
    hash_vectors,
    seeded_buckets,
    seeded_rotations,
    sort_by_bucket,
)
from reformer.ops.attention.local import attend_by_position, logit_scale
from reformer.ops.attention.lsh import attend_by_bucket
from reformer.ops.attention.reach import Dropout, Reach
from reformer.ops.decoding import AttentionCache, decode_attention, prefill_cache
from reformer.ops.hashing import Buckets, bucket_factors

# Sub-streams of a layer's seed.
_ROTATIONS, _ATTENTION_DROPOUT = 0, 1


def split_width(d_model: int, n_heads: int, head_dim: int | None, d_attn: int | None) -> tuple[int, int]:
    """(head_dim, d_attn): n_heads · head_dim must be the attention width d_attn, by default d_model."""
    width = d_model if d_attn is None else d_attn
    if head_dim is None:
        if width % n_heads:
            raise ValueError(
                f"n_heads × head_dim must be the attention width {width}, but {width} is not a multiple of "
                f"n_heads={n_heads}; the nearest width is {max(1, round(width / n_heads)) * n_heads}"
            )
        head_dim = width // n_heads
    if n_heads * head_dim != width:
        raise ValueError(
            f"n_heads × head_dim must be the attention width {width}, got {n_heads} × {head_dim} = "
            f"{n_heads * head_dim}; set head_dim={width // n_heads} or d_attn={n_heads * head_dim}"
        )
    return head_dim, width


class SelfAttention(nn.Module):
    """Projections, heads and replay around one attention op; subclasses say which.

    ``forward(x [B, L, d_model])`` returns [B, L, d_model]. ``reach``: whom a token sees.
    """

    reach: Reach

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        head_dim: int | None = None,
        d_attn: int | None = None,
        causal: bool = True,
        shared_qk: bool = True,
        dropout: float = 0.0,
        rotary: bool = False,
        scale: float | None = None,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.head_dim, width = split_width(d_model, n_heads, head_dim, d_attn)
        if rotary and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even head_dim, got {self.head_dim}; use {self.head_dim + 1}")
        self.causal, self.shared_qk, self.dropout, self.rotary = causal, shared_qk, dropout, rotary
        self.scale, self.impl = scale, impl
        self.to_q = nn.Linear(d_model, width, bias=False)
        self.to_k = None if shared_qk else nn.Linear(d_model, width, bias=False)
        self.to_v = nn.Linear(d_model, width, bias=False)
        self.to_out = nn.Linear(width, d_model, bias=False)

    def forward(
        self,
        x: Tensor,
        how: ParallelPass | DecodingStep | None = None,
        *,
        seed: int | Tensor | None = None,
        segment_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Attention of x [B, L, d_model]; ``segment_ids`` [B, L] (negative: padding), ``position_ids`` [B, L] for rotary.

        ``seed`` decides rotations and dropout. None: drawn from torch's global generator in training, fixed in evaluation.
        In a stack ``how`` says all that.
        """
        if how is None:
            seed = resolve_seed(seed, self.training)
            how = ParallelPass(seed=seed, segment_ids=segment_ids, position_ids=position_ids)
        return how.through(self, x)

    def run(self, x: Tensor, parallel: ParallelPass) -> Tensor:
        """See ``Branch.run``."""
        q, k, v = self.project(x, parallel.position_ids)
        if not parallel.saved:
            parallel.saved.extend(self.places(q, parallel))
        dropout = None
        if self.training and self.dropout > 0.0:
            dropout = Dropout.of(self.dropout, derive_seed(parallel.seed, _ATTENTION_DROPOUT))
        return self.join(self.attend(q, k, v, parallel.saved, parallel.segment_ids, dropout))

    def step(self, x: Tensor, decoding: DecodingStep) -> Tensor:
        """See ``Branch.step``: what the newest tokens see of the cache; a prompt is one parallel pass that fills it."""
        new, cache = decoding.new, decoding.attention
        q, k, v = self.project(x, new.position_ids)
        if not new.in_parallel:
            scale = logit_scale(q, k, self.scale)
            return self.join(decode_attention(cache, q, k, v, new.counts, new.is_real, scale=scale))
        saved: list[Tensor] = []
        if cache.rotations is not None:
            saved = _sorted_buckets(hash_vectors(q, cache.rotations, cache.factors), new.segment_ids)
        counts = new.counts + (q.shape[2] if new.is_real is None else new.is_real.sum(1))
        prefill_cache(cache, q, k, v, saved[0] if saved else None, counts, new.real_first)
        return self.join(self.attend(q, k, v, saved, new.segment_ids, None))

    def empty_cache(
        self, *, batch: int, max_len: int, seed: Tensor, n_buckets: Buckets, dtype: torch.dtype, device: torch.device
    ) -> AttentionCache:
        """What a generation of ``batch`` rows of at most ``max_len`` tokens remembers of this layer: nothing yet.

        LSH layers hash with the rotations that ``run`` has under ``seed``, into ``n_buckets`` whatever their own number.
        """
        return AttentionCache(
            self.reach,
            batch=batch,
            heads=self.n_heads,
            key_width=self.head_dim,
            value_width=self.head_dim,
            max_len=max_len,
            dtype=dtype,
            device=device,
            impl="auto" if self.impl == "auto" else "eager",
            **self.hashing(seed, n_buckets, device),
        )

    def project(self, x: Tensor, position_ids: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """(q, k, v) [B, H, L, D] as they enter the attention op, rotated where the layer is rotary; k is None for shared QK."""
        q, v = self._heads(self.to_q(x)), self._heads(self.to_v(x))
        k = None if self.to_k is None else self._heads(self.to_k(x))
        if self.rotary:
            q = rotate(q, position_ids)
            k = None if k is None else rotate(k, position_ids)
        return q, k, v if v.dtype == q.dtype else v.to(q.dtype)

    def join(self, out: Tensor) -> Tensor:
        """What the heads found [B, H, L, D] as the layer's output [B, L, d_model]."""
        joined: Tensor = self.to_out(out.transpose(1, 2).flatten(2))
        return joined

    def places(self, q: Tensor, parallel: ParallelPass) -> list[Tensor]:
        """What a replay must not compute again; nothing, where attention goes by position."""
        return []

    def hashing(self, seed: Tensor, n_buckets: Buckets, device: torch.device) -> dict[str, Any]:
        """What a cache needs to hash with; nothing, where attention goes by position."""
        return {}

    def attend(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        saved: list[Tensor],
        segment_ids: Tensor | None,
        dropout: Dropout | None,
    ) -> Tensor:
        """The attention op [B, H, L, D] of what ``project`` and ``places`` returned."""
        raise TypeError(f"{type(self).__name__} names no attention; use LSH-, Local- or FullSelfAttention")

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.n_heads, self.head_dim))
        return heads.transpose(1, 2)


class LSHSelfAttention(SelfAttention):
    """Attention within hash buckets (paper, section 2): ``reformer.ops.lsh_attention`` with its own projections.

    ``n_buckets``: an even int, factors (b1, b2), or None for the paper's 2·L/chunk_len at every length. ``window`` is for
    pattern "bucket". Rotations are fresh for each forward pass in training.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_hashes: int = 2,
        n_buckets: Buckets | None = None,
        chunk_len: int = 64,
        pattern: str = "paper",
        window: int | None = None,
        n_chunks_before: int = 1,
        n_chunks_after: int | None = None,
        causal: bool = True,
        scale: float = 1.0,
        **common: Any,
    ) -> None:
        super().__init__(d_model, n_heads, causal=causal, shared_qk=True, scale=scale, **common)
        if n_buckets is not None:
            bucket_factors(n_buckets)
        self.n_hashes, self.n_buckets = n_hashes, n_buckets
        if n_chunks_after is None:
            n_chunks_after = 0 if causal or pattern == "bucket" else 1
        self.chunk_len = chunk_len
        self.reach = Reach.lsh(
            chunk_len=chunk_len,
            pattern=pattern,
            causal=causal,
            window=window,
            n_chunks_before=n_chunks_before,
            n_chunks_after=n_chunks_after,
        )

    def rotations(self, seed: Tensor, n_buckets: Buckets, device: torch.device) -> Tensor:
        """The rotations [H, D, R, columns] that ``attend`` hashes with under this seed and number of buckets."""
        return seeded_rotations(
            self.head_dim,
            derive_seed(seed, _ROTATIONS),
            n_hashes=self.n_hashes,
            n_buckets=n_buckets,
            n_heads=self.n_heads,
            device=device,
        )

    def hashing(self, seed: Tensor, n_buckets: Buckets, device: torch.device) -> dict[str, Any]:
        """Rotations under ``seed``, and the number of buckets."""
        return {"rotations": self.rotations(seed, n_buckets, device), "n_buckets": n_buckets}

    def places(self, q: Tensor, parallel: ParallelPass) -> list[Tensor]:
        """[buckets, order]: computed once, reused in the backward pass."""
        buckets = seeded_buckets(
            q,
            derive_seed(parallel.seed, _ROTATIONS),
            n_hashes=self.n_hashes,
            n_buckets=self.n_buckets,
            chunk_len=self.chunk_len,
            segment_ids=parallel.segment_ids,
        )
        return _sorted_buckets(buckets, parallel.segment_ids)

    def attend(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        saved: list[Tensor],
        segment_ids: Tensor | None,
        dropout: Dropout | None,
    ) -> Tensor:
        """``reformer.ops.lsh_attention``."""
        buckets, order = saved
        scale = 1.0 if self.scale is None else self.scale
        return attend_by_bucket(
            q,
            v,
            buckets,
            self.reach,
            segment_ids=segment_ids,
            scale=scale,
            dropout=dropout,
            order=order,
            impl=self.impl,
        )[0]


class LocalSelfAttention(SelfAttention):
    """Attention to the neighbourhood: chunks of ``chunk_len``, or a sliding ``window`` (``reformer.ops.local_attention``).

    ``wrap``: the first chunk follows the last, as in transformers' bidirectional Reformers.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        chunk_len: int | None = None,
        window: int | None = None,
        n_chunks_before: int = 1,
        n_chunks_after: int | None = None,
        wrap: bool = False,
        causal: bool = True,
        **common: Any,
    ) -> None:
        super().__init__(d_model, n_heads, causal=causal, **common)
        self.reach = Reach.local(
            shared_qk=self.shared_qk,
            causal=causal,
            chunk_len=chunk_len,
            n_chunks_before=n_chunks_before,
            n_chunks_after=(0 if causal else 1) if n_chunks_after is None else n_chunks_after,
            window=window,
            wrap=wrap,
        )

    def attend(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        saved: list[Tensor],
        segment_ids: Tensor | None,
        dropout: Dropout | None,
    ) -> Tensor:
        """``reformer.ops.local_attention``."""
        return attend_by_position(
            q, k, v, self.reach, segment_ids=segment_ids, scale=self.scale, dropout=dropout, impl=self.impl
        )[0]


class FullSelfAttention(SelfAttention):
    """Attention to every token (``reformer.ops.full_attention``): the paper's shared QK, or separate keys."""

    def __init__(self, d_model: int, n_heads: int, **common: Any) -> None:
        super().__init__(d_model, n_heads, **common)
        self.reach = Reach.full(shared_qk=self.shared_qk, causal=self.causal)

    def attend(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        saved: list[Tensor],
        segment_ids: Tensor | None,
        dropout: Dropout | None,
    ) -> Tensor:
        """``reformer.ops.full_attention``."""
        out = full_attention(
            q,
            k,
            v,
            causal=self.causal,
            segment_ids=segment_ids,
            scale=self.scale,
            dropout_p=0.0 if dropout is None else dropout.p,
            dropout_seed=None if dropout is None else dropout.seed,
            impl=self.impl,
        )
        assert isinstance(out, Tensor)
        return out


def _sorted_buckets(buckets: Tensor, segment_ids: Tensor | None) -> list[Tensor]:
    # Kept until the backward pass, for every layer: half the size will do.
    return [buckets.int(), sort_by_bucket(buckets, segment_ids).int()]
