"""Where a kernel is launched."""

import contextlib

import torch
from torch import Tensor


def on_device(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Makes the device of x the current one: Triton launches there, wherever the tensors are."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
