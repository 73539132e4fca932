"""The definition of LSH attention: obvious, O(L²), any floating dtype.

Every step says what design and paper say, with one [L, L] tensor per idea; nothing is shared with the fast paths.
B batch, H heads, R rounds, L length, i a query, j a key.
"""

import torch
from torch import Tensor

from reformer.ops.dense import softmax_average
from reformer.ops.keys import unit_keys


def lsh_attention_reference(
    qk: Tensor,
    v: Tensor,
    buckets: Tensor,
    *,
    chunk_len: int,
    pattern: str,
    causal: bool,
    window: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
    segment_ids: Tensor | None,
    scale: float,
    dropout_p: float,
    dropout_seed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """(out [B, H, L, Dv], lse [B, H, L]); differentiable by autograd. See ``reformer.ops.lsh_attention``."""
    B, H, L, _ = qk.shape
    segments = segment_ids if segment_ids is not None else torch.zeros(B, L, dtype=torch.int64, device=qk.device)
    counts = visible_counts(
        buckets,
        segments,
        chunk_len=chunk_len,
        pattern=pattern,
        causal=causal,
        window=window,
        n_chunks_before=n_chunks_before,
        n_chunks_after=n_chunks_after,
    )
    logits = scale * qk @ unit_keys(qk).transpose(-1, -2) + counts.to(qk.dtype).log()
    return softmax_average(logits, v, dropout_p, dropout_seed)


def visible_counts(
    buckets: Tensor,
    segments: Tensor,
    *,
    chunk_len: int,
    pattern: str,
    causal: bool,
    window: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
) -> Tensor:
    """How often query i counts key j [B, H, L, L]: 0 or 1 for "paper" and "bucket", any number for "trax"."""
    L = buckets.shape[-1]
    position = torch.arange(L, device=buckets.device)
    real = segments >= 0
    both_real = (real[:, :, None] & real[:, None, :])[:, None]
    same_segment = (segments[:, :, None] == segments[:, None, :])[:, None] & both_real
    ranks = [rank_in_order(buckets[:, :, r], segments) for r in range(buckets.shape[2])]
    if pattern == "trax":
        counts = wrapped_counts(ranks, L, chunk_len, n_chunks_before, n_chunks_after) * same_segment
    else:
        union = torch.zeros_like(same_segment)
        for r, rank in enumerate(ranks):
            bucket = buckets[:, :, r]
            together = same_segment & (bucket[..., :, None] == bucket[..., None, :])
            if pattern == "paper":
                chunk = rank // chunk_len
                ahead = chunk[..., None, :] - chunk[..., :, None]
                near = (ahead >= -n_chunks_before) & (ahead <= n_chunks_after)
            else:
                # The place of a token among the tokens of its own bucket, by position.
                place = (together & (position[None, :] < position[:, None])).sum(-1)
                apart = (place[..., None, :] - place[..., :, None]).abs()
                near = apart <= (L if window is None else window)
            union = union | (together & near)
        counts = union.long()
    on_self = counts.diagonal(dim1=-2, dim2=-1)
    allowed = position[None, :] < position[:, None] if causal else position[None, :] != position[:, None]
    others = counts * allowed
    alone = (others.sum(-1) == 0) & real[:, None]
    return others + torch.diag_embed(on_self * alone)


def rank_in_order(bucket: Tensor, segments: Tensor) -> Tensor:
    """The place of each token in the order by (segment, bucket, position): the number of tokens before it."""
    L = bucket.shape[-1]
    position = torch.arange(L, device=bucket.device)
    segment_j, segment_i = segments[:, None, None, :], segments[:, None, :, None]
    real_j, real_i = segment_j >= 0, segment_i >= 0
    bucket_j, bucket_i = bucket[..., None, :], bucket[..., :, None]
    earlier = position[None, :] < position[:, None]
    before = (bucket_j < bucket_i) | ((bucket_j == bucket_i) & earlier)
    before = (segment_j < segment_i) | ((segment_j == segment_i) & before)
    return ((real_j & ~real_i) | ((real_j == real_i) & before)).sum(-1)


def wrapped_counts(ranks: list[Tensor], L: int, chunk_len: int, before: int, after: int) -> Tensor:
    """How often query i's neighbouring chunks hold key j, the orders laid end to end and around; whoever may see whom."""
    chunks_per_round = -(-L // chunk_len)
    n_chunks = len(ranks) * chunks_per_round
    chunks = [r * chunks_per_round + rank // chunk_len for r, rank in enumerate(ranks)]
    counts = torch.zeros(*ranks[0].shape, L, dtype=torch.int64, device=ranks[0].device)
    for query_chunk in chunks:
        for key_chunk in chunks:
            for offset in range(-before, after + 1):
                counts += key_chunk[..., None, :] == ((query_chunk + offset) % n_chunks)[..., :, None]
    return counts
