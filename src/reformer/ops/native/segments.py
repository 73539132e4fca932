"""Segment ids as the kernels take them."""

import torch
from torch import Tensor


def compact_segments(segment_ids: Tensor) -> Tensor:
    """int32 ids [B, L] in the same order, -1 for padding; ids beyond int32 are numbered anew."""
    if segment_ids.dtype == torch.int64 and segment_ids.numel() and int(segment_ids.max()) >= 2**31 - 1:
        segment_ids = torch.unique(segment_ids.clamp_min(-1), return_inverse=True)[1] - (segment_ids < 0).any().long()
    wide = segment_ids if segment_ids.dtype == torch.int64 else segment_ids.int()
    return wide.clamp_min(-1).int().contiguous()
