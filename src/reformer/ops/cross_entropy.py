"""Chunked cross-entropy: output projection and loss over slices of the sequence.

Paper, section 3 "Chunking" (the output logits and their loss are computed in chunks). The [B, L, vocab] logits never
exist whole, in either direction. B batch, L length, D width of the hidden states, V vocabulary.
"""

from collections.abc import Callable

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
from reformer.ops.chunking import Again, in_chunks


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

    x [B, L, D], weight [V, D], bias [V]; the rest as in ``chunked_loss``. Raises ValueError or TypeError.
    """
    require_float("x", x)
    require_shape("x", x, (None, None, None), "[batch, length, width]")
    require_shape("weight", weight, (None, x.shape[2]), "[vocab, width]")
    require_shape("bias", bias, (weight.shape[0],), "[vocab]")
    if not torch.is_autocast_enabled(x.device.type):
        require_same("x", x, "weight", weight)
        require_same("x", x, "bias", bias)
    return chunked_loss(
        lambda part: F.linear(part, weight, bias),
        x,
        targets,
        chunk_len=chunk_len,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


def chunked_loss(
    logits: Callable[[Tensor], Tensor],
    x: Tensor,
    targets: Tensor,
    *,
    chunk_len: int | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    again: Again | None = None,
) -> Tensor:
    """Cross-entropy in nats of ``softmax(logits(x))`` against ``targets``, ``chunk_len`` positions at a time.

    Args:
        logits: an output head, called with slices [B, l, D] of x: [B, l, V].
        x: [B, L, D]; ``targets``: integers [B, L], of which positions with ``ignore_index`` count 0.
        chunk_len: positions whose logits exist together; None: all.
        reduction: "mean" (over the counted positions; 0 if there is none), "sum", or "none" for [B, L].
        label_smoothing: as in torch.nn.functional.cross_entropy.
        again: as in ``in_chunks``, for the backward pass.

    Losses are float32 (float64 for float64 logits). Raises ValueError or TypeError.
    """
    require_float("x", x)
    require_shape("x", x, (None, None, None), "[batch, length, width]")
    require_integer("targets", targets)
    require_shape("targets", targets, tuple(x.shape[:2]), "[batch, length]")
    require_choice("reduction", reduction, ("mean", "sum", "none"))
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    chunk_len = x.shape[1] if chunk_len is None else chunk_len
    require_at_least("chunk_len", chunk_len, 1)
    targets = targets.long()

    def of_slice(part: Tensor, first_position: int) -> Tensor:
        found = logits(part)
        wide = torch.float64 if found.dtype == torch.float64 else torch.float32
        return F.cross_entropy(
            found.to(wide).flatten(0, 1),
            targets[:, first_position : first_position + part.shape[1]].flatten(),
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction="none",
        ).view(part.shape[:2])

    loss = in_chunks(of_slice, x, chunk_len, again=again)
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / (targets != ignore_index).sum().clamp_min(1)
