"""The Triton kernels for NVIDIA GPUs. Importing this package does not import Triton; ``obstacle`` says if it can serve.

tiles.py      what the attention kernels share: tokens of a tile, who sees whom, dropout
forward.py    one launch per round, running softmax state between rounds
backward.py   one launch per round and side: a query tile owns dq, a key tile owns dk and dv
intervals.py  who sees whom as intervals of places, in one pass over the sorted places
plan.py       the order and the intervals as the tables that the kernels read
attention.py  the engine: block sizes, slabs of rows, the calls
hashing.py    the fused product and argmax of ``hash_vectors``
"""

import functools
import importlib.metadata
import importlib.util
import os

import torch

# float32 products take no tensor cores; at 256 wide no tile of them fits the registers.
LARGEST_WIDTH = {torch.float32: 128, torch.bfloat16: 256, torch.float16: 256}
_OLDEST = (3, 6)
# Tensor cores with bfloat16.
_OLDEST_CAPABILITY = (8, 0)


def obstacle(device: torch.device, dtype: torch.dtype, width: int) -> str | None:
    """Why the Triton kernels cannot serve such tensors; None if they can.

    CPU tensors are served only by Triton's interpreter (TRITON_INTERPRET=1), which is Triton's own switch for tests.
    """
    missing = _not_usable()
    if missing is not None:
        return missing
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < _OLDEST_CAPABILITY:
            return f"the kernels need compute capability 8.0, {device} has {capability[0]}.{capability[1]}"
    elif not (device.type == "cpu" and interpreted()):
        return f"the Triton kernels run on CUDA devices, the tensors are on {device.type}"
    if dtype not in LARGEST_WIDTH:
        return f"the Triton kernels have no {dtype}; convert to float32, bfloat16 or float16"
    if width > LARGEST_WIDTH[dtype]:
        return f"the Triton kernels serve {dtype} heads of size 1 to {LARGEST_WIDTH[dtype]}, got {width}"
    return None


def interpreted() -> bool:
    """Whether Triton's interpreter is switched on (read where Triton reads it, without importing it)."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")


@functools.cache
def _not_usable() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install triton, on Linux)"
    version = importlib.metadata.version("triton")
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        return f"the kernels need Triton {_OLDEST[0]}.{_OLDEST[1]} or newer, got {version}"
    return None
