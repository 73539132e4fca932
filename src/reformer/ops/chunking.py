"""Chunked feed-forward: the position-wise layer over slices of the sequence, activations never whole.

Paper, section 3 "Chunking". With a ``chunk_len`` the backward pass computes each slice's hidden layer again, so memory is
that of one slice in both directions; without one the hidden layer is kept for it, as by ordinary autograd. B batch, L length,
D model size, F hidden size (swiglu: the inner weight has 2·F rows, gate first).
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.ops.checks import (
    require_at_least,
    require_choice,
    require_dropout,
    require_float,
    require_same,
    require_shape,
)
from reformer.ops.counter_rng import as_seed, feature_keep

ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "swiglu")
_GELUS = {"gelu": "none", "gelu_tanh": "tanh"}

# Positions that are worked on together where memory need not be saved: a slice's hidden units stay in a CPU's cache, and
# in memory that the process holds already, while a device wants few launches.
_CPU_SLICE = 2048


def chunked_feed_forward(
    x: Tensor,
    w_in: Tensor,
    b_in: Tensor,
    w_out: Tensor,
    b_out: Tensor,
    *,
    activation: str = "relu",
    chunk_len: int | None = None,
    dropout_p: float = 0.0,
    dropout_seed: int | Tensor | None = None,
) -> Tensor:
    """w_out · dropout(activation(w_in · x + b_in)) + b_out for x [B, L, D], ``chunk_len`` positions at a time.

    Args:
        w_in: [F, D] ("swiglu": [2F, D], gate rows first), ``b_in`` its bias; ``w_out`` [D_out, F], ``b_out`` [D_out].
        activation: "relu", "gelu" (exact), "gelu_tanh" (its tanh approximation) or "swiglu" (silu(gate) · up).
        chunk_len: positions per slice; None: the hidden layer is kept whole for the backward pass. The result does not
            depend on it beyond rounding.
        dropout_p: of the hidden units, a pure function of (``dropout_seed``, b, position, unit).

    Under autocast the products run in the autocast dtype. Raises ValueError or TypeError for what does not fit.
    """
    require_choice("activation", activation, ACTIVATIONS)
    require_float("x", x)
    require_shape("x", x, (None, None, None), "[batch, length, d_model]")
    require_shape("w_in", w_in, (None, x.shape[-1]), "[hidden, d_model]")
    hidden = w_in.shape[0] // (2 if activation == "swiglu" else 1)
    require_shape("b_in", b_in, (w_in.shape[0],), "[hidden]")
    require_shape("w_out", w_out, (None, hidden), f"[d_out, hidden] for activation={activation!r}")
    require_shape("b_out", b_out, (w_out.shape[0],), "[d_out]")
    require_dropout(dropout_p, dropout_seed)
    if chunk_len is not None:
        require_at_least("chunk_len", chunk_len, 1)
    seed = as_seed(dropout_seed) if dropout_p > 0.0 and dropout_seed is not None else None
    x, w_in, b_in, w_out, b_out = to_autocast(x, w_in, b_in, w_out, b_out)
    for name, weight in (("w_in", w_in), ("b_in", b_in), ("w_out", w_out), ("b_out", b_out)):
        require_same("x", x, name, weight)
    keep_hidden = chunk_len is None and torch.is_grad_enabled()
    if chunk_len is None and x.device.type == "cpu":
        chunk_len = max(1, _CPU_SLICE // x.shape[0])
    chunk_len = x.shape[1] if chunk_len is None else min(chunk_len, x.shape[1])
    out, _ = _feed_forward_op(x, w_in, b_in, w_out, b_out, seed, activation, chunk_len, float(dropout_p), keep_hidden)
    return out


def feed_forward_at_once(
    x: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor, *, activation: str
) -> Tensor:
    """``chunked_feed_forward`` of a few positions, without gradients, dropout or checks: next to no overhead."""
    hidden = _prepared(F.linear(x, w_in, b_in), activation)
    return F.linear(_activate(hidden, activation), w_out, b_out)


def to_autocast(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the autocast dtype of x's device, or as they are: custom ops have no autocast rule of their own."""
    device = x.device.type
    if not torch.is_autocast_enabled(device) or x.dtype == torch.float64:
        return (x, *weights)
    dtype = torch.get_autocast_dtype(device)
    return tuple(t.to(dtype) for t in (x, *weights))


def slices(length: int, chunk_len: int) -> Iterator[slice]:
    """The slices of ``chunk_len`` positions that cover ``length``; the last may be shorter."""
    for first in range(0, length, chunk_len):
        yield slice(first, min(first + chunk_len, length))


