"""Block sizes by kernel, head size and type: the largest found that do not spill (docs/kernels.md), none timed at run time.

``benchmarks/kernel_resources.py`` compiles all of them for every supported generation of GPUs, without a GPU.
"""

import contextlib
from typing import NamedTuple

import torch
from torch import Tensor

from reformer.ops.attention.triton import interpreted


class Blocks(NamedTuple):
    """A tile of m queries and n keys (vectors and columns, for the hash)."""

    m: int
    n: int
    warps: int
    stages: int

    def options(self) -> dict[str, int | bool]:
        """What a launch hands to the compiler.

        Without maxnreg the assembler spills a few values to fit one more block on a processor. Fusion is said outright:
        Triton is about to change its default.
        """
        return {"num_warps": self.warps, "num_stages": self.stages, "maxnreg": 255, "enable_fp_fusion": True}


# The product of rows, which has no tiles of pairs.
ROWS = Blocks(32, 0, 4, 1)
# Places of an order, each with a handful of numbers.
PLACES = Blocks(256, 0, 4, 1)
# In Triton's interpreter a program costs the same whatever its size; yet short inputs should span several.
INTERPRETED = Blocks(32, 32, 1, 1)

# kernel -> {padded head size: blocks}. bfloat16 and float16, on tensor cores:
_HALF = {
    "forward_kernel": {
        16: Blocks(64, 64, 4, 2),
        32: Blocks(64, 64, 4, 2),
        64: Blocks(64, 64, 4, 2),
        128: Blocks(32, 64, 4, 2),
        256: Blocks(32, 64, 8, 1),
    },
    "query_gradient_kernel": {
        16: Blocks(64, 64, 4, 2),
        32: Blocks(64, 64, 4, 2),
        64: Blocks(32, 64, 4, 2),
        128: Blocks(32, 32, 4, 2),
        256: Blocks(32, 64, 8, 1),
    },
    "key_gradient_kernel": {
        16: Blocks(64, 32, 4, 2),
        32: Blocks(64, 32, 4, 2),
        64: Blocks(32, 32, 4, 2),
        128: Blocks(32, 32, 4, 2),
        256: Blocks(32, 32, 8, 1),
    },
}
# What differs in "trax", whose keys lie in all rounds: finding them takes registers.
_HALF_TRAX = {
    "forward_kernel": {
        16: Blocks(64, 32, 4, 2),
        32: Blocks(64, 32, 4, 2),
        64: Blocks(32, 32, 4, 2),
        128: Blocks(32, 32, 4, 2),
    },
    "query_gradient_kernel": {16: Blocks(64, 32, 4, 2), 32: Blocks(64, 32, 4, 2), 64: Blocks(32, 32, 4, 2)},
    "key_gradient_kernel": {32: Blocks(32, 32, 4, 2)},
}
# float32, in full precision and so without tensor cores:
_FLOAT32 = {
    "forward_kernel": {
        16: Blocks(64, 32, 8, 1),
        32: Blocks(32, 32, 8, 1),
        64: Blocks(32, 32, 8, 1),
        128: Blocks(16, 16, 8, 1),
    },
    "query_gradient_kernel": {
        16: Blocks(64, 32, 8, 1),
        32: Blocks(64, 32, 8, 1),
        64: Blocks(32, 32, 8, 1),
        128: Blocks(32, 16, 8, 1),
    },
    "key_gradient_kernel": {
        16: Blocks(64, 32, 8, 1),
        32: Blocks(64, 32, 8, 1),
        64: Blocks(64, 32, 8, 1),
        128: Blocks(32, 16, 8, 1),
    },
    "hash_kernel": {
        16: Blocks(64, 32, 4, 1),
        32: Blocks(64, 32, 4, 1),
        64: Blocks(32, 32, 4, 1),
        128: Blocks(32, 32, 8, 1),
        256: Blocks(16, 16, 8, 1),
    },
}


def blocks_for(kernel: str, width: int, dtype: torch.dtype, wrap: bool = False) -> Blocks:
    """The tile of ``kernel`` for heads of size ``width``; ``wrap``: for "trax"."""
    if interpreted():
        return INTERPRETED
    width = padded_width(width)
    if dtype == torch.float32:
        return _FLOAT32[kernel][width]
    usual = _HALF[kernel][width]
    return _HALF_TRAX[kernel].get(width, usual) if wrap else usual


def padded_width(width: int) -> int:
    """The next power of two, at least 16: what a tensor core's operand needs."""
    return max(16, 1 << (width - 1).bit_length())


def precision(dtype: torch.dtype) -> str:
    """How products are taken: float32 in full, not in TF32; the two-byte types have one way only."""
    if interpreted():
        return "interpreted"
    return "ieee" if dtype == torch.float32 else "tf32"


def on_device(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Makes the device of x the current one: Triton launches there, wherever the tensors are."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
