"""The forward kernel: one round of attention for one tile of queries, softmax kept running from tile to tile and round to
round.

Between rounds a query's state (largest logit, sum of weights, weighted sum of values) waits in memory under its token; the
last round divides and writes. Logits are in powers of two: the hardware's exponential is exp2.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# The arguments of a kernel have no types that Python knows.

import triton
import triton.language as tl

from reformer.ops.attention.triton.tiles import (
    LN2,
    LOG2E,
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
    store_rows,
    table_start,
    tokens_at,
)


@triton.jit(do_not_specialize=["r", "first_row", "threshold", "before", "after"])
def forward_kernel(
    q,
    k,
    v,
    inverse,
    out,
    lse,
    alone,
    sums,
    highests,
    totals,
    times,
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
    """Round r of rows n = first_row + .. of q, k [N, L, D], v [N, L, E]; a program owns BLOCK_M places of the round."""
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
    out += row * E
    sums += row * E
    lse += row
    alone += row
    highests += row
    totals += row
    times += row
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
    if DROPOUT:
        row_key = row_keys(seeds, n, n_heads, query)

    resume = after_first(real, r)
    highest = tl.load(highests + query, mask=resume, other=float("-inf"))
    total = tl.load(totals + query, mask=resume, other=0.0)
    acc = load_rows(sums, query, resume, E, BLOCK_E).to(tl.float32)
    if WRAP:
        seen_self = tl.load(times + query, mask=resume, other=0.0)

    for key_place in range(first_place, last_place, BLOCK_N):
        at, key, key_real = neighbours(order, key_place, r, n_rounds, places, BLOCK_N, WRAP)
        k_rows = load_rows(k, key, key_real, D, BLOCK_D)
        logits = dot(q_rows, tl.trans(k_rows), None, PRECISION) * (scale * LOG2E)
        if SHARED:
            # Normalised after the product: it leaves the operands as they are, exact in every type.
            logits *= tl.load(inverse + key)[None, :]
        logits = hide(
            logits, query, low, high, key, key_real, at, rank, start, end, segments, r, L,
            CAUSAL, EXCLUDE_SELF, WRAP, SEGMENTS,
        )  # fmt: skip
        new_highest = tl.maximum(highest, tl.max(logits, 1))
        # A row with nothing visible yet has -inf; shifting it by 0 keeps its weights at exp2(-inf) = 0.
        shift = tl.where(new_highest == float("-inf"), 0.0, new_highest)
        weights = tl.exp2(logits - shift[:, None])
        shrink = tl.exp2(highest - shift)
        total = total * shrink + tl.sum(weights, 1)
        if DROPOUT:
            weights = tl.where(
                is_kept(row_key[:, None], column_keys(seeds, key)[None, :], threshold), weights, 0.0
            )  # fmt: skip
        v_rows = load_rows(v, key, key_real, E, BLOCK_E)
        acc = dot(weights.to(v_rows.dtype), v_rows, acc * shrink[:, None], PRECISION)
        highest = new_highest
        if WRAP:
            itself = (key[None, :] == query[:, None]) & (at[None, :] >= low[:, None]) & (at[None, :] < high[:, None])
            seen_self += tl.sum((itself & key_real[None, :]).to(tl.float32), 1)

    if r == n_rounds - 1:
        nobody = total == 0.0
        result = acc * (keep_scale / tl.where(nobody, 1.0, total))[:, None]
        log_sum = tl.where(nobody, float("-inf"), (highest + tl.log2(tl.where(nobody, 1.0, total))) * LN2)
        nobody = nobody & real
        if EXCLUDE_SELF:
            k_rows = load_rows(k, query, nobody, D, BLOCK_D)
            itself = tl.sum(q_rows.to(tl.float32) * k_rows.to(tl.float32), 1) * scale
            if SHARED:
                itself *= tl.load(inverse + query, mask=nobody, other=0.0)
            if WRAP:
                itself += tl.log2(tl.where(nobody, seen_self, 1.0)) * LN2
            log_sum = tl.where(nobody, itself, log_sum)
            weight = tl.where(nobody, keep_scale, 0.0)
            if DROPOUT:
                weight = tl.where(is_kept(row_key, column_keys(seeds, query), threshold), weight, 0.0)
            v_rows = load_rows(v, query, nobody, E, BLOCK_E)
            result = tl.where(nobody[:, None], v_rows.to(tl.float32) * weight[:, None], result)
        store_rows(out, query, inside, result, E, BLOCK_E)
        tl.store(lse + query, log_sum, mask=inside)
        tl.store(alone + query, nobody.to(tl.int8), mask=inside)
    else:
        store_rows(sums, query, real, acc, E, BLOCK_E)
        tl.store(highests + query, highest, mask=real)
        tl.store(totals + query, total, mask=real)
        if WRAP:
            tl.store(times + query, seen_self, mask=real)


@triton.jit
def row_dots_kernel(a, b, result, n_rows, WIDTH: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_M: tl.constexpr):
    """result[i] = a_i · b_i in float32, for a and b [n_rows, WIDTH]."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = row < n_rows
    left = load_rows(a, row, inside, WIDTH, BLOCK_W).to(tl.float32)
    right = load_rows(b, row, inside, WIDTH, BLOCK_W).to(tl.float32)
    tl.store(result + row, tl.sum(left * right, 1), mask=inside)
