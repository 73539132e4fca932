"""LSH attention by the C++ kernels: any pattern, float32 and bfloat16 on a CPU."""

from typing import Any

from torch import Tensor

from reformer.ops.native.attention import Options, Pattern, Plan, attention_backward, attention_forward


def forward(
    qk: Tensor,
    v: Tensor,
    buckets: Tensor,
    order: Tensor,
    segment_ids: Tensor | None,
    dropout_seed: Tensor | None,
    *,
    causal: bool,
    scale: float,
    dropout_p: float,
    **pattern: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """(out [B, H, L, E], lse [B, H, L], alone [B, H, L] bool); ``alone`` is what the backward pass needs."""
    plan = _plan(buckets, order, segment_ids, causal=causal, **pattern)
    return attention_forward(plan, qk, None, v, _options(causal, scale, dropout_p, dropout_seed))


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
    causal: bool,
    scale: float,
    dropout_p: float,
    **pattern: Any,
) -> tuple[Tensor, Tensor]:
    """(dqk, dv)."""
    plan = _plan(buckets, order, segment_ids, causal=causal, **pattern)
    options = _options(causal, scale, dropout_p, dropout_seed)
    dqk, _, dv = attention_backward(plan, grad_out, grad_lse, qk, None, v, out, lse, alone, options)
    return dqk, dv


def _options(causal: bool, scale: float, dropout_p: float, dropout_seed: Tensor | None) -> Options:
    return Options(causal=causal, exclude_self=True, scale=scale, dropout_p=dropout_p, dropout_seed=dropout_seed)


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
    B, H, _, L = buckets.shape
    return Plan(
        Pattern(
            causal=causal,
            exclude_self=True,
            chunk_len=None if pattern == "bucket" else chunk_len,
            n_chunks_before=n_chunks_before,
            n_chunks_after=n_chunks_after,
            window=window,
            wrap=pattern == "trax",
        ),
        batch=B,
        heads=H,
        length=L,
        order=order,
        buckets=buckets,
        segment_ids=segment_ids,
    )
