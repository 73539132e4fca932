"""The calls: block sizes, slabs of rows, and the order of launches that makes every row's writer unique.

Block sizes are looked up, not timed: a timed choice may differ from run to run, and with it the order of summation, where the
same seed must give the same bytes.

q, k [N, L, D], v [N, L, E], N = batch · heads, all contiguous.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reformer.ops.counter_rng import seed_keys
from reformer.ops.tiled_attention.tile import Dropout
from reformer.ops.triton.backward import key_gradient_kernel, query_gradient_kernel
from reformer.ops.triton.blocks import Blocks, blocks_for, padded_width, precision
from reformer.ops.triton.device import on_device
from reformer.ops.triton.forward import forward_kernel, row_dots_kernel
from reformer.ops.triton.plan import STEP, Tables, seer_tables

# Plans, running state and float32 sums exist for one slab of rows at a time. This many tokens fill a GPU.
SLAB_TOKENS = 2**18


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What to compute; ``tables(rows)`` makes the tables of a slice of the rows."""

    tables: Callable[[slice], Tables]
    n_heads: int
    causal: bool
    exclude_self: bool
    scale: float
    dropout: Dropout | None


def attend(q_NLD: Tensor, k_NLD: Tensor | None, v_NLE: Tensor, attention: Attention) -> tuple[Tensor, Tensor, Tensor]:
    """(out [N, L, E], lse [N, L] float32, alone [N, L] bool). ``k_NLD=None``: shared QK, keys are q/||q||."""
    N, L, _ = q_NLD.shape
    out, lse = torch.empty_like(v_NLE), torch.empty(N, L, dtype=torch.float32, device=v_NLE.device)
    alone = torch.empty(N, L, dtype=torch.bool, device=v_NLE.device)
    with on_device(q_NLD):
        for rows in _slabs(N, L):
            parts = [None if x is None else x[rows] for x in (q_NLD, k_NLD, v_NLE, out, lse, alone.view(torch.int8))]
            _attend_slab(*parts, attention, rows)  # type: ignore[arg-type, call-arg]
    return out, lse, alone


