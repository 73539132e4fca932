"""The backward kernels, by recomputation: logits again, probabilities from the saved log-sum-exp.

With P = exp(logits - lse), dP = dO·Vᵀ (times the dropout mask) and delta_i = dO_i·O_i - dlse_i:
dS = scale · P ∘ (dP - delta), dQ = dS·K, dK = dSᵀ·Q, dV = (P ∘ mask)ᵀ·dO.
In ``query_gradient_kernel`` a program owns the queries of a tile, in ``key_gradient_kernel`` the keys; launches follow one
another round by round. So a row has one writer at a time: no atomics, the same bytes every time. With shared QK both add
to one buffer: dK reaches q through k = q/||q||, a projection that can be taken round by round.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# The arguments of a kernel have no types that Python knows.

import triton
import triton.language as tl

from reformer.ops.attention.triton.tiles import (
    LOG2E,
    add_rows,
    after_first,
    bounds,
    column_keys,
    dot,
    hide,
    is_kept,
    load_rows,
    neighbours,
    row_keys,
    row_start,
    seen_places,
    table_start,
    tokens_at,
)


@triton.jit
def _pair_gradients(
    logits,
    dp,
    lse2,
    delta,
    row_key,
    column_key,
    threshold,
    keep_scale,
    DROPOUT: tl.constexpr,
):
    """(P ∘ mask, P ∘ (dP - delta)) of a tile of pairs."""
    p = tl.exp2(logits - lse2[:, None])
    dropped = p
    if DROPOUT:
        kept = is_kept(row_key[:, None], column_key[None, :], threshold)
        mask = tl.where(kept, keep_scale, 0.0)
        dp *= mask
        dropped = p * mask
    return dropped, p * (dp - delta[:, None])


@triton.jit(do_not_specialize=["r", "first_row", "threshold", "before", "after"])
def query_gradient_kernel(
    q,
    k,
    v,
    inverse,
    do,
    lse,
    delta,
    dlse,
    alone,
    dq,
    order,
    rank,
    start,
    end,
    segments,
    seeds,
    r,
    first_row,
    n_rounds,
    L,
    places,
    n_heads,
    chunk,
    before,
    after,
    scale,
    threshold,
    keep_scale,
    D: tl.constexpr,
    E: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SHARED: tl.constexpr,
    CAUSAL: tl.constexpr,
    EXCLUDE_SELF: tl.constexpr,
    WRAP: tl.constexpr,
    SEGMENTS: tl.constexpr,
    DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Adds round r's part of dq [N, L, D] (float32); a program owns BLOCK_M places of the round."""
    tiles = tl.cdiv(L, BLOCK_M)
    n = tl.program_id(0) // tiles
    table = table_start(n, 0, n_rounds, L)
    row = row_start(n, L)
    order += table_start(n, 0, n_rounds, places)
    rank += table
    start += table
    end += table
    q += row * D
    k += row * D
    v += row * E
    inverse += row
    do += row * E
    lse += row
    delta += row
    dlse += row
    alone += row
    dq += row * D
    n = first_row + n
    segments += row_start(n // n_heads, L)
    round_start = r.to(tl.int64) * L

    place = tl.program_id(0) % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = place < L
    query, real = tokens_at(order + r.to(tl.int64) * places, place, L)
    if WRAP:
        place += r * places
    low, high = seen_places(start + round_start, end + round_start, query, real, place, chunk, before, after, WRAP)
    first_place, last_place = bounds(low, high)
    q_rows = load_rows(q, query, real, D, BLOCK_D)
    do_rows = load_rows(do, query, real, E, BLOCK_E)
    lse2 = tl.load(lse + query, mask=real, other=0.0) * LOG2E
    delta_rows = tl.load(delta + query, mask=real, other=0.0)
    row_key = query
    if DROPOUT:
        row_key = row_keys(seeds, n, n_heads, query)
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)

    for key_place in range(first_place, last_place, BLOCK_N):
        at, key, key_real = neighbours(order, key_place, r, n_rounds, places, BLOCK_N, WRAP)
        k_rows = load_rows(k, key, key_real, D, BLOCK_D)
        v_rows = load_rows(v, key, key_real, E, BLOCK_E)
        logits = dot(q_rows, tl.trans(k_rows), None, PRECISION) * (scale * LOG2E)
        if SHARED:
            key_inverse = tl.load(inverse + key, mask=key_real, other=0.0)
            logits *= key_inverse[None, :]
        logits = hide(
            logits, query, low, high, key, key_real, at, rank, start, end, segments, r, L,
            CAUSAL, EXCLUDE_SELF, WRAP, SEGMENTS,
        )  # fmt: skip
        dp = dot(do_rows, tl.trans(v_rows), None, PRECISION)
        column_key = key
        if DROPOUT:
            column_key = column_keys(seeds, key)
        _, ds = _pair_gradients(
            logits, dp, lse2, delta_rows, row_key, column_key, threshold, keep_scale, DROPOUT
        )  # fmt: skip
        ds *= scale
        if SHARED:
            if k_rows.dtype == tl.float16:
                # ds / ||k|| may be beyond float16 where k / ||k|| is not.
                k_rows = (k_rows.to(tl.float32) * key_inverse[:, None]).to(tl.float16)
            else:
                ds *= key_inverse[None, :]
        acc = dot(ds.to(k_rows.dtype), k_rows, acc, PRECISION)

    if EXCLUDE_SELF and r == 0:
        # The softmax over one pair is constant, so only lse = scale · q_i·k_i reaches q.
        by_itself = real & (tl.load(alone + query, mask=real, other=0) != 0)
        ds_self = tl.load(dlse + query, mask=by_itself, other=0.0) * scale
        if SHARED:
            ds_self *= tl.load(inverse + query, mask=by_itself, other=0.0)
        acc += load_rows(k, query, by_itself, D, BLOCK_D).to(tl.float32) * ds_self[:, None]
    add_rows(dq, query, inside, after_first(inside, r), acc, D, BLOCK_D)


