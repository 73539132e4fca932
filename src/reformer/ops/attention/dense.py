"""Softmax attention over a dense mask: what the definitions, and attention of short sequences, share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.ops.attention.reach import Dropout
from reformer.ops.counter_rng import column_keys, keep, row_keys


def softmax_average(logits: Tensor, v: Tensor, dropout: Dropout | None) -> tuple[Tensor, Tensor]:
    """(out, lse) from logits [B, H, L, L] with -inf for invisible pairs; a row that sees nothing gives (0, -inf)."""
    nothing = (logits == float("-inf")).all(-1, keepdim=True)
    lse = torch.logsumexp(logits.masked_fill(nothing, 0.0), dim=-1).masked_fill(nothing.squeeze(-1), float("-inf"))
    weights = torch.softmax(logits.masked_fill(nothing, 0.0), dim=-1).masked_fill(nothing, 0.0)
    if dropout is not None:
        weights = weights * _kept_pairs(logits, dropout) / (1.0 - dropout.p)
    return weights @ v, lse.to(torch.float64 if v.dtype == torch.float64 else torch.float32)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float, dropout: Dropout | None) -> Tensor:
    """Attention [B, H, T, Dv] of q to the keys that ``visible`` allows, bool, broadcast to [B, H, T, S].

    Without dropout by torch's scaled_dot_product_attention. A row that sees nothing gives 0.
    """
    if dropout is not None:
        logits = (scale * (q @ k.transpose(-1, -2))).masked_fill(~visible, float("-inf"))
        return softmax_average(logits, v, dropout)[0]
    # A softmax over nothing is not a number, and so is its gradient: such rows see everything, and are 0 afterwards.
    something = visible.any(-1, keepdim=True)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible | ~something, scale=scale)
    return torch.where(something, out, 0.0)


def _kept_pairs(logits: Tensor, dropout: Dropout) -> Tensor:
    b, h, i, j = (torch.arange(size, dtype=torch.int64, device=logits.device) for size in logits.shape)
    rows = row_keys(dropout.seed, b[:, None, None], h[:, None], i)
    return keep(rows[..., None], column_keys(dropout.seed, j), dropout.p)
