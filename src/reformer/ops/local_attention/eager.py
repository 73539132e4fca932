"""Local and full attention over tiles in plain PyTorch: the identity order, or one sorted by segment."""

from typing import Any

import torch
from torch import Tensor

from reformer.ops.hashing import sort_by_bucket
from reformer.ops.keys import unit_keys_backward
from reformer.ops.tiled_attention import LARGEST_TILE, Plan, interval_plan, tiled_backward, tiled_forward, wrap_plan
from reformer.ops.tiled_attention.forward import like, unit_keys_wide
from reformer.ops.tiled_attention.tile import Dropout

# A window, or full attention, has no natural tile.
_SMALLEST_TILE, _USUAL_TILE = 16, 128


def forward(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    segment_ids: Tensor | None,
    dropout_seed: Tensor | None,
    *,
    scale: float,
    dropout_p: float,
    **pattern: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """(out [B, H, L, E], lse [B, H, L], alone [B, H, L] bool); ``k=None``: the unit vectors of q."""
    B, H, L, _ = q.shape
    plan = _plan(B, H, L, q.device, segment_ids, exclude_self=k is None, **pattern)
    given_v = v
    q, v = q.flatten(0, 1).contiguous(), v.flatten(0, 1).contiguous()
    keys, _ = unit_keys_wide(q) if k is None else (k.flatten(0, 1).contiguous(), None)
    dropout = None if dropout_seed is None else Dropout(p=dropout_p, seed=dropout_seed, n_heads=H)
    with torch.autocast(q.device.type, enabled=False):
        out, lse, alone = tiled_forward(q, keys, v, plan, scale=scale, dropout=dropout)
    return like(out, given_v), lse.view(B, H, L), alone.view(B, H, L)


def backward(
    grad_out: Tensor,
    grad_lse: Tensor,
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    segment_ids: Tensor | None,
    dropout_seed: Tensor | None,
    out: Tensor,
    lse: Tensor,
    alone: Tensor,
    *,
    scale: float,
    dropout_p: float,
    **pattern: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv); dk is empty for ``k=None``, whose dq holds the gradient of the keys too."""
    B, H, L, _ = q.shape
    plan = _plan(B, H, L, q.device, segment_ids, exclude_self=k is None, **pattern)
    given_q, given_v = q, v
    q, v = q.flatten(0, 1).contiguous(), v.flatten(0, 1).contiguous()
    keys, inverse = unit_keys_wide(q) if k is None else (k.flatten(0, 1).contiguous(), None)
    dropout = None if dropout_seed is None else Dropout(p=dropout_p, seed=dropout_seed, n_heads=H)
    with torch.autocast(q.device.type, enabled=False):
        dq, dk, dv = tiled_backward(
            grad_out.flatten(0, 1),
            grad_lse.flatten(0, 1),
            q,
            keys,
            v,
            out.flatten(0, 1),
            lse.flatten(0, 1),
            alone.flatten(0, 1),
            plan,
            scale=scale,
            dropout=dropout,
        )
        if inverse is not None:
            dq.add_(unit_keys_backward(dk, keys, inverse))
    return like(dq, given_q), q.new_empty(0) if k is None else like(dk, k), like(dv, given_v)


def _plan(
    B: int,
    H: int,
    L: int,
    device: torch.device,
    segment_ids: Tensor | None,
    *,
    causal: bool,
    chunk_len: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
    window: int | None,
    exclude_self: bool,
    wrap: bool = False,
) -> Plan:
    if segment_ids is None:
        order = torch.arange(L, device=device).expand(B * H, 1, L)
        segments = None
    else:
        by_row = sort_by_bucket(segment_ids.new_zeros(B, 1, 1, L), segment_ids)
        order = by_row.expand(B, H, 1, L).flatten(0, 1)
        segments = segment_ids.repeat_interleave(H, dim=0)
    if chunk_len is not None:
        chunk_len = min(chunk_len, L)
    if wrap:
        assert chunk_len is not None
        return wrap_plan(
            order.contiguous(),
            segments,
            causal=causal,
            exclude_self=exclude_self,
            chunk_len=chunk_len,
            n_chunks_before=n_chunks_before,
            n_chunks_after=n_chunks_after,
        )
    if chunk_len is not None and chunk_len <= LARGEST_TILE:
        tile = chunk_len
    else:
        tile = min(max(window or _USUAL_TILE, _SMALLEST_TILE), _USUAL_TILE)
    return interval_plan(
        order.contiguous(),
        None,
        segments,
        causal=causal,
        exclude_self=exclude_self,
        tile=tile,
        chunk_len=chunk_len,
        window=window,
        n_chunks_before=n_chunks_before,
        n_chunks_after=n_chunks_after,
        chunks_per_run=segments is not None,
    )
