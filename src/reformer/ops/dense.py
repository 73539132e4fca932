"""Softmax attention over a dense [L, L] of logits: what the definitions share."""

import torch
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


def _kept_pairs(logits: Tensor, dropout_p: float, dropout_seed: Tensor) -> Tensor:
    B, H, L, M = logits.shape
    device = logits.device
    b, h = torch.arange(B, device=device)[:, None, None], torch.arange(H, device=device)[:, None]
    rows = row_keys(dropout_seed, b, h, torch.arange(L, device=device))
    return keep(rows[..., None], column_keys(dropout_seed, torch.arange(M, device=device)), dropout_p)