@torch.library.custom_op("reformer::feed_forward", mutates_args=())
def _feed_forward_op(
    x: Tensor,
    w_in: Tensor,
    b_in: Tensor,
    w_out: Tensor,
    b_out: Tensor,
    dropout_seed: Tensor | None,
    activation: str,
    chunk_len: int,
    dropout_p: float,
    keep_hidden: bool,
) -> tuple[Tensor, Tensor]:
    """(out, kept): ``kept`` [B, L, hidden] is what ``_activate_backward`` needs, or empty."""
    out = torch.empty(*x.shape[:2], w_out.shape[0], dtype=x.dtype, device=x.device)
    kept = torch.empty(_kept_shape(x, w_in, keep_hidden), dtype=x.dtype, device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        for part in slices(x.shape[1], chunk_len):
            hidden = _prepared(F.linear(x[:, part], w_in, b_in), activation)
            if keep_hidden:
                kept[:, part] = hidden
            active = _activate(hidden, activation)
            if dropout_seed is not None:
                active = active * _mask(active, dropout_p, dropout_seed, part.start)
            out[:, part] = F.linear(active, w_out, b_out)
    return out, kept


@_feed_forward_op.register_fake
def _(x, w_in, b_in, w_out, b_out, dropout_seed, activation, chunk_len, dropout_p, keep_hidden):
    shapes = (*x.shape[:2], w_out.shape[0]), _kept_shape(x, w_in, keep_hidden)
    return tuple(torch.empty(shape, dtype=x.dtype, device=x.device) for shape in shapes)


def _kept_shape(x: Tensor, w_in: Tensor, keep_hidden: bool) -> tuple[int, ...]:
    return (*x.shape[:2], w_in.shape[0]) if keep_hidden else (0,)


@torch.library.custom_op("reformer::feed_forward_backward", mutates_args=())
def _feed_forward_backward_op(
    grad: Tensor,
    x: Tensor,
    w_in: Tensor,
    b_in: Tensor,
    w_out: Tensor,
    dropout_seed: Tensor | None,
    kept: Tensor,
    activation: str,
    chunk_len: int,
    dropout_p: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    # Sums over slices in float32 at least: bfloat16 would lose the small ones.
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    dw_in, db_in, dw_out = (torch.zeros(t.shape, dtype=wide, device=t.device) for t in (w_in, b_in, w_out))
    db_out = torch.zeros(w_out.shape[0], dtype=wide, device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        for part in slices(x.shape[1], chunk_len):
            x_part, grad_part = x[:, part].flatten(0, 1), grad[:, part].flatten(0, 1)
            if kept.numel():
                hidden = kept[:, part].flatten(0, 1)
            else:
                hidden = _prepared(F.linear(x_part, w_in, b_in), activation)
            active, d_active = _activate(hidden, activation), grad_part @ w_out
            if dropout_seed is not None:
                mask = _mask(active.unflatten(0, (x.shape[0], -1)), dropout_p, dropout_seed, part.start).flatten(0, 1)
                active, d_active = active * mask, d_active.mul_(mask)
            d_hidden = _activate_backward(d_active, hidden, activation)
            _add_product(dw_out, grad_part, active)
            db_out += grad_part.sum(0, dtype=wide)
            _add_product(dw_in, d_hidden, x_part)
            db_in += d_hidden.sum(0, dtype=wide)
            dx[:, part] = (d_hidden @ w_in).unflatten(0, (x.shape[0], -1))
    return dx, dw_in.to(x.dtype), db_in.to(x.dtype), dw_out.to(x.dtype), db_out.to(x.dtype)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    # total += aᵀ · b, without a product of its own where the dtypes allow it.
    if total.dtype == a.dtype:
        total.addmm_(a.t(), b)
    else:
        total += a.t() @ b


@_feed_forward_backward_op.register_fake
def _(grad, x, w_in, b_in, w_out, dropout_seed, kept, activation, chunk_len, dropout_p):
    b_out = torch.empty(w_out.shape[0], dtype=x.dtype, device=x.device)
    return tuple(torch.empty(t.shape, dtype=x.dtype, device=x.device) for t in (x, w_in, b_in, w_out, b_out))


def _setup_context(ctx, inputs, output):
    x, w_in, b_in, w_out, _, dropout_seed, *options, _ = inputs
    ctx.options = options
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, w_in, b_in, w_out, dropout_seed, output[1])


def _backward(ctx, grad, grad_kept):
    return *_feed_forward_backward_op(grad, *ctx.saved_tensors, *ctx.options), None, None, None, None, None


_feed_forward_op.register_autograd(_backward, setup_context=_setup_context)


def _prepared(hidden: Tensor, activation: str) -> Tensor:
    # relu's derivative can be read from its result, so it may overwrite its argument.
    return hidden.relu_() if activation == "relu" else hidden


def _activate(prepared: Tensor, activation: str) -> Tensor:
    if activation == "relu":
        return prepared
    if activation in _GELUS:
        return F.gelu(prepared, approximate=_GELUS[activation])
    gate, up = prepared.chunk(2, dim=-1)
    return F.silu(gate) * up


def _activate_backward(d_active: Tensor, prepared: Tensor, activation: str) -> Tensor:
    if activation == "relu":
        return torch.ops.aten.threshold_backward.grad_input(d_active, prepared, 0, grad_input=d_active)
    if activation in _GELUS:
        return torch.ops.aten.gelu_backward(d_active, prepared, approximate=_GELUS[activation])
    gate, up = prepared.chunk(2, dim=-1)
    return torch.cat([torch.ops.aten.silu_backward(d_active * up, gate), d_active * F.silu(gate)], dim=-1)


def _mask(active: Tensor, dropout_p: float, seed: Tensor, first_position: int) -> Tensor:
    return feature_keep(active, dropout_p, seed, first_position).to(active.dtype).div_(1.0 - dropout_p)
