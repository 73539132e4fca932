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
from reformer.ops.triton.blocks import ROWS, Blocks, blocks_for, padded_width, precision
from reformer.ops.triton.device import on_device
from reformer.ops.triton.forward import forward_kernel, row_dots_kernel
from reformer.ops.triton.plan import STEP, Tables, seer_tables

# Plans, running state and float32 sums exist for one slab of rows at a time. This many tokens fill a GPU.
SLAB_TOKENS = 2**20


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
            keys = None if k_NLD is None else k_NLD[rows]
            results = (out[rows], lse[rows], alone[rows].view(torch.int8))
            _attend_slab(q_NLD[rows], keys, v_NLE[rows], *results, attention, rows)
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
    dq, dv = torch.empty_like(q_NLD), torch.empty_like(v_NLE)
    dk = None if k_NLD is None else torch.empty_like(k_NLD)
    do, dlse = grad_out_NLE.contiguous(), grad_lse_NL.contiguous()
    with on_device(q_NLD):
        for rows in _slabs(N, L):
            keys, grad_keys = (None if x is None else x[rows] for x in (k_NLD, dk))
            _backward_slab(
                do[rows],
                dlse[rows],
                q_NLD[rows],
                keys,
                v_NLE[rows],
                out_NLE[rows],
                lse_NL[rows],
                alone_NL[rows].view(torch.int8),
                dq[rows],
                grad_keys,
                dv[rows],
                attention,
                rows,
            )
    return dq, dk, dv


def rows(x: Tensor) -> Tensor:
    """x [B, H, L, ..] as contiguous [N, L, ..]: what the kernels read."""
    return x.flatten(0, 1).contiguous()


def row_dots(a: Tensor, b: Tensor) -> Tensor:
    """a_i · b_i along the last axis, float32."""
    result = torch.empty(a.shape[:-1], dtype=torch.float32, device=a.device)
    n_rows, width = result.numel(), a.shape[-1]
    row_dots_kernel[(-(-n_rows // ROWS.m),)](
        a, b, result, n_rows, WIDTH=width, BLOCK_W=padded_width(width), BLOCK_M=ROWS.m, **ROWS.options()
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
    seeds = _seeds(attention, tables)
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
            *_tail(tables, attention, seeds, r, rows), **options,
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
    # Sums are float32: the gradient itself if that is its type, else a buffer of this slab.
    sum_q, sum_v = _sums(dq), _sums(dv)
    sum_k = sum_q if dk is None else _sums(dk)
    tables = attention.tables(rows)
    (n, n_rounds, _), L = tables.order_NRP.shape, tables.length
    seeds = _seeds(attention, tables)
    delta = row_dots(do, out) - dlse
    keys, inverse = (q, _inverse_norms(q)) if k is None else (k, lse)
    shared = (q, keys, v, inverse, do, lse, delta, dlse, alone)
    orders = (tables.order_NRP, tables.rank_NRL, tables.start_NRL, tables.end_NRL)
    blocks, options = _options(query_gradient_kernel.__name__, q, v, k is None, tables, attention)
    for r in range(n_rounds):
        query_gradient_kernel[(n * -(-L // blocks.m),)](
            *shared, sum_q, *orders, *_tail(tables, attention, seeds, r, rows), **options
        )
    seers = seer_tables(tables)
    blocks, options = _options(key_gradient_kernel.__name__, q, v, k is None, tables, attention)
    for r in range(n_rounds):
        key_gradient_kernel[(n * -(-L // blocks.n),)](
            *shared, sum_k, sum_v, *orders, *seers,
            *_tail(tables, attention, seeds, r, rows), STEP=STEP, **options,
        )  # fmt: skip

    for gradient, total in ((dq, sum_q), (dk, sum_k), (dv, sum_v)):
        if gradient is not None and gradient is not total:
            gradient.copy_(total)


def _sums(gradient: Tensor) -> Tensor:
    is_wide = gradient.dtype == torch.float32
    return gradient if is_wide else torch.empty(gradient.shape, dtype=torch.float32, device=gradient.device)


def _seeds(attention: Attention, tables: Tables) -> Tensor:
    order = tables.order_NRP
    return order if attention.dropout is None else seed_keys(attention.dropout.seed).to(order.device)


def _tail(tables: Tables, attention: Attention, seeds: Tensor, r: int, rows: slice) -> tuple[Any, ...]:
    """The arguments that all attention kernels end with, from ``segments`` on."""
    order = tables.order_NRP
    p = 0.0 if attention.dropout is None else attention.dropout.p
    return (
        order if tables.segments_BL is None else tables.segments_BL,
        seeds,
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
    # One width for both: where they differ, the assembler of CUDA 12.8 (Triton 3.6) mixes up the descriptors of the operands
    # in shared memory, and the kernel reads far beyond it (docs/log.md).
    width = padded_width(max(D, E))
    return blocks, {
        "D": D,
        "E": E,
        "BLOCK_D": width,
        "BLOCK_E": width,
        "BLOCK_M": blocks.m,
        "BLOCK_N": blocks.n,
        "SHARED": shared,
        "CAUSAL": attention.causal,
        "EXCLUDE_SELF": attention.exclude_self,
        "WRAP": tables.wrap,
        "SEGMENTS": tables.segments_BL is not None,
        "DROPOUT": attention.dropout is not None,
        "PRECISION": precision(q.dtype),
        **blocks.options(),
    }


def _inverse_norms(q: Tensor) -> Tensor:
    squared = row_dots(q, q)
    return torch.where(squared == 0.0, 0.0, squared.rsqrt())


def _slabs(n_rows: int, length: int) -> Iterator[slice]:
    step = max(1, SLAB_TOKENS // length)
    for first in range(0, n_rows, step):
        yield slice(first, min(first + step, n_rows))
