"""The Triton engine: block sizes, slabs of rows, and the order of launches that makes every row's writer unique.

Block sizes are looked up, not timed: a timed choice may differ from run to run, and with it the order of summation, where the
same seed must give the same bytes.

q, k [N, L, D], v [N, L, E], N = batch · heads, all contiguous.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from reformer.ops.attention.reach import Request
from reformer.ops.attention.triton.backward import key_gradient_kernel, query_gradient_kernel
from reformer.ops.attention.triton.blocks import ROWS, Blocks, blocks_for, on_device, padded_width, precision
from reformer.ops.attention.triton.forward import forward_kernel, row_dots_kernel
from reformer.ops.attention.triton.plan import STEP, Tables, seer_tables, slab_tables
from reformer.ops.counter_rng import drop_threshold, seed_keys

# Tables, running state and float32 sums exist for one slab of rows at a time. This many tokens fill a GPU.
SLAB_TOKENS = 2**20


def forward(request: Request) -> tuple[Tensor, Tensor, Tensor]:
    """(out [N, L, E], lse [N, L], alone [N, L] bool); ``alone`` is for backward."""
    q_rows, v_rows = _rows(request.q), _rows(request.v)
    k_rows = None if request.k is None else _rows(request.k)
    N, L, _ = q_rows.shape
    out, lse = torch.empty_like(v_rows), torch.empty(N, L, dtype=torch.float32, device=q_rows.device)
    alone = torch.empty(N, L, dtype=torch.bool, device=q_rows.device)
    with on_device(request.q):
        for part in _slabs(N, L):
            tables = slab_tables(request, part)
            keys = None if k_rows is None else k_rows[part]
            results = (out[part], lse[part], alone[part].view(torch.int8))
            _attend_slab(q_rows[part], keys, v_rows[part], results, tables, request)
    return out, lse, alone


def backward(
    request: Request, grad_out: Tensor, grad_lse: Tensor, out: Tensor, lse: Tensor, alone: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(dq, dk, dv) [N, L, ..] in the types of the inputs; with shared QK dq holds both parts, and dk is None."""
    inputs = [_rows(x) for x in (grad_out, grad_lse, request.q, request.v, out, lse, alone.view(torch.int8))]
    k_rows = None if request.k is None else _rows(request.k)
    dq, dv = torch.empty_like(inputs[2]), torch.empty_like(inputs[3])
    dk = None if k_rows is None else torch.empty_like(k_rows)
    with on_device(request.q):
        for part in _slabs(*dq.shape[:2]):
            tables = slab_tables(request, part)
            keys, grad_keys = (None if x is None else x[part] for x in (k_rows, dk))
            own = [x[part] for x in inputs]
            gradients = (dq[part], grad_keys, dv[part])
            _backward_slab(own, keys, gradients, tables, request)
    return dq, dk, dv


def _rows(x: Tensor) -> Tensor:
    """x [B, H, L, ..] as contiguous [N, L, ..]: what the kernels read."""
    return x.flatten(0, 1).contiguous()


