"""The fused hash: product with the rotations and argmax in one kernel, so that the rotated vectors never exist in memory."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# The arguments of a kernel have no types that Python knows.

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from reformer.ops.attention.triton.blocks import blocks_for, on_device, padded_width, precision
from reformer.ops.attention.triton.tiles import dot, load_rows, row_start, table_start

_NOWHERE = tl.constexpr(2**31 - 1)


@triton.jit
def hash_kernel(
    x,
    rotations,
    buckets,
    L,
    n_heads,
    n_rounds,
    n_columns,
    first_column,
    half,
    stride,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """buckets [N, R, L] (int64) of one factor of 2 · half buckets, times stride, added to those of the factors before it.

    x [N, L, D], rotations [H, D, R, C] float32; a program hashes BLOCK_M vectors of one row in every round.
    """
    tiles = tl.cdiv(L, BLOCK_M)
    n = tl.program_id(0) // tiles
    position = tl.program_id(0) % tiles * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = position < L
    vectors = load_rows(x + row_start(n, L) * D, position, inside, D, BLOCK_D).to(tl.float32)
    d = tl.arange(0, BLOCK_D)
    columns_of = n_rounds * n_columns
    rotations += (n % n_heads).to(tl.int64) * D * columns_of + first_column + d.to(tl.int64)[:, None] * columns_of
    buckets += table_start(n, 0, n_rounds, L)
    for _ in range(0, n_rounds):
        highest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
        lowest = tl.full((BLOCK_M,), float("inf"), tl.float32)
        at_highest = tl.zeros((BLOCK_M,), tl.int32)
        at_lowest = tl.zeros((BLOCK_M,), tl.int32)
        for first in range(0, half, BLOCK_C):
            column = first + tl.arange(0, BLOCK_C)
            exists = (column < half)[None, :] & (d < D)[:, None]
            # A column that is not there gives 0, which never wins: some column that is has a value or its negative >= 0.
            rotated = dot(vectors, tl.load(rotations + column[None, :], mask=exists, other=0.0), None, PRECISION)
            # Columns only grow, so a later block must be strictly better: ties go to the lower index.
            value = tl.max(rotated, 1)
            at = tl.min(tl.where(rotated == value[:, None], column[None, :], _NOWHERE), 1)
            at_highest = tl.where(value > highest, at, at_highest)
            highest = tl.maximum(highest, value)
            value = tl.min(rotated, 1)
            at = tl.min(tl.where(rotated == value[:, None], column[None, :], _NOWHERE), 1)
            at_lowest = tl.where(value < lowest, at, at_lowest)
            lowest = tl.minimum(lowest, value)
        # Between the halves of [xR ; -xR] the first one wins a tie.
        index = tl.where(highest >= -lowest, at_highest, at_lowest + half).to(tl.int64) * stride
        if first_column > 0:
            index += tl.load(buckets + position, mask=inside, other=0)
        tl.store(buckets + position, index, mask=inside)
        rotations += n_columns
        buckets += L


def hash_vectors_triton(x: Tensor, rotations: Tensor, factors: Sequence[int]) -> Tensor:
    """Buckets [B, H, R, L] (int64) of x [B, H, L, D] under rotations [H, D, R, Σ b_f / 2], as ``hash_vectors``.

    Products are float32 for every type of x.
    """
    B, H, L, D = x.shape
    R, n_columns = rotations.shape[2:]
    x, rotations = x.contiguous(), rotations.float().contiguous()
    buckets = torch.empty(B, H, R, L, dtype=torch.int64, device=x.device)
    blocks = blocks_for(hash_kernel.__name__, D, torch.float32)
    grid = (B * H * -(-L // blocks.m),)
    first_column, stride = 0, 1
    with on_device(x):
        for factor in factors:
            hash_kernel[grid](
                x, rotations, buckets, L, H, R, n_columns, first_column, factor // 2, stride,
                D=D, BLOCK_D=padded_width(D), BLOCK_M=blocks.m, BLOCK_C=blocks.n, PRECISION=precision(torch.float32),
                **blocks.options(),
            )  # fmt: skip
            first_column, stride = first_column + factor // 2, stride * factor
    return buckets
