"""The plan of ``tiled_attention`` as the int32 tables that the kernels read.

"paper", "bucket" and local attention: per round an order, the rank of each token in it and the interval of places that each
token sees. "trax" needs the order alone: its intervals are arithmetic on places. Padding is coded in the order, as
-1 - token, so that no kernel ever loads a row of it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.ops.tiled_attention import Plan

# Key tiles are whole multiples of this many places; for every multiple there is a table entry of who may see it.
STEP = 16


@dataclass(frozen=True, kw_only=True)
class Tables:
    """N rows (batch · heads), R rounds, L length. Tables that a pattern does not need are ``order`` again."""

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


def interval_tables(plan: Plan) -> Tables:
    """The tables of an ``interval_plan``."""
    assert plan.start_NRL is not None and plan.end_NRL is not None
    return Tables(
        order_NRP=_coded(plan.order_NRL, plan.real_NL),
        rank_NRL=plan.rank_NRL.int(),
        start_NRL=plan.start_NRL,
        end_NRL=plan.end_NRL,
        length=plan.order_NRL.shape[2],
    )


def wrap_tables(
    order_NRL: Tensor, segments_BL: Tensor | None, rows: slice, n_heads: int, *, chunk: int, before: int, after: int
) -> Tables:
    """The tables of "trax" for a slab of rows; ``order_NRL`` is the slab's, ``segments_BL`` the whole batch's."""
    N, R, L = order_NRL.shape
    reach = (R * (-(-L // chunk)) + before + after + 2) * chunk
    if reach >= 2**31:
        raise ValueError(f"pattern='trax' looks over {reach} places, the kernels count to 2**31 - 1: shorten the reach")
    real_BL = None if segments_BL is None else segments_BL >= 0
    order = _coded(order_NRL, None if real_BL is None else rows_of_batch(real_BL, rows, n_heads))
    order = F.pad(order, (0, -L % chunk), value=-1)
    return Tables(
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
    order, is_padding = tables.order_NRP.long(), tables.order_NRP < 0
    token = torch.where(is_padding, -1 - order, order)
    start, end = (x.gather(-1, token).masked_fill_(is_padding, L) for x in (tables.start_NRL, tables.end_NRL))
    edges = torch.arange(0, L + STEP, STEP, dtype=torch.int32, device=start.device).expand(N, R, -1).contiguous()
    first = torch.searchsorted(end, edges, right=True, out_int32=True)
    last = torch.searchsorted(start, edges, out_int32=True)
    return first, last


def rows_of_batch(x_BL: Tensor, rows: slice, n_heads: int) -> Tensor:
    """x of each row n = b · n_heads + h of a slab [N, L]."""
    return x_BL[torch.arange(rows.start, rows.stop, device=x_BL.device) // n_heads]


def _coded(order_NRL: Tensor, real_NL: Tensor | None) -> Tensor:
    order = order_NRL.int()
    if real_NL is None:
        return order.contiguous()
    is_real = real_NL[:, None].expand(order.shape).gather(-1, order_NRL)
    return torch.where(is_real, order, -1 - order)
