"""What the attention kernels share: the tokens of a tile, who sees whom, what dropout keeps.

A round is an order of the tokens; a *place* is a position in that order. A tile of pairs is [queries, keys] in every kernel:
there are more vectors along the queries than along the keys, and a thread holds few rows and many columns of a product.
All offsets into memory are int64: a row of a long batch begins beyond 2³¹ elements.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# The arguments of a kernel have no types that Python knows.

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)

# The finaliser of MurmurHash3 and the constants of reformer.ops.counter_rng, as the int32 that torch computes with.
_MIX_1 = tl.constexpr(0x85EBCA6B - 2**32)
_MIX_2 = tl.constexpr(0xC2B2AE35 - 2**32)
_STEP = tl.constexpr(0x9E3779B1 - 2**32)
_OFFSET = tl.constexpr(0x7F4A7C15)

_FAR = tl.constexpr(2**31 - 1)


@triton.jit
def row_start(n, L):
    """Offset of row n of a [N, L] table."""
    return n.to(tl.int64) * L


@triton.jit
def table_start(n, r, n_rounds, L):
    """Offset of round r of row n of a [N, R, L] table."""
    return (n.to(tl.int64) * n_rounds + r) * L


@triton.jit
def tokens_at(order_r, place, length):
    """(token, is it real) at places of a table of that length; beyond its end token 0, not real."""
    coded = tl.load(order_r + place, mask=place < length, other=-1)
    # Padding, and the empty places that fill a last chunk, are coded as -1 - token.
    return tl.where(coded >= 0, coded, -1 - coded), coded >= 0


@triton.jit
def neighbours(order_n, first, r, n_rounds, places, BLOCK: tl.constexpr, WRAP: tl.constexpr):
    """(place, token, is it real) of the BLOCK places from ``first``: of round r or, if WRAP, of all rounds end to end.

    ``places`` is the number of places of a round. With WRAP ``first`` may lie any number of turns before or behind.
    """
    place = first + tl.arange(0, BLOCK)
    if WRAP:
        total = places * n_rounds
        slot = (first % total + total) % total + tl.arange(0, BLOCK)  # % rounds towards zero
        token, real = tokens_at(order_n, slot % total, total)
    else:
        token, real = tokens_at(order_n + r.to(tl.int64) * places, place, places)
    return place, token, real


@triton.jit
def seen_places(start_r, end_r, token, real, place, chunk, before, after, WRAP: tl.constexpr):
    """[start, end): the places that each query sees; empty where it is not real."""
    if WRAP:
        first = place // chunk * chunk
        first = tl.where(first > place, first - chunk, first)  # // rounds towards zero, and place may be negative
        start = tl.where(real, first - before * chunk, 0)
        end = tl.where(real, first + (after + 1) * chunk, 0)
    else:
        start = tl.load(start_r + token, mask=real, other=0)
        end = tl.load(end_r + token, mask=real, other=0)
    return start, end


@triton.jit
def bounds(start, end):
    """The smallest interval that holds all of the non-empty ones."""
    some = start < end
    return tl.min(tl.where(some, start, _FAR)), tl.max(tl.where(some, end, -_FAR))


@triton.jit
def hide(
    logits,
    query,
    query_start,
    query_end,
    key,
    key_real,
    key_place,
    rank_n,
    start_n,
    end_n,
    segments_b,
    r,
    L,
    CAUSAL: tl.constexpr,
    EXCLUDE_SELF: tl.constexpr,
    WRAP: tl.constexpr,
    SEGMENTS: tl.constexpr,
):
    """The logits of the pairs that a query sees in round r and saw in no earlier one, -inf elsewhere.

    ("trax": that it sees, for it counts every time.) The logits themselves go through every step, rather than a mask:
    the compiler then keeps all of it in the layout of the product, where a thread has few rows and columns to hold.
    """
    hidden = float("-inf")
    place = key_place[None, :]
    visible = (place >= query_start[:, None]) & (place < query_end[:, None])
    if WRAP:
        # Otherwise nobody's interval holds padding, or a place beyond the round.
        visible = visible & key_real[None, :]
    logits = tl.where(visible, logits, hidden)
    if WRAP and CAUSAL:
        logits = tl.where(key[None, :] < query[:, None], logits, hidden)
    elif WRAP or (EXCLUDE_SELF and not CAUSAL):
        logits = tl.where(key[None, :] != query[:, None], logits, hidden)
    # No load is masked: what is not real is a token all the same (tokens_at).
    if WRAP and SEGMENTS:
        # Whole int64 ids: two segments must not become one by narrowing.
        key_segment = tl.load(segments_b + key)[None, :]
        logits = tl.where(key_segment == tl.load(segments_b + query)[:, None], logits, hidden)
    if not WRAP:
        # The tables of the earlier rounds, one after another: pointers move, so that no offset is a product.
        for _ in range(0, r):
            rank = tl.load(rank_n + key)[None, :]
            start = tl.load(start_n + query)[:, None]
            end = tl.load(end_n + query)[:, None]
            logits = tl.where((rank < start) | (rank >= end), logits, hidden)
            rank_n += L
            start_n += L
            end_n += L
    return logits


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """a @ b + acc (None: 0), accumulated in float32."""
    if PRECISION == "interpreted":
        # The interpreter would multiply the bits of bfloat16 as integers. Products of two-byte floats fit float32.
        result = tl.dot(a.to(tl.float32), b.to(tl.float32), acc)
    else:
        result = tl.dot(a, b, acc, input_precision=PRECISION)
    return result


@triton.jit
def load_rows(x, row, mask, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rows [BLOCK, BLOCK_D] of x [.., D]; zeros where the mask is False and beyond D."""
    d = tl.arange(0, BLOCK_D)
    offset = row.to(tl.int64)[:, None] * D + d[None, :]
    return tl.load(x + offset, mask=mask[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def store_rows(x, row, mask, value, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """The inverse of load_rows, rounded to the type of x."""
    d = tl.arange(0, BLOCK_D)
    offset = row.to(tl.int64)[:, None] * D + d[None, :]
    tl.store(x + offset, value.to(x.dtype.element_ty), mask=mask[:, None] & (d < D)[None, :])


@triton.jit
def after_first(mask, r):
    """The mask, or nothing in round 0, where no earlier round has left anything to go on from."""
    # Compared as vectors: the interpreter does not widen a scalar condition.
    return mask & (tl.zeros(mask.shape, tl.int32) + r > 0)


@triton.jit
def add_rows(x, row, mask, written, value, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """x[row] += value, where nothing was written before x[row] = value."""
    before = load_rows(x, row, written, D, BLOCK_D)
    store_rows(x, row, mask, before + value, D, BLOCK_D)


@triton.jit
def _mix(x):
    x = (x ^ ((x >> 16) & 0xFFFF)) * _MIX_1
    x = (x ^ ((x >> 13) & 0x7FFFF)) * _MIX_2
    return x ^ ((x >> 16) & 0xFFFF)


@triton.jit
def _combine(key, coordinate):
    return _mix((key ^ (coordinate.to(tl.int32) * _STEP)) + _OFFSET)


@triton.jit
def row_keys(seeds, n, n_heads, token):
    """counter_rng.row_keys of the queries ``token`` of row n = b · heads + h."""
    seed = tl.load(seeds)
    return _combine(_combine(_combine(seed, n // n_heads), n % n_heads), token)


@triton.jit
def column_keys(seeds, token):
    """counter_rng.column_keys of the keys ``token``."""
    return _combine(tl.load(seeds + 1), token)


@triton.jit
def is_kept(row_key, column_key, threshold):
    """counter_rng.keep; ``threshold`` is round(p · 2²⁴)."""
    return ((_mix(row_key + column_key) >> 8) & 0xFFFFFF) >= threshold