@triton.jit(do_not_specialize=["r", "first_row", "threshold", "before", "after"])
def key_gradient_kernel(
    q,
    k,
    v,
    inverse,
    do,
    lse,
    delta,
    dlse,
    alone,
    dk,
    dv,
    order,
    rank,
    start,
    end,
    first_seer,
    last_seer,
    segments,
    seeds,
    r,
    first_row,
    n_rounds,
    L,
    places,
    n_heads,
    chunk,
    before,
    after,
    scale,
    threshold,
    keep_scale,
    D: tl.constexpr,
    E: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STEP: tl.constexpr,
    SHARED: tl.constexpr,
    CAUSAL: tl.constexpr,
    EXCLUDE_SELF: tl.constexpr,
    WRAP: tl.constexpr,
    SEGMENTS: tl.constexpr,
    DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Adds round r's part of dk (to dq, if SHARED) and dv, float32; a program owns BLOCK_N places of the round.

    first_seer, last_seer [N, R, ceil(L / STEP) + 1]: the first query place
    that may see key place g · STEP or a later one, and the first that sees only later ones.
    """
    tiles = tl.cdiv(L, BLOCK_N)
    tile = tl.program_id(0) % tiles
    n = tl.program_id(0) // tiles
    table = table_start(n, 0, n_rounds, L)
    row = row_start(n, L)
    order += table_start(n, 0, n_rounds, places)
    rank += table
    start += table
    end += table
    edges = table_start(n, r, n_rounds, tl.cdiv(L, STEP) + 1)
    q += row * D
    k += row * D
    v += row * E
    inverse += row
    do += row * E
    lse += row
    delta += row
    dlse += row
    alone += row
    dk += row * D
    dv += row * E
    n = first_row + n
    segments += row_start(n // n_heads, L)
    round_start = r.to(tl.int64) * L

    place = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = place < L
    key, real = tokens_at(order + r.to(tl.int64) * places, place, L)
    if WRAP:
        place += r * places
        # Who looks `before` back and `after` ahead is looked at from `after` back and `before` ahead.
        first_of, last_of = seen_places(start, end, key, real, place, chunk, after, before, WRAP)
        first_place, last_place = bounds(first_of, last_of)
    else:
        first_place = tl.load(first_seer + edges + tile * (BLOCK_N // STEP))
        last_edge = tl.minimum((tile + 1) * (BLOCK_N // STEP), tl.cdiv(L, STEP))
        last_place = tl.load(last_seer + edges + last_edge)
    k_rows = load_rows(k, key, real, D, BLOCK_D)
    v_rows = load_rows(v, key, real, E, BLOCK_E)
    if SHARED:
        key_inverse = tl.load(inverse + key, mask=real, other=0.0)
    column_key = key
    if DROPOUT:
        column_key = column_keys(seeds, key)
    acc_k = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    acc_v = tl.zeros((BLOCK_N, BLOCK_E), tl.float32)

    for query_place in range(first_place, last_place, BLOCK_M):
        at, query, query_real = neighbours(order, query_place, r, n_rounds, places, BLOCK_M, WRAP)
        low, high = seen_places(
            start + round_start, end + round_start, query, query_real, at, chunk, before, after, WRAP
        )  # fmt: skip
        q_rows = load_rows(q, query, query_real, D, BLOCK_D)
        do_rows = load_rows(do, query, query_real, E, BLOCK_E)
        lse2 = tl.load(lse + query, mask=query_real, other=0.0) * LOG2E
        delta_rows = tl.load(delta + query, mask=query_real, other=0.0)
        logits = dot(q_rows, tl.trans(k_rows), None, PRECISION) * (scale * LOG2E)
        if SHARED:
            logits *= key_inverse[None, :]
        logits = hide(
            logits, query, low, high, key, real, place, rank, start, end, segments, r, L,
            CAUSAL, EXCLUDE_SELF, WRAP, SEGMENTS,
        )  # fmt: skip
        dp = dot(do_rows, tl.trans(v_rows), None, PRECISION)
        row_key = query
        if DROPOUT:
            row_key = row_keys(seeds, n, n_heads, query)
        dropped, ds = _pair_gradients(
            logits, dp, lse2, delta_rows, row_key, column_key, threshold, keep_scale, DROPOUT
        )  # fmt: skip
        acc_v = dot(tl.trans(dropped.to(do_rows.dtype)), do_rows, acc_v, PRECISION)
        acc_k = dot(tl.trans(ds.to(q_rows.dtype)), q_rows, acc_k, PRECISION)

    acc_k *= scale
    if EXCLUDE_SELF and r == 0:
        by_itself = real & (tl.load(alone + key, mask=real, other=0) != 0)
        weight = tl.where(by_itself, keep_scale, 0.0)
        if DROPOUT:
            weight = tl.where(is_kept(row_keys(seeds, n, n_heads, key), column_key, threshold), weight, 0.0)
        acc_v += load_rows(do, key, by_itself, E, BLOCK_E).to(tl.float32) * weight[:, None]
        if not SHARED:  # with shared QK this term lies along q, and is projected off
            ds_self = tl.load(dlse + key, mask=by_itself, other=0.0) * scale
            acc_k += load_rows(q, key, by_itself, D, BLOCK_D).to(tl.float32) * ds_self[:, None]
    if SHARED:
        unit = k_rows.to(tl.float32) * key_inverse[:, None]
        acc_k = (acc_k - unit * tl.sum(unit * acc_k, 1)[:, None]) * key_inverse[:, None]
        add_rows(dk, key, inside, inside, acc_k, D, BLOCK_D)  # to dq
    else:
        add_rows(dk, key, inside, after_first(inside, r), acc_k, D, BLOCK_D)
    add_rows(dv, key, inside, after_first(inside, r), acc_v, E, BLOCK_E)
