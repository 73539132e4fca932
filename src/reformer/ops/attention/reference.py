"""The definitions of LSH attention and of local attention: obvious, O(L²), any floating dtype.

Every step says what design and paper say, with one [L, L] tensor per idea; nothing is shared with the fast paths, and
between the two only what a ring of chunks is. B batch, H heads, R rounds, L length, i a query, j a key.
"""

import torch
from torch import Tensor

from reformer.ops.attention.dense import softmax_average
from reformer.ops.attention.reach import Dropout, Reach
from reformer.ops.keys import unit_keys


def lsh_attention_reference(
    qk: Tensor,
    v: Tensor,
    buckets: Tensor,
    segment_ids: Tensor | None,
    reach: Reach,
    *,
    scale: float,
    dropout: Dropout | None,
) -> tuple[Tensor, Tensor]:
    """(out [B, H, L, Dv], lse [B, H, L]); differentiable by autograd. See ``reformer.ops.lsh_attention``."""
    counts = visible_counts(buckets, _segments(qk, segment_ids), reach)
    logits = scale * qk @ unit_keys(qk).transpose(-1, -2) + counts.to(qk.dtype).log()
    return softmax_average(logits, v, dropout)


def visible_counts(buckets: Tensor, segments: Tensor, reach: Reach) -> Tensor:
    """How often query i counts key j [B, H, L, L]: 0 or 1 for "paper" and "bucket", any number for "trax".

    ``buckets`` [B, H, R, L], ``segments`` [B, L], negative for padding.
    """
    assert reach.chunk_len is not None
    L = buckets.shape[-1]
    position = torch.arange(L, dtype=torch.int64, device=buckets.device)
    real = segments >= 0
    both_real = (real[:, :, None] & real[:, None, :])[:, None]
    same_segment = (segments[:, :, None] == segments[:, None, :])[:, None] & both_real
    ranks = [_rank_in_order(buckets[:, :, r], segments) for r in range(buckets.shape[2])]
    if reach.pattern == "trax":
        counts = _ring_counts(ranks, L, reach) * same_segment
    else:
        union = torch.zeros_like(same_segment)
        for r, rank in enumerate(ranks):
            bucket = buckets[:, :, r]
            together = same_segment & (bucket[..., :, None] == bucket[..., None, :])
            if reach.pattern == "paper":
                chunk = rank // reach.chunk_len
                ahead = chunk[..., None, :] - chunk[..., :, None]
                near = (ahead >= -reach.n_chunks_before) & (ahead <= reach.n_chunks_after)
            else:
                # The place of a token among the tokens of its own bucket, by position.
                place = (together & (position[None, :] < position[:, None])).sum(-1)
                apart = (place[..., None, :] - place[..., :, None]).abs()
                near = apart <= (L if reach.window is None else reach.window)
            union = union | (together & near)
        counts = union.long()
    on_self = counts.diagonal(dim1=-2, dim2=-1)
    allowed = position[None, :] < position[:, None] if reach.causal else position[None, :] != position[:, None]
    others = counts * allowed
    alone = (others.sum(-1) == 0) & real[:, None]
    return others + torch.diag_embed(on_self * alone)


def local_attention_reference(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    segment_ids: Tensor | None,
    reach: Reach,
    *,
    scale: float,
    dropout: Dropout | None,
) -> tuple[Tensor, Tensor]:
    """(out, lse); neither ``chunk_len`` nor ``window``: full attention. See ``reformer.ops.local_attention``."""
    L, segments = q.shape[2], _segments(q, segment_ids)
    position = torch.arange(L, dtype=torch.int64, device=q.device)
    earlier = position[None, :] < position[:, None]
    real = segments >= 0
    together = (segments[:, :, None] == segments[:, None, :]) & real[:, :, None]
    # The place of a token among the tokens of its own segment.
    place = (together & earlier).sum(-1)
    ahead = place[:, None, :] - place[:, :, None]
    if reach.wrap:
        rank = _rank_in_order(torch.zeros_like(segments)[:, None], segments)
        times = _ring_counts([rank], L, reach)[:, 0]
        visible = together & (times > 0)
    elif reach.chunk_len is not None:
        chunk = place // reach.chunk_len
        chunks_ahead = chunk[:, None, :] - chunk[:, :, None]
        visible = together & (chunks_ahead >= -reach.n_chunks_before) & (chunks_ahead <= reach.n_chunks_after)
    else:
        visible = together & (ahead.abs() <= (L if reach.window is None else reach.window))
    if reach.causal:
        visible = visible & (ahead <= 0)
    keys = unit_keys(q) if k is None else k
    if reach.exclude_self:
        others = visible & (ahead != 0)
        alone = ~others.any(-1) & real
        visible = others | torch.diag_embed(alone)
    logits = (scale * q @ keys.transpose(-1, -2)).masked_fill(~visible[:, None], float("-inf"))
    if reach.wrap:
        # A chunk that is met on both ways around counts twice.
        logits = logits + times.clamp_min(1).to(q.dtype).log()[:, None]
    return softmax_average(logits, v, dropout)


def _rank_in_order(bucket: Tensor, segments: Tensor) -> Tensor:
    """The place of each token in the order by (segment, bucket, position): the number of tokens before it."""
    L = bucket.shape[-1]
    position = torch.arange(L, dtype=torch.int64, device=bucket.device)
    segment_j, segment_i = segments[:, None, None, :], segments[:, None, :, None]
    real_j, real_i = segment_j >= 0, segment_i >= 0
    bucket_j, bucket_i = bucket[..., None, :], bucket[..., :, None]
    earlier = position[None, :] < position[:, None]
    before = (bucket_j < bucket_i) | ((bucket_j == bucket_i) & earlier)
    before = (segment_j < segment_i) | ((segment_j == segment_i) & before)
    return ((real_j & ~real_i) | ((real_j == real_i) & before)).sum(-1)


def _ring_counts(ranks: list[Tensor], L: int, reach: Reach) -> Tensor:
    """How often query i's neighbouring chunks hold key j, the orders laid end to end and around; whoever may see whom."""
    assert reach.chunk_len is not None
    chunks_per_round = -(-L // reach.chunk_len)
    n_chunks = len(ranks) * chunks_per_round
    chunks = [r * chunks_per_round + rank // reach.chunk_len for r, rank in enumerate(ranks)]
    counts = torch.zeros(*ranks[0].shape, L, dtype=torch.int64, device=ranks[0].device)
    for query_chunk in chunks:
        for key_chunk in chunks:
            for offset in range(-reach.n_chunks_before, reach.n_chunks_after + 1):
                counts += key_chunk[..., None, :] == ((query_chunk + offset) % n_chunks)[..., :, None]
    return counts


def _segments(q: Tensor, segment_ids: Tensor | None) -> Tensor:
    B, _, L, _ = q.shape
    return torch.zeros(B, L, dtype=torch.int64, device=q.device) if segment_ids is None else segment_ids
