"""Forward pass over tiles: softmax inside a tile, tiles and rounds merged by their log-sum-exps.

q, k [N, L, D], v [N, L, Dv], N = batch · heads; all arithmetic in float32 (float64 for float64 inputs).
"""

import torch
from torch import Tensor

from reformer.ops.attention.eager.plan import Plan
from reformer.ops.attention.eager.tile import Slab, kept, slabs
from reformer.ops.counter_rng import column_keys, keep, row_keys

_NEG_INF = float("-inf")


def tiled_forward(q_NLD: Tensor, k_NLD: Tensor, v_NLE: Tensor, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """(out [N, L, Dv], lse [N, L], alone [N, L] bool) of attention under ``plan``, in the accumulation dtype.

    ``alone`` marks the tokens that see nobody else; only plans that exclude self have any.
    """
    out = lse = None
    for index, slots in enumerate(plan.passes()):
        slot_out, slot_lse = _one_pass(q_NLD, k_NLD, v_NLE, plan, index, slots)
        for r in plan.rounds_of_pass(index):
            rank = plan.rank_NRL[:, r]
            round_out, round_lse = take_rows(slot_out, rank), slot_lse.gather(1, rank)
            if out is None or lse is None:
                out, lse = round_out, round_lse
            else:
                out, lse = _merge(out, lse, round_out, round_lse)
    assert out is not None and lse is not None
    alone = lse == _NEG_INF
    if plan.segments_NL is not None:
        alone &= plan.segments_NL >= 0
    if plan.reach.exclude_self:
        out, lse = _attend_to_self(alone, out, lse, q_NLD, k_NLD, v_NLE, plan)
    return out, lse, alone


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """float64 for float64 inputs, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def gather_rows(x_NLD: Tensor, rows: Tensor) -> Tensor:
    """Rows of the flattened (contiguous) [N·L, D] tensor, shaped [*rows.shape, D], in the accumulation dtype."""
    D = x_NLD.shape[-1]
    return x_NLD.view(-1, D).index_select(0, rows.reshape(-1)).to(accumulation_dtype(x_NLD)).view(*rows.shape, D)


def tile_logits(q_TmD: Tensor, k_TWD: Tensor, slab: Slab, scale: float) -> Tensor:
    """Logits [T, m, W], -inf where the pair is not visible."""
    return torch.bmm(q_TmD * scale, k_TWD.transpose(1, 2)).masked_fill_(slab.hidden_TmW, _NEG_INF)


def _one_pass(q: Tensor, k: Tensor, v: Tensor, plan: Plan, index: int, slots: Tensor) -> tuple[Tensor, Tensor]:
    N, G, m = slots.shape
    dtype = accumulation_dtype(q)
    out = torch.zeros(N * G, m, v.shape[-1], dtype=dtype, device=q.device)
    lse = torch.full((N * G, m), _NEG_INF, dtype=dtype, device=q.device)
    single_strip = plan.before is not None
    for slab in slabs(plan, index, slots):
        tile_out, tile_lse = _tile(q, k, v, slab, plan)
        if not single_strip:
            tile_out, tile_lse = _merge(out[slab.tiles_T], lse[slab.tiles_T], tile_out, tile_lse)
        out[slab.tiles_T], lse[slab.tiles_T] = tile_out, tile_lse
    return out.view(N, G * m, -1), lse.view(N, G * m)


def _tile(q: Tensor, k: Tensor, v: Tensor, slab: Slab, plan: Plan) -> tuple[Tensor, Tensor]:
    logits = tile_logits(gather_rows(q, slab.query_rows_Tm), gather_rows(k, slab.key_rows_TW), slab, plan.scale)
    highest = logits.amax(-1, keepdim=True)
    # A row with nothing visible has highest = -inf; shifting it by 0 keeps its weights at exp(-inf) = 0.
    weights = logits.sub_(highest.masked_fill(highest == _NEG_INF, 0.0)).exp_()
    total = weights.sum(-1, keepdim=True)
    lse = (highest + total.log()).squeeze(-1)
    if plan.dropout is not None:
        weights = weights.masked_fill_(~kept(slab, plan), 0.0)
        total = total * (1.0 - plan.dropout.p)
    out = torch.bmm(weights, gather_rows(v, slab.key_rows_TW))
    return out.div_(total.masked_fill(total == 0.0, 1.0)), lse


def _merge(out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor) -> tuple[Tensor, Tensor]:
    highest = torch.maximum(lse_a, lse_b)
    # Weights relative to the larger side, divided by their own sum: relative to the merged lse each would carry the
    # rounding of an lse, once per round.
    shift = highest.masked_fill(highest == _NEG_INF, 0.0)
    weight_a, weight_b = (lse_a - shift).exp_(), (lse_b - shift).exp_()
    total = weight_a + weight_b
    out = (out_a * weight_a[..., None]).addcmul_(out_b, weight_b[..., None])
    return out.div_(total.masked_fill(total == 0.0, 1.0)[..., None]), shift + total.log()


def take_rows(x_NSE: Tensor, rank_NL: Tensor) -> Tensor:
    """The slot row of each token [N, L, E]: back from sorted order to positions."""
    N, S, E = x_NSE.shape
    rows = rank_NL + torch.arange(N, dtype=torch.int64, device=rank_NL.device)[:, None] * S
    return x_NSE.reshape(N * S, E).index_select(0, rows.reshape(-1)).view(N, -1, E)


def self_keep(plan: Plan, like_NL: Tensor) -> Tensor:
    """What attention dropout multiplies the pair (i, i) with, [N, L]."""
    if plan.dropout is None:
        return torch.ones_like(like_NL)
    p, seed = plan.dropout
    N, L = like_NL.shape
    n = torch.arange(N, dtype=torch.int64, device=like_NL.device)[:, None]
    i = torch.arange(L, dtype=torch.int64, device=like_NL.device).expand(N, L)
    rows = row_keys(seed, n // plan.n_heads, n % plan.n_heads, i)
    return keep(rows, column_keys(seed, i), p).to(like_NL.dtype) / (1.0 - p)


def _attend_to_self(
    alone: Tensor, out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, plan: Plan
) -> tuple[Tensor, Tensor]:
    # Where, not an indexed write: no host sync, and it costs one pass over [N, L] only.
    self_lse = plan.scale * (q.to(lse.dtype) * k.to(lse.dtype)).sum(-1)
    if plan.reach.wrap:
        self_lse = self_lse + _times_seen(plan).to(lse.dtype).log()
    self_out = v.to(out.dtype) * self_keep(plan, lse)[..., None]
    return torch.where(alone[..., None], self_out, out), torch.where(alone, self_lse, lse)


def _times_seen(plan: Plan) -> Tensor:
    """How often each token meets itself in "trax" [N, L]: its chunk in one round may neighbour its chunk in another."""
    assert plan.before is not None and plan.after is not None
    N, R, L = plan.rank_NRL.shape
    chunk = plan.rank_NRL // plan.tile
    n_chunks = R * (-(-L // plan.tile))
    count = torch.zeros(N, L, dtype=torch.int64, device=chunk.device)
    for offset in range(-plan.before, plan.after + 1):
        for r in range(R):
            count += (chunk == ((chunk[:, r] + offset) % n_chunks)[:, None]).sum(1)
    return count
