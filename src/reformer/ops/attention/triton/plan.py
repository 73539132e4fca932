"""Who sees whom, as the int32 tables that the kernels read: those of ``eager.plan``, in one launch.

"paper", "bucket" and local attention: per round an order, the rank of each token in it and the interval of places that each
token sees. "trax" needs the order alone: its intervals are arithmetic on places. Padding is coded in the order, as
-1 - token, so that no kernel ever loads a row of it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.ops.attention.reach import Reach, Request
from reformer.ops.attention.triton.blocks import PLACES
from reformer.ops.attention.triton.intervals import interval_kernel, seer_kernel

# Key tiles are whole multiples of this many places; for every multiple there is a table entry of who may see it.
STEP = 16


@dataclass(frozen=True, kw_only=True)
class Tables:
    """N rows (batch · heads) of a slab, R rounds, L length. Tables that a reach does not need are ``order`` again."""

    first_row: int  # of the slab, among the rows of the batch
    n_heads: int
    order_NRP: Tensor  # int32, the token at each place; -1 - token for padding. P = L, or whole chunks in "trax"
    rank_NRL: Tensor  # int32 by token
    start_NRL: Tensor  # int32 by token
    end_NRL: Tensor
    length: int
    segments_BL: Tensor | None = None  # int64, "trax" only
    chunk: int = 1  # "trax" only, as the following
    before: int = 0
    after: int = 0
    wrap: bool = False


def slab_tables(request: Request, rows: slice) -> Tables:
    """The tables of a slab of rows of a request."""
    buckets, order, segment_ids, reach = request[3:7]
    n_heads, length = request.q.shape[1:3]
    segments_BL = None if segment_ids is None else segment_ids.contiguous()
    bucket_NRL = None if buckets is None else buckets.flatten(0, 1)[rows].contiguous()
    order_NRL = None
    if order is not None:
        own = _rows_of_batch(order[:, 0], rows, n_heads) if buckets is None else order.flatten(0, 1)[rows]
        order_NRL = own.contiguous()
    if reach.wrap:
        assert order_NRL is not None
        return _ring_tables(order_NRL, segments_BL, reach, rows, n_heads)
    return interval_tables(
        order_NRL, bucket_NRL, segments_BL, reach, rows, n_heads, length=length, device=request.q.device
    )


def interval_tables(
    order_NRL: Tensor | None,
    bucket_NRL: Tensor | None,
    segments_BL: Tensor | None,
    reach: Reach,
    rows: slice,
    n_heads: int,
    *,
    length: int,
    device: torch.device,
) -> Tables:
    """The tables of a slab of rows for a reach that does not wrap around, in one launch.

    ``order_NRL`` and ``bucket_NRL`` are the slab's, contiguous; None: one round in the order of positions, of one bucket.
    ``segments_BL`` is the whole batch's.
    """
    shape = (rows.stop - rows.start, 1, length) if order_NRL is None else tuple(order_NRL.shape)
    order, rank, start, end = (torch.empty(shape, dtype=torch.int32, device=device) for _ in range(4))
    chunks, window = reach.chunks_within(length), reach.window_within(length)
    chunk, before, after = chunks or (length, 1, 0)
    width = length if window is None else window
    in_reach = width + 1 if chunks is None else (max(before, after) + 1) * chunk
    per_run = reach.pattern == "position" and segments_BL is not None
    unused = order
    interval_kernel[(shape[0] * shape[1] * -(-length // PLACES.m),)](
        unused if order_NRL is None else order_NRL,
        unused if bucket_NRL is None else bucket_NRL,
        unused if segments_BL is None else segments_BL,
        order,
        rank,
        start,
        end,
        rows.start,
        shape[1],
        length,
        n_heads,
        chunk,
        before,
        after,
        width,
        (length if per_run else min(in_reach, length)).bit_length(),
        ORDERED=order_NRL is not None,
        BUCKETS=bucket_NRL is not None,
        SEGMENTS=segments_BL is not None,
        CHUNKS=chunks is not None,
        CHUNKS_PER_RUN=chunks is not None and per_run,
        WINDOW=chunks is None and window is not None,
        CAUSAL=reach.causal,
        EXCLUDE_SELF=reach.exclude_self,
        BLOCK=PLACES.m,
        **PLACES.options(),
    )
    return Tables(
        first_row=rows.start,
        n_heads=n_heads,
        order_NRP=order,
        rank_NRL=rank,
        start_NRL=start,
        end_NRL=end,
        length=length,
    )


def _ring_tables(order_NRL: Tensor, segments_BL: Tensor | None, reach: Reach, rows: slice, n_heads: int) -> Tables:
    """The tables of a reach that wraps around; ``order_NRL`` is the slab's, ``segments_BL`` the whole batch's."""
    _, R, L = order_NRL.shape
    chunks = reach.chunks_within(L)
    assert chunks is not None
    chunk, before, after = chunks
    last = (R * (-(-L // chunk)) + before + after + 2) * chunk
    if last >= 2**31:
        raise ValueError(f"pattern='trax' looks over {last} places, the kernels count to 2**31 - 1: shorten the reach")
    real_BL = None if segments_BL is None else segments_BL >= 0
    order = _coded(order_NRL.long(), None if real_BL is None else _rows_of_batch(real_BL, rows, n_heads))
    order = F.pad(order, (0, -L % chunk), value=-1)
    return Tables(
        first_row=rows.start,
        n_heads=n_heads,
        order_NRP=order,
        rank_NRL=order,
        start_NRL=order,
        end_NRL=order,
        length=L,
        segments_BL=None if segments_BL is None else segments_BL.long().contiguous(),
        chunk=chunk,
        before=before,
        after=after,
        wrap=True,
    )


def seer_tables(tables: Tables) -> tuple[Tensor, Tensor]:
    """For every STEP-th place (first query place that may see it or a later one, first that sees only later ones).

    int32 [N, R, ceil(L / STEP) + 1]. Within a round neither bound of the intervals ever falls from one place to the next,
    padding aside, which stands last.
    """
    if tables.wrap:
        return tables.order_NRP, tables.order_NRP
    N, R, L = tables.order_NRP.shape
    n_edges = -(-L // STEP) + 1
    first, last = (torch.empty(N, R, n_edges, dtype=torch.int32, device=tables.order_NRP.device) for _ in range(2))
    seer_kernel[(N * R * -(-n_edges // PLACES.m),)](
        tables.order_NRP,
        tables.start_NRL,
        tables.end_NRL,
        first,
        last,
        n_edges,
        L,
        L.bit_length(),
        STEP=STEP,
        BLOCK=PLACES.m,
        **PLACES.options(),
    )
    return first, last


def _rows_of_batch(x_BL: Tensor, rows: slice, n_heads: int) -> Tensor:
    """x of each row n = b · n_heads + h of a slab [N, ..]."""
    return x_BL[torch.arange(rows.start, rows.stop, dtype=torch.int64, device=x_BL.device) // n_heads]


def _coded(order_NRL: Tensor, real_NL: Tensor | None) -> Tensor:
    order = order_NRL.int()
    if real_NL is None:
        return order.contiguous()
    is_real = real_NL[:, None].expand(order.shape).gather(-1, order_NRL)
    return torch.where(is_real, order, -1 - order)
