"""Angular locality-sensitive hashing by random rotations, and the sort that follows it.

Paper, section 2 "Locality-sensitive hashing": h(x) = argmax([xR ; -xR]) with R of shape [D, b/2]. For many buckets b is
factorised, b = b1·b2·..: one small hash per factor, combined as h1 + b1·h2 + .., so that hashing stays linear in L.

B batch, H heads, R hash rounds, L length, D head size.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from reformer.ops.attention import native
from reformer.ops.attention.dispatch import obstacle
from reformer.ops.attention.native import hashing as native_hashing
from reformer.ops.checks import require_at_least, require_float, require_integer, require_shape

Buckets = int | Sequence[int]

# The product [B, H, R, slice, Σ b_f / 2] is made slice by slice, so that it never exists for the whole length.
SLICE_ELEMENTS = 2**22


def bucket_factors(n_buckets: Buckets) -> tuple[int, ...]:
    """``n_buckets`` as its factors. Raises ValueError unless every factor is a positive even number."""
    factors = tuple(n_buckets) if isinstance(n_buckets, Sequence) else (n_buckets,)
    for factor in factors:
        require_at_least("n_buckets", factor, 1)
        if factor % 2:
            raise ValueError(
                f"n_buckets must be even (a rotation and its negative make two buckets), got {n_buckets}; "
                f"the nearest even numbers are {max(factor - 1, 2)} and {factor + 1}"
            )
    if not factors:
        raise ValueError("n_buckets must name at least one factor, got an empty sequence")
    return factors


def automatic_n_buckets(length: int, chunk_len: int) -> int | tuple[int, int]:
    """The paper's b = 2·L/chunk_len, rounded to a power of two, at least 2; factorised in two from 256 buckets on."""
    bits = max(1, round(math.log2(max(2.0 * length / chunk_len, 2.0))))
    if bits < 8:
        return 1 << bits
    return 1 << bits // 2, 1 << bits - bits // 2


