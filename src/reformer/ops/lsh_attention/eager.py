"""LSH attention in plain PyTorch, O(L·R·chunk), any device, every pattern.

B batch, H heads, R rounds, L length, D head size, E value head size, N = B·H.
"""

from typing import Any

import torch
from torch import Tensor

from reformer.ops.keys import unit_keys_backward
from reformer.ops.tiled_attention import LARGEST_TILE, Plan, interval_plan, tiled_backward, tiled_forward, wrap_plan
from reformer.ops.tiled_attention.forward import like, unit_keys_wide
from reformer.ops.tiled_attention.tile import Dropout


def forward(
    qk: Tensor,
    v: Tensor,
    buckets: Tensor,
    order: Tensor,
    segment_ids: Tensor | None,
    dropout_seed: Tensor | None,
    *,
    scale: float,
    dropout_p: float,
    **pattern: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """(out [B, H, L, E], lse [B, H, L], alone [B, H, L] bool); ``alone`` is what the backward pass needs."""
    B, H, L, _ = qk.shape
    plan = _plan(buckets, order, segment_ids, **pattern)
    q = qk.flatten(0, 1).contiguous()
    keys, _ = unit_keys_wide(q)
    with torch.autocast(qk.device.type, enabled=False):
        out, lse, alone = tiled_forward(
            q, keys, v.flatten(0, 1).contiguous(), plan, scale=scale, dropout=_dropout(dropout_p, dropout_seed, H)
        )
    return like(out, v), lse.view(B, H, L), alone.view(B, H, L)


def backward(
    grad_out: Tensor,
    grad_lse: Tensor,
    qk: Tensor,
    v: Tensor,
    buckets: Tensor,
    order: Tensor,
    segment_ids: Tensor | None,
    dropout_seed: Tensor | None,
    out: Tensor,
    lse: Tensor,
    alone: Tensor,
    *,
    scale: float,
    dropout_p: float,
    **pattern: Any,
) -> tuple[Tensor, Tensor]:
    """(dqk, dv)."""
    plan = _plan(buckets, order, segment_ids, **pattern)
    q = qk.flatten(0, 1).contiguous()
    keys, inverse = unit_keys_wide(q)
    with torch.autocast(qk.device.type, enabled=False):
        dq, dk, dv = tiled_backward(
            grad_out.flatten(0, 1),
            grad_lse.flatten(0, 1),
            q,
            keys,
            v.flatten(0, 1).contiguous(),
            out.flatten(0, 1),
            lse.flatten(0, 1),
            alone.flatten(0, 1),
            plan,
            scale=scale,
            dropout=_dropout(dropout_p, dropout_seed, qk.shape[1]),
        )
        dqk = dq.add_(unit_keys_backward(dk, keys, inverse))
    return like(dqk, qk), like(dv, v)


def _dropout(dropout_p: float, dropout_seed: Tensor | None, n_heads: int) -> Dropout | None:
    if dropout_p == 0.0:
        return None
    assert dropout_seed is not None
    return Dropout(p=dropout_p, seed=dropout_seed, n_heads=n_heads)


def _plan(
    buckets: Tensor,
    order: Tensor,
    segment_ids: Tensor | None,
    *,
    chunk_len: int,
    pattern: str,
    causal: bool,
    window: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
) -> Plan:
    H, L = buckets.shape[1], buckets.shape[3]
    # One chunk holds everything from L on; a longer one would only be filled up.
    chunk_len = min(chunk_len, L)
    flat_order = order.flatten(0, 1).long()
    segments = None if segment_ids is None else segment_ids.repeat_interleave(H, dim=0)
    if pattern == "trax":
        return wrap_plan(
            flat_order,
            segments,
            causal=causal,
            chunk_len=chunk_len,
            n_chunks_before=n_chunks_before,
            n_chunks_after=n_chunks_after,
        )
    return interval_plan(
        flat_order,
        buckets.flatten(0, 1),
        segments,
        causal=causal,
        exclude_self=True,
        tile=chunk_len if chunk_len <= LARGEST_TILE else LARGEST_TILE // 2,
        chunk_len=chunk_len if pattern == "paper" else None,
        window=window,
        n_chunks_before=n_chunks_before,
        n_chunks_after=n_chunks_after,
    )