def attend_backward(
    grad_out_NLE: Tensor,
    grad_lse_NL: Tensor,
    q_NLD: Tensor,
    k_NLD: Tensor | None,
    v_NLE: Tensor,
    out_NLE: Tensor,
    lse_NL: Tensor,
    alone_NL: Tensor,
    attention: Attention,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(dq, dk, dv) in the types of the inputs; with shared QK dq holds both parts, and dk is None."""
    N, L, _ = q_NLD.shape
    grads = [None if x is None else torch.empty_like(x) for x in (q_NLD, k_NLD, v_NLE)]
    inputs = (grad_out_NLE.contiguous(), grad_lse_NL.contiguous(), q_NLD, k_NLD, v_NLE, out_NLE, lse_NL)
    with on_device(q_NLD):
        for rows in _slabs(N, L):
            # Sums are float32: the gradient itself if that is its type, else a buffer of this slab.
            parts = [None if x is None else x[rows] for x in grads]
            sums = [
                x if x is None or x.dtype == torch.float32 else x.new_empty(x.shape, dtype=torch.float32) for x in parts
            ]
            tensors = [None if x is None else x[rows] for x in (*inputs, alone_NL.view(torch.int8))]
            _backward_slab(*tensors, *sums, attention, rows)  # type: ignore[arg-type, call-arg]
            for part, total in zip(parts, sums):
                if part is not None and total is not None and part is not total:
                    part.copy_(total)
    dq, dk, dv = grads
    assert dq is not None and dv is not None
    return dq, dk, dv


def rows(x: Tensor) -> Tensor:
    """x [B, H, L, ..] as contiguous [N, L, ..]: what the kernels read."""
    return x.flatten(0, 1).contiguous()


def row_dots(a: Tensor, b: Tensor) -> Tensor:
    """a_i · b_i along the last axis, float32."""
    result = torch.empty(a.shape[:-1], dtype=torch.float32, device=a.device)
    n_rows, width, block = result.numel(), a.shape[-1], 32
    row_dots_kernel[(-(-n_rows // block),)](
        a, b, result, n_rows, WIDTH=width, BLOCK_W=padded_width(width), BLOCK_M=block, num_warps=4
    )
    return result


def _attend_slab(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    alone: Tensor,
    attention: Attention,
    rows: slice,
) -> None:
    tables = attention.tables(rows)
    (n, n_rounds, _), L = tables.order_NRP.shape, tables.length
    if n_rounds == 1 or out.dtype == torch.float32:
        sums = out
    else:
        sums = torch.empty(out.shape, dtype=torch.float32, device=out.device)
    highest, total = (torch.empty_like(lse) if n_rounds > 1 else lse for _ in range(2))
    times = torch.empty_like(lse) if tables.wrap and n_rounds > 1 else lse
    keys, inverse = (q, _inverse_norms(q)) if k is None else (k, lse)
    blocks, options = _options(forward_kernel.__name__, q, v, k is None, tables, attention)
    grid = (n * -(-L // blocks.m),)
    for r in range(n_rounds):
        forward_kernel[grid](
            q, keys, v, inverse, out, lse, alone, sums, highest, total, times,
            tables.order_NRP, tables.rank_NRL, tables.start_NRL, tables.end_NRL,
            *_tail(tables, attention, r, rows), **options,
        )  # fmt: skip


def _backward_slab(
    do: Tensor,
    dlse: Tensor,
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    alone: Tensor,
    dq: Tensor,
    dk: Tensor | None,
    dv: Tensor,
    attention: Attention,
    rows: slice,
) -> None:
    tables = attention.tables(rows)
    (n, n_rounds, _), L = tables.order_NRP.shape, tables.length
    delta = row_dots(do, out) - dlse
    keys, inverse = (q, _inverse_norms(q)) if k is None else (k, lse)
    shared = (q, keys, v, inverse, do, lse, delta, dlse, alone)
    orders = (tables.order_NRP, tables.rank_NRL, tables.start_NRL, tables.end_NRL)
    blocks, options = _options(query_gradient_kernel.__name__, q, v, k is None, tables, attention)
    for r in range(n_rounds):
        query_gradient_kernel[(n * -(-L // blocks.m),)](
            *shared, dq, *orders, *_tail(tables, attention, r, rows), **options
        )
    blocks, options = _options(key_gradient_kernel.__name__, q, v, k is None, tables, attention)
    for r in range(n_rounds):
        key_gradient_kernel[(n * -(-L // blocks.n),)](
            *shared, dq if dk is None else dk, dv, *orders, *seer_tables(tables),
            *_tail(tables, attention, r, rows), STEP=STEP, **options,
        )  # fmt: skip


def _tail(tables: Tables, attention: Attention, r: int, rows: slice) -> tuple[Any, ...]:
    """The arguments that all attention kernels end with, from ``segments`` on."""
    order, dropout = tables.order_NRP, attention.dropout
    p = 0.0 if dropout is None else dropout.p
    return (
        order if tables.segments_BL is None else tables.segments_BL,
        order if dropout is None else seed_keys(dropout.seed).to(order.device),
        r,
        rows.start,
        order.shape[1],
        tables.length,
        order.shape[2],
        attention.n_heads,
        tables.chunk,
        tables.before,
        tables.after,
        attention.scale,
        round(p * 2**24),
        1.0 / (1.0 - p),
    )


def _options(
    kernel: str, q: Tensor, v: Tensor, shared: bool, tables: Tables, attention: Attention
) -> tuple[Blocks, dict[str, Any]]:
    D, E = q.shape[-1], v.shape[-1]
    blocks = blocks_for(kernel, max(D, E), q.dtype, tables.wrap)
    return blocks, {
        "D": D,
        "E": E,
        "BLOCK_D": padded_width(D),
        "BLOCK_E": padded_width(E),
        "BLOCK_M": blocks.m,
        "BLOCK_N": blocks.n,
        "SHARED": shared,
        "CAUSAL": attention.causal,
        "EXCLUDE_SELF": attention.exclude_self,
        "WRAP": tables.wrap,
        "SEGMENTS": tables.segments_BL is not None,
        "DROPOUT": attention.dropout is not None,
        "PRECISION": precision(q.dtype),
        "num_warps": blocks.warps,
        "num_stages": blocks.stages,
    }


def _inverse_norms(q: Tensor) -> Tensor:
    squared = row_dots(q, q)
    return torch.where(squared == 0.0, 0.0, squared.rsqrt())


def _slabs(n_rows: int, length: int) -> Iterator[slice]:
    step = max(1, SLAB_TOKENS // length)
    for first in range(0, n_rows, step):
        yield slice(first, min(first + step, n_rows))
