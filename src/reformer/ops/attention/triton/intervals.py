"""Who sees whom, made in one pass over the sorted places: the tables of "paper", "bucket" and local attention.

The same intervals as ``eager.plan.interval_plan``, which takes some forty calls of torch for them. Tokens of one bucket
and segment (a run) stand together in the order, so the ends of a run are found by bisection on "is it of my run?", within
the places that the chunks or the window leave.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# The arguments of a kernel have no types that Python knows.

import triton
import triton.language as tl

from reformer.ops.attention.triton.tiles import row_start, table_start, tokens_at

_FAR = tl.constexpr(2**31 - 1)


@triton.jit
def _is_of_run(
    order_r, bucket_r, segments_b, place, bucket, segment, ORDERED: tl.constexpr, BUCKETS: tl.constexpr, SEGMENTS: tl.constexpr
):  # fmt: skip
    """Whether the token at ``place`` has this bucket and segment."""
    token = place
    if ORDERED:
        token = tl.load(order_r + place).to(tl.int32)
    same = place >= 0
    if BUCKETS:
        same = same & (tl.load(bucket_r + token) == bucket)
    if SEGMENTS:
        same = same & (tl.load(segments_b + token) == segment)
    return same


@triton.jit(do_not_specialize=["first_row", "chunk", "before", "after", "window", "steps"])
def interval_kernel(
    order,
    bucket,
    segments,
    coded,
    rank,
    start,
    end,
    first_row,
    n_rounds,
    L,
    n_heads,
    chunk,
    before,
    after,
    window,
    steps,
    ORDERED: tl.constexpr,
    BUCKETS: tl.constexpr,
    SEGMENTS: tl.constexpr,
    CHUNKS: tl.constexpr,
    CHUNKS_PER_RUN: tl.constexpr,
    WINDOW: tl.constexpr,
    CAUSAL: tl.constexpr,
    EXCLUDE_SELF: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """coded, rank, start, end [N, R, L] (int32) of ``plan.Tables``; a program makes BLOCK places of one round.

    order, bucket [N, R, L] (without ORDERED or BUCKETS: places are tokens, all of one bucket), segments [B, L]. 2 ** steps
    places or more are in reach of a token. Without CHUNKS and WINDOW it sees its whole run.
    """
    tiles = tl.cdiv(L, BLOCK)
    table = tl.program_id(0) // tiles
    n = table // n_rounds
    offset = table_start(n, table % n_rounds, n_rounds, L)
    order += offset
    bucket += offset
    coded += offset
    rank += offset
    start += offset
    end += offset
    segments += row_start((first_row + n) // n_heads, L)

    place = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    inside = place < L
    place = tl.minimum(place, L - 1)
    token = place
    if ORDERED:
        token = tl.load(order + place).to(tl.int32)
    my_bucket = token
    if BUCKETS:
        my_bucket = tl.load(bucket + token)
    my_segment = token
    real = inside
    if SEGMENTS:
        my_segment = tl.load(segments + token)
        real = my_segment >= 0

    low = tl.zeros((BLOCK,), tl.int32)
    high = low + L
    if CHUNKS and not CHUNKS_PER_RUN:
        low = tl.maximum(low, (place // chunk - before) * chunk)
        high = tl.minimum(high, (place // chunk + after + 1) * chunk)
    if WINDOW:
        low = tl.maximum(low, place - window)
        high = tl.minimum(high, place + window + 1)
    if CAUSAL:
        high = place + 1
    if BUCKETS or SEGMENTS:
        # Of the places low .. place, those of the run are the last ones.
        to = place
        for _ in range(0, steps):
            middle = (low + to) // 2
            same = _is_of_run(order, bucket, segments, middle, my_bucket, my_segment, ORDERED, BUCKETS, SEGMENTS)
            to = tl.where(same, middle, to)
            low = tl.where(same, low, middle + 1)
        low = to
        if not CAUSAL:
            from_ = place
            to = high - 1
            for _ in range(0, steps):
                middle = (from_ + to + 1) // 2
                same = _is_of_run(order, bucket, segments, middle, my_bucket, my_segment, ORDERED, BUCKETS, SEGMENTS)
                from_ = tl.where(same, middle, from_)
                to = tl.where(same, to, middle - 1)
            high = from_ + 1
    if CHUNKS_PER_RUN:
        base = low
        in_run = (place - base) // chunk
        low = tl.maximum(low, base + (in_run - before) * chunk)
        high = tl.minimum(high, base + (in_run + after + 1) * chunk)
    if CAUSAL and EXCLUDE_SELF:
        high = tl.minimum(high, place)
    tl.store(coded + place, tl.where(real, token, -1 - token), mask=inside)
    tl.store(rank + token, place, mask=inside)
    tl.store(start + token, tl.where(real, low, 0), mask=inside)
    tl.store(end + token, tl.where(real, high, 0), mask=inside)


@triton.jit(do_not_specialize=["steps"])
def seer_kernel(
    coded, start, end, first_seer, last_seer, n_edges, L, steps, STEP: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """first_seer, last_seer [N · R, n_edges] (int32) of ``plan.seer_tables``: the edges are every STEP-th place.

    A bound of an interval never falls from one place to the next, padding aside, which stands last and sees nothing.
    """
    tiles = tl.cdiv(n_edges, BLOCK)
    table = tl.program_id(0) // tiles
    coded += row_start(table, L)
    start += row_start(table, L)
    end += row_start(table, L)
    index = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    edge = index * STEP
    first = tl.zeros((BLOCK,), tl.int32)
    last = first
    first_to = first + L
    last_to = first + L
    for _ in range(0, steps):
        # The first place whose interval ends after the edge, and the first whose interval begins at it or later.
        middle = (first + first_to) // 2
        beyond = _bound_at(coded, end, middle, L) > edge
        first_to = tl.where(beyond, middle, first_to)
        first = tl.where(beyond, first, tl.minimum(middle + 1, first_to))
        middle = (last + last_to) // 2
        beyond = _bound_at(coded, start, middle, L) >= edge
        last_to = tl.where(beyond, middle, last_to)
        last = tl.where(beyond, last, tl.minimum(middle + 1, last_to))
    tl.store(first_seer + row_start(table, n_edges) + index, first, mask=index < n_edges)
    tl.store(last_seer + row_start(table, n_edges) + index, last, mask=index < n_edges)


@triton.jit
def _bound_at(coded, bound, place, L):
    """A bound of the interval of the token at ``place``; beyond every edge for padding, and after the last place."""
    token, real = tokens_at(coded, place, L)
    return tl.where(real, tl.load(bound + token, mask=real, other=0), _FAR)
