"""Softmax attention over a dense mask: what the definitions, and attention of short sequences, share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.ops.counter_rng import column_keys, keep, row_keys


def softmax_average(logits: Tensor, v: Tensor, dropout_p: float, dropout_seed: Tensor | None) -> tuple[Tensor, Tensor]:
    """(out, lse) from logits [B, H, L, L] with -inf for invisible pairs; a row that sees nothing gives (0, -inf)."""
    nothing = (logits == float("-inf")).all(-1, keepdim=True)
    lse = torch.logsumexp(logits.masked_fill(nothing, 0.0), dim=-1).masked_fill(nothing.squeeze(-1), float("-inf"))
    weights = torch.softmax(logits.masked_fill(nothing, 0.0), dim=-1).masked_fill(nothing, 0.0)
    if dropout_p > 0.0:
        assert dropout_seed is not None
        weights = weights * _kept_pairs(logits, dropout_p, dropout_seed) / (1.0 - dropout_p)
    return weights @ v, lse.to(torch.float64 if v.dtype == torch.float64 else torch.float32)


def masked_attention(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float, dropout_p: float, dropout_seed: Tensor | None
) -> Tensor:
    """Attention [B, H, T, Dv] of q to the keys that ``visible`` allows, bool, broadcast to [B, H, T, S].

    Without dropout by torch's scaled_dot_product_attention. A row that sees nothing gives 0.
    """
    if dropout_p > 0.0:
        logits = (scale * (q @ k.transpose(-1, -2))).masked_fill(~visible, float("-inf"))
        return softmax_average(logits, v, dropout_p, dropout_seed)[0]
    # A softmax over nothing is not a number, and so is its gradient: such rows see everything, and are 0 afterwards.
    something = visible.any(-1, keepdim=True)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible | ~something, scale=scale)
    return torch.where(something, out, 0.0)


def _kept_pairs(logits: Tensor, dropout_p: float, dropout_seed: Tensor) -> Tensor:
    B, H, L, M = logits.shape
    device = logits.device
    b, h = torch.arange(B, device=device)[:, None, None], torch.arange(H, device=device)[:, None]
    rows = row_keys(dropout_seed, b, h, torch.arange(L, device=device))
    return keep(rows[..., None], column_keys(dropout_seed, torch.arange(M, device=device)), dropout_p)
