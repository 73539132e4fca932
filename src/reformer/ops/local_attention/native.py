"""Local and full attention by the C++ kernels: the order of positions, or one sorted by segment."""

from typing import Any

from torch import Tensor

from reformer.ops.hashing import sort_by_bucket
from reformer.ops.native.attention import Options, Pattern, Plan, attention_backward, attention_forward


def forward(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    segment_ids: Tensor | None,
    dropout_seed: Tensor | None,
    *,
    scale: float,
    dropout_p: float,
    causal: bool,
    **reach: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """(out [B, H, L, E], lse [B, H, L], alone [B, H, L] bool); ``k=None``: the unit vectors of q."""
    plan = _plan(q, segment_ids, causal=causal, exclude_self=k is None, **reach)
    return attention_forward(plan, q, k, v, _options(causal, k is None, scale, dropout_p, dropout_seed))


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
    causal: bool,
    **reach: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv); dk is empty for ``k=None``, whose dq holds the gradient of the keys too."""
    plan = _plan(q, segment_ids, causal=causal, exclude_self=k is None, **reach)
    options = _options(causal, k is None, scale, dropout_p, dropout_seed)
    dq, dk, dv = attention_backward(plan, grad_out, grad_lse, q, k, v, out, lse, alone, options)
    return dq, q.new_empty(0) if dk is None else dk, dv


def _options(causal: bool, shared: bool, scale: float, dropout_p: float, dropout_seed: Tensor | None) -> Options:
    return Options(causal=causal, exclude_self=shared, scale=scale, dropout_p=dropout_p, dropout_seed=dropout_seed)


def _plan(q: Tensor, segment_ids: Tensor | None, *, causal: bool, exclude_self: bool, **reach: Any) -> Plan:
    B, H, L, _ = q.shape
    order = None if segment_ids is None else sort_by_bucket(segment_ids.new_zeros(B, 1, 1, L), segment_ids)
    pattern = Pattern(causal=causal, exclude_self=exclude_self, chunks_per_run=True, **reach)
    return Plan(pattern, batch=B, heads=H, length=L, order=order, buckets=None, segment_ids=segment_ids)
