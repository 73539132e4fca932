"""Chunked cross-entropy: output projection and loss over slices of the sequence.

Paper, section 3 "Chunking" (the output logits and their loss are computed in chunks). The [B, L, vocab] logits never
exist whole, in either direction. B batch, L length, D width of the hidden states, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.ops.checks import (
    require_at_least,
    require_choice,
    require_float,
    require_integer,
    require_same,
    require_shape,
)
from reformer.ops.chunking import slices, to_autocast


def chunked_cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    *,
    chunk_len: int | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy in nats of softmax(x · weightᵀ + bias) against ``targets``, ``chunk_len`` positions at a time.

    x [B, L, D], weight [V, D], bias [V], targets [B, L] integers; positions with ``ignore_index`` count 0. ``reduction``
    "mean" (over the counted positions; 0 if there is none), "sum", or "none" for [B, L]. ``label_smoothing`` as in
    torch.nn.functional.cross_entropy. Losses are float32 (float64 for float64). Raises ValueError or TypeError.
    """
    require_float("x", x)
    require_integer("targets", targets)
    require_shape("x", x, (None, None, None), "[batch, length, width]")
    require_shape("weight", weight, (None, x.shape[2]), "[vocab, width]")
    require_shape("bias", bias, (weight.shape[0],), "[vocab]")
    require_shape("targets", targets, tuple(x.shape[:2]), "[batch, length]")
    require_choice("reduction", reduction, ("mean", "sum", "none"))
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    chunk_len = x.shape[1] if chunk_len is None else chunk_len
    require_at_least("chunk_len", chunk_len, 1)
    x, weight, bias = to_autocast(x, weight, bias)
    require_same("x", x, "weight", weight)
    require_same("x", x, "bias", bias)
    loss = _cross_entropy_op(x, weight, bias, targets.long(), min(chunk_len, x.shape[1]), ignore_index, label_smoothing)
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / (targets != ignore_index).sum().clamp_min(1)


@torch.library.custom_op("reformer::cross_entropy", mutates_args=())
def _cross_entropy_op(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    chunk_len: int,
    ignore_index: int,
    label_smoothing: float,
) -> Tensor:
    loss = torch.empty(targets.shape, dtype=_wide(x), device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        for part in slices(x.shape[1], chunk_len):
            logits = F.linear(x[:, part], weight, bias).to(loss.dtype).flatten(0, 1)
            loss[:, part] = F.cross_entropy(
                logits,
                targets[:, part].flatten(),
                ignore_index=ignore_index,
                label_smoothing=label_smoothing,
                reduction="none",
            ).view(x.shape[0], -1)
    return loss


@_cross_entropy_op.register_fake
def _(x, weight, bias, targets, chunk_len, ignore_index, label_smoothing):
    return torch.empty(targets.shape, dtype=_wide(x), device=x.device)


@torch.library.custom_op("reformer::cross_entropy_backward", mutates_args=())
def _cross_entropy_backward_op(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    chunk_len: int,
    ignore_index: int,
    label_smoothing: float,
) -> tuple[Tensor, Tensor, Tensor]:
    wide = _wide(x)
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    d_weight, d_bias = (torch.zeros(t.shape, dtype=wide, device=t.device) for t in (weight, bias))
    with torch.autocast(x.device.type, enabled=False):
        for part in slices(x.shape[1], chunk_len):
            x_part = x[:, part].flatten(0, 1)
            target = targets[:, part].flatten()
            counted = target != ignore_index
            d_logits = torch.softmax(F.linear(x_part, weight, bias).to(wide), dim=-1)
            d_logits -= label_smoothing / weight.shape[0]
            on_target = target.masked_fill(~counted, 0)[:, None]
            d_logits.scatter_add_(1, on_target, d_logits.new_full(on_target.shape, label_smoothing - 1.0))
            d_logits *= (grad[:, part].flatten() * counted)[:, None]
            narrow = d_logits.to(x.dtype)
            d_weight += narrow.t() @ x_part
            d_bias += d_logits.sum(0)
            dx[:, part] = (narrow @ weight).view(x.shape[0], -1, x.shape[2])
    return dx, d_weight.to(weight.dtype), d_bias.to(bias.dtype)


@_cross_entropy_backward_op.register_fake
def _(grad, x, weight, bias, targets, chunk_len, ignore_index, label_smoothing):
    return tuple(torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (x, weight, bias))


def _setup_context(ctx, inputs, output):
    *tensors, ctx.chunk_len, ctx.ignore_index, ctx.label_smoothing = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad):
    options = (ctx.chunk_len, ctx.ignore_index, ctx.label_smoothing)
    return *_cross_entropy_backward_op(grad, *ctx.saved_tensors, *options), None, None, None, None


_cross_entropy_op.register_autograd(_backward, setup_context=_setup_context)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
