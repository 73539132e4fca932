"""The Triton kernels for GPUs."""

import torch


def obstacle(device: torch.device, dtype: torch.dtype, width: int) -> str | None:
    """Why the Triton kernels cannot serve such tensors; None if they can."""
    return "not built yet"
