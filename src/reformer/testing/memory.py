"""Memory as a deterministic number: the largest tensor a computation makes, and what autograd keeps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _LargestTensor(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                # The storage, not the shape: an expanded view takes no memory.
                self.bytes = max(self.bytes, leaf.untyped_storage().nbytes())
        return result


def largest_tensor(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Bytes of the largest tensor that ``function(*args, **kwargs)`` makes or looks at; custom ops hide their inside."""
    with _LargestTensor() as mode:
        function(*args, **kwargs)
    return mode.bytes


@contextmanager
def saved_tensors() -> Iterator[list[Tensor]]:
    """The tensors that autograd keeps for the backward pass of what runs inside the block."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
