"""One slab of tiles: which pairs it holds, which of them are visible, which of them dropout keeps.

T query tiles of m slots, each against w key tiles (W = w·m slots). N = batch · heads.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reformer.ops.attention.eager.plan import Plan
from reformer.ops.counter_rng import column_keys, keep, row_keys

# Elements of a [T, m, W] slab: the working set of a dozen element-wise passes should stay in a CPU's cache, while a GPU
# wants few launches.
SLAB_ELEMENTS = {"cpu": 2**19}
SLAB_ELEMENTS_DEVICE = 2**25


@dataclass(frozen=True, kw_only=True)
class Slab:
    """The pairs of one slab; indices are rows of the flattened [N·L, ...] tensors."""

    tiles_T: Tensor  # flat query tiles, n·G + g
    key_tiles_Tw: Tensor  # flat key tiles, n·G + g'
    batch_T: Tensor  # n
    query_Tm: Tensor  # token of each query slot, 0 for an empty one
    key_TW: Tensor
    query_rows_Tm: Tensor  # n·L + token
    key_rows_TW: Tensor
    hidden_TmW: Tensor  # bool, True where the pair is not visible


def slabs(plan: Plan, index: int, slots_NGm: Tensor) -> Iterator[Slab]:
    """All the slabs of pass ``index``; together they hold every visible pair of the pass once."""
    N, G, m = slots_NGm.shape
    for first_offset, width, active in plan.strips(index):
        per_tile = m * m * width
        step = max(1, SLAB_ELEMENTS.get(slots_NGm.device.type, SLAB_ELEMENTS_DEVICE) // per_tile)
        n_tiles = N * G if active is None else active.numel()
        for first in range(0, n_tiles, step):
            last = min(first + step, n_tiles)
            tiles = (
                torch.arange(first, last, dtype=torch.int64, device=slots_NGm.device)
                if active is None
                else active[first:last]
            )
            yield _slab(plan, index, slots_NGm, tiles, first_offset, width)


def _slab(plan: Plan, index: int, slots_NGm: Tensor, tiles_T: Tensor, first_offset: int, width: int) -> Slab:
    N, G, m = slots_NGm.shape
    L = plan.order_NRL.shape[2]
    batch_T = tiles_T // G
    offsets = torch.arange(first_offset, first_offset + width, dtype=torch.int64, device=tiles_T.device)
    key_tile = (tiles_T % G)[:, None] + offsets
    inside = key_tile % G if plan.reach.wrap else key_tile.clamp(0, G - 1)
    key_tiles_Tw = batch_T[:, None] * G + inside
    flat_slots = slots_NGm.reshape(N * G, m)
    query_Tm, key_TW = flat_slots[tiles_T], flat_slots[key_tiles_Tw].flatten(1)
    if plan.reach.wrap:
        hidden = _hidden_by_position(plan, batch_T, query_Tm, key_TW)
    else:
        # Unclamped: the places of tiles beyond the edge lie in nobody's interval.
        places = (key_tile * m)[..., None] + torch.arange(m, dtype=torch.int64, device=tiles_T.device)
        hidden = _hidden_by_interval(plan, index, batch_T, query_Tm, key_TW, places.flatten(1).int())
    query_Tm, key_TW = query_Tm.clamp_min(0), key_TW.clamp_min(0)
    return Slab(
        tiles_T=tiles_T,
        key_tiles_Tw=key_tiles_Tw,
        batch_T=batch_T,
        query_Tm=query_Tm,
        key_TW=key_TW,
        query_rows_Tm=query_Tm + batch_T[:, None] * L,
        key_rows_TW=key_TW + batch_T[:, None] * L,
        hidden_TmW=hidden,
    )


def _hidden_by_interval(
    plan: Plan, index: int, batch_T: Tensor, query_Tm: Tensor, key_TW: Tensor, place_TW: Tensor
) -> Tensor:
    assert plan.start_NRL is not None and plan.end_NRL is not None
    N, R, L = plan.order_NRL.shape
    query, key = query_Tm.clamp_min(0), key_TW.clamp_min(0)
    visible = _in_interval(plan, _rows(batch_T, index, R, L, query), place_TW)
    if plan.reach.exclude_self and not plan.reach.causal:
        visible &= key[:, None, :] != query[:, :, None]
    for earlier in range(index):
        key_place = plan.rank_NRL.view(-1)[_rows(batch_T, earlier, R, L, key)].int()
        seen = _in_interval(plan, _rows(batch_T, earlier, R, L, query), key_place)
        torch.gt(visible, seen, out=visible)  # visible and not seen
    visible &= (query_Tm >= 0)[:, :, None]
    return visible.logical_not_()


def _rows(batch_T: Tensor, r: int, R: int, L: int, token: Tensor) -> Tensor:
    return token + (batch_T * R + r)[:, None] * L


def _in_interval(plan: Plan, rows_Tm: Tensor, place_TW: Tensor) -> Tensor:
    assert plan.start_NRL is not None and plan.end_NRL is not None
    place = place_TW[:, None, :]
    visible = place >= plan.start_NRL.view(-1)[rows_Tm][:, :, None]
    visible &= place < plan.end_NRL.view(-1)[rows_Tm][:, :, None]
    return visible


def _hidden_by_position(plan: Plan, batch_T: Tensor, query_Tm: Tensor, key_TW: Tensor) -> Tensor:
    query_segment, key_segment = (_segments_at(plan, batch_T, token) for token in (query_Tm, key_TW))
    query, key = query_Tm[:, :, None], key_TW[:, None, :]
    visible = query_segment[:, :, None] == key_segment[:, None, :]
    if plan.reach.causal:
        visible &= key <= query
    if plan.reach.exclude_self:
        visible &= key != query
    visible &= (query_segment >= 0)[:, :, None]
    return visible.logical_not_()


def _segments_at(plan: Plan, batch_T: Tensor, token: Tensor) -> Tensor:
    """The segment of the token in each slot; negative for padding and empty slots."""
    if plan.segments_NL is None:
        return token.clamp_max(0)
    rows = batch_T[:, None] * plan.segments_NL.shape[1]
    return plan.segments_NL.view(-1)[token.clamp_min(0) + rows].masked_fill(token < 0, -1)


def kept(slab: Slab, plan: Plan) -> Tensor:
    """The pairs [T, m, W] that the plan's dropout keeps."""
    assert plan.dropout is not None
    p, seed = plan.dropout
    b, h = slab.batch_T // plan.n_heads, slab.batch_T % plan.n_heads
    rows = row_keys(seed, b[:, None], h[:, None], slab.query_Tm)
    return keep(rows[:, :, None], column_keys(seed, slab.key_TW)[:, None, :], p)
