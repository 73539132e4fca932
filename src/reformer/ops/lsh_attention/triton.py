"""LSH attention by the Triton kernels.

B batch, H heads, R rounds, L length, D head size, E value head size.
"""

from typing import Any

from torch import Tensor

from reformer.ops.tiled_attention.forward import like
from reformer.ops.tiled_attention.tile import Dropout
from reformer.ops.triton.launch import Attention, attend, attend_backward, rows
from reformer.ops.triton.plan import Tables, interval_tables, wrap_tables


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
    attention = _attention(buckets, order, segment_ids, dropout_seed, scale, dropout_p, **pattern)
    out, lse, alone = attend(rows(qk), None, rows(v), attention)
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
    attention = _attention(buckets, order, segment_ids, dropout_seed, scale, dropout_p, **pattern)
    dqk, _, dv = attend_backward(
        rows(grad_out),
        rows(grad_lse),
        rows(qk),
        None,
        rows(v),
        rows(out),
        rows(lse),
        rows(alone),
        attention,
    )
    return like(dqk, qk), like(dv, v)


def _attention(
    buckets: Tensor,
    order: Tensor,
    segment_ids: Tensor | None,
    dropout_seed: Tensor | None,
    scale: float,
    dropout_p: float,
    *,
    chunk_len: int,
    pattern: str,
    causal: bool,
    window: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
) -> Attention:
    H, L = buckets.shape[1], buckets.shape[3]
    # One chunk holds everything from L on; a longer one would only be filled up.
    chunk_len = min(chunk_len, L)
    flat_order, flat_buckets = order.flatten(0, 1).contiguous(), buckets.flatten(0, 1).contiguous()
    segments = None if segment_ids is None else segment_ids.contiguous()

    def tables(part: slice) -> Tables:
        if pattern == "trax":
            return wrap_tables(
                flat_order[part].long(),
                segment_ids,
                part,
                H,
                chunk=chunk_len,
                before=n_chunks_before,
                after=n_chunks_after,
            )
        return interval_tables(
            flat_order[part],
            flat_buckets[part],
            segments,
            part,
            H,
            length=L,
            device=order.device,
            causal=causal,
            exclude_self=True,
            chunk_len=chunk_len if pattern == "paper" else None,
            window=window,
            n_chunks_before=n_chunks_before,
            n_chunks_after=n_chunks_after,
        )

    dropout = None if dropout_seed is None else Dropout(p=dropout_p, seed=dropout_seed, n_heads=H)
    return Attention(tables=tables, n_heads=H, causal=causal, exclude_self=True, scale=scale, dropout=dropout)
