"""One decoding step in plain PyTorch, on any device: every slot of the cache is looked at, in a few dense operations.

B batch, H heads, S slots, D key size, E value size, R hash rounds.
"""

import torch
from torch import Tensor

from reformer.ops.decoding.cache import AttentionCache


def step(
    cache: AttentionCache, q: Tensor, k: Tensor, v: Tensor, bucket: Tensor | None, place: Tensor, scale: float
) -> Tensor:
    """Attention out [B, H, E] of the token at ``place`` [B] of each row, which enters the cache.

    q and k [B, H, D], v [B, H, E], ``bucket`` [B, H, R]. A padding token is entered too, where the next one replaces it.
    """
    rows, slot = torch.arange(q.shape[0], dtype=torch.int64, device=q.device), place % cache.slots
    cache.keys[rows, :, slot], cache.values[rows, :, slot] = k.to(cache.keys.dtype), v.to(cache.values.dtype)
    if cache.buckets is None:
        seen = _seen_by_position(cache, place)[:, None]
    else:
        assert bucket is not None
        cache.buckets[rows, :, :, slot] = bucket.int()
        seen = _seen_by_bucket(cache, place) if cache.reach.pattern != "trax" else _seen_in_trax(cache, place)
    if cache.reach.exclude_self:
        seen = seen * (_slots(cache) != slot[:, None])[:, None]
    logits = scale * (cache.keys @ q.to(cache.keys.dtype)[..., None]).squeeze(-1) + seen.to(q.dtype).log()
    alone = (seen.sum(-1) == 0)[..., None]
    weights = torch.softmax(logits.masked_fill(alone, 0.0), dim=-1)
    return torch.where(alone, v, (weights[:, :, None] @ cache.values).squeeze(2))


def _seen_by_position(cache: AttentionCache, place: Tensor) -> Tensor:
    """Whether each slot is seen [B, S], by place alone."""
    held, start = cache.held_places(place), torch.zeros_like(place)
    chunks, window = cache.reach.chunks_within(cache.max_len), cache.reach.window
    if chunks is not None:
        chunk_len, before, _ = chunks
        start = (place // chunk_len - before) * chunk_len
    elif window is not None:
        start = place - window
    return held >= start.clamp_min(0)[:, None]


def _seen_by_bucket(cache: AttentionCache, place: Tensor) -> Tensor:
    """Whether each slot is seen [B, H, S]: the newest members of the token's bucket in some round, itself among them."""
    assert cache.buckets is not None
    chunks, window = cache.reach.chunks_within(cache.max_len), cache.reach.window
    bucket, is_there = _newest(cache, place)
    same = (cache.buckets == bucket) & is_there
    n_newer = same.flip(-1).cumsum(-1).flip(-1) - 1
    if chunks is not None:
        chunk_len, before, _ = chunks
        rank = ((cache.buckets <= bucket) & is_there).sum(-1, keepdim=True) - 1
        same &= n_newer <= rank % chunk_len + before * chunk_len
    elif window is not None:
        same &= n_newer <= window
    return same.any(2)


def _seen_in_trax(cache: AttentionCache, place: Tensor) -> Tensor:
    """How often each slot is seen [B, H, S]: chunks of all rounds end to end, whatever the bucket."""
    assert cache.buckets is not None
    chunks = cache.reach.chunks_within(cache.max_len)
    assert chunks is not None
    m, before, after = chunks
    _, is_there = _newest(cache, place)
    R = cache.buckets.shape[2]
    order = torch.sort(cache.buckets.masked_fill(~is_there, torch.iinfo(torch.int32).max), dim=-1, stable=True).indices
    chunk = torch.empty_like(order).scatter_(-1, order, _slots(cache).expand_as(order))
    chunks_per_round = (place[:, None, None, None] + m) // m
    chunk = chunk // m + torch.arange(R, dtype=torch.int64, device=order.device)[:, None] * chunks_per_round
    own = chunk.gather(-1, place[:, None, None, None].expand(*chunk.shape[:3], 1))
    seen = torch.zeros_like(chunk[:, :, 0])
    for query_round in range(R):
        for offset in range(-before, after + 1):
            looked_at = (own[:, :, query_round, None] + offset) % (R * chunks_per_round)
            seen += ((chunk == looked_at) & is_there).sum(2)
    return seen


def _newest(cache: AttentionCache, place: Tensor) -> tuple[Tensor, Tensor]:
    """The buckets [B, H, R, 1] of the token at ``place``, and which slots hold a token by then [B, 1, 1, S]."""
    assert cache.buckets is not None
    at = place[:, None, None, None]
    return (
        cache.buckets.gather(-1, at.expand(*cache.buckets.shape[:3], 1)),
        _slots(cache) <= at,
    )


def _slots(cache: AttentionCache) -> Tensor:
    return torch.arange(cache.slots, dtype=torch.int64, device=cache.keys.device)
