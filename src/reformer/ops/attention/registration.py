"""The torch.library op of LSH, local and tiled full attention: opaque to torch.compile, recomputing in its backward."""

from typing import Any

import torch
from torch import Tensor

from reformer.ops.attention.dispatch import engine
from reformer.ops.attention.reach import Dropout, Reach, Request

# What the library carries in place of a ``Request``: the fields of all it holds, one by one.
_TENSORS = "Tensor q, Tensor? k, Tensor v, Tensor? buckets, Tensor? order, Tensor? segment_ids, Tensor? dropout_seed"
_REACH = (
    "str pattern, bool causal, bool exclude_self, SymInt? chunk_len, SymInt chunks_before, SymInt chunks_after, "
    "SymInt? window, bool wrap"
)
_OPTIONS = f"float dropout_p, float scale, {_REACH}, str impl"
_N_TENSORS = len(_TENSORS.split(","))


def attend(request: Request, impl: str) -> tuple[Tensor, Tensor]:
    """(out [B, H, L, Dv], lse [B, H, L]) by the engine that ``impl`` means; differentiable."""
    *tensors, reach, scale, dropout = request
    p, seed = (0.0, None) if dropout is None else dropout
    out, lse, _ = _attention(*tensors, seed, p, scale, *reach, impl)
    return out, lse


def _request(*arguments: Any) -> Request:
    q, k, v, buckets, order, segment_ids, seed, p, scale, *reach = arguments
    dropout = None if seed is None else Dropout(p, seed)
    return Request(q, k, v, buckets, order, segment_ids, Reach(*reach), scale, dropout)


def _forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *call, impl = arguments
    request = _request(*call)
    out, lse, alone = engine(impl, request).forward(request)
    rows = request.q.shape[:3]
    return _like(out, request.v), lse.view(rows), alone.view(rows)


def _backward(
    grad_out: Tensor, grad_lse: Tensor, out: Tensor, lse: Tensor, alone: Tensor, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *call, impl = arguments
    request = _request(*call)
    q, k, v = request[:3]
    dq, dk, dv = engine(impl, request).backward(request, grad_out, grad_lse, out, lse, alone)
    return _like(dq, q), q.new_empty(0) if k is None else _like(dk, k), _like(dv, v)


def _like(x: Tensor, given: Tensor) -> Tensor:
    """x in the shape, dtype and memory layout of ``given`` [B, H, L, D]: what the fakes promise."""
    x = x.view(given.shape)
    if x.dtype == given.dtype and x.stride() == torch.empty_like(given, device="meta").stride():
        return x
    return torch.empty_like(given).copy_(x)


_attention = torch.library.custom_op(
    "reformer::attention",
    _forward,
    mutates_args=(),
    schema=f"({_TENSORS}, {_OPTIONS}) -> (Tensor out, Tensor lse, Tensor alone)",
)
# dk is empty for shared QK, whose dq holds the gradient of the keys too.
_attention_backward = torch.library.custom_op(
    "reformer::attention_backward",
    _backward,
    mutates_args=(),
    schema=f"(Tensor grad_out, Tensor grad_lse, Tensor out, Tensor lse, Tensor alone, {_TENSORS}, {_OPTIONS})"
    " -> (Tensor dq, Tensor dk, Tensor dv)",
)


@_attention.register_fake
def _(q: Tensor, k: Tensor | None, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    lse_dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    alone = torch.empty(q.shape[:3], dtype=torch.bool, device=q.device)
    return torch.empty_like(v), torch.empty_like(alone, dtype=lse_dtype), alone


@_attention_backward.register_fake
def _(
    grad_out: Tensor, grad_lse: Tensor, out: Tensor, lse: Tensor, alone: Tensor, q: Tensor, k: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), q.new_empty(0) if k is None else torch.empty_like(k), torch.empty_like(rest[0])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.options = inputs[_N_TENSORS:]
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*inputs[:_N_TENSORS], *output)


def _gradients(
    ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    *tensors, out, lse, alone = ctx.saved_tensors
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    grad_lse = torch.zeros_like(lse) if grad_lse is None else grad_lse
    dq, dk, dv = _attention_backward(grad_out, grad_lse, out, lse, alone, *tensors, *ctx.options)
    rest = (None,) * (len(tensors) - 3 + len(ctx.options))
    return dq, None if tensors[1] is None else dk, dv, *rest


_attention.register_autograd(_gradients, setup_context=_setup_context)
