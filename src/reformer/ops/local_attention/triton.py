"""Local and full attention by the Triton kernels: one round, in the order of positions or sorted by segment."""

from typing import Any

from torch import Tensor

from reformer.ops.hashing import sort_by_bucket
from reformer.ops.tiled_attention.forward import like
from reformer.ops.tiled_attention.tile import Dropout
from reformer.ops.triton.launch import Attention, attend, attend_backward, rows
from reformer.ops.triton.plan import Tables, interval_tables, rows_of_batch


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
    attention = _attention(q, segment_ids, dropout_seed, scale, dropout_p, exclude_self=k is None, **pattern)
    out, lse, alone = attend(rows(q), None if k is None else rows(k), rows(v), attention)
    return like(out, v), lse.view(B, H, L), alone.view(B, H, L)


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
    attention = _attention(q, segment_ids, dropout_seed, scale, dropout_p, exclude_self=k is None, **pattern)
    dq, dk, dv = attend_backward(
        rows(grad_out),
        rows(grad_lse),
        rows(q),
        None if k is None else rows(k),
        rows(v),
        rows(out),
        rows(lse),
        rows(alone),
        attention,
    )
    return like(dq, q), q.new_empty(0) if dk is None or k is None else like(dk, k), like(dv, v)


def _attention(
    q: Tensor,
    segment_ids: Tensor | None,
    dropout_seed: Tensor | None,
    scale: float,
    dropout_p: float,
    *,
    causal: bool,
    chunk_len: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
    window: int | None,
    exclude_self: bool,
) -> Attention:
    H, L = q.shape[1:3]
    order_BL, segments = None, None
    if segment_ids is not None:
        segments = segment_ids.contiguous()
        order_BL = sort_by_bucket(segments.new_zeros(q.shape[0], 1, 1, L), segments).view(-1, L)

    def tables(part: slice) -> Tables:
        return interval_tables(
            None if order_BL is None else rows_of_batch(order_BL, part, H)[:, None],
            None,
            segments,
            part,
            H,
            length=L,
            device=q.device,
            causal=causal,
            exclude_self=exclude_self,
            chunk_len=None if chunk_len is None else min(chunk_len, L),
            window=window,
            n_chunks_before=n_chunks_before,
            n_chunks_after=n_chunks_after,
            chunks_per_run=segments is not None,
        )

    dropout = None if dropout_seed is None else Dropout(p=dropout_p, seed=dropout_seed, n_heads=H)
    return Attention(tables=tables, n_heads=H, causal=causal, exclude_self=exclude_self, scale=scale, dropout=dropout)
