"""The C++ kernels for CPUs (csrc/), called through a C interface."""

import torch

from reformer.ops.attention.native.library import missing

__all__ = ["missing", "obstacle"]

_DTYPES = (torch.float32, torch.bfloat16)


def obstacle(device: torch.device, dtype: torch.dtype, width: int) -> str | None:
    """Why the native kernels cannot serve such tensors; None if they can."""
    if device.type != "cpu":
        return f"the C++ kernels are for CPU tensors, not {device.type}"
    if dtype not in _DTYPES:
        return f"the C++ kernels take float32 and bfloat16, not {dtype}"
    return missing()
