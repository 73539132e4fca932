"""Block sizes by kernel, head size and type: none of them spills (docs/kernels.md), none of them is timed at run time."""

from typing import NamedTuple

import torch

from reformer.ops.triton import interpreted


class Blocks(NamedTuple):
    """A tile of m queries and n keys."""

    m: int
    n: int
    warps: int
    stages: int


# In Triton's interpreter, where small tiles make short inputs span several.
INTERPRETED = Blocks(32, 32, 1, 1)

# kernel -> {padded head size: blocks}, for two-byte types and for float32.
_HALF = {
    "forward_kernel": {
        16: Blocks(64, 64, 4, 2),
        32: Blocks(64, 64, 4, 2),
        64: Blocks(64, 64, 4, 2),
        128: Blocks(64, 64, 4, 2),
        256: Blocks(64, 32, 8, 1),
    },
    "query_gradient_kernel": {
        16: Blocks(64, 64, 4, 2),
        32: Blocks(64, 64, 4, 2),
        64: Blocks(64, 64, 4, 2),
        128: Blocks(64, 64, 8, 2),
        256: Blocks(64, 32, 8, 1),
    },
    "key_gradient_kernel": {
        16: Blocks(64, 64, 4, 2),
        32: Blocks(64, 64, 4, 2),
        64: Blocks(64, 64, 4, 2),
        128: Blocks(32, 64, 8, 1),
        256: Blocks(32, 64, 8, 1),
    },
}
_FLOAT32 = {
    "hash_kernel": {
        16: Blocks(32, 32, 4, 1),
        32: Blocks(32, 32, 4, 1),
        64: Blocks(32, 32, 4, 1),
        128: Blocks(32, 32, 4, 1),
        256: Blocks(32, 32, 8, 1),
    },
    "forward_kernel": {
        16: Blocks(32, 32, 4, 1),
        32: Blocks(32, 32, 4, 1),
        64: Blocks(32, 32, 4, 1),
        128: Blocks(32, 32, 4, 1),
        256: Blocks(32, 32, 8, 1),
    },
    "query_gradient_kernel": {
        16: Blocks(32, 32, 4, 1),
        32: Blocks(32, 32, 4, 1),
        64: Blocks(32, 32, 4, 1),
        128: Blocks(32, 32, 8, 1),
        256: Blocks(32, 16, 8, 1),
    },
    "key_gradient_kernel": {
        16: Blocks(32, 32, 4, 1),
        32: Blocks(32, 32, 4, 1),
        64: Blocks(32, 32, 4, 1),
        128: Blocks(32, 32, 8, 1),
        256: Blocks(16, 32, 8, 1),
    },
}


def blocks_for(kernel: str, width: int, dtype: torch.dtype) -> Blocks:
    """The tile of ``kernel`` for heads of size ``width``."""
    if interpreted():
        return INTERPRETED
    table = _FLOAT32 if dtype == torch.float32 else _HALF
    return table[kernel][padded_width(width)]


def padded_width(width: int) -> int:
    """The next power of two, at least 16: what a tensor core's operand needs."""
    return max(16, 1 << (width - 1).bit_length())


def precision(dtype: torch.dtype) -> str:
    """How products are taken: float32 in full, not in TF32; the two-byte types have one way only."""
    if interpreted():
        return "interpreted"
    return "ieee" if dtype == torch.float32 else "tf32"
