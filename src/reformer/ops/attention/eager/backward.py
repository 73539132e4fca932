"""Backward pass over tiles by recomputation: logits again, probabilities from the saved log-sum-exp.

With P = exp(logits - lse), dP = dO·Vᵀ (times the dropout mask) and delta_i = dO_i·O_i - dlse_i:
dS = P ∘ (dP - delta), dQ = scale · dS·K, dK = scale · dSᵀ·Q, dV = (P ∘ mask)ᵀ·dO.
Every gradient row is written by one owner at a time and sums are taken in a fixed order: no atomics, the same bytes
every time.
"""

import torch
from torch import Tensor

from reformer.ops.attention.eager.forward import accumulation_dtype, gather_rows, self_keep, take_rows, tile_logits
from reformer.ops.attention.eager.plan import Plan
from reformer.ops.attention.eager.tile import Slab, kept, slabs


def tiled_backward(
    grad_out_NLE: Tensor,
    grad_lse_NL: Tensor,
    q_NLD: Tensor,
    k_NLD: Tensor,
    v_NLE: Tensor,
    out_NLE: Tensor,
    lse_NL: Tensor,
    alone_NL: Tensor,
    plan: Plan,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv) in the accumulation dtype; ``out``, ``lse`` and ``alone`` are what ``tiled_forward`` returned."""
    dtype = accumulation_dtype(q_NLD)
    # Rows are gathered from flattened tensors, slab by slab: a strided gradient would be copied whole for each slab.
    do, dlse = grad_out_NLE.to(dtype).contiguous(), grad_lse_NL.to(dtype)
    delta = (do * out_NLE.to(dtype)).sum(-1) - dlse
    dq, dk, dv = (torch.zeros_like(x, dtype=dtype) for x in (q_NLD, k_NLD, v_NLE))
    # exp(-inf - (-inf)) is not a number; padding has no visible pair to use its lse for.
    lse = lse_NL.masked_fill(lse_NL == float("-inf"), 0.0)
    passes = plan.passes()
    # One set of buffers for all passes: fresh pages cost as much as the sums.
    n_slots = passes[0].shape[1:].numel()
    by_slot = tuple(torch.empty(x.shape[0], n_slots, x.shape[2], dtype=dtype, device=x.device) for x in (dq, dk, dv))
    for index, slots in enumerate(passes):
        _one_pass(by_slot, (q_NLD, k_NLD, v_NLE, do, lse, delta), plan, index, slots)
        for r in plan.rounds_of_pass(index):
            for total, part in zip((dq, dk, dv), by_slot):
                total += take_rows(part, plan.rank_NRL[:, r])
    if plan.reach.exclude_self:
        _add_self(alone_NL, (dq, dk, dv), do, dlse, q_NLD, k_NLD, plan)
    return dq, dk, dv


def _one_pass(by_slot: tuple[Tensor, ...], rows: tuple[Tensor, ...], plan: Plan, index: int, slots: Tensor) -> None:
    N, G, m = slots.shape
    dq, dk, dv = (x.zero_().view(N * G, m, -1) for x in by_slot)
    for slab in slabs(plan, index, slots):
        tile_dq, tile_dk, tile_dv = _tile(rows, slab, plan)
        # The query tiles of a slab are distinct, and so are its key tiles at any one offset.
        dq.index_add_(0, slab.tiles_T, tile_dq)
        for offset in range(slab.key_tiles_Tw.shape[1]):
            part = slice(offset * m, (offset + 1) * m)
            dk.index_add_(0, slab.key_tiles_Tw[:, offset], tile_dk[:, part])
            dv.index_add_(0, slab.key_tiles_Tw[:, offset], tile_dv[:, part])


def _tile(rows: tuple[Tensor, ...], slab: Slab, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v, do, lse_NL, delta_NL = rows
    q_tile, k_tile = gather_rows(q, slab.query_rows_Tm), gather_rows(k, slab.key_rows_TW)
    v_tile, do_tile = gather_rows(v, slab.key_rows_TW), gather_rows(do, slab.query_rows_Tm)
    lse, delta = (x.reshape(-1)[slab.query_rows_Tm][..., None] for x in (lse_NL, delta_NL))
    p = tile_logits(q_tile, k_tile, slab, plan.scale).sub_(lse).exp_()
    dp = torch.bmm(do_tile, v_tile.transpose(1, 2))
    dropped_p = p
    if plan.dropout is not None:
        mask = kept(slab, plan).to(p.dtype).div_(1.0 - plan.dropout.p)
        dp.mul_(mask)
        dropped_p = p * mask
    tile_dv = torch.bmm(dropped_p.transpose(1, 2), do_tile)
    ds = dp.sub_(delta).mul_(p).mul_(plan.scale)
    return torch.bmm(ds, k_tile), torch.bmm(ds.transpose(1, 2), q_tile), tile_dv


def _add_self(
    alone_NL: Tensor,
    grads: tuple[Tensor, Tensor, Tensor],
    do: Tensor,
    dlse_NL: Tensor,
    q: Tensor,
    k: Tensor,
    plan: Plan,
) -> None:
    # The softmax over one pair is constant, so only lse = scale · q_i·k_i reaches q and k.
    dq, dk, dv = grads
    is_alone = alone_NL[..., None]
    ds = (dlse_NL * plan.scale)[..., None]
    dq += torch.where(is_alone, ds * k.to(dq.dtype), 0.0)
    dk += torch.where(is_alone, ds * q.to(dk.dtype), 0.0)
    dv += torch.where(is_alone, do * self_keep(plan, dlse_NL)[..., None], 0.0)