def _row_dots(a: Tensor, b: Tensor) -> Tensor:
    """a_i · b_i along the last axis, float32."""
    result = torch.empty(a.shape[:-1], dtype=torch.float32, device=a.device)
    n_rows, width = result.numel(), a.shape[-1]
    row_dots_kernel[(-(-n_rows // ROWS.m),)](
        a, b, result, n_rows, WIDTH=width, BLOCK_W=padded_width(width), BLOCK_M=ROWS.m, **ROWS.options()
    )
    return result


def _attend_slab(
    q: Tensor, k: Tensor | None, v: Tensor, results: tuple[Tensor, ...], tables: Tables, request: Request
) -> None:
    out, lse, alone = results
    (n, n_rounds, _), L = tables.order_NRP.shape, tables.length
    if n_rounds == 1 or out.dtype == torch.float32:
        sums = out
    else:
        sums = torch.empty(out.shape, dtype=torch.float32, device=out.device)
    highest, total = (torch.empty_like(lse) if n_rounds > 1 else lse for _ in range(2))
    times = torch.empty_like(lse) if tables.wrap and n_rounds > 1 else lse
    keys, inverse = (q, _inverse_norms(q)) if k is None else (k, lse)
    blocks, options = _options(forward_kernel.__name__, q, v, k is None, tables, request)
    grid, seeds = (n * -(-L // blocks.m),), _seeds(request, tables)
    for r in range(n_rounds):
        forward_kernel[grid](
            q, keys, v, inverse, out, lse, alone, sums, highest, total, times,
            tables.order_NRP, tables.rank_NRL, tables.start_NRL, tables.end_NRL,
            *_tail(tables, r, request, seeds), **options,
        )  # fmt: skip


def _backward_slab(
    inputs: list[Tensor],
    k: Tensor | None,
    gradients: tuple[Tensor, Tensor | None, Tensor],
    tables: Tables,
    request: Request,
) -> None:
    do, dlse, q, v, out, lse, alone = inputs
    dq, dk, dv = gradients
    # Sums are float32: the gradient itself if that is its type, else a buffer of this slab.
    sum_q, sum_v = _sums(dq), _sums(dv)
    sum_k = sum_q if dk is None else _sums(dk)
    (n, n_rounds, _), L = tables.order_NRP.shape, tables.length
    seeds = _seeds(request, tables)
    delta = _row_dots(do, out) - dlse
    keys, inverse = (q, _inverse_norms(q)) if k is None else (k, lse)
    shared = (q, keys, v, inverse, do, lse, delta, dlse, alone)
    orders = (tables.order_NRP, tables.rank_NRL, tables.start_NRL, tables.end_NRL)
    blocks, options = _options(query_gradient_kernel.__name__, q, v, k is None, tables, request)
    for r in range(n_rounds):
        query_gradient_kernel[(n * -(-L // blocks.m),)](
            *shared, sum_q, *orders, *_tail(tables, r, request, seeds), **options
        )
    seers = seer_tables(tables)
    blocks, options = _options(key_gradient_kernel.__name__, q, v, k is None, tables, request)
    for r in range(n_rounds):
        key_gradient_kernel[(n * -(-L // blocks.n),)](
            *shared, sum_k, sum_v, *orders, *seers,
            *_tail(tables, r, request, seeds), STEP=STEP, **options,
        )  # fmt: skip

    for gradient, total in zip(gradients, (sum_q, sum_k, sum_v)):
        if gradient is not None and gradient is not total:
            gradient.copy_(total)


def _sums(gradient: Tensor) -> Tensor:
    is_wide = gradient.dtype == torch.float32
    return gradient if is_wide else torch.empty(gradient.shape, dtype=torch.float32, device=gradient.device)


def _seeds(request: Request, tables: Tables) -> Tensor:
    order, dropout = tables.order_NRP, request.dropout
    return order if dropout is None else seed_keys(dropout.seed).to(order.device)


def _tail(tables: Tables, r: int, request: Request, seeds: Tensor) -> tuple[Any, ...]:
    """The arguments that all attention kernels end with, from ``segments`` on."""
    order = tables.order_NRP
    p = 0.0 if request.dropout is None else request.dropout.p
    return (
        order if tables.segments_BL is None else tables.segments_BL,
        seeds,
        r,
        tables.first_row,
        order.shape[1],
        tables.length,
        order.shape[2],
        tables.n_heads,
        tables.chunk,
        tables.before,
        tables.after,
        request.scale,
        drop_threshold(p),
        1.0 / (1.0 - p),
    )


def _options(
    kernel: str, q: Tensor, v: Tensor, shared: bool, tables: Tables, request: Request
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
        "CAUSAL": request.reach.causal,
        "EXCLUDE_SELF": request.reach.exclude_self,
        "WRAP": tables.wrap,
        "SEGMENTS": tables.segments_BL is not None,
        "DROPOUT": request.dropout is not None,
        "PRECISION": precision(q.dtype),
        **blocks.options(),
    }


def _inverse_norms(q: Tensor) -> Tensor:
    squared = _row_dots(q, q)
    return torch.where(squared == 0.0, 0.0, squared.rsqrt())


def _slabs(n_rows: int, length: int) -> Iterator[slice]:
    step = max(1, SLAB_TOKENS // length)
    for first in range(0, n_rows, step):
        yield slice(first, min(first + step, n_rows))
