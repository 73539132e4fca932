"""Attention of one sequence to another: a decoder's tokens to an encoder's output (Vaswani et al. 2017, section 3.2).

B batch, H heads, T queries, S keys, D head size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.ops.attention.dense import masked_attention, softmax_average
from reformer.ops.attention.reach import Dropout
from reformer.ops.checks import (
    require_choice,
    require_float,
    require_integer,
    require_same,
    require_same_device,
    require_shape,
)


def cross_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    query_segment_ids: Tensor | None = None,
    key_segment_ids: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    dropout_seed: int | Tensor | None = None,
    impl: str = "auto",
) -> Tensor:
    """out_i = Σ_j softmax_j(scale · q_i·k_j) v_j over the keys j of the query's segment; [B, H, T, Dv].

    Args:
        q, k, v: [B, H, T, D], [B, H, S, D], [B, H, S, Dv]; any T and S from 1.
        query_segment_ids, key_segment_ids: [B, T] and [B, S]. A query sees the keys of its own id; one that has none, such as
            padding (negative), gives 0. Without the queries' ids all see every key that is not padding, and without the
            keys' all see every key. Both together make a mask [B, T, S].
        scale: default D^-0.5.
        dropout_p: probability of dropping a pair, a pure function of (``dropout_seed``, b, h, i, j).
        impl: "sdpa" (torch's scaled_dot_product_attention; no dropout), "reference" (the definition, which holds [T, S]
            weights), or "auto": "sdpa", except with dropout, which needs the weights.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit; ``impl="sdpa"`` with dropout.
    """
    require_choice("impl", impl, ("auto", "sdpa", "reference"))
    _check(q, k, v)
    _check_ids("query_segment_ids", query_segment_ids, q, "queries")
    _check_ids("key_segment_ids", key_segment_ids, k, "keys")
    dropout = Dropout.of(dropout_p, dropout_seed)
    if impl == "sdpa" and dropout is not None:
        raise ValueError("impl='sdpa' draws hidden random numbers for dropout; use impl='auto' or impl='reference'")
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    seen = _visible(query_segment_ids, key_segment_ids)
    if impl == "reference":
        logits = scale * (q @ k.transpose(-1, -2))
        if seen is not None:
            logits = logits.masked_fill(~seen, float("-inf"))
        return softmax_average(logits, v, dropout)[0]
    if seen is None and dropout is None:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    visible = torch.ones(1, 1, 1, k.shape[2], dtype=torch.bool, device=q.device) if seen is None else seen
    return masked_attention(q, k, v, visible, scale, dropout)


def _visible(query_ids: Tensor | None, key_ids: Tensor | None) -> Tensor | None:
    """Bool [B, 1, T or 1, S]; None: everything."""
    if key_ids is None:
        return None
    seen = (key_ids >= 0)[:, None]
    if query_ids is not None:
        seen = seen & (query_ids[:, :, None] == key_ids[:, None])
    return seen[:, None]


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    require_float("q", q)
    require_shape("q", q, (None, None, None, None), "[batch, heads, queries, head_dim]")
    B, H, _, D = q.shape
    require_shape("k", k, (B, H, None, D), "[batch, heads, keys, head_dim], batch, heads and width as q,")
    require_shape("v", v, (B, H, k.shape[2], None), "[batch, heads, keys, value head_dim], as k,")
    require_same("q", q, "k", k)
    require_same("q", q, "v", v)
    for name, x in (("q", q), ("k", k), ("v", v)):
        if min(x.shape) < 1:
            raise ValueError(f"{name} must have at least one element along every axis, got {list(x.shape)}")


def _check_ids(name: str, ids: Tensor | None, x: Tensor, what: str) -> None:
    if ids is not None:
        require_integer(name, ids)
        require_shape(name, ids, (x.shape[0], x.shape[2]), f"[batch, {what}]")
        require_same_device("q", x, name, ids)
