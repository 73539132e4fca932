"""Hashing and sorting by the C++ kernels."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from reformer.ops.attention.native import library

# The kernel computes a few columns beyond the last, whose memory must be there.
_SLACK_COLUMNS = 16


def hash_vectors(x: Tensor, rotations: Tensor, factors: Sequence[int]) -> Tensor:
    """Buckets [B, H, R, L] (int64) of x [B, H, L, D], float32 or bfloat16; product and argmax in one pass."""
    B, H, L, D = x.shape
    R, columns = rotations.shape[2:]
    x = x if x.stride(-1) == 1 else x.contiguous()
    by_column = torch.zeros(H * R * columns + _SLACK_COLUMNS, D, dtype=torch.float32, device=x.device)
    by_column[: H * R * columns].view(H, R, columns, D).copy_(rotations.permute(0, 2, 3, 1))
    buckets = torch.empty(B, H, R, L, dtype=torch.int64, device=x.device)
    struct = library.Hash(
        batch=B,
        heads=H,
        length=L,
        width=D,
        dtype=0 if x.dtype == torch.float32 else 1,
        rounds=R,
        factors=len(factors),
        columns=columns,
        factor=(ctypes.c_int32 * len(factors))(*factors),
        x=library.rows(x),
        rotations=by_column.data_ptr(),
        buckets=buckets.data_ptr(),
    )
    library.call("hash", struct)
    return buckets


def sort_by_bucket(buckets: Tensor, segment_ids: Tensor | None) -> Tensor:
    """The token at each place [B, H, R, L] (int64): a stable counting sort by (segment, bucket), padding last."""
    B, H, R, L = buckets.shape
    buckets = (buckets if buckets.dtype in (torch.int32, torch.int64) else buckets.int()).contiguous()
    segments = None if segment_ids is None else library.compact_segments(segment_ids)
    order = torch.empty(B, H, R, L, dtype=torch.int64, device=buckets.device)
    struct = library.Sort(
        rows=B * H,
        rounds=R,
        length=L,
        buckets=buckets.data_ptr(),
        bucket_bytes=buckets.element_size(),
        segments=None if segments is None else segments.data_ptr(),
        sharing=H,
        order=order.data_ptr(),
    )
    library.call("sort", struct)
    return order
