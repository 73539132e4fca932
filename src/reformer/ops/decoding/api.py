"""The two ways into a cache: many tokens at once, attended to in parallel, or the next few one after another."""

import torch
from torch import Tensor

from reformer.ops.decoding import eager
from reformer.ops.decoding.cache import AttentionCache
from reformer.ops.hashing import hash_vectors
from reformer.ops.keys import unit_keys


def prefill_cache(
    cache: AttentionCache,
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    buckets: Tensor | None,
    counts: Tensor,
    real_first: Tensor | None,
) -> None:
    """Fill an empty cache with the tokens of a parallel pass.

    Args:
        q, k, v: [B, H, L, D]; ``k=None``: shared QK.
        buckets: [B, H, R, L] of ``hash_vectors`` under the cache's rotations; None without hashing.
        counts: [B] real tokens of each row.
        real_first: [B, L], the real tokens in order and then the padding; None without padding.
    """
    L = q.shape[2]
    cache.reserve(L)
    source = (
        torch.arange(L, dtype=torch.int64, device=q.device).expand(q.shape[0], L) if real_first is None else real_first
    )
    if cache.is_ring:
        held = cache.held_places(counts - 1)
        source = source.gather(1, held.clamp(0, L - 1))
    n = source.shape[1]
    cache.keys[:, :, :n] = _tokens(unit_keys(q) if k is None else k, source)
    cache.values[:, :, :n] = _tokens(v, source)
    if cache.buckets is not None:
        assert buckets is not None
        cache.buckets[..., :n] = buckets.gather(-1, source[:, None, None].expand(*buckets.shape[:3], n)).int()
        if cache.native is not None:
            cache.native.rebuild(cache, counts)


def decode_attention(
    cache: AttentionCache,
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    counts: Tensor,
    is_real: Tensor | None,
    *,
    scale: float,
) -> Tensor:
    """Attention out [B, H, T, E] of the next T tokens, which enter the cache one after another.

    Token t sees what ``cache.reach`` says, of the tokens before it, as if it were the last of its sequence.

    Args:
        q, k, v: [B, H, T, D]; ``k=None``: shared QK.
        counts: [B] int64, real tokens of each row before these.
        is_real: [B, T] bool; padding gets 0 and leaves no trace. None: all real.

    The cache must have room for them (``AttentionCache.reserve``).
    """
    if cache.native is not None:
        return cache.native.decode(cache, q, k, v, counts, is_real, scale)
    outs = []
    for t in range(q.shape[2]):
        real = None if is_real is None else is_real[:, t]
        key = unit_keys(q[:, :, t]) if k is None else k[:, :, t]
        bucket = None
        if cache.rotations is not None:
            bucket = hash_vectors(q[:, :, t : t + 1], cache.rotations, cache.factors)[..., 0]
        out = eager.step(cache, q[:, :, t], key, v[:, :, t], bucket, counts, scale)
        outs.append(out if real is None else out * real[:, None, None])
        counts = counts + 1 if real is None else counts + real
    return torch.stack(outs, dim=2)


def _tokens(x: Tensor, source: Tensor) -> Tensor:
    index = source[:, None, :, None].expand(*x.shape[:2], source.shape[1], x.shape[3])
    return x.gather(2, index)
