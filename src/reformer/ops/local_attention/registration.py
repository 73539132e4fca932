"""torch.library schemas, fakes and autograd of attention in the order of positions (local, and full by tiles)."""

from types import ModuleType

import torch
from torch import Tensor

from reformer.ops.implementations import implementation


@torch.library.custom_op("reformer::local_attention", mutates_args=())
def local_attention_op(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    segment_ids: Tensor | None,
    dropout_seed: Tensor | None,
    causal: bool,
    chunk_len: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
    window: int | None,
    wrap: bool,
    scale: float,
    dropout_p: float,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """(out, lse, alone); ``k=None``: shared QK; neither ``chunk_len`` nor ``window``: the whole segment."""
    return _implementation(q, v, wrap, impl).forward(
        q,
        k,
        v,
        segment_ids,
        dropout_seed,
        causal=causal,
        chunk_len=chunk_len,
        n_chunks_before=n_chunks_before,
        n_chunks_after=n_chunks_after,
        window=window,
        scale=scale,
        dropout_p=dropout_p,
        **_only_if_wrapping(wrap),
    )


@local_attention_op.register_fake
def _(q, k, v, segment_ids, dropout_seed, *options):
    lse_dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    alone = torch.empty(q.shape[:3], dtype=torch.bool, device=q.device)
    return torch.empty_like(v), torch.empty_like(alone, dtype=lse_dtype), alone


@torch.library.custom_op("reformer::local_attention_backward", mutates_args=())
def local_attention_backward_op(
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
    causal: bool,
    chunk_len: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
    window: int | None,
    wrap: bool,
    scale: float,
    dropout_p: float,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv); dk is empty for shared QK, whose dq holds the gradient of the keys too."""
    return _implementation(q, v, wrap, impl).backward(
        grad_out,
        grad_lse,
        q,
        k,
        v,
        segment_ids,
        dropout_seed,
        out,
        lse,
        alone,
        causal=causal,
        chunk_len=chunk_len,
        n_chunks_before=n_chunks_before,
        n_chunks_after=n_chunks_after,
        window=window,
        scale=scale,
        dropout_p=dropout_p,
        **_only_if_wrapping(wrap),
    )


@local_attention_backward_op.register_fake
def _(grad_out, grad_lse, q, k, v, *rest):
    return torch.empty_like(q), torch.empty_like(k) if k is not None else q.new_empty(0), torch.empty_like(v)


def _implementation(q: Tensor, v: Tensor, wrap: bool, impl: str) -> ModuleType:
    # Plain PyTorch alone can wrap around.
    return implementation("local_attention", "eager" if wrap else impl, q, v)


def _only_if_wrapping(wrap: bool) -> dict[str, bool]:
    return {"wrap": True} if wrap else {}


def _setup_context(ctx, inputs, output):
    tensors, ctx.options = inputs[:5], inputs[5:]
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx, grad_out, grad_lse, grad_alone):
    *tensors, out, lse, alone = ctx.saved_tensors
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    grad_lse = torch.zeros_like(lse) if grad_lse is None else grad_lse
    dq, dk, dv = local_attention_backward_op(grad_out, grad_lse, *tensors, out, lse, alone, *ctx.options)
    return dq, None if tensors[1] is None else dk, dv, *([None] * (len(ctx.options) + 2))


local_attention_op.register_autograd(_backward, setup_context=_setup_context)
