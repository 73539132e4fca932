"""The definition of local and full attention: obvious, O(L²), any floating dtype."""

import torch
from torch import Tensor

from reformer.ops.dense import softmax_average
from reformer.ops.keys import unit_keys
from reformer.ops.lsh_attention.reference import rank_in_order, wrapped_counts


def local_attention_reference(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    *,
    causal: bool,
    chunk_len: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
    window: int | None,
    wrap: bool,
    segment_ids: Tensor | None,
    scale: float,
    dropout_p: float,
    dropout_seed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """(out, lse); neither ``chunk_len`` nor ``window``: full attention. See ``reformer.ops.local_attention``."""
    B, _, L, _ = q.shape
    segments = segment_ids if segment_ids is not None else torch.zeros(B, L, dtype=torch.int64, device=q.device)
    position = torch.arange(L, device=q.device)
    earlier = position[None, :] < position[:, None]
    real = segments >= 0
    together = (segments[:, :, None] == segments[:, None, :]) & real[:, :, None]
    # The place of a token among the tokens of its own segment.
    place = (together & earlier).sum(-1)
    ahead = place[:, None, :] - place[:, :, None]
    if wrap:
        assert chunk_len is not None
        rank = rank_in_order(torch.zeros_like(segments)[:, None], segments)
        times = wrapped_counts([rank], L, chunk_len, n_chunks_before, n_chunks_after)[:, 0]
        visible = together & (times > 0)
    elif chunk_len is not None:
        chunks_ahead = place[:, None, :] // chunk_len - place[:, :, None] // chunk_len
        visible = together & (chunks_ahead >= -n_chunks_before) & (chunks_ahead <= n_chunks_after)
    else:
        visible = together & (ahead.abs() <= (L if window is None else window))
    if causal:
        visible = visible & (ahead <= 0)
    if k is None:
        k = unit_keys(q)
        others = visible & (ahead != 0)
        alone = ~others.any(-1) & real
        visible = others | torch.diag_embed(alone)
    logits = (scale * q @ k.transpose(-1, -2)).masked_fill(~visible[:, None], float("-inf"))
    if wrap:
        # A chunk that is met on both ways around counts twice.
        logits = logits + times.clamp_min(1).to(q.dtype).log()[:, None]
    return softmax_average(logits, v, dropout_p, dropout_seed)