def random_rotations(
    head_dim: int,
    *,
    n_hashes: int,
    n_buckets: Buckets,
    n_heads: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Rotations [H, D, R, Σ b_f / 2], i.i.d. N(0, 1), one set per head and round (paper, section 2).

    Raises ValueError for an odd or non-positive ``n_buckets`` factor or a size below 1.
    """
    columns = sum(bucket_factors(n_buckets)) // 2
    for name, value in (("head_dim", head_dim), ("n_hashes", n_hashes), ("n_heads", n_heads)):
        require_at_least(name, value, 1)
    # Drawn where the generator lives, so that one seed gives the same rotations on every device.
    source = generator.device if generator is not None else torch.device("cpu")
    rotations = torch.randn(n_heads, head_dim, n_hashes, columns, generator=generator, device=source, dtype=dtype)
    return rotations.to(device) if device is not None else rotations


def seeded_rotations(
    head_dim: int,
    seed: Tensor,
    *,
    n_hashes: int,
    n_buckets: Buckets,
    n_heads: int,
    device: torch.device | str | None = None,
) -> Tensor:
    """``random_rotations`` as a pure function of a 0-dim int64 ``seed``: those of ``seeded_buckets``."""
    generator = torch.Generator().manual_seed(int(seed))
    return random_rotations(
        head_dim, n_hashes=n_hashes, n_buckets=n_buckets, n_heads=n_heads, generator=generator, device=device
    )


def hash_vectors(x: Tensor, rotations: Tensor, n_buckets: Buckets) -> Tensor:
    """Buckets [B, H, R, L] (int64) of the vectors x [B, H, L, D] under ``rotations`` [H, D, R, Σ b_f / 2].

    Ties go to the lower index. The result is a constant for the gradient. Half-precision inputs are hashed in float32.
    Raises ValueError or TypeError for shapes that do not fit.
    """
    factors = bucket_factors(n_buckets)
    require_float("x", x)
    require_float("rotations", rotations)
    require_shape("x", x, (None, None, None, None), "[batch, heads, length, head_dim]")
    require_shape(
        "rotations",
        rotations,
        (x.shape[1], x.shape[3], None, sum(factors) // 2),
        f"[heads, head_dim, n_hashes, columns for n_buckets={n_buckets}]",
    )
    buckets: Tensor = _hash_vectors(x.detach(), rotations.detach(), list(factors))
    return buckets


@torch.library.custom_op("reformer::hash_vectors", mutates_args=())
def _hash_vectors(x: Tensor, rotations: Tensor, factors: Sequence[int]) -> Tensor:
    if obstacle("triton", x.device, x.dtype, x.shape[-1]) is None:
        from reformer.ops.attention.triton.hashing import hash_vectors_triton

        return hash_vectors_triton(x, rotations, factors)
    if native.obstacle(x.device, x.dtype, x.shape[-1]) is None:
        return native_hashing.hash_vectors(x, rotations, factors)
    return hash_by_slices(x, rotations, factors)


def hash_by_slices(x: Tensor, rotations: Tensor, factors: Sequence[int]) -> Tensor:
    """``hash_vectors`` in plain PyTorch, on any device."""
    B, H, L, D = x.shape
    R, columns = rotations.shape[2:]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    flat_rotations = rotations.to(dtype).reshape(H, D, R * columns)
    buckets = torch.empty(B, H, R, L, dtype=torch.int64, device=x.device)
    step = max(1, SLICE_ELEMENTS // (B * H * R * columns))
    with torch.autocast(x.device.type, enabled=False):
        for first in range(0, L, step):
            part = x[:, :, first : first + step].to(dtype)
            rotated = (part @ flat_rotations).view(B, H, -1, R, columns)
            buckets[..., first : first + step] = _combined_argmax(rotated, factors).transpose(2, 3)
    return buckets


@_hash_vectors.register_fake
def _(x: Tensor, rotations: Tensor, factors: Sequence[int]) -> Tensor:
    return torch.empty(x.shape[0], x.shape[1], rotations.shape[2], x.shape[2], dtype=torch.int64, device=x.device)


def seeded_buckets(
    x: Tensor,
    seed: Tensor,
    *,
    n_hashes: int,
    n_buckets: Buckets | None,
    chunk_len: int,
    segment_ids: Tensor | None = None,
) -> Tensor:
    """Buckets [B, H, R, L] of x [B, H, L, D] under rotations that are a pure function of a 0-dim int64 ``seed``.

    ``n_buckets=None``: ``automatic_n_buckets`` of each row's own number of real tokens (``segment_ids`` [B, L], negative
    for padding), so that neither padding nor the other rows of a batch change how a row is hashed.
    """
    factors = [] if n_buckets is None else list(bucket_factors(n_buckets))
    buckets: Tensor = _seeded_buckets(x.detach(), seed, segment_ids, n_hashes, factors, chunk_len)
    return buckets


@torch.library.custom_op("reformer::seeded_buckets", mutates_args=())
def _seeded_buckets(
    x: Tensor, seed: Tensor, segment_ids: Tensor | None, n_hashes: int, factors: Sequence[int], chunk_len: int
) -> Tensor:
    B, H, L, D = x.shape

    def hash_rows(rows: Tensor, n_buckets: Buckets) -> Tensor:
        rotations = seeded_rotations(D, seed, n_hashes=n_hashes, n_buckets=n_buckets, n_heads=H, device=x.device)
        return hash_vectors(rows, rotations, n_buckets)

    if factors:
        return hash_rows(x, factors)
    if segment_ids is None:
        return hash_rows(x, automatic_n_buckets(L, chunk_len))
    row_lengths = (segment_ids >= 0).sum(1).tolist()
    row_buckets = [automatic_n_buckets(max(length, 1), chunk_len) for length in row_lengths]
    buckets = torch.empty(B, H, n_hashes, L, dtype=torch.int64, device=x.device)
    for n_buckets in sorted(set(row_buckets), key=str):
        rows = torch.tensor([b for b in range(B) if row_buckets[b] == n_buckets], dtype=torch.int64, device=x.device)
        buckets[rows] = hash_rows(x[rows], n_buckets)
    return buckets


@_seeded_buckets.register_fake
def _(
    x: Tensor, seed: Tensor, segment_ids: Tensor | None, n_hashes: int, factors: Sequence[int], chunk_len: int
) -> Tensor:
    return torch.empty(x.shape[0], x.shape[1], n_hashes, x.shape[2], dtype=torch.int64, device=x.device)


def _combined_argmax(rotated: Tensor, factors: Sequence[int]) -> Tensor:
    total, stride = None, 1
    for part, factor in zip(torch.split(rotated, [f // 2 for f in factors], dim=-1), factors):
        highest, at_highest = part.max(dim=-1)
        lowest, at_lowest = part.min(dim=-1)
        # max and min give the first index of a tie; between the halves the first one, [xR], wins.
        index = torch.where(highest >= -lowest, at_highest, at_lowest + factor // 2)
        total = index if total is None else total + stride * index
        stride *= factor
    assert total is not None
    return total


def sort_by_bucket(buckets: Tensor, segment_ids: Tensor | None = None) -> Tensor:
    """The token at each sorted place [B, H, R, L] (int64): stable by (segment, bucket, position), padding last.

    ``buckets`` [B, H, R, L] integers; ``segment_ids`` [B, L] integers, negative for padding. Stable
    sorts by one key after the other rather than by a composite key L·bucket + position: nothing can overflow.
    """
    require_integer("buckets", buckets)
    require_shape("buckets", buckets, (None, None, None, None), "[batch, heads, n_hashes, length]")
    if min(buckets.shape) < 1:
        raise ValueError(f"buckets must have at least one element along every axis, got {list(buckets.shape)}")
    if segment_ids is not None:
        require_integer("segment_ids", segment_ids)
        require_shape("segment_ids", segment_ids, (buckets.shape[0], buckets.shape[-1]), "[batch, length], as buckets,")
    order: Tensor = _sort_by_bucket(buckets, segment_ids)
    return order


@torch.library.custom_op("reformer::sort_by_bucket", mutates_args=())
def _sort_by_bucket(buckets: Tensor, segment_ids: Tensor | None) -> Tensor:
    if buckets.device.type == "cpu" and native.missing() is None:
        return native_hashing.sort_by_bucket(buckets, segment_ids)
    return sort_by_torch(buckets, segment_ids)


@_sort_by_bucket.register_fake
def _(buckets: Tensor, segment_ids: Tensor | None) -> Tensor:
    return torch.empty(buckets.shape, dtype=torch.int64, device=buckets.device)


def sort_by_torch(buckets: Tensor, segment_ids: Tensor | None) -> Tensor:
    """``sort_by_bucket`` in plain PyTorch, on any device."""
    order = torch.sort(buckets, dim=-1, stable=True).indices
    if segment_ids is None:
        return order
    segments = segment_ids.long().clamp_min(-1)
    sorted_segments = segments[:, None, None].expand_as(order).gather(-1, order)
    order = order.gather(-1, torch.sort(sorted_segments, dim=-1, stable=True).indices)
    # Padding came first; turn each row so that it comes last. (A largest id as its key would be some segment's own.)
    n_padding = (segments < 0).sum(-1)[:, None, None, None]
    place = torch.arange(order.shape[-1], dtype=torch.int64, device=order.device)
    return order.gather(-1, ((place + n_padding) % order.shape[-1]).expand_as(order))


def places_in_segments(segment_ids: Tensor) -> Tensor:
    """The place of each token among the tokens of its own segment [B, L] (int64); 0 for padding.

    ``segment_ids`` [B, L] integers, negative for padding; segments need not be contiguous.
    """
    require_integer("segment_ids", segment_ids)
    order = torch.sort(segment_ids, dim=-1, stable=True).indices
    place = torch.arange(order.shape[-1], dtype=torch.int64, device=order.device).expand_as(order)
    sorted_ids = segment_ids.gather(-1, order)
    is_first = torch.ones_like(sorted_ids, dtype=torch.bool)
    is_first[..., 1:] = sorted_ids[..., 1:] != sorted_ids[..., :-1]
    within = place - torch.where(is_first, place, 0).cummax(-1).values
    return torch.empty_like(order).scatter_(-1, order, within).masked_fill(segment_ids < 0, 0)
