"""torch.library schemas, fakes and autograd of LSH attention: opaque to torch.compile, recomputing in the backward."""

import torch
from torch import Tensor

from reformer.ops.implementations import implementation


@torch.library.custom_op("reformer::lsh_attention", mutates_args=())
def lsh_attention_op(
    qk: Tensor,
    v: Tensor,
    buckets: Tensor,
    order: Tensor,
    segment_ids: Tensor | None,
    dropout_seed: Tensor | None,
    chunk_len: int,
    pattern: str,
    causal: bool,
    window: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
    scale: float,
    dropout_p: float,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """(out, lse, alone); see ``reformer.ops.lsh_attention``."""
    return implementation("lsh_attention", impl, qk, v).forward(
        qk,
        v,
        buckets,
        order,
        segment_ids,
        dropout_seed,
        chunk_len=chunk_len,
        pattern=pattern,
        causal=causal,
        window=window,
        n_chunks_before=n_chunks_before,
        n_chunks_after=n_chunks_after,
        scale=scale,
        dropout_p=dropout_p,
    )


@lsh_attention_op.register_fake
def _(qk, v, buckets, order, segment_ids, dropout_seed, *options):
    lse_dtype = torch.float64 if qk.dtype == torch.float64 else torch.float32
    alone = torch.empty(qk.shape[:3], dtype=torch.bool, device=qk.device)
    return torch.empty_like(v), torch.empty_like(alone, dtype=lse_dtype), alone


@torch.library.custom_op("reformer::lsh_attention_backward", mutates_args=())
def lsh_attention_backward_op(
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
    chunk_len: int,
    pattern: str,
    causal: bool,
    window: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
    scale: float,
    dropout_p: float,
    impl: str,
) -> tuple[Tensor, Tensor]:
    """(dqk, dv)."""
    return implementation("lsh_attention", impl, qk, v).backward(
        grad_out,
        grad_lse,
        qk,
        v,
        buckets,
        order,
        segment_ids,
        dropout_seed,
        out,
        lse,
        alone,
        chunk_len=chunk_len,
        pattern=pattern,
        causal=causal,
        window=window,
        n_chunks_before=n_chunks_before,
        n_chunks_after=n_chunks_after,
        scale=scale,
        dropout_p=dropout_p,
    )


@lsh_attention_backward_op.register_fake
def _(grad_out, grad_lse, qk, v, *rest):
    return torch.empty_like(qk), torch.empty_like(v)


def _setup_context(ctx, inputs, output):
    tensors, ctx.options = inputs[:6], inputs[6:]
    out, lse, alone = output
    ctx.mark_non_differentiable(alone)
    ctx.save_for_backward(*tensors, out, lse, alone)


def _backward(ctx, grad_out, grad_lse, grad_alone):
    *tensors, out, lse, alone = ctx.saved_tensors
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    grad_lse = torch.zeros_like(lse) if grad_lse is None else grad_lse
    dqk, dv = lsh_attention_backward_op(grad_out, grad_lse, *tensors, out, lse, alone, *ctx.options)
    return dqk, dv, *([None] * (len(ctx.options) + 4))


lsh_attention_op.register_autograd(_backward, setup_context=_setup_context)
