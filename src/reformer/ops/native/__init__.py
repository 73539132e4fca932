"""The C++ kernels for CPUs (csrc/), called through a C interface."""

import torch


def obstacle(device: torch.device, dtype: torch.dtype, width: int) -> str | None:
    """Why the native kernels cannot serve such tensors; None if they can."""
    return "not built yet"
